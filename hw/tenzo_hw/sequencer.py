"""The sequencer: reads a program, issues its instructions to the units at exact cycles and counts them.

    address ─ program memory ─ word ─ registers' sums ─ checks ─ issue ─ start of a unit

The rules of time are those of docs/machine.md: RUN is an issue at cycle 0, and an instruction of n words is issued in
the first cycle >= the previous issue + n + ``ISSUE_OVERHEAD`` in which its units are free and its ``wait`` bits hold.
The units are all over the chip: there is a register at either end of the ways to them and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from .cells import BlockRam
from .check import refusal
from .collisions import NO_COLLISIONS
from .config import ADDRESS_REGISTERS, LOOP_DEPTH, REDUCTION_LEVELS, Config
from .isa import (
    INSTRUCTIONS,
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
    Loop,
    Loss,
    Opcode,
    Operand,
    Set,
    Sweep,
)
from .layouts import CONTRACTIONS, LEVELS, STREAMS, deltas_layout, instruction_layout
from .protocol import Fault, State
from .registers import ADDRESS_BITS, SUMS, AddressRegisters
from .timing import STOP_CYCLES

#: Cycles after which the program memory's word at the host's address is read.
PROGRAM_READ_LATENCY = 3

_LONGEST = max(kind.WORDS for kind in INSTRUCTIONS.values())
#: Cycles behind an instruction's last word in which its sums and checks are finished.
_CHECK_CYCLES = 5
#: Fields that have an address register added to them, each with the field that chooses the register.
_SUMS: dict[type[Instruction], dict[str, str]] = {**SUMS, Add: {"value": "register"}}
#: Where the one adder begins with an instruction's sums: the number of the arriving word, one sum a word from there on.
#: A field and its register must be there by then.
_SUMS_FROM: dict[type[Instruction], int] = {
    Contract: Contract.FIELDS["w_base"].word,
    Sweep: 0,
    Loss: 0,
    Gather: Gather.WORDS - 1,
    Add: 0,
}


@dataclass(frozen=True)
class Issue:
    """One issued instruction: its word address, and the instruction with the address registers added."""

    pc: int
    instruction: Instruction


class Refused(Exception):
    """The sequencer refuses the instruction at word ``pc`` with ``fault``."""

    def __init__(self, fault: Fault, pc: int) -> None:
        super().__init__(f"{fault.name} fault at word {pc}")
        self.fault = fault
        self.pc = pc


def model(config: Config, program: list[int], pc: int, repeat: int) -> Iterator[Issue]:
    """The instructions that the sequencer issues, in order, up to HALT. Raises ``Refused`` on a fault."""
    registers = AddressRegisters()
    loops: list[list[int]] = []
    memory_words = program + [0] * (config.program_depth - len(program))
    while True:
        opcode = memory_words[pc] & 0xFF if pc < config.program_depth else -1
        kind = INSTRUCTIONS.get(Opcode(opcode)) if opcode in list(Opcode) else None
        if kind is None or pc + kind.WORDS > config.program_depth:
            raise Refused(Fault.OPCODE, pc)
        follow = pc + kind.WORDS
        try:
            instruction = kind.decode(memory_words[pc:follow])
        except ValueError:  # an activation that no configuration has
            raise Refused(Fault.RANGE, pc) from None
        if kind in SUMS:
            instruction = replace(instruction, **registers.totals(instruction))
        refused = refusal(instruction, config)
        if refused:
            raise Refused(refused[0], pc)
        if isinstance(instruction, Loop):
            turns = instruction.count or repeat
            if len(loops) == LOOP_DEPTH:
                raise Refused(Fault.OPCODE, pc)
            if turns == 0:
                raise Refused(Fault.RANGE, pc)
            loops.append([follow, turns])
        elif isinstance(instruction, End):
            if not loops:
                raise Refused(Fault.OPCODE, pc)
            loops[-1][1] -= 1
            if loops[-1][1]:
                follow = loops[-1][0]
            else:
                loops.pop()
        elif isinstance(instruction, Set | Add):
            registers.change(instruction)
        yield Issue(pc, instruction)
        if isinstance(instruction, Halt):
            return
        pc = follow


_PHASES = StructLayout(
    {
        "start": 1,  # the first cycle of a run: counts as an issue
        "fetch": 1,
        "check": 1,  # all words are there
        "issue": 1,  # the instruction waits for its units
        "take": 1,  # a contraction waits for the engine to take it
        "stop": 1,  # a fault: the units finish what was issued
    }
)
"""Where the run is: a bit each, none without a run."""


class Sequencer(wiring.Component):
    """Runs programs. All strobes last one cycle and come a cycle after the issue.

    An instruction's fields hold from a cycle before its strobe until two cycles after it at least, those of a
    contraction until three cycles after it is taken. What the units say of themselves counts for issues two cycles
    later; within four cycles of a strobe they must say what it has made of them.

    Ports
    -----
    program_write, program_address, program_data:
        Host writes; only while ``state`` is not RUNNING.
    program_word:
        The word at ``program_address``, ``PROGRAM_READ_LATENCY`` cycles later, while ``state`` is not RUNNING.
    run, run_pc, repeat:
        Strobe that starts a run, at a word below twice ``program_depth``; ``state`` is RUNNING from the next cycle (the
        run's cycle 0) on. ``repeat`` holds for two cycles more.
    abort:
        Strobe: the run stops at its next instruction, with all that was issued before finished.
    contract, sweep, loss, coefficient, gather and ..._start:
        Fields and start strobes of the units; the address registers are added.
    deltas:
        Deltas of the next contraction, as they arrive: never before the one before is taken.
    contract_number, engine_taken:
        Number of the contraction given last, modulo ``CONTRACTIONS``. Strobe of the engine that has taken it; the next
        instruction is read from then on.
    engine_drained, sweep_ready, loss_free, loss_idle, loss_done, coefficient_ready:
        What the units report.
    engine_fault, engine_fault_number:
        Strobe of a fault of the contraction with this number.
    gather_ready, gather_fault:
        While a gather goes on neither a contraction nor a sweep is issued, and the engine is not drained.
    filled, take:
        A filled batch half waits; strobe that takes it.
    state, fault, pc:
        How the run goes; ``pc`` is the word address of the instruction being read or waiting, or that failed.
    cycles, waits:
        Cycles in state RUNNING; those in which BATCH waited for nothing but the host.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "program_write": In(1),
                "program_address": In(range(config.program_depth)),
                "program_data": In(32),
                "program_word": Out(32),
                "run": In(1),
                "run_pc": In(ADDRESS_BITS),
                "repeat": In(32),
                "abort": In(1),
                "contract": Out(instruction_layout(Contract)),
                "contract_start": Out(1),
                "contract_number": Out(range(CONTRACTIONS)),
                "deltas": Out(deltas_layout()),
                "sweep": Out(instruction_layout(Sweep)),
                "sweep_start": Out(1),
                "loss": Out(instruction_layout(Loss)),
                "loss_start": Out(1),
                "coefficient": Out(instruction_layout(Coefficient)),
                "coefficient_start": Out(1),
                "gather": Out(instruction_layout(Gather)),
                "gather_start": Out(1),
                "engine_taken": In(1),
                "engine_drained": In(1),
                "engine_fault": In(1),
                "engine_fault_number": In(range(CONTRACTIONS)),
                "sweep_ready": In(1),
                "loss_free": In(1),
                "loss_idle": In(1),
                "loss_done": In(1),
                "coefficient_ready": In(1),
                "gather_ready": In(1),
                "gather_fault": In(1),
                "filled": In(1),
                "take": Out(1),
                "state": Out(State),
                "fault": Out(Fault),
                "pc": Out(ADDRESS_BITS),
                "cycles": Out(64),
                "waits": Out(64),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Fetch, checks, address registers, issue and the run's course."""
        m = Module()
        config = self.config
        m.submodules.program = program = BlockRam(width=32, depth=config.program_depth)

        phase = Signal(_PHASES)
        #: The next instruction's first word is being addressed: the issue cycle, or a run's cycle 0.
        go = Signal()
        issue = Signal()

        # --- Fetch. A word arrives four cycles after its address: the memory, its register, one of our own, which keeps
        # the memory's place off the decoder of opcodes, and what that decodes. A bit of ``places`` says which word of
        # the instruction that is; it goes on behind the last one, while sums and checks are made.
        # A bit more than the memory has: a program that runs off it is seen to.
        address = Signal(range(2 * config.program_depth))
        pc = Signal.like(address)
        follow = Signal.like(address)
        next_address = Signal.like(address)
        outside = Signal(4)
        coming = Signal(32)
        word = Signal(32)
        words = Array(Signal(32, name=f"word{number}") for number in range(_LONGEST))
        asked = Signal(3)
        places = Signal(_LONGEST + _CHECK_CYCLES)
        kinds = {kind: Signal(name=f"is_{kind.__name__.lower()}") for kind in INSTRUCTIONS.values()}
        known = Signal()
        m.d.comb += [
            program.write_address.eq(self.program_address),
            program.write_data.eq(self.program_data),
            program.write.eq(self.program_write),
            program.read_address.eq(address),
            self.program_word.eq(program.read_data),
        ]
        m.d.sync += [
            coming.eq(program.read_data),
            word.eq(coming),
            outside.eq(Cat(address >= config.program_depth, outside[:-1])),
            asked.eq(Cat(go, asked[:-1])),
            places.eq(Mux(go, 0, Cat(asked[-1], places[:-1]))),
        ]
        with m.If(asked[-1]):
            opcode = coming[:8]
            m.d.sync += [
                known.eq((opcode <= max(Opcode)) & ~outside[2]),
                *(is_kind.eq((opcode == kind.OPCODE) & ~outside[2]) for kind, is_kind in kinds.items()),
            ]
        for number, kept_word in enumerate(words):
            with m.If(places[number]):
                m.d.sync += kept_word.eq(word)

        def at_place(number: int, kind: type[Instruction]) -> Value:
            """High in the cycle in which word ``number`` of an instruction of this kind arrives, or would."""
            return places[number] & kinds[kind]

        def arrived(kind: type[Instruction], name: str) -> Value:
            bits = kind.FIELDS[name]
            return word[bits.low : bits.low + bits.width]

        def kept(kind: type[Instruction], name: str) -> Value:
            bits = kind.FIELDS[name]
            return words[bits.word][bits.low : bits.low + bits.width]

        # The last word is there; all checks are made, in the next cycle. What is unknown counts as one word.
        def behind(words: int) -> Value:
            return (places[words] & ~known) | _any(at_place(kind.WORDS + words, kind) for kind in kinds)

        is_read = Signal()
        is_checked = Signal()
        m.d.sync += [
            is_read.eq(behind(0)),
            is_checked.eq(behind(_CHECK_CYCLES - 2)),
            follow.eq(pc + _any(Mux(is_kind, kind.WORDS, 0) for kind, is_kind in kinds.items())),
        ]

        # --- Loops: the innermost one, and those around it, which are there again long before an END is issued.
        repeat = Signal(32)
        depth = Signal(range(LOOP_DEPTH + 1))
        loop = Signal(StructLayout({"start": address.shape(), "turns": 32}))
        last_turn = Signal()
        m.submodules.outer = outer = memory.Memory(shape=loop.shape(), depth=LOOP_DEPTH, init=[], attrs=NO_COLLISIONS)
        push, around = outer.write_port(), outer.read_port()
        m.d.comb += [push.addr.eq(depth), push.data.eq(loop), around.addr.eq(depth - 1)]
        m.d.sync += [
            last_turn.eq(loop.turns == 1),
            next_address.eq(Mux(kinds[End] & ~last_turn, loop.start, follow)),
        ]

        # --- Address registers. One adder makes an instruction's sums one after the other, while its words arrive and
        # behind them: a register is chosen, read, and added to.
        registers = Array(Signal(ADDRESS_BITS, name=f"register{number}") for number in range(ADDRESS_REGISTERS))
        chosen = Signal(range(ADDRESS_REGISTERS))
        register = Signal(ADDRESS_BITS)
        addend = Signal(ADDRESS_BITS)
        sums = [Signal(ADDRESS_BITS, name=f"sum{number}") for number in range(max(map(len, _SUMS.values())))]

        def at(number: int, kind: type[Instruction], name: str) -> Value:
            """A field in the cycle in which word ``number`` arrives; 0 in all others."""
            field = arrived(kind, name) if kind.FIELDS[name].word == number else kept(kind, name)
            return Mux(at_place(number, kind), field, 0)

        made = [
            (kind, _SUMS_FROM[kind] + place, place, name, chooser)
            for kind, names in _SUMS.items()
            for place, (name, chooser) in enumerate(names.items())
        ]
        m.d.sync += [
            chosen.eq(_any(at(number, kind, chooser) for kind, number, _, _, chooser in made)),
            register.eq(registers[chosen]),
            addend.eq(_any(at(number + 1, kind, name) for kind, number, _, name, _ in made)),
        ]
        for kind, number, place, _, _ in made:
            with m.If(at_place(number + 2, kind)):
                m.d.sync += sums[place].eq(register + addend)

        # --- Deltas go straight to the engine.
        for level in LEVELS:
            bits = {stream: Contract.FIELDS.get(f"{stream}{level}") for stream in STREAMS}
            for number in {place.word for place in bits.values() if place}:
                with m.If(at_place(number, Contract)):
                    m.d.comb += self.deltas.level.eq(level)
                    for bit, (stream, place) in enumerate(bits.items()):
                        if place and place.word == number:
                            m.d.comb += [
                                self.deltas.write[bit].eq(1),
                                self.deltas[stream].eq(arrived(Contract, f"{stream}{level}")),
                            ]

        # --- Checks, each when its word arrives or its sum is there.
        queries = arrived(Coefficient, "queries")
        two_sided = kept(Coefficient, "two_sided")
        operand = arrived(Contract, "operand")
        sweep_end = Signal(ADDRESS_BITS + 1)
        m.d.sync += sweep_end.eq(sums[0] + kept(Sweep, "count"))
        left_out = [
            (Contract, 2, Fault.RANGE, ~operand.matches(Operand.WORD, Operand.RELU)),
            (Contract, 2, Fault.RANGE, arrived(Contract, "base") != Base.NONE),
            (Gather, 0, Fault.RANGE, 1),
        ]
        checks = [
            (Loop, 0, Fault.OPCODE, depth == LOOP_DEPTH),
            (Loop, 0, Fault.RANGE, (arrived(Loop, "count") == 0) & (repeat == 0)),
            (End, 0, Fault.OPCODE, depth == 0),
            (Contract, 0, Fault.RANGE, arrived(Contract, "activation") >= Activation.TABLE0 + config.tables),
            (Contract, 1, Fault.RANGE, arrived(Contract, "cols") > config.columns),
            (Contract, 1, Fault.RANGE, arrived(Contract, "last_cols") > arrived(Contract, "cols")),
            (Contract, 1, Fault.RANGE, arrived(Contract, "last_cols") == 0),
            (Contract, 2, Fault.RANGE, kept(Contract, "from_batch") & (operand != Operand.WORD)),
            (Contract, 2, Fault.RANGE, kept(Contract, "bias") & ~operand.matches(Operand.WORD, Operand.RELU)),
            (Contract, 2, Fault.RANGE, operand > max(Operand)),
            (Contract, 2, Fault.RANGE, arrived(Contract, "base") > max(Base)),
            *([] if config.incremental else left_out),
            *(
                (Contract, bits.word, Fault.RANGE, (count == 0) | count[config.count_bits :].any())
                for name, bits in Contract.FIELDS.items()
                if name.startswith("count")
                for count in [arrived(Contract, name)]
            ),
            *(
                (
                    Contract,
                    Contract.FIELDS[name].word,
                    Fault.RANGE,
                    (kept(Contract, "operand") != Operand.DIFFERENCE) & (arrived(Contract, name) != 0),
                )
                for name in (f"b{level}" for level in range(REDUCTION_LEVELS))
            ),
            (Sweep, 1, Fault.RANGE, arrived(Sweep, "count") == 0),
            # The column is the second sum, there four words after its first place; the end comes after the row's sum.
            (Sweep, 4, Fault.RANGE, kept(Sweep, "single") & (sums[1] >= config.columns)),
            (Sweep, 5, Fault.ADDRESS, sweep_end > config.weight_rows),
            (Loss, 0, Fault.RANGE, arrived(Loss, "outputs") > config.outputs),
            (Loss, 0, Fault.RANGE, arrived(Loss, "outputs") == 0),
            (Loss, 1, Fault.RANGE, arrived(Loss, "groups") == 0),
            (Coefficient, 1, Fault.RANGE, queries == 0),
            (Coefficient, 1, Fault.RANGE, queries > Mux(two_sided, config.losses // 2, config.losses - 1)),
            (Gather, 0, Fault.RANGE, arrived(Gather, "cols") > config.columns),
            (Gather, 0, Fault.RANGE, arrived(Gather, "lanes") > config.lanes),
            *(
                (Gather, Gather.FIELDS[name].word, Fault.RANGE, arrived(Gather, name) == 0)
                for name in ("cols", "lanes", "rows")
            ),
        ]
        # No kind of instruction can have two faults of which the later one here comes first.
        bad = {fault: Signal(name=f"bad_{fault.name.lower()}") for fault in (Fault.OPCODE, Fault.RANGE, Fault.ADDRESS)}
        hits: dict[Fault, list[Value]] = {fault: [] for fault in bad}
        hits[Fault.OPCODE] += [places[0] & ~known]
        hits[Fault.OPCODE] += [at_place(kind.WORDS - 1, kind) & outside[-1] for kind in kinds]
        for kind, number, fault, wrong in checks:
            hits[fault].append(at_place(number, kind) & wrong)
        for fault, is_bad in bad.items():
            hit = Signal(len(hits[fault]), name=f"hit_{fault.name.lower()}")
            m.d.sync += hit.eq(Cat(hits[fault]))
            with m.If(go):
                m.d.sync += is_bad.eq(0)
            with m.Elif(hit.any()):
                m.d.sync += is_bad.eq(1)
        refusal = Mux(bad[Fault.OPCODE], Fault.OPCODE, Mux(bad[Fault.RANGE], Fault.RANGE, Fault.ADDRESS))

        # --- Issue. What the units say is registered where it arrives, and once more when it was weighed.
        done = Signal(4)
        gather_ready = Signal()
        loss_free = Signal()
        loss_idle = Signal()
        filled = Signal()
        gather_failed = Signal()
        fault_number = Signal.like(self.engine_fault_number)
        m.d.sync += [
            gather_failed.eq(self.gather_fault),
            fault_number.eq(self.engine_fault_number),
            done.eq(
                Cat(self.engine_drained & self.gather_ready, self.sweep_ready, self.loss_done, self.coefficient_ready)
            ),
            gather_ready.eq(self.gather_ready),
            loss_free.eq(self.loss_free),
            loss_idle.eq(self.loss_idle),
            filled.eq(self.filled),
        ]
        engine_done, sweep_done, loss_done, coefficient_done = done
        # Groups of differences go through both loss buffers.
        buffer = Mux(kept(Contract, "base") == Base.ADD, loss_idle, loss_free)
        needs = {
            Contract: gather_ready & (~kept(Contract, "to_loss") | (buffer & coefficient_done)),
            Sweep: sweep_done & gather_ready,
            Loss: loss_done & coefficient_done,
            Coefficient: loss_done & coefficient_done,
            Gather: engine_done & sweep_done,
            Batch: done.all() & filled,
            Halt: done.all(),
        }
        can_issue = Signal()
        waits_for_host = Signal()
        settled = Signal()
        aborting = Signal()
        refuses = Signal()
        refused = Signal()
        waits_hold = (kept(Contract, "wait") & ~done) == 0
        is_bad = _any(bad.values()) | aborting
        m.d.sync += [
            can_issue.eq(waits_hold & ~_any(kinds[kind] & ~need for kind, need in needs.items()) & ~is_bad),
            waits_for_host.eq(kinds[Batch] & waits_hold & done.all() & ~filled),
            refuses.eq(is_bad),
            settled.eq(engine_done & sweep_done & coefficient_done),
        ]
        m.d.comb += [
            refused.eq(phase.issue & refuses),
            issue.eq(phase.issue & can_issue),
            go.eq((issue & ~kinds[Halt] & ~kinds[Contract]) | (phase.take & self.engine_taken) | phase.start),
        ]
        for kind, start in (
            (Contract, self.contract_start),
            (Sweep, self.sweep_start),
            (Loss, self.loss_start),
            (Coefficient, self.coefficient_start),
            (Gather, self.gather_start),
            (Batch, self.take),
        ):
            m.d.sync += start.eq(issue & kinds[kind])
        for kind, port in (
            (Contract, self.contract),
            (Sweep, self.sweep),
            (Loss, self.loss),
            (Coefficient, self.coefficient),
            (Gather, self.gather),
        ):
            added = dict(zip(_SUMS.get(kind, ()), sums, strict=False))
            m.d.comb += [port[name].eq(added.get(name, kept(kind, name))) for name, _ in instruction_layout(kind)]

        contract_pcs = Array(Signal.like(address, name=f"contract_pc{number}") for number in range(CONTRACTIONS))
        gather_pc = Signal.like(address)
        m.d.comb += self.pc.eq(pc)
        with m.If(issue & kinds[Contract]):
            number = (self.contract_number + 1)[: len(self.contract_number)]
            m.d.sync += [self.contract_number.eq(number), contract_pcs[number].eq(pc)]
        with m.If(issue & kinds[Gather]):
            m.d.sync += gather_pc.eq(pc)

        # What an issue changes of the sequencer itself, a cycle later: ``pc`` is the following instruction's by then.
        issued = {kind: Signal(name=f"issued_{kind.__name__.lower()}") for kind in (Loop, End, Set, Add)}
        m.d.sync += [strobe.eq(issue & kinds[kind]) for kind, strobe in issued.items()]
        with m.If(issued[Loop]):
            count = kept(Loop, "count")
            m.d.comb += push.en.eq(1)
            m.d.sync += [depth.eq(depth + 1), loop.start.eq(pc), loop.turns.eq(Mux(count == 0, repeat, count))]
        with m.If(issued[End]):
            with m.If(last_turn):
                m.d.sync += [depth.eq(depth - 1), loop.eq(around.data)]
            with m.Else():
                m.d.sync += loop.turns.eq(loop.turns - 1)
        with m.If(issued[Set] | issued[Add]):
            target = kept(Add, "register")
            with m.If(target != 0):
                m.d.sync += registers[target].eq(Mux(kinds[Set], kept(Set, "value"), sums[0]))

        # --- The run's course.
        faulty = Signal(2)
        fault_pc = Signal.like(address)
        rest = Signal(range(STOP_CYCLES), init=STOP_CYCLES - 1)
        running = Signal()
        stopped = Signal()
        m.d.comb += [running.eq(self.state == State.RUNNING), stopped.eq(phase.stop & (rest == 0) & settled)]
        m.d.sync += [
            faulty.eq(Cat(self.engine_fault | self.gather_fault, faulty[0])),
            fault_pc.eq(Mux(gather_failed, gather_pc, contract_pcs[fault_number])),
            phase.start.eq(~running & self.run),
            phase.fetch.eq((go | (phase.fetch & ~is_read)) & ~faulty[1]),
            phase.check.eq(((phase.fetch & is_read) | (phase.check & ~is_checked)) & ~faulty[1]),
            phase.issue.eq(((phase.check & is_checked) | (phase.issue & ~issue & ~refused)) & ~faulty[1]),
            phase.take.eq(((issue & kinds[Contract]) | (phase.take & ~self.engine_taken)) & ~faulty[1]),
            phase.stop.eq(running & (phase.stop | faulty[1] | refused) & ~stopped),
        ]
        with m.If(go | phase.fetch):
            m.d.sync += address.eq(address + 1)
        with m.Elif(running):
            m.d.sync += address.eq(next_address)
        with m.Else():
            m.d.sync += address.eq(Mux(self.run, self.run_pc, self.program_address))
        with m.If(go):
            m.d.sync += pc.eq(address)
        with m.If(running):
            m.d.sync += self.cycles.eq(self.cycles + 1)
            with m.If(phase.issue & waits_for_host):
                m.d.sync += self.waits.eq(self.waits + 1)
            with m.If(phase.start | self.abort):
                m.d.sync += aborting.eq(self.abort)
            with m.If(phase.stop & (rest != 0)):
                m.d.sync += rest.eq(rest - 1)
            with m.If(faulty[1] & ~phase.stop):
                m.d.sync += [self.fault.eq(Fault.ADDRESS), pc.eq(fault_pc)]
            with m.Elif(refused):
                m.d.sync += self.fault.eq(Mux(aborting, Fault.ABORTED, refusal))
            with m.If(issue & kinds[Halt]):
                m.d.sync += self.state.eq(State.IDLE)
            # The loss accumulator may wait for results that never come; the next run makes it forget.
            with m.If(stopped):
                m.d.sync += self.state.eq(State.FAILED)
        with m.Else():
            m.d.sync += rest.eq(rest.init)
            with m.If(self.run):
                m.d.sync += [self.state.eq(State.RUNNING), self.fault.eq(Fault.NONE)]
        # In its second cycle, which is the second that counts.
        started = Signal()
        m.d.sync += started.eq(phase.start)
        with m.If(started):
            m.d.sync += [self.cycles.eq(2), self.waits.eq(0), repeat.eq(self.repeat), depth.eq(0)]
            m.d.sync += [register.eq(0) for register in registers]
        return m


def _any(values: Iterable[Value]) -> Value:
    """All values or-ed together: a choice among those of which all but one are 0."""
    return reduce(or_, values)
