"""A contraction as one matrix product, from views of the memories that are made once and used for thousands of steps.

The engine's own model (``tenzo_hw.engine.model``) goes tile by tile; a ``Plan`` gives the same words wherever
``Plan.make`` makes one, a hundred times faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import replace

import numpy as np
from tenzo_hw import engine, epilogue
from tenzo_hw.config import GUARD_BITS, REDUCTION_LEVELS, Config
from tenzo_hw.isa import Contract
from tenzo_hw.nest import activations, output_reach, outputs, reach, tile_cols

from .memories import Memories

#: Integers below 2**24 are exact in a float32, in a float64 below 2**53.
_FLOAT32_BITS = 24

#: Does a contraction with the batch half's number: int64[L, results] for the loss accumulator in the order in which
#: they drain (none if it gets none), or None when an address is outside of its memory.
Contraction = Callable[[int], np.ndarray | None]
_NOTHING = np.zeros((0, 0), np.int64)


class Scratch:
    """Room for intermediate values that all plans of a machine share: few arrays stay in the processor's cache."""

    def __init__(self) -> None:
        self._arrays: dict[Hashable, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """The array of this name and shape; what it holds is anybody's."""
        return self._arrays.setdefault((name, shape, dtype), np.empty(shape, dtype))


def _strided(memory: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """A view of a contiguous memory; offset and strides count words."""
    steps = tuple(memory.itemsize * stride for stride in strides)
    return np.lib.stride_tricks.as_strided(memory.reshape(-1)[offset:], shape, steps)


def _signed(stride: int) -> int:
    """A 16-bit address step as the nearest integer."""
    return (stride + 0x8000 & 0xFFFF) - 0x8000


def _inside(base: int, span: tuple[int, int], words: int) -> bool:
    return base + span[0] >= 0 and base + span[1] < words


class Plan:
    """One contraction with its bases resolved, bound to the memories of one machine."""

    def __init__(self, config: Config, contract: Contract, memories: Memories, scratch: Scratch) -> None:
        lanes, width, cols, rows = config.lanes, config.columns, contract.cols, contract.rows
        levels = contract.levels
        reduction = list(range(REDUCTION_LEVELS))[::-1]
        turning = [n for n in reversed(range(REDUCTION_LEVELS, len(levels))) if levels[n].count > 1]
        moving = {n for n in turning if levels[n].w or (contract.bias and levels[n].b)}
        both = [n for n in turning if n in moving and levels[n].a]
        tiles = [n for n in turning if n in moving and not levels[n].a]
        positions = [n for n in turning if n not in moving]

        def counts(*numbers: int) -> tuple[int, ...]:
            return tuple(levels[n].count for n in numbers)

        def steps(stream: str, numbers: list[int], words: int = 1) -> tuple[int, ...]:
            return tuple(words * getattr(levels[n], stream) for n in numbers)

        # The product: [both, L x positions, K] by [both, K, tiles x cols]. A bias row meets a constant first column.
        bits = 2 * (config.word - 1) + rows.bit_length()
        exact = np.float32 if bits < _FLOAT32_BITS else np.float64
        batch, height, across = (math.prod(counts(*some)) for some in (both, positions, tiles))
        self._left = scratch.take("left", (batch, lanes * height, rows), exact)
        self._right = scratch.take("right", (batch, rows, across * cols), exact)
        self._product = scratch.take("product", (batch, lanes * height, across * cols), exact)
        self._one = 1 << contract.one if contract.bias else None
        skip = int(contract.bias)

        depth = config.batch_depth if contract.from_batch else config.lane_depth
        shape = (*counts(*both), lanes, *counts(*positions, *reduction))
        strides = (*steps("a", both), depth, *steps("a", [*positions, *reduction]))
        sources = list(memories.batch) if contract.from_batch else [memories.lanes] * 2
        self._sources = [_strided(source, contract.a_base, shape, strides) for source in sources]
        self._activations = self._left[..., skip:].reshape(shape)

        shape = (*counts(*both, *reduction, *tiles), cols)
        strides = (*steps("w", [*both, *reduction, *tiles], width), 1)
        self._weights_source = _strided(memories.effective, contract.w_base * width, shape, strides)
        self._weights = self._right[:, skip:].reshape(shape)
        if contract.bias:
            shape = (*counts(*both, *tiles), cols)
            strides = (*steps("b", [*both, *tiles], width), 1)
            self._bias_source = _strided(memories.effective, contract.b_base * width, shape, strides)
            self._bias = self._right[:, 0].reshape(shape)

        # Results [both, L, positions, tiles, cols]; the last turn of one level may have fewer columns.
        self._shape = (*counts(*both), lanes, *counts(*positions, *tiles), cols)
        axis_of = {n: axis for axis, n in enumerate([*both, None, *positions, *tiles])}
        everything = (slice(None),) * len(axis_of)
        ragged = REDUCTION_LEVELS + contract.tile_level
        parts = [(*everything, slice(contract.last_cols))]
        if ragged in axis_of and contract.last_cols < cols:
            before, after = everything[: axis_of[ragged]], everything[axis_of[ragged] + 1 :]
            parts = [
                (*before, slice(-1), *after, slice(None)),
                (*before, slice(-1, None), *after, slice(contract.last_cols)),
            ]
        self._stores = []
        if contract.store:
            strides = (*steps("o", both), config.lane_depth, *steps("o", [*positions, *tiles]))
            target = _strided(memories.lanes, contract.o_base, self._shape, (*strides, _signed(contract.col_stride)))
            self._stores = [(target[part], part) for part in parts]

        self._drain = (axis_of[None], *(axis_of[n] for n in turning), len(axis_of))
        self._drained = np.flatnonzero(np.arange(cols) < tile_cols(contract)[:, None])
        self._config = config
        self._contract = contract
        self._tables = memories.tables

    @classmethod
    def make(cls, config: Config, contract: Contract, memories: Memories, scratch: Scratch) -> Plan | None:
        """The plan of a contraction whose bases hold the address registers; None where only the engine's model will do.

        That is when an address is outside of its memory, when results overwrite each other, when a tile reads what an
        earlier tile of the same contraction wrote, or when the accumulator may not hold the full sum.
        """
        outer = contract.levels[REDUCTION_LEVELS:]
        depth = config.batch_depth if contract.from_batch else config.lane_depth
        inside = (
            _inside(contract.a_base, reach(contract.levels, "a"), depth)
            and _inside(contract.w_base, reach(contract.levels, "w"), config.effective_rows)
            and (not contract.bias or _inside(contract.b_base, reach(outer, "b"), config.effective_rows))
            and (not contract.store or _inside(contract.o_base, output_reach(contract), config.lane_depth))
        )
        if not inside or contract.rows > 1 << GUARD_BITS or contract.one > config.word - 2:
            return None
        if contract.store:
            addresses, valid = outputs(contract, contract.o_base)
            written = addresses[valid]
            if len(np.unique(written)) < len(written):
                return None
            if not contract.from_batch:
                tile = np.full(config.lane_depth, contract.tiles)
                tile[written] = np.nonzero(valid)[0]
                read = activations(contract, contract.a_base).reshape(contract.tiles, -1)[:, int(contract.bias) :]
                if (tile[read] < np.arange(contract.tiles)[:, None]).any():
                    return None
        return cls(config, contract, memories, scratch)

    def run(self, half: int) -> np.ndarray:
        """Does the contraction with the batch's ``half``; returns what goes to the loss accumulator."""
        self._activations[...] = self._sources[half]
        self._weights[...] = self._weights_source
        if self._one is not None:
            self._left[..., 0] = self._one
            self._bias[...] = self._bias_source
        np.matmul(self._left, self._right, out=self._product)
        contract, sums = self._contract, self._product.astype(np.int64)
        results = epilogue.model(self._config, contract, sums, self._tables)
        results = results.reshape(self._shape)
        for target, part in self._stores:
            target[...] = results[part]
        if contract.to_loss:
            return results.transpose(self._drain).reshape(self._config.lanes, -1)[:, self._drained]
        return _NOTHING


def contraction(
    config: Config, contract: Contract, registers: tuple[int, int, int, int], memories: Memories, scratch: Scratch
) -> Contraction:
    """How to do ``contract`` again and again with these address registers (of streams a, w, o and b)."""
    a, w, o, b = registers
    resolved = replace(
        contract,
        a_base=(contract.a_base + a) & 0xFFFF,
        w_base=(contract.w_base + w) & 0xFFFF,
        o_base=(contract.o_base + o) & 0xFFFF,
        b_base=(contract.b_base + b) & 0xFFFF,
    )
    plan = Plan.make(config, resolved, memories, scratch)
    if plan is not None:
        return plan.run

    def run(half: int) -> np.ndarray | None:
        batch = memories.batch[half]
        return engine.model(config, resolved, memories.lanes, batch, memories.effective, memories.tables)

    return run
