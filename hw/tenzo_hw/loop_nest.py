"""The loop nest: issues a contraction's rows, one a cycle, with their addresses; ``nest`` holds its model.

    0 counters ─ 1 level that steps ─ 2 deltas ─ 3 addresses ─ 4 range checks

Each counter keeps a bit that it is at its last turn, so that the choice of the level to step is a few gates. A row adds
one delta to each address: that of its level, which winds the inner levels back (see ``isa.Contract``).
"""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import and_, or_

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .collisions import NO_COLLISIONS
from .config import REDUCTION_LEVELS, Config
from .isa import Activation, Base, Contract, Operand
from .layouts import LEVELS, STREAMS, deltas_layout, instruction_layout
from .registers import ADDRESS_BITS
from .timing import capture_latency, result_latency

#: Cycles from the issue of a row to the row at the nest's ports.
NEST_LATENCY = 4

#: Deltas that a stream's memory keeps of a contraction: one a level, and one that is 0 for a row without a step.
_PLACES = 8


def row_layout(config: Config) -> StructLayout:
    """A row: which activation meets which weights.

    ``first`` and ``last`` are the ends of a tile; without ``valid`` both are low. ``one`` is the shift of the constant.
    ``upper`` is the word of the upper bank that goes with ``address``: an environment's with DIFFERENCE.
    """
    return StructLayout(
        {
            "valid": 1,
            "first": 1,
            "last": 1,
            "bias": 1,
            "from_batch": 1,
            "operand": Operand,
            "one": Contract.FIELDS["one"].width,
            "address": range(max(config.lane_depth, config.batch_depth)),
            "upper": range(config.lane_bank),
            "weights": range(config.effective_rows),
        }
    )


def tile_layout(config: Config) -> StructLayout:
    """What becomes of a tile: ``output`` is its first result's address, ``last_column`` its results less one.

    ``base`` is NONE without ``to_loss``. ``odd`` tells its contraction from the one before and the one after.
    """
    return StructLayout(
        {
            "output": ADDRESS_BITS,
            "stride": ADDRESS_BITS,
            "last_column": range(config.columns),
            "shift": Contract.FIELDS["shift"].width,
            "activation": Activation,
            "store": 1,
            "to_loss": 1,
            "base": Base,
            "odd": 1,
        }
    )


class LoopNest(wiring.Component):
    """Issues the rows of ``contract``, taken with ``start`` while ``ready``, from the next cycle on.

    Its ``deltas`` come before, from the cycle after the start before on. Its bases are taken a cycle after ``start``.

    A row issued in cycle t is ``row`` in cycle t + ``NEST_LATENCY``, with its ``tile``. A tile's last row waits until
    the tile before has drained, and for the pace of that tile's contraction; ``run_start`` forgets the pace. ``ready``:
    idle or issuing the last row of all. ``drained``: rows from the next cycle on read every result. ``captured``: no
    contraction with ``base`` ADD has results to come at the loss accumulator.

    ``fault`` strobes in place of a row whose address is outside of its memory. ``drop``, which must be high with it,
    forgets the contraction and its rows on the way. ``odd`` is the tiles' of the contraction started last.
    """

    def __init__(self, *, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "contract": In(instruction_layout(Contract)),
                "deltas": In(deltas_layout()),
                "start": In(1),
                "ready": Out(1),
                "drained": Out(1),
                "captured": Out(1),
                "run_start": In(1),
                "drop": In(1),
                "fault": Out(1),
                "odd": Out(1),
                "row": Out(row_layout(config)),
                "tile": Out(tile_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The pipeline, stage after stage."""
        m = Module()
        config = self._config
        held = {name: Signal(self.contract[name].shape(), name=name) for name in self._held()}
        held |= {f"count{level}": Signal(config.count_bits, name=f"count{level}") for level in LEVELS}
        with m.If(self.start):
            m.d.sync += [register.eq(self.contract[name]) for name, register in held.items()]

        # 0: the counters, and whether the row at hand is issued.
        active = Signal()
        bias_row = Signal()
        fresh = Signal()
        at_last = [Signal(name=f"at_last{level}") for level in LEVELS]
        clear = Signal(init=1)
        paced = Signal(init=1)
        tile_end = Signal()
        issue = Signal()
        finish = Signal()
        # All counters are at their last turn: a register, because the sequencer's choice hangs on it.
        at_end = Signal()
        m.d.comb += [
            tile_end.eq(~bias_row & _all(at_last[:REDUCTION_LEVELS])),
            issue.eq(active & (clear & paced | ~tile_end)),
            finish.eq(active & at_end & ~bias_row & clear & paced),
            self.ready.eq(~active | finish),
        ]
        with m.If(issue):
            m.d.sync += [fresh.eq(tile_end), bias_row.eq(tile_end & held["bias"])]
        with m.If(finish | self.drop):
            m.d.sync += active.eq(0)
        with m.If(self.start):
            m.d.sync += [active.eq(1), fresh.eq(1), bias_row.eq(self.contract.bias), self.odd.eq(~self.odd)]
        steps = []
        turning: Value = issue & ~bias_row
        following_at_last = []
        for level in LEVELS:
            following_at_last.append(self._counter(m, level, turning, at_last[level], held[f"count{level}"]))
            steps.append(turning & ~at_last[level])
            turning = turning & at_last[level]
        m.d.sync += at_end.eq(_all(following_at_last))

        # Draining: a tile occupies the drain for as many cycles as it has columns, and the loss for its pace.
        last_column = Signal(range(config.columns))
        cols = Signal.like(last_column)
        last_cols = Signal.like(last_column)
        pause = Signal.like(self.contract.pace)
        base = Signal(Base)
        with m.If(self.start):
            m.d.sync += [
                cols.eq(self.contract.cols - 1),
                last_cols.eq(self.contract.last_cols - 1),
                pause.eq(self.contract.pace - self.contract.pace.any()),
            ]
            if config.incremental:
                m.d.sync += base.eq(Mux(self.contract.to_loss, self.contract.base, Base.NONE))
        m.d.comb += last_column.eq(Mux(Array(at_last[REDUCTION_LEVELS:])[held["tile_level"]], last_cols, cols))
        settled = Signal(init=1)
        tile_issued = issue & tile_end
        self._countdown(m, tile_issued, last_column, clear)
        self._countdown(m, tile_issued, pause, paced)
        with m.If(self.run_start):
            m.d.sync += paced.eq(1)
        self._countdown(m, tile_issued, last_column + (result_latency(config) - 2), settled)
        all_given = Signal(init=1)
        makes_differences = base == Base.ADD
        self._countdown(m, tile_issued & makes_differences, last_column + capture_latency(config), all_given)
        m.d.comb += [
            self.drained.eq(settled & ~active),
            self.captured.eq(all_given & ~(active & makes_differences)),
        ]

        # 1: the level that steps. What does not change on the way is taken along as one bundle.
        row, tile = self.row.shape(), self.tile.shape()
        rows = [Signal(row, name=f"row{stage}") for stage in range(1, NEST_LATENCY)]
        tiles = [Signal(tile, name=f"tile{stage}") for stage in range(1, NEST_LATENCY)]
        step = Signal(len(LEVELS))
        m.d.sync += [
            step.eq(Cat(steps)),
            rows[0].valid.eq(issue & ~self.drop),
            rows[0].first.eq(fresh),
            rows[0].last.eq(tile_end),
            rows[0].bias.eq(bias_row),
            rows[0].from_batch.eq(held["from_batch"]),
            rows[0].operand.eq(held["operand"] if config.incremental else held["operand"] & Operand.RELU),
            rows[0].one.eq(held["one"]),
            tiles[0].stride.eq(held["col_stride"]),
            tiles[0].last_column.eq(last_column),
            tiles[0].shift.eq(held["shift"]),
            tiles[0].activation.eq(held["activation"]),
            tiles[0].store.eq(held["store"]),
            tiles[0].to_loss.eq(held["to_loss"]),
            tiles[0].base.eq(base),
            tiles[0].odd.eq(self.odd),
        ]
        for bundle in (rows, tiles):
            m.d.sync += [later.eq(earlier) for earlier, later in pairwise(bundle)]
        with m.If(self.drop):
            m.d.sync += [stage.valid.eq(0) for stage in rows]

        # 2, 3: deltas and addresses. The bases come right behind the last row of the contraction before.
        starts = Signal(2)
        m.d.sync += starts.eq(Cat(self.start, starts))
        addresses = {}
        place = Cat(
            reduce(or_, (step[level] for level in LEVELS if _place(level) >> bit & 1))
            for bit in range((_PLACES - 1).bit_length())
        )
        for number, stream in enumerate(STREAMS):
            # One half holds the deltas of the contraction at hand, the other one takes those of the next.
            m.submodules[f"deltas_{stream}"] = deltas = Memory(
                shape=ADDRESS_BITS, depth=2 * _PLACES, init=[], attrs=NO_COLLISIONS
            )
            write, read = deltas.write_port(), deltas.read_port()
            m.d.comb += [
                write.en.eq(self.deltas.write[number]),
                write.addr.eq(Cat(_place(self.deltas.level)[:3], ~self.odd)),
                write.data.eq(self.deltas[stream]),
                read.addr.eq(Cat(place, self.odd)),
            ]
            delta = read.data
            first = Signal(ADDRESS_BITS, name=f"first_{stream}")
            following = Signal(ADDRESS_BITS, name=f"following_{stream}")
            addresses[stream] = Signal(ADDRESS_BITS, name=f"address_{stream}")
            m.d.sync += [
                first.eq(self.contract[f"{stream}_base"]),
                following.eq(Mux(starts[1], first, following + delta)),
                addresses[stream].eq(following),
            ]

        # 4: range checks.
        before = rows[-1]
        weights = Signal(ADDRESS_BITS)
        outside = Signal()
        depths = (config.batch_depth, config.lane_bank, config.lane_depth)
        beyond_batch, beyond_bank, beyond_lane = (addresses["a"][_log2(depth) :].any() for depth in depths)
        is_difference = before.operand == Operand.DIFFERENCE
        in_bank = is_difference | (before.operand == Operand.STEP)
        m.d.comb += [
            weights.eq(Mux(before.bias, addresses["b"], addresses["w"])),
            outside.eq(
                (~before.bias & Mux(before.from_batch, beyond_batch, Mux(in_bank, beyond_bank, beyond_lane)))
                | (is_difference & addresses["b"][_log2(config.lane_bank) :].any())
                | weights[_log2(config.effective_rows) :].any()
            ),
        ]
        good = before.valid & ~outside & ~self.drop
        m.d.sync += [
            self.row.eq(before),
            self.row.valid.eq(good),
            self.row.first.eq(good & before.first),
            self.row.last.eq(good & before.last),
            self.row.address.eq(addresses["a"]),
            self.row.upper.eq(Mux(is_difference, addresses["b"], addresses["a"])),
            self.row.weights.eq(weights),
            self.tile.eq(tiles[-1]),
            self.tile.output.eq(addresses["o"]),
            self.fault.eq(before.valid & outside & ~self.drop),
        ]
        return m

    @staticmethod
    def _held() -> list[str]:
        """Fields of the instruction that are needed after the start."""
        operands = ["bias", "one", "from_batch", "operand"]
        results = ["tile_level", "col_stride", "shift", "activation", "store", "to_loss"]
        return operands + results

    def _counter(self, m: Module, level: int, turning: Value, at_last: Signal, count: Signal) -> Signal:
        """Counts the turns of a level down to 1; returns what the register ``at_last`` is in the next cycle."""
        remaining = Signal.like(count, name=f"remaining{level}")
        single = Signal(name=f"single{level}")
        following = Signal(name=f"following_at_last{level}")
        m.d.comb += following.eq(at_last)
        m.d.sync += at_last.eq(following)
        with m.If(turning):
            m.d.sync += remaining.eq(Mux(at_last, count, remaining - 1))
            m.d.comb += following.eq(Mux(at_last, single, remaining == 2))
        with m.If(self.start):
            given = self.contract[f"count{level}"][: len(count)]
            m.d.sync += [remaining.eq(given), single.eq(given == 1)]
            m.d.comb += following.eq(given == 1)
        return following

    @staticmethod
    def _countdown(m: Module, load: Value, cycles: Value, over: Signal) -> None:
        """``over`` is low for ``cycles`` cycles after ``load``."""
        remaining = Signal(cycles.shape(), name=f"until_{over.name}")
        with m.If(load):
            m.d.sync += [remaining.eq(cycles), over.eq(cycles == 0)]
        with m.Elif(~over):
            m.d.sync += [remaining.eq(remaining - 1), over.eq(remaining == 1)]


def _place(level: Value | int) -> Value | int:
    """Where a level's delta is kept; place 0 is that of no level."""
    return level + 1


def _all(bits: list[Signal]) -> Value:
    return reduce(and_, bits)


def _log2(power_of_two: int) -> int:
    return power_of_two.bit_length() - 1
