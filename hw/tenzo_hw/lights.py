"""Lights of a board: what the machine does, seen from the desk."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Lights(wiring.Component):
    """Three lights, high when lit.

    ``alive`` blinks once a second while there is a clock. ``busy`` is ``running``. ``error`` is lit while ``failed``,
    and for half a second to a second after the strobe ``lost``, so that an eye sees it.
    """

    def __init__(self, *, clock_hz: int) -> None:
        self._half_second = clock_hz // 2
        super().__init__(
            {
                **{name: In(1) for name in ("running", "failed", "lost")},
                **{name: Out(1) for name in ("alive", "busy", "error")},
            }
        )

    def elaborate(self, platform: object) -> Module:
        """A counter of half seconds."""
        m = Module()
        elapsed = Signal(range(self._half_second))
        # Half seconds in which a loss is still shown: the present one and a whole one.
        shown = Signal(2)
        # It comes from afar.
        lost = Signal()
        m.d.sync += [
            elapsed.eq(elapsed + 1),
            lost.eq(self.lost),
            self.busy.eq(self.running),
            self.error.eq(self.failed | shown.any()),
        ]
        with m.If(elapsed == self._half_second - 1):
            m.d.sync += [elapsed.eq(0), self.alive.eq(~self.alive), shown.eq(shown >> 1)]
        with m.If(lost):
            m.d.sync += shown.eq(0b11)
        return m
