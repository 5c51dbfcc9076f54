"""The host protocol: frames, packets, memory spaces, registers and answers, shared by gateware, model and driver.

A packet is ``kind, sequence, length (2 bytes), payload, CRC-32``; a frame is a packet with the byte stuffing of SLIP
(RFC 1055), so that a receiver finds the next packet after any damage. All numbers are little-endian. The CRC is that of
Ethernet (``zlib.crc32``) over everything before it.
"""

from __future__ import annotations

from enum import IntEnum

MAGIC = 0x4F5A4E54
"""``TNZO`` in the order in which the bytes are sent."""
VERSION = 1

FRAME_END = 0xC0
FRAME_ESCAPE = 0xDB
FRAME_ESCAPED_END = 0xDC
FRAME_ESCAPED_ESCAPE = 0xDD

HEADER_BYTES = 4
CRC_BYTES = 4
#: An answer's kind is its request's with this bit set.
ANSWER = 0x80


class Kind(IntEnum):
    """Requests. Payloads: see docs/machine.md."""

    HELLO = 1
    WRITE = 2
    READ = 3
    RUN = 4
    STATUS = 5
    COMMIT = 6
    ABORT = 7


class Answer(IntEnum):
    """First payload byte of every answer."""

    OK = 0
    BAD_KIND = 1
    BAD_LENGTH = 2
    BAD_ADDRESS = 3
    BUSY = 4
    OUT_OF_ORDER = 5


class Space(IntEnum):
    """Memories that the host reaches; the address counts words."""

    REGISTER = 0
    PROGRAM = 1
    MASTER = 2
    MOMENTUM = 3
    BATCH = 4
    TARGET = 5
    TABLE = 6
    LANE = 7
    LOSS = 8
    HISTORY = 9


class Element(IntEnum):
    """How the words of a WRITE are packed; they are extended to the memory's width."""

    U8 = 0
    S8 = 1
    S16 = 2
    S32 = 3


ELEMENT_BYTES = {Element.U8: 1, Element.S8: 1, Element.S16: 2, Element.S32: 4}


class Register(IntEnum):
    """Words of the REGISTER space; 48- and 64-bit values take two, the low one first."""

    GENERATOR_LOW = 0
    GENERATOR_HIGH = 1
    RATE = 2
    RATE_STEP = 3
    SCALE_LOW = 4
    SCALE_HIGH = 5
    FRAMES = 6
    BAD_FRAMES = 7
    REPEATS = 8


class State(IntEnum):
    IDLE = 0
    RUNNING = 1
    FAILED = 2


class Fault(IntEnum):
    """Why a run failed."""

    NONE = 0
    ADDRESS = 1
    """A contraction or sweep left its memory."""
    OPCODE = 2
    """The program has an unknown opcode, runs off the program memory, or nests loops wrongly."""
    RANGE = 3
    """A field is outside of what this configuration has (columns, outputs, losses, tables, counts of 0)."""
    ABORTED = 4
    """The host sent ABORT."""
