"""A read-only memory with a register at its output."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .family import is_ecp5

#: A DP16KD's widest shape (Lattice FPGA-TN-02204, sysMEM usage guide): address bits, their place, bits of a word.
_ECP5_ADDRESS_BITS = 9
_ECP5_LOWEST = 5
_ECP5_BITS = 36
#: Initial contents: words to a parameter, and the bits that each half of a word takes there.
_ECP5_INIT_WORDS = 8
_ECP5_INIT_HALF = 20


class Rom(wiring.Component):
    """The words of a table; ``read_data`` is that at the ``read_address`` of two cycles before.

    ``words``: a power of two of unsigned words, of ``width`` bits. On an ECP5 up to 512 words of up to 36 bits are one
    DP16KD with its output register; others are left to Yosys.
    """

    def __init__(self, *, width: int, words: Sequence[int]) -> None:
        if len(words) < 2 or len(words) & (len(words) - 1):
            raise ValueError(f"{len(words)} words are not possible: a power of two of them")
        if any(word < 0 or word >> width for word in words):
            raise ValueError(f"width={width} is not possible: words of up to {max(words).bit_length()} bits, unsigned")
        self._words = list(words)
        super().__init__({"read_address": In(range(len(words))), "read_data": Out(width)})

    def elaborate(self, platform: object) -> Module:
        """The cell, or its twin."""
        m = Module()
        width = len(self.read_data)
        if is_ecp5(platform) and width <= _ECP5_BITS and len(self._words) <= 1 << _ECP5_ADDRESS_BITS:
            m.submodules.cell = self._ecp5(m)
            return m
        m.submodules.rom = rom = memory.Memory(shape=width, depth=len(self._words), init=self._words)
        read = rom.read_port()
        m.d.comb += read.addr.eq(self.read_address)
        m.d.sync += self.read_data.eq(read.data)
        return m

    def _ecp5(self, m: Module) -> Instance:
        """The cell: port B reads, and the lower half of a word comes out of port A."""
        half = _ECP5_BITS // 2
        data = Signal(_ECP5_BITS)
        m.d.comb += self.read_data.eq(data)
        high, low = Const(1), Const(0)
        ports: dict[str, Value] = {}
        for letter, first in (("A", 0), ("B", half)):
            ports |= {f"i_DI{letter}{bit}": low for bit in range(half)}
            ports |= {f"o_DO{letter}{bit}": data[first + bit] for bit in range(half)}
            ports |= {f"i_CS{letter}{bit}": low for bit in range(3)}
            ports |= {f"i_{name}{letter}": low for name in ("WE", "RST")}
            ports |= {f"i_{name}{letter}": high for name in ("CE", "OCE")}
            ports[f"i_CLK{letter}"] = ClockSignal()
        for bit in range(_ECP5_LOWEST + _ECP5_ADDRESS_BITS):
            inside = _ECP5_LOWEST <= bit < _ECP5_LOWEST + len(self.read_address)
            ports[f"i_ADA{bit}"] = low
            ports[f"i_ADB{bit}"] = self.read_address[bit - _ECP5_LOWEST] if inside else low
        parameters: dict[str, object] = {}
        for letter in "AB":
            parameters |= {
                f"p_DATA_WIDTH_{letter}": _ECP5_BITS,
                f"p_REGMODE_{letter}": "OUTREG",
                f"p_WRITEMODE_{letter}": "NORMAL",
                f"p_CSDECODE_{letter}": "0b000",
            }
        for row in range((1 << _ECP5_ADDRESS_BITS) // _ECP5_INIT_WORDS):
            value = 0
            for place, word in enumerate(self._words[row * _ECP5_INIT_WORDS : (row + 1) * _ECP5_INIT_WORDS]):
                split = word & (1 << half) - 1 | word >> half << _ECP5_INIT_HALF
                value |= split << 2 * _ECP5_INIT_HALF * place
            parameters[f"p_INITVAL_{row:02X}"] = Const(value, 2 * _ECP5_INIT_HALF * _ECP5_INIT_WORDS)
        return Instance("DP16KD", **parameters, **ports, p_RESETMODE="SYNC", p_ASYNC_RESET_RELEASE="SYNC", p_GSR="AUTO")
