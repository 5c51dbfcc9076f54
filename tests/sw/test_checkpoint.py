from dataclasses import replace

import numpy as np
import pytest
from tenzo.checkpoint import Checkpoint, CheckpointError


@pytest.fixture
def checkpoint() -> Checkpoint:
    random = np.random.default_rng(0)
    return Checkpoint(
        step=7,
        masters=random.integers(-(1 << 31), 1 << 31, (16, 2), dtype=np.int32),
        momentum=random.integers(-(1 << 15), 1 << 15, (16, 2), dtype=np.int32),
        generator=(1 << 64) - 1,
        rate=3,
        rate_step=1,
        scale=(1 << 48) - 1,
        losses=random.integers(0, 1 << 48, 7),
        correct=np.arange(7),
        runs=np.array([[4, 1000, 3], [3, 800, 0]]),
        run={"dataset": {"name": "digits"}},
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path, checkpoint: Checkpoint) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path)
    loaded = Checkpoint.load(path)
    for name in vars(checkpoint):
        assert np.array_equal(getattr(loaded, name), getattr(checkpoint, name)), name
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_new_checkpoint_replaces_the_old_one(tmp_path, checkpoint: Checkpoint) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path)
    replace(checkpoint, step=8).save(path)
    assert Checkpoint.load(path).step == 8


def test_every_damaged_byte_is_noticed(tmp_path, checkpoint: Checkpoint) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path)
    good = path.read_bytes()
    unharmed = 0
    for place in np.random.default_rng(1).choice(len(good), 300, replace=False):
        damaged = bytearray(good)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        try:
            # A byte that says nothing (a date, a version) may change; the content never.
            loaded = Checkpoint.load(path)
        except CheckpointError:
            continue
        unharmed += 1
        assert np.array_equal(loaded.masters, checkpoint.masters)
        assert loaded.run == checkpoint.run
    assert unharmed < 100


def test_a_cut_file_and_a_missing_file_are_refused(tmp_path, checkpoint: Checkpoint) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint.load(path)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        Checkpoint.load(tmp_path / "other.npz")
