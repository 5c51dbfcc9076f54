"""Random programs on the core: every memory, the state and the cycles equal the machine's model, faults included."""

from __future__ import annotations

import random

import cocotb
from bench_core import CONFIG, PARAMETERS, Bench
from tenzo_hw.isa import (
    Activation,
    Batch,
    Contract,
    End,
    Gather,
    Halt,
    Instruction,
    Level,
    Loop,
    Operand,
    Set,
    Sweep,
    SweepKind,
    encode,
)
from tenzo_hw.protocol import Register, Space, space_words
from tenzo_sim.programs import cured, random_program

PROGRAMS = 60
#: Programs from one look at all memories to the next.
LOOKS = 15


async def prepared(top, rng: random.Random) -> Bench:
    """A core with something in every memory and a current batch half."""
    bench = Bench(top, rng)
    await bench.start()
    for space in (Space.MASTER, Space.MOMENTUM, Space.TABLE, Space.BATCH, Space.TARGET):
        for address in range(space_words(CONFIG)[space]):
            await bench.write(space, address, rng.randrange(-(1 << 31), 1 << 31) >> rng.choice((8, 23)))
    await bench.write(Space.REGISTER, Register.RATE, 1 << 18)
    await bench.strobe("control__commit")
    bench.model.commit()
    whole = Sweep(kind=SweepKind.PERTURB, row=0, count=CONFIG.weight_rows)
    await run(bench, [Batch(), whole, Sweep(kind=SweepKind.PERTURB, row=0, count=99, half=1, mu=3), Halt()], 1)
    return bench


async def run(bench: Bench, program: list[Instruction], repeat: int) -> None:
    """Runs a program on both and compares state and cycles."""
    for address, word in enumerate(encode(program)):
        await bench.write(Space.PROGRAM, address, word)
    await bench.run(repeat, 0)
    bench.same_status()
    worked = int(bench.top.control__cycles.value) - int(bench.top.control__waits.value)
    assert worked == bench.model.status().cycles, program


@cocotb.test(timeout_time=500, timeout_unit="ms")
async def programs(top) -> None:
    """Programs of all instructions, nested loops, contractions of every shape."""
    rng = random.Random(PARAMETERS["seed"])
    bench = await prepared(top, rng)
    done = 0
    while done < PROGRAMS:
        repeat = rng.randrange(1, 4)
        program = cured(random_program(rng, CONFIG), CONFIG, repeat)
        if program is None:
            continue
        await run(bench, program, repeat)
        done += 1
        if done % LOOKS == 0:
            await bench.same_memories()


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def refusals(top) -> None:
    """What the sequencer refuses stops both at the same word in the same cycle, with what came before finished."""
    bench = await prepared(top, random.Random(PARAMETERS["seed"]))
    contract = Contract(
        a_base=0, w_base=0, o_base=0, levels=(Level(60),) + (Level(),) * 5, cols=1, last_cols=1, col_stride=1, shift=0
    )
    single = Sweep(kind=SweepKind.UPDATE, row=0, count=9, single=True, column_register=1, row_register=2)
    wrong: list[list[Instruction]] = [
        [End()],
        [Loop(count=1)] * 5,
        [Contract(**(vars(contract) | {"cols": CONFIG.columns + 1}))],
        [Contract(**(vars(contract) | {"activation": Activation.TABLE3}))],
        [Sweep(kind=SweepKind.PERTURB, row=0, count=0)],
        [Sweep(kind=SweepKind.PERTURB, row=1, count=CONFIG.weight_rows)],
        [Contract(**(vars(contract) | {"operand": Operand.STEP, "from_batch": True}))],
        [Contract(**(vars(contract) | {"operand": max(Operand) + 1}))],
        [Contract(**(vars(contract) | {"base": 3}))],
        [Gather(address=0, stride=1, rows=1, lanes=CONFIG.lanes + 1, cols=1, row=0)],
        [Set(register=1, value=5), single],
        [Set(register=2, value=CONFIG.weight_rows), single],
    ]
    before = [[], [contract], [Sweep(kind=SweepKind.UPDATE, row=0, count=50)]]
    for instructions in wrong:
        for first in before:
            await run(bench, [*first, *instructions, Halt()], 1)
    await bench.same_memories()
