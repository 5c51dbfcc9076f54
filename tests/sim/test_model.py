"""The machine's model: whole steps against plain arithmetic, pauses, faults, and the driver on top of it."""

import dataclasses
import random

import numpy as np
import pytest
from tenzo.device import Device
from tenzo_hw.check import check
from tenzo_hw.config import preset
from tenzo_hw.hazards import hazards
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
    Level,
    Loop,
    Loss,
    LossKind,
    Operand,
    Set,
    Sweep,
    SweepKind,
    Wait,
    encode,
)
from tenzo_hw.loss import cross_entropy
from tenzo_hw.perturbation import TAPS
from tenzo_hw.protocol import Fault, Register, Space, State
from tenzo_hw.timeline import timeline
from tenzo_sim.model import MachineModel, ModelTransport
from tenzo_sim.programs import random_program

CONFIG = preset("tiny")
GROUPS = 2


def load(machine, program, address=0):
    for offset, word in enumerate(encode(program)):
        machine.write(Space.PROGRAM, address + offset, word)


def round_shift(value, shift):
    return np.floor(value / 2.0**shift + 0.5).astype(np.int64)


def clip(value, bits):
    return np.clip(value, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


# A TT layer of folds [3, 4] x [3, 2] and rank 2: y[m1, m2] = sum x[n1, n2] G1[n1, m1, r] G2[r, n2, m2].
N1, N2, M1, M2, R = 3, 4, 3, 2, 2
FIRST_ROWS = N1 * M1 * R // 2
ROWS = FIRST_ROWS + R * N2


def forward(half, **last):
    """The layer's two contractions on the batch's group at address register 1."""
    base = half * CONFIG.weight_rows
    first = Contract(
        a_base=0,
        w_base=base,
        o_base=0,
        a_register=1,
        from_batch=True,
        levels=(Level(N1, N2, 1), Level(), Level(N2, 1, 0, 1), Level(M1 * R // 2, 0, N1, 2 * N2), Level(), Level()),
        cols=2,
        last_cols=2,
        tile_level=1,
        col_stride=N2,
        shift=3,
        wait=Wait.ENGINE | Wait.SWEEP,
    )
    second = Contract(
        a_base=0,
        w_base=base + FIRST_ROWS,
        o_base=100,
        levels=(Level(N2, 1, 1), Level(R, N2, N2), Level(M1, R * N2, 0, M2), *[Level()] * 3),
        cols=M2,
        last_cols=M2,
        col_stride=1,
        shift=4,
        activation=Activation.RELU,
        wait=Wait.ENGINE,
        **last,
    )
    return [first, second]


def plain_forward(x, words):
    """The layer on inputs [samples, N1 * N2] with effective words [ROWS, 2]."""
    g1 = words[:FIRST_ROWS].reshape(M1 * R // 2, N1, 2).transpose(1, 0, 2).reshape(N1, M1, R)
    g2 = words[FIRST_ROWS:].reshape(R, N2, M2)
    middle = clip(round_shift(np.einsum("snk,nmr->smrk", x.reshape(-1, N1, N2), g1), 3), CONFIG.word)
    y = clip(round_shift(np.einsum("smrk,rkj->smj", middle, g2), 4), CONFIG.word)
    return np.maximum(y, 0).reshape(len(x), M1 * M2)


def step(queries, mu):
    """A training step: forwards on both sides of each query, coefficients, updates along the same signs."""
    perturb = Sweep(kind=SweepKind.PERTURB, row=0, count=ROWS, mu=mu, wait=Wait.ENGINE)
    update = Sweep(kind=SweepKind.UPDATE, row=0, count=ROWS, decay=2, next=True, wait=Wait.COEFFICIENT)
    group = [
        Loop(count=GROUPS),
        *forward(0, to_loss=True),
        Add(register=1, value=N1 * N2),
        End(),
        Add(register=1, value=-GROUPS * N1 * N2),
    ]
    return [
        Batch(),
        Loss(kind=LossKind.SQUARED_ERROR, outputs=M1 * M2, groups=GROUPS),
        dataclasses.replace(perturb, save=3),
        *group,
        dataclasses.replace(perturb, negative=True, replay=True),
        *group,
        Loop(count=queries - 1),
        dataclasses.replace(perturb, save=1),
        *group,
        dataclasses.replace(perturb, negative=True, replay=True),
        *group,
        End(),
        Coefficient(queries=queries, shift=1),
        dataclasses.replace(update, replay=True, replay_slot=1, first=True),
        *([Loop(count=queries - 2), update, End()] if queries > 2 else []),
        dataclasses.replace(update, last=True),
    ]


class PlainSigns:
    """The generator, bit by bit."""

    def __init__(self, state):
        self.bits = [state >> bit & 1 for bit in range(64)]

    def row(self, columns):
        self.bits = [sum(self.bits[tap] for tap in taps) % 2 for taps in TAPS]
        return [-1 if bit else 1 for bit in self.bits[:columns]]


def plain_step(masters, momenta, x, targets, signs, mu, rate):
    """The same step in plain arithmetic; masters and momenta [ROWS, 2], signs [queries, ROWS, 2]."""
    words = round_shift(masters, CONFIG.master_extra)
    losses = [
        [((plain_forward(x, clip(words + side * mu * sign, CONFIG.word)) - targets) ** 2).sum() for side in (1, -1)]
        for sign in signs
    ]
    differences = np.array([plus - minus for plus, minus in losses])
    scale = int(np.abs(differences).sum())
    exponent = max(scale.bit_length() - 1 - 1, 0)
    ratios = np.clip(round_shift(differences * 256, exponent), -768, 768)
    coefficients = round_shift(ratios * rate, 16)
    momenta = momenta - round_shift(momenta, 2)
    for sign, coefficient in zip(signs, coefficients, strict=True):
        momenta = clip(momenta + sign * coefficient, CONFIG.momentum_word)
    return clip(masters - momenta, CONFIG.master_word), momenta, np.array(losses).reshape(-1)


@pytest.mark.parametrize("seed", range(5))
def test_a_training_step_is_plain_arithmetic(seed):
    random_words = np.random.default_rng(seed)
    queries, mu, rate = 3, 2, 1 << 20
    machine = MachineModel(CONFIG)
    program = [*step(queries, mu), Halt()]
    load(machine, program)
    masters = random_words.integers(-60, 60, (ROWS, 2)) << CONFIG.master_extra
    momenta = random_words.integers(-(1 << 12), 1 << 12, (ROWS, 2))
    x = random_words.integers(-100, 100, (GROUPS, CONFIG.lanes, N1 * N2))
    targets = random_words.integers(-50, 50, (GROUPS, CONFIG.lanes, M1 * M2))
    for address, (master, momentum) in enumerate(zip(masters.reshape(-1), momenta.reshape(-1), strict=True)):
        machine.write(Space.MASTER, address, int(master))
        machine.write(Space.MOMENTUM, address, int(momentum))
    for lane in range(CONFIG.lanes):
        for word, value in enumerate(x[:, lane].reshape(-1)):
            machine.write(Space.BATCH, lane * CONFIG.batch_depth + word, int(value))
    for word, value in enumerate(targets.reshape(-1)):
        machine.write(Space.TARGET, word, int(value))
    machine.write(Space.REGISTER, Register.RATE, rate)
    machine.commit()
    machine.run(0, 1)

    generator = PlainSigns(1)
    signs = np.array([[generator.row(2) for _ in range(ROWS)] for _ in range(queries)])
    inputs, wanted = x.reshape(-1, N1 * N2), targets.reshape(-1, M1 * M2)
    masters, momenta, losses = plain_step(masters, momenta, inputs, wanted, signs, mu, rate)
    assert machine.status().state == State.IDLE
    assert [machine.read(Space.LOSS, 2 * slot) for slot in range(2 * queries)] == losses.tolist()
    assert [machine.read(Space.MASTER, address) for address in range(2 * ROWS)] == masters.reshape(-1).tolist()
    assert [machine.read(Space.MOMENTUM, address) for address in range(2 * ROWS)] == momenta.reshape(-1).tolist()
    assert machine.read(Space.HISTORY, 0) == losses.sum()
    assert machine.status().steps == 1
    assert machine.status().cycles == timeline(program, CONFIG).cycles


# Incremental coordinate-wise differences of a network of 3 inputs, 4 hidden and 2 output words. Entries 0 and 1 move a
# half of the hidden words each, along environments; entries 2 to 5 move one hidden word each by a constant.
HIDDEN, ENTRIES, MOVED = 4, 2, 2
HIDDEN_ROW, ENVIRONMENT_ROW, DENSE_ROW, TRAINED_ROW = 0, 6, 12, 20
FORMED_ROW = 2 * CONFIG.weight_rows
STEP = 5
SLOPE, RATE = 7, 3 << 8


def layer(**fields):
    """A contraction with two results a tile."""
    fields = {"o_base": 0, "a_base": 0, "cols": 2, "last_cols": 2, "col_stride": 1, "shift": 0} | fields
    levels = fields.pop("levels")
    return Contract(levels=(*levels, *[Level()] * (6 - len(levels))), **fields)


def incremental_step():
    """Forms the dense weights, then losses of all entries for each group, then updates one column of six rows."""
    from_batch = {"from_batch": True, "a_register": 1, "wait": Wait.ENGINE}
    tiles = Level(2, 0, 3, 2)
    to_loss = {"w_base": FORMED_ROW, "to_loss": True, "store": False, "wait": Wait.ENGINE}
    add = to_loss | {"base": Base.ADD, "pace": 4, "col_stride": 0}
    return [
        Batch(),
        Sweep(kind=SweepKind.PERTURB, row=0, count=TRAINED_ROW),
        layer(
            levels=(Level(2, 1, 2), Level(), Level(2, 0, 1, 2)),
            w_base=DENSE_ROW,
            o_base=32,
            operand=Operand.IDENTITY,
            one=3,
            shift=3,
            wait=Wait.SWEEP,
        ),
        Gather(address=32, stride=2, rows=2, lanes=2, cols=2, row=FORMED_ROW),
        Loop(count=GROUPS),
        Loss(kind=LossKind.CROSS_ENTROPY, outputs=2, groups=1, fraction=SLOPE, accumulate=True, target_register=2),
        layer(levels=(Level(3, 1, 1), Level(), tiles), w_base=HIDDEN_ROW, shift=4, **from_batch),
        layer(levels=(Level(3, 1, 1), Level(), tiles), w_base=ENVIRONMENT_ROW, shift=5, o_base=131, **from_batch),
        layer(levels=(Level(HIDDEN, 1, 1),), operand=Operand.RELU, base=Base.KEEP, **to_loss),
        layer(
            levels=(Level(MOVED, 1, 1, 0, 1), Level(), Level(), Level(ENTRIES, MOVED, MOVED, 1, MOVED)),
            operand=Operand.DIFFERENCE,
            o_base=1,
            b_base=3,
            **add,
        ),
        layer(
            levels=(Level(), Level(), Level(), Level(HIDDEN, 1, 1, 1)),
            operand=Operand.STEP,
            one=STEP,
            o_base=1 + ENTRIES,
            **add,
        ),
        Add(register=1, value=3),
        Add(register=2, value=CONFIG.lanes),
        End(),
        Coefficient(queries=ENTRIES + HIDDEN, two_sided=False, normalise=False, shift=2, clip=0xFFFF),
        Set(register=3, value=1),
        *(
            Sweep(
                kind=SweepKind.UPDATE,
                row=TRAINED_ROW - 1 + first,
                count=count,
                row_register=3,
                single=True,
                column_register=3,
                first=True,
                last=True,
                wait=Wait.COEFFICIENT,
            )
            for first, count in ((0, ENTRIES), (ENTRIES, HIDDEN))
        ),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_incremental_differences_are_full_evaluations(seed):
    random_words = np.random.default_rng(seed)
    machine, lanes = MachineModel(CONFIG), CONFIG.lanes
    program = [*incremental_step(), Halt()]
    check(program, CONFIG)
    assert hazards(program, CONFIG) == []
    load(machine, program)
    words = random_words.integers(-30, 31, (CONFIG.weight_rows, 2))
    x = random_words.integers(-100, 100, (GROUPS, lanes, 3))
    labels = random_words.integers(0, 2, GROUPS * lanes)
    for address, word in enumerate(words.reshape(-1)):
        machine.write(Space.MASTER, address, int(word) << CONFIG.master_extra)
    for lane in range(lanes):
        for address, word in enumerate(x[:, lane].reshape(-1)):
            machine.write(Space.BATCH, lane * CONFIG.batch_depth + address, int(word))
    for address, label in enumerate(labels):
        machine.write(Space.TARGET, address, int(label))
    machine.write(Space.REGISTER, Register.RATE, RATE)
    machine.commit()
    machine.run(0, 1)

    samples = x.reshape(-1, 3)
    first, environment = (words[row : row + 6].reshape(2, 3, 2).swapaxes(0, 1) for row in (HIDDEN_ROW, ENVIRONMENT_ROW))
    z = clip(round_shift(np.einsum("sk,ktc->stc", samples, first), 4), CONFIG.word).reshape(-1, HIDDEN)
    e = clip(round_shift(np.einsum("sk,ktc->stc", samples, environment), 5), CONFIG.word).reshape(-1, HIDDEN)
    moves = [np.where(np.arange(HIDDEN) // MOVED == entry, e, 0) for entry in range(ENTRIES)]
    moves += [np.where(np.arange(HIDDEN) == entry, 1 << STEP, 0) for entry in range(HIDDEN)]
    evaluations = [
        cross_entropy(np.maximum(clip(z + move, CONFIG.word), 0) @ words[DENSE_ROW : DENSE_ROW + HIDDEN], labels, SLOPE)
        for move in (0, *moves)
    ]
    slots = [int(values.sum()) for values, _ in evaluations]
    assert (machine.status().state, machine.status().fault) == (State.IDLE, Fault.NONE)
    assert [machine.read(Space.LOSS, 2 * slot) for slot in range(len(slots))] == slots
    assert machine.read(Space.HISTORY, 2) == evaluations[0][1].sum()
    differences = np.array(slots[1:]) - slots[0]
    steps = round_shift(np.clip(round_shift(differences * 256, 2), -0xFFFF, 0xFFFF) * RATE, 16)
    masters = words << CONFIG.master_extra
    masters[TRAINED_ROW : TRAINED_ROW + len(steps), 1] -= steps
    assert [machine.read(Space.MASTER, address) for address in range(words.size)] == masters.reshape(-1).tolist()
    assert machine.read(Space.MOMENTUM, 2 * TRAINED_ROW + 1) == steps[0]
    assert machine.status().cycles == timeline(program, CONFIG).cycles


@pytest.mark.parametrize("seed", range(60))
def test_cycles_are_those_of_the_timeline(seed):
    rng = random.Random(seed)
    program = random_program(rng, CONFIG)
    repeat = rng.randrange(1, 4)
    machine = MachineModel(CONFIG)
    load(machine, program, 7)
    machine.run(7, repeat)
    status = machine.status()
    assert (status.state, status.fault) == (State.IDLE, Fault.NONE)
    assert status.cycles == timeline(program, CONFIG, repeat=repeat).cycles
    assert status.pc == 7 + len(encode(program)) - 1


def read_batch():
    """Copies word 0 of the batch to lane word 0."""
    return Contract(
        a_base=0,
        w_base=0,
        o_base=0,
        levels=(Level(),) * 6,
        cols=1,
        last_cols=1,
        col_stride=1,
        shift=0,
        from_batch=True,
    )


def test_a_run_waits_for_batches_and_halves_take_turns():
    machine = MachineModel(CONFIG)
    program = [Loop(count=0), Batch(), read_batch(), End(), Halt()]
    load(machine, program)
    machine.write(Space.MASTER, 0, 1 << CONFIG.master_extra)
    load(machine, [Sweep(kind=SweepKind.PERTURB, row=0, count=1), Halt()], 500)
    machine.run(500, 1)

    def send(value):
        machine.write(Space.BATCH, 0, value)
        machine.commit()

    def seen():
        return machine.read(Space.LANE, 0), machine.status().state, machine.status().free_halves

    send(11)
    send(22)
    assert machine.status().free_halves == 0
    machine.run(0, 1)
    assert seen() == (11, State.IDLE, 0)
    machine.run(0, 4)
    assert seen() == (22, State.RUNNING, 1)
    assert machine.status().pc == 1
    for value in (33, 44):
        send(value)
        assert seen() == (value, State.RUNNING, 1)
    send(55)
    assert seen() == (55, State.IDLE, 1)
    assert machine.status().cycles == timeline(program, CONFIG, repeat=4).cycles
    machine.run(0, 1)
    machine.abort()
    assert (machine.status().state, machine.status().fault) == (State.FAILED, Fault.ABORTED)
    assert machine.status().free_halves == 2
    send(66)
    machine.run(0, 1)
    assert seen() == (66, State.IDLE, 1)


def test_a_loss_may_take_groups_of_two_batches():
    machine = MachineModel(CONFIG)
    outputs = changed(levels=(Level(), Level(), Level(3, 1, 0), *[Level()] * 3), to_loss=True, store=False)
    setup = Loss(kind=LossKind.CROSS_ENTROPY, outputs=3, groups=2, fraction=4)
    evaluate = [Loop(count=2), Batch(), outputs, End()]
    coefficient = Coefficient(queries=1, two_sided=False, normalise=False)
    program = [Sweep(kind=SweepKind.PERTURB, row=0, count=1), setup, *evaluate, coefficient, *evaluate, coefficient]
    load(machine, [*program, Halt()])
    machine.write(Space.MASTER, 0, 1 << CONFIG.master_extra)
    machine.run(0, 1)
    rng = np.random.default_rng(0)
    slots, correct = [], []
    for _ in range(2):
        z = rng.integers(-100, 100, (2 * CONFIG.lanes, 3))
        labels = np.array([*z[:3].argmax(axis=1), (z[3].argmax() + 1) % 3])
        values, right = cross_entropy(z, labels, 4)
        slots.append(int(values.sum()))
        correct.append(int(right.sum()))
        for group in range(2):
            for lane in range(CONFIG.lanes):
                for word, value in enumerate(z[group * CONFIG.lanes + lane]):
                    machine.write(Space.BATCH, lane * CONFIG.batch_depth + word, int(value))
            for word, label in enumerate(labels):
                machine.write(Space.TARGET, word, int(label))
            machine.commit()
    assert machine.status().state == State.IDLE
    assert [machine.read(Space.LOSS, 2 * slot) for slot in range(2)] == slots
    assert [machine.read(Space.HISTORY, 4 * step + 2) for step in range(2)] == correct == [3, 3]
    assert [machine.read(Space.HISTORY, 4 * step) for step in range(2)] == [slots[0], sum(slots)]


def changed(contract=None, **changes):
    return dataclasses.replace(contract or read_batch(), **changes)


def single(**fields):
    return Sweep(kind=SweepKind.PERTURB, row=0, count=2, single=True, **fields)


def gathered(**fields):
    return Gather(**({"address": 0, "stride": 2, "rows": 1, "lanes": 2, "cols": 2, "row": 0} | fields))


@pytest.mark.parametrize(
    ("program", "pc", "fault"),
    [
        ([End(), Halt()], 0, Fault.OPCODE),
        ([*[Loop(count=1)] * 5, Halt()], 4, Fault.OPCODE),
        ([Loop(count=1)], 1024, Fault.OPCODE),
        ([Loop(count=0), End(), Halt()], 0, Fault.RANGE),
        ([changed(cols=3), Halt()], 0, Fault.RANGE),
        ([changed(cols=2, last_cols=0), Halt()], 0, Fault.RANGE),
        ([changed(activation=Activation.TABLE1), Halt()], 0, Fault.RANGE),
        ([changed(levels=(Level(0),) * 6), Halt()], 0, Fault.RANGE),
        ([Sweep(kind=SweepKind.PERTURB, row=0, count=0), Halt()], 0, Fault.RANGE),
        ([Sweep(kind=SweepKind.PERTURB, row=128, count=1), Halt()], 0, Fault.ADDRESS),
        ([Loss(kind=LossKind.SQUARED_ERROR, outputs=17, groups=1), Halt()], 0, Fault.RANGE),
        ([Coefficient(queries=257), Halt()], 0, Fault.RANGE),
        ([Loop(count=2), End(), changed(a_base=128), Halt()], 2, Fault.ADDRESS),
        ([changed(w_base=512), Halt()], 0, Fault.ADDRESS),
        ([changed(o_base=256), Halt()], 0, Fault.ADDRESS),
        ([changed(operand=Operand.STEP), Halt()], 0, Fault.RANGE),
        ([changed(operand=Operand.STEP, from_batch=False, a_base=128), Halt()], 0, Fault.ADDRESS),
        ([changed(operand=Operand.DIFFERENCE, from_batch=False, b_base=128), Halt()], 0, Fault.ADDRESS),
        ([changed(store=False, to_loss=True, base=Base.ADD, o_base=512), Halt()], 0, Fault.ADDRESS),
        ([Set(register=1, value=2), changed(operand=Operand.RELU, bias=True), Halt()], 1, Fault.RANGE),
        ([Set(register=1, value=2), single(column_register=1), Halt()], 1, Fault.RANGE),
        ([Set(register=1, value=127), single(row_register=1), Halt()], 1, Fault.ADDRESS),
        ([gathered(lanes=3), Halt()], 0, Fault.RANGE),
        ([gathered(address=255), Halt()], 0, Fault.ADDRESS),
        ([Set(register=1, value=511), gathered(row_register=1), Halt()], 1, Fault.ADDRESS),
    ],
)
def test_faults(program, pc, fault):
    machine = MachineModel(CONFIG)
    words = encode(program)
    # Words of zeros are HALTs: a program that runs off its memory must fill it.
    for address in range(CONFIG.program_depth):
        machine.write(Space.PROGRAM, address, words[address] if address < len(words) else int(Loop(count=1).OPCODE))
    if fault == Fault.OPCODE and pc == 1024:
        load(machine, [Batch()] * 1024)
        machine.run(1023, 0)
        machine.commit()
    else:
        machine.run(0, 0)
    status = machine.status()
    assert (status.state, status.fault, status.pc) == (State.FAILED, fault, pc)
    load(machine, [Halt()])
    machine.run(0, 0)
    assert (machine.status().state, machine.status().fault) == (State.IDLE, Fault.NONE)


def test_an_unknown_opcode_is_a_fault():
    machine = MachineModel(CONFIG)
    machine.write(Space.PROGRAM, 3, 0xFF)
    machine.run(3, 1)
    assert (machine.status().fault, machine.status().pc) == (Fault.OPCODE, 3)


def test_the_driver_works_on_the_model():
    transport = ModelTransport(CONFIG)
    with Device(transport, expected=CONFIG) as device:
        masters = np.zeros((CONFIG.weight_rows, CONFIG.columns), np.int64)
        masters[:, 0] = np.arange(CONFIG.weight_rows) << CONFIG.master_extra
        device.write_masters(masters)
        np.testing.assert_array_equal(device.read_masters(), masters)
        program = [
            Sweep(kind=SweepKind.PERTURB, row=0, count=CONFIG.weight_rows),
            Batch(),
            changed(w_base=5, to_loss=True),
            Halt(),
        ]
        program.insert(1, Loss(kind=LossKind.SQUARED_ERROR, outputs=1, groups=1))
        device.load_program(program)
        device.send_batch(np.array([[3], [-4]]), np.array([1, 2]))
        device.run()
        status = device.wait()
        assert status.cycles == timeline(program, CONFIG).cycles == transport.cycles
        assert device.read_lanes(0, 1).tolist() == [[15], [-20]]
        assert device.read_losses(1).tolist() == [14**2 + 22**2]
