"""Statistical tests of random bits, from NIST SP 800-22 revision 1a (2010), and how it judges many sequences.

A test takes bits (uint8[n] of 0 and 1) and gives one p-value or several: how often random bits would look at least as
odd. Sections are those of the document.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import erfc, gammaincc
from scipy.stats import norm

#: A sequence fails a test below this p-value (section 4.2.1).
SIGNIFICANCE = 0.01
#: p-values of many sequences are uneven below this p-value of theirs (4.2.2), in as many bins.
UNEVEN = 1e-4
BINS = 10
#: Blocks and patterns of the document's examples with a million bits (appendix B).
BLOCK = 128
SERIAL_PATTERN = 16
ENTROPY_PATTERN = 10
COMPLEXITY_BLOCK = 500
#: Side of the matrices of 2.5, and chances of full rank and of one less (3.5).
MATRIX = 32
FULL_RANK = math.prod(1 - 2.0**-power for power in range(1, MATRIX + 1))
ONE_LESS = FULL_RANK * 2 * (1 - 2.0**-MATRIX)
#: Longest runs of ones in blocks of 10,000: up to 10, 11 to 15, 16 and more, with their chances (3.4).
RUN_BLOCK = 10_000
RUN_CLASSES = range(10, 17)
RUN_CHANCES = (0.0882, 0.2092, 0.2483, 0.1933, 0.1208, 0.0675, 0.0727)
#: Classes of a linear complexity's distance from its mean, with their chances (3.10).
COMPLEXITY_CHANCES = (0.010417, 0.03125, 0.125, 0.5, 0.25, 0.0625, 0.020833)


def _chi_square(counts: np.ndarray, chances: np.ndarray) -> float:
    expected = counts.sum() * chances
    return float(gammaincc((len(counts) - 1) / 2, ((counts - expected) ** 2 / expected).sum() / 2))


def _blocks(bits: np.ndarray, length: int) -> np.ndarray:
    return bits[: len(bits) // length * length].reshape(-1, length)


def monobit(bits: np.ndarray) -> list[float]:
    """Ones and zeros are as many (2.1)."""
    return [float(erfc(abs(2 * int(bits.sum()) - len(bits)) / math.sqrt(2 * len(bits))))]


def block_frequency(bits: np.ndarray) -> list[float]:
    """Ones and zeros are as many in every block (2.2)."""
    shares = _blocks(bits, BLOCK).mean(axis=1)
    return [float(gammaincc(len(shares) / 2, 4 * BLOCK * ((shares - 0.5) ** 2).sum() / 2))]


def runs(bits: np.ndarray) -> list[float]:
    """Neither too many nor too few changes (2.3)."""
    share = bits.mean()
    changes = 1 + int(np.count_nonzero(bits[1:] != bits[:-1]))
    spread = 2 * share * (1 - share)
    return [float(erfc(abs(changes - len(bits) * spread) / (math.sqrt(2 * len(bits)) * spread)))]


def longest_run(bits: np.ndarray) -> list[float]:
    """The longest run of ones in each block (2.4)."""
    longest = []
    for block in _blocks(bits, RUN_BLOCK):
        zeros = np.flatnonzero(np.concatenate(([0], block, [0])) == 0)
        longest.append(int(np.diff(zeros).max()) - 1)
    classes = np.clip(longest, RUN_CLASSES[0], RUN_CLASSES[-1]) - RUN_CLASSES[0]
    return [_chi_square(np.bincount(classes, minlength=len(RUN_CHANCES)), np.array(RUN_CHANCES))]


def matrix_rank(bits: np.ndarray) -> list[float]:
    """Ranks over GF(2) of square matrices (2.5)."""
    rows = np.packbits(_blocks(bits, MATRIX), axis=1).view(">u4").ravel().astype(np.int64)
    ranks = [_rank(matrix.tolist()) for matrix in _blocks(rows, MATRIX)]
    counts = [ranks.count(MATRIX), ranks.count(MATRIX - 1)]
    counts.append(len(ranks) - sum(counts))
    return [_chi_square(np.array(counts), np.array([FULL_RANK, ONE_LESS, 1 - FULL_RANK - ONE_LESS]))]


def _rank(rows: list[int]) -> int:
    rank = 0
    while rows:
        pivot = rows.pop()
        if pivot:
            rank += 1
            low = pivot & -pivot
            rows = [row ^ pivot if row & low else row for row in rows]
    return rank


def spectral(bits: np.ndarray) -> list[float]:
    """No period stands out: 95 % of the peaks of the transform are below a bound (2.6)."""
    peaks = np.abs(np.fft.rfft(2.0 * bits - 1))[: len(bits) // 2]
    below = np.count_nonzero(peaks < math.sqrt(math.log(1 / 0.05) * len(bits)))
    distance = (below - 0.95 * len(bits) / 2) / math.sqrt(len(bits) * 0.95 * 0.05 / 4)
    return [float(erfc(abs(distance) / math.sqrt(2)))]


def _pattern_counts(bits: np.ndarray, length: int) -> np.ndarray:
    """How often each pattern of ``length`` bits occurs, the sequence taken as a ring."""
    ring = np.concatenate((bits, bits[: length - 1])).astype(np.int64)
    values = np.zeros(len(bits), dtype=np.int64)
    for place in range(length):
        values = 2 * values + ring[place : place + len(bits)]
    return np.bincount(values, minlength=1 << length)


def serial(bits: np.ndarray) -> list[float]:
    """All patterns are as many (2.11)."""

    def psi(length: int) -> float:
        return float((_pattern_counts(bits, length).astype(float) ** 2).sum() * 2**length / len(bits) - len(bits))

    one, two, three = (psi(SERIAL_PATTERN - less) for less in range(3))
    return [
        float(gammaincc(2 ** (SERIAL_PATTERN - 2), (one - two) / 2)),
        float(gammaincc(2 ** (SERIAL_PATTERN - 3), (one - 2 * two + three) / 2)),
    ]


def approximate_entropy(bits: np.ndarray) -> list[float]:
    """Patterns of neighbouring lengths occur as often as they should (2.12)."""

    def phi(length: int) -> float:
        shares = _pattern_counts(bits, length) / len(bits)
        shares = shares[shares > 0]
        return float((shares * np.log(shares)).sum())

    entropy = phi(ENTROPY_PATTERN) - phi(ENTROPY_PATTERN + 1)
    return [float(gammaincc(2 ** (ENTROPY_PATTERN - 1), len(bits) * (math.log(2) - entropy)))]


def cumulative_sums(bits: np.ndarray) -> list[float]:
    """A walk by the bits does not go too far, forwards and backwards (2.13)."""
    return [_walk(steps) for steps in (2 * bits.astype(np.int64) - 1, 2 * bits[::-1].astype(np.int64) - 1)]


def _walk(steps: np.ndarray) -> float:
    n = len(steps)
    furthest = int(np.abs(np.cumsum(steps)).max())
    root = math.sqrt(n)
    first = np.arange(int((-n / furthest + 1) / 4), int((n / furthest - 1) / 4) + 1)
    second = np.arange(int((-n / furthest - 3) / 4), int((n / furthest - 1) / 4) + 1)
    one = norm.cdf((4 * first + 1) * furthest / root) - norm.cdf((4 * first - 1) * furthest / root)
    two = norm.cdf((4 * second + 3) * furthest / root) - norm.cdf((4 * second + 1) * furthest / root)
    return float(1 - one.sum() + two.sum())


def linear_complexity(bits: np.ndarray) -> list[float]:
    """The shortest linear recurrence that gives each block (2.10): what every linear generator fails in the end."""
    length = COMPLEXITY_BLOCK
    sign = (-1) ** length
    mean = length / 2 + (9 - sign) / 36 - (length / 3 + 2 / 9) / 2**length
    complexities = np.array([shortest_recurrence(block)[0] for block in _blocks(bits, length)])
    distances = sign * (complexities - mean) + 2 / 9
    classes = np.digitize(distances, [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], right=True)
    counts = np.bincount(classes, minlength=len(COMPLEXITY_CHANCES))
    return [_chi_square(counts, np.array(COMPLEXITY_CHANCES))]


def shortest_recurrence(bits: np.ndarray) -> tuple[int, int]:
    """The shortest linear recurrence over GF(2) that gives ``bits``: its length and its connection polynomial.

    Bit i of the polynomial is the coefficient of x**i. Method: Berlekamp and Massey.
    """
    connection, previous, length, gap, history = 1, 1, 0, 1, 0
    for count, bit in enumerate(bits.tolist()):
        history = history << 1 | bit
        if (connection & history).bit_count() % 2 == 0:
            gap += 1
        elif 2 * length <= count:
            connection, previous, length, gap = connection ^ previous << gap, connection, count + 1 - length, 1
        else:
            connection ^= previous << gap
            gap += 1
    return length, connection


TESTS: dict[str, Callable[[np.ndarray], list[float]]] = {
    test.__name__: test
    for test in (
        monobit,
        block_frequency,
        runs,
        longest_run,
        matrix_rank,
        spectral,
        serial,
        approximate_entropy,
        cumulative_sums,
        linear_complexity,
    )
}
"""By their names."""


class Verdict(NamedTuple):
    """What many sequences say of one p-value of a test."""

    passed: int
    """Sequences whose p-value is ``SIGNIFICANCE`` or more."""
    needed: int
    """As many must be for three deviations from what is expected (4.2.1)."""
    uniformity: float
    """p-value of the p-values' being even in [0, 1] (4.2.2)."""

    @property
    def good(self) -> bool:
        """Both say that the bits look random."""
        return self.passed >= self.needed and self.uniformity >= UNEVEN


def judge(values: np.ndarray) -> Verdict:
    """Judges the p-values of many sequences."""
    share = 1 - SIGNIFICANCE
    needed = share - 3 * math.sqrt(share * SIGNIFICANCE / len(values))
    counts, _ = np.histogram(values, bins=BINS, range=(0, 1))
    return Verdict(
        passed=int(np.count_nonzero(values >= SIGNIFICANCE)),
        needed=math.ceil(needed * len(values)),
        uniformity=_chi_square(counts, np.full(BINS, 1 / BINS)),
    )
