"""The end of a lane: an accumulator becomes a word, one a cycle."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from . import arithmetic
from .config import Config
from .isa import Activation, Contract
from .numbers import round_shift, saturate
from .timing import epilogue_latency

#: The barrel shifter's first stage shifts by multiples of this, its second by what is left.
_COARSE = 8
_COARSE_BITS = 3


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


class Epilogue(wiring.Component):
    """One lane's way from accumulator to word: ``saturate(round_shift(acc, shift))``, then none, ReLU or a table.

    ``y`` is that of the ``acc``, ``shift`` and ``activation`` of ``timing.epilogue_latency`` cycles before; one a
    cycle. Rounding is half up. A table entry is a value (W bits) and the slope to the next (W + 1 bits); between
    entries the machine interpolates. Tables are written by the host, ``table_write`` while nothing runs.
    """

    def __init__(self, *, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "acc": In(signed(config.accumulator)),
                "shift": In(unsigned(Contract.FIELDS["shift"].width)),
                "activation": In(unsigned(Contract.FIELDS["activation"].width)),
                "table_value_write": In(1),
                "table_slope_write": In(1),
                "table_address": In(range(max(config.tables, 1) << config.table_bits)),
                "table_data": In(signed(config.word + 1)),
                "y": Out(signed(config.word)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The pipeline: coarse shift, fine shift, round and saturate, then the activation."""
        config = self.config
        m = Module()
        # One bit more to the right keeps the last bit shifted out: the half that is rounded.
        wide = signed(config.accumulator + 1)
        coarse, fine, word = Signal(wide), Signal(wide), Signal(signed(config.word))
        fine_shift = Signal(_COARSE_BITS)
        m.d.sync += [
            coarse.eq(Cat(0, self.acc).as_signed() >> (self.shift[_COARSE_BITS:] << _COARSE_BITS)),
            fine_shift.eq(self.shift),
            fine.eq(coarse >> fine_shift),
            word.eq(arithmetic.saturate(arithmetic.round_shift(fine, 1), config.word)),
        ]
        activation = self._delay(m, self.activation, 3)
        plain = Mux(activation == Activation.RELU, Mux(word < 0, 0, word), word)
        if not config.tables:
            m.d.sync += self.y.eq(plain)
            return m

        interpolated = self._table(m, word, activation)
        latency = epilogue_latency(config)
        use_table = self._delay(m, activation >= Activation.TABLE0, latency - 4)
        m.d.sync += self.y.eq(Mux(use_table, interpolated, self._delay(m, plain, latency - 4)))
        return m

    def _table(self, m: Module, word: Signal, activation: Signal) -> Signal:
        """The interpolated table function of ``word``, four cycles later."""
        config = self.config
        below = config.word - config.table_bits
        # An offset of half the range makes the signed word an index.
        index = Cat(word[below:-1], ~word[-1])
        table = Signal(range(max(config.tables, 1)))
        m.d.comb += table.eq(activation - Activation.TABLE0)
        depth = config.tables << config.table_bits
        entries = []
        for name, width, write in (
            ("values", config.word, self.table_value_write),
            ("slopes", config.word + 1, self.table_slope_write),
        ):
            m.submodules[name] = store = memory.Memory(shape=signed(width), depth=depth, init=[])
            writer = store.write_port()
            reader = store.read_port(transparent_for=())
            entry = Signal(signed(width), name=f"{name}_entry")
            m.d.comb += [
                writer.addr.eq(self.table_address),
                writer.data.eq(self.table_data),
                writer.en.eq(write),
                reader.addr.eq(Cat(index, table)),
                reader.en.eq(1),
            ]
            m.d.sync += entry.eq(reader.data)
            entries.append(entry)
        value, slope = entries
        part = Cat(self._delay(m, word[:below], 2), 0).as_signed()
        product = Signal(signed(config.word + 1 + below + 1))
        value_late = Signal.like(value)
        total = Signal(signed(config.word + 2))
        m.d.sync += [
            product.eq(slope * part),
            value_late.eq(value),
            total.eq(value_late + arithmetic.round_shift(product, below)),
        ]
        return arithmetic.saturate(total, config.word)

    @staticmethod
    def _delay(m: Module, value: Value, cycles: int) -> Value:
        for _ in range(cycles):
            late = Signal.like(value)
            m.d.sync += late.eq(value)
            value = late
        return value
