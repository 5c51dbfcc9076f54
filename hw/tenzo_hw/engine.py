"""The contraction engine: loop nest, a chain of lanes and the draining of their results."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out

from . import epilogue
from .config import REDUCTION_LEVELS, Config
from .delay import delayed
from .drain import Drain, outcome_layout
from .isa import Base, Contract, Operand
from .lane import FIRST_AT, LOAD_AT, SOURCE_AT, WEIGHTS_AT, Lane, Source
from .layouts import CONTRACTIONS, deltas_layout, instruction_layout
from .loop_nest import LoopNest
from .nest import WRAP, offsets, tile_cols
from .numbers import saturate

#: Tiles whose start addresses the model works out at once.
_CHUNK = 1024


def _wrap(value: np.ndarray, bits: int) -> np.ndarray:
    """The low bits of ``value`` as signed numbers."""
    half = 1 << (bits - 1)
    return ((value + half) & ((1 << bits) - 1)) - half


def _operands(
    config: Config, contract: Contract, source: np.ndarray, a: np.ndarray, b: np.ndarray
) -> np.ndarray | None:
    """What the weights of rows are multiplied with, int64[L, rows], but for the bias rows; None when one is outside.

    ``source``: the memory that ``a`` is read from; ``b`` are words of its upper bank.
    """
    one = _wrap(np.array([1 << contract.one]), config.word)
    if contract.operand in (Operand.WORD, Operand.IDENTITY, Operand.RELU):
        if a.max() >= source.shape[1]:
            return None
        if contract.operand == Operand.IDENTITY:
            return one * (np.arange(config.lanes)[:, None] == a)
        return source[:, a] if contract.operand == Operand.WORD else np.maximum(source[:, a], 0)
    if a.max() >= config.lane_bank:
        return None
    step = one
    if contract.operand == Operand.DIFFERENCE:
        if b.max() >= config.lane_bank:
            return None
        step = source[:, config.lane_bank + b]
    word = source[:, a]
    return np.maximum(saturate(word + step, config.word), 0) - np.maximum(word, 0)


def model(
    config: Config,
    contract: Contract,
    lanes: np.ndarray,
    batch: np.ndarray,
    weights: np.ndarray,
    tables: np.ndarray,
) -> np.ndarray | None:
    """One contraction, tile by tile: its outcomes int64[L, results] in the order in which they drain.

    Saturated to ``word`` they are the results. ``contract``: the bases have the address registers in them. ``lanes``:
    int64[L, lane_depth], written in place if the contraction stores. ``batch``: int64[L, batch_depth], the current
    half. ``weights``: int64[effective_rows, C]. ``tables``: int64[tables, entries, 2]. None when an address is outside
    of its memory; what came before is written.
    """
    reduction, outer = contract.levels[:REDUCTION_LEVELS], contract.levels[REDUCTION_LEVELS:]
    source = batch if contract.from_batch else lanes
    reduced_a, reduced_w, reduced_b = (offsets(reduction, stream) for stream in "awb")
    # A float64 holds sums of fewer than 53 bits exactly, and its matrix product is far faster.
    exact = np.float64 if 2 * (config.word - 1) + contract.rows.bit_length() < 53 else np.int64
    one = _wrap(np.array([1 << contract.one]), config.word)
    columns = np.arange(contract.cols) * contract.col_stride
    makes_differences = contract.to_loss and contract.base == Base.ADD
    results = []
    for first in range(0, contract.tiles, _CHUNK):
        tiles = np.arange(first, min(first + _CHUNK, contract.tiles))
        starts = zip(*(offsets(outer, stream, tiles) for stream in "awob"), tile_cols(contract, tiles), strict=True)
        for a, w, o, b, cols in starts:
            a_addresses = (contract.a_base + a + reduced_a) % WRAP
            w_rows = (contract.w_base + w + reduced_w) % WRAP
            b_addresses = (contract.b_base + b + reduced_b) % WRAP
            operands = _operands(config, contract, source, a_addresses, b_addresses)
            if contract.bias:
                w_rows = np.concatenate([b_addresses[:1], w_rows])
            if operands is None or w_rows.max() >= len(weights):
                return None
            if contract.bias:
                operands = np.concatenate([np.broadcast_to(one, (config.lanes, 1)), operands], axis=1)
            sums = operands.astype(exact) @ weights[w_rows, :cols].astype(exact)
            drained = epilogue.outcomes(config, contract, _wrap(sums.astype(np.int64), config.accumulator), tables)
            addresses = (contract.o_base + o + columns[:cols]) % WRAP
            if makes_differences and addresses.max() >= config.losses:
                return None
            if contract.store:
                refused = np.flatnonzero(addresses >= config.lane_depth)
                written = refused[0] if len(refused) else cols
                lanes[:, addresses[:written]] = saturate(drained[:, :written], config.word)
                if len(refused):
                    return None
            results.append(drained)
    return np.concatenate(results, axis=1)


def batch_write_layout(config: Config) -> StructLayout:
    """The host's writes to the batch memories: word ``address`` of a lane and half := ``data``."""
    return StructLayout(
        {
            "strobe": 1,
            "half": 1,
            "lane": range(config.lanes),
            "address": range(config.batch_depth),
            "data": signed(config.input_word),
        }
    )


def table_write_layout(config: Config) -> StructLayout:
    """The host's writes to the tables of all lanes: the value, or with ``slope`` the slope, of an entry := ``data``."""
    entries = max(config.tables, 1) << config.table_bits
    return StructLayout({"strobe": 1, "slope": 1, "address": range(entries), "data": signed(config.word)})


def lane_read_signature(config: Config) -> wiring.Signature:
    """Reads of lane memories, one a cycle: ``data`` is the word at lane * lane_depth + word.

    It comes ``lane_read_latency`` cycles later.
    """
    return wiring.Signature({"address": Out(range(config.lanes * config.lane_depth)), "data": In(signed(config.word))})


class ContractionEngine(wiring.Component):
    """Runs contractions, one after the other without a gap; ``model`` says what they do, docs/machine.md when.

    ``contract``: given with ``start`` and its ``number``, after its ``deltas``, once the one before is ``taken`` (see
    ``LoopNest``); the engine starts it a cycle later or when it is through with that one. ``weights``: those of
    ``weights_row`` four cycles before. ``half``: the batch half that is read. ``results``: the outcomes of
    contractions with ``to_loss``; lane 0's first result comes ``capture_latency`` cycles after its tile's last row,
    lane l's l cycles later.
    ``outcome`` goes with lane 0's results: ``base`` is that of their contraction, ``slot`` the result's output address.
    ``captured`` is low while results of a contraction with ``base`` ADD are to come: from the second cycle after its
    start until that after lane 0's last result.

    ``fault`` strobes when an address is outside of its memory, with the number of the contraction in ``fault_number``;
    the engine then drops what it has not finished and what it is given until ``run_start``, which forgets the pace of
    the run before, too. ``lane_read`` is for an engine without a contraction.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        result = StructLayout({"valid": unsigned(1), "value": signed(config.output_word)})
        super().__init__(
            {
                "contract": In(instruction_layout(Contract)),
                "deltas": In(deltas_layout()),
                "number": In(range(CONTRACTIONS)),
                "start": In(1),
                "taken": Out(1),
                "drained": Out(1),
                "run_start": In(1),
                "fault": Out(1),
                "fault_number": Out(range(CONTRACTIONS)),
                "half": In(1),
                "weights_row": Out(range(config.effective_rows)),
                "weights": In(ArrayLayout(signed(config.word), config.columns)),
                "results": Out(ArrayLayout(result, config.lanes)),
                "outcome": Out(outcome_layout(config)),
                "captured": Out(1),
                "batch_write": In(batch_write_layout(config)),
                "table_write": In(table_write_layout(config)),
                "lane_read": In(lane_read_signature(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Nest, drain and the control that enters lane 0; then the chain."""
        m = Module()
        config = self._config
        m.submodules.nest = nest = LoopNest(config=config)
        m.submodules.drain = drain = Drain(config=config)
        lanes = [Lane(config=config, number=number) for number in range(config.lanes)]
        for number, lane in enumerate(lanes):
            m.submodules[f"lane{number}"] = lane
            m.d.comb += [self.results[number].valid.eq(lane.captured), self.results[number].value.eq(lane.outcome)]
        for before, after in pairwise(lanes):
            wiring.connect(m, before.passed, after.control)
            m.d.comb += after.given_word.eq(before.read_word)

        stop = Signal()
        failed = Signal()
        m.d.sync += [
            nest.start.eq(self.start),
            failed.eq((failed | stop) & ~self.run_start),
            self.fault.eq(stop & ~failed),
            self.fault_number.eq(Mux(drain.fault, drain.number, nest.tile.number)),
        ]
        m.d.comb += [
            nest.contract.eq(self.contract),
            nest.deltas.eq(self.deltas),
            nest.number.eq(self.number),
            self.taken.eq(nest.taken),
            self.drained.eq(nest.drained),
            self.captured.eq(nest.captured),
            nest.run_start.eq(self.run_start),
            stop.eq(nest.fault | drain.fault),
            nest.drop.eq(stop | failed),
        ]

        # A row's way into lane 0, each part when the lane needs it.
        control, row = lanes[0].control, nest.row
        bank_bits, lane_bits = (config.lane_bank - 1).bit_length(), (config.lane_depth - 1).bit_length()
        source = Signal(Source)
        with m.If(~row.valid):
            m.d.comb += source.eq(Source.ZERO)
        with m.Elif(row.bias):
            m.d.comb += source.eq(Source.ONE)
        with m.Elif(row.from_batch):
            m.d.comb += source.eq(Source.BATCH)
        with m.Else(), m.Switch(row.operand):
            with m.Case(Operand.WORD, Operand.RELU):
                m.d.comb += source.eq(Mux(row.address[bank_bits], Source.UPPER, Source.LOWER))
            with m.Case(Operand.DIFFERENCE):
                m.d.comb += source.eq(Source.DIFFERENCE)
            with m.Case(Operand.STEP):
                m.d.comb += source.eq(Source.STEP)
            with m.Case(Operand.IDENTITY):
                m.d.comb += source.eq(Source.IDENTITY)
        last = row.last
        for _ in range(LOAD_AT):
            later = Signal(name="last")
            m.d.sync += later.eq(last & ~drain.fault)
            last = later
        m.d.comb += [
            control.address.eq(Mux(row.valid, row.address, self.lane_read.address[:lane_bits])),
            control.upper.eq(Mux(row.valid, row.upper, self.lane_read.address[:bank_bits])),
            control.half.eq(self.half),
            control.source.eq(delayed(m, source, SOURCE_AT)),
            control.rectify.eq(delayed(m, row.valid & ~row.bias & (row.operand == Operand.RELU), SOURCE_AT)),
            control.one.eq(delayed(m, row.one, SOURCE_AT)),
            self.weights_row.eq(delayed(m, row.weights, WEIGHTS_AT - 4)),
            *(control.weights[column].eq(self.weights[column]) for column in range(config.columns)),
            control.first.eq(delayed(m, row.first, FIRST_AT)),
            control.load.eq(last),
            drain.start.eq(last),
            drain.tile.eq(delayed(m, nest.tile, LOAD_AT)),
            control.shift.eq(drain.shift),
            control.activation.eq(drain.activation),
            control.write.eq(drain.write),
        ]
        # Lane 0 takes its control a cycle after it is given, and its result with it.
        m.d.sync += self.outcome.eq(drain.outcome)

        # The ways of the host and of the rows gathered. One of the two strobes at a time.
        table = self.table_write.strobe
        m.d.comb += [
            control.batch_strobe.eq(self.batch_write.strobe),
            control.value_strobe.eq(table & ~self.table_write.slope),
            control.slope_strobe.eq(table & self.table_write.slope),
            control.write_half.eq(self.batch_write.half),
            control.write_lane.eq(self.batch_write.lane),
            control.write_address.eq(Mux(table, self.table_write.address, self.batch_write.address)),
            control.data.eq(Mux(table, self.table_write.data, self.batch_write.data)),
            control.read_lane.eq(delayed(m, self.lane_read.address[lane_bits:], SOURCE_AT)),
            control.read_upper.eq(delayed(m, self.lane_read.address[bank_bits], SOURCE_AT)),
        ]
        m.d.sync += self.lane_read.data.eq(lanes[-1].read_word)
        return m
