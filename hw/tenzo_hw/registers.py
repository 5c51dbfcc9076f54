"""The sequencer's address registers: what a program adds to the addresses of its instructions."""

from __future__ import annotations

from .config import ADDRESS_REGISTERS
from .isa import Add, Contract, Gather, Instruction, Loss, Set, Sweep

#: Addresses are 16-bit numbers.
ADDRESS_BITS = 16
#: The fields that have an address register added to them, each with the field that chooses the register.
SUMS: dict[type[Instruction], dict[str, str]] = {
    Contract: {"w_base": "w_register", "o_base": "o_register", "a_base": "a_register", "b_base": "b_register"},
    Sweep: {"row": "row_register", "column": "column_register"},
    Loss: {"target": "target_register"},
    Gather: {"address": "address_register", "row": "row_register"},
}


class AddressRegisters:
    """Their values while a program runs, 0 at RUN; register 0 stays 0."""

    def __init__(self) -> None:
        self._values = [0] * ADDRESS_REGISTERS

    @property
    def values(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(self._values)

    def change(self, instruction: Set | Add) -> None:
        """What the instruction does at its issue."""
        if instruction.register:
            base = self._values[instruction.register] if isinstance(instruction, Add) else 0
            self._values[instruction.register] = (base + instruction.value) % (1 << ADDRESS_BITS)

    def total(self, instruction: Instruction, name: str) -> int:
        """Field ``name`` of an instruction with its register added."""
        register = self._values[getattr(instruction, SUMS[type(instruction)][name])]
        return (getattr(instruction, name) + register) % (1 << ADDRESS_BITS)

    def totals(self, instruction: Instruction) -> dict[str, int]:
        """All fields of an instruction that have a register added, with it."""
        return {name: self.total(instruction, name) for name in SUMS.get(type(instruction), ())}
