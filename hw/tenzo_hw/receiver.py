"""Packet receiver: keeps the good packets of a byte stream, two at a time. Model: ``tenzo.packets.Decoder``."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .collisions import NO_COLLISIONS
from .config import Config
from .crc import CRC_BITS, CRC_RESIDUE, CRC_START, crc_step
from .protocol import COUNTER_BITS, CRC_BYTES, FRAME_END, HEADER_BYTES, RECEIVER_SLOTS
from .slip import RECEIVED, SlipDecoder, classify


def header_layout(config: Config) -> data.StructLayout:
    """What is known of a packet beside its payload; ``bad_frames`` were dropped between it and the one before."""
    return data.StructLayout({"kind": 8, "sequence": 8, "length": range(config.packet + 1), "bad_frames": COUNTER_BITS})


class PacketReceiver(wiring.Component):
    """Receives a byte a cycle into one slot while the packet in the other is carried out.

    ``valid`` says that a whole, checked packet is there; ``header`` holds until the strobe ``take`` gives its slot
    back, and ``byte`` is its payload's byte ``address``, two cycles later; it stays as it is after a cycle without
    ``advance``. The stream waits for a moment after an END, and while both slots are full; ENDs that end no frame are
    taken even then.
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
        packet_bits = (config.packet - 1).bit_length()
        m = Module()
        m.submodules.decoder = decoder = SlipDecoder()
        m.submodules.payloads = payloads = Memory(
            shape=8, depth=RECEIVER_SLOTS * config.packet, init=[], attrs=NO_COLLISIONS
        )
        write, read = payloads.write_port(), payloads.read_port()

        # Nothing comes in behind an END until its frame was judged. Then, while there is no room for another one, a
        # byte at a time is looked at: an END is no frame and goes, another byte waits.
        full = Signal(range(RECEIVER_SLOTS + 1))
        received = Signal(RECEIVED)
        held = Signal()
        room = Signal()
        judging = Signal(2)
        ends = Signal()
        accepted = self.i.valid & self.i.ready
        m.d.comb += [ends.eq(held & room & received.end), decoder.i_strobe.eq(held & room), decoder.i.eq(received)]
        with m.If(accepted):
            classify(m, received, self.i.payload)
        m.d.sync += [
            held.eq(accepted | (held & ~room & ~received.end)),
            judging.eq(Cat(ends, judging)),
            room.eq((full != RECEIVER_SLOTS) & ~ends & (judging == 0)),
            self.i.ready.eq(
                Mux(accepted, room & (self.i.payload != FRAME_END), ~held | room | received.end),
            ),
        ]

        headers = Array(Signal(header_layout(config), name=f"header{slot}") for slot in range(RECEIVER_SLOTS))
        receiving = Signal()
        reading = Signal()
        stored = Signal()
        m.d.sync += [
            full.eq(full + stored - self.take),
            self.valid.eq((full != 0) & ~self.take),
            self.header.eq(headers[reading]),
        ]
        m.d.comb += [read.addr.eq(Cat(self.address, reading)), read.en.eq(self.advance)]
        with m.If(self.advance):
            m.d.sync += self.byte.eq(read.data)
        with m.If(self.take):
            m.d.sync += reading.eq(~reading)

        # Bytes are counted from the payload's first one. The CRC of the longest packet would fall on its first bytes.
        position = Signal(range(-HEADER_BYTES, 2 * config.packet), init=-HEADER_BYTES)
        in_header, in_payload = position[-1], ~position[packet_bits:].any()
        too_long = Signal()
        kind = Signal(8)
        sequence = Signal(8)
        length = Signal(16)
        whole = Signal(17)
        bad_frames = Signal(COUNTER_BITS)
        crc = Signal(CRC_BITS, init=CRC_START)
        token = decoder.o
        takes = decoder.o_strobe & ~token.end
        m.d.comb += [
            write.addr.eq(Cat(position[:packet_bits], receiving)),
            write.data.eq(token.byte),
            write.en.eq(takes & in_payload),
        ]
        m.d.sync += whole.eq(length + CRC_BYTES)
        with m.If(takes):
            m.d.sync += crc.eq(crc_step(crc, crc[:8] ^ token.byte))
            with m.If(position[packet_bits] & ~in_header & (position[:packet_bits] == CRC_BYTES)):
                m.d.sync += too_long.eq(1)
            with m.Else():
                m.d.sync += position.eq(position + 1)
            with m.If(in_header), m.Switch(position[: (HEADER_BYTES - 1).bit_length()]):
                for place, field in enumerate((kind, sequence, length[:8], length[8:])):
                    with m.Case(place):
                        m.d.sync += field.eq(token.byte)

        # An END is judged in two cycles.
        judged = Signal()
        rights = Signal(4)
        ended = decoder.o_strobe & token.end
        m.d.sync += [
            judged.eq(ended),
            rights.eq(Cat(crc == CRC_RESIDUE, position == whole, ~too_long, ~token.bad)),
        ]
        m.d.comb += stored.eq(judged & rights.all())
        with m.If(ended):
            m.d.sync += [position.eq(-HEADER_BYTES), too_long.eq(0), crc.eq(CRC_START)]
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
        with m.Elif(judged):
            m.d.sync += bad_frames.eq(bad_frames + 1)
        return m
