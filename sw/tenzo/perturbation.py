"""Perturbations: sweeps that write effective words with random signs, with one word moved, or as the masters are."""

from __future__ import annotations

from tenzo_hw.isa import Sweep, SweepKind, Wait

from .plan import Plan
from .program import Line


def mu_steps(plan: Plan, mu: float) -> int:
    """The perturbation in units of an effective word's last bit."""
    steps = mu * 2**plan.formats.weights
    if not 1 <= steps <= 1 << (plan.config.word - 1):
        raise ValueError(
            f"mu={mu} is not possible: weights have {plan.formats.weights} fraction bits in "
            f"{plan.config.word}-bit words, so 2**-{plan.formats.weights} to "
            f"2**{plan.config.word - 1 - plan.formats.weights}"
        )
    return int(steps)


def perturb(
    plan: Plan,
    *,
    half: int,
    mu: int,
    negative: bool = False,
    replay: int | None = None,
    save: int = 0,
    count: int | None = None,
) -> Line:
    """A sweep of all weights, or of the first ``count`` rows, into ``half``; ``replay`` a slot first."""
    side = "copy" if mu == 0 else "minus" if negative else "plus"
    sweep = Sweep(
        kind=SweepKind.PERTURB,
        row=0,
        count=plan.rows if count is None else count,
        half=half,
        mu=mu,
        negative=negative,
        replay=replay is not None,
        replay_slot=replay or 0,
        save=save,
    )
    return Line(sweep, f"{side} to half {half}")


def after_sweep(head: list[Line]) -> list[Line]:
    """The start of a forward, its contraction waiting for the weights that it reads."""
    return [*head[:-1], head[-1].waiting(Wait.SWEEP)]
