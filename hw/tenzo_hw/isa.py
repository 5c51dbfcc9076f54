"""The machine's instructions: their fields, their 32-bit words and what they mean.

A program is a list of instructions. ``encode`` gives the words that the sequencer reads, ``decode`` the list back.
Each instruction is a frozen dataclass whose ``FIELDS`` say where every value sits; the manual's tables are made from
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Any, ClassVar, get_type_hints

from .config import OUTER_LEVELS, REDUCTION_LEVELS


class Opcode(IntEnum):
    """First byte of an instruction."""

    HALT = 0
    LOOP = 1
    END = 2
    SET = 3
    ADD = 4
    CONTRACT = 5
    SWEEP = 6
    LOSS = 7
    COEFFICIENT = 8
    BATCH = 9
    GATHER = 10


class Wait(IntFlag):
    """Units that must be done before an instruction is issued."""

    NONE = 0
    """Nothing."""
    ENGINE = 1
    """A contraction issued now reads every earlier contraction's results, and every row gathered."""
    SWEEP = 2
    """The last sweep has written its last row."""
    LOSS = 4
    """Every captured group's loss is summed and stored."""
    COEFFICIENT = 8
    """The last coefficients are computed."""


class Activation(IntEnum):
    """What the epilogue does after rounding and saturation; TABLE0 + i is table i."""

    NONE = 0
    """The identity."""
    RELU = 1
    """max(y, 0)."""
    TABLE0 = 2
    """Interpolated table 0."""
    TABLE1 = 3
    """Interpolated table 1."""
    TABLE2 = 4
    """Interpolated table 2."""
    TABLE3 = 5
    """Interpolated table 3."""


class LossKind(IntEnum):
    """What the loss accumulator sums."""

    CROSS_ENTROPY = 0
    """Of the softmax of the outputs, against a label."""
    SQUARED_ERROR = 1
    """Against a target for each output."""


class Operand(IntEnum):
    """What the weights of a contraction's rows are multiplied with."""

    WORD = 0
    """The word at the activation address."""
    DIFFERENCE = 1
    """relu(z + e) - relu(z): z at the activation address in the lower bank of the lane's memory, e at the bias address
    in the upper one; the sum saturates to ``word``."""
    STEP = 2
    """The same with e = ``1 << one``."""
    IDENTITY = 3
    """``1 << one`` in the lane whose number is the activation address, else 0."""
    RELU = 4
    """relu of the word at the activation address."""


class Base(IntEnum):
    """What the loss accumulator does with a group's outputs besides summing their loss."""

    NONE = 0
    """Nothing."""
    KEEP = 1
    """It keeps them as the base of later differences."""
    ADD = 2
    """They are differences: the base is added first, and the losses add to the slots that the output addresses name."""


@dataclass(frozen=True)
class Bits:
    """Where a field sits: word number in the instruction, lowest bit, width, and whether it is signed."""

    word: int
    low: int
    width: int
    signed: bool = False


class Instruction:
    """Base of all instructions: word packing by ``FIELDS``."""

    OPCODE: ClassVar[Opcode]
    WORDS: ClassVar[int]
    FIELDS: ClassVar[dict[str, Bits]]
    wait: Wait

    def _values(self) -> dict[str, int]:
        return {name: int(getattr(self, name)) for name in self.FIELDS}

    def encode(self) -> list[int]:
        """The instruction's 32-bit words. Raises ``ValueError`` when a value does not fit its field."""
        words = [0] * self.WORDS
        words[0] = int(self.OPCODE)
        for name, value in self._values().items():
            bits = self.FIELDS[name]
            low = -(1 << (bits.width - 1)) if bits.signed else 0
            high = (1 << (bits.width - 1 if bits.signed else bits.width)) - 1
            if not low <= value <= high:
                raise ValueError(f"{type(self).__name__}.{name}={value} is outside {low} to {high}")
            words[bits.word] |= (value & ((1 << bits.width) - 1)) << bits.low
        return words

    @classmethod
    def _unpack(cls, words: list[int]) -> dict[str, Any]:
        types = get_type_hints(cls)
        values = {}
        for name, bits in cls.FIELDS.items():
            value = words[bits.word] >> bits.low & ((1 << bits.width) - 1)
            if bits.signed and value >> (bits.width - 1):
                value -= 1 << bits.width
            values[name] = types.get(name, int)(value)
        return values

    @classmethod
    def decode(cls, words: list[int]) -> Instruction:
        """The instruction of these words."""
        return cls(**cls._unpack(words))


_WAIT = {"wait": Bits(0, 8, 4)}


@dataclass(frozen=True, kw_only=True)
class Halt(Instruction):
    """Ends the run once every unit is done."""

    OPCODE = Opcode.HALT
    WORDS = 1
    FIELDS = {}


@dataclass(frozen=True, kw_only=True)
class Loop(Instruction):
    """Repeats the instructions up to the matching End ``count`` times; 0 takes the count of the RUN packet."""

    count: int
    """Turns of the loop; 0 takes the count of RUN."""
    wait: Wait = Wait.NONE
    """Units to wait for (see Wait bits)."""
    OPCODE = Opcode.LOOP
    WORDS = 1
    FIELDS = _WAIT | {"count": Bits(0, 12, 20)}


@dataclass(frozen=True, kw_only=True)
class End(Instruction):
    """Ends the body of the innermost loop."""

    wait: Wait = Wait.NONE
    """Units to wait for (see Wait bits)."""
    OPCODE = Opcode.END
    WORDS = 1
    FIELDS = _WAIT


@dataclass(frozen=True, kw_only=True)
class Set(Instruction):
    """Address register := value."""

    register: int
    """Which address register; writes to 0 are lost."""
    value: int
    """The new value, or what is added."""
    wait: Wait = Wait.NONE
    """Units to wait for (see Wait bits)."""
    OPCODE = Opcode.SET
    WORDS = 1
    FIELDS = _WAIT | {"register": Bits(0, 12, 3), "value": Bits(0, 16, 16)}


@dataclass(frozen=True, kw_only=True)
class Add(Instruction):
    """Address register := register + value, modulo 2^16."""

    register: int
    """Which address register; writes to 0 are lost."""
    value: int
    """The new value, or what is added."""
    wait: Wait = Wait.NONE
    """Units to wait for (see Wait bits)."""
    OPCODE = Opcode.ADD
    WORDS = 1
    FIELDS = _WAIT | {"register": Bits(0, 12, 3), "value": Bits(0, 16, 16, signed=True)}


@dataclass(frozen=True)
class Level:
    """One counter of the loop nest: ``count`` turns; strides of the activation, weight, output and bias addresses."""

    count: int = 1
    a: int = 0
    w: int = 0
    o: int = 0
    b: int = 0


_LEVEL_WORD = 5


def _level_fields() -> dict[str, Bits]:
    """Counts and address deltas of the six levels, packed from word 5 on."""
    places: dict[str, Bits] = {}
    word = _LEVEL_WORD
    for level in range(REDUCTION_LEVELS + OUTER_LEVELS):
        places[f"count{level}"] = Bits(word, 0, 16)
        places[f"a{level}"] = Bits(word, 16, 16)
        places[f"w{level}"] = Bits(word + 1, 0, 16)
        word += 2
        if level < REDUCTION_LEVELS:
            places[f"b{level}"] = Bits(word - 1, 16, 16)
        else:
            places[f"o{level}"] = Bits(word - 1, 16, 16)
            places[f"b{level}"] = Bits(word, 0, 16)
            word += 1
    return places


@dataclass(frozen=True, kw_only=True)
class Contract(Instruction):
    """One contraction on all lanes at once: ``o[p, c] = f(round(sum_k x[p, k] * w[p, k, c] + bias))``.

    The operands x are words of the lane's memory or what ``operand`` makes of them.

    Levels 0 and 1 (innermost first) reduce; levels 2 to 5 walk positions and tiles. A *tile* is one turn of the outer
    levels: ``cols`` results a lane. When level 2 + ``tile_level`` is at its last turn a tile has ``last_cols`` results.
    """

    a_base: int
    """Address of the first activation."""
    w_base: int
    """Engine row of the first weights: half times weight_rows, plus the row."""
    o_base: int
    """Lane memory address of the first result."""
    levels: tuple[Level, ...] = field(default_factory=tuple)
    """Six levels, innermost first."""
    cols: int
    """Results of a tile, at most C."""
    last_cols: int
    """Results of a tile at the last turn of the tile level."""
    col_stride: int
    """Output address step from one column to the next."""
    shift: int
    """Right shift of the accumulator, rounded half up."""
    tile_level: int = 0
    """Which outer level (0 to 3) walks the tiles."""
    from_batch: bool = False
    """Activations come from the batch memory's current half instead of the lane's memory."""
    store: bool = True
    """Results are written to the lane's memory."""
    to_loss: bool = False
    """Results go to the loss accumulator in the order in which they drain: one group's outputs, before saturation to
    ``word`` where there is no function. With ``base`` ADD as many groups' as there are, one after the other."""
    bias: bool = False
    """Each tile starts with the bias row times the constant ``1 << one``."""
    one: int = 0
    """Shift of the bias: the activation's fraction bits."""
    b_base: int = 0
    """Engine row of the first bias; with ``operand`` DIFFERENCE the address of the first e in the upper bank."""
    operand: Operand = Operand.WORD
    """What the weights are multiplied with; only WORD goes with ``from_batch``, only it and RELU with ``bias``."""
    base: Base = Base.NONE
    """With ``to_loss``: whether the outputs are kept, or are differences that the kept ones are added to. With ADD
    nothing is stored, and the output address of a group's first result is the number of its loss slot."""
    pace: int = 0
    """Fewest cycles from a tile's last row to the next tile's, so that losses keep up."""
    activation: Activation = Activation.NONE
    """Function after rounding and saturation."""
    a_register: int = 0
    """Address register added to a_base."""
    w_register: int = 0
    """Address register added to w_base."""
    o_register: int = 0
    """Address register added to o_base."""
    b_register: int = 0
    """Address register added to b_base."""
    wait: Wait = Wait.NONE
    """Units to wait for (see Wait bits)."""

    OPCODE = Opcode.CONTRACT
    WORDS = _LEVEL_WORD + 2 * REDUCTION_LEVELS + 3 * OUTER_LEVELS
    FIELDS = (
        _WAIT
        | {
            "bias": Bits(0, 12, 1),
            "from_batch": Bits(0, 13, 1),
            "to_loss": Bits(0, 14, 1),
            "store": Bits(0, 15, 1),
            "tile_level": Bits(0, 16, 2),
            "activation": Bits(0, 18, 3),
            "shift": Bits(0, 21, 6),
            "one": Bits(0, 27, 5),
            "cols": Bits(1, 0, 8),
            "last_cols": Bits(1, 8, 8),
            "col_stride": Bits(1, 16, 16),
            "a_register": Bits(2, 0, 3),
            "w_register": Bits(2, 4, 3),
            "o_register": Bits(2, 8, 3),
            "b_register": Bits(2, 12, 3),
            "operand": Bits(2, 16, 3),
            "base": Bits(2, 19, 2),
            "pace": Bits(2, 21, 11),
            "w_base": Bits(3, 0, 16),
            "o_base": Bits(3, 16, 16),
            "a_base": Bits(4, 0, 16),
            "b_base": Bits(4, 16, 16),
        }
        | _level_fields()
    )

    def __post_init__(self) -> None:
        if len(self.levels) != REDUCTION_LEVELS + OUTER_LEVELS:
            raise ValueError(f"a contraction has {REDUCTION_LEVELS + OUTER_LEVELS} levels, not {len(self.levels)}")
        inner = self.levels[:REDUCTION_LEVELS]
        if any(level.o for level in inner):
            raise ValueError("reduction levels do not move the output address")
        if any(level.b for level in inner) and self.operand != Operand.DIFFERENCE:
            raise ValueError("reduction levels move the bias address only where it is that of an environment")

    @property
    def reduction(self) -> int:
        """Multiply-accumulates a result, without the bias."""
        return self.levels[0].count * self.levels[1].count

    @property
    def rows(self) -> int:
        """Weight rows that a tile reads: the reduction and the bias row."""
        return self.reduction + int(self.bias)

    @property
    def tiles(self) -> int:
        """Turns of the outer levels."""
        product = 1
        for level in self.levels[REDUCTION_LEVELS:]:
            product *= level.count
        return product

    @property
    def results(self) -> int:
        """Results a lane."""
        turns = self.levels[REDUCTION_LEVELS + self.tile_level].count
        return self.tiles // turns * ((turns - 1) * self.cols + self.last_cols)

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates a lane: results times reduction (the bias is not counted)."""
        return self.results * self.reduction

    def _values(self) -> dict[str, int]:
        # The nest adds one delta a row: that of the level that steps, with all inner levels wound back.
        values = {name: int(getattr(self, name)) for name in self.FIELDS if hasattr(self, name)}
        for stream in "awob":
            inner = 0
            for index, level in enumerate(self.levels):
                stride = getattr(level, stream)
                name = f"{stream}{index}"
                if name in self.FIELDS:
                    values[name] = (stride - inner) & 0xFFFF
                inner += (level.count - 1) * stride
        for index, level in enumerate(self.levels):
            values[f"count{index}"] = level.count
        return values

    @classmethod
    def decode(cls, words: list[int]) -> Contract:
        """The contraction of these words: deltas back to strides."""
        values = cls._unpack(words)
        strides: dict[str, list[int]] = {}
        counts = [values.pop(f"count{index}") for index in range(REDUCTION_LEVELS + OUTER_LEVELS)]
        for stream in "awob":
            inner = 0
            strides[stream] = []
            for index, count in enumerate(counts):
                stride = values.pop(f"{stream}{index}", 0)
                if f"{stream}{index}" in cls.FIELDS:
                    stride = (stride + inner + 0x8000 & 0xFFFF) - 0x8000
                strides[stream].append(stride)
                inner += (count - 1) * stride
        levels = tuple(
            Level(count, *(strides[stream][index] for stream in "awob")) for index, count in enumerate(counts)
        )
        return cls(levels=levels, **values)


class SweepKind(IntEnum):
    """What a sweep writes."""

    PERTURB = 0
    """Effective words."""
    UPDATE = 1
    """Momentum, and masters when it is the last."""


#: Generator states that a sweep can save and replay: the step's first and the query's first.
REPLAY_SLOTS = 2


@dataclass(frozen=True, kw_only=True)
class Sweep(Instruction):
    """One pass over ``count`` weight rows from ``row``, ``sweep_turns`` cycles a row, with one row of signs each.

    PERTURB: effective[half][row] = saturate(round(master) + sign * mu); ``negative`` flips the signs.
    UPDATE: momentum += sign * coefficient (after decaying it with ``first``); with ``last`` the master moves too.
    With ``single`` one column is perturbed or updated, with the sign +1: a PERTURB copies the other columns, an UPDATE
    leaves them and goes to the next coefficient at every row. The generator steps all the same.
    """

    kind: SweepKind
    """PERTURB or UPDATE."""
    row: int
    """First weight row."""
    count: int
    """Weight rows of this sweep."""
    half: int = 0
    """PERTURB: which half of the effective words is written."""
    mu: int = 0
    """PERTURB: step in units of an effective word's last bit; 0 copies the masters."""
    negative: bool = False
    """PERTURB: flip the signs."""
    replay: bool = False
    """The generator first goes back to slot ``replay_slot``."""
    replay_slot: int = 0
    """Which slot is replayed."""
    save: int = 0
    """Mask of the slots that keep the generator's state from before this sweep (after the replay)."""
    first: bool = False
    """UPDATE: decay the momentum before adding; with ``decay`` 0 the old momentum is dropped."""
    last: bool = False
    """UPDATE: move the masters by the new momentum."""
    sign: bool = False
    """UPDATE with ``last``: move by the rate register times the momentum's sign instead."""
    next: bool = False
    """UPDATE: go to the next coefficient afterwards."""
    decay: int = 0
    """UPDATE with ``first``: momentum -= round(momentum / 2**decay)."""
    weight_decay: int = 0
    """UPDATE with ``last``: master -= round(master / 2**weight_decay) first; 0 is off."""
    scale: int = 0
    """UPDATE: right shift of the coefficient, rounded half up, for tensors of a coarser step."""
    single: bool = False
    """One column only."""
    column: int = 0
    """The column of ``single``."""
    row_register: int = 0
    """Address register added to ``row``."""
    column_register: int = 0
    """Address register added to ``column``."""
    wait: Wait = Wait.NONE
    """Units to wait for (see Wait bits)."""

    OPCODE = Opcode.SWEEP
    WORDS = 3
    FIELDS = _WAIT | {
        "kind": Bits(0, 12, 1),
        "half": Bits(0, 13, 1),
        "negative": Bits(0, 14, 1),
        "replay": Bits(0, 15, 1),
        "replay_slot": Bits(0, 16, 1),
        "save": Bits(0, 17, 2),
        "first": Bits(0, 19, 1),
        "last": Bits(0, 20, 1),
        "sign": Bits(0, 21, 1),
        "next": Bits(0, 22, 1),
        "single": Bits(0, 23, 1),
        "column": Bits(0, 24, 5),
        "row_register": Bits(0, 29, 3),
        "row": Bits(1, 0, 14),
        "count": Bits(1, 14, 15),
        "column_register": Bits(1, 29, 3),
        "mu": Bits(2, 0, 16),
        "decay": Bits(2, 16, 5),
        "weight_decay": Bits(2, 21, 5),
        "scale": Bits(2, 26, 5),
    }


@dataclass(frozen=True, kw_only=True)
class Loss(Instruction):
    """Sets the loss accumulator up and clears it: the next loss goes to slot 0. Issued only when it is done."""

    kind: LossKind
    """Which loss."""
    outputs: int
    """Network outputs, in the order in which they drain."""
    groups: int
    """Captured groups of lanes a loss."""
    fraction: int = 0
    """CROSS_ENTROPY: fraction bits of the outputs."""
    accumulate: bool = False
    """Losses add to what the slots hold, instead of replacing it."""
    target: int = 0
    """Target memory word of the first group's first target."""
    target_register: int = 0
    """Address register added to ``target``."""
    wait: Wait = Wait.LOSS
    """Units to wait for (see Wait bits)."""

    OPCODE = Opcode.LOSS
    WORDS = 2
    FIELDS = _WAIT | {
        "kind": Bits(0, 12, 1),
        "target_register": Bits(0, 13, 3),
        "outputs": Bits(0, 16, 8),
        "fraction": Bits(0, 24, 5),
        "accumulate": Bits(0, 29, 1),
        "groups": Bits(1, 0, 16),
        "target": Bits(1, 16, 16),
    }


@dataclass(frozen=True, kw_only=True)
class Coefficient(Instruction):
    """Turns the loss slots into one coefficient a query and appends the step to the history.

    Two-sided: d = slot[2i] - slot[2i+1]. One-sided: d = slot[i+1] - slot[0].
    """

    queries: int
    """N: coefficients of this step."""
    two_sided: bool = True
    """Two losses a query, or one and a common base."""
    normalise: bool = True
    """Divide by the running mean of abs(d) (its power of two) instead of ``2**shift``."""
    shift: int = 0
    """normalise: floor(log2(queries)). Otherwise the right shift of d."""
    average: int = 4
    """Running mean: scale += (sum abs(d) - scale) / 2**average; a zero scale is replaced by the sum."""
    clip: int = 3 << 8
    """Largest magnitude of a normalised coefficient, with COEFFICIENT_FRACTION fraction bits."""
    wait: Wait = Wait.LOSS
    """Units to wait for (see Wait bits)."""

    OPCODE = Opcode.COEFFICIENT
    WORDS = 2
    FIELDS = _WAIT | {
        "two_sided": Bits(0, 12, 1),
        "normalise": Bits(0, 13, 1),
        "shift": Bits(0, 16, 6),
        "average": Bits(0, 22, 4),
        "queries": Bits(1, 0, 16),
        "clip": Bits(1, 16, 16),
    }


@dataclass(frozen=True, kw_only=True)
class Batch(Instruction):
    """Once every unit is done, gives the current batch half back and takes the next filled one.

    The cycles spent with nothing else to wait for than the host are counted apart.
    """

    wait: Wait = Wait.NONE
    """Units to wait for (see Wait bits)."""
    OPCODE = Opcode.BATCH
    WORDS = 1
    FIELDS = _WAIT


@dataclass(frozen=True, kw_only=True)
class Gather(Instruction):
    """Copies words from lanes to effective rows, a word a cycle: row i of lane l goes to ``row`` + l * ``rows`` + i.

    Its column c is the lane's word at ``address`` + i * ``stride`` + c * ``col_stride``; columns from ``cols`` on: 0.
    Issued only when engine and sweep are done; neither is issued before its end.
    """

    address: int
    """Lane memory address of the first word."""
    stride: int
    """Lane memory words from one row to the next."""
    rows: int
    """Rows of a lane."""
    lanes: int
    """Lanes, from 0."""
    cols: int
    """Words of a row, at most C."""
    col_stride: int = 1
    """Lane memory words from one column to the next."""
    row: int
    """First engine row: half times weight_rows, plus the row."""
    address_register: int = 0
    """Address register added to ``address``."""
    row_register: int = 0
    """Address register added to ``row``."""
    wait: Wait = Wait.ENGINE | Wait.SWEEP
    """Units to wait for (see Wait bits); engine and sweep always."""

    OPCODE = Opcode.GATHER
    WORDS = 4
    FIELDS = _WAIT | {
        "cols": Bits(0, 12, 8),
        "lanes": Bits(0, 20, 8),
        "address": Bits(1, 0, 16),
        "row": Bits(1, 16, 16),
        "stride": Bits(2, 0, 16),
        "rows": Bits(2, 16, 16),
        "address_register": Bits(3, 0, 3),
        "row_register": Bits(3, 4, 3),
        "col_stride": Bits(3, 16, 16),
    }


_CLASSES: tuple[type[Instruction], ...] = (
    Halt,
    Loop,
    End,
    Set,
    Add,
    Contract,
    Sweep,
    Loss,
    Coefficient,
    Batch,
    Gather,
)
INSTRUCTIONS: dict[Opcode, type[Instruction]] = {kind.OPCODE: kind for kind in _CLASSES}
"""The instruction class of each opcode."""


def encode(program: list[Instruction]) -> list[int]:
    """The words of a program."""
    return [word for instruction in program for word in instruction.encode()]


def decode(words: list[int]) -> list[Instruction]:
    """The instructions of these words. Raises ``ValueError`` with the address of an unknown opcode or a cut end."""
    program: list[Instruction] = []
    address = 0
    while address < len(words):
        opcode = words[address] & 0xFF
        if opcode not in list(Opcode):
            raise ValueError(f"word {address} holds {words[address]:#010x}: {opcode} is no opcode")
        kind = INSTRUCTIONS[Opcode(opcode)]
        if address + kind.WORDS > len(words):
            raise ValueError(f"the program ends inside the {kind.__name__} at word {address}")
        program.append(kind.decode(words[address : address + kind.WORDS]))
        address += kind.WORDS
    return program
