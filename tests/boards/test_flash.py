"""Programming, with a programmer that only writes down what it is asked."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from tenzo import cli
from tenzo_hw.boards import BOARDS
from typer.testing import CliRunner

FLASHED = [name for name, board in BOARDS.items() if board.open_tools]


def tenzo(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == code, result.output
    return result.output


def leave_build(name: str) -> Path:
    folder = Path("runs/boards") / name
    folder.mkdir(parents=True)
    bitstream = folder / f"{name}.bit"
    bitstream.write_bytes(b"all the bits")
    digest = hashlib.sha256(bitstream.read_bytes()).hexdigest()
    report = {"board": name, "bitstream": {"file": bitstream.name, "seed": 1, "sha256": digest}}
    (folder / "report.json").write_text(json.dumps(report))
    return bitstream


@pytest.fixture
def programmer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programmers of both names that write their arguments into a file and exit as the file ``exit`` says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("openFPGALoader", "iceprog"):
        script = folder / name
        script.write_text(f'#!/bin/sh\necho "$(basename $0) $@" > {tmp_path}/asked\nexit $(cat {tmp_path}/exit)\n')
        script.chmod(0o755)
    (tmp_path / "exit").write_text("0")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize("name", FLASHED)
def test_the_boards_programmer_gets_the_boards_bitstream(programmer: Path, name: str) -> None:
    bitstream = leave_build(name)
    tenzo("flash", name)
    asked = (programmer / "asked").read_text().split()
    assert asked == [*BOARDS[name].programmer, str(bitstream)]


def test_a_programmer_that_fails_is_told(programmer: Path) -> None:
    leave_build("icebreaker")
    (programmer / "exit").write_text("3")
    assert "iceprog exited with 3: is iCEBreaker connected" in tenzo("flash", "icebreaker", code=cli.FAILED)


@pytest.mark.parametrize(("name", "tool"), [("ulx3s_85f", "openFPGALoader"), ("icebreaker", "iceprog")])
def test_a_programmer_that_is_missing_is_named_with_its_place(monkeypatch, name: str, tool: str) -> None:
    bitstream = leave_build(name)
    monkeypatch.setenv("PATH", "")
    said = tenzo("flash", name, code=cli.FAILED)
    assert f"is programmed by {tool}, which is not installed" in said
    assert "https://" in said
    assert str(bitstream) in said


def test_only_the_bitstream_of_the_report_is_loaded(programmer: Path) -> None:
    assert "there is no build in runs/boards/icebreaker" in tenzo("flash", "icebreaker", code=cli.FAILED)
    bitstream = leave_build("icebreaker")
    bitstream.write_bytes(b"other bits")
    assert "is not the bitstream that" in tenzo("flash", "icebreaker", code=cli.FAILED)
    bitstream.unlink()
    assert "is not the bitstream that" in tenzo("flash", "icebreaker", code=cli.FAILED)
    said = tenzo("flash", "ulx3s_85f", "--folder", "runs/boards/icebreaker", code=cli.FAILED)
    assert "is for icebreaker, not for ulx3s_85f" in said
    assert not (programmer / "asked").exists()
