"""Layouts: where a network's weights and results lie in a machine, and the contractions with their loop nests.

A batch is B / L groups of one sample a lane. A *pass* is the work of ``share`` groups whose contractions share
instructions, with the group as the outermost level: the results of one become readable while the others are computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from tenzo_hw import nest
from tenzo_hw.config import OUTER_LEVELS, REDUCTION_LEVELS, Config
from tenzo_hw.isa import Activation, Contract, Level

from .chain import Chain, Step
from .formats import Formats, LayerFormat, Table
from .network import Network, ReLU, Stage
from .program import Line

#: Address registers that move by a slice and by a pass, for each stream that does.
SLICE_REGISTERS = {"w": 1, "o": 2, "b": 3}
PASS_REGISTERS = {"a": 4, "o": 5}


class Region(NamedTuple):
    """A tensor in a lane's memory, ``words`` words for each group of a pass; or in the batch memory."""

    address: int
    words: int
    in_batch: bool = False


@dataclass(frozen=True)
class Move:
    """A contraction for the first slice of the first pass, and how far its streams move a slice and a pass further."""

    contract: Contract
    note: str
    slice_steps: Mapping[str, int] = field(default_factory=dict)
    pass_steps: Mapping[str, int] = field(default_factory=dict)

    def at(self, slice_: int | None, pass_: int | None) -> Line:
        """The contraction of this slice and pass; of the one that the address registers say where None."""
        changes: dict[str, int] = {}
        moves = ((self.slice_steps, slice_, SLICE_REGISTERS), (self.pass_steps, pass_, PASS_REGISTERS))
        for steps, turn, registers in moves:
            for stream, step in steps.items():
                if turn is None:
                    changes[f"{stream}_register"] = registers[stream]
                else:
                    changes[f"{stream}_base"] = getattr(self.contract, f"{stream}_base") + turn * step
        return Line(replace(self.contract, **changes), self.note)


@dataclass(frozen=True)
class LayerLayout:
    """A layer's chain and its contractions for half 0. The last layer's end with one for each group of a pass."""

    chain: Chain
    moves: tuple[Move, ...]
    core_rows: tuple[int, ...]
    """First weight row of each core."""
    bias_row: int
    """First weight row of the biases, where there are any."""


@dataclass(frozen=True)
class Layout:
    """Where everything of a network is."""

    share: int
    """Groups of a pass."""
    layers: tuple[LayerLayout, ...]
    places: dict[str, np.ndarray]
    """For every weight, shaped as it: row * C + column of each of its words."""
    rows: int
    """Weight rows in use, from 0."""
    output_order: np.ndarray
    """output_order[i]: number of the network output that reaches the loss accumulator as the i-th."""
    tables: tuple[Table, ...]
    """Contents of the table memory."""
    unit_row: int | None = None
    """First weight row of a unit matrix of the outputs, for plans that train coordinate-wise."""


def table(stage: Stage, layer: LayerFormat) -> Table | None:
    """The activation table that a stage needs; None where the machine has its function, or it has none."""
    if stage.function is None or isinstance(stage.function, ReLU):
        return None
    return Table(stage.function, layer.total, layer.output)


def lay_out(
    network: Network, config: Config, formats: Formats, groups: int, share: int, chains: Sequence[Chain]
) -> Layout:
    """The layout of these chains for batches of ``groups`` groups, ``share`` a pass.

    Raises ``ValueError`` when the formats ask for shifts that the machine does not have. More weight rows than it has
    are no error here.
    """
    placer = _Placer(network, config, formats, share)
    layers = []
    low = groups * network.outputs
    source = Region(0, network.inputs, in_batch=True)
    for number, chain in enumerate(chains):
        regions = _regions(chain, source, low, config.lane_depth, share, last=number == len(chains) - 1)
        layers.append(placer.layer(number, chain, regions))
        source = regions[-1]
    return Layout(share, tuple(layers), placer.places, placer.rows, placer.output_order, tuple(placer.tables))


def _regions(chain: Chain, source: Region, low: int, high: int, share: int, *, last: bool) -> list[Region]:
    """Input, intermediate results and output of a chain between the lane words ``low`` and ``high``.

    Each result lies at the end away from its operand. A sliced chain keeps its input and output at the two ends and
    works between them. The network's outputs are below ``low``, from word 0, if anywhere.
    """
    to_low = source.in_batch or source.address != low
    results = [step.output_words for step in chain.steps]
    target = Region(0, results.pop())
    if chain.slices > 1:
        size = target.words * share
        target = Region(low if to_low else high - size, target.words)
        taken = 0 if source.in_batch else source.words * share
        at_low, at_high = (size, taken) if to_low else (taken, size)
        low, high = low + at_low, high - at_high
    regions = [source]
    for words in results:
        regions.append(Region(low if to_low else high - words * share, words))
        to_low = not to_low
    if chain.slices == 1 and not last:
        target = Region(low if to_low else high - target.words * share, target.words)
    return [*regions, target]


def layer_moves(
    network: Network,
    config: Config,
    formats: Formats,
    number: int,
    layout: LayerLayout,
    regions: Sequence[Region],
    *,
    share: int,
    activation: Activation,
) -> tuple[Move, ...]:
    """The contractions of layer ``number``, placed by ``layout``, from and to these regions, ``share`` groups at once.

    Raises ``ValueError`` when the formats ask for a shift that the machine does not have.
    """
    stage, layer_format, chain = network.stages[number], formats.layers[number], layout.chain
    ends_network = number == len(network.stages) - 1
    fraction = formats.layers[number - 1].output if number else formats.inputs
    moves: list[Move] = []
    for step, source, target in zip(chain.steps, regions[:-1], regions[1:], strict=True):
        note = f"{stage.name}.core{step.core}"
        result = layer_format.total if step.last else layer_format.inner
        if step.last and ends_network and stage.function is None:
            result = formats.loss
        contract = Contract(
            a_base=source.address,
            from_batch=source.in_batch,
            w_base=layout.core_rows[step.core],
            o_base=target.address,
            levels=(Level(),) * (REDUCTION_LEVELS + OUTER_LEVELS),
            cols=step.cols(config),
            last_cols=step.last_cols(config),
            col_stride=step.column_stride,
            shift=shift_of(note, fraction, formats.weights, result),
            bias=step.bias,
            one=fraction if step.bias else 0,
            b_base=layout.bias_row if step.bias else 0,
            activation=activation if step.last else Activation.NONE,
        )
        slice_steps = _slice_steps(stage, config, chain, step)
        pass_steps = {"a": share * source.words} if source.in_batch else {}
        if step.last and ends_network:
            nested = _nested(step, config, replace(contract, store=False, to_loss=True), source, target, 1)
            pass_steps["o"] = share * target.words
            for group in range(share):
                bases = {"a_base": source.address + group * source.words, "o_base": group * target.words}
                moves.append(Move(replace(nested, **bases), note, slice_steps, pass_steps))
        else:
            nested = _nested(step, config, contract, source, target, share)
            moves.append(Move(nested, note, slice_steps, pass_steps))
        fraction = result
    return tuple(moves)


def shift_of(note: str, operand: int, weight: int, result: int) -> int:
    """The right shift from products to results of these fraction bits. Raises ``ValueError`` when there is none."""
    shift = operand + weight - result
    if not 0 <= shift < 64 or not 0 <= operand < 32:
        raise ValueError(
            f"{note}: an operand of {operand} and weights of {weight} fraction bits cannot give a result of {result}: "
            "at most their sum is possible, and an operand of 0 to 31"
        )
    return shift


def _slice_steps(stage: Stage, config: Config, chain: Chain, step: Step) -> dict[str, int]:
    """How far a contraction's streams move from one slice to the next."""
    steps: dict[str, int] = {}
    if chain.slices == 1:
        return steps
    first = chain.order[0]
    if step.core == first:
        steps["w"] = step.tiles(config) * step.reduced
    if step.last:
        steps["o"] = math.prod(stage.layer.outputs[first:]) // chain.slices
        if step.bias:
            steps["b"] = step.tiles(config) * step.places
    return steps


def _nested(step: Step, config: Config, contract: Contract, source: Region, target: Region, share: int) -> Contract:
    """The contraction with its loop nest.

    Results are written in the order of their addresses, which is also that of the next contraction's reads: the
    first ones read are those that became readable long ago.
    """
    tiles = step.tiles(config)
    outer = [Level(axis.count, a=axis.a, o=axis.o) for axis in step.positions]
    if tiles > 1:
        outer.append(Level(tiles, w=step.reduced, o=contract.cols * step.column_stride))
    levels, tile = [], 1
    for level in sorted(outer, key=lambda level: level.o):
        # Biases lie in the order of the tiles.
        levels.append(replace(level, b=tile if step.bias else 0))
        tile *= level.count
    tile_level = next((place for place, level in enumerate(levels) if level.w), 0)
    if share > 1:
        levels.append(Level(share, a=source.words, o=target.words))
    levels += [Level()] * (OUTER_LEVELS - len(levels))
    reduction = Level(step.reduced, a=step.reduced_stride, w=1)
    return replace(contract, levels=(reduction, Level(), *levels), tile_level=tile_level)


class _Placer:
    """Takes weight rows and makes contractions, layer after layer."""

    def __init__(self, network: Network, config: Config, formats: Formats, share: int) -> None:
        self._network = network
        self._config = config
        self._formats = formats
        self._share = share
        self.rows = 0
        self.places: dict[str, np.ndarray] = {}
        self.tables: list[Table] = []
        self.output_order = np.zeros(0, dtype=np.int64)

    def layer(self, number: int, chain: Chain, regions: Sequence[Region]) -> LayerLayout:
        """Places a layer and makes its contractions, from and to these regions."""
        stage = self._network.stages[number]
        rows = {step.core: self._place_core(stage, step) for step in sorted(chain.steps, key=lambda step: step.core)}
        bias_row = self.rows
        self.rows += chain.steps[-1].bias_rows(self._config, chain.slices)
        core_rows = tuple(rows[core] for core in range(len(rows)))
        layout = LayerLayout(chain, (), core_rows, bias_row)
        activation = self._activation(stage, self._formats.layers[number])
        moves = layer_moves(
            self._network,
            self._config,
            self._formats,
            number,
            layout,
            regions,
            share=self._share,
            activation=activation,
        )
        if number == len(self._network.stages) - 1:
            addresses, valid = nest.outputs(moves[-1].contract, 0)
            self.output_order = addresses[valid]
        if stage.layer.bias:
            self._place_bias(stage, chain, moves[-1])
        return replace(layout, moves=moves)

    def _activation(self, stage: Stage, layer_format: LayerFormat) -> Activation:
        if stage.function is None:
            return Activation.NONE
        wanted = table(stage, layer_format)
        if wanted is None:
            return Activation.RELU
        if wanted not in self.tables:
            self.tables.append(wanted)
        return Activation(Activation.TABLE0 + self.tables.index(wanted))

    def _place_core(self, stage: Stage, step: Step) -> int:
        """Takes rows for a core: slice by slice, tile by tile, one row for each reduced index. Returns the first."""
        shape = stage.layer.core_shapes[step.core]
        left, n, m, right = np.indices(shape)
        slice_outputs = shape[2] // step.slices
        slice_, m = np.divmod(m, slice_outputs)
        row, column = n, m
        if step.left_bond:
            row = left * shape[1] + row
        else:
            column = left * slice_outputs + column
        if step.right_bond:
            row = row * shape[3] + right
        else:
            column = column * shape[3] + right
        tile, column = np.divmod(column, step.cols(self._config))
        first = self.rows
        rows = first + (slice_ * step.tiles(self._config) + tile) * step.reduced + row
        self.places[f"{stage.name}.core{step.core}"] = rows * self._config.columns + column
        self.rows += step.rows(self._config)
        return first

    def _place_bias(self, stage: Stage, chain: Chain, last: Move) -> None:
        """The biases of a layer: one row a tile, in the order of the tiles of one group."""
        reduction, outer = last.contract.levels[:REDUCTION_LEVELS], last.contract.levels[REDUCTION_LEVELS:]
        # Only the level of the groups does not move the bias row.
        one_group = replace(last.contract, levels=(*reduction, *(level if level.b else Level() for level in outer)))
        outputs, valid = nest.outputs(one_group, 0)
        tile, column = np.nonzero(valid)
        places = np.zeros(stage.layer.output_count, dtype=np.int64)
        for slice_ in range(chain.slices):
            rows = one_group.b_base + slice_ * len(outputs) + tile
            places[outputs[valid] + slice_ * last.slice_steps.get("o", 0)] = rows * self._config.columns + column
        self.places[f"{stage.name}.bias"] = places
