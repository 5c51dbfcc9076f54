"""The driver over the real byte protocol, with a machine that only remembers and a link that is damaged."""

import numpy as np
import pytest
from tenzo.device import Device
from tenzo.errors import DeviceError, DeviceLost, RunFailed
from tenzo.packets import Decoder, Status
from tenzo_hw.config import Config, preset
from tenzo_hw.isa import Batch, End, Halt, Instruction, Loop, Sweep, SweepKind, encode
from tenzo_hw.protocol import Element, Fault, Kind, Register, Space, State, space_words
from tenzo_sim.endpoint import Endpoint
from tenzo_sim.faulty import FaultyTransport

TINY = preset("tiny")


class Memories:
    """A machine that only remembers: a run lasts ``length`` looks at its status and then ends in ``end``."""

    def __init__(self, config: Config = TINY) -> None:
        self.config = config
        self.words = {space: [0] * count for space, count in space_words(config).items()}
        self.free = 2
        self.runs: list[tuple[int, int]] = []
        self.commits = 0
        self.batches: list[tuple[list[int], list[int]]] = []
        self.length = 0
        self.end = (State.IDLE, Fault.NONE)
        self.left = 0
        self.clock = 0
        self.state = State.IDLE
        self.moving = True

    def read(self, space: Space, address: int) -> int:
        return self.words[space][address]

    def write(self, space: Space, address: int, value: int) -> None:
        self.words[space][address] = value

    def run(self, pc: int, repeat: int) -> None:
        self.runs.append((pc, repeat))
        self.left, self.state = self.length, State.RUNNING

    def commit(self) -> None:
        self.batches.append((self.words[Space.BATCH].copy(), self.words[Space.TARGET].copy()))
        self.commits += 1
        self.free -= 1

    def abort(self) -> None:
        self.free, self.state = 2, State.FAILED

    def pass_time(self) -> None:
        """A read of the host."""
        if self.state == State.RUNNING:
            self.clock += self.moving
            self.left -= 1
            if self.left < 0:
                self.state = self.end[0]

    def status(self) -> Status:
        fault = self.end[1] if self.state == State.FAILED else Fault.NONE
        return Status(self.state, fault, self.free, 1, self.clock, 0, 0)


class Wire:
    """The bytes between the driver and an endpoint with ``Memories`` behind it."""

    def __init__(self, memories: Memories) -> None:
        self.memories = memories
        self.endpoint = Endpoint(memories)
        self.pending = b""
        self.sent = 0

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self.pending += self.endpoint.receive(data)

    def read(self, timeout_s: float | None) -> bytes:
        self.memories.pass_time()
        data, self.pending = self.pending, b""
        return data

    def close(self) -> None:
        pass


@pytest.fixture
def memories() -> Memories:
    return Memories()


@pytest.fixture
def device(memories: Memories) -> Device:
    return Device(Wire(memories), expected=TINY)


@pytest.mark.parametrize("columns", [2, 3])
def test_weights_go_out_and_come_back(columns: int) -> None:
    config = TINY.replace(columns=columns)
    device = Device(Wire(Memories(config)))
    random = np.random.default_rng(columns)
    shape = (config.weight_rows, columns)
    masters = random.integers(-(1 << 23), 1 << 23, shape)
    momentum = random.integers(-100, 100, shape)
    device.write_masters(masters)
    device.write_momentum(momentum)
    assert np.array_equal(device.read_masters(), masters)
    assert np.array_equal(device.read_momentum(), momentum)


def test_registers_of_64_bits(device: Device, memories: Memories) -> None:
    device.generator, device.scale, device.rate = 0xFEDC_BA98_7654_3210, (1 << 48) - 1, 0xFFFF_FFFF
    assert (device.generator, device.scale, device.rate) == (0xFEDC_BA98_7654_3210, (1 << 48) - 1, 0xFFFF_FFFF)
    assert memories.words[Space.REGISTER][Register.GENERATOR_LOW] & 0xFFFF_FFFF == 0x7654_3210


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-128, 127), (-129, 127), (0, 256), (-(1 << 31), (1 << 31) - 1)])
def test_every_element_size_holds_its_values(device: Device, memories: Memories, low: int, high: int) -> None:
    values = np.array([low, high, 0, 1] * 40)
    device.write(Space.MASTER, 3, values)
    assert memories.words[Space.MASTER][3:163] == values.tolist()


def strokes(random: np.random.Generator, samples: int, rows: int, columns: int) -> np.ndarray:
    """Pixels from 0 to 128 that are like handwriting: a few bright ones side by side in some of the rows."""
    images = np.zeros((samples, rows, columns), dtype=np.int64)
    for image in images:
        for row in image[rows // 6 : -rows // 6]:
            start = random.integers(columns // 4, columns // 2)
            row[start : start + 8] = random.integers(1, 129, 8)
    return images.reshape(samples, -1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.8, 0.99, 1.0])
@pytest.mark.parametrize("largest", [1, 128, 129, 255])
def test_sparse_words_arrive(device: Device, memories: Memories, seed: int, zeros: float, largest: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, largest + 1, memories.config.batch_depth) * (random.random(128) >= zeros)
    memories.words[Space.BATCH][:] = [-1] * len(memories.words[Space.BATCH])
    device.write(Space.BATCH, 100, values)
    assert memories.words[Space.BATCH] == [-1] * 100 + values.tolist() + [-1] * 28


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_of_handwriting_shrinks(seed: int) -> None:
    config = preset("engine_16x8")
    memories = Memories(config)
    wire = Wire(memories)
    device = Device(wire)
    inputs = strokes(np.random.default_rng(seed), 64, 28, 28)
    before = wire.sent
    device.send_batch(inputs, np.arange(64) % 10)
    assert 4 < inputs.size / (wire.sent - before) < 5
    by_lane = np.array(memories.batches[0][0]).reshape(config.lanes, -1)[:, : 4 * 784]
    assert np.array_equal(by_lane.reshape(config.lanes, 4, 784).swapaxes(0, 1).reshape(64, 784), inputs)


@pytest.mark.parametrize(
    ("values", "element"),
    [
        ([0], Element.U8),
        ([0, 1, 0, 1], Element.U8),
        ([0, 0, 128], Element.SPARSE),
        ([0, 0, 129], Element.U8),
        ([0, 0, -1], Element.S8),
        ([0] * 256, Element.SPARSE),
    ],
)
def test_the_shortest_element_is_sent(values: list[int], element: Element) -> None:
    writes: list[bytes] = []

    class Spy(Wire):
        def write(self, data: bytes) -> None:
            writes.extend(packet.payload for packet in Decoder().feed(data) if packet.kind == Kind.WRITE)
            super().write(data)

    Device(Spy(Memories())).write(Space.MASTER, 0, np.array(values))
    assert [payload[1] for payload in writes] == [element]


def test_a_batch_lies_lane_by_lane(device: Device, memories: Memories) -> None:
    inputs = np.arange(24).reshape(6, 4)  # three groups of two lanes
    device.send_batch(inputs, np.array([5, 4, 3, 2, 1, 0]))
    batch, targets = memories.batches[0]
    assert batch[:12] == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]
    assert batch[TINY.batch_depth :][:12] == [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23]
    assert targets[:6] == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (np.zeros((3, 4), int), np.zeros(3, int), "whole groups of 2"),
        (np.zeros((4, 100), int), np.zeros(4, int), "at most 2 samples fit"),
        (np.full((2, 4), 256), np.zeros(2, int), "do not fit 9 bits"),
        (np.zeros((2, 4), int), np.full(2, 1 << 15), "do not fit 16 bits"),
        (np.zeros((2, 4)), np.zeros(2, int), "not integers"),
        (np.zeros((2, 4), int), np.zeros(65, int), "target memory has 64"),
    ],
)
def test_a_batch_that_does_not_fit_changes_nothing(
    device: Device, memories: Memories, inputs: np.ndarray, targets: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        device.send_batch(inputs, targets)
    assert memories.commits == 0
    assert not any(memories.words[Space.BATCH])


def test_a_third_batch_needs_a_run(device: Device) -> None:
    inputs, targets = np.zeros((2, 4), int), np.zeros(2, int)
    device.send_batch(inputs, targets)
    device.send_batch(inputs, targets)
    with pytest.raises(DeviceError, match="both batch halves are filled"):
        device.send_batch(inputs, targets)


def test_a_refused_program_changes_nothing(device: Device, memories: Memories) -> None:
    outside = Sweep(kind=SweepKind.PERTURB, row=TINY.weight_rows, count=1)
    with pytest.raises(ValueError, match="rows 128"):
        device.load_program([outside, Halt()])
    long: list[Instruction] = [Halt()] * (TINY.program_depth + 1)
    with pytest.raises(ValueError, match="program memory"):
        device.load_program(long)
    assert not any(memories.words[Space.PROGRAM])


def test_a_program_lies_at_its_address(device: Device, memories: Memories) -> None:
    program: list[Instruction] = [Loop(count=0), Batch(), End(), Halt()]
    device.load_program(program, 10)
    assert memories.words[Space.PROGRAM][10:14] == encode(program)
    with pytest.raises(ValueError, match="does not fit"):
        device.load_program(program, TINY.program_depth - 3)


def test_wait_sees_the_end(device: Device, memories: Memories) -> None:
    memories.length = 25
    device.run(0, 7)
    assert device.wait().state == State.IDLE
    assert memories.runs == [(0, 7)]


def test_a_fault_is_named(device: Device, memories: Memories) -> None:
    device.load_program([Loop(count=0), Batch(), End(), Halt()])
    memories.end = (State.FAILED, Fault.RANGE)
    device.run()
    with pytest.raises(RunFailed, match="RANGE at Batch at word 1") as failure:
        device.wait()
    assert failure.value.fault == Fault.RANGE


def test_a_run_that_starves_is_noticed(device: Device, memories: Memories) -> None:
    memories.length, memories.moving = 10**9, False
    device.run()
    with pytest.raises(DeviceError, match="waits for a batch"):
        device.wait()
    device.abort()
    assert device.status().state == State.FAILED


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["flips", "drops", "repeats", "all"])
def test_a_damaged_link_loses_nothing(memories: Memories, kind: str, seed: int) -> None:
    rates = dict.fromkeys(("flips", "drops", "repeats") if kind == "all" else (kind,), 1e-3)
    link = FaultyTransport(Wire(memories), seed, **rates)
    device = Device(link, attempts=20)
    random = np.random.default_rng(seed)
    for commits in range(1, 9):
        masters = random.integers(-(1 << 23), 1 << 23, (TINY.weight_rows, TINY.columns))
        device.write_masters(masters)
        assert np.array_equal(device.read_masters(), masters)
        inputs, targets = random.integers(-256, 256, (4, 40)), random.integers(0, 10, 4)
        device.send_batch(inputs, targets)
        device.run(0, commits)
        device.wait()
        # Carried out once, however often they were sent.
        assert memories.commits == len(memories.runs) == commits
        batch, sent = memories.batches[-1]
        assert batch[:80] == inputs[::2].reshape(-1).tolist()
        assert sent[:4] == targets.tolist()
        memories.free = 2
    assert link.damaged > 0
    assert device.recovered > 0


def test_a_cable_that_comes_back_is_recovered(memories: Memories) -> None:
    link = FaultyTransport(Wire(memories), seed=0)
    device = Device(link, attempts=5)
    link.pull(4)
    device.run()
    assert memories.runs == [(0, 1)]
    assert device.recovered == 1
    link.pull(5)
    with pytest.raises(DeviceLost, match="5 attempts"):
        device.status()
