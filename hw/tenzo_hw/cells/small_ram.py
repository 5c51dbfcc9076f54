"""A few words: one block RAM of an iCE40 and nothing beside it."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..collisions import NO_COLLISIONS
from .family import is_ice40

#: Words of an SB_RAM40_4K in its widest mode, and their bits.
_DEPTH = 256
_WIDTH = 16


class SmallRam(wiring.Component):
    """``depth`` words of ``width`` bits, at first zeros; ``read_data`` is that of ``read_address`` a cycle before.

    A word must not be read in the cycle in which it is written. What is read first, before any address, is undefined on
    an iCE40: Yosys would spend a LUT a bit so that it is 0, as the register of the twin is.
    """

    def __init__(self, *, width: int, depth: int) -> None:
        if not (1 <= width <= _WIDTH and 2 <= depth <= _DEPTH):
            raise ValueError(
                f"width={width}, depth={depth} is not possible: at most {_WIDTH} bits, 2 to {_DEPTH} words"
            )
        self._depth = depth
        super().__init__(
            {
                "read_address": In(range(depth)),
                "read_data": Out(width),
                "write": In(1),
                "write_address": In(range(depth)),
                "write_data": In(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The block RAM, or its twin."""
        m = Module()
        width = len(self.read_data)
        if is_ice40(platform):
            zeros, none = Const(0, _DEPTH), Const(0, _WIDTH)
            word, written = Signal(_WIDTH), Signal(_WIDTH)
            addresses = len(self.read_address)
            m.d.comb += [self.read_data.eq(word), written.eq(self.write_data)]
            m.submodules.cell = Instance(
                "SB_RAM40_4K",
                p_READ_MODE=Const(0, 2),
                p_WRITE_MODE=Const(0, 2),
                **{f"p_INIT_{row:X}": zeros for row in range(_DEPTH * _WIDTH // len(zeros))},
                i_RCLK=ClockSignal(),
                i_RCLKE=Const(1, 1),
                i_RE=Const(1, 1),
                i_RADDR=Cat(self.read_address, Const(0, 11 - addresses)),
                i_WCLK=ClockSignal(),
                i_WCLKE=self.write,
                i_WE=Const(1, 1),
                i_WADDR=Cat(self.write_address, Const(0, 11 - addresses)),
                i_MASK=none,
                i_WDATA=written,
                o_RDATA=word,
            )
            return m
        m.submodules.words = words = Memory(shape=width, depth=self._depth, init=[], attrs=NO_COLLISIONS)
        reader, writer = words.read_port(domain="comb"), words.write_port()
        data = Signal(width, reset_less=True)
        m.d.comb += [
            writer.en.eq(self.write),
            writer.addr.eq(self.write_address),
            writer.data.eq(self.write_data),
            reader.addr.eq(self.read_address),
            self.read_data.eq(data),
        ]
        m.d.sync += data.eq(reader.data)
        return m
