"""The serial line's receiver and transmitter in Verilator."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from tenzo_hw.uart import UartReceiver, UartTransmitter, check_line
from tenzo_sim.bench import run_bench

#: Clock and baud: the fewest cycles a bit, a fraction more, whole ones, many and a fraction.
LINES = [(24_000_000, 3_000_000), (25_000_000, 3_000_000), (24_000_000, 1_000_000), (100_000_000, 3_000_000)]


class Uart(wiring.Component):
    """Both ends beside each other, so that one build serves two benches."""

    def __init__(self, line):
        self.line = line
        super().__init__(
            {
                "rx": In(1, init=1),
                "o": Out(stream.Signature(8)),
                "overrun": Out(1),
                "framing": Out(1),
                "i": In(stream.Signature(8)),
                "tx": Out(1, init=1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(**self.line)
        m.submodules.transmitter = transmitter = UartTransmitter(**self.line)
        wiring.connect(m, receiver.o, wiring.flipped(self.o))
        wiring.connect(m, wiring.flipped(self.i), transmitter.i)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.overrun.eq(receiver.overrun),
            self.framing.eq(receiver.framing),
            self.tx.eq(transmitter.tx),
        ]
        return m


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize(("clock_hz", "baud"), LINES)
def test_uart(clock_hz, baud, seed, tmp_path):
    line = {"clock_hz": clock_hz, "baud": baud}
    benches = "bench_uart_receiver,bench_uart_transmitter"
    run_bench(Uart(line), benches, tmp_path, parameters=line, seed=seed)


@pytest.mark.parametrize(
    ("clock_hz", "baud", "message"),
    [
        (23_999_999, 3_000_000, r"8\.00 cycles a bit .* at most 2,999,999 baud or a clock of 24,000,000 Hz"),
        (0, 3_000_000, "clock_hz=0 is not possible"),
        (24_000_000, 115_200.0, r"baud=115200\.0 is not possible"),
    ],
)
def test_a_line_that_is_too_fast_is_refused(clock_hz, baud, message):
    with pytest.raises(ValueError, match=message):
        check_line(clock_hz=clock_hz, baud=baud)
