"""A network of your own, step by step: network, plan, device, training, prediction.

``python examples/spirals.py`` trains on the exact model; ``python examples/spirals.py sim`` on the simulated gateware,
with the same bits. A board would be ``serial:/dev/ttyUSB0``.
"""

from __future__ import annotations

import sys

import numpy as np
from tenzo import TT, Device, Network, ReLU, Settings, Trainer, open_transport
from tenzo_hw.config import preset

SEED = 1


def spirals(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [samples, 4] (place and its products) on two spirals, and which spiral each is on."""
    random = np.random.default_rng(SEED)
    turn, spiral = random.uniform(0.2, 1, samples), random.integers(0, 2, samples)
    angle = np.pi * (1.5 * turn + spiral)
    place = turn[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1) + random.normal(0, 0.02, (samples, 2))
    return np.concatenate([place, place**2 - 0.25], axis=1), spiral


def main(device_name: str = "model") -> float:
    """Trains, prints what it cost and how well it went; returns the accuracy on samples not trained on."""
    config = preset("small")
    network = Network([TT((2, 2), (4, 4), rank=4), ReLU(), TT((4, 4), (1, 2), rank=4)])
    x, y = spirals(640)
    with Device(open_transport(device_name, config), expected=config) as device:
        trainer = Trainer(
            network, config, Settings(queries=16, rate=0.02), device=device, batch=32, steps=400, seed=SEED
        )
        print(f"{network.parameters} trainable words, {trainer.step_cycles:,} cycles a step")
        trainer.start()
        trainer.train(x[:512], y[:512])
        accuracy = trainer.evaluate(x[512:], y[512:])
    print(f"{trainer.cycles:,} cycles, multipliers busy {trainer.step_utilisation:.0%}, test accuracy {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main(*sys.argv[1:])
