"""The loop nest: issues a contraction's rows, one a cycle, with their addresses; ``nest`` holds its model.

    0 counters ─ 1 level that steps ─ 2 deltas ─ 3 addresses ─ 4 range checks

Each counter keeps a bit that it is at its last turn, so that the choice of the level to step is a few gates. A row adds
one delta to each address: that of its level, which winds the inner levels back (see ``isa.Contract``).
"""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import and_, or_

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .collisions import NO_COLLISIONS
from .config import REDUCTION_LEVELS, Config
from .isa import Activation, Base, Contract, Operand
from .layouts import CONTRACTIONS, LEVELS, STREAMS, deltas_layout, instruction_layout
from .registers import ADDRESS_BITS
from .timing import capture_latency, result_latency
from .turn_counter import TurnCounter

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

    ``base`` is NONE without ``to_loss``. ``number`` is its contraction's.
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
            "number": range(CONTRACTIONS),
        }
    )


class LoopNest(wiring.Component):
    """Issues the rows of ``contract``, one contraction after the other without a gap.

    ``start`` strobes when a contraction is given, all of which is there a cycle before. It is taken, with its
    ``number``, in that cycle or the first one later in which the nest is idle or issues the last row of all; its first
    row is issued in the next cycle. ``taken`` strobes then: the next contraction may be given from there on, its
    ``deltas`` before it. ``contract`` must hold until ``taken`` is over.

    A row issued in cycle t is ``row`` in cycle t + ``NEST_LATENCY``, with its ``tile``. A tile's last row waits until
    the tile before has drained, and for the pace of that tile's contraction; ``run_start`` forgets the pace.
    ``drained``: rows from the next cycle on read every result. ``captured``, from the second cycle after a start on: no
    contraction with ``base`` ADD has results to come at the loss accumulator.

    ``fault`` strobes in place of a row whose address is outside of its memory. ``drop``, which must be high with it,
    forgets the contraction, one that is given, and its rows on the way.
    """

    def __init__(self, *, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "contract": In(instruction_layout(Contract)),
                "deltas": In(deltas_layout()),
                "number": In(range(CONTRACTIONS)),
                "start": In(1),
                "taken": Out(1),
                "drained": Out(1),
                "captured": Out(1),
                "run_start": In(1),
                "drop": In(1),
                "fault": Out(1),
                "row": Out(row_layout(config)),
                "tile": Out(tile_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The pipeline, stage after stage."""
        m = Module()
        config = self._config
        held = {name: Signal(self.contract[name].shape(), name=name) for name in self._held()}
        take = Signal()
        # What a row needs only a stage later is taken a cycle later: fewer registers wait for that decision.
        m.d.sync += self.taken.eq(take)
        with m.If(self.taken):
            m.d.sync += [register.eq(self.contract[name]) for name, register in held.items()]

        # 0: the counters, and whether the row at hand is issued.
        active = Signal()
        bias_row = Signal()
        fresh = Signal()
        counters = [TurnCounter(bits=config.count_bits) for _ in LEVELS]
        at_last = [counter.at_last for counter in counters]
        # The tile before has drained and its pace is over.
        is_open = Signal(init=1)
        given = Signal()
        tile_end = Signal()
        issue = Signal()
        finish = Signal()
        # All counters are at their last turn, in a register: the next contraction hangs on it.
        at_end = Signal()
        m.d.comb += [
            tile_end.eq(~bias_row & _all(at_last[:REDUCTION_LEVELS])),
            issue.eq(active & (is_open | ~tile_end)),
            finish.eq(at_end & ~bias_row & is_open),
            take.eq((self.start | given) & (~active | finish)),
        ]
        m.d.sync += given.eq((self.start | given) & ~take & ~self.drop)
        number = Signal.like(self.number)
        odd = Signal()
        has_bias = Signal()
        tile_level = Signal.like(self.contract.tile_level)
        with m.If(issue):
            m.d.sync += [fresh.eq(tile_end), bias_row.eq(tile_end & has_bias)]
        with m.If(finish | self.drop):
            m.d.sync += active.eq(0)
        with m.If(take):
            m.d.sync += [
                active.eq(1),
                fresh.eq(1),
                bias_row.eq(self.contract.bias),
                has_bias.eq(self.contract.bias),
                tile_level.eq(self.contract.tile_level),
                number.eq(self.number),
                odd.eq(~odd),
            ]
        steps = []
        turns = Signal()
        m.d.comb += turns.eq(issue & ~bias_row)
        turning: Value = turns
        for level, counter in enumerate(counters):
            m.submodules[f"level{level}"] = counter
            m.d.comb += [
                counter.given.eq(self.contract[f"count{level}"]),
                counter.take.eq(take),
                counter.taken.eq(self.taken),
                counter.turn.eq(turning),
            ]
            steps.append(turning & ~counter.at_last)
            turning = turning & counter.at_last
        # A turn takes all to the end when it takes one level there, those below have but one, and the others are there.
        reached = reduce(
            or_,
            (
                _all(
                    [
                        counters[level].at_second,
                        *(counter.single for counter in counters[:level]),
                        *at_last[:level],
                        *at_last[level + 1 :],
                    ]
                )
                for level in LEVELS
            ),
        )
        with m.If(take):
            m.d.sync += at_end.eq(_all([counter.coming_single for counter in counters]))
        with m.Elif(turns):
            m.d.sync += at_end.eq(reached)

        # Draining: a tile occupies the drain for as many cycles as it has columns, and the loss for its pace.
        last_column = Signal(range(config.columns))
        cols = Signal.like(last_column)
        last_cols = Signal.like(last_column)
        pause = Signal.like(self.contract.pace)
        # Whether a tile needs no waiting, and whether its pace needs none: what is next is decided with few gates.
        fields = {"cols": cols, "last_cols": last_cols, "pause": pause}
        coming = {name: Signal.like(field, name=f"coming_{name}") for name, field in fields.items()}
        is_zero = {name: Signal(name=f"is_zero_{name}") for name in fields}
        coming_zero = {name: Signal(name=f"coming_zero_{name}") for name in fields}
        at_last_tile = Signal()
        m.d.sync += [
            coming["cols"].eq(self.contract.cols - 1),
            coming["last_cols"].eq(self.contract.last_cols - 1),
            coming["pause"].eq(self.contract.pace - self.contract.pace.any()),
            coming_zero["cols"].eq(self.contract.cols == 1),
            coming_zero["last_cols"].eq(self.contract.last_cols == 1),
            coming_zero["pause"].eq(self.contract.pace <= 1),
        ]
        with m.If(take):
            m.d.sync += [field.eq(coming[name]) for name, field in fields.items()]
            m.d.sync += [is_zero[name].eq(coming_zero[name]) for name in fields]
        m.d.comb += [
            at_last_tile.eq(Array(at_last[REDUCTION_LEVELS:])[tile_level]),
            last_column.eq(Mux(at_last_tile, last_cols, cols)),
        ]
        tile_issued = issue & tile_end
        no_drain = Mux(at_last_tile, is_zero["last_cols"], is_zero["cols"])
        cleared, _ = self._countdown(m, tile_issued, last_column, no_drain, "clear")
        paced, _ = self._countdown(m, tile_issued, pause, is_zero["pause"], "pace", self.run_start)
        m.d.sync += is_open.eq(cleared & paced)

        # A cycle later: when the results of the last tile can be read, and are at the loss.
        base = Signal(Base)
        if config.incremental:
            with m.If(self.taken):
                m.d.sync += base.eq(Mux(self.contract.to_loss, self.contract.base, Base.NONE))
        was_issued = Signal()
        was_active = Signal()
        was_last = Signal.like(last_column)
        m.d.sync += [was_issued.eq(tile_issued), was_active.eq(active), was_last.eq(last_column)]
        makes_differences = base == Base.ADD
        _, settled = self._countdown(m, was_issued, was_last + (result_latency(config) - 3), Const(0), "settle")
        given_after = was_last + (capture_latency(config) - 1)
        _, all_given = self._countdown(m, was_issued & makes_differences, given_after, Const(0), "give")
        m.d.comb += [
            self.drained.eq(settled & ~was_issued & ~active),
            self.captured.eq(all_given & ~((was_active | was_issued) & makes_differences)),
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
            tiles[0].last_column.eq(last_column),
            tiles[0].number.eq(number),
        ]
        for bundle in (rows, tiles):
            m.d.sync += [later.eq(earlier) for earlier, later in pairwise(bundle)]
        m.d.sync += [
            rows[1].from_batch.eq(held["from_batch"]),
            rows[1].operand.eq(held["operand"] if config.incremental else held["operand"] & Operand.RELU),
            rows[1].one.eq(held["one"]),
            tiles[1].stride.eq(held["col_stride"]),
            tiles[1].shift.eq(held["shift"]),
            tiles[1].activation.eq(held["activation"]),
            tiles[1].store.eq(held["store"]),
            tiles[1].to_loss.eq(held["to_loss"]),
            tiles[1].base.eq(base),
        ]
        with m.If(self.drop):
            m.d.sync += [stage.valid.eq(0) for stage in rows]

        # 2, 3: deltas and addresses. The bases come right behind the last row of the contraction before.
        starts = Signal(2)
        m.d.sync += starts.eq(Cat(take, starts))
        addresses = {}
        place = Cat(
            reduce(or_, (step[level] for level in LEVELS if _place(level) >> bit & 1))
            for bit in range((_PLACES - 1).bit_length())
        )
        given_deltas = Signal.like(self.deltas)
        m.d.sync += given_deltas.eq(self.deltas)
        for bit, stream in enumerate(STREAMS):
            # One half holds the deltas of the contraction at hand, the other one takes those of the next.
            m.submodules[f"deltas_{stream}"] = deltas = Memory(
                shape=ADDRESS_BITS, depth=2 * _PLACES, init=[], attrs=NO_COLLISIONS
            )
            write, read = deltas.write_port(), deltas.read_port()
            m.d.comb += [
                write.en.eq(given_deltas.write[bit]),
                write.addr.eq(Cat(_place(given_deltas.level)[:3], ~odd)),
                write.data.eq(given_deltas[stream]),
                read.addr.eq(Cat(place, odd)),
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
        return ["one", "from_batch", "operand", "col_stride", "shift", "activation", "store", "to_loss"]

    @staticmethod
    def _countdown(
        m: Module, load: Value, cycles: Value, is_zero: Value, name: str, end: Value | None = None
    ) -> tuple[Signal, Signal]:
        """A register that is low for ``cycles`` cycles after ``load``, or until ``end``; first what it is next.

        ``is_zero``: whether ``cycles`` is 0.
        """
        remaining = Signal(cycles.shape(), name=f"cycles_to_{name}")
        over = Signal(init=1, name=f"over_{name}")
        following = Signal(name=f"following_{name}")
        m.d.comb += following.eq(over | (remaining == 1))
        m.d.sync += [over.eq(following), remaining.eq(remaining - 1)]
        with m.If(load):
            m.d.comb += following.eq(is_zero)
            m.d.sync += remaining.eq(cycles)
        if end is not None:
            with m.If(end):
                m.d.comb += following.eq(1)
        return following, over


def _place(level: Value | int) -> Value | int:
    """Where a level's delta is kept; place 0 is that of no level."""
    return level + 1


def _all(bits: list[Signal]) -> Value:
    return reduce(and_, bits)


def _log2(power_of_two: int) -> int:
    return power_of_two.bit_length() - 1
