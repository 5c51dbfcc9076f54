"""Estimators, optimisers, schedules and hybrid runs: chosen from Python, trained on the exact model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tenzo import TT, Device, Hybrid, Network, ReLU, Settings, Trainer
from tenzo.checkpoint import Checkpoint
from tenzo.coordinates import Band, bands, choose, runs
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
        replace(FINE, estimator="cge", share=0.4),
        replace(COARSE, estimator="tensor-rge", rate=0.03),
        replace(COARSE, estimator="tensor-rge", two_sided=False, mu=2**-6, optimiser="sign", rate=0.004),
        Hybrid(coarse=COARSE, fine=FINE, step=40),
        Hybrid(coarse=COARSE, fine=FINE, patience=1),
        Hybrid(coarse=replace(COARSE, estimator="tensor-rge"), fine=FINE, step=40),
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


def shares(share: float, **options: int) -> Trainer:
    """A trainer whose weights hardly move, a share of them in a chunk."""
    return trainer(replace(FINE, estimator="cge", share=share, schedule="constant", rate=1e-5), **options)


def test_a_chunk_moves_the_words_of_its_share_alone() -> None:
    x, y = samples()
    run = shares(0.3)
    run.start()
    found = list(bands(runs(run.plan)))
    count = round(0.3 * len(found))
    states = [(run.device.read_masters(), run.device.read_momentum())]
    run.train(x, y, on_chunk=lambda _: states.append((run.device.read_masters(), run.device.read_momentum())))
    drawn = []
    for before, after in pairwise(states):
        moved = (before[0] != after[0]) | (before[1] != after[1])
        drawn.append({band for band in found if moved[words(band)].any()})
        assert moved.sum() == sum(moved[words(band)].sum() for band in drawn[-1])
        assert len(drawn[-1]) == count
    assert len(drawn) == 3
    assert drawn[0] != drawn[1] != drawn[2]


def words(band: Band) -> tuple[slice, slice]:
    return slice(band.row, band.row + band.count), slice(band.column, band.column + band.columns)


def test_losses_are_means_over_the_evaluations_of_their_chunk() -> None:
    """With weights that hardly move all evaluations are alike, however many there are."""
    x, y = samples()
    whole, part = shares(1.0), shares(0.3)
    for run in (whole, part):
        run.start()
        run.train(x, y)
    # The 93 words moved one by one: all losses are those of the weights, but for mu times a slope.
    assert part.losses == pytest.approx(whole.losses, rel=1e-2)
    assert part.accuracies == pytest.approx(whole.accuracies, abs=0.05)
    assert part.cycles < 0.5 * whole.cycles


@pytest.mark.parametrize("stop", [32, 50, 64])
def test_a_resumed_share_is_the_same_share(tmp_path: Path, stop: int) -> None:
    x, y = samples()
    settings = replace(FINE, estimator="cge", share=0.4)
    resumed_has_the_same_bits(settings, stop, tmp_path)
    run = trainer(settings)
    run.start()
    run.train(x, y)
    assert run.cycles == run.estimate(STEPS)


def test_every_band_is_drawn_as_often_as_the_others() -> None:
    found = [Band(row=number, column=0, count=1, columns=1) for number in range(10)]
    drawn = Counter(band for chunk in range(2000) for band in choose(found, 0.3, (5, chunk)))
    assert sum(drawn.values()) == 3 * 2000
    # A binomial of 2,000 and 0.3 deviates by 20.5.
    assert all(abs(times - 600) < 5 * 20.5 for times in drawn.values())
    assert choose(found, 0.3, (5, 1)) == [band for band in found if band in choose(found, 0.3, (5, 1))]
    assert len(choose(found, 1e-6, (5, 0))) == 1
    assert choose(found, 1.0, (5, 0)) == found


def test_pairs_of_bands_are_drawn_independently_of_their_numbers() -> None:
    found = [Band(row=number, column=0, count=1, columns=1) for number in range(8)]
    pairs = Counter(tuple(choose(found, 0.25, (seed, chunk))) for seed in range(40) for chunk in range(70))
    assert len(pairs) == 28
    # A binomial of 2,800 and 1/28 deviates by 9.8.
    assert all(abs(times - 100) < 5 * 9.8 for times in pairs.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0.0}, "share=0.0 .* more than 0, up to 1"),
        ({"share": 1.5}, "share=1.5"),
        ({"share": 0.5}, "share=0.5 is not possible: 1 with incremental-cge; less with cge only"),
        ({"share": 0.5, "estimator": "rge"}, "1 with rge"),
        ({"share": 0.5, "estimator": "tensor-rge"}, "1 with tensor-rge"),
    ],
)
def test_wrong_shares_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FINE, **change)


def test_a_share_of_more_words_than_there_are_slots_is_refused_before_the_run() -> None:
    """Whether the words of a chunk fit does not depend on which were drawn."""
    small = CONFIG.replace(losses=64)
    run = Trainer(NETWORK, small, replace(FINE, estimator="cge", share=0.6), batch=16, steps=STEPS)
    for chunk in range(10):
        with pytest.raises(ValueError, match="words take one more loss a step, the machine remembers 64"):
            run.program(run.phase, chunk)


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


def resumed_has_the_same_bits(settings: Settings | Hybrid, stop: int, folder: Path) -> None:
    x, y = samples()
    whole = trainer(settings)
    whole.start()
    whole.train(x, y)
    first = trainer(settings)
    first.start()
    first.train(x, y, until=stop)
    first.checkpoint().save(folder / "checkpoint.npz")
    second = trainer(settings)
    second.restore(Checkpoint.load(folder / "checkpoint.npz"))
    second.train(x, y)
    ours, theirs = second.checkpoint(), whole.checkpoint()
    for name in ("masters", "momentum", "losses", "correct", "rate", "scale", "generator"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


@pytest.mark.parametrize("stop", [32, 40, 50])
@pytest.mark.parametrize("switch", [{"step": 40}, {"patience": 1}])
def test_a_resumed_hybrid_run_has_the_same_bits(tmp_path: Path, stop: int, switch: dict[str, int]) -> None:
    hybrid = Hybrid(coarse=replace(COARSE, rate=1e-6), fine=replace(FINE, schedule="cosine"), **switch)
    resumed_has_the_same_bits(hybrid, stop, tmp_path)


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
