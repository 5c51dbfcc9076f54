"""The catalogue of boards, their clocks, and what a host reads of them without Amaranth."""

import subprocess
import sys
from fractions import Fraction

import pytest
import tenzo_hw.boards.top
from amaranth.hdl import Fragment
from amaranth.sim import Simulator
from tenzo_hw.boards import BOARDS, board
from tenzo_hw.boards.ecp5 import Ecp5Clock
from tenzo_hw.boards.gowin import GowinClock
from tenzo_hw.boards.ice40 import Ice40Clock, PowerOn
from tenzo_hw.boards.xilinx import XilinxClock
from tenzo_hw.build.plan import plan
from tenzo_hw.config import PRESETS
from tenzo_hw.shell import Shell


def test_a_host_reads_the_boards_without_amaranth() -> None:
    code = (
        "import sys, tenzo_hw.boards, tenzo_hw.boards.measured, tenzo_hw.boards.estimate, tenzo_hw.build, tenzo.cli;"
        "sys.exit('amaranth' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_unknown_board_lists_all() -> None:
    with pytest.raises(ValueError, match="no board 'ulx4s'; there are ulx3s_12f, ulx3s_25f, ulx3s_85f, icebreaker"):
        board("ulx4s")


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="no preset 'huge'"):
        BOARDS["icebreaker"].changed(preset="huge")


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_has_its_pins_and_its_clock(name: str) -> None:
    board = BOARDS[name]
    planned = plan(board)
    assert 0.95 * board.clock_mhz <= planned.clock_hz / 1e6 <= board.clock_mhz
    pins = "".join(
        path.read_text() for path in planned.inputs() if path.suffix in (".lpf", ".pcf", ".cst", ".xdc", ".sdc")
    )
    for pin in ("uart_0__rx", "uart_0__tx", *(f"{resource}_{number}" for resource, number in board.lights.values())):
        assert pin in pins
    # A clock is constrained: the pin's where the tool knows the PLL, else the PLL's output.
    assert any(word in pins for word in ("FREQUENCY", "set_frequency", "create_clock"))


def test_a_board_carries_the_whole_machine(monkeypatch) -> None:
    monkeypatch.setattr(tenzo_hw.boards.top, "Shell", Shell)
    design = (plan(BOARDS["tang_nano_9k"].changed(preset="tiny")).folder / "tenzo.il").read_text()
    lanes = [f"\\tenzo.shell.machine.core.engine.lane{lane}\n" in design for lane in range(3)]
    assert lanes == [True] * PRESETS["tiny"].lanes + [False]
    assert "cell \\rPLL" in design


def test_the_board_brings_its_constraints() -> None:
    lpf = (plan(BOARDS["ulx3s_12f"]).folder / "tenzo.lpf").read_text()
    assert "SYSCONFIG" in lpf
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ' in lpf


CLOCKS = [
    # Reference, feedback and output divider to the output's and the oscillator's frequency; the latter's limits in MHz.
    (Ecp5Clock, 25, lambda f, r, m, o: (f * m / r, f * m / r * o), (400, 800), (25, 212)),
    (Ice40Clock, 12, lambda f, r, m, o: (f * (m + 1) / (r + 1) / 2**o, f * (m + 1) / (r + 1)), (533, 1066), (17, 120)),
    (GowinClock, 27, lambda f, r, m, o: (f * (m + 1) / (r + 1), f * (m + 1) / (r + 1) * o), (500, 1200), (27, 150)),
    (XilinxClock, 100, lambda f, r, m, o: (f * m / r / o, f * m / r), (800, 1600), (20, 300)),
]


@pytest.mark.parametrize(("kind", "input_mhz", "made", "oscillator", "range_"), CLOCKS)
@pytest.mark.parametrize("place", [Fraction(0), Fraction(1, 7), Fraction(1, 3), Fraction(1, 2), Fraction(6, 7)])
def test_a_pll_stays_in_its_limits_and_is_never_too_fast(kind, input_mhz, made, oscillator, range_, place) -> None:
    hz = round((range_[0] + (range_[1] - range_[0]) * place) * 10**6)
    dividers = kind.dividers(input_hz=input_mhz * 10**6, hz=hz)
    out, inside = made(Fraction(input_mhz), *dividers.values)
    assert dividers.hz == out * 10**6
    assert 0.95 * hz <= dividers.hz <= hz
    assert oscillator[0] <= inside <= oscillator[1]


def test_a_clock_that_no_pll_makes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"makes no clock of 3 MHz: 3\.125 to 400 MHz"):
        Ecp5Clock.dividers(input_hz=25_000_000, hz=3_000_000)


def test_power_on_waits_after_every_lock() -> None:
    """Block RAMs of an iCE40 read as zeros at first: reset lasts 15 µs longer than the PLL takes."""
    cycles = 20
    power_on = PowerOn(cycles=cycles)
    simulator = Simulator(Fragment.get(power_on, None))
    ready: list[int] = []

    async def bench(context) -> None:
        async def turns(count: int) -> None:
            for _ in range(count):
                await context.delay(1e-8)
                context.set(power_on.clock, 1)
                await context.delay(1e-8)
                context.set(power_on.clock, 0)
                ready.append(context.get(power_on.ready))

        await turns(5)
        context.set(power_on.locked, 1)
        await turns(cycles + 10)
        context.set(power_on.locked, 0)
        await turns(5)
        context.set(power_on.locked, 1)
        await turns(cycles + 10)

    simulator.add_testbench(bench)
    simulator.run()
    first, second = ready[: cycles + 15], ready[cycles + 15 :]
    assert not any(first[: 5 + cycles])
    assert all(first[5 + cycles + 4 :])
    assert not any(second[1 : 5 + cycles])
    assert all(second[5 + cycles + 4 :])
