"""Host link: carries out the host's packets on the core and answers them. Model: ``tenzo_sim.endpoint``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect

from .collisions import NO_COLLISIONS
from .config import Config
from .host_bus import CoreControl, HostBus
from .protocol import (
    ANSWER,
    BATCH_SPACES,
    COUNTER_BITS,
    ELEMENT_BYTES,
    MAGIC,
    READABLE,
    SESSION_BYTES,
    SPARSE_LARGEST,
    SPARSE_LONGEST,
    VERSION,
    WRITABLE,
    Answer,
    Element,
    Kind,
    Register,
    Space,
    State,
    space_words,
)
from .receiver import PacketReceiver
from .sender import PacketSender
from .timing import host_read_latency

#: Bytes before a WRITE's data, of a whole READ and of a whole RUN.
WRITE_HEADER_BYTES = 6
READ_BYTES = 7
RUN_BYTES = 6
#: Registers that the link itself keeps: the last ones of their space.
COUNTERS = (Register.FRAMES, Register.BAD_FRAMES, Register.REPEATS)
#: Last byte of an address in them.
_READ_ADDRESS_BYTE, _WRITE_ADDRESS_BYTE = 4, 5
#: Cycles from a byte's place to when it is among the fields.
_FETCH = 3
#: What a byte's wait begins with: for registers up to the byte, and for a new word of the host bus beyond its latency.
_WAIT, _READ_WAIT = 2, 3


class Link(wiring.Component):
    """One packet at a time: fetch its fields, check them, act, answer. The next packet is received meanwhile.

    A WRITE moves a byte a cycle to the bus, with SPARSE a word a cycle (``write_cycles``). An answer's bytes take eight
    cycles each, every four of its body ``host_read_latency`` more.

    What is known of a packet goes through registers that run freely; the states only wait until they are settled.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "host": Out(HostBus()),
                "control": Out(CoreControl()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The registers, and the states in the order of a packet's life."""
        config, host, control = self.config, self.host, self.control
        m = Module()
        m.submodules.receiver = receiver = PacketReceiver(config)
        m.submodules.sender = sender = PacketSender()
        connect(m, wiring.flipped(self.rx), receiver.i)
        connect(m, sender.o, wiring.flipped(self.tx))
        sequence, length = receiver.header.sequence, receiver.header.length
        kinds = {kind: Signal(name=f"is_{kind.name.lower()}") for kind in Kind}
        m.d.sync += [is_kind.eq(receiver.header.kind == kind) for kind, is_kind in kinds.items()]

        # The number of the packet carried out last: the next one and its repeat are known by it.
        last_sequence = Signal(8, init=-1)
        # Nothing was carried out yet, so nothing can be repeated.
        last_answer = Signal(Answer, init=Answer.OUT_OF_ORDER)
        greeted = Signal()
        before = Signal(8)
        is_next = Signal()
        is_repeat = Signal()
        carried_out = Signal()
        harmless = kinds[Kind.HELLO] | kinds[Kind.READ] | kinds[Kind.STATUS]
        m.d.sync += [
            before.eq(sequence - 1),
            is_next.eq(greeted & (before == last_sequence)),
            is_repeat.eq(greeted & (sequence == last_sequence)),
            carried_out.eq(is_next | kinds[Kind.HELLO] | (is_repeat & harmless)),
        ]

        # Space, element, address of a WRITE; space, address, count of a READ; pc, repeat of a RUN.
        fields = Signal(8 * READ_BYTES)
        place = Signal(range(config.packet + READ_BYTES + _FETCH))
        # As long as fields are fetched.
        step = place[: (READ_BYTES + _FETCH).bit_length()]
        space, element = fields[:8], fields[8:16]
        m.d.comb += [
            receiver.address.eq(place),
            control.pc.eq(fields[:16]),
            control.repeat.eq(fields[16:48]),
            host.space.eq(space),
        ]

        limits = space_words(config)
        limit = Signal(range(max(limits.values()) + 1))
        address = Signal(len(limit))
        beyond_bits = Signal(32 - len(limit))
        beyond = Signal()
        # Of a READ 16 bits, of a SPARSE WRITE what its bytes can stand for.
        count = Signal(range(max(1 << 16, SPARSE_LONGEST * config.packet)))
        end = Signal(max(len(address), len(count)) + 1)
        outside = Signal()
        answer = Signal(Answer)
        is_short = Signal()
        m.d.sync += [is_short.eq(length <= WRITE_HEADER_BYTES), beyond.eq(beyond_bits.any())]
        refusal, allowed = self._refusal(m, kinds, length, is_short, fields, count, outside)
        with m.Switch(space):
            for number, size in limits.items():
                with m.Case(number):
                    reachable = Mux(kinds[Kind.WRITE], number in WRITABLE, number in READABLE)
                    m.d.sync += limit.eq(Mux(reachable, size, 0))
            with m.Default():
                m.d.sync += limit.eq(0)
        elements = {number: Signal(name=f"is_{number.name.lower()}") for number in Element}
        m.d.sync += [is_element.eq(element == number) for number, is_element in elements.items()]

        # WRITE: the bytes of an element gather at the top of a word, which goes to the bus once it is complete. A word
        # of SPARSE may stand for several: the bytes behind it wait while they are written, not while they are counted.
        data_bytes = Signal(range(config.packet + 1))
        bytes_left = Signal(len(data_bytes) + 1, init=-1)
        element_byte = Signal(range(4))
        element_last = Signal.like(element_byte)
        arriving = Signal(2)
        word = Signal(32)
        complete = Signal()
        counting = Signal()
        turns = Signal(range(SPARSE_LONGEST))
        advance = Signal(init=1)
        writes = Signal()
        is_register = Signal()
        # The counters are the last registers: an address says so by a few bits.
        is_counter = is_register & (address[: max(COUNTERS).bit_length()] >= min(COUNTERS))
        writes_counter = Signal()
        m.d.sync += [
            data_bytes.eq(length - WRITE_HEADER_BYTES),
            is_register.eq(space == Space.REGISTER),
            element_last.eq(
                _any((is_element, ELEMENT_BYTES.get(number, 1) - 1) for number, is_element in elements.items())
            ),
            host.address.eq(address),
            host.write.eq(writes & ~is_counter),
            writes_counter.eq(writes & is_counter),
            control.run.eq(0),
            control.abort.eq(0),
            control.commit.eq(0),
        ]
        m.d.comb += [receiver.advance.eq(advance), writes.eq(complete & ~counting)]
        longer = receiver.byte > SPARSE_LARGEST
        with m.If(advance):
            m.d.sync += [arriving.eq(Cat(~bytes_left[-1], arriving)), complete.eq(0)]
            with m.If(~bytes_left[-1]):
                m.d.sync += [place.eq(place + 1), bytes_left.eq(bytes_left - 1)]
            with m.If(arriving[-1]):
                m.d.sync += [
                    word.eq(Cat(word[8:], receiver.byte)),
                    element_byte.eq(element_byte + 1),
                    turns.eq(Mux(longer, receiver.byte - SPARSE_LARGEST, 0)),
                ]
                with m.If(element_byte == element_last):
                    m.d.sync += [
                        complete.eq(1),
                        element_byte.eq(0),
                        advance.eq(~(elements[Element.SPARSE] & ~counting & longer)),
                    ]
        with m.Else():
            m.d.sync += [turns.eq(turns - 1), advance.eq(turns == 1)]
        with m.If(elements[Element.S32]):
            m.d.sync += host.data.eq(word)
        with m.Elif(elements[Element.S16]):
            m.d.sync += host.data.eq(word[16:].as_signed())
        with m.Elif(elements[Element.S8]):
            m.d.sync += host.data.eq(word[24:].as_signed())
        with m.Elif(elements[Element.SPARSE]):
            m.d.sync += host.data.eq(Mux(word[24:] > SPARSE_LARGEST, 0, word[24:]))
        with m.Else():
            m.d.sync += host.data.eq(word[24:])
        with m.If(writes):
            m.d.sync += address.eq(address + 1)
        with m.If(counting & complete):
            m.d.sync += count.eq(count + turns + 1)

        # The counters, one after the other: a register's low bits are its word.
        m.submodules.counters = counters = Memory(shape=COUNTER_BITS, depth=4, init=[], attrs=NO_COLLISIONS)
        change, counter = counters.write_port(), counters.read_port()
        counts = Signal()
        counted = Signal(2)
        increment = Signal(COUNTER_BITS)
        m.d.comb += [
            change.en.eq(counts | writes_counter),
            change.addr.eq(Mux(counts, counted, host.address[:2])),
            change.data.eq(Mux(counts, counter.data + increment, host.data[:COUNTER_BITS])),
        ]

        # An answer is a head of five bytes and ``left`` bytes of a body, of which ``at`` is the next one.
        hello = [MAGIC, VERSION | len(config.words()) << 16, *config.words()]
        session = Signal(8 * SESSION_BYTES)
        hello_bytes = 4 * (len(hello) + 1)
        left = Signal(range(max(config.packet, hello_bytes) + 1))
        total = Signal(16)
        is_last = Signal()
        body_bytes = Signal.like(left)
        ends_word = Signal()
        ends_head = Signal()
        at = Signal(range(max(config.packet, hello_bytes)))
        in_body = Signal()
        heads = Array([receiver.header.kind | ANSWER, sequence, total[:8], total[8:], answer])
        head = Signal(range(len(heads)))
        head_byte = Signal(8)
        out = Signal.like(sender.i.payload)
        wait = Signal(range(-1, _READ_WAIT + host_read_latency(config)))
        snap = Signal()
        status = Signal.like(self._status())
        read = Mux(is_counter, counter.data, host.read_data)
        body_byte = self._body(m, kinds, at, hello, session, status[:8], read)
        m.d.sync += [
            body_bytes.eq(
                _any(
                    (kinds[kind], size)
                    for kind, size in (
                        (Kind.HELLO, hello_bytes),
                        (Kind.READ, count << 2),
                        (Kind.STATUS, len(status) // 8),
                        (Kind.COMMIT, 1),
                    )
                )
            ),
            total.eq(left + 1),
            is_last.eq((left == in_body) & (in_body | ends_head)),
            ends_word.eq(in_body & (at[:2] == 3)),
            ends_head.eq(head == len(heads) - 1),
            head_byte.eq(heads[head]),
            receiver.take.eq(0),
            snap.eq(0),
            counts.eq(0),
        ]
        m.d.comb += [sender.i.payload.eq(out), counter.addr.eq(address)]
        # A status goes out from its lowest byte, the others behind it.
        following = Signal()
        m.d.sync += following.eq(0)
        with m.If(snap):
            m.d.sync += status.eq(self._status())
        with m.Elif(following):
            m.d.sync += status.eq(status >> 8)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [place.eq(0), head.eq(0), in_body.eq(0), at.eq(0)]
                with m.If(receiver.valid):
                    m.next = "FETCH"
            with m.State("FETCH"):
                # What is taken before the first byte came is shifted out again.
                m.d.sync += [place.eq(place + 1), fields.eq(Cat(fields[8:], receiver.byte))]
                for last_byte, takes in ((_READ_ADDRESS_BYTE, 1), (_WRITE_ADDRESS_BYTE, kinds[Kind.WRITE])):
                    with m.If((step == last_byte + _FETCH) & takes):
                        m.d.sync += Cat(address, beyond_bits).eq(fields[-32:])
                # Each counter is read in one cycle and written in the next one.
                m.d.comb += counter.addr.eq(step)
                m.d.sync += counted.eq(step)
                for register, increase in (
                    (Register.FRAMES, 1),
                    (Register.BAD_FRAMES, receiver.header.bad_frames),
                    (Register.REPEATS, is_repeat),
                ):
                    with m.If(step == register):
                        m.d.sync += [counts.eq(1), increment.eq(increase)]
                with m.If(step == READ_BYTES - 1 + _FETCH - 1):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                m.next = "MEASURE"
            with m.State("MEASURE"):
                m.d.sync += count.eq(data_bytes)
                with m.If(kinds[Kind.READ]):
                    m.d.sync += count.eq(fields[40:])
                with m.Elif(elements[Element.S16]):
                    m.d.sync += count.eq(Mux(data_bytes[0], 0, data_bytes[1:]))
                with m.Elif(elements[Element.S32]):
                    m.d.sync += count.eq(Mux(data_bytes[:2].any(), 0, data_bytes[2:]))
                with m.Elif(~elements[Element.U8] & ~elements[Element.S8]):
                    m.d.sync += count.eq(0)
                m.next = "ADD"
                with m.If(kinds[Kind.WRITE] & elements[Element.SPARSE] & ~is_short):
                    m.d.sync += counting.eq(1)
                    m.next = "PREPARE"
            with m.State("ADD"):
                m.d.sync += end.eq(address + count)
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += outside.eq((end > limit) | beyond)
                m.next = "WEIGH"
            with m.State("WEIGH"):
                m.next = "JUDGE"
            with m.State("JUDGE"):
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.sync += answer.eq(Mux(is_repeat, last_answer, Answer.OUT_OF_ORDER))
                m.next = "LENGTH"
                with m.If(carried_out):
                    m.d.sync += [last_sequence.eq(sequence), last_answer.eq(refusal), answer.eq(refusal)]
                    with m.If(allowed):
                        m.d.sync += [
                            control.run.eq(kinds[Kind.RUN]),
                            control.abort.eq(kinds[Kind.ABORT]),
                            control.commit.eq(kinds[Kind.COMMIT]),
                        ]
                        with m.If(kinds[Kind.HELLO]):
                            m.d.sync += greeted.eq(1)
                            with m.If(length != 0):
                                m.d.sync += session.eq(fields)
                        with m.If(kinds[Kind.WRITE]):
                            m.next = "PREPARE"
            with m.State("PREPARE"):
                m.d.sync += [place.eq(WRITE_HEADER_BYTES), bytes_left.eq(data_bytes - 1)]
                m.next = "WALK"
            with m.State("WALK"), m.If(advance & bytes_left[-1] & ~arriving.any() & ~complete):
                m.d.sync += counting.eq(0)
                m.next = "LENGTH"
                with m.If(counting):
                    m.next = "ADD"
            with m.State("LENGTH"):
                # All of a status is of one cycle.
                m.d.sync += [left.eq(Mux(answer == Answer.OK, body_bytes, 0)), snap.eq(1), wait.eq(_WAIT)]
                m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait[-1]):
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.sync += [
                    out.byte.eq(Mux(in_body, body_byte, head_byte)),
                    out.last.eq(is_last),
                ]
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += sender.i.valid.eq(1)
                m.d.sync += wait.eq(_WAIT)
                with m.If(sender.i.ready):
                    m.next = "WAIT"
                    with m.If(in_body):
                        m.d.sync += [left.eq(left - 1), at.eq(at + 1), following.eq(1)]
                    with m.Else():
                        m.d.sync += [head.eq(head + 1), in_body.eq(ends_head)]
                    with m.If(ends_word):
                        m.d.sync += address.eq(address + 1)
                    with m.If(ends_word | (ends_head & ~in_body)):
                        m.d.sync += wait.eq(_READ_WAIT + host_read_latency(config) - 1)
                    with m.If(out.last):
                        m.d.sync += receiver.take.eq(1)
                        m.next = "REST"
            with m.State("REST"):
                m.next = "IDLE"
        return m

    def _body(
        self,
        m: Module,
        kinds: Mapping[Kind, Value],
        at: Signal,
        hello: Sequence[int],
        session: Signal,
        status: Value,
        read: Value,
    ) -> Signal:
        """Byte ``at`` of an answer's body, three cycles later; ``status`` is that of a status."""
        # Logic rather than a memory: most of its bits are 0. Behind it the session, which this leaves out.
        text = [byte for number in [*hello, 0] for byte in number.to_bytes(4, "little")]
        word_byte = Signal(8)
        m.d.sync += word_byte.eq(Array(Const(byte, 8) for byte in text)[at])
        sources = {
            Kind.HELLO: Mux(at[2:] == len(hello), Mux(at[1], 0, session.word_select(at[0], 8)), word_byte),
            Kind.STATUS: status,
            Kind.COMMIT: self.control.free_halves,
            Kind.READ: read.word_select(at[:2], 8),
        }
        found = {kind: Signal(8, name=f"body_{kind.name.lower()}") for kind in sources}
        body = Signal(8)
        m.d.sync += [
            *(found[kind].eq(source) for kind, source in sources.items()),
            body.eq(_any((kinds[kind], byte) for kind, byte in found.items())),
        ]
        return body

    def _refusal(
        self,
        m: Module,
        kinds: Mapping[Kind, Value],
        length: Value,
        is_short: Value,
        fields: Value,
        count: Value,
        outside: Value,
    ) -> tuple[Signal, Signal]:
        """The answer to a packet that would be carried out now, and whether that is OK.

        Three cycles after ``count``, two after ``outside``. ``count`` is 0 when the data is no whole elements.
        """

        def settled(value: Value, name: str) -> Signal:
            register = Signal(1, name=name)
            m.d.sync += register.eq(value)
            return register

        lengths = {
            size: settled(length == size, f"length_{size}") for size in (0, SESSION_BYTES, RUN_BYTES, READ_BYTES)
        }
        no_words = settled(count == 0, "no_words")
        too_many = settled(count > (self.config.packet - 1) // 4, "too_many")
        outside_program = settled(fields[:16] >= self.config.program_depth, "outside_program")
        to_half = settled(Cat(fields[:8] == space for space in BATCH_SPACES).any(), "to_half")
        running = settled(self.control.state == State.RUNNING, "running")
        full = settled(self.control.free_halves == 0, "full")
        checks = {
            Kind.HELLO: (~lengths[0] & ~lengths[SESSION_BYTES], Const(0), Const(0)),
            Kind.WRITE: (is_short | no_words, outside, Mux(to_half, full, running)),
            Kind.READ: (~lengths[READ_BYTES] | no_words | too_many, outside, running),
            Kind.RUN: (~lengths[RUN_BYTES], outside_program, running),
            Kind.STATUS: (~lengths[0], Const(0), Const(0)),
            Kind.COMMIT: (~lengths[0], Const(0), full),
            Kind.ABORT: (~lengths[0], Const(0), Const(0)),
        }
        found = [
            settled(_any((kinds[kind], wrong[number]) for kind, wrong in checks.items()), name)
            for number, name in enumerate(("bad_length", "bad_address", "busy"))
        ]
        unknown = settled(~_any((is_kind, Const(1)) for is_kind in kinds.values()), "bad_kind")
        refusal = Signal(Answer, init=Answer.OK)
        allowed = Signal()
        m.d.sync += [refusal.eq(Answer.OK), allowed.eq(~Cat(unknown, found).any())]
        with m.If(unknown):
            m.d.sync += refusal.eq(Answer.BAD_KIND)
        with m.Elif(found[0]):
            m.d.sync += refusal.eq(Answer.BAD_LENGTH)
        with m.Elif(found[1]):
            m.d.sync += refusal.eq(Answer.BAD_ADDRESS)
        with m.Elif(found[2]):
            m.d.sync += refusal.eq(Answer.BUSY)
        return refusal, allowed

    def _status(self) -> Value:
        """The bytes of a status, the first one lowest."""
        control = self.control
        return Cat(
            (control.state | Const(0, 8)),
            (control.fault | Const(0, 8)),
            (control.free_halves | Const(0, 8)),
            (control.current_pc | Const(0, 32)),
            control.cycles,
            control.waits,
            control.steps,
        )


def _any(choices: Iterable[tuple[Value, ValueLike]]) -> Value:
    """The value whose flag is high, of which one is at most; else 0."""
    return reduce(or_, (Mux(flag, value, 0) for flag, value in choices))
