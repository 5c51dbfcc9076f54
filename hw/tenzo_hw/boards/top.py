"""The top of a board: its clock, its pins, and the shell between them."""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import io

from ..shell import Shell
from ..uart import check_line
from .board import Board
from .ecp5 import Ecp5Clock
from .gowin import GowinClock
from .ice40 import Ice40Clock
from .pll import Dividers
from .xilinx import XilinxClock

CLOCKS = {"ecp5": Ecp5Clock, "ice40": Ice40Clock, "gowin": GowinClock, "xilinx": XilinxClock}
"""PLL and reset by a chip's family."""


def dividers(board: Board, *, input_hz: int) -> Dividers:
    """What the PLL of ``board`` is set to, from a pin with a clock of ``input_hz``.

    Raises ``ValueError`` when it cannot make the board's clock, or that clock is too slow for the serial line.
    """
    found = CLOCKS[board.chip.family].dividers(input_hz=input_hz, hz=round(board.clock_mhz * 1e6))
    check_line(clock_hz=round(found.hz), baud=board.baud)
    return found


class Top(Elaboratable):
    """A shell on a board, in the clock that ``dividers`` gave."""

    def __init__(self, board: Board, dividers: Dividers) -> None:
        self._board = board
        self._clock = CLOCKS[board.chip.family](dividers)
        self._shell = Shell(board.config, clock_hz=round(dividers.hz), baud=board.baud)

    def elaborate(self, platform: object) -> Module:
        """Clock, shell, pins."""
        m = Module()
        m.domains.sync = self._clock.domain
        m.submodules.clock = self._clock
        m.submodules.shell = shell = self._shell
        line = platform.request("uart", dir="-")
        m.submodules.rx = rx = io.Buffer("i", line.rx)
        m.submodules.tx = tx = io.Buffer("o", line.tx)
        m.d.comb += [shell.rx.eq(rx.i), tx.o.eq(shell.tx)]
        for light, (resource, number) in self._board.lights.items():
            m.submodules[light] = pin = io.Buffer("o", platform.request(resource, number, dir="-"))
            m.d.comb += pin.o.eq(getattr(shell, light))
        return m
