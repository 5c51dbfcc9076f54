"""Firmware: CONTRACT, which the engine carries out."""

from __future__ import annotations

from ..config import OUTER_LEVELS, REDUCTION_LEVELS, Config
from ..isa import Activation, Base, Contract, Operand
from ..registers import SUMS
from .assembly import FIELDS, Assembly, Condition, Event, Port
from .fields import Field
from .memory_map import MainMap
from .sequencer_firmware import ENGINE_BAD, ENGINE_FAULT, Words, field, flag

_BITS = Contract.FIELDS
#: The engine's fields of the base addresses.
_BASES = {"w_base": Field.WEIGHT, "o_base": Field.OUTPUT, "a_base": Field.ACTIVATION, "b_base": Field.BIAS}


def _mask(name: str, value: int | None = None) -> int:
    """Bits of a field in its word: all of them, or those of a value."""
    bits = _BITS[name]
    return ((1 << bits.width) - 1 if value is None else value) << bits.low


def write_contract(a: Assembly, config: Config, words: Words) -> None:
    """CONTRACT: its words go to the engine, its checks, its addresses; then the engine works, and the loss, if any."""
    a.label("op_contract")
    words(Contract.WORDS)
    a.load("w0")
    a.output(FIELDS + Field.CONTROL)
    for number, name in ((1, Field.COLUMNS), (2, Field.OPERAND)):
        a.read_next()
        a.store(f"w{number}")
        a.output(FIELDS + name)
    for number in (3, 4):
        a.read_next()
        a.store(f"w{number}")
    for level in range(REDUCTION_LEVELS + OUTER_LEVELS):
        for name in (Field.COUNT_A, Field.W_O) if level < REDUCTION_LEVELS else (Field.COUNT_A, Field.W_O, Field.B):
            a.read_next()
            a.output(FIELDS + name + level)

    # What the engine itself finds wrong: counts, and a bias address that moves with the reduction.
    a.input(Port.STATE)
    a.and_(ENGINE_BAD)
    a.jump_unless(Condition.ZERO, "range_fault")
    field(a, _BITS["activation"])
    a.sub(Activation.TABLE0 + config.tables)
    a.jump_unless(Condition.NEGATIVE, "range_fault")
    field(a, _BITS["cols"])
    a.store("field")
    a.sub(config.columns + 1)
    a.jump_unless(Condition.NEGATIVE, "range_fault")
    field(a, _BITS["last_cols"])
    a.or_(0)
    a.jump_unless(Condition.NOT_ZERO, "range_fault")
    a.sub("field")
    a.sub(1)
    a.jump_unless(Condition.NEGATIVE, "range_fault")
    # Operands but WORD and RELU, which have other bits, and bases.
    a.load("w2")
    a.and_(_mask("operand") & ~_mask("operand", Operand.RELU) | _mask("base"))
    a.jump_unless(Condition.ZERO, "range_fault")
    a.load("w2")
    a.shift(_BITS["operand"].low + int(Operand.RELU).bit_length() - 1 - _BITS["from_batch"].low)
    a.and_("w0")
    a.and_(_mask("from_batch"))
    a.jump_unless(Condition.ZERO, "range_fault")
    assert (Operand.WORD, Operand.RELU, Base.NONE) == (0, 4, 0)

    for base, name in _BASES.items():
        field(a, _BITS[SUMS[Contract][base]])
        a.add(MainMap.of(config).addresses)
        a.point_to()
        # The engine takes 16 bits: what is above does not matter.
        a.load(f"w{_BITS[base].word}")
        if _BITS[base].low:
            a.shift(_BITS[base].low)
        a.store("field")
        a.read()
        a.add("field")
        if name in (Field.ACTIVATION, Field.OUTPUT):
            # These are taken from the high half.
            a.multiply(1 << 15)
            a.store("field")
            a.add("field")
        a.output(FIELDS + name)
    a.output(Port.START)
    a.wait(Event.ENGINE)
    a.input(Port.STATE)
    a.and_(ENGINE_FAULT)
    a.jump_unless(Condition.ZERO, "address_fault")
    flag(a, Contract, "to_loss")
    a.jump_unless(Condition.ZERO, "loss")
    a.jump("advance")
