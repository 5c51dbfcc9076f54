"""Environments: a layer's input contracted with all cores but one, slice by slice.

The environment of an entry (left, n, m, right) of core k is what its change is multiplied with:
dz[.., m at site k, ..] = E(left, n, right)[all other output indices] * dG. It does not depend on m, and touches only
the outputs that share m. Cores left of k are contracted from the first one on, those right of it from the last one on,
so that each reduces one bond; the input index n of site k is one turn of a loop, and where the result does not fit,
parts of the first side's bond are another.

Method: Zhao et al. 2308.09858 estimate coordinate-wise; here the parts that a coordinate does not touch are reused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tenzo_hw.config import OUTER_LEVELS, REDUCTION_LEVELS, Config
from tenzo_hw.isa import Contract, Level
from tenzo_hw.timing import CONTRACTION_OVERHEAD

from .network import TT
from .orientation import Orientation


class Dim(NamedTuple):
    """An index of a sample's tensor: "n" or "m" of a site, or the bond "r" to the left of a site."""

    kind: str
    site: int
    size: int
    stride: int


Tensor = tuple[Dim, ...]
#: The orientation of a core whose bond to the left, or to the right, is reduced.
Orientations = Callable[[int, bool, bool], Orientation]


def input_tensor(sizes: Sequence[int]) -> Tensor:
    """A layer's input, row-major."""
    return tuple(Dim("n", site, size, math.prod(sizes[site + 1 :])) for site, size in enumerate(sizes))


def words_of(tensor: Tensor) -> int:
    """Words of a row-major tensor."""
    return math.prod(dim.size for dim in tensor)


def find(tensor: Tensor, kind: str, site: int) -> Dim:
    """The index of that name; one of size 1 where there is none."""
    return next((dim for dim in tensor if dim[:2] == (kind, site)), Dim(kind, site, 1, 0))


def row_major(dims: Sequence[Dim]) -> Tensor:
    """These indices, outermost first, with the strides of a row-major tensor."""
    sizes = [dim.size for dim in dims]
    return tuple(dim._replace(stride=math.prod(sizes[place + 1 :])) for place, dim in enumerate(dims))


def merged(levels: Sequence[Level]) -> list[Level]:
    """The same walk, innermost first, with as few levels as possible."""
    result: list[Level] = []
    for level in levels:
        if level.count == 1:
            continue
        inner = result[-1] if result else None
        if inner is not None and all(getattr(level, s) == inner.count * getattr(inner, s) for s in "awob"):
            result[-1] = replace(inner, count=inner.count * level.count)
        else:
            result.append(level)
    return result


def filled(levels: Sequence[Level], count: int) -> list[Level]:
    """``levels`` and as many of one turn as make ``count``. Raises ``ValueError`` when there are more."""
    if len(levels) > count:
        raise ValueError(f"{len(levels)} levels are needed, the loop nest has {count}")
    return [*levels, *[Level()] * (count - len(levels))]


@dataclass(frozen=True)
class Contraction:
    """One core with a tensor: what a ``Contract`` needs but addresses and number formats."""

    core: int
    orientation: Orientation
    source: Tensor
    result: Tensor

    @classmethod
    def of(cls, layer: TT, source: Tensor, core: int, done: frozenset[int], orientations: Orientations) -> Contraction:
        """Contracts ``core`` after those of ``done``; the result is row-major, its new indices in the core's place."""
        count = len(layer.inputs)
        left_done, right_done = core - 1 in done, core + 1 in done
        left, _, m, right = layer.core_shapes[core]
        gone = {("n", core)} | ({("r", core)} if left_done else set()) | ({("r", core + 1)} if right_done else set())
        new = [Dim("m", core, m, 0)]
        if core > 0 and not left_done:
            new.insert(0, Dim("r", core, left, 0))
        if core < count - 1 and not right_done:
            new.append(Dim("r", core + 1, right, 0))
        place = next(place for place, dim in enumerate(source) if dim[:2] in gone)
        kept = [dim for dim in source if dim[:2] not in gone]
        result = row_major([*kept[:place], *new, *kept[place:]])
        return cls(core, orientations(core, left_done, right_done), source, result)

    def _reduction(self) -> list[Level]:
        strides = dict(
            zip((("r", self.core), ("n", self.core), ("r", self.core + 1)), self.orientation.strides, strict=True)
        )
        gone = [dim for dim in self.source if dim[:2] in strides and dim[:2] not in {d[:2] for d in self.result}]
        return merged([Level(dim.size, a=dim.stride, w=strides[dim[:2]]) for dim in reversed(gone)])

    def _positions(self) -> list[Level]:
        kept = {dim[:2]: dim for dim in self.source}
        return merged([Level(d.size, a=kept[d[:2]].stride, o=d.stride) for d in reversed(self.result) if d[:2] in kept])

    @property
    def col_stride(self) -> int:
        """Result words from one column to the next."""
        bond = find(self.result, "r", self.core + 1)
        inner = bond if bond.stride and not self.orientation.right_rows else find(self.result, "m", self.core)
        return inner.stride

    def cycles(self, config: Config) -> int:
        """Cycles of the engine."""
        o, rows = self.orientation, self.orientation.reduced
        once = (o.tiles - 1) * max(rows, o.tile_cols) + max(rows, o.last_cols)
        places = math.prod(level.count for level in self._positions())
        return max(places * once, Contract.WORDS + CONTRACTION_OVERHEAD)

    def contract(self, **values: Any) -> Contract:
        """The instruction; results are written in the order of their addresses. Raises ``ValueError`` for too many
        levels."""
        o = self.orientation
        outer = self._positions()
        if o.tiles > 1:
            outer.append(Level(o.tiles, w=o.reduced, o=o.tile_cols * self.col_stride))
        outer.sort(key=lambda level: level.o)
        tile_level = next((place for place, level in enumerate(outer) if level.w), 0)
        levels = (*filled(self._reduction(), REDUCTION_LEVELS), *filled(outer, OUTER_LEVELS))
        fields: dict[str, Any] = {
            "w_base": o.row,
            "cols": o.tile_cols,
            "last_cols": o.last_cols,
            "col_stride": self.col_stride,
        }
        return Contract(**fields | values, levels=levels, tile_level=tile_level)


@dataclass(frozen=True)
class Environment:
    """All environments of core ``core``: for every n one turn of ``steps``, the last of them in ``parts`` parts."""

    core: int
    turns: int
    """Turns of all steps: the core's input index."""
    steps: tuple[Contraction, ...]
    """Empty where the layer has no other core: the input is the environment."""
    parts: int
    """Turns of the last step for each n, each with a part of the bond that the first side left."""
    part_step: int
    """Words of the last step's source from one part to the next."""
    tensor: Tensor
    """What one part of one n looks like: the bonds of the core and the other sites' output indices."""

    @property
    def words(self) -> int:
        """Words of one part."""
        return words_of(self.tensor)

    def regions(self, low: int, high: int) -> list[int]:
        """Address of each step's result: the last at the upper end, the ones before at alternating ends."""
        addresses = []
        for back, step in enumerate(reversed(self.steps)):
            words = self.words if back == 0 else words_of(step.result)
            addresses.append(low if back % 2 else high - words)
        return addresses[::-1]

    def fits(self, room: int, upper: int) -> bool:
        """Whether the steps fit in ``room`` words, the last result in ``upper`` of them."""
        sizes = [words_of(step.result) for step in self.steps[:-1]] + [self.words]
        return self.words <= upper and all(a + b <= room for a, b in zip([0, *sizes], sizes, strict=False))

    def cycles(self, config: Config) -> int:
        """Cycles of the engine for all n."""
        cycles = [step.cycles(config) for step in self.steps]
        return self.turns * (sum(cycles) + (self.parts - 1) * sum(cycles[-1:]))


def _sides(count: int, core: int) -> Iterator[list[list[int]]]:
    """Both orders of the two sides of ``core``; empty sides are left out."""
    left, right = list(range(core)), list(range(count - 1, core, -1))
    sides = [side for side in (left, right) if side]
    yield sides
    if len(sides) == 2:
        yield sides[::-1]


def environments(
    layer: TT, source: Tensor, core: int, orientations: Orientations, config: Config, *, room: int, upper: int
) -> Environment:
    """The environments of ``core`` in the fewest cycles, among both orders of the sides and parts of their bond.

    ``room``: words of lane memory for all results, ``upper``: for the last of them. Raises ``ValueError`` with the
    numbers when none fits.
    """
    fixed = tuple(dim._replace(size=1) if dim[:2] == ("n", core) else dim for dim in source)
    found, smallest = [], 0
    for sides in _sides(len(layer.inputs), core):
        steps: list[Contraction] = []
        done: frozenset[int] = frozenset()
        tensor = fixed
        for side in sides:
            for site in side:
                steps.append(Contraction.of(layer, tensor, site, done, orientations))
                done |= {site}
                tensor = steps[-1].result
        bond = core if sides and sides[0][-1] < core else core + 1
        size = find(tensor, "r", bond).size if len(sides) == 2 else 1
        for parts in (parts for parts in range(1, size + 1) if size % parts == 0):
            candidate = _in_parts(core, layer, steps, done, orientations, ("r", bond), parts, tensor)
            if candidate.fits(room, upper):
                found.append(candidate)
                break
            smallest = candidate.words
    if not found:
        raise ValueError(
            f"the environments of core {core} take {smallest} words of a lane, {upper} are free: take lower ranks, "
            "fewer units or a larger machine"
        )
    return min(found, key=lambda one: one.cycles(config))


def _in_parts(
    core: int,
    layer: TT,
    steps: Sequence[Contraction],
    done: frozenset[int],
    orientations: Orientations,
    bond: tuple[str, int],
    parts: int,
    tensor: Tensor,
) -> Environment:
    if parts == 1:
        return Environment(core, layer.inputs[core], tuple(steps), 1, 0, tensor)
    last = steps[-1]
    full = find(last.source, *bond)
    part = tuple(dim._replace(size=dim.size // parts) if dim[:2] == bond else dim for dim in last.source)
    last = Contraction.of(layer, part, last.core, done - {last.core}, orientations)
    return Environment(
        core, layer.inputs[core], (*steps[:-1], last), parts, full.size // parts * full.stride, last.result
    )
