"""The netlist of each family trains to the exact model's bits, in its cycles: synthesis has changed nothing.

On an iCE40 the serial machine starts with garbage in its large memories, as the chip does: only what has been written
counts.
"""

from __future__ import annotations

import numpy as np
import pytest
from tenzo import TT, Dense, Device, Network, ReLU, Settings, Tanh, Trainer
from tenzo.transport import Transport, open_transport
from tenzo_hw.config import Config, preset
from tenzo_sim.netlist import cells, netlist
from tenzo_sim.verilated import SimTransport, VerilatedMachine

CONFIG = preset("tiny")
SERIAL = preset("icebreaker")
SEED = 6
STEPS = 2
CLASSES = Network([TT((2, 2), (2, 4), rank=2), ReLU(), TT((2, 4), (1, 3), rank=2)])
VALUES = Network([Dense(4, 3), Tanh(), Dense(3, 2)], "squared_error")
# A serial machine has no tables.
SERIAL_CLASSES = Network([Dense(6, 4), ReLU(), Dense(4, 3)])
SERIAL_VALUES = Network([Dense(4, 3), ReLU(), Dense(3, 2)], "squared_error")


def trained(transport: Transport, config: Config, network: Network, settings: Settings) -> dict[str, object]:
    """What a short training leaves on a machine."""
    random = np.random.default_rng(SEED)
    x = random.uniform(-1, 1, (12, network.inputs))
    classes = network.loss == "cross_entropy"
    y = random.integers(0, network.outputs, len(x)) if classes else random.normal(0, 0.5, (len(x), network.outputs))
    with Device(transport, expected=config) as device:
        trainer = Trainer(network, config, settings, device=device, batch=4, steps=STEPS, seed=SEED)
        trainer.start()
        trainer.train(x, y)
        assert trainer.cycles == trainer.estimate(STEPS)
        return {
            "losses of the last step": device.read_losses(config.losses),
            "masters": device.read_masters(),
            "momentum": device.read_momentum(),
            "generator": device.generator,
            "scale": device.scale,
            "history": trainer.losses,
            "outputs": trainer.predict(x),
            "cycles": trainer.cycles,
        }


def same_training(config: Config, family: str, network: Network, settings: Settings) -> None:
    """On the exact model and on the netlist."""
    on_model = trained(open_transport("model", config), config, network, settings)
    machine = VerilatedMachine(config, netlist=netlist(config, family))
    on_netlist = trained(SimTransport(config, machine=machine), config, network, settings)
    for name, words in on_model.items():
        np.testing.assert_array_equal(on_netlist[name], words, err_msg=name)


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
    same_training(CONFIG, family, network, settings)


@pytest.mark.xdist_group("netlist serial")
@pytest.mark.parametrize(
    ("network", "settings"),
    [
        pytest.param(CLASSES, Settings(queries=4, rate=0.02, weight_decay=6), id="two-sided"),
        pytest.param(SERIAL_CLASSES, Settings(queries=3, rate=0.02, two_sided=False), id="one-sided"),
        pytest.param(SERIAL_CLASSES, Settings(estimator="cge", mu=2**-4, rate=0.02), id="word by word"),
        pytest.param(SERIAL_VALUES, Settings(queries=3, rate=0.02, optimiser="sign"), id="values"),
    ],
)
def test_serial_netlist_is_model(network: Network, settings: Settings) -> None:
    same_training(SERIAL, "ice40", network, settings)


@pytest.mark.xdist_group("netlist serial")
def test_serial_netlist_has_the_chip_s_memories() -> None:
    kinds = cells(netlist(SERIAL, "ice40"))
    assert kinds["SB_SPRAM256KA"] == 4
    # One a column, and the processor's.
    assert kinds["SB_MAC16"] == SERIAL.columns + 1
    assert kinds["SB_RAM40_4K"]
