"""Registers that hold the same, for a signal that goes to many places."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Const, Instance, Module, unsigned
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from .family import is_ecp5


class Copies(wiring.Component):
    """``count`` registers: each ``o`` is ``i`` of the cycle before, 0 at first. A way to each place is short then.

    ``width``: bits. On an ECP5 they are flip-flops that Yosys does not look into: it would merge them again.
    """

    def __init__(self, *, width: int, count: int) -> None:
        for name, value in (("width", width), ("count", count)):
            if value < 1:
                raise ValueError(f"{name}={value} is not possible: 1 or more")
        super().__init__({"i": In(width), "o": Out(ArrayLayout(unsigned(width), count))})

    def elaborate(self, platform: object) -> Module:
        """The flip-flops, or their twin."""
        m = Module()
        for number in range(len(self.o)):
            copy = self.o[number]
            if not is_ecp5(platform):
                m.d.sync += copy.eq(self.i)
                continue
            for bit in range(len(self.i)):
                m.submodules[f"copy{number}_{bit}"] = Instance(
                    "TRELLIS_FF",
                    p_GSR="AUTO",
                    p_CEMUX="1",
                    p_CLKMUX="CLK",
                    p_LSRMUX="LSR",
                    p_REGSET="RESET",
                    p_SRMODE="LSR_OVER_CE",
                    i_CLK=ClockSignal(),
                    i_LSR=Const(0),
                    i_DI=self.i[bit],
                    o_Q=copy[bit],
                )
        return m
