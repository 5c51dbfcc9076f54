"""The unchanged driver over pyserial: a pseudo-terminal with a machine behind it, down to the bits of the line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from tenzo.checkpoint import Checkpoint
from tenzo.device import Device
from tenzo.errors import DeviceLost
from tenzo.network import TT, Network, ReLU
from tenzo.packets import Decoder
from tenzo.run import Run
from tenzo.settings import Settings
from tenzo.trainer import Trainer
from tenzo.transport import SerialTransport, Transport, open_transport
from tenzo_hw.config import preset
from tenzo_hw.protocol import Kind
from tenzo_sim.model import ModelTransport
from tenzo_sim.pseudo_terminal import PseudoTerminal
from tenzo_sim.verilated import SimTransport, VerilatedShell

# One worker builds the shell, the others need not.
pytestmark = pytest.mark.xdist_group("shell")

CONFIG = preset("tiny")
SEED = 9
STEPS = 40
#: Looks at something that happens in another thread or process, and the seconds between two of them.
LOOKS, LOOK_S = 600, 0.1


def eventually(condition) -> None:
    for _ in range(LOOKS):
        if condition():
            return
        time.sleep(LOOK_S)
    raise AssertionError("it does not happen")


def train(device: Device, on_batch=None) -> Checkpoint:
    random = np.random.default_rng(SEED)
    x = random.uniform(-1, 1, (64, 4))
    y = (x.sum(axis=1) > 0).astype(np.int64)
    network = Network([TT((2, 2), (2, 4), rank=2), ReLU(), TT((2, 4), (1, 2), rank=2)])
    settings = Settings(queries=4, rate=0.02)
    trainer = Trainer(network, CONFIG, settings, device=device, batch=16, steps=STEPS, seed=SEED)
    trainer.start()
    trainer.train(x, y, on_batch=on_batch)
    return trainer.checkpoint()


def assert_equal(reached: Checkpoint, expected: Checkpoint) -> None:
    """Every word, and the cycles of every run but those in which it waited for the host."""
    for field in fields(Checkpoint):
        ours, theirs = getattr(reached, field.name), getattr(expected, field.name)
        if field.name == "runs":
            ours, theirs = ([(steps, cycles - waits) for steps, cycles, waits in runs] for runs in (ours, theirs))
        assert np.array_equal(ours, theirs), field.name


@pytest.fixture(scope="module")
def expected() -> Checkpoint:
    with Device(ModelTransport(CONFIG)) as model:
        return train(model)


@pytest.mark.parametrize("offset", [0, 0.02])
def test_training_over_the_serial_line_is_training_on_the_model(expected: Checkpoint, offset: float) -> None:
    shell = VerilatedShell(CONFIG, offset=offset)
    with (
        PseudoTerminal(SimTransport(CONFIG, machine=shell)) as line,
        Device(open_transport(f"serial:{line.port}@3000000"), expected=CONFIG) as device,
    ):
        assert_equal(train(device), expected)
    assert shell.cycles > 0


def test_a_port_that_goes_away_in_a_step_comes_back(expected: Checkpoint) -> None:
    with PseudoTerminal(ModelTransport(CONFIG)) as line:
        pulled = []

        def pull(sent: int) -> None:
            if sent % 7 == 0:
                line.unplug()
                pulled.append(sent)
                threading.Timer(0.05, line.plug).start()

        with Device(open_transport(f"serial:{line.port}"), expected=CONFIG, timeout_s=0.1) as device:
            assert_equal(train(device, pull), expected)
            assert device.recovered > 0
        assert len(pulled) == STEPS // 7


def test_a_port_that_stays_away_is_a_lost_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenzo.transport.REOPEN_S", 0.2)
    with PseudoTerminal(ModelTransport(CONFIG)) as line, Device(open_transport(f"serial:{line.port}")) as device:
        line.unplug()
        with pytest.raises(DeviceLost, match="did not come back"):
            device.status()


class Switched(ModelTransport):
    """A machine that can be switched off and on."""

    def restart(self) -> None:
        """It forgets everything."""
        self.__init__(CONFIG)


@pytest.mark.parametrize("what", ["read_masters", "status", "abort"])
def test_a_machine_that_was_switched_off_does_not_go_unnoticed(what: str) -> None:
    machine = Switched(CONFIG)
    with PseudoTerminal(machine) as line, Device(open_transport(f"serial:{line.port}")) as device:
        line.unplug()
        machine.restart()
        line.plug()
        with pytest.raises(DeviceLost, match="switched off"):
            getattr(device, what)()


def test_a_port_has_one_host() -> None:
    with PseudoTerminal(ModelTransport(CONFIG)) as line:
        with Device(open_transport(f"serial:{line.port}")), pytest.raises(ConnectionError, match="cannot be opened"):
            SerialTransport(str(line.port))
        Device(open_transport(f"serial:{line.port}")).close()


class Watched:
    """A transport that keeps the kinds of the packets that are sent, and counts the reads."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.kinds: list[int] = []
        self.reads = 0
        self.decoder = Decoder()

    def write(self, data: bytes) -> None:
        self.kinds += [packet.kind for packet in self.decoder.feed(data)]
        self.inner.write(data)

    def read(self, timeout_s: float | None) -> bytes:
        self.reads += 1
        return self.inner.read(timeout_s)

    def close(self) -> None:
        self.inner.close()


def test_time_stands_still_when_nobody_talks() -> None:
    machine = Watched(ModelTransport(CONFIG))
    with PseudoTerminal(machine) as line:
        with Device(open_transport(f"serial:{line.port}")) as device:
            device.status()
        seen = [-1]

        def still() -> bool:
            seen.append(machine.reads)
            return seen[-1] == seen[-2]

        eventually(still)
        assert machine.reads > 0
    line.close()
    with pytest.raises(ValueError, match="closed"):
        line.plug()


RECIPE = """
name = "killed"
machine = "tiny"
batch = 4
steps = 200

[dataset]
name = "digits"

[network]
layers = [
    { kind = "tt", inputs = [8, 8], outputs = [2, 4], rank = 2 },
    { kind = "relu" },
    { kind = "tt", inputs = [2, 4], outputs = [1, 10], rank = 2 },
]

[settings]
queries = 4
"""


def test_a_host_that_is_killed_is_followed_by_one_that_ends_with_the_same_bits(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    machine = Watched(ModelTransport(CONFIG))
    tenzo = [sys.executable, "-c", "from tenzo.cli import app; app()"]
    # A checkpoint after every chunk, so that there is one to go on from.
    often = [*tenzo[:2], f"import tenzo.run; tenzo.run.CHECKPOINT_S = 0; {tenzo[2]}"]
    with PseudoTerminal(machine) as line:
        device = ["--device", f"serial:{line.port}"]
        host = subprocess.Popen(
            [*often, "train", "--recipe", "recipe.toml", "--run", "run", *device],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: machine.kinds.count(Kind.RUN) >= 5 or host.poll() is not None)
        finally:
            host.send_signal(signal.SIGKILL)
            host.wait()
        assert host.returncode == -signal.SIGKILL
        reached = Checkpoint.load(tmp_path / "run" / "checkpoint.npz")
        assert 0 < reached.step < 200
        environment = os.environ | {"COLUMNS": "80"}
        subprocess.run([*tenzo, "train", "--resume", "run"], cwd=tmp_path, check=True, env=environment)
    comparisons = Run.open(tmp_path / "run").verify(lambda progress: False)
    assert {comparison.different for comparison in comparisons} == {0}
    assert Checkpoint.load(tmp_path / "run" / "checkpoint.npz").step == 200
