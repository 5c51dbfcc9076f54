"""The contraction engine against its model: every result, and ``ready`` and ``drained`` in every cycle."""

import json
import os
import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from tenzo_hw.config import OUTER_LEVELS, REDUCTION_LEVELS, Config
from tenzo_hw.engine import model
from tenzo_hw.isa import Activation, Contract, Level
from tenzo_hw.layouts import instruction_layout
from tenzo_hw.nest import tile_cols
from tenzo_hw.numbers import bounds
from tenzo_hw.timing import capture_latency, host_read_latency, result_latency

CONFIG = Config.from_words(json.loads(os.environ["TENZO_BENCH"])["config"])
CONTRACTIONS = 120
#: Contractions read one part of the lane memory and write the next, so that the bench sees who depends on whom.
PARTS = 4
PART = CONFIG.lane_depth // PARTS
LAYOUT = instruction_layout(Contract)
#: A tile ends at the latest this many cycles after the last one, whatever the contraction.
LONGEST = 400


def signed_fields(bits, width, count):
    """The ``count`` signed numbers of ``width`` bits in an integer."""
    values = [bits >> number * width & ((1 << width) - 1) for number in range(count)]
    return [value - (1 << width) if value >> (width - 1) else value for value in values]


def words(shape, bits):
    """Random signed words with many extremes."""
    low, high = bounds(bits)
    chosen = np.random.default_rng(random.getrandbits(32)).integers(low, high + 1, size=shape)
    extreme = np.random.default_rng(random.getrandbits(32)).random(shape) < 0.1
    return np.where(extreme, np.where(chosen < 0, low, high), chosen)


def fits(levels, stream, room):
    """Whether a stream's reach over the levels is inside of ``room`` words."""
    return sum((level.count - 1) * getattr(level, stream) for level in levels) < room


def random_contract(reads, writes):
    """A contraction that reads part ``reads`` (None: the batch) and writes part ``writes`` of the lane memory."""
    while True:
        counts = [random.randint(1, 6), random.randint(1, 3)] + [random.choice([1, 1, 2, 3]) for _ in range(4)]
        levels = tuple(
            Level(
                count,
                random.randint(0, 6),
                random.randint(0, 9),
                random.randint(0, 9) if number >= REDUCTION_LEVELS else 0,
                random.randint(0, 5) if number >= REDUCTION_LEVELS else 0,
            )
            for number, count in enumerate(counts)
        )
        cols = random.randint(1, CONFIG.columns)
        col_stride = random.randint(0, 5)
        outer = levels[REDUCTION_LEVELS:]
        if not (
            fits(levels, "a", PART)
            and fits(levels, "w", CONFIG.weight_rows)
            and fits(outer, "b", CONFIG.weight_rows)
            and fits([*outer, Level(cols, o=col_stride)], "o", PART)
        ):
            continue
        return Contract(
            a_base=0 if reads is None else reads * PART,
            w_base=random.choice([0, CONFIG.weight_rows]),
            o_base=writes * PART,
            b_base=random.choice([0, CONFIG.weight_rows]),
            levels=levels,
            cols=cols,
            last_cols=random.randint(1, cols),
            col_stride=col_stride,
            shift=random.choice([0, 1, 3, CONFIG.word, random.randrange(64)]),
            tile_level=random.randrange(OUTER_LEVELS),
            from_batch=reads is None,
            store=random.random() < 0.8,
            to_loss=random.random() < 0.5,
            bias=random.random() < 0.5,
            one=random.choice([0, 3, random.randrange(32)]),
            activation=Activation(random.randrange(2 + CONFIG.tables)),
        )


class Engine:
    """Drives the ports a cycle at a time, beside the model and the rule of time."""

    def __init__(self, dut):
        self.dut = dut
        self.cycle = 0
        self.half = random.getrandbits(1)
        self.lanes = np.zeros((CONFIG.lanes, CONFIG.lane_depth), np.int64)
        self.batches = words((2, CONFIG.lanes, CONFIG.batch_depth), CONFIG.input_word)
        self.effective = words((CONFIG.effective_rows, CONFIG.columns), CONFIG.word)
        entries = (CONFIG.tables, 1 << CONFIG.table_bits)
        self.tables = np.stack([words(entries, CONFIG.word), words(entries, CONFIG.word + 1)], axis=-1)
        self.rows = [0, 0]
        self.first_row = self.last_row = -1
        self.end, self.end_cols = -LONGEST, 1
        self.expected = [{} for _ in range(CONFIG.lanes)]
        self.parts_in_flight = []

    @property
    def ready(self):
        """Idle, or the last row is issued in this cycle."""
        return self.cycle >= self.last_row

    @property
    def drained(self):
        """A contraction started in this cycle reads all results."""
        readable = self.end + result_latency(CONFIG) + self.end_cols - 1
        return self.cycle > self.last_row and self.cycle + 1 >= readable

    async def start_clock(self):
        """Clears the ports and starts the clock."""
        for name in ("start", "batch_write", "table_write", "lane_read__address", "weights", "contract"):
            getattr(self.dut, name).value = 0
        self.dut.rst.value = 0
        self.dut.half.value = self.half
        cocotb.start_soon(Clock(self.dut.clk, 10, unit="ns").start())
        await FallingEdge(self.dut.clk)

    async def tick(self):
        """One cycle: weights for the row of two cycles before, and every output compared."""
        dut = self.dut
        row = self.rows.pop(0)
        width = CONFIG.word
        dut.weights.value = sum(
            (int(word) & ((1 << width) - 1)) << width * column for column, word in enumerate(self.effective[row])
        )
        self.rows.append(int(dut.weights_row.value))
        assert dut.ready.value == self.ready, f"ready in cycle {self.cycle}"
        assert dut.drained.value == self.drained, f"drained in cycle {self.cycle}"
        results = int(dut.results.value)
        for lane in range(CONFIG.lanes):
            field = results >> lane * (width + 1)
            expected = self.expected[lane].pop(self.cycle, None)
            assert field & 1 == (expected is not None), f"lane {lane} in cycle {self.cycle}"
            if expected is not None:
                assert signed_fields(field >> 1, width, 1) == [expected], f"lane {lane} in cycle {self.cycle}"
        await FallingEdge(dut.clk)
        self.cycle += 1

    async def load(self):
        """Writes batch halves and tables."""
        layout = self.dut.batch_write
        address_bits = (CONFIG.batch_depth - 1).bit_length()
        lane_bits = (CONFIG.lanes - 1).bit_length()
        mask = (1 << CONFIG.input_word) - 1
        for half in range(2):
            for lane in range(CONFIG.lanes):
                for address in range(CONFIG.batch_depth):
                    word = int(self.batches[half, lane, address]) & mask
                    layout.value = (((word << address_bits | address) << lane_bits | lane) << 1 | half) << 1 | 1
                    await self.tick()
        layout.value = 0
        index_bits = (max(CONFIG.tables, 1) << CONFIG.table_bits).bit_length() - 1
        index_bits += (max(CONFIG.tables, 1) << CONFIG.table_bits) != 1 << index_bits
        for index, entry in enumerate(self.tables.reshape(-1, 2)):
            for slope, value in enumerate(entry):
                word = int(value) & ((1 << (CONFIG.word + 1)) - 1)
                self.dut.table_write.value = ((word << index_bits | index) << 1 | slope) << 1 | 1
                await self.tick()
        self.dut.table_write.value = 0
        for _ in range(CONFIG.lanes + 2):
            await self.tick()

    async def contract(self, contract, reads, writes):
        """Starts a contraction as soon as it may, and notes what it must give and when."""
        while not self.ready or (reads in self.parts_in_flight and not self.drained):
            await self.tick()
        if self.drained:
            self.parts_in_flight = []
        values = contract._values() | {f"{stream}_register": random.randrange(8) for stream in "awob"}
        values.pop("wait")
        self.dut.contract.value = LAYOUT.const(values).as_bits()
        self.dut.start.value = 1
        started = self.cycle
        cols = tile_cols(contract)
        ends = [max(started + contract.rows, self.end + self.end_cols)]
        for before in cols[:-1]:
            ends.append(ends[-1] + max(contract.rows, int(before)))
        batch = self.batches[self.half]
        results = model(CONFIG, contract, self.lanes, batch, self.effective, self.tables)
        assert results is not None
        if contract.to_loss:
            number = 0
            for end, count in zip(ends, cols, strict=True):
                for column in range(count):
                    for lane in range(CONFIG.lanes):
                        cycle = end + capture_latency(CONFIG) + column + lane
                        self.expected[lane][cycle] = int(results[lane, number])
                    number += 1
        if contract.store:
            self.parts_in_flight.append(writes)
        await self.tick()
        self.last_row, self.end, self.end_cols = ends[-1], ends[-1], int(cols[-1])
        # Only the start cycle counts: what the sequencer shows afterwards is another instruction.
        self.dut.start.value = 0
        self.dut.contract.value = random.getrandbits(LAYOUT.size)

    async def settle(self):
        """Waits until every lane has written its last result."""
        while not self.drained:
            await self.tick()
        for _ in range(CONFIG.lanes + 1):
            await self.tick()

    async def check_lanes(self):
        """Reads all activations back as the host does."""
        for lane in range(CONFIG.lanes):
            for address in range(CONFIG.lane_depth):
                self.dut.lane_read__address.value = lane * CONFIG.lane_depth + address
                for _ in range(host_read_latency(CONFIG) - 4):
                    await self.tick()
                word = self.dut.lane_read__data.value.to_signed()
                assert word == self.lanes[lane, address], f"lane {lane} address {address}"


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def contractions(dut):
    """Random contractions, back to back, with pauses, and waiting for what they read."""
    engine = Engine(dut)
    await engine.start_clock()
    await engine.load()
    last = 0
    for _ in range(CONTRACTIONS):
        reads = random.choice([None, last, random.randrange(PARTS)])
        writes = random.choice([part for part in range(PARTS) if part != reads])
        await engine.contract(random_contract(reads, writes), reads, writes)
        last = writes
        if random.random() < 0.2:
            for _ in range(random.randrange(30)):
                await engine.tick()
    await engine.settle()
    assert not any(engine.expected)
    await engine.check_lanes()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def addresses_outside(dut):
    """An address outside of its memory is a fault, once; nothing is written there, and the engine goes on."""
    one = Level()
    base = {"a_base": 0, "w_base": 0, "o_base": 0, "cols": 1, "last_cols": 1, "col_stride": 1, "shift": 0}
    cases = [
        {"a_base": CONFIG.lane_depth},
        {"a_base": CONFIG.batch_depth, "from_batch": True},
        {"w_base": CONFIG.effective_rows},
        {"b_base": CONFIG.effective_rows, "bias": True},
        {"o_base": CONFIG.lane_depth},
        {"o_base": 0xFFFF},
        {"levels": (one, one, Level(3, CONFIG.lane_depth // 2), one, one, one)},
    ]
    engine = Engine(dut)
    await engine.start_clock()
    for case in cases:
        contract = Contract(**({"levels": (one,) * 6} | base | case))
        values = contract._values()
        values.pop("wait")
        dut.contract.value = LAYOUT.const(values).as_bits()
        dut.start.value = 1
        await FallingEdge(dut.clk)
        dut.start.value = 0
        faults = 0
        for _ in range(LONGEST):
            faults += int(dut.fault.value)
            await FallingEdge(dut.clk)
        assert faults == 1, case
        assert dut.ready.value == 1
        assert dut.drained.value == 1
