"""The gather unit: copies what the lanes hold into effective rows, so that results can be weights."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from .config import Config
from .engine import lane_read_signature
from .isa import Gather
from .layouts import instruction_layout
from .nest import WRAP
from .timing import gather_latency, lane_read_latency


def model(config: Config, gather: Gather, lanes: np.ndarray, effective: np.ndarray) -> bool:
    """Carries ``gather`` out, its registers added; whether it was refused at a lane address or row outside.

    ``lanes``: int64[L, lane_depth]. ``effective``: int64[effective_rows, C], written in place up to the row refused.
    """
    columns = gather.col_stride * np.arange(gather.cols)
    addresses = (gather.address + gather.stride * np.arange(gather.rows)[:, None] + columns) % WRAP
    targets = (gather.row + np.arange(gather.lanes * gather.rows)) % WRAP
    outside = np.tile((addresses >= config.lane_depth).any(axis=1), gather.lanes) | (targets >= config.effective_rows)
    refused = bool(outside.any())
    copied = int(outside.argmax()) if refused else len(targets)
    lane, row = np.divmod(np.arange(copied), gather.rows)
    effective[targets[:copied]] = 0
    effective[targets[:copied], : gather.cols] = lanes[lane[:, None], addresses[row]]
    return refused


class GatherUnit(wiring.Component):
    """Carries out GATHER instructions, a word a cycle; the model is ``model``.

    ``gather`` is taken with ``start``, only while ``ready``. Started at cycle s, the unit reads word n at s + 1 + n; it
    is ready at s + lanes * rows * cols + ``gather_latency``, when all rows can be read. The instruction must be a valid
    one, its registers added: the sequencer checks it.

    ``fault`` strobes instead of a read when the word's address or row is outside of its memory. The rows before are
    still written, and the unit is ready ``gather_latency`` cycles later.

    ``lane_read`` is the engine's, which must be drained: the unit's from ``start`` on until it is ready.
    ``effective_words`` go to row ``effective_row`` (half * weight_rows + row) with ``effective_write``.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "gather": In(instruction_layout(Gather)),
                "start": In(1),
                "ready": Out(1),
                "fault": Out(1),
                "lane_read": Out(lane_read_signature(config)),
                "effective_write": Out(1),
                "effective_row": Out(range(config.effective_rows)),
                "effective_words": Out(ArrayLayout(signed(config.word), config.columns)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The way there: addresses and checks. The way back: words into rows."""
        m = Module()
        config = self._config
        lane_bits = (config.lane_depth - 1).bit_length()
        row_bits = (config.effective_rows - 1).bit_length()

        # The way there: columns innermost, then a lane's rows, then lanes; the counters say how many are left.
        gather = Signal.like(self.gather)
        address = Signal.like(self.gather.address)
        row_start = Signal.like(address)
        row = Signal.like(self.gather.row)
        lane = Signal(range(config.lanes))
        columns_left = Signal.like(self.gather.cols)
        rows_left = Signal.like(self.gather.rows)
        lanes_left = Signal.like(self.gather.lanes)
        next_start = Signal.like(address)
        reading = Signal()
        outside = Signal()
        rest = Signal(range(gather_latency(config)))
        m.d.comb += [
            outside.eq(address[lane_bits:].any() | row[row_bits:].any()),
            self.lane_read.address.eq(Cat(address[:lane_bits], lane)),
            next_start.eq(row_start + gather.stride),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.ready.eq(1)
                m.d.sync += [
                    gather.eq(self.gather),
                    address.eq(self.gather.address),
                    row_start.eq(self.gather.address),
                    row.eq(self.gather.row),
                    lane.eq(0),
                    columns_left.eq(self.gather.cols - 1),
                    rows_left.eq(self.gather.rows - 1),
                    lanes_left.eq(self.gather.lanes - 1),
                    rest.eq(gather_latency(config) - 1),
                ]
                with m.If(self.start):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += [reading.eq(~outside), self.fault.eq(outside)]
                m.d.sync += [address.eq(address + gather.col_stride), columns_left.eq(columns_left - 1)]
                with m.If(columns_left == 0):
                    m.d.sync += [
                        columns_left.eq(gather.cols - 1),
                        address.eq(next_start),
                        row_start.eq(next_start),
                        row.eq(row + 1),
                        rows_left.eq(rows_left - 1),
                    ]
                    with m.If(rows_left == 0):
                        m.d.sync += [
                            rows_left.eq(gather.rows - 1),
                            address.eq(gather.address),
                            row_start.eq(gather.address),
                            lane.eq(lane + 1),
                            lanes_left.eq(lanes_left - 1),
                        ]
                        with m.If(lanes_left == 0):
                            m.next = "REST"
                with m.If(outside):
                    m.next = "REST"
            with m.State("REST"):
                m.d.sync += rest.eq(rest - 1)
                with m.If(rest == 1):
                    m.next = "IDLE"

        # The way back. Rows follow each other, so they are counted anew; columns without a word stay 0.
        on_way = Signal(lane_read_latency(config))
        column = Signal(range(config.columns))
        last = Signal()
        m.d.sync += [on_way.eq(Cat(reading, on_way)), self.effective_write.eq(on_way[-1] & last)]
        m.d.comb += last.eq(column == gather.cols - 1)
        with m.If(on_way[-1]):
            m.d.sync += [self.effective_words[column].eq(self.lane_read.data), column.eq(column + 1)]
            with m.If(last):
                m.d.sync += column.eq(0)
        with m.If(self.effective_write):
            m.d.sync += self.effective_row.eq(self.effective_row + 1)
        with m.If(self.start):
            m.d.sync += [self.effective_row.eq(self.gather.row), self.effective_words.eq(0), column.eq(0)]
        return m
