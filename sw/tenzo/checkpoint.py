"""Checkpoints: everything that a training run needs to go on to the same bits, in one checked file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Changes when older files cannot be read any more.
FORMAT = 1
_REGISTERS = ("step", "generator", "rate", "rate_step", "scale")
_ARRAYS = ("masters", "momentum", "losses", "correct", "runs")


class CheckpointError(ValueError):
    """The file is no checkpoint, is damaged, or belongs to another run."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The machine's state between two steps, and what was recorded on the way to it."""

    step: int
    masters: np.ndarray
    """[weight_rows, columns], int32."""
    momentum: np.ndarray
    """[weight_rows, columns], int32."""
    generator: int
    rate: int
    rate_step: int
    scale: int
    losses: np.ndarray
    """Loss sum of every step, as the machine's 48-bit integers."""
    correct: np.ndarray
    """Correct samples of every step."""
    runs: np.ndarray
    """[RUNs, 3]: steps, cycles and cycles of waiting for the host, of every RUN."""
    run: dict[str, Any]
    """What is trained, how and on which machine: equal for all checkpoints of a run."""

    def save(self, path: Path) -> None:
        """Writes the file; a crash leaves the old one or the new one, never half of it."""
        document = {"format": FORMAT, "run": self.run} | {name: getattr(self, name) for name in _REGISTERS}
        entries = {name: getattr(self, name) for name in _ARRAYS}
        entries["document"] = np.frombuffer(json.dumps(document, sort_keys=True).encode(), dtype=np.uint8)
        entries["sha256"] = _digest(entries)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **entries)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with fresh.open("wb") as file:
                file.write(buffer.getvalue())
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """The checkpoint in this file. Raises ``CheckpointError`` when it is damaged or of another format."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise CheckpointError(f"there is no checkpoint {path}") from None
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                entries = {
                    name: np.lib.format.read_array(io.BytesIO(file.read(f"{name}.npy")), allow_pickle=False)
                    for name in (*_ARRAYS, "document", "sha256")
                }
        except Exception as error:  # a damaged archive raises nearly anything: zlib's, struct's, the tokenizer's ...
            raise CheckpointError(
                f"{path} is no checkpoint or is damaged: {error}; put a good copy there or train anew"
            ) from None
        if not np.array_equal(entries.pop("sha256"), _digest(entries)):
            raise CheckpointError(f"{path} is damaged: its checksum is wrong; put a good copy there or train anew")
        document = json.loads(entries.pop("document").tobytes())
        if document["format"] != FORMAT:
            raise CheckpointError(f"{path} has format {document['format']}, this tenzo reads {FORMAT}")
        return cls(**entries, run=document["run"], **{name: document[name] for name in _REGISTERS})


def _digest(entries: dict[str, np.ndarray]) -> np.ndarray:
    digest = hashlib.sha256()
    for name in sorted(entries):
        values = np.ascontiguousarray(entries[name])
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(values.tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)
