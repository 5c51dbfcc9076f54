"""The driver of a machine: its memories, registers, programs and runs, the same over any transport."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import fields
from types import TracebackType

import numpy as np
from tenzo_hw.check import check
from tenzo_hw.config import Config
from tenzo_hw.hazards import hazards
from tenzo_hw.isa import Instruction, encode
from tenzo_hw.numbers import bounds
from tenzo_hw.protocol import (
    MAGIC,
    SPARSE_LARGEST,
    VERSION,
    Element,
    Fault,
    Kind,
    Register,
    Space,
    State,
    space_words,
)

from . import sparse
from .connection import Connection
from .errors import DeviceError, RunFailed, WrongDevice
from .packets import Status
from .transport import Transport

_WRITE_HEADER = struct.Struct("<BBI")
_READ_HEADER = struct.Struct("<BIH")
_RUN = struct.Struct("<HI")
_HELLO = struct.Struct("<IHH")
_NUMPY = {Element.U8: "<u1", Element.S8: "<i1", Element.S16: "<i2", Element.S32: "<i4"}

#: Writes in flight: USB serial chips of FTDI hold answers back for 16 ms or until they are 62 bytes (AN232B-04), which
#: those of 6 writes are. Others must be on their way meanwhile.
WRITES_IN_FLIGHT = 16
#: Turns of a RUN's loops that a program is checked for: after them every 16-bit address has come round.
CHECKED_TURNS = 1 << 16
#: Seconds between two looks at a run.
POLL_S = 0.005
#: Looks at a run without a cycle of progress after which nobody will send the batch that it waits for.
STALLED_POLLS = 3
#: Looks at an aborted run: an instruction, at most a contraction of a whole layer, ends within them.
ABORT_POLLS = 100


class Device:
    """A machine behind ``transport``; the first thing said is HELLO.

    ``expected`` is the configuration it must have. A request is given up, with ``DeviceLost``, after ``attempts``
    time-outs of ``timeout_s`` seconds; ``window`` writes are in flight at a time. Raises ``WrongDevice`` when the
    answer is that of another product, version or configuration.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        expected: Config | None = None,
        timeout_s: float = 0.5,
        attempts: int = 10,
        window: int = WRITES_IN_FLIGHT,
    ) -> None:
        self._connection = Connection(transport, timeout_s=timeout_s, attempts=attempts, window=window)
        self._free = 0
        self._program: dict[int, Instruction] = {}
        self.config = self._hello()
        self._spaces = space_words(self.config)
        if expected is not None and expected != self.config:
            raise WrongDevice(_differences(expected, self.config))

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def recovered(self) -> int:
        """Losses of packets that were overcome."""
        return self._connection.recovered

    def close(self) -> None:
        """Lets the machine go; a run goes on."""
        self._connection.close()

    # Programs and runs

    def load_program(self, program: Sequence[Instruction], address: int = 0) -> None:
        """Writes a program at a word address, after checking that it stays inside of the memories.

        Raises ``ValueError`` that names the instruction; nothing is written then.
        """
        check(program, self.config, repeat=CHECKED_TURNS)
        early = hazards(program, self.config, repeat=2)
        if early:
            raise ValueError(f"the program reads what is not there yet: {early[0]}")
        words = encode(list(program))
        if address + len(words) > self.config.program_depth:
            raise ValueError(
                f"the program of {len(words)} words at word {address} does not fit: "
                f"the program memory has {self.config.program_depth} words"
            )
        self.write(Space.PROGRAM, address, np.array(words, dtype=np.uint32))
        for instruction in program:
            self._program[address] = instruction
            address += instruction.WORDS

    def run(self, pc: int = 0, repeat: int = 1) -> None:
        """Starts the program at ``pc``; loops of count 0 take ``repeat`` turns. Returns at once."""
        self._connection.request(Kind.RUN, _RUN.pack(pc, repeat))

    def status(self) -> Status:
        """State, fault, free halves, pc, cycles, waits and steps of the last or present run."""
        status = Status.unpack(self._connection.request(Kind.STATUS))
        self._free = status.free_halves
        return status

    def wait(self) -> Status:
        """Waits for the end of the run and returns its status.

        Raises ``RunFailed`` when it stopped with a fault, ``DeviceError`` when it waits for a batch that nobody sends,
        and ``DeviceLost`` when the machine goes away.
        """
        progress = _Progress()
        while self._running(progress):
            self.pause()
        return progress.status

    def pause(self, seconds: float = POLL_S) -> None:
        """Lets the machine work; the time of a simulated machine passes only here and in requests."""
        self._connection.pass_time(seconds)

    def abort(self) -> None:
        """Stops the run at its next instruction and frees both batch halves."""
        self._connection.request(Kind.ABORT)
        for _ in range(ABORT_POLLS):
            if self.status().state != State.RUNNING:
                return
            self.pause()
        raise DeviceError("the run does not stop: the machine did not follow ABORT")

    def history(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Loss sums and numbers of correct samples of the last run's first ``steps`` steps."""
        if not 0 <= steps <= self.config.history:
            raise ValueError(f"the machine remembers {self.config.history} steps, not {steps}")
        words = self.read(Space.HISTORY, 0, 4 * steps).reshape(steps, 4) & 0xFFFF_FFFF
        return words[:, 0] | words[:, 1] << 32, words[:, 2]

    # Batches

    def send_batch(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        """Writes one batch in a free half, waiting for one, and commits it.

        ``inputs``: integers [samples, words a sample], sample g * L + l for lane l of group g; ``targets``: the words
        of the target memory. Raises ``ValueError`` with the numbers when the batch does not fit.
        """
        config = self.config
        if inputs.ndim != 2 or inputs.shape[0] == 0 or inputs.shape[0] % config.lanes:
            raise ValueError(
                f"inputs of shape {inputs.shape} are not [samples, words] of whole groups of {config.lanes}"
            )
        self._check_values("inputs", inputs, config.input_word)
        self._check_values("targets", targets, config.output_word)
        samples, words = inputs.shape
        lane_words = samples // config.lanes * words
        if lane_words > config.batch_depth:
            raise ValueError(
                f"{samples} samples of {words} words need {lane_words} words a lane, the batch memory has "
                f"{config.batch_depth}: at most {config.batch_depth // words * config.lanes} samples fit"
            )
        if targets.size > config.target_depth:
            raise ValueError(f"{targets.size} target words do not fit: the target memory has {config.target_depth}")
        self._await_half()
        by_lane = inputs.reshape(-1, config.lanes, words).swapaxes(0, 1).reshape(config.lanes, lane_words)
        writes = [
            request
            for lane, values in enumerate(by_lane)
            for request in self._writes(Space.BATCH, lane * config.batch_depth, values)
        ]
        self._connection.exchange(Kind.WRITE, [*writes, *self._writes(Space.TARGET, 0, targets.reshape(-1))])
        self._free = self._connection.request(Kind.COMMIT)[0]

    def _await_half(self) -> None:
        if self._free:
            return
        progress = _Progress()
        while self._running(progress) and not self._free:
            self.pause()
        if not self._free:
            raise DeviceError("both batch halves are filled and nothing runs: RUN a program that takes a BATCH first")

    # Memories

    def write(self, space: Space, address: int, values: np.ndarray) -> None:
        """Writes integers of at most 32 bits at consecutive addresses, in the element that makes them fewest bytes."""
        self._check_range(space, address, values.size)
        self._connection.exchange(Kind.WRITE, self._writes(space, address, values))

    def read(self, space: Space, address: int, count: int) -> np.ndarray:
        """``count`` words from consecutive addresses, sign-extended."""
        self._check_range(space, address, count)
        most = (self.config.packet - 1) // 4
        requests = [
            _READ_HEADER.pack(space, address + start, min(most, count - start)) for start in range(0, count, most)
        ]
        data = b"".join(self._connection.exchange(Kind.READ, requests))
        return np.frombuffer(data, dtype="<i4").astype(np.int64)

    def read_masters(self) -> np.ndarray:
        """All master weights [weight_rows, columns]."""
        return self._read_weights(Space.MASTER)

    def write_masters(self, masters: np.ndarray) -> None:
        """Writes all master weights [weight_rows, columns]."""
        self._write_weights(Space.MASTER, masters, self.config.master_word)

    def read_momentum(self) -> np.ndarray:
        """All momentum words [weight_rows, columns]."""
        return self._read_weights(Space.MOMENTUM)

    def write_momentum(self, momentum: np.ndarray) -> None:
        """Writes all momentum words [weight_rows, columns]."""
        self._write_weights(Space.MOMENTUM, momentum, self.config.momentum_word)

    def write_table(self, table: int, values: np.ndarray, slopes: np.ndarray) -> None:
        """Writes an activation table: 2**table_bits values and slopes to the next value."""
        config = self.config
        entries = 1 << config.table_bits
        if not 0 <= table < config.tables:
            raise ValueError(f"there is no activation table {table}: this machine has {config.tables}")
        if values.shape != (entries,) or slopes.shape != (entries,):
            raise ValueError(f"an activation table has {entries} values and slopes, not {values.size}, {slopes.size}")
        self._check_values("table values", values, config.word)
        self._check_values("table slopes", slopes, config.word)
        self.write(Space.TABLE, 2 * entries * table, np.stack([values, slopes], axis=1).reshape(-1))

    def read_lanes(self, address: int, count: int) -> np.ndarray:
        """``count`` words from ``address`` on of every lane's memory [lanes, count]."""
        if address < 0 or count < 0 or address + count > self.config.lane_depth:
            raise ValueError(f"words {address} to {address + count - 1} are not in a lane of {self.config.lane_depth}")
        depth = self.config.lane_depth
        return np.stack([self.read(Space.LANE, lane * depth + address, count) for lane in range(self.config.lanes)])

    def read_losses(self, slots: int) -> np.ndarray:
        """The first ``slots`` loss slots."""
        words = self.read(Space.LOSS, 0, 2 * slots).reshape(slots, 2) & 0xFFFF_FFFF
        return words[:, 0] | words[:, 1] << 32

    def read_register(self, register: Register, words: int = 1) -> int:
        """A register of one or two words as an unsigned number."""
        values = self.read(Space.REGISTER, register, words) & 0xFFFF_FFFF
        return sum(int(value) << 32 * index for index, value in enumerate(values))

    def write_register(self, register: Register, value: int, words: int = 1) -> None:
        """Sets a register of one or two words."""
        if not 0 <= value < 1 << 32 * words:
            raise ValueError(f"{register.name}={value} is not a number of {32 * words} bits")
        halves = [value >> 32 * index & 0xFFFF_FFFF for index in range(words)]
        self.write(Space.REGISTER, register, np.array(halves, dtype=np.uint32))

    @property
    def generator(self) -> int:
        """State of the perturbation generator, 64 bits, never 0."""
        return self.read_register(Register.GENERATOR_LOW, 2)

    @generator.setter
    def generator(self, state: int) -> None:
        if state == 0:
            raise ValueError("a perturbation generator of state 0 stays 0: all signs would be equal")
        self.write_register(Register.GENERATOR_LOW, state, 2)

    @property
    def rate(self) -> int:
        """The rate register, in master steps with RATE_FRACTION fraction bits."""
        return self.read_register(Register.RATE)

    @rate.setter
    def rate(self, value: int) -> None:
        self.write_register(Register.RATE, value)

    @property
    def rate_step(self) -> int:
        """What the rate loses a step."""
        return self.read_register(Register.RATE_STEP)

    @rate_step.setter
    def rate_step(self, value: int) -> None:
        self.write_register(Register.RATE_STEP, value)

    @property
    def scale(self) -> int:
        """Running mean of the loss differences, 48 bits; 0 starts it anew."""
        return self.read_register(Register.SCALE_LOW, 2)

    @scale.setter
    def scale(self, value: int) -> None:
        self.write_register(Register.SCALE_LOW, value, 2)

    def _read_weights(self, space: Space) -> np.ndarray:
        rows, columns = self.config.weight_rows, self.config.columns
        return self.read(space, 0, self._spaces[space]).reshape(rows, -1)[:, :columns].copy()

    def _write_weights(self, space: Space, values: np.ndarray, bits: int) -> None:
        rows, columns = self.config.weight_rows, self.config.columns
        if values.shape != (rows, columns):
            raise ValueError(f"{space.name} words of shape {values.shape} are not [{rows}, {columns}]")
        self._check_values(f"{space.name} words", values, bits)
        # A row takes a power of two of addresses: the last ones of it are no weight.
        padded = np.zeros((rows, self._spaces[space] // rows), dtype=np.int64)
        padded[:, :columns] = values
        self.write(space, 0, padded.reshape(-1))

    def _check_range(self, space: Space, address: int, count: int) -> None:
        if address < 0 or address + count > self._spaces[space]:
            raise ValueError(
                f"{space.name} {address} to {address + count - 1} does not exist: it has {self._spaces[space]} words"
            )

    @staticmethod
    def _check_values(name: str, values: np.ndarray, bits: int) -> None:
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} of type {values.dtype} are not integers")
        low, high = bounds(bits)
        if values.size and not low <= values.min() <= values.max() <= high:
            raise ValueError(f"{name} from {values.min()} to {values.max()} do not fit {bits} bits ({low} to {high})")

    def _writes(self, space: Space, address: int, values: np.ndarray) -> list[bytes]:
        words = values.reshape(-1).astype(np.int64).astype(np.int32)
        element, data = _pack(words)
        lengths = sparse.lengths(data) if element == Element.SPARSE else np.ones(data.size, dtype=np.int64)
        places = address + np.cumsum(lengths) - lengths
        step = (self.config.packet - _WRITE_HEADER.size) // data.itemsize
        return [
            _WRITE_HEADER.pack(space, element, places[start]) + data[start : start + step].tobytes()
            for start in range(0, data.size, step)
        ]

    def _hello(self) -> Config:
        payload = self._connection.request(Kind.HELLO)
        if len(payload) < _HELLO.size:
            raise WrongDevice(f"the device answered HELLO with {len(payload)} bytes: it is no tenzo machine")
        magic, version, count = _HELLO.unpack_from(payload)
        if magic != MAGIC:
            raise WrongDevice(f"the device says {magic:#010x} instead of {MAGIC:#010x}: it is no tenzo machine")
        if version != VERSION:
            raise WrongDevice(f"the device speaks protocol version {version}, this tenzo speaks {VERSION}: update one")
        words = payload[_HELLO.size :]
        if len(words) != 4 * (count + 1):
            raise WrongDevice(f"the device announced {count} configuration words and sent {len(words)} bytes")
        *configuration, session = struct.unpack(f"<{count + 1}I", words)
        try:
            config = Config.from_words(configuration)
        except ValueError as error:
            raise WrongDevice(f"the device has a configuration that this tenzo does not know: {error}") from None
        self._connection.begin(session)
        return config

    def _running(self, progress: _Progress) -> bool:
        """Whether the run still goes on. Raises ``RunFailed`` or, when it stands still, ``DeviceError``."""
        status = self.status()
        if status.state == State.FAILED:
            fault = Fault(status.fault)
            at = self._program.get(status.pc)
            where = f"{type(at).__name__} at word {status.pc}" if at else f"word {status.pc}"
            raise RunFailed(f"the run failed with {fault.name} at {where}", fault)
        running = status.state == State.RUNNING
        progress.look(status)
        if running and progress.stalled and status.free_halves:
            raise DeviceError(f"the run waits for a batch that was not sent, after {status.steps} steps")
        return running


class _Progress:
    """Whether a run moves: its cycles less those in which it waited for the host."""

    def __init__(self) -> None:
        self._looks = 0
        self._cycles = -1
        self.status: Status

    def look(self, status: Status) -> None:
        """Takes the next status."""
        cycles = status.cycles - status.waits
        self._looks = self._looks + 1 if cycles == self._cycles else 0
        self._cycles = cycles
        self.status = status

    @property
    def stalled(self) -> bool:
        """No cycle of progress in the last looks."""
        return self._looks >= STALLED_POLLS


def _pack(words: np.ndarray) -> tuple[Element, np.ndarray]:
    """The element whose data are the fewest bytes, of two with as many the lower one, and the data."""
    if words.size and words.min() >= 0 and words.max() <= SPARSE_LARGEST:
        code = sparse.encode(words)
        if code.size < words.size:
            return Element.SPARSE, code
    element = _element(words)
    return element, words.astype(_NUMPY[element])


def _element(words: np.ndarray) -> Element:
    """The smallest element with a place for every word."""
    low, high = (int(words.min()), int(words.max())) if words.size else (0, 0)
    if low >= 0 and high < 1 << 8:
        return Element.U8
    if low >= -(1 << 7) and high < 1 << 7:
        return Element.S8
    if low >= -(1 << 15) and high < 1 << 15:
        return Element.S16
    return Element.S32


def _differences(expected: Config, found: Config) -> str:
    differences = [
        f"{field.name} {getattr(found, field.name)} instead of {getattr(expected, field.name)}"
        for field in fields(Config)
        if getattr(found, field.name) != getattr(expected, field.name)
    ]
    return (
        f"the device has another configuration than expected: {', '.join(differences)}; take another device, or a "
        "recipe for this machine"
    )
