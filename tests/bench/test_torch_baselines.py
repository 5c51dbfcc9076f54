"""What the MNIST benchmark compares with, in PyTorch; run by ``make bench-quick``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tenzo import TT, Network, ReLU
from tenzo.torch_baselines import back_propagation, dense_form, dense_random_directions, incremental_step

NETWORK = Network([TT([3, 2, 4], [2, 3, 4], 2), ReLU(), TT([4, 3, 2], [1, 2, 5], 3)])


def samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    x = random.uniform(0, 1, (count, NETWORK.inputs))
    return x, (x @ random.normal(size=(NETWORK.inputs, NETWORK.outputs))).argmax(axis=1)


def test_dense_form_is_the_layer() -> None:
    weights = NETWORK.initial_weights(1)
    cores = [torch.tensor(weights[f"layer0.core{core}"]) for core in range(3)]
    only = Network([NETWORK.stages[0].layer])
    x, _ = samples(5)
    expected = only.forward({name: value for name, value in weights.items() if name.startswith("layer0")}, x)
    formed = x @ dense_form(NETWORK.stages[0].layer, cores).numpy() + weights["layer0.bias"]
    assert np.allclose(formed, expected)


def test_incremental_slopes_are_the_gradient() -> None:
    x, y = samples(16)
    slopes = incremental_step(NETWORK, x, y, seed=2, mu=2**-10)
    weights = NETWORK.initial_weights(2)

    def loss(name: str, place: tuple[int, ...], by: float) -> float:
        moved = weights | {name: weights[name].copy()}
        moved[name][place] += by
        outputs = NETWORK.forward(moved, x)
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return float(-np.log(powers[np.arange(len(y)), y] / powers.sum(axis=1)).mean())

    random = np.random.default_rng(0)
    assert slopes.keys() == weights.keys()
    for name, values in slopes.items():
        place = tuple(int(random.integers(size)) for size in values.shape)
        slope = (loss(name, place, 1e-5) - loss(name, place, -1e-5)) / 2e-5
        assert values[place] == pytest.approx(slope, abs=3e-3), name


def test_both_references_learn() -> None:
    x, y = samples(400)
    data = (x[:300], y[:300], x[300:], y[300:])
    most = np.bincount(y[300:]).max() / 100
    accuracy, _ = back_propagation(NETWORK, data, batch=20, steps=300, seed=0, rate=0.1, momentum=2)
    assert accuracy > most + 0.1
    dense, steps = dense_random_directions(NETWORK, data, batch=20, macs=10**9, queries=8, seed=0, rate=0.02, mu=2**-6)
    assert steps > 100
    assert dense > most + 0.1
