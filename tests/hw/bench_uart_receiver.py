"""The receiver against levels that a sender of its own makes: any baud, any moment, any damage."""

import json
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly

LINE = json.loads(os.environ["TENZO_BENCH"])
#: Cycles of a bit.
BIT = LINE["clock_hz"] / LINE["baud"]
#: How far the sender's baud may be off.
TOLERANCE = (1 / 2 - 1 / BIT) / 9.5
LOW, HIGH = 0, 1
EVERY_BYTE = list(range(256))
#: Bytes of a test: every value where bits are short, and some where they take long to simulate.
COUNT = 256 if BIT < 9 else 32


def bits_of(byte, stop=HIGH):
    """The ten bits of a byte."""
    return [LOW, *(byte >> index & 1 for index in range(8)), stop]


class Receiver:
    """The receiver, a line with levels of any length, and a sink that is ready by chance."""

    def __init__(self, dut, ready=1.0):
        self.dut = dut
        self.ready = ready
        self.received = []
        self.overruns = 0
        self.framing = 0
        # The line's time and the cycle that it was sampled in: levels begin and end anywhere in a cycle.
        self.time = random.random()
        self.cycle = 0
        self.inverted = False

    async def start(self):
        """Starts the clock; the line is idle."""
        self.dut.rst.value = 0
        self.dut.rx.value = HIGH
        cocotb.start_soon(Clock(self.dut.clk, 10, unit="ns").start())
        await FallingEdge(self.dut.clk)
        await self.level(HIGH, 2 * BIT)

    async def level(self, level, cycles):
        """Holds a level, for a number of cycles that need not be whole."""
        self.time += cycles
        while self.cycle < self.time:
            self.cycle += 1
            await self._step(level)

    async def send(self, bits, bit=BIT):
        """Sends bits of this length."""
        for level in bits:
            await self.level(level, bit)

    async def end(self):
        """Lets the last byte come out."""
        self.ready = 1.0
        await self.level(HIGH, 12 * BIT)

    async def _step(self, level):
        dut = self.dut
        dut.rx.value = level ^ self.inverted
        dut.o__ready.value = random.random() < self.ready
        await ReadOnly()
        if dut.o__valid.value and dut.o__ready.value:
            self.received.append(int(dut.o__payload.value))
        self.overruns += int(dut.overrun.value)
        self.framing += int(dut.framing.value)
        await FallingEdge(dut.clk)


@cocotb.test(timeout_time=200, timeout_unit="ms")
@cocotb.parametrize(offset=[-0.98 * TOLERANCE, -0.02, 0.02, 0.98 * TOLERANCE], ready=[1.0, 0.3])
async def every_byte_comes(dut, offset, ready):
    receiver = Receiver(dut, ready)
    await receiver.start()
    data = random.sample(EVERY_BYTE, COUNT)
    for number, byte in enumerate(data):
        await receiver.send(bits_of(byte), BIT / (1 + offset))
        # Half of them back to back, half with pauses.
        if number > COUNT // 2:
            await receiver.level(HIGH, random.uniform(0, 2 * BIT))
    await receiver.end()
    assert receiver.received == data
    assert (receiver.overruns, receiver.framing) == (0, 0)


@cocotb.test(timeout_time=200, timeout_unit="ms")
async def a_short_pulse_starts_no_byte(dut):
    receiver = Receiver(dut)
    await receiver.start()
    for _ in range(100):
        # Half a bit less what sampling and majority may add.
        await receiver.level(LOW, random.uniform(0, BIT / 2 - 2))
        await receiver.level(HIGH, random.uniform(BIT, 2 * BIT))
    await receiver.send(bits_of(0x5A))
    await receiver.end()
    assert receiver.received == [0x5A]
    assert (receiver.overruns, receiver.framing) == (0, 0)


@cocotb.test(timeout_time=200, timeout_unit="ms")
async def a_single_wrong_sample_is_outvoted(dut):
    receiver = Receiver(dut)
    await receiver.start()
    data = random.sample(EVERY_BYTE, min(COUNT, 64))
    for byte in data:
        for level in bits_of(byte):
            # Away from the edges: there a wrong sample only moves the edge.
            await receiver.level(level, BIT / 2 - 1)
            receiver.inverted = True
            await receiver.level(level, 1)
            receiver.inverted = False
            await receiver.level(level, BIT / 2)
    await receiver.end()
    assert receiver.received == data
    assert (receiver.overruns, receiver.framing) == (0, 0)


@cocotb.test(timeout_time=200, timeout_unit="ms")
async def a_byte_without_stop_bit_is_dropped(dut):
    receiver = Receiver(dut)
    await receiver.start()
    kept = []
    dropped = 0
    for byte in random.sample(EVERY_BYTE, min(COUNT, 64)):
        if random.random() < 0.3:
            await receiver.send(bits_of(byte, stop=LOW))
            await receiver.level(HIGH, BIT)
            dropped += 1
        else:
            await receiver.send(bits_of(byte))
            kept.append(byte)
    await receiver.end()
    assert receiver.received == kept
    assert (receiver.overruns, receiver.framing) == (0, dropped)


@cocotb.test(timeout_time=200, timeout_unit="ms")
async def a_break_gives_no_bytes(dut):
    receiver = Receiver(dut)
    await receiver.start()
    for count in range(1, 11):
        await receiver.level(LOW, random.uniform(10, 40) * BIT)
        await receiver.level(HIGH, random.uniform(1, 3) * BIT)
        await receiver.send(bits_of(count))
        assert receiver.framing == count
    await receiver.end()
    assert receiver.received == list(range(1, 11))
    assert receiver.overruns == 0


@cocotb.test(timeout_time=200, timeout_unit="ms")
async def an_overrun_keeps_the_byte_that_waits(dut):
    receiver = Receiver(dut)
    await receiver.start()
    for turn in range(20):
        receiver.received.clear()
        receiver.ready = 0.0
        lost = random.randrange(3)
        for byte in range(1 + lost):
            await receiver.send(bits_of(turn + byte))
        receiver.ready = 1.0
        await receiver.level(HIGH, 2)
        await receiver.send(bits_of(0xA5))
        await receiver.level(HIGH, BIT)
        assert receiver.received == [turn, 0xA5]
        assert receiver.overruns == lost
        receiver.overruns = 0
    assert receiver.framing == 0
