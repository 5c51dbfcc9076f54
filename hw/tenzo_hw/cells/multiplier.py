"""A multiplier with registers at its output and its inputs."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Const, Instance, Module, Shape, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .family import is_ecp5

#: Bits of a factor of an ECP5's MULT18X18D (Lattice FPGA-TN-02205, sysDSP usage guide).
_ECP5_BITS = 18


class Multiplier(wiring.Component):
    """``o`` is ``a * b`` of two cycles before; one product a cycle. All registers start at zero.

    With ``registered_inputs`` False it is that of the cycle before: for factors that come straight from registers.
    ``a_bits``, ``b_bits``: bits of the factors, 2 or more. They and the product are signed or, with ``is_signed``
    False, unsigned. On an ECP5 factors of up to 18 bits take one MULT18X18D with these registers; wider ones are left
    to Yosys.
    """

    def __init__(self, *, a_bits: int, b_bits: int, registered_inputs: bool = True, is_signed: bool = True) -> None:
        for name, bits in (("a_bits", a_bits), ("b_bits", b_bits)):
            if bits < 2:
                raise ValueError(f"{name}={bits} is not possible: a factor has 2 bits or more")
        self._registered_inputs = registered_inputs
        self._is_signed = is_signed
        word = signed if is_signed else unsigned
        super().__init__({"a": In(word(a_bits)), "b": In(word(b_bits)), "o": Out(word(a_bits + b_bits))})

    def elaborate(self, platform: object) -> Module:
        """The cell, or its twin."""
        m = Module()
        if is_ecp5(platform) and max(len(self.a), len(self.b)) <= _ECP5_BITS:
            m.submodules.cell = self._ecp5(m)
            return m
        a, b = self.a, self.b
        if self._registered_inputs:
            a, b = Signal.like(a), Signal.like(b)
            m.d.sync += [a.eq(self.a), b.eq(self.b)]
        m.d.sync += self.o.eq(a * b)
        return m

    def _ecp5(self, m: Module) -> Instance:
        ports: dict[str, Value] = {}
        for letter, factor in (("A", self.a), ("B", self.b)):
            # Extended to all of the cell's bits.
            wide = Signal(Shape(_ECP5_BITS, self._is_signed), name=f"wide{letter}")
            m.d.comb += wide.eq(factor)
            ports |= {f"i_{letter}{bit}": wide[bit] for bit in range(_ECP5_BITS)}
        product = Signal(2 * _ECP5_BITS)
        ports |= {f"o_P{bit}": product[bit] for bit in range(len(product))}
        m.d.comb += self.o.eq(product)
        stages = ["OUTPUT", *(["INPUTA", "INPUTB"] if self._registered_inputs else [])]
        registers = {f"p_REG_{stage}_CLK": "CLK0" for stage in stages}
        high, low = Const(1), Const(0)
        return Instance(
            "MULT18X18D",
            **registers,
            **ports,
            **{f"i_C{bit}": low for bit in range(_ECP5_BITS)},
            i_SIGNEDA=Const(self._is_signed, 1),
            i_SIGNEDB=Const(self._is_signed, 1),
            i_SOURCEA=low,
            i_SOURCEB=low,
            i_CLK0=ClockSignal(),
            i_CE0=high,
            i_RST0=low,
        )
