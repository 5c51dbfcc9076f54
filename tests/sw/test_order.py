import numpy as np
import pytest
from tenzo.order import SampleOrder


@pytest.mark.parametrize(("samples", "batch"), [(10, 3), (10, 5), (3, 8), (1, 1)])
def test_every_epoch_sees_every_sample_once(samples: int, batch: int) -> None:
    order = SampleOrder(samples, batch, seed=5)
    seen = np.concatenate([order.batch(step) for step in range(4 * samples)])
    for epoch in range(seen.size // samples):
        assert sorted(seen[epoch * samples : (epoch + 1) * samples]) == list(range(samples))


def test_the_order_is_a_function_of_seed_and_step() -> None:
    whole = [SampleOrder(50, 8, seed=1).batch(step) for step in range(20)]
    order = SampleOrder(50, 8, seed=1)
    assert all(np.array_equal(order.batch(step), whole[step]) for step in (19, 3, 11))
    assert not np.array_equal(SampleOrder(50, 8, seed=2).batch(0), whole[0])


def test_every_epoch_has_an_order_of_its_own() -> None:
    order = SampleOrder(50, 50, seed=1)
    assert not np.array_equal(order.batch(0), order.batch(1))
