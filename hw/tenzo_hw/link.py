"""Host link: carries out the host's packets on the core and answers them. Model: ``tenzo_sim.endpoint``."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect

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


class Link(wiring.Component):
    """One packet at a time: fetch its fields, check them, act, answer. The next packet is received meanwhile.

    A WRITE moves a byte a cycle to the bus, with SPARSE a word a cycle (``write_cycles``). Every four bytes of an
    answer's body take ``host_read_latency`` cycles more than to send them.
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
        kind, sequence, length = receiver.header.kind, receiver.header.sequence, receiver.header.length

        expected = Signal(8)
        # Nothing was carried out yet, so nothing can be repeated.
        last_answer = Signal(Answer, init=Answer.OUT_OF_ORDER)
        greeted = Signal()
        session = Signal(8 * SESSION_BYTES)
        repeat = greeted & (sequence == (expected - 1)[:8])
        harmless = (kind == Kind.HELLO) | (kind == Kind.READ) | (kind == Kind.STATUS)
        carried_out = (greeted & (sequence == expected)) | (kind == Kind.HELLO) | (repeat & harmless)

        counters = {register: Signal(COUNTER_BITS, name=register.name.lower()) for register in COUNTERS}
        is_counter = Signal()
        m.d.comb += is_counter.eq((host.space == Space.REGISTER) & (host.address >= min(COUNTERS)))

        # Space, element, address of a WRITE; space, address, count of a READ; pc, repeat of a RUN.
        fields = Signal(8 * READ_BYTES)
        place = Signal(range(config.packet + READ_BYTES))
        m.d.comb += [receiver.address.eq(place), control.pc.eq(fields[:16]), control.repeat.eq(fields[16:48])]

        limits = space_words(config)
        limit = Signal(range(max(limits.values()) + 1))
        # Of a READ 16 bits, of a SPARSE WRITE what its bytes can stand for.
        count = Signal(range(max(1 << 16, SPARSE_LONGEST * config.packet)))
        end = Signal(33)
        outside = Signal()
        answer = Signal(Answer)
        refusal = self._refusal(m, kind, length, fields, count, outside)

        # WRITE: the bytes of an element gather at the top of a word, which goes to the bus once it is complete. A word
        # of SPARSE may stand for several: the bytes behind it wait while they are written, not while they are counted.
        element = fields[8:16]
        element_last = Signal(range(4))
        element_byte = Signal(range(4))
        arriving = Signal()
        word = Signal(32)
        complete = Signal()
        counting = Signal()
        turn = Signal(range(SPARSE_LONGEST))
        last_turn = Signal.like(turn)
        advance = Signal()
        write = Signal()
        with m.Switch(element):
            for number, size in ELEMENT_BYTES.items():
                value = word[32 - 8 * size :]
                with m.Case(number):
                    m.d.comb += element_last.eq(size - 1)
                    m.d.comb += host.data.eq(value if number == Element.U8 else value.as_signed())
            with m.Case(Element.SPARSE):
                code = word[24:]
                m.d.comb += host.data.eq(code)
                with m.If(code > SPARSE_LARGEST):
                    m.d.comb += [host.data.eq(0), last_turn.eq(code - SPARSE_LARGEST)]
        m.d.comb += [
            advance.eq(counting | ~complete | (turn == last_turn)),
            receiver.advance.eq(advance),
            write.eq(complete & ~counting),
            host.write.eq(write & ~is_counter),
        ]
        m.d.sync += [control.run.eq(0), control.abort.eq(0), control.commit.eq(0)]
        with m.If(write):
            m.d.sync += host.address.eq(host.address + 1)
            for register, counter in counters.items():
                with m.If(is_counter & (host.address == register)):
                    m.d.sync += counter.eq(host.data)

        # An answer is a head of five bytes and ``left`` bytes of a body, which comes in words.
        left = Signal(16)
        heads = Array([kind | ANSWER, sequence, (left + 1)[:8], (left + 1)[8:16], answer])
        head = Signal(range(len(heads)))
        wait = Signal(range(host_read_latency(config) + 1))
        body = Signal(32)
        body_byte = Signal(range(4))
        hello = [MAGIC, VERSION | len(config.words()) << 16, *config.words()]
        m.submodules.hello = hello_memory = Memory(shape=32, depth=len(hello), init=hello)
        hello_word = hello_memory.read_port()
        index = Signal(range(len(hello) + 1))
        status = Signal.like(self._status())
        source = Signal(32)
        m.d.comb += [hello_word.addr.eq(index), source.eq(status.word_select(index, 32))]
        with m.If(kind == Kind.HELLO):
            m.d.comb += source.eq(Mux(index == len(hello), session, hello_word.data))
        with m.Elif(kind == Kind.COMMIT):
            m.d.comb += source.eq(control.free_halves)
        with m.Elif(kind == Kind.READ):
            m.d.comb += source.eq(host.read_data)
            for register, counter in counters.items():
                with m.If(is_counter & (host.address == register)):
                    m.d.comb += source.eq(counter)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += place.eq(0)
                with m.If(receiver.valid):
                    for register, increment in (
                        (Register.FRAMES, 1),
                        (Register.BAD_FRAMES, receiver.header.bad_frames),
                        (Register.REPEATS, repeat),
                    ):
                        m.d.sync += counters[register].eq(counters[register] + increment)
                    m.next = "FETCH"
            with m.State("FETCH"):
                # The byte of a place comes a cycle after it, so the first one taken is none and is shifted out again.
                m.d.sync += [place.eq(place + 1), fields.eq(Cat(fields[8:], receiver.byte))]
                with m.If(place == READ_BYTES):
                    m.next = "MEASURE"
            with m.State("MEASURE"):
                m.d.sync += [place.eq(WRITE_HEADER_BYTES), host.space.eq(fields), limit.eq(0), count.eq(0)]
                m.next = "ADD"
                with m.If(kind == Kind.WRITE):
                    m.d.sync += host.address.eq(fields[16:48])
                    data_bytes = (length - WRITE_HEADER_BYTES)[: len(length)]
                    with m.Switch(element):
                        for number, size in ELEMENT_BYTES.items():
                            with m.Case(number), m.If(data_bytes[: _log2(size)] == 0):
                                m.d.sync += count.eq(data_bytes[_log2(size) :])
                        with m.Case(Element.SPARSE), m.If(length > WRITE_HEADER_BYTES):
                            m.d.sync += counting.eq(1)
                            m.next = "WALK"
                with m.Else():
                    m.d.sync += [host.address.eq(fields[8:40]), count.eq(fields[40:])]
                with m.Switch(fields[:8]):
                    for space, size in limits.items():
                        with m.Case(space):
                            allowed = Mux(kind == Kind.WRITE, space in WRITABLE, space in READABLE)
                            m.d.sync += limit.eq(Mux(allowed, size, 0))
            with m.State("ADD"):
                m.d.sync += end.eq(host.address + count)
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += outside.eq(end > limit)
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.sync += answer.eq(Mux(repeat, last_answer, Answer.OUT_OF_ORDER))
                m.next = "BODY_LENGTH"
                with m.If(carried_out):
                    m.d.sync += [expected.eq(sequence + 1), last_answer.eq(refusal), answer.eq(refusal)]
                    with m.If(refusal == Answer.OK):
                        m.d.sync += [
                            control.run.eq(kind == Kind.RUN),
                            control.abort.eq(kind == Kind.ABORT),
                            control.commit.eq(kind == Kind.COMMIT),
                        ]
                        with m.If(kind == Kind.HELLO):
                            m.d.sync += greeted.eq(1)
                            with m.If(length != 0):
                                m.d.sync += session.eq(fields)
                        with m.If(kind == Kind.WRITE):
                            m.next = "WALK"
            with m.State("WALK"):
                m.d.sync += turn.eq(turn + 1)
                with m.If(advance):
                    m.d.sync += [turn.eq(0), complete.eq(0), arriving.eq(place != length)]
                    with m.If(place != length):
                        m.d.sync += place.eq(place + 1)
                    with m.If(arriving):
                        m.d.sync += [word.eq(Cat(word[8:], receiver.byte)), element_byte.eq(element_byte + 1)]
                        with m.If(element_byte == element_last):
                            m.d.sync += [complete.eq(1), element_byte.eq(0)]
                    with m.Elif(place == length):
                        m.d.sync += [counting.eq(0), place.eq(WRITE_HEADER_BYTES)]
                        m.next = "BODY_LENGTH"
                        with m.If(counting):
                            m.next = "ADD"
                with m.If(counting & complete):
                    m.d.sync += count.eq(count + last_turn + 1)
            with m.State("BODY_LENGTH"):
                m.d.sync += [left.eq(0), index.eq(0)]
                # All of a status is of this one cycle.
                m.d.sync += status.eq(self._status())
                with m.If(answer == Answer.OK), m.Switch(kind):
                    with m.Case(Kind.HELLO):
                        m.d.sync += left.eq(4 * (len(hello) + 1))
                    with m.Case(Kind.READ):
                        m.d.sync += left.eq(count << 2)
                    with m.Case(Kind.STATUS):
                        m.d.sync += left.eq(len(status) // 8)
                    with m.Case(Kind.COMMIT):
                        m.d.sync += left.eq(1)
                m.next = "HEAD"
            with m.State("HEAD"):
                m.d.comb += [
                    sender.i.valid.eq(1),
                    sender.i.payload.byte.eq(heads[head]),
                    sender.i.payload.last.eq((head == len(heads) - 1) & (left == 0)),
                ]
                m.d.sync += wait.eq(host_read_latency(config))
                with m.If(sender.i.ready):
                    m.d.sync += head.eq(head + 1)
                    with m.If(head == len(heads) - 1):
                        m.d.sync += head.eq(0)
                        m.next = "WORD"
                        with m.If(left == 0):
                            m.d.comb += receiver.take.eq(1)
                            m.next = "IDLE"
            with m.State("WORD"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.sync += [
                        body.eq(source),
                        index.eq(index + 1),
                        host.address.eq(host.address + 1),
                    ]
                    m.next = "BODY"
            with m.State("BODY"):
                m.d.comb += [
                    sender.i.valid.eq(1),
                    sender.i.payload.byte.eq(body),
                    sender.i.payload.last.eq(left == 1),
                ]
                m.d.sync += wait.eq(host_read_latency(config))
                with m.If(sender.i.ready):
                    m.d.sync += [body.eq(body >> 8), body_byte.eq(body_byte + 1), left.eq(left - 1)]
                    with m.If(left == 1):
                        m.d.comb += receiver.take.eq(1)
                        m.d.sync += body_byte.eq(0)
                        m.next = "IDLE"
                    with m.Elif(body_byte == 3):
                        m.next = "WORD"
        return m

    def _refusal(self, m: Module, kind: Value, length: Value, fields: Value, count: Value, outside: Value) -> Signal:
        """The answer to a packet that would be carried out now; ``count`` is 0 when the data is no whole elements."""
        refusal = Signal(Answer, init=Answer.OK)
        running = self.control.state == State.RUNNING
        full = self.control.free_halves == 0
        to_half = Cat(fields[:8] == space for space in BATCH_SPACES).any()
        too_many = count > (self.config.packet - 1) // 4
        checks = {
            Kind.HELLO: ((length != 0) & (length != SESSION_BYTES), 0, 0),
            Kind.WRITE: ((length <= WRITE_HEADER_BYTES) | (count == 0), outside, Mux(to_half, full, running)),
            Kind.READ: ((length != READ_BYTES) | (count == 0) | too_many, outside, running),
            Kind.RUN: (length != RUN_BYTES, fields[:16] >= self.config.program_depth, running),
            Kind.STATUS: (length != 0, 0, 0),
            Kind.COMMIT: (length != 0, 0, full),
            Kind.ABORT: (length != 0, 0, 0),
        }
        with m.Switch(kind):
            for case, (bad_length, bad_address, busy) in checks.items():
                with m.Case(case):
                    with m.If(bad_length):
                        m.d.comb += refusal.eq(Answer.BAD_LENGTH)
                    with m.Elif(bad_address):
                        m.d.comb += refusal.eq(Answer.BAD_ADDRESS)
                    with m.Elif(busy):
                        m.d.comb += refusal.eq(Answer.BUSY)
            with m.Default():
                m.d.comb += refusal.eq(Answer.BAD_KIND)
        return refusal

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


def _log2(power_of_two: int) -> int:
    return power_of_two.bit_length() - 1
