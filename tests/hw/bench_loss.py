"""The loss accumulator against its model: slots, correct count, and ``free`` and ``done`` in every cycle."""

import json
import os
import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from tenzo_hw.config import LOSS_WORD, Config
from tenzo_hw.isa import Loss, LossKind
from tenzo_hw.loss import losses, slot
from tenzo_hw.timing import loss_latency

CONFIG = Config.from_words(json.loads(os.environ["TENZO_BENCH"])["config"])
MASK = (1 << CONFIG.word) - 1
NEVER = -(10**9)


class Accumulator:
    """Drives the ports a cycle at a time and checks ``free`` and ``done`` against the timing rules."""

    def __init__(self, dut):
        self.dut = dut
        self.cycle = 0
        self.results = {}
        self.reserved = []
        self.read_ends = []
        self.targets = [[0] * CONFIG.target_depth for _ in range(2)]

    async def start(self):
        """Starts the clock and resets the ports."""
        for name in ("setup_start", "reserve", "results", "half", "target_write__strobe", "correct_clear", "run_start"):
            getattr(self.dut, name).value = 0
        self.dut.rst.value = 0
        cocotb.start_soon(Clock(self.dut.clk, 10, unit="ns").start())
        await FallingEdge(self.dut.clk)
        await self.step(run_start=1)
        for half in range(2):
            await self.write_targets(half, [random.randint(-1, CONFIG.outputs) for _ in range(CONFIG.target_depth)])

    async def step(self, **strobes):
        """One cycle with these strobes and the results that are due."""
        taken = [(at, end) for at, end in zip(self.reserved, self.read_ends, strict=True) if at < self.cycle < end + 1]
        busy = len(taken) > 0 or any(
            at < self.cycle < end + loss_latency(CONFIG) for at, end in zip(self.reserved, self.read_ends, strict=True)
        )
        assert self.dut.free.value == (len(taken) < 2), f"free in cycle {self.cycle}"
        assert self.dut.done.value == (not busy), f"done in cycle {self.cycle}"
        for name, value in strobes.items():
            getattr(self.dut, name).value = value
        word = 0
        for lane in range(CONFIG.lanes):
            value = self.results.pop((self.cycle, lane), None)
            if value is not None:
                word |= (1 | (value & MASK) << 1) << lane * (CONFIG.word + 1)
        self.dut.results.value = word
        await FallingEdge(self.dut.clk)
        for name in strobes:
            getattr(self.dut, name).value = 0
        self.cycle += 1

    async def group(self, outputs, first, pause=0):
        """Reserves a buffer in this cycle and schedules a group's results, lane 0's first in ``first`` cycles.

        Gives the cycle of lane 0's last result.
        """
        at = self.cycle + first
        for j in range(outputs.shape[1]):
            for lane in range(CONFIG.lanes):
                self.results[at + lane, lane] = int(outputs[lane, j])
            at += 1 + random.randint(0, pause)
        captured = max(cycle for cycle, lane in self.results if lane == 0)
        start = max(captured + 1, self.read_ends[-1] + 1 if self.read_ends else 0)
        self.reserved.append(self.cycle)
        self.read_ends.append(start + outputs.size - 1)
        await self.step(reserve=1)
        return captured

    async def setup(self, instruction):
        """Sets the accumulator up."""
        packed = instruction.kind | instruction.outputs << 1 | instruction.fraction << 9 | instruction.groups << 14
        await self.step(setup=packed, setup_start=1)

    async def write_targets(self, half, values):
        """Writes targets from word 0 on, as the host does while the other half may be in use."""
        for address, value in enumerate(values):
            self.targets[half][address] = int(value)
            self.dut.target_write__half.value = half
            self.dut.target_write__address.value = address
            self.dut.target_write__data.value = int(value) & MASK
            await self.step(target_write__strobe=1)

    async def slots(self, count):
        """The first slots, once as the host and once as the coefficient unit reads them."""
        read = []
        for address in range(count):
            self.dut.host_read__address.value = address
            self.dut.coefficient_read__address.value = address
            await self.step()
            assert self.dut.host_read__data.value == self.dut.coefficient_read__data.value
            read.append(int(self.dut.host_read__data.value))
        return read

    async def drain(self):
        """Steps until done, which must be in the cycle that the rules say."""
        while self.cycle < self.read_ends[-1] + loss_latency(CONFIG):
            await self.step()
        assert self.dut.done.value == 1
        assert not self.results

    async def run(self, instruction, outputs, half, idle=0):
        """One LOSS and the groups of its slots, outputs int[slots, groups, lanes, outputs]. Gives the slots.

        ``idle`` is the longest pause of the engine before a group; a third of it, between two results.
        """
        self.dut.half.value = half
        await self.setup(instruction)
        captured = NEVER
        for group in outputs.reshape(-1, *outputs.shape[2:]):
            while self.dut.free.value == 0:
                await self.step()
            # The engine gives no result of a group before the last of the group before.
            captured = await self.group(group, max(1, captured + 1 - self.cycle) + random.randint(0, idle), idle // 3)
        await self.drain()
        return await self.slots(len(outputs))

    def expected(self, instruction, outputs, half):
        """What the model says of ``run``: slots and correct count."""
        slots, correct = [], 0
        targets = np.array(self.targets[half])
        for groups in outputs:
            samples = groups.reshape(-1, groups.shape[-1])
            shape = samples.shape if instruction.kind == LossKind.SQUARED_ERROR else len(samples)
            wanted = targets[np.arange(np.prod(shape)) % CONFIG.target_depth].reshape(shape)
            values, right = losses(instruction, samples, wanted)
            slots.append(slot(values))
            correct += right
        return slots, correct


def shapes():
    """Outputs, groups and slots of one run: the smallest ones often."""
    outputs = random.choice([1, 2, random.randint(1, CONFIG.outputs), CONFIG.outputs])
    return outputs, random.choice([1, 2, random.randint(1, 6)]), random.randint(1, 4)


def network_outputs(shape):
    """Words of all sizes, with ties for the largest and words at the ends of the range."""
    spread = 1 << random.randint(0, CONFIG.word - 1)
    values = np.array([random.randint(-spread, spread) for _ in range(np.prod(shape))])
    return np.clip(values, -(1 << (CONFIG.word - 1)), (1 << (CONFIG.word - 1)) - 1).reshape(shape)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def slots_are_those_of_the_model(dut):
    accumulator = Accumulator(dut)
    await accumulator.start()
    correct = 0
    for _ in range(120):
        outputs, groups, slots = shapes()
        kind = random.choice(list(LossKind))
        instruction = Loss(kind=kind, outputs=outputs, groups=groups, fraction=random.randint(0, 31))
        half = random.randint(0, 1)
        low = -(1 << (CONFIG.word - 1)) if kind == LossKind.SQUARED_ERROR else -1
        high = -low - 1 if kind == LossKind.SQUARED_ERROR else outputs
        await accumulator.write_targets(half, [random.randint(low, high) for _ in range(random.randint(0, 40))])
        values = network_outputs((slots, groups, CONFIG.lanes, outputs))
        read = await accumulator.run(instruction, values, half, idle=random.choice([0, 0, 3, 40]))
        expected, right = accumulator.expected(instruction, values, half)
        assert read == expected, f"{instruction}"
        correct += right
        assert dut.correct.value == correct
        if random.random() < 0.2:
            await accumulator.step(correct_clear=1)
            correct = 0


# Narrower words would need a hundred thousand groups and more.
@cocotb.test(timeout_time=20, timeout_unit="ms", skip=CONFIG.word < 18)
async def a_slot_saturates(dut):
    accumulator = Accumulator(dut)
    await accumulator.start()
    low = -(1 << (CONFIG.word - 1))
    await accumulator.write_targets(0, [low] * CONFIG.target_depth)
    per_group = CONFIG.lanes * CONFIG.outputs * (-2 * low - 1) ** 2
    groups = -(-(1 << LOSS_WORD) // per_group)
    for count in (groups, groups - 1):
        instruction = Loss(kind=LossKind.SQUARED_ERROR, outputs=CONFIG.outputs, groups=count)
        values = np.full((2, count, CONFIG.lanes, CONFIG.outputs), -low - 1)
        values[1] = low + 1
        read = await accumulator.run(instruction, values, 0)
        assert read == accumulator.expected(instruction, values, 0)[0]
        assert (read[0] == (1 << LOSS_WORD) - 1) == (count == groups)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def run_start_forgets_groups(dut):
    accumulator = Accumulator(dut)
    await accumulator.start()
    instruction = Loss(kind=LossKind.CROSS_ENTROPY, outputs=CONFIG.outputs, groups=2, fraction=4)
    for stop in range(1, 3 * CONFIG.outputs + loss_latency(CONFIG), 5):
        values = network_outputs((1, 3, CONFIG.lanes, CONFIG.outputs))
        await accumulator.setup(instruction)
        captured = NEVER
        for group in values[0, :2]:
            captured = await accumulator.group(group, max(1, captured + 1 - accumulator.cycle))
        for _ in range(stop):
            await accumulator.step()
        # A run starts with the engine at rest: the rest of the group never comes.
        accumulator.results.clear()
        for _ in range(CONFIG.lanes):
            accumulator.dut.results.value = 0
            await accumulator.step()
        await accumulator.step(run_start=1)
        accumulator.reserved.clear()
        accumulator.read_ends.clear()
        values = network_outputs((2, 2, CONFIG.lanes, CONFIG.outputs))
        read = await accumulator.run(instruction, values, 0)
        expected, right = accumulator.expected(instruction, values, 0)
        assert read == expected
        assert dut.correct.value == right
