"""The project of a vendor's tool, for boards that open tools do not build."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..boards.board import Board
from .plan import NAME, plan


def write_project(board: Board, folder: Path) -> str:
    """Writes all files of the board's project into ``folder`` and gives the command that builds it there.

    Raises ``ValueError`` when the board's values do not go together, ``RuntimeError`` when a package is missing.
    """
    planned = plan(board)
    folder.mkdir(parents=True, exist_ok=True)
    for path in planned.files():
        shutil.copyfile(path, folder / path.name)
    return f"sh build_{NAME}.sh"
