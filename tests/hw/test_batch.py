"""The batch halves in Verilator."""

import pytest
from tenzo_hw.batch import BatchHalves
from tenzo_sim.bench import run_bench


@pytest.mark.parametrize("seed", [1])
def test_halves(tmp_path, seed):
    run_bench(BatchHalves(), "bench_batch", tmp_path, seed=seed)
