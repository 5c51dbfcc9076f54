"""Plans: a network on a machine for one size of batch, from floats to memory words and contractions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from tenzo_hw.config import Config
from tenzo_hw.isa import Add, Halt, Loss, LossKind, Set

from .chain import SUM_LIMIT, Chain, Room, search
from .formats import Formats, Table, dequantise, quantise
from .layout import PASS_REGISTERS, SLICE_REGISTERS, Layout, Move, lay_out, table
from .network import Network
from .program import Block, Line, Program, Repeat


class LayerUse(NamedTuple):
    """What a layer costs in one forward pass of the whole batch."""

    name: str
    cycles: int
    macs: int
    """Useful multiply-accumulates on all lanes."""
    utilisation: float


@dataclass(frozen=True)
class Plan:
    """A network on a machine, for batches of ``batch`` samples. Made by ``plan``."""

    network: Network
    config: Config
    formats: Formats
    batch: int
    layout: Layout

    @property
    def groups(self) -> int:
        """Groups of one sample a lane in a batch."""
        return self.batch // self.config.lanes

    @property
    def passes(self) -> int:
        """Passes of a forward: the groups of each share instructions."""
        return self.groups // self.layout.share

    @property
    def rows(self) -> int:
        """Weight rows in use, from 0."""
        return self.layout.rows

    @property
    def tables(self) -> tuple[Table, ...]:
        """Contents of the table memory."""
        return self.layout.tables

    # Weights

    @property
    def master_fraction(self) -> int:
        """Fraction bits of a master weight."""
        return self.formats.weights + self.config.master_extra

    def pack(self, weights: Mapping[str, np.ndarray]) -> np.ndarray:
        """Masters int64[weight_rows, C] of float weights; words that are no weight are 0."""
        self.network.check_weights(weights)
        masters = np.zeros(self.config.weight_rows * self.config.columns, dtype=np.int64)
        for name, places in self.layout.places.items():
            masters[places] = quantise(weights[name], self.master_fraction, self.config.master_word)
        masters[self.unit_places] = 1 << (self.unit_fraction + self.config.master_extra)
        return masters.reshape(self.config.weight_rows, self.config.columns)

    def unpack(self, masters: np.ndarray) -> dict[str, np.ndarray]:
        """Float weights of masters [weight_rows, C]."""
        words = masters.reshape(-1)
        return {name: dequantise(words[places], self.master_fraction) for name, places in self.layout.places.items()}

    # The unit matrix

    @property
    def unit_fraction(self) -> int:
        """Fraction bits of the ones of the unit matrix."""
        return self.config.word - 2

    @property
    def unit_rows(self) -> int:
        """Weight rows of the unit matrix and of a row of zeros behind it; 0 where the plan has none."""
        outputs = self.network.outputs
        return outputs * -(-outputs // self.config.columns) + 1 if self.layout.unit_row is not None else 0

    @property
    def unit_places(self) -> np.ndarray:
        """row * C + column of the ones: that of output o in row o of its tile."""
        if self.layout.unit_row is None:
            return np.zeros(0, dtype=np.int64)
        outputs, columns = self.network.outputs, self.config.columns
        cols = -(-outputs // -(-outputs // columns))
        tile, column = np.divmod(np.arange(outputs), cols)
        return (self.layout.unit_row + tile * outputs + np.arange(outputs)) * columns + column

    # Samples

    def input_words(self, x: np.ndarray) -> np.ndarray:
        """Words int64[samples, inputs] of the batch memory, of float inputs of this shape."""
        if x.ndim != 2 or x.shape[1] != self.network.inputs:
            raise ValueError(f"inputs have shape {x.shape} instead of (samples, {self.network.inputs})")
        return quantise(x, self.formats.inputs, self.config.input_word)

    def target_words(self, y: np.ndarray) -> np.ndarray:
        """Words of the target memory, flat: labels int[samples], or values [samples, outputs] with squared error."""
        outputs = self.network.outputs
        if self.network.loss == "squared_error":
            if y.shape != (len(y), outputs):
                raise ValueError(f"targets have shape {y.shape} instead of (samples, {outputs})")
            return quantise(y, self.formats.loss, self.config.output_word)[:, self.layout.output_order].reshape(-1)
        if y.ndim != 1 or (len(y) and not 0 <= y.min() <= y.max() < outputs):
            raise ValueError(
                f"labels are numbers of outputs, 0 to {outputs - 1}, in one dimension; shape {y.shape} given"
            )
        return np.argsort(self.layout.output_order)[y]

    def outputs(self, words: np.ndarray) -> np.ndarray:
        """Float outputs [batch, outputs] from the words that a prediction leaves at ``output_area`` in each lane.

        ``words``: int[L, groups * outputs].
        """
        by_group = words.reshape(self.config.lanes, self.groups, self.network.outputs).swapaxes(0, 1)
        return dequantise(by_group.reshape(self.batch, -1), self.formats.output)

    @property
    def output_area(self) -> tuple[int, int]:
        """First word and number of words of the outputs in a lane: output j of group g at word g * outputs + j."""
        return 0, self.groups * self.network.outputs

    # Instructions

    def loss(self) -> Loss:
        """The instruction that sets the loss accumulator up for this network and batch."""
        cross_entropy = self.network.loss == "cross_entropy"
        return Loss(
            kind=LossKind.CROSS_ENTROPY if cross_entropy else LossKind.SQUARED_ERROR,
            outputs=self.network.outputs,
            groups=self.groups,
            fraction=self.formats.loss if cross_entropy else 0,
        )

    def forward(self, half: int, *, predict: bool = False, loop_slices: bool = True, loop_passes: bool = True) -> Block:
        """The contractions of the whole batch with the weights of ``half``.

        The outputs go to the loss or, to ``predict``, to ``output_area``. Slices and passes are counted loops or
        written out.
        """
        moves = [[self._for(move, half, predict) for move in layer.moves] for layer in self.layout.layers]
        if not (loop_passes and self.passes > 1):
            return [node for turn in range(self.passes) for node in self._one_pass(moves, turn, loop_slices)]
        steps = {stream: step for layer in moves for move in layer for stream, step in move.pass_steps.items()}
        body = [*self._one_pass(moves, None, loop_slices), *_advance(steps, PASS_REGISTERS)]
        return [*_reset(steps, PASS_REGISTERS), Repeat(self.passes, tuple(body), "passes")]

    def _one_pass(self, moves: Sequence[Sequence[Move]], turn: int | None, loop_slices: bool) -> Block:
        stages = zip(self.network.stages, self.layout.layers, moves, strict=True)
        return [
            node
            for stage, layer, own in stages
            for node in sliced(stage.name, layer.chain.slices, own, turn, loop_slices=loop_slices)
        ]

    def _for(self, move: Move, half: int, predict: bool) -> Move:
        """The move with the weights of ``half``, its network outputs to the loss or to ``output_area``."""
        contract, first_row = move.contract, half * self.config.weight_rows
        contract = replace(contract, w_base=contract.w_base + first_row)
        if contract.bias:
            contract = replace(contract, b_base=contract.b_base + first_row)
        if contract.to_loss and predict:
            shift = contract.shift + self.formats.loss - self.formats.output
            contract = replace(contract, to_loss=False, store=True, shift=shift)
        moved = {stream: step for stream, step in move.pass_steps.items() if stream != "o" or contract.store}
        return replace(move, contract=contract, pass_steps=moved)

    # Time

    @cached_property
    def forward_cycles(self) -> int:
        """Cycles that one more forward of the batch takes, with its losses."""
        return self._several(3).timeline().cycles - self._several(2).timeline().cycles

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates of a forward on all lanes."""
        return self.batch * sum(layer.chain.macs for layer in self.layout.layers)

    @property
    def utilisation(self) -> float:
        """Share of the multipliers' cycles of a forward that does useful work."""
        return self.macs / (self.forward_cycles * self.config.multipliers)

    def layer_uses(self) -> list[LayerUse]:
        """Cycles and utilisation of each layer in a forward."""
        program = self._several(1)
        uses = program.timeline().uses
        report = []
        for stage in self.network.stages:
            own = [use for line, use in zip(program.lines, uses, strict=True) if line.note.startswith(f"{stage.name}.")]
            cycles, macs = sum(use.busy for use in own), sum(use.macs for use in own)
            report.append(LayerUse(stage.name, cycles, macs, macs / (cycles * self.config.multipliers)))
        return report

    def _several(self, forwards: int) -> Program:
        block = [
            Line(self.loss()),
            *(node for turn in range(forwards) for node in self.forward(turn & 1)),
            Line(Halt()),
        ]
        # Three forwards of a long program need not fit: only their time is asked for.
        return Program.build(block, self.config.replace(program_depth=1 << 15))


def sliced(name: str, slices: int, moves: Sequence[Move], turn: int | None, *, loop_slices: bool) -> Block:
    """A layer's contractions for all slices of pass ``turn`` (None: the pass that the registers say)."""
    if not (loop_slices and slices > 1):
        return [move.at(slice_, turn) for slice_ in range(slices) for move in moves]
    steps = {stream: step for move in moves for stream, step in move.slice_steps.items()}
    body = [*(move.at(None, turn) for move in moves), *_advance(steps, SLICE_REGISTERS)]
    return [*_reset(steps, SLICE_REGISTERS), Repeat(slices, tuple(body), f"{name} slices")]


def _reset(steps: Mapping[str, int], registers: Mapping[str, int]) -> list[Line]:
    return [Line(Set(register=registers[stream], value=0)) for stream in steps]


def _advance(steps: Mapping[str, int], registers: Mapping[str, int]) -> list[Line]:
    return [Line(Add(register=registers[stream], value=step)) for stream, step in steps.items()]


def plan(
    network: Network, config: Config, batch: int, formats: Formats | None = None, *, coordinates: bool = False
) -> Plan:
    """The plan with the fewest cycles a forward, among the orders, slices and numbers of groups a pass that fit.

    With ``coordinates`` it is one for coordinate-wise steps: one group a pass, the cores from the first to the last, so
    that outputs drain in their order, and a unit matrix behind the weights.

    Raises ``ValueError`` with the numbers, and the nearest that fits, when a batch, the weights or the intermediate
    results do not fit the machine.
    """
    formats = formats or Formats.default(network, config)
    _check_sizes(network, config, batch, formats)
    groups = batch // config.lanes
    plans = []
    for share in range(1, 2 if coordinates else groups + 1):
        if groups % share == 0:
            chains = _choose_chains(network, config, groups, share, in_order=coordinates)
            if chains is not None:
                layout = lay_out(network, config, formats, groups, share, chains)
                if coordinates:
                    layout = replace(layout, unit_row=layout.rows)
                plans.append(Plan(network, config, formats, batch, layout))
    if not plans:
        raise ValueError(_too_small_a_lane(network, config, batch))
    fitting = [found for found in plans if found.rows + found.unit_rows <= config.weight_rows]
    if not fitting:
        needed = min(found.rows + found.unit_rows for found in plans)
        raise ValueError(
            f"the network's {network.parameters} words need {needed} weight rows of "
            f"{config.columns}, the machine has {config.weight_rows}: take lower ranks, fewer units or a larger machine"
        )
    return min(fitting, key=lambda found: (found.forward_cycles, found.layout.share))


def largest_batch(network: Network, config: Config) -> int:
    """The most samples that batch and target memory hold; 0 when not one group of them fits."""
    words = network.outputs if network.loss == "squared_error" else 1
    groups = min(config.batch_depth // network.inputs, config.target_depth // (config.lanes * words))
    return groups * config.lanes


def _check_sizes(network: Network, config: Config, batch: int, formats: Formats) -> None:
    lanes, most = config.lanes, largest_batch(network, config)
    if not most:
        raise ValueError(
            f"{network.inputs} inputs and {network.outputs} outputs a sample are too many: the batch memory has "
            f"{config.batch_depth} words a lane, the target memory {config.target_depth} for {lanes} samples"
        )
    if batch < 1 or batch % lanes:
        near = min(max(round(batch / lanes), 1) * lanes, most)
        raise ValueError(f"batch={batch} is not possible: a multiple of the machine's {lanes} lanes, such as {near}")
    if batch > most:
        raise ValueError(
            f"batch={batch} does not fit: at most {most} samples of {network.inputs} inputs do, in the batch memory of "
            f"{config.batch_depth} words a lane and the target memory of {config.target_depth} words"
        )
    if network.outputs > config.outputs:
        raise ValueError(f"{network.outputs} outputs are too many: the machine's loss takes at most {config.outputs}")
    if len(formats.layers) != len(network.stages):
        raise ValueError(
            f"the formats are those of {len(formats.layers)} layers, the network has {len(network.stages)}"
        )
    tables = {table(stage, layer) for stage, layer in zip(network.stages, formats.layers, strict=True)} - {None}
    if len(tables) > config.tables:
        raise ValueError(
            f"{len(tables)} activation tables are needed, one for each function and pair of formats; "
            f"the machine has {config.tables}"
        )


def _rooms(network: Network, words: int) -> list[Room]:
    last = len(network.stages) - 1
    return [Room(words=words, input_in_lane=k > 0, output_in_lane=k < last) for k in range(last + 1)]


def _choose_chains(network: Network, config: Config, groups: int, share: int, *, in_order: bool) -> list[Chain] | None:
    rooms = _rooms(network, (config.lane_depth - groups * network.outputs) // share)
    found = [
        search(stage.layer, config, share, room, in_order=in_order)
        for stage, room in zip(network.stages, rooms, strict=True)
    ]
    chains = [chain for chain in found if chain is not None]
    return chains if len(chains) == len(found) else None


def _too_small_a_lane(network: Network, config: Config, batch: int) -> str:
    """Why no choice of chains fits, with what would."""
    needed = {}
    for stage, room in zip(network.stages, _rooms(network, 1 << 62), strict=True):
        if search(stage.layer, config, 1, room) is None:
            return (
                f"{stage.name} sums more than {SUM_LIMIT} products in any order of its cores: fold its inputs further "
                "or lower its ranks"
            )
        sizes = range(1 << 40)
        needed[stage.name] = bisect_left(
            sizes, True, key=lambda words: search(stage.layer, config, 1, replace(room, words=words)) is not None
        )
    smaller = (config.lane_depth - max(needed.values())) // network.outputs * config.lanes
    if smaller > 0:
        return (
            f"batch={batch} does not fit: its outputs leave too few of the {config.lane_depth} words of a lane for the "
            f"results between contractions; the largest batch that fits is {smaller}"
        )
    return (
        f"the results between contractions do not fit into the {config.lane_depth} words of a lane: "
        f"{', '.join(f'{name} needs {words}' for name, words in needed.items())} and outputs {network.outputs}; "
        "take lower ranks, fewer units, or a larger machine"
    )
