"""The coefficient unit against its model: coefficients, registers, history, and ``ready`` in every cycle."""

import json
import os
import random
from dataclasses import replace

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer
from tenzo_hw.coefficient import CoefficientState, coefficients
from tenzo_hw.config import Config
from tenzo_hw.isa import Coefficient
from tenzo_hw.layouts import instruction_layout
from tenzo_hw.loss import SLOT_READ_CYCLES
from tenzo_hw.timing import coefficient_cycles

PARAMETERS = json.loads(os.environ["TENZO_BENCH"])
CONFIG = Config.from_words(PARAMETERS["config"])
STROBES = ("start", "run_start", "rate_write", "rate_step_write", "scale_write")
LIMIT = (1 << CONFIG.loss_word) - 1


def fields(instruction):
    """The instruction's bits as the unit takes them."""
    layout = instruction_layout(type(instruction))
    return layout.const({name: int(getattr(instruction, name)) for name in layout.members}).as_bits()


class Machine:
    """Drives the ports a cycle at a time, beside the model."""

    def __init__(self, dut):
        self.dut = dut
        self.cycle = 0
        self.started = self.busy_until = -1
        self.slots = [0] * CONFIG.losses
        self.asked = [0] * SLOT_READ_CYCLES
        self.cleared = 0
        self.state = CoefficientState()
        self.history = [(0, 0)] * CONFIG.history
        self.steps = 0

    async def start(self):
        """Starts the clock and clears the ports."""
        for name in STROBES:
            getattr(self.dut, name).value = 0
        self.dut.rst.value = 0
        cocotb.start_soon(Clock(self.dut.clk, 10, unit="ns").start())
        await FallingEdge(self.dut.clk)

    async def tick(self, **inputs):
        """One cycle with these inputs; strobes among them are low again afterwards."""
        dut = self.dut
        assert dut.ready.value == (not self.started < self.cycle < self.busy_until), f"cycle {self.cycle}"
        dut.loss.value = self.asked.pop(0)
        # A slot that is not asked for is noise.
        asked = self.slots[int(dut.slot.value)] if dut.reads.value == 1 else random.getrandbits(CONFIG.loss_word)
        self.asked.append(asked)
        for name, value in inputs.items():
            getattr(dut, name).value = value
        await Timer(1, "ns")
        assert dut.correct_clear.value == self.cleared
        self.cleared = inputs.get("start", 0)
        await FallingEdge(dut.clk)
        self.cycle += 1
        for name in STROBES:
            getattr(dut, name).value = 0

    async def write(self, state):
        """Sets the registers as the host does."""
        await self.tick(rate_write=1, host_data=state.rate)
        await self.tick(rate_step_write=1, host_data=state.rate_step)
        await self.tick(scale_write=1, host_data=state.scale & 0xFFFFFFFF)
        await self.tick(scale_write=2, host_data=state.scale >> 32)
        self.state = state

    async def coefficient(self, instruction, *, in_full):
        """Carries an instruction out and compares what it leaves: the memories only ``in_full``."""
        dut = self.dut
        correct = random.getrandbits(16)
        values, self.state, loss = coefficients(CONFIG, instruction, self.slots, self.state)
        self.history[self.steps % CONFIG.history] = loss, correct
        self.steps += 1
        self.started = self.cycle
        self.busy_until = self.cycle + coefficient_cycles(CONFIG, instruction.queries)
        dut.coefficient_index.value = 0
        await self.tick(instruction=fields(instruction), start=1, correct=correct)
        while self.cycle < self.busy_until:
            await self.tick(instruction=random.getrandbits(len(dut.instruction)), correct=random.getrandbits(16))
        # The first cycle in which the unit is ready: an UPDATE started now takes the first coefficient.
        assert dut.coefficient.value.to_signed() == values[0]
        self.check_registers()
        if in_full:
            for index, value in enumerate(values):
                await self.tick(coefficient_index=index)
                await self.tick()
                assert dut.coefficient.value.to_signed() == value, f"query {index} of {instruction}"
            await self.check_history()

    def check_registers(self):
        """The registers as the host and the status see them."""
        seen = (int(self.dut.rate.value), int(self.dut.rate_step.value), int(self.dut.scale.value))
        assert seen == (self.state.rate, self.state.rate_step, self.state.scale)
        assert int(self.dut.steps.value) == self.steps

    async def check_history(self):
        """All entries of the history."""
        for step, (loss, correct) in enumerate(self.history):
            for word, expected in enumerate((loss & 0xFFFFFFFF, loss >> 32, correct, 0)):
                await self.tick(history_address=4 * step + word)
                await self.tick()
                await self.tick()
                assert int(self.dut.history_data.value) == expected, f"history {step}, word {word}"


def random_slots():
    """Losses of a step: equal, close together, or anything."""
    bits = random.choice([0, 1, 4, 12, 20, CONFIG.loss_word - 1, CONFIG.loss_word])
    base = random.choice([0, random.getrandbits(20), LIMIT])
    return [min(base + random.getrandbits(bits), LIMIT) if bits else base for _ in range(CONFIG.losses)]


def random_instruction():
    """A valid instruction with any flags."""
    two_sided = bool(random.getrandbits(1))
    most = CONFIG.losses // 2 if two_sided else CONFIG.losses - 1
    return Coefficient(
        queries=random.choice([1, 2, most, random.randint(1, most)]),
        two_sided=two_sided,
        normalise=random.random() < 0.7,
        shift=random.choice([0, 1, 4, random.getrandbits(6)]),
        average=random.getrandbits(4),
        clip=random.choice([0, 1 << 8, 3 << 8, 0xFFFF, random.getrandbits(16)]),
    )


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def steps(dut):
    """Random steps, back to back and with pauses, over several runs."""
    machine = Machine(dut)
    await machine.start()
    # The most queries that there can be come first: the sums and addresses at their widest.
    await machine.write(CoefficientState(rate=random.getrandbits(20)))
    machine.slots = [random.getrandbits(CONFIG.loss_word) for _ in range(CONFIG.losses)]
    await machine.coefficient(replace(random_instruction(), queries=CONFIG.losses - 1, two_sided=False), in_full=True)
    for _ in range(PARAMETERS["steps"]):
        action = random.random()
        if action < 0.3:
            await machine.write(
                CoefficientState(
                    rate=random.choice([0, 1 << 16, random.getrandbits(32), 0xFFFFFFFF]),
                    rate_step=random.choice([0, 1, random.getrandbits(30)]),
                    scale=random.choice([0, 1, random.getrandbits(20), random.getrandbits(CONFIG.loss_word), LIMIT]),
                )
            )
        elif action < 0.35:
            await machine.tick(run_start=1)
            machine.steps = 0
        elif action < 0.6:
            for _ in range(random.randrange(4)):
                await machine.tick()
        machine.slots = random_slots()
        await machine.coefficient(random_instruction(), in_full=random.random() < 0.5)
    await machine.check_history()
