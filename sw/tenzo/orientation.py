"""Orientations: how a core's words lie in the effective memory, and the engine's own way to turn them.

A contraction reduces a core over its rows and gives its columns. Which of the core's two bonds count rows depends on
which neighbours are contracted before it. The weight store holds each core in the orientation of the forward pass;
another one is formed on the machine: operands that are the identity bring a core's words into the lanes, lane n the
words of input index n, and a gather writes them to rows in another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tenzo_hw.config import OUTER_LEVELS, Config
from tenzo_hw.isa import Contract, Gather, Level, Operand

from .layout import LayerLayout
from .network import Stage
from .program import Line


@dataclass(frozen=True)
class Orientation:
    """A core (left, n, m, right) in rows and columns: bonds that are not reduced are part of the columns."""

    shape: tuple[int, int, int, int]
    row: int
    """First engine row."""
    left_rows: bool
    """The left bond counts rows; else it is the outermost part of the columns."""
    right_rows: bool
    """The right bond counts rows; else it is the innermost part of the columns."""
    strides: tuple[int, int, int]
    """Rows from one left, n and right index to the next."""
    tile_cols: int
    """Columns of a tile; the last one may have fewer."""
    slices: int = 1
    """Parts of the output index, one after the other; each has tiles of its own."""

    @property
    def columns(self) -> int:
        """Columns of a slice, over all tiles."""
        left, _, m, right = self.shape
        return (1 if self.left_rows else left) * (m // self.slices) * (1 if self.right_rows else right)

    @property
    def reduced(self) -> int:
        """Rows of a tile."""
        left, n, _, right = self.shape
        return (left if self.left_rows else 1) * n * (right if self.right_rows else 1)

    @property
    def tiles(self) -> int:
        """Tiles of a slice."""
        return -(-self.columns // self.tile_cols)

    @property
    def last_cols(self) -> int:
        """Columns of the last tile."""
        return self.columns - (self.tiles - 1) * self.tile_cols

    @property
    def rows(self) -> int:
        """Rows of all tiles and slices."""
        return self.slices * self.tiles * self.reduced

    def fits(self, *, left_rows: bool, right_rows: bool) -> bool:
        """Whether a contraction that reduces these bonds can read the core so, whole. A bond of 1 is on either side."""
        left, _, _, right = self.shape
        wanted = (left == 1 or left_rows == self.left_rows) and (right == 1 or right_rows == self.right_rows)
        return wanted and self.slices == 1


def tile_width(columns: int, config: Config) -> int:
    """Columns of all tiles but the last: as few as make no more tiles than needed, since a tile drains one a cycle."""
    return -(-columns // -(-columns // config.columns))


def stored(stage: Stage, layout: LayerLayout, config: Config, core: int) -> Orientation:
    """The orientation in which the weight store holds a core."""
    step = next(step for step in layout.chain.steps if step.core == core)
    left, n, m, right = stage.layer.core_shapes[core]
    inner = right if step.right_bond else 1
    return Orientation(
        shape=(left, n, m, right),
        row=layout.core_rows[core],
        left_rows=step.left_bond,
        right_rows=step.right_bond,
        strides=(n * inner, inner, 1),
        tile_cols=step.cols(config),
        slices=step.slices,
    )


def turned(
    shape: tuple[int, int, int, int], row: int, config: Config, *, left_rows: bool, right_rows: bool
) -> Orientation:
    """An orientation from ``row`` on that gathers make: the input index counts the rows outermost."""
    left, _, m, right = shape
    if left_rows and right_rows and left > 1 and right > 1:
        raise ValueError("a gather makes rows of one bond only")
    columns = (1 if left_rows else left) * m * (1 if right_rows else right)
    inner = right if right_rows else 1
    outer = left if left_rows else 1
    strides = (inner, inner * outer, 1)
    return Orientation(shape, row, left_rows, right_rows, strides, tile_width(columns, config))


def turning(source: Orientation, target: Orientation, config: Config, note: str) -> Iterator[Line]:
    """The instructions that form ``target`` from ``source``; they use the lanes' first left * m * right words.

    Raises ``ValueError`` where the words of a lane are not in even steps.
    """
    left, n, m, right = source.shape
    if source.slices > 1 and left > 1:
        raise ValueError(f"{note}: a core whose output index is sliced cannot be turned unless it is the first")
    if left * m * right > config.lane_depth:
        raise ValueError(
            f"{note}: {left * m * right} words do not fit in the {config.lane_depth} of a lane: take lower ranks or a "
            "larger machine"
        )
    # What leaves the engine, word (left, m, right) of the lane of n.
    col_stride = 1 if not source.right_rows else right
    tile = Level(source.tiles, w=source.reduced, o=source.tile_cols * col_stride)
    outer = [
        tile,
        Level(left if source.left_rows else 1, w=source.strides[0], o=m * right),
        Level(right if source.right_rows else 1, w=source.strides[2], o=1),
        Level(source.slices, w=source.tiles * source.reduced, o=m // source.slices * right),
    ]
    one = config.word - 2
    for first in range(0, n, config.lanes):
        lanes = min(config.lanes, n - first)
        reduction = Level(lanes, a=1, w=source.strides[1])
        yield Line(
            Contract(
                a_base=0,
                w_base=source.row + first * source.strides[1],
                o_base=0,
                levels=(reduction, Level(), *outer[:OUTER_LEVELS]),
                cols=source.tile_cols,
                last_cols=source.last_cols,
                col_stride=col_stride,
                shift=one,
                one=one,
                operand=Operand.IDENTITY,
            ),
            note,
        )
        inner = (left if target.left_rows else 1) * (right if target.right_rows else 1)
        words = 1 if not target.right_rows else right
        for tile_number in range(target.tiles):
            last = tile_number == target.tiles - 1
            yield Line(
                Gather(
                    address=tile_number * target.tile_cols * words,
                    stride=m * right if target.left_rows and left > 1 else 1,
                    rows=inner,
                    lanes=lanes,
                    cols=target.last_cols if last else target.tile_cols,
                    col_stride=words,
                    row=target.row + tile_number * target.reduced + first * inner,
                ),
                note,
            )
