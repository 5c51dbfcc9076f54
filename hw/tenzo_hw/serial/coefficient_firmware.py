"""Firmware: COEFFICIENT, from the losses to a coefficient a query; the model is ``coefficients``.

What depends on losses is chosen by SKIP, and a shift of n bits is n turns of a loop behind as many as n is short of the
longest one, so that the instruction takes the same time whatever the losses are.
"""

from __future__ import annotations

from ..coefficient import PRODUCT_SHIFT
from ..config import COEFFICIENT_FRACTION, Config
from ..isa import Coefficient
from ..protocol import Register
from .assembly import WORD_BITS, Assembly, Condition, Port
from .memory_map import HISTORY_WORDS, SLOT_WORDS, MainMap
from .sequencer_firmware import Words, field, flag

_BITS = Coefficient.FIELDS
_HALF_BITS = WORD_BITS // 2
_MOST = (1 << (WORD_BITS - 1)) - 1
#: Bits that a difference is shifted left before it is shifted right, and how many of those belong to no coefficient.
_WIDER = _HALF_BITS
_LEAST_TURNS = _WIDER - COEFFICIENT_FRACTION
#: One more than the turns of the largest scale.
_TURNS = WORD_BITS + _LEAST_TURNS


def write_coefficient(a: Assembly, config: Config, words: Words) -> None:
    """COEFFICIENT: its checks, the scale, the coefficients, and the step's end."""
    place = MainMap.of(config)
    a.label("op_coefficient")
    words(Coefficient.WORDS)
    _fields(a, config)
    _sum_losses(a, place)
    # Without a scale the shift is that of the instruction.
    field(a, _BITS["shift"])
    a.store("shift")
    a.add(_LEAST_TURNS)
    a.store("turns")
    a.load(1)
    a.store("spare")
    flag(a, Coefficient, "normalise")
    a.skip(Condition.NOT_ZERO)
    a.jump("coefficient_queries")
    _sum_differences(a)
    _scale(a, place)
    _exponent(a)
    _queries(a, place)
    _end_step(a, config, place)
    _difference(a)
    _begin(a, place)
    _shift(a)


def _fields(a: Assembly, config: Config) -> None:
    """The words "queries", "clip" and "used", the slots that are looked at."""
    a.read()
    a.store("w1")
    field(a, _BITS["queries"])
    a.store("queries")
    a.skip(Condition.NOT_ZERO)
    a.jump("range_fault")
    flag(a, Coefficient, "two_sided")
    a.load(1)
    a.skip(Condition.ZERO)
    a.load("queries")
    a.add("queries")
    a.store("used")
    a.load(config.losses)
    a.sub("used")
    a.skip(Condition.CARRY)
    a.jump("range_fault")
    field(a, _BITS["clip"])
    a.store("clip")


def _sum_losses(a: Assembly, place: MainMap) -> None:
    """The word "loss": the sum of the slots, saturated."""
    a.load(0)
    a.store("loss")
    a.count("used")
    a.point(place.slots)
    a.label("coefficient_sum")
    a.read_next()
    a.add("loss")
    a.skip(Condition.NO_CARRY)
    a.load(-1)
    a.store("loss")
    for _ in range(SLOT_WORDS - 1):
        a.read_next()
    a.loop("coefficient_sum")


def _sum_differences(a: Assembly) -> None:
    """The word "total": the sum of the magnitudes of all differences, saturated."""
    a.load(0)
    a.store("total")
    a.call("coefficient_begin")
    a.count("queries")
    a.label("coefficient_total")
    a.call("coefficient_difference")
    a.load("low")
    a.xor("high")
    a.sub("high")
    a.add("total")
    a.skip(Condition.NO_CARRY)
    a.load(-1)
    a.store("total")
    a.loop("coefficient_total")


def _scale(a: Assembly, place: MainMap) -> None:
    """The word "scale" and the register: a share of the way to the total, or the total where it was 0."""
    field(a, _BITS["average"])
    a.add(_WIDER)
    a.store("left")
    a.point(place.registers + Register.SCALE_LOW)
    a.read()
    a.store("scale")
    a.load("total")
    a.sub("scale")
    _store_difference(a)
    a.count("left")
    a.call("coefficient_shift")
    a.load("bottom")
    a.add("scale")
    a.store("bottom")
    a.load("scale")
    a.or_(0)
    a.load("bottom")
    a.skip(Condition.NOT_ZERO)
    a.load("total")
    a.store("scale")
    a.write()


def _exponent(a: Assembly) -> None:
    """The words "turns", the place of the scale's highest 1 less the shift, and "spare", what is left to the longest."""
    a.load(_LEAST_TURNS - 1)
    a.sub("shift")
    a.store("turns")
    a.count(WORD_BITS)
    a.label("coefficient_place")
    # The sum has a carry unless the scale is 0.
    a.load("scale")
    a.add(-1)
    a.load("turns")
    a.add_carry(0)
    a.store("turns")
    a.load("scale")
    a.shift(1)
    a.store("scale")
    a.loop("coefficient_place")
    a.load("turns")
    a.sub(_LEAST_TURNS)
    a.skip(Condition.NOT_NEGATIVE)
    a.load(0)
    a.add(_LEAST_TURNS)
    a.store("turns")
    a.load(_TURNS)
    a.sub("turns")
    a.store("spare")


def _queries(a: Assembly, place: MainMap) -> None:
    """The coefficient of every query."""
    a.label("coefficient_queries")
    a.call("coefficient_begin")
    a.load(place.coefficients)
    a.store("place")
    a.point(place.registers + Register.RATE)
    a.read()
    a.store("rate")
    a.label("coefficient_query")
    # What is spare is shifted before there is anything to shift.
    a.count("spare")
    a.call("coefficient_turns")
    a.call("coefficient_difference")
    a.count("turns")
    a.call("coefficient_shift")
    _ratio(a)
    _coefficient(a)
    a.point_next("place")
    a.write()
    a.load("left")
    a.sub(1)
    a.store("left")
    a.skip(Condition.ZERO)
    a.jump("coefficient_query")


def _ratio(a: Assembly) -> None:
    """The word "bottom": the magnitude of the ratio, clipped; its sign is that of the difference."""
    a.load("bottom")
    a.add_carry(0)
    a.store("bottom")
    a.load("top")
    a.add_carry(0)
    a.store("top")
    a.load("bottom")
    a.xor("high")
    a.sub("high")
    a.store("bottom")
    # The carry goes on through the exclusive or.
    a.load("top")
    a.xor("high")
    a.sub_carry("high")
    a.store("top")
    a.load("clip")
    a.sub("bottom")
    a.load(0)
    a.sub_carry("top")
    a.load("clip")
    a.skip(Condition.CARRY)
    a.store("bottom")


def _coefficient(a: Assembly) -> None:
    """Accumulator: ratio times rate, rounded half up, which is down for the magnitude of a negative one; saturated."""
    a.load("rate")
    a.shift(_HALF_BITS)
    a.multiply("bottom")
    a.store("top")
    a.load("rate")
    a.multiply("bottom")
    a.add(1 << (PRODUCT_SHIFT - 1))
    a.add("high")
    a.shift(PRODUCT_SHIFT)
    a.add("top")
    a.store("top")
    a.load(_MOST)
    a.sub("high")
    a.store("bottom")
    a.sub("top")
    a.load("top")
    a.skip(Condition.CARRY)
    a.load("bottom")
    a.xor("high")
    a.sub("high")


def _end_step(a: Assembly, config: Config, place: MainMap) -> None:
    """The next rate, and the step's entry in the history."""
    a.point(place.registers + Register.RATE_STEP)
    a.read()
    a.store("low")
    a.load("rate")
    a.sub("low")
    a.skip(Condition.CARRY)
    a.load(0)
    a.point(place.registers + Register.RATE)
    a.write()
    a.load("steps")
    a.and_(config.history - 1)
    a.multiply(HISTORY_WORDS)
    a.add(place.history)
    a.point_to()
    a.load("loss")
    a.write_next()
    a.load(0)
    a.write_next()
    a.load("correct")
    a.write_next()
    a.load(0)
    a.write()
    a.store("correct")
    a.store("coefficient_index")
    a.load("steps")
    a.add(1)
    a.store("steps")
    a.output(Port.STEPS)
    a.jump("advance")


def _store_difference(a: Assembly) -> None:
    """The words "low" and "high": the difference of two losses, which the accumulator and the carry hold."""
    a.store("low")
    a.load(0)
    a.sub_carry(0)
    a.store("high")


def _begin(a: Assembly, place: MainMap) -> None:
    """Subroutine: the first query is next; "left" queries, from the slot at "slot" on, less "base" if one-sided."""
    a.label("coefficient_begin")
    a.load("queries")
    a.store("left")
    a.load(place.slots)
    a.store("slot")
    flag(a, Coefficient, "two_sided")
    a.skip(Condition.ZERO)
    a.back()
    a.point_next("slot")
    a.read()
    a.store("base")
    a.point_next("slot")
    a.back()


def _difference(a: Assembly) -> None:
    """Subroutine: the difference of the next query's losses."""
    a.label("coefficient_difference")
    a.point_next("slot")
    a.read()
    a.store("low")
    a.point_next("slot")
    flag(a, Coefficient, "two_sided")
    a.skip(Condition.NOT_ZERO)
    a.jump("coefficient_against_base")
    a.point_next("slot")
    a.read()
    a.store("base")
    a.point_next("slot")
    a.label("coefficient_against_base")
    a.load("low")
    a.sub("base")
    _store_difference(a)
    a.back()


def _shift(a: Assembly) -> None:
    """Subroutine: "top" and "bottom" are the difference times 2^16, shifted right by a bit in each of the counted turns.

    The carry is the last bit that was shifted out.
    """
    a.label("coefficient_shift")
    a.load("low")
    a.multiply(1 << (_HALF_BITS - 1))
    a.store("bottom")
    a.add("bottom")
    a.store("bottom")
    a.load("low")
    a.shift(_HALF_BITS)
    a.store("top")
    a.load("high")
    a.and_(-1 << _HALF_BITS)
    a.or_("top")
    a.store("top")
    a.label("coefficient_turns")
    a.load("top")
    a.shift_signed(1)
    a.store("top")
    a.load("bottom")
    a.shift_carry()
    a.store("bottom")
    a.loop("coefficient_turns")
    a.back()
