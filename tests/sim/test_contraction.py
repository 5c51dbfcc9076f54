"""Contractions as matrix products give the words of the plain loop nest."""

import itertools
import random

import numpy as np
import pytest
from tenzo_hw.config import preset
from tenzo_hw.isa import Activation, Contract, Level
from tenzo_hw.numbers import round_shift, saturate
from tenzo_sim.contraction import Scratch, contraction
from tenzo_sim.memories import Memories

CONFIG = preset("tiny").replace(lane_depth=64, batch_depth=64, weight_rows=64)


def reference(contract: Contract, half: int, memories: Memories) -> np.ndarray:
    """The loop nest, one result after the other."""
    inner, outer = contract.levels[:2], contract.levels[2:]
    lanes = memories.batch[half] if contract.from_batch else memories.lanes
    drained = []
    for turns in itertools.product(*(range(level.count) for level in reversed(outer))):
        turns = turns[::-1]

        def at(stream, turns=turns):
            return sum(turn * getattr(level, stream) for turn, level in zip(turns, outer, strict=True))

        last = turns[contract.tile_level] == outer[contract.tile_level].count - 1
        results = []
        for column in range(contract.last_cols if last else contract.cols):
            acc = np.zeros(CONFIG.lanes, np.int64)
            if contract.bias:
                acc += memories.effective[contract.b_base + at("b"), column] << contract.one
            for k1, k0 in itertools.product(range(inner[1].count), range(inner[0].count)):
                a = contract.a_base + at("a") + k0 * inner[0].a + k1 * inner[1].a
                w = contract.w_base + at("w") + k0 * inner[0].w + k1 * inner[1].w
                acc += lanes[:, a] * memories.effective[w, column]
            result = saturate(round_shift(acc, contract.shift), CONFIG.word)
            results.append(np.maximum(result, 0) if contract.activation == Activation.RELU else result)
        for column, result in enumerate(results):
            if contract.store:
                memories.lanes[:, contract.o_base + at("o") + column * contract.col_stride] = result
        drained += results
    return np.stack(drained, axis=1)


def random_contract(rng: random.Random) -> Contract:
    """A contraction whose addresses lie inside; often with tiles of different sizes and overlapping results."""
    counts = [rng.choice([1, 1, 2, 3]) for _ in range(6)]
    strides = [0, 0, 1, 1, 2, 3]

    def level(number: int) -> Level:
        a, w, o, b = (rng.choice(strides) for _ in range(4))
        return Level(counts[number], a, w, o, b) if number >= 2 else Level(counts[number], a, w)

    cols = rng.randint(1, CONFIG.columns)
    return Contract(
        a_base=rng.randrange(16),
        w_base=rng.randrange(16),
        o_base=rng.choice([0, 32]),
        b_base=rng.randrange(16),
        levels=tuple(level(number) for number in range(6)),
        cols=cols,
        last_cols=rng.randint(1, cols),
        col_stride=rng.choice([1, 4]),
        tile_level=rng.randrange(4),
        shift=rng.randrange(12),
        one=rng.randrange(CONFIG.word - 1),
        bias=rng.random() < 0.5,
        from_batch=rng.random() < 0.3,
        to_loss=rng.random() < 0.5,
        store=rng.random() < 0.8,
        activation=rng.choice([Activation.NONE, Activation.RELU]),
    )


@pytest.mark.parametrize("seed", range(300))
def test_plan_equals_the_loop_nest(seed):
    rng = random.Random(seed)
    words = np.random.default_rng(seed)
    contract = random_contract(rng)
    memories, expected = Memories(CONFIG), Memories(CONFIG)
    for name in ("lanes", "batch", "effective"):
        array = getattr(memories, name)
        array[...] = words.integers(-256, 256, array.shape)
        getattr(expected, name)[...] = array
    run = contraction(CONFIG, contract, (0, 0, 0, 0), memories, Scratch())
    for half in (0, 1):
        drained = run(half)
        wanted = reference(contract, half, expected)
        np.testing.assert_array_equal(memories.lanes, expected.lanes)
        if contract.to_loss:
            np.testing.assert_array_equal(drained, wanted)
