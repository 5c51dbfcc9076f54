"""The arithmetic of a sample's loss: a pipeline without branches that takes an output a cycle.

    |reference - output| ─ product ─ shift ─┬─ exp2 ─ sum of a sample ─ log2 ─┬─ loss
                                            └─ label's exponent, square ──────┘

The reference is the sample's largest output (cross-entropy) or its target (squared error). All numbers are unsigned
after the difference. Every output takes the same cycles whatever the kind, so that samples of a single output follow
each other without a gap. The exponential and the logarithm are tables with linear interpolation.
"""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import arithmetic
from .cells import rom_attributes
from .config import LOSS_FRACTION, Config
from .delay import DelayLine, delayed
from .loss_lane import output_layout

#: log2(e) with 15 fraction bits.
LOG2_E = 47274
#: log2 of the intervals of both tables.
TABLE_BITS = 8
#: 2^(-k/256) and log2(1 + k/256) with LOSS_FRACTION fraction bits, the end of the last interval included.
EXP2 = np.array([round(2**LOSS_FRACTION * 2 ** (-k / 256)) for k in range(257)])
LOG2 = np.array([round(2**LOSS_FRACTION * float(np.log2(1 + k / 256))) for k in range(257)])
#: Halvings after which an exponential is below half of its last bit.
SHIFT_LIMIT = LOSS_FRACTION + 1
#: Fits the factor of the exponent, which has 16 fraction bits.
_FACTOR = 2 * LOG2_E


def loss_bits(config: Config) -> int:
    """Bits of what one output adds: a square, or a label's exponent and the logarithm."""
    return config.output_word + max(config.output_word, _FACTOR.bit_length()) + 1


class SampleLoss(wiring.Component):
    """What each output adds to the loss, 16 cycles later; ``loss.losses`` is the model of a sample's sum.

    ``squared`` and ``shift`` are the kind of loss and, for cross-entropy, the outputs' fraction bits (else 0); they are
    constant while outputs are on their way. ``output`` is output number ``word`` of a sample, ``first`` and ``last``
    say whether it is the first or last; ``wanted`` is the sample's label or this output's target. ``right`` comes with
    the last one's ``loss`` when the label is the place of the largest output.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "squared": In(1),
                "shift": In(5),
                "first": In(1),
                "last": In(1),
                "word": In(range(config.outputs)),
                "output": In(output_layout(config)),
                "wanted": In(signed(config.output_word)),
                "loss": Out(loss_bits(config)),
                "right": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The block's logic; numbers in comments are cycles after ``output``."""
        config = self._config
        m = Module()
        output, squared = self.output, self.squared

        # 1: the difference to the reference; labels.
        difference = Signal(signed(config.output_word + 1))
        is_label = Signal()
        right = Signal()
        m.d.sync += [
            difference.eq(Mux(squared, self.wanted, output.largest) - output.value),
            is_label.eq(self.word == self.wanted),
            right.eq(self.last & ~squared & (output.place == self.wanted)),
        ]

        # 2, 3: times log2(e), or times itself; 4, 5, 6: rounded to LOSS_FRACTION fraction bits.
        magnitude = Signal(config.output_word)
        factor = Signal(max(config.output_word, _FACTOR.bit_length()))
        product = Signal(len(magnitude) + len(factor))
        coarse = Signal(len(product) + 1)
        fine = Signal(len(coarse))
        below = Signal(len(product))
        m.d.sync += [
            magnitude.eq(abs(difference)),
            factor.eq(Mux(squared, abs(difference), _FACTOR)),
            product.eq(magnitude * factor),
            coarse.eq(Cat(Const(0, 1), product) >> Cat(Const(0, 3), self.shift[3:])),
            fine.eq(coarse >> self.shift[:3]),
            below.eq((fine + 1) >> 1),
        ]
        direct = Signal.like(below)
        m.d.comb += direct.eq(Mux(squared | delayed(m, is_label, 5), below, 0))

        # 7, 8, 9: 2 to the minus fraction; 10: half of it, and so on; 11: sum of a sample, exact.
        power = self._interpolate(m, platform, "exp2", EXP2, below[:LOSS_FRACTION])
        whole = below[LOSS_FRACTION:]
        halvings = Signal(range(SHIFT_LIMIT + 2))
        m.d.sync += halvings.eq(Mux(whole > SHIFT_LIMIT, SHIFT_LIMIT + 1, whole))
        halved = Signal(len(power) + 1)
        total = Signal(LOSS_FRACTION + config.outputs.bit_length())
        m.d.sync += [
            halved.eq(Cat(Const(0, 1), power) >> delayed(m, halvings, 2)),
            total.eq(Mux(delayed(m, self.first, 10), 0, total) + ((halved + 1) >> 1)),
        ]

        # 12: leading one; 13, 14, 15: the logarithm.
        exponent = Signal(range(len(total) - LOSS_FRACTION))
        mantissa = Signal(LOSS_FRACTION)
        for place in range(LOSS_FRACTION, len(total)):
            with m.If(total[place]):
                m.d.sync += [
                    exponent.eq(place - LOSS_FRACTION),
                    mantissa.eq(total[place - LOSS_FRACTION : place]),
                ]
        logarithm = self._interpolate(m, platform, "log2", LOG2, mantissa) + (delayed(m, exponent, 3) << LOSS_FRACTION)

        # 16: what the output adds.
        waiting = Cat(direct, delayed(m, right, 5), delayed(m, self.last, 6))
        m.submodules.wait = wait = DelayLine(width=len(waiting), cycles=9)
        m.d.comb += wait.i.eq(waiting)
        m.d.sync += [
            self.loss.eq(wait.o[:-2] + Mux(wait.o[-1] & ~squared, logarithm, 0)),
            self.right.eq(wait.o[-2]),
        ]
        return m

    def _interpolate(self, m: Module, platform: object, name: str, table: np.ndarray, position: Value) -> Signal:
        """The table's value at a position of LOSS_FRACTION bits, three cycles later."""
        steps = np.diff(table)
        layout = data.StructLayout({"value": LOSS_FRACTION + 1, "step": int(abs(steps).max()).bit_length()})
        rows = [{"value": int(value), "step": int(abs(by))} for value, by in zip(table, steps, strict=False)]
        m.submodules[name] = memory = Memory(shape=layout, depth=len(rows), init=rows, attrs=rom_attributes(platform))
        row = memory.read_port()
        m.d.comb += row.addr.eq(position[TABLE_BITS:])
        product = Signal(layout["step"].width + TABLE_BITS, name=f"{name}_product")
        result = Signal(LOSS_FRACTION + 1, name=f"{name}_result")
        m.d.sync += product.eq(arithmetic.small_product(row.data.step, delayed(m, position[:TABLE_BITS], 1)))
        rounded = (product + (1 << (TABLE_BITS - 1))) >> TABLE_BITS
        value = delayed(m, row.data.value, 1)
        m.d.sync += result.eq(value - rounded if steps[0] < 0 else value + rounded)
        return result
