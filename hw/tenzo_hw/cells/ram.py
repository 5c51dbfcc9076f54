"""A memory with a write port and a read port that reads in one cycle."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..collisions import NO_COLLISIONS


class Ram(wiring.Component):
    """``depth`` words of ``width`` bits, at first ``init`` and zeros; ``read_data`` is that of the last ``read``.

    A word must not be read in the cycle in which it is written: what is read then is anybody's guess. ``writable``
    False leaves the write port out.

    The read port is one without a clock and a register behind it: Yosys makes one of a block RAM of them, and only then
    believes that collisions do not matter. It would spend a comparator and registers on them otherwise.
    """

    def __init__(self, *, width: int, depth: int, init: Sequence[int] = (), writable: bool = True) -> None:
        if width < 1 or depth < 2:
            raise ValueError(f"width={width}, depth={depth} is not possible: a bit or more, two words or more")
        self._depth = depth
        self._init = init
        self._writable = writable
        write = {"write": In(1), "write_address": In(range(depth)), "write_data": In(width)}
        super().__init__(
            {
                "read": In(1, init=1),
                "read_address": In(range(depth)),
                "read_data": Out(width),
                **(write if writable else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The memory and its register."""
        m = Module()
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
