"""The serial machine's firmware for losses and coefficients against their models, in values and in time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tenzo_hw.coefficient import CoefficientState, coefficients
from tenzo_hw.config import LOSS_FRACTION, preset
from tenzo_hw.isa import Base, Coefficient, Instruction, Loss, LossKind
from tenzo_hw.loss_tables import EXP2, LOG2_E, TABLE_BITS
from tenzo_hw.numbers import round_shift
from tenzo_hw.protocol import Register
from tenzo_hw.serial import tables
from tenzo_hw.serial.assembly import Assembly, Firmware, Port
from tenzo_hw.serial.coefficient_firmware import write_coefficient
from tenzo_hw.serial.interpreter import Interpreter
from tenzo_hw.serial.loss_firmware import write_loss, write_loss_setup
from tenzo_hw.serial.memory_map import HISTORY_WORDS, SLOT_WORDS, MainMap, target_base
from tenzo_sim.losses import Losses
from tenzo_sim.memories import Memories

CONFIG = preset("icebreaker")
MAP = MainMap.of(CONFIG)
PROGRAM = MAP.program + 40
LIMIT = (1 << 32) - 1
HIGH = (1 << (CONFIG.output_word - 1)) - 1
LOW = -HIGH - 1


def assembled(write: Callable[[Assembly, Callable[[int], None]], None]) -> Firmware:
    """Firmware with stubs for what the rest of it would be."""
    a = Assembly()
    for label in ("advance", "range_fault"):
        a.label(label)
        a.back()

    def words(count: int) -> None:
        a.load(count)
        a.or_(0)
        a.store("follow")

    write(a, words)
    a.load("w0")
    for name in ("correct", "steps", "coefficient_index"):
        a.store(name)
    return a.assembled()


def loss_part(a: Assembly, words: Callable[[int], None]) -> None:
    write_loss_setup(a, CONFIG, words)
    write_loss(a, CONFIG)


LOSS = assembled(loss_part)
COEFFICIENT = assembled(lambda a, words: write_coefficient(a, CONFIG, words))


class Around:
    """The processor's surroundings: memories as lists, and what it put out."""

    def __init__(self, firmware: Firmware) -> None:
        self.main = [0] * MAP.depth
        self.outcomes = [0] * CONFIG.outputs
        self.targets = [0] * CONFIG.target_depth
        self.steps = 0
        self.processor = Interpreter(firmware, self)

    def read(self, address: int) -> int:
        return self.main[address]

    def write(self, address: int, value: int) -> None:
        self.main[address] = value

    def input(self, port: int, pointer: int) -> int:
        if port == Port.TABLE:
            return tables.WORDS[pointer]
        if port == Port.OUTCOME:
            # The label may be no output: then it does not matter what is read.
            return self.outcomes[pointer % CONFIG.outputs]
        assert port == Port.TARGET
        return self.targets[pointer - target_base(CONFIG)]

    def output(self, port: int, value: int) -> None:
        assert port == Port.STEPS
        self.steps = value

    def sign(self) -> bool:
        raise AssertionError

    def wait(self, event: int) -> int:
        raise AssertionError(event)

    def run(self, start: str) -> tuple[str, int]:
        """Where the routine ends, and its cycles."""
        before = self.processor.cycles
        end = self.processor.run(start, "advance", "range_fault")
        return end, self.processor.cycles - before

    def instruction(self, start: str, instruction: Instruction) -> tuple[str, int]:
        """The same for an instruction's handler."""
        words = instruction.encode()
        self.main[PROGRAM : PROGRAM + len(words)] = words
        self.processor.set("w0", words[0])
        self.processor.pointer = PROGRAM + 1
        end = self.run(start)
        assert self.processor.word("follow") == len(words)
        return end


def outcomes_of(rng: random.Random, outputs: int) -> list[int]:
    """Outputs of a sample: spread out, close to each other, extreme or equal."""
    match rng.randrange(5):
        case 0:
            return [rng.choice((LOW, HIGH, 0, -1, 1)) for _ in range(outputs)]
        case 1:
            return [rng.randint(LOW, HIGH)] * outputs
        case 2:
            middle = rng.randint(LOW + 40, HIGH - 40)
            return [middle + rng.randint(-40, 40) for _ in range(outputs)]
    return [rng.randint(LOW, HIGH) for _ in range(outputs)]


def target_of(rng: random.Random, kind: LossKind, outputs: int) -> int:
    if kind == LossKind.SQUARED_ERROR:
        return rng.choice((LOW, HIGH, rng.randint(LOW, HIGH), rng.randint(LOW, HIGH)))
    return rng.randrange(outputs) if rng.random() < 0.8 else rng.choice((-1, outputs, LOW, HIGH))


@pytest.mark.parametrize("kind", list(LossKind))
def test_losses_are_those_of_the_model(kind):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    memories = Memories(CONFIG)
    model = Losses(CONFIG, memories)
    around = Around(LOSS)
    processor = around.processor
    processor.set("correct", 0)
    for _ in range(60):
        outputs = rng.choice((1, 2, 10, 16, rng.randint(1, 16)))
        register = rng.randrange(8)
        added = 0 if register == 0 else rng.choice((0, 5, rng.getrandbits(16)))
        around.main[MAP.addresses + register] = added
        loss = Loss(
            kind=kind,
            outputs=outputs,
            groups=rng.choice((1, 2, 3, 7)),
            fraction=rng.choice((0, 1, 7, 8, 31, rng.randrange(32))),
            accumulate=rng.random() < 0.6,
            target=rng.choice((0, -added & 0xFFFF, 3, 60, rng.getrandbits(16))),
            target_register=register,
        )
        for place in range(CONFIG.losses):
            memories.slots[place] = rng.choice((rng.getrandbits(32), LIMIT, LIMIT - rng.getrandbits(20), 0, 7))
            around.main[MAP.slots + SLOT_WORDS * place] = int(memories.slots[place])
        around.targets = [target_of(rng, kind, outputs) for _ in range(CONFIG.target_depth)]
        memories.targets[0] = around.targets
        model.correct = rng.choice((model.correct, 0, 65530, 65535))
        processor.set("correct", model.correct)
        assert around.instruction("op_loss", loss)[0] == "advance"
        model.setup(replace(loss, target=(loss.target + added) & 0xFFFF))
        for _ in range(rng.choice((1, 8, 15))):
            around.outcomes = [*outcomes_of(rng, outputs), *[HIGH] * (CONFIG.outputs - outputs)]
            model.capture(Base.NONE, np.array(around.outcomes[:outputs])[:, None], np.zeros(0, np.int64), 0)
            assert around.run("loss")[0] == "advance"
            assert processor.word("correct") == model.correct
            found = around.main[MAP.slots : MAP.slots + SLOT_WORDS * CONFIG.losses]
            assert found[::2] == memories.slots.tolist()
            assert not any(found[1::2])


def test_slots_wrap_and_their_sums_saturate():
    memories = Memories(CONFIG)
    model = Losses(CONFIG, memories)
    around = Around(LOSS)
    loss = Loss(kind=LossKind.SQUARED_ERROR, outputs=16, groups=20, accumulate=True, target=16)
    around.instruction("op_loss", loss)
    model.setup(loss)
    around.targets = [HIGH] * CONFIG.target_depth
    around.outcomes = [LOW] * CONFIG.outputs
    memories.targets[0] = around.targets
    for _ in range(20 * CONFIG.losses + 30):
        model.capture(Base.NONE, np.array(around.outcomes)[:, None], np.zeros(0, np.int64), 0)
        around.run("loss")
    assert around.main[MAP.slots : MAP.slots + SLOT_WORDS * CONFIG.losses : 2] == memories.slots.tolist()
    assert memories.slots[0] == LIMIT
    assert around.processor.word("loss_slot") == 1


@pytest.mark.parametrize("bits", [CONFIG.output_word, 13])
def test_powers_have_none_of_the_values_that_the_firmware_would_get_wrong(bits):
    """It takes a power with the top bit of its product for one that is not halved: just there none may be."""
    parts = np.arange(1 << LOSS_FRACTION)
    interval, rest = parts >> TABLE_BITS, parts & 0xFF
    value = EXP2[interval] - round_shift((EXP2[interval] - EXP2[interval + 1]) * rest, TABLE_BITS)
    for fraction in range(32):
        below = np.unique(round_shift((np.arange(1 << bits) * LOG2_E) << 1, fraction))
        whole, part = below >> LOSS_FRACTION, below & 0xFFFF
        factor = np.array(tables.WORDS)[tables.POWER_BASE + np.minimum(whole, tables.POWERS - 1)]
        product = value[part] * factor
        is_whole = whole == 0
        assert np.array_equal(product >= 1 << 31, is_whole)
        product += np.where(is_whole, 1 << 15, 0)
        assert product.max() < 1 << 32
        wanted = np.where(whole > 40, 0, round_shift(value[part], np.minimum(whole, 40)))
        assert np.array_equal(round_shift(product, 16), wanted)


def test_loss_takes_a_time_that_does_not_depend_on_data():
    rng = random.Random(1)
    for kind in LossKind:
        times, setups = set(), set()
        for _ in range(40):
            around = Around(LOSS)
            around.main = [rng.choice((0, LIMIT, rng.getrandbits(32))) for _ in range(MAP.depth)]
            around.targets = [target_of(rng, kind, 10) for _ in range(CONFIG.target_depth)]
            loss = Loss(kind=kind, outputs=10, groups=2, fraction=7, accumulate=True, target_register=3)
            setups.add(around.instruction("op_loss", loss))
            around.processor.set("correct", rng.choice((0, 65535)))
            for _ in range(4):
                around.outcomes = outcomes_of(rng, CONFIG.outputs)
                times.add(around.run("loss"))
        print(kind.name, times, setups)
        assert len(times) == len(setups) == 1


def test_losses_out_of_range_are_refused():
    good = Loss(kind=LossKind.CROSS_ENTROPY, outputs=16, groups=0xFFFF)
    assert Around(LOSS).instruction("op_loss", good)[0] == "advance"
    for wrong in ({"outputs": 0}, {"outputs": 17}, {"outputs": 255}, {"groups": 0}):
        assert Around(LOSS).instruction("op_loss", replace(good, **wrong))[0] == "range_fault"


def slots_of(rng: random.Random) -> list[int]:
    """Losses: anything, small, close to each other, or extreme."""
    match rng.randrange(5):
        case 0:
            return [rng.choice((0, LIMIT, 1, 1 << 31)) for _ in range(CONFIG.losses)]
        case 1:
            return [rng.getrandbits(32) for _ in range(CONFIG.losses)]
        case 2:
            return [rng.randrange(12) for _ in range(CONFIG.losses)]
        case 3:
            return [rng.getrandbits(32)] * CONFIG.losses
    middle, spread = rng.getrandbits(26), rng.randint(1, 18)
    return [middle + rng.getrandbits(spread) for _ in range(CONFIG.losses)]


def coefficient_of(rng: random.Random) -> Coefficient:
    two_sided = rng.random() < 0.5
    most = CONFIG.losses // 2 if two_sided else CONFIG.losses - 1
    return Coefficient(
        queries=rng.choice((1, 2, most, rng.randint(1, most))),
        two_sided=two_sided,
        normalise=rng.random() < 0.6,
        shift=rng.choice((0, 1, 4, rng.randrange(20), rng.randrange(64))),
        average=rng.choice((0, 1, 4, 15, rng.randrange(16))),
        clip=rng.choice((0, 1, 3 << 8, 65535, rng.getrandbits(16))),
    )


def number(rng: random.Random) -> int:
    # Rates that are odd multiples of 2^15 have products that are halfway between two coefficients.
    halves = rng.randrange(64) << 15
    return rng.choice((0, 1, LIMIT, rng.getrandbits(32), rng.getrandbits(rng.randint(1, 32)), halves))


def loaded(rng: random.Random) -> tuple[Around, list[int], CoefficientState]:
    """A machine with losses and registers, and these."""
    around = Around(COEFFICIENT)
    slots = slots_of(rng)
    state = CoefficientState(rate=number(rng), rate_step=number(rng), scale=number(rng))
    around.main[MAP.slots : MAP.slots + SLOT_WORDS * CONFIG.losses : SLOT_WORDS] = slots
    for name, value in (("RATE", state.rate), ("RATE_STEP", state.rate_step), ("SCALE_LOW", state.scale)):
        around.main[MAP.registers + Register[name]] = value
    return around, slots, state


def test_coefficients_are_those_of_the_model():
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(400):
        around, slots, state = loaded(rng)
        instruction = coefficient_of(rng)
        steps, correct = rng.randrange(100), rng.getrandbits(16)
        processor = around.processor
        processor.set("steps", steps)
        processor.set("correct", correct)
        processor.set("coefficient_index", 9)
        wanted = list(around.main)
        values, after, loss = coefficients(CONFIG, instruction, slots, state)
        wanted[MAP.coefficients : MAP.coefficients + len(values)] = [value & LIMIT for value in values]
        wanted[MAP.registers + Register.RATE] = after.rate
        wanted[MAP.registers + Register.SCALE_LOW] = after.scale
        entry = MAP.history + HISTORY_WORDS * (steps % CONFIG.history)
        wanted[entry : entry + HISTORY_WORDS] = [loss, 0, correct, 0]
        assert around.instruction("op_coefficient", instruction)[0] == "advance"
        wanted[PROGRAM : PROGRAM + 2] = instruction.encode()
        assert around.main == wanted
        assert [processor.word(name) for name in ("correct", "coefficient_index")] == [0, 0]
        assert around.steps == processor.word("steps") == steps + 1


def test_coefficients_take_a_time_that_does_not_depend_on_data():
    rng = random.Random(2)
    digits = Coefficient(queries=16, shift=4)
    for instruction in (digits, *(coefficient_of(rng) for _ in range(8))):
        times = set()
        for _ in range(20):
            around, _, _ = loaded(rng)
            around.processor.set("steps", rng.getrandbits(32))
            around.processor.set("correct", rng.getrandbits(16))
            times.add(around.instruction("op_coefficient", instruction))
        print(times, instruction)
        assert len(times) == 1


def test_coefficients_out_of_range_are_refused():
    for two_sided, most in ((True, CONFIG.losses // 2), (False, CONFIG.losses - 1)):
        for queries in (0, 1, most, most + 1, 0x8000, 0xFFFF):
            instruction = Coefficient(queries=queries, two_sided=two_sided)
            end, _ = Around(COEFFICIENT).instruction("op_coefficient", instruction)
            assert end == ("advance" if 1 <= queries <= most else "range_fault")
