"""Networks: shapes, names, text form, float forward and what is refused; number formats and activation tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenzo import tt
from tenzo.formats import Formats, LayerFormat, Table, dequantise, quantise
from tenzo.network import TT, Dense, Function, Network, ReLU, Sigmoid, Sine, Tanh, fold, largest_rank
from tenzo_hw.config import preset

MIXED = Network([TT((4, 4), (2, 3), 3, bias=False), Tanh(), Dense(6, 5), ReLU(), Dense(5, 2)], "squared_error")


def test_shapes_and_names() -> None:
    assert (MIXED.inputs, MIXED.outputs) == (16, 2)
    assert MIXED.weights == {
        "layer0.core0": (1, 4, 2, 3),
        "layer0.core1": (3, 4, 3, 1),
        "layer1.core0": (1, 6, 5, 1),
        "layer1.bias": (5,),
        "layer2.core0": (1, 5, 2, 1),
        "layer2.bias": (2,),
    }
    assert MIXED.parameters == sum(math.prod(shape) for shape in MIXED.weights.values())


def test_text_form_gives_the_network_back() -> None:
    assert Network.from_dict(MIXED.to_dict()) == MIXED
    short = {"layers": [{"kind": "tt", "inputs": [8, 8], "outputs": [1, 10], "rank": 4}, {"kind": "relu"}]}
    assert Network.from_dict(short) == Network([TT((8, 8), (1, 10), 4), ReLU()])


def test_forward_is_that_of_dense_matrices() -> None:
    weights = MIXED.initial_weights(5)
    weights["layer1.bias"] += 0.3
    x = np.random.default_rng(0).normal(size=(7, 16))
    h = np.tanh(x @ tt.reconstruct([weights["layer0.core0"], weights["layer0.core1"]]))
    h = np.maximum(h @ weights["layer1.core0"][0, :, :, 0] + weights["layer1.bias"], 0)
    expected = h @ weights["layer2.core0"][0, :, :, 0] + weights["layer2.bias"]
    np.testing.assert_allclose(MIXED.forward(weights, x), expected)


def test_initial_variance() -> None:
    network = Network([TT((7, 4, 4, 7), (8, 4, 4, 8), 6), ReLU()])
    matrices = [
        tt.reconstruct([network.initial_weights(seed)[f"layer0.core{k}"] for k in range(4)]) for seed in range(8)
    ]
    assert np.var(matrices) == pytest.approx(2 / 784, rel=0.3)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(network.initial_weights(3).values(), network.initial_weights(3).values(), strict=True)
    )


@given(st.integers(1, 2000), st.integers(1, 4))
def test_folds_multiply_to_the_size(size: int, count: int) -> None:
    sizes = fold(size, count)
    assert len(sizes) == count
    assert math.prod(sizes) == size


def test_folds_are_balanced() -> None:
    assert fold(784, 4) == (7, 4, 4, 7)
    assert fold(1024, 4) == (8, 4, 4, 8)
    assert fold(64, 2) == (8, 8)


def test_rank_for_a_budget() -> None:
    rank = largest_rank((7, 4, 4, 7), (8, 4, 4, 8), 4000)
    assert TT((7, 4, 4, 7), (8, 4, 4, 8), rank).parameters <= 4000
    assert TT((7, 4, 4, 7), (8, 4, 4, 8), rank + 1).parameters > 4000
    assert largest_rank((2, 2), (2, 2), 1000) == 4
    with pytest.raises(ValueError, match=r"rank 1 of .* has 1168"):
        largest_rank((7, 4, 4, 7), (8, 4, 4, 8), 100)


def test_rank_is_lowered_where_a_bond_cannot_use_it() -> None:
    assert TT((2, 2, 2), (1, 1, 2), 8).ranks == (2, 4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TT((8, 8), (10,), 4), "same number of sizes"),
        (lambda: TT((8, 0), (8, 8), 4), r"inputs=\(8, 0\)"),
        (lambda: TT((8, 8), (8, 8)), "either rank"),
        (lambda: TT((8, 8), (8, 8), 2, ranks=(2,)), "either rank"),
        (lambda: TT((8, 8), (8, 8), ranks=(65,)), r"bond 0 .* 1 to 64"),
        (lambda: TT((8, 8), (8, 8), ranks=(2, 2)), "2 cores have 1 bonds"),
        (lambda: Network([TT((8, 8), (8, 8), 4), Dense(32, 10)]), "layer1 takes 32 inputs .* layer0 .* 64 outputs"),
        (lambda: Network([]), "at least one layer"),
        (lambda: Network([ReLU()]), "follows a layer"),
        (lambda: Network([Dense(4, 4), ReLU(), Tanh()]), r"layers\[2\]"),
        (lambda: Network([Dense(4, 4), 3]), r"layers\[1\] is 3"),  # type: ignore[list-item]
        (lambda: Network([Dense(4, 4)], "hinge"), "loss='hinge' .* cross_entropy or squared_error"),
        (
            lambda: Network.from_dict({"layers": [{"kind": "conv"}]}),
            r"layers\[0\] has kind 'conv'; there are tt, dense",
        ),
        (lambda: Network.from_dict({"layers": [{"kind": "dense", "inputs": 4}]}), r"layers\[0\], dense: .*outputs"),
        (lambda: Network.from_dict({"layer": []}), "layer"),
    ],
)
def test_wrong_networks_are_refused(make, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_wrong_weights_are_refused() -> None:
    weights = MIXED.initial_weights(0)
    x = np.zeros((1, 16))
    with pytest.raises(ValueError, match=r"\['layer1.bias'\] are missing"):
        MIXED.forward({name: value for name, value in weights.items() if name != "layer1.bias"}, x)
    with pytest.raises(ValueError, match=r"layer1.bias has shape"):
        MIXED.forward(weights | {"layer1.bias": np.zeros(4)}, x)
    with pytest.raises(ValueError, match=r"layer1.bias holds values"):
        MIXED.forward(weights | {"layer1.bias": np.full(5, np.nan)}, x)
    with pytest.raises(ValueError, match=r"\(samples, 16\)"):
        MIXED.forward(weights, np.zeros((1, 15)))


def test_quantising() -> None:
    assert quantise(np.array([0.5, -0.5, 0.49, 100, -100]), 0, 4).tolist() == [1, 0, 0, 7, -8]
    values = np.linspace(-1, 1, 101)
    assert np.abs(dequantise(quantise(values, 10, 16), 10) - values).max() <= 2.0**-11


def test_default_formats_are_those_of_the_recipes() -> None:
    nine = Formats.default(MIXED, preset("tiny"))
    assert (nine.inputs, nine.weights, nine.output) == (7, 6, 4)
    eighteen = Formats.default(MIXED, preset("engine_16x8"))
    assert (eighteen.weights, eighteen.output) == (13, 12)
    assert eighteen.layers[0] == LayerFormat(inner=12, total=14, output=16)
    assert Formats.from_dict(eighteen.to_dict()) == eighteen


@pytest.mark.parametrize("function", [Tanh(), Sine(), Sigmoid()])
@pytest.mark.parametrize("name", ["tiny", "engine_16x8"])
def test_tables_follow_their_functions(function: Function, name: str) -> None:
    config = preset(name)
    table = Table(function, config.word - 4, config.word - 2)
    values, slopes = table.entries(config)
    assert values.shape == slopes.shape == (1 << config.table_bits,)
    words = np.arange(-(1 << (config.word - 1)), 1 << (config.word - 1))
    found = dequantise(table.look_up(words, config), table.fraction_out)
    # Linear interpolation of functions whose second derivative stays below 1, and two roundings.
    interval = 16 / (1 << config.table_bits)
    error = interval**2 / 8 + 2 * 2.0**-table.fraction_out
    assert np.abs(found - function(dequantise(words, table.fraction_in))).max() < error
