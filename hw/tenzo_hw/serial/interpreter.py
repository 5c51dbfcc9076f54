"""The processor's exact model: what its firmware does, and in how many cycles."""

from __future__ import annotations

from typing import Protocol

from .assembly import OPERAND_BITS, SCRATCH_WORDS, WORD_BITS, Condition, Firmware, Op

#: Cycles of an instruction: its word and its operand are read, it is carried out.
CYCLES = 2
#: Bits that a long shift moves in a cycle.
LONG_SHIFT = 8
#: Bits of a shift's length.
SHIFT_BITS = 6
_MASK = (1 << WORD_BITS) - 1
_SIGN = 1 << (WORD_BITS - 1)
_HALF_MASK = 0xFFFF
_OPERAND_MASK = (1 << OPERAND_BITS) - 1


def shift_cycles(length: int) -> int:
    """Cycles of a shift beyond those of any instruction."""
    return 1 + length // LONG_SHIFT + length % LONG_SHIFT


class Surroundings(Protocol):
    """What the processor is connected to; words are unsigned numbers of ``WORD_BITS`` bits."""

    def read(self, address: int) -> int:
        """A word of the main memory."""
        ...

    def write(self, address: int, value: int) -> None:
        """Writes a word of the main memory."""
        ...

    def input(self, port: int, pointer: int) -> int:
        """What a port says."""
        ...

    def output(self, port: int, value: int) -> None:
        """A port takes a word."""
        ...

    def sign(self) -> bool:
        """Whether the next sign is -1."""
        ...

    def wait(self, event: int) -> int:
        """Cycles until an event holds."""
        ...


class Interpreter:
    """The processor's registers; ``run`` goes on until a label is reached."""

    def __init__(self, firmware: Firmware, surroundings: Surroundings) -> None:
        self._firmware = firmware
        self._surroundings = surroundings
        self._ends: dict[int, str] = {}
        self.scratch = list(firmware.scratch) + [0] * (SCRATCH_WORDS - len(firmware.scratch))
        self.pc = 0
        self.cycles = 0
        self.accumulator = 0
        self.pointer = 0
        self.counter = 0
        self._link = 0
        self._annulled = False
        self._zero = self._negative = self._carry = self._overflow = False

    def word(self, name: str) -> int:
        """A named word of the scratch memory."""
        return self.scratch[self._firmware.names[name]]

    def set(self, name: str, value: int) -> None:
        """Sets a named word of the scratch memory."""
        self.scratch[self._firmware.names[name]] = value & _MASK

    def run(self, start: str, *ends: str) -> str:
        """Goes on from label ``start`` until one of ``ends`` is next; returns which. ``cycles`` adds up."""
        labels = self._firmware.labels
        stops = {labels[end]: end for end in ends}
        self.pc = labels[start]
        while True:
            self.step()
            if self.pc in stops:
                return stops[self.pc]

    def step(self) -> None:
        """One instruction."""
        word = self._firmware.words[self.pc]
        op, operand = word >> OPERAND_BITS, word & _OPERAND_MASK
        self.pc += 1
        self.cycles += CYCLES
        other = self.scratch[operand % SCRATCH_WORDS]
        is_shift = op in (Op.SHIFT, Op.SHIFT_SIGNED, Op.SHIFT_CARRY)
        if is_shift:
            self.cycles += shift_cycles(other % (1 << SHIFT_BITS))
        if self._annulled:
            self._annulled = False
        elif is_shift:
            self._shift(op, other % (1 << SHIFT_BITS))
        elif Op.AND <= op <= Op.MULTIPLY:
            self._arithmetic(op, other)
        else:
            self._other(op, operand, other)

    def _shift(self, op: int, length: int) -> None:
        value = self.accumulator
        if op == Op.SHIFT_SIGNED and value & _SIGN:
            value -= 1 << WORD_BITS
        elif op == Op.SHIFT_CARRY:
            value |= self._carry << WORD_BITS
        self._carry = bool(length and value >> (length - 1) & 1)
        self._result(value >> length)

    def _arithmetic(self, op: int, other: int) -> None:
        value = self.accumulator
        if op == Op.AND:
            self._result(value & other)
        elif op == Op.OR:
            self._result(value | other)
        elif op == Op.XOR:
            self._result(value ^ other)
        elif op == Op.MULTIPLY:
            self._result((value & _HALF_MASK) * (other & _HALF_MASK))
        else:
            subtracts = op in (Op.SUB, Op.SUB_CARRY)
            if op == Op.ADD_SIGNED:
                subtracts = self._surroundings.sign()
            carry = self._carry if op in (Op.ADD_CARRY, Op.SUB_CARRY) else subtracts
            added = other ^ _MASK if subtracts else other
            total = value + added + carry
            self._carry = bool(total >> WORD_BITS)
            self._overflow = bool((value ^ total) & (added ^ total) & _SIGN)
            self._result(total)

    def _result(self, value: int) -> None:
        self.accumulator = value & _MASK
        self._zero = self.accumulator == 0
        self._negative = bool(self.accumulator & _SIGN)

    def _holds(self, condition: int) -> bool:
        return {
            Condition.ZERO: self._zero,
            Condition.NOT_ZERO: not self._zero,
            Condition.NEGATIVE: self._negative,
            Condition.NOT_NEGATIVE: not self._negative,
            Condition.CARRY: self._carry,
            Condition.NO_CARRY: not self._carry,
            Condition.NOT_ABOVE: not (self._overflow and self._negative),
            Condition.NOT_BELOW: not (self._overflow and not self._negative),
        }[Condition(condition)]

    def _other(self, op: int, operand: int, other: int) -> None:
        surroundings = self._surroundings
        if op == Op.LOAD:
            self.accumulator = other
        elif op == Op.STORE:
            self.scratch[operand] = self.accumulator
        elif op == Op.SKIP:
            self._annulled = self._holds(operand)
        elif op == Op.JUMP:
            self.pc = operand
        elif op == Op.CALL:
            self._link, self.pc = self.pc, operand
        elif op == Op.RETURN:
            self.pc = self._link
        elif op == Op.DISPATCH:
            self.pc = self.accumulator & _OPERAND_MASK
        elif op == Op.LOOP:
            self.counter = self.counter - 1 & _HALF_MASK
            if self.counter:
                self.pc = operand
        elif op == Op.WAIT:
            self.cycles += surroundings.wait(operand)
        elif op == Op.COUNT:
            self.counter = other & _HALF_MASK
        elif op in (Op.POINT, Op.POINT_NEXT):
            self.pointer = other & _HALF_MASK
            if op == Op.POINT_NEXT:
                self.scratch[operand] = other + 1 & _HALF_MASK
        elif op == Op.POINT_TO:
            self.pointer = self.accumulator & _HALF_MASK
        elif op in (Op.READ, Op.READ_NEXT):
            self.accumulator = surroundings.read(self.pointer)
        elif op in (Op.WRITE, Op.WRITE_NEXT):
            surroundings.write(self.pointer, self.accumulator)
        elif op in (Op.INPUT, Op.INPUT_NEXT):
            self.accumulator = surroundings.input(operand, self.pointer) & _MASK
        elif op == Op.OUTPUT:
            surroundings.output(operand, self.accumulator)
        if op in (Op.READ_NEXT, Op.WRITE_NEXT, Op.INPUT_NEXT):
            self.pointer = self.pointer + 1 & _HALF_MASK
