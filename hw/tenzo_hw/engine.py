"""The contraction engine: loop nest, a chain of lanes and the draining of their results."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from . import epilogue
from .config import REDUCTION_LEVELS, Config
from .isa import Contract
from .lane import READ_CYCLES, SUM_CYCLES, Draining, Lane, Multiplying, chain_layout
from .layouts import instruction_layout
from .loop_nest import ADDRESS_BITS, LoopNest, above
from .nest import WRAP, offsets, tile_cols

#: Cycles from the weight row's address to its words: the weight store's memory and output register.
WEIGHT_CYCLES = 2
#: Tiles whose start addresses the model works out at once.
_CHUNK = 1024


def _wrap(value: np.ndarray, bits: int) -> np.ndarray:
    """The low bits of ``value`` as signed numbers."""
    half = 1 << (bits - 1)
    return ((value + half) & ((1 << bits) - 1)) - half


def model(
    config: Config,
    contract: Contract,
    lanes: np.ndarray,
    batch: np.ndarray,
    weights: np.ndarray,
    tables: np.ndarray,
) -> np.ndarray | None:
    """One contraction, tile by tile: its results int64[L, results] in the order in which they drain.

    ``contract``: the bases have the address registers in them. ``lanes``: int64[L, lane_depth], written in place if the
    contraction stores. ``batch``: int64[L, batch_depth], the current half. ``weights``: int64[effective_rows, C].
    ``tables``: int64[tables, entries, 2]. None when an address is outside of its memory; what came before is written.
    """
    reduction, outer = contract.levels[:REDUCTION_LEVELS], contract.levels[REDUCTION_LEVELS:]
    source = batch if contract.from_batch else lanes
    reduced_a, reduced_w = offsets(reduction, "a"), offsets(reduction, "w")
    # A float64 holds sums of fewer than 53 bits exactly, and its matrix product is far faster.
    exact = np.float64 if 2 * (config.word - 1) + contract.rows.bit_length() < 53 else np.int64
    one = _wrap(np.array([1 << contract.one]), config.word)
    columns = np.arange(contract.cols) * contract.col_stride
    results = []
    for first in range(0, contract.tiles, _CHUNK):
        tiles = np.arange(first, min(first + _CHUNK, contract.tiles))
        starts = zip(*(offsets(outer, stream, tiles) for stream in "awob"), tile_cols(contract, tiles), strict=True)
        for a, w, o, b, cols in starts:
            a_addresses = (contract.a_base + a + reduced_a) % WRAP
            w_rows = (contract.w_base + w + reduced_w) % WRAP
            if contract.bias:
                w_rows = np.concatenate([[(contract.b_base + b) % WRAP], w_rows])
            if a_addresses.max() >= source.shape[1] or w_rows.max() >= len(weights):
                return None
            operands = source[:, a_addresses]
            if contract.bias:
                operands = np.concatenate([np.broadcast_to(one, (config.lanes, 1)), operands], axis=1)
            sums = operands.astype(exact) @ weights[w_rows, :cols].astype(exact)
            drained = epilogue.model(config, contract, _wrap(sums.astype(np.int64), config.accumulator), tables)
            if contract.store:
                addresses = (contract.o_base + o + columns[:cols]) % WRAP
                refused = np.flatnonzero(addresses >= config.lane_depth)
                written = refused[0] if len(refused) else cols
                lanes[:, addresses[:written]] = drained[:, :written]
                if len(refused):
                    return None
            results.append(drained)
    return np.concatenate(results, axis=1)


class ContractionEngine(wiring.Component):
    """L x C multiply-accumulates a cycle.

    ``start`` with ``contract`` (bases with their registers added) while ``ready``. Rows, drain and the moment from
    which a result can be read are timed as docs/machine.md says: ``timing.result_latency`` and ``capture_latency``.
    ``weights`` are those of ``weights_row`` WEIGHT_CYCLES before. Lane l's ``results`` come l cycles after lane 0's.
    ``lane_read`` (held, while nothing runs) answers after at most L + 8 cycles.
    A ``fault`` ends the contraction: an address outside of its memory; that access is not done. With ``fault_earlier``
    it is a result of the contraction before the last one started, which ends too.
    Throughput: one row a cycle, contractions back to back; a tile takes max(rows, cols of the tile before) cycles.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        address = range(max(config.tables, 1) << config.table_bits)
        word = signed(config.word)
        super().__init__(
            {
                "contract": In(instruction_layout(Contract)),
                "start": In(1),
                "ready": Out(1),
                "drained": Out(1),
                "fault": Out(1),
                "fault_earlier": Out(1),
                "half": In(1),
                "weights_row": Out(range(config.effective_rows)),
                "weights": In(data.ArrayLayout(word, config.columns)),
                "results": Out(data.ArrayLayout(data.StructLayout({"valid": 1, "value": word}), config.lanes)),
                "batch_write": In(
                    data.StructLayout(
                        {
                            "strobe": 1,
                            "half": 1,
                            "lane": range(config.lanes),
                            "address": range(config.batch_depth),
                            "data": signed(config.input_word),
                        }
                    )
                ),
                "table_write": In(
                    data.StructLayout({"strobe": 1, "slope": 1, "address": address, "data": signed(config.word + 1)})
                ),
                "lane_read": In(
                    wiring.Signature({"address": Out(range(config.lanes * config.lane_depth)), "data": In(word)})
                ),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The nest, what it sends down the chain at which time, and the chain of lanes."""
        config = self.config
        m = Module()
        m.submodules.nest = nest = LoopNest(config=config)
        m.d.comb += [
            nest.contract.eq(self.contract),
            nest.start.eq(self.start),
            self.ready.eq(nest.ready),
            self.drained.eq(nest.drained),
            self.fault.eq(nest.fault),
        ]
        head = Signal(chain_layout(config))
        self._read(m, nest, head)
        self._multiply(m, nest, head)
        self._drain(m, nest, head)
        self._host(m, head)

        chain = head
        for number in range(config.lanes):
            m.submodules[f"lane{number}"] = lane = Lane(config=config, number=number)
            m.d.comb += [lane.chain_i.eq(chain), self.results[number].eq(lane.result)]
            chain = lane.chain_o
        returned = Signal(signed(config.word))
        m.d.sync += returned.eq(chain.host_data)
        m.d.comb += self.lane_read.data.eq(returned)
        return m

    def _read(self, m: Module, nest: LoopNest, head: Signal) -> None:
        """Activation addresses leave in the cycle of issue; the host's when there is no row."""
        config = self.config
        lane_bits = config.lane_depth.bit_length() - 1
        m.d.comb += [
            head.reading.from_batch.eq(nest.running.from_batch),
            head.reading.half.eq(self.half),
            head.host_lane.eq(self.lane_read.address[lane_bits:]),
        ]
        with m.If(nest.row):
            m.d.comb += head.reading.address.eq(nest.a_address)
        with m.Else():
            m.d.comb += head.reading.address.eq(self.lane_read.address[:lane_bits])

    def _multiply(self, m: Module, nest: LoopNest, head: Signal) -> None:
        """Weights and what to do with them leave READ_CYCLES after the issue."""
        row = Signal(Multiplying)
        m.d.comb += [
            row.row.eq(nest.row),
            row.first.eq(nest.first),
            row.last.eq(nest.last),
            row.bias.eq(nest.bias),
            row.one.eq(nest.running.one),
            row.from_batch.eq(nest.running.from_batch),
        ]
        m.d.comb += head.multiplying.eq(_later(m, row, READ_CYCLES))
        address = Signal(range(self.config.effective_rows))
        m.d.comb += address.eq(nest.w_address)
        m.d.comb += [
            self.weights_row.eq(_later(m, address, READ_CYCLES - WEIGHT_CYCLES)),
            head.weights.eq(self.weights),
        ]

    def _drain(self, m: Module, nest: LoopNest, head: Signal) -> None:
        """One Draining a result, from when the sums of the tile are in the drain registers."""
        config = self.config
        left = Signal(8)
        address = Signal(ADDRESS_BITS)
        stride = Signal(ADDRESS_BITS)
        tile = Signal(Draining)
        # Two contractions at most are under way: one bit tells them apart.
        started = Signal()
        tile_of = Signal()
        m.d.sync += started.eq(started ^ self.start)
        with m.If(nest.row & nest.last):
            m.d.sync += [
                tile_of.eq(started),
                left.eq(nest.cols),
                address.eq(nest.o_address),
                stride.eq(nest.running.col_stride),
                tile.store.eq(nest.running.store),
                tile.to_loss.eq(nest.running.to_loss),
                tile.shift.eq(nest.running.shift),
                tile.activation.eq(nest.running.activation),
            ]
        with m.Elif(left != 0):
            m.d.sync += [left.eq(left - 1), address.eq(address + stride)]
        outside = tile.store & above(address, config.lane_depth)
        draining = Signal(Draining)
        m.d.comb += [
            draining.eq(tile),
            draining.valid.eq((left != 0) & ~outside),
            draining.address.eq(address),
            nest.drain_fault.eq((left != 0) & outside),
            self.fault_earlier.eq(nest.drain_fault & (tile_of != started)),
        ]
        with m.If(nest.drain_fault):
            m.d.sync += left.eq(0)
        m.d.comb += head.draining.eq(_later(m, draining, READ_CYCLES + SUM_CYCLES - 1))

    def _host(self, m: Module, head: Signal) -> None:
        """Writes to batch memories and tables travel along the chain too."""
        write = self.table_write
        m.d.comb += [
            *(
                head.batch_write[name].eq(self.batch_write[name])
                for name in ("strobe", "half", "lane", "address", "data")
            ),
            head.table_write.value.eq(write.strobe & ~write.slope),
            head.table_write.slope.eq(write.strobe & write.slope),
            head.table_write.address.eq(write.address),
            head.table_write.data.eq(write.data),
        ]


def _later(m: Module, value, cycles: int):
    """``value`` as it was ``cycles`` before."""
    for _ in range(cycles):
        late = Signal.like(value)
        m.d.sync += late.eq(value)
        value = late
    return value
