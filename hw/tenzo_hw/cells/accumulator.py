"""A register that sums, or begins anew with what is added."""

from __future__ import annotations

from amaranth.hdl import Const, Instance, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .family import is_ecp5

#: Truth table of a CCU2C's half with its inputs A, B, C and D, the first the lowest bit of the place: A + (B and C).
#: Its low four bits, those of C = 0, decide the carry where the sum of the half is 0 (Lattice FPGA-TN-02200).
_ECP5_SUM = 0x6A6A


class Accumulator(wiring.Component):
    """``o`` becomes ``i`` plus, with ``adds``, what it was: wrapped to its bits; 0 at first.

    ``bits``: those of the signed sum; ``i_bits``: of the signed addend, no more. On an ECP5 an adder's cells do the
    choice as well, for which Yosys would spend a LUT a bit.
    """

    def __init__(self, *, bits: int, i_bits: int) -> None:
        if not 1 <= i_bits <= bits:
            raise ValueError(f"i_bits={i_bits} is not possible: 1 to bits={bits}")
        super().__init__({"i": In(signed(i_bits)), "adds": In(1), "o": Out(signed(bits))})

    def elaborate(self, platform: object) -> Module:
        """The carry chain, or its twin."""
        m = Module()
        if not is_ecp5(platform):
            m.d.sync += self.o.eq(Mux(self.adds, self.o, 0) + self.i)
            return m
        bits = len(self.o)
        following = Signal(2 * -(-bits // 2))
        carry: Value = Const(0, 1)
        for place in range(0, bits, 2):
            carried = Signal(name=f"carry{place}")
            ports: dict[str, Value] = {"i_CIN": carry, "o_COUT": carried}
            for half in range(2):
                bit = min(place + half, bits - 1)
                ports |= {
                    f"i_A{half}": self.i[min(bit, len(self.i) - 1)],
                    f"i_B{half}": self.o[bit],
                    f"i_C{half}": self.adds,
                    f"i_D{half}": Const(0, 1),
                    f"o_S{half}": following[place + half],
                }
            m.submodules[f"cell{place // 2}"] = Instance(
                "CCU2C",
                **{f"p_INIT{half}": Const(_ECP5_SUM, 16) for half in range(2)},
                **{f"p_INJECT1_{half}": "NO" for half in range(2)},
                **ports,
            )
            carry = carried
        m.d.sync += self.o.eq(following)
        return m
