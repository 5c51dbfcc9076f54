"""The sequencer against its model and the manual's rule of issue."""

from __future__ import annotations

from pathlib import Path

import pytest
from tenzo_hw.config import preset
from tenzo_hw.sequencer import Sequencer
from tenzo_sim.bench import run_bench


@pytest.mark.parametrize("seed", [1, 2])
def test_sequencer(tmp_path: Path, seed: int) -> None:
    parameters = {"config": "tiny", "programs": 200, "seed": seed}
    run_bench(Sequencer(preset("tiny")), "bench_sequencer", tmp_path, parameters=parameters, seed=seed)
