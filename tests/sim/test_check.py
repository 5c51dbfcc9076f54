"""Programs that the machine would refuse are refused before, with their instruction and what is allowed."""

import dataclasses

import pytest
from tenzo_hw.check import check
from tenzo_hw.config import preset
from tenzo_hw.isa import (
    Activation,
    Add,
    Coefficient,
    Contract,
    End,
    Halt,
    Level,
    Loop,
    Loss,
    LossKind,
    Set,
    Sweep,
    SweepKind,
)

CONFIG = preset("tiny")
CONTRACT = Contract(
    a_base=0,
    w_base=0,
    o_base=64,
    levels=(Level(8, 1, 1), Level(), Level(4, 8, 0, 2), *[Level()] * 3),
    cols=2,
    last_cols=2,
    col_stride=1,
    shift=0,
)
LOSS = Loss(kind=LossKind.CROSS_ENTROPY, outputs=8, groups=2)


def changed(**changes):
    return dataclasses.replace(CONTRACT, **changes)


def at(level, **changes):
    levels = list(CONTRACT.levels)
    levels[level] = dataclasses.replace(levels[level], **changes)
    return changed(levels=tuple(levels))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ([changed(cols=3)], "instruction 0, Contract: cols=3 is outside of 1 to 2"),
        ([changed(last_cols=0)], "last_cols=0 is outside of 1 to 2"),
        ([changed(shift=64)], "instruction 0: Contract.shift=64 is outside 0 to 63"),
        ([changed(activation=Activation.TABLE1)], "activation=3 is outside of 0 to 2"),
        ([at(3, count=0)], "level 3 has a count of 0"),
        ([changed(a_base=225)], "reads activations of the lane memory at 225 to 256; 256 are there"),
        ([changed(a_base=97, from_batch=True)], "the batch memory at 97 to 128; 128 are there"),
        ([changed(w_base=505)], "reads rows of the weights at 505 to 512; 512 are there"),
        ([changed(bias=True, b_base=512)], "reads bias rows of the weights at 512 to 512"),
        ([changed(o_base=249)], "writes results to the lane memory at 249 to 256"),
        ([at(2, a=-1)], "reads activations of the lane memory at 65533"),
        (
            [Set(register=1, value=224), changed(a_register=1), Add(register=1, value=1), changed(a_register=1)],
            "ion 3 reads",
        ),
        ([Loop(count=3), changed(a_register=1), Add(register=1, value=113), End()], "at 226 to 257"),
        ([Sweep(kind=SweepKind.PERTURB, row=100, count=29)], "rows 100 to 128 of 128"),
        ([Sweep(kind=SweepKind.PERTURB, row=0, count=0)], "count=0"),
        ([dataclasses.replace(LOSS, outputs=17)], "outputs=17 is outside of 1 to 16"),
        ([dataclasses.replace(LOSS, groups=33)], "33 groups need 66 targets"),
        ([Coefficient(queries=257)], "queries=257 is outside of 1 to 256"),
        ([Coefficient(queries=512, two_sided=False)], "queries=512 is outside of 1 to 511"),
        ([changed(to_loss=True)], "8 results go to the loss, but no Loss came before"),
        ([dataclasses.replace(LOSS, outputs=7), changed(to_loss=True)], "the Loss before takes 7"),
        ([CONTRACT] * 49, "the program has 1030 words; the program memory holds 1024"),
        ([Loop(count=2)], "no Halt"),
    ],
)
def test_refused(program, message):
    end = [] if message == "no Halt" else [Halt()]
    with pytest.raises(ValueError, match=message):
        check([*program, *end], CONFIG)


def test_what_fits_exactly_is_accepted():
    last = changed(a_base=224, w_base=504, o_base=248, to_loss=True, bias=True, b_base=511)
    sweep = Sweep(kind=SweepKind.PERTURB, row=100, count=28)
    loops = [Loop(count=0), Add(register=1, value=1), End()]
    check([LOSS, last, sweep, *loops, Coefficient(queries=256), Halt()], CONFIG, repeat=100_000)


def test_shorter_last_tiles_reach_less_far():
    check([changed(o_base=249, last_cols=1), Halt()], CONFIG)
    check([changed(o_base=7, col_stride=0xFFFF, a_base=9), Halt()], CONFIG)
    with pytest.raises(ValueError, match="writes results to the lane memory at 65535"):
        check([changed(o_base=0, col_stride=0xFFFF), Halt()], CONFIG)
