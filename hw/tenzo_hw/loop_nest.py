"""The loop nest: a contraction's rows, tiles and addresses, one row a cycle."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import OUTER_LEVELS, REDUCTION_LEVELS, Config
from .isa import Contract
from .layouts import instruction_layout
from .timing import result_latency

_LEVELS = REDUCTION_LEVELS + OUTER_LEVELS
#: Addresses are 16-bit numbers everywhere in a program.
ADDRESS_BITS = 16


class LoopNest(wiring.Component):
    """Walks a contraction: issues a weight row and an activation address a cycle, and a tile's drain after its last.

    ``start`` (while ``ready``) takes ``contract``; its first row is issued in the next cycle, and while ``row`` is high
    the outputs are those of the row issued in this cycle. A tile's last row waits until the tile before has drained:
    with its last row issued in cycle e it drains one result a cycle, so the next may be issued in e + cols.
    ``drained`` is high when a contraction started now would read all results. An address outside of its memory is a
    ``fault``: that row is not issued and the contraction ends; ``drain_fault`` reports the same for a result.
    """

    def __init__(self, *, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "contract": In(instruction_layout(Contract)),
                "start": In(1),
                "ready": Out(1),
                "drained": Out(1),
                "drain_fault": In(1),
                "fault": Out(1),
                "row": Out(1),
                "first": Out(1),
                "last": Out(1),
                "bias": Out(1),
                "a_address": Out(ADDRESS_BITS),
                "w_address": Out(ADDRESS_BITS),
                "o_address": Out(ADDRESS_BITS),
                "cols": Out(Contract.FIELDS["cols"].width),
                "running": Out(instruction_layout(Contract)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Counters, addresses and the wait for the drain."""
        config = self.config
        m = Module()
        running = self.running
        active = Signal()
        bias = Signal()  # the bias row of this tile is still to come
        first = Signal()  # the next row is its tile's first
        address = {stream: Signal(ADDRESS_BITS, name=f"{stream}_next") for stream in "awob"}
        left = [Signal(16, name=f"left{level}") for level in range(_LEVELS)]
        turn_last = [Signal(name=f"turn_last{level}") for level in range(_LEVELS)]

        # steps[l]: all levels below l are at their last turn, so that l is the one that steps if it can.
        steps = []
        below = 1
        for level in range(_LEVELS):
            steps.append(below & ~turn_last[level])
            below = below & turn_last[level]
        nest_last = below
        tile_last = turn_last[0] & turn_last[1] & ~bias

        drain = Signal(Contract.FIELDS["cols"].width)
        settle = Signal(range(result_latency(config) + (1 << Contract.FIELDS["cols"].width)))
        outside = self._outside(m, bias, address)
        row = Signal()
        m.d.comb += [
            row.eq(active & ~outside & ~(tile_last & (drain > 1))),
            self.fault.eq(active & outside | self.drain_fault),
            self.ready.eq(~active | (row & tile_last & nest_last)),
            self.drained.eq(~active & (settle == 0)),
            self.row.eq(row),
            self.first.eq(first),
            self.last.eq(tile_last),
            self.bias.eq(bias),
            self.a_address.eq(address["a"]),
            self.w_address.eq(Mux(bias, address["b"], address["w"])),
            self.o_address.eq(address["o"]),
        ]
        with m.Switch(running.tile_level):
            for level in range(OUTER_LEVELS):
                with m.Case(level):
                    m.d.comb += self.cols.eq(Mux(turn_last[REDUCTION_LEVELS + level], running.last_cols, running.cols))

        with m.If(drain > 0):
            m.d.sync += drain.eq(drain - 1)
        with m.If(settle > 0):
            m.d.sync += settle.eq(settle - 1)
        with m.If(row):
            m.d.sync += [first.eq(tile_last), bias.eq(tile_last & running.bias)]
            with m.If(tile_last):
                # Column cols - 1 can be read result_latency + cols - 1 cycles from now, and a contraction that starts
                # in a cycle reads in the next.
                m.d.sync += [drain.eq(self.cols), settle.eq(self.cols + (result_latency(config) - 3))]
            with m.If(~bias):
                for stream in "aw":
                    self._step(m, address[stream], steps, [running[f"{stream}{level}"] for level in range(_LEVELS)])
                for stream in "ob":
                    outer = range(REDUCTION_LEVELS, _LEVELS)
                    self._step(
                        m,
                        address[stream],
                        steps[REDUCTION_LEVELS:],
                        [running[f"{stream}{level}"] for level in outer],
                    )
                for level in range(_LEVELS):
                    with m.If(steps[level]):
                        m.d.sync += [left[level].eq(left[level] - 1), turn_last[level].eq(left[level] == 1)]
                        for inner in range(level):
                            again = running[f"count{inner}"]
                            m.d.sync += [left[inner].eq(again - 1), turn_last[inner].eq(again == 1)]
                with m.If(nest_last):
                    m.d.sync += active.eq(0)
        with m.If(self.start):
            contract = self.contract
            m.d.sync += [running.eq(contract), active.eq(1), first.eq(1), bias.eq(contract.bias)]
            m.d.sync += [address[stream].eq(contract[f"{stream}_base"]) for stream in "awob"]
            for level in range(_LEVELS):
                count = contract[f"count{level}"]
                m.d.sync += [left[level].eq(count - 1), turn_last[level].eq(count == 1)]
        with m.If(self.fault):
            m.d.sync += active.eq(0)
        return m

    def _outside(self, m: Module, bias: Signal, address: dict[str, Signal]) -> Signal:
        """The row to issue would leave a memory."""
        config = self.config
        outside = Signal()
        a_outside = Mux(
            self.running.from_batch,
            above(address["a"], config.batch_depth),
            above(address["a"], config.lane_depth),
        )
        m.d.comb += outside.eq(
            Mux(
                bias,
                above(address["b"], config.effective_rows),
                a_outside | above(address["w"], config.effective_rows),
            )
        )
        return outside

    @staticmethod
    def _step(m: Module, address: Signal, steps: list, deltas: list) -> None:
        """Adds the delta of the level that steps."""
        delta = Signal.like(address, name=f"{address.name}_delta")
        for step, amount in zip(steps, deltas, strict=True):
            with m.If(step):
                m.d.comb += delta.eq(amount)
        m.d.sync += address.eq(address + delta)


def above(address: Signal, depth: int) -> Value:
    """Whether an address is outside of a memory; depths are powers of two, so any higher bit says it."""
    return address[depth.bit_length() - 1 :].any()
