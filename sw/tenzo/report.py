"""The folder that a run leaves: configuration, curve as table and picture, report for machines and for people."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

CONFIG = "config.json"
CURVE = "curve.csv"
PLOT = "curve.png"
REPORT = "report.json"
PAGE = "report.html"
START = "start.npz"
CHECKPOINT = "checkpoint.npz"

#: Share of the run over which the plotted curves are averaged.
_SMOOTHING = 0.02


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Score(_Part):
    """Of the trained network; accuracy of a classifier, R2 of a regressor."""

    train: float
    test: float


class Cycles(_Part):
    """Machine cycles."""

    total: int
    """Of all training RUNs, without waits."""
    step: int
    """One step, in the midst of a run."""
    waits: int
    """Waited for batches from the host."""


class Utilisation(_Part):
    """Useful multiply-accumulates over cycles times multipliers."""

    step: float
    """The whole step: loading, perturbing, loss and update included."""
    forward: float
    """The contractions alone."""


class Share(_Part):
    """A part of a step, such as a layer's core, or what a kind of contraction does."""

    name: str
    cycles: int
    macs: int
    utilisation: float


class Simulator(_Part):
    """How fast the machine was simulated, or ran."""

    seconds: float
    cycles_per_second: float


class Clock(_Part):
    """The same step on a board."""

    mhz: float
    step_us: float


class Report(_Part):
    """What a run came to: ``report.json``."""

    name: str
    device: str
    steps: int
    seed: int
    weights: int
    """Trainable words."""
    loss: float
    """Mean training loss of the last steps: nats of cross-entropy, or mean squared error."""
    accuracy: Score | None
    r2: Score | None
    cycles: Cycles
    utilisation: Utilisation
    parts: list[Share]
    simulator: Simulator
    clock: Clock
    recovered: int
    """Packets that were lost on the link and sent again."""
    exact: bool | None
    """Whether the exact model gave the same bits and cycles; null until ``tenzo verify``."""
    versions: dict[str, str]

    def facts(self) -> list[tuple[str, str]]:
        """Name and value of what people look for first."""
        score = self.accuracy or self.r2
        name, form = ("accuracy", "{:.2%}") if self.accuracy else ("R²", "{:.4f}")
        scores = (
            []
            if score is None
            else [(f"test {name}", form.format(score.test)), (f"training {name}", form.format(score.train))]
        )
        exact = {None: "not verified yet", True: "yes", False: "NO"}[self.exact]
        return [
            *scores,
            ("loss", f"{self.loss:.4f}"),
            ("trainable words", f"{self.weights:,}"),
            ("cycles", f"{self.cycles.total:,}"),
            ("cycles a step", f"{self.cycles.step:,}"),
            ("cycles waited for the host", f"{self.cycles.waits:,}"),
            ("utilisation of a step", f"{self.utilisation.step:.1%}"),
            ("machine cycles a second here", f"{self.simulator.cycles_per_second:,.0f}"),
            (f"a step at {self.clock.mhz:g} MHz", f"{self.clock.step_us:,.0f} µs"),
            ("packets recovered", f"{self.recovered:,}"),
            ("equal to the exact model", exact),
        ]

    def save(self, folder: Path, recipe: dict[str, Any]) -> None:
        """Writes ``report.json`` and, with the recipe, ``report.html``."""
        # Imported here: the command line starts faster without it.
        from jinja2 import Environment, PackageLoader

        (folder / REPORT).write_text(self.model_dump_json(indent=2) + "\n")
        template = Environment(loader=PackageLoader("tenzo"), autoescape=True).get_template("report.html")
        page = template.render(report=self, recipe=recipe, recipe_text=json.dumps(recipe, indent=2), facts=self.facts())
        (folder / PAGE).write_text(page)

    @classmethod
    def load(cls, folder: Path) -> Report:
        """The report of a run. Raises ``ValueError`` when there is none or it is not one."""
        try:
            return cls.model_validate_json((folder / REPORT).read_bytes())
        except FileNotFoundError:
            raise ValueError(f"{folder} has no {REPORT}: it is no finished run") from None
        except ValidationError as error:
            raise ValueError(f"{folder / REPORT} is no report: {error.errors()[0]['msg']}") from None


def save_curve(folder: Path, losses: np.ndarray, accuracies: np.ndarray | None) -> None:
    """Writes the loss, and the batch accuracy where there is one, of every step as ``curve.csv`` and ``curve.png``."""
    columns = {"loss": losses} | ({} if accuracies is None else {"accuracy": accuracies})
    with (folder / CURVE).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *columns])
        for step, values in enumerate(zip(*columns.values(), strict=True), start=1):
            writer.writerow([step, *(f"{value:.6g}" for value in values)])
    _plot(folder / PLOT, columns)


def _plot(path: Path, columns: dict[str, np.ndarray]) -> None:
    # The object interface draws into a file without touching a user's backend or open figures.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3 * len(columns)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, values) in zip(figure.subplots(len(columns), squeeze=False)[:, 0], columns.items(), strict=True):
        steps = np.arange(1, values.size + 1)
        width = max(1, round(_SMOOTHING * values.size))
        axes.plot(steps, values, color="0.8", linewidth=0.7, label="each step")
        if values.size:
            mean = np.convolve(values, np.full(width, 1 / width), mode="valid")
            axes.plot(steps[width - 1 :], mean, color="tab:blue", label=f"mean of {width}")
        axes.set(xlabel="step", ylabel=name)
        axes.legend(loc="best")
    figure.savefig(path, dpi=120)
