"""The drain: numbers the results that all lanes shift out of their drain registers, one a cycle."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from .config import Config
from .isa import Activation, Base
from .loop_nest import tile_layout
from .timing import epilogue_latency


def write_layout(config: Config) -> StructLayout:
    """What lane 0 does with a finished result."""
    return StructLayout({"store": 1, "capture": 1, "address": range(config.lane_depth)})


def outcome_layout(config: Config) -> StructLayout:
    """What the loss accumulator does with lane 0's result, and the slot of a difference."""
    return StructLayout({"slot": range(config.losses), "base": Base})


class Drain(wiring.Component):
    """Drains ``tile`` from the cycle after ``start`` on, one result a cycle; the nest never starts it too early.

    ``shift`` and ``activation`` are those of the result that enters lane 0's epilogue in the next cycle; ``write`` says
    what to do with it when it has come out, ``epilogue_latency`` cycles later, and ``outcome`` what becomes of it in
    the loss. ``fault`` strobes instead of a write outside of the lane memory or a difference without a slot, and
    nothing started before is written any more; ``number`` is then that of its tile.
    """

    def __init__(self, *, config: Config) -> None:
        self._config = config
        tile = tile_layout(config)
        super().__init__(
            {
                "start": In(1),
                "tile": In(tile),
                "shift": Out(tile["shift"].width),
                "activation": Out(Activation),
                "write": Out(write_layout(config)),
                "outcome": Out(outcome_layout(config)),
                "fault": Out(1),
                "number": Out(tile["number"].width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """A counter, an address and the delay of the epilogue."""
        m = Module()
        config = self._config
        tile = Signal(self.tile.shape(), name="draining")
        valid = Signal()
        m.d.comb += [self.shift.eq(tile.shift), self.activation.eq(tile.activation)]
        with m.If(valid):
            m.d.sync += [
                valid.eq(tile.last_column != 0),
                tile.last_column.eq(tile.last_column - 1),
                tile.output.eq(tile.output + tile.stride),
            ]
        with m.If(self.start):
            m.d.sync += [tile.eq(self.tile), valid.eq(1)]

        outside_lane, outside_slots = (
            tile.output[(depth - 1).bit_length() :].any() for depth in (config.lane_depth, config.losses)
        )
        has_slot = tile.base == Base.ADD
        outside = Signal()
        m.d.comb += outside.eq((tile.store & outside_lane) | (has_slot & outside_slots))
        good = valid & ~self.fault
        write, outcome = self.write.shape(), self.outcome.shape()
        writes = [Signal(write, name=f"write{stage}") for stage in range(epilogue_latency(config))]
        outcomes = [Signal(outcome, name=f"outcome{stage}") for stage in range(epilogue_latency(config))]
        m.d.sync += [
            writes[0].store.eq(good & tile.store & ~outside),
            writes[0].capture.eq(good & tile.to_loss & ~outside),
            writes[0].address.eq(tile.output),
            outcomes[0].slot.eq(tile.output),
            outcomes[0].base.eq(tile.base),
            self.fault.eq(good & outside),
            self.number.eq(tile.number),
        ]
        for bundle in (writes, outcomes):
            m.d.sync += [later.eq(earlier) for earlier, later in pairwise(bundle)]
        with m.If(self.fault):
            m.d.sync += valid.eq(0)
        m.d.comb += [self.write.eq(writes[-1]), self.outcome.eq(outcomes[-1])]
        return m
