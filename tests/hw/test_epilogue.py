"""The epilogue against its model."""

import pytest
from tenzo_hw.config import preset
from tenzo_hw.epilogue import Epilogue
from tenzo_sim.bench import run_bench


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize(
    "changes",
    [
        {"tables": 0, "output_word": 19},
        {"tables": 0, "word": 18, "output_word": 18},
        {"word": 18, "output_word": 20, "tables": 4, "table_bits": 3},
    ],
    ids=str,
)
def test_epilogue(changes, seed, tmp_path):
    config = preset("tiny").replace(**changes)
    run_bench(Epilogue(config=config), "bench_epilogue", tmp_path, parameters={"config": config.words()}, seed=seed)
