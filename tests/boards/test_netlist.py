"""Resources by block and critical paths, on netlists and reports small enough to count by hand."""

import pytest
from tenzo_hw.boards import Resources
from tenzo_hw.build.families import FAMILIES
from tenzo_hw.build.netlist import Hierarchy, resources
from tenzo_hw.build.timing import clock, critical_path, placed

MODULES = (
    "clock",
    "pin_led_0",
    "shell",
    "shell.receiver",
    "shell.receiver.bits",
    "shell.transmitter",
    "shell.machine",
    "shell.machine.link",
    "shell.machine.link.sender.crc$20",
    "shell.machine.core",
    "shell.machine.core.engine",
    "shell.machine.core.engine.nest",
    "shell.machine.core.engine.lane0",
    "shell.machine.core.engine.lane0.bank1",
    "shell.machine.core.engine.lane11",
    "shell.machine.core.sweep$197",
    "shell.machine.core.sweep$197.generator$106",
    "shell.machine.core.loss$198",
    "shell.machine.core.loss$198.pipe0",
)


@pytest.mark.parametrize(
    ("cell", "block"),
    [
        ("shell.machine.core.engine.lane0.total_LUT4_Z", "engine.lane"),
        ("shell.machine.core.engine.lane11.total_LUT4_Z", "engine.lane"),
        ("shell.machine.core.engine.lane0.bank1.words.0.0", "engine.lane"),
        ("shell.machine.core.engine.nest.valid_TRELLIS_FF_Q", "engine.nest"),
        ("shell.machine.core.engine.start_LUT4_A", "engine"),
        ("shell.machine.core.sweep$197.generator$106.state_TRELLIS_FF_Q", "sweep.generator"),
        ("shell.machine.core.sweep$197.row_TRELLIS_FF_Q", "sweep"),
        ("shell.machine.core.loss$198.pipe0.x", "loss"),
        ("shell.machine.link.sender.crc$20.x", "link"),
        # A signal of a name like a module's is none.
        ("shell.machine.core.coefficient$199.instruction$5.average", "core"),
        ("shell.machine.control__waits_DFFRE_Q", "core"),
        ("shell.line_SB_LUT4_O", "rest"),
        ("shell.receiver.bits.phase_SB_LUT4_O", "uart"),
        ("shell.transmitter.tx_SB_DFF_Q", "uart"),
        ("clock.pll", "rest"),
        ("pin_led_0.buf", "rest"),
        ("$abc$77$lut", "rest"),
    ],
)
def test_a_cell_is_in_the_innermost_block_that_is_shown(cell: str, block: str) -> None:
    assert Hierarchy(MODULES).block(cell) == block


def test_cells_count_by_kind_and_blocks_sum_up() -> None:
    lane = "shell.machine.core.engine.lane0"
    cells = {name: {"type": "$scopeinfo"} for name in MODULES} | {
        f"{lane}.a_LUT4_Z": {"type": "LUT4"},
        f"{lane}.a_CCU2C_S0": {"type": "CCU2C"},
        f"{lane}.a_PFUMX_Z": {"type": "PFUMX"},
        f"{lane}.small.0": {"type": "TRELLIS_DPR16X4"},
        f"{lane}.multiplier0.cell": {"type": "MULT18X18D"},
        f"{lane}.bank1.cell0": {"type": "DP16KD"},
        "shell.receiver.state_TRELLIS_FF_Q": {"type": "TRELLIS_FF"},
        "shell.receiver.state_TRELLIS_FF_Q_1": {"type": "TRELLIS_FF"},
        "clock.pll": {"type": "EHXPLLL"},
    }
    blocks = resources(cells, FAMILIES["ecp5"].cells)
    assert blocks == {
        "engine.lane": Resources(lut=1 + 2 + 6, ff=0, dsp=1, bram=1),
        "uart": Resources(lut=0, ff=2, dsp=0, bram=0),
    }
    assert Resources.total(blocks.values()) == Resources(lut=9, ff=2, dsp=1, bram=1)


@pytest.mark.parametrize(
    ("family", "kind", "worth"),
    [
        ("ice40", "SB_DFFESR", Resources(0, 1, 0, 0)),
        ("ice40", "SB_RAM40_4KNR", Resources(0, 0, 0, 1)),
        ("ice40", "SB_SPRAM256KA", Resources(0, 0, 0, 0, 1)),
        ("gowin", "DFFRE", Resources(0, 1, 0, 0)),
        ("gowin", "SDPX9B", Resources(0, 0, 0, 1)),
        ("gowin", "ALU", Resources(1, 0, 0, 0)),
        ("gowin", "MULT18X18", Resources(0, 0, 1, 0)),
    ],
)
def test_every_family_knows_its_cells(family: str, kind: str, worth: Resources) -> None:
    assert resources({"shell.x": {"type": kind}, "shell": {"type": "$scopeinfo"}}, FAMILIES[family].cells) == {
        "rest": worth
    }


def step(kind: str, delay: float, source: str, target: str, net: str | None = None) -> dict:
    ends = {"from": {"cell": source, "loc": [1, 2]}, "to": {"cell": target, "loc": [3, 4]}}
    return {"type": kind, "delay": delay} | ends | ({"net": net} if net else {})


REPORT = {
    "fmax": {"fast": {"achieved": 150.0, "constraint": 100.0}, "main": {"achieved": 60.0, "constraint": 50.0}},
    "critical_paths": [
        {"from": "posedge fast", "to": "posedge fast", "path": [step("clk-to-q", 1.0, "a", "a")]},
        {"from": "<async>", "to": "posedge main", "path": []},
        {
            "from": "posedge main",
            "to": "posedge main",
            "path": [
                step("clk-to-q", 0.5, "shell.machine.link.x", "shell.machine.link.x"),
                step("routing", 3.0, "shell.machine.link.x", "shell.machine.core.engine.y", "wire"),
                step("logic", 0.25, "shell.machine.core.engine.y", "shell.machine.core.engine.y"),
                step("routing", 0.0, "shell.machine.core.engine.y", "$nextpnr_CCU2C_1", "carry"),
                step("routing", 1.0, "$nextpnr_CCU2C_1", "shell.machine.core.engine.nest.z", "wire2"),
                step("setup", 0.25, "shell.machine.core.engine.nest.z", "shell.machine.core.engine.nest.z"),
            ],
        },
    ],
    "utilization": {"TRELLIS_COMB": {"used": 7}, "TRELLIS_FF": {"used": 3}, "DP16KD": {"used": 0}},
}


def test_the_clock_is_the_one_nearest_to_missing() -> None:
    slowest = clock(REPORT)
    assert (slowest.name, slowest.mhz, slowest.met) == ("main", 60.0, True)
    missed = {"fmax": {"main": {"achieved": 49.99, "constraint": 50.0}}}
    assert not clock(missed).met
    with pytest.raises(RuntimeError, match="no clock"):
        clock({"fmax": {}})


def test_a_path_is_told_by_its_blocks() -> None:
    path = critical_path(REPORT, Hierarchy(MODULES))
    assert path["words"] == "5.0 ns from link to engine.nest, 80% of it on 3 wires, through engine"
    assert path["blocks"] == ["link", "engine", "engine.nest"]
    assert (path["ns"], path["routing_ns"]) == (5.0, 4.0)
    assert path["steps"][1] == {
        "ns": 3.0,
        "type": "routing",
        "block": "engine",
        "name": "wire",
        "from": [1, 2],
        "to": [3, 4],
    }


def test_what_is_placed_is_in_the_familys_units() -> None:
    assert placed(REPORT, FAMILIES["ecp5"]) == {"lut": 7, "ff": 3, "dsp": 0, "bram": 0}
