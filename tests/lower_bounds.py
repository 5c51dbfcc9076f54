"""Installs the oldest versions that pyproject.toml allows and runs the tests of host and model with them.

Run by ``make lower-bounds``; the versions are read from pyproject.toml, so that no second list can fall behind.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv-lowest"


def pins() -> list[str]:
    """``name==oldest`` of every direct dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    found = []
    for requirement in [*project["dependencies"], *extras["sim"], *extras["test"]]:
        match = re.match(r"([\w.-]+)>=([\w.]+)", requirement)
        if match is None:
            raise SystemExit(f"{requirement!r} in pyproject.toml has no lower bound: write name>=version")
        found.append(f"{match[1]}=={match[2]}")
    return found


def main() -> None:
    """Builds the environment and runs the tests; exits as pytest does."""
    constraints = ENVIRONMENT / "constraints.txt"
    venv.create(ENVIRONMENT, with_pip=True)
    constraints.write_text("\n".join(pins()) + "\n")
    python = ENVIRONMENT / "bin" / "python"
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", constraints]
    subprocess.run([python, *install, "--editable", f"{ROOT}[sim,test]"], check=True)
    # Old versions warn of what newer Pythons change: here only failures count.
    tests = ["-m", "pytest", "-n", "2", "-W", "default", "-m", "not estimator_checks", "tests/sw", "tests/sim"]
    sys.exit(subprocess.run([python, *tests], cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
