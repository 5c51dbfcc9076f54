"""One lane's part of the loss accumulator: a group's outputs while the next group is captured, and the base."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .arithmetic import saturate
from .collisions import NO_COLLISIONS
from .config import Config
from .delay import delayed

#: Cycles from a group's last result until its outputs can be read, its largest one included.
LANE_CYCLES = 5


def result_layout(config: Config) -> data.StructLayout:
    """A result on its way to the loss."""
    return data.StructLayout({"valid": 1, "value": signed(config.output_word)})


def capture_layout(config: Config) -> data.StructLayout:
    """What becomes of a result: its place, whether it is kept as the base, whether the base is added."""
    return data.StructLayout({"word": range(config.outputs), "buffer": 1, "keep": 1, "add": 1})


def output_layout(config: Config) -> data.StructLayout:
    """An output, with its sample's largest output and the place of the first of these."""
    word = signed(config.output_word)
    return data.StructLayout({"value": word, "largest": word, "place": range(config.outputs)})


class LossLane(wiring.Component):
    """Two buffers of ``outputs`` words, with the largest of each, and the words of the base.

    ``capture`` goes with ``result`` and is ``passed`` on a cycle later. With ``keep`` the result becomes the base's
    word; with ``add`` that word is added to it first, saturated to ``output_word`` bits. ``output`` is the word at
    ``word`` and ``buffer`` of the cycle before; it can be asked for ``LANE_CYCLES`` after its ``result``.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "result": In(result_layout(config)),
                "capture": In(capture_layout(config)),
                "passed": Out(capture_layout(config)),
                "word": In(range(config.outputs)),
                "buffer": In(1),
                "output": Out(output_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The block's logic; numbers in comments are cycles after ``result``."""
        config = self._config
        m = Module()
        # 1: the result and the base's word.
        result = Signal.like(self.result)
        m.d.sync += [result.eq(self.result), self.passed.eq(self.capture)]
        m.submodules.base = base = Memory(
            shape=signed(config.output_word), depth=config.outputs, init=[], attrs=NO_COLLISIONS
        )
        base_write, base_read = base.write_port(), base.read_port()
        m.d.comb += [
            base_write.en.eq(result.valid & self.passed.keep),
            base_write.addr.eq(self.passed.word),
            base_write.data.eq(result.value),
            base_read.addr.eq(self.capture.word),
        ]

        # 2: what they make; 3: the output.
        added = Signal()
        total = Signal(signed(config.output_word + 1))
        place = delayed(m, self.passed, 1)
        m.d.sync += [
            added.eq(result.valid),
            total.eq(result.value + Mux(self.passed.add, base_read.data, 0)),
        ]
        output = Signal.like(self.result)
        word, buffer = delayed(m, place.word, 1), delayed(m, place.buffer, 1)
        is_first = Signal()
        m.d.sync += [
            output.valid.eq(added),
            output.value.eq(saturate(total, config.output_word)),
            is_first.eq(place.word == 0),
        ]
        m.submodules.words = words = Memory(
            shape=signed(config.output_word), depth=2 * config.outputs, init=[], attrs=NO_COLLISIONS
        )
        word_write, word_read = words.write_port(), words.read_port()
        m.d.comb += [
            word_write.en.eq(output.valid),
            word_write.addr.eq(Cat(word, buffer)),
            word_write.data.eq(output.value),
            word_read.addr.eq(Cat(self.word, self.buffer)),
            self.output.value.eq(word_read.data),
        ]

        # 4: the largest so far; 5: that of its buffer.
        best_layout = data.StructLayout({"largest": signed(config.output_word), "place": word.shape()})
        running = Signal(best_layout)
        best = Array(Signal(best_layout, name=f"best{number}") for number in range(2))
        read = Signal(best_layout)
        is_larger = (running.largest - output.value)[-1]
        with m.If(output.valid & (is_first | is_larger)):
            m.d.sync += [running.largest.eq(output.value), running.place.eq(word)]
        grown, grown_buffer = delayed(m, output.valid, 1), delayed(m, buffer, 1)
        with m.If(grown):
            m.d.sync += best[grown_buffer].eq(running)
        m.d.sync += read.eq(best[self.buffer])
        m.d.comb += [self.output.largest.eq(read.largest), self.output.place.eq(read.place)]
        return m
