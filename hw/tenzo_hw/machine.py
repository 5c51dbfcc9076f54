"""The machine: the core behind its link. It knows no board: a shell gives it bytes and a clock."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .core import Core
from .link import Link
from .protocol import Fault, State
from .serial.core import SerialCore


def core_of(config: Config) -> Core | SerialCore:
    """The core of a machine."""
    return SerialCore(config) if config.is_serial else Core(config)


class Machine(wiring.Component):
    """Bytes in, bytes out: the host protocol of docs/machine.md on two byte streams.

    For lights: ``running`` is high while a run goes on, ``failed`` from one that stopped at a fault, other than by the
    host's ABORT, to the next.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "running": Out(1),
                "failed": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Link and core."""
        m = Module()
        m.submodules.link = link = Link(self.config)
        m.submodules.core = core = core_of(self.config)
        if isinstance(core, SerialCore):
            # What comes before it is ready waits, or a serial line loses it and the host repeats it.
            m.d.comb += [
                link.rx.payload.eq(self.rx.payload),
                link.rx.valid.eq(self.rx.valid & core.ready),
                self.rx.ready.eq(link.rx.ready & core.ready),
            ]
        else:
            wiring.connect(m, wiring.flipped(self.rx), link.rx)
        wiring.connect(m, link.tx, wiring.flipped(self.tx))
        wiring.connect(m, link.host, core.host)
        wiring.connect(m, link.control, core.control)
        m.d.comb += [
            self.running.eq(core.control.state == State.RUNNING),
            self.failed.eq((core.control.state == State.FAILED) & (core.control.fault != Fault.ABORTED)),
        ]
        return m
