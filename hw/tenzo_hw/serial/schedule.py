"""When every instruction of a serial machine is done: what its firmware takes, found by carrying it out.

No instruction's time depends on data, so each is carried out once by ``Interpreter``, on memories full of zeros.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import lru_cache

from ..config import LOOP_DEPTH, Config
from ..isa import Contract, End, Instruction, Loss, LossKind, Opcode, Sweep
from ..protocol import Fault
from ..timing_record import Timing, Work
from .assembly import Event, Port
from .fields import engine_cycles
from .firmware import firmware
from .interpreter import Interpreter
from .memory_map import LOOP_WORDS, MainMap
from .sequencer_firmware import ABORTS, ENGINE_FAULT

#: Cycles from the engine's start to the first one in which the processor waits for it.
_START_TO_WAIT = 2


class _Zeros:
    """Surroundings in which every word is 0, but for an instruction and the state that a fault shows in."""

    def __init__(self, config: Config, words: Sequence[int], *, pc: int = 0, engine: int = 0, state: int = 0) -> None:
        self._first = MainMap.of(config).program + pc
        self._words = words
        self._engine = engine
        self._later = state
        self._state = 0

    def read(self, address: int) -> int:
        place = address - self._first
        return self._words[place] if 0 <= place < len(self._words) else 0

    def write(self, address: int, value: int) -> None:
        pass

    def input(self, port: int, pointer: int) -> int:
        return self._state if port == Port.STATE else 0

    def output(self, port: int, value: int) -> None:
        pass

    def sign(self) -> bool:
        return False

    def wait(self, event: int) -> int:
        self._state = self._later
        return max(self._engine - _START_TO_WAIT, 0) if event == Event.ENGINE else 0


@lru_cache
def _before(config: Config) -> int:
    """Cycles of a run before its first instruction."""
    interpreter = Interpreter(firmware(config), _Zeros(config, ()))
    interpreter.run("run", "next")
    # The run begins in the cycle in which the processor sees it.
    return 1 + interpreter.cycles


def _cycles(config: Config, words: Sequence[int], surroundings: _Zeros, *, pc: int, repeat: int, loops: int) -> int:
    """Cycles from one instruction to the next one, to a sample's loss, or to the end of the run."""
    interpreter = Interpreter(firmware(config), surroundings)
    interpreter.accumulator = pc
    interpreter.set("repeat", repeat)
    interpreter.set("loop", MainMap.of(config).loops + LOOP_WORDS * loops)
    interpreter.run("next", "next", "loss", "stopped")
    return interpreter.cycles


@lru_cache
def _sample(config: Config, kind: LossKind, outputs: int, fraction: int) -> int:
    """Cycles of a sample's loss, until the next instruction."""
    interpreter = Interpreter(firmware(config), _Zeros(config, ()))
    for name, value in (("kind", kind), ("outputs", outputs), ("fraction", fraction)):
        interpreter.set(f"loss_{name}", value)
    interpreter.run("loss", "next")
    return interpreter.cycles


@lru_cache(maxsize=1 << 14)
def _issued(config: Config, instruction: Instruction) -> int:
    engine = engine_cycles(instruction) if isinstance(instruction, Contract) else 0
    loops = 1 if isinstance(instruction, End) else 0
    words = instruction.encode()
    return _cycles(config, words, _Zeros(config, words, engine=engine), pc=0, repeat=1, loops=loops)


@lru_cache(maxsize=1 << 10)
def _refused(config: Config, words: tuple[int, ...], fault: Fault, pc: int) -> int:
    opcode = words[0] & 0xFF if words else None
    engine = 0
    if opcode == Opcode.CONTRACT and fault is Fault.ADDRESS:
        engine = engine_cycles(Contract.decode(list(words)))
    elif opcode == Opcode.SWEEP and fault is not Fault.OPCODE:
        # Refused for what address registers add as for the field.
        sweep = Sweep.decode(list(words))
        outside = {"row": config.weight_rows} if fault is Fault.ADDRESS else {"column": config.columns}
        words = tuple(replace(sweep, **{"row": 0, **outside}, row_register=0, column_register=0).encode())
    state = {Fault.ADDRESS: ENGINE_FAULT, Fault.ABORTED: ABORTS}.get(fault, 0)
    # A LOOP is refused inside of as many as there may be, an END outside of all.
    loops = LOOP_DEPTH if opcode == Opcode.LOOP and fault is Fault.OPCODE else 0
    surroundings = _Zeros(config, words, pc=pc, engine=engine, state=state)
    return _cycles(config, words, surroundings, pc=pc, repeat=0, loops=loops)


def timing_of(instruction: Instruction, config: Config) -> Timing:
    """The facts about an instruction that ``SerialSchedule`` needs: ``spacing`` is all of its time."""
    changes: dict[str, int] = {}
    # What address registers are added to does not matter, but must not be refused.
    if isinstance(instruction, Sweep):
        changes = {"row": 0, "row_register": 0, "column": 0, "column_register": 0}
    cycles = _issued(config, replace(instruction, **changes))
    if isinstance(instruction, Contract):
        macs, engine = instruction.macs, engine_cycles(instruction)
        return Timing(instruction.OPCODE, cycles, 0, macs=macs, to_loss=instruction.to_loss, duration=engine)
    if isinstance(instruction, Loss):
        sample = _sample(config, instruction.kind, instruction.outputs, instruction.fraction)
        return Timing(instruction.OPCODE, cycles, 0, duration=sample)
    return Timing(instruction.OPCODE, cycles, 0, duration=cycles)


class SerialSchedule:
    """The times of a run, as ``Schedule``: an instruction is issued when the one before it is done."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.end = _before(config)
        """When the last instruction is done."""
        self._sample = 0

    @property
    def cycles(self) -> int:
        """Length of a run that ends with the last issued instruction."""
        return self.end

    def issue(self, timing: Timing) -> int:
        """Issues the next instruction and returns the cycle."""
        cycle = self.end
        self.end += timing.spacing
        if timing.opcode is Opcode.LOSS:
            self._sample = timing.duration
        elif timing.to_loss:
            self.end += self._sample
        return cycle

    def carry_out(self, timing: Timing) -> Work:
        """Issues the next instruction and returns when it works, which is up to its end."""
        cycle = self.issue(timing)
        work = 0 if timing.opcode is Opcode.LOSS else timing.duration
        return Work(cycle, 0, self.end - work, self.end)

    def refused(self, timing: Timing, words: Sequence[int], fault: Fault, pc: int) -> int:
        """Length of a run that ends with ``fault`` of the instruction of these words at ``pc``."""
        return self.end + _refused(self._config, tuple(words), fault, pc)

    def key(self) -> Hashable:
        """What decides all later times, relative to the last issue."""
        return self._sample

    def advance(self, cycles: int) -> None:
        """Moves all times by ``cycles``, as turns of a loop do that repeat exactly."""
        self.end += cycles
