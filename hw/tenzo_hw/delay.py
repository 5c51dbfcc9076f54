"""Delays: a value some cycles later, in registers or, where it waits long, in a memory."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .collisions import NO_COLLISIONS


def delayed(m: Module, value: Value, cycles: int) -> Value:
    """``value`` that many cycles later, in registers."""
    for _ in range(cycles):
        later = Signal.like(value, name="later")
        m.d.sync += later.eq(value)
        value = later
    return value


class DelayLine(wiring.Component):
    """``o`` is ``i`` of ``cycles`` cycles before: a ring whose read port is a word ahead of its write port.

    ``width``: bits. ``cycles``: 2 or more. In the first cycles ``o`` is what the ring held at reset.
    """

    def __init__(self, *, width: int, cycles: int) -> None:
        if cycles < 2:
            raise ValueError(f"cycles={cycles} is not possible: 2 or more")
        self._depth = cycles
        super().__init__({"i": In(width), "o": Out(width)})

    def elaborate(self, platform: object) -> Module:
        """The ring."""
        m = Module()
        m.submodules.ring = ring = Memory(shape=len(self.i), depth=self._depth, init=[], attrs=NO_COLLISIONS)
        write, read = ring.write_port(), ring.read_port()
        newest = Signal(range(self._depth))
        oldest = Signal(range(self._depth), init=1)
        m.d.sync += [newest.eq(oldest), oldest.eq(oldest + 1)]
        with m.If(oldest == self._depth - 1):
            m.d.sync += oldest.eq(0)
        m.d.comb += [
            write.en.eq(1),
            write.addr.eq(newest),
            write.data.eq(self.i),
            read.addr.eq(oldest),
            self.o.eq(read.data),
        ]
        return m
