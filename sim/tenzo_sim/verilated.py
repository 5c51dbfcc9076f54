"""The machine's gateware as a fast simulator: Verilated C++ that runs many cycles a call."""

from __future__ import annotations

import ctypes
from pathlib import Path

from tenzo_hw.config import Config
from tenzo_hw.machine import Machine
from tenzo_hw.protocol import FRAME_END

from .library import build_library
from .verilog import export

#: Most cycles of one call into the library: Python can be interrupted between two.
SLICE = 1_000_000
#: Cycles that pass in a second of the driver: about what the simulator does in a second of ours.
CYCLES_A_SECOND = 1_000_000

_BYTES = ctypes.c_char_p
_FUNCTIONS: dict[str, tuple[type | None, list[type]]] = {
    "tenzo_create": (ctypes.c_void_p, [ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint32, _BYTES]),
    "tenzo_destroy": (None, [ctypes.c_void_p]),
    "tenzo_write": (None, [ctypes.c_void_p, _BYTES, ctypes.c_size_t]),
    "tenzo_run": (ctypes.c_uint64, [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int]),
    "tenzo_waiting": (ctypes.c_size_t, [ctypes.c_void_p]),
    "tenzo_read": (ctypes.c_size_t, [ctypes.c_void_p, _BYTES, ctypes.c_size_t]),
}


class VerilatedMachine:
    """One machine, just switched on. The first machine of a configuration is built (a minute), later ones are loaded.

    ``trace`` names a VCD file for the waveform, which makes it about ten times slower. ``idle`` and ``busy`` are the
    chances, in [0, 1), that a cycle offers no byte to the machine and that it takes none from it, by ``seed``.
    Raises ``RuntimeError`` when it cannot be built.
    """

    def __init__(
        self, config: Config, *, trace: Path | None = None, seed: int = 0, idle: float = 0.0, busy: float = 0.0
    ) -> None:
        for name, chance in (("idle", idle), ("busy", busy)):
            if not 0 <= chance < 1:
                raise ValueError(f"{name}={chance} is not possible: a chance from 0 to below 1")
        self.config = config
        self.cycles = 0
        """Cycles simulated since it was switched on."""
        self._library = ctypes.CDLL(str(build_library(export(Machine(config), "machine"), trace=trace is not None)))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        file = b"" if trace is None else str(trace).encode()
        self._handle = self._library.tenzo_create(seed, int(256 * idle), int(256 * busy), file)

    def write(self, data: bytes) -> None:
        """Puts ``data`` behind the bytes that wait to enter the machine."""
        self._library.tenzo_write(self._open(), data, len(data))

    def run(self, cycles: int, *, stop: int | None = None) -> int:
        """Lets ``cycles`` pass, fewer when the byte ``stop`` comes out, and returns how many passed."""
        passed = 0
        while passed < cycles:
            want = min(SLICE, cycles - passed)
            ran = self._library.tenzo_run(self._open(), want, -1 if stop is None else stop)
            passed += ran
            if ran < want:
                break
        self.cycles += passed
        return passed

    def read(self) -> bytes:
        """The bytes that came out since the last read."""
        parts = []
        buffer = ctypes.create_string_buffer(1 << 16)
        while count := self._library.tenzo_read(self._open(), buffer, len(buffer)):
            parts.append(buffer.raw[:count])
        return b"".join(parts)

    @property
    def waiting(self) -> int:
        """Bytes that have not entered the machine yet."""
        return self._library.tenzo_waiting(self._open())

    def close(self) -> None:
        """Switches it off and completes the waveform. Closing twice is allowed."""
        if self._handle is not None:
            self._library.tenzo_destroy(self._handle)
            self._handle = None

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("the machine is closed: make a new one")
        return self._handle


class SimTransport:
    """A byte stream to a Verilated machine (``tenzo.transport.Transport``).

    The machine's time passes in ``read`` and ``advance`` only, and ``read``'s time-outs are of the machine's time:
    a second is ``CYCLES_A_SECOND`` cycles. So a run gives the same bytes however fast the host is.
    """

    def __init__(self, config: Config, *, trace: Path | None = None, machine: VerilatedMachine | None = None) -> None:
        self._machine = machine or VerilatedMachine(config, trace=trace)

    @property
    def cycles(self) -> int:
        """Cycles simulated so far."""
        return self._machine.cycles

    def write(self, data: bytes) -> None:
        """Sends ``data``: it enters the machine while time passes."""
        self._machine.write(data)

    def read(self, timeout_s: float | None) -> bytes:
        """Runs until a frame has come out, at most for ``timeout_s`` (None: without end); returns what came."""
        if timeout_s is not None:
            self._machine.run(round(timeout_s * CYCLES_A_SECOND), stop=FRAME_END)
            return self._machine.read()
        while True:
            self._machine.run(SLICE, stop=FRAME_END)
            if data := self._machine.read():
                return data

    def advance(self, cycles: int) -> None:
        """Lets the machine work for ``cycles`` without talk."""
        self._machine.run(cycles)

    def close(self) -> None:
        """Switches the machine off."""
        self._machine.close()
