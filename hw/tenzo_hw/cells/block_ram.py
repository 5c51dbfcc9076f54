"""A block RAM with a write port, a read port and a register at its output."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Instance, Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..collisions import NO_COLLISIONS
from .dp16kd import ADDRESS_BITS, WIDEST, dp16kd
from .family import is_ecp5

#: Words of a DP16KD and the bits of each, the widest first.
_ECP5_SHAPES = ((512, WIDEST), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
#: Bits of a word that share a write enable.
_ECP5_UNIT = 9


class BlockRam(wiring.Component):
    """``depth`` words of ``width`` bits, all zero at power-on; ``read_data`` is that of two cycles before.

    ``write`` has a bit for each of ``parts`` equal parts of a word, which stores that part of ``write_data``. A word
    must not be read in the cycle in which it is written: what is read then is anybody's guess.

    With ``other_writer`` there is a second way to write, for times without ``write``: the parts in ``other_write``
    store ``other_data`` at ``read_address``. What is read in such a cycle is anybody's guess.

    ``depth``: a power of two. On an ECP5 the words are in DP16KD cells with their output registers; where a memory is
    deeper than its cells, a multiplexer behind these registers chooses among banks. The other writer has their second
    port, except in cells 36 bits wide, which have none to spare: there, and everywhere else, it shares the first one.
    """

    def __init__(self, *, width: int, depth: int, parts: int = 1, other_writer: bool = False) -> None:
        if width < 1:
            raise ValueError(f"width={width} is not possible: a word has a bit or more")
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth={depth} is not possible: a power of two")
        if parts < 1 or width % parts:
            raise ValueError(f"parts={parts} is not possible: a divisor of width={width}")
        self._depth = depth
        self._other_writer = other_writer
        other = {"other_write": In(parts), "other_data": In(width)}
        super().__init__(
            {
                "read_address": In(range(depth)),
                "read_data": Out(width),
                "write": In(parts),
                "write_address": In(range(depth)),
                "write_data": In(width),
                **(other if other_writer else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The cells, or their twin."""
        m = Module()
        if is_ecp5(platform):
            self._ecp5(m)
            return m
        width, parts = len(self.read_data), len(self.write)
        m.submodules.ram = ram = memory.Memory(shape=width, depth=self._depth, init=[], attrs=NO_COLLISIONS)
        write, read = ram.write_port(granularity=width // parts), ram.read_port()
        enables, address, data = self._shared()
        m.d.comb += [
            read.addr.eq(self.read_address),
            write.en.eq(enables),
            write.addr.eq(address),
            write.data.eq(data),
        ]
        m.d.sync += self.read_data.eq(read.data)
        return m

    def _shared(self) -> tuple[Value, Value, Value]:
        """Enables, address and data of both writers at one port."""
        if not self._other_writer:
            return self.write, self.write_address, self.write_data
        other = self.other_write.any()
        return (
            self.write | self.other_write,
            Mux(other, self.read_address, self.write_address),
            Mux(other, self.other_data, self.write_data),
        )

    def _ecp5(self, m: Module) -> None:
        """The arrangement with the fewest cells: banks one behind the other, cells side by side in each."""
        words, bits = min(_ECP5_SHAPES, key=lambda shape: (self._cells(*shape), -shape[0]))
        nothing = Const(0, len(self.write)), self.read_address, Const(0, len(self.write_data))
        ways: list[tuple[Value, Value, Value]] = [(self.write, self.write_address, self.write_data), nothing]
        if bits == WIDEST:
            ways[0] = self._shared()
        elif self._other_writer:
            ways[1] = (self.other_write, self.read_address, self.other_data)
        within = min(words, self._depth).bit_length() - 1
        units, in_cell = self._units(bits), bits // min(bits, _ECP5_UNIT)
        read_bank = Signal(range(max(self._depth // words, 1)))
        earlier = Signal.like(read_bank)
        m.d.sync += [earlier.eq(self.read_address[within:]), read_bank.eq(earlier)]
        read = Array(Signal.like(self.read_data, name=f"read{bank}") for bank in range(1 << len(read_bank)))
        m.d.comb += self.read_data.eq(read[read_bank])
        for bank, bank_read in enumerate(read):
            in_bank = [(Mux(at[within:] == bank, enables, 0), at[:within], data) for enables, at, data in ways]
            for place in range(0, len(units), in_cell):
                few = units[place : place + in_cell]
                cell = self._dp16kd(m, words, bits, few, in_bank, bank_read)
                m.submodules[f"cell{bank}_{place // in_cell}"] = cell

    def _units(self, bits: int) -> list[tuple[int, range]]:
        """The slices of a word that share a write enable in cells ``bits`` wide: its number, and the slice's bits."""
        unit = min(bits, _ECP5_UNIT)
        part = len(self.read_data) // len(self.write)
        return [
            (number, range(first, min(first + unit, (number + 1) * part)))
            for number in range(len(self.write))
            for first in range(number * part, (number + 1) * part, unit)
        ]

    def _cells(self, words: int, bits: int) -> int:
        in_cell = bits // min(bits, _ECP5_UNIT)
        return max(self._depth // words, 1) * -(-len(self._units(bits)) // in_cell)

    def _dp16kd(
        self,
        m: Module,
        words: int,
        bits: int,
        units: Sequence[tuple[int, range]],
        ways: Sequence[tuple[Value, Value, Value]],
        read: Signal,
    ) -> Instance:
        """One cell: port B reads its ``units`` of ``read``; ``ways``: enables, address and data of each port."""
        data = Signal(WIDEST)
        given: list[list[Value]] = [[Const(0)] * len(data) for _ in ways]
        for place, (_, held) in enumerate(units):
            for cell_bit, bit in enumerate(held, place * _ECP5_UNIT):
                for (_, _, words_given), bits_given in zip(ways, given, strict=True):
                    bits_given[cell_bit] = words_given[bit]
                m.d.comb += read[bit].eq(data[cell_bit])
        # The widest shape reads and writes its upper half through the data of port B. A narrower one reads at port B.
        half = len(data) // 2
        widest = bits == len(data)
        if widest:
            given[1] = given[0][half:]
        out = "AB" if widest else "BA"
        ports: dict[str, Value] = {}
        for bit in range(half):
            ports |= {f"i_DIA{bit}": given[0][bit], f"i_DIB{bit}": given[1][bit]}
            ports |= {f"o_DO{out[0]}{bit}": data[bit], f"o_DO{out[1]}{bit}": data[half + bit]}

        # A wide shape leaves the low bits of its addresses to the enables of its units.
        lowest = ADDRESS_BITS - (words - 1).bit_length()
        for letter, (write, address, _) in zip("AB", ways, strict=True):
            ports |= {f"i_AD{letter}{place}": bit for place, bit in enumerate(address, lowest)}
            enables = [write[number] for number, _ in units]
            if bits > _ECP5_UNIT:
                ports |= {f"i_AD{letter}{place}": enable for place, enable in enumerate(enables)}
            ports[f"i_WE{letter}"] = Cat(enables).any()
        return dp16kd(bits=bits, ports=ports)
