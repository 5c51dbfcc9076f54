"""Random programs on the core against the exact model."""

from __future__ import annotations

from pathlib import Path

import pytest
from tenzo_hw.config import preset
from tenzo_hw.core import Core
from tenzo_sim.bench import run_bench


@pytest.mark.parametrize("seed", [1])
def test_programs(tmp_path: Path, seed: int) -> None:
    run_bench(Core(preset("tiny")), "bench_programs", tmp_path, parameters={"config": "tiny", "seed": seed}, seed=seed)
