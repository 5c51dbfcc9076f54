"""One lane: the activations of one sample at a time, C multipliers, the epilogue, and the way back to its memory.

    address ─ memories ─ their registers ─ operand ─ multiplier inputs ─ products ─ accumulators ─ drain ─ epilogue ┐
                └──────────────────────────────────────── results ◀────────────────────────────────────────────────┘

The stage between the memories' registers and the multipliers is called the operand: it chooses what the weights meet.
Everything that steers a lane comes from its neighbour, is registered once and passed on, so the wires are short and
lane l does what lane 0 did l cycles before.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import enum, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import Config
from .drain import write_layout
from .epilogue import Epilogue
from .isa import Activation, Contract

#: Cycles after a row's ``address`` in which the other parts of its control enter a lane.
OPERAND_AT = 2
WEIGHTS_AT = 3
FIRST_AT = 5
LOAD_AT = 6
EPILOGUE_AT = 7


class Operand(enum.Enum, shape=2):
    """What a row's weights are multiplied with."""

    ZERO = 0
    LANE = 1
    BATCH = 2
    ONE = 3
    """``1 << one``: the bias."""


class LaneControl(wiring.Signature):
    """All that steers a lane, each part at the cycle of its use; seen from the neighbour that gives it.

    A row is an ``address`` of both memories, then ``operand`` and ``one``, ``weights``, ``first`` (the sums begin anew)
    and ``load`` (they go to the drain). A result leaves the drain with ``shift`` and ``activation``; ``write`` says
    what to do with it after the epilogue. The host writes ``data`` with one of three strobes, and reads the word at
    ``address`` of lane ``read_lane``.
    """

    def __init__(self, config: Config) -> None:
        addresses = max(config.lane_depth, config.batch_depth)
        entries = max(config.tables, 1) << config.table_bits
        super().__init__(
            {
                "address": Out(range(addresses)),
                "half": Out(1),
                "operand": Out(Operand),
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
                "data": Out(signed(max(config.input_word, config.word + 1))),
                "read_lane": Out(range(config.lanes)),
            }
        )


class Lane(wiring.Component):
    """Lane ``number``: multiplies, sums, drains and writes back as ``control`` says; passes it on in ``passed``.

    ``result`` goes with ``captured`` to the loss accumulator. ``read_word`` is the lane memory's word when the lane is
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
                "result": Out(word),
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
        m.submodules.activations = activations = Memory(shape=signed(config.word), depth=config.lane_depth, init=[])
        m.submodules.batch = batch = Memory(shape=signed(config.input_word), depth=2 * config.batch_depth, init=[])
        lane_read, batch_read = activations.read_port(), batch.read_port()
        lane_write, batch_write = activations.write_port(), batch.write_port()
        lane_word = Signal(signed(config.word))
        batch_word = Signal(signed(config.input_word))
        batch_bits = (config.batch_depth - 1).bit_length()
        m.d.comb += [
            lane_read.addr.eq(control.address),
            batch_read.addr.eq(control.address[:batch_bits] | control.half << batch_bits),
            lane_write.en.eq(control.write.store),
            lane_write.addr.eq(control.write.address),
            lane_write.data.eq(self.result),
            batch_write.en.eq(control.batch_strobe & (control.write_lane == self._number)),
            batch_write.addr.eq(control.write_address[:batch_bits] | control.write_half << batch_bits),
            batch_write.data.eq(control.data),
        ]
        m.d.sync += [
            lane_word.eq(lane_read.data),
            batch_word.eq(batch_read.data),
            self.read_word.eq(Mux(control.read_lane == self._number, lane_word, self.given_word)),
        ]

        # Operand. A row that is none multiplies by zero, so that the sums need no enable.
        operand = Signal(signed(config.word))
        with m.Switch(control.operand):
            with m.Case(Operand.ZERO):
                m.d.sync += operand.eq(0)
            with m.Case(Operand.LANE):
                m.d.sync += operand.eq(lane_word)
            with m.Case(Operand.BATCH):
                m.d.sync += operand.eq(batch_word)
            with m.Case(Operand.ONE):
                m.d.sync += operand.eq(1 << control.one)

        # Multipliers, with the registers that a DSP block has at its inputs and its output; sums; drain.
        factor = Signal.like(operand)
        m.d.sync += factor.eq(operand)
        drained: Signal | None = None
        for column in reversed(range(config.columns)):
            weight = Signal(signed(config.word), name=f"weight{column}")
            product = Signal(signed(2 * config.word), name=f"product{column}")
            total = Signal(signed(config.accumulator), name=f"sum{column}")
            drain = Signal(signed(config.accumulator), name=f"drain{column}")
            m.d.sync += [
                weight.eq(control.weights[column]),
                product.eq(weight * factor),
                total.eq(Mux(control.first, 0, total) + product),
            ]
            with m.If(control.load):
                m.d.sync += drain.eq(total)
            if drained is not None:
                with m.Else():
                    m.d.sync += drain.eq(drained)
            drained = drain

        m.submodules.epilogue = epilogue = Epilogue(config=config)
        m.d.comb += [
            epilogue.accumulator.eq(drained),
            epilogue.shift.eq(control.shift),
            epilogue.activation.eq(control.activation),
            epilogue.table_write.value.eq(control.value_strobe),
            epilogue.table_write.slope.eq(control.slope_strobe),
            epilogue.table_write.address.eq(control.write_address),
            epilogue.table_write.data.eq(control.data),
            self.result.eq(epilogue.result),
            self.captured.eq(control.write.capture),
        ]
        return m
