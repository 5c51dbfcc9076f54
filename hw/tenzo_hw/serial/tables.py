"""What the firmware looks up: exponential, logarithm and powers of two."""

from __future__ import annotations

from ..loss_tables import EXP2, LOG2

#: Bits of a word.
BITS = 16
_MASK = (1 << BITS) - 1

#: Words of the tables' memory.
DEPTH = 1024
#: First words: 1 - 2^(-k/256), and log2(1 + k/256), k from 0 to 256, with 16 fraction bits; the last one modulo 2^16.
EXP2_BASE = 0
LOG2_BASE = len(EXP2)
#: 2^(16 - k) for k from 0 on, and 0 behind the last one; the first one less 1.
POWER_BASE = LOG2_BASE + len(LOG2)
_POWERS = [(1 << BITS) - 1, *(1 << (BITS - k) for k in range(1, BITS + 1)), 0]
POWERS = len(_POWERS)

WORDS = [
    *((1 << BITS) - int(word) for word in EXP2),
    *(int(word) & _MASK for word in LOG2),
    *_POWERS,
]
"""All of them, ``BITS`` bits each."""
