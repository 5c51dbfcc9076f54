"""Byte stuffing of SLIP (RFC 1055): marks where frames end in a stream of bytes. Model: ``tenzo.packets``."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .protocol import FRAME_END, FRAME_ESCAPE, FRAME_ESCAPED_END, FRAME_ESCAPED_ESCAPE

#: A byte as it came, and which of the special ones it is.
RECEIVED = data.StructLayout({"byte": 8, "end": 1, "escape": 1, "escaped_end": 1, "escaped_escape": 1})
#: A byte, or with ``end`` the end of a frame, ``bad`` when its escapes were wrong.
DECODED = data.StructLayout({"byte": 8, "end": 1, "bad": 1})
_SPECIAL = {
    "end": FRAME_END,
    "escape": FRAME_ESCAPE,
    "escaped_end": FRAME_ESCAPED_END,
    "escaped_escape": FRAME_ESCAPED_ESCAPE,
}


def classify(m: Module, received: data.View, byte: Signal) -> None:
    """``received`` is ``byte`` in the cycle before."""
    m.d.sync += [received.byte.eq(byte), *(received[name].eq(byte == value) for name, value in _SPECIAL.items())]


class SlipDecoder(wiring.Component):
    """Takes the stuffing out: ``o`` with ``o_strobe`` a cycle after ``i`` with ``i_strobe``, if that gives something.

    Two ENDs with nothing between them are one.
    """

    def __init__(self) -> None:
        super().__init__({"i": In(RECEIVED), "i_strobe": In(1), "o": Out(DECODED), "o_strobe": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """The block's logic."""
        m = Module()
        begun = Signal()
        escaped = Signal()
        bad = Signal()
        is_escape = self.i.escape & ~escaped
        m.d.sync += [
            self.o_strobe.eq(self.i_strobe & Mux(self.i.end, begun, ~is_escape)),
            self.o.byte.eq(self.i.byte),
            self.o.end.eq(self.i.end),
            self.o.bad.eq(bad | escaped),
        ]
        with m.If(escaped):
            m.d.sync += self.o.byte.eq(Mux(self.i.escaped_end, FRAME_END, FRAME_ESCAPE))
        with m.If(self.i_strobe):
            m.d.sync += [begun.eq(~self.i.end), escaped.eq(is_escape)]
            with m.If(self.i.end):
                m.d.sync += bad.eq(0)
            with m.Elif(escaped & ~self.i.escaped_end & ~self.i.escaped_escape):
                m.d.sync += bad.eq(1)
        return m
