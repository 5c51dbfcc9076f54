"""The model's loss accumulator: groups are captured as they come and summed together when somebody looks."""

from __future__ import annotations

import numpy as np
from tenzo_hw.config import Config
from tenzo_hw.isa import Loss, LossKind
from tenzo_hw.loss import losses, slot

from .memories import Memories

_CORRECT_LIMIT = (1 << 16) - 1


class Losses:
    """Captured groups, the sums that they become, and the number of samples classified right.

    Summing many groups at once is what makes the model fast; ``settle`` must come before anything reads the slots or
    ``correct``, and before the targets change.
    """

    def __init__(self, config: Config, memories: Memories) -> None:
        self._config = config
        self._memories = memories
        self._setup: Loss | None = None
        self.restart()

    def restart(self) -> None:
        """A run begins: all groups are forgotten."""
        self.correct = 0
        self._begin()

    def _begin(self) -> None:
        self._captured: list[np.ndarray] = []
        self._settled: list[np.ndarray] = []
        self._group = 0
        self._slot = 0

    def setup(self, instruction: Loss) -> None:
        """LOSS: the next loss goes to slot 0."""
        self.settle()
        self._begin()
        self._setup = instruction

    def capture(self, results: np.ndarray) -> None:
        """Results of one group, int64[L, outputs], in the order in which they drain."""
        self._captured.append(results)

    def settle(self, half: int = 0) -> None:
        """Sums the captured groups with the targets of the batch's ``half`` and stores the slots that are complete."""
        if not self._captured or self._setup is None:
            return
        setup, lanes = self._setup, self._config.lanes
        groups = (self._group + np.arange(len(self._captured))) % setup.groups
        samples = (groups[:, None] * lanes + np.arange(lanes)).reshape(-1)
        if setup.kind == LossKind.SQUARED_ERROR:
            samples = samples[:, None] * setup.outputs + np.arange(setup.outputs)
        targets = self._memories.targets[half][samples % self._config.target_depth]
        values, correct = losses(setup, np.concatenate(self._captured), targets)
        self._captured = []
        self.correct = min(self.correct + correct, _CORRECT_LIMIT)
        for group, of_group in zip(groups, values.reshape(-1, lanes), strict=True):
            self._settled.append(of_group)
            if group == setup.groups - 1:
                self._memories.slots[self._slot] = slot(np.concatenate(self._settled))
                self._slot = (self._slot + 1) % self._config.losses
                self._settled = []
        self._group = (int(groups[-1]) + 1) % setup.groups
