"""How a network is trained: estimator, optimiser and their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real

from tenzo_hw.config import COEFFICIENT_FRACTION

ESTIMATORS = ("rge", "tensor-rge", "cge", "incremental-cge")
#: Those that move one word at a time, and need no directions.
COORDINATE_ESTIMATORS = ("cge", "incremental-cge")
#: Relative gain of the mean loss below which a chunk of steps counts as none.
PLATEAU_GAIN = 0.01
OPTIMISERS = ("momentum", "sign")
SCHEDULES = ("constant", "linear", "cosine", "exponential")
#: Bits of the longest word: no move is stretched further.
_MOST_STRETCH = 18
#: What an exponential schedule leaves of the rate at its end.
EXPONENTIAL_END = 0.01
_KINDS = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "true or false"),
    str: (str, "text"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a network is trained. Raises ``ValueError`` with what is allowed.

    With coefficients c_i of the queries' directions x_i, a step does m := (1 - 2**-momentum) m + 1/N sum c_i x_i; of
    coordinates, m := (1 - 2**-momentum) m + c. It moves the weights by -rate m, or by -rate sign(m).
    """

    estimator: str = "rge"
    """``rge``: random directions over all weights. ``tensor-rge``: over one core or bias after the other. ``cge``: one
    weight after the other. ``incremental-cge``: the same differences from the parts of a forward that a weight changes,
    for the last two layers."""
    optimiser: str = "momentum"
    """``momentum`` moves by the momentum, ``sign`` by its sign."""
    queries: int = 16
    """N: random directions a step; with ``tensor-rge`` of each core and bias."""
    two_sided: bool = True
    """Compare the losses on both sides of the weights; else each with the loss at the weights, as coordinates do."""
    share: float = 1.0
    """With ``cge``: the share of the weights that a chunk of steps moves, drawn at random for each; others stay."""
    mu: float = 0.125
    """Size of a perturbation, a power of two."""
    stretch: int = 0
    """With ``incremental-cge``: the hidden layer moves 2**stretch times as far, and the outputs by 2**-stretch of what
    comes of it. Short words then hold the moves of a small ``mu``."""
    rate: float = 0.01
    schedule: str = "linear"
    """``constant``: the rate stays. ``linear``, ``cosine``: it goes to 0 over the run. ``exponential``: to a hundredth
    of itself. All but the first two change from one chunk of steps to the next."""
    momentum: int = 3
    """The momentum keeps 1 - 2**-momentum of itself in a step; 0 is none."""
    normalise: bool = True
    """c_i is the loss difference over a running mean of its magnitude; else over the distance: the slope itself."""
    clip: float = 3.0
    """Largest magnitude of a coefficient (``normalise``); else of a difference of mean losses, and of a coordinate's
    slope."""
    weight_decay: int = 0
    """Weights lose 2**-weight_decay of themselves in a step; 0 is off."""

    def __post_init__(self) -> None:
        def require(ok: bool, name: str, allowed: str) -> None:
            if not ok:
                raise ValueError(f"{name}={getattr(self, name)!r} is not possible: {allowed}")

        for item in fields(self):
            value, kind = getattr(self, item.name), type(item.default)
            accepted, said = _KINDS[kind]
            # Python takes True for a whole number.
            require(isinstance(value, accepted) and isinstance(value, bool) == (kind is bool), item.name, said)
        require(self.queries >= 1, "queries", "1 or more")
        require(self.estimator in ESTIMATORS, "estimator", " or ".join(ESTIMATORS))
        require(0 < self.share <= 1, "share", "more than 0, up to 1")
        require(self.share == 1 or self.estimator == "cge", "share", f"1 with {self.estimator}; less with cge only")
        require(self.optimiser in OPTIMISERS, "optimiser", " or ".join(OPTIMISERS))
        require(self.schedule in SCHEDULES, "schedule", " or ".join(SCHEDULES))
        require(self.mu > 0 and math.frexp(self.mu)[0] == 0.5, "mu", "a power of two, such as 0.125")
        require(0 <= self.stretch <= _MOST_STRETCH, "stretch", f"0 (none) to {_MOST_STRETCH}")
        only = f"0 with {self.estimator}; more with incremental-cge only"
        require(self.stretch == 0 or self.estimator == "incremental-cge", "stretch", only)
        require(0 < self.rate < math.inf, "rate", "more than 0")
        require(0 <= self.momentum <= 31, "momentum", "0 (none) to 31; 3 keeps 7/8")
        require(0 <= self.weight_decay <= 31, "weight_decay", "0 (off) to 31")
        highest = ((1 << 16) - 1) / (1 << COEFFICIENT_FRACTION)
        require(1 / (1 << COEFFICIENT_FRACTION) <= self.clip <= highest, "clip", f"0.004 to {highest:.0f}")

    @property
    def coordinates(self) -> bool:
        """Whether one weight is moved at a time."""
        return self.estimator in COORDINATE_ESTIMATORS

    @property
    def directions(self) -> int:
        """Forward passes of a batch for the random directions of one step."""
        return 2 * self.queries if self.two_sided else self.queries + 1

    def rate_at(self, share: float) -> float:
        """The rate after this share of the run, 0 to 1."""
        match self.schedule:
            case "linear":
                return self.rate * (1 - share)
            case "cosine":
                return self.rate * (1 + math.cos(math.pi * share)) / 2
            case "exponential":
                return self.rate * EXPONENTIAL_END**share
        return self.rate


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """Two phases: a coarse one that is cheap, and a fine one once it gains no more (Zhao et al. 2308.09858).

    The switch comes at step ``step``, or after ``patience`` chunks of steps in which the mean loss of a chunk was not
    ``PLATEAU_GAIN`` better than the best one before. Raises ``ValueError`` with what is allowed.
    """

    coarse: Settings
    fine: Settings
    step: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        if (self.step is None) == (self.patience is None):
            raise ValueError("a hybrid run switches at a step or after a patience: give one of both")
        if self.step is not None and self.step < 1:
            raise ValueError(f"step={self.step} is not possible: 1 or more")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience={self.patience} is not possible: 1 or more chunks")

    def switch(self, losses: Sequence[float]) -> int | None:
        """After how many of the chunks with these mean losses a plateau is reached; None when not yet."""
        assert self.patience is not None
        best, waited = math.inf, 0
        for chunk, loss in enumerate(losses, 1):
            waited = 0 if loss < best * (1 - PLATEAU_GAIN) else waited + 1
            best = min(best, loss)
            if waited == self.patience:
                return chunk
        return None
