"""The sweep models by hand, and the sweep unit with the weight store against them."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect
from tenzo_hw.config import preset
from tenzo_hw.isa import Sweep, SweepKind
from tenzo_hw.numbers import round_shift
from tenzo_hw.sweep import SweepUnit, perturb, update
from tenzo_hw.weight_store import WeightStore
from tenzo_sim.bench import run_bench

TINY = preset("tiny")


class SweptStore(wiring.Component):
    """A sweep unit and its weight store, with all their other ports outside."""

    def __init__(self, config):
        self._parts = {"sweep": SweepUnit(config), "store": WeightStore(config)}
        super().__init__(
            {
                f"{prefix}_{name}": member
                for prefix, part in self._parts.items()
                for name, member in part.signature.members.items()
                if not member.is_signature
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules += self._parts.values()
        connect(m, self._parts["sweep"].store, self._parts["store"].sweep)
        for prefix, part in self._parts.items():
            for name, member in part.signature.members.items():
                if member.is_port:
                    inner, outer = getattr(part, name), getattr(self, f"{prefix}_{name}")
                    m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        return m


def test_perturb_rounds_and_saturates():
    masters = np.array([[(3 << 15) + (1 << 14), -(1 << 23)], [(1 << 23) - 1, 0]])
    signs = np.array([[1, -1], [1, -1]])
    assert perturb(TINY, masters, signs, 5, False).tolist() == [[9, -256], [255, -5]]
    assert perturb(TINY, masters, signs, 5, True).tolist() == [[-1, -251], [251, 5]]
    assert perturb(TINY, masters, signs, 0, True).tolist() == [[4, -256], [255, 0]]


def test_update_moves_momentum_then_master():
    masters, momenta, signs = np.array([[1000, -1000]]), np.array([[64, -7]]), np.array([[1, -1]])

    def run(**fields):
        sweep = Sweep(kind=SweepKind.UPDATE, row=0, count=1, **fields)
        after = update(TINY, sweep, masters, momenta, signs, 21, 300)
        return [words.tolist()[0] for words in after]

    assert run() == [[1000, -1000], [85, -28]]
    assert run(scale=2) == [[1000, -1000], [69, -12]]
    assert run(first=True) == [[1000, -1000], [21, -21]]
    assert run(first=True, decay=3) == [[1000, -1000], [64 - 8 + 21, -7 + 1 - 21]]
    assert run(last=True) == [[1000 - 85, -1000 + 28], [85, -28]]
    assert run(last=True, sign=True) == [[1000 - 1, -1000 + 1], [85, -28]]
    assert run(last=True, sign=True, weight_decay=4) == [[1000 - 63 - 1, -1000 + 62 + 1], [85, -28]]


def test_single_column_is_perturbed_along_plus_one():
    masters = np.array([[(3 << 15) + (1 << 14), -(1 << 23)], [(1 << 23) - 1, 0]])
    signs = np.array([[-1, -1], [-1, -1]])
    assert perturb(TINY, masters, signs, 5, False, single=True, column=0).tolist() == [[9, -256], [255, 0]]
    assert perturb(TINY, masters, signs, 5, True, single=True, column=1).tolist() == [[4, -256], [255, -5]]


def test_single_column_moves_by_a_coefficient_a_row():
    masters, momenta = np.array([[1000, -1000], [5, 6]]), np.array([[64, -7], [0, 1]])
    signs = np.array([[-1, -1], [-1, -1]])

    def run(column, **fields):
        sweep = Sweep(kind=SweepKind.UPDATE, row=0, count=2, single=True, column=column, **fields)
        after = update(TINY, sweep, masters, momenta, signs, np.array([21, -30]), 300)
        return [words.tolist() for words in after]

    assert run(0) == [[[1000, -1000], [5, 6]], [[85, -7], [-30, 1]]]
    assert run(1, scale=1) == [[[1000, -1000], [5, 6]], [[64, 4], [0, -14]]]
    assert run(1, first=True, last=True) == [[[1000, -1021], [5, 36]], [[64, 21], [0, -30]]]
    assert run(0, last=True, sign=True) == [[[999, -1000], [6, 6]], [[85, -7], [-30, 1]]]
    assert run(1, last=True, weight_decay=4) == [[[1000, -1000 + 62 - 14], [5, 6 + 29]], [[64, 14], [0, -29]]]


def test_doubling_is_the_rule():
    """The gateware's one addition: (2x - (2x >> d)) >> 1 is x - round_shift(x, d), and with y = 2x >> d the rounded
    x is (y + 1) >> 1 and its negative -y >> 1."""
    values = np.arange(-300, 300)
    for shift in range(12):
        doubled, rounded = 2 * values >> shift, round_shift(values, shift)
        assert ((2 * values - doubled) >> 1 == values - rounded).all()
        assert ((doubled + 1) >> 1 == rounded).all()
        assert (-doubled >> 1 == -rounded).all()


CONFIGS = [
    {"weight_rows": 16},
    {"columns": 5, "word": 18, "output_word": 18, "master_word": 32, "weight_rows": 16},
    {"columns": 1, "word": 16, "master_word": 20, "momentum_word": 16, "weight_rows": 16, "losses": 4},
    {"columns": 4, "word": 8, "input_word": 8, "master_word": 12, "momentum_word": 32, "weight_rows": 64},
    {"columns": 6, "sweep_turns": 3, "weight_rows": 32},
    {"columns": 4, "sweep_turns": 4, "weight_rows": 16},
]


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_gateware_is_the_model(changes, seed, tmp_path):
    config = TINY.replace(**changes)
    run_bench(SweptStore(config), "bench_sweep", tmp_path, parameters={"config": config.words()}, seed=seed)
