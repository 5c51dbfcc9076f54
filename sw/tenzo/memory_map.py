"""What a configuration's memories hold and how many bits they take."""

from __future__ import annotations

from typing import NamedTuple

from tenzo_hw.config import Config
from tenzo_hw.serial.assembly import WORD_BITS
from tenzo_hw.serial.memory_map import HALF_BITS, MainMap, half_words

#: Bits of a step's entry in the history beside its loss: the number of correct samples.
_CORRECT_WORD = 16
_PROGRAM_WORD = 32


class Memory(NamedTuple):
    """One kind of memory of a machine."""

    name: str
    words: int
    width: int
    """Bits of a word."""

    @property
    def bits(self) -> int:
        """Bits of all words."""
        return self.words * self.width


def memory_map(config: Config) -> list[Memory]:
    """All memories that programs, data and the link use; not the constants and queues inside of blocks."""
    if config.is_serial:
        return _serial(config)
    weights = config.sweep_depth * config.sweep_pipes
    entries = config.lanes * config.tables << config.table_bits
    return [
        Memory("program", config.program_depth, _PROGRAM_WORD),
        Memory("master", weights, config.master_word),
        Memory("momentum", weights, config.momentum_word),
        Memory("effective", config.effective_rows * config.columns, config.word),
        Memory("lane", config.lanes * config.lane_depth, config.word),
        Memory("batch, 2 halves", 2 * config.lanes * config.batch_depth, config.input_word),
        Memory("target, 2 halves, in every loss pipe", 2 * config.loss_pipes * config.target_depth, config.output_word),
        Memory("table values and slopes", entries, 2 * config.word),
        Memory("outputs, 2 groups", 2 * config.lanes * config.outputs, config.output_word),
        Memory("base of differences", config.lanes * config.outputs, config.output_word),
        Memory("loss slots", config.losses, config.loss_word),
        Memory("coefficients", config.losses, config.momentum_word),
        Memory("history", config.history, config.loss_word + _CORRECT_WORD),
        Memory("packets, 2 slots", 2 * config.packet, 8),
    ]


def _serial(config: Config) -> list[Memory]:
    """The memories of a serial machine; its processor's main memory holds most."""
    # In the memory of a batch half, inputs and targets have words of the same width, in parts of the same size.
    return [
        Memory(
            "main: program, masters, momenta, lane, losses, coefficients, history",
            MainMap.of(config).depth,
            WORD_BITS,
        ),
        Memory("batch and targets, 2 halves", 2 * half_words(config), HALF_BITS),
        Memory("effective", config.effective_rows * config.columns, config.word),
        Memory("outputs", config.outputs, config.output_word),
        Memory("packets, 2 slots", 2 * config.packet, 8),
    ]


def bits_per_weight(config: Config) -> int:
    """Bits of a trainable word: master, momentum and two effective words, whatever batch, queries and depth are."""
    return config.master_word + config.momentum_word + 2 * config.word
