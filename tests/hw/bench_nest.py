"""The loop nest against the addresses of ``nest`` and the rule of time, row by row."""

import json
import os
import random
from dataclasses import replace

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from contractions import packed, packed_deltas, random_contract
from tenzo_hw.config import REDUCTION_LEVELS, Config
from tenzo_hw.isa import Base, Operand
from tenzo_hw.layouts import CONTRACTIONS
from tenzo_hw.loop_nest import NEST_LATENCY, row_layout, tile_layout
from tenzo_hw.nest import activations, environments, offsets, tile_cols, tile_ends
from tenzo_hw.timing import capture_latency, result_latency

CONFIG = Config.from_words(json.loads(os.environ["TENZO_BENCH"])["config"])
ROW, TILE = row_layout(CONFIG), tile_layout(CONFIG)


def fields(layout, word):
    """A port's fields as ints."""
    values = {}
    for name, field in layout:
        values[name] = word >> field.offset & (1 << field.width) - 1
    return values


def issues(contract, start, before):
    """Cycle of each row's issue; ``before`` is when the drain and the pace let the first tile's last one be issued."""
    first_end = max(start + contract.rows, before)
    ends = first_end + tile_ends(contract)
    begins = np.concatenate([[start], ends[:-1]])
    cycles = begins[:, None] + 1 + np.arange(contract.rows)
    cycles[:, -1] = ends
    return cycles.reshape(-1).tolist()


def rows(contract, contraction):
    """What the nest says of every row, and of its tile with a last one, in a contraction of this number."""
    reduction, outer = contract.levels[:REDUCTION_LEVELS], contract.levels[REDUCTION_LEVELS:]
    read = activations(contract, contract.a_base)
    added = environments(contract, contract.b_base) if contract.operand == Operand.DIFFERENCE else read
    cols = tile_cols(contract)
    inner = offsets(reduction, "w")
    base = contract.base if contract.to_loss else Base.NONE
    for number, (address, upper) in enumerate(zip(read.tolist(), added.tolist(), strict=True)):
        tile, turn = divmod(number, contract.rows)
        at = {stream: int(offsets(outer, stream, np.array([tile]))[0]) for stream in "wob"}
        bias = address < 0
        weights = contract.b_base + at["b"] if bias else contract.w_base + at["w"] + inner[turn - contract.bias]
        row = {"valid": 1, "first": turn == 0, "last": turn == contract.rows - 1, "bias": bias}
        row |= {"from_batch": contract.from_batch, "operand": contract.operand, "one": contract.one}
        row |= {"weights": weights % (1 << 16)} | ({} if bias else {"address": address})
        if contract.operand == Operand.DIFFERENCE:
            row |= {"upper": upper}
        elif not (bias or contract.from_batch):
            row |= {"upper": address % CONFIG.lane_bank}
        result = {"output": (contract.o_base + at["o"]) % (1 << 16), "stride": contract.col_stride}
        result |= {"last_column": cols[tile] - 1, "shift": contract.shift, "activation": contract.activation}
        result |= {"store": contract.store, "to_loss": contract.to_loss, "base": base, "number": contraction}
        yield row, result


def outside(row):
    """The row reads outside of a memory."""
    if row["operand"] in (Operand.DIFFERENCE, Operand.STEP):
        depth = CONFIG.lane_bank
    else:
        depth = CONFIG.batch_depth if row["from_batch"] else CONFIG.lane_depth
    beyond = row["operand"] == Operand.DIFFERENCE and row["upper"] >= CONFIG.lane_bank
    return row["weights"] >= CONFIG.effective_rows or row.get("address", 0) >= depth or beyond


class Nest:
    """Steps the nest and checks its ports in every cycle."""

    def __init__(self, dut):
        self.dut = dut
        self.cycle = 0
        self.count = 0
        self.expected = {}
        self.faults = set()
        self.ready_at = self.idle_at = self.given_at = self.given_before = self.taken_at = 0
        self.last_tile = self.last_cols = self.pace = 0
        self.makes_differences = False

    async def start(self):
        for name in ("start", "number", "drop", "contract", "deltas", "run_start"):
            getattr(self.dut, name).value = 0
        self.dut.rst.value = 0
        cocotb.start_soon(Clock(self.dut.clk, 10, unit="ns").start())
        await FallingEdge(self.dut.clk)

    def check(self):
        """All ports in this cycle; a fault is answered by a drop."""
        dut, cycle = self.dut, self.cycle
        assert dut.taken.value == (cycle > 0 and cycle == self.taken_at), f"taken in cycle {cycle}"
        settled = not self.last_cols or cycle >= self.last_tile + result_latency(CONFIG) + self.last_cols - 2
        assert dut.drained.value == (settled and cycle >= self.idle_at), f"drained in cycle {cycle}"
        if cycle <= self.taken_at:  # the contraction just taken does not count yet
            captured = cycle >= self.given_before
        else:
            captured = cycle >= self.given_at and not (self.makes_differences and cycle <= self.idle_at)
        assert dut.captured.value == captured, f"captured in cycle {cycle}"
        row, expected = fields(ROW, int(dut.row.value)), self.expected.pop(cycle, None)
        if expected:
            wanted, tile = expected
            assert {name: row[name] for name in wanted} == wanted, f"row in cycle {cycle}"
            if wanted["last"]:
                assert fields(TILE, int(dut.tile.value)) == tile, f"tile in cycle {cycle}"
        else:
            assert not any(row[name] for name in ("valid", "first", "last")), f"no row in cycle {cycle}"
        fault = cycle in self.faults
        assert dut.fault.value == fault, f"fault in cycle {cycle}"
        self.faults.discard(cycle)
        dut.drop.value = fault

    async def step(self):
        """Checks this cycle and goes on to the next."""
        self.check()
        await self.advance()

    async def advance(self):
        """To the next cycle."""
        await FallingEdge(self.dut.clk)
        self.dut.start.value = self.dut.run_start.value = 0
        self.cycle += 1

    async def forget_pace(self):
        """As a new run does, with nothing to issue any more."""
        self.dut.run_start.value = 1
        await self.step()
        self.pace = 0

    async def load(self, contract):
        """Gives the deltas of the next contraction, then its fields, while the one before goes on."""
        for deltas in packed_deltas(contract):
            self.dut.deltas.value = deltas
            await self.step()
        self.dut.contract.value = packed(contract)
        await self.step()
        self.dut.deltas.value = 0

    async def contract(self, contract):
        """Gives a contraction in this cycle and goes on until it is taken. Gives whether it will fail."""
        self.count += 1
        self.check()
        self.dut.number.value = self.count % CONTRACTIONS
        self.dut.start.value = 1
        while self.cycle < self.ready_at:
            await self.advance()
            self.check()
        self.taken_at, self.given_before = self.cycle + 1, self.given_at
        cycles = issues(contract, self.cycle, self.last_tile + max(self.last_cols, self.pace))
        self.ready_at, self.idle_at = cycles[-1], cycles[-1] + 1
        failed = False
        for at, (row, tile) in zip(cycles, rows(contract, self.count % CONTRACTIONS), strict=True):
            if outside(row):
                # Rows are issued until the fault is seen; tiles that end meanwhile still count as draining.
                failed = True
                self.faults.add(at + NEST_LATENCY)
                self.idle_at = min(self.idle_at, at + NEST_LATENCY + 1)
                self.ready_at = min(self.ready_at, self.idle_at)
                break
            self.expected[at + NEST_LATENCY] = row, tile
        cols = tile_cols(contract)
        ends = [
            (end, int(cols[number]))
            for number, end in enumerate(cycles[contract.rows - 1 :: contract.rows])
            if end < self.idle_at
        ]
        self.makes_differences = contract.to_loss and contract.base == Base.ADD
        if ends:
            (self.last_tile, self.last_cols), self.pace = ends[-1], contract.pace
            if self.makes_differences:
                self.given_at = self.last_tile + capture_latency(CONFIG) + self.last_cols
        await self.advance()
        return failed


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def rows_and_tiles(dut):
    rng = np.random.default_rng(random.getrandbits(32))
    nest = Nest(dut)
    await nest.start()
    refused = 0
    for _ in range(300):
        fixed = {}
        if rng.random() < 0.15:
            base = str(rng.choice(["a_base", "w_base", "b_base"]))
            ends = [CONFIG.effective_rows, CONFIG.lane_depth, CONFIG.lane_bank]
            fixed = {base: int(rng.choice([0, 0x10000 - 3, *(end - 3 for end in ends)]))}
        contract = replace(random_contract(rng, CONFIG), **fixed)
        await nest.load(contract)
        # Given before the nest can take it, when it can, or later.
        early = int(rng.choice([0, rng.integers(1, 20)]))
        pause = int(rng.choice([-early, 0, 0, rng.integers(1, 60)]))
        while nest.cycle < nest.ready_at + pause:
            await nest.step()
        failed = await nest.contract(contract)
        refused += failed
        # After a fault the next contraction starts only when all is drained.
        while failed and (nest.faults or not dut.drained.value):
            await nest.step()
        if rng.random() < 0.1 and nest.cycle >= nest.idle_at:
            await nest.forget_pace()
    while nest.expected or not dut.drained.value:
        await nest.step()
    assert not nest.faults
    assert refused > 10
