"""Every estimator on the simulated gateware: the model's words in every memory, and its cycles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tenzo import TT, Dense, Device, Network, ReLU, Settings, Tanh, Trainer, open_transport
from tenzo.recipe import Recipe
from tenzo_hw.config import Config, preset

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
#: Five columns for five classes, and more than one tile for ten.
SMALL = preset("small").replace(columns=5, weight_rows=256, effective_rows=1024, program_depth=8192)
TEN_CLASSES = Network([TT([3, 2, 4], [2, 3, 4], 2), ReLU(), TT([4, 3, 2], [1, 2, 5], 3)])
VALUES = Network([Dense(12, 6), ReLU(), Dense(6, 3)], loss="squared_error")
DEEP = Network([TT([3, 2], [2, 4], 2), Tanh(), Dense(8, 5), ReLU(), TT([5, 1], [1, 3], 1), Tanh()], "squared_error")
STEPS = 3


def trained(device_name: str, config: Config, network: Network, settings: Settings) -> dict[str, object]:
    """What a short training leaves on a machine."""
    random = np.random.default_rng(11)
    x = random.uniform(0, 1, (40, network.inputs))
    if network.loss == "cross_entropy":
        y = random.integers(0, network.outputs, len(x))
    else:
        y = random.normal(0, 0.5, (len(x), network.outputs))
    with Device(open_transport(device_name, config), expected=config) as device:
        trainer = Trainer(network, config, settings, device=device, batch=8, steps=STEPS, seed=4)
        trainer.start()
        trainer.train(x, y)
        assert trainer.cycles == trainer.estimate(STEPS)
        return {
            "losses of the last step": device.read_losses(config.losses),
            "masters": device.read_masters(),
            "momentum": device.read_momentum(),
            "generator": device.generator,
            "history": trainer.losses,
            "outputs": trainer.predict(x),
            "cycles": trainer.cycles,
        }


@pytest.mark.parametrize(
    "settings",
    [
        Settings(queries=3, rate=0.02),
        Settings(queries=3, rate=0.02, two_sided=False),
        Settings(queries=3, rate=0.01, optimiser="sign"),
        Settings(estimator="tensor-rge", queries=2, mu=2**-4, rate=0.02),
        Settings(estimator="tensor-rge", queries=2, mu=2**-4, rate=0.02, two_sided=False),
        Settings(estimator="cge", mu=2**-6, rate=0.05, normalise=False),
        Settings(estimator="cge", mu=2**-6, rate=0.05, normalise=False, share=0.3),
        Settings(estimator="incremental-cge", mu=2**-6, rate=0.05, normalise=False),
        Settings(estimator="incremental-cge", mu=2**-4, rate=0.01, optimiser="sign", weight_decay=9),
        Settings(estimator="incremental-cge", mu=2**-8, stretch=4, rate=0.01, momentum=0),
    ],
    ids=lambda settings: (
        f"{settings.estimator}-{settings.optimiser}-{settings.two_sided}-{settings.momentum}-{settings.share}"
    ),
)
@pytest.mark.parametrize("network", [TEN_CLASSES, VALUES], ids=["ten classes", "values"])
def test_gateware_is_model(network: Network, settings: Settings) -> None:
    on_model, on_gateware = (trained(name, SMALL, network, settings) for name in ("model", "sim"))
    for name, words in on_model.items():
        assert np.array_equal(words, on_gateware[name]), name


@pytest.mark.parametrize("two_sided", [True, False])
def test_tensor_wise_steps_of_a_deep_network_are_the_model_s(two_sided: bool) -> None:
    settings = Settings(estimator="tensor-rge", queries=2, two_sided=two_sided, mu=2**-4, rate=0.02)
    on_model, on_gateware = (trained(name, SMALL, DEEP, settings) for name in ("model", "sim"))
    for name, words in on_model.items():
        assert np.array_equal(words, on_gateware[name]), name


def test_a_step_of_the_paper_s_network_is_the_model_s() -> None:
    """64 samples, 3,962 words moved one by one: every loss, master and momentum, and 2.7 million cycles."""
    recipe = Recipe.load(RECIPES / "mnist.toml")
    random = np.random.default_rng(recipe.seed)
    pixels = random.integers(0, 256, (recipe.batch, recipe.network.inputs)) / 255
    x = pixels * (random.random(pixels.shape) < 0.2)
    y = random.integers(0, recipe.network.outputs, recipe.batch)
    states = []
    for name in ("model", "sim"):
        with Device(open_transport(name, recipe.machine), expected=recipe.machine) as device:
            trainer = recipe.trainer(device)
            trainer.start()
            trainer.train(x, y, until=1)
            assert trainer.cycles == trainer.estimate(1)
            losses = device.read_losses(recipe.network.parameters + 1)
            states.append((losses, device.read_masters(), device.read_momentum(), trainer.cycles))
    on_model, on_gateware = states
    for ours, theirs in zip(on_model, on_gateware, strict=True):
        assert np.array_equal(ours, theirs)
    assert len(np.unique(on_model[0])) > recipe.network.parameters // 4
