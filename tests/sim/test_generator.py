"""The measurements of the perturbation generator: what they say of it, and of signs that are not random."""

from __future__ import annotations

import numpy as np
import pytest
from tenzo_hw.config import GENERATOR_BITS
from tenzo_hw.perturbation import signs
from tenzo_sim import generator
from tenzo_sim.generator import directions, neighbours, recurrence, rows, statistics

#: Three sequences cannot tell more.
UNLIKELY = 1e-4


@pytest.mark.parametrize("columns", [1, 2, 8])
def test_rows_have_the_recurrence_of_a_generator_of_64_bits(columns: int) -> None:
    assert recurrence(columns) == GENERATOR_BITS * columns


def test_rows_of_the_machine_pass() -> None:
    verdicts = statistics(8, sequences=3, bits=200_000)
    assert min(verdict["smallest"] for verdict in verdicts.values()) > UNLIKELY


def test_one_sign_a_row_fails_where_every_linear_generator_does() -> None:
    verdicts = statistics(1, sequences=1, bits=200_000)
    failed = {name for name, verdict in verdicts.items() if verdict["smallest"] < UNLIKELY}
    assert "linear_complexity" in failed
    assert failed <= {"linear_complexity", "matrix_rank"}


@pytest.mark.parametrize("seed", [1, 2])
def test_products_look_random(seed: int) -> None:
    for found in (neighbours(8, seed), directions(118, 8, seed)):
        assert min(one["p"] for one in found.values()) > UNLIKELY


def test_products_show_the_trap_of_linear_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    def linear(seed: int, columns: int, count: int) -> np.ndarray:
        length = count // generator.DIRECTIONS
        state = 0x9E3779B97F4A7C15
        return np.concatenate([signs(state ^ query, length, columns)[0] for query in range(generator.DIRECTIONS)])

    monkeypatch.setattr(generator, "rows", linear)
    found = directions(118)
    assert found["2"]["p"] > UNLIKELY
    assert found["4"]["largest"] == pytest.approx(np.sqrt(118 * 8))


def test_neighbours_show_a_relation(monkeypatch: pytest.MonkeyPatch) -> None:
    def related(seed: int, columns: int, count: int) -> np.ndarray:
        values = rows(seed, columns, count)
        values[5:, 3] = values[:-5, 0] * values[:-5, 1]
        return values

    monkeypatch.setattr(generator, "rows", related)
    assert neighbours(8)["3"]["p"] < UNLIKELY
