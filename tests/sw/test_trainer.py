"""Training over the byte protocol on the exact model: what is recorded, resumed, and refused."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tenzo.checkpoint import Checkpoint, CheckpointError
from tenzo.device import Device
from tenzo.errors import DeviceLost
from tenzo.network import TT, Dense, Network, ReLU, Tanh
from tenzo.settings import Settings
from tenzo.trainer import Progress, Trainer
from tenzo_hw.config import preset
from tenzo_sim.faulty import FaultyTransport
from tenzo_sim.model import ModelTransport

TINY = preset("tiny")
CLASSIFIER = Network([TT((2, 4), (2, 2), 2), ReLU(), Dense(4, 3)])
REGRESSOR = Network([TT((2, 2), (2, 2), 2), Tanh(), Dense(4, 2)], "squared_error")
SETTINGS = Settings(queries=4, rate=0.05)


def trainer(network: Network = CLASSIFIER, device: Device | None = None, **options) -> Trainer:
    options = {"batch": 4, "steps": 40, "seed": 3} | options
    return Trainer(network, TINY, SETTINGS, None, device or Device(ModelTransport(TINY)), **options)


def samples(network: Network, count: int = 50, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.uniform(-1, 1, (count, network.inputs))
    hidden = x @ random.normal(size=(network.inputs, network.outputs))
    return x, hidden.argmax(axis=1) if network.loss == "cross_entropy" else np.tanh(hidden)


def same(ours: Checkpoint, theirs: Checkpoint) -> None:
    for name in vars(ours):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


@pytest.mark.parametrize("network", [CLASSIFIER, REGRESSOR])
def test_training_learns_and_counts(network: Network) -> None:
    x, y = samples(network)
    run = trainer(network, steps=200)
    run.start()
    before = run.evaluate(x, y)
    run.train(x, y)
    assert run.evaluate(x, y) > before + 0.1
    assert run.losses.shape == (200,)
    assert run.losses[-20:].mean() < run.losses[:20].mean()
    assert run.cycles == run.estimate(200)


def test_losses_are_those_of_the_float_network() -> None:
    x, y = samples(CLASSIFIER)
    run = trainer(steps=1)
    run.start()
    weights = run.weights
    run.train(x, y)
    outputs = CLASSIFIER.forward(weights, x)
    powers = np.exp(outputs)
    nats = -np.log((powers / powers.sum(axis=1, keepdims=True))[np.arange(len(y)), y]).mean()
    # Of four samples, and with perturbed weights of few bits: near, not equal.
    assert run.losses[0] == pytest.approx(nats, rel=0.5)


def test_prediction_is_the_float_network_in_few_bits() -> None:
    run = trainer()
    run.start()
    x, _ = samples(CLASSIFIER, 7)
    outputs = run.predict(x)
    assert outputs.shape == (7, 3)
    assert np.abs(outputs - CLASSIFIER.forward(run.weights, x)).max() < 0.25
    assert run.predict(x[:0]).shape == (0, 3)


def test_weights_go_out_and_in() -> None:
    run = trainer()
    run.start()
    changed = {name: values + 0.25 for name, values in run.weights.items()}
    run.weights = changed
    for name, values in run.weights.items():
        assert np.array_equal(values, changed[name]), name


@pytest.mark.parametrize("stop", [16, 21, 32])
def test_a_resumed_run_has_the_same_bits(tmp_path, stop: int) -> None:
    x, y = samples(CLASSIFIER)
    whole = trainer()
    whole.start()
    whole.train(x, y)
    first = trainer()
    first.start()
    first.train(x, y, until=stop)
    first.checkpoint().save(tmp_path / "checkpoint.npz")
    second = trainer()
    second.restore(Checkpoint.load(tmp_path / "checkpoint.npz"))
    second.train(x, y)
    ours, theirs = second.checkpoint(), whole.checkpoint()
    if stop % TINY.history:  # One more RUN: the machine says its cycles apart.
        ours, theirs = replace(ours, runs=ours.runs[:0]), replace(theirs, runs=theirs.runs[:0])
    same(ours, theirs)


def test_predictions_between_the_steps_change_nothing() -> None:
    x, y = samples(CLASSIFIER)
    quiet, curious = trainer(), trainer()
    quiet.start()
    quiet.train(x, y)
    curious.start()
    for until in (16, 32, 40):
        curious.train(x, y, until=until)
        curious.predict(x)
    same(curious.checkpoint(), quiet.checkpoint())


def test_a_callback_ends_the_training_after_its_chunk() -> None:
    x, y = samples(CLASSIFIER)
    seen: list[Progress] = []
    sent: list[int] = []

    def stop(progress: Progress) -> bool:
        seen.append(progress)
        return True

    run = trainer()
    run.start()
    run.train(x, y, on_chunk=stop, on_batch=sent.append)
    assert [progress.step for progress in seen] == [TINY.history] == [run.step]
    assert sent == list(range(1, TINY.history + 2))
    run.train(x, y)
    whole = trainer()
    whole.start()
    whole.train(x, y)
    same(run.checkpoint(), whole.checkpoint())


@pytest.mark.parametrize(
    ("change", "name"),
    [({"seed": 4}, "seed"), ({"steps": 41}, "steps"), ({"batch": 8}, "batch"), ({"network": REGRESSOR}, "network")],
)
def test_a_checkpoint_of_another_run_is_refused(change: dict, name: str) -> None:
    run = trainer()
    run.start()
    checkpoint = run.checkpoint()
    with pytest.raises(CheckpointError, match="another run"):
        trainer(**change).restore(checkpoint)


def nan(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x[3, 1] = np.nan
    return x, y


def label(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y[3] = 3
    return x, y


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nan, "not finite"),
        (label, "0 to 2"),
        (lambda x, y: (x, y[1:]), "50 inputs and 49 targets"),
        (lambda x, y: (x[:0], y[:0]), "0 inputs"),
        (lambda x, y: (x[:, 1:], y), r"shape \(50, 7\)"),
    ],
)
def test_wrong_samples_are_refused_and_change_nothing(spoil: Callable, message: str) -> None:
    run = trainer()
    run.start()
    before = run.checkpoint()
    with pytest.raises(ValueError, match=message):
        run.train(*spoil(*samples(CLASSIFIER)))
    same(run.checkpoint(), before)


def test_a_damaged_link_trains_to_the_same_bits() -> None:
    x, y = samples(CLASSIFIER)
    good = trainer()
    good.start()
    good.train(x, y)
    link = FaultyTransport(ModelTransport(TINY), seed=1, flips=3e-4, drops=3e-4, repeats=3e-4)
    device = Device(link, attempts=20)
    bad = trainer(device=device)
    bad.start()
    bad.train(x, y)
    same(bad.checkpoint(), good.checkpoint())
    assert device.recovered > 0


def test_a_device_that_goes_away_in_mid_run_is_noticed() -> None:
    x, y = samples(CLASSIFIER)
    link = FaultyTransport(ModelTransport(TINY), seed=1)
    run = trainer(device=Device(link, attempts=3))
    run.start()
    with pytest.raises(DeviceLost):
        run.train(x, y, on_batch=lambda sent: link.pull(10**6) if sent == 5 else None)
