"""The statistical tests: the document's own results for the binary digits of e, and generators that must fail."""

import numpy as np
import pytest
from tenzo_sim.sp800_22 import COMPLEXITY_BLOCK, TESTS, judge, shortest_recurrence

DIGITS = 1_000_000
#: Guard bits, so that no digit is wrong.
GUARD = 64
#: p-values for the first million binary digits of e: SP 800-22 revision 1a, appendix B.
EXAMPLES = {
    "monobit": [0.953749],
    "block_frequency": [0.211072],
    "cumulative_sums": [0.669887, 0.724266],
    "runs": [0.561917],
    "longest_run": [0.718945],
    "matrix_rank": [0.306156],
    "spectral": [0.847187],
    "approximate_entropy": [0.700073],
    "serial": [0.766182, 0.462921],
    "linear_complexity": [0.826335],
}


def series(low: int, high: int) -> tuple[int, int]:
    """The sum of 1/((low+1)...k) for k in (low, high] as numerator, and (low+1)...high."""
    if high - low == 1:
        return 1, high
    middle = (low + high) // 2
    (first, first_product), (second, second_product) = series(low, middle), series(middle, high)
    return first * second_product + second, first_product * second_product


@pytest.fixture(scope="module")
def digits_of_e() -> np.ndarray:
    # 205,030 factorial has more bits than are needed.
    numerator, denominator = series(0, 205_030)
    assert denominator.bit_length() > DIGITS + GUARD
    value = (numerator + denominator << DIGITS + GUARD) // denominator
    first = value >> value.bit_length() - DIGITS
    return np.unpackbits(np.frombuffer(first.to_bytes(DIGITS // 8, "big"), dtype=np.uint8))


def test_every_test_has_an_example() -> None:
    assert set(EXAMPLES) == set(TESTS)


@pytest.mark.parametrize("name", TESTS)
def test_document_s_result_for_e(digits_of_e: np.ndarray, name: str) -> None:
    # NIST's program has chances of linear complexities that are not those of its document, in the fourth digit.
    assert TESTS[name](digits_of_e) == pytest.approx(EXAMPLES[name], abs=2e-4 if name == "linear_complexity" else 2e-6)


def test_bits_that_are_not_random_fail() -> None:
    random = np.random.default_rng(1)
    half = random.integers(0, 2, 1 << 18, dtype=np.uint8)
    odd = {
        "monobit": (random.random(1 << 18) < 0.51).astype(np.uint8),
        "block_frequency": np.repeat(half[: 1 << 10], 1 << 8),
        "runs": np.repeat(half, 2),
        "longest_run": half & np.roll(half, 1),
        "matrix_rank": np.tile(half.reshape(-1, 16), 2).ravel(),
        "spectral": half | (np.arange(len(half)) % 16 == 0).astype(np.uint8),
        "serial": np.repeat(half, 2),
        "approximate_entropy": np.repeat(half, 2),
        "cumulative_sums": (random.random(1 << 18) < 0.51).astype(np.uint8),
        "linear_complexity": np.tile(half[:100], 1 << 11),
    }
    assert set(odd) == set(TESTS)
    for name, bits in odd.items():
        assert min(TESTS[name](bits)) < 1e-6, name


def test_shortest_recurrence() -> None:
    # x^5 + x^2 + 1: a bit is the sum of those two and five before it.
    bits = [1, 0, 0, 0, 0]
    while len(bits) < COMPLEXITY_BLOCK:
        bits.append(bits[-5] ^ bits[-3])
    assert shortest_recurrence(np.array(bits, dtype=np.uint8))[0] == 5


def test_verdict_on_p_values() -> None:
    even = np.linspace(0, 1, 200)
    assert judge(even).good
    assert judge(even).passed == 198
    assert not judge(np.sqrt(even)).good
    assert not judge(np.concatenate([even[:190], np.zeros(10)])).good
