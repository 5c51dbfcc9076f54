"""Contractions as compiled loops give the words of the plain loop nest, and stop at the same address."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from tenzo_hw.config import preset
from tenzo_hw.isa import Activation, Base, Contract, Level, Operand
from tenzo_hw.numbers import round_shift, saturate
from tenzo_sim.contraction import Engine
from tenzo_sim.memories import Memories

CONFIG = preset("tiny").replace(
    lanes=3, columns=5, lane_depth=128, batch_depth=64, weight_rows=64, effective_rows=128, losses=32, output_word=12
)
WIDE = CONFIG.replace(lanes=8, word=18, input_word=18, output_word=20)
REGISTERS = [0, 1, 2, 3, 0xFFFF, 5, 6, 7]


class Outside(Exception):
    """An address outside of its memory."""


def word(memory: np.ndarray, address: int, low: int = 0, high: int | None = None) -> np.ndarray:
    """The words of all lanes, or a row, at a 16-bit address."""
    address %= 1 << 16
    if not low <= low + address < (len(memory) if high is None else high):
        raise Outside
    return memory[low + address]


def constant(config, contract: Contract) -> int:
    """1 << one as a signed word."""
    return (1 << contract.one) - (1 << config.word if contract.one == config.word - 1 else 0)


def operand(config, contract: Contract, source: np.ndarray, memories: Memories, a: int, b: int) -> np.ndarray:
    """Operands of all lanes for one row."""
    one = constant(config, contract)
    match contract.operand:
        case Operand.WORD:
            return word(source, a)
        case Operand.RELU:
            return np.maximum(word(source, a), 0)
        case Operand.IDENTITY:
            word(source, a)
            return np.where(np.arange(config.lanes) == a % (1 << 16), one, 0)
    z = word(memories.lanes, a, high=config.lane_bank)
    e = word(memories.lanes, b, low=config.lane_bank) if contract.operand == Operand.DIFFERENCE else one
    return np.maximum(saturate(z + e, config.word), 0) - np.maximum(z, 0)


def reference(config, contract: Contract, half: int, memories: Memories) -> tuple[np.ndarray, list[int]]:
    """The loop nest, one result after the other: outcomes [results, L] and their output addresses."""
    inner, outer = contract.levels[:2], contract.levels[2:]
    source = memories.batch[half] if contract.from_batch else memories.lanes
    base = {stream: getattr(contract, f"{stream}_base") for stream in "awob"}
    base = {stream: base[stream] + REGISTERS[getattr(contract, f"{stream}_register")] for stream in "awob"}
    outcomes, addresses = [], []
    for turns in itertools.product(*(range(level.count) for level in reversed(outer))):
        turns = turns[::-1]

        def at(stream, k0=0, k1=0, turns=turns):
            moved = sum(turn * getattr(level, stream) for turn, level in zip((k0, k1, *turns), contract.levels))  # noqa: B905
            return base[stream] + moved

        last = turns[contract.tile_level] == outer[contract.tile_level].count - 1
        cols = contract.last_cols if last else contract.cols
        sums = np.zeros((cols, config.lanes), np.int64)
        if contract.bias:
            sums += word(memories.effective, at("b"))[:cols, None] * constant(config, contract)
        for k1, k0 in itertools.product(range(inner[1].count), range(inner[0].count)):
            x = operand(config, contract, source, memories, at("a", k0, k1), at("b", k0, k1))
            sums += word(memories.effective, at("w", k0, k1))[:cols, None] * x
        for column, total in enumerate(sums):
            address = (at("o") + column * contract.col_stride) % (1 << 16)
            shifted = round_shift(total, contract.shift)
            result, outcome = saturate(shifted, config.word), saturate(shifted, config.output_word)
            if contract.activation != Activation.NONE:
                outcome = result = np.maximum(result, 0)
            if contract.store:
                word(memories.lanes, address)[:] = result
            if contract.to_loss and contract.base == Base.ADD:
                word(memories.slots, address)
            outcomes.append(outcome)
            addresses.append(address)
    return np.stack(outcomes), addresses


def random_contract(rng: random.Random, config) -> Contract:
    """Any contraction; often with tiles of different sizes and overlapping results, sometimes leaving its memories."""
    counts = [rng.choice([1, 1, 2, 3]) for _ in range(6)]
    counts[0] = rng.choice([1, 2, 3, 4, 5, 9, 70])
    strides = [0, 0, 0, 1, 1, 2, -1]
    kind = rng.choice(list(Operand))

    def level(number: int) -> Level:
        a, w, o, b = (rng.choice(strides) for _ in range(4))
        is_outer = number >= 2
        return Level(counts[number], a, w, o if is_outer else 0, b if is_outer or kind == Operand.DIFFERENCE else 0)

    cols = rng.randint(1, config.columns)
    to_loss, base = rng.random() < 0.6, rng.choice(list(Base))
    is_difference = to_loss and base == Base.ADD
    return Contract(
        a_base=rng.choice([0, 5, 12, 40]),
        w_base=rng.randrange(8, 16),
        o_base=rng.choice([8, 24, 48]),
        b_base=rng.randrange(8, 16),
        a_register=rng.choice([0, 0, 1, 4]),
        w_register=rng.choice([0, 0, 2, 4]),
        o_register=rng.choice([0, 0, 3, 4]),
        b_register=rng.choice([0, 0, 5, 4]),
        levels=tuple(level(number) for number in range(6)),
        cols=cols,
        last_cols=rng.randint(1, cols),
        col_stride=rng.choice([1, 4, 0xFFFF]),
        tile_level=rng.randrange(4),
        shift=rng.choice([rng.randrange(12), rng.randrange(64)]),
        one=rng.randrange(config.word),
        operand=kind,
        base=base,
        bias=kind == Operand.WORD and rng.random() < 0.5,
        from_batch=kind == Operand.WORD and rng.random() < 0.3,
        to_loss=to_loss,
        store=not is_difference and rng.random() < 0.8,
        activation=rng.choice([Activation.NONE, Activation.RELU]),
    )


def filled(config, seed: int) -> Memories:
    """Memories of random words, extremes among them."""
    words = np.random.default_rng(seed)
    memories, high = Memories(config), 1 << (config.word - 1)
    for array in (memories.lanes, memories.batch, memories.effective, memories.tables):
        array[...] = words.integers(-high, high, array.shape)
        array[words.random(array.shape) < 0.1] = words.choice([-high, high - 1])
    return memories


@pytest.mark.parametrize("config", [CONFIG, WIDE], ids=["short words", "long words"])
@pytest.mark.parametrize("seed", range(250))
def test_loops_equal_the_loop_nest(seed, config):
    rng = random.Random(seed)
    contract = random_contract(rng, config)
    memories, expected = filled(config, seed), filled(config, seed)
    contraction = Engine(config, memories).contraction(contract)
    for half in (0, 1):
        inside = contraction.run(REGISTERS, half)
        try:
            outcomes, addresses = reference(config, contract, half, expected)
        except Outside:
            assert not inside
        else:
            assert inside
            if contract.to_loss:
                np.testing.assert_array_equal(contraction.outcomes, outcomes)
                assert contraction.slots.tolist() == addresses
        np.testing.assert_array_equal(memories.lanes, expected.lanes)


def test_random_contractions_meet_everything():
    met = set()
    for seed in range(250):
        contract = random_contract(random.Random(seed), CONFIG)
        try:
            reference(CONFIG, contract, 0, filled(CONFIG, seed))
        except Outside:
            met.add("outside")
        else:
            is_difference = contract.to_loss and contract.base == Base.ADD
            met |= {contract.operand, (contract.bias, contract.from_batch), ("differences", is_difference)}
    assert met == {"outside", *Operand, *itertools.product([False, True], repeat=2)} | {
        ("differences", is_difference) for is_difference in (False, True)
    }


def test_a_table_is_interpolated():
    memories = filled(CONFIG, 3)
    contract = Contract(
        a_base=0,
        w_base=0,
        o_base=16,
        levels=(Level(),) * 6,
        cols=5,
        last_cols=5,
        col_stride=1,
        shift=9,
        to_loss=True,
        activation=Activation.TABLE0,
    )
    plain = Engine(CONFIG, memories).contraction(replace(contract, activation=Activation.NONE))
    assert plain.run(REGISTERS, 0)
    y = saturate(plain.outcomes, CONFIG.word)
    contraction = Engine(CONFIG, memories).contraction(contract)
    assert contraction.run(REGISTERS, 0)
    entry, fraction = y + (1 << 8) >> 4, y & 15
    value, slope = memories.tables[0, entry, 0], memories.tables[0, entry, 1]
    wanted = saturate(value + round_shift(slope * fraction, 4), CONFIG.word)
    np.testing.assert_array_equal(contraction.outcomes, wanted)
    np.testing.assert_array_equal(memories.lanes[16:21], wanted)
