"""Tensor-train matrices: products with them, dense matrices to cores and back.

A TT-matrix of K cores maps inputs of shape (n_1 .. n_K) to outputs of shape (m_1 .. m_K), both flattened row-major.
Core k has shape (r_{k-1}, n_k, m_k, r_k), r_0 = r_K = 1; W[n, m] is the product of the matrices G_k[:, n_k, m_k, :].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def bond_limits(inputs: Sequence[int], outputs: Sequence[int]) -> tuple[int, ...]:
    """Largest useful rank of every bond: the smaller of the two matrix sizes that it separates."""
    pairs = [n * m for n, m in zip(inputs, outputs, strict=True)]
    return tuple(min(math.prod(pairs[:k]), math.prod(pairs[k:])) for k in range(1, len(pairs)))


def core_shapes(
    inputs: Sequence[int], outputs: Sequence[int], ranks: Sequence[int]
) -> tuple[tuple[int, int, int, int], ...]:
    """Shapes of the cores of these folds and inner ranks."""
    bonds = (1, *ranks, 1)
    return tuple((left, n, m, right) for left, n, m, right in zip(bonds[:-1], inputs, outputs, bonds[1:], strict=True))


def parameters(inputs: Sequence[int], outputs: Sequence[int], ranks: Sequence[int]) -> int:
    """Number of words of all cores."""
    return sum(math.prod(shape) for shape in core_shapes(inputs, outputs, ranks))


def apply(cores: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
    """``x @ W`` for x of shape [samples, inputs], one core after the other from the left; W is never formed."""
    samples = len(x)
    state = x.reshape(samples, 1, 1, -1)
    for core in cores:
        left, n, m, right = core.shape
        done = state.shape[1]
        state = state.reshape(samples, done, left, n, -1)
        # [samples, done, rest, m, right]
        state = np.tensordot(state, core, axes=([2, 3], [0, 1]))
        state = np.moveaxis(state, 2, -1).reshape(samples, done * m, right, -1)
    return state.reshape(samples, -1)


def reconstruct(cores: Sequence[np.ndarray]) -> np.ndarray:
    """The dense matrix W [inputs, outputs]."""
    state = np.ones((1, 1, 1))
    for core in cores:
        inputs, outputs, _ = state.shape
        _, n, m, right = core.shape
        state = np.tensordot(state, core, axes=(2, 0)).transpose(0, 2, 1, 3, 4)
        state = state.reshape(inputs * n, outputs * m, right)
    return state[:, :, 0]


def decompose(
    matrix: np.ndarray,
    inputs: Sequence[int],
    outputs: Sequence[int],
    *,
    max_rank: int | None = None,
    relative_error: float = 0.0,
) -> list[np.ndarray]:
    """Cores of a dense matrix [inputs, outputs], float64.

    Every bond has the smallest rank that keeps the Frobenius error below ``relative_error`` of the matrix's norm, at
    most ``max_rank``. Raises ``ValueError`` when the folds do not multiply to the matrix's shape.

    Method: TT-SVD (Oseledets, "Tensor-train decomposition", 2011), the error spread evenly over the bonds.
    """
    if matrix.shape != (math.prod(inputs), math.prod(outputs)) or len(inputs) != len(outputs):
        raise ValueError(
            f"a matrix of shape {matrix.shape} cannot be folded to {tuple(inputs)} x {tuple(outputs)}: as many folds "
            "for the inputs as for the outputs, whose products are the matrix's two sizes"
        )
    if max_rank is not None and max_rank < 1:
        raise ValueError(f"max_rank={max_rank} is not possible: 1 or more, or None for no limit")
    if relative_error < 0:
        raise ValueError(f"relative_error={relative_error} is not possible: 0 (exact) or more")
    count = len(inputs)
    axes = [axis for k in range(count) for axis in (k, count + k)]
    rest = matrix.astype(np.float64).reshape(*inputs, *outputs).transpose(axes)
    allowed = relative_error * float(np.linalg.norm(matrix)) / math.sqrt(max(count - 1, 1))
    cores = []
    rank = 1
    for n, m in zip(inputs[:-1], outputs[:-1], strict=True):
        left, values, right = np.linalg.svd(rest.reshape(rank * n * m, -1), full_matrices=False)
        # tails[r]: the error of keeping r singular values.
        tails = np.sqrt(np.append(np.cumsum(values[::-1] ** 2)[::-1], 0.0))
        floor = values[0] * max(rest.size // (rank * n * m), rank * n * m) * np.finfo(np.float64).eps
        kept = max(1, int(np.argmax(tails <= max(allowed, floor))))
        kept = min(kept, max_rank or kept)
        cores.append(left[:, :kept].reshape(rank, n, m, kept))
        rest = values[:kept, None] * right[:kept]
        rank = kept
    cores.append(rest.reshape(rank, inputs[-1], outputs[-1], 1))
    return cores
