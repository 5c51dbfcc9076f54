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
    field(a, bits["outputs"])
    a.store("loss_outputs")
    a.sub(1)
    a.sub(config.outputs)
    a.skip(Condition.NO_CARRY)
    a.jump("range_fault")
    field(a, bits["groups"])
    a.store("loss_groups")
    a.skip(Condition.NOT_ZERO)
    a.jump("range_fault")
    field(a, bits["fraction"])
    a.store("loss_fraction")

    # What is kept of a slot's word: nothing where losses replace it.
    with_register(a, config, Loss, "target", "target_register")
    a.store("loss_target")
    a.load(-1)
    a.skip(Condition.NOT_ZERO)
    a.load(0)
    a.store("loss_kept")
    flag(a, Loss, "accumulate")
    a.load(0)
    a.skip(Condition.NOT_ZERO)
    a.store("loss_kept")

    # Targets of a sample.
    flag(a, Loss, "kind")
    a.store("loss_kind")
    a.load(1)
    a.skip(Condition.ZERO)
    a.load("loss_outputs")
    a.store("loss_stride")
    a.load(0)
    for name in ("loss_group", "loss_slot", "loss_sum"):
        a.store(name)
    a.jump("advance")


def write_loss(a: Assembly, config: Config) -> None:
    """The loss of the outcomes of a contraction, which the last LOSS tells what to do with."""
    if config.output_word > 13:
        raise ValueError(f"outputs of {config.output_word} bits have losses that do not fit a word")
    a.label("loss")
    a.load("loss_group")
    a.multiply("loss_stride")
    a.add("loss_target")
    _wrap_target(a, config)
    a.load(0)
    a.store("loss")
    a.store("loss_index")
    a.load("loss_kind")
    a.or_(0)
    a.skip(Condition.ZERO)
    a.jump("loss_squared")
    _largest(a)
    _powers(a)
    _logarithm(a)
    _label(a)
    _count_correct(a)
    _add_sample(a, config)
    _squared(a, config)


def _wrap_target(a: Assembly, config: Config) -> None:
    """The word "target": the place of the target whose number the accumulator holds."""
    a.and_(config.target_depth - 1)
    a.add(target_base(config))
    a.store("target")


def _largest(a: Assembly) -> None:
    """The words "twice", twice the largest output, and "place", one more than the number of the first such output."""
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


def _below(a: Assembly) -> None:
    """Accumulator and word "below": the exponent of 2 of the output at p below the largest one's."""
    a.input(Port.OUTCOME)
    a.store("output")
    a.load("twice")
    a.sub("output")
    a.sub("output")
    a.multiply(LOG2_E)
    a.shift("loss_fraction")
    a.add_carry(0)
    a.store("below")


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
    """The word "total": the sum of all outputs' powers of 2, relative to the largest one."""
    a.load(0)
    a.store("total")
    a.store("loss_index")
    a.count("loss_outputs")
    a.label("loss_power")
    a.point_next("loss_index")
    _below(a)

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
    """The word "loss": the total's logarithm."""
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


def _label(a: Assembly) -> None:
    """Adds the label's exponent to the loss, if it is an output."""
    a.point("target")
    a.input(Port.TARGET)
    a.store("label")
    a.point_to()
    _below(a)
    a.load("label")
    a.sub("loss_outputs")
    a.load("below")
    a.skip(Condition.NO_CARRY)
    a.load(0)
    a.add("loss")
    a.store("loss")


def _count_correct(a: Assembly) -> None:
    """One more right sample if the first largest output is the label's."""
    a.load("label")
    a.add(1)
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
    a.load("loss_slot")
    a.skip(Condition.NOT_ZERO)
    a.add(1)
    a.and_(config.losses - 1)
    a.store("loss_slot")
    a.jump("advance")


def _squared(a: Assembly, config: Config) -> None:
    """The word "loss": the sum of the outputs' squared distances from their targets."""
    a.label("loss_squared")
    a.count("loss_outputs")
    a.label("loss_square")
    a.point_next("loss_index")
    a.input(Port.OUTCOME)
    a.store("output")
    a.point_next("target")
    a.input(Port.TARGET)
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
    a.load("target")
    _wrap_target(a, config)
    a.loop("loss_square")
    a.jump("loss_add")
