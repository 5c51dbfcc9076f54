"""Coordinate-wise estimation: one forward of the batch for every trainable word, moved alone.

The plain form of CGE (Zhao et al. 2308.09858), for any network; ``incremental`` gives the same differences of the last
two layers from the parts of a forward that a word changes.
"""

from __future__ import annotations

from collections.abc import Iterable

from tenzo_hw.isa import Add, Set, Sweep, SweepKind, Wait

from .coordinates import COLUMN_REGISTER, ROW_REGISTER, Band
from .perturbation import after_sweep, mu_steps, perturb
from .plan import Plan
from .program import Block, Line, Repeat, split


def evaluation(plan: Plan, mu: float, forward: Block, moved: Iterable[Band]) -> list[Line | Repeat]:
    """The loss of the weights, and that of every word of these bands moved by ``mu``.

    ``forward`` reads the weights of half 0.
    """
    head, rest = split(forward)
    once = [*after_sweep(head), *rest]
    nodes: list[Line | Repeat] = [perturb(plan, half=0, mu=0), *once]
    move = Sweep(
        kind=SweepKind.PERTURB,
        row=0,
        count=1,
        mu=mu_steps(plan, mu),
        single=True,
        row_register=ROW_REGISTER,
        column_register=COLUMN_REGISTER,
        # The forward before reads the words to its end.
        wait=Wait.ENGINE,
    )
    back = Sweep(kind=SweepKind.PERTURB, row=0, count=1, row_register=ROW_REGISTER, wait=Wait.ENGINE)
    for band in moved:
        word = (Line(move, "one word"), *once, Line(back, "the word back"), _add(ROW_REGISTER, 1))
        column = (Repeat(band.count, word, "rows"), _add(ROW_REGISTER, -band.count), _add(COLUMN_REGISTER, 1))
        nodes += [
            Line(Set(register=ROW_REGISTER, value=band.row)),
            Line(Set(register=COLUMN_REGISTER, value=band.column)),
            Repeat(band.columns, column, "columns"),
        ]
    return nodes


def _add(register: int, value: int) -> Line:
    return Line(Add(register=register, value=value))
