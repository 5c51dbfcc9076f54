"""Coordinates: a network's trainable words one by one, each with a loss slot of its own.

Slot 0 is that of the unperturbed weights. The words of a core follow column by column, so that the words of a *run*,
one below the other in the weight store, have consecutive slots: one sweep of a single column updates a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from tenzo_hw.isa import Add, Set, Sweep

from .network import Stage
from .orientation import Orientation, stored
from .plan import Plan
from .program import Block, Line, Repeat

#: Address registers of loops over runs.
ROW_REGISTER = 6
COLUMN_REGISTER = 7


class Run(NamedTuple):
    """Words of neighbouring rows in one column, whose slots follow each other."""

    row: int
    column: int
    count: int


class Slots(NamedTuple):
    """Slots of a core's words: that of the first one, and how far the next left, n, m and right index is."""

    first: int
    left: int
    n: int
    m: int
    right: int


class Band(NamedTuple):
    """Runs of the same rows in neighbouring columns."""

    row: int
    column: int
    count: int
    columns: int

    @property
    def words(self) -> int:
        """Trainable words."""
        return self.count * self.columns


def core_runs(orientation: Orientation) -> Iterator[Run]:
    """The words of a core in the order of its slots: column after column of all slices."""
    left, _, m, right = orientation.shape
    lefts = 1 if orientation.left_rows else left
    rights = 1 if orientation.right_rows else right
    part = m // orientation.slices
    for index in range(lefts * m * rights):
        outer, inner = divmod(index, m * rights)
        middle, last = divmod(inner, rights)
        slice_, within = divmod(middle, part)
        tile, column = divmod((outer * part + within) * rights + last, orientation.tile_cols)
        row = orientation.row + (slice_ * orientation.tiles + tile) * orientation.reduced
        yield Run(row, column, orientation.reduced)


def core_slots(orientation: Orientation, first: int) -> Slots:
    """Slots of a core's words in the order of ``core_runs``."""
    _, _, m, right = orientation.shape
    rows, rights = orientation.reduced, 1 if orientation.right_rows else right
    by_left, by_n, by_right = orientation.strides
    return Slots(
        first,
        by_left if orientation.left_rows else m * rights * rows,
        by_n,
        rights * rows,
        by_right if orientation.right_rows else rows,
    )


def vector_runs(places: np.ndarray, columns: int) -> list[tuple[Run, np.ndarray]]:
    """A bias as runs, each with the indices of its words; ``places``: row * C + column of each word."""
    row, column = np.divmod(places, columns)
    order = np.lexsort((row, column))
    breaks = np.flatnonzero((np.diff(row[order]) != 1) | (np.diff(column[order]) != 0)) + 1
    return [(Run(int(row[part[0]]), int(column[part[0]]), len(part)), part) for part in np.split(order, breaks)]


def bias_runs(plan: Plan, stage: Stage) -> list[tuple[Run, np.ndarray]]:
    """The runs of a layer's biases in the order of their slots, each with the indices of its words."""
    return vector_runs(plan.layout.places[f"{stage.name}.bias"], plan.config.columns)


def orientations(plan: Plan) -> list[list[Orientation]]:
    """How the weight store holds each core of each layer."""
    return [
        [stored(stage, layout, plan.config, core) for core in range(len(stage.layer.inputs))]
        for stage, layout in zip(plan.network.stages, plan.layout.layers, strict=True)
    ]


def runs(plan: Plan) -> Iterator[Run]:
    """All trainable words in the order of their slots: a layer's cores, then its biases."""
    for stage, cores in zip(plan.network.stages, orientations(plan), strict=True):
        for orientation in cores:
            yield from core_runs(orientation)
        if stage.layer.bias:
            yield from (run for run, _ in bias_runs(plan, stage))


def bands(found: Iterator[Run]) -> Iterator[Band]:
    """The same words in the same order, as few bands as possible."""
    band: Band | None = None
    for run in found:
        if band and (band.row, band.column + band.columns, band.count) == run:
            band = band._replace(columns=band.columns + 1)
            continue
        if band:
            yield band
        band = Band(*run, 1)
    if band:
        yield band


def choose(found: Sequence[Band], share: float, seed: Sequence[int]) -> list[Band]:
    """A random share of the bands, at least one, in their order. Every one is as likely as the others.

    Drawn with the raw words of a PCG64, which stay the same in all versions of numpy.
    """
    count = max(1, round(share * len(found)))
    keys = np.random.PCG64(seed).random_raw(len(found))
    return [found[number] for number in np.sort(np.argsort(keys, kind="stable")[:count])]


def slots_of_words(plan: Plan) -> np.ndarray:
    """Slot of every word of the weight store, int64[rows used, C]; 0 where there is no trainable word."""
    slots = np.zeros((plan.config.weight_rows, plan.config.columns), dtype=np.int64)
    slot = 1
    for run in runs(plan):
        slots[run.row : run.row + run.count, run.column] = np.arange(slot, slot + run.count)
        slot += run.count
    return slots


def core_first_slots(plan: Plan) -> Iterator[tuple[list[Slots], int]]:
    """For each layer the slots of its cores, and the first one of its biases."""
    first = 1
    for stage, cores in zip(plan.network.stages, orientations(plan), strict=True):
        slots = []
        for orientation in cores:
            slots.append(core_slots(orientation, first))
            first += math.prod(orientation.shape)
        yield slots, first
        first += stage.layer.output_count if stage.layer.bias else 0


def updates(moved: Iterable[Band], sweep: Sweep) -> Block:
    """Single-column sweeps like ``sweep`` over all words of these bands in the order of their slots."""
    nodes: list[Line | Repeat] = []
    for band in moved:
        single = replace(sweep, row=band.row, count=band.count, single=True, column=band.column)
        if band.columns == 1:
            nodes.append(Line(single, "update"))
            continue
        single = replace(single, column=0, column_register=COLUMN_REGISTER)
        nodes.append(Line(Set(register=COLUMN_REGISTER, value=band.column)))
        body: Sequence[Line] = (Line(single, "update"), Line(Add(register=COLUMN_REGISTER, value=1)))
        nodes.append(Repeat(band.columns, tuple(body), "columns"))
    return nodes
