"""Firmware: LOSS, and the loss of a sample; the models are ``losses`` and ``slot`` of ``tenzo_hw.loss``.

What depends on a sample is chosen by SKIP, so that a sample takes the same time whatever its outputs and targets are,
and whether it is a slot's last one.
"""

from __future__ import annotations

from ..config import LOSS_FRACTION, Config
from ..isa import Loss
from ..loss_tables import LOG2_E, TABLE_BITS
from .assembly import Assembly, Condition, Port
from .memory_map import SLOT_WORDS, MainMap, target_base
from .sequencer_firmware import Words, field, flag, with_register
from .tables import EXP2_BASE, LOG2_BASE, POWER_BASE, POWERS

_ONE = 1 << LOSS_FRACTION
_REST_MASK = (1 << TABLE_BITS) - 1
#: The groups are the low bits of the second word.
_GROUPS_MASK = (1 << Loss.FIELDS["groups"].width) - 1
#: Below every output.
_LOWEST = -(1 << 15)
_CORRECT_LIMIT = (1 << 16) - 1
#: The sum of the powers is at most 2^4: so often it may have to be halved to be below 2.
_HALVINGS = 4


def write_loss_setup(a: Assembly, config: Config, words: Words) -> None:
    """LOSS: its fields become words of the scratch memory, and the next loss goes to slot 0."""
    bits = Loss.FIELDS
    a.label("op_loss")
    words(Loss.WORDS)
    a.read()
    a.store("w1")
    a.and_(_GROUPS_MASK)
    a.store("loss_groups")
    a.jump_unless(Condition.NOT_ZERO, "range_fault")
    field(a, bits["outputs"])
    a.store("loss_outputs")
    a.sub(1)
    a.sub(config.outputs)
    a.jump_unless(Condition.NO_CARRY, "range_fault")
    field(a, bits["fraction"])
    a.store("loss_fraction")

    # What is kept of a slot's word: nothing where losses replace it.
    with_register(a, config, Loss, "target")
    a.store("loss_target")
    a.store("target")
    a.load(-1)
    a.skip(Condition.NOT_ZERO)
    a.load(0)
    a.store("loss_kept")
    flag(a, Loss, "accumulate")
    a.load(0)
    a.skip(Condition.NOT_ZERO)
    a.store("loss_kept")

    flag(a, Loss, "kind")
    a.store("loss_kind")
    a.load(0)
    for name in ("loss_group", "loss_slot", "loss_sum"):
        a.store(name)
    a.jump("advance")


def write_loss(a: Assembly, config: Config) -> None:
    """The loss of the outcomes of a contraction, which the last LOSS tells what to do with."""
    if config.output_word > 13:
        raise ValueError(f"outputs of {config.output_word} bits have losses that do not fit a word")
    a.label("loss")
    a.load(0)
    a.store("loss")
    a.store("loss_index")
    a.store("total")
    a.load("loss_kind")
    a.or_(0)
    a.jump_unless(Condition.ZERO, "loss_squared")
    # Outputs are counted from 1 on, as the index is one ahead when it is looked at.
    a.call("loss_next_target")
    a.add(1)
    a.store("label")
    _largest(a)
    _powers(a)
    _logarithm(a)
    _count_correct(a)
    _add_sample(a, config)
    _squared(a)
    _next_target(a, config)


def _next_target(a: Assembly, config: Config) -> None:
    """Subroutine: accumulator: the next target; p: its place."""
    a.label("loss_next_target")
    a.load("target")
    a.and_(config.target_depth - 1)
    a.add(target_base(config))
    a.point_to()
    # What is above the number of a target is cut off the next time.
    a.add(1)
    a.store("target")
    a.input(Port.TARGET)
    a.back()


def _largest(a: Assembly) -> None:
    """The words "twice", twice the largest output, and "place", the number of the first such output, plus 1."""
    a.load(_LOWEST)
    a.store("largest")
    a.count("loss_outputs")
    a.label("loss_largest")
    a.point_next("loss_index")
    a.input(Port.OUTCOME)
    a.store("output")
    a.load("largest")
    a.sub("output")
    a.load("output")
    a.skip(Condition.NOT_NEGATIVE)
    a.store("largest")
    a.load("loss_index")
    a.skip(Condition.NOT_NEGATIVE)
    a.store("place")
    a.loop("loss_largest")
    a.load("largest")
    a.add("largest")
    a.store("twice")


def _interpolate(a: Assembly) -> None:
    """Accumulator: the table's words at and behind p, with the fraction "rest" between them."""
    a.input_next(Port.TABLE)
    a.store("entry")
    a.input(Port.TABLE)
    a.sub("entry")
    # A product is that of the low halves, so that it does not matter that the last entry of LOG2 lacks its top bit.
    a.multiply("rest")
    a.shift(TABLE_BITS)
    a.add_carry("entry")


def _powers(a: Assembly) -> None:
    """The words "total", the sum of 2 to the power of all outputs' exponents, and "loss", the label's exponent."""
    a.load(0)
    a.store("loss_index")
    a.count("loss_outputs")
    a.label("loss_power")
    # The word "below": the exponent of 2 below the largest one's.
    a.point_next("loss_index")
    a.input(Port.OUTCOME)
    a.store("output")
    a.load("twice")
    a.sub("output")
    a.sub("output")
    a.multiply(LOG2_E)
    a.shift("loss_fraction")
    a.add_carry(0)
    a.store("below")

    # A label that is no output is never met.
    a.load("loss_index")
    a.xor("label")
    a.load("below")
    a.skip(Condition.NOT_ZERO)
    a.store("loss")

    # The word "power": 2^-whole as a factor, 0 where no power is left.
    a.shift(LOSS_FRACTION)
    a.sub(POWERS - 1)
    a.skip(Condition.NEGATIVE)
    a.load(0)
    a.add(POWER_BASE + POWERS - 1)
    a.point_to()
    a.input(Port.TABLE)
    a.store("power")

    # Accumulator: 2^-part less its last bit, so that it has 16 bits. The table has what is missing to 1.
    a.load("below")
    a.and_(_REST_MASK)
    a.store("rest")
    a.load("below")
    a.shift(TABLE_BITS)
    a.and_(_REST_MASK)
    if EXP2_BASE:
        a.add(EXP2_BASE)
    a.point_to()
    _interpolate(a)
    a.xor(_ONE - 1)

    # Times the factor and rounded. That of whole = 0 lacks a bit, too: its products, and no others, have the top bit.
    # For them the added half makes the rounding give what is missing: (65535 v + 32768) / 65536 is rounded to v.
    a.multiply("power")
    a.add("power")
    a.skip(Condition.NOT_NEGATIVE)
    a.add(_ONE // 2)
    a.shift(LOSS_FRACTION)
    a.add_carry("total")
    a.store("total")
    a.loop("loss_power")


def _logarithm(a: Assembly) -> None:
    """The word "loss": the total's logarithm is added."""
    a.count(_HALVINGS)
    a.label("loss_halve")
    a.load("total")
    a.shift(1)
    a.store("rest")
    a.sub(_ONE)
    a.load("rest")
    a.skip(Condition.NEGATIVE)
    a.store("total")
    a.load("loss")
    a.skip(Condition.NEGATIVE)
    a.add(_ONE)
    a.store("loss")
    a.loop("loss_halve")
    a.load("total")
    a.and_(_REST_MASK)
    a.store("rest")
    a.load("total")
    a.shift(TABLE_BITS)
    a.add(LOG2_BASE - (_ONE >> TABLE_BITS))
    a.point_to()
    _interpolate(a)
    a.add("loss")
    a.store("loss")


def _count_correct(a: Assembly) -> None:
    """One more right sample if the first largest output is the label's."""
    a.load("label")
    a.xor("place")
    a.load("correct")
    a.skip(Condition.NOT_ZERO)
    a.add(1)
    a.store("correct")
    a.sub(_CORRECT_LIMIT + 1)
    a.load(_CORRECT_LIMIT)
    a.skip(Condition.NOT_ZERO)
    a.store("correct")


def _add_sample(a: Assembly, config: Config) -> None:
    """Adds the sample's loss to its slot's sum, and stores that behind the slot's last sample."""
    # Saturated sums: whatever their order, they end at the limit once they reach it.
    a.label("loss_add")
    a.load("loss_sum")
    a.add("loss")
    a.skip(Condition.NO_CARRY)
    a.load(-1)
    a.store("loss_sum")
    a.load("loss_slot")
    a.multiply(SLOT_WORDS)
    a.add(MainMap.of(config).slots)
    a.point_to()
    a.read()
    a.and_("loss_kept")
    a.add("loss_sum")
    a.skip(Condition.NO_CARRY)
    a.load(-1)
    a.store("loss")

    a.load("loss_group")
    a.add(1)
    a.store("loss_group")
    a.sub("loss_groups")
    a.load("loss")
    a.skip(Condition.NOT_ZERO)
    a.write()
    a.load(0)
    a.skip(Condition.NOT_ZERO)
    a.store("loss_group")
    a.skip(Condition.NOT_ZERO)
    a.store("loss_sum")
    a.load("loss_target")
    a.skip(Condition.NOT_ZERO)
    a.store("target")
    a.load("loss_slot")
    a.skip(Condition.NOT_ZERO)
    a.add(1)
    a.and_(config.losses - 1)
    a.store("loss_slot")
    a.jump("advance")


def _squared(a: Assembly) -> None:
    """The word "loss": the sum of the outputs' squared distances from their targets."""
    a.label("loss_squared")
    a.count("loss_outputs")
    a.label("loss_square")
    a.point_next("loss_index")
    a.input(Port.OUTCOME)
    a.store("output")
    a.call("loss_next_target")
    a.sub("output")
    a.store("output")
    # Products are unsigned: the distance is the difference or its negative.
    a.load(0)
    a.sub("output")
    a.skip(Condition.NEGATIVE)
    a.store("output")
    a.load("output")
    a.multiply("output")
    a.add("loss")
    a.store("loss")
    a.loop("loss_square")
    a.jump("loss_add")
