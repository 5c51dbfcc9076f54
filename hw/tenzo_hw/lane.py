"""One lane: the activations of one sample at a time, C multipliers, the epilogue, and the way back to its memory.

    address ─ memories ─ their registers ─ choice ─ sum ─ operand ─ multipliers ─ accumulators ─ drain ─ epilogue ┐
                └────────────────────────────────────── results ◀─────────────────────────────────────────────────┘

The lane memory is two banks, each read once a cycle. The three stages behind the memories' registers make what the
weights meet: they choose a word and what is added to it, add, and with a ReLU on both take the difference.
Everything that steers a lane comes from its neighbour, is registered once and passed on, so the wires are short and
lane l does what lane 0 did l cycles before.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from . import arithmetic
from .cells import Accumulator, BlockRam, Copies, Multiplier
from .config import Config
from .drain import write_layout
from .epilogue import Epilogue
from .isa import Activation, Contract

#: Cycles after a row's ``address`` in which the other parts of its control enter a lane.
SOURCE_AT = 2
WEIGHTS_AT = 5
FIRST_AT = 7
LOAD_AT = 8


class Source(enum.Enum, shape=3):
    """What a row's weights are multiplied with."""

    ZERO = 0
    LOWER = 1
    """The word of the lower bank."""
    UPPER = 2
    """The word of the upper bank."""
    BATCH = 3
    ONE = 4
    """``1 << one``: the bias."""
    IDENTITY = 5
    """``1 << one`` in the lane of this ``address``."""
    DIFFERENCE = 6
    """What a ReLU of the lower bank's word gains when the upper bank's is added to the word."""
    STEP = 7
    """The same with ``1 << one`` added."""


class LaneControl(wiring.Signature):
    """All that steers a lane, each part at the cycle of its use; seen from the neighbour that gives it.

    A row is an ``address`` of the batch memory and the lower bank and one of the ``upper`` bank, then ``source``,
    ``rectify`` (a ReLU of what it says) and ``one``, ``weights``, ``first`` (the sums begin anew) and ``load`` (they go
    to the drain). A result leaves the drain with ``shift`` and ``activation``; ``write`` says what to do with it after
    the epilogue. The host writes ``data`` with one of three strobes. It reads a word with the address of its bank and
    then, at the time of ``source``, ``read_lane`` and ``read_upper``, which choose the lane and the bank.
    """

    def __init__(self, config: Config) -> None:
        addresses = max(config.lane_depth, config.batch_depth)
        entries = max(config.tables, 1) << config.table_bits
        super().__init__(
            {
                "address": Out(range(addresses)),
                "half": Out(1),
                "upper": Out(range(config.lane_bank)),
                "source": Out(Source),
                "rectify": Out(1),
                "one": Out(Contract.FIELDS["one"].width),
                "weights": Out(signed(config.word)).array(config.columns),
                "first": Out(1),
                "load": Out(1),
                "shift": Out(Contract.FIELDS["shift"].width),
                "activation": Out(Activation),
                "write": Out(write_layout(config)),
                "batch_strobe": Out(1),
                "value_strobe": Out(1),
                "slope_strobe": Out(1),
                "write_half": Out(1),
                "write_lane": Out(range(config.lanes)),
                "write_address": Out(range(max(config.batch_depth, entries))),
                "data": Out(signed(config.word)),
                "read_lane": Out(range(config.lanes)),
                "read_upper": Out(1),
            }
        )


class Lane(wiring.Component):
    """Lane ``number``: multiplies, sums, drains and writes back as ``control`` says; passes it on in ``passed``.

    ``outcome`` goes with ``captured`` to the loss accumulator. ``read_word`` is the lane memory's word when the lane is
    asked for, and otherwise ``given_word``, the word of the lanes before; a cycle later each.
    """

    def __init__(self, *, config: Config, number: int) -> None:
        if not 0 <= number < config.lanes:
            raise ValueError(f"number={number} is not possible: there are lanes 0 to {config.lanes - 1}")
        self._config = config
        self._number = number
        word = signed(config.word)
        super().__init__(
            {
                "control": In(LaneControl(config)),
                "passed": Out(LaneControl(config)),
                "captured": Out(1),
                "outcome": Out(signed(config.output_word)),
                "given_word": In(word),
                "read_word": Out(word),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The pipeline, stage after stage."""
        m = Module()
        config, control = self._config, self.passed
        for (_, _, given), (_, _, taken) in zip(
            self.control.signature.flatten(self.control), control.signature.flatten(control), strict=True
        ):
            m.d.sync += taken.eq(given)

        # Memories and their output registers.
        m.submodules.epilogue = epilogue = Epilogue(config=config)
        bank_bits = (config.lane_bank - 1).bit_length()
        words = []
        for number, address in enumerate((control.address, control.upper)):
            m.submodules[f"bank{number}"] = bank = BlockRam(width=config.word, depth=config.lane_bank)
            m.d.comb += [
                bank.read_address.eq(address[:bank_bits]),
                bank.write.eq(control.write.store & (control.write.address[bank_bits] == number)),
                bank.write_address.eq(control.write.address[:bank_bits]),
                bank.write_data.eq(epilogue.result),
            ]
            words.append(bank.read_data.as_signed())
        lower_word, upper_word = words
        m.submodules.batch = batch = BlockRam(width=config.input_word, depth=2 * config.batch_depth)
        batch_bits = (config.batch_depth - 1).bit_length()
        m.d.comb += [
            batch.read_address.eq(control.address[:batch_bits] | control.half << batch_bits),
            batch.write.eq(control.batch_strobe & (control.write_lane == self._number)),
            batch.write_address.eq(control.write_address[:batch_bits] | control.write_half << batch_bits),
            batch.write_data.eq(control.data),
        ]
        batch_word = batch.read_data.as_signed()
        with m.If(control.read_lane == self._number):
            m.d.sync += self.read_word.eq(Mux(control.read_upper, upper_word, lower_word))
        with m.Else():
            m.d.sync += self.read_word.eq(self.given_word)
        is_addressed: Value = control.address == self._number
        for stage in range(SOURCE_AT):
            later = Signal(name=f"is_addressed{stage}")
            m.d.sync += later.eq(is_addressed)
            is_addressed = later

        # Choice. A row that is none multiplies by zero, so that the sums need no enable.
        origin = Signal(signed(config.word))
        step = Signal.like(origin)
        one = Signal.like(origin)
        is_difference = Signal()
        m.d.comb += one.eq(1 << control.one)
        rectifies = Signal()
        m.d.sync += [origin.eq(0), step.eq(0), is_difference.eq(0), rectifies.eq(control.rectify)]
        with m.Switch(control.source):
            with m.Case(Source.LOWER):
                m.d.sync += origin.eq(lower_word)
            with m.Case(Source.UPPER):
                m.d.sync += step.eq(upper_word)
            with m.Case(Source.BATCH):
                m.d.sync += origin.eq(batch_word)
            with m.Case(Source.ONE):
                m.d.sync += step.eq(one)
            with m.Case(Source.IDENTITY):
                m.d.sync += step.eq(Mux(is_addressed, one, 0))
            with m.Case(Source.DIFFERENCE):
                m.d.sync += [origin.eq(lower_word), step.eq(upper_word), is_difference.eq(1)]
            with m.Case(Source.STEP):
                m.d.sync += [origin.eq(lower_word), step.eq(one), is_difference.eq(1)]

        # Sum and operand. The difference of two words that are not negative is a word.
        moved = Signal.like(origin)
        before = Signal.like(origin)
        is_rectified = Signal()
        operand = Signal.like(origin)
        m.d.sync += [
            moved.eq(arithmetic.saturate(origin + step, config.word)),
            before.eq(Mux(is_difference & ~origin[-1], origin, 0)),
            is_rectified.eq(is_difference | rectifies),
            operand.eq(Mux(is_rectified & moved[-1], 0, moved) - before),
        ]

        # Multipliers; sums; drain. What all columns hang on is registered once for each.
        m.submodules.adds = adds = Copies(width=1, count=config.columns)
        m.submodules.loads = loads = Copies(width=1, count=config.columns)
        m.d.comb += [adds.i.eq(~self.control.first), loads.i.eq(self.control.load)]
        drained: Signal | None = None
        for column in reversed(range(config.columns)):
            m.submodules[f"multiplier{column}"] = multiplier = Multiplier(a_bits=config.word, b_bits=config.word)
            m.submodules[f"sum{column}"] = total = Accumulator(bits=config.accumulator, i_bits=2 * config.word)
            drain = Signal(signed(config.accumulator), name=f"drain{column}")
            m.d.comb += [
                multiplier.a.eq(operand),
                multiplier.b.eq(control.weights[column]),
                total.i.eq(multiplier.o),
                total.adds.eq(adds.o[column]),
            ]
            with m.If(loads.o[column]):
                m.d.sync += drain.eq(total.o)
            if drained is not None:
                with m.Else():
                    m.d.sync += drain.eq(drained)
            drained = drain

        m.d.comb += [
            epilogue.accumulator.eq(drained),
            epilogue.shift.eq(control.shift),
            epilogue.activation.eq(control.activation),
            epilogue.table_write.value.eq(control.value_strobe),
            epilogue.table_write.slope.eq(control.slope_strobe),
            epilogue.table_write.address.eq(control.write_address),
            epilogue.table_write.data.eq(control.data),
            self.outcome.eq(epilogue.outcome),
            self.captured.eq(control.write.capture),
        ]
        return m
