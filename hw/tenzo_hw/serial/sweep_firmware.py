"""Firmware: SWEEP, a word after the other; the models are ``perturb`` and ``update`` of ``tenzo_hw.sweep``."""

from __future__ import annotations

from ..config import RATE_FRACTION, Config
from ..isa import REPLAY_SLOTS, Sweep
from ..numbers import bounds
from ..protocol import Register
from .assembly import WORD_BITS, Assembly, Condition, Port
from .memory_map import MainMap
from .sequencer_firmware import Words, field, flag, with_register

_LEAST, _MOST = bounds(WORD_BITS)
_BITS = Sweep.FIELDS


def _saturate(a: Assembly) -> None:
    """The last sum, saturated to a word."""
    a.skip(Condition.NOT_ABOVE)
    a.load(_MOST)
    a.skip(Condition.NOT_BELOW)
    a.load(_LEAST)


def _saturate_to(a: Assembly, bits: int) -> None:
    """A small number, saturated to fewer bits than a word has."""
    low, high = bounds(bits)
    a.sub(high)
    a.skip(Condition.NEGATIVE)
    a.load(0)
    a.add(high - low)
    a.skip(Condition.NOT_NEGATIVE)
    a.load(0)
    a.add(low)


def _mask(a: Assembly, name: str) -> None:
    """The name's word: all ones, or 0 if the zero flag is set."""
    a.load(0)
    a.skip(Condition.ZERO)
    a.load(-1)
    a.store(name)


def _decayed(a: Assembly, word: str, amount: str, mask: str) -> None:
    """Accumulator, which is ``word``: less its share, rounded, where the mask is not 0."""
    a.shift_signed(amount)
    a.add_carry(0)
    a.and_(mask)
    a.store("share")
    a.load(word)
    a.sub("share")


def write_sweep(a: Assembly, config: Config, words: Words) -> None:
    """SWEEP: its checks, the generator's slots, and the two kinds."""
    place = MainMap.of(config)

    a.label("op_sweep")
    words(Sweep.WORDS)
    a.read_next()
    a.store("w1")
    a.read()
    a.store("w2")
    with_register(a, config, Sweep, "row")
    a.store("row")
    with_register(a, config, Sweep, "column")
    a.store("column")
    field(a, _BITS["single"])
    a.store("single")
    field(a, _BITS["count"])
    a.store("count")
    a.or_(0)
    a.jump_unless(Condition.NOT_ZERO, "range_fault")
    a.load("column")
    a.sub(config.columns)
    a.load(1)
    a.skip(Condition.NOT_NEGATIVE)
    a.load(0)
    a.and_("single")
    a.jump_unless(Condition.ZERO, "range_fault")
    a.load("row")
    a.add("count")
    a.sub(config.weight_rows + 1)
    a.jump_unless(Condition.NEGATIVE, "address_fault")

    # The generator goes back to a slot, then slots keep its state.
    flag(a, Sweep, "replay")
    a.jump_unless(Condition.NOT_ZERO, "sweep_keep")
    flag(a, Sweep, "replay_slot")
    for slot in range(REPLAY_SLOTS):
        a.skip(Condition.NOT_ZERO if slot == 0 else Condition.ZERO)
        a.jump(f"sweep_replay{slot}")
    for slot in range(REPLAY_SLOTS):
        a.label(f"sweep_replay{slot}")
        a.load(f"slot{slot}_low")
        a.output(Port.GENERATOR_LOW)
        a.load(f"slot{slot}_high")
        a.output(Port.GENERATOR_HIGH)
        a.jump("sweep_keep")
    a.label("sweep_keep")
    for slot in range(REPLAY_SLOTS):
        a.load("w0")
        a.and_(1 << _BITS["save"].low + slot)
        a.input(Port.GENERATOR_LOW)
        a.skip(Condition.ZERO)
        a.store(f"slot{slot}_low")
        a.input(Port.GENERATOR_HIGH)
        a.skip(Condition.ZERO)
        a.store(f"slot{slot}_high")

    # Masters of all columns of a row lie side by side, as do momenta: one loop goes through their words.
    a.output(Port.COLUMN)
    a.load("count")
    a.multiply(config.columns)
    a.store("count")
    a.count("count")
    a.load("row")
    a.multiply(config.columns)
    a.store("word")
    a.add(place.masters)
    a.store("master_place")
    flag(a, Sweep, "kind")
    a.jump_unless(Condition.ZERO, "update")
    _write_perturb(a, config)
    _write_update(a, config)


def _write_perturb(a: Assembly, config: Config) -> None:
    field(a, _BITS["mu"])
    a.store("step")
    a.load(0)
    a.sub("step")
    a.store("share")
    flag(a, Sweep, "negative")
    a.load("share")
    a.skip(Condition.ZERO)
    a.store("step")
    flag(a, Sweep, "half")
    a.load(0)
    a.skip(Condition.ZERO)
    a.load(config.weight_rows * config.columns)
    a.add("word")
    a.output(Port.WEIGHT_ADDRESS)
    a.point("master_place")
    a.load("single")
    a.or_(0)
    a.jump_unless(Condition.ZERO, "perturb_single")

    a.label("perturb")
    a.read_next()
    a.shift_signed(config.master_extra)
    a.add_carry(0)
    a.add_signed("step")
    _saturate_to(a, config.word)
    a.output(Port.WEIGHT)
    a.loop("perturb")
    a.jump("advance")

    a.label("perturb_single")
    a.read_next()
    a.shift_signed(config.master_extra)
    a.add_carry(0)
    a.store("whole")
    a.input(Port.COLUMN)
    a.xor("column")
    a.load(0)
    a.skip(Condition.NOT_ZERO)
    a.load("step")
    a.add("whole")
    # The generator takes its step all the same.
    a.add_signed(0)
    _saturate_to(a, config.word)
    a.output(Port.WEIGHT)
    a.loop("perturb_single")
    a.jump("advance")


def _coefficient(a: Assembly, config: Config) -> None:
    """The word "step": the current coefficient, scaled."""
    a.load("coefficient_index")
    a.add(MainMap.of(config).coefficients)
    a.point_to()
    a.read()
    a.shift_signed("scale")
    a.add_carry(0)
    a.store("step")


def _next_coefficient(a: Assembly, config: Config) -> None:
    """Goes to the next coefficient if the zero flag is not set."""
    a.load("coefficient_index")
    a.skip(Condition.ZERO)
    a.add(1)
    a.and_(config.losses - 1)
    a.store("coefficient_index")


def _write_update(a: Assembly, config: Config) -> None:
    place = MainMap.of(config)
    a.label("update")
    a.load("word")
    a.add(place.momenta)
    a.store("momentum_place")
    flag(a, Sweep, "first")
    _mask(a, "decays")
    for name in ("decay", "scale", "weight_decay"):
        field(a, _BITS[name])
        a.store(name)
    a.or_(0)
    _mask(a, "weight_decays")
    for name in ("last", "sign"):
        field(a, _BITS[name])
        a.store(name)
    a.point(place.registers + Register.RATE)
    a.read()
    a.shift(RATE_FRACTION)
    a.add_carry(0)
    a.store("forth")
    a.load(0)
    a.sub("forth")
    a.store("back")
    a.load("single")
    a.or_(0)
    a.jump_unless(Condition.ZERO, "update_single")

    _coefficient(a, config)
    _write_update_loop(a, config, is_single=False)
    flag(a, Sweep, "next")
    _next_coefficient(a, config)
    a.jump("advance")

    _write_update_loop(a, config, is_single=True)
    a.jump("advance")


def _write_update_loop(a: Assembly, config: Config, *, is_single: bool) -> None:
    loop = "update_single" if is_single else "update_all"

    def write_chosen() -> None:
        """The last sum, saturated, to the main memory; with ``is_single`` only in the chosen column."""
        _saturate(a)
        a.store("total")
        if is_single:
            a.load("other")
            a.or_(0)
            a.load("total")
            a.skip(Condition.NOT_ZERO)
        a.write()

    a.label(loop)
    if is_single:
        _coefficient(a, config)
        a.input(Port.COLUMN)
        a.xor("column")
        a.store("other")
    a.point_next("momentum_place")
    a.read()
    a.store("kept")
    _decayed(a, "kept", "decay", "decays")
    if is_single:
        # The generator takes its step all the same.
        a.add_signed(0)
        a.add("step")
    else:
        a.add_signed("step")
    write_chosen()

    a.load("last")
    a.or_(0)
    a.jump_unless(Condition.NOT_ZERO, f"{loop}_next")
    a.load("sign")
    a.or_(0)
    a.load("total")
    a.store("move")
    a.jump_unless(Condition.NOT_ZERO, f"{loop}_moves")
    a.or_(0)
    a.load("back")
    a.skip(Condition.NEGATIVE)
    a.load("forth")
    a.skip(Condition.NOT_ZERO)
    a.load(0)
    a.store("move")
    a.label(f"{loop}_moves")
    a.point_next("master_place")
    a.read()
    a.store("whole")
    _decayed(a, "whole", "weight_decay", "weight_decays")
    a.sub("move")
    write_chosen()

    a.label(f"{loop}_next")
    if is_single:
        # A row ends where the next column is the first one.
        a.input(Port.COLUMN)
        a.sub(1)
        a.and_(config.columns)
        _next_coefficient(a, config)
    a.loop(loop)
