"""One pipe of the loss accumulator: the lanes that it serves, one after the other, and their targets."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .cells import BlockRam, Copies
from .config import Config
from .delay import delayed
from .loss_lane import LossLane, capture_layout, output_layout, result_layout
from .sample_loss import SAMPLE_CYCLES, SampleLoss, loss_bits, scale_layout, term_layout

#: Lanes that are chosen from in one cycle.
_CHOICES = 8
#: Cycles from a choice to what it adds to the sum.
PIPE_CYCLES = 5 + SAMPLE_CYCLES


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


def settings_layout(config: Config) -> data.StructLayout:
    """What is constant while outputs are on their way.

    ``squared`` and ``scale`` are those of ``SampleLoss``, ``stride`` the target memory's words from a pipe's targets to
    the next one's, ``half`` the memory's half.
    """
    return data.StructLayout({"squared": 1, "scale": scale_layout(), "stride": range(config.target_depth), "half": 1})


class LossPipe(wiring.Component):
    """Adds the losses of its ``loss_lanes`` lanes to the sum of the pipes before it, an output a cycle.

    Pipes are a chain: ``next_capture`` and ``next_choice`` enter the next pipe, ``loss_lanes`` cycles after they
    entered this one, ``next_settings`` and ``next_target_write`` one cycle after, and ``next_sum`` as its ``sum``,
    which this pipe gives ``PIPE_CYCLES`` after its ``choice``. ``results`` and ``capture`` are those of ``LossLane``,
    those of the first lane here. An output can be chosen four cycles after its result at the first lane.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "settings": In(settings_layout(config)),
                "next_settings": Out(settings_layout(config)),
                "results": In(data.ArrayLayout(result_layout(config), config.loss_lanes)),
                "capture": In(capture_layout(config)),
                "next_capture": Out(capture_layout(config)),
                "choice": In(choice_layout(config)),
                "next_choice": Out(choice_layout(config)),
                "sum": In(sum_layout(config)),
                "next_sum": Out(sum_layout(config)),
                "target_write": In(target_write_signature(config)),
                "next_target_write": Out(target_write_signature(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The block's logic; numbers in comments are cycles after ``choice``."""
        config = self._config
        m = Module()
        settings, written = self.next_settings, self.next_target_write
        m.d.sync += [
            settings.eq(self.settings),
            written.strobe.eq(self.target_write.strobe),
            written.half.eq(self.target_write.half),
            written.address.eq(self.target_write.address),
            written.data.eq(self.target_write.data),
        ]
        lanes = [LossLane(config) for _ in range(config.loss_lanes)]
        for number, lane in enumerate(lanes):
            m.submodules[f"lane{number}"] = lane
            m.d.comb += lane.result.eq(self.results[number])
        m.d.comb += [lanes[0].capture.eq(self.capture), self.next_capture.eq(lanes[-1].passed)]
        m.d.comb += [after.capture.eq(before.passed) for before, after in pairwise(lanes)]

        # 1: addresses on their way.
        choice = delayed(m, self.choice, 1)
        later = delayed(m, choice, config.loss_lanes - 1)
        m.d.comb += [self.next_choice.eq(later), self.next_choice.target.eq(later.target + settings.stride)]

        # 2: an output of every lane. 3: the target; one of a few lanes.
        m.submodules.targets = targets = BlockRam(width=config.output_word, depth=2 * config.target_depth)
        m.d.comb += [
            targets.write.eq(written.strobe),
            targets.write_address.eq(Cat(written.address, written.half)),
            targets.write_data.eq(written.data),
            targets.read_address.eq(Cat(choice.target, settings.half)),
        ]
        wide = Cat(self.choice.word, self.choice.buffer)
        m.submodules.words = words = Copies(width=len(wide), count=len(lanes))
        m.d.comb += words.i.eq(wide)
        m.d.comb += [Cat(lane.word, lane.buffer).eq(copy) for lane, copy in zip(lanes, words.o, strict=True)]
        some_bits = (_CHOICES - 1).bit_length()
        place = delayed(m, choice.lane, 1)
        some = [lanes[first : first + _CHOICES] for first in range(0, len(lanes), _CHOICES)]
        firsts = [Signal(output_layout(config), name=f"chosen{number}") for number in range(len(some))]
        m.d.sync += [
            chosen.eq(Array(lane.output for lane in few)[place[:some_bits]])
            for chosen, few in zip(firsts, some, strict=True)
        ]

        # 4: one of those, and its reference.
        chosen = Array(firsts)[delayed(m, place[some_bits:], 1)]
        target = targets.read_data.as_signed()
        term = Signal(term_layout(config))
        m.d.sync += [
            term.first.eq(delayed(m, choice.first, 2)),
            term.last.eq(delayed(m, choice.last, 2)),
            term.word.eq(delayed(m, choice.word, 2)),
            term.value.eq(chosen.value),
            term.reference.eq(Mux(settings.squared, target, chosen.largest)),
            term.place.eq(chosen.place),
            term.wanted.eq(target),
        ]

        # 29: what the output adds; 30: with those of the pipes before.
        m.submodules.loss = loss = SampleLoss(config)
        m.d.comb += [
            # A copy for the late stages.
            loss.squared.eq(delayed(m, settings.squared, 1)),
            loss.scale.eq(settings.scale),
            loss.term.eq(term),
        ]
        # The sum of the pipe before is there loss_lanes - 1 cycles before this one's.
        before = delayed(m, self.sum, config.loss_lanes - 1)
        m.d.sync += [
            self.next_sum.loss.eq(before.loss + loss.loss),
            self.next_sum.right.eq(before.right + loss.right),
        ]
        return m
