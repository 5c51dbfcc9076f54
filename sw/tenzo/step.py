"""Training steps as programs: queries, losses, coefficients and updates, and the settings that choose among them.

The machine has two halves of effective weights. While a forward pass reads one, a sweep writes the next perturbation
into the other, so that all perturbing but a step's first is hidden. A query's directions are never stored: the
generator's state is, in slot 0 for the step's first query and in slot 1 for the present one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real

from tenzo_hw.config import COEFFICIENT_FRACTION, LOSS_FRACTION, RATE_FRACTION
from tenzo_hw.isa import Batch, Coefficient, Halt, Sweep, SweepKind, Wait
from tenzo_hw.protocol import Register

from .plan import Plan
from .program import Block, Line, Program, Repeat, lines, split

ESTIMATORS = ("rge", "sign-rge")
SCHEDULES = ("constant", "linear")
_KINDS = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "true or false"),
    str: (str, "text"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a network is trained. Raises ``ValueError`` with what is allowed.

    With coefficients c_i of the queries' directions x_i, a step does m := (1 - 2**-momentum) m + 1/N sum c_i x_i and
    moves the weights by -rate m (``rge``) or -rate sign(m) (``sign-rge``).
    """

    queries: int = 16
    """N: random directions a step."""
    two_sided: bool = True
    """Compare the losses on both sides of the weights; else each with the loss at the weights."""
    estimator: str = "rge"
    mu: float = 0.125
    """Size of a perturbation, a power of two."""
    rate: float = 0.01
    schedule: str = "linear"
    """``linear``: the rate goes to 0 over the run. ``constant``: it stays."""
    momentum: int = 3
    """The momentum keeps 1 - 2**-momentum of itself in a step; 0 is none."""
    normalise: bool = True
    """c_i is the loss difference over a running mean of its magnitude; else over the distance: the slope itself."""
    clip: float = 3.0
    """Largest magnitude of a coefficient (``normalise``) or of a difference of mean losses."""
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
        require(self.schedule in SCHEDULES, "schedule", " or ".join(SCHEDULES))
        require(self.mu > 0 and math.frexp(self.mu)[0] == 0.5, "mu", "a power of two, such as 0.125")
        require(0 < self.rate < math.inf, "rate", "more than 0")
        require(0 <= self.momentum <= 31, "momentum", "0 (none) to 31; 3 keeps 7/8")
        require(0 <= self.weight_decay <= 31, "weight_decay", "0 (off) to 31")
        highest = ((1 << 16) - 1) / (1 << COEFFICIENT_FRACTION)
        require(1 / (1 << COEFFICIENT_FRACTION) <= self.clip <= highest, "clip", f"0.004 to {highest:.0f}")

    @property
    def evaluations(self) -> int:
        """Forward passes of a batch in one step."""
        return 2 * self.queries if self.two_sided else self.queries + 1


def training_program(plan: Plan, settings: Settings) -> Program:
    """Steps without end of the host's batches: as many as RUN's repeat count says, one batch each.

    Of the ways to write slices and passes, as counted loops or out, the fastest that fits the program memory is taken,
    then the shortest. Raises ``ValueError`` with the numbers when the settings or the program do not fit the machine.
    """
    config = plan.config
    if settings.evaluations > config.losses:
        most = config.losses // 2 if settings.two_sided else config.losses - 1
        raise ValueError(
            f"queries={settings.queries} take {settings.evaluations} losses a step, the machine remembers "
            f"{config.losses}: at most {most} queries"
        )
    programs, lengths = [], []
    for loop_slices, loop_passes in ((True, True), (True, False), (False, False)):
        halves = [plan.forward(half, loop_slices=loop_slices, loop_passes=loop_passes) for half in (0, 1)]
        evaluate = _two_sided if settings.two_sided else _one_sided
        body = [
            Line(Batch()),
            Line(plan.loss()),
            *evaluate(plan, settings, halves),
            Line(_coefficient(plan, settings)),
            *_updates(plan, settings),
        ]
        block = [Repeat(0, tuple(body), "steps"), Line(Halt())]
        lengths.append(sum(line.instruction.WORDS for line in lines(block)))
        if lengths[-1] <= config.program_depth:
            programs.append(Program.build(block, config))
    if not programs:
        raise ValueError(
            f"the program of a step needs {min(lengths)} words, the program memory holds {config.program_depth}: take "
            "fewer layers or cores, or a machine with more"
        )
    return min(programs, key=lambda program: (program.timeline().cycles, len(program.words)))


def prediction_program(plan: Plan) -> Program:
    """Takes one batch and leaves its outputs in the lanes at ``plan.output_area``, weights unperturbed.

    The sweep that copies the weights steps the perturbation generator; the caller keeps its state where that matters.
    """
    lengths = []
    for loop_slices, loop_passes in ((True, False), (True, True)):
        head, rest = split(plan.forward(0, predict=True, loop_slices=loop_slices, loop_passes=loop_passes))
        block = [Line(Batch()), _perturb(plan, half=0, mu=0), *_after_sweep(head), *rest, Line(Halt())]
        lengths.append(sum(line.instruction.WORDS for line in lines(block)))
        if lengths[-1] <= plan.config.program_depth:
            return Program.build(block, plan.config)
    raise ValueError(
        f"the prediction program needs {min(lengths)} words, the program memory holds {plan.config.program_depth}"
    )


def _perturb(
    plan: Plan, *, half: int, mu: int, negative: bool = False, replay: int | None = None, save: int = 0
) -> Line:
    """A sweep of all weights into ``half``; ``replay`` a slot first."""
    side = "copy" if mu == 0 else "minus" if negative else "plus"
    sweep = Sweep(
        kind=SweepKind.PERTURB,
        row=0,
        count=plan.rows,
        half=half,
        mu=mu,
        negative=negative,
        replay=replay is not None,
        replay_slot=replay or 0,
        save=save,
    )
    return Line(sweep, f"{side} to half {half}")


def _after_sweep(head: list[Line]) -> list[Line]:
    """The start of a forward, its contraction waiting for the weights that it reads."""
    return [*head[:-1], head[-1].waiting(Wait.SWEEP)]


def _alternating(halves: list[Block], sweeps: tuple[Line, Line]) -> list[Line | Repeat]:
    """A forward of each half; behind the first contraction of each, the sweep that prepares the other half's next."""
    nodes: list[Line | Repeat] = []
    for half, sweep in zip(halves, sweeps, strict=True):
        head, rest = split(half)
        nodes += [*_after_sweep(head), sweep, *rest]
    return nodes


def _two_sided(plan: Plan, settings: Settings, halves: list[Block]) -> list[Line | Repeat]:
    """Half 0 takes the plus sides, half 1 the minus sides. The last plus is of a query too many: nothing reads it."""
    mu = _mu(plan, settings)
    sweeps = (_perturb(plan, half=1, mu=mu, negative=True, replay=1), _perturb(plan, half=0, mu=mu, save=0b10))
    body = _alternating(halves, sweeps)
    return [_perturb(plan, half=0, mu=mu, save=0b11), Repeat(settings.queries, tuple(body), "queries")]


def _one_sided(plan: Plan, settings: Settings, halves: list[Block]) -> list[Line | Repeat]:
    """The weights themselves first, then the queries, half after half."""
    mu = _mu(plan, settings)
    body = _alternating(halves, (_perturb(plan, half=1, mu=mu), _perturb(plan, half=0, mu=mu)))
    nodes: list[Line | Repeat] = [
        _perturb(plan, half=0, mu=0, save=0b01),
        Repeat(settings.evaluations // 2, tuple(body), "queries"),
    ]
    if settings.evaluations % 2:
        head, rest = split(halves[0])
        nodes += [*_after_sweep(head), *rest]
    # Slot 0 is the state before the copy of the weights: one more copy, into the half that is not read, steps over it.
    free = settings.evaluations % 2
    return [*nodes, _perturb(plan, half=free, mu=0, replay=0)]


def _coefficient(plan: Plan, settings: Settings) -> Coefficient:
    shift = settings.queries.bit_length() - 1 if settings.normalise else _mean_shift(plan)
    return Coefficient(
        queries=settings.queries,
        two_sided=settings.two_sided,
        normalise=settings.normalise,
        shift=shift,
        clip=round(settings.clip * (1 << COEFFICIENT_FRACTION)),
    )


def _updates(plan: Plan, settings: Settings) -> list[Line | Repeat]:
    """One sweep a query, over the same directions as it had; the weights move in the last one."""
    sign = settings.estimator == "sign-rge"
    each = Sweep(
        kind=SweepKind.UPDATE,
        row=0,
        count=plan.rows,
        next=True,
        # Signs need no scale: this keeps a momentum of many queries inside of its word.
        scale=settings.queries.bit_length() - 1 if sign else 0,
    )
    opening = {"first": True, "decay": settings.momentum, "wait": Wait.COEFFICIENT, "replay": settings.two_sided}
    closing = {"last": True, "sign": sign, "weight_decay": settings.weight_decay}
    if settings.queries == 1:
        return [Line(replace(each, **opening, **closing), "update")]
    middle = [Repeat(settings.queries - 2, (Line(each, "update"),))] if settings.queries > 2 else []
    return [Line(replace(each, **opening), "update"), *middle, Line(replace(each, **closing), "update")]


def _mu(plan: Plan, settings: Settings) -> int:
    """The perturbation in units of an effective word's last bit."""
    steps = settings.mu * 2**plan.formats.weights
    if not 1 <= steps <= 1 << (plan.config.word - 1):
        raise ValueError(
            f"mu={settings.mu} is not possible: weights have {plan.formats.weights} fraction bits in "
            f"{plan.config.word}-bit words, so 2**-{plan.formats.weights} to "
            f"2**{plan.config.word - 1 - plan.formats.weights}"
        )
    return int(steps)


def _loss_scale(plan: Plan) -> float:
    """What a loss slot holds for a mean loss of 1."""
    cross_entropy = plan.network.loss == "cross_entropy"
    return plan.batch * 2.0 ** (LOSS_FRACTION if cross_entropy else 2 * plan.formats.output)


def _mean_shift(plan: Plan) -> int:
    """The right shift that makes a loss difference one of mean losses, up to a factor below two."""
    return math.frexp(_loss_scale(plan))[1] - 1


def registers(plan: Plan, settings: Settings, steps: int) -> dict[Register, int]:
    """What RATE and RATE_STEP hold at the start of a run of ``steps`` steps.

    Raises ``ValueError`` with the rates that are possible when this one cannot be told by the machine's words.
    """
    if steps < 1:
        raise ValueError(f"steps={steps} is not possible: 1 or more")
    # RATE is the move for a coefficient of 1, in 2**-RATE_FRACTION of a master's last bit.
    unit = 2.0 ** (plan.master_fraction + RATE_FRACTION)
    if settings.estimator == "rge":
        unit /= settings.queries
        if not settings.normalise:
            distance = settings.mu * (2 if settings.two_sided else 1)
            unit *= 2.0 ** _mean_shift(plan) / (_loss_scale(plan) * distance)
    rate = round(settings.rate * unit)
    if not 1 <= rate < 1 << 32:
        raise ValueError(f"rate={settings.rate} is not possible: {1 / unit:.2g} to {((1 << 32) - 1) / unit:.2g}")
    step = rate // steps if settings.schedule == "linear" else 0
    return {Register.RATE: rate, Register.RATE_STEP: step}
