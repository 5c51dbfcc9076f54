"""Firmware: COEFFICIENT, from the losses to a coefficient a query; the model is ``coefficients``.

What depends on losses is chosen by SKIP, and a shift goes with one of as many bits as are left to 63, so that the
instruction takes the same time whatever the losses are.

A difference d of two losses has 33 bits. It is kept as its sign, 0 or -1, and d exclusive or the sign: that is d, or
-1 - d if d is negative, and has 32 bits. Shifted right and rounded half up, the latter gives the magnitude of d shifted
right and rounded half up, if it is shifted by a bit or more.
"""

from __future__ import annotations

from ..config import COEFFICIENT_FRACTION, PRODUCT_SHIFT, Config
from ..isa import Coefficient
from ..numbers import bounds
from ..protocol import Register
from .assembly import WORD_BITS, Assembly, Condition, Port
from .interpreter import SHIFT_BITS
from .memory_map import HISTORY_WORDS, SLOT_WORDS, MainMap
from .sequencer_firmware import Words, field, flag
from .tables import BITS, POWER_BASE

_BITS = Coefficient.FIELDS
_HALF_BITS = WORD_BITS // 2
_HALF_MASK = (1 << _HALF_BITS) - 1
_, _MOST = bounds(WORD_BITS)
#: The longest shift. A shift by n and one by as many less take the same time together, whatever n is.
_LONGEST = (1 << SHIFT_BITS) - 1


def write_coefficient(a: Assembly, config: Config, words: Words) -> None:
    """COEFFICIENT: its checks, the scale, the coefficients, and the step's end."""
    place = MainMap.of(config)
    a.label("op_coefficient")
    words(Coefficient.WORDS)
    _fields(a, config, place)
    _sum_losses(a, place)
    field(a, _BITS["shift"])
    a.store("exponent")
    flag(a, Coefficient, "normalise")
    a.jump_unless(Condition.NOT_ZERO, "coefficient_queries")
    _sum_differences(a)
    _scale(a, place)
    _exponent(a)
    _prepare(a, place)
    _queries(a)
    _end_step(a, config, place)
    _difference(a)


def _fields(a: Assembly, config: Config, place: MainMap) -> None:
    """The words "queries", "clip", "first", the first query's slot, and "used", the slots that are looked at."""
    a.read()
    a.store("w1")
    a.and_(_HALF_MASK)
    a.store("queries")
    flag(a, Coefficient, "two_sided")
    a.load(place.slots)
    a.skip(Condition.NOT_ZERO)
    a.load(place.slots + SLOT_WORDS)
    a.store("first")
    a.load(1)
    a.skip(Condition.ZERO)
    a.load("queries")
    a.add("queries")
    a.store("used")
    # The fewest are those of one query.
    a.sub(2)
    a.sub(config.losses - 1)
    a.jump_unless(Condition.NO_CARRY, "range_fault")
    field(a, _BITS["clip"])
    a.store("clip")


def _sum_losses(a: Assembly, place: MainMap) -> None:
    """The words "loss", the sum of the slots, saturated, and "base", the first one."""
    a.load(0)
    a.store("loss")
    a.count("used")
    a.point(place.slots)
    a.read()
    a.store("base")
    a.label("coefficient_sum")
    a.read_next()
    a.add("loss")
    a.skip(Condition.NO_CARRY)
    a.load(-1)
    a.store("loss")
    for _ in range(SLOT_WORDS - 1):
        a.read_next()
    a.loop("coefficient_sum")


def _first_query(a: Assembly) -> None:
    """The first query is next."""
    a.load("first")
    a.store("slot")
    a.count("queries")


def _sum_differences(a: Assembly) -> None:
    """The word "total": the sum of the magnitudes of all differences, saturated."""
    a.load(0)
    a.store("total")
    _first_query(a)
    a.label("coefficient_total")
    a.call("coefficient_difference")
    a.sub("sign")
    a.add("total")
    a.skip(Condition.NO_CARRY)
    a.load(-1)
    a.store("total")
    a.loop("coefficient_total")


def _scale(a: Assembly, place: MainMap) -> None:
    """Accumulator and the register: the scale gone a share of the way to the total, or the total where it was 0."""
    field(a, _BITS["average"])
    a.store("ratio")
    a.point(place.registers + Register.SCALE_LOW)
    a.read()
    a.store("scale")
    a.load("total")
    a.sub("scale")
    a.call("coefficient_parts")
    a.shift("ratio")
    a.xor("sign")
    a.add("scale")
    a.store("ratio")
    a.load("scale")
    a.or_(0)
    a.load("ratio")
    a.skip(Condition.NOT_ZERO)
    a.load("total")
    a.write()


def _exponent(a: Assembly) -> None:
    """The word "exponent": the place of the highest 1 of the scale, shifted by the word; 0 if there is none."""
    a.shift("exponent")
    a.store("scale")
    a.load(0)
    a.store("exponent")
    a.count(WORD_BITS - 1)
    a.label("coefficient_place")
    a.load("scale")
    a.shift(1)
    a.store("scale")
    # The sum has a carry unless nothing is left.
    a.add(-1)
    a.load("exponent")
    a.add_carry(0)
    a.store("exponent")
    a.loop("coefficient_place")


def _prepare(a: Assembly, place: MainMap) -> None:
    """What all queries share.

    The words "right", bits to shift right, and "spare", what is left to the longest shift; "factor", a power of 2 where
    the exponent is less than the fraction of a ratio; "exact", 1 where nothing is shifted out; the rates.
    """
    a.label("coefficient_queries")
    a.load("exponent")
    a.sub(COEFFICIENT_FRACTION)
    a.skip(Condition.NOT_NEGATIVE)
    a.load(0)
    a.store("right")
    a.xor(_LONGEST)
    a.store("spare")
    a.add(1)
    a.shift(SHIFT_BITS)
    a.store("exact")
    a.load("exponent")
    a.sub("right")
    a.add(POWER_BASE + BITS - COEFFICIENT_FRACTION)
    a.point_to()
    a.input(Port.TABLE)
    a.store("factor")
    a.point(place.registers + Register.RATE)
    a.read_next()
    a.store("rate")
    a.read()
    a.store("rate_step")
    a.load(place.coefficients)
    a.store("coefficient")


def _queries(a: Assembly) -> None:
    """The coefficient of every query."""
    _first_query(a)
    a.label("coefficient_query")
    a.call("coefficient_difference")
    _ratio(a)
    _coefficient(a)
    a.point_next("coefficient")
    a.write()
    a.loop("coefficient_query")


def _ratio(a: Assembly) -> None:
    """The word "ratio": its magnitude, clipped."""
    a.load("sign")
    a.and_("exact")
    a.add("size")
    a.shift("right")
    a.add_carry(0)
    a.store("ratio")
    # What has more than 16 bits is beyond every clip, and stays so with the largest 16.
    a.sub(_HALF_MASK + 1)
    a.load("ratio")
    a.skip(Condition.NO_CARRY)
    a.load(_HALF_MASK)
    a.multiply("factor")
    a.store("ratio")
    a.sub("clip")
    a.load("clip")
    a.skip(Condition.NO_CARRY)
    a.store("ratio")
    a.shift("spare")


def _coefficient(a: Assembly) -> None:
    """Accumulator: ratio times rate, rounded half up, which is down for the magnitude of a negative one; saturated."""
    a.load(_MOST)
    a.sub("sign")
    a.store("limit")
    a.load("rate")
    a.shift(_HALF_BITS)
    a.multiply("ratio")
    a.store("product")
    a.load("rate")
    a.multiply("ratio")
    a.add(1 << (PRODUCT_SHIFT - 1))
    a.add("sign")
    a.shift(PRODUCT_SHIFT)
    a.add("product")
    # With its top bit set it is the limit of a negative one, or beyond.
    a.skip(Condition.NOT_NEGATIVE)
    a.load("limit")
    a.xor("sign")
    a.sub("sign")


def _end_step(a: Assembly, config: Config, place: MainMap) -> None:
    """The next rate, and the step's entry in the history."""
    a.load("rate")
    a.sub("rate_step")
    a.skip(Condition.CARRY)
    a.load(0)
    a.point(place.registers + Register.RATE)
    a.write()
    a.load("steps")
    a.and_(config.history - 1)
    a.multiply(HISTORY_WORDS)
    a.add(place.history)
    a.point_to()
    # The words between and behind are those of power-on, 0.
    a.load("loss")
    a.write_next()
    a.read_next()
    a.load("correct")
    a.write()
    a.load(0)
    a.store("correct")
    a.store("coefficient_index")
    a.load("steps")
    a.add(1)
    a.store("steps")
    a.output(Port.STEPS)
    a.jump("advance")


def _difference(a: Assembly) -> None:
    """Subroutines: "sign" and, also in the accumulator, "size" of the next query's losses' difference, or of any."""
    a.label("coefficient_difference")
    a.point_next("slot")
    a.read()
    a.store("size")
    a.point_next("slot")
    flag(a, Coefficient, "two_sided")
    a.jump_unless(Condition.NOT_ZERO, "coefficient_one_sided")
    a.point_next("slot")
    a.read()
    a.store("base")
    a.point_next("slot")
    a.label("coefficient_one_sided")
    a.load("size")
    a.sub("base")
    # The accumulator holds the difference, the carry whether it is not negative.
    a.label("coefficient_parts")
    a.store("size")
    a.load(0)
    a.sub_carry(0)
    a.store("sign")
    a.xor("size")
    a.store("size")
    a.back()
