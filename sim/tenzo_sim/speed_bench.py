"""The cocotb side of ``speed``: loads the machine with the host's bytes and takes the time of its training."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, ReadOnly

PARAMETERS = json.loads(os.environ["TENZO_BENCH"])


@cocotb.test()
async def speed(dut) -> None:
    """Writes the seconds of ``cycles`` cycles into the file ``result``."""
    dut.rst.value = 0
    dut.tx__ready.value = 1
    dut.rx__valid.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    await FallingEdge(dut.clk)
    for byte in bytes.fromhex(PARAMETERS["requests"]):
        dut.rx__payload.value = byte
        taken = False
        while not taken:
            # Ready may depend on the byte: it is looked at once the byte is there, before the edge that takes it.
            await ReadOnly()
            taken = bool(dut.rx__ready.value)
            await FallingEdge(dut.clk)
    dut.rx__valid.value = 0
    begun = time.perf_counter()
    await ClockCycles(dut.clk, PARAMETERS["cycles"])
    Path(PARAMETERS["result"]).write_text(json.dumps(time.perf_counter() - begun))
    assert dut.running.value, "the machine did not train while it was measured"
