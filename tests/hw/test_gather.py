"""The gather model by hand, and the gather unit with the weight store against it."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped
from tenzo_hw.config import preset
from tenzo_hw.gather import GatherUnit, model
from tenzo_hw.isa import Gather
from tenzo_hw.weight_store import WeightStore
from tenzo_sim.bench import run_bench

TINY = preset("tiny")


class GatheredStore(wiring.Component):
    """A gather unit and its weight store, with the unit's ports and the engine's port of the store outside."""

    def __init__(self, config):
        self._gather, self._store = GatherUnit(config), WeightStore(config)
        store = self._store.signature.members
        super().__init__({**self._gather.signature.members, "row": store["row"], "weights": store["weights"]})

    def elaborate(self, platform):
        m = Module()
        m.submodules.gather = gather = self._gather
        m.submodules.store = store = self._store
        connect(m, gather.lane_read, flipped(self.lane_read))
        m.d.comb += [
            gather.gather.eq(self.gather),
            gather.start.eq(self.start),
            store.gather_turn.eq(~gather.ready),
            store.gather_write.eq(gather.effective_write),
            store.gather_row.eq(gather.effective_row),
            store.gather_words.eq(gather.effective_words),
            store.row.eq(self.row),
            self.weights.eq(store.weights),
        ]
        for name in ("ready", "fault", "effective_write", "effective_row", "effective_words"):
            assert self.signature.members[name].flow == Out
            m.d.comb += getattr(self, name).eq(getattr(gather, name))
        return m


def gathered(**changes):
    """What two lanes of 100 + address and 200 + address (256 words each) leave in rows of -1."""
    lanes = np.arange(256) + np.array([[100], [200]])
    effective = np.full((TINY.effective_rows, TINY.columns), -1)
    fields = {"address": 10, "stride": 7, "rows": 2, "lanes": 2, "cols": 2, "row": 200} | changes
    return model(TINY, Gather(**fields), lanes, effective), effective


def test_columns_in_steps():
    refused, effective = gathered(col_stride=5)
    assert not refused
    assert effective[200:204].tolist() == [[110, 115], [117, 122], [210, 215], [217, 222]]


def test_rows_of_lane_after_lane():
    refused, effective = gathered()
    assert not refused
    assert effective[200:204].tolist() == [[110, 111], [117, 118], [210, 211], [217, 218]]
    assert (effective[:200] == -1).all()
    assert (effective[204:] == -1).all()


def test_columns_without_a_word_become_zero():
    _, effective = gathered(cols=1, lanes=1, stride=0)
    assert effective[199:203].tolist() == [[-1, -1], [110, 0], [110, 0], [-1, -1]]


def test_addresses_are_16_bit_numbers():
    refused, effective = gathered(stride=(1 << 16) - 10, lanes=1)
    assert not refused
    assert effective[200:202].tolist() == [[110, 111], [100, 101]]


@pytest.mark.parametrize(
    ("changes", "written"),
    [
        ({"address": 248}, 1),
        ({"address": 255}, 0),
        ({"address": 0xFFFF}, 0),
        ({"stride": 0xFFFF - 10}, 1),
        ({"row": TINY.effective_rows - 2}, 2),
        ({"row": TINY.effective_rows}, 0),
        ({"row": 0xFFFF}, 0),
    ],
    ids=str,
)
def test_refused_rows_are_not_written(changes, written):
    refused, effective = gathered(**changes)
    assert refused
    assert (effective != -1).any(axis=1).sum() == written


CONFIGS = [
    {},
    {"lanes": 3, "columns": 5, "lane_depth": 64, "weight_rows": 16, "effective_rows": 64},
    {"lanes": 1, "columns": 1, "lane_depth": 16, "weight_rows": 16, "effective_rows": 32},
    {"lanes": 4, "columns": 10, "word": 18, "output_word": 18, "master_word": 32},
]


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_gateware_is_the_model(changes, seed, tmp_path):
    config = TINY.replace(**changes)
    run_bench(GatheredStore(config), "bench_gather", tmp_path, parameters={"config": config.words()}, seed=seed)
