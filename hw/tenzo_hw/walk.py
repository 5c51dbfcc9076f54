"""The order in which a program's instructions are issued, with long loops cut short once they repeat exactly."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .config import LOOP_DEPTH
from .isa import End, Halt, Instruction, Loop


class Walker(Protocol):
    """What visits the instructions of a program in the order of their issue."""

    def visit(self, index: int) -> None:
        """Instruction ``index`` is issued."""
        ...

    def key(self) -> Hashable:
        """Everything that decides what later visits do. Turns of a loop that begin with equal keys do the same."""
        ...

    def mark(self) -> Any:
        """The totals so far."""
        ...

    def skip(self, mark: Any, times: int) -> None:
        """What happened since ``mark`` happens ``times`` times more."""
        ...


@dataclass(frozen=True)
class _Loop:
    index: int
    body: tuple[int | _Loop, ...]
    end: int | None
    """None: a HALT in the body ends the run within the first turn."""


def _parse(program: Sequence[Instruction], start: int) -> tuple[int | _Loop, ...]:
    """The instructions from ``start`` to the HALT that ends the run, loops as trees."""
    open_loops: list[int] = []
    bodies: list[list[int | _Loop]] = [[]]
    for index in range(start, len(program)):
        instruction = program[index]
        if isinstance(instruction, Loop):
            if len(open_loops) == LOOP_DEPTH:
                raise ValueError(f"instruction {index}: a Loop inside {LOOP_DEPTH} others; {LOOP_DEPTH} are allowed")
            open_loops.append(index)
            bodies.append([])
        elif isinstance(instruction, End):
            if not open_loops:
                raise ValueError(f"instruction {index}: an End without a Loop before it; remove it")
            body = tuple(bodies.pop())
            bodies[-1].append(_Loop(open_loops.pop(), body, index))
        else:
            bodies[-1].append(index)
        if isinstance(instruction, Halt):
            while open_loops:
                body = tuple(bodies.pop())
                bodies[-1].append(_Loop(open_loops.pop(), body, None))
            return tuple(bodies[0])
    raise ValueError(
        f"the program has no Halt after instruction {start}: {len(program)} instructions are given; add one"
    )


def walk(program: Sequence[Instruction], walker: Walker, *, repeat: int = 1, start: int = 0) -> None:
    """Shows ``walker`` every instruction from ``start`` to the HALT in the order of issue.

    ``repeat`` is the count of loops whose own is 0. A loop is left early once a turn begins with the key of an earlier
    turn (Brent's method: the turns 0, 1, 2, 4, 8 ... are remembered); whole periods are then given to ``skip``.
    Raises ``ValueError`` when loops are nested wrongly or no HALT is reached.
    """

    def block(nodes: tuple[int | _Loop, ...]) -> None:
        for node in nodes:
            if isinstance(node, int):
                walker.visit(node)
            else:
                loop(node)

    def loop(node: _Loop) -> None:
        walker.visit(node.index)
        if node.end is None:
            block(node.body)
            return
        instruction = program[node.index]
        assert isinstance(instruction, Loop)
        count = instruction.count or repeat
        if count < 1:
            raise ValueError(f"instruction {node.index}: a loop of {count} turns; 1 or more are allowed")
        known: Hashable = None
        known_turn = 0
        known_mark = None
        turn = 0
        while turn < count:
            if count > 2:
                key = walker.key()
                if known is not None and key == known:
                    times, _ = divmod(count - turn, turn - known_turn)
                    if times:
                        walker.skip(known_mark, times)
                        turn += times * (turn - known_turn)
                        continue
                elif turn & (turn - 1) == 0:
                    known, known_turn, known_mark = key, turn, walker.mark()
            block(node.body)
            walker.visit(node.end)
            turn += 1

    block(_parse(program, start))
