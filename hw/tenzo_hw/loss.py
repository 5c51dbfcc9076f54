"""Loss accumulator: sums the losses of groups of samples while the next group is being computed.

Two buffers of ``outputs`` words a lane take the engine's results; the largest output and its place are kept on the way
in. One reader goes through a full buffer, an output a cycle, lane by lane, through a pipeline without branches:

    read ─ choose lane ─ |reference - output| ─ product ─ shift ─ exp2 ─ sum of a sample ─ log2 ─┬─ sum of a slot
                                                            └── label's exponent, squared error ─┘

The reference is the sample's largest output (cross-entropy) or its target (squared error). All numbers are unsigned
after the difference. Every output takes the same cycles whatever the kind, so that samples of a single output follow
each other without a gap.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import LOSS_FRACTION, LOSS_WORD, Config
from .isa import Loss, LossKind
from .layouts import instruction_layout
from .numbers import round_shift
from .timing import loss_latency

#: log2(e) with 15 fraction bits.
LOG2_E = 47274
#: log2 of the intervals of both tables.
TABLE_BITS = 8
#: 2^(-k/256) and log2(1 + k/256) with LOSS_FRACTION fraction bits, the end of the last interval included.
EXP2 = np.array([round(2**LOSS_FRACTION * 2 ** (-k / 256)) for k in range(257)])
LOG2 = np.array([round(2**LOSS_FRACTION * float(np.log2(1 + k / 256))) for k in range(257)])
#: Halvings after which an exponential is below half of its last bit.
SHIFT_LIMIT = LOSS_FRACTION + 1


def cross_entropy(outputs: np.ndarray, labels: np.ndarray, fraction: int) -> tuple[np.ndarray, np.ndarray]:
    """Base-2 cross-entropy of samples and whether each is classified right.

    ``outputs``: int[samples, outputs] with ``fraction`` fraction bits; ``labels``: int[samples], one that is no output
    adds nothing and is never right. Returns int64[samples] in bits with LOSS_FRACTION fraction bits, and bool[samples].

    Method: log2 of the sum of 2^(z_j - max z) less the label's exponent, exponential and logarithm from tables of 256
    intervals with linear interpolation.
    """
    outputs = outputs.astype(np.int64)
    below = round_shift(((outputs.max(axis=1, keepdims=True) - outputs) * LOG2_E) << 1, fraction)
    whole, part = below >> LOSS_FRACTION, below & 0xFFFF
    interval, rest = part >> TABLE_BITS, part & 0xFF
    value = EXP2[interval] - round_shift((EXP2[interval] - EXP2[interval + 1]) * rest, TABLE_BITS)
    shift = np.minimum(whole, SHIFT_LIMIT)
    powers = np.where(whole > SHIFT_LIMIT, 0, (value + ((1 << shift) >> 1)) >> shift)
    total = powers.sum(axis=1)
    # A float64 holds the sum exactly, so its exponent is the leading one's place.
    leading = np.frexp(total.astype(np.float64))[1].astype(np.int64) - 1
    mantissa = ((total << (24 - leading)) >> 8) & 0xFFFF
    interval, rest = mantissa >> TABLE_BITS, mantissa & 0xFF
    log = (leading - LOSS_FRACTION) << LOSS_FRACTION
    log += LOG2[interval] + round_shift((LOG2[interval + 1] - LOG2[interval]) * rest, TABLE_BITS)
    is_label = np.arange(outputs.shape[1]) == labels[:, None]
    return log + np.where(is_label, below, 0).sum(axis=1), outputs.argmax(axis=1) == labels


def squared_error(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Sum of squared differences of each sample, int64[samples], from int[samples, outputs] twice."""
    return ((outputs.astype(np.int64) - targets) ** 2).sum(axis=1)


def losses(instruction: Loss, outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, int]:
    """Loss of each sample and how many are classified right.

    ``outputs``: int[samples, outputs]; ``targets``: CROSS_ENTROPY int[samples], SQUARED_ERROR int[samples, outputs].
    """
    if instruction.kind == LossKind.CROSS_ENTROPY:
        values, correct = cross_entropy(outputs, targets, instruction.fraction)
        return values, int(correct.sum())
    return squared_error(outputs, targets), 0


def slot(values: np.ndarray) -> int:
    """The word that a slot holds for samples of these losses: their sum, saturated to LOSS_WORD bits unsigned."""
    return min(int(values.sum()), (1 << LOSS_WORD) - 1)


def target_write_signature(config: Config) -> wiring.Signature:
    """Write port of the target memory: word ``address`` of ``half``."""
    return wiring.Signature(
        {
            "strobe": Out(1),
            "half": Out(1),
            "address": Out(range(config.target_depth)),
            "data": Out(signed(config.word)),
        }
    )


def slot_read_signature(config: Config) -> wiring.Signature:
    """Read port of the loss slots: the word of ``address``, one cycle later."""
    return wiring.Signature({"address": Out(range(config.losses)), "data": In(LOSS_WORD)})


class LossAccumulator(wiring.Component):
    """Sums the losses of groups of samples into slots; ``losses`` and ``slot`` are its model.

    ``setup`` is taken with ``setup_start``, which must come while ``done``: the next loss goes to slot 0. ``reserve``
    takes a buffer for one group and must come while ``free``; the group is the next ``outputs`` results. Lane l's
    results come l cycles after lane 0's. A group captured with lane 0's last result in cycle c is read from cycle c + 1
    on, or right after the group before it, for lanes x outputs cycles; in the next cycle its buffer is free. ``done``
    is low from the cycle after ``reserve`` until ``loss_latency`` cycles after the group's last output is read: then
    nothing is reserved, captured or being summed, and the slots are stored. Targets come from ``half`` of their memory.

    ``correct`` counts the samples classified right since ``correct_clear`` or ``run_start``, up to 65535. ``run_start``
    forgets all groups; a setup must follow before the next one.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        result = data.StructLayout({"valid": unsigned(1), "value": signed(config.word)})
        super().__init__(
            {
                "setup": In(instruction_layout(Loss)),
                "setup_start": In(1),
                "reserve": In(1),
                "free": Out(1),
                "done": Out(1),
                "results": In(data.ArrayLayout(result, config.lanes)),
                "half": In(1),
                "target_write": In(target_write_signature(config)),
                "coefficient_read": In(slot_read_signature(config)),
                "host_read": In(slot_read_signature(config)),
                "correct": Out(16),
                "correct_clear": In(1),
                "run_start": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The block's logic; numbers in comments are cycles after the reader chose an output."""
        config = self.config
        m = Module()
        word_shape = Shape.cast(range(config.outputs))

        squared = Signal()
        shift = Signal(5)
        last_output = Signal(word_shape)
        last_group = Signal(16)
        with m.If(self.setup_start):
            m.d.sync += [
                squared.eq(self.setup.kind == LossKind.SQUARED_ERROR),
                shift.eq(Mux(self.setup.kind == LossKind.SQUARED_ERROR, 0, self.setup.fraction)),
                last_output.eq(self.setup.outputs - 1),
                last_group.eq(self.setup.groups - 1),
            ]

        # Capture.
        capture_word = Signal(word_shape)
        capture_buffer = Signal()
        captured = Signal()
        with m.If(self.results[0].valid):
            m.d.sync += capture_word.eq(capture_word + 1)
            with m.If(capture_word == last_output):
                m.d.comb += captured.eq(1)
                m.d.sync += [capture_word.eq(0), capture_buffer.eq(~capture_buffer)]

        # Reader: words of a lane, lanes of a group, groups of a slot.
        read_word = Signal(word_shape)
        read_lane = Signal(range(config.lanes))
        read_group = Signal(16)
        read_buffer = Signal()
        target = Signal(range(config.target_depth))
        taken = Signal(range(3))
        waiting = Signal(range(3))
        step = data.StructLayout({"valid": 1, "first": 1, "last": 1, "end": 1})
        steps = [Signal(step, name=f"step{n}") for n in range(loss_latency(config))]
        reading = Signal()
        last = Signal()
        released = Signal()
        end = Signal()
        m.d.comb += [
            reading.eq(waiting != 0),
            last.eq(read_word == last_output),
            released.eq(reading & last & (read_lane == config.lanes - 1)),
            end.eq(released & (read_group == last_group)),
            steps[0].eq(Cat(reading, read_word == 0, last, end)),
            self.free.eq(taken != 2),
            self.done.eq((taken == 0) & ~Cat(step.valid for step in steps).any()),
        ]
        m.d.sync += [
            taken.eq(taken + self.reserve - released),
            waiting.eq(waiting + captured - released),
            *(later.eq(earlier) for earlier, later in pairwise(steps)),
        ]
        with m.If(reading):
            m.d.sync += read_word.eq(read_word + 1)
            with m.If(squared | last):
                m.d.sync += target.eq(target + 1)
            with m.If(last):
                m.d.sync += [read_word.eq(0), read_lane.eq(read_lane + 1)]
            with m.If(released):
                m.d.sync += [read_lane.eq(0), read_group.eq(read_group + 1), read_buffer.eq(~read_buffer)]
            with m.If(end):
                m.d.sync += [read_group.eq(0), target.eq(0)]

        # 1: addresses on their way to all lanes.
        address = Signal(config.outputs.bit_length())
        target_address = Signal(range(2 * config.target_depth))
        m.d.sync += [address.eq(Cat(read_word, read_buffer)), target_address.eq(Cat(target, self.half))]

        # 2: words and largest outputs of all lanes, the target.
        lane_layout = data.StructLayout(
            {"value": signed(config.word), "largest": signed(config.word), "place": word_shape}
        )
        lanes = self._buffers(m, capture_word, capture_buffer, address, lane_layout)
        m.submodules.targets = targets = Memory(shape=signed(config.word), depth=2 * config.target_depth, init=[])
        target_write, target_read = targets.write_port(), targets.read_port()
        m.d.comb += [
            target_write.en.eq(self.target_write.strobe),
            target_write.addr.eq(Cat(self.target_write.address, self.target_write.half)),
            target_write.data.eq(self.target_write.data),
            target_read.addr.eq(target_address),
        ]

        # 3, 4: one of at most eight lanes, one of at most eight of those.
        octets = [Signal(lane_layout, name=f"octet{n}") for n in range((config.lanes + 7) // 8)]
        lane = _delay(m, read_lane, 2)
        for n, octet in enumerate(octets):
            m.d.sync += octet.eq(Array(lanes[8 * n : 8 * n + 8])[lane[:3]])
        chosen = Signal(lane_layout)
        m.d.sync += chosen.eq(Array(octets)[_delay(m, lane[3:], 1)])
        wanted = _delay(m, target_read.data, 2)

        # 5: the difference to the reference; labels.
        difference = Signal(signed(config.word + 1))
        is_label = Signal()
        m.d.sync += [
            difference.eq(Mux(squared, wanted, chosen.largest) - chosen.value),
            is_label.eq(_delay(m, read_word, 4) == wanted),
        ]
        with m.If(steps[4].valid & steps[4].first & ~squared & (chosen.place == wanted) & ~self.correct.all()):
            m.d.sync += self.correct.eq(self.correct + 1)
        with m.If(self.correct_clear):
            m.d.sync += self.correct.eq(0)

        # 6, 7: times log2(e), or times itself; 8, 9, 10: rounded to LOSS_FRACTION fraction bits.
        magnitude = Signal(config.word)
        factor = Signal(max(config.word, (2 * LOG2_E).bit_length()))
        product = Signal(len(magnitude) + len(factor))
        coarse = Signal(len(product) + 1)
        fine = Signal(len(coarse))
        below = Signal(len(product))
        m.d.sync += [
            magnitude.eq(abs(difference)),
            factor.eq(Mux(squared, abs(difference), 2 * LOG2_E)),
            product.eq(magnitude * factor),
            coarse.eq(Cat(Const(0, 1), product) >> Cat(Const(0, 3), shift[3:])),
            fine.eq(coarse >> shift[:3]),
            below.eq((fine + 1) >> 1),
        ]
        direct = Signal.like(below)
        m.d.comb += direct.eq(Mux(squared | _delay(m, is_label, 5), below, 0))

        # 11, 12, 13: 2 to the minus fraction; 14: half of it, and so on; 15: sum of a sample, exact.
        power = self._interpolate(m, "exp2", EXP2, below[:LOSS_FRACTION])
        whole = below[LOSS_FRACTION:]
        halvings = Signal(range(SHIFT_LIMIT + 2))
        m.d.sync += halvings.eq(Mux(whole > SHIFT_LIMIT, SHIFT_LIMIT + 1, whole))
        halved = Signal(len(power) + 1)
        total = Signal(LOSS_FRACTION + config.outputs.bit_length())
        m.d.sync += [
            halved.eq(Cat(Const(0, 1), power) >> _delay(m, halvings, 2)),
            total.eq(Mux(steps[14].first, 0, total) + ((halved + 1) >> 1)),
        ]

        # 16: leading one; 17, 18, 19: the logarithm.
        exponent = Signal(range(len(total) - LOSS_FRACTION))
        mantissa = Signal(LOSS_FRACTION)
        for place in range(LOSS_FRACTION, len(total)):
            with m.If(total[place]):
                m.d.sync += [
                    exponent.eq(place - LOSS_FRACTION),
                    mantissa.eq(total[place - LOSS_FRACTION : place]),
                ]
        logarithm = self._interpolate(m, "log2", LOG2, mantissa) + (_delay(m, exponent, 3) << LOSS_FRACTION)

        # 20: what one output adds; 21: sum of a slot, whose top bit stays set once the sum leaves LOSS_WORD bits.
        contribution = Signal(len(below) + 1)
        slot_sum = Signal(LOSS_WORD + 1)
        stored = steps[21].end
        base = Mux(stored, 0, slot_sum)
        added = base[:LOSS_WORD] + Mux(steps[20].valid, contribution, 0)
        m.d.sync += [
            contribution.eq(self._wait_nine(m, direct) + Mux(steps[19].last & ~squared, logarithm, 0)),
            slot_sum.eq(Cat(added[:LOSS_WORD], added[LOSS_WORD] | base[LOSS_WORD])),
        ]
        slot_index = Signal(range(config.losses))
        m.submodules.slots = slots = Memory(shape=LOSS_WORD, depth=config.losses, init=[])
        slot_write = slots.write_port()
        m.d.comb += [
            slot_write.en.eq(stored),
            slot_write.addr.eq(slot_index),
            slot_write.data.eq(slot_sum[:LOSS_WORD] | slot_sum[LOSS_WORD].replicate(LOSS_WORD)),
        ]
        for reader in (self.coefficient_read, self.host_read):
            port = slots.read_port()
            m.d.comb += [port.addr.eq(reader.address), reader.data.eq(port.data)]
        with m.If(stored):
            m.d.sync += slot_index.eq(slot_index + 1)

        start = [slot_index, slot_sum, read_group, target]
        with m.If(self.setup_start | self.run_start):
            m.d.sync += [register.eq(0) for register in start]
        with m.If(self.run_start):
            m.d.sync += [capture_word.eq(0), capture_buffer.eq(0), taken.eq(0), waiting.eq(0), self.correct.eq(0)]
            m.d.sync += [read_word.eq(0), read_lane.eq(0), read_buffer.eq(0)]
            m.d.sync += [later.eq(0) for later in steps[1:]]
        return m

    def _buffers(
        self, m: Module, word: Signal, buffer: Signal, address: Signal, layout: data.StructLayout
    ) -> list[data.View]:
        """Each lane's two buffers and largest outputs, written from the results; what they hold at ``address``."""
        config = self.config
        # Lane 0 says the place of a result; it reaches every lane together with the lane's own result.
        places = [Signal(address.shape(), name=f"place{lane}") for lane in range(config.lanes)]
        m.d.sync += places[0].eq(Cat(word, buffer))
        m.d.sync += [following.eq(place) for place, following in pairwise(places)]
        read = []
        for lane, place in enumerate(places):
            result = Signal(self.results[lane].shape(), name=f"result{lane}")
            m.d.sync += result.eq(self.results[lane])

            m.submodules[f"words{lane}"] = words = Memory(shape=signed(config.word), depth=2 * config.outputs, init=[])
            word_write, word_read = words.write_port(), words.read_port()
            best_layout = data.StructLayout({"largest": signed(config.word), "place": word.shape()})
            m.submodules[f"best{lane}"] = best = Memory(shape=best_layout, depth=2, init=[])
            best_write, best_read = best.write_port(), best.read_port()
            running = Signal(best_layout, name=f"running{lane}")
            following = Signal(best_layout, name=f"following{lane}")
            m.d.comb += [
                following.eq(running),
                word_write.en.eq(result.valid),
                word_write.addr.eq(place),
                word_write.data.eq(result.value),
                word_read.addr.eq(address),
                best_write.en.eq(result.valid),
                best_write.addr.eq(place[-1]),
                best_write.data.eq(following),
                best_read.addr.eq(address[-1]),
            ]
            with m.If((place[:-1] == 0) | (result.value > running.largest)):
                m.d.comb += [following.largest.eq(result.value), following.place.eq(place[:-1])]
            with m.If(result.valid):
                m.d.sync += running.eq(following)

            both = Signal(layout, name=f"lane{lane}")
            m.d.comb += [
                both.value.eq(word_read.data),
                both.largest.eq(best_read.data.largest),
                both.place.eq(best_read.data.place),
            ]
            read.append(both)
        return read

    def _interpolate(self, m: Module, name: str, table: np.ndarray, position: Value) -> Signal:
        """The table's value at a position of LOSS_FRACTION bits, three cycles later."""
        steps = np.diff(table)
        layout = data.StructLayout({"value": LOSS_FRACTION + 1, "step": int(abs(steps).max()).bit_length()})
        rows = [{"value": int(value), "step": int(abs(by))} for value, by in zip(table, steps, strict=False)]
        m.submodules[name] = memory = Memory(shape=layout, depth=len(rows), init=rows)
        row = memory.read_port()
        m.d.comb += row.addr.eq(position[TABLE_BITS:])
        product = Signal(layout["step"].width + TABLE_BITS, name=f"{name}_product")
        result = Signal(LOSS_FRACTION + 1, name=f"{name}_result")
        m.d.sync += product.eq(row.data.step * _delay(m, position[:TABLE_BITS], 1))
        rounded = (product + (1 << (TABLE_BITS - 1))) >> TABLE_BITS
        value = _delay(m, row.data.value, 1)
        m.d.sync += result.eq(value - rounded if steps[0] < 0 else value + rounded)
        return result

    def _wait_nine(self, m: Module, value: Value) -> Value:
        """``value`` nine cycles later: a ring of eight words whose read port gives the word that is being replaced."""
        m.submodules.ring = ring = Memory(shape=len(value), depth=8, init=[])
        write, read = ring.write_port(), ring.read_port()
        turn = Signal(3)
        m.d.sync += turn.eq(turn + 1)
        m.d.comb += [write.en.eq(1), write.addr.eq(turn), write.data.eq(value), read.addr.eq(turn)]
        return read.data


def _delay(m: Module, value: Value, cycles: int) -> Value:
    """``value`` that many cycles later, in registers."""
    for _ in range(cycles):
        later = Signal.like(value, name="later")
        m.d.sync += later.eq(value)
        value = later
    return value
