"""Gateware layouts of the instructions: the same fields as ``isa``, as Amaranth structures."""

from __future__ import annotations

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from .config import OUTER_LEVELS, REDUCTION_LEVELS
from .isa import Contract, Instruction
from .registers import ADDRESS_BITS

#: The address streams of a contraction: activations, weights, results, biases.
STREAMS = "awob"
#: Numbers of contractions, which tell those apart that are under way at once: one given, one whose rows are issued,
#: and those whose results drain.
CONTRACTIONS = 4
LEVELS = range(REDUCTION_LEVELS + OUTER_LEVELS)
_DELTAS = {f"{stream}{level}" for stream in STREAMS for level in LEVELS}


def instruction_layout(kind: type[Instruction]) -> data.StructLayout:
    """The fields of an instruction, without ``wait`` and the deltas of a contraction, each with its width and sign."""
    return data.StructLayout(
        {
            name: signed(bits.width) if bits.signed else unsigned(bits.width)
            for name, bits in kind.FIELDS.items()
            if name != "wait" and not (kind is Contract and name in _DELTAS)
        }
    )


def deltas_layout() -> data.StructLayout:
    """A contraction's deltas on their way: those of ``level``, of the streams whose bit in ``write`` is set."""
    return data.StructLayout(
        {"level": range(len(LEVELS)), "write": len(STREAMS), **dict.fromkeys(STREAMS, ADDRESS_BITS)}
    )
