"""A board's bitstream and its report: one synthesis, place and route from several seeds, the best that meets timing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..boards.board import Board, Resources
from . import netlist, timing
from .cache import Entry
from .families import FAMILIES
from .plan import NAME, plan
from .stages import ROUTED, Stages, read, seconds
from .tools import TOOLS, versions

REPORT = "report.json"
LOG = "nextpnr.log"
#: What a report names beside the tools.
_PACKAGES = ("tenzo", "amaranth", "amaranth-boards")

#: nextpnr counts in whole picoseconds.
_ROUNDING = 1e-3

Say = Callable[[str, bool], None]
"""Told that a stage is ready, and whether it was kept from an earlier build."""


class TimingError(RuntimeError):
    """No seed meets the constraint: there is a report, and no bitstream."""


@dataclass(frozen=True)
class Build:
    """What a build gave."""

    report: dict[str, Any]
    """As docs/boards.md describes it."""
    bitstream: Path | None
    """None where no seed meets the constraint."""
    log: Path
    """nextpnr's, of the seed that the critical path is of."""
    kept: bool
    """Nothing was run: all was there from earlier builds."""

    def save(self, folder: Path) -> None:
        """Leaves report, log and bitstream in ``folder``; what an earlier build left there goes, whatever this gave."""
        if (folder / REPORT).exists():
            earlier = json.loads((folder / REPORT).read_text())["bitstream"]
            if earlier is not None:
                (folder / earlier["file"]).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / REPORT).write_text(json.dumps(self.report, indent=2) + "\n")
        shutil.copyfile(self.log, folder / LOG)
        if self.bitstream is not None:
            shutil.copyfile(self.bitstream, folder / self.report["bitstream"]["file"])

    def check(self) -> None:
        """Raises ``TimingError`` that says which path is too slow and what to do."""
        if self.bitstream is None:
            report = self.report
            raise TimingError(
                f"{report['board']} misses its constraint of {report['constraint_mhz']:g} MHz: the best of "
                f"{len(report['seeds'])} seeds reaches {max(report['fmax']['seeds']):.2f} MHz, so there is no "
                f"bitstream. The slowest path takes {report['critical_path']['words']}. Try more seeds (--seeds), or a "
                "slower clock (--clock)"
            )


def build(board: Board, *, seeds: Sequence[int], jobs: int = 1, say: Say = lambda stage, kept: None) -> Build:
    """Builds ``board`` from every seed, ``jobs`` of them at once.

    Raises ``ValueError`` when the board's values do not go together, ``RuntimeError`` when a tool is missing or fails,
    or the machine is larger than the chip. A missed constraint is no error here, but it gives no bitstream: see
    ``Build.check``.
    """
    family = FAMILIES[board.chip.family]
    if not seeds:
        raise ValueError("no seed is given: one or more are needed")
    if family.highest_mhz and board.clock_mhz > family.highest_mhz:
        raise ValueError(
            f"a clock of {board.clock_mhz:g} MHz is not possible on {board.chip.name}: "
            f"its memories follow {family.highest_mhz:g} MHz at most"
        )
    packages = versions(dict.fromkeys([*_PACKAGES, *(TOOLS[tool].package for tool in family.tools)]))
    planned = plan(board)
    say("elaborated", planned.kept)
    stages = Stages(planned, family, packages)
    synthesised = stages.synthesis()
    say("synthesised", synthesised.kept)
    counted = stages.resources(synthesised)
    blocks = {block: Resources(**taken) for block, taken in counted["blocks"].items()}
    taken = Resources.total(blocks.values())
    _check_fit(board, taken)

    placeable = stages.floor_plan(synthesised, board.chip.name)

    def routed(seed: int) -> Entry:
        one = stages.route(placeable, seed)
        say(f"seed {seed}: {timing.clock(read(one, ROUTED)).mhz:.2f} MHz", one.kept)
        return one

    with ThreadPoolExecutor(jobs) as pool:
        routes = dict(zip(seeds, pool.map(routed, seeds), strict=True))
    reports = {seed: read(route, ROUTED) for seed, route in routes.items()}
    clocks = {seed: timing.clock(report) for seed, report in reports.items()}
    _check_constraint(planned.clock_hz, clocks.values())
    best = max(seeds, key=lambda seed: clocks[seed].mhz / clocks[seed].constraint_mhz)
    packed = stages.pack(routes[best]) if clocks[best].met else None
    bitstream = packed.folder / f"{NAME}.{family.bitstream}" if packed else None
    every = [planned, synthesised, *routes.values(), *([packed] if packed else [])]
    report = {
        "board": board.name,
        "chip": board.chip.name,
        "speed_grade": board.chip.speed,
        "preset": board.preset,
        "macs": board.config.multipliers,
        "constraint_mhz": planned.clock_hz / 1e6,
        "met": clocks[best].met,
        "fmax": {
            "seeds": [round(each.mhz, 2) for each in clocks.values()],
            "median": round(statistics.median(each.mhz for each in clocks.values()), 2),
        },
        "seeds": list(seeds),
        "bitstream": _named(board, bitstream, best) if bitstream else None,
        "baud": board.baud,
        "resources": {
            "total": taken._asdict(),
            "placed": timing.placed(reports[best], family),
            "available": board.chip.resources._asdict(),
            "blocks": counted["blocks"],
        },
        "critical_path": {"seed": best} | timing.critical_path(reports[best], netlist.Hierarchy(counted["modules"])),
        "cautions": [family.caution] if family.caution else [],
        "seconds": {"synthesis": seconds(synthesised), "seeds": [seconds(route) for route in routes.values()]},
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version()} | packages,
        "configuration": dataclasses.asdict(board.config),
    }
    return Build(report, bitstream, routes[best].folder / f"{NAME}.tim", all(stage.kept for stage in every))


def _named(board: Board, bitstream: Path, seed: int) -> dict[str, Any]:
    digest = hashlib.sha256(bitstream.read_bytes()).hexdigest()
    return {"file": f"{board.name}{bitstream.suffix}", "seed": seed, "sha256": digest}


def _check_constraint(clock_hz: int, clocks: Iterable[timing.Clock]) -> None:
    """Raises ``RuntimeError`` when nextpnr judged by another clock than the one that the machine runs at."""
    for clock in clocks:
        if abs(clock.constraint_mhz * 1e6 / clock_hz - 1) > _ROUNDING:
            raise RuntimeError(
                f"nextpnr was told of {clock.constraint_mhz:g} MHz for {clock.name}, the machine's clock is "
                f"{clock_hz / 1e6:g} MHz: its timing says nothing"
            )


def _check_fit(board: Board, taken: Resources) -> None:
    """Raises ``RuntimeError`` with the numbers when a netlist takes more than the chip has."""
    over = [
        f"{used:,} of {there:,} {name.upper()}"
        for name, used, there in zip(Resources._fields, taken, board.chip.resources, strict=True)
        if used > there
    ]
    if over:
        raise RuntimeError(
            f"the machine {board.preset} does not fit on {board.title}: it takes {', '.join(over)}; "
            "take a smaller one with --machine"
        )
