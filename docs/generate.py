"""Writes the generated parts of the manual: instruction formats, presets and protocol numbers come from the code.

``python docs/generate.py`` rewrites the files; a test compares them with what this module gives.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import json
import textwrap
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

from tenzo.plan import largest_batch
from tenzo.recipe import Recipe
from tenzo.trainer import Trainer
from tenzo_hw import protocol, timing
from tenzo_hw.boards import BOARDS, Board
from tenzo_hw.boards.measured import excerpt
from tenzo_hw.config import PRESETS, Config
from tenzo_hw.isa import (
    INSTRUCTIONS,
    Activation,
    Add,
    Batch,
    Coefficient,
    Contract,
    End,
    Halt,
    Instruction,
    Level,
    Loop,
    Loss,
    LossKind,
    Set,
    Sweep,
    SweepKind,
    Wait,
)
from tenzo_hw.serial.fields import engine_cycles
from tenzo_hw.timeline import timing_of

HERE = Path(__file__).resolve().parent
NOTICE = "<!-- Written by docs/generate.py: change the code, then run `make docs`. -->\n\n"


LEVEL_FIELDS = {
    "count": "Turns of level {}; 0 is the innermost.",
    "a": "Added to the activation address when level {} steps: stride less the inner levels' way back, modulo 2^16.",
    "w": "The same for the weight address at level {}.",
    "o": "The same for the output address at level {}.",
    "b": "The same for the bias address at level {}.",
}
"""Meanings of the fields that every level of a contraction has."""

LATENCIES = (
    timing.result_latency,
    timing.capture_latency,
    timing.sweep_latency,
    timing.gather_latency,
    timing.loss_latency,
    timing.host_read_latency,
)
"""The latencies of the table in docs/configurations.md."""


def attribute_docs(cls: type) -> dict[str, str]:
    """The strings that follow the attributes of a class, each as one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    documents: dict[str, str] = {}
    for statement, text in itertools.pairwise(body):
        match statement, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(document))),
            ):
                documents[name] = " ".join(document.split())
    return documents


def enum_table(kind: type[IntEnum]) -> str:
    """A table of an enumeration's numbers, names and meanings."""
    documents = attribute_docs(kind)
    rows = [f"| {int(item)} | {item.name} | {documents.get(item.name, '')} |" for item in kind]
    return "\n".join(["| number | name | meaning |", "|---|---|---|", *rows])


def instructions() -> str:
    """The instruction formats."""
    parts = [
        NOTICE + "# Instructions\n",
        "Every instruction is a few 32-bit words. Word 0 holds the opcode in bits 7..0 and, but for HALT, the wait",
        "bits in 11..8.",
        "What an instruction does to the numbers and how long it takes is in [machine.md](machine.md).\n",
    ]
    for opcode, kind in INSTRUCTIONS.items():
        documents = attribute_docs(kind)
        parts += [f"## {opcode.name}: opcode {int(opcode)}, {kind.WORDS} word{'s' * (kind.WORDS > 1)}\n"]
        parts += [inspect.cleandoc(kind.__doc__ or "") + "\n"]
        if not kind.FIELDS:
            continue
        parts += ["| field | word | bits | meaning |", "|---|---|---|---|"]
        for name, bits in kind.FIELDS.items():
            place = f"{bits.low + bits.width - 1}..{bits.low}" if bits.width > 1 else f"{bits.low}"
            sign = ", signed" if bits.signed else ""
            meaning = documents.get(name) or LEVEL_FIELDS[name[:-1]].format(name[-1])
            parts.append(f"| {name} | {bits.word} | {place}{sign} | {meaning} |")
        parts.append("")
    for title, kind in (("Wait bits", Wait), ("Activations", Activation), ("Losses", LossKind), ("Sweeps", SweepKind)):
        parts += [f"## {title}\n", enum_table(kind), ""]  # type: ignore[arg-type]
    return "\n".join(parts)


def configurations() -> str:
    """The configuration's values and the presets."""
    documents = attribute_docs(Config)
    names = list(PRESETS)
    *constants, last = (
        f"{name} is {getattr(timing, name)}"
        for name in ("ISSUE_OVERHEAD", "START_LATENCY", "TAKEN_LATENCY", "DONE_LATENCY", "STOP_CYCLES")
    )
    parts = [
        NOTICE + "# Configurations\n",
        "One frozen configuration describes a machine. The device answers HELLO with these values in this order.\n",
        "| value | meaning | " + " | ".join(f"`{name}`" for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for field in dataclasses.fields(Config):
        values = " | ".join(f"{getattr(PRESETS[name], field.name):,}" for name in names)
        parts.append(f"| `{field.name}` | {documents[field.name]} | {values} |")
    names = [name for name in names if not PRESETS[name].is_serial]
    parts += [
        "\n## Latencies\n",
        f"Cycles, as [machine.md](machine.md) uses them. Everywhere {', '.join(constants)} and {last}.\n",
        "| latency | meaning | " + " | ".join(f"`{name}`" for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for latency in LATENCIES:
        values = " | ".join(str(latency(PRESETS[name])) for name in names)
        parts.append(f"| `{latency.__name__}` | {inspect.getdoc(latency)} | {values} |")
    constant = timing.coefficient_cycles(PRESETS["tiny"], 0)
    slope = timing.coefficient_cycles(PRESETS["tiny"], 1) - constant
    parts.append(f"\n`coefficient_cycles(queries)` is {constant} + {slope} · queries.")
    parts += [serial_cycles(name) for name, config in PRESETS.items() if config.is_serial]
    return "\n".join(parts) + "\n"


def serial_cycles(name: str) -> str:
    """What instructions take on a serial machine, those that grow with something as a line through two of them."""
    config = PRESETS[name]

    def cycles(instruction: Instruction) -> int:
        return timing_of(instruction, config).spacing

    def line(what: str, make: Callable[[int], Instruction], count: Callable[[Instruction], int] = cycles) -> str:
        one, two = (count(make(number)) for number in (1, 2))
        return f"{2 * one - two:,} + {two - one:,} · {what}"

    def contract(rows: int) -> Contract:
        return Contract(
            a_base=0,
            w_base=0,
            o_base=0,
            levels=(Level(rows), *[Level()] * 5),
            cols=1,
            last_cols=1,
            col_stride=1,
            shift=0,
        )

    def loss(kind: LossKind, outputs: int) -> Loss:
        return Loss(kind=kind, outputs=outputs, groups=1, fraction=7)

    def sample(instruction: Instruction) -> int:
        return timing_of(instruction, config).duration

    update = functools.partial(Sweep, kind=SweepKind.UPDATE, row=0, first=True, decay=4)
    found = {
        "HALT": f"{cycles(Halt()):,}",
        "LOOP": f"{cycles(Loop(count=1)):,}",
        "END": f"{cycles(End()):,}",
        "SET": f"{cycles(Set(register=1, value=0)):,}",
        "ADD": f"{cycles(Add(register=1, value=0)):,}",
        "BATCH": f"{cycles(Batch()):,}",
        "CONTRACT, with the engine's": f"{cycles(contract(1)) - engine_cycles(contract(1)):,} + those of the engine",
        "SWEEP, PERTURB": line("rows", lambda rows: Sweep(kind=SweepKind.PERTURB, row=0, count=rows, mu=1)),
        "SWEEP, UPDATE with `decay` 4": line("rows", lambda rows: update(count=rows)),
        "SWEEP, UPDATE with `last` as well": line("rows", lambda rows: update(count=rows, last=True)),
        "LOSS": f"{cycles(loss(LossKind.CROSS_ENTROPY, 2)):,}",
        "a sample's cross-entropy, 7 fraction bits": line(
            "outputs", lambda outputs: loss(LossKind.CROSS_ENTROPY, outputs), sample
        ),
        "a sample's squared error": line("outputs", lambda outputs: loss(LossKind.SQUARED_ERROR, outputs), sample),
        "COEFFICIENT, two-sided": line("queries", lambda queries: Coefficient(queries=queries)),
    }
    return "\n".join(
        [
            f"\n## Cycles of a serial machine: `{name}`\n",
            "| instruction | cycles |",
            "|---|---|",
            *(f"| {what} | {value} |" for what, value in found.items()),
        ]
    )


def protocol_numbers() -> str:
    """The numbers of the host protocol."""
    parts = [
        NOTICE + "# Protocol numbers\n",
        f"Magic {protocol.MAGIC:#010x} (the bytes `TNZO`), version {protocol.VERSION}.",
        "The packets are described in [machine.md](machine.md).\n",
    ]
    for title, kind in (
        ("Requests", protocol.Kind),
        ("Answers", protocol.Answer),
        ("Spaces", protocol.Space),
        ("Elements of a WRITE", protocol.Element),
        ("Registers", protocol.Register),
        ("States", protocol.State),
        ("Faults", protocol.Fault),
    ):
        parts += [f"## {title}\n", enum_table(kind), ""]
    return "\n".join(parts)


def results(name: str) -> dict[str, Any]:
    """What a benchmark left in docs/results."""
    return json.loads((HERE / "results" / f"{name}.json").read_text())


def percent(accuracy: dict[str, Any]) -> str:
    """Mean and standard deviation over the seeds."""
    spread = f" ± {accuracy['std']:.1%}" if len(accuracy["seeds"]) > 1 else ""
    return f"{accuracy['mean']:.1%}{spread}"


def mnist_figures() -> list[tuple[str, str, str]]:
    """What the README says of MNIST."""
    mnist = results("mnist")
    trained, floats, command = mnist["trained"], mnist["floats"], mnist["command"]
    seeds = ", ".join(map(str, mnist["seeds"]))
    back, dense = (floats["trained"][name] for name in floats["trained"])
    incremental, gradient = (floats["seconds_a_step"][name] for name in floats["seconds_a_step"])
    fast, nine = trained["mnist-fast"], trained["mnist-9bit"]
    nine_command = mnist.get("renewed", {}).get("mnist-9bit", mnist)["command"]
    _, wide, narrow = mnist["machines"]
    rows = [
        (f"MNIST, 3,962 words: test accuracy, mean of seeds {seeds}", percent(mnist["accuracy"]), command),
        (f"cycles of that run, {mnist['steps']:,} steps", f"{mnist['cycles']['total']:,}", command),
        (f"the same {nine['steps']:,} steps in words of 9 bits", percent(nine["accuracy"]), nine_command),
        ("cycles of that run", f"{nine['cycles']['total']:,}", nine_command),
        ("memory of its machine", f"{narrow['memory_bits'] / 1e6:.1f} Mbit", nine_command),
        ("memory of the same machine with words of 18 bits", f"{wide['memory_bits'] / 1e6:.1f} Mbit", nine_command),
        ("the same cores by back-propagation in floats", percent(back["accuracy"]), command),
        ("random directions with as many multiply-accumulates", percent(trained["mnist-rge"]["accuracy"]), command),
        ("the same on dense layers, in floats", percent(dense["accuracy"]), command),
        (f"accuracy after {fast['steps']} steps of a short run", percent(fast["accuracy"]), command),
    ]
    for machine in mnist["machines"][:2]:
        where = f"`{machine['name']}`, {machine['multipliers']} multipliers"
        what = f"time of the short run on {where}, at {machine['mhz']:g} MHz"
        rows.append((what, f"{machine['seconds']:.1f} s", command))
    return [
        *rows,
        ("a step of it on this computer: PyTorch, one thread", f"{incremental * 1000:.0f} ms", command),
        ("a step of back-propagation on this computer", f"{gradient * 1000:.0f} ms", command),
        ("a batch of it on a serial line of 3 Mbaud, zeros coded", f"{mnist['link']['batch_ms']:.0f} ms", command),
    ]


def figures() -> str:
    """The README's table of results, from what the benchmarks left in docs/results."""
    demo, digits, utilisation, simulator, soak = (
        results(name) for name in ("demo", "digits", "utilisation", "simulator", "soak")
    )
    accuracy, speeds = digits["accuracy"], simulator["cycles_per_second"]
    steps = {name: utilisation[name]["step"] for name in ("mnist", "mnist-rge", "digits-rge")}
    rows = [
        *mnist_figures(),
        (
            "a step of MNIST, 64 samples, every word moved: cycles",
            f"{steps['mnist']['cycles']:,}",
            utilisation["command"],
        ),
        ("multipliers busy in that step", f"{steps['mnist']['utilisation']:.1%}", utilisation["command"]),
        ("a step of 16 random directions: cycles", f"{steps['mnist-rge']['cycles']:,}", utilisation["command"]),
        ("multipliers busy in that step", f"{steps['mnist-rge']['utilisation']:.1%}", utilisation["command"]),
        (
            f"digits, 938 words: test accuracy, mean of seeds {', '.join(map(str, digits['seeds']))}",
            f"{accuracy['mean']:.1%} ± {accuracy['std']:.1%}",
            digits["command"],
        ),
        ("the same on the simulated gateware, seed 0", f"{demo['accuracy']['test']:.1%}", "make demo"),
        ("cycles of that run", f"{demo['cycles']['total']:,}", "make demo"),
        ("words, losses and cycles that differ from the exact model", "none" if demo["exact"] else "some", "make demo"),
        (
            f"simulated cycles a second, 128 multipliers, {simulator['cores']} cores",
            f"{speeds['driver']:,.0f}",
            simulator["command"],
        ),
        ("the same in cocotb", f"{speeds['cocotb']:,.0f}", simulator["command"]),
        ("the same in Amaranth's simulator", f"{speeds['amaranth']:,.0f}", simulator["command"]),
        ("damage to the link survived, none of it undetected", f"{soak['faults']['total']:,} faults", soak["command"]),
    ]
    table = [f"| {what} | {value} | `{command}` |" for what, value, command in rows]
    return "\n".join(["", "| what | figure | command |", "|---|---:|---|", *table, ""])


def where_cycles_go() -> str:
    """The table of docs/estimators.md: parts of a step on each machine of the benchmark."""
    parts = []
    for machine in results("mnist")["machines"]:
        parts += [
            f"`{machine['name']}`: {machine['multipliers']} multipliers, {machine['word']}-bit words, "
            f"{machine['memory_bits'] / 1e6:.1f} Mbit of memory, {machine['step']:,} cycles a step, "
            f"{machine['utilisation']:.1%} busy; {machine['seconds']:.1f} s for the short run at "
            f"{machine['mhz']:g} MHz.",
            "",
            "| part of a step | cycles | share | multipliers busy |",
            "|---|---:|---:|---:|",
        ]
        for part in machine["parts"]:
            busy = part["macs"] / (part["cycles"] * machine["multipliers"]) if part["cycles"] else 0
            share = part["cycles"] / machine["step"]
            parts.append(f"| {part['name']} | {part['cycles']:,} | {share:.1%} | {busy:.1%} |")
        parts.append("")
    return "\n".join(["", *parts])


def generator() -> str:
    """What the perturbation generator costs, and the tests that its signs pass."""
    measured = results("generator")
    tools = ", ".join(f"{name} {version}" for name, version in measured["tools"].items())
    columns = list(measured["cost"][0]["a_sign"])
    parts = [
        NOTICE + "# The perturbation generator\n",
        f"Measured by `{measured['command']}` with {tools}. Its period is {int(measured['period']):,} rows, which a",
        "test proves from the primitivity of its characteristic polynomial.\n",
        "## Cost\n",
        "Each state bit is a XOR of at most four others: one look-up table and one flip-flop. Replay "
        "needs a way to load",
        "a state, which takes the rest. The state has 64 bits however many signs a row has: a sign "
        "costs the less the more",
        "of them a machine uses.\n",
        "| chip | generator | never loaded | a state bit | "
        + " | ".join(f"a sign of {name}" for name in columns)
        + " | share of `tiny` |",
        "|---|---:|---:|---:|" + "---:|" * (len(columns) + 1),
    ]
    for one in measured["cost"]:

        def pair(values: dict[str, float], form: str = ",") -> str:
            return f"{values['lut']:{form}} LUT, {values['ff']:{form}} FF"

        cells = [
            one["family"],
            pair(one["generator"]),
            pair(one["steps_alone"]),
            pair(one["a_state_bit"], ".2f"),
            *(pair(one["a_sign"][name], ".1f") for name in columns),
            pair(one["share_of_tiny"], ".1%"),
        ]
        parts.append("| " + " | ".join(cells) + " |")
    names = list(next(iter(measured["rows"].values()))["tests"])
    parts += [
        "\n## Statistical tests\n",
        f"NIST SP 800-22 on {len(measured['seeds'])} sequences (seeds {measured['seeds'][0]} to "
        f"{measured['seeds'][-1]}) "
        f"of {measured['bits']:,} signs, row after row: how many pass at {measured['significance']:g}, "
        "and the p-value of "
        "their p-values being even. **Bold** is a failure.\n",
        "| test | " + " | ".join(f"rows of {name}" for name in measured["rows"]) + " |",
        "|---|" + "---|" * len(measured["rows"]),
    ]
    for name in names:
        cells = []
        for found in measured["rows"].values():
            verdict = found["tests"][name]
            text = f"{verdict['passed']} of {len(measured['seeds'])}, {verdict['uniformity']:.3f}"
            cells.append(text if verdict["good"] else f"**{text}**")
        parts.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    recurrences = ", ".join(f"{found['recurrence']:,} at {name}" for name, found in measured["rows"].items())
    parts += [
        "\nEvery linear generator fails the test of linear complexity once its blocks are longer than twice its",
        f"recurrence; ours has one of {recurrences} signs a row. No estimator looks at that: products of "
        "few signs matter.\n",
        "## Products of signs\n",
        "Sums of products of signs that are close to each other, or of directions that follow each other, over random",
        "ones' standard deviation: the largest of many, and how often random signs would have one as large.\n",
        "| signs | factors | sums | largest | p-value |",
        "|---|---:|---:|---:|---:|",
    ]
    groups = {f"rows of {name}": found["products"] for name, found in measured["rows"].items()}
    groups |= {f"directions of {name}": found for name, found in measured["directions"].items()}
    for group, found in groups.items():
        for factors, one in found.items():
            parts.append(f"| {group} | {factors} | {one['sums']:,} | {one['largest']:.2f} | {one['p']:.3f} |")
    return "\n".join(parts) + "\n"


def builds() -> dict[str, dict[str, Any]]:
    """The reports that `tenzo build` left in docs/results, by file name."""
    reports = {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "results").glob("*.json"))}
    return {name: report for name, report in reports.items() if "fmax" in report}


def measured_builds() -> str:
    """What the package tells and estimates from: the builds in short."""
    return json.dumps([excerpt(report) for report in builds().values()]) + "\n"


def on_board(name: str, board: Board) -> Trainer | str:
    """A recipe's trainer on a board's machine, or why there is none; machine or word may have a recipe of their own."""
    recipes = HERE.parent / "recipes"
    names = (f"{name}-{board.preset}", f"{name}-{board.config.word}bit", name)
    recipe = next(Recipe.load(path) for path in (recipes / f"{each}.toml" for each in names) if path.exists())
    # As many of the recipe's samples as are whole groups and fit.
    lanes = board.config.lanes
    batch = min(recipe.batch // lanes * lanes, largest_batch(recipe.network, board.config))
    try:
        return recipe.model_copy(update={"machine": board.config, "batch": max(batch, lanes)}).trainer()
    except ValueError as error:
        return str(error).partition(":")[0]


def boards() -> str:
    """The table of boards: what each build measured, and what binds the paper's MNIST step."""
    link = results("mnist")["link"]
    # A build of what the board no longer is says nothing of it.
    measured = {
        report["board"]: report
        for report in builds().values()
        if report["configuration"] == dataclasses.asdict(BOARDS[report["board"]].config)
    }
    columns = {
        "board": "---",
        "machine": "---",
        "MACs": "---:",
        "MHz": "---:",
        "Fmax of the seeds; median": "---",
        "peak GMAC/s": "---:",
        "MNIST: GMAC/s": "---",
        "step": "---:",
        "link": "---:",
        "bound by": "---",
        "digits: step": "---:",
    }
    parts = ["", f"| {' | '.join(columns)} |", f"|{'|'.join(columns.values())}|"]
    for name, board in BOARDS.items():
        report, macs = measured.get(name), board.config.multipliers
        mhz = report["constraint_mhz"] if report else board.clock_mhz
        cells = [f"`{name}`", f"`{board.preset}`", f"{macs}"]
        if report:
            seeds = ", ".join(f"{seed:.1f}" for seed in report["fmax"]["seeds"])
            cells += [f"{mhz:.4g}", f"{seeds}; {report['fmax']['median']:.1f}"]
        else:
            cells += [f"{mhz:.4g} asked for", "not built yet" if board.open_tools else "not tried"]
        cells.append(f"{macs * mhz / 1e3:.2f}")
        mnist, digits = on_board("mnist", board), on_board("digits", board)
        if isinstance(mnist, str):
            cells += [f"its memories do not hold the network ({mnist})", "", "", ""]
        else:
            step = mnist.step_cycles / mhz / 1e3
            sent = mnist.plan.batch * mnist.plan.network.inputs / link["input_words"] * link["batch_bytes"]
            line = sent * BITS_A_BYTE / board.baud * 1e3
            bound = "the link" if line > step else "the machine"
            cells += [
                f"{mnist.step_macs / step / 1e6:.2f}",
                f"{step:.1f} ms, {mnist.plan.batch} samples",
                f"{line:.1f} ms",
                bound,
            ]
        cells.append(
            digits
            if isinstance(digits, str)
            else f"{digits.step_cycles / mhz / 1e3:.2f} ms, {digits.plan.batch} samples"
        )
        parts.append("| " + " | ".join(cells) + " |")
    return "\n".join([*parts, ""])


def resources_of_builds() -> str:
    """What each build takes of its chip, block by block."""
    parts = [""]
    for name, report in builds().items():
        there = report["resources"]["available"]
        names = [part for part in there if there[part]]
        placed = report["resources"]["placed"]
        versions = ", ".join(f"{package} {number}" for package, number in report["versions"].items())
        parts += [
            f"### {name}",
            "",
            f"`{report['command']}`: {report['chip']}, speed grade {report['speed_grade']}, {versions}; "
            f"{report['seconds']['synthesis']:.0f} s of synthesis and "
            f"{', '.join(f'{one:.0f}' for one in report['seconds']['seeds'])} s of place and route on "
            f"{report['cores']} shared cores. Critical path: {report['critical_path']['words']}.",
            *(f"\nNote: {caution}." for caution in report["cautions"]),
            "",
            "| block | " + " | ".join(part.upper() for part in names) + " |",
            "|---|" + "---:|" * len(names),
        ]
        rows = report["resources"]["blocks"] | {"all": report["resources"]["total"], "the chip has": there}
        parts += [
            f"| {block} | " + " | ".join(f"{taken[part]:,}" for part in names) + " |" for block, taken in rows.items()
        ]
        parts += [
            "| as nextpnr packs it | "
            + " | ".join(f"{placed[part]:,}" if part in placed else "" for part in names)
            + " |",
            "",
        ]
    return "\n".join(parts)


def boards_page() -> str:
    """The page of boards with its tables renewed."""
    page = renewed_text((HERE / "boards.md").read_text(), BOARD_TABLE, boards())
    return renewed_text(page, BUILD_TABLES, resources_of_builds())


def renewed(path: Path, marks: tuple[str, str], content: str) -> str:
    """A file with what stands between two marks replaced."""
    return renewed_text(path.read_text(), marks, content)


def renewed_text(text: str, marks: tuple[str, str], content: str) -> str:
    """The same of a text."""
    before, _, rest = text.partition(marks[0])
    return before + marks[0] + "\n" + content + "\n" + marks[1] + rest.partition(marks[1])[2]


def readme() -> str:
    """The README with its table of results renewed."""
    return renewed(README, FIGURES, figures())


def estimators() -> str:
    """The page of estimators with its table of cycles renewed."""
    return renewed(HERE / "estimators.md", CYCLES, where_cycles_go())


README = HERE.parent / "README.md"
FIGURES = ("<!-- figures: written by docs/generate.py from docs/results -->", "<!-- end of figures -->")
"""Where the README's table of results begins and ends."""
CYCLES = ("<!-- cycles: written by docs/generate.py from docs/results -->", "<!-- end of cycles -->")
"""Where the table of cycles in docs/estimators.md begins and ends."""

BOARD_TABLE = ("<!-- boards: written by docs/generate.py from docs/results -->", "<!-- end of boards -->")
"""Where the table of boards in docs/boards.md begins and ends."""
BUILD_TABLES = ("<!-- builds: written by docs/generate.py from docs/results -->", "<!-- end of builds -->")
"""Where the tables of what the builds take begin and end."""
#: Eight bits, a start and a stop bit.
BITS_A_BYTE = 10

GENERATED = {
    "instructions.md": instructions,
    "configurations.md": configurations,
    "protocol.md": protocol_numbers,
    "../README.md": readme,
    "estimators.md": estimators,
    "boards.md": boards_page,
    "generator.md": generator,
    "../hw/tenzo_hw/boards/measured.json": measured_builds,
}
"""File name in docs/ and what writes it."""


def main() -> None:
    """Writes all generated files."""
    for name, write in GENERATED.items():
        (HERE / name).write_text(write())
        print(f"wrote {(HERE / name).resolve().relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
