"""The batch halves against a queue: what the host fills, what the engine reads, how many are free."""

import random
from collections import deque

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from tenzo_hw.batch import HALVES

CYCLES = 2000


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def halves(dut):
    """Random commits, takes and clears, each only when it is allowed."""
    for name in ("rst", "commit", "take", "clear"):
        getattr(dut, name).value = 0
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    await FallingEdge(dut.clk)
    filled: deque[int] = deque()
    current, filling = None, 0
    for cycle in range(CYCLES):
        free = HALVES - len(filled) - (current is not None)
        assert int(dut.free.value) == free, f"cycle {cycle}"
        assert int(dut.filled.value) == bool(filled), f"cycle {cycle}"
        assert int(dut.filling.value) == filling, f"cycle {cycle}"
        if current is not None:
            assert int(dut.current.value) == current, f"cycle {cycle}"
        commit, take, clear = (
            free > 0 and random.random() < 0.4,
            filled and random.random() < 0.4,
            random.random() < 0.05,
        )
        dut.commit.value, dut.take.value, dut.clear.value = int(commit), int(bool(take)), int(clear)
        await FallingEdge(dut.clk)
        if take:
            current = filled.popleft()
        if commit:
            filled.append(filling)
            filling = 1 - filling
        if clear:
            filled.clear()
            current = None
    for name in ("commit", "take", "clear"):
        getattr(dut, name).value = 0
