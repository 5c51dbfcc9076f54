"""What goes between the link and the core: the host's reads and writes, and the control of runs."""

from __future__ import annotations

from amaranth.hdl import signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .batch import HALVES
from .protocol import Fault, Space, State


class HostBus(wiring.Signature):
    """The host's reads and writes of memory words, seen from the link.

    ``write`` stores ``data`` at ``address`` of ``space``. ``read_data`` is the word at ``address``, sign-extended,
    ``host_read_latency`` cycles after ``space`` and ``address`` are stable; reads need a machine without a run.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "space": Out(Space),
                "address": Out(32),
                "write": Out(1),
                "data": Out(signed(32)),
                "read_data": In(32),
            }
        )


class CoreControl(wiring.Signature):
    """Strobes and status of runs and batch halves, seen from the link; they mean what the packets of that name do."""

    def __init__(self) -> None:
        super().__init__(
            {
                "run": Out(1),
                "pc": Out(16),
                "repeat": Out(32),
                "abort": Out(1),
                "commit": Out(1),
                "state": In(State),
                "fault": In(Fault),
                "current_pc": In(16),
                "free_halves": In(range(HALVES + 1)),
                "cycles": In(64),
                "waits": In(64),
                "steps": In(32),
            }
        )
