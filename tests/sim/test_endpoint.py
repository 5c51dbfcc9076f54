"""The host protocol in Python: packets survive any cutting and damage, and the endpoint keeps the manual's rules."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenzo.packets import Decoder, Packet, Status, encode
from tenzo_hw.config import preset
from tenzo_hw.protocol import (
    ANSWER,
    FRAME_END,
    FRAME_ESCAPE,
    MAGIC,
    VERSION,
    Answer,
    Element,
    Kind,
    Register,
    Space,
    State,
)
from tenzo_sim.endpoint import Endpoint

CONFIG = preset("tiny")
LAST_TARGET = CONFIG.target_depth - 1
stuffed = st.lists(st.sampled_from([FRAME_END, FRAME_ESCAPE, 0xDC, 0xDD, 0, 255]), max_size=40).map(bytes)


class Machine:
    """Remembers requests."""

    config = CONFIG

    def __init__(self):
        self.calls = []
        self.state = State.IDLE
        self.free_halves = 2

    def read(self, space, address):
        return -address

    def write(self, space, address, value):
        self.calls.append((space, address, value))

    def run(self, pc, repeat):
        self.calls.append(("run", pc, repeat))
        self.state = State.RUNNING

    def abort(self):
        self.calls.append("abort")
        self.state, self.free_halves = State.IDLE, 2

    def commit(self):
        self.calls.append("commit")
        self.free_halves -= 1

    def status(self):
        return Status(self.state, 3, self.free_halves, 0x1234, 1 << 40, 5, 6)


class Host:
    """Sends packets in order and gives the answers' payloads; the first one is a HELLO, unless it is not to be."""

    def __init__(self, greet=True):
        self.machine = Machine()
        self.endpoint = Endpoint(self.machine)
        self.sequence = -2
        if greet:
            self.send(Kind.HELLO)
        self.sequence = -1

    def send(self, kind, payload=b"", sequence=None):
        if sequence is None:
            self.sequence = sequence = (self.sequence + 1) % 256
        (answer,) = Decoder().feed(self.endpoint.receive(encode(kind, sequence, payload)))
        assert (answer.kind, answer.sequence) == (kind | ANSWER, sequence)
        return answer.payload

    def counters(self):
        return struct.unpack("<3I", self.send(Kind.READ, read(Space.REGISTER, Register.FRAMES, 3))[1:])


def write(space, element, address, data):
    return struct.pack("<BBI", space, element, address) + data


def read(space, address, count):
    return struct.pack("<BIH", space, address, count)


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255), stuffed), max_size=5), st.integers(1, 20))
def test_packets_survive_any_cutting(packets, size):
    data = b"".join(encode(*packet) for packet in packets)
    decoder = Decoder(40)
    found = [packet for at in range(0, len(data), size) for packet in decoder.feed(data[at : at + size])]
    assert found == [Packet(*packet) for packet in packets]
    assert decoder.bad == 0


@given(stuffed, st.data())
def test_damage_costs_one_frame(payload, data):
    frame = bytearray(encode(2, 9, payload))
    frame[data.draw(st.integers(1, len(frame) - 2))] ^= 1 << data.draw(st.integers(0, 7))
    decoder = Decoder()
    good = encode(1, 10)
    assert decoder.feed(bytes(frame) + good) == [Packet(1, 10, b"")]
    assert decoder.bad >= 1


@pytest.mark.parametrize("length", [63, 64, 65, 66, 1000])
def test_a_payload_beyond_the_limit_is_bad(length):
    decoder = Decoder(64)
    frame = encode(2, 0, bytes([FRAME_END]) * length)
    found = [packet for byte in frame for packet in decoder.feed(bytes([byte]))]
    assert (len(found), decoder.bad) == ((1, 0) if length <= 64 else (0, 1))


@pytest.mark.parametrize("body", [b"", b"\xdb", b"\xdb\xdb", b"\xdbA", b"1234567", encode(1, 2)[1:-2]])
def test_what_is_no_packet_is_bad(body):
    decoder = Decoder()
    assert decoder.feed(b"\xc0" + body + b"\xc0") == []
    assert decoder.bad == (len(body) > 0)


def test_a_payload_that_no_length_can_say_is_refused():
    with pytest.raises(ValueError, match="at most 65535 bytes, not 65536"):
        encode(2, 0, bytes(1 << 16))


def test_a_status_keeps_its_fields():
    status = Status(1, 2, 1, 77, 1 << 60, 3, 4)
    assert Status.unpack(status.pack()) == status
    with pytest.raises(ValueError, match="27 bytes, this one 26"):
        Status.unpack(status.pack()[:-1])


def test_hello_tells_the_configuration():
    payload = Host().send(Kind.HELLO)
    words = CONFIG.words()
    assert payload == struct.pack(f"<BIHH{len(words)}II", Answer.OK, MAGIC, VERSION, len(words), *words, 0)


def test_hello_remembers_the_session():
    host = Host()
    assert host.send(Kind.HELLO, b"\xfe\xca")[-4:] == b"\xfe\xca\0\0"
    assert host.send(Kind.HELLO)[-4:] == b"\xfe\xca\0\0"
    for payload in (b"\1", b"\1\2\3", b"\1\2\3\4"):
        assert host.send(Kind.HELLO, payload) == bytes([Answer.BAD_LENGTH])
    assert host.send(Kind.HELLO)[-4:] == b"\xfe\xca\0\0"
    assert Host().send(Kind.HELLO)[-4:] == bytes(4)


def test_elements_are_extended():
    host = Host()
    for element, data in (
        (Element.U8, b"\xff\x01"),
        (Element.S8, b"\xff\x01"),
        (Element.S16, b"\xfe\xff\x01\x00"),
        (Element.S32, b"\x00\x00\x00\x80"),
        (Element.SPARSE, b"\x80\x81\x00"),
    ):
        assert host.send(Kind.WRITE, write(Space.TARGET, element, 3, data)) == bytes([Answer.OK])
    values = [(3, 255), (4, 1), (3, -1), (4, 1), (3, -2), (4, 1), (3, -(1 << 31)), (3, 128), (4, 0), (5, 0), (6, 0)]
    assert host.machine.calls == [(Space.TARGET, address, value) for address, value in values]


def test_a_run_of_zeros_may_end_with_its_memory():
    host = Host()
    assert host.send(Kind.WRITE, write(Space.TARGET, Element.SPARSE, 0, b"\x01\xbe")) == bytes([Answer.OK])
    assert host.machine.calls == [(Space.TARGET, address, int(address == 0)) for address in range(CONFIG.target_depth)]


def test_reads_are_words():
    assert Host().send(Kind.READ, read(Space.LANE, 1, 2)) == bytes([Answer.OK]) + struct.pack("<2i", -1, -2)


@pytest.mark.parametrize(
    ("kind", "payload", "answer"),
    [
        (0, b"", Answer.BAD_KIND),
        (0x81, b"", Answer.BAD_KIND),
        (Kind.STATUS, b"x", Answer.BAD_LENGTH),
        (Kind.RUN, bytes(5), Answer.BAD_LENGTH),
        (Kind.RUN, struct.pack("<HI", CONFIG.program_depth, 1), Answer.BAD_ADDRESS),
        (Kind.READ, read(Space.LOSS, 0, 0), Answer.BAD_LENGTH),
        (Kind.READ, read(Space.LANE, 0, CONFIG.packet // 4), Answer.BAD_LENGTH),
        (Kind.READ, read(Space.LOSS, 2 * CONFIG.losses - 1, 2), Answer.BAD_ADDRESS),
        (Kind.READ, read(Space.LOSS, 0xFFFFFFFF, 1), Answer.BAD_ADDRESS),
        (Kind.READ, read(Space.BATCH, 0, 1), Answer.BAD_ADDRESS),
        (Kind.READ, read(77, 0, 1), Answer.BAD_ADDRESS),
        (Kind.WRITE, write(Space.TARGET, Element.U8, 0, b""), Answer.BAD_LENGTH),
        (Kind.WRITE, write(Space.TARGET, Element.S16, 0, b"abc"), Answer.BAD_LENGTH),
        (Kind.WRITE, write(Space.TARGET, 5, 0, b"abcd"), Answer.BAD_LENGTH),
        (Kind.WRITE, write(Space.TARGET, Element.SPARSE, 0, b""), Answer.BAD_LENGTH),
        (Kind.WRITE, write(Space.TARGET, Element.SPARSE, 1, b"\x01\xbe"), Answer.BAD_ADDRESS),
        (Kind.WRITE, write(Space.BATCH, Element.SPARSE, 0, b"\xff" * (CONFIG.packet - 6)), Answer.BAD_ADDRESS),
        (Kind.WRITE, write(Space.TARGET, Element.U8, LAST_TARGET, b"ab"), Answer.BAD_ADDRESS),
        (Kind.WRITE, write(Space.LANE, Element.U8, 0, b"a"), Answer.BAD_ADDRESS),
    ],
)
def test_refused_packets_do_nothing(kind, payload, answer):
    host = Host()
    assert host.send(kind, payload) == bytes([answer])
    # A repeat is answered as before, and the numbering goes on.
    assert host.send(kind, payload, host.sequence) == bytes([answer])
    assert host.send(Kind.WRITE, write(Space.TARGET, Element.U8, LAST_TARGET, b"a")) == bytes([Answer.OK])
    assert host.machine.calls == [(Space.TARGET, LAST_TARGET, ord("a"))]


def test_a_run_keeps_all_but_the_next_batch_busy():
    host = Host()
    host.send(Kind.RUN, struct.pack("<HI", 5, 7))
    assert host.machine.calls == [("run", 5, 7)]
    data = bytes([1])
    for space in (Space.REGISTER, Space.PROGRAM, Space.MASTER, Space.TABLE):
        assert host.send(Kind.WRITE, write(space, Element.U8, 0, data)) == bytes([Answer.BUSY])
    assert host.send(Kind.READ, read(Space.REGISTER, Register.FRAMES, 1)) == bytes([Answer.BUSY])
    assert host.send(Kind.RUN, bytes(6)) == bytes([Answer.BUSY])
    for left in (1, 0):
        assert host.send(Kind.WRITE, write(Space.BATCH, Element.U8, 0, data)) == bytes([Answer.OK])
        assert host.send(Kind.COMMIT) == bytes([Answer.OK, left])
    for space in (Space.BATCH, Space.TARGET):
        assert host.send(Kind.WRITE, write(space, Element.U8, 0, data)) == bytes([Answer.BUSY])
    assert host.send(Kind.COMMIT) == bytes([Answer.BUSY])
    assert Status.unpack(host.send(Kind.STATUS)[1:]).state == State.RUNNING
    assert host.send(Kind.ABORT) == bytes([Answer.OK])
    assert host.send(Kind.READ, read(Space.REGISTER, 0, 1))[0] == Answer.OK


def test_a_repeat_is_carried_out_once():
    host = Host()
    assert host.send(Kind.COMMIT) == bytes([Answer.OK, 1])
    assert host.send(Kind.COMMIT, sequence=host.sequence) == bytes([Answer.OK, 1])
    assert host.machine.calls == ["commit"]
    assert host.send(Kind.COMMIT, sequence=host.sequence + 2) == bytes([Answer.OUT_OF_ORDER])
    assert host.machine.calls == ["commit"]
    for kind, payload in ((Kind.READ, read(Space.LANE, 0, 1)), (Kind.STATUS, b""), (Kind.HELLO, b"")):
        assert host.send(kind, payload) == host.send(kind, payload, host.sequence)
    assert host.counters() == (11, 0, 4)


@pytest.mark.parametrize("sequence", [0, 255])
@pytest.mark.parametrize(
    ("kind", "payload"), [(Kind.COMMIT, b""), (Kind.STATUS, b""), (Kind.READ, read(Space.LANE, 0, 1))]
)
def test_before_a_hello_nothing_is_carried_out(kind, payload, sequence):
    host = Host(greet=False)
    assert host.send(kind, payload, sequence) == bytes([Answer.OUT_OF_ORDER])
    # A HELLO that is refused is none.
    assert host.send(Kind.HELLO, b"?", (sequence - 1) % 256) == bytes([Answer.BAD_LENGTH])
    for _ in range(2):
        assert host.send(kind, payload, sequence) == bytes([Answer.OUT_OF_ORDER])
    assert host.machine.calls == []
    host.send(Kind.HELLO, b"", (sequence - 1) % 256)
    assert host.send(kind, payload, sequence)[0] == Answer.OK


def test_hello_says_where_the_numbering_goes_on():
    host = Host()
    host.send(Kind.STATUS)
    host.sequence = 99
    assert host.send(Kind.STATUS) == bytes([Answer.OUT_OF_ORDER])
    assert host.send(Kind.HELLO)[0] == Answer.OK
    assert host.send(Kind.STATUS)[0] == Answer.OK


def test_counters_count_in_order_and_can_be_set():
    host = Host()
    host.endpoint.receive(b"\xc0nonsense\xc0\xc0\xc0" + encode(Kind.STATUS, 0) + b"more\xc0")
    host.sequence = 0
    assert host.counters() == (3, 2, 0)
    setting = write(Space.REGISTER, Element.S32, Register.FRAMES, struct.pack("<3i", -1, 0, 70000))
    assert host.send(Kind.WRITE, setting) == bytes([Answer.OK])
    assert host.counters() == (0, 0, 70000 % (1 << 16))
    assert host.machine.calls == []
