"""The command line: ``tenzo train | predict | evaluate | verify | estimate | plan | trace | info | bench``, and
``build | flash | boards`` for real boards.

What a command does is in its own module; here are its options and how its result is shown.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from tenzo_hw.boards import BOARDS, Board, board
from tenzo_hw.config import PRESETS, preset
from typer.core import TyperGroup

#: What a command that could not do its work exits with, and one whose result is not what it must be.
FAILED, WRONG = 2, 1
#: Seeds of a build: their median is quoted.
SEEDS = 3

console = Console()
errors = Console(stderr=True)


class _OneLineErrors(TyperGroup):
    """Shows what a person can put right as one line instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except (ValueError, RuntimeError, OSError) as error:
            errors.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(FAILED) from None


app = typer.Typer(cls=_OneLineErrors, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


def _writable(path: Path | None) -> Path | None:
    """A file to write; refused before the work whose result it is for."""
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"{path} cannot be written: there is no folder {path.parent}")
    return path


Json = Annotated[Path | None, typer.Option("--json", callback=_writable, help="Also write the result to this file.")]
DeviceName = Annotated[
    str, typer.Option("--device", help="model, model:PRESET, sim, sim:PRESET, serial:PORT or serial:PORT@BAUD.")
]
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)]
Source = Annotated[Path, typer.Argument(help="A recipe (TOML) or a run's folder.", show_default=False)]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Another value of the recipe, such as settings.estimator=rge; may be given again."),
]
Samples = Annotated[
    Path | None,
    typer.Option("--data", help="Samples of your own: rows of inputs in a CSV file, or x in an NPZ file; no labels."),
]


@app.command()
def train(
    recipe: Annotated[
        Path | None, typer.Option(help="What to train: a TOML file, such as recipes/digits.toml.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Instead of --recipe: recipes/NAME.toml.")] = None,
    changes: Changes = None,
    run: Annotated[Path | None, typer.Option(help="Folder for the run; default runs/NAME.")] = None,
    device: DeviceName = "model",
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    steps: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is in the folder.")] = False,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    json_file: Json = None,
) -> None:
    """Train a network; leaves a folder with curve, report and checkpoint."""
    from .errors import DeviceError
    from .recipe import Recipe
    from .run import Run

    if sum(source is not None for source in (recipe, dataset, resume)) != 1:
        raise ValueError(
            "give one of --recipe FILE or --dataset NAME, to train anew, or --resume FOLDER, to go on with a run"
        )
    if resume is not None:
        if seed is not None or steps is not None or run is not None or overwrite or changes:
            raise ValueError("a run that is resumed keeps its recipe and folder: leave the other options away")
        this = Run.open(resume)
    else:
        wanted = [f"{name}={value}" for name, value in (("seed", seed), ("steps", steps)) if value is not None]
        loaded = Recipe.load(recipe or Path("recipes") / f"{dataset}.toml").changed([*(changes or []), *wanted])
        this = Run.create(run or Path("runs") / loaded.name, loaded, device, overwrite=overwrite)
    # What is wrong is refused before a folder is made or a simulator built.
    this.check()
    if resume is not None:
        this.check_resumable()
    total = this.recipe.steps
    again = f"tenzo train --resume {this.folder}"
    with console.status("starting the machine (the simulator is built once, in a minute or two)"):
        opened = this.connect()
    if resume is None:
        this.begin()
    with opened, _progress_bar("training", total) as bar, _interrupts() as interrupted:
        try:
            result = this.train(opened, lambda progress: bar.chunk(progress) or bool(interrupted), bar.batch)
        except (DeviceError, KeyboardInterrupt) as error:
            reason = str(error) or "stopped at once"
            raise RuntimeError(f"{reason}; go on from the last checkpoint with: {again}") from None
    if result is None:
        console.print(f"Stopped; the checkpoint is saved. Go on with: [bold]{again}[/bold]", soft_wrap=True)
        raise typer.Exit(128 + signal.SIGINT)
    _print_facts(this.recipe.name, result.facts())
    console.print(f"plot    {this.folder / 'curve.png'}\nreport  {this.folder / 'report.html'}", soft_wrap=True)
    _write_json(json_file, result.model_dump())


@app.command()
def verify(run: RunFolder, json_file: Json = None) -> None:
    """Train the run again on the exact model and compare every weight, momentum, loss and cycle."""
    from .checkpoint import Checkpoint
    from .report import CHECKPOINT
    from .run import Run

    this = Run.open(run)
    reached = Checkpoint.load(run / CHECKPOINT)
    with _progress_bar("verifying", reached.step) as bar:
        comparisons = this.verify(lambda progress: bar.chunk(progress, move=True))
    table = Table("words", "number", "different", title=f"{this.device_name} and exact model")
    for comparison in comparisons:
        table.add_row(comparison.name, f"{comparison.count:,}", f"{comparison.different:,}")
    console.print(table)
    exact = not any(comparison.different for comparison in comparisons)
    cycles = int((reached.runs[:, 1] - reached.runs[:, 2]).sum())
    console.print(
        f"[green]equal[/green] after {reached.step:,} steps and {cycles:,} cycles" if exact else "[red]DIFFERENT[/red]"
    )
    _write_json(json_file, {"exact": exact, "comparisons": [vars(comparison) for comparison in comparisons]})
    if not exact:
        raise typer.Exit(1)


@app.command()
def predict(
    run: RunFolder,
    data: Samples = None,
    output: Annotated[
        Path | None, typer.Option(callback=_writable, help="CSV file for the predictions; default: the terminal.")
    ] = None,
    device: DeviceName = "model",
    json_file: Json = None,
) -> None:
    """Compute a trained network's outputs for the test samples, or for your own."""
    import numpy as np

    from . import datasets
    from .run import Run

    this = Run.open(run)
    samples = _dataset(this)
    x = samples.x_test if data is None else samples.prepared(datasets.inputs(data))
    with this.connect(device) as machine:
        outputs = this.restored(machine).predict(x)
    values = outputs.argmax(axis=1)[:, None] if samples.classes else outputs
    names = ["label"] if samples.classes else [f"output{index}" for index in range(values.shape[1])]
    lines = [",".join(names), *(",".join(f"{value:g}" for value in row) for row in values)]
    if output is None:
        console.print("\n".join(lines), highlight=False)
    else:
        output.write_text("\n".join(lines) + "\n")
    _write_json(json_file, {"outputs": np.asarray(outputs).tolist()})


@app.command()
def evaluate(run: RunFolder, device: DeviceName = "model", json_file: Json = None) -> None:
    """Measure a trained network on the machine: accuracy, or R² of values."""
    from .run import Run

    this = Run.open(run)
    samples = _dataset(this)
    with this.connect(device) as machine:
        trainer = this.restored(machine)
        scores = {
            "train": trainer.evaluate(samples.x_train, samples.y_train),
            "test": trainer.evaluate(samples.x_test, samples.y_test),
        }
    measure = "accuracy" if samples.classes else "r2"
    _print_facts(f"{measure} on {samples.name}", [(name, f"{value:.4f}") for name, value in scores.items()])
    _write_json(json_file, {measure: scores})


@app.command()
def estimate(
    source: Annotated[Path, typer.Argument(help="A recipe (TOML), a run's folder or a board.", show_default=False)],
    changes: Changes = None,
    clock: Annotated[float | None, typer.Option(min=0.001, help="Clock in MHz instead of the recipe's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    machine: Annotated[str | None, typer.Option(help=f"Instead of the board's: {', '.join(PRESETS)}.")] = None,
    json_file: Json = None,
) -> None:
    """Tell the exact cycles of a training run without simulating it, or what a board will take without synthesis."""
    if str(source) in BOARDS:
        if changes or clock is not None or steps is not None:
            raise ValueError("--set, --clock and --steps are for recipes; a board takes --machine")
        _estimate_board(board(str(source)).changed(preset=machine), json_file)
        return
    if machine is not None:
        raise ValueError("--machine is for boards; a recipe takes --set machine=NAME")
    recipe = _recipe(source).changed(changes or [])
    trainer = recipe.trainer()
    mhz, count = clock or recipe.clock_mhz, steps or recipe.steps
    cycles = trainer.estimate(count)
    _print_facts(
        recipe.name,
        [
            ("cycles a step", f"{trainer.step_cycles:,}"),
            (f"cycles of {count:,} steps", f"{cycles:,}"),
            ("utilisation of a step", f"{trainer.step_utilisation:.1%}"),
            (f"a step at {mhz:g} MHz", f"{trainer.step_cycles / mhz:,.0f} µs"),
            (f"{count:,} steps at {mhz:g} MHz", f"{cycles / mhz / 1e6:,.1f} s"),
        ],
    )
    console.print(_parts_table(recipe.name, trainer))
    _write_json(
        json_file,
        {
            "steps": count,
            "cycles": {"total": cycles, "step": trainer.step_cycles},
            "utilisation": {"step": trainer.step_utilisation},
            "parts": [part._asdict() for part in trainer.parts()],
            "clock": {"mhz": mhz, "step_us": trainer.step_cycles / mhz, "total_s": cycles / mhz / 1e6},
        },
    )


@app.command()
def plan(
    source: Source,
    changes: Changes = None,
    listing: Annotated[bool, typer.Option(help="Print the program of a step.")] = True,
    json_file: Json = None,
) -> None:
    """Show how a network runs: the program of a step, where its cycles go, and what each layer costs."""
    recipe = _recipe(source).changed(changes or [])
    trainer = recipe.trainer()
    planned = trainer.plan
    if listing:
        console.print(trainer.training_program.listing(), highlight=False, markup=False, soft_wrap=True)
    table = Table(title=f"{recipe.name}: one forward of {recipe.batch} samples")
    for name in ("layer", "weights", "order of cores", "slices", "cycles", "useful MACs", "utilisation"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    layers = []
    for stage, layer, use in zip(recipe.network.stages, planned.layout.layers, planned.layer_uses(), strict=True):
        order = " ".join(map(str, layer.chain.order))
        cells = [str(stage.layer.parameters), order, str(layer.chain.slices), f"{use.cycles:,}", f"{use.macs:,}"]
        table.add_row(use.name, *cells, f"{use.utilisation:.1%}")
        layers.append(use._asdict() | {"weights": stage.layer.parameters, "order": list(layer.chain.order)})
    console.print(table)
    console.print(_parts_table(recipe.name, trainer))
    rows, words = planned.rows, len(trainer.training_program.words)
    facts = [
        ("weight rows", f"{rows:,} of {recipe.machine.weight_rows:,}"),
        ("program words", f"{words:,} of {recipe.machine.program_depth:,}"),
        ("groups a pass", f"{planned.layout.share} of {planned.groups}"),
        ("cycles of a step", f"{trainer.step_cycles:,}"),
        ("utilisation of a step", f"{trainer.step_utilisation:.1%}"),
    ]
    _print_facts("the whole step", facts)
    _write_json(
        json_file,
        {"layers": layers, "rows": rows, "program_words": words, "step_cycles": trainer.step_cycles}
        | {"step_utilisation": trainer.step_utilisation},
    )


@app.command()
def trace(
    source: Source,
    samples: Annotated[int, typer.Option(min=1, help="Number of test samples, at most one a lane.")] = 1,
    waveform: Annotated[
        Path | None, typer.Option(callback=_writable, help="Record a VCD waveform; needs --device sim.")
    ] = None,
    device: DeviceName = "model",
    json_file: Json = None,
) -> None:
    """Compare every layer's integers on the machine with the network in floating point."""
    from .checkpoint import Checkpoint
    from .device import Device
    from .report import CHECKPOINT
    from .trace import trace as trace_layers
    from .transport import open_transport

    recipe = _recipe(source)
    trainer = recipe.trainer()
    planned = trainer.plan
    if source.is_dir():
        reached = Checkpoint.load(source / CHECKPOINT)
        trainer.check_checkpoint(reached)
        weights = planned.unpack(reached.masters)
    else:
        weights = planned.unpack(planned.pack(recipe.network.initial_weights(recipe.seed)))
    x = recipe.dataset.load(recipe.seed).x_test[:samples]
    with Device(open_transport(device, recipe.machine, waveform=waveform), expected=recipe.machine) as machine:
        layers = trace_layers(recipe.network, recipe.machine, planned.formats, machine, weights, x)
    table = Table(title=f"{recipe.name}: {len(x)} samples on {device}")
    for name in ("layer", "outputs", "largest value", "max error", "RMS error", "saturated"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    for layer in layers:
        largest = abs(layer.values).max()
        table.add_row(
            *(layer.name, str(layer.values.shape[1]), f"{largest:.4f}"),
            *(f"{layer.max_error:.5f}", f"{layer.rms_error:.5f}", f"{layer.saturated:,} of {layer.words.size:,}"),
        )
    console.print(table)
    if waveform is not None:
        console.print(f"waveform  {waveform}")
    _write_json(
        json_file,
        {
            layer.name: {
                "words": layer.words.tolist(),
                "reference": layer.reference.tolist(),
                "max_error": layer.max_error,
                "rms_error": layer.rms_error,
                "saturated": layer.saturated,
            }
            for layer in layers
        },
    )


@app.command()
def info(
    machine: Annotated[str, typer.Argument(help=f"A preset: {', '.join(PRESETS)}.")] = "engine_16x8",
    device: Annotated[str | None, typer.Option("--device", help="Ask this device instead.")] = None,
    json_file: Json = None,
) -> None:
    """Show a machine's configuration and memory map."""
    from .device import Device
    from .memory_map import bits_per_weight, memory_map
    from .transport import open_transport

    config = preset(machine)
    if device is not None:
        with Device(open_transport(device)) as opened:
            config = opened.config
    _print_facts(device or machine, [(name, f"{value:,}") for name, value in vars(config).items()])
    table = Table("memory", title="memory map")
    for name in ("words", "bits a word", "bits"):
        table.add_column(name, justify="right")
    memories = memory_map(config)
    for memory in memories:
        table.add_row(memory.name, f"{memory.words:,}", str(memory.width), f"{memory.bits:,}")
    table.add_row("all", "", "", f"{sum(memory.bits for memory in memories):,}")
    console.print(table)
    each = bits_per_weight(config)
    console.print(
        f"{each} bits a trainable word: master {config.master_word}, momentum {config.momentum_word}, "
        f"two effective words of {config.word}"
    )
    document = {"config": vars(config), "bits_per_weight": each}
    _write_json(json_file, document | {"memories": [memory._asdict() | {"bits": memory.bits} for memory in memories]})


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="digits, small, mnist, utilisation, soak, simulator or generator.")],
    device: DeviceName = "model",
    quick: Annotated[bool, typer.Option("--quick", help="Minutes instead of hours; only mnist.")] = False,
    recipes: Annotated[Path, typer.Option(help="Folder with the recipes that are measured.")] = Path("recipes"),
    output: Annotated[Path, typer.Option(help="Folder for NAME.json.")] = Path("runs/bench"),
    only: Annotated[
        list[str] | None, typer.Option(help="Train this recipe only and keep the rest of NAME.json; only mnist.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Measure: accuracy over seeds and beside other methods, utilisation, faults survived, speed of the simulator."""
    from .benchmarks import BENCHMARKS, QUICK, provenance

    if name not in BENCHMARKS:
        raise ValueError(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    if quick and name not in QUICK:
        raise ValueError(f"{name} has no quick form; {', '.join(QUICK)} has")
    if only and name not in QUICK:
        raise ValueError(f"{name} is measured as a whole; {', '.join(QUICK)} has parts")
    options = {"quick": quick, "only": only or [], "earlier": output / f"{name}.json"} if name in QUICK else {}
    with console.status(f"measuring {name}"):
        result = BENCHMARKS[name](recipes, device, **options)
    table = Table(*result.columns, title=f"tenzo bench {name}")
    for row in result.rows:
        table.add_row(*row)
    console.print(table)
    output.mkdir(parents=True, exist_ok=True)
    values = provenance(name, device, quick=quick) | result.values
    _write_json(output / f"{name}.json", values)
    console.print(f"result  {output / f'{name}.json'}")
    _write_json(json_file, values)


BoardName = Annotated[str, typer.Argument(help=f"One of {', '.join(BOARDS)}.", show_default=False)]
BuildFolder = Annotated[Path | None, typer.Option("--folder", help="The build's folder; default runs/boards/BOARD.")]


@app.command()
def build(
    name: BoardName,
    seeds: Annotated[int, typer.Option(min=1, help="Place and route so many times; the best is taken.")] = SEEDS,
    jobs: Annotated[int, typer.Option(min=1, help="So many of them at once; each takes a core and its memory.")] = 1,
    machine: Annotated[str | None, typer.Option(help=f"Instead of the board's: {', '.join(PRESETS)}.")] = None,
    clock: Annotated[float | None, typer.Option(min=0.001, help="Clock in MHz instead of the board's.")] = None,
    folder: BuildFolder = None,
    json_file: Json = None,
) -> None:
    """Build a board's bitstream with open tools; leaves it with its report in a folder.

    Exits with 1, and leaves no bitstream, when no seed meets the timing.
    """
    from tenzo_hw.build import REPORT, TimingError, write_project
    from tenzo_hw.build import build as build_board

    wanted = board(name).changed(preset=machine, clock_mhz=clock)
    place = folder or _build_folder(name)
    if not wanted.open_tools:
        command = write_project(wanted, place)
        console.print(
            f"{wanted.title} is built by its vendor's tool, which was not tried here: the whole project is in {place}, "
            f"run {command} there",
            soft_wrap=True,
        )
        return
    with console.status(f"building {wanted.title}: {wanted.config.multipliers} multipliers, the first time in minutes"):
        built = build_board(wanted, seeds=range(1, seeds + 1), jobs=jobs, say=_say_stage)
    options = {"--seeds": seeds if seeds != SEEDS else None, "--machine": machine, "--clock": clock}
    given = "".join(f" {option} {value}" for option, value in options.items() if value is not None)
    built = replace(built, report={"command": f"tenzo build {name}{given}"} | built.report)
    built.save(place)
    _print_build(built.report, kept=built.kept)
    console.print(f"report     {place / REPORT}", soft_wrap=True)
    _write_json(json_file, built.report)
    try:
        built.check()
    except TimingError as error:
        errors.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(WRONG) from None
    console.print(f"bitstream  {place / built.report['bitstream']['file']}", soft_wrap=True)


@app.command()
def flash(name: BoardName, folder: BuildFolder = None) -> None:
    """Load a board's bitstream into it, with openFPGALoader or iceprog where installed."""
    from tenzo_hw.build import flash as flash_board

    flash_board(board(name), folder or _build_folder(name))


@app.command()
def boards(json_file: Json = None) -> None:
    """List the boards: their machines, and what their builds measured."""
    from tenzo_hw.boards.measured import measured_of

    table = Table(title="boards", pad_edge=False, collapse_padding=True)
    for title in ("board", "chip", "MACs", "MHz", "GMAC/s", "words", "LUT", "DSP", "RAM"):
        table.add_column(title, justify="left" if title in ("board", "chip") else "right", no_wrap=True)
    document = {}
    for name, one in BOARDS.items():
        config, made = one.config, measured_of(one)
        words = config.weight_rows * config.columns
        known = {
            "title": one.title,
            "chip": one.chip.name,
            "preset": one.preset,
            "multipliers": config.multipliers,
            "trainable_words": words,
            "clock_mhz": one.clock_mhz,
        }
        measures = ["", "", ""]
        clock = f"{one.clock_mhz:g}" + ("" if made else " ?")
        if made is not None:
            shares = {
                part: getattr(made.total, part) / getattr(one.chip.resources, part) for part in ("lut", "dsp", "bram")
            }
            measures = [f"{share:.0%}" for share in shares.values()]
            known |= {"median_mhz": made.median_mhz, "shares": shares}
            clock = f"{made.constraint_mhz:g}"
        peak = f"{config.multipliers * one.clock_mhz / 1e3:.2f}"
        table.add_row(*(name, one.chip.name, f"{config.multipliers}", clock, peak, f"{words:,}"), *measures)
        document[name] = known
    console.print(table)
    console.print(
        "MHz: what a build met; with ?: what is asked for. Words: how many can be trained. Shares of the chip."
    )
    _write_json(json_file, document)


def _build_folder(name: str) -> Path:
    return Path("runs/boards") / name


def _say_stage(stage: str, kept: bool) -> None:
    console.print(f"{stage}{' (kept from an earlier build)' if kept else ''}", highlight=False)


def _estimate_board(wanted: Board, json_file: Path | None) -> None:
    """Predicts what a board's machine takes, and says how well such predictions have done."""
    from tenzo_hw.boards.estimate import estimate as estimate_board

    told = estimate_board(wanted)
    blocks = {block: taken._asdict() for block, taken in told.blocks.items()}
    total, available = told.total._asdict(), wanted.chip.resources._asdict()
    _print_resources(f"{wanted.preset} on {wanted.title}, estimated", blocks, total, available)
    over = [name for name in total if total[name] > available[name]]
    builds = [f"{build.board.name} ({build.preset})" for build in told.builds]
    errors_of = told.errors._asdict() if told.errors else None
    how = (
        "each predicted from the others, they are missed by up to "
        + ", ".join(f"{error}% {name.upper()}" for name, error in errors_of.items() if available[name])
        if errors_of
        else "one machine: how far it is off is not known"
    )
    console.print(f"from the measured builds {', '.join(builds)}; {how}", highlight=False, soft_wrap=True)
    if over:
        console.print(f"[red]does not fit[/red]: too many {', '.join(name.upper() for name in over)}")
    _write_json(
        json_file,
        {"board": wanted.name, "preset": wanted.preset, "total": total, "available": available, "blocks": blocks}
        | {"fits": not over, "builds": builds, "errors_percent": errors_of},
    )


def _print_resources(
    title: str, blocks: dict[str, dict[str, int]], total: dict[str, int], available: dict[str, int]
) -> None:
    """What the blocks take of a chip."""
    names = [name for name, there in available.items() if there]
    table = Table("block", title=title)
    for name in names:
        table.add_column(name.upper(), justify="right")
    for block, taken in blocks.items():
        table.add_row(block, *(f"{taken[name]:,}" for name in names))
    table.add_section()
    table.add_row("all", *(f"{total[name]:,}" for name in names))
    table.add_row("the chip has", *(f"{available[name]:,}" for name in names))
    table.add_row("share", *(f"{total[name] / available[name]:.0%}" for name in names))
    console.print(table)


def _print_build(report: dict[str, Any], *, kept: bool) -> None:
    """Frequencies, critical path, and what the blocks take."""
    fmax, macs = report["fmax"], report["macs"]
    facts = [
        ("constraint", f"{report['constraint_mhz']:g} MHz"),
        ("seeds", ", ".join(f"{mhz:.2f}" for mhz in fmax["seeds"]) + " MHz"),
        ("median", f"{fmax['median']:.2f} MHz"),
        ("multipliers", f"{macs}"),
        ("peak at the median", f"{macs * fmax['median'] / 1e3:.2f} GMAC/s"),
        ("timing", "met" if report["met"] else "MISSED"),
        ("serial line", f"{report['baud']:,} baud"),
    ]
    resources = report["resources"]
    _print_facts(f"{report['board']}, speed grade {report['speed_grade']}", facts)
    _print_resources(report["chip"], resources["blocks"], resources["total"], resources["available"])
    console.print(f"critical path  {report['critical_path']['words']}", highlight=False, soft_wrap=True)
    for caution in report["cautions"]:
        console.print(f"[yellow]note[/yellow]       {caution}", highlight=False, soft_wrap=True)
    if kept:
        console.print("nothing was run: all of it was kept from an earlier build")


def _recipe(source: Path) -> Any:
    from .recipe import Recipe
    from .run import Run

    return Run.open(source).recipe if source.is_dir() else Recipe.load(source)


def _dataset(run: Any) -> Any:
    dataset = run.recipe.dataset.load(run.recipe.seed)
    run.recipe.check(dataset)
    return dataset


def _parts_table(name: str, trainer: Any) -> Table:
    """Where the cycles of a step go."""
    table = Table(title=f"{name}: one step of {trainer.plan.batch} samples")
    for title in ("part", "cycles", "share", "useful MACs", "utilisation"):
        table.add_column(title, justify="left" if title == "part" else "right")
    for part in trainer.parts():
        share, useful = part.cycles / trainer.step_cycles, part.macs / trainer.plan.config.multipliers
        utilisation = f"{useful / part.cycles:.1%}" if part.cycles else ""
        table.add_row(part.name, f"{part.cycles:,}", f"{share:.1%}", f"{part.macs:,}", utilisation)
    return table


def _print_facts(title: str, facts: list[tuple[str, str]]) -> None:
    table = Table(title=title, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in facts:
        table.add_row(name, value)
    console.print(table)


def _write_json(path: Path | None, document: Any) -> None:
    if path is not None:
        path.write_text(json.dumps(document, indent=2) + "\n")


class _Bar:
    """A progress bar with loss, accuracy, cycles and time left."""

    def __init__(self, progress: Progress, title: str, steps: int) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=steps, state="")

    def batch(self, sent: int) -> None:
        """The batches of so many steps are on their way."""
        self._progress.update(self._task, completed=sent)

    def chunk(self, now: Any, *, move: bool = False) -> bool:
        """A chunk is trained; ``move`` where nobody calls ``batch``. False: the training goes on."""
        accuracy = "" if now.accuracy is None else f"  accuracy {now.accuracy:.1%}"
        state = f"loss {now.loss:.4f}{accuracy}  {now.cycles / 1e6:,.1f} M cycles"
        self._progress.update(self._task, state=state, **({"completed": now.step} if move else {}))
        return False


@contextmanager
def _progress_bar(title: str, steps: int) -> Iterator[_Bar]:
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}")]
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        yield _Bar(progress, title, steps)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The first Ctrl-C is put in the list, for a stop at the end of the chunk; the second one stops at once."""
    seen: list[int] = []

    def handle(number: int, frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        console.print("stopping at the end of the chunk; Ctrl-C again stops at once")

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
