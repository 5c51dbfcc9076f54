import csv

import numpy as np
import pytest
from tenzo import report
from tenzo.report import Report


@pytest.fixture
def finished() -> Report:
    return Report(
        name="small",
        device="model",
        steps=3,
        seed=0,
        weights=10,
        loss=0.5,
        accuracy=report.Score(train=0.9, test=0.8),
        r2=None,
        cycles=report.Cycles(total=3000, step=1000, waits=5),
        utilisation=report.Utilisation(step=0.9, forward=0.95),
        parts=[report.Share(name="layer0.core0", cycles=900, macs=8000, utilisation=0.95)],
        simulator=report.Simulator(seconds=2.0, cycles_per_second=1500.0),
        clock=report.Clock(mhz=25.0, step_us=40.0),
        recovered=0,
        exact=None,
        versions={"tenzo": "0"},
    )


def test_a_report_is_saved_and_loaded(tmp_path, finished: Report) -> None:
    finished.save(tmp_path, {"settings": {"queries": 16}, "batch": 64, "name": "<script>"})
    assert Report.load(tmp_path) == finished
    page = (tmp_path / report.PAGE).read_text()
    assert "80.00%" in page
    assert "not verified yet" in page
    assert "<script>" not in page


def test_a_folder_without_a_report_and_a_damaged_one_are_refused(tmp_path, finished: Report) -> None:
    with pytest.raises(ValueError, match="no finished run"):
        Report.load(tmp_path)
    (tmp_path / report.REPORT).write_text(finished.model_dump_json()[:-10])
    with pytest.raises(ValueError, match="is no report"):
        Report.load(tmp_path)


@pytest.mark.parametrize("accuracies", [None, np.array([0.1, 0.2, 0.3])])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_curve_is_a_table_and_a_picture(tmp_path, accuracies: np.ndarray | None, steps: int) -> None:
    losses = np.array([2.5, 2.0, 1.5])[:steps]
    report.save_curve(tmp_path, losses, None if accuracies is None else accuracies[:steps])
    rows = list(csv.DictReader((tmp_path / report.CURVE).read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == losses.tolist()
    assert all(("accuracy" in row) == (accuracies is not None) for row in rows)
    assert (tmp_path / report.PLOT).read_bytes().startswith(b"\x89PNG")
