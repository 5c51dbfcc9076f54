"""The configuration of one machine: the single source for gateware, model, driver and reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
#: Fraction bits of a cross-entropy loss, in bits (base 2), and of its tables.
LOSS_FRACTION = 16
#: Fraction bits of a normalised coefficient (a loss difference over its running mean).
COEFFICIENT_FRACTION = 8
#: Fraction bits that the rate register keeps below one master step.
RATE_FRACTION = 8
#: Fraction bits of the rate against a normalised coefficient: c = q * rate / 2**16.
PRODUCT_SHIFT = COEFFICIENT_FRACTION + RATE_FRACTION
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
    sweep_turns: int
    """Cycles that a sweep spends on a row, with as many times fewer words at once; a divisor of ``columns``.
    Masters and momenta have room for a power of two of turns."""
    outputs: int
    """Largest number of network outputs that the loss accumulator takes."""
    output_word: int
    """Bits of a network output on its way to the loss, and of a target: ``word`` or more."""
    loss_pipes: int
    """Samples whose losses are computed at once, each pipe an output a cycle; a divisor of ``lanes``. 0: a *serial*
    machine, in which a processor does what is not a contraction, one thing after the other."""
    loss_word: int
    """Bits of a batch loss, and of the scale that loss differences are divided by."""
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
    incremental: int
    """1: operands other than words and their ReLU, losses of differences, and gathers; 0 leaves their hardware out."""
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
        if self.is_serial:
            self._require_serial(require)
        else:
            require(
                self.loss_pipes >= 1 and self.lanes % self.loss_pipes == 0,
                "loss_pipes",
                f"a divisor of lanes={self.lanes}, or 0",
            )
        require(
            self.sweep_turns >= 1 and self.columns % self.sweep_turns == 0,
            "sweep_turns",
            f"a divisor of columns={self.columns}",
        )
        require(32 <= self.loss_word <= 48, "loss_word", "32 to 48 bits")
        require(0 <= self.tables <= 4, "tables", "0 to 4")
        require(0 <= self.incremental <= 1, "incremental", "0 or 1")
        require(3 <= self.table_bits <= self.word - 1, "table_bits", f"3 to word-1={self.word - 1}")

    def _require_serial(self, require: Callable[[bool, str, str], None]) -> None:
        """What a serial machine has besides: words of its processor, and nothing beside the plain contractions."""
        serial = "with loss_pipes=0"
        for name, value in (("lanes", 1), ("master_word", 32), ("momentum_word", 32), ("loss_word", 32), ("tables", 0)):
            require(getattr(self, name) == value, name, f"{value} {serial}")
        require(self.incremental == 0, "incremental", f"0 {serial}")
        require(self.columns in (2, 4), "columns", f"2 or 4 {serial}")
        # A DSP block's accumulator has 32 bits.
        require(self.word == 10, "word", f"10 bits {serial}")
        # The exponent of a loss is a product of 32 bits.
        require(self.output_word <= 13, "output_word", f"at most 13 bits {serial}")
        # What lies in the processor's main memory, and in that of a batch half.
        for name, most in (
            ("losses", 1 << 9),
            ("history", 1 << 8),
            ("lane_depth", 1 << 12),
            ("batch_depth", 1 << 13),
            ("target_depth", 1 << 13),
        ):
            require(getattr(self, name) <= most, name, f"at most {most} {serial}")
        require(
            self.weight_rows * self.columns <= 1 << 12, "weight_rows", f"at most {(1 << 12) // self.columns} {serial}"
        )

    @property
    def is_serial(self) -> bool:
        """Whether a processor does one thing after the other, in place of units that work side by side."""
        return self.loss_pipes == 0

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
        return self.lanes // max(self.loss_pipes, 1)

    @property
    def count_bits(self) -> int:
        """Bits of the turns of a loop nest's level: enough to walk through any memory."""
        return max(self.lane_depth, self.batch_depth, self.effective_rows).bit_length()

    @property
    def sweep_pipes(self) -> int:
        """Words that a sweep perturbs or updates in a cycle."""
        return self.columns // self.sweep_turns

    @property
    def sweep_depth(self) -> int:
        """Words of each pipe's masters and momenta: those of one turn after the other, a power of two of turns."""
        return self.weight_rows << (self.sweep_turns - 1).bit_length()

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
    sweep_turns=1,
    outputs=16,
    output_word=16,
    loss_pipes=1,
    loss_word=48,
    losses=512,
    history=16,
    program_depth=1024,
    tables=1,
    table_bits=5,
    incremental=1,
    packet=128,
)

_ENGINE_16X8 = Config(
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
    sweep_turns=1,
    outputs=16,
    output_word=18,
    loss_pipes=8,
    loss_word=48,
    losses=4096,
    history=256,
    program_depth=2048,
    tables=2,
    table_bits=7,
    incremental=1,
    packet=256,
)

_BOARD_20K = _ENGINE_16X8.replace(
    lanes=2,
    columns=8,
    word=16,
    master_word=28,
    momentum_word=20,
    lane_depth=2048,
    batch_depth=2048,
    target_depth=64,
    weight_rows=256,
    effective_rows=512,
    sweep_turns=8,
    output_word=16,
    loss_pipes=2,
    loss_word=40,
    losses=1024,
    history=16,
    program_depth=2048,
    tables=0,
    packet=128,
)

PRESETS: dict[str, Config] = {
    "tiny": _TINY,
    "small": _ENGINE_16X8.replace(
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
    "engine_16x8": _ENGINE_16X8,
    "engine_16x10": _ENGINE_16X8.replace(columns=10, loss_pipes=16, effective_rows=2048),
    "ulx3s_85f": _ENGINE_16X8.replace(
        lanes=12, columns=11, effective_rows=2048, loss_pipes=4, loss_word=40, history=64, tables=0
    ),
    "ulx3s_12f": _BOARD_20K.replace(columns=10, sweep_turns=5, word=9, master_word=24, output_word=12, tables=1),
    "tang_primer_20k": _BOARD_20K.replace(
        lanes=1, word=9, master_word=24, batch_depth=4096, output_word=12, loss_pipes=1, loss_word=32
    ),
    "least": _BOARD_20K.replace(
        lanes=1,
        word=9,
        master_word=24,
        momentum_word=16,
        lane_depth=1024,
        batch_depth=4096,
        weight_rows=256,
        output_word=12,
        loss_pipes=1,
        loss_word=32,
        losses=64,
        program_depth=1024,
        incremental=0,
        packet=64,
    ),
    "icebreaker": _BOARD_20K.replace(
        lanes=1,
        columns=4,
        word=10,
        master_word=32,
        momentum_word=32,
        lane_depth=1024,
        batch_depth=4096,
        weight_rows=256,
        sweep_turns=4,
        output_word=12,
        loss_pipes=0,
        loss_word=32,
        losses=64,
        program_depth=1024,
        incremental=0,
        packet=64,
    ),
}
"""Named machines: ``tiny`` for tests, ``small`` for boards with few multipliers.

``engine_16x8`` and ``engine_16x10`` are for simulation, and for chips with more block RAM than boards have: the latter
has a column for each of ten classes, which is what coordinate-wise training is busiest with. ``ulx3s_85f`` is what an
ECP5-85F holds of it: 132 multipliers, of a word's 18 bits, without tables. ``ulx3s_12f`` and ``tang_primer_20k`` are
for chips of 20,000 LUTs and more; ``least`` is the least machine that trains the digits."""


def preset(name: str) -> Config:
    """The named preset. Raises ``ValueError`` that lists the names."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}") from None
