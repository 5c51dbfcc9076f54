"""Training steps on the core, driven over its host bus: every memory and the cycles equal the machine's model."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from tenzo_hw.config import Config
from tenzo_hw.hazards import hazards
from tenzo_hw.isa import (
    Activation,
    Add,
    Base,
    Batch,
    Coefficient,
    Contract,
    End,
    Gather,
    Halt,
    Instruction,
    Level,
    Loop,
    Loss,
    LossKind,
    Operand,
    Set,
    Sweep,
    SweepKind,
    Wait,
    encode,
)
from tenzo_hw.protocol import READABLE, WRITABLE, Fault, Register, Space, State, space_words
from tenzo_hw.timeline import timeline
from tenzo_hw.timing import STOP_CYCLES, host_read_latency
from tenzo_sim.model import MachineModel

PARAMETERS = json.loads(os.environ["TENZO_BENCH"])
CONFIG = Config.from_words(PARAMETERS["config"])
COUNTERS = (Register.FRAMES, Register.BAD_FRAMES, Register.REPEATS)
INPUTS, HIDDEN, OUTPUTS, GROUPS, QUERIES = 6, 5, 4, 3, 2
LONGEST_RUN = 2_000_000
LONGEST_POWER_ON = 100_000
#: Cycles from ABORT of a run that waits to its end.
ABORT_CYCLES = 40 if CONFIG.is_serial else STOP_CYCLES + 5


def dense(config: Config, inputs: int, outputs: int, first_row: int, **fields: object) -> tuple[Contract, int]:
    """A fully connected layer of weight rows from ``first_row``, its bias rows behind; and the next free row."""
    tiles = -(-outputs // config.columns)
    bias = first_row + tiles * inputs
    levels = (
        Level(inputs, a=1, w=1),
        Level(),
        Level(tiles, w=inputs, o=config.columns, b=1),
        *[Level()] * 3,
    )
    contract = Contract(
        w_base=first_row,
        b_base=bias,
        levels=levels,
        cols=min(config.columns, outputs),
        last_cols=outputs - (tiles - 1) * config.columns,
        col_stride=1,
        bias=True,
        one=3,
        w_register=2,
        b_register=2,
        **fields,
    )
    return contract, bias + tiles


def program_of(config: Config, rng: random.Random, kind: LossKind) -> list[Instruction]:
    """Two-sided training steps of a network with one hidden layer: RUN's repeat of them."""
    activation = rng.choice([Activation.RELU, *[Activation(Activation.TABLE0 + n) for n in range(config.tables)]])
    first, row = dense(
        config,
        *(INPUTS, HIDDEN, 0),
        a_base=0,
        a_register=1,
        o_base=8,
        from_batch=True,
        shift=4,
        activation=activation,
        wait=Wait.SWEEP,
    )
    second, rows = dense(
        config,
        *(HIDDEN, OUTPUTS, row),
        a_base=8,
        o_base=8 + HIDDEN,
        to_loss=True,
        store=rng.random() < 0.5,
        shift=4,
        wait=Wait.ENGINE,
    )
    forward = [Set(register=1, value=0), Loop(count=GROUPS), first, second, Add(register=1, value=INPUTS), End()]

    def perturb(half: int, **fields: object) -> list[Instruction]:
        sweep = Sweep(kind=SweepKind.PERTURB, row=0, count=rows, half=half, mu=2, wait=Wait.ENGINE, **fields)
        return [sweep, Set(register=2, value=half * config.weight_rows)]

    step: list[Instruction] = [Batch(), Loss(kind=kind, outputs=OUTPUTS, groups=GROUPS, fraction=4)]
    for query in range(QUERIES):
        step += [*perturb(0, save=2 if query else 3), *forward]
        step += [*perturb(1, replay=True, replay_slot=1, negative=True), *forward]
    step += [Coefficient(queries=QUERIES, shift=1, average=2)]
    for query in range(QUERIES):
        step.append(
            Sweep(
                kind=SweepKind.UPDATE,
                row=0,
                count=rows,
                replay=query == 0,
                replay_slot=0,
                first=query == 0,
                last=query == QUERIES - 1,
                sign=rng.random() < 0.3,
                next=True,
                decay=rng.choice((0, 3)),
                weight_decay=rng.choice((0, 12)),
                scale=rng.choice((0, 1)),
                wait=Wait.COEFFICIENT,
            )
        )
    return [Loop(count=0), *step, End(), Halt()]


#: The simulated core keeps its state from test to test, so its model does too.
MODEL = MachineModel(CONFIG)


class Bench:
    """The core and its model, given the same requests."""

    def __init__(self, top: object, rng: random.Random) -> None:
        self.top = top
        self.rng = rng
        self.model = MODEL

    async def start(self) -> None:
        top = self.top
        for name in ("rst", "clk", "host__write", "control__run", "control__abort", "control__commit"):
            getattr(top, name).value = 0
        cocotb.start_soon(Clock(top.clk, 10, "ns").start())
        await FallingEdge(top.clk)
        for _ in range(LONGEST_POWER_ON):
            if not CONFIG.is_serial or int(top.ready.value):
                return
            await FallingEdge(top.clk)
        raise AssertionError("the core is not ready")

    async def strobe(self, name: str) -> None:
        signal = getattr(self.top, name)
        signal.value = 1
        await FallingEdge(self.top.clk)
        signal.value = 0

    async def write(self, space: Space, address: int, value: int) -> None:
        top = self.top
        top.host__space.value, top.host__address.value = space, address
        top.host__data.value = (value + (1 << 31) & 0xFFFFFFFF) - (1 << 31)
        await self.strobe("host__write")
        self.model.write(space, address, value)

    async def read(self, space: Space, address: int) -> int:
        self.top.host__space.value, self.top.host__address.value = space, address
        for _ in range(host_read_latency(CONFIG)):
            await FallingEdge(self.top.clk)
        return int(self.top.host__read_data.value)

    async def fill(self) -> None:
        """Random inputs and targets in the half being filled, then COMMIT."""
        lanes, bits = CONFIG.lanes, CONFIG.input_word
        assert int(self.top.control__free_halves.value) > 0
        for lane in range(lanes):
            for word in range(GROUPS * INPUTS):
                value = self.rng.randrange(-(1 << (bits - 1)), 1 << (bits - 1))
                await self.write(Space.BATCH, lane * CONFIG.batch_depth + word, value)
        for word in range(GROUPS * lanes * OUTPUTS):
            await self.write(Space.TARGET, word, self.rng.randrange(OUTPUTS))
        await self.strobe("control__commit")
        self.model.commit()

    async def run(self, repeat: int, batches: int) -> None:
        """Runs from word 0; sends ``batches`` more while it goes on, at moments of its own choice."""
        top = self.top
        top.control__pc.value, top.control__repeat.value = 0, repeat
        await self.strobe("control__run")
        self.model.run(0, repeat)
        for _ in range(LONGEST_RUN):
            if int(top.control__state.value) != State.RUNNING:
                return
            if batches and int(top.control__free_halves.value) and self.rng.random() < 0.01:
                await self.fill()
                batches -= 1
            await FallingEdge(top.clk)
        raise AssertionError(f"the run does not end: pc {int(top.control__current_pc.value)}")

    async def same_memories(self) -> None:
        for space in sorted(READABLE):
            for address in range(space_words(CONFIG)[space]):
                if space == Space.REGISTER and address in COUNTERS:
                    continue
                got, want = await self.read(space, address), self.model.read(space, address) & 0xFFFFFFFF
                assert got == want, f"{space.name} {address}: {got:#x}, the model has {want:#x}"

    def same_status(self) -> None:
        control, status = self.top, self.model.status()
        assert int(control.control__state.value) == status.state
        assert int(control.control__fault.value) == status.fault
        assert int(control.control__current_pc.value) == status.pc
        assert int(control.control__free_halves.value) == status.free_halves
        assert int(control.control__steps.value) == status.steps


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def memories(top) -> None:
    """What the host writes it reads, and zero elsewhere."""
    rng = random.Random(PARAMETERS["seed"])
    bench = Bench(top, rng)
    await bench.start()
    assert await bench.read(Space.REGISTER, Register.GENERATOR_LOW) == 1
    await bench.same_memories()
    for space in sorted(WRITABLE & READABLE):
        words = space_words(CONFIG)[space]
        for address in range(words) if space == Space.REGISTER else rng.sample(range(words), 40):
            if space != Space.REGISTER or address not in COUNTERS:
                await bench.write(space, address, rng.getrandbits(32) - (1 << 31))
    await bench.same_memories()


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def training(top) -> None:
    """Several runs of several steps, with batches that come while a run goes on."""
    rng = random.Random(PARAMETERS["seed"] + 1)
    bench = Bench(top, rng)
    await bench.start()
    for kind in LossKind:
        program = program_of(CONFIG, rng, kind)
        assert not hazards(program, CONFIG, repeat=2)
        for address, word in enumerate(encode(program)):
            await bench.write(Space.PROGRAM, address, word)
        for address in range(space_words(CONFIG)[Space.MASTER]):
            value = rng.randrange(-20, 20) << CONFIG.master_extra
            await bench.write(Space.MASTER, address, value + rng.getrandbits(CONFIG.master_extra))
        for address in range(space_words(CONFIG)[Space.TABLE]):
            await bench.write(Space.TABLE, address, rng.randrange(-64, 64))
        await bench.write(Space.REGISTER, Register.GENERATOR_LOW, rng.getrandbits(32) | 1)
        await bench.write(Space.REGISTER, Register.RATE, rng.getrandbits(22))
        await bench.write(Space.REGISTER, Register.RATE_STEP, 1000)
        steps = 4
        ahead = rng.randrange(min(2, int(top.control__free_halves.value)) + 1)
        for _ in range(ahead):
            await bench.fill()
        await bench.run(steps, steps - ahead)
        bench.same_status()
        assert int(top.control__state.value) == State.IDLE
        worked = int(top.control__cycles.value) - int(top.control__waits.value)
        assert worked == bench.model.status().cycles
        assert worked == timeline(program, CONFIG, repeat=steps).cycles
        await bench.same_memories()


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def failures(top) -> None:
    """What leaves its memory, and ABORT of a run that waits for a batch; then the machine works again."""
    rng = random.Random(PARAMETERS["seed"] + 2)
    bench = Bench(top, rng)
    await bench.start()
    good, _ = dense(CONFIG, INPUTS, OUTPUTS, 0, a_base=0, o_base=100, shift=4)
    step = replace(good, bias=False, operand=Operand.STEP)
    difference = replace(step, operand=Operand.DIFFERENCE, b_base=0)
    kept = replace(good, to_loss=True, base=Base.KEEP)
    added = replace(kept, base=Base.ADD, store=False, o_base=0)
    loss = Loss(kind=LossKind.CROSS_ENTROPY, outputs=OUTPUTS, groups=1)
    gather = Gather(address=100, stride=1, rows=3, lanes=CONFIG.lanes, cols=2, row=0)
    outside: list[tuple[list[Instruction], Instruction]] = [
        ([good], replace(good, a_base=CONFIG.lane_depth - INPUTS + 1)),
        ([good], replace(good, w_base=CONFIG.effective_rows)),
        ([good], replace(good, o_base=CONFIG.lane_depth)),
    ]
    if CONFIG.incremental:
        outside += [
            ([good], replace(step, a_base=CONFIG.lane_bank - INPUTS + 1)),
            ([good], replace(difference, b_base=CONFIG.lane_bank)),
            ([loss, kept], replace(added, o_base=CONFIG.losses - OUTPUTS + 1)),
            ([good], replace(gather, address=CONFIG.lane_depth - 3)),
            ([good, gather], replace(gather, row=CONFIG.effective_rows - 3 * CONFIG.lanes + 1)),
        ]
    for before, bad in outside:
        # The contraction behind is under way when a result address of the bad one is found.
        for address, word in enumerate(encode([*before, bad, good, Halt()])):
            await bench.write(Space.PROGRAM, address, word)
        await bench.run(1, 0)
        assert (int(top.control__state.value), int(top.control__fault.value)) == (State.FAILED, Fault.ADDRESS), bad
        assert int(top.control__current_pc.value) == sum(instruction.WORDS for instruction in before), bad
        bench.same_status()
    for address, word in enumerate(encode([Batch(), Halt()])):
        await bench.write(Space.PROGRAM, address, word)
    await bench.strobe("control__run")
    for _ in range(50):
        await FallingEdge(top.clk)
    assert int(top.control__state.value) == State.RUNNING
    await bench.strobe("control__abort")
    for _ in range(ABORT_CYCLES):
        await FallingEdge(top.clk)
    assert (int(top.control__state.value), int(top.control__fault.value)) == (State.FAILED, Fault.ABORTED)
    bench.model.run(0, 0)
    bench.model.abort()
    bench.same_status()
    await bench.fill()
    await bench.run(1, 0)
    assert (int(top.control__state.value), int(top.control__fault.value)) == (State.IDLE, Fault.NONE)
    bench.same_status()
    await bench.same_memories()
