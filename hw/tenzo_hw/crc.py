"""The CRC of packets, a byte a cycle: that of Ethernet, as ``zlib.crc32``."""

from __future__ import annotations

from functools import reduce
from operator import xor

from amaranth.hdl import Cat, Const, Signal, Value

CRC_BITS = 32
#: The polynomial, lowest power first in the highest bit.
_POLYNOMIAL = 0xEDB88320
#: The register before the first byte; a packet's CRC is the register's complement behind its last one.
CRC_START = 0xFFFFFFFF
#: The register behind a packet and its CRC.
CRC_RESIDUE = 0xDEBB20E3


def crc_step(register: Signal, folded: Value) -> Value:
    """The register's next value; ``folded``: its low byte XOR a byte of the packet. With 0 it moves down by a byte."""
    terms: list[list[Value]] = [[register[place + 8]] if place < CRC_BITS - 8 else [] for place in range(CRC_BITS)]
    for bit in range(8):
        effect = 1 << bit
        for _ in range(8):
            effect = effect >> 1 ^ (_POLYNOMIAL if effect & 1 else 0)
        for place in range(CRC_BITS):
            if effect >> place & 1:
                terms[place].append(folded[bit])
    return Cat(reduce(xor, bits, Const(0, 1)) for bits in terms)
