"""A contraction as compiled loops: the words of the engine's own model (``tenzo_hw.engine.model``), thousands of times faster.

The loops go tile by tile in the order of the machine, so that nothing about a contraction's addresses needs to be
known beforehand. Sums are int64: they may wrap, as the accumulators, which have fewer bits, do.
"""

from __future__ import annotations

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
    """What the loops need of a machine: memories, widths, and room for the rows and sums of a tile."""

    lanes: np.ndarray
    effective: np.ndarray
    tables: np.ndarray
    word: int
    output_word: int
    accumulator: int
    table_bits: int
    operands: np.ndarray
    rows: np.ndarray
    sums: np.ndarray
    results: np.ndarray
    wides: np.ndarray


class _Job(NamedTuple):
    """A contraction without its bases. Levels: int64[6, 5] of count and strides a, w, o, b, innermost first."""

    levels: np.ndarray
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
    kind: int, one: int, high: int, source: np.ndarray, lanes: np.ndarray, a: int, b: int, operands: np.ndarray, row: int
) -> bool:
    """Operands of all lanes for one row; False when an address is outside of its memory."""
    bank = lanes.shape[0] // 2
    if a >= (bank if kind in (_DIFFERENCE, _STEP) else source.shape[0]):
        return False
    if kind == _WORD:
        for lane in range(lanes.shape[1]):
            operands[row, lane] = source[a, lane]
    elif kind == _RELU:
        for lane in range(lanes.shape[1]):
            operands[row, lane] = max(source[a, lane], 0)
    elif kind == _IDENTITY:
        for lane in range(lanes.shape[1]):
            operands[row, lane] = one if lane == a else 0
    elif kind == _STEP:
        for lane in range(lanes.shape[1]):
            z = lanes[a, lane]
            operands[row, lane] = min(max(z + one, 0), high) - max(z, 0)
    else:
        if b >= bank:
            return False
        for lane in range(lanes.shape[1]):
            z = lanes[a, lane]
            operands[row, lane] = min(max(z + lanes[bank + b, lane], 0), high) - max(z, 0)
    return True


@njit(cache=True, nogil=True)
def _multiply(
    operands: np.ndarray, weights: np.ndarray, row_of: np.ndarray, rows: int, sums: np.ndarray, cols: int
) -> None:
    """Adds the products of the first ``rows`` operands and their rows of weights to the sums."""
    # What is missing to a whole turn of the loop is 0.
    for row in range(rows, -(-rows // _UNROLLED) * _UNROLLED):
        operands[row] = 0
    for row in range(0, rows, _UNROLLED):
        r0, r1, r2, r3 = row_of[row], row_of[row + 1], row_of[row + 2], row_of[row + 3]
        for column in range(cols):
            w0, w1 = np.int32(weights[r0, column]), np.int32(weights[r1, column])
            w2, w3 = np.int32(weights[r2, column]), np.int32(weights[r3, column])
            for lane in range(sums.shape[1]):
                sums[column, lane] += (operands[row, lane] * w0 + operands[row + 1, lane] * w1) + (
                    operands[row + 2, lane] * w2 + operands[row + 3, lane] * w3
                )


@njit(cache=True, nogil=True)
def _saturate(value: int, bits: int) -> int:
    high = (1 << (bits - 1)) - 1
    return min(max(value, -high - 1), high)


@njit(cache=True, nogil=True)
def _interpolate(y: int, word: int, table_bits: int, tables: np.ndarray, table: int) -> int:
    """The table function of a saturated sum."""
    fraction_bits = word - table_bits
    entry = (y >> fraction_bits) + (1 << (table_bits - 1))
    step = tables[table, entry, 1] * (y & ((1 << fraction_bits) - 1))
    rounded = (step + ((1 << fraction_bits) >> 1)) >> fraction_bits
    return _saturate(tables[table, entry, 0] + rounded, word)


@njit(cache=True, nogil=True)
def _contract(
    machine: _Machine,
    job: _Job,
    source: np.ndarray,
    a_base: int,
    w_base: int,
    o_base: int,
    b_base: int,
    outcomes: np.ndarray,
    slots: np.ndarray,
) -> bool:
    """Does a contraction; False when an address is outside of its memory: what came before is written."""
    levels, lanes, effective = job.levels, machine.lanes, machine.effective
    operands, row_of, sums = machine.operands, machine.rows, machine.sums
    results, wides = machine.results, machine.wides
    high = (1 << (machine.word - 1)) - 1
    half = 1 << (machine.accumulator - 1)
    rounding = (1 << (job.shift - 1)) if job.shift else 0
    tiles = 1
    for level in range(REDUCTION_LEVELS, REDUCTION_LEVELS + OUTER_LEVELS):
        tiles *= levels[level, 0]
    drained = 0
    for tile in range(tiles):
        a, w, o, b = a_base, w_base, o_base, b_base
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

        sums[:cols] = 0
        rows = 0
        if job.bias:
            at = b & _ADDRESS_MASK
            if at >= effective.shape[0]:
                return False
            operands[0] = job.one
            row_of[0] = at
            rows = 1
        for outer in range(levels[1, 0]):
            for inner in range(levels[0, 0]):
                row_a = (a + outer * levels[1, 1] + inner * levels[0, 1]) & _ADDRESS_MASK
                row_w = (w + outer * levels[1, 2] + inner * levels[0, 2]) & _ADDRESS_MASK
                row_b = (b + outer * levels[1, 4] + inner * levels[0, 4]) & _ADDRESS_MASK
                if row_w >= effective.shape[0] or not _fetch(
                    job.operand, job.one, high, source, lanes, row_a, row_b, operands, rows
                ):
                    return False
                row_of[rows] = row_w
                rows += 1
                if rows == _ROWS:
                    _multiply(operands, effective, row_of, rows, sums, cols)
                    rows = 0
        _multiply(operands, effective, row_of, rows, sums, cols)

        for column in range(cols):
            address = (o + column * job.col_stride) & _ADDRESS_MASK
            if address >= job.output_words:
                return False
            for lane in range(sums.shape[1]):
                total = ((sums[column, lane] + half) & (2 * half - 1)) - half
                wide = (total + rounding) >> job.shift
                results[lane] = _saturate(wide, machine.word)
                wides[lane] = _saturate(wide, machine.output_word)
            if job.activation == _RECTIFIED:
                for lane in range(sums.shape[1]):
                    results[lane] = wides[lane] = max(results[lane], 0)
            elif job.activation >= _TABLE0:
                table = job.activation - _TABLE0
                for lane in range(sums.shape[1]):
                    value = _interpolate(results[lane], machine.word, machine.table_bits, machine.tables, table)
                    results[lane] = wides[lane] = value
            if job.store:
                for lane in range(sums.shape[1]):
                    lanes[address, lane] = results[lane]
            if job.to_loss:
                slots[drained] = address
                for lane in range(sums.shape[1]):
                    outcomes[drained, lane] = wides[lane]
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

    def run(self, registers: list[int], half: int) -> bool:
        """Does it with the batch's ``half``; False when an address is outside of its memory: what came before is written."""
        contract = self._contract
        return _contract(
            self._machine,
            self._job,
            self._batch[half] if contract.from_batch else self._machine.lanes,
            contract.a_base + registers[contract.a_register],
            contract.w_base + registers[contract.w_register],
            contract.o_base + registers[contract.o_register],
            contract.b_base + registers[contract.b_register],
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
            # Words and operands have at most 18 bits, and a product of two 32-bit numbers is one instruction.
            np.zeros((_ROWS, config.lanes), np.int32),
            np.zeros(_ROWS, np.int64),
            np.zeros((config.columns, config.lanes), np.int64),
            np.zeros(config.lanes, np.int64),
            np.zeros(config.lanes, np.int64),
        )

    def contraction(self, contract: Contract) -> Contraction:
        """``contract``, ready to be done."""
        return Contraction(self._machine, self._batch, self._config, contract)


def _signed(value: int, bits: int) -> int:
    """The low bits of ``value`` as a signed number."""
    half = 1 << (bits - 1)
    return ((value + half) & (2 * half - 1)) - half
