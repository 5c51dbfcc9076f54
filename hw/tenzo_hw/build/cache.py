"""What a stage of a build left, kept under the hash of everything that it was made from."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import platformdirs


def cache_folder() -> Path:
    """Where builds and simulators are kept: ``TENZO_CACHE``, or the user's cache folder."""
    given = os.environ.get("TENZO_CACHE")
    return Path(given) if given else platformdirs.user_cache_path("tenzo")


class Entry(NamedTuple):
    """A kept folder."""

    folder: Path
    key: str
    """The hash, for the keys of what is made from this."""
    kept: bool
    """It was there already."""


def entry(stage: str, parts: list[str], make: Callable[[Path], None]) -> Entry:
    """The folder that ``make`` filled for this ``stage`` and these ``parts``, now or once before.

    It is made under another name and renamed when complete: one that was interrupted leaves nothing, and processes may
    make the same at once.
    """
    key = hashlib.sha256("\0".join((stage, *parts)).encode()).hexdigest()[:24]
    folder = cache_folder() / "boards" / f"{stage}-{key}"
    if folder.is_dir():
        return Entry(folder, key, True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{stage}-", ignore_cleanup_errors=True) as temporary:
        place = Path(temporary) / "made"
        place.mkdir()
        make(place)
        try:
            os.replace(place, folder)
        except OSError:
            # Another process was first: what it made is the same.
            if not folder.is_dir():
                raise
    return Entry(folder, key, False)
