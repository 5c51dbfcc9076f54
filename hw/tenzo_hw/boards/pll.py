"""What the PLLs of all families share: the choice of their dividers."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

#: A clock that is further below the one asked for is refused: the board's table would promise too much.
_LARGEST_LOSS = Fraction(1, 20)


class Dividers(NamedTuple):
    """One setting of a PLL."""

    input_hz: int
    """Frequency of its input."""
    hz: Fraction
    """Frequency of its output."""
    oscillator_hz: Fraction
    """Frequency of its oscillator."""
    values: tuple[int, ...]
    """The dividers, in the order of the family's cell."""


def fastest(settings: Iterable[Dividers], *, hz: int, oscillator: tuple[int, int], clock: tuple[int, int]) -> Dividers:
    """The fastest setting that is not above ``hz``, its oscillator nearest to the middle of its range.

    ``oscillator``, ``clock``: lowest and highest frequency in Hz of the oscillator and of the output. Raises
    ``ValueError`` with the nearest frequencies when there is none within 5 % below.
    """
    if not clock[0] <= hz <= clock[1]:
        raise ValueError(f"the PLL makes no clock of {hz / 1e6:g} MHz: {clock[0] / 1e6:g} to {clock[1] / 1e6:g} MHz")
    possible = [one for one in settings if oscillator[0] <= one.oscillator_hz <= oscillator[1]]
    below = [one for one in possible if (1 - _LARGEST_LOSS) * hz <= one.hz <= hz and one.hz >= clock[0]]
    if not below:
        nearest = sorted({one.hz for one in possible}, key=lambda other: abs(other - hz))[:4]
        offered = ", ".join(f"{float(other) / 1e6:g}" for other in sorted(nearest))
        raise ValueError(f"the PLL makes no clock of {hz / 1e6:g} MHz or little less; the nearest are {offered} MHz")
    middle = sum(oscillator) / 2
    return min(below, key=lambda one: (-one.hz, abs(one.oscillator_hz - middle)))
