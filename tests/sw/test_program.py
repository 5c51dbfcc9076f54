"""Programs of steps: what they evaluate and in which order, that nothing reads too early, time, text and registers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import issued
from tenzo.network import TT, Dense, Network, ReLU, Tanh
from tenzo.plan import Plan, plan
from tenzo.program import Line, Program, Repeat, lines, split
from tenzo.settings import Settings
from tenzo.step import prediction_program, registers, training_program
from tenzo_hw.config import preset
from tenzo_hw.hazards import hazards
from tenzo_hw.isa import (
    Add,
    Batch,
    Coefficient,
    Contract,
    Halt,
    Loss,
    Set,
    Sweep,
    SweepKind,
    Wait,
    decode,
)
from tenzo_hw.protocol import Register

BIG = preset("engine_16x8")
DIGITS = Network([TT((8, 8), (8, 8), 4), ReLU(), TT((8, 8), (1, 10), 4)])
MNIST = Network([TT((7, 4, 4, 7), (8, 4, 4, 8), 6), ReLU(), TT((8, 4, 4, 8), (1, 5, 2, 1), 6)])
SMALL = Network([TT((4, 4), (4, 4), 3), ReLU(), TT((4, 4), (1, 4), 2)])


class Directions:
    """Follows a step's sweeps: which direction, by the number of its first row of signs, each half and update has."""

    def __init__(self, found: Plan) -> None:
        self._rows = found.config.weight_rows
        self._state = 100
        self._slots = [0, 0]
        self._halves: list[tuple[int, int] | None] = [None, None]
        self.evaluations: list[tuple[int, int]] = []
        """(direction, side) of each loss in the order of the slots."""
        self.updates: list[tuple[int, Sweep]] = []
        self._captured = 0

    def run(self, found: Plan, program: Program) -> None:
        for instruction in issued(program.instructions):
            if isinstance(instruction, Sweep):
                self._sweep(instruction)
            elif isinstance(instruction, Contract) and instruction.to_loss:
                state = self._halves[instruction.w_base // self._rows]
                assert state is not None
                self._captured += 1
                if self._captured % found.groups == 0:
                    self.evaluations.append(state)

    def _sweep(self, sweep: Sweep) -> None:
        if sweep.replay:
            self._state = self._slots[sweep.replay_slot]
        for slot in range(2):
            if sweep.save >> slot & 1:
                self._slots[slot] = self._state
        if sweep.kind == SweepKind.PERTURB:
            side = 0 if sweep.mu == 0 else -1 if sweep.negative else 1
            self._halves[sweep.half] = (self._state, side)
        else:
            self.updates.append((self._state, sweep))
        self._state += sweep.count


@pytest.mark.parametrize("queries", [1, 2, 3, 4, 16])
@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize(("network", "name", "batch"), [(SMALL, "tiny", 8), (DIGITS, "engine_16x8", 64)])
def test_updates_follow_the_directions_of_the_losses(
    network: Network, name: str, batch: int, two_sided: bool, queries: int
) -> None:
    found = plan(network, preset(name).replace(losses=64), batch)
    program = training_program(found, Settings(queries=queries, two_sided=two_sided))
    step = Directions(found)
    step.run(found, program)
    directions = [direction for direction, _ in step.updates]
    assert len(directions) == queries
    if two_sided:
        assert step.evaluations == [(direction, side) for direction in directions for side in (1, -1)]
    else:
        assert [side for _, side in step.evaluations] == [0] + [1] * queries
        assert [direction for direction, _ in step.evaluations[1:]] == directions
    assert [sweep.first for _, sweep in step.updates] == [True] + [False] * (queries - 1)
    assert [sweep.last for _, sweep in step.updates] == [False] * (queries - 1) + [True]
    # The generator ends where the next step's directions begin.
    assert directions == list(range(directions[0], directions[0] + queries * found.rows, found.rows))


def test_a_step_takes_a_batch_and_ends_in_one_coefficient() -> None:
    found = plan(DIGITS, BIG, 64)
    kinds = [type(item) for item in issued(training_program(found, Settings()).instructions)]
    assert [kinds.count(kind) for kind in (Batch, Loss, Coefficient, Halt)] == [1, 1, 1, 1]
    assert kinds[:2] == [Batch, Loss]
    predict = [type(item) for item in issued(prediction_program(found).instructions)]
    assert predict[:2] == [Batch, Sweep]
    assert predict.count(Batch) == 1


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([SMALL, Network([Dense(9, 4), Tanh(), TT((2, 2), (2, 1), 2)], "squared_error")]),
    st.sampled_from([2, 4, 12]),
    st.builds(
        Settings,
        queries=st.integers(1, 5),
        two_sided=st.booleans(),
        optimiser=st.sampled_from(["momentum", "sign"]),
        momentum=st.integers(0, 4),
        normalise=st.booleans(),
        weight_decay=st.sampled_from([0, 9]),
    ),
)
def test_programs_pass_the_checks_of_the_machine(network: Network, batch: int, chosen: Settings) -> None:
    found = plan(network, preset("tiny"), batch)
    for program in (training_program(found, chosen), prediction_program(found)):
        # Building has checked the fields and addresses; three steps show what one does to the next.
        assert not hazards(program.instructions, program.config, repeat=3)
        assert decode(program.words) == program.instructions


def test_a_whole_step_keeps_the_multipliers_busy() -> None:
    for network, two_sided, utilisation in (
        (MNIST, True, 0.944),
        (MNIST, False, 0.943),
        (DIGITS, True, 0.866),
        (DIGITS, False, 0.840),
    ):
        found = plan(network, BIG, 64)
        chosen = Settings(two_sided=two_sided)
        program = training_program(found, chosen)
        run = program.timeline(repeat=10)
        assert run.macs == 10 * chosen.directions * found.macs
        assert run.utilisation > utilisation
        # Neither a contraction nor a sweep waits for the engine to drain.
        waits = [item.wait for item in program.instructions if isinstance(item, Contract | Sweep)]
        assert not any(wait & Wait.ENGINE for wait in waits)


def test_splitting_takes_one_contraction_out_of_the_loops() -> None:
    contract = Line(plan(SMALL, preset("tiny"), 2).layout.layers[0].moves[0].contract)
    other, add, reset = (
        Line(Loss(kind=0, outputs=1, groups=1)),
        Line(Add(register=1, value=1)),
        Line(Set(register=1, value=0)),
    )
    for count, after in ((1, []), (2, [contract, add]), (5, [Repeat(4, (contract, add))])):
        head, rest = split([reset, Repeat(count, (contract, add)), other])
        assert head == [reset, contract]
        assert rest == [add, *after, other]
    nested = [Repeat(3, (Repeat(2, (contract, add)), other))]
    head, rest = split(nested)
    whole = [line.instruction for line in lines(nested)]
    parts = [line.instruction for line in lines([*head, *rest])]
    assert issued(parts) == issued(whole)


def test_listing() -> None:
    program = training_program(plan(DIGITS, BIG, 64), Settings())
    text = program.listing().splitlines()
    assert len(text) == len(program.lines)
    assert "BATCH" in text[1]
    assert any("COEFFICIENT queries=16 shift=4 wait LOSS" in line for line in text)
    assert any(line.split()[:2] == ["8", "1024"] and line.endswith("layer0.core0") for line in text)


def test_a_program_that_is_too_long_says_so() -> None:
    found = plan(SMALL, preset("tiny").replace(program_depth=128), 8)
    with pytest.raises(ValueError, match="the program memory holds 128"):
        training_program(found, Settings())


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"queries": 0}, "queries=0"),
        ({"mu": 0.1}, "mu=0.1 .* power of two"),
        ({"stretch": 4}, "stretch=4 is not possible: 0 with rge; more with incremental-cge only"),
        ({"stretch": -1, "estimator": "incremental-cge"}, "stretch=-1 .* 0 \\(none\\) to 18"),
        ({"rate": 0.0}, "rate=0.0"),
        ({"rate": float("nan")}, "rate=nan"),
        ({"estimator": "sgd"}, "rge or cge or incremental-cge"),
        ({"schedule": "steps"}, "constant or linear or cosine or exponential"),
        ({"optimiser": "adam"}, "momentum or sign"),
        ({"momentum": 40}, "momentum=40"),
        ({"clip": 1000.0}, "clip=1000.0 .* 0.004 to 256"),
    ],
)
def test_wrong_settings_are_refused(chosen: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(**chosen)


def test_settings_that_the_machine_cannot_hold_are_refused() -> None:
    found = plan(DIGITS, BIG.replace(losses=64), 64)
    with pytest.raises(ValueError, match="at most 32 queries"):
        training_program(found, Settings(queries=33))
    with pytest.raises(ValueError, match=r"2\*\*-13 to 2\*\*4"):
        training_program(found, Settings(mu=2.0**-20))
    with pytest.raises(ValueError, match=r"rate=1e-12 .* to "):
        registers(found, Settings(rate=1e-12), 10)
    with pytest.raises(ValueError, match="steps=0"):
        registers(found, Settings(), 0)


def test_registers() -> None:
    found = plan(DIGITS, BIG, 64)
    unit = 2**27 * 2**8
    linear = registers(found, Settings(rate=0.01), 100)
    assert linear == {Register.RATE: round(0.01 * unit / 16), Register.RATE_STEP: round(0.01 * unit / 16) // 100}
    assert registers(found, Settings(rate=0.01, schedule="constant"), 100)[Register.RATE_STEP] == 0
    assert registers(found, Settings(rate=0.01, optimiser="sign"), 1)[Register.RATE] == round(0.01 * unit)


@pytest.mark.parametrize("two_sided", [True, False])
def test_rate_of_slopes_that_are_not_normalised(two_sided: bool) -> None:
    """A loss that falls by a known slope moves the masters by rate times it."""
    found = plan(DIGITS, BIG, 64)
    chosen = Settings(rate=0.01, queries=8, normalise=False, two_sided=two_sided, mu=0.125)
    program = training_program(found, chosen)
    coefficient = next(item for item in program.instructions if isinstance(item, Coefficient))
    slope = 0.5
    difference = round(slope * (0.25 if two_sided else 0.125) * 64 * 2**16)
    ratio = (difference << 8) / 2**coefficient.shift
    moved = ratio * registers(found, chosen, 1)[Register.RATE] / 2**16
    assert moved == pytest.approx(0.01 * slope / 8 * 2**found.master_fraction, rel=1e-3)
    assert np.log2(64 * 2**16) == coefficient.shift
