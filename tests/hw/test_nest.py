"""The loop nest's rows against the addresses of ``nest``."""

import pytest
from tenzo_hw.config import preset
from tenzo_hw.loop_nest import LoopNest
from tenzo_sim.bench import run_bench


@pytest.mark.parametrize("seed", [1])
def test_loop_nest(seed, tmp_path):
    config = preset("tiny").replace(columns=5, lane_depth=128)
    run_bench(LoopNest(config=config), "bench_nest", tmp_path, parameters={"config": config.words()}, seed=seed)
