"""Packet receiver: keeps the good packets of a byte stream, two at a time. Model: ``tenzo.packets.Decoder``."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ETHERNET
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect

from .collisions import NO_COLLISIONS
from .config import Config
from .protocol import COUNTER_BITS, CRC_BYTES, HEADER_BYTES, RECEIVER_SLOTS
from .slip import SlipDecoder


def header_layout(config: Config) -> data.StructLayout:
    """What is known of a packet beside its payload; ``bad_frames`` were dropped between it and the one before."""
    return data.StructLayout({"kind": 8, "sequence": 8, "length": range(config.packet + 1), "bad_frames": COUNTER_BITS})


class PacketReceiver(wiring.Component):
    """Receives a byte a cycle into one slot while the packet in the other is carried out.

    ``valid`` says that a whole, checked packet is there; ``header`` holds until the strobe ``take`` gives its slot
    back, and ``byte`` is its payload's byte ``address``, one cycle later; it stays as it is after a cycle without
    ``advance``. The stream waits only while both slots are full.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "valid": Out(1),
                "header": Out(header_layout(config)),
                "address": In(range(config.packet)),
                "advance": In(1),
                "byte": Out(8),
                "take": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The block's logic."""
        config = self.config
        m = Module()
        m.submodules.decoder = decoder = SlipDecoder()
        m.submodules.crc = crc = CRC32_ETHERNET(data_width=8).create()
        m.submodules.payloads = payloads = Memory(
            shape=8, depth=RECEIVER_SLOTS * config.packet, init=[], attrs=NO_COLLISIONS
        )
        write, read = payloads.write_port(), payloads.read_port()

        headers = Array(Signal(header_layout(config), name=f"header{slot}") for slot in range(RECEIVER_SLOTS))
        receiving = Signal()
        reading = Signal()
        full = Signal(range(RECEIVER_SLOTS + 1))
        stored = Signal()
        m.d.sync += full.eq(full + stored - self.take)
        m.d.comb += [
            self.valid.eq(full != 0),
            self.header.eq(headers[reading]),
            read.addr.eq(Cat(self.address, reading)),
            read.en.eq(self.advance),
            self.byte.eq(read.data),
        ]
        with m.If(self.take):
            m.d.sync += reading.eq(~reading)

        longest = HEADER_BYTES + config.packet + CRC_BYTES
        position = Signal(range(longest + 1))
        too_long = Signal()
        kind = Signal(8)
        sequence = Signal(8)
        length = Signal(16)
        bad_frames = Signal(COUNTER_BITS)
        token = decoder.o.payload
        accepted = decoder.o.valid & decoder.o.ready
        good = crc.match_detected & ~token.bad & ~too_long & (position == HEADER_BYTES + length + CRC_BYTES)
        connect(m, wiring.flipped(self.i), decoder.i)
        m.d.comb += [
            decoder.o.ready.eq(full != RECEIVER_SLOTS),
            crc.data.eq(token.byte),
            crc.valid.eq(accepted & ~token.end),
            crc.start.eq(accepted & token.end),
            stored.eq(accepted & token.end & good),
            write.addr.eq(Cat((position - HEADER_BYTES)[: len(self.address)], receiving)),
            write.data.eq(token.byte),
            # The CRC of the longest packet would fall on its first payload bytes.
            write.en.eq(accepted & ~token.end & (position < HEADER_BYTES + config.packet)),
        ]
        with m.If(accepted & token.end):
            m.d.sync += [position.eq(0), too_long.eq(0)]
        with m.Elif(accepted & (position == longest)):
            m.d.sync += too_long.eq(1)
        with m.Elif(accepted):
            m.d.sync += position.eq(position + 1)
            with m.Switch(position):
                for place, field in enumerate((kind, sequence, length[:8], length[8:])):
                    with m.Case(place):
                        m.d.sync += field.eq(token.byte)
        with m.If(stored):
            slot = headers[receiving]
            m.d.sync += [
                slot.kind.eq(kind),
                slot.sequence.eq(sequence),
                slot.length.eq(length),
                slot.bad_frames.eq(bad_frames),
                bad_frames.eq(0),
                receiving.eq(~receiving),
            ]
        with m.Elif(accepted & token.end):
            m.d.sync += bad_frames.eq(bad_frames + 1)
        return m
