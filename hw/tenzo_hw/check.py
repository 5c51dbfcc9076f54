"""Refuses programs that a machine cannot run, before they are sent to it: the rules of "Faults" in docs/machine.md."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from .config import ADDRESS_REGISTERS, REDUCTION_LEVELS, Config
from .isa import Activation, Add, Coefficient, Contract, Instruction, Loss, LossKind, Set, Sweep
from .nest import output_reach, reach
from .protocol import Fault
from .walk import walk


def refusal(instruction: Instruction, config: Config) -> tuple[Fault, str] | None:
    """Why the sequencer refuses the fields of an instruction, or None; addresses of contractions are not looked at."""

    def outside(name: str, value: int, low: int, high: int) -> tuple[Fault, str] | None:
        if low <= value <= high:
            return None
        return Fault.RANGE, f"{name}={value} is outside of {low} to {high}"

    if isinstance(instruction, Contract):
        for number, level in enumerate(instruction.levels):
            if level.count < 1:
                return Fault.RANGE, f"level {number} has a count of {level.count}; 1 or more are allowed"
        tables = Activation.TABLE0 + config.tables - 1
        return (
            outside("cols", instruction.cols, 1, config.columns)
            or outside("last_cols", instruction.last_cols, 1, instruction.cols)
            or outside("activation", instruction.activation, Activation.NONE, tables)
        )
    if isinstance(instruction, Sweep):
        if instruction.count < 1:
            return Fault.RANGE, f"count={instruction.count}; 1 or more are allowed"
        if instruction.row + instruction.count > config.weight_rows:
            rows = f"rows {instruction.row} to {instruction.row + instruction.count - 1}"
            return Fault.ADDRESS, f"{rows} of {config.weight_rows} are swept"
        return None
    if isinstance(instruction, Loss):
        return outside("outputs", instruction.outputs, 1, config.outputs) or outside(
            "groups", instruction.groups, 1, 0xFFFF
        )
    if isinstance(instruction, Coefficient):
        most = config.losses // 2 if instruction.two_sided else config.losses - 1
        return outside("queries", instruction.queries, 1, most)
    return None


class _Check:
    """Walker that follows the address registers and looks at every contraction's memories."""

    def __init__(self, program: Sequence[Instruction], config: Config) -> None:
        self._program = program
        self._config = config
        self._registers = [0] * ADDRESS_REGISTERS
        self._outputs: int | None = None
        self._checked: set[Hashable] = set()

    def visit(self, index: int) -> None:
        instruction = self._program[index]
        if isinstance(instruction, Set | Add):
            if instruction.register:
                base = self._registers[instruction.register] if isinstance(instruction, Add) else 0
                self._registers[instruction.register] = (base + instruction.value) & 0xFFFF
        elif isinstance(instruction, Loss):
            self._outputs = instruction.outputs
        elif isinstance(instruction, Contract):
            self._contraction(index, instruction)

    def _contraction(self, index: int, contract: Contract) -> None:
        config, registers = self._config, self._registers
        streams = "awob"
        bases = [
            getattr(contract, f"{stream}_base") + registers[getattr(contract, f"{stream}_register")]
            for stream in streams
        ]
        state = (index, *bases, self._outputs)
        if state in self._checked:
            return
        self._checked.add(state)
        if contract.to_loss and contract.results != self._outputs:
            wanted = "no Loss came before" if self._outputs is None else f"the Loss before takes {self._outputs}"
            raise ValueError(f"instruction {index}: {contract.results} results go to the loss, but {wanted}")
        a, w, o, b = bases
        outer = contract.levels[REDUCTION_LEVELS:]
        depth = config.batch_depth if contract.from_batch else config.lane_depth
        source = "the batch memory" if contract.from_batch else "the lane memory"
        accesses = [("reads activations of", source, a, reach(contract.levels, "a"), depth)]
        accesses += [("reads rows of", "the weights", w, reach(contract.levels, "w"), config.effective_rows)]
        if contract.bias:
            accesses += [("reads bias rows of", "the weights", b, reach(outer, "b"), config.effective_rows)]
        if contract.store:
            accesses += [("writes results to", "the lane memory", o, output_reach(contract), config.lane_depth)]
        for does, memory, base, (low, high), words in accesses:
            start = (base + low) & 0xFFFF
            if start + high - low >= words:
                raise ValueError(
                    f"instruction {index} {does} {memory} at {start} to {start + high - low}; "
                    f"{words} are there: 0 to {words - 1}"
                )

    def key(self) -> Hashable:
        return (*self._registers, self._outputs)

    def mark(self) -> None:
        pass

    def skip(self, mark: None, times: int) -> None:
        pass


def check(program: Sequence[Instruction], config: Config, *, repeat: int = 1, start: int = 0) -> None:
    """Raises ``ValueError`` with the instruction, what it asks and what is allowed, when a run would fail.

    Looks at the fields of all instructions, and at the addresses of the contractions that a run from instruction
    ``start`` issues, with ``repeat`` turns of the loops of count 0. What is too early in time is found by ``hazards``.
    """
    words = 0
    for index, instruction in enumerate(program):
        try:
            words += len(instruction.encode())
        except ValueError as error:
            raise ValueError(f"instruction {index}: {error}") from None
        refused = refusal(instruction, config)
        if refused:
            raise ValueError(f"instruction {index}, {type(instruction).__name__}: {refused[1]}")
        if isinstance(instruction, Loss):
            per_sample = instruction.outputs if instruction.kind == LossKind.SQUARED_ERROR else 1
            targets = instruction.groups * config.lanes * per_sample
            if targets > config.target_depth:
                raise ValueError(
                    f"instruction {index}: {instruction.groups} groups need {targets} targets; "
                    f"the target memory has {config.target_depth}"
                )
    if words > config.program_depth:
        raise ValueError(f"the program has {words} words; the program memory holds {config.program_depth}")
    walk(program, _Check(program, config), repeat=repeat, start=start)
