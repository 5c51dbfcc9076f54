"""The perturbation generator: a proof of its period, its skip-ahead, the quality of its signs, and the gateware."""

import itertools
import random
from math import prod

import numpy as np
import pytest
from tenzo_hw.config import GENERATOR_BITS
from tenzo_hw.perturbation import TAPS, PerturbationGenerator, advance, signs
from tenzo_sim.bench import run_bench
from tenzo_sim.sp800_22 import shortest_recurrence

PERIOD = (1 << GENERATOR_BITS) - 1
FACTORS = (3, 5, 17, 257, 641, 65537, 6700417)


def random_state(seed):
    """A generator state other than zero."""
    return random.Random(seed).getrandbits(GENERATOR_BITS) | 1


def step(state):
    """One step, straight from the taps."""
    return sum((sum(state >> tap & 1 for tap in taps) & 1) << bit for bit, taps in enumerate(TAPS))


def minimal_polynomial(sequence):
    """The minimal polynomial of ``sequence``, bit i the coefficient of x**i."""
    length, connection = shortest_recurrence(np.array(list(sequence)))
    return sum((connection >> length - power & 1) << power for power in range(length + 1))


def multiply(a, b, modulus):
    """The product of two polynomials over GF(2) modulo a third."""
    degree, result = modulus.bit_length() - 1, 0
    while b:
        result ^= a if b & 1 else 0
        a, b = a << 1, b >> 1
        a ^= modulus if a >> degree else 0
    return result


def power_of_x(exponent, modulus):
    result, square = 1, 2
    while exponent:
        result = multiply(result, square, modulus) if exponent & 1 else result
        square, exponent = multiply(square, square, modulus), exponent >> 1
    return result


def test_period_is_full():
    """A recurrence of degree 64 whose x has the order 2^64-1 is primitive: every state but zero is on one cycle."""
    assert prod(FACTORS) == PERIOD
    assert all(len(set(taps)) == len(taps) <= 4 for taps in TAPS)
    state, bits = 1, []
    for _ in range(2 * GENERATOR_BITS + 8):
        bits.append(state & 1)
        state = step(state)
    polynomial = minimal_polynomial(bits)
    assert polynomial.bit_length() == GENERATOR_BITS + 1
    assert power_of_x(PERIOD, polynomial) == 1
    assert all(power_of_x(PERIOD // factor, polynomial) != 1 for factor in FACTORS)


def test_advance_and_signs_are_the_steps():
    state = random_state(5)
    assert advance(state, 0) == state
    assert advance(state, PERIOD) == state
    for columns in (1, 3, 32):
        values, after = signs(state, 50, columns)
        assert values.shape == (50, columns)
        assert values.dtype == np.int8
        stepped = state
        for row in range(50):
            stepped = step(stepped)
            assert values[row].tolist() == [-1 if stepped >> column & 1 else 1 for column in range(columns)]
            assert advance(state, row + 1) == stepped
        assert after == stepped


def relations(rows, columns):
    """Each sign of consecutive rows as the mask of state bits whose parity it is."""
    after = np.array([signs(1 << bit, rows, columns)[0].ravel() < 0 for bit in range(GENERATOR_BITS)], dtype=np.uint64)
    return (after << np.arange(GENERATOR_BITS, dtype=np.uint64)[:, None]).sum(axis=0, dtype=np.uint64)


@pytest.mark.parametrize(("rows", "columns"), [(64, 32), (256, 8), (512, 4)])
def test_no_four_neighbouring_signs_have_a_constant_product(rows, columns):
    masks = relations(rows, columns)
    first, second = np.triu_indices(len(masks), 1)
    pairs = np.unique(masks[first] ^ masks[second])
    assert len(pairs) == len(first), "four signs whose product is always +1"
    assert not np.isin(masks, pairs).any(), "three signs whose product is always +1"
    assert masks.all()


@pytest.mark.parametrize(("rows", "columns"), [(4, 32), (16, 8), (32, 4)])
def test_no_six_neighbouring_signs_have_a_constant_product(rows, columns):
    masks = relations(rows, columns)
    chosen = np.array(list(itertools.combinations(range(len(masks)), 3)))
    triples = np.bitwise_xor.reduce(masks[chosen], axis=1)
    assert len(np.unique(triples)) == len(triples)
    pairs = masks[chosen[:, 0]] ^ masks[chosen[:, 1]]
    assert not np.isin(triples, pairs).any(), "five signs whose product is always +1"


@pytest.mark.parametrize("seed", range(4))
def test_signs_look_random(seed):
    """Means of columns and of their products across columns and lags are within five and a half deviations of 0."""
    rows, columns = 1 << 14, 8
    state, blocks = random_state(seed), []
    for _ in range(rows // 256):
        block, state = signs(state, 256, columns)
        blocks.append(block)
    values = np.concatenate(blocks).astype(np.int32)
    bound = 5.5 / np.sqrt(rows)
    assert np.abs(values.mean(axis=0)).max() < bound
    for lag in range(33):
        lagged = np.roll(values, lag, axis=0)
        correlation = values.T @ lagged / rows
        if lag == 0:
            np.fill_diagonal(correlation, 0)
        assert np.abs(correlation).max() < bound, f"lag {lag}"
        # Four-way products: neighbours of a row times neighbours of the lagged row.
        pairs = values * np.roll(values, 1, axis=1)
        quads = pairs.T @ np.roll(pairs, lag + 1, axis=0) / rows
        assert np.abs(quads).max() < bound, f"four-way, lag {lag + 1}"


def test_queries_of_one_stream_do_not_multiply_to_a_constant():
    """The trap of linear seeding: the product of four directions must be as random as one of them."""
    state, directions = random_state(1), []
    for _ in range(4):
        values, state = signs(state, 1024, 8)
        directions.append(values.astype(int))
    assert abs(prod(directions).mean()) < 5.5 / np.sqrt(1024 * 8)


@pytest.mark.parametrize("seed", [1])
def test_gateware_is_the_model(tmp_path, seed):
    run_bench(PerturbationGenerator(), "bench_perturbation", tmp_path, seed=seed)
