"""Our models of vendor cells: what instances and Yosys make of them is what the design says."""

from __future__ import annotations

import itertools
import random
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from amaranth.hdl import Cat, ClockSignal, Const, Fragment, Instance, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from tenzo_hw.cells import Accumulator, BlockRam, Copies, Multiplier, Rom
from tenzo_sim.bench import WARNINGS, run_bench
from tenzo_sim.netlist import cells, models, module, synthesised, yosys_models
from tenzo_sim.toolchain import use_verilator

#: Depth and width of one block RAM in each of its shapes.
SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))


class OnEcp5(wiring.Component):
    """A component as the cells of an ECP5."""

    def __init__(self, component: wiring.Component) -> None:
        self.component = component
        super().__init__(component.signature)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.component = Fragment.get(self.component, SimpleNamespace(family="ecp5"))
        wiring.connect(m, wiring.flipped(self), self.component)
        return m


class Rams(wiring.Component):
    """Memories of all shapes with contents at power-on, written in units of 9 bits: Yosys makes a block RAM of each."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.contents = [[rng.getrandbits(width) for _ in range(depth)] for depth, width in SHAPES]
        members = {}
        for depth, width in SHAPES:
            members |= {
                f"read_address{width}": In(range(depth)),
                f"read{width}": In(1),
                f"write{width}": In(-(-width // 9)),
                f"write_address{width}": In(range(depth)),
                f"write_data{width}": In(width),
                f"o{width}": Out(width),
            }
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for (depth, width), contents in zip(SHAPES, self.contents, strict=True):
            words = memory.Memory(shape=width, depth=depth, init=contents, attrs={"ram_style": "block"})
            m.submodules[f"words{width}"] = words
            write, read = words.write_port(granularity=min(width, 9)), words.read_port()
            m.d.comb += [
                read.addr.eq(getattr(self, f"read_address{width}")),
                read.en.eq(getattr(self, f"read{width}")),
                write.addr.eq(getattr(self, f"write_address{width}")),
                write.data.eq(getattr(self, f"write_data{width}")),
                write.en.eq(getattr(self, f"write{width}")),
                getattr(self, f"o{width}").eq(read.data),
            ]
        return m


class Written(wiring.Component):
    """A block RAM with another writer, whose words count unless that one writes while they are read."""

    def __init__(self, ram: BlockRam) -> None:
        self.ram = ram
        super().__init__(ram.signature)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ram = ram = self.ram
        hidden = Signal(2)
        m.d.sync += hidden.eq(Cat(self.other_write.any(), hidden))
        for name, member in self.signature.members.items():
            if member.flow is In:
                m.d.comb += getattr(ram, name).eq(getattr(self, name))
        # One writer at a time.
        m.d.comb += [
            ram.other_write.eq(Mux(self.write.any(), 0, self.other_write)),
            self.read_data.eq(Mux(hidden[1], 0, ram.read_data)),
        ]
        return m


class Gates(wiring.Component):
    """The module ``gates``, with the ports of a component."""

    def elaborate(self, platform: object) -> Module:
        ports = {
            f"{'i' if member.flow is In else 'o'}_{name}": getattr(self, name)
            for name, member in self.signature.members.items()
        }
        m = Module()
        m.submodules.gates = Instance("gates", i_clk=ClockSignal(), i_rst=Const(0), **ports)
        return m


class Table(wiring.Component):
    """Look-up tables with contents of a seed. ``pins``: those of the inputs, and that of the output."""

    def __init__(self, cell: str, parameter: str, pins: str, seed: int) -> None:
        self.cell, self.parameter, self.pins, self.seed = cell, parameter, pins.split(), seed
        super().__init__({"inputs": In(4), "o": Out(64)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rng = random.Random(self.seed)
        for number in range(len(self.o)):
            m.submodules[f"table{number}"] = Instance(
                self.cell,
                **{f"p_{self.parameter}": Const(rng.getrandbits(16), 16)},
                **{f"i_{pin}": self.inputs[place] for place, pin in enumerate(self.pins[:-1])},
                **{f"o_{self.pins[-1]}": self.o[number]},
            )
        return m


class Ice40Ram(wiring.Component):
    """An iCE40's block RAM with contents of a seed, or what ``cell`` says of it; 0 where that is undefined."""

    def __init__(self, cell: str, *, write_mode: int, read_mode: int, seed: int) -> None:
        self.cell, self.modes, self.seed = cell, (write_mode, read_mode), seed
        super().__init__(
            {
                "read": In(2),
                "read_address": In(11),
                "write": In(2),
                "write_address": In(11),
                "write_data": In(16),
                "mask": In(16),
                "o": Out(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rng = random.Random(self.seed)
        # The upper bits choose among the words of a row: of a bench's few addresses, all of them.
        read, write = (Cat(address[3:], address[:3]) for address in (self.read_address, self.write_address))
        collides, has_read = Signal(), Signal()
        data = Signal(16)
        m.d.comb += [collides.eq(read[:8] == write[:8]), self.o.eq(Mux(has_read, data, 0))]
        m.d.sync += has_read.eq(has_read | self.read.all())
        m.submodules.cell = Instance(
            self.cell,
            p_WRITE_MODE=Const(self.modes[0], 2),
            p_READ_MODE=Const(self.modes[1], 2),
            **{f"p_INIT_{row:X}": Const(rng.getrandbits(256), 256) for row in range(16)},
            i_RCLK=ClockSignal(),
            i_RCLKE=self.read[0],
            i_RE=self.read[1],
            i_RADDR=read,
            i_WCLK=ClockSignal(),
            i_WCLKE=self.write[0],
            i_WE=self.write[1] & ~collides,
            i_WADDR=write,
            i_MASK=self.mask,
            i_WDATA=self.write_data,
            o_RDATA=data,
        )
        return m


class Ice40LargeRam(wiring.Component):
    """A few words of an iCE40's large RAM, or of what ``cell`` says of it; 0 where these are undefined."""

    def __init__(self, cell: str) -> None:
        self.cell = cell
        super().__init__(
            {
                "address": In(6),
                "select": In(1),
                "write": In(1),
                "mask": In(4),
                "write_data": In(16),
                "o": Out(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        data, defined = Signal(16), Signal(4)
        # The parts of each word that have been written.
        m.submodules.written = written = memory.Memory(shape=4, depth=64, init=[])
        writer, reader = written.write_port(granularity=1), written.read_port(domain="comb")
        active = self.select & self.write
        m.d.comb += [
            writer.addr.eq(self.address),
            writer.data.eq(0b1111),
            writer.en.eq(Mux(active, self.mask, 0)),
            reader.addr.eq(self.address),
            self.o.eq(data & Cat(part.replicate(4) for part in defined)),
        ]
        with m.If(self.select):
            m.d.sync += defined.eq(Mux(self.write, 0, reader.data))
        m.submodules.cell = Instance(
            self.cell,
            # At both ends.
            i_ADDRESS=Cat(self.address[:3], self.address[3].replicate(8), self.address[3:]),
            i_DATAIN=self.write_data,
            i_MASKWREN=self.mask,
            i_WREN=self.write,
            i_CHIPSELECT=self.select,
            i_CLOCK=ClockSignal(),
            i_STANDBY=Const(0),
            i_SLEEP=Const(0),
            i_POWEROFF=Const(1),
            o_DATAOUT=data,
        )
        return m


class Compared(wiring.Component):
    """Pairs of components with the inputs ``PAIR__INPUT`` for both, and a bit of ``differ``: low if they agree."""

    def __init__(self, pairs: dict[str, tuple[wiring.Component, wiring.Component]]) -> None:
        self.pairs = pairs
        self.inputs = {
            f"{pair}__{name}": In(member.shape)
            for pair, (first, _) in pairs.items()
            for name, member in first.signature.members.items()
            if member.flow is In
        }
        super().__init__({**self.inputs, "differ": Out(len(pairs))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for place, (pair, both) in enumerate(self.pairs.items()):
            agree = []
            for number, component in enumerate(both):
                m.submodules[f"{pair}{number}"] = component
            for name, member in both[0].signature.members.items():
                ports = [getattr(component, name) for component in both]
                if member.flow is In:
                    m.d.comb += [port.eq(getattr(self, f"{pair}__{name}")) for port in ports]
                else:
                    agree.append(ports[0] == ports[1])
            # Registered, so that there is a clock whatever the pair has.
            m.d.sync += self.differ[place].eq(~Cat(agree).all())
        return m


def compare(
    pairs: dict[str, tuple[wiring.Component, wiring.Component]], cells: str, directory: Path, *, seed: int
) -> None:
    """Drives all inputs at random; nothing may differ."""
    compared = Compared(pairs)
    bits = {name: len(Signal(member.shape)) for name, member in compared.inputs.items()}
    run_bench(compared, "bench_cell_models", directory, parameters=bits, cells=cells, seed=seed)


def test_instances_are_their_twins(tmp_path: Path) -> None:
    rams = [
        {"width": 36, "depth": 512},
        {"width": 48, "depth": 256, "parts": 2},
        {"width": 18, "depth": 1024, "parts": 2},
        {"width": 20, "depth": 2048, "parts": 4},
        {"width": 9, "depth": 4096},
        {"width": 3, "depth": 8192},
        {"width": 2, "depth": 16384},
    ]
    factors = [
        {"a_bits": 18, "b_bits": 18},
        {"a_bits": 9, "b_bits": 17},
        {"a_bits": 2, "b_bits": 5},
        {"a_bits": 18, "b_bits": 12, "registered_inputs": False},
        {"a_bits": 18, "b_bits": 18, "is_signed": False},
        {"a_bits": 16, "b_bits": 5, "is_signed": False},
    ]
    rng = random.Random(1)
    roms = [
        {"width": width, "words": [rng.getrandbits(width) for _ in range(depth)]}
        for width, depth in ((36, 512), (26, 256), (5, 2))
    ]
    pairs = {f"ram{place}": (OnEcp5(BlockRam(**ram)), BlockRam(**ram)) for place, ram in enumerate(rams)} | {
        f"product{place}": (OnEcp5(Multiplier(**factor)), Multiplier(**factor)) for place, factor in enumerate(factors)
    }
    sums = [{"bits": 48, "i_bits": 36}, {"bits": 7, "i_bits": 7}, {"bits": 2, "i_bits": 1}]
    pairs |= {f"rom{place}": (OnEcp5(Rom(**rom)), Rom(**rom)) for place, rom in enumerate(roms)}
    pairs |= {f"sum{place}": (OnEcp5(Accumulator(**one)), Accumulator(**one)) for place, one in enumerate(sums)}
    pairs |= {"copies": (OnEcp5(Copies(width=5, count=3)), Copies(width=5, count=3))}
    compare(pairs, models("ecp5"), tmp_path, seed=1)


def test_instances_of_two_writers_are_their_twins(tmp_path: Path) -> None:
    rams = [
        {"width": 36, "depth": 512},
        {"width": 48, "depth": 1024, "parts": 2},
        {"width": 20, "depth": 2048, "parts": 4},
        {"width": 9, "depth": 4096},
    ]
    pairs = {
        f"ram{place}": (
            OnEcp5(Written(BlockRam(**ram, other_writer=True))),
            Written(BlockRam(**ram, other_writer=True)),
        )
        for place, ram in enumerate(rams)
    }
    compare(pairs, models("ecp5"), tmp_path, seed=4)


def test_block_rams_that_yosys_makes_are_the_memories(tmp_path: Path) -> None:
    made = synthesised(Rams(seed=2), "gates", "ecp5")
    assert cells(made)["DP16KD"] == len(SHAPES)
    rams = Rams(seed=2)
    compare({"rams": (Gates(rams.signature), rams)}, made + models("ecp5"), tmp_path, seed=2)


def reference(family: str, cell: str) -> str:
    """What Yosys says that a cell does, as the module ``CELL_REFERENCE``."""
    found = module(cell).search(yosys_models(family))
    assert found is not None
    return found[0].replace(f"module {cell}", f"module {cell}_REFERENCE", 1)


def test_tables_are_yosys_s(tmp_path: Path) -> None:
    pairs, text = {}, ""
    for family, cell, parameter, pins in (
        ("ecp5", "LUT4", "INIT", "A B C D Z"),
        ("ice40", "SB_LUT4", "LUT_INIT", "I0 I1 I2 I3 O"),
    ):
        text += models(family) + reference(family, cell)
        pairs[family] = Table(cell, parameter, pins, 3), Table(f"{cell}_REFERENCE", parameter, pins, 3)
    compare(pairs, text, tmp_path, seed=3)


def test_memories_of_the_ice40_are_yosys_s(tmp_path: Path) -> None:
    small, large = "SB_RAM40_4K", "SB_SPRAM256KA"
    modes = itertools.product(range(4), repeat=2)
    pairs: dict[str, tuple[wiring.Component, wiring.Component]] = {
        f"ram{write_mode}{read_mode}": (
            Ice40Ram(small, write_mode=write_mode, read_mode=read_mode, seed=5),
            Ice40Ram(f"{small}_REFERENCE", write_mode=write_mode, read_mode=read_mode, seed=5),
        )
        for write_mode, read_mode in modes
    }
    pairs["large"] = Ice40LargeRam(large), Ice40LargeRam(f"{large}_REFERENCE")
    text = models("ice40") + reference("ice40", small) + reference("ice40", large)
    compare(pairs, text, tmp_path, seed=5)


@pytest.mark.parametrize(
    ("cell", "mode"),
    [
        ("DP16KD", '.WRITEMODE_A("WRITETHROUGH")'),
        ("DP16KD", '.REGMODE_B("LATCH")'),
        ("DP16KD", '.CSDECODE_B("0b101")'),
        ("DP16KD", '.CLKAMUX("INV")'),
        ("DP16KD", ".DATA_WIDTH_A(18), .DATA_WIDTH_B(36)"),
        ("MULT18X18D", '.RESETMODE("ASYNC")'),
        ("MULT18X18D", '.MULT_BYPASS("ENABLED")'),
        ("MULT18X18D", '.SOURCEB_MODE("B_C_DYNAMIC")'),
        ("SB_RAM40_4K", '.INIT_FILE("words")'),
    ],
)
def test_mode_without_a_model_is_refused(tmp_path: Path, cell: str, mode: str) -> None:
    source = tmp_path / "top.v"
    family = "ice40" if cell.startswith("SB_") else "ecp5"
    for parameters, allowed in (("", True), (f"#({mode})", False)):
        source.write_text(f"module top; {cell} {parameters} instance_of(); endmodule\n{models(family)}")
        command = [str(use_verilator() / "verilator"), "--lint-only", *WARNINGS, "--top-module", "top", str(source)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (result.returncode == 0) == allowed, result.stderr
    assert f"{cell}_has_no_model_of" in result.stderr


def test_family_without_models_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'nexus'.*ecp5, ice40"):
        models("nexus")
