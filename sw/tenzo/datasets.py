"""Datasets: scikit-learn's digits, MNIST and Fashion-MNIST, and the user's own CSV and NPZ files.

Inputs are float64 in a range that the machine's input words hold: pixels from 0 to 1, other columns from -1 to 1.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

#: Environment variable that names the folder in which ``mnist`` and ``fashion-mnist`` are looked for.
DATA_VARIABLE = "TENZO_DATA"

_IMAGES = ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz")
_LABELS = ("train-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
_CLASSES = 10
#: Largest values of a pixel.
_DIGITS_SCALE, _BYTE_SCALE = 16.0, 255.0
#: Whole numbers in a CSV file from here on are values: they are not exact any more.
_LARGEST_LABEL = 2.0**53


@dataclass(frozen=True)
class _Source:
    url: str
    checksums: dict[str, str]


# MNIST: of the original files; Fashion-MNIST: those that its authors publish, which are MD5.
_SOURCES = {
    "mnist": _Source(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
    "fashion-mnist": _Source(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        {
            "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples to train on and to test with. Raises ``ValueError`` when they do not belong together."""

    x_train: np.ndarray
    """Inputs [samples, inputs], float64."""
    y_train: np.ndarray
    """Labels int64[samples] from 0 to classes - 1; with no classes, values [samples, outputs], float64."""
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int
    """0 for targets that are values."""
    name: str
    offset: float | np.ndarray = 0.0
    """What was taken off the inputs as they came, before they were divided by ``scale``."""
    scale: float | np.ndarray = 1.0

    def __post_init__(self) -> None:
        for part, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            where = f"{self.name}, {part} samples"
            if x.ndim != 2 or y.ndim != (1 if self.classes else 2) or len(x) != len(y) or not len(x):
                raise ValueError(
                    f"{where}: inputs of shape {x.shape} and targets of shape {y.shape} do not belong together; "
                    "inputs are [samples, inputs], targets labels [samples] or values [samples, outputs]"
                )
            _check_finite(where, x, y)
            if self.classes and not 0 <= y.min() <= y.max() < self.classes:
                raise ValueError(
                    f"{where}: labels reach from {y.min()} to {y.max()}; 0 to {self.classes - 1} are allowed for "
                    f"{self.classes} classes"
                )
        if self.x_train.shape[1:] != self.x_test.shape[1:] or self.y_train.shape[1:] != self.y_test.shape[1:]:
            raise ValueError(
                f"{self.name}: train samples have {self.x_train.shape[1]} inputs, test samples "
                f"{self.x_test.shape[1]}; targets have shapes {self.y_train.shape[1:]} and {self.y_test.shape[1:]}; "
                "they must be equal"
            )

    def standardised(self) -> Dataset:
        """Inputs of mean 0 and deviation 1: one mean and one deviation for all, those of the train inputs."""
        mean, deviation = self.x_train.mean(), self.x_train.std() or 1.0
        return replace(
            self,
            x_train=(self.x_train - mean) / deviation,
            x_test=(self.x_test - mean) / deviation,
            offset=self.offset + mean * self.scale,
            scale=self.scale * deviation,
        )

    def prepared(self, inputs: np.ndarray) -> np.ndarray:
        """Other samples' inputs [samples, inputs] as they came, scaled as the train inputs were.

        Raises ``ValueError`` when they have another number of inputs or are not finite.
        """
        wanted = self.x_train.shape[1]
        if inputs.ndim != 2 or inputs.shape[1] != wanted:
            raise ValueError(
                f"inputs of shape {inputs.shape} given; {self.name} has {wanted} a sample, so (samples, {wanted}) "
                "without labels is wanted"
            )
        _check_finite("the samples given", inputs, np.zeros(0))
        return (inputs - self.offset) / self.scale


def load(name: str, folder: Path | None = None, *, seed: int = 0, test_share: float = 0.2) -> Dataset:
    """The dataset ``digits``, ``mnist`` or ``fashion-mnist``, or that of a ``.csv`` or ``.npz`` file.

    ``folder`` holds the files of MNIST or Fashion-MNIST, as they are or in a folder of the dataset's name; without it
    the environment variable TENZO_DATA is asked, then they are downloaded. ``seed`` chooses the test samples of digits
    and, with ``test_share``, of files that do not name their own. Raises ``ValueError`` when something is wrong.
    """
    if name == "digits":
        return digits(seed)
    if name in _SOURCES:
        return idx(name, folder)
    path = Path(name)
    if path.suffix == ".csv":
        return csv(path, seed=seed, test_share=test_share)
    if path.suffix == ".npz":
        return npz(path, seed=seed, test_share=test_share)
    raise ValueError(
        f"no dataset {name!r}; there are digits, {', '.join(_SOURCES)}, and the paths of .csv and .npz files"
    )


def digits(seed: int = 0) -> Dataset:
    """scikit-learn's 8 x 8 digits: 1,437 train and 360 test samples, every class with its share in both."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    labels = np.asarray(y, dtype=np.int64)
    dataset = _split(np.asarray(x) / _DIGITS_SCALE, labels, _CLASSES, "digits", seed, 360 / len(x))
    return replace(dataset, scale=_DIGITS_SCALE)


def idx(name: str, folder: Path | None = None) -> Dataset:
    """MNIST or Fashion-MNIST from IDX files, packed with gzip or not; see ``load``."""
    if folder is None and os.environ.get(DATA_VARIABLE):
        folder = Path(os.environ[DATA_VARIABLE])
    paths = {file: _find(folder, name, file) if folder else _download(name, file) for file in (*_IMAGES, *_LABELS)}
    images = [_read_idx(paths[file], dimensions=3) for file in _IMAGES]
    labels = [_read_idx(paths[file], dimensions=1) for file in _LABELS]
    x_train, x_test = (pixels.reshape(len(pixels), -1) / _BYTE_SCALE for pixels in images)
    y_train, y_test = (values.astype(np.int64) for values in labels)
    return Dataset(x_train, y_train, x_test, y_test, _CLASSES, name, scale=_BYTE_SCALE)


def csv(path: Path, *, seed: int = 0, test_share: float = 0.2) -> Dataset:
    """Rows of numbers, the last of them the label, or a value where not all are whole; a first row may be a heading."""
    table = _read_csv(path, columns=2)
    y = table[:, -1]
    if (np.abs(y) < _LARGEST_LABEL).all() and (y == np.floor(y)).all():
        y = y.astype(np.int64)
    return _user_data(table[:, :-1], y, str(path), seed, test_share)


def inputs(path: Path) -> np.ndarray:
    """Inputs [samples, inputs] without labels: the rows of a CSV file, or the array x of an NPZ file."""
    if path.suffix == ".csv":
        return _read_csv(path, columns=1)
    arrays = _read_npz(path)
    if "x" not in arrays or not _is_numeric(arrays["x"]):
        raise ValueError(f"{path} holds {', '.join(arrays)}; wanted is x, an array of numbers with one sample a row")
    return _flat(arrays["x"])


def _read_csv(path: Path, columns: int) -> np.ndarray:
    try:
        text = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    rows = [line.split(",") for line in text if line.strip()]
    if rows and not any(_is_number(value) for value in rows[0]):
        rows = rows[1:]
    if not rows or len(rows[0]) < columns:
        raise ValueError(f"{path} holds no samples: a row has {columns} or more numbers divided by commas")
    for number, row in enumerate(rows, start=len(text) - len(rows) + 1):
        if len(row) != len(rows[0]) or not all(map(_is_number, row)):
            raise ValueError(
                f"{path}: row {number} is not {len(rows[0])} numbers divided by commas, as the first one is"
            )
    return np.array(rows, dtype=np.float64)


def npz(path: Path, *, seed: int = 0, test_share: float = 0.2) -> Dataset:
    """Arrays x_train, y_train, x_test and y_test, or x and y to be split.

    Targets of an integer type are labels, others are values.
    """
    arrays = _read_npz(path)
    for names in (("x", "y"), ("x_train", "y_train", "x_test", "y_test")):
        if arrays.keys() >= set(names):
            chosen = [arrays[name] for name in names]
            break
    else:
        raise ValueError(
            f"{path} holds {', '.join(arrays)}; wanted are x and y, or x_train, y_train, x_test and y_test"
        )
    wrong = [name for name, array in zip(names, chosen, strict=True) if not _is_numeric(array)]
    if wrong:
        raise ValueError(f"{path}: {', '.join(wrong)} must be arrays of numbers with one sample a row")
    if len(chosen) == 2:
        return _user_data(chosen[0], chosen[1], str(path), seed, test_share)
    (x_train, x_test), (y_train, y_test) = (_flat(x) for x in chosen[::2]), chosen[1::2]
    classes = _classes(np.concatenate([y_train.reshape(-1), y_test.reshape(-1)]))
    scale = _scale(x_train)
    y_train, y_test = (_targets(y, classes) for y in (y_train, y_test))
    return Dataset(x_train / scale, y_train, x_test / scale, y_test, classes, str(path), scale=scale)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array, as np.save writes it; use np.savez")
        with file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as an NPZ file: {error}") from None


def _check_finite(where: str, x: np.ndarray, y: np.ndarray) -> None:
    for name, values in (("inputs", x), ("targets", y)):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            at = ", ".join(map(str, bad[0]))
            raise ValueError(f"{where}: {len(bad)} {name} are not finite, the first at [{at}]; remove or fill them")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_numeric(array: np.ndarray) -> bool:
    return array.ndim > 0 and array.dtype.kind in "iuf"


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), math.prod(x.shape[1:]))


def _classes(y: np.ndarray) -> int:
    """How many classes these labels tell; 0 when they are values."""
    return max(int(y.max()) + 1, 1) if np.issubdtype(y.dtype, np.integer) and y.size else 0


def _targets(y: np.ndarray, classes: int) -> np.ndarray:
    return y.astype(np.int64) if classes else _flat(y).astype(np.float64)


def _user_data(x: np.ndarray, y: np.ndarray, name: str, seed: int, test_share: float) -> Dataset:
    # Before the split, so that the place is that in the file.
    _check_finite(name, x, y)
    classes = _classes(y)
    dataset = _split(_flat(x), _targets(y, classes), classes, name, seed, test_share)
    scale = _scale(dataset.x_train)
    return replace(dataset, x_train=dataset.x_train / scale, x_test=dataset.x_test / scale, scale=scale)


def _scale(x_train: np.ndarray) -> float | np.ndarray:
    """What brings bytes to 0 to 1, and every other column to -1 to 1 over the train samples."""
    if x_train.dtype == np.uint8:
        return _BYTE_SCALE
    largest = np.fmax.reduce(np.abs(x_train.astype(np.float64)), axis=0, initial=0.0)
    largest[largest == 0] = 1.0
    return largest


def _split(x: np.ndarray, y: np.ndarray, classes: int, name: str, seed: int, test_share: float) -> Dataset:
    """A random share of the samples to test with, of every class alike."""
    if not 0 < test_share < 1:
        raise ValueError(f"test_share={test_share} is not possible: more than 0 and less than 1")
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"{name}: {len(x)} inputs and {len(y)} targets; as many of both, and 2 or more")
    random = np.random.default_rng(seed)
    order = random.permutation(len(x))
    if classes:
        order = order[np.argsort(y[order], kind="stable")]
    # Every 1/share-th sample of the order by class: each class gives its share, the sum is exact.
    count = min(max(round(test_share * len(x)), 1), len(x) - 1)
    chosen = (np.arange(count) * len(x) + random.integers(len(x))) // count % len(x)
    test = np.zeros(len(x), dtype=bool)
    test[order[chosen]] = True
    train_order = random.permutation(np.flatnonzero(~test))
    return Dataset(x[train_order], y[train_order], x[test], y[test], classes, name)


def _find(folder: Path, name: str, file: str) -> Path:
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {folder}; name one that holds {name}'s IDX files, or leave the argument and "
            f"{DATA_VARIABLE} away to download them"
        )
    choices = [place / stem for place in (folder / name, folder) for stem in (file, file.removesuffix(".gz"))]
    for path in choices:
        if path.is_file():
            return path
    raise ValueError(
        f"{folder} holds no {file} of {name}, packed or not, neither itself nor in {name}/; put it there, or leave the "
        f"argument and {DATA_VARIABLE} away to download it"
    )


def _download(name: str, file: str) -> Path:
    import platformdirs
    import pooch

    source = _SOURCES[name]
    place = Path(platformdirs.user_cache_dir("tenzo")) / name
    try:
        path = pooch.retrieve(source.url + file, known_hash=source.checksums[file], fname=file, path=place)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{file} of {name} could not be downloaded from {source.url}: {error}; put it into a folder {name} and "
            f"name the folder above it, as an argument or in {DATA_VARIABLE}"
        ) from None
    return Path(path)


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The bytes of an IDX file, uint8 of as many dimensions."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or cannot be read: {error}; fetch it again") from None
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes([0, 0, 8, dimensions]):
        raise ValueError(f"{path} is no IDX file of bytes in {dimensions} dimensions: it starts with {data[:4].hex()}")
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    values = np.frombuffer(data, dtype=np.uint8, offset=header)
    if values.size != int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"{path} is damaged: it announces {shape} values and holds {values.size}; fetch it again")
    return values.reshape(shape)
