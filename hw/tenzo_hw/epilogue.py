"""The end of a lane: an accumulator becomes a word, one a cycle.

shift by fours ─ shift by ones ─ clamp ─ round ─┬─ table entry ─ its register ─ product ─ sum ─┬─ result
                                                └─ ReLU ────────────────────────────────────── ┘
"""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from . import arithmetic
from .cells import BlockRam, Multiplier
from .config import Config
from .isa import Activation, Contract
from .numbers import round_shift, saturate
from .timing import epilogue_latency


def model(config: Config, contract: Contract, accumulators: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Results of a contraction, int64 of the accumulators' shape.

    ``accumulators``: int64 of any shape, within ``config.accumulator`` bits. ``tables``: int64[tables, entries, 2],
    value and slope of each entry. Rounding is half up; the shifted sum and the interpolated value saturate to ``word``.
    """
    y = saturate(round_shift(accumulators, contract.shift), config.word)
    if contract.activation == Activation.NONE:
        return y
    if contract.activation == Activation.RELU:
        return np.maximum(y, 0)
    fraction_bits = config.word - config.table_bits
    entry = tables[contract.activation - Activation.TABLE0, (y >> fraction_bits) + (1 << (config.table_bits - 1))]
    step = entry[..., 1] * (y & ((1 << fraction_bits) - 1))
    return saturate(entry[..., 0] + round_shift(step, fraction_bits), config.word)


def outcomes(config: Config, contract: Contract, accumulators: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """What goes to the loss: the results of ``model``, without a function before they are saturated to ``word``.

    Then they saturate to ``output_word``.
    """
    if contract.activation == Activation.NONE:
        return saturate(round_shift(accumulators, contract.shift), config.output_word)
    return model(config, contract, accumulators, tables)


class TableWrite(wiring.Signature):
    """The host's writes to the tables: ``value`` or ``slope`` of entry ``address`` := ``data``."""

    def __init__(self, config: Config) -> None:
        super().__init__(
            {
                "value": Out(1),
                "slope": Out(1),
                "address": Out(range(max(config.tables, 1) << config.table_bits)),
                "data": Out(signed(config.word)),
            }
        )


class Epilogue(wiring.Component):
    """``result`` is ``model`` of ``accumulator``, ``shift`` and ``activation``, ``epilogue_latency`` cycles before.

    ``outcome`` is that of ``outcomes`` in the same cycle. One result a cycle. Without tables their hardware is left out
    and the latency is shorter.
    """

    def __init__(self, *, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "accumulator": In(signed(config.accumulator)),
                "shift": In(Contract.FIELDS["shift"].width),
                "activation": In(Activation),
                "table_write": In(TableWrite(config)),
                "result": Out(signed(config.word)),
                "outcome": Out(signed(config.output_word)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The pipeline, stage after stage."""
        m = Module()
        config = self._config
        activations = [self.activation]
        for stage in range(1, epilogue_latency(config)):
            activation = Signal(Activation, name=f"activation{stage}")
            m.d.sync += activation.eq(activations[-1])
            activations.append(activation)

        # 1, 2: the shift keeps one bit more than the result has: rounding half up adds it.
        wide = Cat(Const(0, 1), self.accumulator).as_signed()
        coarse = Signal(signed(len(wide)))
        fine = Signal.like(coarse)
        ones = Signal(2)
        m.d.sync += [
            coarse.eq(wide >> Cat(Const(0, 2), self.shift[2:])),
            ones.eq(self.shift[:2]),
            fine.eq(coarse >> ones),
        ]
        # 3, 4: clamped first to what still saturates after rounding, so that the carry chain is short.
        clamped = Signal(signed(config.output_word + 2))
        y = Signal(signed(config.word))
        wide = Signal(signed(config.output_word))
        rounded = arithmetic.round_shift(clamped, 1)
        m.d.sync += [
            clamped.eq(arithmetic.saturate(fine, config.output_word + 2)),
            y.eq(arithmetic.saturate(rounded, config.word)),
            wide.eq(arithmetic.saturate(rounded, config.output_word)),
        ]
        # 5: ReLU. What has no function stays wide.
        is_relu = activations[4] == Activation.RELU
        rectified = Mux(y[-1], 0, y)
        result, outcome = Mux(is_relu, rectified, y), Mux(is_relu, rectified, wide)
        if not config.tables:
            m.d.sync += [self.result.eq(result), self.outcome.eq(outcome)]
            return m

        # 8: the interpolated value. 9: one or the other.
        interpolated = self._interpolate(m, y, activations[4])
        plain: Value = outcome
        for stage in range(5, 9):
            later = Signal.like(wide, name=f"plain{stage}")
            m.d.sync += later.eq(plain)
            plain = later
        is_plain = (activations[8] == Activation.NONE) | (activations[8] == Activation.RELU)
        curve = arithmetic.saturate(interpolated, config.word)
        m.d.sync += [
            self.result.eq(Mux(is_plain, arithmetic.saturate(plain, config.word), curve)),
            self.outcome.eq(Mux(is_plain, plain, curve)),
        ]
        return m

    def _interpolate(self, m: Module, y: Signal, activation: Value) -> Signal:
        """Value plus rounded slope times fraction, four cycles after ``y``."""
        config = self._config
        fraction_bits = config.word - config.table_bits
        # TABLE0 is 2: the number of the table is the activation less 2.
        number = Cat(activation[0], ~activation[1])
        index = Cat(y[fraction_bits:-1], ~y[-1])
        written = self.table_write
        m.submodules.tables = tables = BlockRam(
            width=2 * config.word, depth=1 << len(self.table_write.address), parts=2
        )
        m.d.comb += [
            tables.write.eq(Cat(written.value, written.slope)),
            tables.write_address.eq(written.address),
            tables.write_data.eq(Cat(written.data, written.data)),
            tables.read_address.eq(Cat(index, number)),
        ]
        entry = (tables.read_data[: config.word].as_signed(), tables.read_data[config.word :].as_signed())
        fractions = [y[:fraction_bits]]
        for stage in (5, 6):
            fraction = Signal(fraction_bits, name=f"fraction{stage}")
            m.d.sync += fraction.eq(fractions[-1])
            fractions.append(fraction)
        value = Signal(signed(config.word), name="value7")
        m.submodules.multiplier = multiplier = Multiplier(
            a_bits=config.word, b_bits=fraction_bits + 1, registered_inputs=False
        )
        interpolated = Signal(signed(config.word + 3))
        m.d.sync += [
            value.eq(entry[0]),
            interpolated.eq(value + arithmetic.round_shift(multiplier.o, fraction_bits)),
        ]
        m.d.comb += [multiplier.a.eq(entry[1]), multiplier.b.eq(fractions[-1])]
        return interpolated
