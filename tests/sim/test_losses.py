"""The model's compiled losses are those of the loss accumulator's own model."""

import numpy as np
import pytest
from tenzo_hw.config import preset
from tenzo_hw.isa import Base, Loss, LossKind
from tenzo_hw.loss import accumulated, added, losses
from tenzo_sim.losses import Losses
from tenzo_sim.memories import Memories

CONFIG = preset("tiny").replace(lanes=3, loss_pipes=1, losses=16, output_word=14)
WIDE = CONFIG.replace(lanes=16, word=18, output_word=24, target_depth=512)


class Reference:
    """Groups one by one, with the functions that the gateware is tested against."""

    def __init__(self, config, memories, setup):
        self.config, self.memories, self.setup = config, memories, setup
        self.group = self.slot = self.correct = 0
        self.values = []

    def targets(self, group, half):
        """Of the samples of a group."""
        words = self.setup.outputs if self.setup.kind == LossKind.SQUARED_ERROR else 1
        places = self.setup.target + (group * self.config.lanes + np.arange(self.config.lanes)) * words
        if self.setup.kind == LossKind.SQUARED_ERROR:
            places = places[:, None] + np.arange(words)
        return self.memories.targets[half, places]

    def add(self, slot, values):
        keeps = self.setup.accumulate and self.setup.target
        held = self.memories.slots[slot] if keeps else np.int64(0)
        self.memories.slots[slot] = accumulated(self.config, held, values)

    def capture(self, base, outcomes, addresses, half):
        outputs = self.setup.outputs
        if base == Base.ADD:
            groups = outcomes.reshape(-1, outputs, self.config.lanes).swapaxes(1, 2)
            for place, z in enumerate(added(self.config, self.kept, groups)):
                self.add(addresses[place * outputs], losses(self.setup, z, self.targets(0, half))[0])
            return
        if base == Base.KEEP:
            self.kept = outcomes.T.copy()
        values, correct = losses(self.setup, outcomes.T, self.targets(self.group, half))
        self.values.append(values)
        self.correct = min(self.correct + correct, (1 << 16) - 1)
        self.group += 1
        if self.group == self.setup.groups:
            self.add(self.slot, np.concatenate(self.values))
            self.group, self.slot, self.values = 0, (self.slot + 1) % self.config.losses, []


def words(rng, bits, shape):
    """Signed words, often close to each other, extremes among them."""
    high = 1 << (bits - 1)
    values = rng.integers(-high, high, shape) >> rng.choice([0, 0, bits // 2, bits - 3])
    return np.where(rng.random(shape) < 0.05, rng.choice([-high, high - 1], shape), values)


@pytest.mark.parametrize("config", [CONFIG, WIDE], ids=["short words", "long words"])
@pytest.mark.parametrize("seed", range(100))
def test_losses_of_groups_and_differences(seed, config):
    rng = np.random.default_rng(seed)
    kind, outputs = LossKind(int(rng.integers(2))), int(rng.integers(1, 11))
    setup = Loss(
        kind=kind,
        outputs=outputs,
        groups=int(rng.integers(1, 3)),
        fraction=int(rng.integers(0, 17)),
        accumulate=bool(rng.integers(2)),
        target=int(rng.choice([0, 1, 2])),
    )
    memories, expected = Memories(config), Memories(config)
    is_label = kind == LossKind.CROSS_ENTROPY
    shape = memories.targets.shape
    memories.targets[...] = rng.integers(-1, outputs + 1, shape) if is_label else words(rng, config.output_word, shape)
    memories.slots[...] = rng.choice([0, 1 << 30, (1 << 48) - 1], config.losses)
    expected.targets[...], expected.slots[...] = memories.targets, memories.slots
    unit, reference = Losses(config, memories), Reference(config, expected, setup)
    unit.setup(setup)
    base = Base.KEEP
    for _ in range(6):
        groups = int(rng.integers(1, 5)) if base == Base.ADD else 1
        outcomes = words(rng, config.output_word, (groups * outputs, config.lanes))
        addresses = rng.integers(0, config.losses, groups * outputs)
        half = int(rng.integers(2))
        unit.capture(base, outcomes, addresses, half)
        reference.capture(base, outcomes, addresses, half)
        np.testing.assert_array_equal(memories.slots, expected.slots)
        assert unit.correct == reference.correct
        base = Base(int(rng.integers(3)))


def test_the_number_of_right_samples_saturates():
    unit = Losses(CONFIG, Memories(CONFIG))
    unit.setup(Loss(kind=LossKind.CROSS_ENTROPY, outputs=1, groups=1))
    unit.correct = (1 << 16) - 2
    unit.capture(Base.NONE, np.zeros((1, CONFIG.lanes), np.int64), np.zeros(1, np.int64), 0)
    assert unit.correct == (1 << 16) - 1


def test_groups_without_a_loss_before_are_lost():
    memories = Memories(CONFIG)
    unit = Losses(CONFIG, memories)
    unit.capture(Base.NONE, np.ones((4, CONFIG.lanes), np.int64), np.zeros(4, np.int64), 0)
    assert not memories.slots.any()
