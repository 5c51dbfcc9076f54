"""Floor plans: where the multipliers and block RAMs of lanes and weight store lie on a chip that they fill.

A placer that moves these cells to legal places one by one tears lanes apart: with nearly all of a chip's multipliers
taken there is no room to mend it. Here the chain of lanes runs in a snake along the chip's rows, each lane in a stretch
of a row of multipliers with its block RAMs in the row of memories beside it, so that lanes hand operands and weights to
their neighbours. The masters and momenta of a column lie side by side. All else is placed around them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The last modules of the names of a lane's and a column group's cells.
_LANE = re.compile(r"\.engine\.lane(\d+)\.(.+)$")
_STORE = re.compile(r"\.store\.(masters|momenta)(\d+)\.(.+)$")
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True, kw_only=True)
class HardBlocks:
    """Places of a chip's multipliers and block RAMs: groups at the same columns in every row, from left to right."""

    columns: Sequence[int]
    """x of each group's first tile."""
    multipliers: Sequence[tuple[int, str]]
    """Those of a group: x from the first tile on, and the name of the place in its tile."""
    memories: Sequence[tuple[int, str]]
    bands: Sequence[tuple[int, int]]
    """y of a row of multipliers and of the row of memories beside it, in the order of the snake."""
    store: int
    """y of the row of memories that the weight store begins in."""

    def row(self, kind: Sequence[tuple[int, str]], y: int, columns: Sequence[int]) -> list[str]:
        """The places of a kind in the groups at some columns of a row."""
        return [f"X{column + x}/Y{y}/{name}" for column in columns for x, name in kind]


FLOOR_PLANS = {
    # As Project Trellis names the places; the middle of the chip is between groups 6 and 7. The snake ends away from
    # the row at the bottom, where the weight store hands its rows to the first lane.
    "LFE5U-85F": HardBlocks(
        columns=(4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114),
        multipliers=((0, "MULT18_0"), (1, "MULT18_1"), (4, "MULT18_4"), (5, "MULT18_5")),
        memories=((0, "EBR0"), (2, "EBR1"), (4, "EBR2"), (6, "EBR3")),
        bands=((58, 70), (34, 46), (10, 22)),
        store=82,
    ),
}
"""Of the chips that are filled so far that they need one."""


def floor_plan(blocks: HardBlocks, cells: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Places of cells by the cells' names, of a netlist of an ECP5.

    Empty where the lanes do not fit into the rows: the placer is on its own then.
    """
    lanes: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    store = []
    for name, cell in cells.items():
        if cell["type"] in ("MULT18X18D", "DP16KD"):
            if lane := _LANE.search(name):
                lanes[int(lane[1])][cell["type"]].append(name)
            elif _STORE.search(name):
                store.append(name)
    if not lanes:
        return {}
    multipliers, memories = len(blocks.multipliers), len(blocks.memories)
    stretch = max(
        max(-(-len(lane["MULT18X18D"]) // multipliers), -(-len(lane["DP16KD"]) // memories)) for lane in lanes.values()
    )
    in_band = len(blocks.columns) // stretch
    row = blocks.row(blocks.memories, blocks.store, blocks.columns)
    if len(lanes) > in_band * len(blocks.bands) or len(store) > len(row):
        return {}
    places = {}
    for number, lane in lanes.items():
        band, place = divmod(number, in_band)
        y_multipliers, y_memories = blocks.bands[band]
        from_left = in_band - 1 - place if band % 2 else place
        columns = blocks.columns[from_left * stretch : (from_left + 1) * stretch]
        for names, kind, y in (
            # The epilogue's multiplier comes first: results are handed down to column 0, and from there to it.
            (sorted(lane["MULT18X18D"], key=_in_order), blocks.multipliers, y_multipliers),
            (sorted(lane["DP16KD"], key=_in_order), blocks.memories, y_memories),
        ):
            places |= zip(names, blocks.row(kind, y, columns), strict=False)
    # In the middle of the row, groups of columns one after the other.
    store.sort(key=lambda name: (int(_STORE.search(name)[2]), _in_order(name)))  # type: ignore[index]
    return places | dict(zip(store, row[(len(row) - len(store)) // 2 :], strict=False))


def _in_order(name: str) -> list[str | int]:
    """Sorts numbers in names by their values."""
    return [int(part) if part.isdigit() else part for part in _NUMBERS.split(name)]
