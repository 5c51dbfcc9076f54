"""Bookkeeping of the two batch halves: free -> (commit) filled -> (take) current -> (next take) free."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

HALVES = 2


class BatchHalves(wiring.Component):
    """Which half the host fills, which one the engine reads, and how many are free. Strobes act at the next cycle.

    ``commit`` needs a free half and ``take`` a filled one; ``clear`` frees both and wins over the two.
    The filling half goes on alternating, so that halves are taken in the order in which they were committed.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "commit": In(1),
                "take": In(1),
                "clear": In(1),
                "filling": Out(1),
                "current": Out(1),
                "free": Out(range(HALVES + 1)),
                "filled": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Counts the filled halves; the halves follow from it, because they alternate."""
        m = Module()
        waiting = Signal(range(HALVES + 1))
        taken = Signal()
        m.d.comb += [self.filled.eq(waiting != 0), self.free.eq(HALVES - waiting - taken)]
        m.d.sync += waiting.eq(waiting + self.commit - self.take)
        with m.If(self.commit):
            m.d.sync += self.filling.eq(~self.filling)
        with m.If(self.take):
            m.d.sync += [taken.eq(1), self.current.eq(self.filling ^ waiting[0])]
        with m.If(self.clear):
            m.d.sync += [waiting.eq(0), taken.eq(0)]
        return m
