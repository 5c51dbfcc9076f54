"""The serial machine's processor against its exact model: what it writes and puts out, and in which cycle."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator
from tenzo_hw.serial.assembly import SCRATCH_WORDS, WORD_BITS, Assembly, Condition, Event, Op
from tenzo_hw.serial.interpreter import Interpreter
from tenzo_hw.serial.processor import Processor

LENGTH = 600
MAIN_WORDS = 32
EXTREMES = (0, 1, 2, 7, 8, 31, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 0x10000)
ARITHMETIC = [op for op in Op if Op.LOAD <= op <= Op.SHIFT]
MEMORY = [Op.POINT, Op.POINT_NEXT, Op.POINT_TO, Op.READ, Op.READ_NEXT, Op.WRITE, Op.WRITE_NEXT]
WORDS = [f"word{number}" for number in range(12)]


def said(port: int, pointer: int) -> int:
    """What a port says."""
    return (port * 2654435761 ^ pointer * 40503) & 0xFFFFFFFF


class Around:
    """The processor's surroundings for the model, and a record of all that it does."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.main = [rng.getrandbits(WORD_BITS) for _ in range(MAIN_WORDS)]
        self.signs = [rng.random() < 0.5 for _ in range(LENGTH)]
        self.waits = [rng.randrange(5) for _ in range(LENGTH)]
        self.did: list[tuple[int, str, int, int]] = []
        self.processor: Interpreter

    def read(self, address: int) -> int:
        return self.main[address % MAIN_WORDS]

    def write(self, address: int, value: int) -> None:
        self.main[address % MAIN_WORDS] = value
        self.did.append((self.processor.cycles, "write", address, value))

    def input(self, port: int, pointer: int) -> int:
        return said(port, pointer)

    def output(self, port: int, value: int) -> None:
        self.did.append((self.processor.cycles, "output", port, value))

    def sign(self) -> bool:
        return self.signs.pop(0)

    def wait(self, event: int) -> int:
        return self.waits.pop(0)


def random_firmware(rng: random.Random) -> Assembly:
    """Instructions of all kinds, forward jumps only but for one loop."""
    a = Assembly()
    for name in WORDS:
        a.load(rng.choice([*EXTREMES, rng.getrandbits(WORD_BITS)]))
        a.store(name)
    a.count(3)
    a.label("again")
    labels = 0
    pending: list[tuple[int, str]] = []
    for number in range(LENGTH):
        for _, label in [one for one in pending if one[0] == number]:
            a.label(label)
        kind = rng.random()
        if kind < 0.5:
            op = rng.choice(ARITHMETIC)
            a.emit(op, a._place(rng.choice([*WORDS, rng.choice(EXTREMES), rng.randrange(70)])))
        elif kind < 0.6:
            a.store(rng.choice(WORDS))
        elif kind < 0.7:
            a.emit(Op.SKIP, int(rng.choice(list(Condition))))
        elif kind < 0.8:
            a.emit(rng.choice(MEMORY), a._place(rng.choice(WORDS)))
        elif kind < 0.85:
            a.emit(rng.choice([Op.INPUT, Op.INPUT_NEXT]), rng.randrange(1024))
        elif kind < 0.95:
            a.output(rng.randrange(1024))
        elif kind < 0.97:
            a.shift_carry()
        elif kind < 0.98:
            a.wait(rng.choice(list(Event)))
        else:
            labels += 1
            label = f"ahead{labels}"
            pending.append((min(number + rng.randint(1, 4), LENGTH), label))
            a.jump(label)
    for _, label in [one for one in pending if one[0] == LENGTH]:
        a.label(label)
    a.loop("again")
    a.call("called")
    a.output(3)
    a.load("called_at")
    a.dispatch()
    a.label("called")
    a.load(7)
    a.back()
    a.label("end")
    a.output(1000)
    a.jump("end")
    return a


@pytest.mark.parametrize("seed", range(6))
def test_processor_is_its_model(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    a = random_firmware(rng)
    draft = a.assembled()
    a = random_firmware(random.Random(seed))
    scratch = list(draft.scratch)
    scratch[draft.names["called_at"]] = draft.labels["end"]
    firmware = type(draft)(draft.words, tuple(scratch), draft.labels, draft.names)
    around = Around(seed)
    model = around.processor = Interpreter(firmware, around)
    while not (around.did and around.did[-1][2:] and around.did[-1][1:3] == ("output", 1000)):
        model.step()
    assert len(around.did) > 50

    processor = Processor(firmware)
    signs, waits = Around(seed).signs, Around(seed).waits
    main = Around(seed).main
    did: list[tuple[int, str, int, int]] = []

    async def bench(ctx) -> None:
        # The first instruction's first cycle is cycle 1; the model counts an instruction's cycles before it acts.
        waited = -1
        announced = 0
        await ctx.tick()
        for cycle in range(1, model.cycles + 1):
            pointer, port = ctx.get(processor.pointer), ctx.get(processor.port)
            ctx.set(processor.input_data, said(port, pointer))
            ctx.set(processor.main_data, main[pointer % MAIN_WORDS])
            ctx.set(processor.sign, signs[0] if signs else 0)
            ctx.set(processor.events, 0)
            if ctx.get(processor.stalled):
                waited = waits.pop(0) if waited < 0 else waited - 1
                if waited == 0:
                    ctx.set(processor.events, -1)
                    waited = -1
            # A sign is announced in the cycle before it is used, and only then.
            assert ctx.get(processor.sign_used) == announced
            announced = ctx.get(processor.sign_next)
            if ctx.get(processor.sign_used):
                signs.pop(0)
            if ctx.get(processor.main_write):
                main[pointer % MAIN_WORDS] = ctx.get(processor.accumulator)
                did.append((cycle, "write", pointer, ctx.get(processor.accumulator)))
            if ctx.get(processor.output):
                did.append((cycle, "output", port, ctx.get(processor.accumulator)))
            await ctx.tick()

    simulator = Simulator(processor)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert did == around.did


def test_firmware_that_cannot_be_is_refused() -> None:
    a = Assembly()
    a.label("here")
    with pytest.raises(ValueError, match="the label 'here' is there twice"):
        a.label("here")
    a.jump("there")
    with pytest.raises(ValueError, match="there is no label 'there'"):
        a.assembled()
    a.label("there")
    for value in range(SCRATCH_WORDS + 1):
        a.load(value)
    with pytest.raises(ValueError, match=f"the firmware has {SCRATCH_WORDS + 1} words; {SCRATCH_WORDS} are there"):
        a.assembled()
