"""What a build needs to know of a family of chips: its tools' options, and what its cells count as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..boards.board import Resources

_LUT, _FF = Resources(1, 0, 0, 0), Resources(0, 1, 0, 0)
_DSP, _BRAM, _SPRAM = Resources(0, 0, 1, 0), Resources(0, 0, 0, 1), Resources(0, 0, 0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family's flow."""

    tools: tuple[str, ...]
    """Synthesis, place and route, packing, by the names of ``TOOLS``."""
    overrides: Mapping[str, str]
    """Options of Amaranth's platform."""
    bitstream: str
    """Suffix of the file that is loaded into the chip."""
    cells: Mapping[str, Resources]
    """What the cells of a netlist count as; a name with ``*`` at its end stands for all that begin so."""
    placed: Mapping[str, tuple[str, ...]]
    """The cells of nextpnr's utilisation that each count is taken from; it packs, and adds what carries need."""
    highest_mhz: float = 0
    """A clock that the chip's cells do not follow, whatever the routing; 0 where nextpnr knows it."""
    caution: str = ""
    """What nextpnr's timing of this family leaves out."""


FAMILIES = {
    "ecp5": Family(
        tools=("yosys", "nextpnr-ecp5", "ecppack"),
        # The default router does not come to an end on a full chip. Multiplexers behind LUTs tie these to fixed places
        # and pins: with them router 2 hardly comes to one, and there are no fewer LUTs.
        overrides={"synth_opts": "-nowidelut", "nextpnr_opts": "--router router2"},
        bitstream="bit",
        cells={
            "LUT4": _LUT,
            # Two LUTs with their carries.
            "CCU2C": Resources(2, 0, 0, 0),
            # 16 words of 4 bits: four LUTs, and two that write them.
            "TRELLIS_DPR16X4": Resources(6, 0, 0, 0),
            "TRELLIS_FF": _FF,
            "MULT18X18D": _DSP,
            "DP16KD": _BRAM,
        },
        placed={"lut": ("TRELLIS_COMB",), "ff": ("TRELLIS_FF",), "dsp": ("MULT18X18D",), "bram": ("DP16KD",)},
        # Clock pulse width of a DP16KD.
        highest_mhz=212,
    ),
    "ice40": Family(
        tools=("yosys", "nextpnr-ice40", "icepack"),
        overrides={"synth_opts": "-dsp", "nextpnr_opts": "--opt-timing"},
        bitstream="bin",
        cells={
            "SB_LUT4": _LUT,
            "SB_DFF*": _FF,
            "SB_MAC16": _DSP,
            "SB_RAM40_4K*": _BRAM,
            "SB_SPRAM256KA": _SPRAM,
        },
        # A logic cell is a LUT, a carry and a flip-flop in one.
        placed={
            "lut": ("ICESTORM_LC",),
            "dsp": ("ICESTORM_DSP",),
            "bram": ("ICESTORM_RAM",),
            "spram": ("ICESTORM_SPRAM",),
        },
    ),
    "gowin": Family(
        tools=("yosys", "nextpnr-himbaechel-gowin", "gowin_pack"),
        overrides={},
        bitstream="fs",
        cells={
            **{f"LUT{inputs}": _LUT for inputs in range(1, 5)},
            "ALU": _LUT,
            "RAM16S*": Resources(6, 0, 0, 0),
            "DFF*": _FF,
            "MULT18X18*": _DSP,
            "MULTALU18X18": _DSP,
            # Half a place of 18 x 18 bits where a second one is beside it, which placing decides.
            "MULT9X9*": _DSP,
            "SDP*": _BRAM,
            "SP": _BRAM,
            "SPX9": _BRAM,
            "DP*": _BRAM,
            "pROM*": _BRAM,
        },
        placed={"lut": ("LUT4", "ALU"), "ff": ("DFF",), "dsp": ("MULT18X18",), "bram": ("BSRAM",)},
        caution="nextpnr knows no delays of this family's multipliers: its frequencies leave them out",
    ),
}
"""The families that open tools build, by name."""
