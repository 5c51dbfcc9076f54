"""Runs: a recipe trained in a folder of its own, with everything that is needed to resume, verify and read it."""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np

from . import report
from .checkpoint import Checkpoint
from .datasets import Dataset
from .device import Device
from .recipe import Recipe
from .report import Report
from .step import prediction_program
from .trainer import Progress, Trainer
from .transport import open_transport

#: Seconds between two checkpoints of a run.
CHECKPOINT_S = 60.0
#: Steps over which the last loss is averaged.
_LAST_STEPS = 32


@dataclass(frozen=True)
class Comparison:
    """Words of one kind, as the run recorded them and as the exact model computed them."""

    name: str
    count: int
    different: int


class Run:
    """The run in ``folder``: ``create`` makes a new one, ``open`` finds one."""

    def __init__(self, folder: Path, recipe: Recipe, device_name: str) -> None:
        self.folder = folder
        self.recipe = recipe
        self.device_name = device_name

    @classmethod
    def create(cls, folder: Path, recipe: Recipe, device_name: str, *, overwrite: bool = False) -> Run:
        """A new run; nothing is written before ``begin``.

        Raises ``ValueError`` when there is something in the folder, unless it is a run and may be overwritten.
        """
        if folder.exists():
            if not overwrite:
                raise ValueError(f"{folder} is there already: --overwrite replaces it, --resume goes on with it")
            if not folder.is_dir() or (any(folder.iterdir()) and not (folder / report.CONFIG).exists()):
                raise ValueError(f"{folder} is not the folder of a run: it is not overwritten")
        return cls(folder, recipe, device_name)

    def begin(self) -> None:
        """Makes the folder, in the place of what was there."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        document = {"recipe": self.recipe.model_dump(mode="json"), "device": self.device_name, "versions": versions()}
        (self.folder / report.CONFIG).write_text(json.dumps(document, indent=2) + "\n")

    @classmethod
    def open(cls, folder: Path) -> Run:
        """The run in this folder. Raises ``ValueError`` when there is none."""
        path = folder / report.CONFIG
        try:
            document = json.loads(path.read_text())
            if not isinstance(document, dict) or not isinstance(document["device"], str):
                raise TypeError("it holds no recipe with the name of a device")
            return cls(folder, Recipe.of(document["recipe"], str(path)), document["device"])
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(f"{folder} is not the folder of a run: it has no {report.CONFIG}") from None
        except KeyError as error:
            raise ValueError(f"{path} is damaged: it has no {error}; put a good copy there or train anew") from None
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {error}; put a good copy there or train anew") from None

    @cached_property
    def dataset(self) -> Dataset:
        """The samples. Raises ``ValueError`` when they cannot be read."""
        return self.recipe.dataset.load(self.recipe.seed)

    def check(self) -> None:
        """Raises ``ValueError`` when samples and network do not match, or something does not fit the machine."""
        self.recipe.check(self.dataset)
        trainer = self.recipe.trainer()
        for phase in trainer.phases:
            trainer.program(phase)
        prediction_program(trainer.plan)

    def check_resumable(self) -> None:
        """Raises ``ValueError`` when the run is finished or its checkpoint is not good to go on from."""
        if (self.folder / report.REPORT).exists():
            raise ValueError(
                f"{self.folder} is finished after {self.recipe.steps} steps: there is nothing to resume; "
                "train a longer recipe in another folder"
            )
        if (self.folder / report.CHECKPOINT).exists():
            self.recipe.trainer().check_checkpoint(Checkpoint.load(self.folder / report.CHECKPOINT))

    def connect(self, device_name: str | None = None, *, waveform: Path | None = None) -> Device:
        """The machine that the run is trained on, or another device of the same configuration."""
        transport = open_transport(device_name or self.device_name, self.recipe.machine, waveform=waveform)
        return Device(transport, expected=self.recipe.machine)

    def train(
        self, device: Device, on_chunk: Callable[[Progress], bool], on_batch: Callable[[int], None]
    ) -> Report | None:
        """Trains from the run's checkpoint, or from the start, to the end.

        ``on_chunk`` ends the training early by returning True: the checkpoint is saved and there is no report. The
        checkpoint is also saved every ``CHECKPOINT_S`` seconds.
        """
        dataset = self.dataset
        trainer = self.recipe.trainer(device)
        if (self.folder / report.CHECKPOINT).exists():
            trainer.restore(Checkpoint.load(self.folder / report.CHECKPOINT))
        else:
            trainer.start()
            start = trainer.checkpoint()
            start.save(self.folder / report.START)
        saved = begun = time.monotonic()
        cycles_before = trainer.cycles + trainer.waits

        def each_chunk(progress: Progress) -> bool:
            nonlocal saved
            if time.monotonic() - saved > CHECKPOINT_S:
                trainer.checkpoint().save(self.folder / report.CHECKPOINT)
                saved = time.monotonic()
            return on_chunk(progress)

        trainer.train(dataset.x_train, dataset.y_train, on_chunk=each_chunk, on_batch=on_batch)
        seconds = time.monotonic() - begun
        trainer.checkpoint().save(self.folder / report.CHECKPOINT)
        report.save_curve(self.folder, trainer.losses, trainer.accuracies)
        if trainer.step < trainer.steps:
            return None
        scores = report.Score(
            train=trainer.evaluate(dataset.x_train, dataset.y_train),
            test=trainer.evaluate(dataset.x_test, dataset.y_test),
        )
        result = self._report(trainer, scores, seconds, trainer.cycles + trainer.waits - cycles_before)
        self.save(result)
        return result

    def restored(self, device: Device) -> Trainer:
        """A trainer with the run's last checkpoint on ``device``."""
        trainer = self.recipe.trainer(device)
        trainer.restore(Checkpoint.load(self.folder / report.CHECKPOINT))
        return trainer

    def verify(self, on_chunk: Callable[[Progress], bool]) -> list[Comparison]:
        """Trains the run again on the exact model, from the same start, and compares every recorded word.

        The result is noted in the run's report. Raises ``ValueError`` when the run has no start or no checkpoint.
        """
        reached = Checkpoint.load(self.folder / report.CHECKPOINT)
        start = Checkpoint.load(self.folder / report.START)
        dataset = self.dataset
        with self.connect("model") as model:
            trainer = self.recipe.trainer(model)
            trainer.check_checkpoint(reached)
            trainer.restore(start)
            trainer.train(dataset.x_train, dataset.y_train, until=reached.step, on_chunk=on_chunk)
            own = trainer.checkpoint()
        trained = self.recipe.network.parameters
        words = {
            f"master words, {trained:,} of them weights": (reached.masters, own.masters),
            "momentum words": (reached.momentum, own.momentum),
            "losses": (reached.losses, own.losses),
            "correct samples": (reached.correct, own.correct),
            "generator and registers": (_registers(reached), _registers(own)),
            "runs' cycles": (_cycles(reached), _cycles(own)),
            "cycles": (_cycles(reached).sum(keepdims=True), _cycles(own).sum(keepdims=True)),
        }
        comparisons = [
            Comparison(name, ours.size, int((ours != theirs).sum()) if ours.shape == theirs.shape else ours.size)
            for name, (ours, theirs) in words.items()
        ]
        if (self.folder / report.REPORT).exists():
            exact = not any(comparison.different for comparison in comparisons)
            self.save(Report.load(self.folder).model_copy(update={"exact": exact}))
        return comparisons

    def save(self, result: Report) -> None:
        """Writes the report's files."""
        result.save(self.folder, self.recipe.model_dump(mode="json"))

    def _report(self, trainer: Trainer, scores: report.Score, seconds: float, cycles: int) -> Report:
        recipe = self.recipe
        classifies = recipe.network.loss == "cross_entropy"
        return Report(
            name=recipe.name,
            device=self.device_name,
            steps=trainer.steps,
            seed=recipe.seed,
            weights=recipe.network.parameters,
            loss=float(trainer.losses[-_LAST_STEPS:].mean()),
            accuracy=scores if classifies else None,
            r2=None if classifies else scores,
            cycles=report.Cycles(total=trainer.cycles, step=trainer.step_cycles, waits=trainer.waits),
            utilisation=report.Utilisation(step=trainer.step_utilisation, forward=trainer.plan.utilisation),
            parts=[
                report.Share(
                    name=part.name,
                    cycles=part.cycles,
                    macs=part.macs,
                    utilisation=part.macs / (max(part.cycles, 1) * recipe.machine.multipliers),
                )
                for part in trainer.parts()
            ],
            simulator=report.Simulator(seconds=seconds, cycles_per_second=cycles / seconds if seconds else 0.0),
            clock=report.Clock(mhz=recipe.clock_mhz, step_us=trainer.step_cycles / recipe.clock_mhz),
            recovered=trainer.device.recovered,
            exact=None,
            versions=versions(),
        )


def versions() -> dict[str, str]:
    """Versions that a run's bits could depend on."""
    return {"tenzo": version("tenzo"), "numpy": np.__version__, "python": platform.python_version()}


def _registers(checkpoint: Checkpoint) -> np.ndarray:
    values = (checkpoint.step, checkpoint.generator, checkpoint.rate, checkpoint.rate_step, checkpoint.scale)
    return np.array(values, dtype=np.uint64)


def _cycles(checkpoint: Checkpoint) -> np.ndarray:
    """Cycles of every RUN without those that depend on the host."""
    return checkpoint.runs[:, 1] - checkpoint.runs[:, 2]
