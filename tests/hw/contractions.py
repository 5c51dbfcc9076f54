"""Random contractions for the engine's benches, and their bits at a port."""

from dataclasses import replace

import numpy as np
from tenzo_hw.config import REDUCTION_LEVELS
from tenzo_hw.isa import Activation, Contract, Level
from tenzo_hw.nest import output_reach, reach


def packed(contract):
    """The instruction as the bits of ``instruction_layout(Contract)``; its bases need no registers."""
    word = position = 0
    values = contract._values()
    for name, bits in Contract.FIELDS.items():
        if name != "wait":
            word |= (values[name] & (1 << bits.width) - 1) << position
            position += bits.width
    return word


def _based(rng, span, low, high):
    """A base with which addresses of this reach stay within low to high - 1; None if there is none."""
    first, last = low - span[0], high - 1 - span[1]
    return int(rng.integers(first, last + 1)) if first <= last else None


def random_contract(rng, config, *, read=None, written=None, **fixed):
    """A contraction without a fault that reads and writes these ranges of lane words; ``fixed`` fields are given.

    Counts, strides, tile shapes and everything else are random; tiles are often so short that they wait for the drain.
    """
    read, written = read or (0, config.lane_depth), written or (0, config.lane_depth)
    while True:
        levels = []
        for level in range(6):
            outer = level >= REDUCTION_LEVELS
            count = int(rng.choice([1, 1, 2, 3, 5]))
            a, w, o, b = (int(stride) for stride in rng.integers(-4, 8, size=4))
            levels.append(Level(count, a, w, *((o, b) if outer else ())))
        cols = int(rng.integers(1, config.columns + 1))
        contract = Contract(
            a_base=0,
            w_base=0,
            o_base=0,
            levels=tuple(levels),
            cols=cols,
            last_cols=int(rng.integers(1, cols + 1)),
            col_stride=int(rng.integers(-2, 6)) & 0xFFFF,
            shift=int(rng.choice([rng.integers(0, 8), rng.integers(0, 64)])),
            tile_level=int(rng.integers(4)),
            from_batch=bool(rng.integers(2)),
            store=bool(rng.integers(4)),
            to_loss=bool(rng.integers(2)),
            bias=bool(rng.integers(2)),
            one=int(rng.integers(config.word - 1)),
            activation=Activation(int(rng.integers(2 + config.tables))),
        )
        contract = replace(contract, **fixed)
        source = (0, config.batch_depth) if contract.from_batch else read
        rows = (0, config.effective_rows)
        outer = contract.levels[REDUCTION_LEVELS:]
        bases = {
            "a_base": _based(rng, reach(contract.levels, "a"), *source),
            "w_base": _based(rng, reach(contract.levels, "w"), *rows),
            "o_base": _based(rng, output_reach(contract), *written),
            "b_base": _based(rng, reach(outer, "b"), *rows),
        }
        if contract.tiles * contract.rows <= 400 and None not in bases.values():
            return replace(contract, **bases)


def random_words(rng, bits, size):
    """Signed words, int64, extremes among them."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    words = rng.integers(low, high + 1, size=size)
    return np.where(rng.random(size) < 0.1, rng.choice([low, high], size=size), words)
