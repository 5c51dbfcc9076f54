"""Programs: instructions with what each is for, built from counted loops, checked, and readable as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from tenzo_hw.check import check
from tenzo_hw.config import Config
from tenzo_hw.hazards import hazards
from tenzo_hw.isa import Contract, End, Instruction, Loop, Wait, encode
from tenzo_hw.timeline import Timeline, timeline


@dataclass(frozen=True)
class Line:
    """An instruction and what it does, such as ``layer0.core1``."""

    instruction: Instruction
    note: str = ""

    @property
    def part(self) -> str:
        """The part of a step that it belongs to: the first word of the note."""
        return self.note.partition(" ")[0]

    def waiting(self, wait: Wait) -> Line:
        """The same with these units to wait for as well."""
        instruction: Any = self.instruction
        return replace(self, instruction=replace(instruction, wait=instruction.wait | wait))


@dataclass(frozen=True)
class Repeat:
    """A counted loop; a count of 0 is the RUN packet's."""

    count: int
    body: tuple[Line | Repeat, ...]
    note: str = ""


Block = Sequence[Line | Repeat]


def lines(block: Block) -> Iterator[Line]:
    """The block's instructions in the order of program memory."""
    for node in block:
        if isinstance(node, Line):
            yield node
        else:
            yield Line(Loop(count=node.count), node.note)
            yield from lines(node.body)
            yield Line(End())


def split(block: Block) -> tuple[list[Line], list[Line | Repeat]]:
    """A block cut behind its first contraction, which is taken out of the loops around it."""
    head: list[Line] = []
    for place, node in enumerate(block):
        rest = list(block[place + 1 :])
        if isinstance(node, Repeat):
            first, tail = split(node.body)
            if node.count == 2:
                tail += node.body
            elif node.count > 2:
                tail.append(replace(node, count=node.count - 1))
            return head + first, tail + rest
        head.append(node)
        if isinstance(node.instruction, Contract):
            return head, rest
    return head, []


@dataclass(frozen=True)
class Program:
    """A program that a machine can run: every read waits for what it reads."""

    config: Config
    lines: tuple[Line, ...]

    @classmethod
    def build(cls, block: Block, config: Config) -> Program:
        """The program of this block, with the waits that it needs.

        Raises ``ValueError`` when the machine would refuse it, as when it is longer than the program memory.
        """
        listed = list(lines(block))
        check([line.instruction for line in listed], config, repeat=2)
        # A wait moves all that follows in time, so that another one can be missing then: each turn adds at least one.
        while found := hazards([line.instruction for line in listed], config, repeat=2):
            if not all(hazard.wait for hazard in found):
                raise ValueError("; ".join(str(hazard) for hazard in found if not hazard.wait))
            for hazard in found:
                listed[hazard.reader] = listed[hazard.reader].waiting(hazard.wait)
        return cls(config, tuple(listed))

    @property
    def instructions(self) -> list[Instruction]:
        """The instructions in the order of program memory."""
        return [line.instruction for line in self.lines]

    @property
    def words(self) -> list[int]:
        """The words of program memory."""
        return encode(self.instructions)

    def timeline(self, repeat: int = 1) -> Timeline:
        """The exact time of a run whose loops of count 0 turn ``repeat`` times."""
        return timeline(self.instructions, self.config, repeat=repeat)

    def listing(self) -> str:
        """The program as text: word address, cycles of an issue, instruction, what it does; loops are indented."""
        uses = self.timeline().uses
        address, depth, text = 0, 0, []
        for line, use in zip(self.lines, uses, strict=True):
            instruction = line.instruction
            depth -= isinstance(instruction, End)
            cycles = str(use.busy // use.count) if use.busy else ""
            said = "  " * depth + describe(instruction)
            text.append(f"{address:5} {cycles:>7}  {said:<76} {line.note}".rstrip())
            depth += isinstance(instruction, Loop)
            address += instruction.WORDS
        return "\n".join(text)


def describe(instruction: Any) -> str:
    """An instruction in one line: its name and the fields that differ from their defaults."""
    said = [type(instruction).__name__.upper()]
    if isinstance(instruction, Contract):
        said.append(_describe_contract(instruction))
    else:
        for item in fields(instruction):
            value = getattr(instruction, item.name)
            if item.name != "wait" and value != item.default:
                said.append(item.name if value is True else f"{item.name}={_plain(value)}")
    wait = getattr(instruction, "wait", Wait.NONE)
    return " ".join(said + ([f"wait {'|'.join(str(unit.name) for unit in wait)}"] if wait else []))


def _plain(value: object) -> str:
    return str(getattr(value, "name", value))


def _describe_contract(contract: Contract) -> str:
    turns = "x".join(str(level.count) for level in reversed(contract.levels[2:]) if level.count > 1) or "1"
    columns = f"{contract.cols}" if contract.cols == contract.last_cols else f"{contract.cols}/{contract.last_cols}"

    def address(stream: str) -> str:
        base, register = getattr(contract, f"{stream}_base"), getattr(contract, f"{stream}_register")
        return f"{base}+r{register}" if register else f"{base}"

    source = ("batch " if contract.from_batch else "lane ") + address("a")
    target = "loss" if contract.to_loss else "lane " + address("o")
    said = [f"{turns} tiles {columns} <- {contract.reduction} {source} -> {target}, rows {address('w')}"]
    said += [f"bias {address('b')}"] if contract.bias else []
    said += [_plain(contract.activation)] if contract.activation else []
    return " ".join(said)
