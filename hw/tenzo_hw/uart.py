"""Serial line: bytes from and to bits, 8 data bits, no parity, one stop bit, lowest bit first.

A bit is clock_hz / baud cycles, which need not be whole: a phase accumulator keeps the mean exact to ``PHASE_BITS``.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from .protocol import BIT_CYCLES

#: Bits of the phase accumulator below the cycles of a bit: the baud is right to one part in 2,000.
PHASE_BITS = 10
DATA_BITS = 8


def check_line(*, clock_hz: int, baud: int) -> None:
    """Raises ``ValueError`` when this clock is too slow for this baud: a bit must take at least ``BIT_CYCLES``."""
    for name, value in (("clock_hz", clock_hz), ("baud", baud)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}={value!r} is not possible: it must be a whole number of at least 1")
    if clock_hz < BIT_CYCLES * baud:
        raise ValueError(
            f"a clock of {clock_hz:,} Hz is {clock_hz / baud:.2f} cycles a bit at {baud:,} baud: at least {BIT_CYCLES} "
            f"are needed, so take at most {clock_hz // BIT_CYCLES:,} baud or a clock of {BIT_CYCLES * baud:,} Hz"
        )


class _BitClock(wiring.Component):
    """Strobes ``tick`` once a bit. ``restart`` makes the first tick come a bit later, ``middle`` half a bit later."""

    def __init__(self, *, clock_hz: int, baud: int) -> None:
        self._width = (clock_hz // baud).bit_length() + PHASE_BITS
        self._step = round((1 << self._width) * baud / clock_hz)
        super().__init__({"restart": In(1), "middle": In(1), "tick": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """The accumulator: its carry is the tick."""
        m = Module()
        phase = Signal(self._width)
        following = Signal(self._width)
        m.d.comb += Cat(following, self.tick).eq(phase + self._step)
        m.d.sync += phase.eq(following)
        # The edge came up to a cycle before it was seen: a step ahead puts the samples around the middle of their bits.
        with m.If(self.middle):
            m.d.sync += phase.eq((1 << self._width - 1) + self._step)
        with m.Elif(self.restart):
            m.d.sync += phase.eq(0)
        return m


class UartReceiver(wiring.Component):
    """Bytes from the asynchronous pin ``rx``, each offered half a bit before its stop bit ends.

    A line that is low for less than half a bit starts no byte, and a single wrong sample anywhere is outvoted by its
    neighbours. A byte without its stop bit is dropped with the strobe ``framing``, and the next one starts after the
    line was high: a break, or a cable that is not there, gives no bytes. A byte that comes while the one before still
    waits is dropped with the strobe ``overrun``.

    Samples lie within a cycle of the middle of their bits, so the other side's baud may be off by up to
    (1/2 - baud / clock_hz) / 9.5: 3.9 % with 8 cycles a bit, 5 % with many.

    Raises ``ValueError`` as ``check_line`` does.
    """

    def __init__(self, *, clock_hz: int, baud: int) -> None:
        check_line(clock_hz=clock_hz, baud=baud)
        self._clock_hz, self._baud = clock_hz, baud
        super().__init__(
            {
                "rx": In(1, init=1),
                "o": Out(stream.Signature(DATA_BITS)),
                "overrun": Out(1),
                "framing": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Synchroniser, majority of three samples, and the states of a byte."""
        m = Module()
        m.submodules.bits = bits = _BitClock(clock_hz=self._clock_hz, baud=self._baud)
        sample = Signal(init=1)
        m.submodules.synchroniser = FFSynchronizer(self.rx, sample, init=1)
        earlier = Signal(2, init=0b11)
        line = Signal(init=1)
        m.d.sync += earlier.eq(Cat(sample, earlier))
        m.d.comb += line.eq(sample & earlier.any() | earlier.all())

        byte = Signal(DATA_BITS)
        index = Signal(range(DATA_BITS))
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += bits.middle.eq(~line)
                with m.If(~line):
                    m.next = "START"
            with m.State("START"), m.If(bits.tick):
                m.next = "DATA"
                with m.If(line):
                    m.next = "IDLE"
            with m.State("DATA"), m.If(bits.tick):
                m.d.sync += [byte.eq(Cat(byte[1:], line)), index.eq(index + 1)]
                with m.If(index == DATA_BITS - 1):
                    m.next = "STOP"
            with m.State("STOP"), m.If(bits.tick):
                m.next = "IDLE"
                with m.If(~line):
                    m.d.comb += self.framing.eq(1)
                    m.next = "BREAK"
                with m.Elif(self.o.valid & ~self.o.ready):
                    m.d.comb += self.overrun.eq(1)
                with m.Else():
                    m.d.sync += [self.o.payload.eq(byte), self.o.valid.eq(1)]
            with m.State("BREAK"), m.If(line):
                m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Sends bytes on ``tx``; a byte takes ten bits and one cycle.

    Raises ``ValueError`` as ``check_line`` does.
    """

    def __init__(self, *, clock_hz: int, baud: int) -> None:
        check_line(clock_hz=clock_hz, baud=baud)
        self._clock_hz, self._baud = clock_hz, baud
        super().__init__({"i": In(stream.Signature(DATA_BITS)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        """A shift register of start bit, byte and stop bit; what follows it is an idle line."""
        m = Module()
        m.submodules.bits = bits = _BitClock(clock_hz=self._clock_hz, baud=self._baud)
        rest = Signal(DATA_BITS + 1, init=-1)
        left = Signal(range(1 + DATA_BITS + 1 + 1))
        m.d.comb += [self.i.ready.eq(left == 0), bits.restart.eq(left == 0)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [Cat(self.tx, rest).eq(Cat(0, self.i.payload, 1)), left.eq(1 + DATA_BITS + 1)]
        with m.Elif(bits.tick & (left != 0)):
            m.d.sync += [Cat(self.tx, rest).eq(Cat(rest, 1)), left.eq(left - 1)]
        return m
