"""One pipe of the loss accumulator: the lanes that it serves, one after the other, and their targets."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Array, Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .collisions import NO_COLLISIONS
from .config import Config
from .delay import delayed
from .loss_lane import LossLane, capture_layout, output_layout, result_layout
from .sample_loss import SampleLoss, loss_bits

#: Lanes that are chosen from in one cycle.
_CHOICES = 8


def choice_layout(config: Config) -> data.StructLayout:
    """What a pipe reads: an output of one of its lanes, and the word of the target memory that goes with it."""
    return data.StructLayout(
        {
            "first": 1,
            "last": 1,
            "word": range(config.outputs),
            "buffer": 1,
            "lane": range(config.loss_lanes),
            "target": range(config.target_depth),
        }
    )


def sum_layout(config: Config) -> data.StructLayout:
    """What the pipes' outputs add to the loss, and how many samples are right; all bits of all pipes."""
    pipes = config.loss_pipes
    return data.StructLayout({"loss": loss_bits(config) + (pipes - 1).bit_length(), "right": range(pipes + 1)})


def target_write_signature(config: Config) -> wiring.Signature:
    """Write port of the target memory: word ``address`` of ``half``."""
    return wiring.Signature(
        {
            "strobe": Out(1),
            "half": Out(1),
            "address": Out(range(config.target_depth)),
            "data": Out(signed(config.output_word)),
        }
    )


class LossPipe(wiring.Component):
    """Adds the losses of its ``loss_lanes`` lanes to the sum of the pipes before it, an output a cycle.

    Pipes are a chain: ``next_capture`` and ``next_choice`` enter the next pipe, ``loss_lanes`` cycles after they
    entered this one, and ``next_sum`` as its ``sum``, which this pipe gives 21 cycles after its ``choice``. ``results``
    and ``capture`` are those of ``LossLane``, those of the first lane here; ``squared``, ``shift`` those of
    ``SampleLoss``. ``stride`` is the target memory's words from this pipe's targets to the next one's. An output can be
    chosen two cycles after its result at the first lane.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "squared": In(1),
                "shift": In(5),
                "stride": In(range(config.target_depth)),
                "results": In(data.ArrayLayout(result_layout(config), config.loss_lanes)),
                "capture": In(capture_layout(config)),
                "next_capture": Out(capture_layout(config)),
                "choice": In(choice_layout(config)),
                "next_choice": Out(choice_layout(config)),
                "sum": In(sum_layout(config)),
                "next_sum": Out(sum_layout(config)),
                "half": In(1),
                "target_write": In(target_write_signature(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The block's logic; numbers in comments are cycles after ``choice``."""
        config = self._config
        m = Module()
        lanes = [LossLane(config) for _ in range(config.loss_lanes)]
        for number, lane in enumerate(lanes):
            m.submodules[f"lane{number}"] = lane
            m.d.comb += lane.result.eq(self.results[number])
        m.d.comb += [lanes[0].capture.eq(self.capture), self.next_capture.eq(lanes[-1].passed)]
        m.d.comb += [after.capture.eq(before.passed) for before, after in pairwise(lanes)]

        # 1: addresses on their way.
        choice = delayed(m, self.choice, 1)
        later = delayed(m, choice, config.loss_lanes - 1)
        m.d.comb += [self.next_choice.eq(later), self.next_choice.target.eq(later.target + self.stride)]

        # 2: an output of every lane, and the target.
        m.submodules.targets = targets = Memory(
            shape=signed(config.output_word), depth=2 * config.target_depth, init=[], attrs=NO_COLLISIONS
        )
        target_write, target_read = targets.write_port(), targets.read_port()
        m.d.comb += [
            target_write.en.eq(self.target_write.strobe),
            target_write.addr.eq(Cat(self.target_write.address, self.target_write.half)),
            target_write.data.eq(self.target_write.data),
            target_read.addr.eq(Cat(choice.target, self.half)),
        ]
        for lane in lanes:
            m.d.comb += [lane.word.eq(choice.word), lane.buffer.eq(choice.buffer)]

        # 3: one of a few lanes; 4: one of those.
        some_bits = (_CHOICES - 1).bit_length()
        place = delayed(m, choice.lane, 1)
        some = [lanes[first : first + _CHOICES] for first in range(0, len(lanes), _CHOICES)]
        firsts = [Signal(output_layout(config), name=f"chosen{number}") for number in range(len(some))]
        m.d.sync += [
            chosen.eq(Array(lane.output for lane in few)[place[:some_bits]])
            for chosen, few in zip(firsts, some, strict=True)
        ]
        output = Signal(output_layout(config))
        m.d.sync += output.eq(Array(firsts)[delayed(m, place[some_bits:], 1)])

        # 20: what the output adds; 21: with those of the pipes before.
        m.submodules.loss = loss = SampleLoss(config)
        m.d.comb += [
            loss.squared.eq(self.squared),
            loss.shift.eq(self.shift),
            loss.first.eq(delayed(m, choice.first, 3)),
            loss.last.eq(delayed(m, choice.last, 3)),
            loss.word.eq(delayed(m, choice.word, 3)),
            loss.output.eq(output),
            loss.wanted.eq(delayed(m, target_read.data, 2)),
        ]
        # The sum of the pipe before is there loss_lanes - 1 cycles before this one's.
        before = delayed(m, self.sum, config.loss_lanes - 1)
        m.d.sync += [
            self.next_sum.loss.eq(before.loss + loss.loss),
            self.next_sum.right.eq(before.right + loss.right),
        ]
        return m
