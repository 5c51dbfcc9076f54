"""Clock and reset of an ECP5: its PLL, and its global set/reset, which costs no routing."""

from __future__ import annotations

from fractions import Fraction

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, Signal
from amaranth.lib import io

from .pll import Dividers, fastest

#: Limits of EHXPLLL (Lattice FPGA-TN-02200 and FPGA-DS-02012): phase detector, oscillator and output in Hz.
_DETECTOR = (3_125_000, 400_000_000)
_OSCILLATOR = (400_000_000, 800_000_000)
_CLOCKS = (3_125_000, 400_000_000)
_DIVIDERS = range(1, 129)


class Ecp5Clock(Elaboratable):
    """Drives ``domain``, the domain ``sync``, from the platform's clock pin through a PLL with these dividers.

    All registers are held at their initial values by the chip's global set/reset until the PLL has locked. nextpnr
    derives its constraint from that of the pin.
    """

    def __init__(self, dividers: Dividers) -> None:
        self._dividers = dividers
        self.domain = ClockDomain("sync", reset_less=True)

    @staticmethod
    def dividers(*, input_hz: int, hz: int) -> Dividers:
        """Those for ``hz`` or little less. Raises ``ValueError`` with the nearest frequencies when there are none."""
        settings = (
            # Fed back from the output: it is the input times feedback over reference.
            Dividers(input_hz, out, out * output, (reference, feedback, output))
            for reference in _DIVIDERS
            if _DETECTOR[0] <= input_hz / reference <= _DETECTOR[1]
            for feedback in _DIVIDERS
            if (out := Fraction(input_hz * feedback, reference)) <= hz
            for output in _DIVIDERS
        )
        return fastest(settings, hz=hz, oscillator=_OSCILLATOR, clock=_CLOCKS)

    def elaborate(self, platform: object) -> Module:
        """Pin, PLL and reset."""
        m = Module()
        reference, feedback, output = self._dividers.values
        m.submodules.pin = pin = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
        clock, locked, steady, release = Signal(), Signal(), Signal(), Signal()
        m.submodules.pll = Instance(
            "EHXPLLL",
            # Analogue settings that fit these dividers, as ecppll of Project Trellis gives them.
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC",
            p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=reference,
            p_CLKFB_DIV=feedback,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=output,
            p_CLKOP_CPHASE=output // 2,
            p_CLKOP_FPHASE=0,
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=pin.i,
            i_CLKFB=clock,
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=Const(1),
            i_PHASESTEP=Const(1),
            i_PHASELOADREG=Const(1),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            o_CLKOP=clock,
            o_LOCK=locked,
        )
        # Two registers that the global reset leaves alone bring "locked" into the clock that it releases.
        for name, given, taken in (("first", locked, steady), ("second", steady, release)):
            m.submodules[name] = Instance("FD1S3AX", p_GSR="DISABLED", i_CK=clock, i_D=given, o_Q=taken)
        m.submodules.reset = Instance("SGSR", i_CLK=clock, i_GSR=release)
        m.d.comb += ClockSignal("sync").eq(clock)
        return m
