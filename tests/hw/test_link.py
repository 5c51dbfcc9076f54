"""The link's gateware against the endpoint in Python."""

import pytest
from tenzo_hw.config import preset
from tenzo_hw.link import Link
from tenzo_sim.bench import run_bench


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("changes", [{"packet": 64, "program_depth": 64}], ids=str)
def test_link(changes, seed, tmp_path):
    config = preset("tiny").replace(**changes)
    run_bench(Link(config), "bench_link", tmp_path, parameters={"config": config.words()}, seed=seed)
