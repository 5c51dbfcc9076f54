"""Read this first: a network is trained on the simulated gateware and on the exact model, and nothing differs.

The network learns whether a point is inside or outside of a ring, by forward passes only. Both devices are driven by
the same code and the same bytes; the simulated one is the machine's Verilog in Verilator.
"""

import numpy as np
import pytest
from tenzo.device import Device
from tenzo.network import TT, Network, ReLU
from tenzo.settings import Settings
from tenzo.trainer import Trainer
from tenzo.transport import open_transport
from tenzo_hw.config import preset

CONFIG = preset("tiny")
SEED = 4
STEPS = 60

# One worker builds the simulated machine; the others need not.
pytestmark = pytest.mark.xdist_group("verilated")


def ring(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [samples, 4] (two coordinates and their squares) and whether they are far from the middle."""
    points = np.random.default_rng(SEED).uniform(-1, 1, (samples, 2))
    return np.concatenate([points, points**2 - 0.5], axis=1), (np.hypot(*points.T) > 0.8).astype(np.int64)


def train(device_name: str) -> tuple[Trainer, dict[str, object]]:
    """A trained network's trainer, and every word that its training left on the machine."""
    x, y = ring(256)
    network = Network([TT((2, 2), (2, 4), rank=2), ReLU(), TT((2, 4), (1, 2), rank=2)])
    with Device(open_transport(device_name, CONFIG), expected=CONFIG) as device:
        trainer = Trainer(
            network, CONFIG, Settings(queries=8, rate=0.02), device=device, batch=16, steps=STEPS, seed=SEED
        )
        trainer.start()
        trainer.train(x, y)
        outputs = trainer.predict(x)
        state = {
            "masters": device.read_masters(),
            "momentum": device.read_momentum(),
            "generator": device.generator,
            "scale": device.scale,
            "rate": device.rate,
            "losses": trainer.losses,
            "accuracies": trainer.accuracies,
            "outputs": outputs,
            "cycles": trainer.cycles,
        }
    return trainer, state


def test_gateware_and_model_train_to_the_same_bits_in_the_same_cycles() -> None:
    trainer, on_model = train("model")
    _, on_gateware = train("sim")
    for name, words in on_model.items():
        np.testing.assert_array_equal(on_gateware[name], words, err_msg=name)
    assert trainer.cycles == trainer.estimate(STEPS)
    # And it learned: chance is a loss of ln 2.
    assert trainer.losses[-8:].mean() < 0.5 * trainer.losses[:8].mean()
