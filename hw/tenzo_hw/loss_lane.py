"""One lane's part of the loss accumulator: a group's outputs while the next group is captured, and the base."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .arithmetic import saturate
from .collisions import NO_COLLISIONS
from .config import Config


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
    ``word`` and ``buffer`` of the cycle before; it can be asked for three cycles after its ``result``.
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

        # 2: the output, and the largest so far.
        output = Signal.like(self.result)
        word = Signal.like(self.word)
        buffer = Signal()
        total = result.value + Mux(self.passed.add, base_read.data, 0)
        m.d.sync += [
            output.valid.eq(result.valid),
            output.value.eq(saturate(total, config.output_word)),
            word.eq(self.passed.word),
            buffer.eq(self.passed.buffer),
        ]
        best_layout = data.StructLayout({"largest": signed(config.output_word), "place": word.shape()})
        running = Signal(best_layout)
        following = Signal(best_layout)
        m.d.comb += following.eq(running)
        with m.If((word == 0) | (output.value > running.largest)):
            m.d.comb += [following.largest.eq(output.value), following.place.eq(word)]
        with m.If(output.valid):
            m.d.sync += running.eq(following)

        m.submodules.words = words = Memory(
            shape=signed(config.output_word), depth=2 * config.outputs, init=[], attrs=NO_COLLISIONS
        )
        m.submodules.best = best = Memory(shape=best_layout, depth=2, init=[], attrs=NO_COLLISIONS)
        word_write, word_read = words.write_port(), words.read_port()
        best_write, best_read = best.write_port(), best.read_port()
        m.d.comb += [
            word_write.en.eq(output.valid),
            word_write.addr.eq(Cat(word, buffer)),
            word_write.data.eq(output.value),
            word_read.addr.eq(Cat(self.word, self.buffer)),
            best_write.en.eq(output.valid),
            best_write.addr.eq(buffer),
            best_write.data.eq(following),
            best_read.addr.eq(self.buffer),
            self.output.value.eq(word_read.data),
            self.output.largest.eq(best_read.data.largest),
            self.output.place.eq(best_read.data.place),
        ]
        return m
