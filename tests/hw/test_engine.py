"""The contraction engine against its model, in every result and every cycle, and what it refuses."""

import numpy as np
import pytest
from tenzo_hw.config import preset
from tenzo_hw.engine import ContractionEngine, model
from tenzo_hw.isa import Activation, Contract, Level
from tenzo_sim.bench import run_bench

TINY = preset("tiny")
ONE = Level()
CONFIGS = [
    {},
    {"lanes": 3, "columns": 4, "word": 18, "master_word": 32, "input_word": 12, "tables": 0},
    {"lanes": 1, "columns": 3, "word": 16, "master_word": 32, "tables": 2, "table_bits": 4},
]


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_gateware_is_the_model(changes, seed, tmp_path):
    config = TINY.replace(**changes)
    run_bench(ContractionEngine(config), "bench_engine", tmp_path, parameters={"config": config.words()}, seed=seed)


def test_model_by_hand():
    lanes = np.zeros((2, TINY.lane_depth), np.int64)
    lanes[:, :4] = [[1, 2, 3, 4], [-1, 0, 1, 200]]
    batch = np.zeros((2, TINY.batch_depth), np.int64)
    weights = np.zeros((TINY.effective_rows, 2), np.int64)
    weights[:2] = [[1, 10], [2, -20]]
    weights[5] = [3, 0]
    tables = np.zeros((1, 32, 2), np.int64)
    contract = Contract(
        a_base=0, w_base=0, o_base=10, b_base=5, levels=(Level(2, 1, 1), ONE, Level(2, 2, 0, 2), ONE, ONE, ONE),
        cols=2, last_cols=2, col_stride=1, shift=1, bias=True, one=1, activation=Activation.RELU,
    )  # fmt: skip
    # Lane 0: 1*1 + 2*2 + 3*2 = 11 -> 5.5 -> 6; 10 - 40 = -30 -> 0; 3 + 8 + 6 = 17 -> 9; 30 - 80 -> 0.
    # Lane 1: -1 + 0 + 6 = 5 -> 3; -10 -> 0; 1 + 400 + 6 = 407 -> 204; 10 - 4000 -> 0.
    expected = [[6, 0, 9, 0], [3, 0, 204, 0]]
    assert model(TINY, contract, lanes, batch, weights, tables).tolist() == expected
    assert lanes[:, 10:14].tolist() == expected
