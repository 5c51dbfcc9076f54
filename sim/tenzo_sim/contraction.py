"""Contractions as compiled loops: the words of the engine's own model (``tenzo_hw.engine.model``), much faster.

The loops go tile by tile in the order of the machine, so that nothing about a contraction's addresses needs to be
known beforehand. Sums are int64: they may wrap, as the accumulators, which have fewer bits, do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from tenzo_hw.config import OUTER_LEVELS, REDUCTION_LEVELS, Config
from tenzo_hw.isa import Activation, Base, Contract, Operand

from .memories import Memories

#: Rows of a tile that are multiplied together, so that operands and weights stay in the processor's nearest cache.
_ROWS = 64
#: Rows that are multiplied in one go, so that a sum is loaded and stored once for them; a divisor of ``_ROWS``.
_UNROLLED = 4
#: Addresses are 16-bit numbers.
_ADDRESS_MASK = 0xFFFF
#: Members of enumerations as the numbers that the compiler knows.
_WORD, _DIFFERENCE, _STEP, _IDENTITY, _RELU = (int(operand) for operand in Operand)
_NO_FUNCTION, _RECTIFIED, _TABLE0 = (int(Activation.NONE), int(Activation.RELU), int(Activation.TABLE0))


class _Machine(NamedTuple):
    """What the loops need of a machine: memories, widths, and room for what they work at."""

    lanes: np.ndarray
    effective: np.ndarray
    tables: np.ndarray
    word: int
    output_word: int
    accumulator: int
    table_bits: int
    rows: np.ndarray
    """int64[_ROWS, 3]: activation, weight and environment address."""
    operands: np.ndarray
    """int32[_ROWS, L]."""
    sums: np.ndarray
    """Of a tile, int64[C, L], and so are its results and outcomes."""
    results: np.ndarray
    wide: np.ndarray


class _Job(NamedTuple):
    """A contraction without its bases."""

    levels: np.ndarray
    """int64[6, 5]: count and strides a, w, o, b, innermost first."""
    cols: int
    last_cols: int
    tile_level: int
    col_stride: int
    shift: int
    activation: int
    operand: int
    bias: bool
    one: int
    store: bool
    to_loss: bool
    output_words: int
    """Output addresses that there are."""


@njit(cache=True, nogil=True)
def _fetch(
    kind: int, one: int, high: int, source: np.ndarray, upper: np.ndarray, rows: np.ndarray, operands: np.ndarray
) -> None:
    """Operands of all lanes for rows int64[n, 3] of activation, weight and environment addresses."""
    lanes = operands.shape[1]
    if kind == _WORD:
        for row in range(len(rows)):
            for lane in range(lanes):
                operands[row, lane] = source[rows[row, 0], lane]
    elif kind == _RELU:
        for row in range(len(rows)):
            for lane in range(lanes):
                operands[row, lane] = max(source[rows[row, 0], lane], 0)
    elif kind == _IDENTITY:
        for row in range(len(rows)):
            for lane in range(lanes):
                operands[row, lane] = one if lane == rows[row, 0] else 0
    elif kind == _STEP:
        for row in range(len(rows)):
            for lane in range(lanes):
                z = source[rows[row, 0], lane]
                operands[row, lane] = min(max(z + one, 0), high) - max(z, 0)
    else:
        for row in range(len(rows)):
            a, b = rows[row, 0], rows[row, 2]
            for lane in range(lanes):
                z = source[a, lane]
                operands[row, lane] = min(max(z + upper[b, lane], 0), high) - max(z, 0)


@njit(cache=True, nogil=True)
def _multiply(rows: np.ndarray, operands: np.ndarray, weights: np.ndarray, sums: np.ndarray, cols: int) -> None:
    """Adds the products of operands and weights of ``rows`` to the sums of a tile."""
    count = len(rows) // _UNROLLED * _UNROLLED
    for row in range(0, count, _UNROLLED):
        r0, r1, r2, r3 = rows[row, 1], rows[row + 1, 1], rows[row + 2, 1], rows[row + 3, 1]
        for column in range(cols):
            w0, w1 = np.int32(weights[r0, column]), np.int32(weights[r1, column])
            w2, w3 = np.int32(weights[r2, column]), np.int32(weights[r3, column])
            for lane in range(sums.shape[1]):
                sums[column, lane] += (operands[row, lane] * w0 + operands[row + 1, lane] * w1) + (
                    operands[row + 2, lane] * w2 + operands[row + 3, lane] * w3
                )
    for row in range(count, len(rows)):
        for column in range(cols):
            weight = np.int32(weights[rows[row, 1], column])
            for lane in range(sums.shape[1]):
                sums[column, lane] += operands[row, lane] * weight


@njit(cache=True, nogil=True)
def _saturate(value: int, bits: int) -> int:
    high = (1 << (bits - 1)) - 1
    return min(max(value, -high - 1), high)


@njit(cache=True, nogil=True)
def _interpolate(tables: np.ndarray, table: int, y: int, word: int, table_bits: int) -> int:
    """The table function of a saturated sum."""
    fraction_bits = word - table_bits
    entry = (y >> fraction_bits) + (1 << (table_bits - 1))
    step = tables[table, entry, 1] * (y & ((1 << fraction_bits) - 1))
    rounded = (step + ((1 << fraction_bits) >> 1)) >> fraction_bits
    return _saturate(tables[table, entry, 0] + rounded, word)


@njit(cache=True, nogil=True)
def _finish(machine: _Machine, job: _Job, cols: int) -> None:
    """The epilogue: results and outcomes of a tile's sums."""
    sums, results, wide = machine.sums, machine.results, machine.wide
    half = 1 << (machine.accumulator - 1)
    rounding = (1 << (job.shift - 1)) if job.shift else 0
    for column in range(cols):
        for lane in range(sums.shape[1]):
            total = ((sums[column, lane] + half) & (2 * half - 1)) - half
            shifted = (total + rounding) >> job.shift
            results[column, lane] = _saturate(shifted, machine.word)
            wide[column, lane] = _saturate(shifted, machine.output_word)
    if job.activation == _RECTIFIED:
        for column in range(cols):
            for lane in range(sums.shape[1]):
                results[column, lane] = wide[column, lane] = max(results[column, lane], 0)
    elif job.activation >= _TABLE0:
        tables, table, word, table_bits = machine.tables, job.activation - _TABLE0, machine.word, machine.table_bits
        for column in range(cols):
            for lane in range(sums.shape[1]):
                value = _interpolate(tables, table, results[column, lane], word, table_bits)
                results[column, lane] = wide[column, lane] = value


@njit(cache=True, nogil=True)
def _contract(
    machine: _Machine,
    job: _Job,
    source: np.ndarray,
    bases: tuple[int, int, int, int],
    outcomes: np.ndarray,
    slots: np.ndarray,
) -> bool:
    """Does a contraction; False when an address is outside of its memory: what came before is written."""
    levels, lanes, weights = job.levels, machine.lanes, machine.effective
    rows, operands, sums, results, wide = machine.rows, machine.operands, machine.sums, machine.results, machine.wide
    upper = lanes[len(lanes) // 2 :]
    high = (1 << (machine.word - 1)) - 1
    a_words = len(upper) if job.operand in (_DIFFERENCE, _STEP) else len(source)
    b_words = len(upper) if job.operand == _DIFFERENCE else _ADDRESS_MASK + 1
    tiles = 1
    for level in range(REDUCTION_LEVELS, REDUCTION_LEVELS + OUTER_LEVELS):
        tiles *= levels[level, 0]
    drained = 0
    for tile in range(tiles):
        a, w, o, b = bases
        cols = job.cols
        turns = tile
        for level in range(REDUCTION_LEVELS, REDUCTION_LEVELS + OUTER_LEVELS):
            turns, turn = divmod(turns, levels[level, 0])
            a += turn * levels[level, 1]
            w += turn * levels[level, 2]
            o += turn * levels[level, 3]
            b += turn * levels[level, 4]
            if level == REDUCTION_LEVELS + job.tile_level and turn == levels[level, 0] - 1:
                cols = job.last_cols

        for column in range(cols):
            for lane in range(sums.shape[1]):
                sums[column, lane] = 0
        if job.bias:
            row = b & _ADDRESS_MASK
            if row >= len(weights):
                return False
            for column in range(cols):
                for lane in range(sums.shape[1]):
                    sums[column, lane] = job.one * weights[row, column]
        count = 0
        for outer in range(levels[1, 0]):
            for inner in range(levels[0, 0]):
                row_a = (a + outer * levels[1, 1] + inner * levels[0, 1]) & _ADDRESS_MASK
                row_w = (w + outer * levels[1, 2] + inner * levels[0, 2]) & _ADDRESS_MASK
                row_b = (b + outer * levels[1, 4] + inner * levels[0, 4]) & _ADDRESS_MASK
                if row_a >= a_words or row_w >= len(weights) or row_b >= b_words:
                    return False
                rows[count, 0], rows[count, 1], rows[count, 2] = row_a, row_w, row_b
                count += 1
                if count == _ROWS:
                    _fetch(job.operand, job.one, high, source, upper, rows, operands)
                    _multiply(rows, operands, weights, sums, cols)
                    count = 0
        _fetch(job.operand, job.one, high, source, upper, rows[:count], operands)
        _multiply(rows[:count], operands, weights, sums, cols)

        _finish(machine, job, cols)
        for column in range(cols):
            address = (o + column * job.col_stride) & _ADDRESS_MASK
            if address >= job.output_words:
                return False
            if job.store:
                for lane in range(lanes.shape[1]):
                    lanes[address, lane] = results[column, lane]
            if job.to_loss:
                slots[drained] = address
                for lane in range(lanes.shape[1]):
                    outcomes[drained, lane] = wide[column, lane]
                drained += 1
    return True


class Contraction:
    """One contraction of an ``Engine``, done again and again.

    ``outcomes`` int64[results, L] and ``slots`` int64[results] are what the loss accumulator gets from its last run, in
    the order in which they drain, and their output addresses; without ``to_loss`` they say nothing.
    """

    def __init__(self, machine: _Machine, batch: np.ndarray, config: Config, contract: Contract) -> None:
        output_words = _ADDRESS_MASK + 1
        if contract.store:
            output_words = config.lane_depth
        elif contract.to_loss and contract.base == Base.ADD:
            output_words = config.losses
        levels = [[level.count, level.a, level.w, level.o, level.b] for level in contract.levels]
        self._job = _Job(
            np.array(levels, np.int64),
            contract.cols,
            contract.last_cols,
            contract.tile_level,
            contract.col_stride,
            contract.shift,
            int(contract.activation),
            int(contract.operand),
            contract.bias,
            _signed(1 << contract.one, config.word),
            contract.store,
            contract.to_loss,
            output_words,
        )
        self._contract = contract
        self._machine = machine
        self._batch = batch
        results = contract.results if contract.to_loss else 1
        self.outcomes = np.zeros((results, config.lanes), np.int64)
        self.slots = np.zeros(results, np.int64)

    def run(self, registers: Sequence[int], half: int) -> bool:
        """Does it with the batch's ``half``; False when an address is outside, with what came before written."""
        contract = self._contract
        return _contract(
            self._machine,
            self._job,
            self._batch[half] if contract.from_batch else self._machine.lanes,
            (
                contract.a_base + registers[contract.a_register],
                contract.w_base + registers[contract.w_register],
                contract.o_base + registers[contract.o_register],
                contract.b_base + registers[contract.b_register],
            ),
            self.outcomes,
            self.slots,
        )


class Engine:
    """The contraction engine of one machine, bound to its memories."""

    def __init__(self, config: Config, memories: Memories) -> None:
        self._config = config
        self._batch = memories.batch
        self._machine = _Machine(
            memories.lanes,
            memories.effective,
            memories.tables,
            config.word,
            config.output_word,
            config.accumulator,
            config.table_bits,
            np.zeros((_ROWS, 3), np.int64),
            np.zeros((_ROWS, config.lanes), np.int32),
            np.zeros((config.columns, config.lanes), np.int64),
            np.zeros((config.columns, config.lanes), np.int64),
            np.zeros((config.columns, config.lanes), np.int64),
        )

    def contraction(self, contract: Contract) -> Contraction:
        """``contract``, ready to be done."""
        return Contraction(self._machine, self._batch, self._config, contract)


def _signed(value: int, bits: int) -> int:
    """The low bits of ``value`` as a signed number."""
    half = 1 << (bits - 1)
    return ((value + half) & (2 * half - 1)) - half
