"""The netlist of each family trains to the exact model's bits, in its cycles: synthesis has changed nothing."""

from __future__ import annotations

import numpy as np
import pytest
from tenzo import TT, Dense, Device, Network, ReLU, Settings, Tanh, Trainer
from tenzo.transport import Transport, open_transport
from tenzo_hw.config import preset
from tenzo_sim.netlist import netlist
from tenzo_sim.verilated import SimTransport, VerilatedMachine

CONFIG = preset("tiny")
SEED = 6
STEPS = 2
CLASSES = Network([TT((2, 2), (2, 4), rank=2), ReLU(), TT((2, 4), (1, 3), rank=2)])
VALUES = Network([Dense(4, 3), Tanh(), Dense(3, 2)], "squared_error")


def trained(transport: Transport, network: Network, settings: Settings) -> dict[str, object]:
    """What a short training leaves on a machine."""
    random = np.random.default_rng(SEED)
    x = random.uniform(-1, 1, (12, network.inputs))
    classes = network.loss == "cross_entropy"
    y = random.integers(0, network.outputs, len(x)) if classes else random.normal(0, 0.5, (len(x), network.outputs))
    with Device(transport, expected=CONFIG) as device:
        trainer = Trainer(network, CONFIG, settings, device=device, batch=4, steps=STEPS, seed=SEED)
        trainer.start()
        trainer.train(x, y)
        assert trainer.cycles == trainer.estimate(STEPS)
        return {
            "losses of the last step": device.read_losses(CONFIG.losses),
            "masters": device.read_masters(),
            "momentum": device.read_momentum(),
            "generator": device.generator,
            "scale": device.scale,
            "history": trainer.losses,
            "outputs": trainer.predict(x),
            "cycles": trainer.cycles,
        }


@pytest.mark.parametrize(
    "family",
    # One worker makes a family's netlist.
    [pytest.param(family, marks=pytest.mark.xdist_group(f"netlist {family}")) for family in ("ecp5", "ice40")],
)
@pytest.mark.parametrize(
    ("network", "settings"),
    [
        pytest.param(CLASSES, Settings(queries=4, rate=0.02), id="random directions"),
        pytest.param(CLASSES, Settings(estimator="incremental-cge", mu=2**-4, rate=0.05), id="word by word"),
        pytest.param(VALUES, Settings(queries=3, rate=0.02, two_sided=False, optimiser="sign"), id="values"),
    ],
)
def test_netlist_is_model(family: str, network: Network, settings: Settings) -> None:
    on_model = trained(open_transport("model", CONFIG), network, settings)
    machine = VerilatedMachine(CONFIG, netlist=netlist(CONFIG, family))
    on_netlist = trained(SimTransport(CONFIG, machine=machine), network, settings)
    for name, words in on_model.items():
        np.testing.assert_array_equal(on_netlist[name], words, err_msg=name)
