"""The gateware as a fast simulator: Verilated C++ that runs many cycles a call."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tenzo_hw.config import Config
from tenzo_hw.machine import Machine
from tenzo_hw.protocol import BAUD, BIT_CYCLES, FRAME_END
from tenzo_hw.shell import Shell
from tenzo_hw.uart import check_line

from .library import BITS, BYTES, build_library
from .verilog import export

#: Most cycles of one call into the library: Python can be interrupted between two.
SLICE = 1_000_000
#: Cycles that pass in a second of the driver: about what the simulator does in a second of ours.
CYCLES_A_SECOND = 1_000_000

_BYTES = ctypes.c_char_p
_FUNCTIONS: dict[str, tuple[type | None, list[type]]] = {
    "tenzo_destroy": (None, [ctypes.c_void_p]),
    "tenzo_write": (None, [ctypes.c_void_p, _BYTES, ctypes.c_size_t]),
    "tenzo_run": (ctypes.c_uint64, [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int]),
    "tenzo_waiting": (ctypes.c_size_t, [ctypes.c_void_p]),
    "tenzo_read": (ctypes.c_size_t, [ctypes.c_void_p, _BYTES, ctypes.c_size_t]),
}


def chance(name: str, value: float) -> int:
    """A chance as the harnesses take it, in 2^32. Raises ``ValueError`` unless it is in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value} is not possible: a chance from 0 to below 1")
    return int(value * (1 << 32))


class Simulation:
    """A Verilated design with bytes in and out, just switched on. ``functions`` are those of its harness alone.

    ``quick``: sooner built and several times slower (``build_library``).
    """

    def __init__(
        self,
        verilog: str,
        harness: Path,
        functions: Mapping[str, tuple[type | None, list[type]]],
        *,
        seed: int,
        arguments: Sequence[float],
        trace: Path | None = None,
        quick: bool = False,
    ) -> None:
        self.cycles = 0
        """Cycles simulated since it was switched on."""
        self._library = ctypes.CDLL(str(build_library(verilog, harness, trace=trace is not None, quick=quick)))
        for name, (result, types) in {**_FUNCTIONS, **functions}.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, types
        self._handle = self._library.tenzo_create(seed, *arguments, b"" if trace is None else str(trace).encode())

    def write(self, data: bytes) -> None:
        """Puts ``data`` behind the bytes that wait to enter the design."""
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
        """Bytes that have not entered the design yet."""
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


class VerilatedMachine(Simulation):
    """One machine, just switched on. The first machine of a configuration is built (a minute), later ones are loaded.

    ``trace`` names a VCD file for the waveform, which makes it about ten times slower. ``idle`` and ``busy`` are the
    chances, in [0, 1), that a cycle offers no byte to the machine and that it takes none from it, by ``seed``.
    ``netlist`` is Verilog of the same machine as gates (``tenzo_sim.netlist``).
    Raises ``RuntimeError`` when it cannot be built.
    """

    def __init__(
        self,
        config: Config,
        *,
        netlist: str | None = None,
        trace: Path | None = None,
        seed: int = 0,
        idle: float = 0.0,
        busy: float = 0.0,
    ) -> None:
        create = ctypes.c_void_p, [ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint32, _BYTES]
        chances = chance("idle", idle), chance("busy", busy)
        super().__init__(
            netlist or export(Machine(config), "machine"),
            BYTES,
            {"tenzo_create": create},
            seed=seed,
            arguments=chances,
            trace=trace,
            quick=netlist is not None,
        )


class VerilatedShell(Simulation):
    """A machine at the end of a serial line, bit by bit, as a board has it (``tenzo_hw.shell``), just switched on.

    ``write`` and ``read`` are those of the host at the other end, whose baud is ``offset`` faster than the shell's (in
    parts: 0.02 is 2 %). ``flips`` is the chance, in [0, 1), that a bit is wrong, either way, by ``seed``. The clock's
    default is the slowest that the baud allows: then a byte takes the fewest cycles to simulate. ``trace`` names a VCD
    file. Raises ``RuntimeError`` when it cannot be built, and ``ValueError`` for a line that cannot be.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock_hz: int = BIT_CYCLES * BAUD,
        baud: int = BAUD,
        offset: float = 0.0,
        flips: float = 0.0,
        seed: int = 0,
        trace: Path | None = None,
    ) -> None:
        check_line(clock_hz=clock_hz, baud=baud)
        arguments = clock_hz / baud / (1 + offset), chance("flips", flips)
        create = ctypes.c_void_p, [ctypes.c_uint64, ctypes.c_double, ctypes.c_uint32, _BYTES]
        super().__init__(
            export(Shell(config, clock_hz=clock_hz, baud=baud), "shell"),
            BITS,
            {
                "tenzo_create": create,
                "tenzo_connect": (None, [ctypes.c_void_p, ctypes.c_int]),
                "tenzo_flipped": (ctypes.c_uint64, [ctypes.c_void_p]),
                "tenzo_lights": (ctypes.c_int, [ctypes.c_void_p]),
            },
            seed=seed,
            arguments=arguments,
            trace=trace,
        )

    def connect(self, connected: bool) -> None:
        """Puts the cable in or pulls it, at any bit."""
        self._library.tenzo_connect(self._open(), connected)

    @property
    def flipped(self) -> int:
        """Bits that were wrong so far."""
        return self._library.tenzo_flipped(self._open())

    @property
    def lights(self) -> Lights:
        """The lights that are lit."""
        lit = self._library.tenzo_lights(self._open())
        return Lights(*(bool(lit >> place & 1) for place in range(len(Lights._fields))))


class Lights(NamedTuple):
    """The lights of a shell."""

    alive: bool
    busy: bool
    error: bool


class SimTransport:
    """A byte stream to a Verilated machine, or to ``machine`` (``tenzo.transport.Transport``).

    The machine's time passes in ``read`` and ``advance`` only, and ``read``'s time-outs are of the machine's time:
    a second is ``CYCLES_A_SECOND`` cycles. So a run gives the same bytes however fast the host is.
    """

    def __init__(self, config: Config, *, trace: Path | None = None, machine: Simulation | None = None) -> None:
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
