"""The arithmetic of a sample's loss: a pipeline without branches that takes an output a cycle.

    |reference - output| ─ product ─ shift ─┬─ exp2 ─ sum of a sample ─ log2 ─┬─ loss
                                            └─ label's exponent, square ──────┘

The reference is the sample's largest output (cross-entropy) or its target (squared error). All numbers are unsigned
after the difference. Every output takes the same cycles whatever the kind, so that samples of a single output follow
each other without a gap. The exponential and the logarithm are tables with linear interpolation.
"""

from __future__ import annotations

import numpy as np
from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .cells import Multiplier, Rom
from .config import LOSS_FRACTION, Config
from .delay import DelayLine, delayed
from .loss_tables import EXP2, LOG2, LOG2_E, SHIFT_LIMIT, TABLE_BITS

#: Fits the factor of the exponent, which has 16 fraction bits.
_FACTOR = 2 * LOG2_E
#: The factor without its zeros, and how many these are.
_ODD = _FACTOR >> 2
_ZEROS = 2
#: The factor is shifted left by up to 3, so that its product is shifted right by multiples of 4.
_STEP = 4
#: Cycles from an output to what it adds.
SAMPLE_CYCLES = 25


def loss_bits(config: Config) -> int:
    """Bits of what one output adds: a square, or a label's exponent and the logarithm."""
    return config.output_word + max(config.output_word, _FACTOR.bit_length()) + 1


def scale_layout() -> data.StructLayout:
    """The scale of the exponents: ``up``, bits that the factor is shifted left; ``down``, then right, in 4 bits."""
    return data.StructLayout({"up": range(_STEP), "down": range((31 + _STEP - _ZEROS) // _STEP + 1)})


def scale_of(fraction: Value) -> Value:
    """The scale for outputs of so many fraction bits, 5 bits: shifts right by ``fraction`` - 2 in all."""
    return Cat((C(_ZEROS, 2) - fraction)[:2], ((fraction + (_STEP - 1 - _ZEROS)) >> 2)[:4])


def term_layout(config: Config) -> data.StructLayout:
    """An output and what it is compared with.

    ``value`` is output number ``word`` of its sample, ``first`` and ``last`` say whether it is the first or last;
    ``reference`` is the sample's largest output, of place ``place``, or this output's target, ``wanted`` the label.
    """
    word = signed(config.output_word)
    place = range(config.outputs)
    return data.StructLayout(
        {"first": 1, "last": 1, "word": place, "value": word, "reference": word, "place": place, "wanted": word}
    )


class SampleLoss(wiring.Component):
    """What each output adds to the loss, ``SAMPLE_CYCLES`` later; ``loss.losses`` is the model of a sample's sum.

    ``squared`` and ``scale`` are the kind of loss and, for cross-entropy, what goes with the outputs' fraction bits
    (else 0); they are constant while outputs are on their way. ``right`` comes with the last one's ``loss`` when the
    label is the place of the largest output.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "squared": In(1),
                "scale": In(scale_layout()),
                "term": In(term_layout(config)),
                "loss": Out(loss_bits(config)),
                "right": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The block's logic; numbers in comments are cycles after ``term``."""
        config = self._config
        m = Module()
        term = self.term
        # A copy for the late stages.
        squared = delayed(m, self.squared, 1)

        # 1: the difference to the reference; labels. 2: its magnitude.
        difference = Signal(signed(config.output_word + 1))
        magnitude = Signal(config.output_word)
        is_label = Signal()
        right = Signal()
        m.d.sync += [
            difference.eq(term.reference - term.value),
            is_label.eq(squared | (term.word == term.wanted)),
            right.eq(term.last & ~squared & (term.place == term.wanted)),
            magnitude.eq(abs(difference)),
        ]

        # 3, 4: times log2(e), or times itself.
        factor_bits = max(config.output_word, (_ODD << _STEP - 1).bit_length())
        m.submodules.product = product = Multiplier(a_bits=config.output_word, b_bits=factor_bits, is_signed=False)
        m.d.comb += [product.a.eq(magnitude), product.b.eq(Mux(self.squared, magnitude, C(_ODD) << self.scale.up))]

        # 5, 6, 7: rounded to LOSS_FRACTION fraction bits, doubled until then; 8: what is added without a logarithm.
        doubled = Cat(C(0, 1), product.o)
        coarse = Signal(len(doubled))
        fine = Signal(len(doubled))
        below = Signal(len(product.o))
        direct = Signal(loss_bits(config) - 1)
        down = self.scale.down
        m.d.sync += [
            coarse.eq(doubled >> Cat(C(0, 3), down[1:3])),
            fine.eq(Mux(down[3], coarse >> 8 * _STEP, Mux(down[0], coarse >> _STEP, coarse))),
            below.eq((fine + 1) >> 1),
            direct.eq(Mux(delayed(m, is_label, 6), below, 0)),
        ]

        # 8 to 13: 2 to the minus fraction; 14, 15: half of it, and so on; 16: sum of a sample, exact.
        power = Signal(LOSS_FRACTION + 1)
        m.d.sync += power.eq(self._interpolated(m, "exp2", EXP2, below[:LOSS_FRACTION]))
        whole = below[LOSS_FRACTION:]
        halvings = Signal(range(SHIFT_LIMIT + 2))
        m.d.sync += halvings.eq(Mux(whole > SHIFT_LIMIT, SHIFT_LIMIT + 1, whole))
        late = delayed(m, halvings, 5)
        later = delayed(m, late[2:], 1)
        # Doubled: the last bit shifted out, which rounds, goes into the sum.
        quartered = Signal(len(power) + 1)
        halved = Signal.like(quartered)
        total = Signal(LOSS_FRACTION + config.outputs.bit_length())
        before = Mux(delayed(m, term.first, 15), 0, total)
        m.d.sync += [
            quartered.eq(Cat(C(0, 1), power) >> late[:2]),
            halved.eq(Mux(later[2], quartered >> 16, quartered >> Cat(C(0, 2), later[:2]))),
            total.eq((halved + Cat(C(1, 1), before)) >> 1),
        ]

        # 17: leading one; 18: what is behind it; 19 to 24: the logarithm.
        places = range(LOSS_FRACTION, len(total))
        exponent = Signal(range(len(places)))
        mantissa = Signal(LOSS_FRACTION)
        logarithm = Signal(LOSS_FRACTION + len(exponent))
        m.d.sync += exponent.eq(0)
        for place in places:
            with m.If(total[place]):
                m.d.sync += exponent.eq(place - LOSS_FRACTION)
        m.d.sync += mantissa.eq(delayed(m, total, 1) >> exponent)
        flags = Cat(delayed(m, right, 6), delayed(m, term.last & ~squared, 7))
        m.submodules.wait = wait = DelayLine(width=len(direct) + len(flags), cycles=SAMPLE_CYCLES - 9)
        m.d.comb += wait.i.eq(Cat(flags, direct))
        is_right, is_last = wait.o[0], wait.o[1]
        m.d.sync += logarithm.eq(
            Mux(is_last, self._interpolated(m, "log2", LOG2, mantissa, delayed(m, exponent, 6)), 0)
        )

        # 25: what the output adds.
        m.d.sync += [self.loss.eq(wait.o[2:] + logarithm), self.right.eq(delayed(m, is_right, 1))]
        return m

    def _interpolated(
        self, m: Module, name: str, table: np.ndarray, position: Value, whole: Value | None = None
    ) -> Value:
        """The table's value at a position of LOSS_FRACTION bits, five cycles later: a sum that goes into a register.

        ``whole``, of then, is put before the fraction of a table whose values are all below 1.
        """
        steps = np.diff(table)
        layout = data.StructLayout(
            {"step": int(abs(steps).max()).bit_length(), "value": int(table[:-1].max()).bit_length()}
        )
        rows = [{"value": int(value), "step": int(abs(by))} for value, by in zip(table, steps, strict=False)]
        m.submodules[name] = rom = Rom(width=layout.size, words=[layout.const(row).as_bits() for row in rows])
        m.d.comb += rom.read_address.eq(position[TABLE_BITS:])
        row = data.View(layout, rom.read_data)
        product = self._product(m, row.step, delayed(m, position[:TABLE_BITS], 2))
        value = delayed(m, row.value, 3)
        if whole is not None:
            value = Cat(value, whole)
        # The last bit shifted out rounds: into the sum, or out of the difference.
        most = product[TABLE_BITS - 1 :]
        return (Cat(C(1, 1), value) + most if steps[0] > 0 else Cat(C(0, 1), value) - most)[1 : len(value) + 1]

    def _product(self, m: Module, a: Value, b: Value) -> Value:
        """The product of two narrow unsigned factors three cycles later, a layer of adders each: DSP blocks are few."""
        terms: list[Value] = [Mux(bit, a, 0) for bit in b]
        for layer in range(3):
            sums = [
                Cat(low[: 1 << layer], low[1 << layer :] + high)
                for low, high in zip(terms[::2], terms[1::2], strict=True)
            ]
            terms = [Signal(len(total), name=f"layer{layer}") for total in sums]
            m.d.sync += [term.eq(total) for term, total in zip(terms, sums, strict=True)]
        return terms[0]
