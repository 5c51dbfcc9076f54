"""Where everything lies in the serial machine's memories."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..config import ADDRESS_REGISTERS, LOOP_DEPTH, Config
from ..protocol import Register

#: Words of the main memory that an open loop takes: where it begins, and the turns that are left.
LOOP_WORDS = 2
#: Words of a step in the history, and of a loss slot, as the host sees them.
HISTORY_WORDS = 4
SLOT_WORDS = 2
#: Bits of a word in the memory of a batch half.
HALF_BITS = 16


def _power_of_two(words: int) -> int:
    return 1 << (words - 1).bit_length()


@dataclass(frozen=True)
class MainMap:
    """First words in the main memory, each divisible by the power of two that the region fits in."""

    program: int
    masters: int
    momenta: int
    lane: int
    slots: int
    """Losses, ``SLOT_WORDS`` each: the host's upper words stay 0."""
    coefficients: int
    history: int
    """``HISTORY_WORDS`` a step: loss, 0, right samples, 0."""
    registers: int
    """The host's registers."""
    addresses: int
    """The program's address registers."""
    loops: int
    """Open loops, ``LOOP_WORDS`` each."""
    depth: int
    """Words of the memory, a power of two."""

    @classmethod
    def of(cls, config: Config) -> MainMap:
        """The map of a machine: large regions first, so that none has to be moved."""
        sizes = {
            "program": config.program_depth,
            "masters": config.weight_rows * config.columns,
            "momenta": config.weight_rows * config.columns,
            "lane": config.lane_depth,
            "slots": SLOT_WORDS * config.losses,
            "coefficients": config.losses,
            "history": HISTORY_WORDS * config.history,
            "registers": _power_of_two(len(Register)),
            "addresses": ADDRESS_REGISTERS,
            "loops": LOOP_WORDS * LOOP_DEPTH,
        }
        assert set(sizes) == {field.name for field in fields(cls)} - {"depth"}
        places, next_word = {}, 0
        for name, words in sorted(sizes.items(), key=lambda size: -size[1]):
            places[name] = next_word
            next_word += words
        return cls(**places, depth=_power_of_two(next_word))


def target_base(config: Config) -> int:
    """First word of the targets in the memory of a batch half, behind the inputs."""
    return max(config.batch_depth, config.target_depth)


def half_words(config: Config) -> int:
    """Words of the memory of a batch half."""
    return 2 * target_base(config)
