"""The driver against devices that are wrong, mute or gone: every case ends, with an error that says why."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from tenzo import packets
from tenzo.device import Device
from tenzo.errors import DeviceLost, RequestRefused, WrongDevice
from tenzo_hw.config import Config, preset
from tenzo_hw.protocol import (
    ANSWER,
    BIT_CYCLES,
    BYTE_CYCLES,
    FRAME_END,
    MAGIC,
    RECEIVER_SLOTS,
    VERSION,
    Answer,
    Element,
    Kind,
    Space,
)
from tenzo_hw.timing import write_cycles

TINY = preset("tiny")


class Scripted:
    """A device that answers with what ``answer(kind, payload)`` returns and, to HELLO, the session; None is silence."""

    def __init__(self, answer: Callable[[int, bytes], bytes | None]) -> None:
        self.answer = answer
        self.session = b"\0\0"
        self.decoder = packets.Decoder()
        self.pending = b""
        self.kinds: list[int] = []

    def write(self, data: bytes) -> None:
        for packet in self.decoder.feed(data):
            self.kinds.append(packet.kind)
            payload = self.answer(packet.kind, packet.payload)
            if packet.kind == Kind.HELLO and payload is not None:
                self.session = packet.payload or self.session
                payload += self.session + b"\0\0"
            if payload is not None:
                self.pending += packets.encode(packet.kind | ANSWER, packet.sequence, payload)

    def read(self, timeout_s: float | None) -> bytes:
        data, self.pending = self.pending, b""
        return data

    def close(self) -> None:
        pass


def hello(magic: int = MAGIC, version: int = VERSION, config: Config = TINY) -> bytes:
    words = config.words()
    return bytes([Answer.OK]) + struct.pack(f"<IHH{len(words)}I", magic, version, len(words), *words)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (hello(magic=0x12345678), "no tenzo machine"),
        (b"\x00abc", "no tenzo machine"),
        (hello(version=VERSION + 1), "protocol version"),
        (hello()[:-4], "configuration words"),
        (hello(config=preset("small")), "lanes 4 instead of 2"),
    ],
)
def test_another_device_is_refused(answer: bytes, message: str) -> None:
    with pytest.raises(WrongDevice, match=message):
        Device(Scripted(lambda kind, payload: answer), expected=TINY)


def test_a_mute_device_is_given_up() -> None:
    transport = Scripted(lambda kind, payload: None)
    with pytest.raises(DeviceLost, match="does not answer HELLO"):
        Device(transport, attempts=4)
    assert transport.kinds == [Kind.HELLO] * 4


def test_a_device_that_falls_silent_is_given_up() -> None:
    transport = Scripted(lambda kind, payload: hello() if kind == Kind.HELLO else None)
    device = Device(transport, attempts=3)
    with pytest.raises(DeviceLost, match="does not answer RUN"):
        device.run()
    with pytest.raises(DeviceLost, match="loses packets: 3 attempts of one READ"):
        device.read_masters()


def test_a_transport_that_breaks_is_a_lost_device() -> None:
    transport = Scripted(lambda kind, payload: hello())
    device = Device(transport)

    def unplugged(data: bytes) -> None:
        raise OSError("unplugged")

    transport.write = unplugged
    with pytest.raises(DeviceLost, match="unplugged"):
        device.status()


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (Answer.BUSY, RequestRefused, "a run goes on"),
        (Answer.BAD_ADDRESS, RequestRefused, "BAD_ADDRESS"),
        (Answer.OUT_OF_ORDER, DeviceLost, "lost its place"),
    ],
)
def test_a_refusal_is_said(answer: Answer, error: type[Exception], message: str) -> None:
    device = Device(Scripted(lambda kind, payload: hello() if kind == Kind.HELLO else bytes([answer])))
    with pytest.raises(error, match=message):
        device.run()


class Late(Scripted):
    """A device with a slow way back: every look brings one answer, and what was in flight until then is noted."""

    def __init__(self, answer: Callable[[int, bytes], bytes | None]) -> None:
        super().__init__(answer)
        self.in_flight: list[int] = []

    def read(self, timeout_s: float | None) -> bytes:
        self.in_flight.append(len(packets.Decoder().feed(self.pending)))
        end = self.pending.index(b"\xc0", 1) + 1
        data, self.pending = self.pending[:end], self.pending[end:]
        return data


@pytest.mark.parametrize("window", [1, 7])
def test_the_link_never_rests_while_there_is_something_to_write(window: int) -> None:
    transport = Late(lambda kind, payload: hello() if kind == Kind.HELLO else bytes([Answer.OK]))
    device = Device(transport, window=window)
    transport.in_flight.clear()
    device.write(Space.MASTER, 0, np.full(TINY.weight_rows * TINY.columns, 1 << 20))
    writes = transport.kinds.count(Kind.WRITE)
    assert writes > 7
    assert transport.in_flight == [min(window, left) for left in range(writes, 0, -1)]


def test_no_more_reads_are_sent_than_the_machine_keeps() -> None:
    def answer(kind: int, payload: bytes) -> bytes:
        if kind == Kind.HELLO:
            return hello()
        return bytes([Answer.OK]) + bytes(4 * int.from_bytes(payload[5:], "little"))

    transport = Late(answer)
    device = Device(transport)
    transport.in_flight.clear()
    device.read_masters()
    reads = transport.kinds.count(Kind.READ)
    assert reads > 2
    assert transport.in_flight == [min(RECEIVER_SLOTS, left) for left in range(reads, 0, -1)]


def test_bytes_that_are_no_answer_are_passed_over() -> None:
    transport = Scripted(lambda kind, payload: hello())
    transport.pending = b"noise" + packets.encode(Kind.STATUS | ANSWER, 1, b"\x00") + b"\xc0\xdb"
    assert Device(transport).config == TINY


class Recorded(Scripted):
    """A device that carries everything out, and the bytes that it was sent, packet by packet."""

    def __init__(self) -> None:
        super().__init__(lambda kind, payload: hello() if kind == Kind.HELLO else bytes([Answer.OK]))
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)
        super().write(data)


#: Cycles of an answer to a WRITE: eleven bytes and five more where sequence number and CRC are stuffed.
ANSWER_CYCLES = (11 + 5) * (10 * BIT_CYCLES + 1)


def assert_paced(sent: list[bytes]) -> int:
    """Each WRITE is complete no sooner than the one before is answered. The ENDs that this took, no one too many."""
    fill = bytes([FRAME_END])
    filled = busy = 0
    for data in sent:
        frame = fill + data.lstrip(fill)
        (packet,) = packets.Decoder().feed(frame)
        assert len(data) * BYTE_CYCLES >= busy
        if len(data) > len(frame):
            assert (len(data) - 1) * BYTE_CYCLES < busy
        filled += len(data) - len(frame)
        element, code = Element(packet.payload[1]), packet.payload[6:]
        busy = write_cycles(element, len(code), sum(max(byte - 127, 1) for byte in code)) + ANSWER_CYCLES
    return filled


def test_a_write_is_complete_no_sooner_than_the_one_before_is_answered() -> None:
    transport = Recorded()
    device = Device(transport)
    random = np.random.default_rng(3)
    for zeros in (1, 0.9, 0.5, 0):
        for words in (256, 200, 1, 129, 2):
            transport.sent.clear()
            device.write(Space.MASTER, 0, random.integers(-(1 << 20), 1 << 20, words) * (random.random(words) >= zeros))
            assert_paced(transport.sent)
    transport.sent.clear()
    header = struct.pack("<BBI", Space.BATCH, Element.SPARSE, 0)
    payloads = [header + random.choice([b"\xff", b"\x81", b"\1" * 60]) for _ in range(50)]
    device._connection.exchange(Kind.WRITE, payloads)
    assert assert_paced(transport.sent) > 50
