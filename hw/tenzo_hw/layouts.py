"""Gateware layouts of the instructions: the same fields as ``isa``, as Amaranth structures."""

from __future__ import annotations

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from .isa import Instruction


def instruction_layout(kind: type[Instruction]) -> data.StructLayout:
    """The fields of an instruction, without ``wait``, each with its width and sign."""
    return data.StructLayout(
        {
            name: signed(bits.width) if bits.signed else unsigned(bits.width)
            for name, bits in kind.FIELDS.items()
            if name != "wait"
        }
    )
