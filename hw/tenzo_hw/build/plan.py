"""The files and commands of a board's build, as Amaranth's platform writes them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pkgutil
from pathlib import Path
from typing import NamedTuple

from ..boards.board import Board
from .cache import entry
from .families import FAMILIES
from .tools import versions

NAME = "tenzo"
"""Of the top module, and of the files."""
_PACKAGE = Path(__file__).resolve().parents[1]
#: In a wheel, and beside the packages of the repository.
_CONSTRAINTS = (_PACKAGE / "constraints", _PACKAGE.parents[1] / "constraints")
#: The platforms' option that takes what a file of constraints says.
_ADDS = {".lpf": "add_preferences", ".pcf": "add_constraints", ".ys": "script_after_synth"}
_FACTS = "facts.json"
#: What the text of a design depends on beside our own sources.
_PACKAGES = ("amaranth", "amaranth-boards")


class Plan(NamedTuple):
    """What is to be done for a board."""

    folder: Path
    """Its files."""
    key: str
    """The hash of what they say: what the design's sources say beside it, such as comments, is not in it."""
    commands: list[list[str]]
    """The tools' commands in their order, run in a folder with the files."""
    clock_hz: int
    """What the PLL makes."""
    kept: bool
    """It was elaborated before."""

    def files(self) -> list[Path]:
        """All that the platform wrote."""
        return [path for path in sorted(self.folder.iterdir()) if path.name != _FACTS]

    def inputs(self) -> list[Path]:
        """The files that tools read: not the scripts that Amaranth would run."""
        return [path for path in self.files() if path.stem != f"build_{NAME}"]


def plan(board: Board) -> Plan:
    """The plan of this board, elaborated now or once before.

    Raises ``ValueError`` when the board's values do not go together, ``RuntimeError`` when a package is missing.
    """
    needed = versions(_PACKAGES)
    text = json.dumps([dataclasses.asdict(board), dataclasses.asdict(board.config), needed, _overrides(board)])
    made = entry("plan", [text, _gateware()], lambda folder: _prepare(board, folder))
    facts = json.loads((made.folder / _FACTS).read_text())
    said = hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(made.folder.iterdir()))).hexdigest()
    return Plan(made.folder, said, facts["commands"], facts["clock_hz"], made.kept)


def _gateware() -> str:
    """Hash of the sources that the text of a design is made from: all but this package."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        if "build" not in path.relative_to(_PACKAGE).parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _overrides(board: Board) -> dict[str, str]:
    """Options of the platform's tools: the family's, the board's, and the board's files of constraints."""
    family = FAMILIES.get(board.chip.family)
    options = dict(family.overrides) if family else {}
    for name, value in board.overrides.items():
        options[name] = f"{options[name]} {value}" if name in options else value
    for name in board.constraints:
        path = next((place / name for place in _CONSTRAINTS if (place / name).exists()), None)
        if path is None:
            raise RuntimeError(f"{board.name} needs constraints/{name}, which is not there: install tenzo again")
        option = _ADDS[path.suffix]
        options[option] = options.get(option, "") + path.read_text()
    return options


def _prepare(board: Board, folder: Path) -> None:
    """Elaborates the board's top and writes the platform's files and commands."""
    from ..boards.top import Top, dividers

    platform = pkgutil.resolve_name(board.platform)()
    if board.further_resources:
        platform.add_resources(getattr(platform, board.further_resources))
    pll = dividers(board, input_hz=round(platform.default_clk_frequency))
    # Without the places in the sources: the text, and with it all that is kept, is the same wherever tenzo lies.
    prepared = platform.prepare(Top(board, pll), NAME, emit_src=False, **_overrides(board))
    for name, content in prepared.files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
    commands = json.loads(prepared.files[f"build_{NAME}.json"])["commands"]
    (folder / _FACTS).write_text(json.dumps({"commands": commands, "clock_hz": round(pll.hz)}))
