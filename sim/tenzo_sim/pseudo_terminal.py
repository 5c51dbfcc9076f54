"""A simulated machine behind a serial port of this computer, as a board is: the driver opens it with pyserial."""

from __future__ import annotations

import os
import select
import tempfile
import threading
import tty
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tenzo.transport import Transport

#: Seconds of the machine's time that pass at once, and that pass after the last byte either way: then it is done with
#: what was asked of it, or waits for the host.
SLICE_S = 0.005
LINGER_S = 0.2
#: Seconds between two looks for the end while the machine's time stands still.
LOOK_S = 0.05
_MOST_BYTES = 1 << 16


class PseudoTerminal:
    """Serves ``transport`` at ``port``, from a thread of its own, until it is closed; Linux and macOS.

    ``with PseudoTerminal(SimTransport(config, machine=VerilatedShell(config))) as line`` makes a board without the
    board: ``tenzo train --device serial:PORT``. The machine's time passes while the host talks and ``LINGER_S`` of its
    seconds longer; then it stands still until the next byte, so that an idle machine costs nothing and a host that is
    slow changes nothing.

    ``unplug`` takes the port away, as the USB plug of a serial adapter does, and ``plug`` brings it back under the same
    name; the machine stays switched on.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._folder = tempfile.TemporaryDirectory(prefix="tenzo-")
        self.port = Path(self._folder.name, "serial")
        """The port's name: a link, which outlives the pseudo-terminals that it points to."""
        self._ends: tuple[int, int] | None = None
        self._wanted = True
        self._settled = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"tenzo {self.port}", daemon=True)
        self._thread.start()
        self._settled.wait()

    def __enter__(self) -> PseudoTerminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def plug(self) -> None:
        """Makes the port."""
        self._want(True)

    def unplug(self) -> None:
        """Takes the port away, with all bytes that are on their way through it."""
        self._want(False)

    def close(self) -> None:
        """Takes the port away and switches the machine off. Closing twice is allowed."""
        if not self._closing.is_set():
            self._closing.set()
            self._thread.join()
            self._transport.close()
            self._folder.cleanup()

    def _want(self, port: bool) -> None:
        if self._closing.is_set():
            raise ValueError("the line is closed: make a new one")
        self._settled.clear()
        self._wanted = port
        self._settled.wait()

    def _settle(self) -> None:
        """Makes or takes away the port: in the thread that uses it."""
        if self._wanted and self._ends is None:
            # The host's end stays open here too: a port whose host is gone is still a port.
            self._ends = os.openpty()
            tty.setraw(self._ends[1])
            os.set_blocking(self._ends[0], False)
            self.port.symlink_to(os.ttyname(self._ends[1]))
        elif not self._wanted and self._ends is not None:
            self.port.unlink()
            for end in self._ends:
                os.close(end)
            self._ends = None

    def _serve(self) -> None:
        linger = 0.0
        while not self._closing.is_set():
            if not self._settled.is_set():
                self._settle()
                self._settled.set()
            sent = self._take(LOOK_S if linger <= 0 else 0)
            if sent:
                self._transport.write(sent)
                linger = LINGER_S
            if linger > 0:
                answer = self._transport.read(SLICE_S)
                linger = LINGER_S if answer else linger - SLICE_S
                self._give(answer)
        self._wanted = False
        self._settle()

    def _take(self, patience_s: float) -> bytes:
        """What the host has sent, waiting for it so many seconds."""
        if self._ends is None:
            self._closing.wait(patience_s)
            return b""
        ready, _, _ = select.select(self._ends[:1], [], [], patience_s)
        return os.read(self._ends[0], _MOST_BYTES) if ready else b""

    def _give(self, data: bytes) -> None:
        """Gives the host what the machine has sent. A line has no patience: what does not fit is lost."""
        if self._ends is not None and data:
            with suppress(BlockingIOError):
                os.write(self._ends[0], data)
