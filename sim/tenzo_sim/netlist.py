"""The synthesised machine in Verilog: the cells of a chip, in place of the design that they were made from.

Synthesis is that of ``tenzo build``. What a cell does is said by the models that Yosys comes with; ``cells/`` has those
that it lacks (block RAM and multiplier of the ECP5), look-up tables in a form that simulates faster, and memories of
the iCE40 in which every word that is not defined is a wrong one.
"""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

from amaranth.back import rtlil
from amaranth.lib import wiring
from tenzo_hw.build.cache import entry
from tenzo_hw.build.families import FAMILIES
from tenzo_hw.build.tools import TOOLS, run, versions
from tenzo_hw.config import Config
from tenzo_hw.machine import Machine

#: Yosys's models of each family's cells, in its shared files.
_MODELS = {
    "ecp5": ("ecp5/common_sim.vh", "ecp5/ccu2c_sim.vh"),
    "ice40": ("ice40/cells_sim.v",),
}
#: Models of our own, one cell a file, which take the place of Yosys's.
_CELLS = Path(__file__).with_name("cells")
_OWN = {"ecp5": ("LUT4", "DP16KD", "MULT18X18D"), "ice40": ("SB_LUT4", "SB_RAM40_4K", "SB_SPRAM256KA")}
#: A cell's name at the beginning of an instance.
_INSTANCE = re.compile(r"^  ([A-Z]\w*) (?:#\(|\w)", re.MULTILINE)
_DESIGN, _NETLIST = "machine.il", "netlist.v"


def netlist(config: Config, family: str) -> str:
    """A machine as ``family``'s cells and what these do, with ``machine`` as top module."""
    return synthesised(Machine(config), "machine", family) + models(family)


def synthesised(component: wiring.Component, name: str, family: str) -> str:
    """The component's cells in Verilog with ``name`` as top module, from the cache or synthesised now.

    ``family``: ``ecp5`` or ``ice40``, synthesised as ``tenzo build`` does. Raises ``ValueError`` for another
    family, ``RuntimeError`` when Yosys is missing or fails.
    """
    _check(family)
    tool = TOOLS["yosys"].package
    # Blocks ask a platform for its family only.
    design = rtlil.convert(component, name=name, platform=SimpleNamespace(family=family), emit_src=False)
    options = FAMILIES[family].overrides.get("synth_opts", "")
    commands = (
        f"read_rtlil {_DESIGN}",
        f"synth_{family} {options} -top {name}",
        # Short names: a third of the text.
        "delete t:$scopeinfo",
        "rename -hide w:* c:*",
        "rename -enumerate",
        f"write_verilog -noattr -noexpr {_NETLIST}",
    )

    def make(folder: Path) -> None:
        (folder / _DESIGN).write_text(design)
        run(["yosys", "-q", "-p", "; ".join(commands)], folder)

    made = entry("netlist", [design, *commands, versions([tool])[tool]], make)
    return (made.folder / _NETLIST).read_text()


def cells(verilog: str) -> Counter[str]:
    """How many of each cell a netlist has."""
    return Counter(_INSTANCE.findall(verilog))


def models(family: str) -> str:
    """What ``family``'s cells do, in Verilog. Raises as ``synthesised`` does."""
    _check(family)
    text = yosys_models(family)
    for cell in _OWN[family]:
        text = module(cell).sub("", text) + (_CELLS / f"{cell}.v").read_text()
    return text


def yosys_models(family: str) -> str:
    """Yosys's models of ``family``'s cells. Raises ``RuntimeError`` that says what to install when it is missing."""
    tool = TOOLS["yosys"].package
    versions([tool])
    shared = files(tool.replace("-", "_")) / "share"
    # Their includes are of cells that synthesis does not make.
    return "".join(["`define NO_INCLUDES\n", *((shared / name).read_text() for name in _MODELS[family])])


def module(name: str) -> re.Pattern[str]:
    """Finds the module of this name in Verilog."""
    return re.compile(rf"^module {name}\b.*?^endmodule\n", re.DOTALL | re.MULTILINE)


def _check(family: str) -> None:
    if family not in _MODELS:
        raise ValueError(f"no models of the cells of {family!r}; there are those of {', '.join(_MODELS)}")
