"""The coefficient unit: turns the losses of a step's evaluations into one coefficient a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from . import arithmetic
from .cells import BlockRam, Multiplier
from .config import COEFFICIENT_FRACTION, PRODUCT_SHIFT, Config
from .delay import delayed
from .isa import Coefficient
from .layouts import instruction_layout
from .numbers import round_shift, saturate

#: Cycles after the last read of the first pass until the scale is stored, and of the second until all can be read.
_FIRST_REST = 28
_SECOND_REST = 20
#: Of the first: cycles that are left when the change of the scale is there.
_CHANGED = 18
#: Bits of a byte, for the highest 1 of a word.
_BYTE = 8
#: Bits of a ratio with a bit to round: one that does not fit is beyond every clip.
_ROUGH = 19


@dataclass(frozen=True, kw_only=True)
class CoefficientState:
    """The registers that outlive an instruction: ``rate`` and ``rate_step`` (32 bits), ``scale`` (``loss_word``)."""

    rate: int = 0
    rate_step: int = 0
    scale: int = 0


def coefficients(
    config: Config, instruction: Coefficient, slots: Sequence[int], state: CoefficientState
) -> tuple[list[int], CoefficientState, int]:
    """The coefficients of ``instruction`` from the loss ``slots``, the registers afterwards and the history's loss.

    Coefficients are in units of the master's last bit, ``config.momentum_word`` bits.
    """
    limit = (1 << config.loss_word) - 1
    queries = instruction.queries
    if instruction.two_sided:
        used = 2 * queries
        differences = [slots[2 * query] - slots[2 * query + 1] for query in range(queries)]
    else:
        used = queries + 1
        differences = [slots[query + 1] - slots[0] for query in range(queries)]
    scale = state.scale
    if instruction.normalise:
        total = min(sum(map(abs, differences)), limit)
        scale = scale + (total - scale >> instruction.average) if scale else total
        exponent = max(scale.bit_length() - 1 - instruction.shift, 0)
    else:
        exponent = instruction.shift
    result = []
    for difference in differences:
        ratio = round_shift(difference << COEFFICIENT_FRACTION, exponent)
        ratio = min(max(ratio, -instruction.clip), instruction.clip)
        result.append(saturate(round_shift(ratio * state.rate, PRODUCT_SHIFT), config.momentum_word))
    after = CoefficientState(rate=max(0, state.rate - state.rate_step), rate_step=state.rate_step, scale=scale)
    return result, after, min(sum(slots[:used]), limit)


def _highest(bits: Value) -> Value:
    """Position of the highest 1 (0 if there is none)."""
    position: Value = C(0, max((len(bits) - 1).bit_length(), 1))
    for place in range(1, len(bits)):
        position = Mux(bits[place], place, position)
    return position


def _window(value: Value, amount: Value, step: int, width: int) -> tuple[Value, Value]:
    """``value >> step * amount`` as a signed word of ``width`` bits, and whether it does not fit in."""
    shifts = [step * number for number in range(1 << len(amount))]
    wide = Cat(value, value[-1].replicate(shifts[-1] + width))
    words = Array(wide[shift : shift + width] for shift in shifts)
    above = (value[min(shift + width - 1, len(value) - 1) :] for shift in shifts)
    beyond = Array(bits.any() & ~bits.all() for bits in above)
    return words[amount].as_signed(), beyond[amount]


class CoefficientUnit(wiring.Component):
    """Carries out COEFFICIENT instructions; the model is ``coefficients``.

    ``instruction`` is taken with ``start``, only while ``ready``, and with it ``correct``, which ``correct_clear``
    clears in the next cycle. Started at cycle s, the unit is ready again at s + ``coefficient_cycles``, when the
    coefficient of an index that was there before can be seen, and all others can be asked for. It goes through the
    slots twice, two cycles a query: for the sum of the absolute differences, then for the coefficients. The instruction
    must be a valid one: the sequencer checks it.

    ``loss`` is the slot at ``slot``, asked for while ``reads``, three cycles later; ``coefficient`` is the word at
    ``coefficient_index`` two cycles later and ``history_data`` that at ``history_address`` three cycles later. All
    outputs are registers. ``steps`` counts from ``run_start``. The host writes ``host_data`` to a register with its
    strobe (``scale_write``: low, high half), only while ready.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "instruction": In(instruction_layout(Coefficient)),
                "start": In(1),
                "ready": Out(1),
                "reads": Out(1),
                "slot": Out(range(config.losses)),
                "loss": In(config.loss_word),
                "correct": In(16),
                "correct_clear": Out(1),
                "coefficient_index": In(range(config.losses)),
                "coefficient": Out(signed(config.momentum_word)),
                "run_start": In(1),
                "steps": Out(32),
                "history_address": In(range(4 * config.history)),
                "history_data": Out(32),
                "rate": Out(32),
                "rate_step": Out(32),
                "scale": Out(config.loss_word),
                "rate_write": In(1),
                "rate_step_write": In(1),
                "scale_write": In(2),
                "host_data": In(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Control, the two passes, the coefficients' memory, the history and the registers."""
        m = Module()
        config = self._config
        loss_word = config.loss_word

        # Control: two passes of 2 * queries reads, each with a fixed rest behind it.
        instruction = Signal.like(self.instruction)
        two_sided = instruction.two_sided
        correct = Signal.like(self.correct)
        ready = Signal(init=1)
        query, following = Signal(range(config.losses)), Signal(range(config.losses))
        phase = Signal()
        first, last = Signal(), Signal()
        second = Signal()
        reading, resting = Signal(), Signal()
        rest = Signal(range(max(_FIRST_REST, _SECOND_REST)))
        rested, changed = Signal(), Signal()
        finish = Signal()
        m.d.comb += [self.ready.eq(ready), finish.eq(rested & second)]
        m.d.sync += [
            self.correct_clear.eq(self.start),
            # The parity of the cycle within the pass; it goes on while the last products are formed.
            phase.eq(~phase),
            last.eq(following == instruction.queries[: len(following)]),
            rested.eq(resting & (rest == 1)),
            changed.eq(resting & ~second & (rest == _CHANGED)),
            self.slot.eq(Mux(two_sided, Cat(phase, query), Mux(phase, 0, following))),
            self.reads.eq(reading),
        ]
        with m.If(resting):
            m.d.sync += rest.eq(rest - 1)
        with m.If(reading & phase):
            m.d.sync += [query.eq(following), following.eq(following + 1), first.eq(0)]
            with m.If(last):
                m.d.sync += [reading.eq(0), resting.eq(1), rest.eq(Mux(second, _SECOND_REST - 1, _FIRST_REST - 1))]
        with m.If(rested):
            m.d.sync += [resting.eq(0), reading.eq(~second), ready.eq(second), second.eq(1)]
            m.d.sync += [query.eq(0), following.eq(1), phase.eq(0)]
        with m.If(self.start):
            m.d.sync += [instruction.eq(self.instruction), correct.eq(self.correct)]
            m.d.sync += [reading.eq(1), ready.eq(0), second.eq(0), first.eq(1)]
            m.d.sync += [query.eq(0), following.eq(1), phase.eq(0)]

        # A query's two losses are read in cycles 0 and 1 and come in 5 and 6: its difference stands in 7 and 8.
        # since[n] is high in cycle n + 1 of a query.
        since = Signal(18)
        m.d.comb += since[0].eq(reading & phase)
        m.d.sync += since[1:].eq(since)
        loss, earlier = Signal(loss_word), Signal(loss_word)
        difference = Signal(signed(loss_word + 1))
        m.d.sync += [loss.eq(self.loss), earlier.eq(loss)]
        with m.If(since[5]):
            m.d.sync += difference.eq(earlier - loss)

        # First pass: the sums. Their top bits are carries, kept once they were 1. A negative difference's magnitude is
        # its complement and 1.
        negative = difference[-1]
        magnitude, magnitude_carry, counted = Signal(loss_word), Signal(), Signal(loss_word)
        magnitudes, losses = Signal(loss_word + 1), Signal(loss_word + 1)
        many_magnitudes, many_losses = Signal(), Signal()
        counts = delayed(m, reading & ~second & (two_sided | ~phase | first), 5)
        clear = delayed(m, self.correct_clear, 1)
        m.d.sync += [
            magnitude.eq(Mux(since[6] & ~second, difference[:-1] ^ negative.replicate(loss_word), 0)),
            magnitude_carry.eq(since[6] & ~second & negative),
            counted.eq(Mux(counts, loss, 0)),
            magnitudes.eq((Cat(magnitude_carry, magnitudes[:-1]) + Cat(magnitude_carry, magnitude)) >> 1),
            losses.eq(losses[:-1] + counted),
            many_magnitudes.eq(~clear & (many_magnitudes | magnitudes[-1])),
            many_losses.eq(~clear & (many_losses | losses[-1])),
        ]
        with m.If(clear):
            m.d.sync += [magnitudes.eq(0), losses.eq(0)]

        # From them the scale: the change is shifted by a bit a cycle, not at all where there was no scale.
        sum_magnitude, sum_loss = Signal(loss_word), Signal(loss_word)
        change = Signal(signed(loss_word + 1))
        share = Signal.like(change)
        shifts = Signal.like(instruction.average)
        is_new = Signal()
        scale = Signal(loss_word)
        m.d.sync += [
            sum_magnitude.eq(magnitudes[:-1] | many_magnitudes.replicate(loss_word)),
            sum_loss.eq(losses[:-1] | many_losses.replicate(loss_word)),
            is_new.eq(self.scale == 0),
            change.eq(sum_magnitude - self.scale),
            scale.eq(self.scale + share),
        ]
        with m.If(changed):
            m.d.sync += [share.eq(change), shifts.eq(Mux(is_new, 0, instruction.average))]
        with m.Elif(shifts != 0):
            m.d.sync += [share.eq(share >> 1), shifts.eq(shifts - 1)]
        with m.If(rested & ~second & instruction.normalise):
            m.d.sync += self.scale.eq(scale)

        # The exponent, six cycles after the scale: the highest byte that is not 0, its highest 1, and the shift.
        octets = [self.scale[place : place + _BYTE] for place in range(0, loss_word, _BYTE)]
        filled = Signal(len(octets))
        place = Signal(range(len(octets)))
        octet = Signal(_BYTE)
        position = Signal(range(_BYTE * len(octets)))
        excess = Signal(signed(7))
        exponent = Signal(6)
        m.d.sync += [
            filled.eq(Cat(octet.any() for octet in octets)),
            place.eq(_highest(filled)),
            octet.eq(Array(octets)[place]),
            position.eq(Cat(_highest(octet), delayed(m, place, 1))),
            excess.eq(position - instruction.shift),
            exponent.eq(Mux(instruction.normalise, Mux(excess < 0, 0, excess), instruction.shift)),
        ]

        # Second pass, cycles after the difference. 1, 2, 3: shift (doubled, so that the last bit shifted out is there
        # to round); 4: round; 5: compare; 6: clip.
        doubled = Cat(C(0, COEFFICIENT_FRACTION + 1), difference)
        coarse, medium, fine = (Signal(signed(_ROUGH + more)) for more in (15, 3, 0))
        beyond = Signal(3)
        rounded = Signal(signed(_ROUGH))
        narrow = Signal(signed(17))
        ratio = Signal(signed(17))
        least = Signal(signed(17))
        too_high, too_low = Signal(), Signal()
        windows = zip((doubled, coarse, medium), (coarse, medium, fine), (16, 4, 1), strict=True)
        for number, (source, target, step) in enumerate(windows):
            amount = exponent[4 - 2 * number :][:2]
            word, exceeds = _window(source, amount, step, len(target))
            m.d.sync += [target.eq(word), beyond[number].eq(exceeds | (beyond[number - 1] if number else 0))]
        clip = Cat(instruction.clip, C(0, 1)).as_signed()
        is_beyond, is_negative = delayed(m, beyond[-1], 1), delayed(m, negative, 4)
        m.d.sync += [
            rounded.eq((fine + 1) >> 1),
            narrow.eq(rounded),
            too_high.eq(Mux(is_beyond, ~is_negative, (clip - rounded)[-1])),
            too_low.eq(Mux(is_beyond, is_negative, (clip + rounded)[-1])),
            least.eq(-clip),
            ratio.eq(Mux(too_high, clip, Mux(too_low, least, narrow))),
        ]

        # The ratio stands for two cycles: one multiplier takes the rate's low half, then its high half.
        m.submodules.product = product = Multiplier(a_bits=17, b_bits=17)
        low = Signal(signed(18))
        scaled = Signal(signed(34))
        word = Signal(signed(config.momentum_word))
        exceeds, exceeds_below = Signal(), Signal()
        m.d.comb += [product.a.eq(ratio), product.b.eq(Mux(phase, self.rate[:16], self.rate[16:]))]
        m.d.sync += [
            low.eq(arithmetic.round_shift(product.o[:33].as_signed(), PRODUCT_SHIFT)),
            scaled.eq(product.o + low),
            word.eq(scaled),
            exceeds.eq(scaled[len(word) - 1 :].any() & ~scaled[len(word) - 1 :].all()),
            exceeds_below.eq(scaled[-1]),
        ]
        most = Cat((~exceeds_below).replicate(len(word) - 1), exceeds_below)
        m.submodules.memory = memory = BlockRam(width=config.momentum_word, depth=config.losses)
        m.d.sync += [
            memory.write.eq(since[17] & second),
            memory.write_data.eq(Mux(exceeds, most, word)),
        ]
        with m.If(memory.write):
            m.d.sync += memory.write_address.eq(memory.write_address + 1)
        with m.If(clear):
            m.d.sync += memory.write_address.eq(0)
        m.d.comb += [memory.read_address.eq(self.coefficient_index), self.coefficient.eq(memory.read_data)]

        # The history and the step's end.
        m.submodules.history = history = BlockRam(width=loss_word + 16, depth=config.history)
        m.d.comb += [
            history.write.eq(finish),
            history.write_address.eq(self.steps),
            history.write_data.eq(Cat(sum_loss, correct)),
            history.read_address.eq(self.history_address[2:]),
        ]
        past = history.read_data
        with m.Switch(delayed(m, self.history_address[:2], 2)):
            with m.Case(0):
                m.d.sync += self.history_data.eq(past[:32])
            with m.Case(1):
                m.d.sync += self.history_data.eq(past[32:loss_word])
            with m.Case(2):
                m.d.sync += self.history_data.eq(past[loss_word:])
            with m.Default():
                m.d.sync += self.history_data.eq(0)
        lowered = Signal(signed(33))
        m.d.sync += lowered.eq(self.rate - self.rate_step)
        with m.If(finish):
            m.d.sync += [self.steps.eq(self.steps + 1), self.rate.eq(Mux(lowered < 0, 0, lowered))]
        with m.If(self.run_start):
            m.d.sync += self.steps.eq(0)

        with m.If(self.rate_write):
            m.d.sync += self.rate.eq(self.host_data)
        with m.If(self.rate_step_write):
            m.d.sync += self.rate_step.eq(self.host_data)
        with m.If(self.scale_write[0]):
            m.d.sync += self.scale[:32].eq(self.host_data)
        with m.If(self.scale_write[1]):
            m.d.sync += self.scale[32:].eq(self.host_data)
        return m
