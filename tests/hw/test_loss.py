"""The loss model against floating point, and the loss accumulator against the model."""

import numpy as np
import pytest
from tenzo_hw.config import LOSS_FRACTION, preset
from tenzo_hw.isa import Loss, LossKind
from tenzo_hw.loss import LossAccumulator, accumulated, added, cross_entropy, losses, slot
from tenzo_hw.loss_tables import LOG2_E
from tenzo_sim.bench import run_bench

TINY = preset("tiny")


def reference(outputs, labels, fraction):
    """Cross-entropy in bits, float64, and the distance of the label's output to the largest, in bits."""
    bits = outputs / 2**fraction * np.log2(np.e)
    largest = bits.max(axis=1)
    label = bits[np.arange(len(labels)), labels]
    return np.log2(np.exp2(bits - largest[:, None]).sum(axis=1)) + largest - label, largest - label


@pytest.mark.parametrize("fraction", [0, 4, 12, 17])
@pytest.mark.parametrize("count", [1, 2, 10, 128])
def test_cross_entropy_is_that_of_float64(count, fraction):
    rng = np.random.default_rng(count + fraction)
    spread = rng.choice([0.1, 1, 5, 60], size=(4000, 1))
    outputs = np.clip(np.round(rng.normal(size=(4000, count)) * spread * 2**fraction), -(2**17), 2**17 - 1).astype(int)
    labels = rng.integers(0, count, size=4000)
    values, correct = cross_entropy(outputs, labels, fraction)
    expected, distance = reference(outputs, labels, fraction)
    # Rounding: half a bit of LOSS_FRACTION in every exponent (weighted, in all at most one) and in the label's, half of
    # one in every exponential but the largest, and the tables; the constant log2(e) is short by 4.9e-6 of its value.
    bound = (1.5 + (count - 1) / 2 * 1.4427 + 2) * 2.0**-LOSS_FRACTION
    bound = bound + distance * abs(1 - LOG2_E / 2**15 / np.log2(np.e))
    assert (np.abs(values / 2.0**LOSS_FRACTION - expected) <= bound).all()
    if count <= 10:
        assert (np.abs(values / 2.0**LOSS_FRACTION - expected) < 2e-4 + distance * 4.9e-6).all()
    assert (correct == (outputs.argmax(axis=1) == labels)).all()


def test_equal_outputs_give_their_logarithm():
    for exponent in range(8):
        values, _ = cross_entropy(np.zeros((1, 1 << exponent), int), np.array([0]), 5)
        assert values[0] == exponent << LOSS_FRACTION


def test_a_label_that_is_no_output_adds_nothing_and_is_never_right():
    outputs = np.array([[3, 5, 5]] * 4)
    values, correct = cross_entropy(outputs, np.array([1, 2, 3, -1]), 0)
    assert correct.tolist() == [True, False, False, False]
    assert values[0] == values[1] == values[2] == values[3]


def test_squared_error_and_saturation():
    outputs, targets = np.array([[3, -4], [0, 7]]), np.array([[0, 0], [1, 7]])
    values, correct = losses(Loss(kind=LossKind.SQUARED_ERROR, outputs=2, groups=1), outputs, targets)
    assert values.tolist() == [25, 1]
    assert correct == 0
    assert slot(TINY, values) == 26
    assert slot(TINY, np.array([1 << 47, 1 << 47])) == (1 << TINY.loss_word) - 1


@pytest.mark.parametrize("count", [1, 10, 1 << 18])
def test_slots_are_exact_sums(count):
    rng = np.random.default_rng(count)
    values = rng.integers(0, 1 << rng.integers(1, 56, size=(60, 1)), size=(60, count))
    held = rng.integers(0, 1 << TINY.loss_word, size=60)
    exact = [
        min(sum(row) + start, (1 << TINY.loss_word) - 1)
        for row, start in zip(values.tolist(), held.tolist(), strict=True)
    ]
    assert accumulated(TINY, held, values).tolist() == exact
    assert slot(TINY, values[0]) == min(sum(values[0].tolist()), (1 << TINY.loss_word) - 1)


def test_differences_are_added_to_the_base():
    config = TINY.replace(output_word=10)
    base = np.array([[500, -500], [0, 7]])
    outputs = added(config, base, np.array([[[11, 12], [1, -1]], [[12, -13], [-512, 511]]]))
    assert outputs.tolist() == [[[511, -488], [1, 6]], [[511, -512], [-512, 511]]]


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize(
    "changes",
    [
        {"word": 18, "output_word": 18, "lanes": 2, "outputs": 8, "loss_pipes": 1},
        {"lanes": 2, "outputs": 2, "loss_pipes": 2, "losses": 4},
        {"lanes": 10, "outputs": 16, "loss_pipes": 1},
        {"lanes": 10, "outputs": 16, "loss_pipes": 5},
        {"output_word": 24, "lanes": 6, "outputs": 8, "loss_pipes": 6},
        {"loss_word": 32, "lanes": 1, "outputs": 16},
    ],
    ids=str,
)
def test_accumulator(changes, seed, tmp_path):
    config = TINY.replace(**{"losses": 32} | changes)
    run_bench(LossAccumulator(config), "bench_loss", tmp_path, parameters={"config": config.words()}, seed=seed)
