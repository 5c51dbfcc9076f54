"""The coefficient unit: turns the losses of a step's evaluations into one coefficient a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import arithmetic
from .collisions import NO_COLLISIONS
from .config import COEFFICIENT_FRACTION, Config
from .isa import Coefficient
from .layouts import instruction_layout
from .numbers import round_shift, saturate

#: Fraction bits of a rate against a normalised coefficient: c = q * rate / 2**16.
PRODUCT_SHIFT = 16
#: Cycles after the last slot address of a pass until its result can be used.
_SETTLE = 11


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


def _log2(value: Value) -> Value:
    """Position of the highest 1 of a power of two of bits (0 if there is none): a tree of multiplexers."""
    if len(value) == 1:
        return C(0, 0)
    half = len(value) // 2
    low, high = value[:half], value[half:]
    return Mux(high.any(), Cat(_log2(high), C(1, 1)), Cat(_log2(low), C(0, 1)))


class CoefficientUnit(wiring.Component):
    """Carries out COEFFICIENT instructions; the model is ``coefficients``.

    ``instruction`` is taken with ``start``, only while ``ready``, and with it ``correct``, which ``correct_clear``
    clears. Started at cycle s, the unit is ready again at s + ``coefficient_cycles``, when all its results can be read.
    It goes through the slots twice, two cycles a query: for the sum of the absolute differences, then for the
    coefficients. The instruction must be a valid one: the sequencer checks it.

    ``loss`` is the slot at ``slot`` and ``coefficient`` the word at ``coefficient_index``, one cycle later;
    ``history_data`` is the word at ``history_address``, two cycles later. ``steps`` counts from ``run_start``.
    The host writes ``host_data`` to a register with its strobe (``scale_write``: low, high half), only while ready.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "instruction": In(instruction_layout(Coefficient)),
                "start": In(1),
                "ready": Out(1),
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
        limit = (1 << loss_word) - 1

        # Control: two passes of 2 * queries reads and a fixed rest.
        instruction = Signal.like(self.instruction)
        correct = Signal.like(self.correct)
        query = Signal(16)
        phase = Signal()
        second = Signal()
        reading = Signal()
        rest = Signal(range(_SETTLE))
        finish = Signal()
        # The parity of the cycle within the pass; it goes on while the last products are formed.
        m.d.sync += phase.eq(~phase)
        m.d.comb += self.correct_clear.eq(self.start)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.ready.eq(1)
                with m.If(self.start):
                    m.d.sync += [instruction.eq(self.instruction), correct.eq(self.correct)]
                    m.d.sync += [query.eq(0), phase.eq(0), second.eq(0)]
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += reading.eq(1)
                m.d.sync += rest.eq(0)
                with m.If(phase):
                    m.d.sync += query.eq(query + 1)
                    with m.If(query == instruction.queries - 1):
                        m.next = "REST"
            with m.State("REST"):
                m.d.sync += rest.eq(rest + 1)
                with m.If(rest == _SETTLE - 1):
                    m.d.sync += [query.eq(0), phase.eq(0), second.eq(1)]
                    m.d.comb += finish.eq(second)
                    with m.If(second):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "READ"
        m.d.comb += self.slot.eq(Mux(instruction.two_sided, Cat(phase, query), Mux(phase, 0, query + 1)))

        # A query's two losses are read at cycles 0 and 1; its difference stands in cycles 3 and 4. delayed[n] is high
        # in cycle n + 1 of a query.
        delayed = [Signal(name=f"delayed{stage}") for stage in range(11)]
        m.d.comb += delayed[0].eq(reading & phase)
        for stage in range(1, len(delayed)):
            m.d.sync += delayed[stage].eq(delayed[stage - 1])
        loss = Signal(loss_word)
        difference = Signal(signed(loss_word + 1))
        m.d.sync += loss.eq(self.loss)
        with m.If(delayed[1]):
            m.d.sync += difference.eq(loss - self.loss)

        # First pass: the sums, and from them the scale and the exponent.
        size = loss_word + config.losses.bit_length()
        magnitude = Signal(loss_word)
        magnitudes, losses = Signal(size), Signal(size)
        counts = Signal(2)
        m.d.sync += [
            magnitude.eq(Mux(difference < 0, -difference, difference)),
            counts.eq(Cat(reading & ~second & (instruction.two_sided | ~phase | (query == 0)), counts[0])),
        ]
        with m.If(delayed[3] & ~second):
            m.d.sync += magnitudes.eq(magnitudes + magnitude)
        with m.If(counts[1]):
            m.d.sync += losses.eq(losses + loss)
        with m.If(self.start):
            m.d.sync += [magnitudes.eq(0), losses.eq(0)]
        sum_magnitude, sum_loss = Signal(loss_word), Signal(loss_word)
        change = Signal(signed(loss_word + 1))
        share = Signal.like(change)
        position = Signal(range(loss_word))
        exponent = Signal(6)
        m.d.sync += [
            sum_magnitude.eq(Mux(magnitudes > limit, limit, magnitudes)),
            sum_loss.eq(Mux(losses > limit, limit, losses)),
            change.eq(sum_magnitude - self.scale),
            share.eq(change >> instruction.average),
            position.eq(_log2(Cat(self.scale, C(0, 64 - loss_word)))),
            exponent.eq(instruction.shift),
        ]
        with m.If(instruction.normalise):
            m.d.sync += exponent.eq(Mux(position > instruction.shift, position - instruction.shift, 0))
        # The share stands from rest 6 of the first pass on, the exponent two cycles after the scale.
        with m.If((rest == 6) & ~second & instruction.normalise):
            m.d.sync += self.scale.eq(Mux(self.scale == 0, sum_magnitude, self.scale + share))

        # Second pass: shift in two stages (doubled first, so that the last bit shifted out is there to round), clip.
        coarse = Signal(signed(loss_word + COEFFICIENT_FRACTION + 2))
        fine = Signal.like(coarse)
        rounded = Signal.like(coarse)
        narrow = Signal(signed(18))
        ratio = Signal(signed(17))
        clip = Signal(signed(17))
        m.d.comb += clip.eq(instruction.clip)
        m.d.sync += [
            coarse.eq((difference << (COEFFICIENT_FRACTION + 1)) >> Cat(C(0, 3), exponent[3:])),
            fine.eq(coarse >> exponent[:3]),
            rounded.eq((fine + 1) >> 1),
            narrow.eq(arithmetic.saturate(rounded, 18)),
            ratio.eq(Mux(narrow > clip, clip, Mux(narrow < -clip, -clip, narrow))),
        ]

        # The ratio stands in cycles 8 and 9 of a query: one multiplier takes the rate's low half, then its high half.
        half = Signal(16)
        product = Signal(signed(33))
        low = Signal(signed(18))
        scaled = Signal(signed(34))
        m.d.sync += [
            half.eq(Mux(phase, self.rate[:16], self.rate[16:])),
            product.eq(ratio * half),
            low.eq(arithmetic.round_shift(product, PRODUCT_SHIFT)),
            scaled.eq(product + low),
        ]
        m.submodules.memory = memory = Memory(
            shape=signed(config.momentum_word), depth=config.losses, init=[], attrs=NO_COLLISIONS
        )
        write, read = memory.write_port(), memory.read_port()
        target = Signal(range(config.losses))
        with m.If(write.en):
            m.d.sync += target.eq(target + 1)
        with m.If(self.start):
            m.d.sync += target.eq(0)
        m.d.comb += [
            write.en.eq(delayed[10] & second),
            write.addr.eq(target),
            write.data.eq(arithmetic.saturate(scaled, config.momentum_word)),
            read.addr.eq(self.coefficient_index),
            self.coefficient.eq(read.data),
        ]

        # The history and the step's end.
        m.submodules.history = history = Memory(
            shape=loss_word + 16, depth=config.history, init=[], attrs=NO_COLLISIONS
        )
        entry, past = history.write_port(), history.read_port()
        word = Signal(2)
        m.d.comb += [
            entry.en.eq(finish),
            entry.addr.eq(self.steps),
            entry.data.eq(Cat(sum_loss, correct)),
            past.addr.eq(self.history_address[2:]),
        ]
        m.d.sync += word.eq(self.history_address[:2])
        with m.Switch(word):
            with m.Case(0):
                m.d.sync += self.history_data.eq(past.data[:32])
            with m.Case(1):
                m.d.sync += self.history_data.eq(past.data[32:loss_word])
            with m.Case(2):
                m.d.sync += self.history_data.eq(past.data[loss_word:])
            with m.Default():
                m.d.sync += self.history_data.eq(0)
        with m.If(finish):
            m.d.sync += [
                self.steps.eq(self.steps + 1),
                self.rate.eq(Mux(self.rate > self.rate_step, self.rate - self.rate_step, 0)),
            ]
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
