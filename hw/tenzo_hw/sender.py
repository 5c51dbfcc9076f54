"""Packet sender: frames a packet's bytes and appends its CRC. Model: ``tenzo.packets.encode``."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ETHERNET
from amaranth.lib.wiring import In, Out, connect

from .protocol import CRC_BYTES
from .slip import SlipEncoder

#: A byte of a packet from its kind to the last of its payload, which ``last`` marks.
PACKET_BYTE = data.StructLayout({"byte": 8, "last": 1})


class PacketSender(wiring.Component):
    """Sends END, the packet's bytes and their CRC, END: a byte a cycle, without latency beyond the first END."""

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(PACKET_BYTE)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        """The block's logic."""
        m = Module()
        m.submodules.encoder = encoder = SlipEncoder()
        m.submodules.crc = crc = CRC32_ETHERNET(data_width=8).create()
        connect(m, encoder.o, wiring.flipped(self.o))
        place = Signal(range(CRC_BYTES))
        sent = encoder.i.valid & encoder.i.ready
        with m.FSM():
            with m.State("START"):
                m.d.comb += [encoder.i.valid.eq(self.i.valid), encoder.i.payload.end.eq(1), crc.start.eq(1)]
                with m.If(sent):
                    m.next = "PACKET"
            with m.State("PACKET"):
                m.d.comb += [
                    encoder.i.valid.eq(self.i.valid),
                    encoder.i.payload.byte.eq(self.i.payload.byte),
                    self.i.ready.eq(encoder.i.ready),
                    crc.data.eq(self.i.payload.byte),
                    crc.valid.eq(sent),
                ]
                with m.If(sent & self.i.payload.last):
                    m.next = "CRC"
            with m.State("CRC"):
                m.d.comb += [encoder.i.valid.eq(1), encoder.i.payload.byte.eq(crc.crc.word_select(place, 8))]
                with m.If(sent):
                    m.d.sync += place.eq(place + 1)
                    with m.If(place == CRC_BYTES - 1):
                        m.next = "END"
            with m.State("END"):
                m.d.comb += [encoder.i.valid.eq(1), encoder.i.payload.end.eq(1)]
                with m.If(sent):
                    m.next = "START"
        return m
