"""Floor plans: every place once, lanes together, and places that the chip has."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from tenzo_hw.boards import BOARDS
from tenzo_hw.build.floor_plan import FLOOR_PLANS, floor_plan
from tenzo_hw.build.tools import run

BLOCKS = FLOOR_PLANS["LFE5U-85F"]
#: Tiles of a lane from one end to the other, with two more over the middle of the chip, and from row to row.
LANE_WIDTH, LANE_HEIGHT = 29, 12


def machine(lanes: int, columns: int, memories: int, store: int) -> dict[str, dict]:
    """The hard cells of a machine, under the names that Yosys gives them."""
    top = "shell.machine.core"
    names = {f"{top}.sequencer.program.cell0_0": "DP16KD", f"{top}.loss$204.pipe0.loss.product.cell": "MULT18X18D"}
    for lane in range(lanes):
        names |= {f"{top}.engine.lane{lane}.multiplier{column}.cell": "MULT18X18D" for column in range(columns)}
        names |= {f"{top}.engine.lane{lane}.epilogue.multiplier.cell": "MULT18X18D"}
        names |= {f"{top}.engine.lane{lane}.batch.cell{number}_0": "DP16KD" for number in range(memories)}
    names |= {f"{top}.store.{kind}0.cell0_{n}": "DP16KD" for kind in ("masters", "momenta") for n in range(store // 2)}
    return {name: {"type": kind} for name, kind in names.items()}


def at(place: str) -> tuple[int, int]:
    found = re.match(r"X(\d+)/Y(\d+)/", place)
    assert found
    return int(found[1]), int(found[2])


def distance(one: str, other: str) -> int:
    (x, y), (to_x, to_y) = at(one), at(other)
    return abs(x - to_x) + abs(y - to_y)


def test_lanes_are_together_and_neighbours_near() -> None:
    cells = machine(lanes=12, columns=11, memories=9, store=38)
    places = floor_plan(BLOCKS, cells)
    assert len(set(places.values())) == len(places) == 12 * (11 + 1 + 9) + 38
    for name, place in places.items():
        assert ("MULT18" in place) == (cells[name]["type"] == "MULT18X18D")
    lanes = [
        {name.split(".lane")[1].partition(".")[2]: place for name, place in places.items() if f".lane{lane}." in name}
        for lane in range(12)
    ]
    for lane in lanes:
        assert max(distance(*pair) for pair in itertools.combinations(lane.values(), 2)) <= LANE_WIDTH + LANE_HEIGHT
    for before, after in itertools.pairwise(lanes):
        assert max(distance(before[name], after[name]) for name in before) <= LANE_WIDTH


def test_a_machine_that_does_not_fit_is_left_to_the_placer() -> None:
    assert floor_plan(BLOCKS, machine(lanes=13, columns=11, memories=9, store=38)) == {}
    assert floor_plan(BLOCKS, machine(lanes=2, columns=11, memories=9, store=54)) == {}
    assert floor_plan(BLOCKS, {"shell.lights.count": {"type": "TRELLIS_FF"}}) == {}


def test_plans_are_of_chips_that_boards_have() -> None:
    assert set(FLOOR_PLANS) <= {board.chip.name for board in BOARDS.values()}


@pytest.mark.parametrize(("kind", "cell"), [("multipliers", "MULT18X18D"), ("memories", "DP16KD")])
def test_the_chip_has_these_places(tmp_path: Path, kind: str, cell: str) -> None:
    """nextpnr takes a cell at the first and the last place of every row."""
    index = {"multipliers": 0, "memories": 1}[kind]
    rows = [band[index] for band in BLOCKS.bands] + ([BLOCKS.store] if kind == "memories" else [])
    places = [
        place
        for y in rows
        for row in [BLOCKS.row(getattr(BLOCKS, kind), y, BLOCKS.columns)]
        for place in (row[0], row[-1])
    ]
    clocks = ("CLKA", "CLKB") if kind == "memories" else ("CLK0",)
    one = {
        "hide_name": 0,
        "type": cell,
        "parameters": {f"DATA_WIDTH_{port}": f"{18:032b}" for port in "AB"} if kind == "memories" else {},
        "port_directions": dict.fromkeys(clocks, "input"),
        "connections": {clock: [2] for clock in clocks},
    }
    cells = {f"cell{number}": one | {"attributes": {"BEL": place}} for number, place in enumerate(places)}
    port = {"clk": {"direction": "input", "bits": [2]}}
    nets = {"clk": {"hide_name": 0, "bits": [2], "attributes": {}}}
    module = {"attributes": {"top": 1}, "ports": port, "cells": cells, "netnames": nets}
    (tmp_path / "cells.json").write_text(json.dumps({"creator": "test", "modules": {"top": module}}))
    tool = ["nextpnr-ecp5", "--85k", "--package", "CABGA381", "--json", "cells.json"]
    run([*tool, "--lpf-allow-unconstrained", "--no-route", "--write", "placed.json"], tmp_path)
    placed = json.loads((tmp_path / "placed.json").read_text())["modules"]["top"]["cells"]
    assert [placed[f"cell{number}"]["attributes"]["NEXTPNR_BEL"] for number in range(len(places))] == places
