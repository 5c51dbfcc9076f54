"""The contraction engine against its model, and every port in every cycle against the rule of time."""

import json
import os
import random
from dataclasses import replace

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from contractions import packed, packed_deltas, random_contract, random_words
from tenzo_hw.config import Config
from tenzo_hw.drain import outcome_layout
from tenzo_hw.engine import batch_write_layout, model, table_write_layout
from tenzo_hw.isa import Base, Contract, Level, Operand
from tenzo_hw.layouts import CONTRACTIONS, LEVELS
from tenzo_hw.nest import outputs, tile_cols, tile_ends
from tenzo_hw.timing import capture_latency, lane_read_latency, result_latency

CONFIG = Config.from_words(json.loads(os.environ["TENZO_BENCH"])["config"])
BATCH_WRITE, TABLE_WRITE = batch_write_layout(CONFIG), table_write_layout(CONFIG)
OUTCOME = outcome_layout(CONFIG)
MASK, OUTPUT_MASK = (1 << CONFIG.word) - 1, (1 << CONFIG.output_word) - 1
LEVEL = Level()
#: Cycles in which a contraction's deltas are given before it starts.
LOADING = len(LEVELS)
#: Lane words of which one part is read while the other is written. Both have words of both banks.
QUARTER, DEPTH = CONFIG.lane_depth // 4, CONFIG.lane_depth
REGIONS = [[(QUARTER, DEPTH - QUARTER)], [(0, QUARTER), (DEPTH - QUARTER, DEPTH)]]


class Engine:
    """Drives the engine's ports a cycle at a time, those of the weight store too; its memories are the model's."""

    def __init__(self, dut, rng):
        self.dut = dut
        self.rng = rng
        self.cycle = 0
        self.ready_at = 0
        self.drained_at = 0
        self.captured_at = self.captured_before = 0
        self.tile_free = 0
        self.results = {}
        self.outcomes = {}
        self.check_results = True
        self.faults = 0
        self.fault_number = None
        self.number = 0
        self.taken_at = None
        self.rows = [0, 0, 0]
        self.half = 0
        self.lanes = np.zeros((CONFIG.lanes, CONFIG.lane_depth), np.int64)
        self.batch = random_words(rng, CONFIG.input_word, (2, CONFIG.lanes, CONFIG.batch_depth))
        self.weights = random_words(rng, CONFIG.word, (CONFIG.effective_rows, CONFIG.columns))
        self.tables = random_words(rng, CONFIG.word, (CONFIG.tables, 1 << CONFIG.table_bits, 2))
        shifts = CONFIG.word * np.arange(CONFIG.columns)
        self.packed_weights = [
            sum((word & MASK) << int(shift) for word, shift in zip(row, shifts, strict=True))
            for row in self.weights.tolist()
        ]

    async def start(self):
        """Starts the clock and fills tables and batch memories as the host does."""
        dut = self.dut
        strobes = ("start", "run_start", "batch_write", "table_write")
        for name in (*strobes, "half", "contract", "number", "deltas", "weights"):
            getattr(dut, name).value = 0
        dut.lane_read__address.value = 0
        dut.rst.value = 1
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
        dut.rst.value = 0
        await FallingEdge(dut.clk)
        for address, words in enumerate(self.tables.reshape(-1, 2).tolist()):
            for slope, word in enumerate(words):
                write = {"strobe": 1, "slope": slope, "address": address, "data": word}
                dut.table_write.value = TABLE_WRITE.const(write).as_bits()
                await self.step()
        dut.table_write.value = 0
        for half in range(2):
            for write in self.batch_writes(half):
                dut.batch_write.value = write
                await self.step()
        dut.batch_write.value = 0

    def batch_writes(self, half):
        """The host's writes of all words of a batch half."""
        for (lane, address), word in np.ndenumerate(self.batch[half]):
            write = {"strobe": 1, "half": half, "lane": lane, "address": address, "data": int(word)}
            yield BATCH_WRITE.const(write).as_bits()

    def check(self):
        """All outputs in this cycle."""
        dut, cycle = self.dut, self.cycle
        if self.check_results:
            assert dut.taken.value == (cycle == self.taken_at), f"taken in cycle {cycle}"
            assert dut.drained.value == (cycle >= self.drained_at), f"drained in cycle {cycle}"
            captured_at = self.captured_before if cycle == self.taken_at else self.captured_at
            assert dut.captured.value == (cycle >= captured_at), f"captured in cycle {cycle}"
            outcome = self.outcomes.pop(cycle, None)
            assert outcome is None or int(dut.outcome.value) == outcome, f"outcome in cycle {cycle}"
            word = int(dut.results.value)
            for lane in range(CONFIG.lanes):
                valid, value = word & 1, word >> 1 & OUTPUT_MASK
                expected = self.results.pop((cycle, lane), None)
                assert valid == (expected is not None), f"result of lane {lane} in cycle {cycle}"
                assert expected is None or value == expected, f"result of lane {lane} in cycle {cycle}"
                word >>= CONFIG.output_word + 1
        if dut.fault.value:
            self.faults += 1
            self.fault_number = int(dut.fault_number.value)
        self.rows.append(int(dut.weights_row.value))

    async def step(self):
        """Checks this cycle and goes on to the next."""
        self.check()
        await self.advance()

    async def advance(self):
        """To the next cycle, with the weights of the row asked for four cycles before it."""
        await FallingEdge(self.dut.clk)
        self.dut.weights.value = self.packed_weights[self.rows.pop(0)]
        self.dut.start.value = self.dut.run_start.value = 0
        self.cycle += 1

    async def until(self, cycle):
        """Steps to a cycle."""
        while self.cycle < cycle:
            await self.step()

    async def contract(self, contract):
        """Starts a contraction ``LOADING`` cycles later or when the engine is ready; its results, None if it must fail.

        The results are in the order of draining.
        """
        for deltas in packed_deltas(contract):
            self.dut.deltas.value = deltas
            await self.step()
        self.dut.deltas.value = 0
        self.number = (self.number + 1) % CONTRACTIONS
        self.check()
        self.dut.contract.value = packed(contract)
        self.dut.number.value = self.number
        self.dut.start.value = 1
        await self.advance()
        # The engine takes it a cycle later, or when it is through with the one before.
        while self.cycle < self.ready_at:
            await self.step()
        self.check()
        self.taken_at, self.captured_before = self.cycle + 1, self.captured_at
        drained = model(CONFIG, contract, self.lanes, self.batch[self.half], self.weights, self.tables)
        if drained is not None:
            cols = tile_cols(contract)
            ends = max(self.cycle + contract.rows, self.tile_free) + tile_ends(contract)
            self.ready_at = int(ends[-1])
            self.tile_free = int(ends[-1]) + max(int(cols[-1]), contract.pace)
            self.drained_at = int(ends[-1] + cols[-1]) + result_latency(CONFIG) - 2
            if contract.to_loss:
                begins = np.repeat(ends, cols) + np.arange(cols.sum()) - np.repeat(np.cumsum(cols) - cols, cols)
                for (lane, result), value in np.ndenumerate(drained):
                    at = int(begins[result]) + capture_latency(CONFIG) + lane
                    self.results[at, lane] = int(value) & OUTPUT_MASK
                addresses, are_results = outputs(contract, contract.o_base)
                for begin, address in zip(begins.tolist(), addresses[are_results].tolist(), strict=True):
                    outcome = {"slot": address % CONFIG.losses, "base": contract.base}
                    self.outcomes[begin + capture_latency(CONFIG)] = OUTCOME.const(outcome).as_bits()
                if contract.base == Base.ADD:
                    self.captured_at = int(ends[-1] + cols[-1]) + capture_latency(CONFIG)
        await self.advance()
        return drained

    async def fail(self, contract, follower=None):
        """A contraction that must fail: nothing but its complete part is done, and the engine is ready again.

        With ``follower``, another one is started before that is seen, of which nothing is done.
        """
        await self.until(self.drained_at + CONFIG.lanes + capture_latency(CONFIG))
        before, latest = self.faults, self.cycle + 2000
        self.check_results = False
        assert await self.contract(contract) is None
        failing = self.number
        if follower:
            lanes = self.lanes.copy()
            await self.contract(follower)
            self.lanes = lanes
        while self.faults == before or not self.dut.drained.value:
            assert self.cycle < latest, "no fault"
            await self.step()
        for _ in range(60):
            await self.step()
        assert self.faults == before + 1
        assert self.fault_number == failing
        assert self.dut.captured.value == 1
        self.check_results = True
        self.ready_at = self.drained_at = self.captured_at = self.cycle
        await self.forget_pace()

    async def forget_pace(self):
        """As a new run does, with nothing to issue any more."""
        self.dut.run_start.value = 1
        await self.step()
        self.tile_free = self.cycle

    async def next_start(self, pause=0):
        """The first cycle in which the sequencer could start the next contraction, and some more."""
        await self.until(self.ready_at + pause - LOADING - 1)

    async def finish(self):
        """Everything has come out and the lane memories are the model's."""
        await self.until(self.drained_at + CONFIG.lanes + capture_latency(CONFIG))
        assert not self.results
        assert not self.outcomes
        assert (await self.read_lanes() == self.lanes).all()

    async def read_lanes(self):
        """The lane memories, a word a cycle."""
        words = []
        count, latency = self.lanes.size, lane_read_latency(CONFIG)
        for cycle in range(count + latency):
            if cycle >= latency:
                words.append(self.dut.lane_read__data.value.to_signed())
            self.dut.lane_read__address.value = min(cycle, count - 1)
            await self.step()
        return np.array(words).reshape(self.lanes.shape)


async def made(dut):
    """An engine with memories full of random words."""
    engine = Engine(dut, np.random.default_rng(random.getrandbits(32)))
    await engine.start()
    # A contraction that copies inputs fills the lane memories.
    for base in range(0, CONFIG.lane_depth, CONFIG.batch_depth):
        copy = Contract(
            a_base=0,
            w_base=0,
            o_base=base,
            levels=(LEVEL, LEVEL, Level(CONFIG.batch_depth, 1, 0, 1), LEVEL, LEVEL, LEVEL),
            cols=1,
            last_cols=1,
            col_stride=0,
            shift=3,
            from_batch=True,
        )
        await engine.contract(copy)
        await engine.next_start()
    await engine.finish()
    return engine


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def random_contractions(dut):
    """One after the other without a gap, or with one; each reads what the ones before wrote."""
    engine = await made(dut)
    rng = engine.rng
    pending = [False, False]
    for number in range(200):
        if number == 100:
            # The host fills the half that is not read while the engine works.
            await engine.until(engine.drained_at)
            engine.half = dut.half.value = 1
            engine.batch[0] = random_words(rng, CONFIG.input_word, engine.batch[0].shape)
            filling = cocotb.start_soon(background(engine, 0))
        read = int(rng.integers(2))
        contract = random_contract(rng, CONFIG, read=REGIONS[read], written=REGIONS[1 - read])
        if pending[read] and not contract.from_batch and contract.operand != Operand.IDENTITY:
            await engine.until(engine.drained_at)
            pending = [False, False]
        await engine.contract(contract)
        pending[1 - read] |= contract.store
        await engine.next_start(int(rng.choice([0, 0, rng.integers(30)])))
        if rng.random() < 0.05:
            await engine.until(engine.drained_at)
            await engine.forget_pace()
    await filling
    await engine.finish()
    engine.half = dut.half.value = 0
    await engine.contract(random_contract(rng, CONFIG, from_batch=True))
    await engine.finish()
    assert engine.faults == 0


async def background(engine, half):
    """Writes a batch half without stepping the engine."""
    dut = engine.dut
    for write in engine.batch_writes(half):
        dut.batch_write.value = write
        await FallingEdge(dut.clk)
    dut.batch_write.value = 0


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def result_latency_is_exact(dut):
    """A row reads column j ``result_latency`` + j cycles after the tile's last row, and not a cycle earlier."""
    engine = await made(dut)
    columns = CONFIG.columns
    write = Contract(
        a_base=0,
        w_base=3,
        o_base=8,
        levels=(Level(4, 1, 1), LEVEL, LEVEL, LEVEL, LEVEL, LEVEL),
        cols=columns,
        last_cols=columns,
        col_stride=1,
        shift=2,
        from_batch=True,
    )
    read = Contract(
        a_base=8,
        w_base=9,
        o_base=0,
        levels=(Level(columns, 1, 1), LEVEL, LEVEL, LEVEL, LEVEL, LEVEL),
        cols=columns,
        last_cols=columns,
        col_stride=1,
        shift=4,
        store=False,
        to_loss=True,
    )
    for early in (0, 1):
        await engine.until(engine.drained_at)
        before = engine.lanes.copy()
        await engine.contract(replace(write, a_base=20 + early))
        after, last_row = engine.lanes, engine.ready_at
        assert (before != after).any()
        await engine.until(last_row + result_latency(CONFIG) - 2 - early - LOADING)
        # Rows follow one a cycle as columns do: all of them read the new words, or all of them the old ones.
        engine.lanes = before if early else after
        await engine.contract(read)
        engine.lanes = after
    await engine.finish()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def faults(dut):
    """Addresses outside of each memory: what came before is written, nothing else, and the engine goes on."""
    engine = await made(dut)
    rng = engine.rng
    levels = (Level(3, 1, 1), LEVEL, Level(6, 1, 1, CONFIG.columns, 1), LEVEL, LEVEL, LEVEL)
    fields = {"cols": CONFIG.columns, "last_cols": 1, "col_stride": 1, "shift": 2, "levels": levels}
    good = Contract(a_base=0, w_base=0, o_base=100, b_base=0, bias=True, **fields)
    bank = CONFIG.lane_bank
    difference = {"operand": Operand.DIFFERENCE, "bias": False}
    step = difference | {"operand": Operand.STEP}
    identity = difference | {"operand": Operand.IDENTITY}
    slots = {"store": False, "to_loss": True, "base": Base.ADD}
    wrongs = (
        {"a_base": CONFIG.lane_depth - 5},
        {"a_base": CONFIG.batch_depth - 5, "from_batch": True},
        {"a_base": 0xFFFF},
        {"w_base": CONFIG.effective_rows - 5},
        {"b_base": CONFIG.effective_rows - 4},
        {"o_base": CONFIG.lane_depth - 3 * CONFIG.columns - 1},
        {"o_base": 0xFFFF},
        {"o_base": CONFIG.lane_depth - 1, "levels": (LEVEL, LEVEL, *levels[2:]), "bias": False},
        difference | {"a_base": bank - 5},
        difference | {"b_base": bank - 3},
        difference | {"b_base": 0xFFFF},
        step | {"a_base": bank - 5},
        identity | {"a_base": CONFIG.lane_depth - 5},
        slots | {"o_base": CONFIG.losses - 3 * CONFIG.columns - 1},
        slots | {"o_base": 0xFFFF, "pace": 1000},
    )
    for wrong in wrongs:
        await engine.fail(replace(good, **wrong))
        await engine.next_start()
        await engine.contract(random_contract(rng, CONFIG, read=REGIONS[0], written=REGIONS[1]))
    # The last result of a contraction fails when the next one is already under way.
    short = {"levels": (LEVEL,) * 6, "bias": False, "last_cols": CONFIG.columns}
    await engine.fail(replace(good, o_base=CONFIG.lane_depth - 1, **short), replace(good, from_batch=True))
    assert engine.faults == len(wrongs) + 1
    await engine.finish()
    # What is not stored has no address.
    await engine.contract(replace(good, o_base=0xFFFF, store=False, to_loss=True))
    await engine.finish()
