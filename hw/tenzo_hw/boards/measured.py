"""What was measured of the boards' builds: the reports in docs/results, in short, which come with the package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..config import Config
from . import BOARDS
from .board import Board, Resources

#: Written by docs/generate.py.
FILE = Path(__file__).with_name("measured.json")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One build."""

    board: Board
    preset: str
    config: Config
    constraint_mhz: float
    median_mhz: float
    """Of the highest frequencies of all seeds."""
    blocks: dict[str, Resources]
    """What each block takes."""
    total: Resources


def excerpt(report: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a build's report."""
    kept = {name: report[name] for name in ("board", "preset", "constraint_mhz", "configuration")}
    blocks = {block: list(taken.values()) for block, taken in report["resources"]["blocks"].items()}
    return kept | {"median_mhz": report["fmax"]["median"], "blocks": blocks}


@cache
def measured() -> tuple[Measured, ...]:
    """All builds that met their timing."""
    return tuple(_measured(document) for document in json.loads(FILE.read_text()))


def measured_of(board: Board) -> Measured | None:
    """The build of this board as it is; None where there is none."""
    return next((one for one in measured() if (one.board.name, one.config) == (board.name, board.config)), None)


def _measured(document: dict[str, Any]) -> Measured:
    blocks = {block: Resources(*taken) for block, taken in document["blocks"].items()}
    return Measured(
        board=BOARDS[document["board"]],
        preset=document["preset"],
        config=Config(**document["configuration"]),
        constraint_mhz=document["constraint_mhz"],
        median_mhz=document["median_mhz"],
        blocks=blocks,
        total=Resources.total(blocks.values()),
    )
