"""The loss accumulator against its model: slots, correct count, and ``free``, ``idle``, ``done`` in every cycle."""

import json
import os
import random
from typing import NamedTuple

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer
from tenzo_hw.config import Config
from tenzo_hw.isa import Base, Loss, LossKind
from tenzo_hw.loss import SETUP_CYCLES, SLOT_READ_CYCLES, accumulated, added, losses
from tenzo_hw.numbers import bounds
from tenzo_hw.timing import loss_latency

CONFIG = Config.from_words(json.loads(os.environ["TENZO_BENCH"])["config"])
MASK = (1 << CONFIG.output_word) - 1
LOW, HIGH = bounds(CONFIG.output_word)
SLOT_BITS = (CONFIG.losses - 1).bit_length()
#: Differences may not follow each other more closely, however short they are to read.
CLOSEST = 3


class Group(NamedTuple):
    """A group on its way: the cycles in which it is announced, captured and last read."""

    plain: bool
    announced: int
    captured: int
    read: int


def packed(instruction):
    """The word of the port ``setup``."""
    word, at = 0, 0
    for name, bits in Loss.FIELDS.items():
        if name != "wait":
            word |= int(getattr(instruction, name)) << at
            at += bits.width
    return word


class Accumulator:
    """Drives the ports a cycle at a time, checks ``free``, ``idle`` and ``done``, and knows what the slots hold."""

    def __init__(self, dut):
        self.dut = dut
        self.cycle = 0
        self.results = {}
        self.outcomes = {}
        self.groups = []
        self.targets = np.zeros((2, CONFIG.target_depth), int)
        self.slots = np.zeros(CONFIG.losses, np.int64)
        self.known = set()
        self.correct = 0

    async def start(self):
        """Starts the clock, resets the ports, and fills the targets with labels."""
        strobes = ("setup_start", "reserve", "target_write__strobe", "correct_clear", "run_start")
        for name in (*strobes, "half", "coefficient_reads"):
            getattr(self.dut, name).value = 0
        self.dut.rst.value = 0
        self.dut.captured.value = 1
        cocotb.start_soon(Clock(self.dut.clk, 10, unit="ns").start())
        await FallingEdge(self.dut.clk)
        await self.step(run_start=1)
        for half in range(2):
            await self.write_targets(half, [random.randint(-1, CONFIG.outputs) for _ in range(CONFIG.target_depth)])
        for address in range(CONFIG.losses):
            self.slots[address] = await self.read("host", address)

    async def read(self, port, address):
        """The slot that a read port sees; the other one's address is noise."""
        for name in ("host", "coefficient"):
            own = address if name == port else random.randrange(CONFIG.losses)
            getattr(self.dut, f"{name}_read__address").value = own
        self.dut.coefficient_reads.value = port == "coefficient"
        await self.step()
        self.dut.coefficient_reads.value = random.randint(0, 1)
        for _ in range(SLOT_READ_CYCLES - 1):
            await self.step()
        self.dut.coefficient_reads.value = 0
        return int(getattr(self.dut, f"{port}_read__data").value)

    async def step(self, **strobes):
        """One cycle with these strobes and the results that are due; noise where there are none."""
        for name, value in strobes.items():
            getattr(self.dut, name).value = value
        word = random.getrandbits(CONFIG.lanes * (CONFIG.output_word + 1))
        for lane in range(CONFIG.lanes):
            at = lane * (CONFIG.output_word + 1)
            value = self.results.pop((self.cycle, lane), None)
            if value is None:
                word &= ~(1 << at)
            else:
                word = word & ~((2 * MASK + 1) << at) | (1 | (value & MASK) << 1) << at
        self.dut.results.value = word
        slot, base = self.outcomes.pop(self.cycle, (random.randrange(CONFIG.losses), random.choice(list(Base))))
        self.dut.outcome.value = slot | base << SLOT_BITS
        pending = any(not group.plain and group.announced < self.cycle <= group.captured for group in self.groups)
        self.dut.captured.value = not pending

        await Timer(1, "ns")
        taken = sum(group.plain and group.announced < self.cycle <= group.read for group in self.groups)
        # Differences are announced by ``captured``, a cycle later.
        busy = any(
            group.announced + (not group.plain) < self.cycle < group.read + loss_latency(CONFIG)
            for group in self.groups
        )
        assert self.dut.free.value == (taken < 2), f"free in cycle {self.cycle}"
        assert self.dut.idle.value == (taken == 0), f"idle in cycle {self.cycle}"
        assert self.dut.done.value == (not busy), f"done in cycle {self.cycle}"
        self.groups = [group for group in self.groups if self.cycle < group.read + loss_latency(CONFIG)]
        await FallingEdge(self.dut.clk)
        for name in strobes:
            getattr(self.dut, name).value = 0
        self.cycle += 1

    def _schedule(self, outputs, cycles, announced, base, slot=0):
        """Schedules a group's results, int[lanes, outputs], lane 0's in these cycles; its slot is with its first."""
        for j, at in enumerate(cycles):
            self.outcomes[at] = (slot if j == 0 else random.randrange(CONFIG.losses), base)
            for lane in range(CONFIG.lanes):
                self.results[at + lane, lane] = int(outputs[lane, j])
        before = self.groups[-1].read if self.groups else -1
        read = max(cycles[-1], before) + CONFIG.loss_lanes * outputs.shape[1]
        self.groups.append(Group(base != Base.ADD, announced, cycles[-1], read))

    async def plain(self, outputs, idle=0, base=Base.NONE):
        """Reserves a buffer as soon as one is free, for results after a pause of up to ``idle`` cycles."""
        while self.dut.free.value == 0:
            await self.step()
        at = max(self.cycle, *(group.captured for group in self.groups), 0) + random.randint(0, idle)
        cycles = []
        for _ in range(outputs.shape[1]):
            at += 1 + random.randint(0, idle // 3)
            cycles.append(at)
        self._schedule(outputs, cycles, self.cycle, base)
        await self.step(reserve=1)

    async def differences(self, groups, slots, idle=0):
        """Announces groups int[groups, lanes, outputs] once the accumulator is idle, as close as they may come."""
        while self.dut.idle.value == 0:
            await self.step()
        outputs, announced = groups.shape[2], self.cycle
        last = max(self.cycle, *(group.captured for group in self.groups), 0) + random.randint(0, idle)
        for group, slot in zip(groups, slots, strict=True):
            pace = max(CONFIG.loss_lanes * outputs, CLOSEST) + random.randint(0, idle)
            cycles = sorted(random.sample(range(last + 1, last + pace), outputs - 1))
            last += pace
            self._schedule(group, [*cycles, last], announced, Base.ADD, int(slot))
        await self.step()

    async def write_targets(self, half, values):
        """Writes targets from word 0 on, as the host does while the other half may be in use."""
        for address, value in enumerate(values):
            self.targets[half, address] = int(value)
            self.dut.target_write__half.value = half
            self.dut.target_write__address.value = address
            self.dut.target_write__data.value = int(value) & MASK
            await self.step(target_write__strobe=1)

    async def drain(self):
        """Steps until done, which must be in the cycle that the rules say, and checks slots and correct count."""
        while self.groups:
            await self.step()
        assert self.dut.done.value == 1
        assert not self.results
        assert not self.outcomes
        for address in sorted(self.known):
            port = random.choice(["host", "coefficient"])
            assert await self.read(port, address) == int(self.slots[address]), f"slot {address} by the {port}"
        assert self.dut.correct.value == self.correct

    async def setup(self, instruction, half):
        """Sets the accumulator up, and waits until a reserve can be followed by a result."""
        self.dut.half.value = half
        await self.step(setup=packed(instruction), setup_start=1)
        for _ in range(SETUP_CYCLES - 2):
            await self.step()

    def losses(self, instruction, half, group, outputs):
        """Losses of the samples of group number ``group`` of a slot, and how many are right."""
        shape = outputs.shape if instruction.kind == LossKind.SQUARED_ERROR else CONFIG.lanes
        count = int(np.prod(shape))
        addresses = instruction.target + group * count + np.arange(count)
        return losses(instruction, outputs, self.targets[half, addresses % CONFIG.target_depth].reshape(shape))

    def expect(self, instruction, slot, values):
        """Adds a slot's losses to what it holds, or replaces it."""
        keeps = instruction.accumulate and instruction.target != 0
        self.slots[slot] = accumulated(CONFIG, self.slots[slot] if keeps else np.int64(0), values)
        self.known.add(int(slot))

    async def run(self, instruction, outputs, half, idle=0, base=Base.NONE):
        """One LOSS and the groups of its slots, outputs int[slots, groups, lanes, outputs], the last one with ``base``.

        ``idle`` is the longest pause of the engine before a group; a third of it, between two results.
        """
        await self.setup(instruction, half)
        for slot, groups in enumerate(outputs):
            summed = []
            for number, group in enumerate(groups):
                is_last = slot == len(outputs) - 1 and number == len(groups) - 1
                await self.plain(group, idle, base if is_last else random.choice([Base.NONE, Base.KEEP]))
                values, right = self.losses(instruction, half, number, group)
                self.correct += right
                summed.append(values)
            self.expect(instruction, slot % CONFIG.losses, np.concatenate(summed))


def shapes():
    """Outputs, groups and slots of one run: the smallest ones often."""
    outputs = random.choice([1, 2, random.randint(1, CONFIG.outputs), CONFIG.outputs])
    return outputs, random.choice([1, 2, random.randint(1, 6)]), random.randint(1, 6)


def words(shape):
    """Words of all sizes, with ties for the largest and words at the ends of the range."""
    spread = 1 << random.randint(0, CONFIG.output_word - 1)
    values = np.array([random.randint(-spread, spread) for _ in range(np.prod(shape))])
    return np.clip(values, LOW, HIGH).reshape(shape)


def any_loss(outputs, groups):
    """A setup of either kind that may add to what is there, and targets for it."""
    kind = random.choice(list(LossKind))
    instruction = Loss(
        kind=kind,
        outputs=outputs,
        groups=groups,
        fraction=random.randint(0, 31),
        accumulate=random.random() < 0.7,
        target=random.choice([0, random.randrange(CONFIG.target_depth)]),
    )
    low, high = (-1, outputs) if kind == LossKind.CROSS_ENTROPY else (LOW, HIGH)
    return instruction, [random.randint(low, high) for _ in range(random.randint(0, 40))]


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def slots_are_those_of_the_model(dut):
    accumulator = Accumulator(dut)
    await accumulator.start()
    for _ in range(120):
        outputs, groups, slots = shapes()
        instruction, targets = any_loss(outputs, groups)
        half = random.randint(0, 1)
        await accumulator.write_targets(half, targets)
        values = words((slots, groups, CONFIG.lanes, outputs))
        await accumulator.run(instruction, values, half, idle=random.choice([0, 0, 3, 40]))
        await accumulator.drain()
        if random.random() < 0.2:
            await accumulator.step(correct_clear=1)
            accumulator.correct = 0


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def differences_add_the_base(dut):
    accumulator = Accumulator(dut)
    await accumulator.start()
    for _ in range(60):
        outputs, _, plain = shapes()
        instruction, targets = any_loss(outputs, 1)
        half = random.randint(0, 1)
        await accumulator.write_targets(half, targets)
        base = words((plain, 1, CONFIG.lanes, outputs))
        await accumulator.run(instruction, base, half, random.choice([0, 40]), Base.KEEP)
        for _ in range(random.randint(1, 2)):
            count = random.choice([1, 2, 40])
            # The next slot in most cases; else any, the same, or the one before that.
            slots = [random.randrange(CONFIG.losses) for _ in range(2)]
            for _ in range(count):
                near = random.choice([slots[-1], slots[-2], random.randrange(CONFIG.losses)])
                slots.append(near if random.random() < 0.5 else (slots[-1] + 1) % CONFIG.losses)
            groups = words((count, CONFIG.lanes, outputs))
            await accumulator.differences(groups, slots[2:], random.choice([0, 0, 3, 40]))
            for slot, group in zip(slots[2:], added(CONFIG, base[-1, 0], groups), strict=True):
                accumulator.expect(instruction, slot, accumulator.losses(instruction, half, 0, group)[0])
        await accumulator.drain()


# Narrower words would need a hundred thousand groups and more, wider ones saturate at once.
@cocotb.test(timeout_time=20, timeout_unit="ms", skip=CONFIG.output_word != 18)
async def a_slot_saturates(dut):
    accumulator = Accumulator(dut)
    await accumulator.start()
    await accumulator.write_targets(0, [LOW] * CONFIG.target_depth)
    per_group = CONFIG.lanes * CONFIG.outputs * (HIGH - LOW) ** 2
    groups = -(-(1 << CONFIG.loss_word) // per_group)
    for count in (groups, groups - 1):
        instruction = Loss(kind=LossKind.SQUARED_ERROR, outputs=CONFIG.outputs, groups=count)
        values = np.full((2, count, CONFIG.lanes, CONFIG.outputs), HIGH)
        values[1] = LOW + 1
        await accumulator.run(instruction, values, 0)
        await accumulator.drain()
        assert (accumulator.slots[0] == (1 << CONFIG.loss_word) - 1) == (count == groups)
    for _ in range(2):
        more = Loss(kind=LossKind.SQUARED_ERROR, outputs=CONFIG.outputs, groups=1, accumulate=True, target=1)
        await accumulator.run(more, values[:1, :1], 0)
        await accumulator.drain()
        assert accumulator.slots[0] == (1 << CONFIG.loss_word) - 1


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def run_start_forgets_groups(dut):
    accumulator = Accumulator(dut)
    await accumulator.start()
    outputs = CONFIG.outputs
    instruction = Loss(kind=LossKind.CROSS_ENTROPY, outputs=outputs, groups=2, fraction=4, accumulate=True, target=1)
    for stop in range(1, 3 * outputs + loss_latency(CONFIG), 5):
        # A sum that is whole makes the slots known.
        await accumulator.run(instruction, words((2, 2, CONFIG.lanes, outputs)), 0)
        await accumulator.drain()
        held = accumulator.slots.copy(), accumulator.correct
        await accumulator.run(instruction, words((1, 1, CONFIG.lanes, outputs)), 0)
        accumulator.slots, accumulator.correct = held
        for _ in range(stop):
            await accumulator.step()
        # A run starts with the engine at rest: the rest of the group never comes.
        accumulator.results.clear()
        accumulator.outcomes.clear()
        for _ in range(CONFIG.lanes):
            await accumulator.step()
        await accumulator.step(run_start=1)
        accumulator.groups.clear()
        accumulator.correct = 0
        await accumulator.run(instruction, words((2, 2, CONFIG.lanes, outputs)), 0)
        await accumulator.drain()
