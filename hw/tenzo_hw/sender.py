"""Packet sender: frames a packet's bytes and appends its CRC. Model: ``tenzo.packets.encode``."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .crc import CRC_BITS, CRC_START, crc_step
from .protocol import CRC_BYTES, FRAME_END, FRAME_ESCAPE, FRAME_ESCAPED_END, FRAME_ESCAPED_ESCAPE
from .slip import RECEIVED, classify

#: A byte of a packet from its kind to the last of its payload, which ``last`` marks.
PACKET_BYTE = data.StructLayout({"byte": 8, "last": 1})


class PacketSender(wiring.Component):
    """Sends END, the packet's bytes and their CRC, END: a byte every four cycles, the first END after three."""

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(PACKET_BYTE)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        """The block's logic."""
        m = Module()
        crc = Signal(CRC_BITS, init=CRC_START)
        place = Signal(range(CRC_BYTES))

        # A byte is taken, looked at a cycle later, then sent, with an escape before it where it needs one.
        byte = Signal(8)
        is_end = Signal()
        taken = Signal()
        looked_at = Signal()
        seen = Signal(RECEIVED)
        second = Signal()
        sends = Signal()
        done = Signal()
        stuffed = seen.end | seen.escape
        m.d.comb += [
            sends.eq(looked_at & ~self.o.valid),
            done.eq(sends & (is_end | second | ~stuffed)),
        ]
        classify(m, seen, byte)
        m.d.sync += looked_at.eq(taken & ~done)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(sends):
            m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(seen.byte), second.eq(~done)]
            with m.If(is_end):
                m.d.sync += self.o.payload.eq(FRAME_END)
            with m.Elif(second):
                m.d.sync += self.o.payload.eq(Mux(seen.end, FRAME_ESCAPED_END, FRAME_ESCAPED_ESCAPE))
            with m.Elif(stuffed):
                m.d.sync += self.o.payload.eq(FRAME_ESCAPE)
        with m.If(done):
            m.d.sync += taken.eq(0)

        with m.FSM():
            with m.State("START"), m.If(self.i.valid & ~taken):
                m.d.sync += [taken.eq(1), is_end.eq(1), crc.eq(CRC_START)]
                m.next = "PACKET"
            with m.State("PACKET"):
                m.d.sync += self.i.ready.eq(Mux(self.i.ready, ~self.i.valid, ~taken))
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += [
                        taken.eq(1),
                        is_end.eq(0),
                        byte.eq(self.i.payload.byte),
                        crc.eq(crc_step(crc, crc[:8] ^ self.i.payload.byte)),
                    ]
                    with m.If(self.i.payload.last):
                        m.next = "CRC"
            with m.State("CRC"), m.If(~taken):
                m.d.sync += [taken.eq(1), byte.eq(~crc[:8]), crc.eq(crc >> 8), place.eq(place + 1)]
                with m.If(place == CRC_BYTES - 1):
                    m.next = "END"
            with m.State("END"), m.If(~taken):
                m.d.sync += [taken.eq(1), is_end.eq(1)]
                m.next = "START"
        return m
