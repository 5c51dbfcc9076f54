"""Addresses of a contraction: what its loop nest reads and writes, in the order of the machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .config import REDUCTION_LEVELS
from .isa import Contract, Level

#: Addresses are 16-bit numbers.
WRAP = 1 << 16


def reach(levels: Sequence[Level], stream: str) -> tuple[int, int]:
    """Smallest and largest offset of a stream ("a", "w", "o" or "b") over all turns of ``levels``."""
    spans = [(level.count - 1) * getattr(level, stream) for level in levels]
    return sum(min(span, 0) for span in spans), sum(max(span, 0) for span in spans)


def offsets(levels: Sequence[Level], stream: str, turns: np.ndarray | None = None) -> np.ndarray:
    """Offsets of a stream, int64, in the order of the turns of ``levels``, the first level turning fastest.

    ``turns`` picks some of them by number; all of them without.
    """
    if turns is None:
        turns = np.arange(int(np.prod([level.count for level in levels], dtype=np.int64)))
    result = np.zeros_like(turns)
    for level in levels:
        turns, digit = np.divmod(turns, level.count)
        result += digit * getattr(level, stream)
    return result


def tile_cols(contract: Contract, tiles: np.ndarray | None = None) -> np.ndarray:
    """Results of each tile, int64; ``tiles`` picks some by number."""
    outer = contract.levels[REDUCTION_LEVELS:]
    if tiles is None:
        tiles = np.arange(contract.tiles)
    below = int(np.prod([level.count for level in outer[: contract.tile_level]], dtype=np.int64))
    turns = outer[contract.tile_level].count
    return np.where(tiles // below % turns == turns - 1, contract.last_cols, contract.cols)


def tile_ends(contract: Contract) -> np.ndarray:
    """Issue of each tile's last row, int64, in cycles after that of the first tile's last row."""
    cols = tile_cols(contract)
    return np.concatenate([[0], np.cumsum(np.maximum(max(contract.rows, contract.pace), cols[:-1]))])


def outputs(contract: Contract, base: int, tiles: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Output addresses of tiles, int64[tiles, cols], and which of them are results, bool[tiles, cols].

    They are lane addresses, or with ``base`` ADD numbers of loss slots.
    """
    starts = offsets(contract.levels[REDUCTION_LEVELS:], "o", tiles)
    columns = np.arange(contract.cols)
    addresses = (base + starts[:, None] + columns * contract.col_stride) % WRAP
    return addresses, columns < tile_cols(contract, tiles)[:, None]


def activations(contract: Contract, base: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Activation addresses of rows, int64, -1 for a bias row. ``rows`` picks some rows by number.

    With ``operand`` IDENTITY they are numbers of lanes, and nothing is read.
    """
    if rows is None:
        rows = np.arange(contract.tiles * contract.rows)
    tiles, row = np.divmod(rows, contract.rows)
    turn = row - int(contract.bias)
    addresses = (base + offsets(contract.levels, "a", tiles * contract.reduction + np.maximum(turn, 0))) % WRAP
    return np.where(turn < 0, -1, addresses)


def environments(contract: Contract, base: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Words of the upper bank that rows read with ``operand`` DIFFERENCE, int64. ``rows`` picks some rows by number.

    Word b of the upper bank is the lane address ``lane_bank`` + b.
    """
    turns = np.arange(contract.tiles * contract.rows) if rows is None else rows
    return (base + offsets(contract.levels, "b", turns)) % WRAP


def output_reach(contract: Contract) -> tuple[int, int]:
    """Smallest and largest offset that a result has from the output base."""
    stride = (contract.col_stride + WRAP // 2) % WRAP - WRAP // 2
    outer = list(contract.levels[REDUCTION_LEVELS:])
    level = outer.pop(contract.tile_level)
    low, high = reach(outer, "o")
    ends = [((level.count - 1) * level.o, contract.last_cols)]
    if level.count > 1:
        ends += [(turn * level.o, contract.cols) for turn in (0, level.count - 2)]
    reached = [start + stride * column for start, cols in ends for column in (0, cols - 1)]
    return low + min(reached), high + max(reached)
