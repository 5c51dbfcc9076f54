"""ULX3S: an ECP5 with 25 MHz on a clock pin and an FTDI chip for serial line and JTAG.

The 12F is the 25F's die sold with fewer LUTs; the open tools use all of it, as they do on a 25F.
"""

from __future__ import annotations

from ..protocol import BAUD
from .board import Board, Chip, Resources

_LIGHTS = {"alive": ("led", 0), "busy": ("led", 1), "error": ("led", 7)}
_SMALL = Resources(lut=24_288, ff=24_288, dsp=28, bram=56)


def _ulx3s(size: str, resources: Resources, preset: str, clock_mhz: float) -> Board:
    return Board(
        name=f"ulx3s_{size.lower()}",
        title=f"ULX3S {size}",
        chip=Chip(name=f"LFE5U-{size}", family="ecp5", speed="6", resources=resources),
        preset=preset,
        clock_mhz=clock_mhz,
        baud=BAUD,
        platform=f"amaranth_boards.ulx3s:ULX3S_{size}_Platform",
        lights=_LIGHTS,
        programmer=("openFPGALoader", "--board", "ulx3s"),
        constraints=("ulx3s.lpf",),
        # Three quarters of the wires that nextpnr's other placer leaves for routing, which run out with it. The router
        # begins anew with wires that are too slow.
        overrides={"nextpnr_opts": "--placer static --tmg-ripup"},
    )


ULX3S_12F = _ulx3s("12F", _SMALL, "ulx3s_12f", 100)
ULX3S_25F = _ulx3s("25F", _SMALL, "ulx3s_12f", 100)
ULX3S_85F = _ulx3s("85F", Resources(lut=83_640, ff=83_640, dsp=156, bram=208), "ulx3s_85f", 100)
