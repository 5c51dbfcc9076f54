"""Estimators, optimisers, schedules and hybrid runs: chosen from Python, trained on the exact model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tenzo import TT, Device, Hybrid, Network, ReLU, Settings, Trainer
from tenzo.checkpoint import Checkpoint
from tenzo_hw.config import preset
from tenzo_sim.model import ModelTransport

CONFIG = preset("small").replace(program_depth=8192)
NETWORK = Network([TT([4, 3], [3, 4], 2), ReLU(), TT([3, 4], [1, 3], 2)])
COARSE = Settings(queries=4, rate=0.02)
FINE = Settings(estimator="incremental-cge", mu=2**-6, rate=0.1, momentum=2, normalise=False)
STEPS = 96


def samples() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    x = random.uniform(0, 1, (200, NETWORK.inputs))
    return x, (x @ random.normal(size=(NETWORK.inputs, 3))).argmax(axis=1)


def trainer(settings: Settings | Hybrid, **options: int) -> Trainer:
    device = Device(ModelTransport(CONFIG))
    return Trainer(NETWORK, CONFIG, settings, None, device, **{"batch": 16, "steps": STEPS, "seed": 2} | options)


@pytest.mark.parametrize(
    "settings",
    [
        COARSE,
        replace(COARSE, optimiser="sign", rate=0.004),
        replace(COARSE, two_sided=False, mu=2**-6),
        replace(COARSE, momentum=0),
        FINE,
        replace(FINE, schedule="cosine"),
        replace(FINE, schedule="exponential"),
        replace(FINE, schedule="constant", weight_decay=12),
        replace(FINE, optimiser="sign", rate=0.004),
        replace(FINE, normalise=True, rate=0.005),
        replace(FINE, estimator="cge"),
        Hybrid(coarse=COARSE, fine=FINE, step=40),
        Hybrid(coarse=COARSE, fine=FINE, patience=1),
    ],
    ids=str,
)
def test_every_way_to_train_learns_in_the_cycles_that_are_told(settings: Settings | Hybrid) -> None:
    x, y = samples()
    run = trainer(settings)
    run.start()
    before = run.evaluate(x, y)
    run.train(x, y)
    assert run.evaluate(x, y) > before + 0.1
    assert run.losses[-16:].mean() < run.losses[:16].mean()
    if not (isinstance(settings, Hybrid) and settings.step is None):
        assert run.cycles == run.estimate(STEPS)


def test_incremental_and_plain_coordinates_train_alike() -> None:
    """The same slopes but for rounding: the losses stay together, in far fewer cycles."""
    x, y = samples()
    runs = [trainer(replace(FINE, estimator=estimator)) for estimator in ("cge", "incremental-cge")]
    for run in runs:
        run.start()
        run.train(x, y)
    plain, incremental = runs
    assert np.abs(plain.losses - incremental.losses).max() < 0.02
    assert incremental.cycles < plain.cycles / 5


def test_rates_follow_the_schedule() -> None:
    x, y = samples()
    for schedule in ("cosine", "exponential"):
        run = trainer(replace(FINE, schedule=schedule))
        run.start()
        first, rates = run.device.rate, []
        run.train(x, y, on_chunk=lambda _: rates.append(run.device.rate))  # noqa: B023
        wanted = [first * run.phase.rate_at(share) / run.phase.rate for share in (0, 1 / 3, 2 / 3)]
        assert rates == pytest.approx(wanted, rel=1e-3)


def test_a_hybrid_run_switches_where_it_is_told() -> None:
    x, y = samples()
    run = trainer(Hybrid(coarse=COARSE, fine=FINE, step=40))
    run.start()
    steps = []
    run.train(x, y, on_chunk=lambda progress: steps.append(progress.step))
    assert steps == [32, 40, 64, 96]
    assert run.switch == 40


def test_a_plateau_is_patience_chunks_without_a_gain() -> None:
    hybrid = Hybrid(coarse=COARSE, fine=FINE, patience=2)
    assert hybrid.switch([1.0, 0.9, 0.8, 0.7]) is None
    assert hybrid.switch([1.0, 0.9, 0.899, 0.7]) is None
    assert hybrid.switch([1.0, 0.9, 0.899, 0.898, 0.5]) == 4


@pytest.mark.parametrize("stop", [32, 40, 50])
@pytest.mark.parametrize("switch", [{"step": 40}, {"patience": 1}])
def test_a_resumed_hybrid_run_has_the_same_bits(tmp_path: Path, stop: int, switch: dict[str, int]) -> None:
    x, y = samples()
    hybrid = Hybrid(coarse=replace(COARSE, rate=1e-6), fine=replace(FINE, schedule="cosine"), **switch)
    whole = trainer(hybrid)
    whole.start()
    whole.train(x, y)
    first = trainer(hybrid)
    first.start()
    first.train(x, y, until=stop)
    first.checkpoint().save(tmp_path / "checkpoint.npz")
    second = trainer(hybrid)
    second.restore(Checkpoint.load(tmp_path / "checkpoint.npz"))
    second.train(x, y)
    ours, theirs = second.checkpoint(), whole.checkpoint()
    for name in ("masters", "momentum", "losses", "correct", "rate", "scale", "generator"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ({}, "give one of both"),
        ({"step": 3, "patience": 2}, "give one of both"),
        ({"step": 0}, "step=0"),
        ({"patience": 0}, "patience=0"),
    ],
)
def test_wrong_switches_are_refused(switch: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hybrid(coarse=COARSE, fine=FINE, **switch)


def test_the_cycles_of_a_plateau_are_not_known_before() -> None:
    with pytest.raises(ValueError, match="give a step to switch at"):
        trainer(Hybrid(coarse=COARSE, fine=FINE, patience=1)).estimate(STEPS)
