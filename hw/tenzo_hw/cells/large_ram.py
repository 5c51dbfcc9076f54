"""A large memory that is read or written, a word a cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..collisions import NO_COLLISIONS
from .family import is_ice40

#: Words and bits of an SB_SPRAM256KA (Lattice FPGA-TN-02022, iCE40 SPRAM usage guide).
_SPRAM_WORDS, _SPRAM_BITS = 1 << 14, 16


class LargeRam(wiring.Component):
    """``depth`` words of ``width`` bits at one port; ``read_data`` is that of the cycle before, if nothing was written.

    On an iCE40 with up to 16,384 words these are SB_SPRAM256KA cells, whose words are anything at power-on; elsewhere
    they are zero. ``depth``: a power of two.
    """

    def __init__(self, *, width: int, depth: int) -> None:
        if width < 1 or depth < 2 or depth & (depth - 1):
            raise ValueError(f"width={width}, depth={depth} is not possible: a bit or more, a power of two of words")
        self._depth = depth
        super().__init__(
            {
                "address": In(range(depth)),
                "write": In(1),
                "write_data": In(width),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The cells, side by side, or a memory."""
        m = Module()
        if is_ice40(platform) and self._depth <= _SPRAM_WORDS:
            for low in range(0, len(self.read_data), _SPRAM_BITS):
                part = slice(low, low + _SPRAM_BITS)
                data = Signal(_SPRAM_BITS, name=f"data{low}")
                m.d.comb += self.read_data[part].eq(data)
                m.submodules[f"cell{low // _SPRAM_BITS}"] = self._spram(self.write_data[part], data)
            return m
        m.submodules.words = words = memory.Memory(
            shape=len(self.read_data), depth=self._depth, init=[], attrs=NO_COLLISIONS
        )
        writer, reader = words.write_port(), words.read_port()
        m.d.comb += [
            reader.addr.eq(self.address),
            self.read_data.eq(reader.data),
            writer.addr.eq(self.address),
            writer.data.eq(self.write_data),
            writer.en.eq(self.write),
        ]
        return m

    def _spram(self, given: Value, data: Signal) -> Instance:
        high, low = Const(1), Const(0)
        return Instance(
            "SB_SPRAM256KA",
            i_ADDRESS=Cat(self.address, Const(0, 14))[:14],
            i_DATAIN=Cat(given, Const(0, _SPRAM_BITS))[:_SPRAM_BITS],
            i_MASKWREN=Const(0b1111, 4),
            i_WREN=self.write,
            i_CHIPSELECT=high,
            i_CLOCK=ClockSignal(),
            i_STANDBY=low,
            i_SLEEP=low,
            i_POWEROFF=high,
            o_DATAOUT=data,
        )
