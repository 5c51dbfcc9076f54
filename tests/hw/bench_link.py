"""The link against the Python endpoint: the same bytes back, and the same requests carried out, whatever arrives."""

import json
import os
import random
import struct
import zlib
from collections import deque

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly
from tenzo.packets import Status, encode
from tenzo_hw.config import Config
from tenzo_hw.protocol import (
    ANSWER,
    ELEMENT_BYTES,
    FRAME_END,
    FRAME_ESCAPE,
    FRAME_ESCAPED_END,
    FRAME_ESCAPED_ESCAPE,
    SESSION_BYTES,
    SPARSE_LARGEST,
    SPARSE_LONGEST,
    WRITABLE,
    Answer,
    Element,
    Kind,
    Register,
    Space,
    State,
    space_words,
)
from tenzo_hw.timing import host_read_latency, write_cycles
from tenzo_sim.endpoint import Endpoint

CONFIG = Config.from_words(json.loads(os.environ["TENZO_BENCH"])["config"])
WORDS = space_words(CONFIG)
LATENCY = host_read_latency(CONFIG)
#: Cycles without a byte after which nothing more comes: the longest WRITE and some waiting are over.
QUIET = CONFIG.packet + max(WORDS[space] for space in WRITABLE) + 100
STUFFED = {
    FRAME_END: bytes([FRAME_ESCAPE, FRAME_ESCAPED_END]),
    FRAME_ESCAPE: bytes([FRAME_ESCAPE, FRAME_ESCAPED_ESCAPE]),
}


#: The link's counters are words of a memory: they go on from test to test, whatever is reset.
COUNTERS = {}


class FakeMachine:
    """Memories that hold what was written, and a state that follows from the requests alone."""

    config = CONFIG

    def __init__(self):
        self.log = []
        self.memory = {}
        self.state = State.IDLE
        self.free_halves = 2

    def read(self, space, address):
        return self.memory.get((space, address), hash((space, address)) & 0xFFFFFFFF)

    def write(self, space, address, value):
        self.log.append((space, address, value & 0xFFFFFFFF))
        self.memory[space, address] = value & 0xFFFFFFFF

    def run(self, pc, repeat):
        self.log.append(("run", pc, repeat))
        self.state = State.RUNNING

    def abort(self):
        self.log.append("abort")
        self.state, self.free_halves = State.IDLE, 2

    def commit(self):
        self.log.append("commit")
        # As a run would: now and then it takes a half, or ends.
        self.free_halves = 2 if len(self.log) % 3 == 0 else self.free_halves - 1
        if len(self.log) % 7 == 0:
            self.state = State.FAILED

    def status(self):
        count = len(self.log)
        return Status(
            state=self.state,
            fault=count % 5,
            free_halves=self.free_halves,
            pc=count * 31 % CONFIG.program_depth,
            cycles=count * 0x9E3779B97F4A7C15 % (1 << 64),
            waits=count * 0xC2B2AE3D27D4EB4F % (1 << 64),
            steps=count * 0x85EBCA77 % (1 << 32),
        )


class Harness:
    """Bytes in and out at random moments, with the fake machine on the other side."""

    def __init__(self, dut, idle, pressure):
        self.dut = dut
        self.idle = idle
        self.pressure = pressure
        self.machine = FakeMachine()
        self.to_send = deque()
        self.received = bytearray()
        self.addressed = deque(maxlen=LATENCY + 1)

    async def start(self):
        """Starts the clock and resets the link."""
        self.dut.rx__valid.value = 0
        self.dut.tx__ready.value = 0
        self.dut.rst.value = 1
        cocotb.start_soon(Clock(self.dut.clk, 10, unit="ns").start())
        await FallingEdge(self.dut.clk)
        await FallingEdge(self.dut.clk)
        self.dut.rst.value = 0

    async def step(self):
        """One cycle."""
        dut = self.dut
        status = self.machine.status()
        dut.control__state.value = status.state
        dut.control__fault.value = status.fault
        dut.control__free_halves.value = status.free_halves
        dut.control__current_pc.value = status.pc
        dut.control__cycles.value = status.cycles
        dut.control__waits.value = status.waits
        dut.control__steps.value = status.steps
        offer = bool(self.to_send) and random.random() >= self.idle
        dut.rx__valid.value = offer
        dut.rx__payload.value = self.to_send[0] if offer else random.getrandbits(8)
        dut.tx__ready.value = random.random() >= self.pressure
        at = (int(dut.host__space.value), int(dut.host__address.value))
        self.addressed.append(at)
        settled = len(self.addressed) > LATENCY and all(other == at for other in self.addressed)
        dut.host__read_data.value = self.machine.read(*at) if settled else random.getrandbits(32)
        await ReadOnly()
        if offer and dut.rx__ready.value:
            self.to_send.popleft()
        if dut.tx__valid.value and dut.tx__ready.value:
            self.received.append(int(dut.tx__payload.value))
        if dut.host__write.value:
            self.machine.write(*at, int(dut.host__data.value))
        if dut.control__run.value:
            self.machine.run(int(dut.control__pc.value), int(dut.control__repeat.value))
        if dut.control__abort.value:
            self.machine.abort()
        if dut.control__commit.value:
            self.machine.commit()
        await FallingEdge(dut.clk)

    async def compare(self, data):
        """Sends these bytes and expects the endpoint's answers and requests."""
        model = FakeMachine()
        endpoint = Endpoint(model)
        endpoint._counters.update(COUNTERS)
        expected = endpoint.receive(data)
        COUNTERS.update(endpoint._counters)
        self.to_send.extend(data)
        quiet = 0
        while quiet < QUIET:
            before = len(self.to_send), len(self.received)
            await self.step()
            quiet = quiet + 1 if before == (len(self.to_send), len(self.received)) else 0
            assert expected.startswith(self.received[-1:], max(len(self.received) - 1, 0)), "another byte than expected"
        assert not self.to_send
        assert self.received == expected
        assert self.machine.log == model.log


def interesting_bytes(count):
    """Random bytes, many of which need stuffing."""
    return bytes(
        random.choice([FRAME_END, FRAME_ESCAPE, FRAME_ESCAPED_END, random.getrandbits(8)]) for _ in range(count)
    )


def sparse_data(words):
    """Data of SPARSE for this many words, with bytes on both sides of the border between words and runs."""
    data = bytearray()
    while words:
        longest = min(words, SPARSE_LONGEST)
        run = random.choice([1, 1, 1, 1, min(2, longest), longest, random.randint(1, longest)])
        one = random.choice([0, 1, SPARSE_LARGEST, random.randint(0, SPARSE_LARGEST)])
        data.append(one if run == 1 else SPARSE_LARGEST + run - 1)
        words -= run
    return bytes(data)


def range_of(count, space):
    """An address of ``count`` words in this space: often its last ones, or one too far."""
    last = WORDS.get(space, 100) - count
    return max(0, random.choice([0, last, last + 1, random.randint(0, max(last, 0)), random.getrandbits(32)])) % 2**32


def write_request():
    """A WRITE that may be wrong."""
    space = random.choice([*Space, *Space, 10, 200])
    element = random.choice([*Element] * 4 + [Element.SPARSE] * 4 + [5, 255])
    if element == Element.SPARSE:
        words = random.choice([0, 1, 2, WORDS.get(space, 100), random.randint(1, WORDS.get(space, 100))])
        if space == Space.REGISTER and random.random() < 0.8:
            words = min(words, 2)
        return Kind.WRITE, struct.pack("<BBI", space, element, range_of(words, space)) + sparse_data(words)
    size = ELEMENT_BYTES.get(element, 1)
    count = random.choice([0, 1, 2, (CONFIG.packet - 6) // size, random.randint(1, (CONFIG.packet - 6) // size)])
    if space == Space.REGISTER and random.random() < 0.8:
        count = min(count, 2)
    data = interesting_bytes(count * size + (random.random() < 0.1))
    return Kind.WRITE, struct.pack("<BBI", space, element, range_of(count, space)) + data


def read_request():
    """A READ that may be wrong."""
    space = random.choice([*Space, *Space, 10, 255])
    most = (CONFIG.packet - 1) // 4
    count = random.choice([0, 1, 2, 5, most, most + 1, 0xFFFF])
    return Kind.READ, struct.pack("<BIH", space, range_of(count, space), count)


def counters_request():
    """A READ of the link's own registers."""
    return Kind.READ, struct.pack("<BIH", Space.REGISTER, Register.FRAMES, 3)


def run_request():
    """A RUN that may be outside of the program memory."""
    pc = random.choice([0, CONFIG.program_depth - 1, CONFIG.program_depth, random.getrandbits(16)])
    return Kind.RUN, struct.pack("<HI", pc, random.getrandbits(32))


def request():
    """Kind and payload of one packet, now and then of a wrong kind or length."""
    if random.random() < 0.08:
        kind = random.choice([*Kind, 0, 8, 0x82, 0xFF])
        return kind, interesting_bytes(random.choice([0, 1, 5, 6, 7, 8, CONFIG.packet]))
    kind, payload = random.choices(
        [
            write_request,
            read_request,
            counters_request,
            run_request,
            lambda: (Kind.HELLO, random.choice([b"", random.randbytes(SESSION_BYTES)])),
            *(lambda kind=kind: (kind, b"") for kind in (Kind.STATUS, Kind.COMMIT, Kind.ABORT)),
        ],
        [10, 5, 2, 2, 2, 2, 3, 1],
    )[0]()
    return kind, payload[: CONFIG.packet]


def mislabelled(length):
    """A frame with a good CRC but another length than it says, up to some bytes beyond the buffer."""
    payload = interesting_bytes(random.choice([length + 1, length + 9, max(length - 1, 0), 0]))
    body = struct.pack("<BBH", Kind.HELLO, 0, length) + payload
    body += zlib.crc32(body).to_bytes(4, "little")
    stuffed = b"".join(STUFFED.get(byte, bytes([byte])) for byte in body)
    return bytes([FRAME_END]) + stuffed + bytes([FRAME_END])


def requests(count):
    """Frames in order, with repeats, gaps in the numbering, wrong lengths and payloads longer than the buffer."""
    yield encode(Kind.HELLO, 255)
    sequence = 0
    frame = b""
    for _ in range(count):
        chance = random.random()
        if chance < 0.06 and frame:
            yield frame
            continue
        kind, payload = request()
        if chance < 0.10 and kind != Kind.HELLO:
            yield encode(kind, random.getrandbits(8), payload)
        elif chance < 0.13:
            yield encode(Kind.WRITE, sequence, interesting_bytes(CONFIG.packet + random.randint(1, 12)))
        elif chance < 0.16:
            yield mislabelled(random.choice([CONFIG.packet, random.randint(0, CONFIG.packet)]))
        else:
            # HELLO says where the numbering goes on.
            sequence = random.getrandbits(8) if kind == Kind.HELLO else sequence
            frame = encode(kind, sequence, payload)
            sequence = (sequence + 1) % 256
            yield frame


def damaged(frame):
    """The frame with one thing wrong."""
    data = bytearray(frame)
    place = random.randrange(len(data))
    match random.randrange(6):
        case 0:
            data[place] ^= 1 << random.randrange(8)
        case 1:
            del data[place]
        case 2:
            data.insert(place, random.choice([FRAME_END, FRAME_ESCAPE, random.getrandbits(8)]))
        case 3:
            data.insert(place, data[place])
        case 4:
            del data[place:]
        case 5:
            data += interesting_bytes(random.randint(1, 5))
    return bytes(data)


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(idle=[0, 0.5], pressure=[0, 0.6])
async def answers_are_those_of_the_endpoint(dut, idle, pressure):
    harness = Harness(dut, idle, pressure)
    await harness.start()
    await harness.compare(b"".join(requests(200)))


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(idle=[0, 0.3], pressure=[0, 0.3])
async def damage_is_counted_and_survived(dut, idle, pressure):
    harness = Harness(dut, idle, pressure)
    await harness.start()
    # As a driver does: what was damaged is sent again.
    frames = (damaged(frame) + frame if random.random() < 0.4 else frame for frame in requests(200))
    await harness.compare(b"".join(frames))


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(sequence=[0, 255])
async def nothing_is_carried_out_before_a_hello(dut, sequence):
    harness = Harness(dut, 0, 0)
    await harness.start()
    kinds = [kind for kind in Kind if kind != Kind.HELLO]
    frames = [encode(kind, sequence, random.randbytes(7)) for kind in kinds] + [encode(Kind.STATUS, sequence)]
    await harness.compare(b"".join(frames) + encode(Kind.HELLO, sequence, b"?") + b"".join(frames))
    assert harness.machine.log == []


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def noise_is_no_packet(dut):
    harness = Harness(dut, 0, 0)
    await harness.start()
    hello = encode(Kind.HELLO, 7)
    kind, payload = counters_request()
    await harness.compare(interesting_bytes(3000) + bytes([FRAME_END]) + hello + encode(kind, 8, payload))


async def cycles_of_write(harness, sequence, payload):
    """Cycles from the last END of a WRITE to its answer's first byte."""
    harness.received.clear()
    COUNTERS[Register.FRAMES] += 1
    harness.to_send.extend(encode(Kind.WRITE, sequence, payload))
    while harness.to_send:
        await harness.step()
    assert not harness.received
    cycles = 0
    while not harness.received:
        await harness.step()
        cycles += 1
        assert cycles < QUIET, "no answer"
    for _ in range(QUIET):
        await harness.step()
    assert harness.received == encode(Kind.WRITE | ANSWER, sequence, bytes([Answer.OK]))
    return cycles


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_write_takes_its_cycles(dut):
    harness = Harness(dut, 0, 0)
    await harness.start()
    await harness.compare(encode(Kind.HELLO, 255))
    most = CONFIG.packet - 6
    for sequence in range(24):
        if sequence % 2:
            element, words = Element.SPARSE, random.randint(1, WORDS[Space.BATCH])
            data = sparse_data(words)[:most]
            words = sum(max(byte - SPARSE_LARGEST, 0) + 1 for byte in data)
        else:
            element = random.choice(list(ELEMENT_BYTES))
            words = random.randint(1, most // ELEMENT_BYTES[element])
            data = random.randbytes(words * ELEMENT_BYTES[element])
        payload = struct.pack("<BBI", Space.BATCH, element, 0) + data
        before = len(harness.machine.log)
        assert await cycles_of_write(harness, sequence, payload) == write_cycles(element, len(data), words)
        assert len(harness.machine.log) - before == words
