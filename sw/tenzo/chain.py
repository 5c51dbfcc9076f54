"""Contraction chains: in which order a layer's cores meet its input, found by dynamic programming.

The words of a sample between two contractions are a row-major tensor in *chain layout*: site k holds its input index
n_k until core k is contracted and its output index m_k afterwards; a bond index stands between its two sites while only
one of them is contracted. Contracting core k then reduces neighbouring indices (n_k, bonds to contracted sites) to
neighbouring indices (m_k, bonds to the others), with everything left and right of them as positions. So any order of
the cores needs one reduction level, one stride between columns, and two position levels.

A chain may be *sliced*: the output index of the first core is cut in equal parts and the chain runs once for each, on
intermediates that are as many times smaller.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from tenzo_hw.config import GUARD_BITS, OUTER_LEVELS, Config
from tenzo_hw.isa import Contract
from tenzo_hw.timing import CONTRACTION_OVERHEAD

from .network import TT

#: Products whose full sum an accumulator holds.
SUM_LIMIT = 1 << GUARD_BITS


class Axis(NamedTuple):
    """An index that a contraction walks: its count and its strides in input and output."""

    count: int
    a: int
    o: int


@dataclass(frozen=True)
class Step:
    """One contraction: core ``core`` with the tensor so far, for one slice."""

    core: int
    left_bond: bool
    """The bond to the left is reduced; else it becomes a column index."""
    right_bond: bool
    positions: tuple[Axis, ...]
    """Outermost first; axes of equal strides merged, none of count 1."""
    reduced: int
    reduced_stride: int
    columns: int
    column_stride: int
    input_words: int
    output_words: int
    """Words a sample of all slices' results where this is the last step, else of one slice."""
    bias: bool
    slices: int
    """Slices of this core's output index."""
    last: bool

    def tiles(self, config: Config) -> int:
        """Turns that ``config`` needs for the columns."""
        return -(-self.columns // config.columns)

    def cols(self, config: Config) -> int:
        """Columns of all tiles but the last one: as few as make no more tiles, since a tile drains one a cycle."""
        return -(-self.columns // self.tiles(config))

    def last_cols(self, config: Config) -> int:
        """Columns of the last tile."""
        return self.columns - (self.tiles(config) - 1) * self.cols(config)

    @property
    def places(self) -> int:
        """Number of positions."""
        return math.prod(axis.count for axis in self.positions)

    def rows(self, config: Config) -> int:
        """Weight rows of the core."""
        return self.slices * self.tiles(config) * self.reduced

    def bias_rows(self, config: Config, slices: int) -> int:
        """Weight rows of the layer's bias, where this is the last step of a chain of ``slices`` slices."""
        return slices * self.tiles(config) * self.places if self.bias else 0

    def cycles(self, config: Config, share: int) -> int:
        """Cycles of the engine for ``share`` groups and one slice."""
        rows, tiles = self.reduced + self.bias, self.tiles(config)
        once = (tiles - 1) * max(rows, self.cols(config)) + max(rows, self.last_cols(config))
        return max(share * self.places * once, Contract.WORDS + CONTRACTION_OVERHEAD)

    def macs(self) -> int:
        """Useful multiply-accumulates a sample and slice."""
        return self.places * self.reduced * self.columns

    def fits(self, config: Config, share: int) -> bool:
        """Whether the loop nest has enough levels and the accumulators hold the whole sum."""
        levels = len(self.positions) + (self.tiles(config) > 1) + (share > 1)
        return levels <= OUTER_LEVELS and self.reduced + self.bias <= SUM_LIMIT


@dataclass(frozen=True)
class Chain:
    """An order of a layer's cores, its slices, and the steps of one slice."""

    order: tuple[int, ...]
    slices: int
    steps: tuple[Step, ...]

    def cycles(self, config: Config, share: int) -> int:
        """Cycles of the engine for ``share`` groups."""
        return self.slices * sum(step.cycles(config, share) for step in self.steps)

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates a sample."""
        return self.slices * sum(step.macs() for step in self.steps)


def merge(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """The same walk with as few axes as possible."""
    merged: list[Axis] = []
    for axis in axes:
        if axis.count == 1:
            continue
        outer = merged[-1] if merged else None
        if outer is not None and outer.a == axis.count * axis.a and outer.o == axis.count * axis.o:
            merged[-1] = Axis(outer.count * axis.count, axis.a, axis.o)
        else:
            merged.append(axis)
    return tuple(merged)


def make_step(layer: TT, done: frozenset[int], core: int, first: int, slices: int) -> Step:
    """The contraction of ``core`` after those of ``done``; the output index of core ``first`` is cut in ``slices``."""
    count = len(layer.inputs)
    outputs = [m // slices if k == first else m for k, m in enumerate(layer.outputs)]
    content = [outputs[k] if k in done else layer.inputs[k] for k in range(count)]
    # bonds[k] stands left of site k; an index is there while exactly one of its sites is contracted.
    bonds = (1, *layer.ranks, 1)
    open_bonds = [bonds[k] if 0 < k < count and (k - 1 in done) != (k in done) else 1 for k in range(count + 1)]
    left = math.prod(content[:core]) * math.prod(open_bonds[:core])
    right = math.prod(content[core + 1 :]) * math.prod(open_bonds[core + 2 :])
    left_bond, right_bond = core - 1 in done, core + 1 in done
    reduced = content[core] * (bonds[core] if left_bond else 1) * (bonds[core + 1] if right_bond else 1)
    columns = outputs[core] * (1 if left_bond else bonds[core]) * (1 if right_bond else bonds[core + 1])
    step = Step(
        core=core,
        left_bond=left_bond,
        right_bond=right_bond,
        positions=merge([Axis(left, reduced * right, columns * right), Axis(right, 1, 1)]),
        reduced=reduced,
        reduced_stride=right,
        columns=columns,
        column_stride=right,
        input_words=left * reduced * right,
        output_words=left * columns * right,
        bias=False,
        slices=slices if core == first else 1,
        last=len(done) == count - 1,
    )
    if not step.last:
        return step
    # The last results go to their places among those of all slices.
    axes = []
    for k in range(count):
        if k != core:
            inner = math.prod(content[j] for j in range(k + 1, count) if j != core)
            stride = inner * reduced if k < core else inner
            axes.append(Axis(outputs[k], stride, math.prod(layer.outputs[k + 1 :])))
    return replace(
        step,
        positions=merge(axes),
        column_stride=math.prod(layer.outputs[core + 1 :]),
        output_words=layer.output_count,
        bias=layer.bias,
    )


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a chain finds: words of lane memory a sample, and where its ends are."""

    words: int
    input_in_lane: bool
    """Else in the batch memory."""
    output_in_lane: bool
    """Else it goes to the loss, whole: such a chain is not sliced."""


def slice_counts(layer: TT, core: int, room: Room) -> list[int]:
    """In how many parts a chain that starts with ``core`` can be sliced."""
    if len(layer.inputs) == 1 or not room.output_in_lane:
        return [1]
    size = layer.outputs[core]
    return [parts for parts in range(1, size + 1) if size % parts == 0]


def chain_words(layer: TT, chain: Chain, room: Room) -> int:
    """Words of lane memory a sample that the chain needs."""
    ends = layer.input_count * room.input_in_lane + layer.output_count * room.output_in_lane
    fixed = ends if chain.slices > 1 else 0
    return fixed + max(
        _words(step, first=step is chain.steps[0], room=room, sliced=chain.slices > 1) for step in chain.steps
    )


def _words(step: Step, *, first: bool, room: Room, sliced: bool) -> int:
    """Words of the step's input and output; those of a sliced chain's ends are counted apart."""
    source = 0 if first and (sliced or not room.input_in_lane) else step.input_words
    result = 0 if step.last and (sliced or not room.output_in_lane) else step.output_words
    return source + result


def search(layer: TT, config: Config, share: int, room: Room, *, in_order: bool = False) -> Chain | None:
    """The chain with the fewest cycles for ``share`` groups that fits into ``room``; None when none does.

    Among all orders of the cores (``in_order``: from the first to the last) and all slices of the first one's output
    index. Method: dynamic programming over the
    sets of contracted cores, as a step's cost depends on the set before it alone.
    """

    def cost(chain: Chain) -> tuple[int, int, tuple[int, ...]]:
        return chain.cycles(config, share), chain.slices, chain.order

    # Slices only add cycles: they are looked at where the best whole chain does not fit.
    whole = _chains(layer, config, share, replace(room, words=1 << 62), sliced=False, in_order=in_order)
    cheapest = min(whole, key=cost, default=None)
    if cheapest is not None and chain_words(layer, cheapest, room) <= room.words:
        return cheapest
    return min(_chains(layer, config, share, room, sliced=True, in_order=in_order), key=cost, default=None)


def _chains(layer: TT, config: Config, share: int, room: Room, *, sliced: bool, in_order: bool) -> Iterator[Chain]:
    """The best chain that fits for every first core and, where ``sliced``, every number of slices."""
    for first in range(1 if in_order else len(layer.inputs)):
        for slices in slice_counts(layer, first, room) if sliced else [1]:
            chain = _best_order(layer, config, share, room, first, slices, in_order=in_order)
            if chain is not None:
                yield chain


def _best_order(
    layer: TT, config: Config, share: int, room: Room, first: int, slices: int, *, in_order: bool
) -> Chain | None:
    words = room.words
    if slices > 1:
        words -= layer.input_count * room.input_in_lane + layer.output_count * room.output_in_lane
    best: dict[frozenset[int], tuple[int, tuple[Step, ...]]] = {frozenset(): (0, ())}
    for _ in layer.inputs:
        longer: dict[frozenset[int], tuple[int, tuple[Step, ...]]] = {}
        for done, (cost, steps) in best.items():
            for core in range(len(layer.inputs)):
                if core in done or (not done and core != first) or (in_order and core != len(done)):
                    continue
                step = make_step(layer, done, core, first, slices)
                if not step.fits(config, share):
                    continue
                if _words(step, first=not done, room=room, sliced=slices > 1) > words:
                    continue
                found = (cost + step.cycles(config, share), (*steps, step))
                key = done | {core}
                if key not in longer or found[0] < longer[key][0]:
                    longer[key] = found
        best = longer
    if not best:
        return None
    (_, steps), *_ = best.values()
    return Chain(tuple(step.core for step in steps), slices, steps)
