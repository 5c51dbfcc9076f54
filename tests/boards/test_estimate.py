"""Estimates from measured builds: exact where the truth is a line, and honest about how far off they are."""

import dataclasses
import json

import pytest
from tenzo import cli
from tenzo_hw.boards import BOARDS, Board, Resources
from tenzo_hw.boards.estimate import estimate
from tenzo_hw.boards.measured import Measured, excerpt, measured, measured_of
from tenzo_hw.config import PRESETS, Config
from typer.testing import CliRunner

BOARD = BOARDS["ulx3s_25f"]


def truth(config: Config) -> dict[str, Resources]:
    """Blocks that grow as estimates say."""
    bits = config.multipliers * config.accumulator
    # A lane with tables has one multiplier more, which interpolates.
    multipliers = config.multipliers + config.lanes * (config.tables > 0)
    return {
        "engine.lane": Resources(lut=3 * bits, ff=bits, dsp=multipliers, bram=0),
        "loss": Resources(lut=10 + 2 * config.loss_pipes * config.loss_word, ff=0, dsp=0, bram=0),
        "sequencer": Resources(lut=500, ff=400, dsp=0, bram=config.program_depth // 512),
    }


def build(preset: str, board: Board = BOARD, blocks: dict[str, Resources] | None = None) -> Measured:
    blocks = blocks or truth(PRESETS[preset])
    return Measured(
        board=board,
        preset=preset,
        config=PRESETS[preset],
        constraint_mhz=50,
        median_mhz=60,
        blocks=blocks,
        total=Resources(*map(sum, zip(*blocks.values(), strict=True))),
    )


def test_a_line_through_the_builds_is_found() -> None:
    told = estimate(BOARD.changed(preset="ulx3s_85f"), [build("tiny"), build("small"), build("ulx3s_12f")])
    assert told.blocks == truth(PRESETS["ulx3s_85f"])
    assert told.total.lut == sum(block.lut for block in told.blocks.values())
    assert told.errors == Resources(0, 0, 0, 0)


def test_one_build_scales_in_proportion_and_tells_no_error() -> None:
    told = estimate(BOARD.changed(preset="small"), [build("tiny")])
    assert told.blocks["engine.lane"] == truth(PRESETS["small"])["engine.lane"]
    assert told.blocks["sequencer"] == truth(PRESETS["small"])["sequencer"]
    assert told.errors is None


def test_the_error_is_the_largest_miss_of_a_build_left_out() -> None:
    off = truth(PRESETS["small"])
    lut = sum(block.lut for block in off.values())
    off["sequencer"] = off["sequencer"]._replace(lut=500 + lut)
    told = estimate(BOARD, [build("tiny"), build("ulx3s_85f"), build("small", blocks=off)])
    assert told.errors is not None
    # Twice what the others foretell of it.
    assert told.errors.lut >= 50
    assert told.errors.ff == 0


def test_other_families_teach_nothing() -> None:
    with pytest.raises(ValueError, match="no build of the family ice40 was measured"):
        estimate(BOARDS["icebreaker"], [build("tiny")])


def test_every_measured_build_is_one_of_a_board_and_sums_up() -> None:
    for one in measured():
        assert one.total == Resources(*map(sum, zip(*one.blocks.values(), strict=True)))
        assert one.median_mhz > 0
        assert all(used <= there for used, there in zip(one.total, one.board.chip.resources, strict=True))


def test_an_excerpt_is_read_back() -> None:
    config = dataclasses.asdict(BOARD.config)
    blocks = {"uart": {"lut": 1, "ff": 2, "dsp": 3, "bram": 4, "spram": 0}}
    report = {"board": BOARD.name, "preset": BOARD.preset, "constraint_mhz": 50.0, "configuration": config}
    report |= {"fmax": {"median": 61.5}, "resources": {"blocks": blocks}, "versions": {}}
    kept = json.loads(json.dumps(excerpt(report)))
    assert kept["median_mhz"] == 61.5
    assert kept["blocks"] == {"uart": [1, 2, 3, 4, 0]}


def test_the_commands_list_and_estimate(tmp_path) -> None:
    runner = CliRunner()
    listed = runner.invoke(cli.app, ["boards", "--json", "boards.json"])
    assert listed.exit_code == 0, listed.output
    document = json.loads((tmp_path / "boards.json").read_text())
    assert list(document) == list(BOARDS)
    for name, board in BOARDS.items():
        assert name in listed.output
        assert document[name]["multipliers"] == board.config.multipliers
        assert ("median_mhz" in document[name]) == (measured_of(board) is not None)
    for board in {one.board.chip.family: one.board for one in measured()}.values():
        told = runner.invoke(cli.app, ["estimate", board.name, "--json", "estimate.json"])
        assert told.exit_code == 0, told.output
        document = json.loads((tmp_path / "estimate.json").read_text())
        assert document["total"]["lut"] == sum(block["lut"] for block in document["blocks"].values())
    for arguments in (["estimate", BOARD.name, "--steps", "3"], ["estimate", "recipe.toml", "--machine", "tiny"]):
        refused = runner.invoke(cli.app, arguments)
        assert refused.exit_code == cli.FAILED
        assert "--machine" in refused.output
