"""The order in which a training run sees its samples: a function of the seed, so that a resumed run sees the same."""

from __future__ import annotations

import numpy as np


class SampleOrder:
    """Batches of ``batch`` out of ``samples`` samples, epoch after epoch, each epoch in an order of its own.

    The samples of all epochs are one endless row, cut into batches: no sample is left out when ``batch`` does not
    divide ``samples``. The order is that of PCG64's raw numbers, which NumPy promises to keep.
    """

    def __init__(self, samples: int, batch: int, seed: int) -> None:
        if samples < 1 or batch < 1:
            raise ValueError(f"{samples} samples in batches of {batch} cannot be trained on: both must be 1 or more")
        self._samples = samples
        self._batch = batch
        self._seed = seed
        self._epochs: dict[int, np.ndarray] = {}

    def batch(self, step: int) -> np.ndarray:
        """Indices of the samples of one step."""
        first, end = step * self._batch, (step + 1) * self._batch
        epochs = range(first // self._samples, (end - 1) // self._samples + 1)
        self._epochs = {epoch: self._epoch(epoch) for epoch in epochs}
        row = np.concatenate([self._epochs[epoch] for epoch in epochs])
        skipped = epochs[0] * self._samples
        return row[first - skipped : end - skipped]

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch in self._epochs:
            return self._epochs[epoch]
        return np.argsort(np.random.PCG64([self._seed, epoch]).random_raw(self._samples), kind="stable")
