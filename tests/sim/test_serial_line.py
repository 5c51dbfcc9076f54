"""The whole shell bit by bit: the driver at the other end of a serial line, at any baud that is allowed."""

from __future__ import annotations

import numpy as np
import pytest
from tenzo.device import Device
from tenzo.errors import RunFailed
from tenzo_hw.config import preset
from tenzo_hw.isa import Batch, Halt
from tenzo_hw.protocol import BAUD, BIT_CYCLES, Kind, Register, Space
from tenzo_sim.verilated import SimTransport, VerilatedShell

# One worker builds the shell, the others need not.
pytestmark = pytest.mark.xdist_group("shell")

CONFIG = preset("tiny")
BIT = BIT_CYCLES
BYTE = 10 * BIT
#: What the receiver tolerates with so few cycles a bit.
TOLERANCE = 0.039


def connect(shell: VerilatedShell, **options: float) -> Device:
    return Device(SimTransport(CONFIG, machine=shell), expected=CONFIG, **options)


def talk(device: Device, random: np.random.Generator) -> None:
    """Writes of every length and element, many of them at once, and zeros that take longer to write than to send."""
    for _ in range(2):
        for space, words, high in (
            (Space.MASTER, 256, 1 << 23),
            (Space.MOMENTUM, 256, 1 << 15),
            (Space.BATCH, 256, 100),
        ):
            values = random.integers(-high, high, words) * (random.random(words) < random.choice([0.1, 0.5, 1]))
            device.write(space, 0, values)
            if space != Space.BATCH:
                assert np.array_equal(device.read(space, 0, words), values)
        # A whole memory of zeros is eight bytes.
        (zeros,) = device._writes(Space.PROGRAM, 0, np.zeros(CONFIG.program_depth))
        device._connection.exchange(Kind.WRITE, [zeros] * 40)


@pytest.mark.parametrize("offset", [-0.95 * TOLERANCE, 0, 0.95 * TOLERANCE])
def test_the_line_never_overruns(offset: float) -> None:
    shell = VerilatedShell(CONFIG, offset=offset, seed=5)
    with connect(shell) as device:
        talk(device, np.random.default_rng(5))
        assert device.recovered == 0
        assert device.read_register(Register.BAD_FRAMES) == 0
        assert not shell.lights.error


def test_wrong_bits_are_recovered() -> None:
    shell = VerilatedShell(CONFIG, flips=3e-4, seed=1)
    with connect(shell, timeout_s=0.05, attempts=50) as device:
        talk(device, np.random.default_rng(1))
        assert device.recovered > 0


def test_wrong_bits_are_those_of_their_seed() -> None:
    counts = set()
    for _ in range(2):
        shell = VerilatedShell(CONFIG, flips=1e-3, seed=3)
        shell.write(bytes(500))
        shell.run(500 * BYTE)
        counts.add(shell.flipped)
        shell.close()
    assert len(counts) == 1
    assert counts.pop() > 0


def test_a_cable_pulled_in_a_packet_is_recovered_when_it_is_back() -> None:
    shell = VerilatedShell(CONFIG)
    with connect(shell, timeout_s=0.02) as device:
        masters = np.arange(CONFIG.weight_rows * CONFIG.columns).reshape(CONFIG.weight_rows, CONFIG.columns)
        device.write_masters(masters)
        read = shell.read

        def pull() -> bytes:
            # In the midst of an answer, for longer than a time-out.
            shell.read = read
            shell.connect(False)
            shell.run(30_000)
            shell.connect(True)
            return read()[:-3]

        shell.read = pull
        assert np.array_equal(device.read_masters(), masters)
        assert device.recovered > 0


def test_the_lights_tell_the_run() -> None:
    shell = VerilatedShell(CONFIG)
    with connect(shell) as device:
        device.load_program([Batch(), Halt()])
        device.run()
        device.pause()
        assert (shell.lights.busy, shell.lights.error) == (True, False)
        device.abort()
        device.pause()
        assert (shell.lights.busy, shell.lights.error) == (False, False)
        # An unknown opcode, which the driver would not send as a program.
        device.write(Space.PROGRAM, 0, np.array([0x3F]))
        device.run()
        with pytest.raises(RunFailed, match="OPCODE"):
            device.wait()
        assert (shell.lights.busy, shell.lights.error) == (False, True)
        device.load_program([Halt()])
        device.run()
        device.wait()
        assert (shell.lights.busy, shell.lights.error) == (False, False)


def test_a_line_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="cycles a bit"):
        VerilatedShell(CONFIG, clock_hz=BIT_CYCLES * BAUD - 1)
    with pytest.raises(ValueError, match="flips=1"):
        VerilatedShell(CONFIG, flips=1)
