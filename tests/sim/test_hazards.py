"""Hazards against a comparison of every read with every earlier write of a run."""

import dataclasses
import random

import pytest
from tenzo_hw.config import preset
from tenzo_hw.hazards import hazards
from tenzo_hw.isa import (
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
    Wait,
)
from tenzo_hw.timeline import trace
from tenzo_hw.timing import result_latency
from tenzo_sim.programs import random_contract, random_program

CONFIG = preset("tiny")


def nest(levels, stream, turn):
    offset = 0
    for level in levels:
        turn, digit = divmod(turn, level.count)
        offset += digit * getattr(level, stream)
    return offset


def addresses_read(contract, registers, config, turn):
    """Lane addresses that one row reads."""
    if contract.operand == Operand.IDENTITY:
        return
    yield (contract.a_base + registers[contract.a_register] + nest(contract.levels, "a", turn)) & 0xFFFF
    if contract.operand == Operand.DIFFERENCE:
        word = (contract.b_base + registers[contract.b_register] + nest(contract.levels, "b", turn)) & 0xFFFF
        yield config.lane_bank + word


def lane_hazards(program, config, repeat):
    """(writer, reader) of all reads of lane memory that come too early: every row against every earlier result."""
    registers = [0] * 8
    readable = {}  # address: (cycle, writer) of what program order wrote there last
    found = set()
    end, hold = 0, 0
    for issue in trace(program, config, repeat=repeat):
        instruction = program[issue.index]
        if isinstance(instruction, Set | Add):
            base = registers[instruction.register] if isinstance(instruction, Add) else 0
            registers[instruction.register] = (base + instruction.value) & 0xFFFF
        if not isinstance(instruction, Contract):
            continue
        outer = instruction.levels[2:]
        cycle = issue.start
        for tile in range(instruction.tiles):
            ragged = tile
            for level in outer[: instruction.tile_level]:
                ragged //= level.count
            turns = outer[instruction.tile_level].count
            cols = instruction.last_cols if ragged % turns == turns - 1 else instruction.cols
            for row in range(instruction.rows):
                if row == instruction.rows - 1:
                    cycle = max(cycle, end + hold)
                if not instruction.from_batch and (row or not instruction.bias):
                    turn = tile * instruction.reduction + row - instruction.bias
                    for address in addresses_read(instruction, registers, config, turn):
                        if address in readable and cycle < readable[address][0]:
                            found.add((readable[address][1], issue.index))
                cycle += 1
            end, hold = cycle - 1, max(cols, instruction.pace)
            if instruction.store:
                for column in range(cols):
                    address = instruction.o_base + registers[instruction.o_register] + nest(outer, "o", tile)
                    address = (address + column * instruction.col_stride) & 0xFFFF
                    readable[address] = end + result_latency(config) + column, issue.index
    return found


def found_in_lanes(program, config, repeat):
    return {
        (hazard.writer, hazard.reader)
        for hazard in hazards(program, config, repeat=repeat)
        if hazard.address is not None
    }


def dense_program(rng, config):
    """Contractions only, so that most follow each other at once."""
    body = []
    for _ in range(rng.randrange(2, 6)):
        if rng.random() < 0.2:
            body.append(Add(register=rng.randrange(1, 3), value=rng.randrange(3)))
        body.append(dense_contract(rng, config))
    return [Loop(count=0), *body, End(), *body[:1], Halt()]


def dense_contract(rng, config):
    contract = random_contract(rng, config)
    contract = dataclasses.replace(
        contract,
        o_base=rng.randrange(16) + rng.choice([0, config.lane_bank]),
        b_register=rng.choice([0, 1]),
        store=True,
        from_batch=False,
        operand=Operand.WORD,
        base=Base.NONE,
        to_loss=False,
        pace=rng.choice([0, 0, rng.randrange(30)]),
    )
    if rng.random() < 0.3:
        return contract
    operand = rng.choice([operand for operand in Operand if operand != Operand.WORD])
    levels = contract.levels
    if operand == Operand.DIFFERENCE:
        levels = tuple(dataclasses.replace(level, b=rng.choice([0, 1, 1, 2])) for level in levels)
    return dataclasses.replace(contract, bias=False, operand=operand, levels=levels)


@pytest.mark.parametrize("columns", [2, 32])
@pytest.mark.parametrize("seed", range(150))
def test_lane_hazards_are_those_of_all_reads_and_writes(seed, columns):
    rng = random.Random(seed)
    config = CONFIG.replace(columns=columns)
    program = dense_program(rng, config) if seed % 3 else random_program(rng, config)
    repeat = rng.randrange(1, 6)
    found, wanted = found_in_lanes(program, config, repeat), lane_hazards(program, config, repeat)
    assert found >= wanted
    # A pair that only the quick search names: a result that nobody may read yet is overwritten by one of that kind.
    assert {reader for _, reader in found} == {reader for _, reader in wanted}


def chain(wait=Wait.NONE, **changes):
    """A contraction and one that reads its results at once."""
    first = Contract(
        a_base=0,
        w_base=0,
        o_base=64,
        levels=(Level(25, 0, 1), *[Level()] * 5),
        cols=2,
        last_cols=2,
        col_stride=1,
        shift=0,
    )
    return [first, dataclasses.replace(first, a_base=64, o_base=96, wait=wait, **changes), Halt()]


def test_the_message_names_both_and_the_cure():
    (hazard,) = hazards(chain(), CONFIG)
    assert (hazard.writer, hazard.reader, hazard.address, hazard.wait) == (0, 1, 64, Wait.ENGINE)
    assert str(hazard) == "instruction 1 reads lane address 64 before the result of instruction 0: add Wait.ENGINE"


def test_waiting_and_reading_elsewhere_cure():
    assert hazards(chain(Wait.ENGINE), CONFIG) == []
    first, second, halt = chain()
    assert hazards([first, dataclasses.replace(second, a_base=66), halt], CONFIG) == []
    assert hazards([first, dataclasses.replace(second, from_batch=True), halt], CONFIG) == []


def test_a_contraction_may_not_read_its_own_last_results():
    (first, *_) = chain()
    own = dataclasses.replace(
        first, o_base=0, levels=(Level(1), Level(), Level(4, 1, 1, 1), *[Level()] * 3), cols=1, last_cols=1
    )
    own = dataclasses.replace(own, o_base=1)
    (hazard,) = hazards([own, Halt()], CONFIG)
    assert (hazard.writer, hazard.reader, hazard.wait) == (0, 0, Wait.NONE)


def test_sweeps_and_contractions_keep_apart():
    contract = chain()[0]
    perturb = Sweep(kind=SweepKind.PERTURB, row=10, count=50)
    other_half = dataclasses.replace(perturb, half=1)
    assert [hazard.wait for hazard in hazards([perturb, contract, Halt()], CONFIG)] == [Wait.SWEEP]
    assert hazards([perturb, dataclasses.replace(contract, wait=Wait.SWEEP), Halt()], CONFIG) == []
    assert hazards([other_half, contract, Halt()], CONFIG) == []
    assert [hazard.wait for hazard in hazards([contract, perturb, Halt()], CONFIG)] == [Wait.ENGINE]
    assert hazards([contract, dataclasses.replace(perturb, wait=Wait.ENGINE), Halt()], CONFIG) == []
    assert hazards([contract, other_half, Halt()], CONFIG) == []


def test_coefficients_are_waited_for():
    loss = Loss(kind=LossKind.SQUARED_ERROR, outputs=2, groups=1)
    contract = dataclasses.replace(chain()[0], to_loss=True)
    coefficient = Coefficient(queries=1)
    update = Sweep(kind=SweepKind.UPDATE, row=0, count=50, wait=Wait.COEFFICIENT)
    program = [loss, contract, coefficient, update, Halt()]
    assert hazards(program, CONFIG) == []
    program[2] = dataclasses.replace(coefficient, wait=Wait.NONE)
    assert hazards(program, CONFIG) == [], "the machine waits for the losses itself"
    program[2:4] = [coefficient, dataclasses.replace(update, wait=Wait.NONE)]
    assert [hazard.wait for hazard in hazards(program, CONFIG)] == [Wait.COEFFICIENT]
    program[2:4] = [coefficient, update, coefficient]
    assert [hazard.wait for hazard in hazards(program, CONFIG)] == [Wait.SWEEP]


def test_registers_move_the_rows_of_a_sweep():
    contract = chain()[0]
    perturb = Sweep(kind=SweepKind.PERTURB, row=20, count=50, row_register=1)
    moved = [Set(register=1, value=4), perturb, contract, Halt()]
    assert [hazard.wait for hazard in hazards(moved, CONFIG)] == [Wait.SWEEP]
    assert hazards([Set(register=1, value=5), *moved[1:]], CONFIG) == []


def test_a_gather_needs_no_waiting():
    contract = chain()[0]
    gather = Gather(address=64, stride=2, rows=1, lanes=2, cols=2, row=0, wait=Wait.NONE)
    perturb = Sweep(kind=SweepKind.PERTURB, row=0, count=50)
    assert hazards([perturb, gather, contract, gather, perturb, Halt()], CONFIG) == []
