"""Random programs on the core against the exact model."""

from __future__ import annotations

from pathlib import Path

import pytest
from tenzo_hw.config import preset
from tenzo_hw.machine import core_of
from tenzo_sim.bench import run_bench

#: All that a configuration can leave out or do with less.
SPARING = {"lanes": 1, "columns": 4, "sweep_turns": 4, "loss_word": 32, "tables": 0, "incremental": 0}
#: The same on a processor.
SERIAL = SPARING | {"loss_pipes": 0, "word": 10, "master_word": 32, "momentum_word": 32, "output_word": 12}
NARROW = SERIAL | {"columns": 2, "sweep_turns": 1, "output_word": 13, "lane_depth": 64, "losses": 16, "history": 4}


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("changes", [{}, SPARING, SERIAL, NARROW], ids=["whole", "sparing", "serial", "narrow"])
def test_programs(tmp_path: Path, changes: dict[str, int], seed: int) -> None:
    config = preset("tiny").replace(**changes)
    parameters = {"config": config.words(), "seed": seed}
    run_bench(core_of(config), "bench_programs", tmp_path, parameters=parameters, seed=seed)
