"""Delays: a value some cycles later, in registers or, where it waits long, in a memory."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


def delayed(m: Module, value: Value, cycles: int) -> Value:
    """``value`` that many cycles later, in registers."""
    for _ in range(cycles):
        later = Signal.like(value, name="later")
        m.d.sync += later.eq(value)
        value = later
    return value


class DelayLine(wiring.Component):
    """``o`` is ``i`` of ``cycles`` cycles before: a ring whose read port gives the word that is being replaced.

    ``width``: bits. ``cycles``: 2 or more. In the first cycles ``o`` is what the ring held at reset.
    """

    def __init__(self, *, width: int, cycles: int) -> None:
        if cycles < 2:
            raise ValueError(f"cycles={cycles} is not possible: 2 or more")
        self._depth = cycles - 1
        super().__init__({"i": In(width), "o": Out(width)})

    def elaborate(self, platform: object) -> Module:
        """The ring."""
        m = Module()
        m.submodules.ring = ring = Memory(shape=len(self.i), depth=self._depth, init=[])
        write, read = ring.write_port(), ring.read_port()
        turn = Signal(range(self._depth))
        with m.If(turn == self._depth - 1):
            m.d.sync += turn.eq(0)
        with m.Else():
            m.d.sync += turn.eq(turn + 1)
        m.d.comb += [
            write.en.eq(1),
            write.addr.eq(turn),
            write.data.eq(self.i),
            read.addr.eq(turn),
            self.o.eq(read.data),
        ]
        return m
