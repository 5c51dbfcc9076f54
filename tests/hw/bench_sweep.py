"""The sweep unit and the weight store against their models: every word, and ``ready`` in every cycle."""

import json
import os
import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from tenzo_hw.config import Config
from tenzo_hw.isa import REPLAY_SLOTS, Sweep, SweepKind
from tenzo_hw.layouts import instruction_layout
from tenzo_hw.numbers import bounds
from tenzo_hw.perturbation import signs
from tenzo_hw.sweep import perturb, update
from tenzo_hw.timing import sweep_latency
from tenzo_hw.weight_store import READ_CYCLES, TURN_CYCLES

CONFIG = Config.from_words(json.loads(os.environ["TENZO_BENCH"])["config"])
SWEEPS = 250
STROBES = ("sweep_start", "sweep_rewind", "sweep_generator_write", "store_host_write", "store_gather_write")


def fields(instruction):
    """The instruction's bits as the unit takes them."""
    layout = instruction_layout(type(instruction))
    return layout.const({name: int(getattr(instruction, name)) for name in layout.members}).as_bits()


def words(value, bits):
    """The C signed words of a row."""
    values = [value >> column * bits & ((1 << bits) - 1) for column in range(CONFIG.columns)]
    return [word - (1 << bits) if word >> (bits - 1) else word for word in values]


def random_word(bits):
    """A signed word, extremes and small ones more often than by chance."""
    low, high = bounds(bits)
    return random.choice([low, high, random.randint(low, high), random.randint(low, high), random.randint(-20, 20)])


class Machine:
    """Drives the ports a cycle at a time, beside the model."""

    def __init__(self, dut):
        self.dut = dut
        self.cycle = 0
        self.busy_until = 0
        self.started = -1
        self.writing_half = None
        self.turn = 0
        shape = (CONFIG.weight_rows, CONFIG.columns)
        self.masters = np.zeros(shape, dtype=np.int64)
        self.momenta = np.zeros(shape, dtype=np.int64)
        self.effective = np.zeros((CONFIG.effective_rows, CONFIG.columns), dtype=np.int64)
        self.generator = 1
        self.slots = [0] * REPLAY_SLOTS
        self.index = 0
        self.coefficients = [random_word(CONFIG.momentum_word) for _ in range(CONFIG.losses)]
        self.indices_before = [0, 0]
        self.expected = {}
        self.engine_row = None
        self.rate = 0

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
        assert dut.sweep_ready.value == (not self.started < self.cycle < self.busy_until), f"cycle {self.cycle}"
        if self.cycle in self.expected:
            row, expected = self.expected.pop(self.cycle)
            assert words(int(dut.store_weights.value), CONFIG.word) == expected, f"engine row {row}"
        row, self.engine_row = self.engine_row, None
        if row is None:
            half = random.choice([0, 1]) if self.writing_half is None else 1 - self.writing_half
            row = half * CONFIG.weight_rows + random.randrange(CONFIG.weight_rows)
        dut.store_row.value = row
        self.expected[self.cycle + 4] = row, self.effective[row].tolist()
        # Two cycles after its index.
        dut.sweep_coefficient.value = self.coefficients[self.indices_before.pop(0)]
        self.indices_before.append(int(dut.sweep_coefficient_index.value))
        assert self.indices_before[-1] == self.index
        dut.sweep_rate.value = self.rate
        for name, value in inputs.items():
            getattr(dut, name).value = value
        await FallingEdge(dut.clk)
        self.cycle += 1
        for name in STROBES:
            getattr(dut, name).value = 0

    async def sweep(self, sweep):
        """Starts a sweep and waits until it is ready again."""
        await self.host_turn(0)
        rows = slice(sweep.row, sweep.row + sweep.count)
        state = self.slots[sweep.replay_slot] if sweep.replay else self.generator
        for slot in range(REPLAY_SLOTS):
            if sweep.save >> slot & 1:
                self.slots[slot] = state
        row_signs, self.generator = signs(state, sweep.count, CONFIG.columns)
        self.started, self.busy_until = (
            self.cycle,
            self.cycle + sweep.count * CONFIG.sweep_turns + sweep_latency(CONFIG),
        )
        effective = self.effective
        if sweep.kind == SweepKind.PERTURB:
            self.writing_half = sweep.half
            effective = self.effective.copy()
            first = sweep.half * CONFIG.weight_rows + sweep.row
            effective[first : first + sweep.count] = perturb(
                CONFIG, self.masters[rows], row_signs, sweep.mu, sweep.negative, sweep.single, sweep.column
            )
        else:
            coefficient = self.coefficients[self.index]
            if sweep.single:
                indices = np.arange(self.index, self.index + sweep.count) % CONFIG.losses
                coefficient = np.array(self.coefficients)[indices]
            self.masters[rows], self.momenta[rows] = update(
                CONFIG, sweep, self.masters[rows], self.momenta[rows], row_signs, coefficient, self.rate
            )
        steps = 0
        if sweep.kind == SweepKind.UPDATE:
            steps = sweep.count if sweep.single else int(sweep.next)
        inputs = {"sweep_sweep": fields(sweep), "sweep_start": 1}
        while True:
            await self.tick(**inputs)
            # The first row's coefficient is passed at once, the next one's with the first row's last turn.
            if steps and (self.cycle - self.started - 1) % CONFIG.sweep_turns == 0:
                self.index, steps = (self.index + 1) % CONFIG.losses, steps - 1
            # Only the start cycle counts: what the sequencer shows afterwards is another instruction.
            inputs = {"sweep_sweep": random.getrandbits(len(self.dut.sweep_sweep))}
            self.rate = random.choice([0, random.getrandbits(32), random.getrandbits(12)])
            if self.cycle == self.busy_until:
                break
        self.effective, self.writing_half = effective, None
        assert int(self.dut.sweep_generator.value) == self.generator
        # The first cycle in which the engine may read: its row is the last one written.
        self.engine_row = sweep.half * CONFIG.weight_rows + sweep.row + sweep.count - 1

    async def host_turn(self, turn):
        """Begins or ends the host's turn at the masters and momenta."""
        if turn != self.turn:
            self.turn = turn
            for _ in range(TURN_CYCLES):
                await self.tick(store_host_turn=turn)

    async def host_write(self, momentum, row, column, value):
        """One word, written while no sweep goes on."""
        await self.host_turn(1)
        await self.tick(
            store_host_momentum=momentum,
            store_host_row=row,
            store_host_column=column,
            store_host_data=value,
            store_host_write=1,
        )
        (self.momenta if momentum else self.masters)[row, column] = value

    async def host_check(self, momentum, row, column):
        """Reads one word back."""
        await self.host_turn(1)
        for _ in range(READ_CYCLES):
            await self.tick(store_host_momentum=momentum, store_host_row=row, store_host_column=column)
        memory = self.momenta if momentum else self.masters
        expected = memory[row, column] if column < CONFIG.columns else 0
        assert self.dut.store_host_read.value.to_signed() == expected, (momentum, row, column)

    async def host_check_all(self):
        """Reads every master and momentum back."""
        for momentum in (0, 1):
            for row in range(CONFIG.weight_rows):
                for column in range(1 << (CONFIG.columns - 1).bit_length()):
                    await self.host_check(momentum, row, column)


def random_sweep():
    """A valid sweep with any flags; short and full ones more often than by chance."""
    count = random.choice([1, 2, CONFIG.weight_rows, random.randint(1, CONFIG.weight_rows)])
    return Sweep(
        kind=random.choice(list(SweepKind)),
        row=random.choice([0, CONFIG.weight_rows - count, random.randint(0, CONFIG.weight_rows - count)]),
        count=count,
        half=random.getrandbits(1),
        mu=random.choice([0, 1, 1 << random.randrange(16), random.getrandbits(16)]),
        negative=bool(random.getrandbits(1)),
        replay=bool(random.getrandbits(1)),
        replay_slot=random.getrandbits(1),
        save=random.getrandbits(2),
        first=random.random() < 0.4,
        last=random.random() < 0.6,
        sign=random.random() < 0.4,
        next=bool(random.getrandbits(1)),
        decay=random.choice([0, 1, 3, random.getrandbits(5)]),
        weight_decay=random.choice([0, 0, 1, 5, random.getrandbits(5)]),
        scale=random.choice([0, 0, 2, random.getrandbits(5)]),
        single=random.random() < 0.5,
        column=random.randrange(CONFIG.columns),
    )


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def sweeps(dut):
    """Random sweeps, back to back and with pauses, between host accesses."""
    machine = Machine(dut)
    await machine.start()
    for row in range(CONFIG.weight_rows):
        for column in range(CONFIG.columns):
            await machine.host_write(0, row, column, random_word(CONFIG.master_word))
            await machine.host_write(1, row, column, random_word(CONFIG.momentum_word))
    await machine.host_check_all()
    for number in range(SWEEPS):
        sweep = random_sweep()
        await machine.sweep(sweep)
        action = random.random()
        if action < 0.3:
            await machine.host_check(0, sweep.row + sweep.count - 1, random.randrange(CONFIG.columns))
            await machine.host_check(1, sweep.row, random.randrange(CONFIG.columns))
        elif action < 0.4:
            row, column = random.randrange(CONFIG.weight_rows), random.randrange(CONFIG.columns)
            await machine.host_write(0, row, column, random_word(CONFIG.master_word))
            await machine.host_write(1, row, column, random_word(CONFIG.momentum_word))
        elif action < 0.5:
            half, value = random.getrandbits(1), random.getrandbits(32)
            await machine.tick(sweep_generator_write=1 << half, sweep_generator_data=value)
            await machine.tick()
            kept = machine.generator >> 32 * (1 - half) & 0xFFFFFFFF
            machine.generator = value << 32 * half | kept << 32 * (1 - half)
            assert int(dut.sweep_generator.value) == machine.generator
        elif action < 0.6:
            await machine.tick(sweep_rewind=1)
            machine.index = 0
            # The coefficient of the new index is there two cycles after the strobe, before the sequencer's next issue.
            await machine.tick()
        elif action < 0.7:
            for _ in range(random.randrange(5)):
                await machine.tick()
        if number % 125 == 124:
            await machine.host_check_all()
    for row in range(CONFIG.effective_rows):
        machine.engine_row = row
        await machine.tick()
    for _ in range(4):
        await machine.tick()
