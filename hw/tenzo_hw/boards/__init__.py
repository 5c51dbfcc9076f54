"""The boards: one small file each. Nothing here needs Amaranth but what builds a top (``top`` and the clocks)."""

from __future__ import annotations

from .arty_a7 import ARTY_A7_35
from .board import Board, Chip, Resources
from .icebreaker import ICEBREAKER
from .tang import TANG_NANO_9K, TANG_PRIMER_20K
from .ulx3s import ULX3S_12F, ULX3S_25F, ULX3S_85F

__all__ = ["BOARDS", "Board", "Chip", "Resources", "board"]

BOARDS: dict[str, Board] = {
    board.name: board
    for board in (ULX3S_12F, ULX3S_25F, ULX3S_85F, ICEBREAKER, TANG_NANO_9K, TANG_PRIMER_20K, ARTY_A7_35)
}
"""All boards by their names."""


def board(name: str) -> Board:
    """The board of this name. Raises ``ValueError`` that lists the names."""
    try:
        return BOARDS[name]
    except KeyError:
        raise ValueError(f"no board {name!r}; there are {', '.join(BOARDS)}") from None
