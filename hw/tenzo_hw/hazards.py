"""What a program reads before it is there: the machine does not interlock, so the program must wait.

Results of a contraction can be read ``result_latency`` cycles after a tile's last row, one column a cycle. Whether a
later row comes too early is a matter of cycles and addresses, both known beforehand.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .config import ADDRESS_REGISTERS, REDUCTION_LEVELS, Config
from .isa import Add, Coefficient, Contract, Instruction, Set, Sweep, SweepKind, Wait
from .nest import activations, output_reach, outputs, reach, tile_cols, tile_ends
from .timeline import Schedule, timing_of
from .timing import result_latency
from .walk import walk


@dataclass(frozen=True)
class Hazard:
    """Instruction ``reader`` is issued too early for what instruction ``writer`` does."""

    writer: int
    reader: int
    wait: Wait
    """The wait bit that cures the reader; NONE when only a change of the contraction itself does."""
    address: int | None
    """Lane address that is read before it is written, of a contraction."""
    reason: str

    def __str__(self) -> str:
        cure = f"add Wait.{self.wait.name}" if self.wait else "write its results elsewhere"
        return f"instruction {self.reader} {self.reason} of instruction {self.writer}: {cure}"


class _Written(NamedTuple):
    """Results of one issued contraction that the next rows cannot read yet."""

    index: int
    base: int
    last_row: int


@lru_cache(maxsize=4096)
def _pending(contract: Contract, base: int, latency: int) -> dict[int, int]:
    """Addresses that are not readable right after the last row, with the cycles from it until they are."""
    count = min(contract.tiles, latency + contract.cols)
    tiles = np.arange(contract.tiles - count, contract.tiles)
    cols = tile_cols(contract, tiles)
    ends = np.zeros(count, dtype=np.int64)
    ends[:-1] = -np.cumsum(np.maximum(contract.rows, cols[:-1])[::-1])[::-1]
    addresses, valid = outputs(contract, base, tiles)
    readable = ends[:, None] + latency + np.arange(contract.cols)
    chosen = valid & (readable > 1)
    # In the order of writing: a later tile's result of the same address is readable later.
    return dict(zip(addresses[chosen].tolist(), readable[chosen].tolist(), strict=True))


@lru_cache(maxsize=4096)
def _first_reads(contract: Contract, base: int, stall: int, cycles: int) -> list[tuple[int, int]]:
    """Lane addresses that rows read less than ``cycles`` after the issue, each with its cycle after the issue."""
    rows = np.arange(min(cycles - 1, contract.tiles * contract.rows))
    tiles, row = np.divmod(rows, contract.rows)
    cols = tile_cols(contract, np.arange(int(tiles[-1]) + 1)) if len(rows) else np.zeros(0, dtype=np.int64)
    ends = contract.rows + stall + np.concatenate([[0], np.cumsum(np.maximum(contract.rows, cols[:-1]))])
    starts = np.concatenate([[0], ends[:-1]])
    times = np.where(row == contract.rows - 1, ends[tiles], starts[tiles] + 1 + row)
    addresses = activations(contract, base, rows)
    chosen = (addresses >= 0) & (times < cycles)
    return list(zip(addresses[chosen].tolist(), times[chosen].tolist(), strict=True))


@lru_cache(maxsize=4096)
def _own(contract: Contract, a_base: int, o_base: int, stall: int, latency: int) -> int | None:
    """A lane address that the contraction reads after a tile has begun to write it and before it is readable."""
    read, written = reach(contract.levels, "a"), output_reach(contract)
    if a_base + read[1] < o_base + written[0] or o_base + written[1] < a_base + read[0]:
        return None
    ends = tile_ends(contract) + contract.rows + stall
    starts = np.concatenate([[0], ends[:-1]])
    row = np.arange(contract.rows)
    times = np.where(row == contract.rows - 1, ends[:, None], starts[:, None] + 1 + row)
    reads = activations(contract, a_base).reshape(contract.tiles, contract.rows)
    addresses, valid = outputs(contract, o_base)
    readable = ends[:, None] + latency + np.arange(contract.cols)
    # The last write before a tile: writes sorted by address and tile.
    tiles = np.arange(contract.tiles)[:, None]
    keys = (addresses * contract.tiles + tiles)[valid]
    order = np.argsort(keys, kind="stable")
    keys, readable = keys[order], readable[valid][order]
    place = np.searchsorted(keys, reads * contract.tiles + tiles) - 1
    before = (place >= 0) & (reads >= 0) & (keys[place] // contract.tiles == reads)
    early = before & (times < readable[place])
    return int(reads[early][0]) if early.any() else None


class _Hazards:
    """Walker that keeps what is being written and compares it with what is read."""

    def __init__(self, program: Sequence[Instruction], config: Config) -> None:
        self._program = program
        self._config = config
        self._latency = result_latency(config)
        self._timings = [timing_of(instruction, config) for instruction in program]
        self._schedule = Schedule(config)
        self._registers = [0] * ADDRESS_REGISTERS
        self._written: list[_Written] = []
        self._contract: tuple[int, tuple[int, int, int, int]] | None = None
        self._sweep: int | None = None
        self._captured: int | None = None
        self._coefficient: int | None = None
        self.found: dict[tuple[int, int, Wait], Hazard] = {}

    def _report(self, writer: int, reader: int, wait: Wait, reason: str, address: int | None = None) -> None:
        self.found.setdefault((writer, reader, wait), Hazard(writer, reader, wait, address, reason))

    def visit(self, index: int) -> None:
        instruction, schedule = self._program[index], self._schedule
        last_row, last_cols = schedule.last_row, schedule.last_cols
        cycle = schedule.issue(self._timings[index])
        if isinstance(instruction, Contract):
            stall = max(last_row + last_cols - (cycle + instruction.rows), 0)
            self._contraction(index, instruction, cycle, stall)
        elif isinstance(instruction, Sweep):
            self._sweeping(index, instruction, cycle, last_row)
        elif isinstance(instruction, Coefficient):
            if self._captured is not None and cycle < schedule.loss_done:
                self._report(self._captured, index, Wait.LOSS, "reads the loss slots before those are stored")
            if self._sweep is not None and cycle < schedule.sweep_done and self._updates(self._sweep):
                self._report(self._sweep, index, Wait.SWEEP, "writes the coefficients during the update")
            self._coefficient = index
        elif isinstance(instruction, Set | Add) and instruction.register:
            base = self._registers[instruction.register] if isinstance(instruction, Add) else 0
            self._registers[instruction.register] = (base + instruction.value) & 0xFFFF

    def _updates(self, index: int) -> bool:
        sweep = self._program[index]
        return isinstance(sweep, Sweep) and sweep.kind == SweepKind.UPDATE

    def _swept(self, index: int | None) -> tuple[int, int] | None:
        """Engine rows that a PERTURB sweep writes."""
        sweep = self._program[index] if index is not None else None
        if not isinstance(sweep, Sweep) or sweep.kind == SweepKind.UPDATE:
            return None
        start = sweep.half * self._config.weight_rows + sweep.row
        return start, start + sweep.count - 1

    def _sweeping(self, index: int, sweep: Sweep, cycle: int, last_row: int) -> None:
        if sweep.kind == SweepKind.UPDATE:
            if self._coefficient is not None and cycle < self._schedule.coefficient_done:
                reason = "reads the coefficients before the end"
                self._report(self._coefficient, index, Wait.COEFFICIENT, reason)
        elif self._contract is not None and cycle < last_row:
            writer, rows = self._contract
            if _overlap(self._swept(index), rows):
                self._report(writer, index, Wait.ENGINE, "writes weight rows before the last row")
        self._sweep = index

    def _contraction(self, index: int, contract: Contract, cycle: int, stall: int) -> None:
        registers, schedule = self._registers, self._schedule
        a_base = (contract.a_base + registers[contract.a_register]) & 0xFFFF
        o_base = (contract.o_base + registers[contract.o_register]) & 0xFFFF
        if not contract.from_batch:
            for written in self._written:
                writer = self._program[written.index]
                assert isinstance(writer, Contract)
                pending = _pending(writer, written.base, self._latency)
                since = cycle - written.last_row
                cycles = max(pending.values(), default=0) - since
                if cycles < 2:
                    continue
                for address, time in _first_reads(contract, a_base, stall, cycles):
                    if since + time < pending.get(address, 0):
                        reason = f"reads lane address {address} before the result"
                        self._report(written.index, index, Wait.ENGINE, reason, address)
                        break
            if contract.store:
                address = _own(contract, a_base, o_base, stall, self._latency)
                if address is not None:
                    self._report(index, index, Wait.NONE, f"reads lane address {address} before the result", address)
        if contract.store:
            self._written.append(_Written(index, o_base, schedule.last_row))
        self._forget(schedule.last_row)
        self._weights(index, contract, cycle)

    def _weights(self, index: int, contract: Contract, cycle: int) -> None:
        registers = self._registers
        w_base = (contract.w_base + registers[contract.w_register]) & 0xFFFF
        b_base = (contract.b_base + registers[contract.b_register]) & 0xFFFF
        low, high = reach(contract.levels, "w")
        rows = (w_base + low, w_base + high, 0, -1)
        if contract.bias:
            low, high = reach(contract.levels[REDUCTION_LEVELS:], "b")
            rows = (*rows[:2], b_base + low, b_base + high)
        if self._sweep is not None and cycle < self._schedule.sweep_done and _overlap(self._swept(self._sweep), rows):
            self._report(self._sweep, index, Wait.SWEEP, "reads weight rows before the end")
        self._contract = index, rows
        if contract.to_loss:
            self._captured = index

    def _forget(self, cycle: int) -> None:
        """Drops the results that a contraction issued in ``cycle`` or later can read."""
        horizon = cycle - self._latency - self._config.columns
        self._written = [written for written in self._written if written.last_row > horizon]

    def key(self) -> Hashable:
        now = self._schedule.now
        self._forget(now)
        written = tuple((index, base, last_row - now) for index, base, last_row in self._written)
        units = (self._contract, self._sweep, self._captured, self._coefficient)
        return (self._schedule.key(), written, units, tuple(self._registers))

    def mark(self) -> int:
        return self._schedule.now

    def skip(self, mark: int, times: int) -> None:
        cycles = (self._schedule.now - mark) * times
        self._schedule.advance(cycles)
        self._written = [written._replace(last_row=written.last_row + cycles) for written in self._written]


def _overlap(swept: tuple[int, int] | None, rows: tuple[int, int, int, int]) -> bool:
    """Whether a range of rows meets one of two others (low, high, low, high); empty where high < low."""
    if swept is None:
        return False
    low, high = swept
    return any(a <= b and low <= b and a <= high for a, b in (rows[:2], rows[2:]))


def hazards(program: Sequence[Instruction], config: Config, *, repeat: int = 1, start: int = 0) -> list[Hazard]:
    """What a run of ``program`` reads too early, one entry for each pair of instructions; empty for a correct program.

    Lane memory exactly: a row that reads an address before an earlier tile's result of it can be read. Weight rows: a
    contraction that is issued while a PERTURB sweep of its rows goes on, or such a sweep issued before the last
    contraction has read its rows. COEFFICIENT before the losses are stored, UPDATE before the coefficients are there,
    COEFFICIENT during an UPDATE. ``program`` must have passed ``check``.
    """
    walker = _Hazards(program, config)
    walk(program, walker, repeat=repeat, start=start)
    return list(walker.found.values())
