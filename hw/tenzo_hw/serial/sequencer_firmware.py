"""Firmware: power-on, runs, and the instructions that steer a program."""

from __future__ import annotations

from collections.abc import Callable

from ..config import ADDRESS_REGISTERS, LOOP_DEPTH, Config
from ..isa import Bits, Instruction, Loop, Opcode, Set
from ..protocol import Fault, Register, State
from ..registers import ADDRESS_BITS, SUMS
from .assembly import WORD_BITS, Assembly, Condition, Event, Port
from .memory_map import LOOP_WORDS, MainMap

#: Checks that an instruction of so many words fits the program, and sets "follow" to the word behind it.
Words = Callable[[int], None]
#: Bits of the state that the processor reads.
ENGINE_BAD, ENGINE_FAULT, ABORTS = 1, 2, 4
#: Where the fault begins in the word that ends a run, above the state.
FAULT_BIT = State.FAILED.bit_length()
_ADDRESS_MASK = (1 << ADDRESS_BITS) - 1


def field(a: Assembly, bits: Bits) -> None:
    """Accumulator: an unsigned field of the instruction, whose words are named w0, w1 ..."""
    a.load(f"w{bits.word}")
    if bits.low:
        a.shift(bits.low)
    if bits.low + bits.width < WORD_BITS:
        a.and_((1 << bits.width) - 1)


def flag(a: Assembly, kind: type[Instruction], name: str) -> None:
    """The zero flag: a field of one bit is 0."""
    bits = kind.FIELDS[name]
    a.load(f"w{bits.word}")
    a.and_(1 << bits.low)


def with_register(a: Assembly, config: Config, kind: type[Instruction], name: str) -> None:
    """Accumulator: a field with its address register added; the pointer is lost."""
    field(a, kind.FIELDS[SUMS[kind][name]])
    a.add(MainMap.of(config).addresses)
    a.point_to()
    field(a, kind.FIELDS[name])
    a.store("field")
    a.read()
    a.add("field")
    a.and_(_ADDRESS_MASK)


def words_check(a: Assembly, config: Config) -> Words:
    """The macro that every instruction begins with; the pointer stays."""

    def words(count: int) -> None:
        a.load("pc")
        a.add(count)
        a.store("follow")
        a.sub(config.program_depth + 1)
        a.jump_unless(Condition.NEGATIVE, "opcode_fault")

    return words


def write_runs(a: Assembly, config: Config) -> None:
    """From power-on to the first instruction of a run, from one to the next, and a run's end."""
    place = MainMap.of(config)
    generator = place.registers + Register.GENERATOR_LOW

    # The first instruction; behind it one for each opcode.
    a.jump("power_on")
    for opcode in Opcode:
        a.jump(f"op_{opcode.name.lower()}")

    # The main memory holds anything at power-on.
    a.label("power_on")
    a.load(0)
    a.point(0)
    a.count(place.depth)
    a.label("clear")
    a.write_next()
    a.loop("clear")
    a.load(1)
    a.point(generator)
    a.write()
    a.output(Port.READY)

    a.label("idle")
    a.wait(Event.RUN)
    a.label("run")
    a.load(0)
    a.point(place.addresses)
    for _ in range(ADDRESS_REGISTERS):
        a.write_next()
    for name in ("steps", "correct", "loss_group", "loss_slot", "loss_sum"):
        a.store(name)
    a.output(Port.STEPS)
    a.load(place.loops)
    a.store("loop")
    a.input(Port.REPEAT)
    a.store("repeat")
    a.point(generator)
    a.read_next()
    a.output(Port.GENERATOR_LOW)
    a.read()
    a.output(Port.GENERATOR_HIGH)
    a.input(Port.RUN_PC)
    a.jump("next")

    # Behind an instruction: the one that follows.
    a.label("advance")
    a.load("follow")
    a.label("next")
    a.store("pc")
    a.output(Port.RUN_PC)
    a.input(Port.STATE)
    a.and_(ABORTS)
    a.jump_unless(Condition.ZERO, "aborted")
    a.load("pc")
    a.sub(config.program_depth)
    a.jump_unless(Condition.NEGATIVE, "opcode_fault")
    a.load("pc")
    a.add(place.program)
    a.point_to()
    a.read_next()
    a.store("w0")
    a.and_(0xFF)
    a.store("field")
    a.sub(len(Opcode))
    a.jump_unless(Condition.NEGATIVE, "opcode_fault")
    a.load("field")
    a.add(1)
    a.dispatch()

    for fault, label in (
        (Fault.ADDRESS, "address_fault"),
        (Fault.OPCODE, "opcode_fault"),
        (Fault.RANGE, "range_fault"),
        (Fault.ABORTED, "aborted"),
    ):
        a.label(label)
        a.load(State.FAILED | fault << FAULT_BIT)
        a.jump("stop")
    a.label("op_halt")
    words_check(a, config)(1)
    a.load(State.IDLE | Fault.NONE << FAULT_BIT)
    a.label("stop")
    a.store("end")
    a.point(generator)
    a.input(Port.GENERATOR_LOW)
    a.write_next()
    a.input(Port.GENERATOR_HIGH)
    a.write()
    a.load("end")
    a.output(Port.STATE)
    a.label("stopped")
    a.jump("idle")


def write_steering(a: Assembly, config: Config, words: Words) -> None:
    """SET, ADD, LOOP, END, BATCH, and GATHER, which a serial machine does not have."""
    place = MainMap.of(config)
    bits = Set.FIELDS

    a.label("op_add")
    words(1)
    field(a, bits["register"])
    a.add(place.addresses)
    a.point_to()
    a.read()
    a.jump("op_set_sum")
    a.label("op_set")
    words(1)
    a.load(0)
    a.label("op_set_sum")
    a.store("field")
    field(a, bits["register"])
    a.store("register")
    a.add(place.addresses)
    a.point_to()
    # The fields of ADD and SET are the same; modulo 2^16 a signed value is as good as an unsigned one.
    field(a, bits["value"])
    a.add("field")
    a.and_(_ADDRESS_MASK)
    a.store("field")
    a.load("register")
    a.or_(0)
    a.load("field")
    a.skip(Condition.ZERO)
    a.write()
    a.jump("advance")

    a.label("op_loop")
    words(1)
    a.load("loop")
    a.sub(place.loops + LOOP_WORDS * LOOP_DEPTH)
    a.jump_unless(Condition.NOT_ZERO, "opcode_fault")
    field(a, Loop.FIELDS["count"])
    a.or_(0)
    a.skip(Condition.NOT_ZERO)
    a.load("repeat")
    a.or_(0)
    a.jump_unless(Condition.NOT_ZERO, "range_fault")
    a.store("field")
    a.load("follow")
    a.point_next("loop")
    a.write()
    a.load("field")
    a.point_next("loop")
    a.write()
    a.jump("advance")

    a.label("op_end")
    words(1)
    a.load("loop")
    a.sub(place.loops)
    a.jump_unless(Condition.NOT_ZERO, "opcode_fault")
    a.load("loop")
    a.sub(LOOP_WORDS)
    a.store("register")
    a.point_to()
    a.read_next()
    a.store("field")
    a.read()
    # Zero behind the last turn: then the loop is left, else it goes on where it began.
    a.sub(1)
    a.write()
    a.load("field")
    a.skip(Condition.ZERO)
    a.store("follow")
    a.load("register")
    a.skip(Condition.NOT_ZERO)
    a.store("loop")
    a.jump("advance")

    a.label("op_batch")
    words(1)
    a.wait(Event.BATCH)
    a.input(Port.STATE)
    a.and_(ABORTS)
    a.jump_unless(Condition.ZERO, "aborted")
    a.output(Port.TAKE)
    a.jump("advance")

    a.label("op_gather")
    words(4)
    a.jump("range_fault")
