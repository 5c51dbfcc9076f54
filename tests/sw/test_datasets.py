"""Datasets: splits, files as they come, and errors that say what to do."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from tenzo.datasets import DATA_VARIABLE, Dataset, csv, digits, inputs, load, npz

FILES = {
    "train-images-idx3-ubyte": (20, 28, 28),
    "train-labels-idx1-ubyte": (20,),
    "t10k-images-idx3-ubyte": (10, 28, 28),
    "t10k-labels-idx1-ubyte": (10,),
}


def write_idx(folder: Path, *, packed: bool = True) -> dict[str, np.ndarray]:
    """A small MNIST in IDX files."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for name, shape in FILES.items():
        array = random.integers(0, 256 if len(shape) == 3 else 10, shape, dtype=np.uint8)
        data = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(data) if packed else data)
        arrays[name] = array
    return arrays


def test_digits() -> None:
    found = digits(seed=3)
    assert found.x_train.shape == (1437, 64)
    assert found.x_test.shape == (360, 64)
    assert (found.x_train.min(), found.x_train.max(), found.classes) == (0, 1, 10)
    both = np.concatenate([found.y_train, found.y_test])
    share = np.bincount(found.y_test) / np.bincount(both)
    assert np.abs(share - 0.2).max() < 0.01
    again = load("digits", seed=3)
    assert np.array_equal(again.x_train, found.x_train)
    assert not np.array_equal(digits(seed=4).y_train, found.y_train)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, packed: bool) -> None:
    arrays = write_idx(tmp_path / name, packed=packed)
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    found = load(name, tmp_path)
    assert np.array_equal(np.round(found.x_train * 255).reshape(-1, 28, 28), arrays["train-images-idx3-ubyte"])
    assert np.array_equal(found.y_test, arrays["t10k-labels-idx1-ubyte"])
    assert np.array_equal(load(name, tmp_path / name).x_test, found.x_test)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    assert np.array_equal(load(name).x_test, found.x_test)


def test_damaged_idx_files(tmp_path: Path) -> None:
    write_idx(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte.gz"
    good = images.read_bytes()
    for bad, said in (
        (good[: len(good) // 2], "damaged"),
        (b"", "no IDX file"),
        (b"\x89PNG and more", "no IDX file of bytes in 3 dimensions: it starts with 89504e47"),
        (gzip.compress(gzip.decompress(good)[:-1]), r"announces \(20, 28, 28\) values and holds 15679"),
    ):
        images.write_bytes(bad)
        with pytest.raises(ValueError, match=said):
            load("mnist", tmp_path)
    images.unlink()
    with pytest.raises(ValueError, match=r"holds no train-images-idx3-ubyte.gz of mnist"):
        load("mnist", tmp_path)
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        load("mnist", tmp_path / "nowhere")


def test_labels_out_of_range(tmp_path: Path) -> None:
    write_idx(tmp_path, packed=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + struct.pack(">I", 10) + bytes([10] * 10))
    with pytest.raises(ValueError, match="test samples: labels reach from 10 to 10; 0 to 9"):
        load("mnist", tmp_path)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "flowers.csv"
    rows = [f"{n},{-2 * n},{n % 3}" for n in range(30)]
    path.write_text("\n".join(["length,width,kind", *rows]))
    found = load(str(path), seed=1)
    assert found.classes == 3
    assert len(found.x_test) == 6
    assert np.bincount(found.y_test).tolist() == [2, 2, 2]
    assert np.abs(found.x_train).max() == 1
    path.write_text("\n".join(f"{n},{n / 4}" for n in range(10)))
    values = csv(path)
    assert values.classes == 0
    assert values.y_train.shape == (8, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no samples"),
        ("a,b\n", "holds no samples"),
        ("1,2\n3\n", "row 2 is not 2 numbers"),
        ("1,2\n3,x\n", "row 2 is not 2 numbers"),
        ("1,0\nnan,1\n2,0\n", r"1 inputs are not finite, the first at \[1, 0\]"),
        ("1,-3\n2,-1\n4,-2", "labels reach from -"),
    ],
)
def test_wrong_csv(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        csv(path)


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (20, 4, 4), dtype=np.uint8)
    labels = random.integers(0, 3, 20)
    np.savez(path, x=pixels, y=labels)
    found = npz(path)
    assert (found.x_train.shape, found.x_test.shape, found.classes) == ((16, 16), (4, 16), 3)
    assert found.x_train.max() <= 1
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels[:5], y_test=labels[:5])
    named = npz(path)
    assert np.array_equal(named.x_test * 255, pixels[:5].reshape(5, 16))
    np.savez(path, x=random.normal(size=(10, 2)), y=random.normal(size=(10, 3)))
    assert npz(path).y_test.shape == (2, 3)


def test_wrong_npz(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with pytest.raises(ValueError, match="cannot be read"):
        npz(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="cannot be read"):
        npz(path)
    for arrays, said in (
        ({"a": np.zeros(3)}, "holds a; wanted are x and y"),
        ({"x": np.zeros((3, 2)), "y": np.array(["a", "b", "c"])}, "y must be arrays of numbers"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(4, dtype=int)}, "3 inputs and 4 targets"),
        ({"x": np.array([[0, np.inf]] * 3), "y": np.zeros(3, dtype=int)}, "are not finite"),
        ({"x": np.diag([0, 0, np.nan, 0]), "y": np.zeros(4, dtype=int)}, r"the first at \[2, 2\]"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0, dtype=int)}, "0 inputs and 0 targets"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=said):
            npz(path)


def test_an_npy_file_is_no_npz_file(tmp_path: Path) -> None:
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros((4, 2)))
    with pytest.raises(ValueError, match="holds a single array"):
        npz(tmp_path / "one.npz")


def test_whole_numbers_too_large_for_labels_are_values(tmp_path: Path) -> None:
    path = tmp_path / "far.csv"
    path.write_text("1,1e30\n2,3\n3,4\n")
    assert csv(path).classes == 0


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="no dataset 'cifar'; there are digits, mnist, fashion-mnist"):
        load("cifar")


def test_parts_must_belong_together() -> None:
    x, y = np.zeros((4, 2)), np.zeros(4, dtype=np.int64)
    with pytest.raises(ValueError, match="do not belong together"):
        Dataset(x, y[:3], x, y, 2, "mine")
    with pytest.raises(ValueError, match="train samples have 2 inputs"):
        Dataset(x, y, np.zeros((4, 3)), y, 2, "mine")


def test_own_samples_are_scaled_as_the_train_samples_were(tmp_path) -> None:
    raw = np.array([[0.0, 5.0], [2.0, -10.0], [4.0, 2.0], [1.0, 1.0], [3.0, 7.0]])
    rows = np.column_stack([raw, [0, 1, 0, 1, 1]])
    table, own = tmp_path / "train.csv", tmp_path / "own.csv"
    table.write_text("\n".join(",".join(map(str, row)) for row in rows))
    own.write_text("\n".join(",".join(map(str, row)) for row in raw))
    np.savez(tmp_path / "own.npz", x=raw)
    for dataset in (load(str(table)), load(str(table)).standardised()):
        given = np.concatenate([dataset.x_train, dataset.x_test])
        for path in (own, tmp_path / "own.npz"):
            prepared = dataset.prepared(inputs(path))
            np.testing.assert_allclose(np.sort(prepared, axis=0), np.sort(given, axis=0), atol=1e-12)
    with pytest.raises(ValueError, match=r"inputs of shape \(5, 3\) given; .* has 2 a sample"):
        load(str(table)).prepared(inputs(table))
