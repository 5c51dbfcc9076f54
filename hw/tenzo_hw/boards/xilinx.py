"""Clock and reset of a Xilinx 7-series chip."""

from __future__ import annotations

from fractions import Fraction

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from .pll import Dividers, fastest

#: Limits of PLLE2 that all speed grades of Artix-7 keep (Xilinx DS181): phase detector, oscillator and output in Hz.
_DETECTOR = (19_000_000, 450_000_000)
_OSCILLATOR = (800_000_000, 1_600_000_000)
_CLOCKS = (6_250_000, 464_000_000)


class XilinxClock(Elaboratable):
    """Drives ``domain``, the domain ``sync``, from the platform's clock pin through a PLL with these dividers.

    Reset until the PLL has locked, and by the board's button. Vivado derives its constraint from that of the pin.
    """

    def __init__(self, dividers: Dividers) -> None:
        self._dividers = dividers
        self.domain = ClockDomain("sync")

    @staticmethod
    def dividers(*, input_hz: int, hz: int) -> Dividers:
        """Those for ``hz`` or little less. Raises ``ValueError`` with the nearest frequencies when there are none."""
        settings = (
            Dividers(input_hz, oscillator / output, oscillator, (reference, feedback, output))
            for reference in range(1, 57)
            if _DETECTOR[0] <= input_hz / reference <= _DETECTOR[1]
            for feedback in range(2, 65)
            for output in range(1, 129)
            if (oscillator := Fraction(input_hz * feedback, reference))
        )
        return fastest(settings, hz=hz, oscillator=_OSCILLATOR, clock=_CLOCKS)

    def elaborate(self, platform: object) -> Module:
        """Pins, PLL and reset."""
        m = Module()
        reference, feedback, output = self._dividers.values
        m.submodules.pin = pin = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
        m.submodules.button = button = io.Buffer("i", platform.request(platform.default_rst, dir="-"))
        loop, made, clock, locked = Signal(), Signal(), Signal(), Signal()
        m.submodules.pll = Instance(
            "PLLE2_BASE",
            p_CLKIN1_PERIOD=1e9 / self._dividers.input_hz,
            p_DIVCLK_DIVIDE=reference,
            p_CLKFBOUT_MULT=feedback,
            p_CLKOUT0_DIVIDE=output,
            i_CLKIN1=pin.i,
            i_CLKFBIN=loop,
            i_RST=Const(0),
            i_PWRDWN=Const(0),
            o_CLKFBOUT=loop,
            o_CLKOUT0=made,
            o_LOCKED=locked,
        )
        m.submodules.net = Instance("BUFG", i_I=made, o_O=clock)
        m.d.comb += ClockSignal("sync").eq(clock)
        m.submodules.reset = ResetSynchronizer(~locked | button.i, domain="sync")
        return m
