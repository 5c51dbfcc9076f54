"""Verilog export of a component, ready for Verilator."""

from __future__ import annotations

import re

from amaranth.back import verilog
from amaranth.lib import wiring

#: A memory word that starts at zero: Verilator clears memories itself, and one line a word is megabytes of text.
_ZERO_WORD = re.compile(r"^\s+\S+\[\d+\] = \d+'[dhb]0+;\n", re.MULTILINE)


def export(component: wiring.Component, name: str) -> str:
    """The component's Verilog with ``name`` as top module; ports as ``wiring`` names them, plus clk and rst."""
    return _ZERO_WORD.sub("", verilog.convert(component, name=name, emit_src=False))
