"""Clock and reset of an iCE40 UltraPlus: the PLL at its clock pin, and the wait that its block RAMs need."""

from __future__ import annotations

from fractions import Fraction

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out

from .pll import Dividers, fastest

#: Limits of SB_PLL40 (Lattice FPGA-TN-02052 and FPGA-DS-02008): phase detector, oscillator and output in Hz.
_DETECTOR = (10_000_000, 133_000_000)
_OSCILLATOR = (533_000_000, 1_066_000_000)
_CLOCKS = (16_000_000, 275_000_000)
#: Upper ends in Hz of the loop filter's ranges 1, 2, ... by the frequency of the phase detector, as icepll has them.
_FILTERS = (17_000_000, 26_000_000, 44_000_000, 66_000_000, 101_000_000, 133_000_000)
#: Block RAMs read as zeros for about 3 µs after configuration; five times that, as Amaranth waits.
_POWER_ON = Fraction(15, 1_000_000)


class PowerOn(wiring.Component):
    """``ready``, in step with ``clock``, is high from ``cycles`` after ``locked`` until that falls."""

    def __init__(self, *, cycles: int) -> None:
        if cycles < 1:
            raise ValueError(f"cycles={cycles} is not possible: 1 or more")
        self._cycles = cycles
        super().__init__({"clock": In(1), "locked": In(1), "ready": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """A counter that a missing lock resets at once."""
        m = Module()
        m.domains.locked = ClockDomain(local=True)
        m.submodules.lock = ResetSynchronizer(~self.locked, domain="locked")
        elapsed = Signal(range(self._cycles + 1))
        m.d.comb += [ClockSignal("locked").eq(self.clock), self.ready.eq(elapsed == self._cycles)]
        with m.If(~self.ready):
            m.d.locked += elapsed.eq(elapsed + 1)
        return m


class Ice40Clock(Elaboratable):
    """Drives ``domain``, the domain ``sync``, from the platform's clock pin through a PLL with these dividers.

    Reset until the PLL has locked and 15 µs have gone by. nextpnr derives its constraint from that of the pin.
    """

    def __init__(self, dividers: Dividers) -> None:
        self._dividers = dividers
        self.domain = ClockDomain("sync")
        detector = dividers.input_hz / (dividers.values[0] + 1)
        self._filter = next(number for number, end in enumerate(_FILTERS, 1) if detector <= end)

    @staticmethod
    def dividers(*, input_hz: int, hz: int) -> Dividers:
        """Those for ``hz`` or little less. Raises ``ValueError`` with the nearest frequencies when there are none."""
        settings = (
            Dividers(input_hz, oscillator / 2**output, oscillator, (reference, feedback, output))
            for reference in range(16)
            if _DETECTOR[0] <= input_hz / (reference + 1) <= _DETECTOR[1]
            for feedback in range(128)
            for output in range(1, 7)
            if (oscillator := Fraction(input_hz * (feedback + 1), reference + 1))
        )
        return fastest(settings, hz=hz, oscillator=_OSCILLATOR, clock=_CLOCKS)

    def elaborate(self, platform: object) -> Module:
        """PLL, wait and reset."""
        m = Module()
        reference, feedback, output = self._dividers.values
        clock, locked = Signal(), Signal()
        m.submodules.pll = Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE",
            p_DIVR=Const(reference, 4),
            p_DIVF=Const(feedback, 7),
            p_DIVQ=Const(output, 3),
            p_FILTER_RANGE=Const(self._filter, 3),
            i_PACKAGEPIN=platform.request(platform.default_clk, dir="-").io,
            i_RESETB=Const(1),
            i_BYPASS=Const(0),
            o_PLLOUTGLOBAL=clock,
            o_LOCK=locked,
        )
        m.submodules.power_on = power_on = PowerOn(cycles=round(_POWER_ON * self._dividers.hz))
        m.d.comb += [
            power_on.clock.eq(clock),
            power_on.locked.eq(locked),
            ClockSignal("sync").eq(clock),
            ResetSignal("sync").eq(~power_on.ready),
        ]
        return m
