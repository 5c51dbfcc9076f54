"""Random contractions for the engine's benches, and their bits at a port."""

from dataclasses import replace

import numpy as np
from tenzo_hw.config import REDUCTION_LEVELS
from tenzo_hw.isa import Activation, Base, Contract, Level, Operand
from tenzo_hw.layouts import LEVELS, STREAMS, deltas_layout, instruction_layout
from tenzo_hw.nest import output_reach, reach


def packed(contract):
    """The instruction as the bits of ``instruction_layout(Contract)``; its bases need no registers."""
    values = contract._values()
    return (
        instruction_layout(Contract).const({name: values[name] for name, _ in instruction_layout(Contract)}).as_bits()
    )


def packed_deltas(contract):
    """The deltas of its levels, as the bits of ``deltas_layout``."""
    values = contract._values()
    for level in LEVELS:
        given = {stream: values.get(f"{stream}{level}") for stream in STREAMS}
        write = sum(1 << bit for bit, value in enumerate(given.values()) if value is not None)
        words = {stream: value or 0 for stream, value in given.items()}
        yield deltas_layout().const({"level": level, "write": write} | words).as_bits()


def _based(rng, span, low, high):
    """A base with which addresses of this reach stay within low to high - 1; None if there is none."""
    first, last = low - span[0], high - 1 - span[1]
    return int(rng.integers(first, last + 1)) if first <= last else None


def _clipped(ranges, low, high):
    """The parts of ranges within low to high - 1, counted from low."""
    parts = [(max(start, low) - low, min(end, high) - low) for start, end in ranges]
    return [part for part in parts if part[0] < part[1]]


def random_contract(rng, config, *, read=None, written=None, **fixed):
    """A contraction without a fault that reads and writes these ranges of lane words; ``fixed`` fields are given.

    Operands, counts, strides, tile shapes and everything else are random; tiles are often so short that they wait for
    the drain. What reads both banks needs ranges in both.
    """
    bank, depth = config.lane_bank, config.lane_depth
    read, written = read or [(0, depth)], written or [(0, depth)]
    while True:
        operands = [Operand.WORD] * 3
        if not fixed.get("from_batch"):
            operands += [Operand.RELU]
        if not fixed.get("from_batch") and not fixed.get("bias"):
            operands += [Operand.DIFFERENCE, Operand.DIFFERENCE, Operand.STEP, Operand.IDENTITY]
        operand = fixed.get("operand", Operand(int(rng.choice(operands))))
        is_word = operand in (Operand.WORD, Operand.RELU)
        levels = []
        for level in range(6):
            outer = level >= REDUCTION_LEVELS
            count = int(rng.choice([1, 1, 2, 3, 5]))
            a, w, o, b = (int(stride) for stride in rng.integers(-4, 8, size=4))
            levels.append(Level(count, a, w, o if outer else 0, b if outer or operand == Operand.DIFFERENCE else 0))
        cols = int(rng.integers(1, config.columns + 1))
        to_loss, base = bool(rng.integers(2)), Base(int(rng.integers(3)))
        is_difference = to_loss and base == Base.ADD
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
            from_batch=operand == Operand.WORD and bool(rng.integers(2)),
            store=not is_difference and bool(rng.integers(4)),
            to_loss=to_loss,
            bias=is_word and bool(rng.integers(2)),
            one=int(rng.integers(config.word)),
            operand=operand,
            base=base,
            pace=int(rng.choice([0, 0, 1, rng.integers(2, 9), rng.integers(2, 40)])),
            activation=Activation(0 if is_difference else int(rng.integers(2 + config.tables))),
        )
        contract = replace(contract, **fixed)
        if contract.from_batch:
            sources = [(0, config.batch_depth)]
        elif is_word:
            sources = read
        elif operand == Operand.IDENTITY:
            sources = [(0, depth)]
        else:
            sources = _clipped(read, 0, bank)
        rows = (0, config.effective_rows)
        others = _clipped(read, bank, depth) if operand == Operand.DIFFERENCE else [rows]
        targets = [(0, config.losses)] if contract.to_loss and contract.base == Base.ADD else written
        bases = {
            "a_base": _based(rng, reach(contract.levels, "a"), *rng.choice(sources)),
            "w_base": _based(rng, reach(contract.levels, "w"), *rows),
            "o_base": _based(rng, output_reach(contract), *rng.choice(targets)),
            "b_base": _based(rng, reach(contract.levels, "b"), *rng.choice(others)),
        }
        if operand == Operand.IDENTITY and bases["a_base"] is not None:
            # Most rows shall meet a lane.
            bases["a_base"] = int(rng.integers(config.lanes)) - reach(contract.levels, "a")[0]
        if contract.tiles * max(contract.rows, contract.pace) <= 400 and None not in bases.values():
            return replace(contract, **bases)


def random_words(rng, bits, size):
    """Signed words, int64, extremes among them."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    words = rng.integers(low, high + 1, size=size)
    return np.where(rng.random(size) < 0.1, rng.choice([low, high], size=size), words)
