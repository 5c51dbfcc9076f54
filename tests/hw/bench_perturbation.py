"""The perturbation generator against its model, under any order of loads, steps and rests."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from tenzo_hw.config import GENERATOR_BITS
from tenzo_hw.perturbation import advance

CYCLES = 2000


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def states(dut):
    """The state after every cycle."""
    dut.rst.value = 0
    dut.load.value = 0
    dut.step.value = 0
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    await FallingEdge(dut.clk)
    state = 1
    for cycle in range(CYCLES):
        load, step, value = random.random() < 0.1, random.random() < 0.7, random.getrandbits(GENERATOR_BITS)
        dut.load.value, dut.step.value, dut.value.value = int(load), int(step), value
        await FallingEdge(dut.clk)
        state = value if load else advance(state, int(step))
        assert int(dut.state.value) == state, f"cycle {cycle}"
