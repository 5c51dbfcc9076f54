"""iCEBreaker: an iCE40 UltraPlus 5K with 12 MHz and an FTDI chip for serial line and flash."""

from __future__ import annotations

from .board import Board, Chip, Resources

ICEBREAKER = Board(
    name="icebreaker",
    title="iCEBreaker",
    chip=Chip(
        name="iCE40UP5K",
        family="ice40",
        speed="UP",
        resources=Resources(lut=5_280, ff=5_280, dsp=8, bram=30, spram=4),
    ),
    preset="icebreaker",
    clock_mhz=24,
    # 8 cycles a bit at this clock: the receiver needs no more.
    baud=3_000_000,
    platform="amaranth_boards.icebreaker:ICEBreakerPlatform",
    # Green and red beside the USB socket, and the middle of the section that can be broken off.
    lights={"alive": ("led_g", 0), "busy": ("led", 2), "error": ("led_r", 0)},
    further_resources="break_off_pmod",
    programmer=("iceprog",),
)
