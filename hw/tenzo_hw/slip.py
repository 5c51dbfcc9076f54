"""Byte stuffing of SLIP (RFC 1055): marks where frames end in a stream of bytes. Model: ``tenzo.packets``."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .protocol import FRAME_END, FRAME_ESCAPE, FRAME_ESCAPED_END, FRAME_ESCAPED_ESCAPE

#: A byte, or with ``end`` the end of a frame, ``bad`` when its escapes were wrong.
DECODED = data.StructLayout({"byte": 8, "end": 1, "bad": 1})
#: A byte, or with ``end`` an END.
TO_ENCODE = data.StructLayout({"byte": 8, "end": 1})


class SlipDecoder(wiring.Component):
    """Takes the stuffing out, a byte a cycle, without latency. Two ENDs with nothing between them are one."""

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(DECODED))})

    def elaborate(self, platform: object) -> Module:
        """The block's logic."""
        m = Module()
        begun = Signal()
        escaped = Signal()
        bad = Signal()
        byte = self.i.payload
        is_end = byte == FRAME_END
        is_escape = (byte == FRAME_ESCAPE) & ~escaped
        given = Mux(is_end, begun, ~is_escape)
        m.d.comb += [
            self.o.valid.eq(self.i.valid & given),
            self.i.ready.eq(self.o.ready | ~given),
            self.o.payload.byte.eq(byte),
            self.o.payload.end.eq(is_end),
            self.o.payload.bad.eq(bad | escaped),
        ]
        with m.If(escaped):
            m.d.comb += self.o.payload.byte.eq(Mux(byte == FRAME_ESCAPED_END, FRAME_END, FRAME_ESCAPE))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [begun.eq(~is_end), escaped.eq(is_escape)]
            with m.If(is_end):
                m.d.sync += bad.eq(0)
            with m.Elif(escaped & (byte != FRAME_ESCAPED_END) & (byte != FRAME_ESCAPED_ESCAPE)):
                m.d.sync += bad.eq(1)
        return m


class SlipEncoder(wiring.Component):
    """Puts the stuffing in, a sent byte a cycle, without latency."""

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(TO_ENCODE)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        """The block's logic."""
        m = Module()
        second = Signal()
        byte = self.i.payload.byte
        stuffed = ~self.i.payload.end & ((byte == FRAME_END) | (byte == FRAME_ESCAPE))
        m.d.comb += [
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready & (second | ~stuffed)),
            self.o.payload.eq(byte),
        ]
        with m.If(self.i.payload.end):
            m.d.comb += self.o.payload.eq(FRAME_END)
        with m.Elif(second):
            m.d.comb += self.o.payload.eq(Mux(byte == FRAME_END, FRAME_ESCAPED_END, FRAME_ESCAPED_ESCAPE))
        with m.Elif(stuffed):
            m.d.comb += self.o.payload.eq(FRAME_ESCAPE)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += second.eq(stuffed & ~second)
        return m
