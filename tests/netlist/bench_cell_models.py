"""Random inputs in every cycle, and nothing differs from power-on."""

import json
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

#: Inputs and their bits.
INPUTS = json.loads(os.environ["TENZO_BENCH"])
CYCLES = 2000
#: Addresses are of few words, so that most reads find what was written; the highest ones are among them.
WORDS = 40


def value(name, bits):
    """Any value, or one of ``WORDS`` addresses from both ends."""
    if "address" in name:
        return random.randrange(-WORDS // 2, WORDS // 2) % (1 << bits)
    return random.getrandbits(bits)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def pairs_agree(dut):
    """In every cycle."""
    dut.rst.value = 0
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    for cycle in range(CYCLES):
        given = {name: value(name, bits) for name, bits in INPUTS.items()}
        for name in given:
            # A word must not be read in the cycle in which it is written.
            if "read_address" in name and given[name] == given.get(name.replace("read", "write")):
                given[name.replace("read_address", "write")] = 0
        for name, one in given.items():
            getattr(dut, name).value = one
        await FallingEdge(dut.clk)
        assert dut.differ.value == 0, f"cycle {cycle}: {given}"
