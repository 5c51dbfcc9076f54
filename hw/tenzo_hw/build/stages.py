"""The stages of a build: synthesis, floor plan, place and route from a seed, packing; each kept, run at most once."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from . import netlist
from .cache import Entry, entry
from .families import Family
from .floor_plan import FLOOR_PLANS, floor_plan
from .plan import NAME, Plan
from .tools import TOOLS, run

#: nextpnr's report.
ROUTED = "report.json"
_SECONDS = "seconds.json"
_RESOURCES = "resources.json"
_HERE = Path(__file__).parent


class Stages:
    """The stages of one plan. Each is kept under the hash of its inputs, its command and its tool's version."""

    def __init__(self, plan: Plan, family: Family, versions: dict[str, str]) -> None:
        self._plan, self._family, self._versions = plan, family, versions
        self._synthesise, self._route, self._pack = plan.commands
        self._netlist = self._route[self._route.index("--json") + 1]

    def synthesis(self) -> Entry:
        """The netlist."""
        return self._run("synthesis", self._synthesise, [], self._plan.key)

    def resources(self, synthesised: Entry) -> dict[str, Any]:
        """``modules`` of the netlist, and ``blocks`` with what each takes."""

        def make(folder: Path) -> None:
            cells = read(synthesised, self._netlist)["modules"][NAME]["cells"]
            blocks = netlist.resources(cells, self._family.cells)
            document = {
                "modules": sorted(netlist.Hierarchy.of(cells).paths),
                "blocks": {block: taken._asdict() for block, taken in blocks.items()},
            }
            (folder / _RESOURCES).write_text(json.dumps(document))

        counting = [(_HERE / name).read_text() for name in ("netlist.py", "families.py")]
        return read(entry("resources", [synthesised.key, *counting], make), _RESOURCES)

    def floor_plan(self, synthesised: Entry, chip: str) -> Entry:
        """The netlist with the places of the chip's floor plan, where it has one."""
        blocks = FLOOR_PLANS.get(chip)
        if blocks is None:
            return synthesised

        def make(folder: Path) -> None:
            document = read(synthesised, self._netlist)
            cells = document["modules"][NAME]["cells"]
            for name, place in floor_plan(blocks, cells).items():
                cells[name]["attributes"]["BEL"] = place
            (folder / self._netlist).write_text(json.dumps(document))

        return entry("floor-plan", [synthesised.key, chip, (_HERE / "floor_plan.py").read_text()], make)

    def route(self, synthesised: Entry, seed: int) -> Entry:
        """A placed and routed design with its report, which says whether it meets the constraint: no exit code does."""
        command = [*self._route, "--seed", str(seed), "--report", ROUTED, "--timing-allow-fail"]
        return self._run("route", command, _made(synthesised), synthesised.key)

    def pack(self, routed: Entry) -> Entry:
        """The bitstream."""
        return self._run("bitstream", self._pack, _made(routed), routed.key)

    def _run(self, stage: str, command: list[str], inputs: list[Path], before: str) -> Entry:
        """What ``command`` makes of the plan's files and ``inputs``; ``before``: the key of what these come from."""

        def make(folder: Path) -> None:
            given = [*self._plan.inputs(), *inputs]
            for path in given:
                _link(path, folder / path.name)
            started = time.monotonic()
            run(command, folder)
            for path in given:
                (folder / path.name).unlink()
            (folder / _SECONDS).write_text(json.dumps(round(time.monotonic() - started, 1)))

        return entry(stage, [before, *command, self._versions[TOOLS[command[0]].package]], make)


def read(made: Entry, name: str) -> Any:
    """A JSON file of a stage."""
    return json.loads((made.folder / name).read_text())


def seconds(made: Entry) -> float:
    """How long the stage took when it ran."""
    return read(made, _SECONDS)


def _made(stage: Entry) -> list[Path]:
    return [path for path in sorted(stage.folder.iterdir()) if path.name != _SECONDS]


def _link(source: Path, target: Path) -> None:
    """The same file under another name, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
