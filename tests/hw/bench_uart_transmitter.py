"""The transmitter's levels against the moments at which the bits of its bytes begin."""

import json
import os
import random
from fractions import Fraction
from itertools import pairwise

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly

LINE = json.loads(os.environ["TENZO_BENCH"])
#: Cycles of a bit.
BIT = Fraction(LINE["clock_hz"], LINE["baud"])
#: Bytes of a test: every value where bits are short, and some where they take long to simulate.
COUNT = 256 if BIT < 9 else 64


@cocotb.test(timeout_time=200, timeout_unit="ms")
@cocotb.parametrize(idle=[0, 0.5, 0.999])
async def every_byte_goes_out(dut, idle):
    dut.rst.value = 0
    dut.i__valid.value = 0
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    await FallingEdge(dut.clk)
    data = random.sample(range(256), COUNT)
    left = list(data)
    levels = []
    begun = []
    offered = False
    # Half a byte more than all of them takes: nothing may follow.
    quiet = 0
    while left or quiet < 15 * BIT:
        # An offered byte stays until it is taken.
        offered = bool(left) and (offered or random.random() >= idle)
        dut.i__valid.value = offered
        dut.i__payload.value = left[0] if offered else random.getrandbits(8)
        await ReadOnly()
        levels.append(int(dut.tx.value))
        quiet += 1
        if offered and dut.i__ready.value:
            begun.append(len(levels))
            left.pop(0)
            offered = False
            quiet = 0
        await FallingEdge(dut.clk)
    assert all(levels[: begun[0]])
    for place, byte in zip(begun, data, strict=True):
        bits = [0, *(byte >> index & 1 for index in range(8)), 1]
        for index, bit in enumerate(bits):
            # A bit's edges are within a cycle of where they belong.
            start, end = place + index * BIT, place + (index + 1) * BIT
            inside = levels[int(start) + 2 : int(end) - 1]
            assert inside
            assert set(inside) == {bit}, f"byte {byte:#04x}, bit {index}"
    assert all(levels[begun[-1] + int(10 * BIT) :])
    shortest = min(later - earlier for earlier, later in pairwise(begun))
    assert shortest >= int(10 * BIT)
    if idle == 0:
        longest = max(later - earlier for earlier, later in pairwise(begun))
        assert longest <= int(10 * BIT) + 2
