"""The numbers of cross-entropy: exponential and logarithm of base 2 as tables with linear interpolation."""

from __future__ import annotations

import numpy as np

from .config import LOSS_FRACTION

#: log2(e) with 15 fraction bits.
LOG2_E = 47274
#: log2 of the intervals of both tables.
TABLE_BITS = 8
#: 2^(-k/256) and log2(1 + k/256) with LOSS_FRACTION fraction bits, the end of the last interval included.
EXP2 = np.array([round(2**LOSS_FRACTION * 2 ** (-k / 256)) for k in range(257)])
LOG2 = np.array([round(2**LOSS_FRACTION * float(np.log2(1 + k / 256))) for k in range(257)])
#: Halvings after which an exponential is below half of its last bit.
SHIFT_LIMIT = LOSS_FRACTION + 1
