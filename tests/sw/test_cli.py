"""The command line on the exact model, from a recipe to a verified run."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from tenzo import cli, report
from tenzo.benchmarks import SMALL
from tenzo.checkpoint import Checkpoint
from tenzo.recipe import Recipe
from typer.testing import CliRunner

RECIPE = """
name = "small"
machine = "tiny"
batch = 4
steps = 40

[dataset]
name = "digits"

[network]
layers = [
    { kind = "tt", inputs = [8, 8], outputs = [2, 4], rank = 2 },
    { kind = "relu" },
    { kind = "tt", inputs = [2, 4], outputs = [1, 10], rank = 2 },
]

[settings]
queries = 4
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE)
    return tmp_path


def tenzo(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == code, result.output
    return result.output


def document(path: str) -> dict:
    return json.loads(Path(path).read_text())


def test_train_leaves_everything_and_verify_finds_it_exact() -> None:
    tenzo("train", "--recipe", "small.toml", "--json", "out.json")
    run = Path("runs/small")
    left = {path.name for path in run.iterdir()}
    names = (report.CONFIG, report.CURVE, report.PLOT, report.REPORT, report.PAGE, report.START, report.CHECKPOINT)
    assert left == set(names)
    result = document("runs/small/report.json")
    assert result == document("out.json")
    assert result["exact"] is None
    assert 0 <= result["accuracy"]["test"] <= 1
    tenzo("estimate", "small.toml", "--json", "estimate.json")
    estimated = document("estimate.json")
    assert result["cycles"] == estimated["cycles"] | {"waits": 0}
    assert result["utilisation"]["step"] == estimated["utilisation"]["step"]
    assert result["simulator"]["cycles_per_second"] > 0
    assert "equal" in tenzo("verify", "runs/small", "--json", "verify.json")
    assert document("verify.json")["exact"] is True
    assert document("runs/small/report.json")["exact"] is True
    assert "yes" in (run / report.PAGE).read_text()


def test_a_dataset_has_a_recipe_and_its_values_can_be_others(folder) -> None:
    (folder / "recipes").mkdir()
    (folder / "recipes" / "small.toml").write_text(RECIPE)
    hybrid = ("machine=small", "settings.queries=2", "fine.estimator=incremental-cge", "switch.step=5")
    changes = [argument for change in hybrid for argument in ("--set", change)]
    tenzo("train", "--dataset", "small", "--steps", "7", *changes)
    told = document("runs/small/config.json")["recipe"]
    assert (told["settings"]["queries"], told["fine"]["estimator"], told["steps"]) == (2, "incremental-cge", 7)
    assert "equal" in tenzo("verify", "runs/small")
    parts = document("runs/small/report.json")["parts"]
    assert sum(part["cycles"] for part in parts) == document("runs/small/report.json")["cycles"]["step"]
    assert "there is no recipe" in tenzo("train", "--dataset", "none", code=cli.FAILED)
    assert "mnist has" in tenzo("bench", "digits", "--quick", code=cli.FAILED)


@pytest.mark.parametrize("name", ["masters", "momentum", "losses", "runs"])
def test_verify_finds_one_wrong_word(name: str) -> None:
    tenzo("train", "--recipe", "small.toml", "--steps", "20")
    path = Path("runs/small") / report.CHECKPOINT
    checkpoint = Checkpoint.load(path)
    getattr(checkpoint, name).reshape(-1)[1] += 1
    checkpoint.save(path)
    assert "DIFFERENT" in tenzo("verify", "runs/small", code=1)
    assert document("runs/small/report.json")["exact"] is False


def test_interrupt_saves_and_resume_goes_on_to_the_same_bits(monkeypatch) -> None:
    tenzo("train", "--recipe", "small.toml", "--run", "runs/whole")
    quiet = cli._Bar.batch

    def press(self: cli._Bar, sent: int) -> None:
        quiet(self, sent)
        if sent == 5:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cli._Bar, "batch", press)
    said = tenzo("train", "--recipe", "small.toml", "--run", "runs/stopped", code=130)
    assert "tenzo train --resume runs/stopped" in said
    assert Checkpoint.load(Path("runs/stopped") / report.CHECKPOINT).step == 16
    monkeypatch.setattr(cli._Bar, "batch", quiet)
    tenzo("train", "--resume", "runs/stopped")
    whole, resumed = (Checkpoint.load(Path("runs") / name / report.CHECKPOINT) for name in ("whole", "stopped"))
    for name in vars(whole):
        assert np.array_equal(getattr(whole, name), getattr(resumed, name)), name
    tenzo("verify", "runs/stopped")


def test_a_finished_run_stays_as_it_is() -> None:
    tenzo("train", "--recipe", "small.toml", "--steps", "4")
    tenzo("verify", "runs/small")
    before = {path.name: path.read_bytes() for path in Path("runs/small").iterdir()}
    assert "finished after 4 steps" in tenzo("train", "--resume", "runs/small", code=2)
    assert {path.name: path.read_bytes() for path in Path("runs/small").iterdir()} == before


def test_a_damaged_or_foreign_run_is_refused_in_one_line() -> None:
    tenzo("train", "--recipe", "small.toml", "--steps", "4")
    tenzo("train", "--recipe", "small.toml", "--steps", "4", "--seed", "1", "--run", "runs/other")
    run = Path("runs/small")
    (run / report.REPORT).unlink()
    good, foreign = ((path / report.CHECKPOINT).read_bytes() for path in (run, Path("runs/other")))
    for data, message in ((good[:500], "is damaged"), (foreign, "its seed is 1 instead of 0")):
        (run / report.CHECKPOINT).write_bytes(data)
        for command in (("train", "--resume"), ("trace",), ("predict",)):
            said = tenzo(*command, "runs/small", code=2)
            assert message in said
            assert said.count("\n") == 1
        assert (run / report.CHECKPOINT).read_bytes() == data
    assert "its seed is 1 instead of 0" in tenzo("verify", "runs/small", code=2)
    config = json.loads((run / report.CONFIG).read_text())
    for text in ("[]", "{", json.dumps(config | {"device": 3}), json.dumps({"device": "model"})):
        (run / report.CONFIG).write_text(text)
        assert "config.json is damaged" in tenzo("train", "--resume", "runs/small", code=2)


def test_an_error_keeps_its_brackets() -> None:
    np.savez("wrong.npz", x=np.zeros((9, 64)), y=np.zeros((9, 2), dtype=np.int64))
    Path("small.toml").write_text(RECIPE.replace('"digits"', '"wrong.npz"'))
    assert "inputs are [samples, inputs]" in tenzo("train", "--recipe", "small.toml", code=2)


def test_predict_and_evaluate_agree() -> None:
    tenzo("train", "--recipe", "small.toml", "--steps", "8")
    tenzo("predict", "runs/small", "--output", "labels.csv", "--json", "outputs.json")
    labels = np.loadtxt("labels.csv", skiprows=1)
    outputs = np.array(document("outputs.json")["outputs"])
    assert np.array_equal(labels, outputs.argmax(axis=1))
    tenzo("evaluate", "runs/small", "--json", "scores.json")
    assert document("scores.json")["accuracy"]["test"] == document("runs/small/report.json")["accuracy"]["test"]


def test_plan_shows_program_and_layers() -> None:
    said = tenzo("plan", "small.toml", "--json", "plan.json")
    assert "CONTRACT" in said
    assert [layer["name"] for layer in document("plan.json")["layers"]] == ["layer0", "layer1"]


def test_trace_stays_near_the_float_network() -> None:
    tenzo("train", "--recipe", "small.toml", "--steps", "8")
    for source in ("small.toml", "runs/small"):
        tenzo("trace", source, "--samples", "2", "--json", "trace.json")
        layers = document("trace.json")
        assert list(layers) == ["layer0", "layer1"]
        # Words of 9 bits have 4 fraction bits: a few roundings.
        assert all(layer["max_error"] < 0.3 for layer in layers.values())


def test_info_counts_every_bit() -> None:
    tenzo("info", "tiny", "--json", "info.json")
    told = document("info.json")
    assert told["bits_per_weight"] == 24 + 24 + 2 * 9
    bits = {memory["name"]: memory["bits"] for memory in told["memories"]}
    words = told["config"]["weight_rows"] * told["config"]["columns"]
    halves = 2 * words * told["config"]["word"]
    assert bits["master"] + bits["momentum"] + halves == words * told["bits_per_weight"]
    assert bits["effective"] >= halves
    assert "lanes" in tenzo("info", "--device", "model:tiny")


def test_bench_leaves_its_result() -> None:
    Path("digits.toml").write_text(RECIPE.replace("steps = 40", "steps = 4"))
    for name in ("digits-rge", "mnist-rge", "mnist"):
        Path(f"{name}.toml").write_text(RECIPE)
    tenzo("bench", "digits", "--recipes", ".")
    assert len(document("runs/bench/digits.json")["accuracy"]["each"]) == 3
    for name in SMALL:
        Path(f"digits-{name}.toml").write_text(RECIPE.replace("steps = 40", "steps = 2"))
    tenzo("bench", "small", "--recipes", ".")
    machines = document("runs/bench/small.json")["machines"]
    assert {name: len(result["accuracy"]["each"]) for name, result in machines.items()} == dict.fromkeys(SMALL, 3)
    tenzo("bench", "utilisation", "--recipes", ".")
    step = document("runs/bench/utilisation.json")["digits"]["step"]
    assert step["cycles"] == step["estimated_cycles"]


def test_bench_renews_a_part_of_its_result() -> None:
    names = ("mnist", "mnist-fast", "mnist-9bit", "mnist-rge")
    for name in names:
        larger = RECIPE.replace("tiny", "small").replace("batch = 4", "batch = 16").replace("steps = 40", "steps = 2")
        Path(f"{name}.toml").write_text(larger)
    trainer = Recipe.load(Path("mnist.toml")).trainer()
    cycles, macs = trainer.estimate(2), 2 * trainer.step_macs
    trained = {"steps": 2, "accuracy": {"seeds": [1.0], "mean": 1.0, "std": 0.0}, "cycles": {"step": 1, "total": 2}}
    trained["macs"] = {"step": macs // 2, "total": macs}
    floats = {"trained": {"floats": trained | {"macs": 1}}, "seconds_a_step": {"here": 1.0}}
    values = {"command": "before", "trained": dict.fromkeys(names, trained), "floats": floats}
    result = Path("runs/bench/mnist.json")
    result.parent.mkdir(parents=True)
    result.write_text(json.dumps(values))
    renew = ("bench", "mnist", "--recipes", ".", "--only")
    assert "no recipe 'mnist-7bit'" in tenzo(*renew, "mnist-7bit", code=2)
    tenzo(*renew, "mnist-9bit")
    renewed = document(str(result))
    assert len(renewed["trained"]["mnist-9bit"]["accuracy"]["seeds"]) == 3
    # Cycles are today's, whatever was trained.
    assert renewed["trained"]["mnist-fast"] == trained | {"cycles": {"step": cycles // 2, "total": cycles}}
    assert (renewed["command"], renewed["floats"]) == ("before", floats)
    assert renewed["renewed"]["mnist-9bit"]["command"] == "tenzo bench mnist --device model --only mnist-9bit"
    # What is kept must be of the network of today.
    trained["macs"]["total"] += 1
    result.write_text(json.dumps(values))
    assert f"says {macs + 1:,} MACs of mnist" in tenzo(*renew, "mnist-9bit", code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train",), "one of --recipe FILE or --dataset NAME"),
        (("train", "--recipe", "none.toml"), "there is no recipe none.toml"),
        (("train", "--recipe", "small.toml", "--device", "fpga"), "no device 'fpga'"),
        (("train", "--recipe", "small.toml", "--device", "model:small"), "another machine"),
        (("train", "--recipe", "small.toml", "--device", "serial:/dev/none"), "cannot be opened"),
        (("train", "--recipe", "small.toml", "--steps", "0"), "steps"),
        (("train", "--resume", "runs/none"), "not the folder of a run"),
        (("train", "--resume", "small.toml"), "not the folder of a run"),
        (("train", "--recipe", "small.toml", "--json", "none/out.json"), "there is no folder none"),
        (("verify", "runs/none"), "not the folder of a run"),
        (("trace", "small.toml", "--samples", "3"), "1 to 2, one a lane"),
        (("trace", "small.toml", "--waveform", "wave.vcd"), "no waveform"),
        (("info", "huge"), "no preset 'huge'"),
        (("bench", "beauty"), "no benchmark 'beauty'"),
        (("bench", "digits", "--only", "mnist"), "digits is measured as a whole"),
        (("bench", "mnist", "--only", "mnist"), "measure everything first"),
        (("bench", "mnist", "--only", "mnist", "--quick"), "leave --quick out"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    said = tenzo(*arguments, code=2)
    assert message in said
    assert said.startswith("error:")
    assert said.count("\n") == 1
    assert not Path("runs").exists()


def test_a_run_is_not_overwritten_unasked() -> None:
    tenzo("train", "--recipe", "small.toml", "--steps", "4")
    assert "--overwrite" in tenzo("train", "--recipe", "small.toml", "--steps", "4", code=2)
    tenzo("train", "--recipe", "small.toml", "--steps", "5", "--overwrite")
    assert document("runs/small/report.json")["steps"] == 5
    Path("small.toml").write_text(RECIPE.replace('"digits"', '"none.npz"'))
    assert "none.npz" in tenzo("train", "--recipe", "small.toml", "--overwrite", code=2)
    assert document("runs/small/report.json")["steps"] == 5
    Path("mine").mkdir()
    Path("mine/novel.txt").write_text("all I have")
    said = tenzo("train", "--recipe", "small.toml", "--run", "mine", "--overwrite", code=2)
    assert "not the folder of a run" in said
    assert Path("mine/novel.txt").exists()
