"""Refuses programs that a machine cannot run, before they are sent to it: the rules of "Faults" in docs/machine.md."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from .config import REDUCTION_LEVELS, Config
from .isa import (
    Activation,
    Add,
    Base,
    Coefficient,
    Contract,
    Gather,
    Instruction,
    Level,
    Loss,
    LossKind,
    Operand,
    Set,
    Sweep,
)
from .nest import WRAP, output_reach, reach
from .protocol import Fault
from .registers import AddressRegisters
from .walk import walk

#: Fewest cycles from one group of differences to the next: a slot is read, added to and written.
_CLOSEST_GROUPS = 3


def refusal(instruction: Instruction, config: Config) -> tuple[Fault, str] | None:
    """Why the sequencer refuses the fields of an instruction, or None; registers are added to those of a sweep.

    Addresses that units step on from there are not looked at.
    """

    def outside(name: str, low: int, high: int) -> tuple[Fault, str] | None:
        value = getattr(instruction, name)
        if low <= value <= high:
            return None
        return Fault.RANGE, f"{name}={value} is outside of {low} to {high}"

    if isinstance(instruction, Contract):
        for number, level in enumerate(instruction.levels):
            most = (1 << config.count_bits) - 1
            if not 1 <= level.count <= most:
                return Fault.RANGE, f"level {number} has a count of {level.count}; 1 to {most} are allowed"
        if not config.incremental:
            needs = "a machine with incremental=1; this one leaves it out"
            if instruction.operand not in (Operand.WORD, Operand.RELU):
                return Fault.RANGE, f"the operand {instruction.operand.name} needs {needs}"
            if instruction.base != Base.NONE:
                return Fault.RANGE, f"base {instruction.base.name} needs {needs}"
        if instruction.operand != Operand.WORD and instruction.from_batch:
            return Fault.RANGE, f"the operand {instruction.operand.name} does not go with from_batch"
        if instruction.operand not in (Operand.WORD, Operand.RELU) and instruction.bias:
            return Fault.RANGE, f"the operand {instruction.operand.name} does not go with bias"
        tables = Activation.TABLE0 + config.tables - 1
        return (
            outside("cols", 1, config.columns)
            or outside("last_cols", 1, instruction.cols)
            or outside("activation", Activation.NONE, tables)
        )
    if isinstance(instruction, Sweep):
        if instruction.count < 1:
            return Fault.RANGE, f"count={instruction.count}; 1 or more are allowed"
        if instruction.single and instruction.column >= config.columns:
            return outside("column", 0, config.columns - 1)
        if instruction.row + instruction.count > config.weight_rows:
            rows = f"rows {instruction.row} to {instruction.row + instruction.count - 1}"
            return Fault.ADDRESS, f"{rows} of {config.weight_rows} are swept"
        return None
    if isinstance(instruction, Loss):
        return outside("outputs", 1, config.outputs) or outside("groups", 1, 0xFFFF)
    if isinstance(instruction, Coefficient):
        return outside("queries", 1, config.losses // 2 if instruction.two_sided else config.losses - 1)
    if isinstance(instruction, Gather):
        if not config.incremental:
            return Fault.RANGE, "a Gather needs a machine with incremental=1; this one leaves it out"
        return outside("rows", 1, 0xFFFF) or outside("lanes", 1, config.lanes) or outside("cols", 1, config.columns)
    return None


def misuse(contract: Contract) -> str | None:
    """What is wrong with how a contraction goes to the loss, or None; the machine would carry it out."""
    if contract.base == Base.NONE:
        return None
    if not contract.to_loss:
        return f"base {contract.base.name} needs to_loss"
    if contract.base == Base.ADD:
        if contract.store or contract.activation != Activation.NONE:
            return "differences are neither stored nor given to a function: base ADD needs store=False and NONE"
        if contract.tile_level:
            return f"base ADD needs tile_level 0, not {contract.tile_level}: level 2 walks the tiles of a group"
    return None


class _Access(NamedTuple):
    """Addresses that an instruction uses: ``field``, its register added, and ``low`` to ``high`` more."""

    does: str
    memory: str
    field: str
    low: int
    high: int
    words: int
    """Words of the memory."""


def _accesses(instruction: Instruction, config: Config) -> list[_Access]:
    if isinstance(instruction, Gather):
        counts, strides = (instruction.cols, instruction.rows), (instruction.col_stride, instruction.stride)
        signed = [(stride + WRAP // 2) % WRAP - WRAP // 2 for stride in strides]
        low, high = reach([Level(count, a=stride) for count, stride in zip(counts, signed, strict=True)], "a")
        rows = instruction.lanes * instruction.rows
        return [
            _Access("reads words of", "the lane memory", "address", low, high, config.lane_depth),
            _Access("writes rows of", "the weights", "row", 0, rows - 1, config.effective_rows),
        ]
    if not isinstance(instruction, Contract):
        return []
    levels, operand = instruction.levels, instruction.operand
    source, words = "the lane memory", config.lane_depth
    if instruction.from_batch:
        source, words = "the batch memory", config.batch_depth
    elif operand in (Operand.DIFFERENCE, Operand.STEP):
        source, words = "the lower bank", config.lane_bank
    accesses = [
        _Access("reads activations of", source, "a_base", *reach(levels, "a"), words),
        _Access("reads rows of", "the weights", "w_base", *reach(levels, "w"), config.effective_rows),
    ]
    if operand == Operand.DIFFERENCE:
        environments = reach(levels, "b")
        accesses.append(_Access("reads environments of", "the upper bank", "b_base", *environments, config.lane_bank))
    if instruction.bias:
        biases = reach(levels[REDUCTION_LEVELS:], "b")
        accesses.append(_Access("reads bias rows of", "the weights", "b_base", *biases, config.effective_rows))
    results = output_reach(instruction)
    if instruction.store:
        accesses.append(_Access("writes results to", "the lane memory", "o_base", *results, config.lane_depth))
    if instruction.base == Base.ADD:
        accesses.append(_Access("adds losses to", "the loss slots", "o_base", *results, config.losses))
    return accesses


class _Check:
    """Walker that follows the address registers and the order of what goes to the loss."""

    def __init__(self, program: Sequence[Instruction], config: Config) -> None:
        self._program = program
        self._config = config
        self._registers = AddressRegisters()
        self._loss: Loss | None = None
        self._kept = False
        self._added: Contract | None = None
        self._accesses = cache(lambda index: _accesses(program[index], config))

    def visit(self, index: int) -> None:
        instruction = self._program[index]
        if isinstance(instruction, Set | Add):
            self._registers.change(instruction)
            return
        if isinstance(instruction, Contract | Gather):
            self._addresses(index, instruction)
        if isinstance(instruction, Contract):
            if instruction.to_loss:
                self._to_loss(index, instruction)
        elif isinstance(instruction, Loss):
            self._targets(index, instruction)
            self._loss, self._kept, self._added = instruction, False, None
        elif isinstance(instruction, Sweep):
            refused = refusal(replace(instruction, **self._registers.totals(instruction)), self._config)
            if refused:
                raise ValueError(f"instruction {index}, Sweep: {refused[1]}")

    def _addresses(self, index: int, instruction: Instruction) -> None:
        for access in self._accesses(index):
            start = (self._registers.total(instruction, access.field) + access.low) % WRAP
            end = start + access.high - access.low
            if end >= access.words:
                raise ValueError(
                    f"instruction {index} {access.does} {access.memory} at {start} to {end}; "
                    f"{access.words} are there: 0 to {access.words - 1}"
                )

    def _targets(self, index: int, loss: Loss) -> None:
        per_sample = loss.outputs if loss.kind == LossKind.SQUARED_ERROR else 1
        targets, first = loss.groups * self._config.lanes * per_sample, self._registers.total(loss, "target")
        if first + targets > self._config.target_depth:
            raise ValueError(
                f"instruction {index}: {loss.groups} groups need {targets} targets from {first} on; "
                f"the target memory has {self._config.target_depth}"
            )

    def _to_loss(self, index: int, contract: Contract) -> None:
        loss = self._loss
        if loss is None:
            raise ValueError(f"instruction {index}: {contract.results} results go to the loss, but no Loss came before")
        results = contract.results
        if contract.base == Base.ADD:
            self._differences(index, contract, loss)
            results //= contract.tiles // contract.levels[REDUCTION_LEVELS].count
        elif self._added is not None:
            raise ValueError(f"instruction {index}: a group of outputs follows differences; a Loss must come between")
        if results != loss.outputs:
            raise ValueError(
                f"instruction {index}: {results} results go to the loss, but the Loss before takes {loss.outputs}"
            )
        self._kept |= contract.base == Base.KEEP

    def _differences(self, index: int, contract: Contract, loss: Loss) -> None:
        if not self._kept:
            raise ValueError(f"instruction {index}: differences without a base; keep one after the Loss before")
        if loss.groups != 1:
            raise ValueError(
                f"instruction {index}: differences need a Loss of 1 group; the one before has {loss.groups}"
            )
        # The groups of the contraction before may end faster than this one's follow each other.
        reading = max(loss.outputs * self._config.loss_lanes, _CLOSEST_GROUPS)
        before = self._added or contract
        apart = min(_apart(contract, contract), _apart(before, contract))
        if apart < reading:
            raise ValueError(
                f"instruction {index}: groups of differences come {apart} cycles apart, "
                f"but reading one takes {reading}; give a larger pace"
            )
        self._added = contract

    def key(self) -> Hashable:
        return (self._registers.values, self._loss, self._kept, self._added)

    def mark(self) -> None:
        pass

    def skip(self, mark: None, times: int) -> None:
        pass


def _apart(before: Contract, contract: Contract) -> int:
    """Fewest cycles from the last result of a group of differences to that of ``contract``'s next one."""
    tiles = contract.levels[REDUCTION_LEVELS].count
    rows, pace = contract.rows, contract.pace
    first = max(rows, before.last_cols, before.pace)
    return first + (tiles - 1) * max(rows, contract.cols, pace) + contract.last_cols - before.last_cols


def check(program: Sequence[Instruction], config: Config, *, repeat: int = 1, start: int = 0) -> None:
    """Raises ``ValueError`` with the instruction, what it asks and what is allowed, when a run would fail.

    Looks at the fields of all instructions, and at the addresses and losses of those that a run from instruction
    ``start`` issues, with ``repeat`` turns of the loops of count 0. What is too early in time is found by ``hazards``.
    """
    words = 0
    for index, instruction in enumerate(program):
        try:
            words += len(instruction.encode())
        except ValueError as error:
            raise ValueError(f"instruction {index}: {error}") from None
        # The registers of a sweep are known where it is issued.
        refused = None if isinstance(instruction, Sweep) else refusal(instruction, config)
        wrong = refused[1] if refused else misuse(instruction) if isinstance(instruction, Contract) else None
        if wrong:
            raise ValueError(f"instruction {index}, {type(instruction).__name__}: {wrong}")
    if words > config.program_depth:
        raise ValueError(f"the program has {words} words; the program memory holds {config.program_depth}")
    walk(program, _Check(program, config), repeat=repeat, start=start)
