"""The configuration of one machine: the single source for gateware, model, driver and reports."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields

#: Levels of a contraction's loop nest: the two innermost reduce, the others walk positions and tiles.
REDUCTION_LEVELS = 2
OUTER_LEVELS = 4
#: Address registers of the sequencer; register 0 always reads zero.
ADDRESS_REGISTERS = 8
#: Nesting depth of the sequencer's counted loops.
LOOP_DEPTH = 4
#: Bits of the perturbation generator's state: 2^64-1 rows of signs before it repeats.
GENERATOR_BITS = 64
#: Bits of a batch loss and of everything derived from it before normalisation.
LOSS_WORD = 48
#: Fraction bits of a cross-entropy loss, in bits (base 2), and of its tables.
LOSS_FRACTION = 16
#: Fraction bits of a normalised coefficient (a loss difference over its running mean).
COEFFICIENT_FRACTION = 8
#: Fraction bits that the rate register keeps below one master step.
RATE_FRACTION = 8
#: Guard bits of an accumulator above a full product: reductions of up to 4,096 terms keep their full sum.
GUARD_BITS = 12


@dataclass(frozen=True, kw_only=True)
class Config:
    """One machine, frozen. Every memory depth is a power of two, so that an address is a bit field.

    Raises ``ValueError`` with the numbers when a value is outside of what the gateware supports.
    """

    lanes: int
    """L: samples in flight, each with its own activation memory."""
    columns: int
    """C: multipliers a lane; C weights are read a cycle and shared by all lanes."""
    word: int
    """W: bits of an effective weight and of an activation, two's complement."""
    input_word: int
    """Bits of an input in the batch memory, two's complement, at most ``word``."""
    master_word: int
    """Bits of a master weight; its top ``word`` bits are the effective weight."""
    momentum_word: int
    """Bits of a momentum word, in units of the master's last bit."""
    lane_depth: int
    """Words of activation memory a lane."""
    batch_depth: int
    """Words of batch memory a lane and half: inputs of all groups of one batch."""
    target_depth: int
    """Words of target memory a half: labels or targets of one batch."""
    weight_rows: int
    """Rows of C trainable words (master, momentum and two effective words each)."""
    effective_rows: int
    """Rows of C effective words: two halves of ``weight_rows``, one being read while the other is perturbed; what is
    beyond them is room for what the engine itself forms, such as the dense form of a layer."""
    outputs: int
    """Largest number of network outputs that the loss accumulator takes."""
    output_word: int
    """Bits of a network output on its way to the loss, and of a target: ``word`` or more."""
    loss_pipes: int
    """Samples whose losses are computed at once, each pipe an output a cycle; a divisor of ``lanes``."""
    losses: int
    """Loss slots: evaluations of one step (two a query when two-sided, one a word with coordinate-wise differences)."""
    history: int
    """Steps whose loss is remembered for the host."""
    program_depth: int
    """32-bit words of program memory."""
    tables: int
    """Activation tables with interpolation; 0 leaves the table function out."""
    table_bits: int
    """log2 of the entries of one table."""
    packet: int
    """Largest payload of a host packet, in bytes."""

    def __post_init__(self) -> None:
        def require(ok: bool, name: str, allowed: str) -> None:
            if not ok:
                raise ValueError(f"{name}={getattr(self, name)} is not possible: {allowed}")

        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"{field.name}={value!r} is not possible: it must be an int")
        require(1 <= self.lanes <= 64, "lanes", "1 to 64")
        require(1 <= self.columns <= 32, "columns", "1 to 32")
        require(8 <= self.word <= 18, "word", "8 to 18 bits, the width of a DSP input")
        require(2 <= self.input_word <= self.word, "input_word", f"2 to word={self.word} bits")
        require(self.word + 4 <= self.master_word <= 32, "master_word", f"word+4={self.word + 4} to 32 bits")
        require(16 <= self.momentum_word <= 32, "momentum_word", "16 to 32 bits")
        for name, low, high in (
            ("lane_depth", 16, 1 << 15),
            ("batch_depth", 16, 1 << 15),
            ("target_depth", 16, 1 << 15),
            ("weight_rows", 16, 1 << 14),
            ("effective_rows", 2 * self.weight_rows, 1 << 15),
            ("outputs", 2, 128),
            ("losses", 4, 1 << 13),
            ("history", 4, 1 << 12),
            ("program_depth", 64, 1 << 15),
            ("packet", 64, 1 << 10),
        ):
            value = getattr(self, name)
            require(low <= value <= high and value & (value - 1) == 0, name, f"a power of two from {low} to {high}")
        require(self.word <= self.output_word <= 24, "output_word", f"word={self.word} to 24 bits")
        require(
            self.loss_pipes >= 1 and self.lanes % self.loss_pipes == 0,
            "loss_pipes",
            f"a divisor of lanes={self.lanes}",
        )
        require(0 <= self.tables <= 4, "tables", "0 to 4")
        require(3 <= self.table_bits <= self.word - 1, "table_bits", f"3 to word-1={self.word - 1}")

    @property
    def multipliers(self) -> int:
        """L x C: multiply-accumulates a cycle."""
        return self.lanes * self.columns

    @property
    def lane_bank(self) -> int:
        """Words of each of the two banks of a lane's memory: environments are read from the upper one."""
        return self.lane_depth // 2

    @property
    def loss_lanes(self) -> int:
        """Lanes that one loss pipe serves, one after the other."""
        return self.lanes // self.loss_pipes

    @property
    def accumulator(self) -> int:
        """Bits of an accumulator: a full product and the guard bits."""
        return 2 * self.word + GUARD_BITS

    @property
    def master_extra(self) -> int:
        """Fraction bits that a master has below its effective word."""
        return self.master_word - self.word

    def replace(self, **changes: int) -> Config:
        """The same machine with some values changed."""
        return dataclasses.replace(self, **changes)

    def words(self) -> list[int]:
        """The values in field order: what the device answers to HELLO."""
        return [getattr(self, field.name) for field in fields(self)]

    @classmethod
    def from_words(cls, words: list[int]) -> Config:
        """The configuration that a device answered. Raises ``ValueError`` when the count is wrong."""
        names = [field.name for field in fields(cls)]
        if len(words) != len(names):
            raise ValueError(f"the device sent {len(words)} configuration words, this version has {len(names)}")
        return cls(**dict(zip(names, words, strict=True)))


_TINY = Config(
    lanes=2,
    columns=2,
    word=9,
    input_word=9,
    master_word=24,
    momentum_word=24,
    lane_depth=256,
    batch_depth=128,
    target_depth=64,
    weight_rows=128,
    effective_rows=512,
    outputs=16,
    output_word=16,
    loss_pipes=1,
    losses=512,
    history=16,
    program_depth=1024,
    tables=1,
    table_bits=5,
    packet=128,
)

_ULX3S_85F = Config(
    lanes=16,
    columns=8,
    word=18,
    input_word=9,
    master_word=32,
    momentum_word=24,
    lane_depth=4096,
    batch_depth=4096,
    target_depth=512,
    weight_rows=1024,
    effective_rows=4096,
    outputs=16,
    output_word=18,
    loss_pipes=8,
    losses=4096,
    history=256,
    program_depth=2048,
    tables=2,
    table_bits=7,
    packet=256,
)

PRESETS: dict[str, Config] = {
    "tiny": _TINY,
    "small": _ULX3S_85F.replace(
        lanes=4,
        columns=4,
        word=16,
        master_word=32,
        lane_depth=1024,
        batch_depth=1024,
        target_depth=128,
        loss_pipes=2,
        losses=2048,
        weight_rows=512,
        effective_rows=2048,
        tables=1,
        table_bits=6,
    ),
    "ulx3s_85f": _ULX3S_85F,
    "ulx3s_85f_10": _ULX3S_85F.replace(columns=10, loss_pipes=16, effective_rows=2048),
}
"""Named machines: ``tiny`` for tests, ``small`` for boards with few multipliers, ``ulx3s_85f`` for the ULX3S 85F.

``ulx3s_85f_10`` has a column for each of ten classes, which is what coordinate-wise training is busiest with."""


def preset(name: str) -> Config:
    """The named preset. Raises ``ValueError`` that lists the names."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}") from None
