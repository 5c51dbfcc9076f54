"""Plans: the contractions of a program give the words of a TT reference, and everything that does not fit says why."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenzo.chain import Room, chain_words, make_step, search
from tenzo.formats import dequantise
from tenzo.network import TT, Dense, Network, ReLU, Sigmoid, Sine, Tanh
from tenzo.plan import Plan, largest_batch, plan
from tenzo.program import Line, Program, lines
from tenzo.step import prediction_program
from tenzo_hw.config import Config, preset
from tenzo_hw.isa import Halt
from tenzo_hw.numbers import round_shift

DIGITS = Network([TT((8, 8), (8, 8), 4), ReLU(), TT((8, 8), (1, 10), 4)])
MNIST = Network([TT((7, 4, 4, 7), (8, 4, 4, 8), 6), ReLU(), TT((8, 4, 4, 8), (1, 5, 2, 1), 6)])
BIG = preset("engine_16x8")
ROOMY = preset("tiny").replace(
    weight_rows=1024, effective_rows=2048, batch_depth=1024, lane_depth=1024, tables=2, target_depth=256
)


@st.composite
def layers(draw: st.DrawFn, inputs: int | None = None) -> TT:
    """A small TT layer, with these inputs if given."""
    sizes = st.integers(1, 4)
    count = draw(st.integers(1, 3))
    ns = [draw(sizes) for _ in range(count)]
    if inputs is not None:
        ns = []
        for _ in range(count - 1):
            rest = inputs // math.prod(ns)
            ns.append(draw(st.sampled_from([part for part in range(1, rest + 1) if rest % part == 0])))
        ns.append(inputs // math.prod(ns))
    ms = [draw(sizes) for _ in range(count)]
    return TT(ns, ms, draw(st.integers(1, 4)), bias=draw(st.booleans()))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    items: list = []
    inputs = None
    for _ in range(draw(st.integers(1, 3))):
        items.append(draw(layers(inputs)))
        inputs = items[-1].output_count
        if draw(st.booleans()):
            items.append(draw(st.sampled_from([ReLU(), Tanh(), Sine(), Sigmoid()])))
    if items and inputs == 1:
        items.append(Dense(1, 2))
    return Network(items, draw(st.sampled_from(["cross_entropy", "squared_error"])))


@st.composite
def configs(draw: st.DrawFn) -> Config:
    lanes = draw(st.integers(1, 3))
    word = draw(st.integers(8, 18))
    return ROOMY.replace(
        lanes=lanes,
        columns=draw(st.integers(1, 5)),
        word=word,
        output_word=draw(st.integers(word, 24)),
        input_word=draw(st.integers(4, word)),
        master_word=min(word + 12, 32),
        tables=4,
        outputs=64,
        table_bits=draw(st.integers(3, 7)),
        target_depth=1024,
        program_depth=4096,
    )


def effective(found: Plan, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Effective words [weight_rows, C] of random weights, their tensors, and the float weights."""
    random = np.random.default_rng(seed)
    weights = found.network.initial_weights(seed)
    for name in weights:
        if name.endswith("bias"):
            weights[name] = random.normal(0, 0.2, weights[name].shape)
    masters = found.pack(weights)
    rows = round_shift(masters, found.config.master_extra)
    words = {name: rows.reshape(-1)[places] for name, places in found.layout.places.items()}
    return rows, words, weights


def outputs_of(
    found: Plan, program: list, rows: np.ndarray, x: np.ndarray, half: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Float outputs that a program leaves in the lanes, and the words that went to the loss.

    ``rows``: the words of one half; the other holds others.
    """
    machine = naive.Contractions(found, np.concatenate([rows, ~rows] if half == 0 else [~rows, rows]), x)
    machine.run(program)
    start, count = found.output_area
    return found.outputs(machine.lanes[:, start : start + count]), machine.losses


def check_forward(found: Plan, seed: int) -> None:
    """Every way to write the forward gives the reference's words, in the lanes and to the loss."""
    rows, words, _ = effective(found, seed)
    x = found.input_words(np.random.default_rng(seed).normal(0, 0.5, (found.batch, found.network.inputs)))
    expected = naive.forward(found, words, x)
    to_loss = naive.forward(found, words, x, to_loss=True).reshape(found.groups, found.config.lanes, -1)[
        :, :, found.layout.output_order
    ]
    for half in (0, 1):
        for loops in ({}, {"loop_slices": False, "loop_passes": False}):
            written = [line.instruction for line in lines(found.forward(half, predict=True, **loops))]
            values, losses = outputs_of(found, written, rows, x, half)
            assert np.array_equal(values, dequantise(expected, found.formats.output))
            assert not losses
            written = [line.instruction for line in lines(found.forward(half, **loops))]
            _, losses = outputs_of(found, written, rows, x, half)
            assert np.array_equal(np.stack(losses), to_loss)


@settings(max_examples=60, deadline=None)
@given(networks(), configs(), st.integers(1, 3), st.integers(0, 1 << 16))
def test_random_networks_on_random_machines(network: Network, config: Config, groups: int, seed: int) -> None:
    found = plan(network, config, groups * config.lanes)
    check_forward(found, seed)
    # Building checks the memories, and that nothing is read before it is there.
    prediction_program(found)


@settings(max_examples=25, deadline=None)
@given(layers(), st.integers(1, 5), st.integers(0, 1 << 16))
def test_sliced_chains_give_the_same_words(layer: TT, columns: int, seed: int) -> None:
    network = Network([layer, Dense(layer.output_count, 3)])
    config = ROOMY.replace(columns=columns, word=18, output_word=18, master_word=30)
    room = Room(words=1 << 20, input_in_lane=False, output_in_lane=True)
    whole = search(layer, config, 1, room)
    assert whole is not None
    need = chain_words(layer, whole, room)
    depth = 1 << max(4, (need + 3).bit_length() - 1)
    try:
        found = plan(network, config.replace(lane_depth=depth), config.lanes)
    except ValueError:
        return
    check_forward(found, seed)


def test_slices_fit_intermediates_into_small_lanes() -> None:
    network = Network([TT((4, 4, 4), (4, 4, 4), 4), ReLU(), TT((4, 4, 4), (1, 2, 2), 3)])
    wide = plan(network, ROOMY.replace(lane_depth=4096), 4)
    narrow = plan(network, ROOMY.replace(lane_depth=256), 4)
    assert wide.layout.layers[0].chain.slices == 1
    assert narrow.layout.layers[0].chain.slices > 1
    for found in (wide, narrow):
        check_forward(found, 3)


@pytest.mark.parametrize(
    ("network", "seed"), [(DIGITS, 0), (Network([TT((4, 4), (4, 4), 2), Tanh(), Dense(16, 3)]), 1)]
)
def test_words_are_near_the_float_forward(network: Network, seed: int) -> None:
    config = preset("engine_16x8").replace(lanes=2, loss_pipes=1)
    found = plan(network, config, 4)
    rows, _, weights = effective(found, seed)
    x = np.random.default_rng(seed).uniform(0, 1, (4, network.inputs))
    words = found.input_words(x)
    written = [line.instruction for line in lines(found.forward(0, predict=True))]
    values, _ = outputs_of(found, written, rows, words, half=0)
    # Inputs are exact to half of their last bit; weights and results to 2^-13 or so.
    exact = network.forward(weights, dequantise(words, found.formats.inputs))
    assert np.abs(values - exact).max() < 2**-6


@settings(max_examples=40, deadline=None)
@given(networks(), configs(), st.integers(0, 1 << 16))
def test_pack_and_unpack(network: Network, config: Config, seed: int) -> None:
    found = plan(network, config, config.lanes)
    weights = network.initial_weights(seed)
    masters = found.pack(weights)
    assert masters.shape == (config.weight_rows, config.columns)
    places = np.concatenate([place.reshape(-1) for place in found.layout.places.values()])
    assert len(np.unique(places)) == len(places) == network.parameters
    assert places.max() < found.rows * config.columns
    again = found.unpack(masters)
    limit = 2.0 ** (config.master_word - 1 - found.master_fraction)
    for name, weight in weights.items():
        assert again[name].shape == weight.shape
        assert np.abs(again[name] - np.clip(weight, -limit, limit)).max() <= 2.0**-found.master_fraction


def test_labels_and_targets_follow_the_order_of_the_outputs() -> None:
    found = plan(MNIST, BIG, 64)
    order = found.layout.output_order
    assert not np.array_equal(order, np.arange(10))
    labels = np.arange(10)
    assert np.array_equal(order[found.target_words(labels)], labels)
    regression = plan(Network(MNIST.layers, "squared_error"), BIG, 16)
    values = np.random.default_rng(0).normal(size=(16, 10))
    words = regression.target_words(values).reshape(16, 10)
    assert np.array_equal(
        words[:, 3], regression.target_words(np.roll(values, -order[3], 1)[:, [0] * 10]).reshape(16, 10)[:, 0]
    )


def test_utilisation_of_the_papers_network() -> None:
    found = plan(MNIST, BIG, 64)
    assert MNIST.parameters == 3962
    assert found.utilisation >= 0.945
    assert found.forward_cycles == 189_076
    assert sum(use.macs for use in found.layer_uses()) == found.macs


def test_utilisation_of_digits() -> None:
    found = plan(DIGITS, BIG, 64)
    assert DIGITS.parameters == 938
    # No cycle is lost beyond tiles: 4 groups of 256 + 264 + 64 + 66 rows.
    assert found.forward_cycles == 4 * (256 + 264 + 64 + 66)


def test_small_networks_fit_the_tiny_machine() -> None:
    network = Network([TT((4, 4), (4, 4), 3), ReLU(), TT((4, 4), (1, 4), 2)])
    found = plan(network, preset("tiny"), 8)
    prediction_program(found)
    check_forward(found, 0)


def test_search_is_no_worse_than_left_to_right() -> None:
    layer = MNIST.stages[1].layer
    room = Room(words=1 << 20, input_in_lane=True, output_in_lane=False)
    found = search(layer, BIG, 1, room)
    assert found is not None
    left = [make_step(layer, frozenset(range(core)), core, 0, 1) for core in range(4)]
    assert found.cycles(BIG, 1) < sum(step.cycles(BIG, 1) for step in left)
    assert found.macs < sum(step.macs() for step in left)


@pytest.mark.parametrize(
    ("network", "config", "batch", "said"),
    [
        (DIGITS, BIG, 65, "batch=65 is not possible: a multiple of the machine's 16 lanes, such as 64"),
        (DIGITS, BIG, 0, "such as 16"),
        (DIGITS, BIG, 2048, "at most 512 samples"),
        (MNIST, BIG, 128, "at most 80 samples"),
        (Network([Dense(5000, 10)]), BIG, 16, "5000 inputs .* too many"),
        (Network([Dense(64, 20)]), BIG, 16, "20 outputs are too many: .* at most 16"),
        (Network([Dense(784, 128), ReLU(), Dense(128, 10)]), BIG, 16, "weight rows of 8, the machine has 1024"),
        (Network([Dense(8, 4), Tanh(), Dense(4, 4), Sine()]), preset("tiny"), 2, "2 activation tables .* has 1"),
        (
            Network([TT((8, 8), (64, 64), 16), ReLU(), Dense(4096, 2, bias=False)]),
            preset("small"),
            4,
            "results between .* layer0 needs",
        ),
        (
            Network([TT((8, 8), (64, 64), 16), ReLU(), Dense(4096, 2)]),
            preset("small"),
            4,
            "layer1 sums more than 4096 products",
        ),
        (Network([Dense(8, 10)]), preset("tiny").replace(lane_depth=64), 14, "largest batch that fits is 12"),
    ],
)
def test_what_does_not_fit_says_so(network: Network, config: Config, batch: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan(network, config, batch)


def test_largest_batch_is_planned() -> None:
    assert largest_batch(MNIST, BIG) == 80
    assert plan(MNIST, BIG, 80).groups == 5


def test_wrong_samples_are_refused() -> None:
    found = plan(DIGITS, BIG, 64)
    with pytest.raises(ValueError, match=r"\(64, 63\) instead of \(samples, 64\)"):
        found.input_words(np.zeros((64, 63)))
    with pytest.raises(ValueError, match="0 to 9"):
        found.target_words(np.full(64, 10))
    with pytest.raises(ValueError, match="not finite"):
        found.input_words(np.full((64, 64), np.nan))


def test_forward_of_a_whole_machine_is_a_program() -> None:
    found = plan(DIGITS, BIG, 64)
    program = Program.build([Line(found.loss()), *found.forward(0), Line(Halt())], BIG)
    assert len(program.words) <= BIG.program_depth
