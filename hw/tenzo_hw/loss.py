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
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .cells import BlockRam
from .config import LOSS_FRACTION, Config
from .delay import DelayLine, delayed
from .drain import outcome_layout
from .isa import Base, Loss, LossKind
from .layouts import instruction_layout
from .loss_lane import LANE_CYCLES, capture_layout, result_layout
from .loss_pipe import LossPipe, choice_layout, settings_layout, target_write_signature
from .loss_tables import EXP2, LOG2, LOG2_E, SHIFT_LIMIT, TABLE_BITS
from .numbers import round_shift, saturate
from .sample_loss import scale_of
from .timing import loss_latency

#: Cycles after ``setup_start`` until a result may come.
SETUP_CYCLES = 4
#: Cycles from a slot's address until its word is read.
SLOT_READ_CYCLES = 3
#: Cycles from the reader's choice of an output to the pipes', and from the pipes' sum to a slot's.
_CHOICE_CYCLES = LANE_CYCLES - 2
_SLOT_CYCLES = 4


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
    """Read port of the loss slots: the word of ``address``, ``SLOT_READ_CYCLES`` later."""
    return wiring.Signature({"address": Out(range(config.losses)), "data": In(config.loss_word)})


def _addend_layout(config: Config) -> data.StructLayout:
    """What becomes of the pipes' sum: its slot, whether it is the slot's first or last, or that of differences."""
    return data.StructLayout({"slot": range(config.losses), "first": 1, "last": 1, "is_difference": 1})


def _times(value: Value, factor: int) -> Value:
    """``value`` times a constant, as a sum: a DSP block would be wasted on it."""
    terms = [Cat(Const(0, place), value) for place in range(factor.bit_length()) if factor >> place & 1]
    return sum(terms[1:], terms[0])


class LossAccumulator(wiring.Component):
    """Sums the losses of groups of samples into slots; ``losses``, ``added`` and ``accumulated`` are its model.

    ``setup`` is taken with ``setup_start``, which must come while ``done``: the next loss goes to slot 0, the next
    group's targets start at ``setup.target``. The next result may come ``SETUP_CYCLES`` later, of targets written
    before ``setup_start``. ``outcome`` goes with lane 0's result. Lane l's results come l cycles
    after lane 0's. A *plain* group is the next ``outputs`` results after a ``reserve``, which must come while ``free``.
    Its outputs are kept as the base with ``outcome.base`` KEEP.

    Results with ``outcome.base`` ADD are differences from the base. They need no ``reserve``, but may come only once
    the accumulator is ``idle``: no plain group is reserved or being read. Every ``outputs`` of them are a group, whose
    loss goes to slot ``outcome.slot`` of its first result; right samples are not counted, and ``setup.groups`` is 1.
    Two buffers are enough for them because groups may come no closer than they are read: outputs * loss_lanes cycles
    from one's last result to the next one's. At least 3 cycles make any order of slots right.

    A group captured with lane 0's last result in cycle c is read from cycle c + 1 on, or right after the group before
    it, for outputs * loss_lanes cycles, counted in the first pipe; in the next cycle its buffer is free. ``done`` is
    low from the cycle after ``reserve`` and that after ``captured`` falls until ``loss_latency`` cycles after the
    group's last output is read: then nothing is reserved, captured or being summed, and the slots are stored.
    ``captured`` may rise in the cycle after lane 0's last result. Targets come from ``half`` of their memory. All
    outputs but the slots' data are registers.

    A slot becomes the sum of its groups' losses. With ``setup.accumulate`` that is added to what it held, except when
    ``setup.target`` is 0. ``correct`` counts the samples classified right since ``correct_clear`` or ``run_start``, up
    to 65535. ``run_start`` forgets all groups; a setup must follow before the next one. ``coefficient_read`` is for
    times while ``done``, with ``coefficient_reads`` high, and ``host_read`` for those without either.
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
                "coefficient_reads": In(1),
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

        # What a setup leads to: constant once it is prepared.
        setup = Signal(self.setup.shape())
        with m.If(self.setup_start):
            m.d.sync += setup.eq(self.setup)
        prepared = delayed(m, self.setup_start, SETUP_CYCLES - 1)
        settings = Signal(settings_layout(config))
        is_squared = setup.kind == LossKind.SQUARED_ERROR
        sample = Mux(is_squared, setup.outputs, 1)
        scale = scale_of(setup.fraction)
        # The outputs of a sample, and groups of a slot: only one, or the word before the last and the last group.
        is_single = Signal()
        last_but_one = Signal(range(config.outputs))
        is_only = Signal()
        last_group = Signal(16)
        accumulate = Signal()
        # Words of the target memory: the first, and from one group of lanes to the next one.
        first_target = Signal(range(config.target_depth))
        group_stride = Signal(range(config.target_depth))
        second_target = Signal(range(config.target_depth))
        m.d.sync += [
            settings.squared.eq(is_squared),
            settings.scale.eq(Mux(is_squared, 0, scale)),
            settings.stride.eq(_times(sample, config.loss_lanes)),
            settings.half.eq(self.half),
            is_single.eq(setup.outputs == 1),
            last_but_one.eq(setup.outputs - 2),
            is_only.eq(setup.groups == 1),
            last_group.eq(setup.groups - 1),
            accumulate.eq(setup.accumulate & (setup.target != 0)),
            first_target.eq(setup.target),
            group_stride.eq(_times(sample, config.lanes)),
            second_target.eq(first_target + group_stride),
        ]

        # Capture: the words of a group. Groups that wait to be read: none 0, one 1, two 3.
        capture = Signal(capture_layout(config))
        capture_last = Signal()
        full = Signal()
        is_difference = Signal()
        named = Array(Signal(range(config.losses), name=f"named{buffer}") for buffer in range(2))
        waiting = Signal(2)
        m.d.comb += [
            capture.keep.eq(self.outcome.base == Base.KEEP),
            capture.add.eq(self.outcome.base == Base.ADD),
            full.eq(self.results[0].valid & capture_last),
        ]
        capture_word, capture_buffer, capture_first = Signal.like(capture.word), Signal(), Signal()
        m.d.comb += [capture.word.eq(capture_word), capture.buffer.eq(capture_buffer)]
        with m.If(self.results[0].valid):
            m.d.sync += [is_difference.eq(capture.add), capture_first.eq(capture_last)]
            with m.If(capture_first):
                m.d.sync += named[capture_buffer].eq(self.outcome.slot)
            with m.If(capture_last):
                m.d.sync += [capture_word.eq(0), capture_last.eq(is_single), capture_buffer.eq(~capture_buffer)]
            with m.Else():
                m.d.sync += [capture_word.eq(capture_word + 1), capture_last.eq(capture_word == last_but_one)]

        # Reader: words of a lane, the first pipe's lanes of a group, groups of a slot; each with a bit for its last.
        reading = waiting[0]
        word, word_last = Signal(range(config.outputs)), Signal()
        lane, lane_last = Signal(range(config.loss_lanes)), Signal()
        group, group_last = Signal(16), Signal()
        buffer = Signal()
        slot_index, slot_first = Signal(range(config.losses)), Signal()
        target, next_target = Signal(range(config.target_depth)), Signal(range(config.target_depth))
        released = Signal()
        end = Signal()
        m.d.comb += [released.eq(reading & word_last & lane_last), end.eq(released & group_last)]
        with m.If(reading):
            m.d.sync += slot_first.eq(end)
            with m.If(word_last):
                m.d.sync += [word.eq(0), word_last.eq(is_single)]
            with m.Else():
                m.d.sync += [word.eq(word + 1), word_last.eq(word == last_but_one)]
            with m.If(word_last & lane_last):
                m.d.sync += [lane.eq(0), lane_last.eq(config.loss_lanes == 1), buffer.eq(~buffer)]
                m.d.sync += [group.eq(group - 1), group_last.eq(group == 1)]
                m.d.sync += [target.eq(next_target), next_target.eq(next_target + group_stride)]
                with m.If(group_last):
                    m.d.sync += [group.eq(last_group), group_last.eq(is_only), slot_index.eq(slot_index + 1)]
                    m.d.sync += [target.eq(first_target), next_target.eq(second_target)]
            with m.Elif(word_last | settings.squared):
                m.d.sync += target.eq(target + 1)
                with m.If(word_last):
                    m.d.sync += [lane.eq(lane + 1), lane_last.eq(lane == config.loss_lanes - 2)]

        # Bit n: the reader chose an output n + 1 cycles ago. ``busy`` counts the cycles until all of these are stored.
        latency = loss_latency(config)
        summing = Signal(latency - 2)
        busy = Signal(range(latency - 1))
        with m.If(reading):
            m.d.sync += busy.eq(latency - 2)
        with m.Elif(busy != 0):
            m.d.sync += busy.eq(busy - 1)
        leaves = released & ~is_difference
        free, idle = Signal(init=1), Signal(init=1)
        done = Signal(init=1)
        m.d.comb += [self.free.eq(free), self.idle.eq(idle), self.done.eq(done)]
        m.d.sync += [
            summing.eq(Cat(reading, summing)),
            done.eq(idle & self.captured & ~self.reserve & ~reading & (busy == 0)),
        ]
        with m.If(full & ~released):
            m.d.sync += waiting.eq(Cat(1, waiting[0]))
        with m.Elif(released & ~full):
            m.d.sync += waiting.eq(waiting[1])
        with m.If(self.reserve & ~leaves):
            m.d.sync += [idle.eq(0), free.eq(idle)]
        with m.Elif(leaves & ~self.reserve):
            m.d.sync += [idle.eq(free), free.eq(1)]

        # 1: what the first pipe reads, once its first lane has it.
        choice = Signal(choice_layout(config))
        m.d.sync += [
            choice.first.eq(word == 0),
            choice.last.eq(word_last),
            choice.word.eq(word),
            choice.buffer.eq(buffer),
            choice.lane.eq(lane),
            choice.target.eq(target),
        ]

        # 3 to 33: the sum over the pipes, loss_lanes cycles later in each.
        pipes = [LossPipe(config) for _ in range(config.loss_pipes)]
        for number, pipe in enumerate(pipes):
            m.submodules[f"pipe{number}"] = pipe
            own = number * config.loss_lanes
            m.d.comb += [pipe.results[lane].eq(self.results[own + lane]) for lane in range(config.loss_lanes)]
        m.d.comb += [
            pipes[0].capture.eq(capture),
            pipes[0].choice.eq(delayed(m, choice, _CHOICE_CYCLES - 1)),
            pipes[0].settings.eq(settings),
        ]
        wiring.connect(m, wiring.flipped(self.target_write), pipes[0].target_write)
        for before, after in pairwise(pipes):
            m.d.comb += [
                after.capture.eq(before.next_capture),
                after.choice.eq(before.next_choice),
                after.settings.eq(before.next_settings),
                after.sum.eq(before.next_sum),
            ]
            wiring.connect(m, before.next_target_write, after.target_write)

        # The slot is known long before the sum.
        addend = Signal(_addend_layout(config))
        m.d.sync += [
            addend.slot.eq(Mux(is_difference, named[buffer], slot_index)),
            addend.first.eq(slot_first),
            addend.last.eq(end),
            addend.is_difference.eq(is_difference),
        ]
        clear = prepared | self.run_start
        self._slots(m, addend, pipes[-1].next_sum, summing, accumulate, clear)

        with m.If(prepared):
            m.d.sync += [register.eq(0) for register in (capture_word, capture_buffer, word, lane, buffer, slot_index)]
            m.d.sync += [
                capture_first.eq(1),
                capture_last.eq(is_single),
                word_last.eq(is_single),
                lane_last.eq(config.loss_lanes == 1),
                group.eq(last_group),
                group_last.eq(is_only),
                slot_first.eq(1),
                target.eq(first_target),
                next_target.eq(second_target),
            ]
        with m.If(self.run_start):
            m.d.sync += [register.eq(0) for register in (waiting, summing, busy)]
            m.d.sync += [register.eq(1) for register in (free, idle, done)]
        return m

    def _slots(
        self, m: Module, addend: data.View, total: data.View, summing: Signal, accumulate: Value, clear: Value
    ) -> None:
        """Adds the sum over the pipes, there ``_SLOT_CYCLES`` before ``summing`` ends, to the slot of its addend.

        Numbers in comments are cycles after that sum. A slot's sum goes on from zero, then what the slot held is added.
        """
        loss_word = self.config.loss_word

        def valid(cycle: int) -> Value:
            return summing[len(summing) - _SLOT_CYCLES + cycle]

        # -2: the address. -1: at the memory. 1: what the slot held is there; 2: unless it was stored just before.
        ahead = 2
        m.submodules.addends = addends = DelayLine(
            width=len(addend.as_value()), cycles=len(summing) - _SLOT_CYCLES - ahead
        )
        early = data.View(addend.shape(), addends.o)
        m.submodules.slots = slots = BlockRam(width=loss_word, depth=self.config.losses)
        address = Signal(range(self.config.losses))
        m.d.sync += address.eq(
            Mux(
                valid(-ahead),
                early.slot,
                Mux(self.coefficient_reads, self.coefficient_read.address, self.host_read.address),
            )
        )
        m.d.comb += [
            addends.i.eq(addend),
            slots.read_address.eq(address),
            self.host_read.data.eq(slots.read_data),
            self.coefficient_read.data.eq(slots.read_data),
        ]
        before, now = (delayed(m, early, cycles) for cycles in (1, ahead))
        previous = Signal.like(before.slot)
        known = Signal()
        with m.If(valid(-1) & before.last):
            m.d.sync += [previous.eq(before.slot), known.eq(1)]
        # What was read misses the sums stored since, of which one at most is that slot's: the one before.
        is_previous = delayed(m, known & (before.slot == previous), 2)
        stored = Signal(loss_word)
        base = Signal(loss_word)
        m.d.sync += base.eq(Mux(accumulate, Mux(is_previous, stored, slots.read_data), 0))

        # 1: what is added; 2: the slot's sum from zero, one bit more.
        loss = Signal(loss_word)
        right = Signal.like(total.right)
        slot_sum = Signal(loss_word)
        whole = Signal(loss_word + 1)
        beyond = Signal()
        first, slot_now = delayed(m, now.first, 1), delayed(m, now.slot, 1)
        # Bit n: a slot's last output was there n + 1 cycles ago.
        ends = Signal(_SLOT_CYCLES - 1)
        is_valid = valid(0) & ~self.run_start
        m.d.sync += ends.eq(Cat(is_valid & now.last, ends))
        with m.If(is_valid):
            m.d.sync += [loss.eq(total.loss[:loss_word]), beyond.eq(total.loss[loss_word:].any())]
            m.d.sync += right.eq(Mux(now.is_difference, 0, total.right))
        with m.Else():
            m.d.sync += [loss.eq(0), beyond.eq(0), right.eq(0)]
        following = slot_sum + loss
        m.d.sync += [whole.eq(following), slot_sum.eq(following)]
        with m.If(ends[0] | clear):
            m.d.sync += slot_sum.eq(0)
        correct = self.correct + right
        m.d.sync += self.correct.eq(correct | correct[len(self.correct) :].any().replicate(len(self.correct)))

        # 3: with what the slot held; whether any sum left ``loss_word`` bits. 4: saturated, and stored.
        summed = Signal(loss_word + 1)
        overflowed = Signal()
        m.d.sync += [
            summed.eq(whole[:loss_word] + base),
            overflowed.eq(whole[loss_word] | delayed(m, beyond, 1) | (overflowed & ~delayed(m, first, 1))),
            slots.write.eq(ends[-1]),
            slots.write_address.eq(delayed(m, slot_now, 2)),
        ]
        with m.If(ends[-1]):
            m.d.sync += stored.eq(summed[:loss_word] | (summed[loss_word] | overflowed).replicate(loss_word))
        m.d.comb += slots.write_data.eq(stored)
        with m.If(self.correct_clear | self.run_start):
            m.d.sync += self.correct.eq(0)
        with m.If(self.run_start):
            m.d.sync += [known.eq(0), ends.eq(0)]
