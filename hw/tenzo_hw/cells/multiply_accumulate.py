"""A link of a chain of accumulators: it sums products, or takes the sum of the link before."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

#: Bits of the sum.
SUM_BITS = 32


class MultiplyAccumulate(wiring.Component):
    """``o`` becomes ``o`` + ``a`` * ``b`` with ``adds``, else ``i``: 32 bits, wrapped. No reset clears it.

    With factors of at most 16 bits Yosys makes one SB_MAC16 of it on an iCE40, and one LUT for the lowest bit.
    """

    def __init__(self, *, a_bits: int, b_bits: int) -> None:
        super().__init__(
            {
                "a": In(signed(a_bits)),
                "b": In(signed(b_bits)),
                "adds": In(1),
                "i": In(signed(SUM_BITS)),
                "o": Out(signed(SUM_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The sum, in a register that a reset would keep out of the DSP block."""
        m = Module()
        total = Signal(signed(SUM_BITS), reset_less=True)
        # Yosys 0.70 takes registers at the load input into the block even when they are another block's sum, which is
        # lost. The gate changes nothing, but keeps it from seeing registers.
        loaded = Cat(self.i[0] & ~self.adds, self.i[1:])
        with m.If(self.adds):
            m.d.sync += total.eq(total + self.a * self.b)
        with m.Else():
            m.d.sync += total.eq(loaded)
        m.d.comb += self.o.eq(total)
        return m
