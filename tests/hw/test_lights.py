"""The lights in Amaranth's simulator."""

from amaranth.sim import Simulator
from tenzo_hw.lights import Lights

CLOCK_HZ = 40


def watch(drive, cycles):
    """Values of alive, busy and error in each of so many cycles; ``drive(ctx, dut, cycle)`` sets the inputs."""
    dut = Lights(clock_hz=CLOCK_HZ)
    seen = []

    async def bench(ctx):
        for cycle in range(cycles):
            drive(ctx, dut, cycle)
            *_, alive, busy, error = await ctx.tick().sample(dut.alive, dut.busy, dut.error)
            seen.append((alive, busy, error))

    simulator = Simulator(dut)
    simulator.add_clock(1 / CLOCK_HZ)
    simulator.add_testbench(bench)
    simulator.run()
    return zip(*seen, strict=True)


def test_alive_blinks_once_a_second():
    alive, busy, error = watch(lambda ctx, dut, cycle: None, 5 * CLOCK_HZ)
    half = CLOCK_HZ // 2
    assert list(alive) == [cycle // half % 2 for cycle in range(5 * CLOCK_HZ)]
    assert not any(busy)
    assert not any(error)


def test_busy_and_error_follow_the_run():
    def drive(ctx, dut, cycle):
        ctx.set(dut.running, cycle % 7 < 3)
        ctx.set(dut.failed, cycle % 11 < 4)

    _, busy, error = watch(drive, 100)
    assert list(busy) == [0, *(cycle % 7 < 3 for cycle in range(99))]
    assert list(error) == [0, *(cycle % 11 < 4 for cycle in range(99))]


def test_a_lost_byte_is_shown_long_enough_to_be_seen():
    for moment in range(CLOCK_HZ):
        *_, error = watch(lambda ctx, dut, cycle, moment=moment: ctx.set(dut.lost, cycle == moment), 4 * CLOCK_HZ)
        first, lit = error.index(1), sum(error)
        assert moment < first <= moment + 3
        assert all(error[first : first + lit])
        assert CLOCK_HZ // 2 <= lit <= CLOCK_HZ
