"""The processor's instructions, and firmware being written: operations on named words, with labels.

Firmware is Python that calls one method an instruction. A word of the scratch memory is named by a string, a constant
by its value: both get their place when they are first used.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

#: Bits of an instruction's operand: a word of the scratch memory, an address of the firmware, or a number.
OPERAND_BITS = 11
#: Words of the firmware, and of the scratch memory.
FIRMWARE_WORDS = 1 << OPERAND_BITS
SCRATCH_WORDS = 256
#: Bits of the accumulator, and of a word of the scratch and the main memory.
WORD_BITS = 32
_WORD_MASK = (1 << WORD_BITS) - 1


class Op(IntEnum):
    """What an instruction does: *s* is the scratch word of its operand, *a* the accumulator, *p* the pointer.

    The flags zero, negative, carry and overflow are those of the last operation of arithmetic; moves leave them.
    """

    JUMP = 0
    """Go to the operand."""
    CALL = 1
    """Go to the operand; RETURN comes back behind the CALL. Calls are not nested."""
    RETURN = 2
    """Go behind the last CALL."""
    DISPATCH = 3
    """Go to a."""
    SKIP = 4
    """If the operand's condition holds, the next instruction takes its time but does nothing."""
    LOOP = 5
    """Count one down; unless the counter is 0 then, go to the operand."""
    WAIT = 6
    """Wait until the operand's event holds."""
    LOAD = 7
    """a = s."""
    AND = 8
    """a = a & s; sets zero and negative, as do all that follow up to SHIFT_CARRY."""
    OR = 9
    """a = a | s."""
    XOR = 10
    """a = a ^ s."""
    ADD = 11
    """a = a + s; sets carry and overflow, too, as do the four that follow."""
    SUB = 12
    """a = a - s; carry: no borrow."""
    ADD_CARRY = 13
    """a = a + s + carry."""
    SUB_CARRY = 14
    """a = a - s - 1 + carry."""
    ADD_SIGNED = 15
    """a = a + s, or a - s where the perturbation generator's sign is -1; goes to the next sign."""
    MULTIPLY = 16
    """a = product of the low halves of a and s, unsigned."""
    SHIFT_SIGNED = 17
    """a = a >> s, 0 to 63; carry: the last bit shifted out, 0 if there is none."""
    SHIFT = 18
    """The same, filled with zeros."""
    SHIFT_CARRY = 19
    """a = a >> 1 with the carry as its top bit, if s is 1."""
    STORE = 20
    """s = a."""
    COUNT = 21
    """Counter = s, 1 to 65536."""
    POINT = 22
    """p = s."""
    POINT_NEXT = 23
    """p = s, then s = s + 1 modulo 2^16."""
    POINT_TO = 24
    """p = a."""
    READ = 25
    """a = main memory at p."""
    READ_NEXT = 26
    """The same, then p = p + 1."""
    WRITE = 27
    """Main memory at p = a."""
    WRITE_NEXT = 28
    """The same, then p = p + 1."""
    INPUT = 29
    """a = what the operand's port says; those of memories are read at p."""
    INPUT_NEXT = 30
    """The same, then p = p + 1."""
    OUTPUT = 31
    """The operand's port takes a."""


class Condition(IntEnum):
    """What SKIP asks for."""

    ZERO = 0
    NOT_ZERO = 1
    NEGATIVE = 2
    NOT_NEGATIVE = 3
    CARRY = 4
    NO_CARRY = 5
    NOT_ABOVE = 6
    """The last sum is not beyond the largest word."""
    NOT_BELOW = 7
    """The last sum is not beyond the smallest word."""


class Event(IntEnum):
    """What WAIT waits for."""

    RUN = 0
    """The host has started a run."""
    ENGINE = 1
    """The engine has written its last result."""
    BATCH = 2
    """A batch half is filled, or the host aborts."""


class Port(IntEnum):
    """What INPUT and OUTPUT reach besides the engine's fields, which have the numbers from ``FIELDS`` on."""

    RUN_PC = 0
    """In: the word at which the run begins. Out: the word of the instruction being carried out."""
    REPEAT = 1
    """In: turns of loops of count 0."""
    STATE = 2
    """In: ``Flag`` bits. Out: the run's end, ``State`` and above it, from bit 2 on, ``Fault``."""
    GENERATOR_LOW = 3
    """In and out: the generator's state."""
    GENERATOR_HIGH = 4
    """Its upper half."""
    COLUMN = 5
    """In: the column of the next sign. Out: it is that of the first column of a row."""
    WEIGHT = 6
    """Out: the effective word at the address that comes with WEIGHT_ADDRESS, which goes on by one."""
    WEIGHT_ADDRESS = 7
    """Out: row and, in the low bits, column of the next effective word."""
    TABLE = 8
    """In: word p of the tables."""
    TARGET = 9
    """In: target p of the current half."""
    OUTCOME = 10
    """In: outcome p of the last contraction."""
    START = 11
    """Out: the engine starts."""
    TAKE = 12
    """Out: the next batch half becomes the current one."""
    STEPS = 13
    """Out: steps of this run."""
    READY = 14
    """Out: the memories are clear, the host may speak."""


#: Number of the engine's first field among the ports.
FIELDS = 64


@dataclass(frozen=True)
class Firmware:
    """What the processor begins with."""

    words: tuple[int, ...]
    """Instructions: operation above ``OPERAND_BITS`` bits of operand."""
    scratch: tuple[int, ...]
    """The scratch memory's words."""
    labels: dict[str, int]
    """Address of each label."""
    names: dict[str, int]
    """Place of each named word."""


class Assembly:
    """Firmware being written; raises ``ValueError`` when it does not fit or a label is missing or there twice."""

    def __init__(self) -> None:
        self._code: list[tuple[Op, int | str]] = []
        self._labels: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._constants: dict[int, int] = {}

    def label(self, name: str) -> None:
        """The next instruction's name."""
        if name in self._labels:
            raise ValueError(f"the label {name!r} is there twice")
        self._labels[name] = len(self._code)

    def _place(self, word: str | int) -> int:
        known: dict[str, int] | dict[int, int]
        known, key = (self._names, word) if isinstance(word, str) else (self._constants, word & _WORD_MASK)
        return known.setdefault(key, len(self._names) + len(self._constants))  # type: ignore[arg-type]

    def emit(self, op: Op, operand: int | str = 0) -> None:
        """An instruction; a label as operand may come later."""
        self._code.append((op, operand))

    def assembled(self) -> Firmware:
        """The words of all that was written."""
        words = []
        for op, operand in self._code:
            if isinstance(operand, str):
                if operand not in self._labels:
                    raise ValueError(f"there is no label {operand!r}")
                operand = self._labels[operand]
            words.append(op << OPERAND_BITS | operand)
        scratch = [0] * (len(self._names) + len(self._constants))
        for value, place in self._constants.items():
            scratch[place] = value
        for what, count, most in (("instructions", len(words), FIRMWARE_WORDS), ("words", len(scratch), SCRATCH_WORDS)):
            if count > most:
                raise ValueError(f"the firmware has {count} {what}; {most} are there")
        return Firmware(tuple(words), tuple(scratch), dict(self._labels), dict(self._names))

    # One method for each operation. ``word``: a name or a constant; a: the accumulator, s: that word, p: the pointer.

    def jump(self, label: str) -> None:
        """Go to the operand."""
        self.emit(Op.JUMP, label)

    def jump_unless(self, condition: Condition, label: str) -> None:
        """Go to the label if the condition does not hold: a SKIP and a JUMP."""
        self.skip(condition)
        self.jump(label)

    def call(self, label: str) -> None:
        """Go to the operand; RETURN comes back behind the CALL. Calls are not nested."""
        self.emit(Op.CALL, label)

    def back(self) -> None:
        """Go behind the last CALL."""
        self.emit(Op.RETURN)

    def dispatch(self) -> None:
        """Go to a."""
        self.emit(Op.DISPATCH)

    def skip(self, condition: Condition) -> None:
        """If the operand's condition holds, the next instruction takes its time but does nothing."""
        self.emit(Op.SKIP, int(condition))

    def loop(self, label: str) -> None:
        """Count one down; unless the counter is 0 then, go to the operand."""
        self.emit(Op.LOOP, label)

    def wait(self, event: Event) -> None:
        """Wait until the operand's event holds."""
        self.emit(Op.WAIT, int(event))

    def load(self, word: str | int) -> None:
        """a = s."""
        self.emit(Op.LOAD, self._place(word))

    def and_(self, word: str | int) -> None:
        """a = a & s; sets zero and negative, as do all that follow up to SHIFT_CARRY."""
        self.emit(Op.AND, self._place(word))

    def or_(self, word: str | int) -> None:
        """a = a | s."""
        self.emit(Op.OR, self._place(word))

    def xor(self, word: str | int) -> None:
        """a = a ^ s."""
        self.emit(Op.XOR, self._place(word))

    def add(self, word: str | int) -> None:
        """a = a + s; sets carry and overflow, too, as do the four that follow."""
        self.emit(Op.ADD, self._place(word))

    def sub(self, word: str | int) -> None:
        """a = a - s; carry: no borrow."""
        self.emit(Op.SUB, self._place(word))

    def add_carry(self, word: str | int) -> None:
        """a = a + s + carry."""
        self.emit(Op.ADD_CARRY, self._place(word))

    def sub_carry(self, word: str | int) -> None:
        """a = a - s - 1 + carry."""
        self.emit(Op.SUB_CARRY, self._place(word))

    def add_signed(self, word: str | int) -> None:
        """a = a + s, or a - s where the perturbation generator's sign is -1; goes to the next sign."""
        self.emit(Op.ADD_SIGNED, self._place(word))

    def multiply(self, word: str | int) -> None:
        """a = product of the low halves of a and s, unsigned."""
        self.emit(Op.MULTIPLY, self._place(word))

    def shift_signed(self, word: str | int) -> None:
        """a = a >> s, 0 to 63; carry: the last bit shifted out, 0 if there is none."""
        self.emit(Op.SHIFT_SIGNED, self._place(word))

    def shift(self, word: str | int) -> None:
        """The same, filled with zeros."""
        self.emit(Op.SHIFT, self._place(word))

    def shift_carry(self) -> None:
        """a = a >> 1 with the carry as its top bit, if s is 1."""
        self.emit(Op.SHIFT_CARRY, self._place(1))

    def store(self, word: str) -> None:
        """s = a."""
        self.emit(Op.STORE, self._place(word))

    def count(self, word: str | int) -> None:
        """Counter = s, 1 to 65536."""
        self.emit(Op.COUNT, self._place(word))

    def point(self, word: str | int) -> None:
        """p = s."""
        self.emit(Op.POINT, self._place(word))

    def point_next(self, word: str) -> None:
        """p = s, then s = s + 1 modulo 2^16."""
        self.emit(Op.POINT_NEXT, self._place(word))

    def point_to(self) -> None:
        """p = a."""
        self.emit(Op.POINT_TO)

    def read(self) -> None:
        """a = main memory at p."""
        self.emit(Op.READ)

    def read_next(self) -> None:
        """The same, then p = p + 1."""
        self.emit(Op.READ_NEXT)

    def write(self) -> None:
        """Main memory at p = a."""
        self.emit(Op.WRITE)

    def write_next(self) -> None:
        """The same, then p = p + 1."""
        self.emit(Op.WRITE_NEXT)

    def input(self, port: int) -> None:
        """a = what the operand's port says; those of memories are read at p."""
        self.emit(Op.INPUT, int(port))

    def input_next(self, port: int) -> None:
        """The same, then p = p + 1."""
        self.emit(Op.INPUT_NEXT, int(port))

    def output(self, port: int) -> None:
        """The operand's port takes a."""
        self.emit(Op.OUTPUT, int(port))
