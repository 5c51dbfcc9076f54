"""What a machine will take of a chip, before synthesis, from builds that were measured.

Block by block. A block's LUTs, flip-flops, multipliers and memories each grow with something that the configuration
says, its *unit*: a lane with its multipliers and the bits that they accumulate, a memory with the block RAMs that its
words need. With one measured build of the family the count grows in proportion, with more it is the straight line
through them (least squares); blocks without a unit are as large as they were. The error is measured, not promised: each
build of the family is predicted from the others, and the largest miss is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..config import Config
from .board import Board, Resources
from .measured import Measured, measured

Unit = Callable[[Config], float]


def _block_rams(*memories: tuple[int, int]) -> float:
    """Block RAMs for memories of (words, bits): 1,024 words of 18 bits each, as many as the deepest shape allows."""
    return sum(math.ceil(words * bits / _BITS) if words >= _SHALLOW else 0 for words, bits in memories)


#: Bits of a block RAM, and the words below which a memory is made of LUTs.
_BITS, _SHALLOW = 18_432, 64

_LOGIC: dict[str, Unit] = {
    "engine": lambda c: c.lanes * c.columns,
    "engine.drain": lambda c: c.lanes * c.columns,
    "engine.lane": lambda c: c.lanes * c.columns * c.accumulator,
    "loss": lambda c: c.loss_pipes * c.loss_word,
    "store": lambda c: c.columns * c.word + c.sweep_pipes * (c.master_word + c.momentum_word),
    "sweep": lambda c: c.sweep_pipes * c.master_word,
    "sweep.generator": lambda c: c.columns,
}
"""What the LUTs and flip-flops of a block grow with."""
_MULTIPLIERS: dict[str, Unit] = {
    "engine.lane": lambda c: c.lanes * (c.columns + bool(c.tables)),
    "loss": lambda c: c.loss_pipes,
}
"""What its multipliers grow with."""
_MEMORIES: dict[str, Unit] = {
    "coefficient": lambda c: _block_rams((c.losses, c.momentum_word), (c.history, c.loss_word)),
    "engine.lane": lambda c: (
        c.lanes * _block_rams(*[(c.lane_bank, c.word)] * 2, (2 * c.batch_depth, c.input_word))
        + c.lanes * bool(c.tables) * _block_rams((c.tables << c.table_bits, 2 * c.word))
    ),
    "link": lambda c: _block_rams((2 * c.packet, 8)),
    # A pipe has its targets, and the tables of an exponential and a logarithm.
    "loss": lambda c: (
        c.loss_pipes * (_block_rams((2 * c.target_depth, c.output_word)) + 2) + _block_rams((c.losses, c.loss_word))
    ),
    "sequencer": lambda c: _block_rams((c.program_depth, 32)),
    "store": lambda c: _block_rams(
        (c.sweep_depth, c.sweep_pipes * c.master_word),
        (c.sweep_depth, c.sweep_pipes * c.momentum_word),
        (c.effective_rows, c.columns * c.word),
    ),
}
"""What its memories grow with."""
_UNITS = {"lut": _LOGIC, "ff": _LOGIC, "dsp": _MULTIPLIERS, "bram": _MEMORIES, "spram": _MEMORIES}
"""By the fields of ``Resources``."""


@dataclass(frozen=True)
class Estimate:
    """What a board will take."""

    blocks: dict[str, Resources]
    total: Resources
    builds: tuple[Measured, ...]
    """Those that it comes from."""
    errors: Resources | None
    """Largest miss, in percent of what was measured, when each build is predicted from the others; None with one."""


def estimate(board: Board, builds: Sequence[Measured] | None = None) -> Estimate:
    """What ``board`` with its machine takes, from the measured builds of its chip's family.

    Raises ``ValueError`` when none was measured.
    """
    family = [one for one in (measured() if builds is None else builds) if one.board.chip.family == board.chip.family]
    if not family:
        raise ValueError(f"no build of the family {board.chip.family} was measured: nothing is known of {board.title}")
    blocks = _predicted(board.config, family)
    return Estimate(blocks, Resources.total(blocks.values()), tuple(family), _errors(family))


def _predicted(config: Config, builds: Sequence[Measured]) -> dict[str, Resources]:
    names = sorted({block for build in builds for block in build.blocks})
    return {
        name: Resources(*(_count(name, place, config, builds) for place in range(len(Resources._fields))))
        for name in names
    }


def _count(block: str, place: int, config: Config, builds: Sequence[Measured]) -> int:
    """One count of one block."""
    counts = [build.blocks[block][place] if block in build.blocks else 0 for build in builds]
    unit = _UNITS[Resources._fields[place]].get(block)
    if unit is None:
        return round(float(np.mean(counts)))
    units = [unit(build.config) for build in builds]
    if len(set(units)) == 1:
        return round(float(np.mean(counts)) * (unit(config) / units[0] if units[0] else 1))
    slope, constant = np.polyfit(units, counts, 1)
    return max(0, round(float(slope * unit(config) + constant)))


def _errors(builds: Sequence[Measured]) -> Resources | None:
    """The largest miss of each count, in percent."""
    machines = {build.config for build in builds}
    if len(machines) < 2:
        return None
    worst = [0.0] * len(Resources._fields)
    for build in builds:
        others = [one for one in builds if one.config != build.config]
        predicted = Resources.total(_predicted(build.config, others).values())
        for place, (guessed, true) in enumerate(zip(predicted, build.total, strict=True)):
            worst[place] = max(worst[place], abs(guessed - true) / true * 100 if true else 0.0)
    return Resources(*(round(error) for error in worst))
