"""When every instruction of a program is issued and done: section "Time" of docs/machine.md as code.

The machine's durations never depend on data, so a program's cycles are known before it runs. ``Schedule`` is the rule,
one instruction after the other; ``timeline`` applies it to a whole program, however long its loops turn.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .config import REDUCTION_LEVELS, Config
from .isa import Base, Coefficient, Contract, Gather, Instruction, Loss, Opcode, Operand, Sweep, Wait
from .protocol import Fault
from .serial.schedule import SerialSchedule
from .serial.schedule import timing_of as serial_timing_of
from .timing import (
    DONE_LATENCY,
    ISSUE_OVERHEAD,
    START_LATENCY,
    STOP_CYCLES,
    TAKEN_LATENCY,
    capture_latency,
    coefficient_cycles,
    gather_latency,
    loss_latency,
    result_latency,
    sweep_latency,
)
from .timing_record import Timing, Work
from .walk import walk

_ENGINE, _SWEEP, _LOSS, _COEFFICIENT = (int(bit) for bit in (Wait.ENGINE, Wait.SWEEP, Wait.LOSS, Wait.COEFFICIENT))
_ALL = _ENGINE | _SWEEP | _LOSS | _COEFFICIENT


def timing_of(instruction: Instruction, config: Config) -> Timing:
    """The facts about an instruction that the machine's schedule needs."""
    if config.is_serial:
        return serial_timing_of(instruction, config)
    opcode = instruction.OPCODE
    spacing = instruction.WORDS + ISSUE_OVERHEAD
    if opcode in (Opcode.HALT, Opcode.BATCH):
        return Timing(opcode, spacing, _ALL)
    waits = int(instruction.wait)
    if isinstance(instruction, Contract):
        rows, last, pace = instruction.rows, instruction.last_cols, instruction.pace
        tiles = instruction.tiles
        last_tiles = tiles // instruction.levels[REDUCTION_LEVELS + instruction.tile_level].count
        tail = (tiles - last_tiles) * max(rows, instruction.cols, pace) + (last_tiles - 1) * max(rows, last, pace)
        return Timing(
            opcode,
            spacing,
            waits | (_COEFFICIENT if instruction.to_loss else 0),
            rows=rows,
            cols=last,
            hold=max(last, pace),
            tail=tail,
            macs=0 if instruction.operand == Operand.IDENTITY else instruction.macs,
            to_loss=instruction.to_loss,
            adds=instruction.base == Base.ADD,
        )
    if isinstance(instruction, Sweep):
        duration = instruction.count * config.sweep_turns + sweep_latency(config)
        return Timing(opcode, spacing, waits | _SWEEP, duration=duration)
    if isinstance(instruction, Coefficient):
        duration = coefficient_cycles(config, instruction.queries)
        return Timing(opcode, spacing, waits | _LOSS | _COEFFICIENT, duration=duration)
    if isinstance(instruction, Loss):
        duration = instruction.outputs * config.loss_lanes
        return Timing(opcode, spacing, waits | _LOSS | _COEFFICIENT, duration=duration)
    if isinstance(instruction, Gather):
        words = instruction.lanes * instruction.rows * instruction.cols
        return Timing(opcode, spacing, waits | _ENGINE | _SWEEP, duration=words + gather_latency(config))
    return Timing(opcode, spacing, waits)


class Schedule:
    """The times of a run. RUN is cycle 0; ``issue`` takes the instructions in order.

    All attributes are cycles. A unit is done from the named cycle on.
    """

    def __init__(self, config: Config) -> None:
        self._result_latency = result_latency(config)
        self._capture_latency = capture_latency(config)
        self._loss_latency = loss_latency(config)
        self.now = 0
        """Issue of the last instruction."""
        self.start = 0
        """When its unit started it."""
        self.fetched_from = 0
        """When the words of the next instruction are asked for."""
        self.last_row = 0
        """Issue of the last contraction's last row: the engine can take the next one from then on."""
        self.next_end = 0
        """First cycle in which the next contraction's first tile can issue its last row."""
        self.drained = 0
        """A contraction issued then or later reads all results."""
        self.gather_done = 0
        self.sweep_done = 0
        self.coefficient_done = 0
        self.loss_done = 0
        self.buffers_free = (0, 0)
        """The two loss buffers, the earlier one first."""
        self._loss_reading = 0

    @property
    def cycles(self) -> int:
        """Length of a run that ends with the last issued instruction: RUN's cycle counts."""
        return self.now + 1

    def earliest(self, timing: Timing) -> int:
        """The cycle in which the instruction could be issued, were all units done."""
        return self.fetched_from + timing.spacing

    def issue(self, timing: Timing) -> int:
        """Issues the next instruction and returns the cycle."""
        at = self.fetched_from + timing.spacing
        waits = timing.waits
        if waits:
            done = 0
            if waits & _ENGINE:
                done = max(self.drained, self.gather_done)
            if waits & _SWEEP and done < self.sweep_done:
                done = self.sweep_done
            if waits & _LOSS and done < self.loss_done:
                done = self.loss_done
            if waits & _COEFFICIENT and done < self.coefficient_done:
                done = self.coefficient_done
            at = max(at, done + DONE_LATENCY)
        opcode = timing.opcode
        if opcode is Opcode.CONTRACT:
            at = max(at, self.gather_done + DONE_LATENCY)
            if timing.to_loss:
                # A buffer of a group's own; differences go through both and come after all groups before.
                at = max(at, self.buffers_free[1 if timing.adds else 0] + DONE_LATENCY)
            # The engine takes it in its own time.
            start = max(at + START_LATENCY, self.last_row)
            self.fetched_from = start + TAKEN_LATENCY
            self.last_row = max(start + timing.rows, self.next_end) + timing.tail
            self.next_end = self.last_row + timing.hold
            self.drained = self.last_row + self._result_latency + timing.cols - 2
            if timing.to_loss:
                self._capture(timing)
        else:
            if opcode is Opcode.SWEEP:
                at = max(at, self.gather_done + DONE_LATENCY)
            self.fetched_from = at
            start = at + START_LATENCY
            if opcode is Opcode.SWEEP:
                self.sweep_done = start + timing.duration
            elif opcode is Opcode.GATHER:
                self.gather_done = start + timing.duration
            elif opcode is Opcode.COEFFICIENT:
                self.coefficient_done = start + timing.duration
            elif opcode is Opcode.LOSS:
                self._loss_reading = timing.duration
        self.now, self.start = at, start
        return at

    def carry_out(self, timing: Timing) -> Work:
        """Issues the next instruction and returns when its unit works."""
        earliest = self.earliest(timing)
        cycle = self.issue(timing)
        waited = self.start - (earliest + START_LATENCY)
        start = end = cycle
        if timing.opcode is Opcode.CONTRACT:
            # Rows of one contraction follow those of the one before without a gap when it was issued in time.
            start, end = self.start + 1, self.last_row + 1
        elif timing.opcode in (Opcode.SWEEP, Opcode.COEFFICIENT, Opcode.GATHER):
            start, end = self.start, self.start + timing.duration
        return Work(cycle, waited, start, end)

    def _capture(self, timing: Timing) -> None:
        # A group is read once its last result is in its buffer and the group before it is read; groups of differences
        # come no faster than they are read.
        captured = self.last_row + self._capture_latency + timing.cols
        if timing.adds:
            free = captured + self._loss_reading
        else:
            free = max(captured, self.buffers_free[1]) + self._loss_reading
            self.buffers_free = (self.buffers_free[1], free)
        self.loss_done = free - 1 + self._loss_latency

    def refused(self, timing: Timing, words: Sequence[int], fault: Fault, pc: int) -> int:
        """Length of a run that ends with ``fault`` of the instruction of these words at ``pc``."""
        units = max(self.drained, self.gather_done, self.sweep_done, self.coefficient_done)
        return max(self.earliest(timing) + STOP_CYCLES, units + DONE_LATENCY) + 1

    def key(self) -> Hashable:
        """What decides all later times, relative to the last issue: a time that is over is 0."""
        now = self.now
        return (
            max(self.fetched_from - now, 0),
            max(self.last_row - now, 0),
            max(self.next_end - now, 0),
            max(self.drained - now, 0),
            max(self.gather_done - now, 0),
            max(self.sweep_done - now, 0),
            max(self.coefficient_done - now, 0),
            max(self.loss_done - now, 0),
            max(self.buffers_free[0] - now, 0),
            max(self.buffers_free[1] - now, 0),
            self._loss_reading,
        )

    def advance(self, cycles: int) -> None:
        """Moves all times by ``cycles``, as turns of a loop do that repeat exactly."""
        self.now += cycles
        self.start += cycles
        self.fetched_from += cycles
        self.last_row += cycles
        self.next_end += cycles
        self.drained += cycles
        self.gather_done += cycles
        self.sweep_done += cycles
        self.coefficient_done += cycles
        self.loss_done += cycles
        self.buffers_free = (self.buffers_free[0] + cycles, self.buffers_free[1] + cycles)


def schedule_of(config: Config) -> Schedule | SerialSchedule:
    """The schedule of a run on this machine."""
    return SerialSchedule(config) if config.is_serial else Schedule(config)


class Issue(NamedTuple):
    """One issued instruction. Cycles count from RUN."""

    index: int
    """Place in the program."""
    cycle: int
    """Issue."""
    waited: int
    """Cycles from when its words were read: what it waited for units."""
    start: int
    """First cycle of its unit's work."""
    end: int
    """First cycle after it: after a contraction's last row; when a sweep, a gather or the coefficients are done."""


class Use(NamedTuple):
    """What one instruction of the program does in the whole run."""

    count: int
    """Times issued."""
    busy: int
    """Cycles of its unit: rows and stalls of contractions; rows, words and latency of the others."""
    waited: int
    """Cycles that its issues waited for units."""
    macs: int
    """Useful multiply-accumulates on all lanes."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The time of a whole run."""

    cycles: int
    """From RUN to HALT, without waits for the host."""
    macs: int
    """Useful multiply-accumulates on all lanes."""
    multipliers: int
    uses: tuple[Use, ...]
    """One for each instruction of the program."""

    @property
    def utilisation(self) -> float:
        """Share of the multipliers' cycles that does useful work."""
        return self.macs / (self.cycles * self.multipliers)


class _Times:
    """Walker that adds up."""

    def __init__(self, program: Sequence[Instruction], config: Config) -> None:
        # Equal instructions at several places share their facts.
        facts = {id(instruction): timing_of(instruction, config) for instruction in program}
        self._timings = [facts[id(instruction)] for instruction in program]
        self._schedule = schedule_of(config)
        self._lanes = config.lanes
        self._count = [0] * len(program)
        self._busy = [0] * len(program)
        self._waited = [0] * len(program)

    @property
    def cycles(self) -> int:
        return self._schedule.cycles

    def issue(self, index: int) -> Issue:
        return Issue(index, *self._schedule.carry_out(self._timings[index]))

    def visit(self, index: int) -> None:
        issue = self.issue(index)
        self._count[index] += 1
        self._busy[index] += issue.end - issue.start
        self._waited[index] += issue.waited

    def key(self) -> Hashable:
        return self._schedule.key()

    def mark(self) -> tuple[int, list[int], list[int], list[int]]:
        return self.cycles, self._count.copy(), self._busy.copy(), self._waited.copy()

    def skip(self, mark: tuple[int, list[int], list[int], list[int]], times: int) -> None:
        cycle, *totals = mark
        self._schedule.advance((self.cycles - cycle) * times)
        for now, then in zip((self._count, self._busy, self._waited), totals, strict=True):
            for index, value in enumerate(now):
                now[index] += (value - then[index]) * times

    def uses(self) -> Iterator[Use]:
        for timing, count, busy, waited in zip(self._timings, self._count, self._busy, self._waited, strict=True):
            yield Use(count, busy, waited, count * timing.macs * self._lanes)


class _Trace(_Times):
    """Walker that keeps every issue, so that no turn of a loop is skipped."""

    def __init__(self, program: Sequence[Instruction], config: Config) -> None:
        super().__init__(program, config)
        self.issues: list[Issue] = []

    def visit(self, index: int) -> None:
        self.issues.append(self.issue(index))

    def key(self) -> Hashable:
        return object()


def timeline(program: Sequence[Instruction], config: Config, *, repeat: int = 1, start: int = 0) -> Timeline:
    """The exact time of a run of ``program`` from instruction ``start``; loops of count 0 turn ``repeat`` times.

    ``cycles`` is what the device's status says after the run, less its waits for batches. Takes about as long as the
    first turns of each loop: a loop is cut short once its turns repeat exactly. Raises ``ValueError`` when the loops
    are nested wrongly or no HALT ends the run.
    """
    times = _Times(program, config)
    walk(program, times, repeat=repeat, start=start)
    uses = tuple(times.uses())
    return Timeline(cycles=times.cycles, macs=sum(use.macs for use in uses), multipliers=config.multipliers, uses=uses)


def trace(program: Sequence[Instruction], config: Config, *, repeat: int = 1, start: int = 0) -> list[Issue]:
    """Every issued instruction of a run, in order: one entry a turn of every loop, so for short programs."""
    issues = _Trace(program, config)
    walk(program, issues, repeat=repeat, start=start)
    return issues.issues
