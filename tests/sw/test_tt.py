"""Tensor-train matrices: decomposition, reconstruction and products."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenzo import tt

FOLDS = st.integers(1, 4).flatmap(
    lambda count: st.tuples(*[st.lists(st.integers(1, 4), min_size=count, max_size=count)] * 2)
)


@settings(deadline=None)
@given(FOLDS, st.integers(0, 1 << 16))
def test_exact_decomposition_and_products(folds: tuple[list[int], list[int]], seed: int) -> None:
    inputs, outputs = folds
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(math.prod(inputs), math.prod(outputs)))
    cores = tt.decompose(matrix, inputs, outputs)
    ranks = [core.shape[3] for core in cores[:-1]]
    assert [core.shape for core in cores] == list(tt.core_shapes(inputs, outputs, ranks))
    assert all(rank <= limit for rank, limit in zip(ranks, tt.bond_limits(inputs, outputs), strict=True))
    assert sum(core.size for core in cores) == tt.parameters(inputs, outputs, ranks)
    np.testing.assert_allclose(tt.reconstruct(cores), matrix, atol=1e-10)
    x = random.normal(size=(3, math.prod(inputs)))
    np.testing.assert_allclose(tt.apply(cores, x), x @ matrix, atol=1e-10)


def test_reconstruction_is_the_product_of_the_cores() -> None:
    random = np.random.default_rng(0)
    cores = [random.normal(size=shape) for shape in tt.core_shapes((2, 3), (4, 5), (2,))]
    matrix = tt.reconstruct(cores)
    for n1, n2, m1, m2 in np.ndindex(2, 3, 4, 5):
        value = (cores[0][:, n1, m1, :] @ cores[1][:, n2, m2, :])[0, 0]
        assert matrix[3 * n1 + n2, 5 * m1 + m2] == pytest.approx(value)


@pytest.mark.parametrize("relative_error", [0.05, 0.1, 0.5])
def test_error_is_kept(relative_error: float) -> None:
    matrix = np.random.default_rng(1).normal(size=(64, 64)) + 10
    cores = tt.decompose(matrix, (4, 4, 4), (4, 4, 4), relative_error=relative_error)
    exact = tt.decompose(matrix, (4, 4, 4), (4, 4, 4))
    assert np.linalg.norm(tt.reconstruct(cores) - matrix) <= relative_error * np.linalg.norm(matrix)
    assert sum(core.size for core in cores) < sum(core.size for core in exact)


def test_low_rank_is_found_and_rank_is_capped() -> None:
    random = np.random.default_rng(2)
    matrix = tt.reconstruct([random.normal(size=shape) for shape in tt.core_shapes((4, 4), (4, 4), (3,))])
    assert tt.decompose(matrix, (4, 4), (4, 4))[0].shape == (1, 4, 4, 3)
    assert tt.decompose(matrix, (4, 4), (4, 4), max_rank=2)[0].shape == (1, 4, 4, 2)
    assert tt.decompose(np.zeros((16, 16)), (4, 4), (4, 4))[0].shape == (1, 4, 4, 1)


def test_wrong_values_are_refused() -> None:
    matrix = np.zeros((6, 6))
    with pytest.raises(ValueError, match=r"\(6, 6\) cannot be folded to \(2, 2\) x \(2, 3\)"):
        tt.decompose(matrix, (2, 2), (2, 3))
    with pytest.raises(ValueError, match="max_rank=0"):
        tt.decompose(matrix, (2, 3), (2, 3), max_rank=0)
    with pytest.raises(ValueError, match="relative_error=-1"):
        tt.decompose(matrix, (2, 3), (2, 3), relative_error=-1)
