"""Every board has a small shell here, which echoes bytes: its synthesis, place and route take seconds."""

from pathlib import Path

import pytest
import tenzo_hw.boards.top
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from tenzo_hw.config import Config
from tenzo_hw.uart import UartReceiver, UartTransmitter


class Echo(wiring.Component):
    """The shell's pins, with a serial line that sends back what it receives."""

    rx: In(1, init=1)
    tx: Out(1, init=1)
    alive: Out(1)
    busy: Out(1)
    error: Out(1)

    def __init__(self, config: Config, *, clock_hz: int, baud: int) -> None:
        self._line = {"clock_hz": clock_hz, "baud": baud}
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(**self._line)
        m.submodules.transmitter = transmitter = UartTransmitter(**self._line)
        count = Signal(20)
        wiring.connect(m, receiver.o, transmitter.i)
        m.d.sync += count.eq(count + 1)
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx), self.alive.eq(count[-1])]
        return m


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def echo(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every board has the small shell, builds are kept for this session only, and the folder is the test's own."""
    monkeypatch.setattr(tenzo_hw.boards.top, "Shell", Echo)
    monkeypatch.setenv("TENZO_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
