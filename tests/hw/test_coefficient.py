"""The coefficient model by hand, and the coefficient unit against it."""

import pytest
from tenzo_hw.coefficient import CoefficientState, CoefficientUnit, coefficients
from tenzo_hw.config import preset
from tenzo_hw.isa import Coefficient
from tenzo_sim.bench import run_bench

TINY = preset("tiny")


def test_two_sided_coefficients_are_normalised_by_the_scale():
    state = CoefficientState(rate=10 << 16, rate_step=1 << 16)
    slots = [1000, 400, 300, 700]
    values, after, loss = coefficients(TINY, Coefficient(queries=2, shift=1), slots, state)
    # A = 600 + 400: the scale is 1000, its power of two over both queries 2^9 / 2 = 256.
    assert after == CoefficientState(rate=9 << 16, rate_step=1 << 16, scale=1000)
    assert values == [10 * 600, -10 * 400]
    assert loss == 2400


def test_scale_is_a_running_mean_and_ratios_are_clipped():
    state = CoefficientState(rate=1 << 16, scale=160)
    instruction = Coefficient(queries=2, two_sided=False, shift=1, average=4, clip=3 << 8)
    values, after, loss = coefficients(TINY, instruction, [1000, 1000, 10_000, 7], state)
    assert after.scale == 160 + (9000 - 160) // 16
    assert values == [0, 3 << 8]
    assert loss == 12_000


def test_no_difference_gives_no_coefficient():
    values, after, loss = coefficients(TINY, Coefficient(queries=3), [5] * 6, CoefficientState(rate=1 << 31))
    assert values == [0, 0, 0]
    assert after.scale == 0
    assert loss == 30


def test_fixed_shift_leaves_the_scale_and_everything_saturates():
    full = (1 << TINY.loss_word) - 1
    state = CoefficientState(rate=(1 << 32) - 1, rate_step=(1 << 32) - 1, scale=77)
    instruction = Coefficient(queries=2, normalise=False, shift=0, clip=(1 << 16) - 1)
    values, after, loss = coefficients(TINY.replace(momentum_word=16), instruction, [full, 0, 0, full], state)
    assert values == [32767, -32768]
    assert after == CoefficientState(rate=0, rate_step=state.rate_step, scale=77)
    assert loss == full


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"losses": 32}, 300),
        ({"momentum_word": 16, "losses": 4, "history": 4}, 300),
        ({"momentum_word": 32, "losses": 128}, 300),
        ({"loss_word": 32, "losses": 16}, 300),
        ({"losses": 1 << 13}, 1),
    ],
    ids=str,
)
def test_gateware_is_the_model(changes, steps, seed, tmp_path):
    config = TINY.replace(**changes)
    parameters = {"config": config.words(), "steps": steps}
    run_bench(CoefficientUnit(config), "bench_coefficient", tmp_path, parameters=parameters, seed=seed)
