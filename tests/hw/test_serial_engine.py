# amaranth: UnusedElaboratable=no
"""The serial machine's engine against the models: what it writes and captures, and how long it takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.sim import Simulator
from contractions import random_contract, random_words
from tenzo_hw.build.tools import run
from tenzo_hw.config import Config, preset
from tenzo_hw.engine import model
from tenzo_hw.isa import Activation, Base, Contract, Level, Operand
from tenzo_hw.nest import outputs
from tenzo_hw.numbers import saturate
from tenzo_hw.serial.engine import SerialEngine
from tenzo_hw.serial.fields import Field, engine_cycles, field_writes

LEVEL = Level()
PLAIN = {"base": Base.NONE, "activation": Activation.NONE, "store": True, "to_loss": True}
NO_TABLES = np.zeros((0, 2, 2), dtype=np.int64)


def config_of(columns: int) -> Config:
    # As many lane words as random strides need, but fewer than the batch has; few rows.
    return preset("icebreaker").replace(columns=columns, sweep_turns=columns)


class Bench:
    """A serial engine between memories full of random words."""

    def __init__(self, config: Config, seed: int) -> None:
        print(f"seed {seed}")
        self.config = config
        self.rng = np.random.default_rng(seed)
        self.engine = SerialEngine(config=config)
        self.lanes = random_words(self.rng, config.word, (1, config.lane_depth))
        self.batch = random_words(self.rng, config.input_word, (1, config.batch_depth))
        self.weights = random_words(self.rng, config.word, (config.effective_rows, config.columns))

    def run(self, bench: Callable) -> None:
        simulator = Simulator(self.engine)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()

    async def write(self, ctx, number: int, word: int) -> None:
        """One field, sometimes after a pause in which its ports say something else."""
        if self.rng.random() < 0.2:
            ctx.set(self.engine.field, int(self.rng.integers(64)))
            ctx.set(self.engine.field_data, int(self.rng.integers(1 << 32)))
            await ctx.tick()
        ctx.set(self.engine.field_write, 1)
        ctx.set(self.engine.field, number)
        ctx.set(self.engine.field_data, word)
        await ctx.tick()
        ctx.set(self.engine.field_write, 0)

    async def set_up(self, ctx, contract: Contract) -> None:
        """All fields, CONTROL first."""
        first, *others = field_writes(contract)
        await self.write(ctx, *first)
        for index in self.rng.permutation(len(others)):
            await self.write(ctx, *others[index])
        await ctx.tick()

    async def contract(self, ctx, contract: Contract, *, set_up: bool = True) -> None:
        """One contraction, checked in every cycle."""
        engine, config, rng = self.engine, self.config, self.rng
        if set_up:
            # What the engine ignores may be anything.
            ignored = {"base": Base(int(rng.integers(3))), "pace": int(rng.integers(1 << 11))}
            await self.set_up(ctx, replace(contract, **ignored))
        assert not ctx.get(engine.bad)
        lanes = self.lanes.copy()
        drained = model(config, contract, lanes, self.batch, self.weights, NO_TABLES)
        addresses, are_results = outputs(contract, contract.o_base)
        if drained is not None:
            words = saturate(drained[0], config.word)
            expected = list(zip(addresses[are_results].tolist(), words.tolist(), strict=True))
        written, captured = [], []
        cycles = engine_cycles(contract)
        ctx.set(engine.start, 1)
        faults = False
        for cycle in range(cycles):
            assert ctx.get(engine.done) == (cycle == 0), f"done in cycle {cycle} of {cycles}"
            address, row = ctx.get(engine.activation_address), ctx.get(engine.weight_row)
            store, capture = ctx.get(engine.store), ctx.get(engine.capture)
            assert not (faults and (store or capture))
            if capture:
                assert contract.to_loss
                assert ctx.get(engine.capture_index) == len(captured) % config.outputs
                captured.append(ctx.get(engine.outcome))
            if store:
                assert contract.store
                written.append((address, ctx.get(engine.result)))
                self.lanes[0, address] = ctx.get(engine.result)
            await ctx.tick()
            ctx.set(engine.start, 0)
            # A memory that is written or whose address is outside reads anything.
            for data, words in ((engine.lane_data, self.lanes[0]), (engine.batch_data, self.batch[0])):
                anything = store or address >= len(words)
                ctx.set(data, int(rng.integers(-512, 512) if anything else words[address]))
            for column in range(config.columns):
                ctx.set(engine.weights[column], int(self.weights[row, column]))
            faults = ctx.get(engine.fault) and cycle > 0
        assert ctx.get(engine.done)
        assert ctx.get(engine.fault) == (drained is None)
        assert (self.lanes == lanes).all()
        if drained is not None:
            assert written == (expected if contract.store else [])
            assert captured == (drained[0].tolist() if contract.to_loss else [])
        for _ in range(rng.integers(4)):
            assert not ctx.get(engine.store)
            assert not ctx.get(engine.capture)
            await ctx.tick()


@pytest.mark.parametrize(("columns", "seed"), [(2, 1), (4, 2), (4, 3)])
def test_random_contractions(columns: int, seed: int) -> None:
    config = config_of(columns)
    bench = Bench(config, seed)
    rng = bench.rng

    async def body(ctx) -> None:
        for number in range(60):
            operand = Operand(int(rng.choice([Operand.WORD, Operand.RELU])))
            # Reads and writes may overlap: a tile reads what the tiles before wrote.
            contract = random_contract(rng, config, operand=operand, base=Base.NONE)
            await bench.contract(ctx, contract)
            if number % 10 == 0:
                await bench.contract(ctx, contract, set_up=False)

    bench.run(body)


def dense(rows: int, **fields) -> Contract:
    """One tile of one result."""
    levels = (Level(rows, 0, 0), LEVEL, LEVEL, LEVEL, LEVEL, LEVEL)
    bases = {"a_base": 5, "w_base": 7, "o_base": 9, "b_base": 11}
    return Contract(levels=levels, cols=1, last_cols=1, col_stride=1, **(bases | PLAIN | {"shift": 0} | fields))


@pytest.mark.parametrize("activation", [Activation.NONE, Activation.RELU])
def test_every_shift_rounds_and_saturates(activation: Activation) -> None:
    config = config_of(2)
    bench = Bench(config, 4)

    async def body(ctx) -> None:
        edges = [-512 * 512, 512 * 512, -511 * 512, 511 * 512, 0, 1, -1]
        for shift in range(64):
            half, one = 1 << max(shift - 1, 0), 1 << shift
            for number in range(6):
                # Sums near what just rounds up, near the ends of both words, or anything.
                ends = [bound * one for bound in (512, -512, 2048, -2048, -1, 1)]
                near = int(bench.rng.choice(edges) if shift > 17 else ends[number]) - half
                near += int(bench.rng.integers(-1, 2))
                near = min(max(near, -(1 << 18)), 1 << 18)
                # near = 512 * first + rest, with the last two rows.
                first = min(max(near >> 9, -512), 511)
                rest = near - 512 * first
                second = min(rest >> 1, 511)
                third = min(rest - second, 511)
                bench.lanes[0, 5:8] = [-512, 1, 1]
                bench.weights[7:10, 0] = [-first if first > -512 else 511, second, third]
                levels = (Level(3, 1, 1), LEVEL, LEVEL, LEVEL, LEVEL, LEVEL)
                await bench.contract(ctx, replace(dense(3, shift=shift, activation=activation), levels=levels))

    bench.run(body)


def test_long_sums_wrap() -> None:
    config = config_of(2)
    bench = Bench(config, 5)

    async def body(ctx) -> None:
        bench.lanes[0, 5] = bench.weights[7, 0] = -512
        bench.weights[11, 0] = 511
        most = (1 << config.count_bits) - 1
        # 2^31 - 2^18; the bias row takes it beyond the greatest sum.
        await bench.contract(ctx, dense(most, shift=31))
        await bench.contract(ctx, dense(most, shift=21, bias=True, one=8))
        bench.weights[11, 0] = -512
        await bench.contract(ctx, dense(most, shift=20, bias=True, one=9))

    bench.run(body)


def test_bad_fields() -> None:
    config = config_of(4)
    bench = Bench(config, 6)
    engine = bench.engine

    async def body(ctx) -> None:
        good = random_contract(bench.rng, config, operand=Operand.WORD, base=Base.NONE)

        async def is_bad(number: int, word: int) -> bool:
            await bench.set_up(ctx, good)
            assert not ctx.get(engine.bad)
            await bench.write(ctx, number, word)
            await ctx.tick()
            return bool(ctx.get(engine.bad))

        most = (1 << config.count_bits) - 1
        for level in range(6):
            for count in (0, most + 1, 0x8000, 0xFFFF):
                assert await is_bad(Field.COUNT_A + level, count | 0x5555_0000), (level, count)
            for count in (1, 2, 4096, most):
                assert not await is_bad(Field.COUNT_A + level, count | 0x5555_0000), (level, count)
            for delta in (1, 0x8000, 0x0100):
                assert await is_bad(Field.W_O + level, delta << 16 | 3) == (level < 2), (level, delta)
        for number in (Field.WEIGHT, Field.OUTPUT, Field.ACTIVATION, Field.BIAS, Field.COLUMNS, Field.B + 3):
            for word in (0, 0xFFFF_FFFF, 0xFFFF, 0xFFFF_0000):
                assert not await is_bad(number, word), (number, word)
        # It stays until CONTROL is written.
        assert await is_bad(Field.COUNT_A, 0)
        await bench.write(ctx, Field.COUNT_A, 1)
        await bench.write(ctx, Field.OPERAND, 0)
        await ctx.tick()
        assert ctx.get(engine.bad)
        await bench.contract(ctx, good)

    bench.run(body)


def wrong_contracts(config: Config) -> Iterator[Contract]:
    """Each leaves one memory, some after results that are written."""
    levels = (Level(3, 1, 1), LEVEL, Level(6, 1, 1, config.columns, 1), LEVEL, LEVEL, LEVEL)
    fields = PLAIN | {"cols": config.columns, "last_cols": 1, "col_stride": 1, "shift": 2, "levels": levels}
    good = Contract(a_base=0, w_base=0, o_base=100, b_base=0, bias=True, **fields)
    short = {"levels": (LEVEL, LEVEL, *levels[2:]), "bias": False}
    for wrong in (
        {"a_base": config.lane_depth - 5},
        {"a_base": config.lane_depth},
        {"a_base": config.batch_depth - 5, "from_batch": True},
        {"a_base": 0xFFFF},
        {"a_base": 0x8000, "from_batch": True, "store": False},
        {"w_base": config.effective_rows - 5},
        {"w_base": 0xFFFF},
        {"b_base": config.effective_rows - 4},
        {"b_base": config.effective_rows},
        {"o_base": config.lane_depth - 3 * config.columns - 1},
        {"o_base": config.lane_depth - 5 * config.columns},
        {"o_base": 0xFFFF},
        {"o_base": 0xFFFF, "from_batch": True},
        {"o_base": config.lane_depth - 1} | short,
    ):
        yield replace(good, **wrong)


def test_faults() -> None:
    config = config_of(4)
    bench = Bench(config, 7)
    rng = bench.rng

    async def body(ctx) -> None:
        for wrong in wrong_contracts(config):
            lanes = bench.lanes.copy()
            assert model(config, wrong, lanes, bench.batch, bench.weights, NO_TABLES) is None
            await bench.contract(ctx, wrong)
            operand = Operand(int(rng.choice([Operand.WORD, Operand.RELU])))
            await bench.contract(ctx, random_contract(rng, config, operand=operand, base=Base.NONE))
        # What is not used has no address: results that are not stored, and the bias without its row.
        good = dense(2, o_base=0xFFFF, b_base=0xFFFF, store=False)
        await bench.contract(ctx, good)
        # The bias row reads no activation, and the last deltas lead nowhere.
        levels = (Level(2, 1, 1), LEVEL, Level(2, -1, -1, 1, 1), LEVEL, LEVEL, LEVEL)
        ends = {"a_base": config.lane_depth - 2, "w_base": config.effective_rows - 2, "o_base": config.lane_depth - 2}
        ends |= {"b_base": config.effective_rows - 2, "bias": True}
        await bench.contract(ctx, replace(good, store=True, levels=levels, **ends))

    bench.run(body)


class Ice40:
    """What the cells ask a platform for."""

    family = "iCE40"


def test_cells(tmp_path: Path) -> None:
    """The sums take no more than their DSP blocks, the memories no more than block RAMs."""
    config = config_of(4)
    text = rtlil.convert(SerialEngine(config=config), name="engine", platform=Ice40(), emit_src=False)
    (tmp_path / "engine.il").write_text(text)
    script = "read_rtlil engine.il; synth_ice40 -dsp -top engine; write_json engine.json"
    run(["yosys", "-q", "-p", script], tmp_path)
    cells = json.loads((tmp_path / "engine.json").read_text())["modules"]["engine"]["cells"].values()
    counts: dict[str, int] = {}
    for cell in cells:
        kind = re.sub("^SB_DFF.*", "SB_DFF", cell["type"])
        counts[kind] = counts.get(kind, 0) + 1
    print(counts)
    assert counts["SB_MAC16"] == config.columns
    assert counts["SB_RAM40_4K"] == 9
    assert counts["SB_LUT4"] <= 420
    assert counts["SB_DFF"] <= 185
    assert sum(cell["parameters"]["TOPOUTPUT_SELECT"] == "01" for cell in cells if cell["type"] == "SB_MAC16") == 4
