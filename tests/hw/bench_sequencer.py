"""Random programs on the sequencer with units that are free at random: the issue schedule equals the manual's rule."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from itertools import islice

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly
from tenzo_hw.config import ADDRESS_REGISTERS, LOOP_DEPTH, REDUCTION_LEVELS, Config, preset
from tenzo_hw.isa import (
    Activation,
    Add,
    Base,
    Batch,
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
    Opcode,
    Operand,
    Set,
    Sweep,
    SweepKind,
    Wait,
    encode,
)
from tenzo_hw.layouts import CONTRACTIONS, STREAMS, deltas_layout, instruction_layout
from tenzo_hw.protocol import Fault, State
from tenzo_hw.sequencer import PROGRAM_READ_LATENCY, Issue, Refused, model
from tenzo_hw.timing import DONE_LATENCY, ISSUE_OVERHEAD

PARAMETERS = json.loads(os.environ["TENZO_BENCH"])
UNITS = {Contract: "contract", Sweep: "sweep", Loss: "loss", Coefficient: "coefficient", Gather: "gather"}
#: Units whose instructions can fail on the way.
FAILING = ("contract", "gather")
INPUTS = (
    *("engine_drained", "sweep_ready", "gather_ready", "coefficient_ready", "filled"),
    *("loss_free", "loss_idle", "loss_done"),
)
#: What must be ready for each wait bit.
DONE = (("engine_drained", "gather_ready"), ("sweep_ready",), ("loss_done",), ("coefficient_ready",))
ALL_DONE = tuple(name for names in DONE for name in names)
LONGEST_RUN = 20_000


def random_wait(rng: random.Random) -> Wait:
    return Wait(rng.choice((0, 0, rng.randrange(16))))


def random_instruction(rng: random.Random, config: Config) -> Instruction:
    wait = random_wait(rng)
    word = lambda: rng.getrandbits(16)  # noqa: E731
    # Small values keep the rows of sweeps inside.
    small = rng.random() < 0.7
    register = lambda: rng.randrange(ADDRESS_REGISTERS) if rng.random() < 0.6 else 0  # noqa: E731
    match rng.randrange(8):
        case 0:
            value = rng.randrange(3) if small else word()
            return Set(register=rng.randrange(ADDRESS_REGISTERS), value=value, wait=wait)
        case 1:
            value = rng.randrange(-1, 3) if small else word() - 0x8000
            return Add(register=rng.randrange(ADDRESS_REGISTERS), value=value, wait=wait)
        case 2:
            return Batch(wait=wait)
        case 3:
            operand = rng.choice(list(Operand))
            b = word if operand == Operand.DIFFERENCE else lambda: 0
            levels = [Level(rng.randrange(1, 99), word(), word(), 0, b()) for _ in range(2)]
            levels += [Level(rng.randrange(1, 99), word(), word(), word(), word()) for _ in range(4)]
            cols = rng.randint(1, config.columns)
            flags = {name: rng.random() < 0.5 for name in ("store", "to_loss")}
            flags["from_batch"] = operand == Operand.WORD and rng.random() < 0.5
            flags["bias"] = operand in (Operand.WORD, Operand.RELU) and rng.random() < 0.5
            registers = {f"{stream}_register": rng.randrange(ADDRESS_REGISTERS) for stream in "awob"}
            bases = {f"{stream}_base": word() for stream in "awob"}
            return Contract(
                levels=tuple(levels),
                cols=cols,
                last_cols=rng.randint(1, cols),
                col_stride=word(),
                shift=rng.randrange(64),
                tile_level=rng.randrange(4),
                one=rng.randrange(32),
                activation=Activation(rng.randrange(2 + config.tables)),
                operand=operand,
                base=rng.choice(list(Base)),
                pace=rng.randrange(1 << Contract.FIELDS["pace"].width),
                wait=wait,
                **flags,
                **registers,
                **bases,
            )
        case 4:
            count = rng.randint(1, config.weight_rows)
            row = rng.randint(0, config.weight_rows - count)
            return Sweep(
                kind=SweepKind(rng.randrange(2)),
                row=row,
                count=count,
                mu=word(),
                single=rng.random() < 0.5,
                column=rng.randrange(config.columns),
                row_register=register(),
                column_register=register(),
                wait=wait,
            )
        case 5:
            return Loss(
                kind=LossKind(rng.randrange(2)),
                outputs=rng.randint(1, config.outputs),
                groups=rng.randint(1, 999),
                accumulate=rng.random() < 0.5,
                target=word(),
                target_register=rng.randrange(ADDRESS_REGISTERS),
                wait=wait,
            )
        case 6:
            return Gather(
                address=word(),
                stride=word(),
                rows=rng.randint(1, 0xFFFF),
                lanes=rng.randint(1, config.lanes),
                cols=rng.randint(1, config.columns),
                col_stride=word(),
                row=word(),
                address_register=rng.randrange(ADDRESS_REGISTERS),
                row_register=rng.randrange(ADDRESS_REGISTERS),
                wait=wait,
            )
        case _:
            two_sided = rng.random() < 0.5
            queries = rng.randint(1, config.losses // 2 if two_sided else config.losses - 1)
            return Coefficient(queries=queries, two_sided=two_sided, clip=word(), wait=wait)


def random_body(rng: random.Random, config: Config, depth: int) -> list[Instruction]:
    body: list[Instruction] = []
    for _ in range(rng.randrange(9) if depth == LOOP_DEPTH else rng.randrange(4)):
        if rng.random() < 0.3 and depth:
            turns = rng.choice((0, 1, 2, 3))
            body += [Loop(count=turns, wait=random_wait(rng)), *random_body(rng, config, depth - 1)]
            body.append(End(wait=random_wait(rng)))
        else:
            body.append(random_instruction(rng, config))
    return body


def wrong_fields(rng: random.Random, config: Config, instruction: Instruction) -> list[dict]:
    """Changes of fields that take the instruction just outside of what the configuration has."""
    changes: list[dict] = []
    match instruction:
        case Contract(levels=levels, cols=cols, operand=operand):
            level = rng.randrange(len(levels))
            counts = (0, 1 << config.count_bits)
            wrong = [(*levels[:level], replace(levels[level], count=count), *levels[level + 1 :]) for count in counts]
            changes = [{"levels": changed} for changed in wrong]
            changes += [{"cols": config.columns + 1}, {"last_cols": 0}, {"last_cols": cols + 1}]
            changes += [{"activation": Activation.TABLE0 + config.tables}, {"activation": 7}, {"base": 3}]
            if operand == Operand.DIFFERENCE:  # the strides of its environments go with no other
                changes += [{"from_batch": True}, {"bias": True}]
            else:
                made = rng.choice((Operand.STEP, Operand.IDENTITY))
                changes += [{"operand": 7}, {"operand": Operand.RELU, "from_batch": True}]
                changes += [{"operand": made, "bias": True}]
        case Sweep(row=row):
            changes = [{"count": 0}, {"count": config.weight_rows - row + 1}, {"row": config.weight_rows}]
            changes += [{"single": True, "column": config.columns}]
        case Loss():
            changes = [{"outputs": 0}, {"outputs": config.outputs + 1}, {"groups": 0}]
        case Gather():
            over = {"lanes": config.lanes + 1, "cols": config.columns + 1}
            changes = [{name: value} for name, value in over.items()]
            changes += [{name: 0} for name in ("lanes", "cols", "rows")]
        case Coefficient(two_sided=two_sided):
            changes = [{"queries": 0}, {"queries": config.losses // 2 + 1 if two_sided else config.losses}]
    return changes


def out_of_range(rng: random.Random, config: Config, program: list[Instruction]) -> list[Instruction]:
    """The program with the fields of one instruction just outside of what the configuration has, where they can be."""
    places = [number for number, instruction in enumerate(program) if type(instruction) in UNITS]
    if not places:
        return program
    number = rng.choice(places)
    change = rng.choice(wrong_fields(rng, config, program[number]))
    return [*program[:number], replace(program[number], **change), *program[number + 1 :]]


def broken(rng: random.Random, config: Config, words: list[int], starts: list[int]) -> list[int]:
    """The program with one word damaged, or with a fault put in."""
    words = list(words)
    match rng.randrange(6):
        case 0:
            words[rng.choice(starts)] = rng.choice((max(Opcode) + 1, 0x15, 255))
        case 1:
            words[rng.randrange(len(words))] ^= 1 << rng.randrange(8, 32)
        case 2:
            words[rng.randrange(len(words))] = rng.getrandbits(32)
        case 3:
            place = rng.choice(starts)
            words[place:place] = encode([Loop(count=1)] * 5)
        case 4:
            words.insert(rng.choice(starts), End().encode()[0])
        case 5:
            words = words[:-1] + Set(register=1, value=1).encode() * (config.program_depth - len(words) + 1)
    return words


def expected(config: Config, words: list[int], pc: int, repeat: int) -> tuple[list[Issue], Refused | None]:
    issues: list[Issue] = []
    try:
        for issue in model(config, words, pc, repeat):
            issues.append(issue)
            if len(issues) > LONGEST_RUN // 3:
                raise Refused(Fault.ABORTED, issue.pc)
    except Refused as refused:
        return issues, refused
    return issues, None


def may_issue(instruction: Instruction, inputs: dict[str, int]) -> bool:
    wait = getattr(instruction, "wait", Wait.NONE)
    if any(wait >> bit & 1 and not inputs[name] for bit, names in enumerate(DONE) for name in names):
        return False
    match instruction:
        case Contract():
            buffer = inputs["loss_idle" if instruction.base == Base.ADD else "loss_free"]
            to_loss = buffer and inputs["coefficient_ready"]
            return bool(inputs["gather_ready"] and (to_loss or not instruction.to_loss))
        case Sweep():
            return bool(inputs["sweep_ready"] and inputs["gather_ready"])
        case Loss():
            return bool(inputs["loss_done"] and inputs["coefficient_ready"])
        case Coefficient():
            return bool(inputs["loss_done"] and inputs["coefficient_ready"])
        case Gather():
            return all(inputs[name] for name in ("engine_drained", "gather_ready", "sweep_ready"))
        case Batch():
            return all(inputs[name] for name in (*ALL_DONE, "filled"))
        case Halt():
            return all(inputs[name] for name in ALL_DONE)
    return True


class Bench:
    def __init__(self, top: object, config: Config, rng: random.Random) -> None:
        self.top = top
        self.config = config
        self.rng = rng
        self.inputs: list[dict[str, int]] = []
        self.taken: list[int] = []

    async def start(self) -> None:
        self.top.clk.value = 0
        strobes = ("engine_taken", "engine_fault", "gather_fault", "run", "abort", "program_write", "rst")
        for name in (*INPUTS, *strobes):
            getattr(self.top, name).value = 0
        cocotb.start_soon(Clock(self.top.clk, 10, "ns").start())
        await FallingEdge(self.top.clk)

    async def load(self, words: list[int]) -> None:
        self.top.program_write.value = 1
        for address, word in enumerate(words):
            self.top.program_address.value = address
            self.top.program_data.value = word
            await FallingEdge(self.top.clk)
        self.top.program_write.value = 0
        address = self.rng.randrange(len(words))
        self.top.program_address.value = address
        for _ in range(PROGRAM_READ_LATENCY):
            await FallingEdge(self.top.clk)
        assert int(self.top.program_word.value) == words[address]

    async def run(
        self,
        pc: int,
        repeat: int,
        busy: float,
        *,
        abort: int = -1,
        fault: int = -1,
        unit: str = "contract",
        back: int = 0,
    ) -> list[tuple]:
        """Runs to the end, with ABORT or a fault of ``unit`` at a cycle; issues, each as (cycle, unit, fields).

        The contraction at fault is the one ``back`` before the last one. The engine takes contractions at random.
        """
        top = self.top
        top.run_pc.value, top.repeat.value, top.run.value = pc, repeat, 1
        await FallingEdge(top.clk)
        top.run.value = 0
        events: list[tuple] = []
        deltas: dict[str, int] = {}
        self.inputs.clear()
        self.taken.clear()
        given = False
        while int(top.state.value) == State.RUNNING:
            cycle = len(self.inputs)
            assert cycle < LONGEST_RUN, "the run does not end"
            values = {name: int(self.rng.random() >= busy) for name in INPUTS}
            self.inputs.append(values)
            for name, value in values.items():
                getattr(top, name).value = value
            top.abort.value = cycle == abort
            top.engine_fault.value = cycle == fault and unit == "contract"
            top.gather_fault.value = cycle == fault and unit == "gather"
            top.engine_fault_number.value = (int(top.contract_number.value) - back) % CONTRACTIONS
            takes = given and self.rng.random() >= busy
            top.engine_taken.value = takes
            if takes:
                self.taken.append(cycle)
                given = False
            # Outputs of this cycle, from the inputs just set, are stable half a cycle later: before the clock edge.
            await ReadOnly()
            coming = deltas_layout().from_bits(int(top.deltas.value))
            for bit, stream in enumerate(STREAMS):
                if coming.write >> bit & 1:
                    deltas[f"{stream}{coming.level}"] = coming[stream]
            # A strobe comes a cycle after the issue.
            for name in UNITS.values():
                if int(getattr(top, f"{name}_start").value):
                    events.append((cycle - 1, name, int(getattr(top, name).value)))
                    events += [(cycle - 1, "deltas", deltas.copy())] if name == "contract" else []
            given |= bool(int(top.contract_start.value))
            if int(top.take.value):
                events.append((cycle - 1, "take", 0))
            await FallingEdge(top.clk)
        return events

    def same_run(self, events: list[tuple], issues: list[Issue], refused: Refused | None) -> None:
        """The run that has just ended did what the manual says."""
        top, seed = self.top, PARAMETERS["seed"]
        reference_events, last, waits = reference(self.config, issues, self.inputs, self.taken)
        assert events == reference_events, f"seed {seed}"
        assert int(top.waits.value) == waits
        assert int(top.cycles.value) == len(self.inputs)
        fault = (int(top.fault.value), int(top.pc.value))
        if refused is None:
            assert int(top.state.value) == State.IDLE, f"seed {seed}: fault {fault[0]} at word {fault[1]}"
            assert fault[1] == issues[-1].pc
            assert int(top.cycles.value) == last + 1
        else:
            assert int(top.state.value) == State.FAILED
            assert fault == (refused.fault, refused.pc), f"seed {seed}"


def reference(
    config: Config, issues: list[Issue], inputs: list[dict[str, int]], taken: list[int]
) -> tuple[list[tuple], int, int]:
    """The manual's rule: events, cycle of the last issue and cycles waited for the host."""
    events: list[tuple] = []
    cycle = waits = 0
    takes = iter(taken)
    fetched_from = 0
    for issue in issues:
        instruction = issue.instruction
        cycle = fetched_from + instruction.WORDS + ISSUE_OVERHEAD
        while not may_issue(instruction, seen := inputs[cycle - DONE_LATENCY]):
            waits += isinstance(instruction, Batch) and may_issue(instruction, seen | {"filled": 1})
            cycle += 1
        fetched_from = next(takes, cycle) if isinstance(instruction, Contract) else cycle
        for kind, unit in UNITS.items():
            if isinstance(instruction, kind):
                events.append((cycle, unit, packed(instruction)))
        if isinstance(instruction, Contract):
            names = {name for name, _ in instruction_layout(Contract)}
            deltas = {name: value for name, value in instruction._values().items() if name not in names}
            del deltas["wait"]
            events.append((cycle, "deltas", deltas))
        if isinstance(instruction, Batch):
            events.append((cycle, "take", 0))
    return events, cycle, waits


def packed(instruction: Instruction) -> int:
    values = instruction._values()
    layout = instruction_layout(type(instruction))
    # The column of a sweep of all columns is of no use and may be too large.
    masks = {name: (1 << shape.width) - 1 for name, shape in layout}
    fields = {name: values[name] & mask if name == "column" else values[name] for name, mask in masks.items()}
    return layout.const(fields).as_value().value


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def programs(top) -> None:
    config = preset(PARAMETERS["config"])
    rng = random.Random(PARAMETERS["seed"])
    bench = Bench(top, config, rng)
    await bench.start()
    ends = {fault: 0 for fault in Fault}
    for _ in range(PARAMETERS["programs"]):
        program = [*random_body(rng, config, LOOP_DEPTH), Halt()]
        if rng.random() < 0.6:
            program = out_of_range(rng, config, program)
        words = encode(program)
        lengths = [len(instruction.encode()) for instruction in program]
        starts = [sum(lengths[:number]) for number in range(len(lengths))]
        if rng.random() < 0.25:
            words = broken(rng, config, words, starts)
        words = words[: config.program_depth]
        words += [0] * (config.program_depth - len(words))
        repeat = rng.choice((0, 1, 2, 3))
        pc = rng.choice((0, 0, 0, rng.choice(starts), config.program_depth - 1, 2 * config.program_depth - 1))
        await bench.load(words)
        issues, refused = expected(config, words, pc, repeat)
        if refused is not None and refused.fault == Fault.ABORTED:
            continue
        events = await bench.run(pc, repeat, rng.choice((0, 0.2, 0.6)))
        bench.same_run(events, issues, refused)
        ends[refused.fault if refused else Fault.NONE] += 1
    assert all(ends[fault] for fault in Fault if fault != Fault.ABORTED), ends


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def edges(top) -> None:
    """Every field just outside, and sweeps that their registers take to the edge and over it."""
    config = preset(PARAMETERS["config"])
    rng = random.Random(PARAMETERS["seed"] + 2)
    bench = Bench(top, config, rng)
    await bench.start()
    programs: list[list[Instruction]] = []
    for kind in UNITS:
        for _ in range(4):
            plain = next(i for i in iter(lambda: random_instruction(rng, config), None) if isinstance(i, kind))
            if isinstance(plain, Sweep):
                plain = replace(plain, row_register=0, column_register=0)
            programs += [[plain], *([replace(plain, **change)] for change in wrong_fields(rng, config, plain))]
    sweep = Sweep(kind=SweepKind.UPDATE, row=3, count=config.weight_rows - 5, single=True, row_register=1)
    for row, column in ((2, 0), (3, 0), (0xFFFD, 0), (0xFFFC, 0), (2, config.columns - 1), (2, config.columns)):
        registers = [Set(register=1, value=row), Set(register=2, value=column)]
        programs += [[*registers, sweep], [*registers, replace(sweep, column_register=2)]]
        programs += [[*registers, replace(sweep, single=False, column_register=2)]]
    words = [encode([*program, Halt()]) for program in programs]
    contract = next(i for i in iter(lambda: random_instruction(rng, config), None) if isinstance(i, Contract))
    for operand in Operand:
        for level in range(REDUCTION_LEVELS):
            moved = replace(contract, levels=(Level(),) * 6, operand=operand, bias=False, from_batch=False)
            words.append(encode([moved, Halt()]))
            bits = Contract.FIELDS[f"b{level}"]
            words[-1][bits.word] |= 1 << bits.low + rng.randrange(bits.width)
    refusals = 0
    for program in words:
        await bench.load(program)
        issues, refused = expected(config, program, 0, 1)
        bench.same_run(await bench.run(0, 1, 0), issues, refused)
        refusals += refused is not None
    assert 0 < refusals < len(words)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def stops(top) -> None:
    """ABORT stops before the next instruction; a fault names the last contraction or gather."""
    config = preset(PARAMETERS["config"])
    rng = random.Random(PARAMETERS["seed"] + 1)
    bench = Bench(top, config, rng)
    await bench.start()
    for _ in range(PARAMETERS["programs"] // 4):
        # Nothing that a register can make the sequencer refuse.
        anything = iter(lambda: random_instruction(rng, config), None)
        body = list(
            islice((i for i in anything if not isinstance(i, Sweep) or not (i.row_register or i.column_register)), 20)
        )
        program = [next(i for i in anything if isinstance(i, Contract))]
        program += [*body, Halt()]
        words = encode(program)
        await bench.load(words)
        issues, _ = expected(config, words, 0, 1)
        busy = rng.choice((0, 0.5))
        await bench.run(0, 1, busy)
        length = len(bench.inputs)

        abort = rng.randrange(length // 4)
        events = await bench.run(0, 1, busy, abort=abort)
        assert (int(top.state.value), int(top.fault.value)) == (State.FAILED, Fault.ABORTED)
        stopped = int(top.pc.value)
        done = [issue for issue in issues if issue.pc < stopped]
        assert events == reference(config, done, bench.inputs, bench.taken)[0]
        cycles = [reference(config, issues[:count], bench.inputs, bench.taken)[1] for count in range(len(done) + 1)]
        assert all(earlier <= abort + 1 for earlier in cycles), "an instruction was issued after ABORT"

        fault = rng.randrange(23, length // 3)
        unit = rng.choice(FAILING)
        back = rng.randrange(CONTRACTIONS - 1) if unit == "contract" else 0
        events = await bench.run(0, 1, busy, fault=fault, unit=unit, back=back)
        assert (int(top.state.value), int(top.fault.value)) == (State.FAILED, Fault.ADDRESS)
        before = [cycle for cycle, name, _ in events if name == unit and cycle < fault]
        of_unit = [issue for issue in issues if UNITS.get(type(issue.instruction)) == unit]
        if len(before) > back:
            assert int(top.pc.value) == of_unit[len(before) - 1 - back].pc
        assert all(cycle <= fault + 2 for cycle, _, _ in events)
