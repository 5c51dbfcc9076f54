"""Requests and answers over a byte stream that may lose, damage or repeat bytes.

Every request is answered, so a lost or damaged packet shows as a time-out and is sent again with its sequence number;
the machine recognises a repeat and does not carry it out twice. Writes and reads of memories may be repeated freely, so
several of them are in flight; after trouble among those a HELLO tells the machine where the numbering goes on.

Writes are longer than their answers: on a serial link the machine is done with one before the next has come, and the
link never rests when those in flight last for a round trip. Reads are shorter than their answers: no more are sent than
the machine has room for, so that a link without flow control loses none.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from tenzo_hw.protocol import ANSWER, RECEIVER_SLOTS, Answer, Kind

from . import packets
from .errors import DeviceLost, RequestRefused
from .packets import Packet
from .transport import Transport

_OUT_OF_ORDER = bytes([Answer.OUT_OF_ORDER])


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

    def close(self) -> None:
        """Closes the transport."""
        self._transport.close()

    def pass_time(self, seconds: float) -> None:
        """Waits on the link: a simulated machine's time passes only while the host reads."""
        self._receive(seconds)

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
                self.request(Kind.HELLO)
                self.recovered += 1
        return answers

    def _pipeline(self, kind: Kind, payloads: Sequence[bytes], answers: list[bytes]) -> None:
        in_flight: deque[int] = deque()
        window = self._window if kind == Kind.WRITE else RECEIVER_SLOTS
        while len(answers) < len(payloads):
            while len(in_flight) < window and len(answers) + len(in_flight) < len(payloads):
                sequence = self._next_sequence()
                self._send(packets.encode(kind, sequence, payloads[len(answers) + len(in_flight)]))
                in_flight.append(sequence)
            answer = self._await(kind, in_flight[0])
            if answer is None or answer[:1] == bytes([Answer.OUT_OF_ORDER]):
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
        if payload[:1] == bytes([Answer.OUT_OF_ORDER]):
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
