"""Integer references written from the manual: contractions one product at a time, and TT layers as tensors."""

from __future__ import annotations

import numpy as np
from tenzo.formats import Table
from tenzo.network import ReLU
from tenzo.plan import Plan
from tenzo_hw.isa import Activation, Add, Contract, End, Instruction, Loop, Set
from tenzo_hw.numbers import round_shift, saturate


def issued(program: list[Instruction]) -> list[Instruction]:
    """The instructions of one turn of the loops of count 0, as they are issued, without the loops."""
    order: list[Instruction] = []
    at, loops = 0, []
    while at < len(program):
        instruction = program[at]
        if isinstance(instruction, Loop):
            loops.append([at, instruction.count or 1])
        elif isinstance(instruction, End):
            loops[-1][1] -= 1
            if loops[-1][1]:
                at = loops[-1][0]
            else:
                loops.pop()
        else:
            order.append(instruction)
        at += 1
    return order


class Contractions:
    """Carries out the contractions of a program on all lanes, one row after the other; other units do nothing."""

    def __init__(self, plan: Plan, weights: np.ndarray, batch: np.ndarray) -> None:
        """``weights``: effective words [2 * weight_rows, C]; ``batch``: words [samples, inputs]."""
        config = plan.config
        self._plan = plan
        self._config = config
        self._weights = weights
        groups = batch.reshape(-1, config.lanes, batch.shape[1])
        self._batch = groups.swapaxes(0, 1).reshape(config.lanes, -1)
        self.lanes = np.zeros((config.lanes, config.lane_depth), dtype=np.int64)
        self.losses: list[np.ndarray] = []
        """Captured results [lanes, outputs], group after group."""

    def run(self, program: list[Instruction]) -> None:
        """All instructions, loops of count 0 once."""
        registers = [0] * 8
        for instruction in issued(program):
            if isinstance(instruction, Set):
                registers[instruction.register] = instruction.value
            elif isinstance(instruction, Add):
                registers[instruction.register] = registers[instruction.register] + instruction.value & 0xFFFF
            elif isinstance(instruction, Contract):
                self._contract(instruction, registers)

    def _contract(self, contract: Contract, registers: list[int]) -> None:
        base = {
            stream: getattr(contract, f"{stream}_base") + registers[getattr(contract, f"{stream}_register")]
            for stream in "awob"
        }
        memory = self._batch if contract.from_batch else self.lanes
        counts = [level.count for level in contract.levels]
        captured = []
        # ndindex turns the last index fastest; levels are innermost first.
        for outer in np.ndindex(*counts[:1:-1]):
            turns = outer[::-1]
            place = {
                stream: base[stream]
                + sum(turn * getattr(level, stream) for turn, level in zip(turns, contract.levels[2:], strict=True))
                for stream in "awob"
            }
            total = np.zeros((self._config.lanes, self._config.columns), dtype=np.int64)
            if contract.bias:
                total += self._weights[place["b"]] << contract.one
            for second, first in np.ndindex(counts[1], counts[0]):
                inner, outer_level = contract.levels[:2]
                a = place["a"] + first * inner.a + second * outer_level.a
                w = place["w"] + first * inner.w + second * outer_level.w
                total += memory[:, a, None] * self._weights[w]
            level = contract.tile_level
            cols = contract.last_cols if turns[level] == counts[2 + level] - 1 else contract.cols
            results = self._epilogue(contract, total[:, :cols])
            if contract.to_loss and contract.activation == Activation.NONE:
                outcomes = saturate(round_shift(total[:, :cols], contract.shift), self._config.output_word)
            else:
                outcomes = results
            if contract.store:
                self.lanes[:, place["o"] + np.arange(cols) * contract.col_stride] = results
            if contract.to_loss:
                captured.append(outcomes)
        if contract.to_loss:
            self.losses.append(np.concatenate(captured, axis=1))

    def _epilogue(self, contract: Contract, total: np.ndarray) -> np.ndarray:
        y = saturate(round_shift(total, contract.shift), self._config.word)
        if contract.activation == Activation.RELU:
            return np.maximum(y, 0)
        if contract.activation >= Activation.TABLE0:
            return self._plan.tables[contract.activation - Activation.TABLE0].look_up(y, self._config)
        return y


def forward(plan: Plan, words: dict[str, np.ndarray], x: np.ndarray, *, to_loss: bool = False) -> np.ndarray:
    """Network outputs int64[samples, outputs] of input words, core by core in the plan's order, rounded in between.

    ``words``: effective words of every weight, shaped as it. Every index of a layer is an axis of its own. ``to_loss``:
    the outputs as the loss accumulator gets them, else as the lanes keep them.
    """
    fraction, last = plan.formats.inputs, plan.network.stages[-1]
    for stage, layout, form in zip(plan.network.stages, plan.layout.layers, plan.formats.layers, strict=True):
        count = len(stage.layer.inputs)
        # Axis names: 0 samples, 1.. sites, 20.. bonds; new site axes are 40...
        axes = [0, *range(1, count + 1)]
        state = x.reshape(len(x), *stage.layer.inputs)
        done: set[int] = set()
        for core in layout.chain.order:
            weight = words[f"{stage.name}.core{core}"]
            names = [20 + core, 1 + core, 40 + core, 21 + core]
            for end, axis in ((core == 0, 0), (core == count - 1, 3)):
                if end:
                    weight = weight.take([0], axis=axis)
            # A bond is in the state once one of its two cores is contracted; the outer bonds have size 1.
            gone = {1 + core}
            gone |= {20 + core} if core == 0 or core - 1 in done else set()
            gone |= {21 + core} if core == count - 1 or core + 1 in done else set()
            operand = [name for name in names if name in axes or name not in gone]
            dropped = tuple(place for place, name in enumerate(names) if name not in operand)
            weight = weight.squeeze(axis=dropped)
            result = [name for name in (*axes, *operand) if name not in gone]
            result = list(dict.fromkeys(result))
            state = np.einsum(state, axes, weight, operand, result)
            axes = result
            done.add(core)
            if len(done) < count:
                state = saturate(round_shift(state, fraction + plan.formats.weights - form.inner), plan.config.word)
                fraction = form.inner
        state = state.transpose([axes.index(name) for name in (0, *range(40, 40 + count))]).reshape(len(x), -1)
        if stage.layer.bias:
            state = state + (words[f"{stage.name}.bias"] << fraction)
        if to_loss and stage is last and stage.function is None:
            shift = fraction + plan.formats.weights - plan.formats.loss
            return saturate(round_shift(state, shift), plan.config.output_word)
        x = saturate(round_shift(state, fraction + plan.formats.weights - form.total), plan.config.word)
        if isinstance(stage.function, ReLU):
            x = np.maximum(x, 0)
        elif stage.function is not None:
            x = Table(stage.function, form.total, form.output).look_up(x, plan.config)
        fraction = form.output
    return x
