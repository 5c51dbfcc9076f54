"""Tensor-wise steps: what every query perturbs, its loss as a whole forward gives it, and the mean that moves words."""

from __future__ import annotations

import numpy as np
import pytest
from naive import forward, issued
from tenzo import TT, Dense, Device, Network, ReLU, Settings, Tanh, Trainer
from tenzo.order import SampleOrder
from tenzo.plan import Plan, plan
from tenzo.program import Program
from tenzo.step import evaluations, training_program
from tenzo.tensor_wise import Tensor, tensors
from tenzo_hw.config import Config, preset
from tenzo_hw.hazards import hazards
from tenzo_hw.isa import Coefficient, Contract, Sweep, SweepKind
from tenzo_hw.numbers import round_shift, saturate
from tenzo_hw.perturbation import signs
from tenzo_sim.model import ModelTransport

CONFIG = preset("small").replace(program_depth=1 << 14)
NETWORKS = {
    "two layers": Network([TT([4, 3], [3, 4], 2), ReLU(), TT([3, 4], [1, 3], 2)], "squared_error"),
    "four layers and a table": Network(
        [TT([3, 2], [2, 4], 2), Tanh(), Dense(8, 5), TT([5, 1], [3, 2], 2), Tanh(), Dense(6, 3)], "squared_error"
    ),
    "function at the outputs": Network([TT([2, 3], [3, 2], 2), Dense(6, 4), Tanh()], "squared_error"),
    "one layer": Network([TT([4, 3, 2], [1, 3, 2], 2)], "squared_error"),
    "no biases": Network([Dense(5, 4, bias=False), ReLU(), TT([2, 2], [3, 2], 2, bias=False)], "squared_error"),
}
#: A layer whose output index is cut in slices where a lane is short: the first one, or one behind another.
CUT = TT([4, 2, 4], [4, 2, 4], 4)
SLICED = Network([CUT, ReLU(), TT([8, 4], [1, 3], 2)], "squared_error")
SLICED_WITHIN = Network([Dense(3, 32), CUT, ReLU(), TT([8, 4], [1, 3], 2)], "squared_error")
#: Three results at once do not fit where two do.
DEEP = Network([Dense(4, 24), ReLU(), Dense(24, 24), ReLU(), Dense(24, 24), ReLU(), Dense(24, 2)])
SHORT = [(SLICED, CONFIG.replace(lane_depth=128)), (SLICED_WITHIN, CONFIG.replace(lane_depth=256))]
MACHINES = [*((network, CONFIG) for network in NETWORKS.values()), *SHORT]
NAMES = [*NETWORKS, "slices", "slices within"]


def settings_of(queries: int, *, two_sided: bool, **others) -> Settings:
    return Settings(estimator="tensor-rge", queries=queries, two_sided=two_sided, **others)


@pytest.mark.parametrize(("network", "config"), SHORT)
def test_short_lanes_make_slices(network: Network, config: Config) -> None:
    chains = [layer.chain for layer in plan(network, config, 12).layout.layers]
    assert [chain.slices > 1 for chain in chains] == [stage.layer == CUT for stage in network.stages]


class Followed:
    """A step's sweeps followed row by row: the number of the signs' row and the side that each effective row has."""

    def __init__(self, found: Plan, program: Program) -> None:
        self._rows = found.config.weight_rows
        self._state = 100
        self._slots = [0, 0]
        self._effective: dict[int, tuple[int, int]] = {}
        self.evaluations: list[tuple[int, int, int, int] | None] = []
        """First row, rows, number of the first signs and side of what is perturbed; None where nothing is."""
        self.updates: list[tuple[int, Sweep]] = []
        for instruction in issued(program.instructions):
            if isinstance(instruction, Sweep):
                self._sweep(instruction)
            elif isinstance(instruction, Contract) and instruction.to_loss:
                self.evaluations.append(self._perturbed(instruction.w_base // self._rows))
            elif isinstance(instruction, Coefficient):
                self.coefficient = instruction

    def _sweep(self, sweep: Sweep) -> None:
        if sweep.replay:
            self._state = self._slots[sweep.replay_slot]
        for slot in range(2):
            if sweep.save >> slot & 1:
                self._slots[slot] = self._state
        if sweep.kind == SweepKind.UPDATE:
            self.updates.append((self._state, sweep))
        for row in range(sweep.count) if sweep.kind == SweepKind.PERTURB else ():
            place = sweep.half * self._rows + sweep.row + row
            side = 0 if sweep.mu == 0 else -1 if sweep.negative else 1
            self._effective[place] = (self._state + row, side)
        self._state += sweep.count

    def _perturbed(self, half: int) -> tuple[int, int, int, int] | None:
        found = [(row % self._rows, *at) for row, at in self._effective.items() if row // self._rows == half and at[1]]
        if not found:
            return None
        row, state, side = min(found)
        assert sorted(found) == [(row + place, state + place, side) for place in range(len(found))]
        return row, len(found), state, side


@pytest.mark.parametrize("queries", [1, 2, 3])
@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize(("network", "config"), MACHINES, ids=NAMES)
def test_every_query_perturbs_one_tensor_and_updates_it(
    network: Network, config: Config, two_sided: bool, queries: int
) -> None:
    found = plan(network, config, 12)
    chosen = settings_of(queries, two_sided=two_sided)
    program = training_program(found, chosen)
    assert not hazards(program.instructions, config, repeat=3)
    step = Followed(found, program)
    updates = [(sweep.row, sweep.count, state) for state, sweep in step.updates]
    own = [tensor for layer in tensors(found) for tensor in layer]
    assert [tensor.name for tensor in own] == list(network.weights)
    assert [update[:2] for update in updates] == [(tensor.row, tensor.count) for tensor in own for _ in range(queries)]
    # No two tensors share a row, and all rows have one.
    assert sorted(row for tensor in own for row in range(tensor.row, tensor.row + tensor.count)) == [*range(found.rows)]
    ends = [state + count for _, count, state in updates]
    assert [state for _, _, state in updates[1:]] == ends[:-1]
    sides = (1, -1) if two_sided else (1,)
    group = [None] * (not two_sided) + [(*update, side) for update in updates for side in sides]
    assert step.evaluations == group * found.groups
    assert len(group) == evaluations(found, chosen)
    assert (step.coefficient.queries, step.coefficient.two_sided) == (queries * len(own), two_sided)
    for name in ("first", "last"):
        wanted = [number == (0 if name == "first" else queries - 1) for _ in own for number in range(queries)]
        assert [getattr(sweep, name) for _, sweep in step.updates] == wanted
    assert all(sweep.next for _, sweep in step.updates)


def one_step(network: Network, config: Config, chosen: Settings) -> tuple[np.ndarray, np.ndarray, Trainer]:
    """Loss slots after one step, the slots of whole forwards with the same directions, and the trainer."""
    seed = 7
    print("seed", seed)
    random = np.random.default_rng(seed)
    x = random.uniform(-1, 1, (12, network.inputs))
    y = random.uniform(-2, 2, (12, network.outputs))
    device = Device(ModelTransport(config))
    trainer = Trainer(network, config, chosen, None, device, batch=12, steps=2, seed=seed)
    trainer.start()
    order = SampleOrder(len(x), 12, seed).batch(0)
    found = trainer.plan
    inputs = found.input_words(x[order])
    targets = found.target_words(y[order]).reshape(12, network.outputs)
    masters = device.read_masters()
    plain = round_shift(masters, config.master_extra)

    def loss(words: np.ndarray) -> int:
        weights = {name: words.reshape(-1)[places] for name, places in found.layout.places.items()}
        outputs = forward(found, weights, inputs, to_loss=True)[:, found.layout.output_order]
        return int(((outputs - targets) ** 2).sum())

    mu = int(chosen.mu * 2**found.formats.weights)
    wanted = [] if chosen.two_sided else [loss(saturate(plain, config.word))]
    for tensor, direction in directions(trainer, chosen, device.generator):
        for side in (1, -1) if chosen.two_sided else (1,):
            words = plain.copy()
            words[tensor.row : tensor.row + tensor.count] += side * mu * direction
            wanted.append(loss(saturate(words, config.word)))
    trainer.train(x, y, until=1)
    return device.read_losses(len(wanted)), np.array(wanted), trainer


def directions(trainer: Trainer, chosen: Settings, state: int) -> list[tuple[Tensor, np.ndarray]]:
    """Every query's tensor and signs, of a step that begins with this state of the generator."""
    columns = trainer.plan.config.columns
    _, state = signs(state, 1, columns)
    found = []
    for tensor in (tensor for layer in tensors(trainer.plan) for tensor in layer):
        for _ in range(chosen.queries):
            direction, state = signs(state, tensor.count, columns)
            found.append((tensor, direction.astype(np.int64)))
    return found


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize(("network", "config"), MACHINES, ids=NAMES)
def test_losses_are_those_of_whole_forwards(network: Network, config: Config, two_sided: bool) -> None:
    """What is reused is what a forward of all layers would have computed again."""
    slots, wanted, _ = one_step(network, config, settings_of(2, two_sided=two_sided))
    assert slots.tolist() == wanted.tolist()
    assert len(np.unique(wanted)) > len(wanted) // 2


@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize("two_sided", [True, False])
def test_words_move_along_the_mean_of_their_tensor_s_queries(two_sided: bool, queries: int) -> None:
    """With N queries a tensor, -rate / N sum slope_i x_i: N is not the number of all queries, nor one."""
    chosen = settings_of(
        queries, two_sided=two_sided, mu=2**-3, rate=0.005, schedule="constant", momentum=0, normalise=False, clip=200.0
    )
    network = NETWORKS["two layers"]
    device = Device(ModelTransport(CONFIG))
    quiet = Trainer(network, CONFIG, chosen, None, device, batch=12, steps=2, seed=7)
    quiet.start()
    before, state = device.read_masters(), device.generator
    slots, _, trainer = one_step(network, CONFIG, chosen)
    found = trainer.plan
    scale = 12 * 2.0 ** (2 * found.formats.loss)
    losses = slots / scale
    differences = losses[::2] - losses[1::2] if two_sided else losses[1:] - losses[0]
    slopes = differences / (chosen.mu * (2 if two_sided else 1))
    wanted = np.zeros(before.shape)
    for slope, (tensor, direction) in zip(slopes, directions(trainer, chosen, state), strict=True):
        wanted[tensor.row : tensor.row + tensor.count] -= chosen.rate / queries * slope * direction
    moved = (trainer.device.read_masters() - before) / 2.0**found.master_fraction
    # A loss difference is rounded to 8 fraction bits of a power of two at or below the scale of mean losses.
    bound = chosen.rate * 2.0**-9 / (chosen.mu * (2 if two_sided else 1)) + 2.0 ** (1 - found.master_fraction)
    assert np.abs(moved - wanted).max() <= bound
    assert np.abs(wanted).max() > 8 * bound


def test_layers_before_a_tensor_s_own_are_evaluated_once() -> None:
    """The paper's network: 41 losses of a batch in the cycles of less than 24 forwards."""
    network = Network([TT([7, 4, 4, 7], [8, 4, 4, 8], 6), ReLU(), TT([8, 4, 4, 8], [1, 5, 2, 1], 6)])
    trainer = Trainer(network, preset("engine_16x8"), settings_of(4, two_sided=False), batch=64)
    assert evaluations(trainer.plan, trainer.phase) == 41
    assert trainer.step_cycles < 24 * trainer.plan.forward_cycles
    assert trainer.step_utilisation > 0.93


@pytest.mark.parametrize(
    ("network", "config", "queries", "message"),
    [
        (
            NETWORKS["two layers"],
            CONFIG.replace(losses=64),
            6,
            "6 of 6 tensors take 72 .* remembers 64: at most 5 queries",
        ),
        (DEEP, CONFIG.replace(lane_depth=64), 2, "layer2 need 24 words of a lane, 16 of 64 are left"),
        (NETWORKS["two layers"], CONFIG.replace(program_depth=256), 2, "needs .* words, the program memory holds 256"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(
    network: Network, config: Config, queries: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        training_program(plan(network, config, 4), settings_of(queries, two_sided=True))
