"""Training steps as programs: losses, coefficients and updates of the estimator that the settings choose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from tenzo_hw.config import COEFFICIENT_FRACTION, LOSS_FRACTION, RATE_FRACTION
from tenzo_hw.isa import Batch, Coefficient, Halt, Sweep, SweepKind, Wait
from tenzo_hw.protocol import Register

from . import coordinate_wise, random_directions
from .coordinates import Band, bands, runs, updates
from .incremental import Incremental
from .perturbation import after_sweep, perturb
from .plan import Plan
from .program import Block, Line, Program, Repeat, lines, split
from .settings import Settings
from .tensor_wise import TensorWise

#: Largest coefficient before the rate: a field of 16 bits.
_CLIP_LIMIT = (1 << 16) - 1


def queries(plan: Plan, settings: Settings, chosen: Sequence[Band] | None = None) -> int:
    """Coefficients of one step; ``chosen``: what it moves where that is not everything."""
    if chosen is not None:
        return sum(band.words for band in chosen)
    if settings.coordinates:
        return plan.network.parameters
    return settings.queries * (len(plan.network.weights) if settings.estimator == "tensor-rge" else 1)


def evaluations(plan: Plan, settings: Settings, chosen: Sequence[Band] | None = None) -> int:
    """Losses of a batch in one step."""
    count = queries(plan, settings, chosen)
    return 2 * count if _two_sided(settings) else count + 1


def counted(plan: Plan, settings: Settings, chosen: Sequence[Band] | None = None) -> int:
    """Evaluations of a step whose correct samples are counted: of an incremental one that of the weights alone."""
    return 1 if settings.estimator == "incremental-cge" else evaluations(plan, settings, chosen)


def _two_sided(settings: Settings) -> bool:
    return settings.two_sided and not settings.coordinates


def training_program(plan: Plan, settings: Settings, chosen: Sequence[Band] | None = None) -> Program:
    """Steps without end of the host's batches: as many as RUN's repeat count says, one batch each.

    They move the words of the bands ``chosen``, all where None; only plain coordinate-wise steps can choose.
    Of the ways to write slices and passes, as counted loops or out, the fastest that fits the program memory is taken,
    then the shortest. Raises ``ValueError`` with the numbers when the settings or the program do not fit the machine.
    """
    config = plan.config
    _check_losses(plan, settings, chosen)
    moved = tuple(bands(runs(plan)) if chosen is None else chosen)
    coefficient = Line(_coefficient(plan, settings, queries(plan, settings, chosen)))
    programs, lengths = [], []
    for evaluation in _ways(plan, settings, moved):
        body = [Line(Batch()), *evaluation, coefficient, *_updates(plan, settings, moved)]
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


def _check_losses(plan: Plan, settings: Settings, chosen: Sequence[Band] | None) -> None:
    most = plan.config.losses
    if settings.coordinates:
        words = plan.network.parameters
        if chosen is not None:
            # As many as another chunk can draw: a run that has begun goes on to its end.
            words = sum(sorted(band.words for band in bands(runs(plan)))[-len(chosen) :])
        if words >= most:
            raise ValueError(
                f"{words} words take one more loss a step, the machine remembers {most}: take lower ranks, fewer "
                "units, a smaller share, a larger machine or random directions"
            )
        return
    needed = evaluations(plan, settings)
    if needed > most:
        tensors = queries(plan, settings) // settings.queries
        allowed = (most // 2 if settings.two_sided else most - 1) // tensors
        raise ValueError(
            f"queries={settings.queries}{f' of {tensors} tensors' if tensors > 1 else ''} take {needed} losses a step, "
            f"the machine remembers {most}: at most {allowed} queries"
        )


def _ways(plan: Plan, settings: Settings, moved: Sequence[Band]) -> Iterator[Block]:
    """The losses of a step, in the ways to write it."""
    if settings.estimator == "incremental-cge":
        incremental = Incremental(plan, settings.mu, settings.stretch)
        copy = perturb(plan, half=0, mu=0, count=plan.rows + plan.unit_rows)
        head, rest = split(incremental.evaluation())
        yield [copy, *after_sweep(head), *rest]
        return
    if settings.estimator == "tensor-rge":
        for loop_slices in (True, False):
            yield TensorWise(plan, settings).evaluation(loop_slices=loop_slices)
        return
    for loop_slices, loop_passes in ((True, True), (True, False), (False, False)):
        halves = [plan.forward(half, loop_slices=loop_slices, loop_passes=loop_passes) for half in (0, 1)]
        if settings.coordinates:
            yield [Line(plan.loss()), *coordinate_wise.evaluation(plan, settings.mu, halves[0], moved)]
        else:
            yield [Line(plan.loss()), *random_directions.evaluation(plan, settings, halves)]


def _updates(plan: Plan, settings: Settings, moved: Sequence[Band]) -> Block:
    if settings.estimator == "tensor-rge":
        return TensorWise(plan, settings).updates()
    if not settings.coordinates:
        return random_directions.updates(plan, settings)
    sweep = Sweep(
        kind=SweepKind.UPDATE,
        row=0,
        count=1,
        first=True,
        last=True,
        decay=settings.momentum,
        sign=settings.optimiser == "sign",
        weight_decay=settings.weight_decay,
        wait=Wait.COEFFICIENT,
    )
    return updates(moved, sweep)


def prediction_program(plan: Plan) -> Program:
    """Takes one batch and leaves its outputs in the lanes at ``plan.output_area``, weights unperturbed.

    The sweep that copies the weights steps the perturbation generator; the caller keeps its state where that matters.
    """
    lengths = []
    for loop_slices, loop_passes in ((True, False), (True, True)):
        head, rest = split(plan.forward(0, predict=True, loop_slices=loop_slices, loop_passes=loop_passes))
        block = [Line(Batch()), perturb(plan, half=0, mu=0), *after_sweep(head), *rest, Line(Halt())]
        lengths.append(sum(line.instruction.WORDS for line in lines(block)))
        if lengths[-1] <= plan.config.program_depth:
            return Program.build(block, plan.config)
    raise ValueError(
        f"the prediction program needs {min(lengths)} words, the program memory holds {plan.config.program_depth}"
    )


def _coefficient(plan: Plan, settings: Settings, count: int) -> Coefficient:
    clip = round(settings.clip * (1 << COEFFICIENT_FRACTION))
    if settings.normalise:
        shift = count.bit_length() - 1
    elif settings.coordinates:
        shift, clip = _slope_shift(plan, settings), _slope_clip(plan, settings)
    else:
        shift = _mean_shift(plan)
    return Coefficient(
        queries=count,
        two_sided=_two_sided(settings),
        normalise=settings.normalise,
        shift=shift,
        clip=clip,
    )


def _loss_scale(plan: Plan) -> float:
    """What a loss slot holds for a mean loss of 1."""
    cross_entropy = plan.network.loss == "cross_entropy"
    return plan.batch * 2.0 ** (LOSS_FRACTION if cross_entropy else 2 * plan.formats.loss)


def _mean_shift(plan: Plan) -> int:
    """The right shift that makes a loss difference one of mean losses, up to a factor below two."""
    return math.frexp(_loss_scale(plan))[1] - 1


def _largest_difference(plan: Plan, settings: Settings) -> float:
    """The loss difference of a coordinate whose slope is the clip, with the fraction bits of a coefficient."""
    return settings.clip * settings.mu * _loss_scale(plan) * (1 << COEFFICIENT_FRACTION)


def _slope_shift(plan: Plan, settings: Settings) -> int:
    """The smallest right shift that leaves the largest difference in a coefficient: slopes are small numbers."""
    return max(0, math.ceil(math.log2(_largest_difference(plan, settings) / _CLIP_LIMIT)))


def _slope_clip(plan: Plan, settings: Settings) -> int:
    return max(1, int(_largest_difference(plan, settings) / (1 << _slope_shift(plan, settings))))


def registers(plan: Plan, settings: Settings, steps: int) -> dict[Register, int]:
    """What RATE and RATE_STEP hold at the start of a run of ``steps`` steps.

    Raises ``ValueError`` with the rates that are possible when this one cannot be told by the machine's words.
    """
    if steps < 1:
        raise ValueError(f"steps={steps} is not possible: 1 or more")
    # RATE is the move for a coefficient of 1, in 2**-RATE_FRACTION of a master's last bit.
    unit = 2.0 ** (plan.master_fraction + RATE_FRACTION)
    if settings.optimiser == "momentum":
        unit *= _slope_unit(plan, settings)
    rate = round(settings.rate * unit)
    if not 1 <= rate < 1 << 32:
        raise ValueError(f"rate={settings.rate} is not possible: {1 / unit:.2g} to {((1 << 32) - 1) / unit:.2g}")
    step = rate // steps if settings.schedule == "linear" else 0
    return {Register.RATE: rate, Register.RATE_STEP: step}


def _slope_unit(plan: Plan, settings: Settings) -> float:
    """What a coefficient of 1 is worth in the mean over the queries, or in the slope of a coordinate."""
    queries = 1 if settings.coordinates else settings.queries
    if settings.normalise:
        return 1 / queries
    if settings.coordinates:
        return 2.0 ** _slope_shift(plan, settings) / (_loss_scale(plan) * settings.mu)
    distance = settings.mu * (2 if settings.two_sided else 1)
    return 2.0 ** _mean_shift(plan) / (_loss_scale(plan) * distance * queries)
