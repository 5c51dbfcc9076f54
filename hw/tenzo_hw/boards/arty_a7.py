"""Arty A7-35T: an Artix-7 with 100 MHz and an FTDI chip for serial line and JTAG. Built by Vivado, untested here."""

from __future__ import annotations

from ..protocol import BAUD
from .board import Board, Chip, Resources

ARTY_A7_35 = Board(
    name="arty_a7_35",
    title="Arty A7-35T",
    chip=Chip(
        name="XC7A35T",
        family="xilinx",
        speed="1L",
        resources=Resources(lut=20_800, ff=41_600, dsp=90, bram=50),
    ),
    preset="small",
    clock_mhz=100,
    baud=BAUD,
    platform="amaranth_boards.arty_a7:ArtyA7_35Platform",
    lights={"alive": ("led", 0), "busy": ("led", 1), "error": ("led", 3)},
    programmer=("openFPGALoader", "--board", "arty_a7_35t"),
)
