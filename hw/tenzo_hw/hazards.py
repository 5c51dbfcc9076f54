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

from .config import REDUCTION_LEVELS, Config
from .isa import Add, Coefficient, Contract, Instruction, Operand, Set, Sweep, SweepKind, Wait
from .nest import WRAP, activations, environments, output_reach, outputs, reach, tile_cols, tile_ends
from .registers import AddressRegisters
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
    ends[:-1] = -np.cumsum(np.maximum(max(contract.rows, contract.pace), cols[:-1])[::-1])[::-1]
    addresses, valid = outputs(contract, base, tiles)
    readable = ends[:, None] + latency + np.arange(contract.cols)
    chosen = valid & (readable > 1)
    # In the order of writing: a later tile's result of the same address is readable later.
    return dict(zip(addresses[chosen].tolist(), readable[chosen].tolist(), strict=True))


class _Reads(NamedTuple):
    """Where a contraction's rows read lane words: the first activation and, of DIFFERENCE, the first environment."""

    activations: int
    environments: int | None

    def after(self, base: int) -> _Reads:
        """The same, counted from address ``base``."""
        environments = None if self.environments is None else (self.environments - base) % WRAP
        return _Reads((self.activations - base) % WRAP, environments)

    def of(self, contract: Contract, rows: np.ndarray) -> np.ndarray:
        """Lane addresses that rows read, int64[rows, 1 or 2]; -1 for a bias row."""
        read = [activations(contract, self.activations, rows)]
        if self.environments is not None:
            read.append(environments(contract, self.environments, rows))
        return np.stack(read, axis=1)

    def meet(self, contract: Contract) -> bool:
        """Whether the range of what is read meets that of the results from address 0 on."""
        low, high = output_reach(contract)
        for base, stream in ((self.activations, "a"), (self.environments, "b")):
            if base is None:
                continue
            first, last = reach(contract.levels, stream)
            start = (base + first - low + WRAP // 2) % WRAP - WRAP // 2
            if start <= high - low and start + last - first >= 0:
                return True
        return False


@lru_cache(maxsize=4096)
def _first_reads(contract: Contract, reads: _Reads, stall: int, cycles: int) -> list[tuple[int, int]]:
    """Lane addresses that rows read less than ``cycles`` after the issue, each with its cycle after the issue."""
    rows = np.arange(min(cycles - 1, contract.tiles * contract.rows))
    tiles, row = np.divmod(rows, contract.rows)
    cols = tile_cols(contract, np.arange(int(tiles[-1]) + 1)) if len(rows) else np.zeros(0, dtype=np.int64)
    between = np.maximum(max(contract.rows, contract.pace), cols[:-1])
    ends = contract.rows + stall + np.concatenate([[0], np.cumsum(between)])
    starts = np.concatenate([[0], ends[:-1]])
    times = np.where(row == contract.rows - 1, ends[tiles], starts[tiles] + 1 + row)
    addresses = reads.of(contract, rows)
    chosen = (addresses >= 0) & (times < cycles)[:, None]
    times = np.broadcast_to(times[:, None], addresses.shape)
    return list(zip(addresses[chosen].tolist(), times[chosen].tolist(), strict=True))


@lru_cache(maxsize=4096)
def _own(contract: Contract, reads: _Reads, latency: int) -> int | None:
    """A lane address that the contraction reads after a tile has begun to write it and before it is readable.

    Addresses count from the output base: contractions that move as a whole are looked at once.
    """
    if not reads.meet(contract):
        return None
    ends = tile_ends(contract) + contract.rows
    starts = np.concatenate([[0], ends[:-1]])
    # Rows further behind a tile's start come after all earlier results; so does a last row that waits.
    row = np.arange(min(contract.rows, latency + contract.cols))
    times = np.where(row == contract.rows - 1, ends[:, None], starts[:, None] + 1 + row)
    tiles = np.arange(contract.tiles)[:, None]
    read = reads.of(contract, (tiles * contract.rows + row).ravel()).reshape(*times.shape, -1)
    addresses, valid = outputs(contract, 0)
    readable = ends[:, None] + latency + np.arange(contract.cols)
    # The last write before a tile: writes sorted by address and tile.
    keys = (addresses * contract.tiles + tiles)[valid]
    order = np.argsort(keys, kind="stable")
    keys, readable = keys[order], readable[valid][order]
    place = np.searchsorted(keys, read * contract.tiles + tiles[:, None]) - 1
    before = (place >= 0) & (read >= 0) & (keys[place] // contract.tiles == read)
    early = before & (times[:, :, None] < readable[place])
    return int(read[early][0]) if early.any() else None


class _Hazards:
    """Walker that keeps what is being written and compares it with what is read."""

    def __init__(self, program: Sequence[Instruction], config: Config) -> None:
        self._program = program
        self._config = config
        self._latency = result_latency(config)
        self._timings = [timing_of(instruction, config) for instruction in program]
        self._schedule = Schedule(config)
        self._bank = config.lane_bank
        self._registers = AddressRegisters()
        self._written: list[_Written] = []
        self._contract: tuple[int, tuple[int, int, int, int]] | None = None
        self._sweep: int | None = None
        self._swept: tuple[int, int] | None = None
        self._coefficient: int | None = None
        self.found: dict[tuple[int, int, Wait], Hazard] = {}

    def _report(self, writer: int, reader: int, wait: Wait, reason: str, address: int | None = None) -> None:
        self.found.setdefault((writer, reader, wait), Hazard(writer, reader, wait, address, reason))

    def visit(self, index: int) -> None:
        instruction, schedule = self._program[index], self._schedule
        last_row, next_end = schedule.last_row, schedule.next_end
        schedule.issue(self._timings[index])
        cycle = schedule.start
        if isinstance(instruction, Contract):
            stall = max(next_end - (cycle + instruction.rows), 0)
            self._contraction(index, instruction, cycle, stall)
        elif isinstance(instruction, Sweep):
            self._sweeping(index, instruction, cycle, last_row)
        elif isinstance(instruction, Coefficient):
            if self._sweep is not None and cycle < schedule.sweep_done and self._updates(self._sweep):
                self._report(self._sweep, index, Wait.SWEEP, "writes the coefficients during the update")
            self._coefficient = index
        elif isinstance(instruction, Set | Add):
            self._registers.change(instruction)

    def _updates(self, index: int) -> bool:
        sweep = self._program[index]
        return isinstance(sweep, Sweep) and sweep.kind == SweepKind.UPDATE

    def _sweeping(self, index: int, sweep: Sweep, cycle: int, last_row: int) -> None:
        if sweep.kind == SweepKind.UPDATE:
            if self._coefficient is not None and cycle < self._schedule.coefficient_done:
                reason = "reads the coefficients before the end"
                self._report(self._coefficient, index, Wait.COEFFICIENT, reason)
            self._swept = None
        else:
            start = sweep.half * self._config.weight_rows + self._registers.total(sweep, "row")
            self._swept = start, start + sweep.count - 1
            if self._contract is not None and cycle < last_row:
                writer, rows = self._contract
                if _overlap(self._swept, rows):
                    self._report(writer, index, Wait.ENGINE, "writes weight rows before the last row")
        self._sweep = index

    def _contraction(self, index: int, contract: Contract, cycle: int, stall: int) -> None:
        registers, schedule = self._registers, self._schedule
        o_base = registers.total(contract, "o_base")
        if not contract.from_batch and contract.operand != Operand.IDENTITY:
            reads = _Reads(registers.total(contract, "a_base"), None)
            if contract.operand == Operand.DIFFERENCE:
                reads = reads._replace(environments=self._bank + registers.total(contract, "b_base"))
            for written in self._written:
                writer = self._program[written.index]
                assert isinstance(writer, Contract)
                pending = _pending(writer, written.base, self._latency)
                since = cycle - written.last_row
                cycles = max(pending.values(), default=0) - since
                if cycles < 2:
                    continue
                for address, time in _first_reads(contract, reads, stall, cycles):
                    if since + time < pending.get(address, 0):
                        reason = f"reads lane address {address} before the result"
                        self._report(written.index, index, Wait.ENGINE, reason, address)
                        break
            if contract.store:
                offset = _own(contract, reads.after(o_base), self._latency)
                if offset is not None:
                    address = (offset + o_base) % WRAP
                    self._report(index, index, Wait.NONE, f"reads lane address {address} before the result", address)
        if contract.store:
            self._written.append(_Written(index, o_base, schedule.last_row))
        self._forget(schedule.last_row)
        self._weights(index, contract, cycle)

    def _weights(self, index: int, contract: Contract, cycle: int) -> None:
        registers = self._registers
        w_base, b_base = registers.total(contract, "w_base"), registers.total(contract, "b_base")
        low, high = reach(contract.levels, "w")
        rows = (w_base + low, w_base + high, 0, -1)
        if contract.bias:
            low, high = reach(contract.levels[REDUCTION_LEVELS:], "b")
            rows = (*rows[:2], b_base + low, b_base + high)
        if self._sweep is not None and cycle < self._schedule.sweep_done and _overlap(self._swept, rows):
            self._report(self._sweep, index, Wait.SWEEP, "reads weight rows before the end")
        self._contract = index, rows

    def _forget(self, cycle: int) -> None:
        """Drops the results that a contraction issued in ``cycle`` or later can read."""
        horizon = cycle - self._latency - self._config.columns
        self._written = [written for written in self._written if written.last_row > horizon]

    def key(self) -> Hashable:
        now = self._schedule.now
        self._forget(now)
        written = tuple((index, base, last_row - now) for index, base, last_row in self._written)
        units = (self._contract, self._sweep, self._swept, self._coefficient)
        return (self._schedule.key(), written, units, self._registers.values)

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
    contraction has read its rows. UPDATE before the coefficients are there,
    COEFFICIENT during an UPDATE. A gather is never too early: the machine waits for it and lets it wait. ``program``
    must have passed ``check``. On a serial machine nothing is too early: one thing is done after the other.
    """
    if config.is_serial:
        return []
    walker = _Hazards(program, config)
    walk(program, walker, repeat=repeat, start=start)
    return list(walker.found.values())
