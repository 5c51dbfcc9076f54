"""The core against the exact model, over its host bus."""

from __future__ import annotations

from pathlib import Path

import pytest
from tenzo_hw.config import preset
from tenzo_hw.machine import core_of
from tenzo_sim.bench import run_bench


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("name", ["tiny", "icebreaker"])
def test_core(tmp_path: Path, name: str, seed: int) -> None:
    config = preset(name)
    run_bench(core_of(config), "bench_core", tmp_path, parameters={"config": config.words(), "seed": seed}, seed=seed)
