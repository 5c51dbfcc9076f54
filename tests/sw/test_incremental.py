"""Incremental coordinate-wise steps: the same loss differences as one forward a word."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tenzo import TT, Dense, Device, Network, ReLU, Settings, Tanh, Trainer
from tenzo.formats import Formats, LayerFormat
from tenzo.incremental import Incremental, walk_of
from tenzo.orientation import Orientation
from tenzo.plan import plan
from tenzo_hw.config import Config, preset
from tenzo_sim.model import ModelTransport

SMALL = preset("small").replace(columns=5, program_depth=1 << 14, output_word=24)
MU = 2**-4


def losses(
    network: Network,
    config: Config,
    estimator: str,
    *,
    batch: int = 8,
    formats: Formats | None = None,
    mu: float = MU,
    stretch: int = 0,
    positive: bool = False,
) -> tuple[np.ndarray, Trainer, ModelTransport]:
    """Slots after one step on random samples, and the machine. ``positive``: of weights not below 0, inputs 0 or 1."""
    random = np.random.default_rng(3)
    x = random.uniform(0, 1, (batch, network.inputs))
    x = x.round() if positive else x
    y = random.integers(0, network.outputs, batch)
    targets = y if network.loss == "cross_entropy" else random.normal(size=(batch, network.outputs))
    transport = ModelTransport(config)
    with Device(transport, expected=config) as device:
        settings = Settings(estimator=estimator, mu=mu, stretch=stretch, rate=0.01, normalise=False)
        trainer = Trainer(network, config, settings, formats, device, batch=batch, steps=4, seed=5)
        weights = network.initial_weights(5)
        trainer.start({name: np.abs(value) for name, value in weights.items()} if positive else weights)
        trainer.train(x, targets, until=1)
        return device.read_losses(network.parameters + 1), trainer, transport


NETWORKS = {
    "three cores": Network([TT([3, 2, 4], [2, 3, 4], 2), ReLU(), TT([4, 3, 2], [1, 2, 5], 3)]),
    "four cores": Network([TT([2, 3, 2, 2], [3, 2, 2, 3], 2), ReLU(), TT([3, 2, 2, 3], [1, 3, 2, 1], 2)]),
    "two cores, more classes than columns": Network([TT([4, 4], [4, 3], 3), ReLU(), TT([4, 3], [3, 4], 2)]),
    "dense output": Network([TT([4, 4], [4, 4], 3), ReLU(), Dense(16, 7)]),
    "dense": Network([Dense(6, 8), ReLU(), Dense(8, 3)]),
    "one layer": Network([TT([4, 3, 2], [1, 3, 2], 2)]),
    "one dense layer": Network([Dense(5, 4)]),
    "no bias": Network([TT([4, 4], [4, 4], 2, bias=False), ReLU(), TT([4, 4], [2, 3], 2, bias=False)]),
    "values": Network([TT([4, 4], [4, 4], 2), ReLU(), TT([4, 4], [1, 3], 2)], loss="squared_error"),
}


#: Few words, but a dense form of many rows.
WIDE = Network([TT([4, 4], [16, 16], 1), ReLU(), TT([16, 16], [2, 5], 1)])


@pytest.mark.parametrize("name", NETWORKS)
def test_differences_of_incremental_and_plain_steps_agree_to_rounding(name: str) -> None:
    """The bound: a difference of outputs is rounded once more, an environment and a dense word once each.

    So two loss differences are apart by at most a few last bits of the outputs of every sample.
    """
    network = NETWORKS[name]
    config = SMALL.replace(word=18, output_word=24)
    plain, trainer, _ = losses(network, config, "cge")
    incremental, _, _ = losses(network, config, "incremental-cge")
    assert plain[0] == incremental[0]
    differences, wanted = (slots[1:] - slots[0] for slots in (incremental, plain))
    assert np.abs(wanted).max() > 0
    formats = trainer.plan.formats
    hidden = formats.layers[0].total
    # Errors of half a last bit of z in each of the units that an entry touches, through weights of at most 2.
    bits = 16 if network.loss == "cross_entropy" else 2 * formats.loss
    units = max(network.stages[0].layer.output_count, 8)
    bound = 8 * units * 2.0 ** (bits - hidden)
    print(name, "largest deviation", np.abs(differences - wanted).max(), "bound", bound)
    assert np.abs(differences - wanted).max() <= bound
    assert np.corrcoef(differences, wanted)[0, 1] > 0.99


def exact_formats(network: Network) -> Formats:
    """Fraction bits that add up, so that nothing is ever rounded, for layers of one or two cores."""
    inputs, weights, layers = 2, 3, []
    fraction = inputs
    for stage in network.stages:
        inner = fraction + weights
        fraction += weights * len(stage.layer.inputs)
        layers.append(LayerFormat(inner=inner, total=fraction, output=fraction))
    return Formats(inputs=inputs, weights=weights, layers=tuple(layers), loss=fraction, dense=2 * weights)


#: Of layers of one or two cores: fraction bits that add up stay within a word.
EXACT = {
    "two cores": Network([TT([2, 3], [3, 4], 2), ReLU(), TT([3, 4], [2, 3], 2)]),
    "dense": Network([Dense(6, 8), ReLU(), Dense(8, 3)]),
    "dense output": Network([TT([4, 2], [2, 4], 3), ReLU(), Dense(8, 7)]),
}


@pytest.mark.parametrize("network", EXACT.values(), ids=EXACT)
def test_without_rounding_the_differences_are_the_same_words(network: Network) -> None:
    config = SMALL.replace(word=18, output_word=24)
    formats = exact_formats(network)
    mu = 2.0**-formats.weights
    plain, _, _ = losses(network, config, "cge", formats=formats, mu=mu)
    incremental, _, _ = losses(network, config, "incremental-cge", formats=formats, mu=mu)
    assert len(np.unique(plain)) > network.parameters // 4
    assert plain.tolist() == incremental.tolist()


@pytest.mark.parametrize("network", EXACT.values(), ids=EXACT)
def test_a_stretched_move_gives_the_same_words_where_no_relu_changes_sides(network: Network) -> None:
    """No weight is below 0, so pre-activations are not. Inputs of whole numbers leave two bits that mu can take."""
    formats = exact_formats(network)
    mu = 2.0**-formats.weights / 4
    config = SMALL.replace(word=18, output_word=24)
    how: dict[str, Any] = {"formats": formats, "mu": mu, "positive": True}
    plain, _, _ = losses(network, config, "incremental-cge", **how)
    stretched, _, _ = losses(network, config, "incremental-cge", **how, stretch=2)
    assert len(np.unique(plain)) > network.parameters // 4
    assert plain.tolist() == stretched.tolist()


def test_short_words_hold_the_moves_of_a_small_mu_when_stretched() -> None:
    network, mu = NETWORKS["three cores"], 2**-6
    exact, _, _ = losses(network, SMALL.replace(word=18), "cge", mu=mu)
    narrow, _, _ = losses(network, SMALL.replace(word=9, input_word=9), "incremental-cge", mu=mu, stretch=4)
    assert np.corrcoef(exact[1:] - exact[0], narrow[1:] - narrow[0])[0, 1] > 0.95
    with pytest.raises(ValueError, match="their 4 fraction bits take 2\\*\\*-4 to"):
        losses(network, SMALL.replace(word=9, input_word=9), "incremental-cge", mu=mu)


def words_of(orientation: Orientation, effective: np.ndarray) -> np.ndarray:
    """A core's words [left, n, m, right] as an orientation says where they lie."""
    left, n, m, right = np.indices(orientation.shape)
    part = orientation.shape[2] // orientation.slices
    slice_, m = np.divmod(m, part)
    column = m if orientation.left_rows else left * part + m
    column = column if orientation.right_rows else column * orientation.shape[3] + right
    tile, column = np.divmod(column, orientation.tile_cols)
    row = orientation.row + (slice_ * orientation.tiles + tile) * orientation.reduced + n * orientation.strides[1]
    row = (
        row
        + left * orientation.strides[0] * orientation.left_rows
        + right * orientation.strides[2] * orientation.right_rows
    )
    return effective[row, column]


@pytest.mark.parametrize("name", ["three cores", "four cores", "two cores, more classes than columns"])
def test_turned_cores_and_dense_form_are_those_of_the_weights(name: str) -> None:
    network = NETWORKS[name]
    _, trainer, transport = losses(network, SMALL, "incremental-cge")
    effective = transport.machine.memories.effective
    incremental = Incremental(trainer.plan, MU)
    cores = []
    for layer, stage in enumerate(network.stages):
        for core in range(len(stage.layer.inputs)):
            stored = words_of(incremental.forming.stored[layer][core], effective)
            if layer == 1:
                cores.append(stored / 2.0**trainer.plan.formats.weights)
            for left_rows, right_rows in ((True, False), (False, True)):
                turned = incremental.forming.turned.get((layer, core, left_rows, right_rows))
                if turned is not None:
                    assert (words_of(turned, effective) == stored).all()
    dense = cores[0]
    for core in cores[1:]:
        dense = np.einsum("anmb,bpqc->anpmqc", dense, core)
        dense = dense.reshape(1, dense.shape[1] * dense.shape[2], -1, dense.shape[-1])
    readout = incremental.forming.dense
    tiles = [
        effective[readout.row + tile * readout.units : readout.row + (tile + 1) * readout.units, : readout.tile_cols]
        for tile in range(readout.tiles)
    ]
    formed = np.concatenate(tiles, axis=1)[:, : network.outputs]
    # Each of the contractions but the first rounds to half a last bit; a core's words are below 2.
    steps = len(network.stages[1].layer.inputs) - 1
    largest = 2 * max(network.stages[1].layer.ranks, default=1)
    bound = sum(largest**step for step in range(steps)) / 2 * 2.0**-readout.fraction
    assert np.abs(formed * 2.0**-readout.fraction - dense[0, :, :, 0]).max() <= bound


@pytest.mark.parametrize("seed", range(20))
def test_walks_of_nested_counters(seed: int) -> None:
    print("seed", seed)
    random = np.random.default_rng(seed)
    counts, strides = random.integers(2, 5, 3), random.integers(1, 9, 3) * [1, 40, 1600]
    grid = np.indices(counts[::-1]).reshape(3, -1)
    walk = walk_of(7 + (grid * strides[::-1, None]).sum(axis=0))
    again = [0]
    for count, stride in walk:
        again = [value + turn * stride for turn in range(count) for value in again]
    assert again == (grid * strides[::-1, None]).sum(axis=0).tolist()


def test_a_walk_without_even_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="5 words are not in even steps"):
        walk_of(np.array([0, 1, 3, 4, 9]))


@pytest.mark.parametrize(
    ("network", "config", "message"),
    [
        (Network([Dense(4, 4), ReLU(), Dense(4, 4), ReLU(), Dense(4, 2)]), SMALL, "the network has 3"),
        (Network([Dense(4, 4), Tanh(), Dense(4, 2)]), SMALL, "need a ReLU between"),
        (Network([Dense(4, 4), ReLU(), Dense(4, 2), ReLU()]), SMALL, "outputs without a function"),
        (NETWORKS["three cores"], SMALL.replace(lane_depth=32), "lower bank|words of a lane|do not fit"),
        (NETWORKS["three cores"], SMALL.replace(incremental=0), "need a machine with incremental=1"),
        (NETWORKS["three cores"], SMALL.replace(losses=64), "losses a step are needed, the machine has 64"),
        (
            WIDE,
            SMALL.replace(weight_rows=256, effective_rows=512),
            "rows of effective words are needed, the machine has 512",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_numbers(network: Network, config: Config, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Incremental(plan(network, config, 4, coordinates=True), MU)


def test_the_papers_network_takes_a_thousandth_of_plain_steps() -> None:
    """Exact figures of a step of 64 samples: any change of planner or machine shows here."""
    network = Network([TT([7, 4, 4, 7], [8, 4, 4, 8], 6), ReLU(), TT([8, 4, 4, 8], [1, 5, 2, 1], 6)])
    settings = Settings(estimator="incremental-cge", mu=2**-6, rate=0.2, normalise=False)
    trainer = Trainer(network, preset("engine_16x10"), settings, batch=64, steps=10)
    forward = trainer.plan.forward_cycles
    assert trainer.step_utilisation >= 0.85
    assert trainer.step_cycles < 32 * forward
    assert math.isclose(sum(part.cycles for part in trainer.parts()), trainer.step_cycles)
