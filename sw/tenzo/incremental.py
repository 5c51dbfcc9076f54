"""Incremental coordinate-wise estimation: every word's loss difference from the parts of one forward that it changes.

With z and h = f(z) of the second last layer, the outputs y and the environment E of an entry (see ``environment``):

    y(G + mu e) = y + D[:, U] (f(z[U] + mu E) - f(z[U]))      an entry of the second last layer
    y(G + mu e) = y + mu E on its own outputs                  an entry of the last layer

U are the outputs that the entry touches, D is the dense form of the last layer, read by columns. Short words have too
few bits for a small mu E: with a stretch s, z moves 2**s times as far and the outputs by 2**-s of what comes of it,

    y(G + mu e) = y + 2**-s D[:, U] (f(z[U] + 2**s mu E) - f(z[U]))

which differs only where a ReLU changes sides, while mu, and with it what the loss bends on one side, can be small. The
last layer needs none: its outputs move in the longer words of the loss. A step is, for each
group of one sample a lane: the forward, whose outputs stay in the loss accumulator as the base; then core after core
the environments, slice by slice, each slice followed by one contraction whose tiles are its entries. Every entry has a
loss slot; afterwards the differences to slot 0 become coefficients, and single-column sweeps update the words.

Lane memory: z from word 0 on, in the lower bank; environments at the upper end, in the upper bank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from tenzo_hw.config import OUTER_LEVELS, REDUCTION_LEVELS
from tenzo_hw.isa import Activation, Add, Base, Contract, Level, Operand, Set

from .coordinates import Slots, bias_runs, core_first_slots
from .environment import Environment, Tensor, environments, filled, find, input_tensor, merged
from .forming import Forming
from .layout import PASS_REGISTERS, LayerLayout, Region, layer_moves, shift_of
from .network import ReLU, Stage
from .plan import Plan, sliced
from .program import Block, Line, Repeat

#: Address registers beside those of slices and passes.
BATCH_REGISTER = PASS_REGISTERS["a"]
TARGET_REGISTER = PASS_REGISTERS["o"]
SLOT_REGISTER = 2
TURN_REGISTER = 6
PART_REGISTER = 7


def walk_of(sequence: np.ndarray) -> list[tuple[int, int]]:
    """Counts and strides, innermost first, of the nested counters that give ``sequence`` less its first value.

    Raises ``ValueError`` where only as many levels as values would do.
    """
    levels = []
    while len(sequence) > 1:
        stride = int(sequence[1] - sequence[0])
        steps = np.flatnonzero(np.diff(sequence) != stride)
        count = int(steps[0]) + 1 if len(steps) else len(sequence)
        if len(sequence) % count or (np.diff(sequence.reshape(-1, count)) != stride).any():
            raise ValueError(f"{len(sequence)} words are not in even steps")
        levels.append((count, stride))
        sequence = sequence.reshape(-1, count)[:, 0]
    return levels


@dataclass(frozen=True)
class Incremental:
    """The instructions of incremental coordinate-wise steps for a plan with unit rows.

    Raises ``ValueError`` with the numbers when the network or the machine cannot do it.
    """

    plan: Plan
    mu: float
    stretch: int = 0

    def __post_init__(self) -> None:
        plan = self.plan
        stages = plan.network.stages
        if not plan.config.incremental:
            raise ValueError(
                "incremental coordinate-wise steps need a machine with incremental=1: take another machine or estimator"
            )
        if len(stages) > 2:
            raise ValueError(
                f"incremental coordinate-wise steps reach the last two layers, the network has {len(stages)}: take "
                "another estimator"
            )
        if plan.network.stages[-1].function is not None:
            raise ValueError("incremental coordinate-wise steps need outputs without a function")
        if len(stages) == 2 and not isinstance(stages[0].function, ReLU):
            raise ValueError("incremental coordinate-wise steps need a ReLU between the last two layers")
        if plan.layout.unit_row is None:
            raise ValueError("the plan has no unit rows: make it with coordinates=True")
        if self.hidden_words > plan.config.lane_bank:
            raise ValueError(
                f"{self.hidden_words} hidden units do not fit in the {plan.config.lane_bank} words of a lane's lower "
                "bank: take a smaller layer or a larger machine"
            )
        if self.evaluations > plan.config.losses:
            raise ValueError(
                f"{self.evaluations} losses a step are needed, the machine has {plan.config.losses} slots: take lower "
                "ranks, fewer units or a larger machine"
            )
        if self.forming.end_row > plan.config.effective_rows:
            raise ValueError(
                f"{self.forming.end_row} rows of effective words are needed, the machine has "
                f"{plan.config.effective_rows}: take a smaller last layer or a larger machine"
            )

    # What there is

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The network's layers."""
        return tuple(self.plan.network.stages)

    @property
    def hidden_words(self) -> int:
        """Words of z: outputs of the second last layer, 0 where there is none."""
        return self.stages[-1].layer.input_count if len(self.stages) == 2 else 0

    @cached_property
    def forming(self) -> Forming:
        """What is formed of the weights before the first group."""
        return Forming(self.plan)

    @cached_property
    def _slots(self) -> list[tuple[list[Slots], int]]:
        return list(core_first_slots(self.plan))

    @property
    def evaluations(self) -> int:
        """Losses of a step: the unperturbed one and one for each word."""
        return self.plan.network.parameters + 1

    # A group's forward

    def forward(self) -> Block:
        """The forward of the group at hand: z stays in the lanes, the outputs are the loss accumulator's base."""
        plan, nodes = self.plan, []
        source = Region(0, plan.network.inputs, in_batch=True)
        for number, (stage, layout) in enumerate(zip(self.stages, plan.layout.layers, strict=True)):
            last = number == len(self.stages) - 1
            regions = self._forward_regions(layout, source)
            moves = list(
                layer_moves(
                    plan.network,
                    plan.config,
                    plan.formats,
                    number,
                    layout,
                    regions,
                    share=1,
                    activation=Activation.NONE,
                )
            )
            if number:
                moves[0] = replace(moves[0], contract=replace(moves[0].contract, operand=Operand.RELU))
            if last:
                final = moves[-1]
                steps = {stream: step for stream, step in final.pass_steps.items() if stream != "o"}
                moves[-1] = replace(final, contract=replace(final.contract, base=Base.KEEP), pass_steps=steps)
            moves = [replace(move, note=f"forward {move.note}") for move in moves]
            nodes += sliced(f"forward {stage.name}", layout.chain.slices, moves, None, loop_slices=True)
            source = regions[-1]
        return nodes

    def _forward_regions(self, layout: LayerLayout, source: Region) -> list[Region]:
        """Input, results between the contractions at alternating ends of what z leaves free, and the result."""
        low, high = self.hidden_words, self.plan.config.lane_depth
        sizes = [step.output_words for step in layout.chain.steps]
        regions, to_low = [source], True
        for words, before in zip(sizes[:-1], [0, *sizes], strict=False):
            if words + before > high - low:
                raise ValueError(
                    f"the results between contractions take {words + before} words of a lane, {high - low} are free "
                    f"beside {low} hidden units: take lower ranks, fewer units or a larger machine"
                )
            regions.append(Region(low if to_low else high - words, words))
            to_low = not to_low
        return [*regions, Region(0, sizes[-1])]

    # A group's entries

    def entries(self) -> Block:
        """All words' losses of the group at hand."""
        nodes: list[Line | Repeat] = []
        for layer, stage in enumerate(self.stages):
            for core in range(len(stage.layer.inputs)):
                nodes += self._core_entries(layer, core)
            if stage.layer.bias:
                nodes += self._bias_entries(layer)
        return nodes

    def _source(self, layer: int) -> tuple[Tensor, bool, int]:
        """A layer's input, whether it is in the batch memory, and its fraction bits."""
        tensor = input_tensor(self.stages[layer].layer.inputs)
        formats = self.plan.formats
        return (tensor, True, formats.inputs) if layer == 0 else (tensor, False, formats.layers[layer - 1].output)

    def _is_last(self, layer: int) -> bool:
        return layer == len(self.stages) - 1

    def _environment(self, layer: int, core: int) -> Environment:
        config = self.plan.config
        tensor, _, _ = self._source(layer)
        room = config.lane_depth - self.hidden_words
        return environments(
            self.stages[layer].layer,
            tensor,
            core,
            lambda site, left, right: self.forming.orientation(layer, site, left, right),
            config,
            room=room,
            upper=room if self._is_last(layer) else min(room, config.lane_bank),
        )

    def _core_entries(self, layer: int, core: int) -> Block:
        found = self._environment(layer, core)
        if not found.steps:
            return self._single_core_entries(layer)
        plan, stage, slots = self.plan, self.stages[layer], self._slots[layer][0][core]
        source, in_batch, fraction = self._source(layer)
        formats, last = plan.formats, self._is_last(layer)
        note = f"{stage.name}.core{core}"
        layer_format = formats.layers[layer]
        result = layer_format.inner if last else layer_format.total - self._hidden_mu_bits
        addresses = found.regions(self.hidden_words, plan.config.lane_depth)
        lines = []
        for number, (step, address) in enumerate(zip(found.steps, addresses, strict=True)):
            ends, starts = number == len(found.steps) - 1, number == 0
            wanted = result if ends else layer_format.inner
            values: dict[str, Any] = {
                "a_base": 0 if starts else addresses[number - 1],
                "o_base": address,
                "shift": shift_of(f"{note} environment", fraction, formats.weights, wanted),
            }
            if starts and in_batch:
                values |= {"from_batch": True, "a_register": BATCH_REGISTER}
            elif starts:
                values |= {"operand": Operand.RELU, "a_register": TURN_REGISTER}
            elif ends and found.parts > 1:
                values["a_register"] = PART_REGISTER
            lines.append(Line(step.contract(**values), f"environments {note}"))
            fraction = wanted
        # An environment times mu has the fraction bits of what it is added to.
        entry = self._entry_contract(layer, core, found, addresses[-1], fraction if last else layer_format.total)
        part_step = self._part_slots(found, slots)
        turn = find(source, "n", core).stride
        body = [lines[-1], Line(entry, f"entries {note}")]
        inner: Block = body
        if found.parts > 1:
            moving = [
                Line(Add(register=PART_REGISTER, value=found.part_step)),
                Line(Add(register=SLOT_REGISTER, value=part_step)),
            ]
            inner = [Line(Set(register=PART_REGISTER, value=0)), Repeat(found.parts, (*body, *moving), f"{note} parts")]
        register = BATCH_REGISTER if in_batch else TURN_REGISTER
        back = slots.n - (found.parts * part_step if found.parts > 1 else 0)
        turning_on = [Line(Add(register=register, value=turn)), Line(Add(register=SLOT_REGISTER, value=back))]
        nodes: list[Line | Repeat] = [Line(Set(register=SLOT_REGISTER, value=slots.first))]
        if not in_batch:
            nodes.append(Line(Set(register=TURN_REGISTER, value=0)))
        nodes.append(Repeat(found.turns, (*lines[:-1], *inner, *turning_on), f"{note} turns"))
        if in_batch:
            nodes.append(Line(Add(register=register, value=-turn * found.turns)))
        return nodes

    def _part_slots(self, found: Environment, slots: Slots) -> int:
        """Slots from one part of the bond to the next."""
        if found.parts == 1:
            return 0
        left = find(found.steps[-1].source, "r", found.core)
        if left.stride:
            return left.size * slots.left
        return find(found.tensor, "r", found.core + 1).size * slots.right

    def _entry_contract(self, layer: int, core: int, found: Environment, address: int, fraction: int) -> Contract:
        """One slice of a core's entries: rows walk the outputs that an entry touches, tiles the entries."""
        stage, slots, tensor = self.stages[layer], self._slots[layer][0][core], found.tensor
        outputs = stage.layer.outputs
        last = self._is_last(layer)
        units = {site: math.prod(outputs[site + 1 :]) for site in range(len(outputs))}
        others = [find(tensor, "m", site) for site in reversed(range(len(outputs))) if site != core]
        left, right = find(tensor, "r", core), find(tensor, "r", core + 1)
        entry = [(right, slots.right), (left, slots.left)]
        if last:
            rows = [Level(d.size, a=d.stride, w=units[d.site]) for d in others]
            turns = [Level(d.size, a=d.stride, o=slot) for d, slot in entry]
            turns.append(Level(outputs[core], w=units[core], o=slots.m))
        else:
            rows = [Level(d.size, a=units[d.site], w=units[d.site], b=d.stride) for d in others]
            turns = [Level(d.size, b=d.stride, o=slot) for d, slot in entry]
            turns.append(Level(outputs[core], a=units[core], w=units[core], o=slots.m))
        values: dict[str, int] = {"a_base": address} if last else {"b_base": address - self.plan.config.lane_bank}
        return self._difference(
            layer,
            merged(rows),
            merged(turns),
            fraction=fraction,
            operand=Operand.WORD if last else Operand.DIFFERENCE,
            o_register=SLOT_REGISTER,
            **values,
        )

    def _difference(
        self,
        layer: int,
        rows: Sequence[Level],
        entries: Sequence[Level],
        *,
        fraction: int,
        operand: Operand,
        a_base: int = 0,
        **values: Any,
    ) -> Contract:
        """A contraction of entries whose differences of outputs go to the loss."""
        plan, last = self.plan, self._is_last(layer)
        readout = self.forming.units if last else self.forming.dense
        # An environment of the last layer is not yet times mu, what comes of another's was stretched.
        shrink_bits = self._mu_bits if last else self.stretch
        loss_cycles = plan.network.outputs * plan.config.loss_lanes
        tile = [Level(readout.tiles, w=readout.units)]
        fields: dict[str, Any] = {
            "a_base": a_base,
            "w_base": readout.row,
            "o_base": 0,
            "cols": readout.tile_cols,
            "last_cols": readout.last_cols,
            "col_stride": 0,
            "shift": shift_of("a difference", fraction, readout.fraction, plan.formats.loss - shrink_bits),
            "pace": -(-loss_cycles // readout.tiles),
        }
        levels = (*filled(rows, REDUCTION_LEVELS), *filled([*tile, *entries], OUTER_LEVELS))
        return Contract(
            **fields | values,
            levels=levels,
            operand=operand,
            store=False,
            to_loss=True,
            base=Base.ADD,
        )

    def _single_core_entries(self, layer: int) -> Block:
        """A layer of one core: an entry's environment is the input word itself."""
        stage, slots = self.stages[layer], self._slots[layer][0][0]
        _, in_batch, fraction = self._source(layer)
        n, m = stage.layer.input_count, stage.layer.output_count
        note = f"{stage.name}.core0"
        if self._is_last(layer):
            entries = merged([Level(n, a=1, o=slots.n), Level(m, w=1, o=slots.m)])
            values = {"from_batch": True, "a_register": BATCH_REGISTER} if in_batch else {}
            operand = Operand.WORD if in_batch else Operand.RELU
            contract = self._difference(
                layer, [Level()], entries, fraction=fraction, operand=operand, o_base=slots.first, **values
            )
            return [Line(contract, f"entries {note}")]
        return self._copied_entries(layer, note)

    def _copied_entries(self, layer: int, note: str) -> Block:
        """A first layer of one core: inputs times mu are copied to the upper bank, as many as there is room for."""
        plan, stage, slots = self.plan, self.stages[layer], self._slots[layer][0][0]
        _, _, fraction = self._source(layer)
        n, m = stage.layer.input_count, stage.layer.output_count
        config = plan.config
        result = plan.formats.layers[layer].total
        part = math.gcd(n, 1 << (min(config.lane_bank, config.lane_depth - self.hidden_words).bit_length() - 1))
        address = config.lane_depth - part
        copy = Contract(
            a_base=0,
            from_batch=True,
            a_register=BATCH_REGISTER,
            # The first output has its one in column 0.
            w_base=self.forming.units.row,
            o_base=address,
            levels=(Level(), Level(), *filled([Level(part, a=1, o=1)], OUTER_LEVELS)),
            cols=1,
            last_cols=1,
            col_stride=1,
            shift=shift_of(f"{note} environment", fraction, plan.unit_fraction, result - self._hidden_mu_bits),
        )
        entries = merged([Level(part, b=1, o=slots.n), Level(m, a=1, w=1, o=slots.m)])
        contract = self._difference(
            layer,
            [Level()],
            entries,
            fraction=result,
            operand=Operand.DIFFERENCE,
            b_base=address - config.lane_bank,
            o_register=SLOT_REGISTER,
        )
        moving = [
            Line(Add(register=BATCH_REGISTER, value=part)),
            Line(Add(register=SLOT_REGISTER, value=part * slots.n)),
        ]
        return [
            Line(Set(register=SLOT_REGISTER, value=slots.first)),
            Repeat(
                n // part,
                (Line(copy, f"environments {note}"), Line(contract, f"entries {note}"), *moving),
                f"{note} parts",
            ),
            Line(Add(register=BATCH_REGISTER, value=-n)),
        ]

    def _bias_entries(self, layer: int) -> Block:
        """Biases: their environment is one."""
        stage, slot = self.stages[layer], self._slots[layer][1]
        make = self._last_bias if self._is_last(layer) else self._hidden_bias
        lines = []
        for run, words in bias_runs(self.plan, stage):
            walk, entries, inner = walk_of(words), [], 1
            for count, stride in walk:
                entries.append((count, stride, inner))
                inner *= count
            lines.append(Line(make(layer, int(words[0]), entries, slot), f"entries {stage.name}.bias"))
            slot += run.count
        return lines

    def _hidden_bias(self, layer: int, first: int, entries: Sequence[tuple[int, int, int]], slot: int) -> Contract:
        total = self.plan.formats.layers[layer].total
        one, largest = total - self._hidden_mu_bits, self.plan.config.word - 2
        if not 0 <= one <= largest:
            raise ValueError(
                f"mu={self.mu} with stretch={self.stretch} moves pre-activations by 2**{-self._hidden_mu_bits}: their "
                f"{total} fraction bits take 2**{-total} to 2**{largest - total}"
            )
        contract = self._difference(
            layer,
            [],
            [Level(count, a=stride, w=stride, o=o) for count, stride, o in entries],
            fraction=total,
            operand=Operand.STEP,
            a_base=first,
            o_base=slot,
            one=one,
        )
        return replace(contract, w_base=contract.w_base + first)

    def _last_bias(self, layer: int, first: int, entries: Sequence[tuple[int, int, int]], slot: int) -> Contract:
        """The bias row is that of the output in the unit matrix; the only other row holds zeros and meets any word."""
        units, wanted = self.forming.units, self.plan.formats.loss - self._mu_bits
        one = max(0, wanted - units.fraction)
        contract = self._difference(
            layer,
            [],
            [Level(count, b=stride, o=o) for count, stride, o in entries],
            fraction=one,
            operand=Operand.WORD,
            o_base=slot,
            bias=True,
            one=one,
            b_base=units.row + first,
        )
        levels = list(contract.levels)
        levels[REDUCTION_LEVELS] = Level(units.tiles, b=units.units)
        return replace(contract, w_base=units.row + units.units * units.tiles, levels=tuple(levels))

    @property
    def _mu_bits(self) -> int:
        """mu is 2 to the minus this."""
        return -(math.frexp(self.mu)[1] - 1)

    @property
    def _hidden_mu_bits(self) -> int:
        """Pre-activations move by 2 to the minus this times an environment."""
        return self._mu_bits - self.stretch

    # A step

    def group(self) -> Block:
        """All that a group of samples needs, and the registers on to the next group."""
        plan = self.plan
        loss = replace(plan.loss(), groups=1, accumulate=True, target_register=TARGET_REGISTER)
        targets = plan.config.lanes * (plan.network.outputs if plan.network.loss == "squared_error" else 1)
        return [
            Line(loss),
            *self.forward(),
            *self.entries(),
            Line(Add(register=BATCH_REGISTER, value=plan.network.inputs)),
            Line(Add(register=TARGET_REGISTER, value=targets)),
        ]

    def evaluation(self) -> Block:
        """The losses of a batch: every slot holds that of the weights with one word moved by mu."""
        zero = [Line(Set(register=register, value=0)) for register in (BATCH_REGISTER, TARGET_REGISTER)]
        return [*self.forming.block(), *zero, Repeat(self.plan.groups, tuple(self.group()), "groups")]
