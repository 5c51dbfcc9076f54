"""What the engine of a serial machine is told of a contraction, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from ..config import OUTER_LEVELS, REDUCTION_LEVELS
from ..isa import Contract

#: Cycles of a tile besides those of its rows and results, and of a contraction besides its tiles.
TILE_CYCLES = 3
START_CYCLES = 9


class Field(IntEnum):
    """What a field write sets; of level n: the number here, plus n.

    ``ACTIVATION`` and ``OUTPUT`` are taken from the high half of the word, ``WEIGHT`` and ``BIAS`` from the low one:
    they lie in the memories of the deltas of the same halves.
    """

    ACTIVATION = 0x00
    """Address of the first activation, in bits 16 to 31."""
    COUNT_A = 0x02
    """Turns in bits 0 to 15, activation delta in bits 16 to 31. Levels 0 to 5."""
    WEIGHT = 0x10
    """Engine row of the first weights, in bits 0 to 15."""
    OUTPUT = 0x11
    """Lane address of the first result, in bits 16 to 31."""
    W_O = 0x12
    """Weight delta in bits 0 to 15; in bits 16 to 31 the output delta, 0 with levels 0 and 1. Levels 0 to 5."""
    COLUMNS = 0x18
    """Word 1 of the instruction: cols, last_cols and col_stride."""
    BIAS = 0x20
    """Engine row of the first bias, in bits 0 to 15."""
    B = 0x22
    """Bias delta in bits 0 to 15. Levels 2 to 5."""
    CONTROL = 0x30
    """Word 0 of the instruction; clears ``bad``."""
    OPERAND = 0x31
    """Word 2 of the instruction: whether the operand is RELU."""


def field_writes(contract: Contract) -> Iterator[tuple[int, int]]:
    """The number and word of every field of a contraction whose bases have the address registers in them."""
    words = contract.encode()
    yield Field.CONTROL, words[0]
    yield Field.COLUMNS, words[1]
    yield Field.OPERAND, words[2]
    yield Field.WEIGHT, words[3]
    yield Field.OUTPUT, words[3]
    yield Field.ACTIVATION, words[4] << 16 & 0xFFFF_FFFF
    yield Field.BIAS, words[4] >> 16
    rest = iter(words[5:])
    for level in range(REDUCTION_LEVELS + OUTER_LEVELS):
        yield Field.COUNT_A + level, next(rest)
        yield Field.W_O + level, next(rest)
        if level >= REDUCTION_LEVELS:
            yield Field.B + level, next(rest)


def engine_cycles(contract: Contract) -> int:
    """Cycles from that of ``start`` to the first one in which ``done`` is high again."""
    return START_CYCLES + contract.tiles * (contract.rows + TILE_CYCLES) + contract.results
