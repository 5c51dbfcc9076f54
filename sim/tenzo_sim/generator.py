"""The perturbation generator on its own: what its signs cost in cells, and how random they look."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from scipy.special import erfc
from tenzo_hw.build.families import FAMILIES
from tenzo_hw.build.netlist import worth_of
from tenzo_hw.build.tools import TOOLS, versions
from tenzo_hw.config import GENERATOR_BITS, preset
from tenzo_hw.machine import Machine
from tenzo_hw.perturbation import PerturbationGenerator, signs

from .netlist import cells, synthesised
from .sp800_22 import SIGNIFICANCE, TESTS, judge, shortest_recurrence

#: Signs of a row: the columns of the presets, and all that the generator has.
COLUMNS = (2, 8, 10, 32)
#: Sequences of each statistical test, 55 or more for a verdict on their p-values, and the bits of each.
SEQUENCES = 60
BITS = 1_000_000
#: Rows that are made at once.
BLOCK = 4096
#: Products of the signs of ``ROWS`` rows with those of rows up to ``LAGS`` later.
ROWS = 1 << 16
LAGS = 32
#: Directions whose products are taken, and their rows: those of the digits' and MNIST's networks in 8 columns.
DIRECTIONS = 256
DIRECTION_ROWS = {"digits": 118, "mnist": 496}
#: Families that the generator is synthesised for.
CHIPS = ("ecp5", "ice40")
#: Of the state, the signs that a row can have.
_SIGNS = GENERATOR_BITS // 2


class Steps(wiring.Component):
    """The generator as it is once it has been loaded: it steps, or keeps its state."""

    def __init__(self) -> None:
        super().__init__({"step": In(1), "state": Out(GENERATOR_BITS)})

    def elaborate(self, platform: object) -> Module:
        """A generator that is never loaded."""
        m = Module()
        # Ports are made at run time: type checkers do not know them.
        inner: Any = PerturbationGenerator()
        outer: Any = self
        m.submodules.generator = inner
        m.d.comb += [inner.step.eq(outer.step), outer.state.eq(inner.state)]
        return m


def cost() -> list[dict[str, Any]]:
    """LUTs and flip-flops in each family: of the generator, of one that is never loaded, of the ``tiny`` machine."""

    def count(component: wiring.Component, family: str) -> dict[str, int]:
        found = cells(synthesised(component, "top", family))
        worths = [(worth_of(kind, FAMILIES[family].cells), number) for kind, number in found.items()]
        return {
            "lut": sum(worth.lut * number for worth, number in worths if worth),
            "ff": sum(worth.ff * number for worth, number in worths if worth),
        }

    measured = []
    for family in CHIPS:
        whole = count(Machine(preset("tiny")), family)
        generator = count(PerturbationGenerator(), family)
        measured.append(
            {
                "family": family,
                "generator": generator,
                "steps_alone": count(Steps(), family),
                "a_state_bit": {name: value / GENERATOR_BITS for name, value in generator.items()},
                "a_sign": {
                    str(columns): {name: value / columns for name, value in generator.items()}
                    for columns in (*COLUMNS, _SIGNS)
                },
                "tiny": whole,
                "share_of_tiny": {name: value / whole[name] for name, value in generator.items()},
            }
        )
    return measured


def rows(seed: int, columns: int, count: int) -> np.ndarray:
    """The signs of the first ``count`` rows after a hashed ``seed``, int8[count, columns]."""

    def blocks() -> Iterator[np.ndarray]:
        state = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        for _ in range(-(-count // BLOCK)):
            block, state = signs(state, BLOCK, columns)
            yield block

    return np.concatenate(list(blocks()))[:count]


def statistics(columns: int, sequences: int = SEQUENCES, bits: int = BITS) -> dict[str, Any]:
    """Verdicts of SP 800-22 on rows of ``columns`` signs one after the other; the seeds are 0, 1, 2 and so on."""
    values: dict[str, list[list[float]]] = {name: [] for name in TESTS}
    for seed in range(sequences):
        sequence = (rows(seed, columns, -(-bits // columns)).ravel()[:bits] < 0).astype(np.uint8)
        for name, test in TESTS.items():
            values[name].append(test(sequence))
    verdicts = {}
    for name, found in values.items():
        for number, column in enumerate(np.array(found).T):
            verdict = judge(column)
            label = name if number == 0 else f"{name} {number + 1}"
            verdicts[label] = verdict._asdict() | {"good": verdict.good, "smallest": float(column.min())}
    return verdicts


def recurrence(columns: int) -> int:
    """Length of the shortest linear recurrence of the rows of ``columns`` signs, one after the other."""
    longest = GENERATOR_BITS * columns
    return shortest_recurrence((rows(0, columns, 4 * GENERATOR_BITS).ravel()[: 3 * longest] < 0).astype(np.uint8))[0]


def _summary(deviations: np.ndarray) -> dict[str, Any]:
    """The largest of many sums in standard deviations, and how often random signs would have one as large."""
    largest = float(np.abs(deviations).max())
    single = erfc(largest / math.sqrt(2))
    return {"sums": deviations.size, "largest": largest, "p": float(-math.expm1(deviations.size * math.log1p(-single)))}


def neighbours(columns: int, seed: int = 0) -> dict[str, Any]:
    """Sums over ``ROWS`` rows of products of two, three and four signs: of a row, and of one up to ``LAGS`` later."""
    values = rows(seed, columns, ROWS + LAGS).astype(np.float64)
    pairs = values * np.roll(values, 1, axis=1)
    lagged = [slice(lag, lag + ROWS) for lag in range(LAGS + 1)]
    first, second = np.triu_indices(columns, 1)
    found = {
        # Of one row each pair once.
        2: [(values[:ROWS].T @ values[:ROWS])[first, second], *(values[:ROWS].T @ values[at] for at in lagged[1:])],
        3: [pairs[:ROWS].T @ values[at] for at in lagged[1:]],
        4: [pairs[:ROWS].T @ pairs[at] for at in lagged[1:]],
    }
    return {
        str(factors): _summary(np.concatenate([sums.ravel() for sums in each]) / math.sqrt(ROWS))
        for factors, each in found.items()
    }


def directions(row_count: int, columns: int = 8, seed: int = 0) -> dict[str, Any]:
    """Sums over all weights of the products of two, three and four directions that follow each other in a step."""
    values = rows(seed, columns, DIRECTIONS * row_count).reshape(DIRECTIONS, -1).astype(np.int64)
    found = {}
    for factors in (2, 3, 4):
        products = np.ones_like(values[factors - 1 :])
        for place in range(factors):
            products *= values[place : DIRECTIONS - factors + 1 + place]
        found[str(factors)] = _summary(products.sum(axis=1) / math.sqrt(values.shape[1]))
    return found


def measure() -> tuple[list[str], list[list[str]], dict[str, Any]]:
    """Everything: columns and rows of a table to read, and the values."""
    costs = cost()
    quality = {
        str(columns): {
            "recurrence": recurrence(columns),
            "tests": statistics(columns),
            "products": neighbours(columns),
        }
        for columns in COLUMNS
    }
    far = {name: directions(count) for name, count in DIRECTION_ROWS.items()}
    table = []
    for one in costs:
        chip = one["family"]
        for what, key in (("generator", "generator"), ("never loaded", "steps_alone"), ("tiny machine", "tiny")):
            table.append([f"{chip}: {what}", f"{one[key]['lut']:,} LUT, {one[key]['ff']:,} FF"])
    for columns, found in quality.items():
        good = [name for name, verdict in found["tests"].items() if verdict["good"]]
        bad = [name for name in found["tests"] if name not in good]
        failed = f"; failed: {', '.join(bad)}" if bad else ""
        table.append([f"rows of {columns} signs: tests passed", f"{len(good)} of {len(found['tests'])}{failed}"])
        least = min(summary["p"] for summary in found["products"].values())
        table.append([f"rows of {columns} signs: products, least p-value", f"{least:.3f}"])
    for name, found in far.items():
        table.append(
            [f"directions of {name}: products, least p-value", f"{min(one['p'] for one in found.values()):.3f}"]
        )
    values = {
        "tools": versions([TOOLS["yosys"].package]),
        "period": str((1 << GENERATOR_BITS) - 1),
        "cost": costs,
        "seeds": list(range(SEQUENCES)),
        "bits": BITS,
        "significance": SIGNIFICANCE,
        "rows": quality,
        "directions": far,
    }
    return ["generator", "figure"], table, values
