"""A link with damage: the transport that shows what the driver and the machine recover from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from tenzo.transport import Transport

#: Most reads for which a cable that was pulled by chance stays away.
LONGEST_PULL = 3


class FaultyTransport:
    """``inner`` behind a bad cable: both ways, every byte is flipped in one bit, dropped or sent twice by chance.

    ``flips``, ``drops`` and ``repeats`` are probabilities a byte. ``pull(n)`` takes the cable away: what is written is
    lost and the next n reads are empty; ``pulls`` is the probability that a write does so anywhere in its bytes. The
    chances come from ``seed`` alone.
    """

    def __init__(
        self,
        inner: Transport,
        seed: int,
        *,
        flips: float = 0.0,
        drops: float = 0.0,
        repeats: float = 0.0,
        pulls: float = 0.0,
    ) -> None:
        self._inner = inner
        self._random = np.random.default_rng(seed)
        self._chances: list[tuple[str, float, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = [
            ("wrong bits", flips, self._flip),
            ("lost bytes", drops, lambda data, hit: data[~hit]),
            ("doubled bytes", repeats, lambda data, hit: np.repeat(data, 1 + hit)),
        ]
        self._pulls = pulls
        self._pulled = 0
        self.faults: Counter[str] = Counter()
        """Faults so far, by kind."""

    @property
    def damaged(self) -> int:
        """Faults so far."""
        return self.faults.total()

    def write(self, data: bytes) -> None:
        """Sends ``data`` with damage."""
        if self._pulled:
            return
        if self._pulls and self._random.random() < self._pulls:
            data = data[: self._random.integers(len(data) + 1)]
            self.pull(int(self._random.integers(1, LONGEST_PULL + 1)))
        self._inner.write(self._damage(data))

    def read(self, timeout_s: float | None) -> bytes:
        """What came, with damage."""
        data = self._inner.read(timeout_s)
        if self._pulled:
            self._pulled -= 1
            return b""
        return self._damage(data)

    def close(self) -> None:
        """Closes the inner transport."""
        self._inner.close()

    def pull(self, reads: int) -> None:
        """Takes the cable away for this many reads."""
        self._pulled = reads
        self.faults["pulled cables"] += 1

    def _damage(self, data: bytes) -> bytes:
        values = np.frombuffer(data, dtype=np.uint8)
        for kind, chance, effect in self._chances:
            hit = self._random.random(values.size) < chance
            if hit.any():
                self.faults[kind] += int(hit.sum())
                values = effect(values, hit)
        return values.tobytes()

    def _flip(self, data: np.ndarray, hit: np.ndarray) -> np.ndarray:
        bits = np.uint8(1) << self._random.integers(0, 8, data.size, dtype=np.uint8)
        return np.where(hit, data ^ bits, data)
