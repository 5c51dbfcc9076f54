"""The model's memories and registers, and the host's way to their words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from tenzo_hw.coefficient import CoefficientState
from tenzo_hw.config import Config
from tenzo_hw.protocol import Register, Space


def _wrap(value: int, bits: int) -> int:
    """The low bits of ``value`` as a signed number."""
    return (value + (1 << (bits - 1)) & (1 << bits) - 1) - (1 << (bits - 1))


@dataclass
class Memories:
    """All words of one machine, zero after power-on.

    Arrays are int64 and stay where they are: others hold views of them. In ``lanes`` and ``batch`` the words of all
    lanes at one address are neighbours: that is how they are used.
    """

    config: Config
    generator: int = 1
    """State of the perturbation generator."""
    rates: CoefficientState = field(default_factory=CoefficientState)

    def __post_init__(self) -> None:
        config = self.config

        def zeros(*shape: int) -> np.ndarray:
            return np.zeros(shape, np.int64)

        self.program: list[int] = [0] * config.program_depth
        self.lanes = zeros(config.lane_depth, config.lanes)
        self.batch = zeros(2, config.batch_depth, config.lanes)
        self.targets = zeros(2, config.target_depth)
        self.effective = zeros(config.effective_rows, config.columns)
        self.masters = zeros(config.weight_rows, config.columns)
        self.momenta = zeros(config.weight_rows, config.columns)
        self.tables = zeros(config.tables, 1 << config.table_bits, 2)
        """Value and slope of each entry."""
        self.slots = zeros(config.losses)
        self.coefficients = zeros(config.losses)
        self.history: list[tuple[int, int]] = [(0, 0)] * config.history
        """Loss sum and number of correct samples of each step."""
        self._column_bits = (config.columns - 1).bit_length()

    def _weight(self, space: Space, address: int) -> tuple[np.ndarray, tuple[int, int], int] | None:
        """Memory, place and width of a master or momentum; None between the columns and the next row."""
        row, column = address >> self._column_bits, address & (1 << self._column_bits) - 1
        if column >= self.config.columns:
            return None
        if space == Space.MASTER:
            return self.masters, (row, column), self.config.master_word
        return self.momenta, (row, column), self.config.momentum_word

    def read(self, space: Space, address: int) -> int:
        """A word as the host reads it; its low 32 bits count."""
        match space:
            case Space.REGISTER:
                return self._registers()[Register(address)]
            case Space.PROGRAM:
                return self.program[address]
            case Space.MASTER | Space.MOMENTUM:
                place = self._weight(space, address)
                return int(place[0][place[1]]) if place else 0
            case Space.LANE:
                lane, word = divmod(address, self.config.lane_depth)
                return int(self.lanes[word, lane])
            case Space.LOSS:
                return int(self.slots[address >> 1]) >> 32 * (address & 1)
            case Space.HISTORY:
                loss, correct = self.history[address >> 2]
                return (loss, loss >> 32, correct, 0)[address & 3]
        raise ValueError(f"{space.name} cannot be read")

    def _registers(self) -> dict[Register, int]:
        return {
            Register.GENERATOR_LOW: self.generator & 0xFFFFFFFF,
            Register.GENERATOR_HIGH: self.generator >> 32,
            Register.RATE: self.rates.rate,
            Register.RATE_STEP: self.rates.rate_step,
            Register.SCALE_LOW: self.rates.scale & 0xFFFFFFFF,
            Register.SCALE_HIGH: self.rates.scale >> 32,
        }

    def write(self, space: Space, address: int, value: int, half: int) -> None:
        """Writes a word for the host, cut to the memory's width; batch and target words go to ``half``."""
        config = self.config
        match space:
            case Space.BATCH:
                self.write_inputs(address, np.array([value]), half)
            case Space.TARGET:
                self.targets[half, address] = _wrap(value, config.output_word)
            case Space.REGISTER:
                self._write_register(Register(address), value & 0xFFFFFFFF)
            case Space.PROGRAM:
                self.program[address] = value & 0xFFFFFFFF
            case Space.MASTER | Space.MOMENTUM:
                place = self._weight(space, address)
                if place:
                    memory, at, bits = place
                    memory[at] = _wrap(value, bits)
            case Space.TABLE:
                self.tables.reshape(-1)[address] = _wrap(value, config.word + (address & 1))
            case _:
                raise ValueError(f"{space.name} cannot be written")

    def write_inputs(self, address: int, values: np.ndarray, half: int) -> None:
        """Writes batch words at consecutive addresses, cut to the memory's width."""
        lanes, words = np.divmod(address + np.arange(len(values)), self.config.batch_depth)
        sign = 1 << (self.config.input_word - 1)
        self.batch[half, words, lanes] = (values.astype(np.int64) + sign & 2 * sign - 1) - sign

    def _write_register(self, register: Register, value: int) -> None:
        scale = self.rates.scale
        match register:
            case Register.GENERATOR_LOW:
                self.generator = self.generator >> 32 << 32 | value
            case Register.GENERATOR_HIGH:
                self.generator = self.generator & 0xFFFFFFFF | value << 32
            case Register.RATE:
                self.rates = replace(self.rates, rate=value)
            case Register.RATE_STEP:
                self.rates = replace(self.rates, rate_step=value)
            case Register.SCALE_LOW:
                self.rates = replace(self.rates, scale=scale >> 32 << 32 | value)
            case Register.SCALE_HIGH:
                self.rates = replace(
                    self.rates, scale=(scale & 0xFFFFFFFF | value << 32) & (1 << self.config.loss_word) - 1
                )
