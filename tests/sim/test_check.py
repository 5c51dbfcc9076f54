"""Programs that the machine would refuse are refused before, with their instruction and what is allowed."""

import dataclasses

import pytest
from tenzo_hw.check import check
from tenzo_hw.config import preset
from tenzo_hw.isa import (
    Activation,
    Add,
    Base,
    Coefficient,
    Contract,
    End,
    Gather,
    Halt,
    Level,
    Loop,
    Loss,
    LossKind,
    Operand,
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


DIFFERENCE = dataclasses.replace(
    CONTRACT, levels=(Level(8, 1, 1, 0, 1), *CONTRACT.levels[1:]), o_base=0, operand=Operand.DIFFERENCE
)
#: Four outputs in two tiles of 8 rows: a group in 16 cycles, and reading one takes 8.
OUTPUTS = dataclasses.replace(
    CONTRACT, levels=(Level(8, 1, 1), Level(), Level(2), *[Level()] * 3), to_loss=True, store=False, col_stride=0
)
KEEP = dataclasses.replace(OUTPUTS, base=Base.KEEP)
ADD = dataclasses.replace(
    OUTPUTS, levels=(*OUTPUTS.levels[:3], Level(3, 0, 0, 5), *[Level()] * 2), base=Base.ADD, o_base=501
)
ONE_RESULT = dataclasses.replace(KEEP, levels=(Level(2), *[Level()] * 5), cols=1, last_cols=1)
ONE_GROUP = Loss(kind=LossKind.CROSS_ENTROPY, outputs=4, groups=1)
GATHER = Gather(address=240, stride=4, rows=4, lanes=2, cols=2, row=500)
PERTURB = Sweep(kind=SweepKind.PERTURB, row=0, count=28, single=True)


def of(instruction, **changes):
    return dataclasses.replace(instruction, **changes)


def rows(contract, count):
    """The contraction with that many rows a tile."""
    return of(contract, levels=(Level(count), *contract.levels[1:]))


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
        ([of(DIFFERENCE, bias=True)], "the operand DIFFERENCE does not go with bias"),
        ([changed(operand=Operand.IDENTITY, from_batch=True)], "the operand IDENTITY does not go with from_batch"),
        ([changed(operand=Operand.RELU, from_batch=True)], "the operand RELU does not go with from_batch"),
        ([changed(operand=Operand.RELU, a_base=225)], "activations of the lane memory at 225 to 256"),
        ([of(DIFFERENCE, a_base=97)], "reads activations of the lower bank at 97 to 128; 128 are there"),
        ([of(DIFFERENCE, b_base=121)], "reads environments of the upper bank at 121 to 128; 128 are there"),
        ([changed(operand=Operand.STEP, a_base=97)], "the lower bank at 97 to 128"),
        ([changed(operand=Operand.IDENTITY, a_base=225)], "activations of the lane memory at 225 to 256"),
        ([of(PERTURB, row=101)], "rows 101 to 128 of 128"),
        ([Set(register=3, value=101), of(PERTURB, row_register=3)], "instruction 1, Sweep: rows 101 to 128"),
        ([of(PERTURB, column=2)], "column=2 is outside of 0 to 1"),
        ([Set(register=3, value=2), of(PERTURB, column_register=3)], "column=2 is outside of 0 to 1"),
        ([of(GATHER, rows=0)], "rows=0 is outside of 1 to 65535"),
        ([of(GATHER, lanes=3)], "lanes=3 is outside of 1 to 2"),
        ([of(GATHER, cols=3)], "cols=3 is outside of 1 to 2"),
        ([of(GATHER, address=243)], "reads words of the lane memory at 243 to 256"),
        ([of(GATHER, col_stride=5)], "reads words of the lane memory at 240 to 257; 256 are there"),
        ([of(GATHER, stride=0xFFFF, address=2)], "reads words of the lane memory at 65535 to 65539"),
        ([Set(register=7, value=5), of(GATHER, row_register=7)], "writes rows of the weights at 505 to 512"),
        ([of(LOSS, target=61)], "2 groups need 4 targets from 61 on; the target memory has 64"),
        ([Set(register=1, value=62), of(LOSS, target_register=1, target=2)], "4 targets from 64 on"),
        ([of(LOSS, kind=LossKind.SQUARED_ERROR, target=33)], "2 groups need 32 targets from 33 on"),
        ([changed(base=Base.KEEP)], "base KEEP needs to_loss"),
        ([ONE_GROUP, KEEP, of(ADD, store=True)], "neither stored nor given to a function"),
        ([ONE_GROUP, KEEP, of(ADD, activation=Activation.RELU)], "neither stored nor given to a function"),
        ([ONE_GROUP, KEEP, of(ADD, tile_level=1)], "base ADD needs tile_level 0, not 1"),
        ([ONE_GROUP, OUTPUTS, ADD], "instruction 2: differences without a base"),
        ([ONE_GROUP, KEEP, ONE_GROUP, ADD], "instruction 3: differences without a base"),
        ([of(ONE_GROUP, groups=2), KEEP, ADD], "differences need a Loss of 1 group; the one before has 2"),
        ([ONE_GROUP, KEEP, ADD, KEEP], "a group of outputs follows differences"),
        ([of(ONE_GROUP, outputs=5), of(KEEP, levels=at(2, count=3).levels, last_cols=1), ADD], "4 results go to"),
        ([ONE_GROUP, KEEP, of(ADD, o_base=502)], "adds losses to the loss slots at 502 to 512; 512 are there"),
        ([ONE_GROUP, KEEP, rows(ADD, 3)], "come 6 cycles apart, but reading one takes 8; give a larger pace"),
        ([ONE_GROUP, KEEP, ADD, of(rows(ADD, 1), pace=4)], "come 6 cycles apart"),
        ([of(ONE_GROUP, outputs=1), ONE_RESULT, of(ONE_RESULT, base=Base.ADD)], "come 2 cycles apart"),
        ([CONTRACT] * 49, "the program has 1030 words; the program memory holds 1024"),
        ([Loop(count=2)], "no Halt"),
    ],
)
def test_refused(program, message):
    end = [] if message == "no Halt" else [Halt()]
    with pytest.raises(ValueError, match=message):
        check([*program, *end], CONFIG)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        (DIFFERENCE, "the operand DIFFERENCE needs a machine with incremental=1"),
        (changed(operand=Operand.STEP), "the operand STEP needs a machine with incremental=1"),
        (KEEP, "base KEEP needs a machine with incremental=1"),
        (GATHER, "a Gather needs a machine with incremental=1"),
    ],
)
def test_what_a_machine_leaves_out_is_refused(instruction, message):
    check([ONE_GROUP, instruction, Halt()], CONFIG)
    with pytest.raises(ValueError, match=message):
        check([ONE_GROUP, instruction, Halt()], CONFIG.replace(incremental=0))


def test_a_level_turns_at_most_as_often_as_the_deepest_memory_has_words():
    def turning(count):
        return changed(levels=(Level(), Level(), Level(count), *[Level()] * 3))

    check([turning(1023), Halt()], CONFIG)
    with pytest.raises(ValueError, match="level 2 has a count of 1024; 1 to 1023 are allowed"):
        check([turning(1024), Halt()], CONFIG)


def test_what_fits_exactly_is_accepted():
    last = changed(a_base=224, w_base=504, o_base=248, to_loss=True, bias=True, b_base=511)
    sweep = Sweep(kind=SweepKind.PERTURB, row=100, count=28)
    loops = [Loop(count=0), Add(register=1, value=1), End()]
    check([LOSS, last, sweep, *loops, Coefficient(queries=256), Halt()], CONFIG, repeat=100_000)


def test_what_goes_to_the_loss_and_fits_exactly_is_accepted():
    check([ONE_GROUP, KEEP, ADD, ADD, ONE_GROUP, OUTPUTS, KEEP, rows(ADD, 4), Halt()], CONFIG)
    paced = of(rows(ADD, 1), pace=4)
    check([ONE_GROUP, KEEP, paced, paced, rows(ADD, 4), Halt()], CONFIG)
    check([of(LOSS, target=60), of(LOSS, kind=LossKind.SQUARED_ERROR, target=32), Halt()], CONFIG)


def test_what_fits_into_the_banks_and_rows_exactly_is_accepted():
    check([of(DIFFERENCE, a_base=96, b_base=120), of(GATHER, address=242, row=504), Halt()], CONFIG)
    check([of(GATHER, address=3, stride=0xFFFF), of(PERTURB, row=100, column=1), Halt()], CONFIG)
    back = Add(register=1, value=-30)
    check([back, of(PERTURB, row=130, row_register=1, column=31, column_register=1), Halt()], CONFIG)
    check([changed(operand=Operand.RELU, bias=True, a_base=224), Halt()], CONFIG)
    check([of(PERTURB, single=False, column=31), Halt()], CONFIG)


def test_shorter_last_tiles_reach_less_far():
    check([changed(o_base=249, last_cols=1), Halt()], CONFIG)
    check([changed(o_base=7, col_stride=0xFFFF, a_base=9), Halt()], CONFIG)
    with pytest.raises(ValueError, match="writes results to the lane memory at 65535"):
        check([changed(o_base=0, col_stride=0xFFFF), Halt()], CONFIG)
