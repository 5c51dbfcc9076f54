"""The Verilated machine: the same answers, byte for byte, as the exact model's, however the bytes come and go."""

from __future__ import annotations

import random
import struct
from itertools import count
from pathlib import Path

import pytest
from tenzo.packets import Decoder, encode
from tenzo_hw.config import preset
from tenzo_hw.isa import (
    Batch,
    Coefficient,
    Contract,
    Halt,
    Level,
    Loss,
    LossKind,
    Sweep,
    SweepKind,
    Wait,
)
from tenzo_hw.isa import encode as assemble
from tenzo_hw.protocol import Answer, Element, Kind, Register, Space
from tenzo_sim.library import build_library
from tenzo_sim.model import ModelTransport
from tenzo_sim.verilated import SimTransport, VerilatedMachine

# One worker builds the machine, the others need not.
pytestmark = pytest.mark.xdist_group("verilated")

CONFIG = preset("tiny")
INPUTS, ROWS = 4, 8
#: Cycles within which a machine answers whatever was sent, and ends the run.
PATIENCE = 20_000


def step() -> list[int]:
    """The words of one training step: a layer of two outputs, one two-sided query."""
    layer = Contract(
        a_base=0,
        w_base=0,
        o_base=10,
        levels=(Level(INPUTS, a=1, w=1), *[Level()] * 5),
        cols=2,
        last_cols=2,
        col_stride=1,
        shift=4,
        from_batch=True,
        to_loss=True,
        wait=Wait.SWEEP,
    )
    perturb = {"kind": SweepKind.PERTURB, "row": 0, "count": ROWS, "mu": 3}
    return assemble(
        [
            Batch(),
            Loss(kind=LossKind.CROSS_ENTROPY, outputs=2, groups=1, fraction=4),
            Sweep(**perturb, save=1),
            layer,
            Sweep(**perturb, replay=True, negative=True, wait=Wait.ENGINE),
            layer,
            Coefficient(queries=1),
            Sweep(kind=SweepKind.UPDATE, row=0, count=ROWS, replay=True, first=True, last=True, wait=Wait.COEFFICIENT),
            Halt(),
        ]
    )


def conversation(seed: int) -> list[bytes]:
    """Requests that set the machine up, run it, and read everything back; some are refused, some damaged."""
    rng = random.Random(seed)
    numbers = count(7)
    frames: list[bytes] = []

    def request(kind: Kind, payload: bytes = b"") -> None:
        frames.append(encode(kind, next(numbers) & 0xFF, payload))

    def write(space: Space, element: Element, address: int, values: list[int]) -> None:
        form = "BbhI"[element]
        words = (CONFIG.packet - 6) // struct.calcsize(form)
        for start in range(0, len(values), words):
            part = values[start : start + words]
            header = struct.pack("<BBI", space, element, address + start)
            request(Kind.WRITE, header + struct.pack(f"<{len(part)}{form}", *part))

    def read(space: Space, address: int, words: int) -> None:
        request(Kind.READ, struct.pack("<BIH", space, address, words))

    request(Kind.HELLO)
    write(Space.PROGRAM, Element.S32, 0, step())
    write(Space.MASTER, Element.S32, 0, [rng.getrandbits(32) for _ in range(ROWS * CONFIG.columns)])
    write(Space.MOMENTUM, Element.S16, 0, [rng.randrange(-999, 999) for _ in range(ROWS * CONFIG.columns)])
    write(Space.REGISTER, Element.S32, Register.GENERATOR_LOW, [rng.getrandbits(32), rng.getrandbits(32), 70_000, 5])
    frames.append(rng.randbytes(40))
    for address, words in ((3, 20), (ROWS, 5), (CONFIG.weight_rows * CONFIG.columns - 1, 1)):
        read(Space.MASTER, address, words)
        read(Space.MOMENTUM, address, words)
    read(Space.MASTER, CONFIG.weight_rows * CONFIG.columns, 1)
    read(Space.BATCH, 0, 1)
    for lane in range(CONFIG.lanes):
        inputs = [rng.randrange(-128, 128) for _ in range(INPUTS)]
        write(Space.BATCH, Element.S8, lane * CONFIG.batch_depth, inputs)
    write(Space.TARGET, Element.U8, 0, [rng.randrange(2) for _ in range(CONFIG.lanes)])
    request(Kind.COMMIT)
    request(Kind.RUN, struct.pack("<HI", 0, 1))
    frames.append(b"")  # the run ends
    request(Kind.STATUS)
    read(Space.PROGRAM, 0, 20)
    read(Space.MASTER, 0, ROWS * CONFIG.columns)
    read(Space.MOMENTUM, 0, ROWS * CONFIG.columns)
    for space in (Space.LOSS, Space.HISTORY, Space.REGISTER):
        read(space, 0, 9)
    read(Space.LANE, CONFIG.lane_depth + 8, 4)
    frames.append(frames[-1])
    request(Kind.STATUS)
    return frames


def answers_of_model(frames: list[bytes]) -> bytes:
    transport = ModelTransport(CONFIG)
    for frame in frames:
        transport.write(frame)
    return transport.read(0)


def answers_of_machine(machine: VerilatedMachine, frames: list[bytes]) -> bytes:
    answers = b""
    for frame in [*frames, b""]:
        machine.write(frame)
        if not frame:
            machine.run(PATIENCE)
            assert machine.waiting == 0
            answers += machine.read()
    return answers


@pytest.mark.parametrize(("seed", "idle", "busy"), [(1, 0, 0), (2, 0.6, 0), (3, 0, 0.7), (4, 0.5, 0.5)])
def test_same_bytes_as_model(seed: int, idle: float, busy: float) -> None:
    frames = conversation(seed)
    machine = VerilatedMachine(CONFIG, seed=seed, idle=idle, busy=busy)
    try:
        answers = answers_of_machine(machine, frames)
    finally:
        machine.close()
    assert answers == answers_of_model(frames)
    packets = Decoder(CONFIG.packet).feed(answers)
    results = [Answer(packet.payload[0]) for packet in packets]
    assert results.count(Answer.BAD_ADDRESS) == 2
    assert len(results) > 20


def test_transport_answers_hello_and_counts_cycles() -> None:
    transport = SimTransport(CONFIG)
    assert transport.read(0.001) == b""
    assert transport.cycles == 1000
    transport.write(encode(Kind.HELLO, 3))
    decoder = Decoder(CONFIG.packet)
    packets = []
    while not packets:
        packets = decoder.feed(transport.read(None))
    # Before its session, which no one has given it yet.
    values = [*CONFIG.words(), 0]
    assert packets[0].payload[-4 * len(values) :] == struct.pack(f"<{len(values)}I", *values)
    before = transport.cycles
    transport.advance(123)
    assert transport.cycles == before + 123
    transport.close()
    transport.close()
    with pytest.raises(ValueError, match="closed"):
        transport.advance(1)


def test_waveform(tmp_path: Path) -> None:
    file = tmp_path / "machine.vcd"
    machine = VerilatedMachine(CONFIG, trace=file)
    machine.write(encode(Kind.HELLO, 3))
    machine.run(1200)
    assert Decoder(CONFIG.packet).feed(machine.read())
    machine.close()
    text = file.read_text()
    assert "$enddefinitions" in text
    assert "sequencer" in text
    assert "#11995" in text


def test_impossible_chance_is_refused() -> None:
    with pytest.raises(ValueError, match="idle=1"):
        VerilatedMachine(CONFIG, idle=1)


def test_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="no-such-compiler"):
        build_library("module machine; endmodule")


def test_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENZO_CACHE", str(tmp_path))
    with pytest.raises(RuntimeError, match="failed"):
        build_library("module machine; nonsense endmodule")
    assert not list(tmp_path.iterdir())
