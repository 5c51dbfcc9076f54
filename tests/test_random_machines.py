"""Property: whatever the machine's configuration and the network, gateware and model train to the same bits and cycles.

Each seed draws a configuration and a network that fits it. Building a machine takes most of the time, so the seeds are
few; `test_end_to_end.py` is the one to read first.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from tenzo import TT, Dense, Device, Network, ReLU, Settings, Sigmoid, Tanh, Trainer, open_transport
from tenzo_hw.config import Config, preset

STEPS = 5


def random_machine(rng: random.Random) -> Config:
    """A small machine of any shape."""
    word = rng.randint(8, 18)
    columns = rng.randint(1, 6)
    return preset("tiny").replace(
        lanes=rng.randint(1, 5),
        columns=columns,
        sweep_turns=rng.choice([turns for turns in range(1, columns + 1) if columns % turns == 0]),
        word=word,
        input_word=rng.randint(6, word),
        output_word=max(word, 16),
        master_word=rng.randint(word + 8, 32),
        momentum_word=rng.randint(18, 32),
        lane_depth=512,
        weight_rows=256,
        effective_rows=512,
        tables=rng.randint(1, 2),
        table_bits=rng.randint(3, word - 2),
        loss_word=rng.randint(32, 48),
        incremental=rng.randint(0, 1),
        packet=rng.choice([64, 128, 256]),
    )


def random_serial_machine(rng: random.Random) -> Config:
    """A small serial machine."""
    return preset("icebreaker").replace(
        columns=rng.choice([2, 4]),
        sweep_turns=1,
        input_word=rng.randint(6, 10),
        output_word=rng.randint(10, 13),
        lane_depth=512,
        batch_depth=rng.choice([256, 512]),
        history=rng.choice([4, 64]),
        packet=rng.choice([64, 128, 256]),
    )


def random_network(rng: random.Random, config: Config) -> Network:
    """Two or three small layers with random folds, ranks, functions and loss."""
    functions = [ReLU(), Tanh(), Sigmoid()] if config.tables else [ReLU()]
    folds = [tuple(rng.randint(1, 4) for _ in range(2)) for _ in range(rng.randint(2, 3))]
    layers: list = []
    for inputs, outputs in pairwise(folds):
        layers += [TT(inputs, outputs, rank=1, bias=rng.random() < 0.7), rng.choice(functions)]
    loss = rng.choice(["cross_entropy", "squared_error"])
    layers.append(Dense(int(np.prod(folds[-1])), rng.randint(2, 5)))
    return Network(layers, loss)


def state(trainer: Trainer, x: np.ndarray, y: np.ndarray) -> dict[str, object]:
    """Everything that a training leaves on the machine."""
    trainer.start()
    trainer.train(x, y)
    device = trainer.device
    return {
        "masters": device.read_masters(),
        "momentum": device.read_momentum(),
        "generator": device.generator,
        "scale": device.scale,
        "losses": trainer.losses,
        "outputs": trainer.predict(x),
        "cycles": trainer.cycles,
    }


@pytest.mark.parametrize(
    ("machine", "seed"), [*[(random_machine, seed) for seed in (1, 2, 3)], (random_serial_machine, 4)]
)
def test_gateware_is_model(machine: Callable[[random.Random], Config], seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    config = machine(rng)
    network = random_network(rng, config)
    batch = config.lanes * rng.randint(1, 3)
    two_sided = rng.random() < 0.5
    settings = Settings(queries=rng.randint(1, 5), two_sided=two_sided, rate=0.02, momentum=rng.randint(0, 4))
    values = np.random.default_rng(seed)
    x = values.uniform(-1, 1, (4 * batch, network.inputs))
    if network.loss == "cross_entropy":
        y = values.integers(0, network.outputs, len(x))
    else:
        y = values.uniform(-1, 1, (len(x), network.outputs))
    states = []
    for name in ("model", "sim"):
        with Device(open_transport(name, config), expected=config) as device:
            trainer = Trainer(network, config, settings, device=device, batch=batch, steps=STEPS, seed=seed)
            states.append(state(trainer, x, y))
            assert trainer.cycles == trainer.estimate(STEPS)
    on_model, on_gateware = states
    for name, words in on_model.items():
        np.testing.assert_array_equal(on_gateware[name], words, err_msg=f"{name}, {config}, {network.to_dict()}")
