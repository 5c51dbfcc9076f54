"""Training on a machine: batches out, losses back, and the whole state of a run in and out.

The machine trains a *chunk* of steps a RUN, at most as many as its history remembers, while the host sends the batches
ahead: one half trains, the other is filled. The chunks of a run start at multiples of the chunk length, so that a run
that was stopped and resumed has the cycles of one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from tenzo_hw.config import LOSS_FRACTION, Config
from tenzo_hw.isa import Contract
from tenzo_hw.protocol import Register

from .checkpoint import Checkpoint, CheckpointError
from .coordinates import Band, bands, choose, runs
from .device import Device
from .formats import Formats
from .network import Network
from .order import SampleOrder
from .plan import Plan, plan
from .program import Program
from .settings import Hybrid, Settings
from .step import counted, evaluations, prediction_program, registers, training_program

#: Steps of a RUN, where the machine's history is long enough: losses are seen once a chunk.
CHUNK = 32


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    step: int
    steps: int
    loss: float
    """Mean loss of the last chunk."""
    accuracy: float | None
    """Share of correct samples in the last chunk, perturbed weights and all; None with squared error."""
    cycles: int
    """Of all steps so far, without waits."""


class Part(NamedTuple):
    """A part of a step: cycles of the engine, and useful multiply-accumulates on all lanes."""

    name: str
    cycles: int
    macs: int


class Trainer:
    """Trains ``network`` on ``device``; ``formats`` None takes those of ``Formats.default``.

    ``settings`` are those of all steps, or a ``Hybrid`` of a coarse and a fine phase.
    ``seed`` decides the first weights, the perturbations and the order of the samples. ``start`` or ``restore`` must
    come before ``train``. Raises ``ValueError`` with the numbers when network, batch or settings do not fit.
    """

    def __init__(
        self,
        network: Network,
        config: Config,
        settings: Settings | Hybrid,
        formats: Formats | None = None,
        device: Device | None = None,
        *,
        batch: int = 64,
        steps: int = 1000,
        seed: int = 0,
    ) -> None:
        self.settings = settings
        coordinates = any(phase.coordinates for phase in self.phases)
        self.plan: Plan = plan(network, config, batch, formats, coordinates=coordinates)
        self.steps = steps
        self.seed = seed
        self.step = 0
        for phase in self.phases:
            registers(self.plan, phase, steps)
        self._device = device
        self._chunk = min(CHUNK, config.history)
        self._loaded: Program | None = None
        self._programs: dict[Settings, tuple[int, Program]] = {}
        self._losses = np.zeros(0, dtype=np.int64)
        self._correct = np.zeros(0, dtype=np.int64)
        self._runs = np.zeros((0, 3), dtype=np.int64)

    @property
    def device(self) -> Device:
        """The machine. Raises ``ValueError`` when the trainer was made without one, only to plan."""
        if self._device is None:
            raise ValueError("this trainer has no device: it was made to plan only")
        return self._device

    # Phases

    @property
    def phases(self) -> tuple[Settings, ...]:
        """The settings of all phases."""
        settings = self.settings
        return (settings.coarse, settings.fine) if isinstance(settings, Hybrid) else (settings,)

    @property
    def switch(self) -> int | None:
        """The step with which the fine phase begins; None where there is none, or it is not known yet."""
        settings = self.settings
        if not isinstance(settings, Hybrid):
            return None
        if settings.step is not None:
            return settings.step
        whole = len(self._losses) // self._chunk
        chunks = self._losses[: whole * self._chunk].reshape(whole, self._chunk)
        found = settings.switch(chunks.mean(axis=1).tolist())
        return None if found is None else found * self._chunk

    @property
    def phase(self) -> Settings:
        """The settings of the next step."""
        switch = self.switch
        return self.phases[0] if switch is None or self.step < switch else self.phases[-1]

    def _span(self) -> tuple[int, int]:
        """First step of the present phase and the one behind its last."""
        switch = self.switch
        if switch is None:
            return 0, self.steps
        return (0, min(switch, self.steps)) if self.step < switch else (switch, self.steps)

    @property
    def training_program(self) -> Program:
        """The program of the next training steps."""
        return self.program(self.phase, self.step // self._chunk)

    def program(self, phase: Settings, chunk: int = 0) -> Program:
        """The program of a phase's training steps in a chunk: where a share of the weights moves, each has its own."""
        chunk = 0 if phase.share == 1 else chunk
        known, program = self._programs.get(phase, (None, None))
        if program is None or known != chunk:
            program = training_program(self.plan, phase, self._chosen(phase, chunk))
            self._programs[phase] = chunk, program
        return program

    def _chosen(self, phase: Settings, chunk: int) -> list[Band] | None:
        """What the steps of a chunk move where it is not everything: in a resumed run the same."""
        return None if phase.share == 1 else choose(self._bands, phase.share, (self.seed, chunk))

    @cached_property
    def _bands(self) -> list[Band]:
        return list(bands(runs(self.plan)))

    @cached_property
    def prediction_program(self) -> Program:
        """The program that computes the outputs of one batch."""
        return prediction_program(self.plan)

    @property
    def step_cycles(self) -> int:
        """Cycles of one step in the midst of a phase."""
        return self.training_program.timeline(3).cycles - self.training_program.timeline(2).cycles

    @property
    def step_utilisation(self) -> float:
        """Useful multiply-accumulates of a step over its cycles times the multipliers."""
        return self.step_macs / (self.step_cycles * self.plan.config.multipliers)

    @property
    def step_macs(self) -> int:
        """Useful multiply-accumulates of a step on all lanes."""
        return self.training_program.timeline(2).macs - self.training_program.timeline(1).macs

    def parts(self) -> list[Part]:
        """Where the cycles of one step go: the engine's work by its parts, and what is left of the step."""
        program = self.training_program
        two, three = program.timeline(2), program.timeline(3)
        found: dict[str, Part] = {}
        for line, before, after in zip(program.lines, two.uses, three.uses, strict=True):
            if isinstance(line.instruction, Contract):
                part = found.get(line.part, Part(line.part, 0, 0))
                cycles, macs = after.busy - before.busy, after.macs - before.macs
                found[line.part] = Part(line.part, part.cycles + cycles, part.macs + macs)
        rest = self.step_cycles - sum(part.cycles for part in found.values())
        return [*found.values(), Part("engine idle", rest, 0)]

    def estimate(self, steps: int) -> int:
        """Cycles of the first ``steps`` steps, all chunks and their ends included, without waits for the host.

        Raises ``ValueError`` when it is not known how long the coarse phase will be.
        """
        settings = self.settings
        if isinstance(settings, Hybrid) and settings.step is None:
            raise ValueError("how long the coarse phase is shows in the run: give a step to switch at")
        switch = settings.step if isinstance(settings, Hybrid) and settings.step is not None else steps
        cycles = 0
        known: dict[tuple[Settings, int, int], int] = {}
        for phase, first, end in zip(self.phases, (0, switch), (min(switch, steps), steps), strict=False):
            while first < end:
                number, before = divmod(first, self._chunk)
                chunk = min(self._chunk - before, end - first)
                key = phase, chunk, 0 if phase.share == 1 else number
                if key not in known:
                    known[key] = self.program(phase, number).timeline(chunk).cycles
                cycles += known[key]
                first += chunk
        return cycles

    # State

    def start(self, weights: Mapping[str, np.ndarray] | None = None) -> None:
        """A new run from these weights, or random ones."""
        masters = self.plan.pack(weights if weights is not None else self.plan.network.initial_weights(self.seed))
        self._prepare()
        device = self.device
        device.write_masters(masters)
        device.write_momentum(np.zeros_like(masters))
        device.generator = _generator_state(self.seed)
        self._record(0, self._losses[:0], self._correct[:0], self._runs[:0])
        self._begin_phase()

    def checkpoint(self) -> Checkpoint:
        """Everything that the run needs to go on."""
        device = self.device
        return Checkpoint(
            step=self.step,
            masters=device.read_masters().astype(np.int32),
            momentum=device.read_momentum().astype(np.int32),
            generator=device.generator,
            rate=device.rate,
            rate_step=device.rate_step,
            scale=device.scale,
            losses=self._losses,
            correct=self._correct,
            runs=self._runs,
            run=self._identity(),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on where the checkpoint was made. Raises ``CheckpointError`` when it is of another run."""
        self.check_checkpoint(checkpoint)
        self._prepare()
        device = self.device
        device.write_masters(checkpoint.masters.astype(np.int64))
        device.write_momentum(checkpoint.momentum.astype(np.int64))
        device.generator = checkpoint.generator
        device.rate = checkpoint.rate
        device.rate_step = checkpoint.rate_step
        device.scale = checkpoint.scale
        self._record(checkpoint.step, checkpoint.losses, checkpoint.correct, checkpoint.runs)

    def check_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Raises ``CheckpointError`` when the checkpoint is of another run."""
        own = self._identity()
        for name in own.keys() | checkpoint.run.keys():
            if own.get(name) != checkpoint.run.get(name):
                found, wanted = checkpoint.run.get(name), own.get(name)
                raise CheckpointError(
                    f"the checkpoint is of another run: its {name} is {found} instead of {wanted}; put this run's own "
                    "there or train anew"
                )

    def _identity(self) -> dict[str, Any]:
        return {
            "network": self.plan.network.to_dict(),
            "formats": self.plan.formats.to_dict(),
            "settings": asdict(self.settings),
            "config": vars(self.plan.config),
            "batch": self.plan.batch,
            "steps": self.steps,
            "seed": self.seed,
        }

    def _prepare(self) -> None:
        device = self.device
        device.abort()
        for number, table in enumerate(self.plan.tables):
            device.write_table(number, *table.entries(self.plan.config))
        self._loaded = None

    def _record(self, step: int, losses: np.ndarray, correct: np.ndarray, runs: np.ndarray) -> None:
        self.step, self._losses, self._correct, self._runs = step, losses, correct, runs

    def _load(self, program: Program) -> None:
        if self._loaded is not program:
            self.device.load_program(program.instructions)
            self._loaded = program

    # Weights

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The weights on the machine, as floats."""
        return self.plan.unpack(self.device.read_masters())

    @weights.setter
    def weights(self, weights: Mapping[str, np.ndarray]) -> None:
        self.device.write_masters(self.plan.pack(weights))

    # Training

    @property
    def losses(self) -> np.ndarray:
        """Mean loss of every step so far, over all its evaluations: nats of cross-entropy, or squared error."""
        plan = self.plan
        cross_entropy = plan.network.loss == "cross_entropy"
        fraction = LOSS_FRACTION if cross_entropy else 2 * plan.formats.loss
        samples = plan.batch * self._by_step(evaluations)
        return self._losses * ((math.log(2) if cross_entropy else 1) / (samples * 2.0**fraction))

    @property
    def accuracies(self) -> np.ndarray | None:
        """Share of correct samples of every step so far, over all evaluations that count; None with squared error."""
        if self.plan.network.loss != "cross_entropy":
            return None
        return self._correct / (self.plan.batch * self._by_step(counted))

    def _by_step(self, number: Callable[[Plan, Settings, list[Band] | None], int]) -> np.ndarray:
        """A number of each phase and chunk for every step so far."""
        switch = self.switch
        steps = np.arange(self.step)
        numbers = [self._by_chunk(number, phase)[steps // self._chunk] for phase in self.phases]
        return np.where(steps < (self.step if switch is None else switch), numbers[0], numbers[-1])

    def _by_chunk(self, number: Callable[[Plan, Settings, list[Band] | None], int], phase: Settings) -> np.ndarray:
        chunks = -(-self.step // self._chunk)
        if phase.share == 1:
            return np.full(chunks, number(self.plan, phase, None))
        chosen = (self._chosen(phase, chunk) for chunk in range(chunks))
        return np.array([number(self.plan, phase, moved) for moved in chosen], dtype=np.int64)

    @property
    def cycles(self) -> int:
        """Machine cycles of all steps so far, without waits for the host."""
        return int((self._runs[:, 1] - self._runs[:, 2]).sum())

    @property
    def waits(self) -> int:
        """Machine cycles in which a step waited for its batch."""
        return int(self._runs[:, 2].sum())

    def train(
        self,
        inputs: np.ndarray,
        targets: np.ndarray,
        *,
        until: int | None = None,
        on_chunk: Callable[[Progress], bool | None] | None = None,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        """Trains up to step ``until`` (default: all steps) of the run.

        ``inputs`` [samples, inputs] and ``targets`` (labels, or values [samples, outputs]) must be the same whenever a
        run is resumed. ``on_chunk`` sees the progress after every chunk and ends the training by returning True;
        ``on_batch`` sees the number of steps whose batches are sent. Raises ``ValueError`` for values that cannot be
        trained on.
        """
        self._check_samples(inputs, targets)
        last = self.steps if until is None else min(until, self.steps)
        order = SampleOrder(len(inputs), self.plan.batch, self.seed)
        device = self.device
        device.abort()
        sent = self.step
        while self.step < last:
            first, end = self._span()
            chunk = min(self._chunk - self.step % self._chunk, last - self.step, end - self.step)
            if first and first == self.step:
                self._begin_phase()
            self._set_rate(first, end)
            self._load(self.training_program)
            device.run(0, chunk)
            # One batch more than the chunk has: the next chunk then starts at once.
            while sent < min(self.step + chunk + 1, last):
                chosen = order.batch(sent)
                device.send_batch(self.plan.input_words(inputs[chosen]), self.plan.target_words(targets[chosen]))
                sent += 1
                if on_batch is not None:
                    on_batch(sent)
            self._finish(chunk)
            if on_chunk is not None and on_chunk(self._progress(chunk)):
                return

    def _begin_phase(self) -> None:
        """A phase starts with its own rate, without momentum and without a scale of losses."""
        device, phase = self.device, self.phase
        first, end = self._span()
        values = registers(self.plan, phase, end - first)
        device.rate = values[Register.RATE]
        device.rate_step = values[Register.RATE_STEP]
        device.scale = 0
        if first:
            device.write_momentum(np.zeros_like(device.read_momentum()))

    def _set_rate(self, first: int, end: int) -> None:
        """The rate of a schedule that the machine does not follow by itself."""
        if self.phase.schedule in ("cosine", "exponential"):
            # That of the chunk, wherever a run was resumed in it.
            since = max(self.step - self.step % self._chunk, first)
            rate = self.phase.rate_at((since - first) / (end - first))
            unit = registers(self.plan, replace(self.phase, schedule="constant"), 1)[Register.RATE] / self.phase.rate
            self.device.rate = max(round(rate * unit), 1)

    def _finish(self, chunk: int) -> None:
        status = self.device.wait()
        losses, correct = self.device.history(chunk)
        run = [[chunk, status.cycles, status.waits]]
        self._record(
            self.step + chunk,
            np.concatenate([self._losses, losses]),
            np.concatenate([self._correct, correct]),
            np.concatenate([self._runs, run]),
        )

    def _progress(self, chunk: int) -> Progress:
        accuracies = self.accuracies
        return Progress(
            step=self.step,
            steps=self.steps,
            loss=float(self.losses[-chunk:].mean()),
            accuracy=None if accuracies is None else float(accuracies[-chunk:].mean()),
            cycles=self.cycles,
        )

    def _check_samples(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        if len(inputs) != len(targets) or not len(inputs):
            raise ValueError(
                f"{len(inputs)} inputs and {len(targets)} targets: give one target for each input, and some"
            )
        if inputs.ndim != 2 or inputs.shape[1] != self.plan.network.inputs:
            raise ValueError(f"inputs have shape {inputs.shape} instead of (samples, {self.plan.network.inputs})")
        if not np.isfinite(inputs).all():
            raise ValueError("inputs hold values that are not finite numbers (NaN or infinity)")
        self.plan.target_words(targets)

    # Prediction

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Network outputs [samples, outputs] with the present weights, as floats, computed on the machine."""
        device, plan = self.device, self.plan
        generator = device.generator
        self._load(self.prediction_program)
        device.abort()
        outputs = []
        for start in range(0, len(inputs), plan.batch):
            words = plan.input_words(inputs[start : start + plan.batch])
            # The last batch is filled up: the machine always computes whole ones.
            padded = np.zeros((plan.batch, words.shape[1]), dtype=np.int64)
            padded[: len(words)] = words
            device.send_batch(padded, np.zeros(0, dtype=np.int64))
            device.run()
            device.wait()
            outputs.append(plan.outputs(device.read_lanes(*plan.output_area))[: len(words)])
        # Copying the weights has moved it; a run that goes on must not notice the prediction.
        device.generator = generator
        return np.concatenate(outputs) if outputs else np.zeros((0, plan.network.outputs))

    def evaluate(self, inputs: np.ndarray, targets: np.ndarray) -> float:
        """Accuracy with cross-entropy, R2 with squared error, of the machine's outputs."""
        self._check_samples(inputs, targets)
        outputs = self.predict(inputs)
        if self.plan.network.loss == "cross_entropy":
            return float((outputs.argmax(axis=1) == targets).mean())
        spread = ((targets - targets.mean(axis=0)) ** 2).sum()
        return float(1 - ((targets - outputs) ** 2).sum() / spread) if spread else 0.0


def _generator_state(seed: int) -> int:
    """A state of 64 well mixed bits: the generator is linear and must not be seeded with small numbers."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]) or 1
