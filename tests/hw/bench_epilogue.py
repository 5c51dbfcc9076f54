"""The epilogue against its model: every shift and activation, an accumulator a cycle."""

import json
import os
import random
from collections import deque
from dataclasses import replace

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from contractions import random_contract, random_words
from tenzo_hw.config import Config
from tenzo_hw.epilogue import model, outcomes
from tenzo_hw.isa import Activation
from tenzo_hw.timing import epilogue_latency

CONFIG = Config.from_words(json.loads(os.environ["TENZO_BENCH"])["config"])


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def results(dut):
    rng = np.random.default_rng(random.getrandbits(32))
    dut.rst.value = 0
    dut.table_write__value.value = dut.table_write__slope.value = 0
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    await FallingEdge(dut.clk)

    tables = np.zeros((CONFIG.tables, 1 << CONFIG.table_bits, 2), np.int64)
    for part, (strobe, bits) in enumerate(
        ((dut.table_write__value, CONFIG.word), (dut.table_write__slope, CONFIG.word))
    ):
        words = random_words(rng, bits, tables.shape[:2])
        tables[..., part] = words
        strobe.value = 1
        for address, word in enumerate(words.reshape(-1).tolist()):
            dut.table_write__address.value = address
            dut.table_write__data.value = word & (1 << CONFIG.word) - 1
            await FallingEdge(dut.clk)
        strobe.value = 0

    contract = random_contract(rng, CONFIG)
    expected = deque()
    for _ in range(6000):
        activation = Activation(int(rng.integers(2 + CONFIG.tables)))
        shift = int(rng.integers(64))
        # Magnitudes around the words' ranges after the shift, where rounding and saturation meet.
        word = int(rng.choice([CONFIG.word, CONFIG.output_word]))
        bits = int(np.clip(shift + word + rng.integers(-4, 4), 1, CONFIG.accumulator))
        accumulator = int(random_words(rng, bits, 1)[0]) + int(rng.integers(-1, 2))
        half = 1 << CONFIG.accumulator - 1
        accumulator = min(max(accumulator, -half), half - 1)
        dut.accumulator.value = accumulator & 2 * half - 1
        dut.shift.value = shift
        dut.activation.value = activation
        given = replace(contract, shift=shift, activation=activation)
        wanted = [int(function(CONFIG, given, np.array([accumulator]), tables)[0]) for function in (model, outcomes)]
        expected.append((wanted, accumulator, shift, activation))
        await FallingEdge(dut.clk)
        if len(expected) == epilogue_latency(CONFIG):
            wanted, *given = expected.popleft()
            assert [dut.result.value.to_signed(), dut.outcome.value.to_signed()] == wanted, given
