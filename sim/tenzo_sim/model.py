"""The exact model of the machine: the same words in every memory and the same number of cycles as the gateware."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tenzo.packets import Status
from tenzo_hw import gather, sweep
from tenzo_hw.check import refusal
from tenzo_hw.coefficient import coefficients
from tenzo_hw.config import LOOP_DEPTH, Config
from tenzo_hw.isa import INSTRUCTIONS, REPLAY_SLOTS, Halt, Opcode, Sweep, SweepKind
from tenzo_hw.perturbation import signs
from tenzo_hw.protocol import Fault, Space, State
from tenzo_hw.registers import AddressRegisters
from tenzo_hw.timeline import schedule_of, timing_of
from tenzo_hw.timing import ISSUE_OVERHEAD
from tenzo_hw.timing_record import Timing

from .contraction import Contraction, Engine
from .endpoint import Endpoint
from .losses import Losses
from .memories import Memories

_HALVES = 2


@dataclass(frozen=True, slots=True)
class _Fetched:
    """An instruction read from the program memory."""

    instruction: Any
    timing: Timing
    follow: int
    """Word address of the next one."""
    fault: Fault
    """Why the sequencer refuses it."""
    words: tuple[int, ...]
    """What it is read from."""


class MachineModel:
    """One machine without its link, just switched on.

    Requests are those of the host protocol and must be allowed (``Endpoint`` sees to that). A run goes on within
    ``run`` and ``commit`` until HALT, a fault, or a BATCH that finds no filled half. Time passes in runs only, and a
    BATCH costs no waits: the cycles of a run are the gateware's less its waits.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.memories = Memories(config)
        self.total_cycles = 0
        """Cycles of all runs that have ended."""
        self._state = State.IDLE
        self._fault = Fault.NONE
        self._pc = 0
        self._repeat = 0
        self._cycles = 0
        self._steps = 0
        self._registers = AddressRegisters()
        self._loops: list[list[int]] = []
        self._schedule = schedule_of(config)
        self._losses = Losses(config, self.memories)
        self._saved = [0] * REPLAY_SLOTS
        self._pointer = 0
        # Batch halves: how many are filled, whether one is current, which is filled next, which is current.
        self._filled = 0
        self._taken = False
        self._filling = 0
        self._half = 0
        self._fetched: dict[int, _Fetched] = {}
        self._contractions: dict[int, Contraction] = {}
        self._engine = Engine(config, self.memories)
        self._actions: dict[Opcode, Callable[[_Fetched], None]] = {
            Opcode.HALT: self._halt,
            Opcode.LOOP: self._loop,
            Opcode.END: self._end,
            Opcode.SET: self._set,
            Opcode.ADD: self._set,
            Opcode.CONTRACT: self._contract,
            Opcode.SWEEP: self._sweep,
            Opcode.LOSS: self._loss,
            Opcode.COEFFICIENT: self._coefficient,
            Opcode.BATCH: self._batch,
            Opcode.GATHER: self._gather,
        }

    # The host's requests

    def read(self, space: Space, address: int) -> int:
        """A word of a memory or register."""
        return self.memories.read(space, address)

    def write(self, space: Space, address: int, value: int) -> None:
        """Writes a word; batch and target words go to the half being filled."""
        self.memories.write(space, address, value, self._filling)
        if space == Space.PROGRAM:
            self._fetched.clear()
            self._contractions.clear()

    def write_inputs(self, address: int, values: np.ndarray) -> None:
        """Writes batch words at consecutive addresses to the half being filled."""
        self.memories.write_inputs(address, values, self._filling)

    def commit(self) -> None:
        """The half being filled is ready for BATCH; a run that waits for it goes on."""
        self._filled += 1
        self._filling ^= 1
        self._advance()

    def run(self, pc: int, repeat: int) -> None:
        """Starts the program at word ``pc``; loops of count 0 take ``repeat`` turns."""
        self._state, self._fault = State.RUNNING, Fault.NONE
        self._pc, self._repeat = pc, repeat
        self._cycles = self._steps = 0
        self._registers = AddressRegisters()
        self._loops = []
        self._schedule = schedule_of(self.config)
        self._losses.restart()
        self._advance()

    def abort(self) -> None:
        """Stops a run, which waits at a BATCH, and frees both batch halves."""
        self._filled, self._taken = 0, False
        if self._state == State.RUNNING:
            self._refuse(self._fetched[self._pc], Fault.ABORTED)

    def status(self) -> Status:
        """State, fault, free halves, word address, cycles, waits and steps."""
        free = _HALVES - self._filled - self._taken
        cycles = self._schedule.cycles if self._state == State.RUNNING else self._cycles
        return Status(self._state, self._fault, free, self._pc, cycles, 0, self._steps)

    # The sequencer

    def _fetch(self, pc: int) -> _Fetched:
        words = self.memories.program
        opcode = words[pc] & 0xFF if pc < len(words) else -1
        if opcode not in list(Opcode):
            unknown = tuple(words[pc : pc + 1])
            return _Fetched(Halt(), Timing(Opcode.HALT, 1 + ISSUE_OVERHEAD, 0), pc, Fault.OPCODE, unknown)
        kind = INSTRUCTIONS[Opcode(opcode)]
        follow = pc + kind.WORDS
        read = tuple(words[pc:follow])
        # What is refused is never issued: only the time of reading it counts.
        unissued = Timing(Opcode.HALT, kind.WORDS + ISSUE_OVERHEAD, 0)
        if follow > len(words):
            return _Fetched(Halt(), unissued, pc, Fault.OPCODE, read)
        try:
            instruction = kind.decode(words[pc:follow])
        except ValueError:  # an activation that no configuration has
            return _Fetched(Halt(), unissued, follow, Fault.RANGE, read)
        # Registers are added to the fields of a sweep, which only its issue knows.
        refused = None if isinstance(instruction, Sweep) else refusal(instruction, self.config)
        if refused:
            return _Fetched(instruction, unissued, follow, refused[0], read)
        return _Fetched(instruction, timing_of(instruction, self.config), follow, Fault.NONE, read)

    def _advance(self) -> None:
        """Runs until HALT, a fault, or a BATCH without a filled half."""
        fetched = self._fetched
        while self._state == State.RUNNING:
            step = fetched.get(self._pc)
            if step is None:
                step = fetched[self._pc] = self._fetch(self._pc)
            if step.fault:
                self._refuse(step, step.fault)
            elif step.timing.opcode is Opcode.BATCH and not self._filled:
                return
            else:
                self._actions[step.timing.opcode](step)

    def _issue(self, step: _Fetched) -> None:
        self._schedule.issue(step.timing)
        self._pc = step.follow

    def _refuse(self, step: _Fetched, fault: Fault) -> None:
        self._stop(State.FAILED, fault, self._schedule.refused(step.timing, step.words, fault, self._pc))

    def _stop(self, state: State, fault: Fault, cycles: int) -> None:
        self._state, self._fault, self._cycles = state, fault, cycles
        self.total_cycles += cycles

    def _halt(self, step: _Fetched) -> None:
        self._schedule.issue(step.timing)
        self._stop(State.IDLE, Fault.NONE, self._schedule.cycles)

    def _loop(self, step: _Fetched) -> None:
        turns = step.instruction.count or self._repeat
        if len(self._loops) == LOOP_DEPTH:
            self._refuse(step, Fault.OPCODE)
        elif turns == 0:
            self._refuse(step, Fault.RANGE)
        else:
            self._loops.append([step.follow, turns])
            self._issue(step)

    def _end(self, step: _Fetched) -> None:
        if not self._loops:
            self._refuse(step, Fault.OPCODE)
            return
        self._issue(step)
        loop = self._loops[-1]
        loop[1] -= 1
        if loop[1]:
            self._pc = loop[0]
        else:
            self._loops.pop()

    def _set(self, step: _Fetched) -> None:
        self._registers.change(step.instruction)
        self._issue(step)

    def _batch(self, step: _Fetched) -> None:
        # The halves take turns: with one filled it is the one before the half being filled, with two that one itself.
        self._half = self._filling ^ (self._filled & 1)
        self._filled -= 1
        self._taken = True
        self._issue(step)

    # The units

    def _contract(self, step: _Fetched) -> None:
        contract = step.instruction
        contraction = self._contractions.get(self._pc)
        if contraction is None:
            contraction = self._contractions[self._pc] = self._engine.contraction(contract)
        if not contraction.run(self._registers.values, self._half):
            self._refuse(step, Fault.ADDRESS)
            return
        if contract.to_loss:
            self._losses.capture(contract.base, contraction.outcomes, contraction.slots, self._half)
        self._issue(step)

    def _loss(self, step: _Fetched) -> None:
        self._losses.setup(self._moved(step.instruction))
        self._issue(step)

    def _sweep(self, step: _Fetched) -> None:
        instruction, memories, config = self._moved(step.instruction), self.memories, self.config
        refused = refusal(instruction, config)
        if refused:
            self._refuse(step, refused[0])
            return
        state = self._saved[instruction.replay_slot] if instruction.replay else memories.generator
        for slot in range(REPLAY_SLOTS):
            if instruction.save >> slot & 1:
                self._saved[slot] = state
        directions, memories.generator = signs(state, instruction.count, config.columns)
        rows = slice(instruction.row, instruction.row + instruction.count)
        masters, momenta = memories.masters[rows], memories.momenta[rows]
        if instruction.kind == SweepKind.PERTURB:
            first = instruction.half * config.weight_rows + instruction.row
            memories.effective[first : first + instruction.count] = sweep.perturb(
                config,
                masters,
                directions,
                instruction.mu,
                instruction.negative,
                instruction.single,
                instruction.column,
            )
        else:
            used = self._pointer + np.arange(instruction.count if instruction.single else 1)
            coefficients = memories.coefficients[used % config.losses]
            memories.masters[rows], memories.momenta[rows] = sweep.update(
                config,
                instruction,
                masters,
                momenta,
                directions,
                coefficients if instruction.single else int(coefficients[0]),
                memories.rates.rate,
            )
            moved = instruction.count if instruction.single else int(instruction.next)
            self._pointer = (self._pointer + moved) % config.losses
        self._issue(step)

    def _coefficient(self, step: _Fetched) -> None:
        memories = self.memories
        slots = memories.slots.tolist()
        values, memories.rates, loss = coefficients(self.config, step.instruction, slots, memories.rates)
        memories.coefficients[: len(values)] = values
        memories.history[self._steps % self.config.history] = loss, self._losses.correct
        self._losses.correct = 0
        self._pointer = 0
        self._steps += 1
        self._issue(step)

    def _gather(self, step: _Fetched) -> None:
        memories = self.memories
        if gather.model(self.config, self._moved(step.instruction), memories.lanes.T, memories.effective):
            self._refuse(step, Fault.ADDRESS)
            return
        self._issue(step)

    def _moved(self, instruction: Any) -> Any:
        """The instruction with its registers added."""
        return replace(instruction, **self._registers.totals(instruction))


class _ModelEndpoint(Endpoint):
    """The endpoint of a model, which takes inputs many at a time: they are most of what a host writes."""

    def __init__(self, machine: MachineModel) -> None:
        super().__init__(machine)
        self._machine = machine

    def write(self, space: Space, address: int, values: np.ndarray) -> None:
        """Writes words at consecutive addresses."""
        if space == Space.BATCH:
            self._machine.write_inputs(address, values)
        else:
            super().write(space, address, values)


class ModelTransport:
    """A byte stream to a ``MachineModel`` (``tenzo.transport.Transport``); answers are there at once."""

    def __init__(self, config: Config) -> None:
        self.machine = MachineModel(config)
        self._endpoint = _ModelEndpoint(self.machine)
        self._answers = b""

    @property
    def cycles(self) -> int:
        """Cycles of all runs that have ended."""
        return self.machine.total_cycles

    def write(self, data: bytes) -> None:
        """Sends ``data``; what it asks for is done before this returns."""
        self._answers += self._endpoint.receive(data)

    def read(self, timeout_s: float | None) -> bytes:
        """The bytes that have come. Nothing more ever comes by waiting."""
        answers, self._answers = self._answers, b""
        return answers

    def close(self) -> None:
        """Lets the machine go."""
