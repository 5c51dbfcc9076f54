import numpy as np
import pytest
from tenzo.device import Device
from tenzo.network import TT, Dense, Network, ReLU, Tanh
from tenzo.trace import trace
from tenzo_hw.config import preset
from tenzo_sim.model import ModelTransport

SMALL = preset("small")
NETWORK = Network(
    [TT((4, 4), (4, 4), 3), ReLU(), TT((4, 4), (8, 4), 3), Tanh(), TT((8, 4), (4, 4), 2), ReLU(), Dense(16, 5)]
)


@pytest.mark.parametrize("count", [1, SMALL.lanes])
def test_every_layer_is_near_the_float_network(count: int) -> None:
    random = np.random.default_rng(0)
    weights = NETWORK.initial_weights(0)
    x = random.uniform(-1, 1, (count, NETWORK.inputs))
    layers = trace(NETWORK, SMALL, None, Device(ModelTransport(SMALL)), weights, x)
    assert [layer.words.shape for layer in layers] == [(count, 16), (count, 32), (count, 16), (count, 5)]
    for layer in layers:
        # Results have 10 fraction bits, tanh's table 64 entries.
        assert layer.max_error < 0.02
        assert layer.rms_error <= layer.max_error
        assert np.abs(layer.values).max() > 0.05
        assert layer.saturated == 0
    assert np.allclose(layers[-1].reference, NETWORK.forward(weights, x), atol=0.01)


def test_saturated_words_are_counted() -> None:
    weights = {name: values * 5 for name, values in NETWORK.initial_weights(0).items()}
    x = np.full((1, NETWORK.inputs), 1.9)
    layers = trace(NETWORK, SMALL, None, Device(ModelTransport(SMALL)), weights, x)
    assert layers[0].saturated > 0


def test_more_samples_than_lanes_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 4, one a lane"):
        trace(NETWORK, SMALL, None, Device(ModelTransport(SMALL)), NETWORK.initial_weights(0), np.zeros((5, 16)))
