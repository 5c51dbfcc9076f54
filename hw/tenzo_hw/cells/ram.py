"""A memory with a write port and a read port that reads in one cycle."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..collisions import NO_COLLISIONS
from .family import is_ice40

#: Words of an SB_RAM40_4K in its widest shape, and their bits (Lattice FPGA-TN-02002, iCE40 memory usage guide).
_ICE40_WORDS, _ICE40_BITS = 256, 16
_ICE40_ADDRESS_BITS = 11
#: Words of a cell that one of its parameters gives.
_ICE40_ROW = 16


class Ram(wiring.Component):
    """``depth`` words of ``width`` bits, at first ``init`` and zeros; ``read_data`` is that of the last ``read``.

    A word must not be read in the cycle in which it is written: what is read then is anybody's guess, and so is what
    ``read_data`` is before the first ``read``. ``writable`` False leaves the write port out.

    On an iCE40 up to 256 words are SB_RAM40_4K cells side by side: Yosys would spend a LUT a bit so that the first
    ``read_data`` is zero. Elsewhere the read port is one without a clock and a register behind it: Yosys makes one of a
    block RAM of them, and only then believes that collisions do not matter.
    """

    def __init__(self, *, width: int, depth: int, init: Sequence[int] = (), writable: bool = True) -> None:
        if width < 1 or depth < 2 or len(init) > depth:
            raise ValueError(
                f"width={width}, depth={depth} with {len(init)} words in it is not possible: "
                "a bit or more, two words or more, no more in it than it has"
            )
        self._depth = depth
        self._init = init
        write = {"write": In(1), "write_address": In(range(depth)), "write_data": In(width)}
        self._writable = writable
        super().__init__(
            {
                "read": In(1, init=1),
                "read_address": In(range(depth)),
                "read_data": Out(width),
                **(write if writable else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The cells, or the memory and its register."""
        m = Module()
        if is_ice40(platform) and self._depth <= _ICE40_WORDS:
            for low in range(0, len(self.read_data), _ICE40_BITS):
                m.submodules[f"cell{low // _ICE40_BITS}"] = self._ice40(m, low)
            return m
        m.submodules.words = words = memory.Memory(
            shape=len(self.read_data), depth=self._depth, init=self._init, attrs=NO_COLLISIONS
        )
        reader = words.read_port(domain="comb")
        m.d.comb += reader.addr.eq(self.read_address)
        with m.If(self.read):
            m.d.sync += self.read_data.eq(reader.data)
        if self._writable:
            writer = words.write_port()
            m.d.comb += [
                writer.addr.eq(self.write_address),
                writer.data.eq(self.write_data),
                writer.en.eq(self.write),
            ]
        return m

    def _ice40(self, m: Module, low: int) -> Instance:
        """The cell of the bits from ``low`` on."""
        part = slice(low, low + _ICE40_BITS)
        read = Signal(_ICE40_BITS, name=f"read{low}")
        m.d.comb += self.read_data[part].eq(read)
        high = Const(1)
        write, write_address, written = (
            (self.write, self.write_address, self.write_data[part])
            if self._writable
            else (Const(0), self.read_address, Const(0, _ICE40_BITS))
        )

        def padded(value: Value, bits: int) -> Value:
            return Cat(value, Const(0, bits - len(value)))

        words = [word >> low & (1 << _ICE40_BITS) - 1 for word in self._init]
        rows = [words[first : first + _ICE40_ROW] for first in range(0, _ICE40_WORDS, _ICE40_ROW)]
        return Instance(
            "SB_RAM40_4K",
            p_READ_MODE=0,
            p_WRITE_MODE=0,
            **{
                f"p_INIT_{number:X}": Const(
                    sum(word << place * _ICE40_BITS for place, word in enumerate(row)), _ICE40_ROW * _ICE40_BITS
                )
                for number, row in enumerate(rows)
            },
            i_RCLK=ClockSignal(),
            i_RCLKE=high,
            i_RE=self.read,
            i_RADDR=padded(self.read_address, _ICE40_ADDRESS_BITS),
            i_WCLK=ClockSignal(),
            i_WCLKE=high,
            i_WE=write,
            i_WADDR=padded(write_address, _ICE40_ADDRESS_BITS),
            i_MASK=Const(0, _ICE40_BITS),
            i_WDATA=padded(written, _ICE40_BITS),
            o_RDATA=read,
        )
