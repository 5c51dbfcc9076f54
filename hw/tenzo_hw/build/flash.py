"""Loads a bitstream into a board with the programmer that is installed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

from ..boards.board import Board
from .bitstream import REPORT

_WHERE = {
    "openFPGALoader": "https://trabucayre.github.io/openFPGALoader/guide/install.html",
    "iceprog": "https://github.com/YosysHQ/icestorm",
}


def flash(board: Board, folder: Path) -> None:
    """Runs the board's programmer on the bitstream of ``folder``; its messages go to the terminal.

    Raises ``RuntimeError`` that says what to do when there is no bitstream, when it is not the one of its report, when
    the programmer is not installed, and when that fails.
    """
    bitstream = _bitstream(board, folder)
    name, *options = board.programmer
    tool = shutil.which(name)
    if tool is None:
        raise RuntimeError(
            f"{board.title} is programmed by {name}, which is not installed: take it from your system's packages or "
            f"from {_WHERE[name]}; the bitstream is {bitstream}"
        )
    result = subprocess.run([tool, *options, str(bitstream)], check=False)
    if result.returncode:
        raise RuntimeError(
            f"{name} exited with {result.returncode}: is {board.title} connected, and may you use its USB device?"
        )


def _bitstream(board: Board, folder: Path) -> Path:
    again = f"build it with: tenzo build {board.name}"
    if not (folder / REPORT).exists():
        raise RuntimeError(f"there is no build in {folder}: {again}")
    report = json.loads((folder / REPORT).read_text())
    if report["board"] != board.name:
        raise RuntimeError(f"the build in {folder} is for {report['board']}, not for {board.name}: {again}")
    if report["bitstream"] is None:
        raise RuntimeError(f"the build in {folder} missed its timing and has no bitstream: {again}, with more seeds")
    path = folder / report["bitstream"]["file"]
    if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != report["bitstream"]["sha256"]:
        raise RuntimeError(f"{path} is not the bitstream that {folder / REPORT} is about: {again}")
    return path
