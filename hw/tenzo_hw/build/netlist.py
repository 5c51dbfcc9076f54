"""What a synthesised netlist takes of its chip, in all and by block.

After flattening, Yosys names every cell after the nearest signal that a module declares, so that its name begins with
the module's path: a LUT between two blocks belongs to the one whose signal it makes or, where that has no name, takes.
Of the names that a signal has in several modules the shortest is left: registers between the core's blocks and its link
count as ``core``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..boards.board import Resources

#: Modules around the blocks, whose own cells count as ``core`` (the core's, the machine's) or ``rest`` (the shell's).
_AROUND = (("shell", "machine", "core"), ("shell", "machine"), ("shell",), ())
#: Blocks that are shown in parts.
_IN_PARTS = ("engine", "sweep")
#: Modules that are one block: the serial line.
_TOGETHER = {"receiver": "uart", "transmitter": "uart"}
_NUMBER = re.compile(r"\$?\d+$")


class Hierarchy:
    """The modules of a flattened design, as paths such as ``shell.machine.core.engine.lane0``."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = frozenset(paths)

    @classmethod
    def of(cls, cells: Mapping[str, Mapping[str, Any]]) -> Hierarchy:
        """Those that Yosys left a note of."""
        return cls(name for name, cell in cells.items() if cell["type"] == "$scopeinfo")

    def module(self, cell: str) -> tuple[str, ...]:
        """Names of the innermost module that a cell or net is in; none for the top."""
        parts = cell.split(".")
        for length in range(len(parts) - 1, 0, -1):
            if ".".join(parts[:length]) in self.paths:
                return tuple(parts[:length])
        return ()

    def block(self, cell: str) -> str:
        """The block that a cell or net is in, such as ``sequencer`` or ``engine.lane``, all lanes in one."""
        # Modules of one name get a number from Amaranth, those of a row have one of their own.
        module = [_NUMBER.sub("", name) for name in self.module(cell)]
        for around in _AROUND:
            if tuple(module[: len(around)]) == around:
                inner = module[len(around) :]
                break
        else:
            inner = module
        if not inner:
            return "core" if "machine" in module else "rest"
        if module[0] != "shell":
            return "rest"
        name = _TOGETHER.get(inner[0], inner[0])
        return ".".join((name, *inner[1:2])) if name in _IN_PARTS else name


def resources(cells: Mapping[str, Mapping[str, Any]], counted: Mapping[str, Resources]) -> dict[str, Resources]:
    """What each block takes, by the cells of a flattened netlist; ``counted``: as in ``Family.cells``."""
    hierarchy = Hierarchy.of(cells)
    blocks: dict[str, Counter[str]] = {}
    for name, cell in cells.items():
        worth = worth_of(cell["type"], counted)
        if worth is not None:
            blocks.setdefault(hierarchy.block(name), Counter()).update(worth._asdict())
    return {block: Resources(**blocks[block]) for block in sorted(blocks)}


def worth_of(kind: str, counted: Mapping[str, Resources]) -> Resources | None:
    """What a cell of this kind counts as; None where it takes nothing."""
    if kind in counted:
        return counted[kind]
    return next((worth for name, worth in counted.items() if name[-1] == "*" and kind.startswith(name[:-1])), None)
