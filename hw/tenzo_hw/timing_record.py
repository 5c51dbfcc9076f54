"""What the time of an instruction depends on, and when its work is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .isa import Opcode


@dataclass(frozen=True, slots=True)
class Timing:
    """What the time of one instruction depends on, worked out once."""

    opcode: Opcode
    spacing: int
    """Cycles from the previous issue, at least; on a serial machine those until the next one."""
    waits: int
    """Units that must be done: the instruction's own wait bits and those of its opcode."""
    rows: int = 0
    """CONTRACT: K, rows of a tile."""
    cols: int = 0
    """CONTRACT: results of the last tile."""
    hold: int = 0
    """CONTRACT: fewest cycles from the last row to that of the next contraction's first tile."""
    tail: int = 0
    """CONTRACT: cycles from the first tile's last row to the last tile's."""
    macs: int = 0
    """CONTRACT: useful multiply-accumulates a lane."""
    to_loss: bool = False
    """CONTRACT: takes a loss buffer, unless it adds."""
    adds: bool = False
    """CONTRACT: gives groups of differences to the loss."""
    duration: int = 0
    """SWEEP, COEFFICIENT, GATHER: cycles from start to done. LOSS: cycles of reading a group.

    On a serial machine: cycles of the work; CONTRACT: the engine's, LOSS: those of each sample's loss to come."""


class Work(NamedTuple):
    """When an instruction is carried out; cycles count from RUN."""

    cycle: int
    """Issue."""
    waited: int
    """Cycles from when its words were read: what it waited for units."""
    start: int
    """First cycle of its unit's work."""
    end: int
    """First cycle after it."""
