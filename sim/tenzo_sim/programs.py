"""Random small programs, to hold model, timeline and gateware against each other."""

from __future__ import annotations

import random
from dataclasses import replace

from tenzo_hw.check import check
from tenzo_hw.config import Config
from tenzo_hw.hazards import hazards
from tenzo_hw.isa import (
    Activation,
    Add,
    Base,
    Coefficient,
    Contract,
    End,
    Gather,
    Halt,
    Instruction,
    Level,
    Loop,
    Loss,
    LossKind,
    Operand,
    Set,
    Sweep,
    SweepKind,
    Wait,
)

OUTPUTS = 4
"""Results of a contraction that go to the loss."""
_STRIDES = [0, 0, 1, 1, 2, 3]
#: Register whose value is always a column: the others grow while loops turn.
_COLUMN = 3


def _random_wait(rng: random.Random) -> Wait:
    return Wait(rng.randrange(16)) if rng.random() < 0.3 else Wait.NONE


def random_contract(rng: random.Random, config: Config, *, to_loss: bool = False) -> Contract:
    """A contraction inside of memories of 64 words, with tiles of different sizes. Every shape is a valid one."""
    counts = [rng.choice([1, 1, 2, 3, 5]) for _ in range(6)]

    def level(number: int) -> Level:
        a, w, o, b = (rng.choice(_STRIDES) for _ in range(4))
        return Level(counts[number], a, w, o, b) if number >= 2 else Level(counts[number], a, w)

    cols = rng.randint(1, config.columns)
    last_cols = rng.randint(1, cols)
    if to_loss:
        cols = last_cols = min(config.columns, OUTPUTS)
        counts[2:] = [OUTPUTS // cols, 1, 1, 1]
    return Contract(
        a_base=rng.randrange(8),
        w_base=rng.randrange(8),
        o_base=rng.choice([0, 64]),
        b_base=rng.randrange(8),
        a_register=rng.choice([0, 0, 1]),
        o_register=rng.choice([0, 0, 2]),
        levels=tuple(level(number) for number in range(6)),
        cols=cols,
        last_cols=last_cols,
        col_stride=rng.choice([1, 4]),
        tile_level=rng.randrange(4),
        shift=rng.randrange(12),
        one=rng.randrange(config.word - 1),
        bias=rng.random() < 0.5,
        from_batch=rng.random() < 0.3,
        store=rng.random() < 0.8,
        to_loss=to_loss,
        pace=rng.choice([0, 0, rng.randrange(20)]),
        activation=rng.choice([Activation.NONE, Activation.RELU]),
        wait=_random_wait(rng),
    )


def with_operand(rng: random.Random, config: Config, contract: Contract) -> Contract:
    """The contraction with another operand than the lanes' words; it sometimes writes environments."""
    operand = rng.choice([operand for operand in Operand if operand != Operand.WORD])
    levels = contract.levels
    if operand == Operand.DIFFERENCE:
        levels = tuple(replace(level, b=rng.choice(_STRIDES)) for level in levels)
    return replace(
        contract,
        levels=levels,
        operand=operand,
        from_batch=False,
        bias=contract.bias and operand == Operand.RELU,
        a_register=0,
        o_base=rng.choice([contract.o_base, config.lane_bank]),
        o_register=0,
    )


def random_differences(rng: random.Random, config: Config) -> list[Instruction]:
    """A group that is kept, differences from it, and a Loss, so that anything may follow."""
    kept = replace(random_contract(rng, config, to_loss=True), base=Base.KEEP)
    program: list[Instruction] = [replace(_random_loss(rng, config), groups=1), kept]
    for _ in range(rng.randrange(1, 4)):
        contract = with_operand(rng, config, random_contract(rng, config, to_loss=True))
        group, *outer = contract.levels[2:]
        groups = [replace(level, count=rng.choice([1, 2, 3])) for level in outer]
        program.append(
            replace(
                contract,
                levels=(*contract.levels[:2], group, *groups),
                o_base=rng.randrange(8),
                base=Base.ADD,
                store=False,
                tile_level=0,
                activation=Activation.NONE,
                pace=-(-OUTPUTS * config.loss_lanes // group.count) + rng.choice([0, 0, 9]),
            )
        )
    return [*program, _random_loss(rng, config)]


def _random_loss(rng: random.Random, config: Config) -> Loss:
    return Loss(
        kind=rng.choice(list(LossKind)),
        outputs=OUTPUTS,
        groups=rng.randrange(1, 3),
        fraction=4,
        accumulate=rng.random() < 0.5,
        target=rng.choice([0, 0, 5]),
        target_register=rng.choice([0, _COLUMN]),
    )


def random_instruction(rng: random.Random, config: Config) -> Instruction:
    """Any instruction that neither loops nor ends, contractions most often."""
    match rng.randrange(13):
        case 0:
            if rng.random() < 0.3:
                return Set(register=_COLUMN, value=rng.randrange(config.columns), wait=_random_wait(rng))
            return Set(register=rng.randrange(1, 3), value=rng.randrange(8), wait=_random_wait(rng))
        case 1:
            return Add(register=rng.randrange(1, 3), value=rng.randrange(3), wait=_random_wait(rng))
        case 2 | 3:
            single, column_register = rng.random() < 0.4, rng.choice([0, _COLUMN])
            return Sweep(
                kind=rng.choice(list(SweepKind)),
                row=rng.randrange(32),
                count=rng.randrange(1, 60),
                half=rng.randrange(2),
                mu=rng.randrange(8),
                negative=rng.random() < 0.5,
                replay=rng.random() < 0.3,
                save=rng.randrange(4),
                first=rng.random() < 0.5,
                last=rng.random() < 0.5,
                sign=rng.random() < 0.5,
                next=rng.random() < 0.5,
                decay=rng.randrange(4),
                weight_decay=rng.choice([0, 0, 5]),
                scale=rng.randrange(3),
                single=single,
                column=0 if column_register else rng.randrange(config.columns),
                row_register=rng.choice([0, _COLUMN]),
                column_register=column_register,
                wait=_random_wait(rng),
            )
        case 4:
            return _random_loss(rng, config)
        case 5:
            return Coefficient(queries=rng.randrange(1, 4), two_sided=rng.random() < 0.5, wait=_random_wait(rng))
        case 6 if config.incremental:
            return Gather(
                address=rng.randrange(8, 64),
                stride=rng.choice([1, 2, 3, 0xFFFF]),
                rows=rng.randrange(1, 4),
                lanes=rng.randint(1, config.lanes),
                cols=rng.randint(1, config.columns),
                col_stride=rng.choice([1, 1, 4]),
                row=rng.randrange(64) + config.weight_rows * rng.randrange(config.effective_rows // config.weight_rows),
                address_register=rng.choice([0, 1]),
                row_register=rng.choice([0, 2]),
                wait=_random_wait(rng),
            )
        case 7 | 8:
            return random_contract(rng, config, to_loss=True)
        case 9 | 10 if config.incremental:
            return with_operand(rng, config, random_contract(rng, config, to_loss=rng.random() < 0.3))
    return random_contract(rng, config)


def random_program(rng: random.Random, config: Config, length: int = 12) -> list[Instruction]:
    """A program with loops in loops; a Loss comes first, so that every captured group has its outputs."""
    program: list[Instruction] = [Loss(kind=LossKind.SQUARED_ERROR, outputs=OUTPUTS, groups=1)]
    depth = 0
    for _ in range(length):
        if depth < 3 and rng.random() < 0.2:
            program.append(Loop(count=rng.randrange(0, 4), wait=_random_wait(rng)))
            depth += 1
        elif depth and rng.random() < 0.3:
            program.append(End(wait=_random_wait(rng)))
            depth -= 1
        elif config.incremental and rng.random() < 0.1:
            program += random_differences(rng, config)
        else:
            program.append(random_instruction(rng, config))
    return [*program, *[End()] * depth, Halt()]


def cured(program: list[Instruction], config: Config, repeat: int) -> list[Instruction] | None:
    """The program with the wait bits that it needs; None when the machine refuses it or no wait bit helps."""
    try:
        check(program, config, repeat=repeat)
    except ValueError:
        return None
    while found := hazards(program, config, repeat=repeat):
        hazard = found[0]
        if not hazard.wait:
            return None
        reader = program[hazard.reader]
        waiting = type(reader)(**(vars(reader) | {"wait": reader.wait | hazard.wait}))
        program = [*program[: hazard.reader], waiting, *program[hazard.reader + 1 :]]
    return program
