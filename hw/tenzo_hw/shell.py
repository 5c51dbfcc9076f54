"""The shell: the machine behind a serial line, with its lights. It knows no board: that gives it pins and a clock."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .lights import Lights
from .machine import Machine
from .uart import UartReceiver, UartTransmitter, check_line


class Shell(wiring.Component):
    """A machine on the pins ``rx`` and ``tx`` of a serial line of ``baud``, in a clock of ``clock_hz``.

    Lights, high when lit: ``alive`` blinks once a second while there is a clock; ``busy`` is lit while a run goes on;
    ``error`` is lit from a run that stopped at a fault, other than by the host's ABORT, to the start of the next one,
    and for a moment when the line lost a byte by a wrong stop bit or an overrun.

    Raises ``ValueError`` as ``check_line`` does.
    """

    def __init__(self, config: Config, *, clock_hz: int, baud: int) -> None:
        check_line(clock_hz=clock_hz, baud=baud)
        self._config, self._clock_hz, self._baud = config, clock_hz, baud
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "alive": Out(1), "busy": Out(1), "error": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Line, machine and lights."""
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(clock_hz=self._clock_hz, baud=self._baud)
        m.submodules.transmitter = transmitter = UartTransmitter(clock_hz=self._clock_hz, baud=self._baud)
        m.submodules.machine = machine = Machine(self._config)
        m.submodules.lights = lights = Lights(clock_hz=self._clock_hz)
        wiring.connect(m, receiver.o, machine.rx)
        wiring.connect(m, machine.tx, transmitter.i)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            lights.running.eq(machine.running),
            lights.failed.eq(machine.failed),
            lights.lost.eq(receiver.framing | receiver.overrun),
            self.alive.eq(lights.alive),
            self.busy.eq(lights.busy),
            self.error.eq(lights.error),
        ]
        return m
