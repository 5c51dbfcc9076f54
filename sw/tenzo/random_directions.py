"""Random directions: queries and updates of a step whose gradient is estimated along random signs.

The machine has two halves of effective weights. While a forward pass reads one, a sweep writes the next perturbation
into the other, so that all perturbing but a step's first is hidden. A query's directions are never stored: the
generator's state is, in slot 0 for the step's first query and in slot 1 for the present one.

Method: RGE of Zhao et al. 2308.09858 with Rademacher directions.
"""

from __future__ import annotations

from dataclasses import replace

from tenzo_hw.isa import Sweep, SweepKind, Wait

from .perturbation import after_sweep, mu_steps, perturb
from .plan import Plan
from .program import Block, Line, Repeat, split
from .settings import Settings


def evaluation(plan: Plan, settings: Settings, halves: list[Block]) -> list[Line | Repeat]:
    """The losses of all queries; ``halves``: a forward with the weights of each half."""
    return _two_sided(plan, settings, halves) if settings.two_sided else _one_sided(plan, settings, halves)


def _alternating(halves: list[Block], sweeps: tuple[Line, Line]) -> list[Line | Repeat]:
    """A forward of each half; behind the first contraction of each, the sweep that prepares the other half's next."""
    nodes: list[Line | Repeat] = []
    for half, sweep in zip(halves, sweeps, strict=True):
        head, rest = split(half)
        nodes += [*after_sweep(head), sweep, *rest]
    return nodes


def _two_sided(plan: Plan, settings: Settings, halves: list[Block]) -> list[Line | Repeat]:
    """Half 0 takes the plus sides, half 1 the minus sides. The last plus is of a query too many: nothing reads it."""
    mu = mu_steps(plan, settings.mu)
    sweeps = (perturb(plan, half=1, mu=mu, negative=True, replay=1), perturb(plan, half=0, mu=mu, save=0b10))
    body = _alternating(halves, sweeps)
    return [perturb(plan, half=0, mu=mu, save=0b11), Repeat(settings.queries, tuple(body), "queries")]


def _one_sided(plan: Plan, settings: Settings, halves: list[Block]) -> list[Line | Repeat]:
    """The weights themselves first, then the queries, half after half."""
    mu = mu_steps(plan, settings.mu)
    body = _alternating(halves, (perturb(plan, half=1, mu=mu), perturb(plan, half=0, mu=mu)))
    nodes: list[Line | Repeat] = [
        perturb(plan, half=0, mu=0, save=0b01),
        Repeat(settings.directions // 2, tuple(body), "queries"),
    ]
    if settings.directions % 2:
        head, rest = split(halves[0])
        nodes += [*after_sweep(head), *rest]
    # Slot 0 is the state before the copy of the weights: one more copy, into the half that is not read, steps over it.
    free = settings.directions % 2
    return [*nodes, perturb(plan, half=free, mu=0, replay=0)]


def updates(plan: Plan, settings: Settings) -> list[Line | Repeat]:
    """The updates of all weights, over the directions of the queries."""
    return sweeps(settings, 0, plan.rows, replay=settings.two_sided)


def sweeps(settings: Settings, row: int, count: int, *, replay: bool = False) -> list[Line | Repeat]:
    """One sweep of these rows a query, with the next direction each; the weights move in the last one."""
    sign = settings.optimiser == "sign"
    each = Sweep(
        kind=SweepKind.UPDATE,
        row=row,
        count=count,
        next=True,
        # Signs need no scale: this keeps a momentum of many queries inside of its word.
        scale=settings.queries.bit_length() - 1 if sign else 0,
    )
    opening = {"first": True, "decay": settings.momentum, "wait": Wait.COEFFICIENT, "replay": replay}
    closing = {"last": True, "sign": sign, "weight_decay": settings.weight_decay}
    if settings.queries == 1:
        return [Line(replace(each, **opening, **closing), "update")]
    middle = [Repeat(settings.queries - 2, (Line(each, "update"),))] if settings.queries > 2 else []
    return [Line(replace(each, **opening), "update"), *middle, Line(replace(each, **closing), "update")]
