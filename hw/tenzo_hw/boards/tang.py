"""Tang Nano 9K and Tang Primer 20K: Gowin chips with 27 MHz and a serial line in the programmer's chip."""

from __future__ import annotations

from .board import Board, Chip, Resources

_BAUD = 2_000_000
_LIGHTS = {"alive": ("led", 0), "busy": ("led", 1), "error": ("led", 5)}

TANG_NANO_9K = Board(
    name="tang_nano_9k",
    title="Tang Nano 9K",
    chip=Chip(
        name="GW1NR-9C",
        family="gowin",
        speed="C6/I5",
        resources=Resources(lut=8_640, ff=6_480, dsp=20, bram=26),
    ),
    preset="least",
    clock_mhz=27,
    baud=_BAUD,
    platform="tenzo_hw.boards.gowin:TangNano9k",
    lights=_LIGHTS,
    programmer=("openFPGALoader", "--board", "tangnano9k"),
)
TANG_PRIMER_20K = Board(
    name="tang_primer_20k",
    title="Tang Primer 20K, dock",
    chip=Chip(
        name="GW2A-18C",
        family="gowin",
        speed="C8/I7",
        resources=Resources(lut=20_736, ff=15_552, dsp=48, bram=46),
    ),
    preset="tang_primer_20k",
    # A third of what nextpnr finds: it leaves the delays of multipliers out.
    clock_mhz=54,
    baud=_BAUD,
    platform="tenzo_hw.boards.gowin:TangPrimer20kDock",
    lights=_LIGHTS,
    programmer=("openFPGALoader", "--board", "tangprimer20k"),
)
