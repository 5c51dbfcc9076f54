"""The machine's end of the host protocol in Python: the same answers, byte for byte, as the link's gateware gives."""

from __future__ import annotations

import struct
from typing import Protocol

import numpy as np
from tenzo import sparse
from tenzo.packets import Decoder, Packet, Status, encode
from tenzo_hw.config import Config
from tenzo_hw.protocol import (
    ANSWER,
    BATCH_SPACES,
    COUNTER_BITS,
    ELEMENT_BYTES,
    MAGIC,
    READABLE,
    SESSION_BYTES,
    VERSION,
    WRITABLE,
    Answer,
    Element,
    Kind,
    Register,
    Space,
    State,
    space_words,
)

_WRITE_HEADER = struct.Struct("<BBI")
_READ = struct.Struct("<BIH")
_RUN = struct.Struct("<HI")
_NUMPY = {Element.U8: "<u1", Element.S8: "<i1", Element.S16: "<i2", Element.S32: "<i4"}

#: Registers that the link keeps.
_COUNTERS = (Register.FRAMES, Register.BAD_FRAMES, Register.REPEATS)
#: Requests that are carried out again when they are repeated: they change nothing.
_HARMLESS = (Kind.HELLO, Kind.READ, Kind.STATUS)


class Target(Protocol):
    """What the endpoint drives: a machine without its link. Requests are checked before they get here."""

    @property
    def config(self) -> Config:
        """The machine's configuration."""
        ...

    def read(self, space: Space, address: int) -> int:
        """A word of a memory or register; its low 32 bits are sent."""
        ...

    def write(self, space: Space, address: int, value: int) -> None:
        """Writes a word, ``value`` being a signed 32-bit number (unsigned for U8 and SPARSE)."""
        ...

    def run(self, pc: int, repeat: int) -> None:
        """Starts the program."""
        ...

    def abort(self) -> None:
        """Stops a run and frees both batch halves."""
        ...

    def commit(self) -> None:
        """The half being filled is ready for BATCH."""
        ...

    def status(self) -> Status:
        """The machine's state now."""
        ...


class Endpoint:
    """Turns received bytes into requests to ``target`` and gives the bytes of the answers."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._words = space_words(target.config)
        self._decoder = Decoder(target.config.packet)
        self._expected = 0
        self._greeted = False
        self._session = 0
        # Nothing was carried out yet, so nothing can be repeated.
        self._last = Answer.OUT_OF_ORDER
        self._counters: dict[Register, int] = {register: 0 for register in _COUNTERS}

    def receive(self, data: bytes) -> bytes:
        """The answers to the packets that these bytes complete."""
        answers = []
        for packet in self._decoder.frames(data):
            if packet is None:
                self._count(Register.BAD_FRAMES)
            else:
                self._count(Register.FRAMES)
                answers.append(encode(packet.kind | ANSWER, packet.sequence, self._answer(packet)))
        return b"".join(answers)

    def _count(self, register: Register) -> None:
        self._counters[register] = (self._counters[register] + 1) % (1 << COUNTER_BITS)

    def _answer(self, packet: Packet) -> bytes:
        repeat = self._greeted and packet.sequence == (self._expected - 1) & 0xFF
        if repeat:
            self._count(Register.REPEATS)
        expected = self._greeted and packet.sequence == self._expected
        if expected or packet.kind == Kind.HELLO or (repeat and packet.kind in _HARMLESS):
            self._expected = (packet.sequence + 1) & 0xFF
            self._last = self._refusal(packet)
            if self._last == Answer.OK:
                self._carry_out(packet)
            answer = self._last
        else:
            answer = self._last if repeat else Answer.OUT_OF_ORDER
        return bytes([answer]) + (self._result(packet) if answer == Answer.OK else b"")

    def _refusal(self, packet: Packet) -> Answer:
        """Why the packet cannot be carried out, or OK."""
        running = self._target.status().state == State.RUNNING
        full = self._target.status().free_halves == 0
        length = len(packet.payload)
        match packet.kind:
            case Kind.HELLO if length not in (0, SESSION_BYTES):
                return Answer.BAD_LENGTH
            case Kind.STATUS | Kind.ABORT | Kind.COMMIT if length:
                return Answer.BAD_LENGTH
            case Kind.COMMIT:
                return Answer.BUSY if full else Answer.OK
            case Kind.HELLO | Kind.STATUS | Kind.ABORT:
                return Answer.OK
            case Kind.RUN:
                if length != _RUN.size:
                    return Answer.BAD_LENGTH
                pc, _ = _RUN.unpack(packet.payload)
                if pc >= self._target.config.program_depth:
                    return Answer.BAD_ADDRESS
                return Answer.BUSY if running else Answer.OK
            case Kind.READ:
                if length != _READ.size:
                    return Answer.BAD_LENGTH
                space, address, count = _READ.unpack(packet.payload)
                if not 1 <= count <= (self._target.config.packet - 1) // 4:
                    return Answer.BAD_LENGTH
                if space not in READABLE or address + count > self._words[Space(space)]:
                    return Answer.BAD_ADDRESS
                return Answer.BUSY if running else Answer.OK
            case Kind.WRITE:
                if length < _WRITE_HEADER.size:
                    return Answer.BAD_LENGTH
                space, element, address = _WRITE_HEADER.unpack_from(packet.payload)
                data = packet.payload[_WRITE_HEADER.size :]
                if not data or element not in list(Element) or len(data) % ELEMENT_BYTES.get(Element(element), 1):
                    return Answer.BAD_LENGTH
                count = len(_words(Element(element), data))
                if space not in WRITABLE or address + count > self._words[Space(space)]:
                    return Answer.BAD_ADDRESS
                return Answer.BUSY if (full if space in BATCH_SPACES else running) else Answer.OK
        return Answer.BAD_KIND

    def _carry_out(self, packet: Packet) -> None:
        match packet.kind:
            case Kind.HELLO:
                self._greeted = True
                if packet.payload:
                    self._session = int.from_bytes(packet.payload, "little")
            case Kind.WRITE:
                space, element, address = _WRITE_HEADER.unpack_from(packet.payload)
                self.write(Space(space), address, _words(Element(element), packet.payload[_WRITE_HEADER.size :]))
            case Kind.RUN:
                self._target.run(*_RUN.unpack(packet.payload))
            case Kind.COMMIT:
                self._target.commit()
            case Kind.ABORT:
                self._target.abort()

    def _result(self, packet: Packet) -> bytes:
        """What follows OK in the answer."""
        match packet.kind:
            case Kind.HELLO:
                words = self._target.config.words()
                return struct.pack(f"<IHH{len(words)}II", MAGIC, VERSION, len(words), *words, self._session)
            case Kind.READ:
                space, address, count = _READ.unpack(packet.payload)
                words = [self._read(Space(space), address + index) & 0xFFFFFFFF for index in range(count)]
                return struct.pack(f"<{count}I", *words)
            case Kind.STATUS:
                return self._target.status().pack()
            case Kind.COMMIT:
                return bytes([self._target.status().free_halves])
        return b""

    def _read(self, space: Space, address: int) -> int:
        if space == Space.REGISTER and Register(address) in self._counters:
            return self._counters[Register(address)]
        return self._target.read(space, address)

    def write(self, space: Space, address: int, values: np.ndarray) -> None:
        """Writes words at consecutive addresses, one by one: a target that can do better has its own endpoint."""
        for offset, value in enumerate(values.tolist()):
            if space == Space.REGISTER and Register(address + offset) in self._counters:
                self._counters[Register(address + offset)] = value % (1 << COUNTER_BITS)
            else:
                self._target.write(space, address + offset, value)


def _words(element: Element, data: bytes) -> np.ndarray:
    """The words that a WRITE's data stand for."""
    if element == Element.SPARSE:
        return sparse.decode(np.frombuffer(data, dtype=np.uint8))
    return np.frombuffer(data, dtype=_NUMPY[element])
