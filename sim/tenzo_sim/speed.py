"""How fast the same machine is simulated: through the driver, in cocotb, and in Amaranth's own simulator."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.sim import Simulator
from tenzo.device import Device
from tenzo.recipe import Recipe
from tenzo.trainer import Trainer
from tenzo.transport import Transport
from tenzo_hw.config import Config
from tenzo_hw.machine import Machine

from .bench import run_bench
from .model import ModelTransport
from .verilated import SimTransport

#: Training steps through the driver, and cycles at most, of half a step, in the two others, which are slower.
STEPS = 20
COCOTB_CYCLES = 50_000
AMARANTH_CYCLES = 2_000


class _Recorder:
    """A transport that keeps what the driver writes."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.sent = b""

    def write(self, data: bytes) -> None:
        """Sends and keeps ``data``."""
        self.sent += data
        self._inner.write(data)

    def read(self, timeout_s: float | None) -> bytes:
        """What came."""
        return self._inner.read(timeout_s)

    def close(self) -> None:
        """Closes the inner transport."""
        self._inner.close()


def compare(recipe: Recipe) -> dict[str, float]:
    """Cycles a second of the recipe's machine while it trains: ``driver``, ``cocotb`` and ``amaranth``.

    The driver sends batches and reads losses while it is measured. In the other two only the clock runs, so that what
    is measured is the simulator. Building is not counted.
    """
    trainer = recipe.trainer()
    requests, most = _requests(trainer), trainer.step_cycles // 2
    return {
        "driver": _driver(recipe),
        "cocotb": _cocotb(recipe.machine, requests, min(COCOTB_CYCLES, most)),
        "amaranth": _amaranth(recipe.machine, requests, min(AMARANTH_CYCLES, most)),
    }


def _samples(trainer: Trainer) -> tuple[np.ndarray, np.ndarray]:
    network, batch = trainer.plan.network, trainer.plan.batch
    random = np.random.default_rng(0)
    return random.uniform(0, 1, (batch, network.inputs)), random.integers(0, network.outputs, batch)


def _requests(trainer: Trainer) -> bytes:
    """The bytes of a host that loads the training program and one batch and starts a run."""
    recorder = _Recorder(ModelTransport(trainer.plan.config))
    device = Device(recorder)
    inputs, labels = _samples(trainer)
    device.load_program(trainer.training_program.instructions)
    device.send_batch(trainer.plan.input_words(inputs), trainer.plan.target_words(labels))
    device.run()
    return recorder.sent


def _driver(recipe: Recipe) -> float:
    transport = SimTransport(recipe.machine)
    with Device(transport) as device:
        trainer = recipe.trainer(device)
        trainer.start()
        before, begun = transport.cycles, time.perf_counter()
        trainer.train(*_samples(trainer), until=STEPS)
        return (transport.cycles - before) / (time.perf_counter() - begun)


def _cocotb(config: Config, requests: bytes, cycles: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "seconds.json"
        parameters = {"requests": requests.hex(), "cycles": cycles, "result": str(result)}
        run_bench(Machine(config), "tenzo_sim.speed_bench", Path(folder) / "build", parameters=parameters)
        return cycles / json.loads(result.read_text())


def _amaranth(config: Config, requests: bytes, cycles: int) -> float:
    # Its ports are those of its signature, which no type checker sees.
    machine: Any = Machine(config)
    seconds = 0.0

    async def host(context) -> None:
        nonlocal seconds
        context.set(machine.tx.ready, 1)
        context.set(machine.rx.valid, 1)
        for byte in requests:
            context.set(machine.rx.payload, byte)
            await context.tick().until(machine.rx.ready)
        context.set(machine.rx.valid, 0)
        begun = time.perf_counter()
        await context.tick().repeat(cycles)
        seconds = time.perf_counter() - begun

    simulator = Simulator(machine)
    simulator.add_clock(1e-8)
    simulator.add_testbench(host)
    simulator.run()
    return cycles / seconds
