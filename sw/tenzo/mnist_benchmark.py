"""``tenzo bench mnist``: the paper's network on MNIST, trained by the machine, and what it is measured beside."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tenzo_hw.config import Config, preset
from tenzo_hw.protocol import BAUD
from tenzo_sim.model import ModelTransport

from .datasets import Dataset
from .device import Device
from .memory_map import memory_map
from .order import SampleOrder
from .recipe import Recipe
from .trainer import Trainer
from .transport import open_transport

SEEDS = (0, 1, 2)
#: The accuracy whose time is quoted.
GOAL = 0.95
#: Machines whose time is told for the shortest recipe to the goal.
MACHINES = ("engine_16x8", "engine_16x10")
#: Steps of the quick form: enough to see that everything learns.
_QUICK_STEPS = {"mnist": 48, "mnist-fast": 48, "mnist-9bit": 48, "mnist-rge": 2}
#: Batches whose way over the link is measured, and the bits of a byte there: 8, a start and a stop bit.
_SENT_BATCHES = 8
_BITS_A_BYTE = 10
#: Steps of this computer's work that are timed.
_TIMED_STEPS = 5
#: Random directions of the 814,090 weights of dense layers: as many as on the machine, the largest rate that does not
#: diverge, and a step that is small beside a weight.
_DENSE_QUERIES = 16
_DENSE_RATE = 0.002
_DENSE_MU = 2.0**-10


@dataclass(frozen=True)
class Outcome:
    """A recipe trained with one seed."""

    accuracy: float
    steps: int
    cycles: int
    macs: int
    seconds: float


def _train(recipe: Recipe, device: str) -> Outcome:
    """Trains on a device of its own: runs in a process of its own."""
    dataset = recipe.dataset.load(recipe.seed)
    start = time.perf_counter()
    with Device(open_transport(device, recipe.machine), expected=recipe.machine) as machine:
        trainer = recipe.trainer(machine)
        trainer.start()
        trainer.train(dataset.x_train, dataset.y_train)
        accuracy = trainer.evaluate(dataset.x_test, dataset.y_test)
        macs = trainer.step_macs * trainer.steps
        return Outcome(accuracy, trainer.steps, trainer.cycles, macs, time.perf_counter() - start)


def _summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    accuracies = [outcome.accuracy for outcome in outcomes]
    return {
        "accuracy": {"seeds": accuracies, "mean": float(np.mean(accuracies)), "std": float(np.std(accuracies))},
        "steps": outcomes[0].steps,
        "macs": {"step": outcomes[0].macs // outcomes[0].steps, "total": outcomes[0].macs},
        "cycles": _cycles(outcomes[0].cycles, outcomes[0].steps),
        "model_seconds": [outcome.seconds for outcome in outcomes],
    }


def _cycles(total: int, steps: int) -> dict[str, int]:
    return {"step": total // steps, "total": total}


def kept(recipes: Path, earlier: Path, only: Sequence[str]) -> dict[str, Any]:
    """An earlier result, whose recipes but ``only`` are kept: their accuracies, with today's cycles.

    What a training computes does not hang on the machine's latencies, and cycles are known without it. Raises
    ``ValueError`` when there is no result, when it has no such recipe, or when a recipe that is kept takes other
    multiply-accumulates today: then it was of another network, estimator or batch.
    """
    try:
        values: dict[str, Any] = json.loads(earlier.read_text())
    except FileNotFoundError:
        raise ValueError(f"there is no {earlier} of which the rest is kept: measure everything first") from None
    for name in only:
        if name not in values["trained"]:
            raise ValueError(f"no recipe {name!r} is measured; there are {', '.join(values['trained'])}")
    for name in values["trained"].keys() - set(only):
        trained = values["trained"][name]
        trainer = _loaded(recipes, name, quick=False).trainer()
        macs = trainer.step_macs * trained["steps"]
        if macs != trained["macs"]["total"]:
            raise ValueError(
                f"{earlier} says {trained['macs']['total']:,} MACs of {name}, today it takes {macs:,}: "
                "name it with --only too"
            )
        trained["cycles"] = _cycles(trainer.estimate(trained["steps"]), trained["steps"])
    return values


def measure(
    recipes: Path,
    device: str,
    *,
    quick: bool,
    only: Mapping[str, dict[str, Any]] | None = None,
    earlier: dict[str, Any] | None = None,
) -> tuple[list[str], list[list[str]], dict[str, Any]]:
    """Columns and rows to read, and the values.

    ``only`` names the recipes to train, each with what it must be quoted with; all others, and what is measured on this
    computer, are those of ``earlier``.
    """
    loaded = {name: _loaded(recipes, name, quick=quick) for name in ("mnist", "mnist-fast", "mnist-9bit")}
    seeds = SEEDS[:1] if quick else SEEDS
    jobs = [(name, recipe.changed([f"seed={seed}"])) for name, recipe in loaded.items() for seed in seeds]
    rge = _loaded(recipes, "mnist-rge", quick=quick)
    if not quick:
        rge = rge.changed([f"steps={_steps_of(rge, loaded['mnist'].trainer())}"])
    jobs.append(("mnist-rge", rge))
    if only is not None:
        jobs = [(name, recipe) for name, recipe in jobs if name in only]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        running = [(name, pool.submit(_train, recipe, device)) for name, recipe in jobs]
        outcomes: dict[str, list[Outcome]] = {}
        for name, job in running:
            outcomes.setdefault(name, []).append(job.result())
    trained = (earlier["trained"] if earlier else {}) | {name: _summary(of) for name, of in outcomes.items()}
    main, fast = loaded["mnist"], loaded["mnist-fast"]
    dataset = main.dataset.load(main.seed)
    macs = trained["mnist"]["macs"]["total"]
    floats = earlier["floats"] if earlier else _in_floats(main, dataset, seeds, macs, quick=quick)
    machines = [_on_machine(fast, name, preset(name)) for name in MACHINES]
    machines.append(_on_machine(loaded["mnist-9bit"].changed([f"steps={fast.steps}"]), "9 bits", None))
    link = _link(main, dataset)
    reached = trained["mnist-fast"]["accuracy"]["mean"] >= GOAL
    values = (earlier or {}) | trained["mnist"]
    values |= {
        "seeds": list(seeds),
        "configuration": asdict(main.machine),
        "recipes": {name: recipe.model_dump(mode="json") for name, recipe in loaded.items()},
        "trained": trained,
        "floats": floats,
        "machines": machines,
        "link": link,
    }
    if only is not None:
        values["renewed"] = values.get("renewed", {}) | only
    values["cycles"] |= {"to_95": trained["mnist-fast"]["cycles"]["total"] if reached else None}
    rows = [_row(name, summary, loaded.get(name, rge)) for name, summary in trained.items()]
    rows += [
        [name, _percent(of["accuracy"]), f"{of['steps']:,}", f"{of['macs']:.2e}", "", ""]
        for name, of in floats["trained"].items()
    ]
    rows += [
        [
            f"{machine['name']}: {fast.steps} steps",
            "",
            f"{fast.steps:,}",
            "",
            f"{machine['cycles']:,}",
            f"{machine['seconds']:.1f}",
        ]
        for machine in machines
    ]
    rows += [
        [f"one step here: {name}", "", "1", "", "", f"{seconds:.3f}"]
        for name, seconds in floats["seconds_a_step"].items()
    ]
    rows.append(
        [
            f"a batch at {BAUD / 1e6:g} Mbaud, {link['batch_bytes']:,.0f} bytes",
            "",
            "1",
            "",
            "",
            f"{link['batch_ms'] / 1e3:.3f}",
        ]
    )
    columns = ["what", "test accuracy", "steps", "MACs", "cycles", f"seconds (machines: at {main.clock_mhz:g} MHz)"]
    return columns, rows, values


def _loaded(recipes: Path, name: str, *, quick: bool) -> Recipe:
    recipe = Recipe.load(recipes / f"{name}.toml")
    return recipe.changed([f"steps={_QUICK_STEPS[name]}"]) if quick else recipe


def _steps_of(recipe: Recipe, like: Trainer) -> int:
    """Steps that make as many multiply-accumulates as the whole run of ``like``."""
    return max(1, like.step_macs * like.steps // recipe.trainer().step_macs)


def _percent(accuracy: dict[str, Any]) -> str:
    spread = f" ± {accuracy['std']:.2%}" if len(accuracy["seeds"]) > 1 else ""
    return f"{accuracy['mean']:.2%}{spread}"


def _row(name: str, summary: dict[str, Any], recipe: Recipe) -> list[str]:
    cycles = summary["cycles"]["total"]
    return [
        f"{name}, {recipe.machine.word}-bit words",
        _percent(summary["accuracy"]),
        f"{summary['steps']:,}",
        f"{summary['macs']['total']:.2e}",
        f"{cycles:,}",
        f"{cycles / recipe.clock_mhz / 1e6:.1f}",
    ]


def _on_machine(recipe: Recipe, name: str, config: Config | None) -> dict[str, Any]:
    """Exact cycles of a recipe on a machine (None: its own), and the machine's memory."""
    recipe = recipe.model_copy(update={"machine": config}) if config is not None else recipe
    trainer = recipe.trainer()
    cycles = trainer.estimate(recipe.steps)
    return {
        "name": name,
        "word": recipe.machine.word,
        "multipliers": recipe.machine.multipliers,
        "cycles": cycles,
        "step": trainer.step_cycles,
        "utilisation": trainer.step_utilisation,
        "seconds": cycles / recipe.clock_mhz / 1e6,
        "mhz": recipe.clock_mhz,
        "memory_bits": sum(memory.bits for memory in memory_map(recipe.machine)),
        "parts": [part._asdict() for part in trainer.parts()],
    }


class _Counting(ModelTransport):
    """The exact model behind a link whose bytes are counted."""

    sent = 0

    def write(self, data: bytes) -> None:
        """Sends ``data``."""
        self.sent += len(data)
        super().write(data)


def _link(recipe: Recipe, dataset: Dataset) -> dict[str, float]:
    """Bytes of a batch on the wire, packets and all, and its time on a serial line."""
    transport, order = _Counting(recipe.machine), SampleOrder(len(dataset.x_train), recipe.batch, recipe.seed)
    plan = recipe.trainer().plan
    with Device(transport, expected=recipe.machine) as device:
        device.abort()
        before = transport.sent
        for step in range(_SENT_BATCHES):
            chosen = order.batch(step)
            words, targets = plan.input_words(dataset.x_train[chosen]), plan.target_words(dataset.y_train[chosen])
            device.send_batch(words, targets)
            device.abort()
    sent = (transport.sent - before) / _SENT_BATCHES
    inputs = recipe.batch * recipe.network.inputs
    return {"batch_bytes": sent, "input_words": inputs, "baud": BAUD, "batch_ms": sent * _BITS_A_BYTE / BAUD * 1e3}


def _in_floats(recipe: Recipe, dataset: Dataset, seeds: Sequence[int], macs: int, *, quick: bool) -> dict[str, Any]:
    """The same cores by back-propagation, dense layers by random directions, and the time of a step here."""
    try:
        from . import torch_baselines
    except ImportError:
        raise ValueError("this benchmark compares with PyTorch: install it with pip install 'tenzo[bench]'") from None
    network, settings = recipe.network, recipe.settings
    data = (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test)
    back = [
        torch_baselines.back_propagation(
            network,
            data,
            batch=recipe.batch,
            steps=recipe.steps,
            seed=seed,
            rate=settings.rate,
            momentum=settings.momentum,
        )
        for seed in seeds
    ]
    dense, dense_steps = torch_baselines.dense_random_directions(
        network,
        data,
        batch=recipe.batch,
        macs=macs,
        queries=_DENSE_QUERIES,
        seed=seeds[0],
        rate=_DENSE_RATE,
        mu=_DENSE_MU,
    )
    x, y = dataset.x_train[: recipe.batch], dataset.y_train[: recipe.batch]
    start = time.perf_counter()
    for _ in range(1 if quick else _TIMED_STEPS):
        torch_baselines.incremental_step(network, x, y, seed=recipe.seed, mu=settings.mu)
    incremental = (time.perf_counter() - start) / (1 if quick else _TIMED_STEPS)
    accuracies = [accuracy for accuracy, _ in back]
    # Forward, and twice as much backward.
    back_macs = 3 * recipe.trainer().plan.macs * recipe.steps
    return {
        "trained": {
            "back-propagation, same cores, float": {
                "accuracy": {"seeds": accuracies, "mean": float(np.mean(accuracies)), "std": float(np.std(accuracies))},
                "steps": recipe.steps,
                "macs": back_macs,
            },
            "random directions, dense layers, float": {
                "accuracy": {"seeds": [dense], "mean": dense, "std": 0.0},
                "steps": dense_steps,
                "macs": macs,
            },
        },
        "seconds_a_step": {
            "incremental coordinates, PyTorch, one thread": incremental,
            "back-propagation, PyTorch, one thread": float(np.mean([seconds for _, seconds in back])),
        },
    }
