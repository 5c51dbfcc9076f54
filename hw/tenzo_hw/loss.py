"""Loss accumulator: sums the losses of groups of samples while the next group is being computed.

    results ─┬─ pipe of the first lanes ── sum ─┐
             ├─ pipe of the next lanes ─── sum ◀┘
             ┊                              ┊
             └─ pipe of the last lanes ─── sum ── sum of a slot ── slots

Lane l's results come l cycles after lane 0's, so a pipe does what the one before it did ``loss_lanes`` cycles before.
One reader, that of the first pipe, goes through a full buffer, an output a cycle, lane by lane.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .collisions import NO_COLLISIONS
from .config import LOSS_FRACTION, Config
from .delay import DelayLine, delayed
from .drain import outcome_layout
from .isa import Base, Loss, LossKind
from .layouts import instruction_layout
from .loss_lane import capture_layout, result_layout
from .loss_pipe import LossPipe, choice_layout, target_write_signature
from .numbers import round_shift, saturate
from .sample_loss import EXP2, LOG2, LOG2_E, SHIFT_LIMIT, TABLE_BITS
from .timing import loss_latency

_CORRECT_LIMIT = (1 << 16) - 1


def cross_entropy(outputs: np.ndarray, labels: np.ndarray, fraction: int) -> tuple[np.ndarray, np.ndarray]:
    """Base-2 cross-entropy of samples and whether each is classified right.

    ``outputs``: int[samples, outputs] with ``fraction`` fraction bits; ``labels``: int[samples], one that is no output
    adds nothing and is never right. Returns int64[samples] in bits with LOSS_FRACTION fraction bits, and bool[samples].

    Method: log2 of the sum of 2^(z_j - max z) less the label's exponent, exponential and logarithm from tables of 256
    intervals with linear interpolation.
    """
    outputs = outputs.astype(np.int64)
    below = round_shift(((outputs.max(axis=1, keepdims=True) - outputs) * LOG2_E) << 1, fraction)
    whole, part = below >> LOSS_FRACTION, below & 0xFFFF
    interval, rest = part >> TABLE_BITS, part & 0xFF
    value = EXP2[interval] - round_shift((EXP2[interval] - EXP2[interval + 1]) * rest, TABLE_BITS)
    shift = np.minimum(whole, SHIFT_LIMIT)
    powers = np.where(whole > SHIFT_LIMIT, 0, (value + ((1 << shift) >> 1)) >> shift)
    total = powers.sum(axis=1)
    # A float64 holds the sum exactly, so its exponent is the leading one's place.
    leading = np.frexp(total.astype(np.float64))[1].astype(np.int64) - 1
    mantissa = ((total << (24 - leading)) >> 8) & 0xFFFF
    interval, rest = mantissa >> TABLE_BITS, mantissa & 0xFF
    log = (leading - LOSS_FRACTION) << LOSS_FRACTION
    log += LOG2[interval] + round_shift((LOG2[interval + 1] - LOG2[interval]) * rest, TABLE_BITS)
    is_label = np.arange(outputs.shape[1]) == labels[:, None]
    return log + np.where(is_label, below, 0).sum(axis=1), outputs.argmax(axis=1) == labels


def squared_error(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Sum of squared differences of each sample, int64[samples], from int[samples, outputs] twice."""
    return ((outputs.astype(np.int64) - targets) ** 2).sum(axis=1)


def losses(instruction: Loss, outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, int]:
    """Loss of each sample and how many are classified right.

    ``outputs``: int[samples, outputs]; ``targets``: CROSS_ENTROPY int[samples], SQUARED_ERROR int[samples, outputs].
    """
    if instruction.kind == LossKind.CROSS_ENTROPY:
        values, correct = cross_entropy(outputs, targets, instruction.fraction)
        return values, int(correct.sum())
    return squared_error(outputs, targets), 0


def added(config: Config, base: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """The outputs that differences of outputs stand for, saturated to ``output_word`` bits.

    ``base``: int64[L, outputs], the group kept; ``differences``: int64[..., L, outputs], as many groups as there are.
    """
    return saturate(base + differences, config.output_word)


def accumulated(config: Config, held: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What slots hold when the losses of samples are added, saturated to ``loss_word`` bits unsigned.

    ``held``: int64[...], the slots; ``values``: int64[..., samples], fewer than 2**22 of them. Returns int64[...].
    """
    limit = (1 << config.loss_word) - 1
    # Where the sum is beyond 64 bits, a float64 shows that it is far beyond a slot.
    beyond = values.sum(axis=-1, dtype=np.float64) > 2 * limit
    return np.where(beyond, limit, np.minimum(held + values.sum(axis=-1), limit))


def slot(config: Config, values: np.ndarray) -> int:
    """The word that a slot holds for samples of these losses: their sum, saturated to ``loss_word`` bits unsigned."""
    return int(accumulated(config, np.int64(0), values))


def slot_read_signature(config: Config) -> wiring.Signature:
    """Read port of the loss slots: the word of ``address``, one cycle later."""
    return wiring.Signature({"address": Out(range(config.losses)), "data": In(config.loss_word)})


def _addend_layout(config: Config) -> data.StructLayout:
    """What becomes of the pipes' sum: its slot, whether it is the slot's first or last, or that of differences."""
    return data.StructLayout({"slot": range(config.losses), "first": 1, "last": 1, "is_difference": 1})


class LossAccumulator(wiring.Component):
    """Sums the losses of groups of samples into slots; ``losses``, ``added`` and ``accumulated`` are its model.

    ``setup`` is taken with ``setup_start``, which must come while ``done``: the next loss goes to slot 0, the next
    group's targets start at ``setup.target``. ``outcome`` goes with lane 0's result. Lane l's results come l cycles
    after lane 0's. A *plain* group is the next ``outputs`` results after a ``reserve``, which must come while ``free``.
    Its outputs are kept as the base with ``outcome.base`` KEEP.

    Results with ``outcome.base`` ADD are differences from the base. They need no ``reserve``, but may come only once
    the accumulator is ``idle``: no plain group is reserved or being read. Every ``outputs`` of them are a group, whose
    loss goes to slot ``outcome.slot`` of its first result; right samples are not counted, and ``setup.groups`` is 1.
    Two buffers are enough for them because groups may come no closer than they are read: outputs * loss_lanes cycles
    from one's last result to the next one's. At least 3 cycles make any order of slots right.

    A group captured with lane 0's last result in cycle c is read from cycle c + 1 on, or right after the group before
    it, for outputs * loss_lanes cycles, counted in the first pipe; in the next cycle its buffer is free. ``done`` is
    low from the cycle after ``reserve`` and while ``captured`` is low, until ``loss_latency`` cycles after the group's
    last output is read: then nothing is reserved, captured or being summed, and the slots are stored. ``captured`` may
    rise in the cycle after lane 0's last result. Targets come from ``half`` of their memory.

    A slot becomes the sum of its groups' losses. With ``setup.accumulate`` that is added to what it held, except when
    ``setup.target`` is 0. ``correct`` counts the samples classified right since ``correct_clear`` or ``run_start``, up
    to 65535. ``run_start`` forgets all groups; a setup must follow before the next one. ``host_read`` is for times
    without a group.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "setup": In(instruction_layout(Loss)),
                "setup_start": In(1),
                "reserve": In(1),
                "free": Out(1),
                "idle": Out(1),
                "done": Out(1),
                "results": In(data.ArrayLayout(result_layout(config), config.lanes)),
                "outcome": In(outcome_layout(config)),
                "captured": In(1),
                "half": In(1),
                "target_write": In(target_write_signature(config)),
                "coefficient_read": In(slot_read_signature(config)),
                "host_read": In(slot_read_signature(config)),
                "correct": Out(16),
                "correct_clear": In(1),
                "run_start": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The block's logic; numbers in comments are cycles after the reader chose an output."""
        config = self.config
        m = Module()

        squared = Signal()
        shift = Signal(5)
        last_output = Signal(range(config.outputs))
        last_group = Signal(16)
        first_target = Signal(range(config.target_depth))
        accumulate = Signal()
        # Words of the target memory from one pipe's to the next one's, and from the first pipe's to its next group's.
        stride = Signal(range(config.target_depth))
        skipped = Signal(range(config.target_depth))
        is_squared = self.setup.kind == LossKind.SQUARED_ERROR
        sample = Mux(is_squared, self.setup.outputs, 1)
        with m.If(self.setup_start):
            m.d.sync += [
                squared.eq(is_squared),
                shift.eq(Mux(is_squared, 0, self.setup.fraction)),
                last_output.eq(self.setup.outputs - 1),
                last_group.eq(self.setup.groups - 1),
                first_target.eq(self.setup.target),
                accumulate.eq(self.setup.accumulate & (self.setup.target != 0)),
                stride.eq(sample * config.loss_lanes),
                skipped.eq(sample * (config.lanes - config.loss_lanes)),
            ]

        # Capture: the words of a group.
        capture_word = Signal(range(config.outputs))
        capture_buffer = Signal()
        full = Signal()
        is_difference = Signal()
        named = Array(Signal(range(config.losses), name=f"named{buffer}") for buffer in range(2))
        capture = Signal(capture_layout(config))
        m.d.comb += [
            capture.word.eq(capture_word),
            capture.buffer.eq(capture_buffer),
            capture.keep.eq(self.outcome.base == Base.KEEP),
            capture.add.eq(self.outcome.base == Base.ADD),
        ]
        with m.If(self.results[0].valid):
            m.d.sync += [capture_word.eq(capture_word + 1), is_difference.eq(capture.add)]
            with m.If(capture_word == 0):
                m.d.sync += named[capture_buffer].eq(self.outcome.slot)
            with m.If(capture_word == last_output):
                m.d.comb += full.eq(1)
                m.d.sync += [capture_word.eq(0), capture_buffer.eq(~capture_buffer)]

        # Reader: words of a lane, the first pipe's lanes of a group, groups of a slot.
        word = Signal(range(config.outputs))
        lane = Signal(range(config.loss_lanes))
        group = Signal(16)
        buffer = Signal()
        target = Signal(range(config.target_depth))
        slot_index = Signal(range(config.losses))
        reserved = Signal(range(3))
        waiting = Signal(range(3))
        # Bit n: the reader chose an output n + 1 cycles ago.
        summing = Signal(loss_latency(config) - 1)
        # High when no bit of it is.
        quiet = Signal(init=1)
        reading = Signal()
        last = Signal()
        released = Signal()
        end = Signal()
        m.d.comb += [
            reading.eq(waiting != 0),
            last.eq(word == last_output),
            released.eq(reading & last & (lane == config.loss_lanes - 1)),
            end.eq(released & (group == last_group)),
            self.free.eq(reserved != 2),
            self.idle.eq(reserved == 0),
            self.done.eq(self.idle & self.captured & ~reading & quiet),
        ]
        m.d.sync += [
            reserved.eq(reserved + self.reserve - (released & ~is_difference)),
            waiting.eq(waiting + full - released),
            summing.eq(Cat(reading, summing)),
            quiet.eq(~(reading | summing[:-1].any())),
        ]
        with m.If(reading):
            m.d.sync += word.eq(word + 1)
            with m.If(squared | last):
                m.d.sync += target.eq(target + 1)
            with m.If(last):
                m.d.sync += [word.eq(0), lane.eq(lane + 1)]
            with m.If(released):
                m.d.sync += [lane.eq(0), group.eq(group + 1), buffer.eq(~buffer), target.eq(target + skipped + 1)]
            with m.If(end):
                m.d.sync += [group.eq(0), target.eq(first_target), slot_index.eq(slot_index + 1)]

        # 1: what the first pipe reads.
        choice = Signal(choice_layout(config))
        m.d.sync += [
            choice.first.eq(word == 0),
            choice.last.eq(last),
            choice.word.eq(word),
            choice.buffer.eq(buffer),
            choice.lane.eq(lane),
            choice.target.eq(target),
        ]

        # 1 to 22: the sum over the pipes, loss_lanes cycles later in each.
        pipes = [LossPipe(config) for _ in range(config.loss_pipes)]
        for number, pipe in enumerate(pipes):
            m.submodules[f"pipe{number}"] = pipe
            own = number * config.loss_lanes
            m.d.comb += [
                pipe.squared.eq(squared),
                pipe.shift.eq(shift),
                pipe.stride.eq(stride),
                pipe.half.eq(self.half),
                *(pipe.results[lane].eq(self.results[own + lane]) for lane in range(config.loss_lanes)),
            ]
            wiring.connect(m, wiring.flipped(self.target_write), pipe.target_write)
        m.d.comb += [pipes[0].capture.eq(capture), pipes[0].choice.eq(choice)]
        for before, after in pairwise(pipes):
            m.d.comb += [
                after.capture.eq(before.next_capture),
                after.choice.eq(before.next_choice),
                after.sum.eq(before.next_sum),
            ]

        # The slot is known long before the sum.
        addend = Signal(_addend_layout(config))
        m.d.comb += [
            addend.slot.eq(Mux(is_difference, named[buffer], slot_index)),
            addend.first.eq((word == 0) & (lane == 0) & (group == 0)),
            addend.last.eq(end),
            addend.is_difference.eq(is_difference),
        ]
        self._slots(m, addend, pipes[-1].next_sum, summing, accumulate)

        with m.If(self.setup_start | self.run_start):
            m.d.sync += [slot_index.eq(0), group.eq(0), target.eq(self.setup.target)]
        with m.If(self.run_start):
            state = [capture_word, capture_buffer, word, lane, buffer, reserved, waiting, summing]
            m.d.sync += [quiet.eq(1), *(register.eq(0) for register in state)]
        return m

    def _slots(self, m: Module, addend: data.View, total: data.View, summing: Signal, accumulate: Value) -> None:
        """Adds the sum over the pipes, there in the last cycle but one of ``summing``, to the slot of its addend."""
        loss_word = self.config.loss_word
        m.submodules.slots = slots = Memory(shape=loss_word, depth=self.config.losses, init=[], attrs=NO_COLLISIONS)
        write, coefficient_read, read = slots.write_port(), slots.read_port(), slots.read_port()
        # The slot is read two cycles before the sum is there.
        m.submodules.addends = addends = DelayLine(width=len(addend.as_value()), cycles=len(summing) - 3)
        early = data.View(addend.shape(), addends.o)
        m.d.comb += [
            addends.i.eq(addend),
            read.addr.eq(Mux(summing[-4], early.slot, self.host_read.address)),
            self.host_read.data.eq(read.data),
            coefficient_read.addr.eq(self.coefficient_read.address),
            self.coefficient_read.data.eq(coefficient_read.data),
        ]
        held = delayed(m, read.data, 1)
        now = delayed(m, early, 2)

        # The sum of a slot; its top bit stays set once it leaves ``loss_word`` bits.
        slot_sum = Signal(loss_word + 1)
        number = Signal.like(now.slot)
        is_whole = Signal()
        before = Signal.like(slot_sum)
        m.d.comb += before.eq(slot_sum)
        with m.If(now.first & ~accumulate):
            m.d.comb += before.eq(0)
        # What was read misses a store of that cycle and those since; the sum goes on where that was to the same slot.
        with m.Elif(now.first & ~(is_whole & (now.slot == number))):
            m.d.comb += before.eq(held)
        after = before[:loss_word] + total.loss
        right = self.correct + total.right
        with m.If(summing[-2]):
            m.d.sync += [
                slot_sum.eq(Cat(after[:loss_word], after[loss_word:].any() | before[loss_word])),
                number.eq(now.slot),
                is_whole.eq(now.last),
            ]
            with m.If(~now.is_difference):
                m.d.sync += self.correct.eq(Mux(right > _CORRECT_LIMIT, _CORRECT_LIMIT, right))
        m.d.comb += [
            write.en.eq(summing[-1] & is_whole),
            write.addr.eq(number),
            write.data.eq(slot_sum[:loss_word] | slot_sum[loss_word].replicate(loss_word)),
        ]
        with m.If(self.correct_clear | self.run_start):
            m.d.sync += self.correct.eq(0)
        with m.If(self.run_start):
            m.d.sync += is_whole.eq(0)
