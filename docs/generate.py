"""Writes the generated parts of the manual: instruction formats, presets and protocol numbers come from the code.

``python docs/generate.py`` rewrites the files; a test compares them with what this module gives.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import textwrap
from enum import IntEnum
from pathlib import Path

from tenzo_hw import protocol, timing
from tenzo_hw.config import PRESETS, Config
from tenzo_hw.isa import INSTRUCTIONS, Activation, LossKind, SweepKind, Wait

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
    parts = [
        NOTICE + "# Configurations\n",
        "One frozen configuration describes a machine. The device answers HELLO with these values in this order.\n",
        "| value | meaning | " + " | ".join(f"`{name}`" for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for field in dataclasses.fields(Config):
        values = " | ".join(f"{getattr(PRESETS[name], field.name):,}" for name in names)
        parts.append(f"| `{field.name}` | {documents[field.name]} | {values} |")
    parts += [
        "\n## Latencies\n",
        f"Cycles, as [machine.md](machine.md) uses them; ISSUE_OVERHEAD is {timing.ISSUE_OVERHEAD} everywhere.\n",
        "| latency | meaning | " + " | ".join(f"`{name}`" for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for latency in LATENCIES:
        values = " | ".join(str(latency(PRESETS[name])) for name in names)
        parts.append(f"| `{latency.__name__}` | {inspect.getdoc(latency)} | {values} |")
    constant = timing.coefficient_cycles(PRESETS["tiny"], 0)
    slope = timing.coefficient_cycles(PRESETS["tiny"], 1) - constant
    parts.append(f"\n`coefficient_cycles(queries)` is {constant} + {slope} · queries.")
    return "\n".join(parts) + "\n"


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


def figures() -> str:
    """The README's table of results, from what the benchmarks left in docs/results."""
    demo, digits, utilisation, simulator = (
        json.loads((HERE / "results" / f"{name}.json").read_text())
        for name in ("demo", "digits", "utilisation", "simulator")
    )
    accuracy, speeds = digits["accuracy"], simulator["cycles_per_second"]
    mnist = utilisation["mnist-rge"]["step"]
    rows = [
        (
            f"digits, 938 words: test accuracy, mean of seeds {', '.join(map(str, digits['seeds']))}",
            f"{accuracy['mean']:.1%} ± {accuracy['std']:.1%}",
            digits["command"],
        ),
        ("the same on the simulated gateware, seed 0", f"{demo['accuracy']['test']:.1%}", "make demo"),
        ("words, losses and cycles that differ from the exact model", "none" if demo["exact"] else "some", "make demo"),
        ("cycles of a step, 48 evaluations of 64 samples", f"{demo['cycles']['step']:,}", "make demo"),
        ("multipliers busy in a whole step", f"{demo['utilisation']['step']:.1%}", "make demo"),
        ("a step at 100 MHz", f"{demo['clock']['step_us'] / 1000:.2f} ms", "make demo"),
        (
            "MNIST, 784→1024→10, 3,962 words, 16 queries: cycles of a step",
            f"{mnist['cycles']:,}",
            utilisation["command"],
        ),
        ("multipliers busy in that step", f"{mnist['utilisation']:.1%}", utilisation["command"]),
        (
            f"simulated cycles a second, 128 multipliers, {simulator['cores']} cores",
            f"{speeds['driver']:,.0f}",
            simulator["command"],
        ),
        ("the same in cocotb", f"{speeds['cocotb']:,.0f}", simulator["command"]),
        ("the same in Amaranth's simulator", f"{speeds['amaranth']:,.0f}", simulator["command"]),
    ]
    table = [f"| {what} | {value} | `{command}` |" for what, value, command in rows]
    return "\n".join(["", "| what | figure | command |", "|---|---:|---|", *table, ""])


def readme() -> str:
    """The README with its table of results renewed."""
    before, _, rest = README.read_text().partition(FIGURES[0])
    after = rest.partition(FIGURES[1])[2]
    return before + FIGURES[0] + "\n" + figures() + "\n" + FIGURES[1] + after


README = HERE.parent / "README.md"
FIGURES = ("<!-- figures: written by docs/generate.py from docs/results -->", "<!-- end of figures -->")
"""Where the README's table of results begins and ends."""

GENERATED = {
    "instructions.md": instructions,
    "configurations.md": configurations,
    "protocol.md": protocol_numbers,
    "../README.md": readme,
}
"""File name in docs/ and what writes it."""


def main() -> None:
    """Writes all generated files."""
    for name, write in GENERATED.items():
        (HERE / name).write_text(write())
        print(f"wrote {(HERE / name).resolve().relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
