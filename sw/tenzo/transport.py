"""Byte streams to a machine: the exact model, the simulated gateware, or a board on a serial port.

The driver writes and reads the same bytes whatever the transport; only this file knows what is at the other end.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import serial
from tenzo_hw.config import Config, preset
from tenzo_hw.protocol import BAUD

#: Seconds in which a port that went away may come back, as one does whose USB plug was pulled, and between two tries.
REOPEN_S = 10.0
RETRY_S = 0.1
#: Seconds in which the operating system must take what is sent.
WRITE_S = 5.0
#: Locks where the operating system has locks; Windows opens ports for one process anyway.
_EXCLUSIVE = True if os.name == "posix" else None
#: The machine that ``model`` and ``sim`` stand for when neither a preset nor a configuration is named.
DEFAULT_PRESET = "small"


class Transport(Protocol):
    """A byte stream to one machine. A link that is gone raises ``OSError``."""

    def write(self, data: bytes) -> None:
        """Sends all of ``data``."""
        ...

    def read(self, timeout_s: float | None) -> bytes:
        """The bytes that have come, at least one; none when none came in ``timeout_s`` seconds (None: wait).

        A simulated machine's time passes here, so that a wait on the link is a wait on any transport.
        """
        ...

    def close(self) -> None:
        """Lets the machine go."""
        ...


class SerialTransport:
    """A board behind a serial port, 8 data bits, no parity, one stop bit, without flow control.

    The port is opened for this process alone and, where the driver has it, in its mode of low latency. One that goes
    away is opened again, for up to ``REOPEN_S`` seconds: what was on its way is lost, as on any line. Raises
    ``ConnectionError`` when the port cannot be opened.
    """

    def __init__(self, port: str, baud: int = BAUD) -> None:
        self._port = port
        self._baud = baud
        try:
            self._serial = self._open()
        except (ValueError, OSError) as error:
            raise ConnectionError(f"serial port {port} cannot be opened at {baud:,} baud: {error}") from None

    def write(self, data: bytes) -> None:
        """Sends all of ``data``. Raises ``OSError`` when the port is gone and does not come back."""
        try:
            self._serial.write(data)
        except OSError as error:
            self._reopen(error)

    def read(self, timeout_s: float | None) -> bytes:
        """The bytes that have come, waiting for the first. Raises ``OSError`` as ``write`` does."""
        try:
            self._serial.timeout = timeout_s
            first = self._serial.read(1)
            return first + self._serial.read(self._serial.in_waiting) if first else first
        except OSError as error:
            self._reopen(error)
            return b""

    def close(self) -> None:
        """Closes the port."""
        self._serial.close()

    def _open(self) -> serial.Serial:
        opened = serial.Serial(self._port, self._baud, timeout=0, write_timeout=WRITE_S, exclusive=_EXCLUSIVE)
        # A chip of FTDI otherwise keeps short answers for 16 ms. Not every port and system knows the mode.
        with suppress(AttributeError, NotImplementedError, ValueError, OSError):
            opened.set_low_latency_mode(True)
        opened.reset_input_buffer()
        return opened

    def _reopen(self, reason: OSError) -> None:
        self._serial.close()
        deadline = time.monotonic() + REOPEN_S
        while time.monotonic() < deadline:
            # A port that is just coming or going raises nearly anything, termios.error among it.
            with suppress(Exception):
                self._serial = self._open()
                return
            time.sleep(RETRY_S)
        raise OSError(f"serial port {self._port} went away and did not come back in {REOPEN_S:g} s: {reason}")


def open_transport(name: str, config: Config | None = None, *, waveform: Path | None = None) -> Transport:
    """The transport of this name: ``model[:preset]``, ``sim[:preset]`` or ``serial:PORT[@baud]``.

    ``config`` is the machine built for ``model`` and ``sim`` when no preset is named. ``waveform`` makes ``sim``
    record a VCD file. Raises ``ValueError`` when the name means nothing or the preset is another machine than
    ``config``, and ``ConnectionError`` when the machine cannot be reached.
    """
    kind, _, place = name.partition(":")
    if kind not in ("model", "sim", "serial"):
        raise ValueError(f"no device {name!r}; there are model[:preset], sim[:preset] and serial:PORT[@baud]")
    if waveform is not None and kind != "sim":
        raise ValueError(f"device {name!r} records no waveform; take sim")
    if kind == "serial":
        return _open_serial(name, place)
    if place:
        named = preset(place)
        if config is not None and config != named:
            raise ValueError(f"device {name!r} is another machine than the one that is asked for; take {kind!r} alone")
        config = named
    return _open_simulated(kind, config or preset(DEFAULT_PRESET), waveform)


def _open_serial(name: str, place: str) -> Transport:
    port, _, baud = place.partition("@")
    if not port or (baud and not baud.isdecimal()):
        raise ValueError(f"device {name!r} must be serial:PORT or serial:PORT@BAUD, as in serial:/dev/ttyUSB0@{BAUD}")
    return SerialTransport(port, int(baud) if baud else BAUD)


def _open_simulated(kind: str, config: Config, waveform: Path | None) -> Transport:
    # Imported here: a host with a board needs neither Amaranth nor Verilator.
    try:
        if kind == "model":
            from tenzo_sim.model import ModelTransport

            return ModelTransport(config)
        from tenzo_sim.verilated import SimTransport

        return SimTransport(config, trace=waveform)
    except ModuleNotFoundError as error:
        raise ConnectionError(f"device {kind!r} needs {error.name}: pip install 'tenzo[sim]'") from None
