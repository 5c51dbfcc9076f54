"""The perturbation generator: C random signs a cycle, and its exact model with skip-ahead.

A LUT-optimised generator (Thomas and Luk, "High quality uniform random number generation using LUT optimised
state-transition matrices", Journal of VLSI Signal Processing 47, 2007): a linear recurrence over GF(2) in which every
next state bit is the XOR of at most four state bits, so it costs one 4-input LUT and one flip-flop a bit. This one has
64 bits and the full period of 2^64-1. One step is one row of signs: those are the low bits of the new state.

A linear generator must never be seeded linearly (the signs of related seeds multiply to constants): the host hashes the
run's seed, and everything after comes from one long stream.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import GENERATOR_BITS

_MASK = (1 << GENERATOR_BITS) - 1
#: The first seed from 0 whose network has a primitive characteristic polynomial.
_NETWORK_SEED = 5


def _hash(value: int) -> int:
    """The output function of splitmix64: a bijection of 64-bit words that is far from linear over GF(2)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31


def _network(seed: int) -> tuple[tuple[int, ...], ...]:
    """For each state bit, the state bits whose XOR is its next value.

    The low half, which gives the signs, reads the high half only: no short relation can then hold among the signs of
    neighbouring rows. The offsets form a Golomb ruler, so two bits share at most one tap; bit 0 has a tap less because
    a matrix of only even rows is singular.
    """
    half = GENERATOR_BITS // 2

    def shuffled(stream: int) -> list[int]:
        return sorted(range(half), key=lambda bit: _hash(3 * seed + stream << 8 | bit))

    hidden, back, mixed = (shuffled(stream) for stream in range(3))
    low = [tuple(half + hidden[(bit + offset) % half] for offset in (0, 1, 4, 10)) for bit in range(half)]
    low[0] = low[0][:3]
    high = [(back[bit], *(half + mixed[(bit + offset) % half] for offset in (0, 1, 4))) for bit in range(half)]
    return (*low, *high)


TAPS = _network(_NETWORK_SEED)
"""For each of the state's bits, the bits whose XOR is its next value."""

# Bit 64 is always zero: it pads the shorter tap lists.
_TAP_INDEX = np.array([[*taps, *[GENERATOR_BITS] * (4 - len(taps))] for taps in TAPS])


def _powers(rows: int) -> np.ndarray:
    """uint64[rows, 64]: entry (r, b) masks the bits of a state whose parity is bit b after r + 1 steps."""
    power = np.array([*(1 << bit for bit in range(GENERATOR_BITS)), 0], dtype=np.uint64)
    powers = np.empty((rows, GENERATOR_BITS), dtype=np.uint64)
    for row in range(rows):
        power[:GENERATOR_BITS] = np.bitwise_xor.reduce(power[_TAP_INDEX], axis=1)
        powers[row] = power[:GENERATOR_BITS]
    return powers


@lru_cache(maxsize=64)
def _sign_masks(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the signs (rows, columns) and of the state after them (64)."""
    powers = _powers(rows)
    return np.ascontiguousarray(powers[:, :columns]), powers[-1].copy()


@lru_cache(maxsize=256)
def _advance_masks(rows: int) -> np.ndarray:
    """Masks of the state after ``rows`` steps, by squaring: uint64[64]."""
    if rows == 1:
        return _powers(1)[0]
    half = _advance_masks(rows // 2)
    power = _compose(half, half)
    return _compose(_advance_masks(1), power) if rows % 2 else power


def _compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The masks of taking ``first`` and then ``second``: the product of two matrices over GF(2)."""
    chosen = second[:, None] >> np.arange(GENERATOR_BITS, dtype=np.uint64) & np.uint64(1)
    return np.bitwise_xor.reduce(chosen * first, axis=1)


def _apply(masks: np.ndarray, state: int) -> int:
    parity = np.bitwise_count(masks & np.uint64(state)) & 1
    return int.from_bytes(np.packbits(parity, bitorder="little").tobytes(), "little")


def advance(state: int, rows: int) -> int:
    """The state after ``rows`` >= 0 steps, one step a sweep row, in a time that grows with log(rows)."""
    return _apply(_advance_masks(rows), state) if rows else state


def signs(state: int, rows: int, columns: int) -> tuple[np.ndarray, int]:
    """The signs of the next ``rows`` >= 1 rows, int8[rows, columns] of +1 and -1, and the state after them.

    Column c of a row is -1 where bit c of the state after that row's step is 1.
    """
    masks, last = _sign_masks(rows, columns)
    parity = np.bitwise_count(masks & np.uint64(state)) & 1
    return 1 - 2 * parity.astype(np.int8), _apply(last, state)


class PerturbationGenerator(wiring.Component):
    """The generator's state register: ``state`` takes ``value`` with ``load``, else one step with ``step``.

    Latency 1 cycle, one row of signs a cycle. The model is ``advance`` and ``signs``.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "load": In(1),
                "value": In(GENERATOR_BITS),
                "step": In(1),
                "state": Out(GENERATOR_BITS, init=1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """One register; one XOR of at most four bits for each of its own."""
        m = Module()
        with m.If(self.load):
            m.d.sync += self.state.eq(self.value)
        with m.Elif(self.step):
            m.d.sync += self.state.eq(Cat(Cat(self.state[tap] for tap in taps).xor() for taps in TAPS))
        return m
