"""The host protocol: frames, packets, memory spaces, registers and answers, shared by gateware, model and driver.

A packet is ``kind, sequence, length (2 bytes), payload, CRC-32``; a frame is a packet with the byte stuffing of SLIP
(RFC 1055), so that a receiver finds the next packet after any damage. All numbers are little-endian. The CRC is that of
Ethernet (``zlib.crc32``) over everything before it.
"""

from __future__ import annotations

from enum import IntEnum

from .config import Config

MAGIC = 0x4F5A4E54
"""``TNZO`` in the order in which the bytes are sent."""
VERSION = 3

FRAME_END = 0xC0
FRAME_ESCAPE = 0xDB
FRAME_ESCAPED_END = 0xDC
FRAME_ESCAPED_ESCAPE = 0xDD

HEADER_BYTES = 4
CRC_BYTES = 4
#: Bits a second of a serial line where nothing else is said: the most that the usual USB serial chips offer.
BAUD = 3_000_000
#: Fewest clock cycles of a bit on a serial line.
BIT_CYCLES = 8
#: Fewest clock cycles from one byte to the next on a serial line: ten bits from a host whose baud is 5 % too high.
BYTE_CYCLES = int(0.95 * 10 * BIT_CYCLES)
#: Bytes of the number that tells a machine which was switched off from one that was not: 0 after power-on, then what
#: the last HELLO with a payload said.
SESSION_BYTES = 2
#: Whole packets that the machine keeps: one is carried out while the next one waits or comes in.
RECEIVER_SLOTS = 2
#: An answer's kind is its request's with this bit set.
ANSWER = 0x80


class Kind(IntEnum):
    """Requests. Payloads: see docs/machine.md."""

    HELLO = 1
    """Who are you? Always carried out, and the first packet to be carried out after power-on."""
    WRITE = 2
    """Writes consecutive words."""
    READ = 3
    """Reads consecutive words."""
    RUN = 4
    """Starts the program."""
    STATUS = 5
    """How is the run?"""
    COMMIT = 6
    """The batch half being filled is complete."""
    ABORT = 7
    """Stops a run and empties the batch halves."""


class Answer(IntEnum):
    """First payload byte of every answer."""

    OK = 0
    """Carried out."""
    BAD_KIND = 1
    """No such request."""
    BAD_LENGTH = 2
    """The payload has another length than the request needs."""
    BAD_ADDRESS = 3
    """No such space, not readable or writable, or outside of it."""
    BUSY = 4
    """Not now: a run goes on, or no batch half is free."""
    OUT_OF_ORDER = 5
    """Another sequence number is expected."""


class Space(IntEnum):
    """Memories that the host reaches; the address counts words."""

    REGISTER = 0
    """See Registers."""
    PROGRAM = 1
    """Instructions."""
    MASTER = 2
    """Master weights."""
    MOMENTUM = 3
    """Momentum."""
    BATCH = 4
    """Inputs of the half being filled."""
    TARGET = 5
    """Labels or targets of the half being filled."""
    TABLE = 6
    """Activation tables."""
    LANE = 7
    """Activation memories."""
    LOSS = 8
    """Loss slots."""
    HISTORY = 9
    """Loss and number correct of each step."""


class Element(IntEnum):
    """How the words of a WRITE are packed; they are extended to the memory's width."""

    U8 = 0
    """Unsigned bytes."""
    S8 = 1
    """Signed bytes."""
    S16 = 2
    """Signed 16-bit words."""
    S32 = 3
    """32-bit words."""
    SPARSE = 4
    """Bytes: one up to 128 is an unsigned word, a larger one b stands for b - 127 zeros."""


#: Bytes of a word, in all elements but SPARSE.
ELEMENT_BYTES = {Element.U8: 1, Element.S8: 1, Element.S16: 2, Element.S32: 4}
#: Largest byte of SPARSE that is a word: 1.0 with the 7 fraction bits of 9-bit inputs, so that pixels fit.
SPARSE_LARGEST = 128
#: Zeros of the largest byte of SPARSE.
SPARSE_LONGEST = 256 - SPARSE_LARGEST


class Register(IntEnum):
    """Words of the REGISTER space; 48- and 64-bit values take two, the low one first."""

    GENERATOR_LOW = 0
    """State of the perturbation generator."""
    GENERATOR_HIGH = 1
    """Its upper half."""
    RATE = 2
    """Master steps a coefficient, with RATE_FRACTION fraction bits."""
    RATE_STEP = 3
    """What every COEFFICIENT takes off the rate."""
    SCALE_LOW = 4
    """Running sum of the loss differences."""
    SCALE_HIGH = 5
    """Its upper 16 bits."""
    FRAMES = 6
    """Good packets received."""
    BAD_FRAMES = 7
    """Packets dropped for a wrong CRC, length or framing."""
    REPEATS = 8
    """Packets received once more."""


class State(IntEnum):
    """What STATUS answers."""

    IDLE = 0
    """No run."""
    RUNNING = 1
    """A run goes on."""
    FAILED = 2
    """The last run stopped at a fault."""


class Fault(IntEnum):
    """Why a run failed."""

    NONE = 0
    """It did not."""
    ADDRESS = 1
    """A contraction or sweep left its memory."""
    OPCODE = 2
    """The program has an unknown opcode, runs off the program memory, or nests loops wrongly."""
    RANGE = 3
    """A field is outside of what this configuration has (columns, outputs, losses, tables, counts of 0)."""
    ABORTED = 4
    """The host sent ABORT."""


def space_words(config: Config) -> dict[Space, int]:
    """Number of addresses of each space, as in the table of memories in docs/machine.md."""
    weights = config.weight_rows << (config.columns - 1).bit_length()
    return {
        Space.REGISTER: len(Register),
        Space.PROGRAM: config.program_depth,
        Space.MASTER: weights,
        Space.MOMENTUM: weights,
        Space.BATCH: config.lanes * config.batch_depth,
        Space.TARGET: config.target_depth,
        Space.TABLE: 2 * config.tables << config.table_bits,
        Space.LANE: config.lanes * config.lane_depth,
        Space.LOSS: 2 * config.losses,
        Space.HISTORY: 4 * config.history,
    }


#: What the host can do with a space; all of it only while no run goes on, except writes to BATCH and TARGET.
READABLE = frozenset(Space) - {Space.BATCH, Space.TARGET, Space.TABLE}
WRITABLE = frozenset(Space) - {Space.LANE, Space.LOSS, Space.HISTORY}
#: Spaces of the batch half being filled.
BATCH_SPACES = frozenset({Space.BATCH, Space.TARGET})

#: Bits of the link's counters FRAMES, BAD_FRAMES and REPEATS; they wrap.
COUNTER_BITS = 16
