"""A read-only memory with a register at its output."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Instance, Module, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .dp16kd import WIDEST, dp16kd
from .family import is_ecp5

#: A DP16KD's widest shape: address bits, and their place.
_ECP5_ADDRESS_BITS, _ECP5_LOWEST = 9, 5
#: Initial contents: words to a row, and the bits that each half of a word takes there.
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
        if is_ecp5(platform) and width <= WIDEST and len(self._words) <= 1 << _ECP5_ADDRESS_BITS:
            m.submodules.cell = self._ecp5(m)
            return m
        m.submodules.rom = rom = memory.Memory(shape=width, depth=len(self._words), init=self._words)
        read = rom.read_port()
        m.d.comb += read.addr.eq(self.read_address)
        m.d.sync += self.read_data.eq(read.data)
        return m

    def _ecp5(self, m: Module) -> Instance:
        """The cell: port B reads, and the lower half of a word comes out of port A."""
        half = WIDEST // 2
        data = Signal(WIDEST)
        m.d.comb += self.read_data.eq(data)
        ports: dict[str, Value] = {}
        for letter, first in (("A", 0), ("B", half)):
            ports |= {f"o_DO{letter}{bit}": data[first + bit] for bit in range(half)}
        ports |= {f"i_ADB{place}": bit for place, bit in enumerate(self.read_address, _ECP5_LOWEST)}
        contents = []
        for first in range(0, len(self._words), _ECP5_INIT_WORDS):
            row = 0
            for place, word in enumerate(self._words[first : first + _ECP5_INIT_WORDS]):
                split = word & (1 << half) - 1 | word >> half << _ECP5_INIT_HALF
                row |= split << 2 * _ECP5_INIT_HALF * place
            contents.append(row)
        return dp16kd(bits=WIDEST, ports=ports, contents=contents)
