"""The machine's number rules, in one place: rounding half up and saturation of two's complement integers.

``hw/tenzo_hw/arithmetic.py`` holds the gateware twins of these functions; a test proves them equal.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

Integers = TypeVar("Integers", int, np.ndarray)


def bounds(bits: int) -> tuple[int, int]:
    """Smallest and largest value of a signed word of ``bits`` bits."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def saturate(value: Integers, bits: int) -> Integers:
    """``value`` clipped to a signed word of ``bits`` bits."""
    low, high = bounds(bits)
    if isinstance(value, np.ndarray):
        return np.minimum(np.maximum(value, low), high)
    return min(max(value, low), high)


def round_shift(value: Integers, shift: int) -> Integers:
    """``value / 2**shift`` rounded half up (towards plus infinity); ``shift`` >= 0."""
    return (value + ((1 << shift) >> 1)) >> shift
