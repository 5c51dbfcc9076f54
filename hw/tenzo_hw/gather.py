"""The gather unit: copies what the lanes hold into effective rows, so that results can be weights."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from .config import Config
from .engine import lane_read_signature
from .isa import Gather
from .layouts import instruction_layout
from .nest import WRAP
from .timing import gather_latency, lane_read_latency


def read_latency(config: Config) -> int:
    """Cycles after which a lane's word comes back: those of the engine, and a register on the way to it."""
    return lane_read_latency(config) + 1


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

    ``gather`` is taken with ``start``, only while ``ready``. Started at cycle s, the unit reads word n at s + 5 + n; it
    is ready at s + lanes * rows * cols + ``gather_latency``, when all rows can be read. The instruction must be a valid
    one, its registers added: the sequencer checks it.

    ``fault`` strobes a cycle after a read at a lane address, or for a row, that is outside of its memory. The rows
    before are still written, and the unit is ready as many cycles after the fault as otherwise after its last read.

    ``lane_read`` is the engine's, which must be drained, ``read_latency`` cycles from address to data. It is the unit's
    from ``start`` on until it is ready. ``effective_words`` go to row ``effective_row`` (half * weight_rows + row) with
    ``effective_write``. All outputs come from registers.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "gather": In(instruction_layout(Gather)),
                "start": In(1),
                "ready": Out(1, init=1),
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

        gather = Signal.like(self.gather)
        idle = Signal()
        with m.If(idle):
            m.d.sync += gather.eq(self.gather)
        # High until two cycles after the start: then the first row is counted, and in the next one its first word.
        prepares = Signal(2, init=-1)
        begins = Signal(3)
        m.d.sync += [prepares.eq(Cat(idle, prepares)), begins.eq(Cat(self.start, begins))]

        # The way there: columns innermost, then a lane's rows, then lanes. A counter is -1 in its last turn: its top
        # bit says so. That of the rows is a row ahead, so that the next row's address is there when it is needed.
        columns_left = Signal(config.columns.bit_length() + 1)
        all_columns = Signal.like(columns_left)
        rows_left = Signal(len(gather.rows) + 1)
        all_rows = Signal.like(rows_left)
        lanes_left = Signal(config.lanes.bit_length() + 1)
        address = Signal.like(gather.address)
        next_start = Signal.like(address)
        row = Signal.like(gather.row)
        lane = Signal(range(config.lanes))
        walking = Signal()
        last_row = Signal()
        last_column, next_is_last, last_lane = columns_left[-1], rows_left[-1], lanes_left[-1]

        m.d.sync += [
            all_columns.eq(gather.cols - 2),
            all_rows.eq(gather.rows - 2),
            columns_left.eq(Mux(last_column, all_columns, columns_left - 1)),
            address.eq(Mux(last_column, next_start, address + gather.col_stride)),
        ]
        with m.If(last_column):
            m.d.sync += [
                rows_left.eq(Mux(next_is_last, all_rows, rows_left - 1)),
                next_start.eq(Mux(next_is_last, gather.address, next_start + gather.stride)),
                last_row.eq(next_is_last),
            ]
        with m.If(last_column & walking):
            m.d.sync += row.eq(row + 1)
            with m.If(last_row):
                m.d.sync += [lane.eq(lane + 1), lanes_left.eq(lanes_left - 1)]
        with m.If(prepares[1]):
            m.d.sync += [columns_left.eq(-1), row.eq(gather.row), lane.eq(0), lanes_left.eq(gather.lanes - 2)]
        with m.If(prepares[0]):
            m.d.sync += rows_left.eq(-1)

        # A word is read, and its place checked, a cycle later; another one may be formed before the walk stops.
        formed = Signal()
        closing = Signal()
        outside = Signal()
        stop = Signal()
        m.d.comb += stop.eq(formed & outside & ~self.fault)
        m.d.sync += [
            formed.eq(walking),
            closing.eq(last_column),
            outside.eq(address[lane_bits:].any() | row[row_bits:].any()),
            self.lane_read.address.eq(Cat(address[:lane_bits], lane)),
            self.fault.eq(stop),
        ]
        with m.If(begins[2]):
            m.d.sync += walking.eq(1)
        with m.Elif(stop | (last_column & last_row & last_lane)):
            m.d.sync += walking.eq(0)

        # Words of the walk's end are still on their way for a fixed time.
        rest = Signal(range(-1, gather_latency(config)), init=-1)
        m.d.comb += idle.eq(rest[-1])
        with m.If(self.start | walking | stop):
            m.d.sync += rest.eq(gather_latency(config) - 6)
        with m.Elif(~idle):
            m.d.sync += rest.eq(rest - 1)
        m.d.sync += self.ready.eq(idle & ~self.start)

        # The way back. Rows follow each other, so they are counted anew; columns without a word stay 0.
        on_way = Signal(read_latency(config))
        closing_on_way = Signal.like(on_way)
        place = Signal(config.columns)
        clears = Signal(config.columns)
        arrives, closes = on_way[-1], closing_on_way[-1]
        m.d.sync += [
            on_way.eq(Cat(formed & ~outside & ~self.fault, on_way)),
            closing_on_way.eq(Cat(closing, closing_on_way)),
            self.effective_write.eq(arrives & closes),
            # From column to column: long before the first word.
            clears.eq(Cat(idle, clears)),
        ]
        for column in range(config.columns):
            with m.If(arrives & place[column]):
                m.d.sync += self.effective_words[column].eq(self.lane_read.data)
            with m.If(clears[column]):
                m.d.sync += self.effective_words[column].eq(0)
        with m.If(arrives):
            m.d.sync += place.eq(Mux(closes, 1, place << 1))
        with m.If(self.effective_write):
            m.d.sync += self.effective_row.eq(self.effective_row + 1)
        with m.If(prepares[1]):
            m.d.sync += [self.effective_row.eq(gather.row), place.eq(1)]
        return m
