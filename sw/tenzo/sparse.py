"""The code of SPARSE data: how many zeros of a batch travel as one byte.

Method: run-length coding of zeros, in bytes of which every string is a right code. A byte up to SPARSE_LARGEST is an
unsigned word, a larger one stands for 2 to SPARSE_LONGEST zeros.
"""

from __future__ import annotations

import numpy as np
from tenzo_hw.protocol import SPARSE_LARGEST, SPARSE_LONGEST


def encode(words: np.ndarray) -> np.ndarray:
    """The shortest code uint8[n] of integers [m] from 0 to SPARSE_LARGEST."""
    places = np.arange(words.size)
    zero = words == 0
    first = np.maximum.accumulate(np.where(zero, 0, places + 1))
    end = np.minimum.accumulate(np.where(zero, words.size, places)[::-1])[::-1]
    starts = ~zero | ((places - first) % SPARSE_LONGEST == 0)
    run = np.minimum(end - places, SPARSE_LONGEST)
    return np.where(run > 1, SPARSE_LARGEST + run - 1, words)[starts].astype(np.uint8)


def lengths(code: np.ndarray) -> np.ndarray:
    """Number of words int64[n] that each byte of a code uint8[n] stands for."""
    return np.maximum(code.astype(np.int64) - SPARSE_LARGEST, 0) + 1


def decode(code: np.ndarray) -> np.ndarray:
    """The words int64[m] of a code uint8[n]."""
    return np.repeat(np.where(code > SPARSE_LARGEST, 0, code.astype(np.int64)), lengths(code))
