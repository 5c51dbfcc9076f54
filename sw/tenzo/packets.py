"""Packets of the host protocol as bytes: framing, checking and the layout of a status.

Method: SLIP byte stuffing (RFC 1055, with an END at both ends so that noise before a frame costs nothing) and the
CRC-32 of Ethernet. A frame is good when every escape is followed by one of its two codes, it holds a whole packet of at
most ``limit`` payload bytes, its length field is the payload's length and the CRC is right. No byte between two ENDs is
no frame.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from tenzo_hw.protocol import (
    CRC_BYTES,
    FRAME_END,
    FRAME_ESCAPE,
    FRAME_ESCAPED_END,
    FRAME_ESCAPED_ESCAPE,
    HEADER_BYTES,
)

_END = bytes([FRAME_END])
_ESCAPE = bytes([FRAME_ESCAPE])
_STUFFED_END = bytes([FRAME_ESCAPE, FRAME_ESCAPED_END])
_STUFFED_ESCAPE = bytes([FRAME_ESCAPE, FRAME_ESCAPED_ESCAPE])

#: Largest payload that the length field can say.
PAYLOAD_LIMIT = 0xFFFF


class Packet(NamedTuple):
    """One checked packet, request or answer."""

    kind: int
    sequence: int
    payload: bytes


class Status(NamedTuple):
    """What STATUS answers after its ``Answer`` byte."""

    state: int
    fault: int
    free_halves: int
    pc: int
    cycles: int
    waits: int
    steps: int

    def pack(self) -> bytes:
        """The status as it is sent."""
        return _STATUS.pack(*self)

    @classmethod
    def unpack(cls, payload: bytes) -> Status:
        """The status in these bytes. Raises ``ValueError`` when their number is wrong."""
        if len(payload) != _STATUS.size:
            raise ValueError(f"a status has {_STATUS.size} bytes, this one {len(payload)}")
        return cls(*_STATUS.unpack(payload))


_STATUS = struct.Struct("<BBBIQQI")


def encode(kind: int, sequence: int, payload: bytes = b"") -> bytes:
    """The frame of one packet. Raises ``ValueError`` when the payload is longer than its length field can say."""
    if len(payload) > PAYLOAD_LIMIT:
        raise ValueError(f"a packet carries at most {PAYLOAD_LIMIT} bytes, not {len(payload)}")
    body = struct.pack("<BBH", kind, sequence, len(payload)) + payload
    body += zlib.crc32(body).to_bytes(CRC_BYTES, "little")
    return _END + body.replace(_ESCAPE, _STUFFED_ESCAPE).replace(_END, _STUFFED_END) + _END


class Decoder:
    """Finds the good packets in a stream of bytes that may be cut anywhere and damaged.

    ``limit`` is the largest payload that the receiver takes; ``bad`` counts the frames dropped.
    """

    def __init__(self, limit: int = PAYLOAD_LIMIT) -> None:
        self.limit = limit
        self.bad = 0
        self._pending = b""

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that these bytes complete, in order."""
        return [packet for packet in self.frames(data) if packet is not None]

    def frames(self, data: bytes) -> list[Packet | None]:
        """As ``feed``, with None at the place of every bad frame."""
        *ended, pending = (self._pending + data).split(_END)
        # Twice the limit is too long however it is escaped: what follows cannot make the frame good.
        self._pending = pending[: 2 * (self.limit + HEADER_BYTES + CRC_BYTES) + 1]
        frames = [self._packet(frame) for frame in ended if frame]
        self.bad += frames.count(None)
        return frames

    def _packet(self, frame: bytes) -> Packet | None:
        first, *escaped = frame.split(_ESCAPE)
        if any(part[:1] not in _CODES for part in escaped):
            return None
        body = first + b"".join(_CODES[part[:1]] + part[1:] for part in escaped)
        if not HEADER_BYTES + CRC_BYTES <= len(body) <= HEADER_BYTES + self.limit + CRC_BYTES:
            return None
        kind, sequence, length = struct.unpack_from("<BBH", body)
        checked, crc = body[:-CRC_BYTES], body[-CRC_BYTES:]
        if length != len(checked) - HEADER_BYTES or zlib.crc32(checked) != int.from_bytes(crc, "little"):
            return None
        return Packet(kind, sequence, checked[HEADER_BYTES:])


_CODES = {bytes([FRAME_ESCAPED_END]): _END, bytes([FRAME_ESCAPED_ESCAPE]): _ESCAPE}
