"""What nextpnr's report says of a routed design: frequency, critical path, and what was placed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any, NamedTuple

from .families import Family
from .netlist import Hierarchy


class Clock(NamedTuple):
    """The clock of a design that is furthest from what it must reach."""

    name: str
    mhz: float
    """The highest frequency that its slowest path allows."""
    constraint_mhz: float

    @property
    def met(self) -> bool:
        """It is as fast as it must be."""
        return self.mhz >= self.constraint_mhz


def clock(report: Mapping[str, Any]) -> Clock:
    """The slowest clock relative to its constraint."""
    clocks = [Clock(name, each["achieved"], each["constraint"]) for name, each in report["fmax"].items()]
    if not clocks:
        raise RuntimeError("nextpnr reported no clock: the design has no registers")
    return min(clocks, key=lambda each: each.mhz / each.constraint_mhz)


def placed(report: Mapping[str, Any], family: Family) -> dict[str, int]:
    """What nextpnr placed, in the family's own units."""
    used = report["utilization"]
    return {name: sum(used[cell]["used"] for cell in cells if cell in used) for name, cells in family.placed.items()}


def critical_path(report: Mapping[str, Any], hierarchy: Hierarchy) -> dict[str, Any]:
    """The slowest path between two registers of the slowest clock, with the blocks that it goes through."""
    edge = f"posedge {clock(report).name}"
    path = next(path["path"] for path in report["critical_paths"] if path["from"] == path["to"] == edge)
    total = sum(step["delay"] for step in path)
    routing = sum(step["delay"] for step in path if step["type"] == "routing")
    nets = [step["net"] for step in path if step["type"] == "routing"]
    through = [step["to"]["cell"] for step in path]
    # Cells that nextpnr makes itself, such as the head of a carry chain, are in no block.
    blocks = [block for block, _ in groupby(hierarchy.block(cell) for cell in through if not cell.startswith("$"))]
    return {
        "words": (
            f"{total:.1f} ns from {blocks[0]} to {blocks[-1]}, {routing / total:.0%} of it on {len(nets)} wires"
            + (f", through {', '.join(blocks[1:-1])}" if blocks[1:-1] else "")
        ),
        "ns": round(total, 3),
        "routing_ns": round(routing, 3),
        "from": path[0]["from"]["cell"],
        "to": path[-1]["to"]["cell"],
        "blocks": blocks,
        "steps": [
            {
                "ns": round(step["delay"], 3),
                "type": step["type"],
                "block": hierarchy.block(step["to"]["cell"]),
                "name": step.get("net", step["to"]["cell"]),
                "from": step["from"]["loc"],
                "to": step["to"]["loc"],
            }
            for step in path
        ],
    }
