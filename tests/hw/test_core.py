"""The core against the exact model, over its host bus."""

from __future__ import annotations

from pathlib import Path

import pytest
from tenzo_hw.config import preset
from tenzo_hw.core import Core
from tenzo_sim.bench import run_bench


@pytest.mark.parametrize("seed", [1])
def test_core(tmp_path: Path, seed: int) -> None:
    config = preset("tiny")
    run_bench(Core(config), "bench_core", tmp_path, parameters={"config": config.words(), "seed": seed}, seed=seed)
