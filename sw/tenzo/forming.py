"""Forming: what a coordinate-wise step makes of its weights before it uses them, on the machine itself.

Behind the weights that sweeps write lie the cores in other orientations and the dense form of the last layer. Both come
from operands that are the identity, so that lane n holds what belongs to input index n, and from gathers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from tenzo_hw.config import OUTER_LEVELS, REDUCTION_LEVELS
from tenzo_hw.isa import Contract, Gather, Level, Operand

from .coordinates import orientations
from .environment import Dim, Tensor, filled, find, merged, row_major, words_of
from .layout import shift_of
from .network import Stage
from .orientation import Orientation, tile_width, turned, turning
from .plan import Plan
from .program import Block, Line


class Readout(NamedTuple):
    """What outputs make of a layer's pre-activations: weight rows, one for each of ``units``, tile after tile."""

    row: int
    units: int
    tile_cols: int
    tiles: int
    last_cols: int
    fraction: int


@dataclass(frozen=True)
class Forming:
    """Where everything formed lies, and the instructions that form it, for a plan with unit rows."""

    plan: Plan

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The network's layers."""
        return tuple(self.plan.network.stages)

    @cached_property
    def stored(self) -> list[list[Orientation]]:
        """How the weight store holds each core of each layer."""
        return orientations(self.plan)

    @cached_property
    def turned(self) -> dict[tuple[int, int, bool, bool], Orientation]:
        """Orientations that are not stored, by layer, core, and whether the left and the right bond are reduced."""
        plan, row = self.plan, self._free_row
        formed: dict[tuple[int, int, bool, bool], Orientation] = {}
        wanted: list[tuple[int, int, bool, bool]] = []
        for layer, stage in enumerate(self.stages):
            last = len(stage.layer.inputs) - 1
            for core in range(last + 1) if last else ():
                wanted += [(layer, core, True, False)] if core < last or self._forms_dense(layer) else []
                wanted += [(layer, core, False, True)] if core > 0 else []
        for layer, core, left_rows, right_rows in wanted:
            if not self.stored[layer][core].fits(left_rows=left_rows, right_rows=right_rows):
                shape = self.stages[layer].layer.core_shapes[core]
                orientation = turned(shape, row, plan.config, left_rows=left_rows, right_rows=right_rows)
                formed[layer, core, left_rows, right_rows] = orientation
                row += orientation.rows
        return formed

    @property
    def _free_row(self) -> int:
        """The first engine row that no sweep writes."""
        assert self.plan.layout.unit_row is not None
        return self.plan.layout.unit_row + self.plan.unit_rows

    @property
    def _dense_row(self) -> int:
        """The row behind all orientations."""
        last = list(self.turned.values())[-1:]
        return last[0].row + last[0].rows if last else self._free_row

    def _forms_dense(self, layer: int) -> bool:
        """Whether the dense form of this layer is formed: it is the last one, of several cores, behind another."""
        return layer == 1 and len(self.stages[layer].layer.inputs) > 1

    def orientation(self, layer: int, core: int, left_rows: bool, right_rows: bool) -> Orientation:
        """A core for a contraction that reduces these bonds."""
        if self.stored[layer][core].fits(left_rows=left_rows, right_rows=right_rows):
            return self.stored[layer][core]
        # At the first and the last core one bond is 1: it may be said to count rows or not.
        last = len(self.stages[layer].layer.inputs) - 1
        key = (layer, core, left_rows or (core == 0 and not right_rows), right_rows or (core == last and not left_rows))
        return self.turned[key]

    @cached_property
    def dense(self) -> Readout:
        """The dense form of the last layer: row u of tile t holds what hidden unit u gives that tile's outputs."""
        stage, formats = self.stages[-1], self.plan.formats
        if not self._forms_dense(len(self.stages) - 1):
            core = self.stored[-1][0]
            return Readout(core.row, core.reduced, core.tile_cols, core.tiles, core.last_cols, formats.weights)
        units = self.units
        return units._replace(row=self._dense_row, units=stage.layer.input_count, fraction=formats.dense)

    @property
    def units(self) -> Readout:
        """The unit matrix: row o of its tile holds a one in the column of output o."""
        plan = self.plan
        assert plan.layout.unit_row is not None
        outputs = plan.network.outputs
        cols = tile_width(outputs, plan.config)
        tiles = -(-outputs // cols)
        return Readout(plan.layout.unit_row, outputs, cols, tiles, outputs - (tiles - 1) * cols, plan.unit_fraction)

    @property
    def end_row(self) -> int:
        """The row behind everything that is formed."""
        dense = self.dense if self._forms_dense(len(self.stages) - 1) else None
        return self._dense_row + (dense.units * dense.tiles if dense else 0)

    def block(self) -> Block:
        """The contractions and gathers that form the orientations and the dense form from this step's weights."""
        lines: list[Line] = []
        for (layer, core, _, _), target in self.turned.items():
            note = f"forming {self.stages[layer].name}.core{core} turned"
            lines += turning(self.stored[layer][core], target, self.plan.config, note)
        if self._forms_dense(len(self.stages) - 1):
            lines += self._dense_lines()
        return lines

    def _dense_lines(self) -> Iterator[Line]:
        """Lane n has the outputs of all basis vectors of first index n: core after core adds an index of each kind."""
        plan, layer = self.plan, len(self.stages) - 1
        config, formats, note = plan.config, plan.formats, f"forming {self.stages[-1].name} dense"
        tt = self.stages[-1].layer
        count, first_size = len(tt.inputs), tt.inputs[0]
        one = config.word - 2
        for first in range(0, first_size, config.lanes):
            lanes = min(config.lanes, first_size - first)
            core = self.orientation(layer, 0, True, False)
            dims = [Dim("m", 0, tt.outputs[0], 0), Dim("r", 1, tt.ranks[0], 0)]
            tensor = row_major(dims)
            low, here = True, 0
            levels = (
                Level(lanes, a=1, w=core.strides[1]),
                Level(),
                *filled([Level(core.tiles, w=core.reduced, o=core.tile_cols)], OUTER_LEVELS),
            )
            yield Line(
                Contract(
                    a_base=0,
                    w_base=core.row + first * core.strides[1],
                    o_base=here,
                    levels=levels,
                    cols=core.tile_cols,
                    last_cols=core.last_cols,
                    col_stride=1,
                    shift=shift_of(note, one, formats.weights, formats.dense),
                    one=one,
                    operand=Operand.IDENTITY,
                ),
                note,
            )
            for site in range(1, count):
                result = self._dense_tensor(site)
                words = words_of(tensor) + words_of(result)
                if words > config.lane_depth:
                    raise ValueError(
                        f"the dense form of {self.stages[-1].name} takes {words} words of a lane on the way, the "
                        f"machine has {config.lane_depth}: take a smaller layer or a larger machine"
                    )
                there = config.lane_depth - words_of(result) if low else 0
                yield Line(self._dense_step(site, tensor, result, here, there), note)
                tensor, here, low = result, there, not low
            rows = tt.input_count // first_size
            for tile in range(self.dense.tiles):
                cols = self.dense.last_cols if tile == self.dense.tiles - 1 else self.dense.tile_cols
                gather = Gather(
                    address=here + tile * self.dense.tile_cols,
                    stride=tt.output_count,
                    rows=rows,
                    lanes=lanes,
                    cols=cols,
                    row=self.dense.row + tile * self.dense.units + first * rows,
                )
                yield Line(gather, note)

    def _dense_tensor(self, site: int) -> Tensor:
        """A lane's words once cores 0 to ``site`` are in: input indices, output indices, the bond."""
        tt = self.stages[-1].layer
        last = site == len(tt.inputs) - 1
        inputs = [Dim("n", s, tt.inputs[s], 0) for s in range(1, site + 1)]
        outputs = [Dim("m", s, tt.outputs[s], 0) for s in range(site + 1)]
        return row_major([*inputs, *outputs, *([] if last else [Dim("r", site + 1, tt.ranks[site], 0)])])

    def _dense_step(self, site: int, source: Tensor, result: Tensor, here: int, there: int) -> Contract:
        formats = self.plan.formats
        core = self.orientation(len(self.stages) - 1, site, True, False)
        bond = find(source, "r", site)
        places = {dim[:2]: dim for dim in source}
        outer = [Level(d.size, a=places[d[:2]].stride, o=d.stride) for d in reversed(result) if d[:2] in places]
        inner = find(result, "r", site + 1) if find(result, "r", site + 1).stride else find(result, "m", site)
        n = find(result, "n", site)
        tile = Level(core.tiles, w=core.reduced, o=core.tile_cols * inner.stride)
        outer = merged([tile]) + merged([*outer, Level(n.size, w=core.strides[1], o=n.stride)])
        reduction = filled([Level(bond.size, a=bond.stride, w=core.strides[0])], REDUCTION_LEVELS)
        return Contract(
            a_base=here,
            w_base=core.row,
            o_base=there,
            levels=(*reduction, *filled(outer, OUTER_LEVELS)),
            cols=core.tile_cols,
            last_cols=core.last_cols,
            col_stride=inner.stride,
            shift=shift_of("dense", formats.dense, formats.weights, formats.dense),
        )
