"""A block RAM with a write port, a read port and a register at its output."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..collisions import NO_COLLISIONS
from .family import is_ecp5

#: Words of a DP16KD and the bits of each, the widest first (Lattice FPGA-TN-02204, sysMEM usage guide).
_ECP5_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
_ECP5_ADDRESS_BITS = 14
#: Initial contents are given in rows of bits.
_ECP5_INIT_ROWS = 64
_ECP5_INIT_BITS = 320
#: Bits of a word that share a write enable.
_ECP5_UNIT = 9


class BlockRam(wiring.Component):
    """``depth`` words of ``width`` bits, all zero at power-on; ``read_data`` is that of two cycles before.

    ``write`` has a bit for each of ``parts`` equal parts of a word, which stores that part of ``write_data``. A word
    must not be read in the cycle in which it is written: what is read then is anybody's guess.

    ``depth``: a power of two. On an ECP5 the words are in DP16KD cells with their output registers; where a memory is
    deeper than its cells, a multiplexer behind these registers chooses among banks.
    """

    def __init__(self, *, width: int, depth: int, parts: int = 1) -> None:
        if width < 1:
            raise ValueError(f"width={width} is not possible: a word has a bit or more")
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth={depth} is not possible: a power of two")
        if parts < 1 or width % parts:
            raise ValueError(f"parts={parts} is not possible: a divisor of width={width}")
        self._depth = depth
        super().__init__(
            {
                "read_address": In(range(depth)),
                "read_data": Out(width),
                "write": In(parts),
                "write_address": In(range(depth)),
                "write_data": In(width),
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
        m.d.comb += [
            read.addr.eq(self.read_address),
            write.en.eq(self.write),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
        ]
        m.d.sync += self.read_data.eq(read.data)
        return m

    def _ecp5(self, m: Module) -> None:
        """The arrangement with the fewest cells: banks one behind the other, cells side by side in each."""
        words, bits = min(_ECP5_SHAPES, key=lambda shape: (self._cells(*shape), -shape[0]))
        within = min(words, self._depth).bit_length() - 1
        units, in_cell = self._units(bits), bits // min(bits, _ECP5_UNIT)
        read_bank = Signal(range(max(self._depth // words, 1)))
        earlier = Signal.like(read_bank)
        m.d.sync += [earlier.eq(self.read_address[within:]), read_bank.eq(earlier)]
        read = Array(Signal.like(self.read_data, name=f"read{bank}") for bank in range(1 << len(read_bank)))
        m.d.comb += self.read_data.eq(read[read_bank])
        for bank, bank_read in enumerate(read):
            write = Mux(self.write_address[within:] == bank, self.write, 0)
            for place in range(0, len(units), in_cell):
                few = units[place : place + in_cell]
                cell = self._dp16kd(m, words, bits, few, within, write, bank_read)
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
        within: int,
        write: Value,
        read: Signal,
    ) -> Instance:
        """One cell: port A writes, port B reads its ``units`` of ``read``; ``within``: address bits of a bank."""
        high, low = Const(1), Const(0)
        given: list[Value] = [low] * _ECP5_SHAPES[0][1]
        data = Signal(len(given))
        for place, (_, held) in enumerate(units):
            for cell_bit, bit in enumerate(held, place * _ECP5_UNIT):
                given[cell_bit] = self.write_data[bit]
                m.d.comb += read[bit].eq(data[cell_bit])
        # The widest shape reads and writes its upper half through the data of port B. A narrower one reads at port B.
        half = len(given) // 2
        out = "AB" if bits == len(given) else "BA"
        ports: dict[str, Value] = {}
        for bit in range(half):
            ports |= {f"i_DIA{bit}": given[bit], f"i_DIB{bit}": given[half + bit]}
            ports |= {f"o_DO{out[0]}{bit}": data[bit], f"o_DO{out[1]}{bit}": data[half + bit]}

        # Addresses count bits: a wide shape leaves the low ones to the enables of its units.
        lowest = _ECP5_ADDRESS_BITS - (words - 1).bit_length()
        for letter, address in (("A", self.write_address[:within]), ("B", self.read_address[:within])):
            for bit in range(_ECP5_ADDRESS_BITS):
                inside = lowest <= bit < lowest + within
                ports[f"i_AD{letter}{bit}"] = address[bit - lowest] if inside else low
        enables = [write[number] for number, _ in units]
        if bits > _ECP5_UNIT:
            ports |= {f"i_ADA{place}": enable for place, enable in enumerate(enables)}
        for letter, enable in (("A", Cat(enables).any()), ("B", low)):
            ports |= {
                f"i_CLK{letter}": ClockSignal(),
                f"i_CE{letter}": high,
                f"i_OCE{letter}": high,
                f"i_RST{letter}": low,
                f"i_WE{letter}": enable,
                **{f"i_CS{letter}{bit}": low for bit in range(3)},
            }
        return Instance(
            "DP16KD",
            **{f"p_DATA_WIDTH_{letter}": bits for letter in "AB"},
            **{f"p_REGMODE_{letter}": "OUTREG" for letter in "AB"},
            **{f"p_WRITEMODE_{letter}": "NORMAL" for letter in "AB"},
            **{f"p_CSDECODE_{letter}": "0b000" for letter in "AB"},
            **{f"p_INITVAL_{row:02X}": Const(0, _ECP5_INIT_BITS) for row in range(_ECP5_INIT_ROWS)},
            p_RESETMODE="SYNC",
            p_ASYNC_RESET_RELEASE="SYNC",
            p_GSR="AUTO",
            **ports,
        )
