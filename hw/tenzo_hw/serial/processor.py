"""The serial machine's processor: an accumulator, a scratch memory, and firmware that never branches on data.

    firmware ─ instruction ─ scratch word ─┬─ sum, logic, product ─┬─ accumulator
                                           └─ pointer, counter     └─ shift, bit by bit

An instruction takes two cycles: its scratch word is read in the first, it is carried out in the second. A shift takes
as many more as ``shift_cycles`` says, WAIT those until its event holds. What SKIP annuls takes the same time, so that
a choice costs no time of its own.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.enum import Enum
from amaranth.lib.wiring import In, Out

from ..cells import Ram
from .assembly import OPERAND_BITS, SCRATCH_WORDS, WORD_BITS, Condition, Event, Firmware, Op
from .interpreter import LONG_SHIFT, SHIFT_BITS

#: Bits of the pointer and of the counter.
POINTER_BITS = 16
_OP_BITS = max(Op).bit_length()
#: Words of an iCE40's block RAM of 16 bits.
_BLOCK_WORDS = 256


class _Phase(Enum):
    START = 0
    """After power-on: the first instruction is being read."""
    FETCH = 1
    """The instruction is there, its scratch word is being read."""
    EXECUTE = 2
    SHIFT = 3


class Processor(wiring.Component):
    """Carries out ``firmware`` from its first word on; the model is ``Interpreter``, in values and cycles.

    Ports
    -----
    pointer, accumulator:
        Address of the main memory and of the memories behind ports, and what is written.
    main_data, main_write:
        The main memory's word at ``pointer``, a cycle later; strobe that stores ``accumulator``.
    port, input_data, output:
        Number of a port, what it says a cycle later, and the strobe with which it takes ``accumulator``.
    sign, sign_next, sign_used:
        Whether the sign is -1; a cycle before and when it is used.
    events, stalled:
        What WAIT waits for; whether it does, for the event whose number is ``port``.
    """

    def __init__(self, firmware: Firmware) -> None:
        self._firmware = firmware
        super().__init__(
            {
                "pointer": Out(POINTER_BITS),
                "accumulator": Out(WORD_BITS),
                "main_data": In(WORD_BITS),
                "main_write": Out(1),
                "port": Out(OPERAND_BITS),
                "input_data": In(WORD_BITS),
                "output": Out(1),
                "sign": In(1),
                "sign_next": Out(1),
                "sign_used": Out(1),
                "events": In(len(Event)),
                "stalled": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The two memories, the operations, and where to go next."""
        m = Module()
        phase = Signal(_Phase, init=_Phase.START)
        annulled = Signal()
        fetches, executes = Signal(), Signal()
        done = Signal()
        acts = Signal()
        m.d.comb += [
            fetches.eq(phase == _Phase.FETCH),
            executes.eq(phase == _Phase.EXECUTE),
            acts.eq(executes & ~annulled),
        ]

        # The next instruction is read in an instruction's last cycle.
        depth = -(-len(self._firmware.words) // _BLOCK_WORDS) * _BLOCK_WORDS
        m.submodules.firmware = firmware = Ram(
            width=_OP_BITS + OPERAND_BITS, depth=depth, init=self._firmware.words, writable=False
        )
        m.submodules.scratch = scratch = Ram(width=WORD_BITS, depth=SCRATCH_WORDS, init=self._firmware.scratch)
        instruction = firmware.read_data
        pc, following, link = (Signal(OPERAND_BITS, name=name) for name in ("pc", "following", "link"))
        op, operand = instruction[OPERAND_BITS:], instruction[:OPERAND_BITS]
        other = scratch.read_data
        leaves = done | (phase == _Phase.START)
        m.d.comb += [
            firmware.read_address.eq(following),
            firmware.read.eq(leaves),
            scratch.read_address.eq(operand),
            scratch.read.eq(fetches),
            self.port.eq(operand),
            self.sign_next.eq(fetches & (op == Op.ADD_SIGNED) & ~annulled),
        ]
        with m.If(leaves):
            m.d.sync += [pc.eq(following + 1), phase.eq(_Phase.FETCH)]
        with m.If(fetches):
            m.d.sync += phase.eq(_Phase.EXECUTE)

        # What an operation is, known from its second cycle on.
        def is_op(*ops: Op) -> Signal:
            decoded = Signal(name="is_" + "_".join(one.name.lower() for one in ops[:2]))
            m.d.sync += decoded.eq(op.matches(*ops))
            return decoded

        is_shift = is_op(Op.SHIFT, Op.SHIFT_SIGNED, Op.SHIFT_CARRY)
        is_skip, is_wait, is_count, is_loop, is_call, is_return, is_dispatch = (
            is_op(one) for one in (Op.SKIP, Op.WAIT, Op.COUNT, Op.LOOP, Op.CALL, Op.RETURN, Op.DISPATCH)
        )

        # Sums, logic, products and what is read.
        accumulator, carry, zero, negative, overflow = (
            self.accumulator,
            *(Signal(name=name) for name in ("carry", "zero", "negative", "overflow")),
        )
        subtracts, carry_in = Signal(), Signal()
        added, total = Signal(WORD_BITS), Signal(WORD_BITS + 2)
        result = Signal(WORD_BITS)
        is_sum = is_op(Op.ADD, Op.SUB, Op.ADD_CARRY, Op.SUB_CARRY, Op.ADD_SIGNED)
        is_signed = is_op(Op.ADD_SIGNED)
        m.d.comb += [
            subtracts.eq(is_op(Op.SUB, Op.SUB_CARRY) | (is_signed & self.sign)),
            carry_in.eq(Mux(is_op(Op.ADD_CARRY, Op.SUB_CARRY), carry, subtracts)),
            added.eq(other ^ subtracts.replicate(WORD_BITS)),
            # The carry goes in through a bit below the lowest.
            total.eq(Cat(carry_in, accumulator) + Cat(carry_in, added)),
        ]
        # The shifter: long steps, then steps of a bit.
        left = Signal(SHIFT_BITS)
        is_long = left >= LONG_SHIFT
        is_carried = is_op(Op.SHIFT_CARRY)
        fill = Mux(is_carried, carry, accumulator[-1] & is_op(Op.SHIFT_SIGNED))
        shifted = Mux(
            is_long,
            Cat(accumulator[LONG_SHIFT:], fill.replicate(LONG_SHIFT)),
            Cat(accumulator[1:], fill),
        )
        half = WORD_BITS // 2
        sources = (
            (is_sum, total[1:]),
            (is_shift, Mux(left == 0, accumulator, shifted)),
            (is_op(Op.LOAD), other),
            (is_op(Op.AND), accumulator & other),
            (is_op(Op.OR), accumulator | other),
            (is_op(Op.XOR), accumulator ^ other),
            (is_op(Op.MULTIPLY), accumulator[:half] * other[:half]),
            (is_op(Op.READ, Op.READ_NEXT), self.main_data),
            (is_op(Op.INPUT, Op.INPUT_NEXT), self.input_data),
        )
        sets_flags = is_op(*(one for one in Op if Op.AND <= one <= Op.MULTIPLY))
        changes = is_op(
            *(one for one in Op if Op.LOAD <= one <= Op.MULTIPLY or Op.READ <= one <= Op.READ_NEXT),
            Op.INPUT,
            Op.INPUT_NEXT,
        )
        shifts = (phase == _Phase.SHIFT) & ~annulled
        m.d.comb += result.eq(reduce(or_, (Mux(chosen, value, 0) for chosen, value in sources)))
        with m.If((acts & changes) | shifts):
            m.d.sync += accumulator.eq(result)
        # Looked at once the accumulator is there, so that its flip-flops are those of the LUTs before them.
        is_new = Signal()
        with m.If(leaves):
            m.d.sync += is_new.eq((acts & sets_flags) | shifts)
        with m.If(is_new):
            m.d.sync += [zero.eq(accumulator == 0), negative.eq(accumulator[-1])]
        with m.If(acts & is_sum):
            m.d.sync += [
                carry.eq(total[-1]),
                overflow.eq((accumulator[-1] ^ total[-2]) & (added[-1] ^ total[-2])),
            ]
        with m.Elif(acts & is_shift & ~is_carried):
            m.d.sync += carry.eq(0)
        with m.Elif(shifts & (left != 0)):
            m.d.sync += carry.eq(Mux(is_long, accumulator[LONG_SHIFT - 1], accumulator[0]))
        with m.If(executes & is_shift):
            m.d.sync += [left.eq(other), phase.eq(_Phase.SHIFT)]
        with m.Elif(phase == _Phase.SHIFT):
            m.d.sync += left.eq(left - Mux(is_long, LONG_SHIFT, 1))

        # Pointer, counter, scratch words and ports.
        counter = Signal(POINTER_BITS)
        counted = Signal(POINTER_BITS)
        takes_next = is_op(Op.POINT_NEXT)
        next_place = Signal(POINTER_BITS)
        m.d.comb += [
            counted.eq(counter - 1),
            next_place.eq(Mux(takes_next, other[:POINTER_BITS], self.pointer) + 1),
            scratch.write_address.eq(operand),
            scratch.write_data.eq(Mux(takes_next, next_place, accumulator)),
            scratch.write.eq(acts & is_op(Op.STORE, Op.POINT_NEXT)),
            self.main_write.eq(acts & is_op(Op.WRITE, Op.WRITE_NEXT)),
            self.output.eq(acts & is_op(Op.OUTPUT)),
            self.sign_used.eq(acts & is_signed),
        ]
        points, points_to = is_op(Op.POINT, Op.POINT_NEXT), is_op(Op.POINT_TO)
        steps = is_op(Op.READ_NEXT, Op.WRITE_NEXT, Op.INPUT_NEXT)
        with m.If(acts & points):
            m.d.sync += self.pointer.eq(other)
        with m.Elif(acts & points_to):
            m.d.sync += self.pointer.eq(accumulator)
        with m.Elif(acts & steps):
            m.d.sync += self.pointer.eq(next_place)
        with m.If(acts & is_count):
            m.d.sync += counter.eq(other)
        with m.Elif(acts & is_loop):
            m.d.sync += counter.eq(counted)
        with m.If(acts & is_call):
            m.d.sync += link.eq(pc)

        # Where to go next. A condition is looked up by its number.
        conditions = {
            Condition.ZERO: zero,
            Condition.NOT_ZERO: ~zero,
            Condition.NEGATIVE: negative,
            Condition.NOT_NEGATIVE: ~negative,
            Condition.CARRY: carry,
            Condition.NO_CARRY: ~carry,
            Condition.NOT_ABOVE: ~(overflow & negative),
            Condition.NOT_BELOW: ~overflow | negative,
        }
        holds = Array(conditions[condition] for condition in Condition)[operand[: (len(Condition) - 1).bit_length()]]
        happened = Array(self.events)[operand[: (len(Event) - 1).bit_length()]]
        m.d.comb += [
            self.stalled.eq(acts & is_wait & ~happened),
            done.eq((executes & ~is_shift & ~self.stalled) | ((phase == _Phase.SHIFT) & (left == 0))),
            following.eq(pc),
        ]
        with m.If(done):
            m.d.sync += annulled.eq(acts & is_skip & holds)
        jumps = is_op(Op.JUMP, Op.CALL)
        with m.If(phase == _Phase.START):
            m.d.comb += following.eq(0)
        with m.Elif(acts & (jumps | (is_loop & counted.any()))):
            m.d.comb += following.eq(operand)
        with m.Elif(acts & is_return):
            m.d.comb += following.eq(link)
        with m.Elif(acts & is_dispatch):
            m.d.comb += following.eq(accumulator)
        return m
