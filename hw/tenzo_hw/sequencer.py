"""The sequencer: reads a program, issues its instructions to the units at exact cycles and counts them.

The rules of time are those of docs/machine.md: RUN is an issue at cycle 0, and an instruction of n words is issued in
the first cycle >= the previous issue + n + ``ISSUE_OVERHEAD`` in which its units are free and its ``wait`` bits hold.
Fields are checked as their words arrive, so that a refusal is a registered bit by the time of the issue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import enum, memory, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from .check import refusal
from .collisions import NO_COLLISIONS
from .config import ADDRESS_REGISTERS, LOOP_DEPTH, REDUCTION_LEVELS, Config
from .isa import (
    INSTRUCTIONS,
    Activation,
    Add,
    Base,
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
from .layouts import LEVELS, STREAMS, deltas_layout, instruction_layout
from .protocol import Fault, State
from .registers import ADDRESS_BITS, SUMS, AddressRegisters

#: Cycles after which the program memory's word at the host's address is read.
PROGRAM_READ_LATENCY = 3

_LONGEST = max(kind.WORDS for kind in INSTRUCTIONS.values())
#: Where the one adder begins with an instruction's sums: the number of the arriving word, one sum a word from there on.
_SUMS_FROM: dict[type[Instruction], int] = {Contract: Contract.FIELDS["w_base"].word, Sweep: 0, Loss: 0}


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


class _Phase(enum.Enum):
    IDLE = 0
    START = 1
    """The first cycle of a run: counts as an issue."""
    FETCH = 2
    ISSUE = 3
    """The instruction is complete and waits for its units."""
    STOP = 4
    """A fault: the units finish what was issued."""


class Sequencer(wiring.Component):
    """Runs programs. All strobes last one cycle; an instruction's fields hold at least until the next issue + 3.

    Ports
    -----
    program_write, program_address, program_data:
        Host writes; only while ``state`` is not RUNNING.
    program_word:
        The word at ``program_address``, ``PROGRAM_READ_LATENCY`` cycles later, while ``state`` is not RUNNING.
    run, run_pc, repeat:
        Strobe that starts a run, at a word below twice ``program_depth``; ``state`` is RUNNING from the next cycle (the
        run's cycle 0) on.
    abort:
        Strobe: the run stops at its next instruction, with all that was issued before finished.
    contract, sweep, loss, coefficient, gather and ..._start:
        Fields and start strobes of the units; the address registers are added.
    deltas:
        Deltas of the next contraction, as they arrive: from 3 cycles after the issue of the one before.
    engine_ready, engine_drained, engine_fault, sweep_ready, loss_free, loss_idle, loss_done, coefficient_ready:
        What the units report; with ``engine_fault_earlier`` a fault is that of the contraction before the last one.
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
                "deltas": Out(deltas_layout()),
                "sweep": Out(instruction_layout(Sweep)),
                "sweep_start": Out(1),
                "loss": Out(instruction_layout(Loss)),
                "loss_start": Out(1),
                "coefficient": Out(instruction_layout(Coefficient)),
                "coefficient_start": Out(1),
                "gather": Out(instruction_layout(Gather)),
                "gather_start": Out(1),
                "engine_ready": In(1),
                "engine_drained": In(1),
                "engine_fault": In(1),
                "engine_fault_earlier": In(1),
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
        m.submodules.program = program = memory.Memory(
            shape=unsigned(32), depth=config.program_depth, init=[], attrs=NO_COLLISIONS
        )
        write = program.write_port()
        read = program.read_port()

        phase = Signal(_Phase)
        #: The next instruction's first word is being addressed: the issue cycle, or a run's cycle 0.
        go = Signal()
        issue = Signal()

        # --- Fetch. A word arrives two cycles after its address: the memory, then a register that keeps the memory's
        # slow output off the decoders.
        # A bit more than the memory has: a program that runs off it is seen to.
        address = Signal(range(2 * config.program_depth))
        followed = Signal.like(address)
        outside = Signal(2)
        word = Signal(32)
        words = Array(Signal(32, name=f"word{number}") for number in range(_LONGEST))
        index = Signal(range(_LONGEST + 1))
        left = Signal(range(_LONGEST))
        left_now = Signal.like(left)
        opcode = Signal(Opcode)
        opcode_now = Signal(Opcode)
        requested = Signal()
        arriving = Signal()
        first = Signal()
        m.d.comb += [
            write.addr.eq(self.program_address),
            write.data.eq(self.program_data),
            write.en.eq(self.program_write),
            read.addr.eq(address),
            self.program_word.eq(word),
            arriving.eq((phase == _Phase.FETCH) & ~requested),
            first.eq(arriving & (index == 0)),
            opcode_now.eq(Mux(first, word[: len(opcode)], opcode)),
            left_now.eq(left),
        ]
        m.d.sync += [
            word.eq(read.data),
            followed.eq(address),
            outside.eq(Cat(address >= config.program_depth, outside[0])),
            requested.eq(go),
        ]
        with m.If(first):
            m.d.comb += left_now.eq(0)
            with m.Switch(opcode_now):
                for kind in INSTRUCTIONS.values():
                    if kind.WORDS > 1:
                        with m.Case(kind.OPCODE):
                            m.d.comb += left_now.eq(kind.WORDS - 1)

        def arrived(kind: type[Instruction], name: str) -> Value:
            bits = kind.FIELDS[name]
            return word[bits.low : bits.low + bits.width]

        def kept(kind: type[Instruction], name: str) -> Value:
            bits = kind.FIELDS[name]
            return words[bits.word][bits.low : bits.low + bits.width]

        # --- Loops: the innermost one, and those around it, which are there again long before an END is issued.
        repeat = Signal(32)
        depth = Signal(range(LOOP_DEPTH + 1))
        loop = Signal(StructLayout({"start": address.shape(), "turns": 32}))
        last_turn = Signal()
        m.submodules.outer = outer = memory.Memory(shape=loop.shape(), depth=LOOP_DEPTH, init=[], attrs=NO_COLLISIONS)
        push, around = outer.write_port(), outer.read_port()
        m.d.comb += [push.addr.eq(depth), push.data.eq(loop), around.addr.eq(depth - 1)]
        m.d.sync += last_turn.eq(loop.turns == 1)

        # --- Address registers. One adder serves ADD and, one after the other while words still arrive, the sums.
        registers = Array(Signal(ADDRESS_BITS, name=f"register{number}") for number in range(ADDRESS_REGISTERS))
        chosen = Signal(range(ADDRESS_REGISTERS))
        register = Signal(ADDRESS_BITS)
        addend = Signal(ADDRESS_BITS)
        total = Signal(ADDRESS_BITS)
        sums = [
            Signal(ADDRESS_BITS, name=f"sum{number}") for number in range(max(len(names) for names in SUMS.values()))
        ]

        def at(number: int, kind: type[Instruction], name: str) -> Value:
            """A field when word ``number`` arrives."""
            return arrived(kind, name) if kind.FIELDS[name].word == number else kept(kind, name)

        m.d.comb += [
            chosen.eq(Mux(first, arrived(Add, "register"), kept(Add, "register"))),
            addend.eq(kept(Add, "value")),
            total.eq(register + addend),
        ]
        m.d.sync += register.eq(registers[chosen])
        with m.Switch(opcode_now):
            for kind, first_word in _SUMS_FROM.items():
                with m.Case(kind.OPCODE):
                    for place, (name, chooser) in enumerate(SUMS[kind].items()):
                        word_number = first_word + place
                        with m.If(index == word_number):
                            m.d.comb += chosen.eq(at(word_number, kind, chooser))
                        with m.If(index == word_number + 1):
                            m.d.comb += addend.eq(at(word_number + 1, kind, name))
                            m.d.sync += sums[place].eq(total)
            with m.Case(Gather.OPCODE), m.If(index == Gather.WORDS - 1):
                # The registers are chosen by the last word: too late for the adder.
                for place, (name, chooser) in enumerate(SUMS[Gather].items()):
                    m.d.sync += sums[place].eq(kept(Gather, name) + registers[arrived(Gather, chooser)])

        # --- Deltas go straight to the engine.
        with m.If(arriving & (opcode_now == Opcode.CONTRACT)), m.Switch(index):
            for level in LEVELS:
                places = {stream: Contract.FIELDS.get(f"{stream}{level}") for stream in STREAMS}
                for number in {bits.word for bits in places.values() if bits}:
                    with m.Case(number):
                        m.d.comb += self.deltas.level.eq(level)
                        for bit, (stream, bits) in enumerate(places.items()):
                            if bits and bits.word == number:
                                m.d.comb += [
                                    self.deltas.write[bit].eq(1),
                                    self.deltas[stream].eq(arrived(Contract, f"{stream}{level}")),
                                ]

        # --- Checks, each in the cycle in which its instruction's word arrives; earlier ones win.
        refusal = Signal(Fault)
        queries = arrived(Coefficient, "queries")
        two_sided = kept(Coefficient, "two_sided")
        operand = arrived(Contract, "operand")
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
            (Sweep, 2, Fault.RANGE, kept(Sweep, "single") & (total >= config.columns)),
            (Sweep, 2, Fault.ADDRESS, sums[0] + kept(Sweep, "count") > config.weight_rows),
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
        with m.If(arriving):
            with m.If(refusal == Fault.NONE):
                for kind, number, fault, wrong in reversed(checks):
                    with m.If((opcode_now == kind.OPCODE) & (index == number) & wrong):
                        m.d.sync += refusal.eq(fault)
            with m.If(outside[1] | (first & (word[:8] > max(Opcode)))):
                m.d.sync += refusal.eq(Fault.OPCODE)

        # --- Issue.
        waits_hold = Signal()
        all_done = Signal()
        free = Signal()
        aborting = Signal()
        refused = Signal()
        drained = self.engine_drained & self.gather_ready
        done = Cat(drained, self.sweep_ready, self.loss_done, self.coefficient_ready)
        m.d.comb += [
            waits_hold.eq((kept(Contract, "wait") & ~done) == 0),
            all_done.eq(done.all()),
            free.eq(1),
            refused.eq((phase == _Phase.ISSUE) & (aborting | (refusal != Fault.NONE))),
            issue.eq((phase == _Phase.ISSUE) & waits_hold & free & ~refused & ~self.engine_fault & ~self.gather_fault),
            go.eq((issue & (opcode != Opcode.HALT)) | (phase == _Phase.START)),
        ]
        with m.Switch(opcode):
            with m.Case(Opcode.CONTRACT):
                # Groups of differences go through both loss buffers.
                buffer = Mux(kept(Contract, "base") == Base.ADD, self.loss_idle, self.loss_free)
                m.d.comb += free.eq(self.engine_ready & self.gather_ready & (buffer | ~kept(Contract, "to_loss")))
                m.d.comb += self.contract_start.eq(issue)
            with m.Case(Opcode.SWEEP):
                m.d.comb += [free.eq(self.sweep_ready & self.gather_ready), self.sweep_start.eq(issue)]
            with m.Case(Opcode.LOSS):
                m.d.comb += [free.eq(self.loss_done), self.loss_start.eq(issue)]
            with m.Case(Opcode.COEFFICIENT):
                m.d.comb += [free.eq(self.coefficient_ready), self.coefficient_start.eq(issue)]
            with m.Case(Opcode.GATHER):
                m.d.comb += [free.eq(drained & self.sweep_ready), self.gather_start.eq(issue)]
            with m.Case(Opcode.BATCH):
                m.d.comb += [free.eq(all_done & self.filled), self.take.eq(issue)]
            with m.Case(Opcode.HALT):
                m.d.comb += free.eq(all_done)
        for kind, port in (
            (Contract, self.contract),
            (Sweep, self.sweep),
            (Loss, self.loss),
            (Coefficient, self.coefficient),
            (Gather, self.gather),
        ):
            added = dict(zip(SUMS.get(kind, ()), sums, strict=False))
            m.d.comb += [port[name].eq(added.get(name, kept(kind, name))) for name, _ in instruction_layout(kind)]

        pc = Signal.like(address)
        contract_pc = Signal.like(address)
        earlier_pc = Signal.like(address)
        gather_pc = Signal.like(address)
        m.d.comb += self.pc.eq(pc)
        with m.If(issue), m.Switch(opcode):
            with m.Case(Opcode.LOOP):
                count = kept(Loop, "count")
                m.d.comb += push.en.eq(1)
                m.d.sync += [
                    depth.eq(depth + 1),
                    loop.start.eq(address),
                    loop.turns.eq(Mux(count == 0, repeat, count)),
                ]
            with m.Case(Opcode.END):
                with m.If(last_turn):
                    m.d.sync += [depth.eq(depth - 1), loop.eq(around.data)]
                with m.Else():
                    m.d.sync += loop.turns.eq(loop.turns - 1)
            with m.Case(Opcode.SET, Opcode.ADD):
                target = kept(Add, "register")
                with m.If(target != 0):
                    m.d.sync += registers[target].eq(Mux(opcode == Opcode.SET, kept(Set, "value"), total))
            with m.Case(Opcode.CONTRACT):
                m.d.sync += [contract_pc.eq(pc), earlier_pc.eq(contract_pc)]
            with m.Case(Opcode.GATHER):
                m.d.sync += gather_pc.eq(pc)
            with m.Case(Opcode.HALT):
                m.d.sync += [phase.eq(_Phase.IDLE), self.state.eq(State.IDLE)]

        # --- The run's course, in rising priority.
        with m.If((phase == _Phase.FETCH) & requested):
            m.d.sync += address.eq(address + 1)
        with m.If(arriving):
            m.d.sync += [
                words[index].eq(word),
                index.eq(index + 1),
                left.eq(left_now - 1),
                opcode.eq(opcode_now),
            ]
            with m.If(left_now >= 2):
                m.d.sync += address.eq(address + 1)
            with m.If(left_now == 0):
                m.d.sync += phase.eq(_Phase.ISSUE)
                with m.If(first):
                    # A single word: the address has run ahead, and END may go elsewhere.
                    jump = (opcode_now == Opcode.END) & ~last_turn
                    m.d.sync += address.eq(Mux(jump, loop.start, followed))
        with m.If(go):
            m.d.sync += [
                phase.eq(_Phase.FETCH),
                pc.eq(address),
                address.eq(address + 1),
                index.eq(0),
                refusal.eq(Fault.NONE),
            ]
        with m.If(self.state == State.RUNNING):
            m.d.sync += self.cycles.eq(self.cycles + 1)
            with m.If((phase == _Phase.ISSUE) & (opcode == Opcode.BATCH) & waits_hold & all_done & ~self.filled):
                m.d.sync += self.waits.eq(self.waits + 1)
            with m.If(self.abort):
                m.d.sync += aborting.eq(1)
            with m.If(refused & (phase != _Phase.STOP)):
                m.d.sync += [phase.eq(_Phase.STOP), self.fault.eq(Mux(aborting, Fault.ABORTED, refusal))]
            with m.If((self.engine_fault | self.gather_fault) & (phase != _Phase.STOP)):
                m.d.sync += [
                    phase.eq(_Phase.STOP),
                    self.fault.eq(Fault.ADDRESS),
                    pc.eq(Mux(self.gather_fault, gather_pc, Mux(self.engine_fault_earlier, earlier_pc, contract_pc))),
                ]
            with m.If((phase == _Phase.STOP) & drained & self.sweep_ready & self.coefficient_ready):
                # The loss accumulator may wait for results that never come; the next run makes it forget.
                m.d.sync += [phase.eq(_Phase.IDLE), self.state.eq(State.FAILED)]
        with m.Else():
            m.d.sync += address.eq(self.program_address)
            with m.If(self.run):
                m.d.sync += [
                    phase.eq(_Phase.START),
                    self.state.eq(State.RUNNING),
                    self.fault.eq(Fault.NONE),
                    pc.eq(self.run_pc),
                    self.cycles.eq(0),
                    self.waits.eq(0),
                    address.eq(self.run_pc),
                    repeat.eq(self.repeat),
                    aborting.eq(0),
                    depth.eq(0),
                ]
                m.d.sync += [register.eq(0) for register in registers]
        return m
