"""Random programs on the core against the exact model."""

from __future__ import annotations

from pathlib import Path

import pytest
from tenzo_hw.config import preset
from tenzo_hw.core import Core
from tenzo_sim.bench import run_bench

#: All that a configuration can leave out or do with less.
SPARING = {"lanes": 1, "columns": 4, "sweep_turns": 4, "loss_word": 32, "tables": 0, "incremental": 0}


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("changes", [{}, SPARING], ids=["whole", "sparing"])
def test_programs(tmp_path: Path, changes: dict[str, int], seed: int) -> None:
    config = preset("tiny").replace(**changes)
    parameters = {"config": config.words(), "seed": seed}
    run_bench(Core(config), "bench_programs", tmp_path, parameters=parameters, seed=seed)
