"""What a board and its chip are, in plain values: nothing here needs Amaranth, so that a host can read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..config import Config, preset


class Resources(NamedTuple):
    """Counts of what a chip has, or of what a design takes of it."""

    lut: int
    """Look-up tables of four inputs, those that carry sums or hold small memories among them."""
    ff: int
    """Flip-flops."""
    dsp: int
    """Multipliers of 16 x 16 bits (iCE40) or 18 x 18 bits."""
    bram: int
    """Block RAMs: 4 kbit each on iCE40, 18 kbit on ECP5 and Gowin, 36 kbit on Xilinx."""
    spram: int = 0
    """Single-port RAMs of 256 kbit, which only the iCE40 UltraPlus has."""

    @classmethod
    def total(cls, parts: Iterable[Resources]) -> Resources:
        """The sum of one or more."""
        return cls(*(sum(counts) for counts in zip(*parts, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A chip as its vendor sells it and as the open tools see it."""

    name: str
    """The vendor's name."""
    family: str
    """``ecp5``, ``ice40``, ``gowin`` or ``xilinx``: with a flow in tenzo_hw.build."""
    speed: str
    """Speed grade."""
    resources: Resources
    """What the tools can use of it."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board that tenzo builds for. ``BOARDS`` holds them all.

    Raises ``ValueError`` when its preset is none.
    """

    name: str
    title: str
    chip: Chip
    preset: str
    """The machine that it is built with: a name in ``config.PRESETS``."""
    clock_mhz: float
    """The machine's clock, made by a PLL: what timing is built for, and what a bitstream has to meet."""
    baud: int
    """Bits a second of its serial line."""
    platform: str
    """The platform's class as ``package.module:Class``: imported when it is built, by those who have Amaranth."""
    lights: dict[str, tuple[str, int]]
    """Resource of the platform for each of the shell's lights ``alive``, ``busy``, ``error``."""
    programmer: tuple[str, ...]
    """The command that loads a bitstream, but for the file's name."""
    further_resources: str = ""
    """Attribute of the platform with resources that are not connected by themselves, such as a part of the board that
    can be broken off."""
    overrides: dict[str, str] = field(default_factory=dict)
    """Further options of the platform's tools, such as ``nextpnr_opts``; those of its family come first."""
    constraints: tuple[str, ...] = ()
    """Files in ``constraints/`` whose lines are added to what is generated: pins and timing, or steps of synthesis."""

    def __post_init__(self) -> None:
        preset(self.preset)

    @property
    def config(self) -> Config:
        """The machine that it is built with."""
        return preset(self.preset)

    def changed(self, *, preset: str | None = None, clock_mhz: float | None = None) -> Board:
        """The same board with another machine or clock where given. Raises ``ValueError`` for a preset that is none."""
        return dataclasses.replace(self, preset=preset or self.preset, clock_mhz=clock_mhz or self.clock_mhz)

    @property
    def open_tools(self) -> bool:
        """Whether Yosys and nextpnr build it; else its vendor's project is written out."""
        return self.chip.family != "xilinx"
