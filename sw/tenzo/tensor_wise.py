"""Tensor-wise random directions: one core or bias after the other is perturbed, and all of them move together.

The layers before a tensor's own see the weights as they are, so they are evaluated once for all of its queries. The
groups of one sample a lane are therefore outermost. For each of them, layer after layer: the words that enter the layer
stay in the lane, the queries of its tensors run from there to the loss, and then the layer itself runs without a
perturbation and leaves the words that enter the next one.

All groups see the same directions, and so do the updates: slot 0 keeps the generator's state before the step. Slot 1
keeps that before the present query, for its minus side and for the copies that restore a tensor after its last query:
they end with the state in which the next tensor's queries begin. Half 0 takes the plus sides, half 1 the minus sides;
the sweep of a side goes on while the other half is read.

Lane memory: the words that enter a layer lie at the low end and at the high end in turns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from tenzo_hw.isa import Add, Set, Sweep, SweepKind

from . import random_directions
from .layout import PASS_REGISTERS, Move, Region, layer_moves
from .perturbation import mu_steps, perturb
from .plan import Plan, sliced
from .program import Block, Line, Repeat
from .settings import Settings

#: Address registers that move from one group to the next.
BATCH_REGISTER = PASS_REGISTERS["a"]
TARGET_REGISTER = PASS_REGISTERS["o"]


class Tensor(NamedTuple):
    """A core or bias and its weight rows."""

    name: str
    row: int
    count: int


class Free(NamedTuple):
    """Words of a lane that nothing else needs, ``low`` to ``high`` - 1."""

    low: int
    high: int

    @property
    def words(self) -> int:
        """How many they are."""
        return self.high - self.low

    def region(self, words: int, *, at_low: bool) -> Region:
        """``words`` of them at one end."""
        return Region(self.low if at_low else self.high - words, words)

    def without(self, words: int, *, at_low: bool) -> Free:
        """What ``words`` at one end leave."""
        return Free(self.low + words, self.high) if at_low else Free(self.low, self.high - words)


def tensors(plan: Plan) -> list[list[Tensor]]:
    """The tensors of each layer, in the order in which they are perturbed."""
    found = []
    for stage in plan.network.stages:
        rows = {name: plan.layout.places[name] // plan.config.columns for name in stage.weights}
        found.append([Tensor(name, int(own.min()), int(np.ptp(own)) + 1) for name, own in rows.items()])
    return found


@dataclass(frozen=True)
class TensorWise:
    """The instructions of tensor-wise steps. Raises ``ValueError`` with the numbers when the lanes are too small."""

    plan: Plan
    settings: Settings

    def evaluation(self, *, loop_slices: bool) -> Block:
        """The losses of all queries, tensor after tensor; with one side that of the weights first.

        Slices are counted loops or written out.
        """
        copies = [perturb(self.plan, half=half, mu=0, save=0b01 if half == 0 else 0) for half in self._sides]
        zero = [Line(Set(register=register, value=0)) for register in (BATCH_REGISTER, TARGET_REGISTER)]
        return [*copies, *zero, Repeat(self.plan.groups, tuple(self._group(loop_slices)), "groups")]

    def updates(self) -> Block:
        """Sweeps of all tensors over the directions of their queries."""
        nodes: list[Line | Repeat] = [self._rewind()]
        for own in tensors(self.plan):
            for tensor in own:
                nodes += random_directions.sweeps(self.settings, tensor.row, tensor.count)
        return nodes

    @property
    def _sides(self) -> tuple[int, ...]:
        """The halves in use: one for each side of a query."""
        return (0, 1) if self.settings.two_sided else (0,)

    def _group(self, loop_slices: bool) -> Block:
        plan = self.plan
        loss = replace(plan.loss(), groups=1, accumulate=True, target_register=TARGET_REGISTER)
        layers = len(plan.network.stages)
        nodes: list[Line | Repeat] = [Line(loss), self._rewind()]
        if not self.settings.two_sided:
            nodes += self._forward(0, range(layers), loop_slices)
        for layer, own in enumerate(tensors(plan)):
            for tensor in own:
                nodes += self._queries(tensor, layer, loop_slices)
            if layer < layers - 1:
                nodes += self._forward(0, range(layer, layer + 1), loop_slices)
        targets = plan.config.lanes * (plan.network.outputs if plan.network.loss == "squared_error" else 1)
        return [
            *nodes,
            Line(Add(register=BATCH_REGISTER, value=plan.network.inputs)),
            Line(Add(register=TARGET_REGISTER, value=targets)),
        ]

    # Directions

    def _rewind(self) -> Line:
        """The generator goes to where the step's directions begin: one row behind slot 0, as any sweep steps it."""
        sweep = Sweep(kind=SweepKind.PERTURB, row=0, count=1, replay=True, replay_slot=0)
        return Line(sweep, "back to the first direction")

    def _queries(self, tensor: Tensor, layer: int, loop_slices: bool) -> Block:
        """All queries of a tensor of ``layer``, from that layer on, and the tensor as it was."""
        mu, layers = mu_steps(self.plan, self.settings.mu), range(layer, len(self.plan.network.stages))
        copy = Sweep(kind=SweepKind.PERTURB, row=tensor.row, count=tensor.count, replay_slot=1)
        body: list[Line | Repeat] = []
        for half in self._sides:
            side = replace(copy, half=half, mu=mu, negative=half == 1, replay=half == 1, save=0b10 if half == 0 else 0)
            note = f"{tensor.name} {'minus' if side.negative else 'plus'}"
            body += [Line(side, note), *self._forward(half, layers, loop_slices)]
        restored = [Line(replace(copy, half=half, replay=True), f"{tensor.name} restored") for half in self._sides]
        return [Repeat(self.settings.queries, tuple(body), f"{tensor.name} queries"), *restored]

    # Forwards

    def _forward(self, half: int, layers: range, loop_slices: bool) -> Block:
        """The contractions of these layers with the weights of ``half``, from the words that enter the first one."""
        plan = self.plan
        stages = plan.network.stages
        nodes: list[Line | Repeat] = []
        kept = Free(0, plan.config.lane_depth)
        source = Region(0, plan.network.inputs, in_batch=True)
        if layers.start:
            words, at_low = stages[layers.start].layer.input_count, _enters_at_low(layers.start)
            source, kept = kept.region(words, at_low=at_low), kept.without(words, at_low=at_low)
        free = kept
        for number in layers:
            regions = [source, *self._regions(number, free)]
            moves = self._moves(number, half, regions)
            nodes += sliced(
                stages[number].name,
                plan.layout.layers[number].chain.slices,
                moves,
                None,
                loop_slices=loop_slices,
            )
            source = regions[-1]
            free = kept.without(source.words, at_low=_enters_at_low(number + 1))
        return nodes

    def _regions(self, number: int, free: Free) -> list[Region]:
        """The results of a layer's contractions: the last one's at its end, the others at alternating ends."""
        plan, chain = self.plan, self.plan.layout.layers[number].chain
        *sizes, last = [step.output_words for step in chain.steps]
        if number == len(plan.network.stages) - 1:
            last = 0
        at_low = _enters_at_low(number + 1)
        target = free.region(last, at_low=at_low)
        if chain.slices > 1:
            # The results of all slices so far lie there.
            free = free.without(last, at_low=at_low)
        meeting = [*sizes, 0 if chain.slices > 1 else last]
        needed = max(one + other for one, other in zip([0, *sizes], meeting, strict=True))
        if needed > free.words:
            raise ValueError(
                f"the results of {plan.network.stages[number].name} need {needed} words of a lane, {free.words} of "
                f"{plan.config.lane_depth} are left beside what tensor-wise steps keep: take lower ranks, fewer units "
                "or a larger machine"
            )
        between = []
        for words in reversed(sizes):
            at_low = not at_low
            between.append(free.region(words, at_low=at_low))
        return [*reversed(between), target]

    def _moves(self, number: int, half: int, regions: list[Region]) -> list[Move]:
        plan = self.plan
        layout, first_row = plan.layout.layers[number], half * plan.config.weight_rows
        rows = tuple(first_row + row for row in layout.core_rows)
        moves = layer_moves(
            plan.network,
            plan.config,
            plan.formats,
            number,
            replace(layout, core_rows=rows, bias_row=first_row + layout.bias_row),
            regions,
            share=1,
            activation=layout.moves[-1].contract.activation,
        )
        # Outputs are not stored: nothing but the batch moves from one group to the next.
        return [
            replace(move, pass_steps={s: step for s, step in move.pass_steps.items() if s == "a"}) for move in moves
        ]


def _enters_at_low(layer: int) -> bool:
    """Whether the words that enter a layer lie at the low end, and those that leave it at the high end."""
    return layer % 2 == 1
