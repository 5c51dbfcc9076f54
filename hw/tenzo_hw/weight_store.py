"""The weight store: masters, momenta and the two halves of effective words, C words a row."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from .cells import BlockRam
from .config import Config


class SweepPort(wiring.Signature):
    """The sweep unit's way to the weight store, seen from the sweep unit.

    ``masters`` and ``momenta`` are those of ``row`` two cycles before; a word written in one cycle can be read by the
    next. ``effective_row`` is half * weight_rows + row. Momenta and masters have a write enable a column. The ports are
    the host's while ``active`` is low.
    """

    def __init__(self, config: Config) -> None:
        row = range(config.weight_rows)
        masters = ArrayLayout(signed(config.master_word), config.columns)
        momenta = ArrayLayout(signed(config.momentum_word), config.columns)
        super().__init__(
            {
                "active": Out(1),
                "row": Out(row),
                "masters": In(masters),
                "momenta": In(momenta),
                "effective_write": Out(1),
                "effective_row": Out(range(config.effective_rows)),
                "effective_words": Out(ArrayLayout(signed(config.word), config.columns)),
                "momentum_write": Out(config.columns),
                "momentum_row": Out(row),
                "momentum_words": Out(momenta),
                "master_write": Out(config.columns),
                "master_row": Out(row),
                "master_words": Out(masters),
            }
        )


class WeightStore(wiring.Component):
    """Three memories, each one read and one write port wide.

    Engine: ``weights`` are the effective words of ``row`` two cycles before. Host: ``host_read`` is the word at
    ``host_row``, ``host_column`` of the masters (or momenta with ``host_momentum``) four cycles after these are stable;
    ``host_write`` stores ``host_data``. The host may use its port only while no sweep is active. Gather unit:
    ``gather_words`` become the effective words of ``gather_row`` with ``gather_write``, never while a sweep writes any.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        widest = max(config.master_word, config.momentum_word)
        super().__init__(
            {
                "row": In(range(config.effective_rows)),
                "weights": Out(ArrayLayout(signed(config.word), config.columns)),
                "sweep": In(SweepPort(config)),
                "gather_write": In(1),
                "gather_row": In(range(config.effective_rows)),
                "gather_words": In(ArrayLayout(signed(config.word), config.columns)),
                "host_row": In(range(config.weight_rows)),
                "host_column": In(range(config.columns)),
                "host_momentum": In(1),
                "host_write": In(1),
                "host_data": In(signed(widest)),
                "host_read": Out(signed(widest)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The memories, and who has their ports."""
        m = Module()
        config, sweep = self._config, self.sweep

        # A word is never read for use in the cycle in which it is written.
        m.submodules.effective = effective = BlockRam(width=len(self.weights.as_value()), depth=config.effective_rows)
        m.d.comb += [
            effective.write.eq(sweep.effective_write | self.gather_write),
            effective.write_address.eq(Mux(self.gather_write, self.gather_row, sweep.effective_row)),
            effective.write_data.eq(Mux(self.gather_write, self.gather_words, sweep.effective_words)),
            effective.read_address.eq(self.row),
            self.weights.eq(effective.read_data),
        ]

        # Registered here so that the long way from the host adds nothing to the memories' paths.
        row = Signal.like(self.host_row)
        column = Signal.like(self.host_column)
        momentum = Signal()
        data = Signal.like(self.host_data)
        writes = Signal()
        m.d.sync += [
            row.eq(self.host_row),
            column.eq(self.host_column),
            momentum.eq(self.host_momentum),
            data.eq(self.host_data),
            writes.eq(self.host_write),
            self.host_read.eq(0),
        ]
        # An address between a row's last column and the next row reads 0.
        with m.If(column < config.columns):
            m.d.sync += self.host_read.eq(Mux(momentum, sweep.momenta[column], sweep.masters[column]))

        for name, words, chosen, sweep_write, sweep_row, sweep_words in (
            ("masters", sweep.masters, ~momentum, sweep.master_write, sweep.master_row, sweep.master_words),
            ("momenta", sweep.momenta, momentum, sweep.momentum_write, sweep.momentum_row, sweep.momentum_words),
        ):
            m.submodules[name] = memory = BlockRam(
                width=len(words.as_value()), depth=config.weight_rows, parts=config.columns
            )
            m.d.comb += [
                memory.read_address.eq(Mux(sweep.active, sweep.row, row)),
                words.eq(memory.read_data),
            ]
            with m.If(sweep.active):
                m.d.comb += [
                    memory.write.eq(sweep_write),
                    memory.write_address.eq(sweep_row),
                    memory.write_data.eq(sweep_words),
                ]
            with m.Else():
                m.d.comb += [
                    memory.write.eq((writes & chosen) << column),
                    memory.write_address.eq(row),
                    memory.write_data.eq(Cat(data[: len(words[0])] for _ in range(config.columns))),
                ]
        return m
