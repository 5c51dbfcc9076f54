"""The model's loss accumulator: the words of ``tenzo_hw.loss.losses`` and ``slot`` from compiled loops."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from tenzo_hw.config import LOSS_FRACTION, Config
from tenzo_hw.isa import Base, Loss, LossKind
from tenzo_hw.loss_tables import EXP2, LOG2, LOG2_E, SHIFT_LIMIT, TABLE_BITS

from .memories import Memories

_CORRECT_LIMIT = (1 << 16) - 1
_PART_MASK = (1 << LOSS_FRACTION) - 1
_REST_MASK = (1 << TABLE_BITS) - 1
_HALF_STEP = 1 << (TABLE_BITS - 1)


class _Room(NamedTuple):
    """Room for one group: its outputs int64[outputs, L], and int64[L] of each sample."""

    outputs: np.ndarray
    largest: np.ndarray
    place: np.ndarray
    total: np.ndarray


@njit(cache=True, nogil=True)
def _below(difference: int, fraction: int) -> int:
    """An output's exponent of 2 below the largest output's, with LOSS_FRACTION fraction bits."""
    return (((difference * LOG2_E) << 1) + ((1 << fraction) >> 1)) >> fraction


@njit(cache=True, nogil=True)
def _cross_entropy(z: np.ndarray, targets: np.ndarray, first: int, fraction: int, room: _Room) -> tuple[int, int]:
    """Summed loss of a group and how many are classified right, from int64[outputs, L] and the target memory."""
    outputs, lanes = z.shape
    largest, place, total = room.largest, room.place, room.total
    largest[:] = z[0]
    place[:] = 0
    for output in range(1, outputs):
        for lane in range(lanes):
            better = z[output, lane] > largest[lane]
            place[lane] = output if better else place[lane]
            largest[lane] = z[output, lane] if better else largest[lane]
    total[:] = 0
    for output in range(outputs):
        for lane in range(lanes):
            below = _below(largest[lane] - z[output, lane], fraction)
            interval = (below & _PART_MASK) >> TABLE_BITS
            step = EXP2[interval] - EXP2[interval + 1]
            power = EXP2[interval] - ((step * (below & _REST_MASK) + _HALF_STEP) >> TABLE_BITS)
            # One halving more than the limit leaves nothing of any power.
            shift = min(below >> LOSS_FRACTION, SHIFT_LIMIT + 1)
            total[lane] += (power + ((1 << shift) >> 1)) >> shift
    loss = correct = 0
    for lane in range(lanes):
        # The largest output's power alone is 1.
        leading = LOSS_FRACTION
        while total[lane] >> (leading + 1):
            leading += 1
        mantissa = (total[lane] >> (leading - LOSS_FRACTION)) & _PART_MASK
        interval = mantissa >> TABLE_BITS
        step = LOG2[interval + 1] - LOG2[interval]
        loss += ((leading - LOSS_FRACTION) << LOSS_FRACTION) + LOG2[interval]
        loss += (step * (mantissa & _REST_MASK) + _HALF_STEP) >> TABLE_BITS
        label = targets[(first + lane) % len(targets)]
        if 0 <= label < outputs:
            loss += _below(largest[lane] - z[label, lane], fraction)
            correct += place[lane] == label
    return loss, correct


@njit(cache=True, nogil=True)
def _squared_error(z: np.ndarray, targets: np.ndarray, first: int) -> int:
    """Summed squared error of a group's int64[outputs, L]."""
    outputs, lanes = z.shape
    loss = 0
    for lane in range(lanes):
        for output in range(outputs):
            loss += (z[output, lane] - targets[(first + lane * outputs + output) % len(targets)]) ** 2
    return loss


@njit(cache=True, nogil=True)
def _group(
    squared: bool, z: np.ndarray, targets: np.ndarray, first: int, fraction: int, room: _Room
) -> tuple[int, int]:
    if squared:
        return _squared_error(z, targets, first), 0
    return _cross_entropy(z, targets, first, fraction, room)


@njit(cache=True, nogil=True)
def _add(
    squared: bool,
    differences: np.ndarray,
    base: np.ndarray,
    targets: np.ndarray,
    first: int,
    fraction: int,
    output_word: int,
    addresses: np.ndarray,
    slots: np.ndarray,
    fresh: bool,
    limit: int,
    room: _Room,
) -> None:
    """Sums groups of differences int64[groups * outputs, L] from ``base`` into the slots at their first addresses."""
    outputs, lanes = base.shape
    high = (1 << (output_word - 1)) - 1
    z = room.outputs[:outputs]
    for group in range(len(differences) // outputs):
        start = group * outputs
        for output in range(outputs):
            for lane in range(lanes):
                z[output, lane] = min(max(base[output, lane] + differences[start + output, lane], -high - 1), high)
        loss, _ = _group(squared, z, targets, first, fraction, room)
        slot = addresses[start]
        slots[slot] = min((0 if fresh else slots[slot]) + loss, limit)


class Losses:
    """The losses of groups as they come, their sums in the slots, and the number of samples classified right."""

    def __init__(self, config: Config, memories: Memories) -> None:
        self._config = config
        self._limit = (1 << config.loss_word) - 1
        self._memories = memories
        self._base = np.zeros((config.outputs, config.lanes), np.int64)
        room = np.zeros((3, config.lanes), np.int64)
        self._room = _Room(np.zeros_like(self._base), *room)
        self._setup: Loss | None = None
        self.restart()

    def restart(self) -> None:
        """A run begins: all groups are forgotten."""
        self.correct = 0
        self._group = self._slot = self._sum = 0

    def setup(self, instruction: Loss) -> None:
        """LOSS, its register added: the next loss goes to slot 0."""
        self._setup = instruction
        self._group = self._slot = self._sum = 0

    def capture(self, base: Base, outcomes: np.ndarray, addresses: np.ndarray, half: int) -> None:
        """Outcomes int64[results, L] of a contraction, in the order in which they drain, with the batch's ``half``."""
        setup = self._setup
        if setup is None:
            return
        slots, targets = self._memories.slots, self._memories.targets[half]
        squared = setup.kind == LossKind.SQUARED_ERROR
        fresh = not setup.accumulate or setup.target == 0
        if base == Base.ADD:
            _add(
                squared,
                outcomes,
                self._base[: setup.outputs],
                targets,
                setup.target,
                setup.fraction,
                self._config.output_word,
                addresses,
                slots,
                fresh,
                self._limit,
                self._room,
            )
            return
        if base == Base.KEEP:
            self._base[: setup.outputs] = outcomes
        samples = self._group * self._config.lanes
        first = setup.target + samples * (setup.outputs if squared else 1)
        loss, correct = _group(squared, outcomes, targets, first, setup.fraction, self._room)
        self.correct = min(self.correct + correct, _CORRECT_LIMIT)
        self._sum += loss
        self._group += 1
        if self._group == setup.groups:
            slots[self._slot] = min((0 if fresh else int(slots[self._slot])) + self._sum, self._limit)
            self._slot = (self._slot + 1) % self._config.losses
            self._group = self._sum = 0
