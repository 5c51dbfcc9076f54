"""A soak of the link: training over a line with every fault that a line has, until many were injected.

Every training must end as the one on the exact model, word for word: a fault that went undetected would show there. A
host that is killed is followed by another one, which takes the machine over as it is, in the midst of whatever it does,
and goes on from the last checkpoint.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from tenzo.checkpoint import Checkpoint
from tenzo.device import Device
from tenzo.network import TT, Network, ReLU
from tenzo.settings import Settings
from tenzo.trainer import Trainer
from tenzo.transport import SerialTransport, Transport
from tenzo_hw.config import Config, preset

from .faulty import FaultyTransport
from .model import ModelTransport
from .pseudo_terminal import PseudoTerminal
from .verilated import SimTransport, VerilatedMachine, VerilatedShell

CONFIG = preset("tiny")
STEPS = 32
BATCH = 16
#: Time-outs in a row after which a host would give up. Some requests are damaged a few times.
ATTEMPTS = 100
#: Bytes that a host sends on average before it is killed, and before the port goes away.
LIFE = 20_000
PORT_LIFE = 20_000
#: Seconds without a port.
UNPLUGGED_S = 0.02

#: A way to a machine for one host after the other.
Way = Callable[[], Transport]


@dataclass
class Soak:
    """What happened."""

    seed: int
    trainings: int = 0
    recovered: int = 0
    """Losses of packets that the driver overcame."""
    faults: Counter[str] = field(default_factory=Counter)
    """Faults injected, by kind."""
    undetected: int = 0
    """Trainings that ended with another word than the exact model's."""
    fatal: list[str] = field(default_factory=list)
    """Errors that ended a training."""


class Killed(Exception):
    """The host is no more."""


class _Mortal:
    """The transport of a host that is killed after so many bytes, often in the midst of a packet."""

    def __init__(self, inner: Transport, life: int) -> None:
        self._inner = inner
        self._left = life

    def write(self, data: bytes) -> None:
        """Sends ``data``, or what the host comes to."""
        self._inner.write(data[: self._left])
        self._left -= len(data)
        if self._left < 0:
            raise Killed

    def read(self, timeout_s: float | None) -> bytes:
        """What came."""
        return self._inner.read(timeout_s)

    def close(self) -> None:
        """Closes the inner transport, as the operating system does."""
        self._inner.close()


class _Lasting:
    """A transport that outlives the host: closing it does nothing."""

    def __init__(self, inner: Transport) -> None:
        self.write, self.read = inner.write, inner.read

    def close(self) -> None:
        """Nothing."""


class _Unplugged:
    """The transport of a host whose port goes away now and then, and comes back while it looks for it."""

    def __init__(
        self, inner: Transport, line: PseudoTerminal, faults: Counter[str], random: np.random.Generator
    ) -> None:
        self._inner, self._line, self._faults, self._random = inner, line, faults, random
        self.read, self.close = inner.read, inner.close

    def write(self, data: bytes) -> None:
        """Sends ``data`` to the port, which may have gone."""
        if self._random.random() < len(data) / PORT_LIFE:
            self._line.unplug()
            self._faults["unplugged ports"] += 1
            threading.Timer(UNPLUGGED_S, self._line.plug).start()
        self._inner.write(data)


@contextmanager
def _bytes(result: Soak, config: Config) -> Iterator[Way]:
    """A machine behind a byte stream with damage."""
    machine = VerilatedMachine(config, seed=result.seed)
    link = FaultyTransport(
        SimTransport(config, machine=machine), result.seed, flips=1e-3, drops=1e-3, repeats=1e-3, pulls=2e-3
    )
    link.faults = result.faults
    try:
        yield lambda: _Lasting(link)
    finally:
        link.close()


@contextmanager
def _bits(result: Soak, config: Config) -> Iterator[Way]:
    """A machine behind a port of this computer and a serial line with wrong bits; the host is a little fast."""
    shell = VerilatedShell(config, seed=result.seed, flips=2e-4, offset=0.02)
    faulty = FaultyTransport(SimTransport(config, machine=shell), result.seed, drops=5e-4, repeats=5e-4, pulls=1e-3)
    faulty.faults = result.faults
    random = np.random.default_rng(result.seed)

    def connect() -> Transport:
        result.faults["wrong bits"] = shell.flipped
        return _Unplugged(SerialTransport(str(line.port)), line, result.faults, random)

    with PseudoTerminal(faulty) as line:
        yield connect
        result.faults["wrong bits"] = shell.flipped


WAYS = {"bytes": (_bytes, 0.01), "bits": (_bits, 0.1)}
"""Ways to the machine, with the seconds after which a host asks again: of the machine for bytes, ours for bits."""


def soak(way: str, *, faults: int, seed: int, on_training: Callable[[Soak], None] | None = None) -> Soak:
    """Trains again and again, each time from another seed, until at least so many faults were injected.

    ``way`` is ``bytes``, the machine behind a byte stream, or ``bits``, the whole shell behind a pseudo-terminal.
    """
    result = Soak(seed)
    make, timeout_s = WAYS[way]
    random = np.random.default_rng(seed)
    with make(result, CONFIG) as connect:
        while result.faults.total() < faults:
            number = seed + result.trainings
            x = random.uniform(-1, 1, (4 * BATCH, 4))
            y = (x.sum(axis=1) > 0).astype(np.int64)
            with Device(ModelTransport(CONFIG), expected=CONFIG) as model:
                expected = _train(model, x, y, number, None, lambda checkpoint: None)
            try:
                reached = _outlive(connect, timeout_s, x, y, number, random, result)
                result.undetected += _state(reached) != _state(expected)
            except Exception as error:  # whatever ends a training is what a soak is for
                result.fatal.append(f"seed {number}: {type(error).__name__}: {error}")
            result.trainings += 1
            if on_training is not None:
                on_training(result)
    return result


def _outlive(
    connect: Way,
    timeout_s: float,
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    random: np.random.Generator,
    result: Soak,
) -> Checkpoint:
    """A training to its end, by as many hosts as it takes."""
    kept: list[Checkpoint] = []
    while True:
        device = None
        try:
            host = _Mortal(connect(), int(random.exponential(LIFE)))
            with Device(host, expected=CONFIG, timeout_s=timeout_s, attempts=ATTEMPTS) as device:
                return _train(device, x, y, seed, kept[-1] if kept else None, kept.append)
        except Killed:
            result.faults["killed hosts"] += 1
        finally:
            result.recovered += 0 if device is None else device.recovered


def _train(
    device: Device,
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    start: Checkpoint | None,
    keep: Callable[[Checkpoint], None],
) -> Checkpoint:
    network = Network([TT((2, 2), (2, 4), rank=2), ReLU(), TT((2, 4), (1, 2), rank=2)])
    settings = Settings(queries=4, rate=0.02)
    trainer = Trainer(network, CONFIG, settings, device=device, batch=BATCH, steps=STEPS, seed=seed)
    if start is None:
        trainer.start()
    else:
        trainer.restore(start)
    trainer.train(x, y, on_chunk=lambda progress: keep(trainer.checkpoint()))
    return trainer.checkpoint()


def _state(checkpoint: Checkpoint) -> list[object]:
    """Everything that must be equal: all but the cycles in which the machine waited for its host."""
    arrays = (checkpoint.masters, checkpoint.momentum, checkpoint.losses, checkpoint.correct)
    registers = (checkpoint.step, checkpoint.generator, checkpoint.rate, checkpoint.rate_step, checkpoint.scale)
    runs = checkpoint.runs
    return [array.tolist() for array in (*arrays, runs[:, 0], runs[:, 1] - runs[:, 2])] + list(registers)
