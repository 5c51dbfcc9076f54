"""The gather unit and the weight store against the model: every write, every row, and ``ready`` in every cycle."""

import json
import os
import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer
from tenzo_hw.config import Config
from tenzo_hw.gather import model, read_latency
from tenzo_hw.isa import Gather
from tenzo_hw.layouts import instruction_layout
from tenzo_hw.nest import WRAP
from tenzo_hw.numbers import bounds
from tenzo_hw.timing import gather_latency

CONFIG = Config.from_words(json.loads(os.environ["TENZO_BENCH"])["config"])
GATHERS = 200
MOST_WORDS = 200


def fields(instruction):
    """The instruction's bits as the unit takes them."""
    layout = instruction_layout(type(instruction))
    return layout.const({name: int(getattr(instruction, name)) for name in layout.members}).as_bits()


def words(value):
    """The C signed words of a row."""
    values = [value >> column * CONFIG.word & ((1 << CONFIG.word) - 1) for column in range(CONFIG.columns)]
    return [word - (1 << CONFIG.word) if word >> (CONFIG.word - 1) else word for word in values]


def walk(gather):
    """What is read, word by word: (lane, address, row, column) each, and None for the one refused."""
    row = gather.row
    for lane in range(gather.lanes):
        for turn in range(gather.rows):
            for column in range(gather.cols):
                address = (gather.address + turn * gather.stride + column * gather.col_stride) % WRAP
                if address >= CONFIG.lane_depth or row % WRAP >= CONFIG.effective_rows:
                    yield None
                    return
                yield lane, address, row % WRAP, column
            row += 1


class Machine:
    """Drives the ports a cycle at a time, beside the model."""

    def __init__(self, dut):
        self.dut = dut
        self.cycle = 0
        self.started = self.busy_until = self.fault_at = -1
        self.lanes = np.zeros((CONFIG.lanes, CONFIG.lane_depth), dtype=np.int64)
        self.effective = np.zeros((CONFIG.effective_rows, CONFIG.columns), dtype=np.int64)
        self.writes = {}
        self.reads = {}
        self.read_words = {}
        self.engine_words = {}
        self.engine_row = None

    async def start(self):
        """Starts the clock and clears the ports."""
        self.dut.start.value = 0
        self.dut.rst.value = 0
        cocotb.start_soon(Clock(self.dut.clk, 10, unit="ns").start())
        await FallingEdge(self.dut.clk)

    async def tick(self, **inputs):
        """One cycle with these inputs; the lanes answer ``read_latency`` cycles after an address."""
        dut, cycle = self.dut, self.cycle
        row, self.engine_row = self.engine_row, None
        dut.row.value = random.randrange(CONFIG.effective_rows) if row is None else row
        unasked = random.getrandbits(CONFIG.word)
        dut.lane_read__data.value = self.read_words.pop(cycle, unasked)
        for name, value in inputs.items():
            getattr(dut, name).value = value
        await Timer(1, "ns")
        assert dut.ready.value == (not self.started < cycle < self.busy_until), f"cycle {cycle}"
        assert dut.fault.value == (cycle == self.fault_at), f"cycle {cycle}"
        if cycle in self.reads:
            lane, address = self.reads.pop(cycle)
            assert int(dut.lane_read__address.value) == lane * CONFIG.lane_depth + address, f"cycle {cycle}"
            word = int(self.lanes[lane, address]) & ((1 << CONFIG.word) - 1)
            self.read_words[cycle + read_latency(CONFIG)] = word
        if cycle in self.engine_words:
            row, expected = self.engine_words.pop(cycle)
            assert words(int(dut.weights.value)) == expected, f"engine row {row}"
        assert dut.effective_write.value == (cycle in self.writes), f"cycle {cycle}"
        row = int(dut.row.value)
        self.engine_words[cycle + 4] = row, self.effective[row].tolist()
        if cycle in self.writes:
            # It can be read from the next cycle on, and not in this one.
            row, expected = self.writes.pop(cycle)
            assert int(dut.effective_row.value) == row
            assert words(int(dut.effective_words.value)) == expected, f"engine row {row}"
            if int(dut.row.value) == row:
                del self.engine_words[cycle + 4]
            self.effective[row] = expected
            self.engine_row = row
        await FallingEdge(dut.clk)
        self.cycle += 1
        dut.start.value = 0

    async def gather(self, gather):
        """Carries a gather out and compares every cycle of it."""
        self.started = self.cycle
        expected = self.effective.copy()
        refused = model(CONFIG, gather, self.lanes, expected)
        taken = []
        for word in walk(gather):
            cycle = self.started + 5 + len(taken)
            if word is None:
                self.fault_at = cycle + 1
                break
            lane, address, row, column = word
            self.reads[cycle] = lane, address
            taken.append(int(self.lanes[lane, address]))
            if column == gather.cols - 1:
                row_words = taken[-gather.cols :] + [0] * (CONFIG.columns - gather.cols)
                self.writes[cycle + read_latency(CONFIG) + 1] = row, row_words
        assert refused == (self.fault_at > self.started)
        count = len(taken) + refused
        assert refused or count == gather.lanes * gather.rows * gather.cols
        # As many cycles after a fault as after the last read.
        self.busy_until = self.started + count + gather_latency(CONFIG) + refused
        # Ready is as early as can be: when the last row has been written.
        assert refused or max(self.writes) == self.busy_until - 2
        await self.tick(gather=fields(gather), start=1)
        while self.cycle < self.busy_until:
            # Only the start cycle counts: what the sequencer shows afterwards is another instruction.
            await self.tick(gather=random.getrandbits(len(self.dut.gather)))
        assert not self.reads
        assert not self.writes
        assert (self.effective == expected).all()


def random_gather():
    """A gather with valid counts: mostly one that fits, else with addresses or rows that leave their memory."""
    lanes = random.choice([1, CONFIG.lanes, random.randint(1, CONFIG.lanes)])
    cols = random.choice([1, CONFIG.columns, random.randint(1, CONFIG.columns)])
    most = min(MOST_WORDS // (lanes * cols), CONFIG.effective_rows // lanes)
    rows = random.choice([1, random.randint(1, max(most, 1)), max(most, 1)])
    widest = (CONFIG.lane_depth - 1) // max(cols - 1, 1)
    col_stride = random.choice([1, 1, random.randint(0, widest)])
    span = (cols - 1) * col_stride + 1
    room = (CONFIG.lane_depth - span) // max(rows - 1, 1)
    stride = random.choice([min(cols, room), 0, room, random.randint(0, room), -random.randint(0, room)])
    low, high = max(0, -stride * (rows - 1)), CONFIG.lane_depth - span - max(0, stride * (rows - 1))
    address = random.choice([low, high, random.randint(low, high)])
    row = random.choice([0, CONFIG.effective_rows - lanes * rows, random.randrange(CONFIG.effective_rows)])
    action = random.random()
    if action < 0.1:
        address = random.choice([-1, high + 1, low - 1, random.randrange(WRAP)])
    elif action < 0.15:
        row = random.choice([-1, CONFIG.effective_rows, random.randrange(WRAP)])
    elif action < 0.2:
        stride = random.randrange(WRAP)
    elif action < 0.22:
        col_stride = random.randrange(WRAP)
    return Gather(
        address=address % WRAP,
        stride=stride % WRAP,
        rows=rows,
        lanes=lanes,
        cols=cols,
        col_stride=col_stride,
        row=max(row, -1) % WRAP,
    )


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def gathers(dut):
    """Random gathers, back to back and with pauses, while the engine's port reads."""
    machine = Machine(dut)
    await machine.start()
    low, high = bounds(CONFIG.word)
    for _ in range(GATHERS):
        if random.random() < 0.4:
            for _ in range(random.randrange(4)):
                await machine.tick(gather=random.getrandbits(len(dut.gather)))
        machine.lanes = np.array(
            [[random.choice([low, high, random.randint(low, high)]) for _ in lane] for lane in machine.lanes]
        )
        await machine.gather(random_gather())
    for row in range(CONFIG.effective_rows):
        machine.engine_row = row
        await machine.tick()
    for _ in range(3):
        await machine.tick()
