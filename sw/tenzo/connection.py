"""Requests and answers over a byte stream that may lose, damage or repeat bytes.

Every request is answered, so a lost or damaged packet shows as a time-out and is sent again with its sequence number;
the machine recognises a repeat and does not carry it out twice. Writes and reads of memories may be repeated freely, so
several of them are in flight; after trouble among those a HELLO tells the machine where the numbering goes on.

A serial line has no flow control, and needs none. The next write follows one that is in flight no sooner than the
machine is done with that: the few that are longer to carry out than to send, such as runs of zeros, are followed by
ENDs, which are no frames. Reads are shorter than their answers: no more are sent than the machine has room for.

A machine that was switched off has forgotten everything and says so: nothing is answered before a HELLO, and the number
of the session is asked for whenever the numbering is agreed on again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from tenzo_hw.protocol import (
    ANSWER,
    BIT_CYCLES,
    BYTE_CYCLES,
    FRAME_END,
    RECEIVER_SLOTS,
    SESSION_BYTES,
    Answer,
    Element,
    Kind,
)
from tenzo_hw.timing import write_cycles

from . import packets, sparse
from .errors import DeviceLost, RequestRefused
from .packets import Packet
from .transport import Transport

_OUT_OF_ORDER = bytes([Answer.OUT_OF_ORDER])
#: Bytes of a WRITE before its data, and of its answer at most: two ENDs, header, answer and CRC, of which sequence
#: number and CRC may be stuffed.
_WRITE_HEADER_BYTES = 6
_WRITE_ANSWER_BYTES = 16
#: Cycles of a byte that the machine sends: ten bits and one.
_ANSWER_BYTE_CYCLES = 10 * BIT_CYCLES + 1
#: What the line carries while the host waits without falling silent.
_FILL = bytes([FRAME_END])
#: Sessions that there are; 0 is that of a machine that was just switched on.
_SESSIONS = (1 << 8 * SESSION_BYTES) - 1


class _Interrupted(Exception):
    """A packet in flight was lost: the numbering must be agreed on again."""


class Connection:
    """The requests' side of ``transport``.

    A request is given up, with ``DeviceLost``, after ``attempts`` time-outs of ``timeout_s`` seconds; ``window`` writes
    are in flight at a time. ``recovered`` counts the losses that were overcome.
    """

    def __init__(self, transport: Transport, *, timeout_s: float, attempts: int, window: int) -> None:
        self.recovered = 0
        self._transport = transport
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._window = window
        self._decoder = packets.Decoder()
        self._arrived: deque[Packet] = deque()
        self._sequence = 0
        self._session: int | None = None

    def close(self) -> None:
        """Closes the transport."""
        self._transport.close()

    def pass_time(self, seconds: float) -> None:
        """Waits on the link: a simulated machine's time passes only while the host reads."""
        self._receive(seconds)

    def begin(self, last: int) -> None:
        """Starts the session after ``last``: a machine that is switched off in it does not go unnoticed."""
        session = last % _SESSIONS + 1
        self.request(Kind.HELLO, session.to_bytes(SESSION_BYTES, "little"))
        self._session = session

    def request(self, kind: Kind, payload: bytes = b"") -> bytes:
        """The answer's payload; the same packet is sent again until it is answered."""
        sequence = self._next_sequence()
        frame = packets.encode(kind, sequence, payload)
        for attempt in range(self._attempts):
            self._send(frame)
            answer = self._await(kind, sequence)
            if answer is not None:
                self.recovered += attempt > 0
                return self._accepted(kind, answer)
        raise DeviceLost(
            f"the device does not answer {kind.name}: {self._attempts} attempts of {self._timeout_s} s each failed"
        )

    def exchange(self, kind: Kind, payloads: Sequence[bytes]) -> list[bytes]:
        """The answers' payloads of WRITEs or READs; several of them are in flight."""
        answers: list[bytes] = []
        failures = 0
        while len(answers) < len(payloads):
            before = len(answers)
            try:
                self._pipeline(kind, payloads, answers)
            except _Interrupted:
                failures = 1 if len(answers) > before else failures + 1
                if failures >= self._attempts:
                    raise DeviceLost(f"the link loses packets: {failures} attempts of one {kind.name} failed") from None
                self._resume()
                self.recovered += 1
        return answers

    def _resume(self) -> None:
        """Agrees on the numbering again. Raises ``DeviceLost`` when it is not the machine that it was."""
        session = int.from_bytes(self.request(Kind.HELLO)[-4:], "little")
        if session != self._session:
            raise DeviceLost("the device lost its memories: it was switched off, or someone else drives it")

    def _pipeline(self, kind: Kind, payloads: Sequence[bytes], answers: list[bytes]) -> None:
        in_flight: deque[int] = deque()
        busy = 0
        window = self._window if kind == Kind.WRITE else RECEIVER_SLOTS
        while len(answers) < len(payloads):
            while len(in_flight) < window and len(answers) + len(in_flight) < len(payloads):
                sequence = self._next_sequence()
                payload = payloads[len(answers) + len(in_flight)]
                frame = packets.encode(kind, sequence, payload)
                self._send(_FILL * (busy - len(frame)) + frame)
                busy = _write_bytes(payload) if kind == Kind.WRITE else 0
                in_flight.append(sequence)
            answer = self._await(kind, in_flight[0])
            if answer is None or answer[:1] == _OUT_OF_ORDER:
                raise _Interrupted
            answers.append(self._accepted(kind, answer))
            in_flight.popleft()

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & 0xFF
        return self._sequence

    def _await(self, kind: Kind, sequence: int) -> bytes | None:
        """The payload of the answer with this number, or None when it does not come in time."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            while self._arrived:
                packet = self._arrived.popleft()
                if packet.kind == kind | ANSWER and packet.sequence == sequence:
                    return packet.payload
            left = deadline - time.monotonic()
            if left <= 0 or not self._receive(left):
                return None

    def _accepted(self, kind: Kind, payload: bytes) -> bytes:
        if payload[:1] == bytes([Answer.OK]):
            return payload[1:]
        if payload[:1] == _OUT_OF_ORDER:
            raise DeviceLost(f"the device lost its place at {kind.name}: it was switched off or someone else drives it")
        name = Answer(payload[0]).name if payload and payload[0] in list(Answer) else payload[:1].hex()
        busy = ": a run goes on or no batch half is free" if name == "BUSY" else ""
        raise RequestRefused(f"the device refuses {kind.name} with {name}{busy}")

    def _send(self, frame: bytes) -> None:
        try:
            self._transport.write(frame)
        except OSError as error:
            raise DeviceLost(f"the device is gone: {error}") from None

    def _receive(self, timeout_s: float) -> bytes:
        try:
            data = self._transport.read(timeout_s)
        except OSError as error:
            raise DeviceLost(f"the device is gone: {error}") from None
        self._arrived.extend(self._decoder.feed(data))
        return data


def _write_bytes(payload: bytes) -> int:
    """Bytes that the fastest line carries while a machine carries this WRITE out and answers it."""
    element, data = Element(payload[1]), payload[_WRITE_HEADER_BYTES:]
    words = int(sparse.lengths(np.frombuffer(data, np.uint8)).sum()) if element == Element.SPARSE else 0
    cycles = write_cycles(element, len(data), words) + _WRITE_ANSWER_BYTES * _ANSWER_BYTE_CYCLES
    return -(-cycles // BYTE_CYCLES)
