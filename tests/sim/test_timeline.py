"""The timeline against a machine that is stepped cycle by cycle, and its loops against their unrolling."""

import dataclasses
import random
from itertools import pairwise

import pytest
from tenzo_hw.check import check
from tenzo_hw.config import preset
from tenzo_hw.hazards import hazards
from tenzo_hw.isa import (
    Base,
    Batch,
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
    Sweep,
    SweepKind,
    Wait,
)
from tenzo_hw.nest import tile_cols
from tenzo_hw.timeline import timeline, trace
from tenzo_hw.timing import (
    DONE_LATENCY,
    ISSUE_OVERHEAD,
    START_LATENCY,
    TAKEN_LATENCY,
    capture_latency,
    coefficient_cycles,
    gather_latency,
    loss_latency,
    result_latency,
    sweep_latency,
)
from tenzo_sim.programs import random_contract, random_program

CONFIG = preset("tiny")
#: With few results a lane a loss is read before the next one comes; with many lanes contractions wait for a buffer.
CONFIGS = [CONFIG, CONFIG.replace(lanes=16, columns=8, sweep_turns=4, loss_pipes=4)]
#: Outputs of a group of differences.
OUTPUTS = 4


class Engine:
    """Issues one row a cycle."""

    def __init__(self, config):
        self.config = config
        self.rows = []  # of the running contraction: for each row None, or the tile's results after a last row
        self.begin = None
        self.next_end = 0
        self.readable = 0
        self.captures = []  # of each group the cycle of its last result, and whether it is one of differences

    def start(self, cycle, contract):
        for cols in tile_cols(contract):
            self.rows += [None] * (contract.rows - 1) + [int(cols)]
        self.begin = cycle + 1
        self.contract = contract
        self.results = 0

    def step(self, cycle):
        """One cycle; returns whether a contraction may be issued in it."""
        if self.rows and cycle >= self.begin:
            cols = self.rows[0]
            if cols is None:
                self.rows.pop(0)
            elif cycle >= self.next_end:
                self.rows.pop(0)
                self.next_end = cycle + max(cols, self.contract.pace)
                self.readable = cycle + result_latency(self.config) + cols - 1
                self.results += cols
                adds = self.contract.base == Base.ADD
                if self.contract.to_loss and (not self.rows or (adds and self.results % OUTPUTS == 0)):
                    self.captures.append((cycle + capture_latency(self.config) + cols - 1, adds))
        return not self.rows

    def drained(self, cycle):
        return not self.rows and self.readable <= cycle + 1

    def captured(self, cycle):
        """No differences are to come."""
        coming = bool(self.rows and self.contract.base == Base.ADD)
        return not coming and not any(adds for _, adds in self.captures)


class LossUnit:
    """Two buffers and one reader."""

    def __init__(self, config):
        self.config = config
        self.reserved = 0
        self.waiting = []
        self.left = 0
        self.reading = 0
        self.quiet = 0

    def step(self, cycle, engine):
        """What happened until the end of the cycle before."""
        if self.left:
            self.left -= 1
            if not self.left:
                self.reserved -= not self.adds
                self.quiet = cycle - 1 + loss_latency(self.config)
        if engine.captures and engine.captures[0][0] < cycle:
            self.waiting.append(engine.captures.pop(0)[1])
        assert len(self.waiting) + (self.left > 0) <= 2, "a group is lost"
        if not self.left and self.waiting:
            self.adds = self.waiting.pop(0)
            self.left = self.reading

    def free(self, adds):
        return self.reserved == 0 if adds else self.reserved < 2

    def done(self, cycle, engine):
        return not self.reserved and not self.left and cycle >= self.quiet and engine.captured(cycle)


def step_by_step(program, config, repeat):
    """Issue cycles of a run: (index, cycle)."""
    engine, loss = Engine(config), LossUnit(config)
    sweep_done = coefficient_done = gather_done = 0
    loops, at, cycle, fetched_from = [], 0, 0, 0
    issues = []
    given = None  # the contraction that the engine has yet to take, and from when on it can
    said = []  # what the units said of themselves in each cycle
    while True:
        cycle += 1
        loss.step(cycle, engine)
        ready = engine.step(cycle)
        done = {
            Wait.ENGINE: engine.drained(cycle) and cycle >= gather_done,
            Wait.SWEEP: cycle >= sweep_done,
            Wait.LOSS: loss.done(cycle, engine),
            Wait.COEFFICIENT: cycle >= coefficient_done,
        }
        said.append((done, cycle >= gather_done, loss.free(adds=False), loss.free(adds=True)))
        if given:
            contract, first = given
            if not ready or cycle < first:
                continue
            engine.start(cycle, contract)
            loss.reserved += contract.to_loss and contract.base != Base.ADD
            fetched_from, given = cycle + TAKEN_LATENCY, None
            continue
        instruction = program[at]
        if cycle < fetched_from + instruction.WORDS + ISSUE_OVERHEAD:
            continue
        done, gathered, loss_free, loss_idle = said[-1 - DONE_LATENCY]
        if not isinstance(instruction, Halt) and not all(done[bit] for bit in Wait if bit and bit in instruction.wait):
            continue
        free = True
        if isinstance(instruction, Contract):
            free = gathered
            if instruction.to_loss:
                free &= done[Wait.COEFFICIENT] and (loss_idle if instruction.base == Base.ADD else loss_free)
        elif isinstance(instruction, Sweep):
            free = done[Wait.SWEEP] and gathered
        elif isinstance(instruction, Gather):
            free = done[Wait.ENGINE] and done[Wait.SWEEP]
        elif isinstance(instruction, Coefficient | Loss):
            free = done[Wait.COEFFICIENT] and done[Wait.LOSS]
        elif isinstance(instruction, Batch | Halt):
            free = all(done.values())
        if not free:
            continue
        issues.append((at, cycle))
        fetched_from, start = cycle, cycle + START_LATENCY
        at += 1
        if isinstance(instruction, Halt):
            return issues
        if isinstance(instruction, Contract):
            given = instruction, start
        elif isinstance(instruction, Sweep):
            sweep_done = start + instruction.count * config.sweep_turns + sweep_latency(config)
        elif isinstance(instruction, Coefficient):
            coefficient_done = start + coefficient_cycles(config, instruction.queries)
        elif isinstance(instruction, Loss):
            loss.reading = instruction.outputs * config.lanes // config.loss_pipes
        elif isinstance(instruction, Gather):
            words = instruction.lanes * instruction.rows * instruction.cols
            gather_done = start + words + gather_latency(config)
        elif isinstance(instruction, Loop):
            loops.append([at, instruction.count or repeat])
        elif isinstance(instruction, End):
            loops[-1][1] -= 1
            if loops[-1][1]:
                at = loops[-1][0]
            else:
                loops.pop()


@pytest.mark.parametrize("config", CONFIGS, ids=["narrow", "wide"])
@pytest.mark.parametrize("seed", range(100))
def test_trace_is_what_the_rules_say_cycle_by_cycle(seed, config):
    rng = random.Random(seed)
    program = random_program(rng, config)
    repeat = rng.randrange(1, 4)
    assert [issue[:2] for issue in trace(program, config, repeat=repeat)] == step_by_step(program, config, repeat)


def incremental_program(rng, config):
    """Bases, differences at random paces, rows gathered and sweeps of single columns, in an order that is allowed."""
    reading = OUTPUTS * config.loss_lanes

    def to_loss(base, groups=1):
        cols = rng.choice([cols for cols in (1, 2, 4) if cols <= config.columns])
        tiles = OUTPUTS // cols
        rows = rng.choice([1, 2, reading // tiles, reading])
        levels = (Level(rows), Level(), Level(tiles), Level(groups, o=1), *[Level()] * 2)
        contract = Contract(
            a_base=0,
            w_base=0,
            o_base=0,
            levels=levels,
            cols=cols,
            last_cols=cols,
            col_stride=0,
            shift=0,
            store=False,
            to_loss=True,
            base=base,
            operand=rng.choice([Operand.WORD, Operand.STEP, Operand.DIFFERENCE]),
            pace=rng.choice([0, -(-reading // tiles), rng.randrange(2 * reading)]),
        )
        return dataclasses.replace(contract, wait=Wait(rng.choice([0, 0, 0, rng.randrange(16)])))

    def other():
        match rng.randrange(4):
            case 0:
                return Gather(
                    address=0,
                    stride=2,
                    rows=rng.randint(1, 5),
                    lanes=rng.randint(1, config.lanes),
                    cols=rng.randint(1, config.columns),
                    row=0,
                    wait=Wait(rng.randrange(16)),
                )
            case 1:
                return Sweep(kind=SweepKind.UPDATE, row=0, count=rng.randint(1, 50), single=True)
            case 2:
                return Coefficient(queries=rng.randrange(1, 4), two_sided=False)
            case _:
                contract = random_contract(rng, config)
                operand = rng.choice([Operand.WORD, Operand.IDENTITY])
                return dataclasses.replace(
                    contract, bias=False, from_batch=False, operand=operand, pace=rng.choice([0, rng.randrange(50)])
                )

    def some():
        return [other() for _ in range(rng.choice([0, 0, 1, 2]))]

    body = [Loss(kind=rng.choice(list(LossKind)), outputs=OUTPUTS, groups=1), to_loss(Base.NONE), *some()]
    body += [to_loss(Base.KEEP), *some()]
    for _ in range(rng.randrange(1, 5)):
        body += [to_loss(Base.ADD, rng.randrange(1, 4)), *some()]
    return [Loop(count=0), *body, End(), Halt()]


def valid_incremental_program(rng, config):
    while True:
        program = incremental_program(rng, config)
        try:
            check(program, config)
        except ValueError as error:
            if "cycles apart" not in str(error):
                raise
        else:
            return program


@pytest.mark.parametrize("config", CONFIGS, ids=["narrow", "wide"])
@pytest.mark.parametrize("seed", range(100))
def test_trace_of_incremental_steps(seed, config):
    rng = random.Random(seed)
    program = valid_incremental_program(rng, config)
    repeat = rng.randrange(1, 4)
    assert [issue[:2] for issue in trace(program, config, repeat=repeat)] == step_by_step(program, config, repeat)


@pytest.mark.parametrize("config", CONFIGS, ids=["narrow", "wide"])
@pytest.mark.parametrize("seed", range(100))
def test_timeline_adds_up_the_trace(seed, config):
    rng = random.Random(seed)
    program = random_program(rng, config) if seed % 2 else incremental_program(rng, config)
    repeat = rng.randrange(1, 40)
    found = timeline(program, config, repeat=repeat)
    issues = trace(program, config, repeat=repeat)
    assert found.cycles == issues[-1].cycle + 1
    for index, use in enumerate(found.uses):
        mine = [issue for issue in issues if issue.index == index]
        assert use.count == len(mine)
        assert use.busy == sum(issue.end - issue.start for issue in mine)
        assert use.waited == sum(issue.waited for issue in mine)
    contracts = [program[issue.index] for issue in issues if isinstance(program[issue.index], Contract)]
    useful = sum(contract.macs for contract in contracts if contract.operand != Operand.IDENTITY)
    assert found.macs == config.lanes * useful
    assert found.utilisation == found.macs / (found.cycles * config.lanes * config.columns)


def steady_program():
    contract = Contract(
        a_base=0,
        w_base=0,
        o_base=64,
        levels=(Level(7, 1, 1), *[Level()] * 5),
        cols=2,
        last_cols=2,
        col_stride=1,
        shift=0,
    )
    return [
        Loss(kind=LossKind.SQUARED_ERROR, outputs=2, groups=1),
        Loop(count=0),
        Batch(),
        Loop(count=3),
        dataclasses.replace(contract, wait=Wait.ENGINE),
        dataclasses.replace(contract, to_loss=True),
        End(),
        Coefficient(queries=1),
        Sweep(kind=SweepKind.UPDATE, row=0, count=9, wait=Wait.COEFFICIENT),
        End(),
        Halt(),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_serial_machine_does_one_thing_after_the_other(seed):
    config = preset("icebreaker")
    rng = random.Random(seed)
    program = random_program(rng, config)
    repeat = rng.randrange(1, 40)
    found = timeline(program, config, repeat=repeat)
    issues = trace(program, config, repeat=repeat)
    assert all(before.end <= after.cycle for before, after in pairwise(issues))
    assert all(issue.cycle <= issue.start <= issue.end for issue in issues)
    assert found.cycles == issues[-1].end
    assert not hazards(program, config, repeat=repeat)
    for index, use in enumerate(found.uses):
        mine = [issue for issue in issues if issue.index == index]
        assert (use.count, use.busy) == (len(mine), sum(issue.end - issue.start for issue in mine))


@pytest.mark.parametrize("config", [CONFIG, preset("icebreaker")], ids=["tiny", "icebreaker"])
def test_a_million_turns_cost_no_more_than_a_few(config):
    few, more, many = (timeline(steady_program(), config, repeat=repeat) for repeat in (10, 11, 1_000_000))
    assert many.cycles == few.cycles + (more.cycles - few.cycles) * (1_000_000 - 10)
    assert many.uses[4].count == 3_000_000


def test_a_run_may_start_and_end_in_the_middle():
    program = [Halt(), *steady_program()]
    assert timeline(program, CONFIG, start=1).cycles == timeline(program[1:], CONFIG).cycles
    assert timeline(program, CONFIG).cycles == 1 + ISSUE_OVERHEAD + 1


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ([End(), Halt()], "End without a Loop"),
        ([Loop(count=2)], "no Halt"),
        ([*[Loop(count=2)] * 5, *[End()] * 5, Halt()], "inside 4 others"),
    ],
)
def test_loops_must_be_nested_rightly(program, message):
    with pytest.raises(ValueError, match=message):
        timeline(program, CONFIG)
