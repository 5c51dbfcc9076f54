"""The engine's model against the words of docs/machine.md, and the engine against its model."""

import numpy as np
import pytest
from contractions import random_contract, random_words
from tenzo_hw.config import preset
from tenzo_hw.engine import ContractionEngine, model
from tenzo_hw.isa import Activation, Operand
from tenzo_hw.numbers import round_shift, saturate
from tenzo_sim.bench import run_bench


def turns(levels):
    """All turns of the levels, innermost first."""
    if not levels:
        yield ()
        return
    for outer in turns(levels[1:]):
        for inner in range(levels[0].count):
            yield (inner, *outer)


def offset(levels, turn, stream):
    """How far a stream has moved."""
    return sum(count * getattr(level, stream) for level, count in zip(levels, turn, strict=True))


def outcome(config, contract, total, tables):
    """A sum's word on its way to the loss."""
    if contract.activation == Activation.NONE:
        return saturate(round_shift(total, contract.shift), config.output_word)
    y = saturate(round_shift(total, contract.shift), config.word)
    if contract.activation == Activation.RELU:
        return max(y, 0)
    below = config.word - config.table_bits
    index, fraction = divmod(y + (1 << config.word - 1), 1 << below)
    value, slope = tables[contract.activation - Activation.TABLE0, index].tolist()
    return saturate(value + round_shift(slope * fraction, below), config.word)


def constant(config, contract):
    """The bias constant as a word."""
    return -(1 << contract.one) if contract.one == config.word - 1 else 1 << contract.one


def operand(config, contract, number, lane, batch, a, b):
    """What a weight meets in the lane of this number."""
    if contract.operand == Operand.IDENTITY:
        return constant(config, contract) if number == a else 0
    if contract.operand == Operand.WORD:
        return int(batch[a] if contract.from_batch else lane[a])
    z = int(lane[a])
    if contract.operand == Operand.RELU:
        return max(z, 0)
    e = int(lane[config.lane_depth // 2 + b]) if contract.operand == Operand.DIFFERENCE else constant(config, contract)
    return max(saturate(z + e, config.word), 0) - max(z, 0)


def contracted(config, contract, number, lane, batch, weights, tables):
    """One lane's results, one number after the other."""
    reduction, outer = contract.levels[:2], contract.levels[2:]
    results = []
    for at in turns(outer):
        is_last = at[contract.tile_level] == outer[contract.tile_level].count - 1
        words = []
        for column in range(contract.last_cols if is_last else contract.cols):
            total = 0
            if contract.bias:
                total = int(weights[contract.b_base + offset(outer, at, "b"), column]) * constant(config, contract)
            for turn in turns(reduction):
                a = contract.a_base + offset(outer, at, "a") + offset(reduction, turn, "a")
                w = contract.w_base + offset(outer, at, "w") + offset(reduction, turn, "w")
                b = contract.b_base + offset(outer, at, "b") + offset(reduction, turn, "b")
                total += operand(config, contract, number, lane, batch, a, b) * int(weights[w, column])
            words.append(outcome(config, contract, total, tables))
        stride = (contract.col_stride + 0x8000) % 0x10000 - 0x8000
        for column, word in enumerate(words):
            if contract.store:
                lane[contract.o_base + offset(outer, at, "o") + column * stride] = saturate(word, config.word)
        results += words
    return results


@pytest.mark.parametrize("seed", range(3))
def test_model_is_the_manual(seed):
    rng = np.random.default_rng(seed)
    config = preset("tiny").replace(lanes=2, columns=3, word=18 if seed else 9, output_word=20, tables=2)
    entries = (2, 1 << config.table_bits)
    for _ in range(60):
        contract = random_contract(rng, config)
        lanes = random_words(rng, config.word, (2, config.lane_depth))
        batch = random_words(rng, config.input_word, (2, config.batch_depth))
        weights = random_words(rng, config.word, (config.effective_rows, config.columns))
        tables = np.stack([random_words(rng, config.word + more, entries) for more in (0, 1)], axis=-1)
        after = lanes.copy()
        expected = [
            contracted(config, contract, number, after[number], batch[number], weights, tables) for number in range(2)
        ]
        assert model(config, contract, lanes, batch, weights, tables).tolist() == expected
        assert lanes.tolist() == after.tolist()


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize(
    "changes",
    [
        {"output_word": 18},
        {"lanes": 3, "columns": 4, "word": 18, "output_word": 20, "tables": 0, "lane_depth": 128, "batch_depth": 64},
    ],
    ids=str,
)
def test_engine(changes, seed, tmp_path):
    config = preset("tiny").replace(**changes)
    run_bench(ContractionEngine(config), "bench_engine", tmp_path, parameters={"config": config.words()}, seed=seed)
