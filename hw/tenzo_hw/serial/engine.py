"""The contraction engine of a serial machine: one contraction at a time, in as few logic cells as possible.

What is looked up once a row or a tile lies in block RAMs: deltas, turns, and the output address of the tile at hand.
The accumulators are a chain, through which the results leave and zeros come in.

prepare row ─ issue: addresses ─ words and weights: multiply-accumulate ─ … ─ first result ─ … ─ last one ─ gap
"""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from ..cells import MultiplyAccumulate, Ram
from ..config import Config
from ..isa import Contract
from ..registers import ADDRESS_BITS
from .fields import TILE_CYCLES, Field

#: Place of a level's words among those of their kind: the outer levels have the four from 4 on.
_FIRST_LEVEL = 2


def _any(bits: list[Value]) -> Value:
    return reduce(or_, bits, Const(0, 1))


def _counted(value: Value, given: Value) -> tuple[Signal, Value]:
    """A signal to be driven, and ``value`` - 1 where it is high, else ``given``.

    One LUT with its carry a bit: carries are of no use where ``given`` is taken, so that the signal is added in place
    of ones.
    """
    counts = Signal(name="counts")
    return counts, Mux(counts, (value + counts.replicate(len(value)))[: len(value)], given)


class SerialEngine(wiring.Component):
    """Carries out one contraction of plain words: ``tenzo_hw.engine.model`` says what comes out.

    ``field_write`` sets ``field`` (see ``Field``) to ``field_data``; what is written stays for further contractions.
    ``bad``: since the last write of CONTROL a count was 0 or has more than ``count_bits`` bits, or level 0 or 1 moved
    the output address. ``start`` comes two cycles after the last field write or later. ``done`` is low from the next
    cycle on, for ``engine_cycles``, until all results are written. ``fault``: since ``start`` an address was outside of
    its memory; what came before is written, nothing from there on, and the run takes the same time.

    ``activation_address`` and ``weight_row`` are answered a cycle later. In the cycle of ``store``, ``result`` goes to
    the lane address ``activation_address``. In the cycle of ``capture``, ``outcome`` is result ``capture_index`` of a
    contraction with ``to_loss``.
    """

    def __init__(self, *, config: Config) -> None:
        if config.accumulator != 32 or config.columns > TILE_CYCLES + 1:
            raise ValueError(
                f"accumulator={config.accumulator}, columns={config.columns} is not possible: "
                f"32 bits, at most {TILE_CYCLES + 1} columns, which are cleared between two tiles"
            )
        self._config = config
        super().__init__(
            {
                "field_write": In(1),
                "field": In(6),
                "field_data": In(32),
                "bad": Out(1),
                "start": In(1),
                "done": Out(1, init=1),
                "fault": Out(1),
                "activation_address": Out(ADDRESS_BITS),
                "lane_data": In(signed(config.word)),
                "batch_data": In(signed(config.word)),
                "weight_row": Out(range(config.effective_rows)),
                "weights": In(ArrayLayout(signed(config.word), config.columns)),
                "store": Out(1),
                "result": Out(signed(config.word)),
                "capture": Out(1),
                "outcome": Out(signed(config.output_word)),
                "capture_index": Out(range(config.outputs)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Fields, the loop nest, rows and results."""
        m = Module()
        config = self._config
        kind, place = self.field[4:], self.field[:4]
        low, high = self.field_data[:16], self.field_data[16:]

        def is_written(number: int) -> Value:
            return self.field_write & (kind == number)

        def memory(name: str, width: int, write: Value, data: Value, at: Value, read: Value) -> Value:
            """A block RAM; the word at ``read`` a cycle before."""
            m.submodules[name] = words = Ram(width=width, depth=16)
            m.d.comb += [
                words.write.eq(write),
                words.write_address.eq(at),
                words.write_data.eq(data),
                words.read_address.eq(read),
            ]
            return words.read_data

        # What holds for the whole contraction.
        bits = Contract.FIELDS
        control = {
            name: Signal(bits[name].width, name=name)
            for name in ("bias", "from_batch", "to_loss", "store", "tile_level", "shift", "one")
        }
        cols_bits = config.columns.bit_length()
        relu, rectify = Signal(), Signal()
        cols, last_cols = Signal(cols_bits), Signal(cols_bits)
        control_write = is_written(3) & ~place[0]
        with m.If(control_write):
            m.d.sync += [signal.eq(self.field_data[bits[name].low :]) for name, signal in control.items()]
            m.d.sync += relu.eq(self.field_data[bits["activation"].low])
        with m.If(is_written(3) & place[0]):
            m.d.sync += rectify.eq(self.field_data[bits["operand"].low + 2])
        with m.If(is_written(1) & place[3]):
            m.d.sync += [cols.eq(self.field_data[bits["cols"].low :]), last_cols.eq(self.field_data[8:])]
        is_level = place[1] | place[2]
        count_bits = config.count_bits
        wrong_count = is_written(0) & is_level & (~low[:count_bits].any() | low[count_bits:].any())
        wrong_stride = is_written(1) & (place[1:] == 1) & high.any()
        m.d.sync += self.bad.eq((self.bad | wrong_count | wrong_stride) & ~control_write)

        # The time line. ``end``: a tile's last row is prepared, or the bases are about to be.
        end, end1, end2, draining, gap, rows, first_row = (
            Signal(name=name) for name in ("end", "end1", "end2", "draining", "gap", "rows", "first_row")
        )
        biasing, issue, step, issue_bias, reading, reading_bias = (
            Signal(name=name) for name in ("biasing", "issue", "step", "issue_bias", "reading", "reading_bias")
        )
        init, quiet, finishing, closing, last_col, begin = (
            Signal(name=name) for name in ("init", "quiet", "finishing", "closing", "last_col", "begin")
        )
        stepping = rows & ~biasing

        # Levels 0 and 1: turns that are left, the one at hand among them.
        last0, last1 = Signal(), Signal()
        left0, left1 = Signal(count_bits), Signal(count_bits)
        for name, left, last, moves, level in (
            ("count0", left0, last0, stepping, 0),
            ("count1", left1, last1, stepping & last0, 1),
        ):
            count = memory(
                name,
                count_bits,
                is_written(0) & (place == _FIRST_LEVEL + level),
                low[:count_bits],
                place,
                Const(2 + level, 4),
            )
            counts, following = _counted(left, count)
            m.d.comb += [counts.eq(~(self.start | last)), last.eq(left == 1)]
            with m.If(self.start | moves):
                m.d.sync += left.eq(following)

        # The outer levels, one a cycle while a tile's results drain: which one steps after the next tile, and whether
        # that is at the last turn of its tile level. At first all of them wind up.
        turn, level, output_level = Signal(2), Signal(2), Signal(2)
        walking, going, match, is_last = (Signal(name=name) for name in ("walking", "going", "match", "is_last"))
        trigger = self.start | end
        goes = trigger | turn.any()
        left_write, left_next = Signal(), Signal(count_bits)
        count = memory("counts", count_bits, is_written(0) & is_level, low[:count_bits], place, Cat(turn, 1, 0))
        left = memory("left", count_bits, left_write, left_next, level, turn)
        last = left == 1
        winds = last | init
        counts, following = _counted(left, count)
        passes = walking & going & winds
        m.d.comb += [counts.eq(~winds), left_next.eq(following), left_write.eq(walking & going)]
        m.d.sync += [
            walking.eq(goes),
            match.eq(turn == control["tile_level"]),
            going.eq(trigger | (going & (~walking | winds))),
        ]
        with m.If(goes):
            m.d.sync += turn.eq(turn + 1)
        with m.If(trigger | passes):
            m.d.sync += level.eq(turn)
        with m.If(walking & match):
            m.d.sync += is_last.eq(last)
        m.d.comb += begin.eq(init & walking & (turn == 0))

        tile_end = Signal()
        cols_left = Signal(cols_bits, init=1)
        m.d.comb += [
            tile_end.eq(stepping & last0 & last1),
            end.eq(tile_end | begin),
            last_col.eq(draining & (cols_left == 1)),
        ]
        m.d.sync += [
            init.eq(self.start | (init & ~begin)),
            end1.eq(end),
            end2.eq(end1),
            draining.eq(end2 | (draining & ~last_col)),
            gap.eq(last_col & ~finishing),
            rows.eq(gap | (rows & ~tile_end)),
            first_row.eq(gap),
            biasing.eq(gap & control["bias"]),
            issue.eq(rows),
            step.eq(stepping | begin),
            issue_bias.eq(biasing),
            reading.eq(issue),
            reading_bias.eq(issue_bias),
            closing.eq(last_col & finishing),
            self.done.eq((self.done | closing) & ~self.start),
        ]
        with m.If(end):
            m.d.sync += [quiet.eq(begin), finishing.eq(going & ~begin), output_level.eq(level)]
        with m.If(tile_end):
            m.d.sync += cols_left.eq(Mux(is_last, last_cols, cols))
        with m.Elif(draining & ~last_col):
            m.d.sync += cols_left.eq(cols_left - 1)

        # Addresses: each takes the delta that was looked up while its row was prepared, at first its base.
        activation, weight, bias, output = (
            Signal(ADDRESS_BITS, name=name) for name in ("activation", "weight", "bias_row", "output")
        )
        at = Cat(Mux(tile_end, level, Cat(rows & last0, rows)), tile_end, 0)
        streams = (
            ("a", activation, 0, high, step),
            ("w", weight, 1, low, step),
            ("b", bias, 2, low, end1),
        )
        for name, address, number, data, moves in streams:
            delta = memory(name, ADDRESS_BITS, is_written(number), data, place, at)
            with m.If(self.start):
                m.d.sync += address.eq(0)
            with m.Elif(moves):
                m.d.sync += address.eq(address + delta)
        # The output address walks along the columns; then it is cleared, goes back to the tile's first one, which was
        # saved, and takes the delta. What was saved is 0 in the other cycles, and the delta in this one.
        saved_at = Signal(4)
        output_at = Signal(4)
        zero_at = _FIRST_LEVEL
        with m.If(last_col):
            m.d.comb += output_at.eq(zero_at)
        with m.Elif(gap):
            m.d.comb += output_at.eq(Mux(quiet, Field.OUTPUT & 0xF, Cat(output_level, 1, 0)))
        with m.Else():
            m.d.comb += output_at.eq(Field.COLUMNS & 0xF)
        # At first nothing was saved: that is the 0 that the end of the last contraction left.
        m.d.comb += saved_at.eq(last_col)
        delta = memory("o", ADDRESS_BITS, is_written(1), high, place, output_at)
        saved = memory("saved", ADDRESS_BITS, end1, output, Const(1, 4), saved_at)
        with m.If(last_col):
            m.d.sync += output.eq(0)
        with m.Elif(draining | gap | first_row):
            m.d.sync += output.eq((output + delta)[:ADDRESS_BITS] ^ saved)

        # What is read or written, and whether it is there.
        lane_bits, batch_bits, row_bits = (
            (depth - 1).bit_length() for depth in (config.lane_depth, config.batch_depth, config.effective_rows)
        )
        address = self.activation_address
        row = Signal(ADDRESS_BITS)
        # A result is there a cycle after its column drained.
        drained, place_of_result = Signal(), Signal(ADDRESS_BITS)
        m.d.sync += [drained.eq(draining & ~quiet), place_of_result.eq(output)]
        m.d.comb += [
            address.eq(Mux(drained, place_of_result, activation)),
            row.eq(Mux(issue_bias, bias, weight)),
            self.weight_row.eq(row),
        ]
        in_batch = control["from_batch"] & ~drained
        outside = address[max(lane_bits, batch_bits) :].any()
        if lane_bits < batch_bits:
            outside |= address[lane_bits:batch_bits].any() & ~in_batch
        elif batch_bits < lane_bits:
            outside |= address[batch_bits:lane_bits].any() & in_batch
        uses = (issue & ~issue_bias) | (drained & control["store"])
        fails = Signal()
        m.d.comb += fails.eq((uses & outside) | (issue & row[row_bits:].any()))
        m.d.sync += self.fault.eq((self.fault | fails) & ~self.start)

        # Multiply and accumulate; without a row the accumulators move on by one column.
        factor = self._factor(m, reading_bias, rectify, control)
        following: Value = Const(0, config.accumulator)
        for column in reversed(range(config.columns)):
            m.submodules[f"column{column}"] = sums = MultiplyAccumulate(a_bits=config.word, b_bits=config.word)
            m.d.comb += [
                sums.a.eq(factor),
                sums.b.eq(self.weights[column]),
                sums.adds.eq(reading),
                sums.i.eq(following),
            ]
            following = sums.o
        self._results(m, following, control["shift"], relu)
        drains = Signal()
        m.d.comb += [
            drains.eq(drained & ~self.fault & ~fails),
            self.store.eq(drains & control["store"]),
            self.capture.eq(drains & control["to_loss"]),
        ]
        with m.If(self.start):
            m.d.sync += self.capture_index.eq(0)
        with m.Elif(self.capture):
            m.d.sync += self.capture_index.eq(self.capture_index + 1)
        return m

    def _factor(self, m: Module, is_bias: Value, rectify: Value, control: dict[str, Signal]) -> Value:
        """What the weights are multiplied with: a word, its ReLU, or with ``is_bias`` the low bits of 1 << one."""
        config = self._config
        one = control["one"]
        drops, factor = Signal(), Signal(signed(config.word))
        fine = Signal(4)
        coarse = Signal(-(-config.word // 4))
        # Only words of the lane go with RELU.
        m.d.comb += [
            drops.eq(is_bias | (rectify & self.lane_data[-1])),
            *(fine[low].eq(one[:2] == low) for low in range(4)),
            *(coarse[high].eq(is_bias & (one[2:] == high)) for high in range(len(coarse))),
        ]
        for bit in range(config.word):
            word = Mux(control["from_batch"], self.batch_data[bit], self.lane_data[bit]) & ~drops
            m.d.comb += factor[bit].eq(word | (fine[bit % 4] & coarse[bit // 4]))
        return factor

    def _results(self, m: Module, accumulator: Value, shift: Signal, relu: Value) -> None:
        """``result`` and ``outcome``: those of ``epilogue``, a cycle after the accumulator.

        The shift keeps the bit below the result, which rounds it, and drops upper bits as soon as no later step reads
        them: they only say whether the result saturates. 32 steps or more leave 0.
        """
        config = self._config
        wide = config.output_word
        sign, small = Signal(), Signal()
        value: Value = Cat(0, accumulator[:-1])
        m.d.comb += [small.eq(~shift[5]), sign.eq(accumulator[-1] & small)]
        over: list[Value] = []
        above: Value = accumulator[-1]
        for place in reversed(range(5)):
            # Of the doubled value: the rounding bit, and those of the result without the sign.
            kept = wide + (1 << place) - 1
            shifts = shift[place]
            dropped = value[kept:]
            holds = ~shifts & small if place == 4 else ~shifts
            over.append(holds & (dropped != above.replicate(len(dropped))))
            following = Signal(kept, name=f"shifted{1 << place}")
            for bit in range(kept):
                source = bit + (1 << place)
                moved = value[source] if source < len(value) else above
                chosen = Mux(shifts, moved, value[bit])
                m.d.comb += following[bit].eq(chosen & small if place == 4 else chosen)
            value, above = following, sign
        shifted, below, saturates = Signal(len(value)), Signal(), Signal()
        m.d.sync += [shifted.eq(value), below.eq(sign), saturates.eq(_any(over))]
        value, sign = shifted, below
        rounds = Signal()
        # The largest number is not rounded up.
        m.d.comb += rounds.eq(value[0] & (sign | ~value[1:].all()))
        # Saturation in the adder's LUTs; the bit below the sum gives the carry.
        total = (Cat(rounds, value[1:], sign) + Cat(rounds, saturates.replicate(wide)))[1 : wide + 1]
        y = Signal(wide)
        m.d.comb += y.eq(Mux(saturates, Cat((~sign).replicate(wide - 1), sign), total))
        word = config.word
        is_wide = Signal()
        negative = y[-1]
        m.d.comb += is_wide.eq(y[word - 1 :] != negative.replicate(wide - word + 1))
        drops = relu & negative
        for bit in range(word - 1):
            clipped = Mux(is_wide, ~negative, y[bit]) & ~drops
            m.d.comb += [self.result[bit].eq(clipped), self.outcome[bit].eq(Mux(relu, clipped, y[bit]))]
        m.d.comb += self.result[-1].eq(negative & ~relu)
        for bit in range(word - 1, wide):
            m.d.comb += self.outcome[bit].eq(y[bit] & ~relu)
