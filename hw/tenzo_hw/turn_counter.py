"""A level of a loop nest: counts its turns, and knows in registers when the last one is at hand."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class TurnCounter(wiring.Component):
    """Counts ``given`` turns, again and again, with ``turn``.

    ``given`` >= 1 is there from a cycle before ``take``, with which the counting begins, to ``taken``, which is
    ``take`` a cycle later. ``at_last`` and ``at_second``: the turn at hand is the last one, or has one behind it.
    ``single``: there is but one turn; ``coming_single``: of what was ``given`` a cycle before.
    """

    def __init__(self, *, bits: int) -> None:
        super().__init__(
            {
                "given": In(bits),
                "take": In(1),
                "taken": In(1),
                "turn": In(1),
                "at_last": Out(1),
                "at_second": Out(1),
                "single": Out(1),
                "coming_single": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """A register counts down; the flags are worked out a turn ahead."""
        m = Module()
        count, remaining = Signal.like(self.given), Signal.like(self.given)
        coming_double, double = Signal(), Signal()
        m.d.sync += [self.coming_single.eq(self.given == 1), coming_double.eq(self.given == 2)]
        # It is not looked at in the first turn, which is the last of one and needs none of what is behind it.
        with m.If(self.taken):
            m.d.sync += count.eq(self.given)
        with m.If(self.take):
            m.d.sync += [
                self.single.eq(self.coming_single),
                double.eq(coming_double),
                remaining.eq(self.given),
                self.at_last.eq(self.coming_single),
                self.at_second.eq(coming_double),
            ]
        with m.Elif(self.turn):
            m.d.sync += [
                remaining.eq(Mux(self.at_last, count, remaining - 1)),
                self.at_last.eq(Mux(self.at_last, self.single, self.at_second)),
                self.at_second.eq(Mux(self.at_last, double, remaining == 3)),
            ]
        return m
