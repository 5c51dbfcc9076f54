"""The sweep unit: one pass over weight rows that perturbs the effective words or updates momentum and masters."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from . import arithmetic
from .cells import Copies
from .config import GENERATOR_BITS, RATE_FRACTION, Config
from .isa import REPLAY_SLOTS, Sweep, SweepKind
from .layouts import instruction_layout
from .numbers import round_shift, saturate
from .perturbation import PerturbationGenerator
from .weight_store import SweepPort

#: Pipeline stages from the issue of a row to the write of its masters.
_STAGES = 12
#: Pipes that share what a row's words move by.
_SHARING = 3
#: What each step shifts by, of a shift by five bits in two steps.
_COARSE, _FINE = 0b11000, 0b00111


def perturb(
    config: Config,
    masters: np.ndarray,
    signs: np.ndarray,
    mu: int,
    negative: bool,
    single: bool = False,
    column: int = 0,
) -> np.ndarray:
    """The effective words that a PERTURB sweep writes: the rounded masters, a step of ``mu`` along the signs.

    ``masters`` int64[rows, C], ``signs`` [rows, C] of +1 and -1; ``negative`` flips them. With ``single`` only
    ``column`` is perturbed, along +1. Returns int64[rows, C].
    """
    step = -mu if negative else mu
    if single:
        signs = np.arange(config.columns) == column
    return saturate(round_shift(masters, config.master_extra) + signs * np.int64(step), config.word)


def update(
    config: Config,
    sweep: Sweep,
    masters: np.ndarray,
    momenta: np.ndarray,
    signs: np.ndarray,
    coefficient: int | np.ndarray,
    rate: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Masters and momenta after an UPDATE sweep of these rows, int64[rows, C] each.

    ``coefficient`` and ``rate`` are the coefficient unit's, in units of the master's last bit and 2**-8 of it; with
    ``single`` the coefficients are int64[rows], one a row.
    """
    written = np.arange(config.columns) == sweep.column if sweep.single else True
    kept = momenta
    if sweep.first:
        kept = momenta - round_shift(momenta, sweep.decay) if sweep.decay else np.zeros_like(momenta)
    step = round_shift(np.asarray(coefficient, dtype=np.int64), sweep.scale)
    total = kept + (step[:, None] if sweep.single else signs * step)
    momenta = np.where(written, saturate(total, config.momentum_word), momenta)
    if sweep.last:
        decayed = masters - round_shift(masters, sweep.weight_decay) if sweep.weight_decay else masters
        move = np.sign(momenta) * round_shift(rate, RATE_FRACTION) if sweep.sign else momenta
        masters = np.where(written, saturate(decayed - move, config.master_word), masters)
    return masters, momenta


class SweepUnit(wiring.Component):
    """Carries out SWEEP instructions, ``sweep_pipes`` words a cycle; the models are ``perturb`` and ``update``.

    ``sweep`` is taken with ``start``, only while ``ready``. Started at cycle s, the unit reads row r of the sweep from
    s + 3 + r * ``sweep_turns`` on, once for every turn; it is ready at s + count * ``sweep_turns`` + ``sweep_latency``,
    when all words written can be read. Turn t is that of the columns from t * ``sweep_pipes`` on. The instruction must
    be a valid one, its registers added: the sequencer checks it.

    ``coefficient`` is the word at ``coefficient_index``, two cycles later. An UPDATE moves the index by one with
    ``next`` and by one a row with ``single``, the cycle after ``start`` first; ``rewind`` sets it to 0. ``rate`` is
    taken with ``start``. ``generator`` is the perturbation generator's state; ``generator_write`` sets its low (bit 0)
    or high (bit 1) half to ``generator_data`` a cycle later, only while ready.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "sweep": In(instruction_layout(Sweep)),
                "start": In(1),
                "ready": Out(1),
                "coefficient_index": Out(range(config.losses)),
                "coefficient": In(signed(config.momentum_word)),
                "rewind": In(1),
                "rate": In(32),
                "generator": Out(GENERATOR_BITS),
                "generator_write": In(2),
                "generator_data": In(32),
                "store": Out(SweepPort(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Control, generator, steps, and the stages of each pipe."""
        m = Module()
        config, store = self._config, self.store

        # Instruction and rate as they were at the start: stable while rows are in the pipeline. So are the columns
        # that are written, a cycle later, and each pipe's own copy of the instruction.
        sweep = Signal.like(self.sweep)
        given_rate, rate = Signal.like(self.rate), Signal.like(self.rate)
        started = Signal()
        m.d.sync += [started.eq(self.start), given_rate.eq(self.rate)]
        with m.If(self.start):
            m.d.sync += sweep.eq(self.sweep)
        with m.If(started):
            m.d.sync += rate.eq(given_rate)
        m.submodules.copies = copies = Copies(width=len(sweep.as_value()), count=config.sweep_pipes)
        m.d.comb += copies.i.eq(sweep)
        perturbs = Signal()
        m.d.comb += perturbs.eq(sweep.kind == SweepKind.PERTURB)
        chosen = Signal(config.columns)
        m.d.sync += [chosen[column].eq(~sweep.single | (sweep.column == column)) for column in range(config.columns)]

        # valid[k], rows[k] and turns[k] are those of the turn that was issued k cycles before.
        valid = [Signal(name=f"valid{stage}") for stage in range(_STAGES)]
        rows = [Signal(range(config.weight_rows), name=f"row{stage}") for stage in range(_STAGES)]
        turns = [Signal(range(config.sweep_turns), name=f"turn{stage}") for stage in range(_STAGES)]
        for stage in range(1, _STAGES):
            m.d.sync += [
                valid[stage].eq(valid[stage - 1]),
                rows[stage].eq(rows[stage - 1]),
                turns[stage].eq(turns[stage - 1]),
            ]
        remaining = Signal(range(config.weight_rows))
        last_turn = Signal()
        m.d.comb += last_turn.eq(turns[0] == config.sweep_turns - 1)
        with m.If(self.start):
            m.d.sync += [
                valid[0].eq(1),
                rows[0].eq(self.sweep.row),
                turns[0].eq(0),
                remaining.eq(self.sweep.count - 1),
            ]
        with m.Elif(valid[0]):
            m.d.sync += turns[0].eq(turns[0] + 1)
            with m.If(last_turn):
                m.d.sync += [
                    valid[0].eq(remaining != 0),
                    rows[0].eq(rows[0] + 1),
                    turns[0].eq(0),
                    remaining.eq(remaining - 1),
                ]

        # The coefficient: the first row's, or with ``single`` each row's, stands in the row's second stage.
        moves = Signal()
        coefficient = Signal.like(self.coefficient)
        with m.If(self.start):
            m.d.comb += moves.eq((self.sweep.kind == SweepKind.UPDATE) & (self.sweep.next | self.sweep.single))
        with m.Else():
            m.d.comb += moves.eq(valid[0] & last_turn & (remaining != 0) & ~perturbs & sweep.single)
        with m.If(self.rewind):
            m.d.sync += self.coefficient_index.eq(0)
        with m.Elif(moves):
            m.d.sync += self.coefficient_index.eq(self.coefficient_index + 1)
        with m.If(valid[1] & (turns[1] == 0) & (sweep.single | ~valid[2])):
            m.d.sync += coefficient.eq(self.coefficient)

        idle = Signal(init=1)
        with m.If(self.start):
            m.d.sync += idle.eq(0)
        with m.Elif(valid[-1] & ~valid[-2]):
            m.d.sync += idle.eq(1)
        m.d.comb += [self.ready.eq(idle), store.place.eq(Cat(rows[2], turns[2]))]

        # The generator: one step a row, so late that its state meets the row's words at stage 6.
        m.submodules.generator = generator = PerturbationGenerator()
        slots = Array(Signal(GENERATOR_BITS, name=f"slot{index}") for index in range(REPLAY_SLOTS))
        before = Signal(GENERATOR_BITS)
        m.d.comb += [
            before.eq(Mux(started & sweep.replay, slots[sweep.replay_slot], generator.state)),
            generator.value.eq(before),
            generator.load.eq(started),
            generator.step.eq(valid[5] & (turns[5] == 0)),
            self.generator.eq(generator.state),
        ]
        for index in range(REPLAY_SLOTS):
            with m.If(started & sweep.save[index]):
                m.d.sync += slots[index].eq(before)
        generator_write = Signal.like(self.generator_write)
        generator_data = Signal.like(self.generator_data)
        m.d.sync += [generator_write.eq(self.generator_write), generator_data.eq(self.generator_data)]
        for half in range(2):
            with m.If(generator_write[half]):
                m.d.comb += [generator.load.eq(1), before.word_select(half, 32).eq(generator_data)]

        # What a row's words move by for either sign, ready at stage 5, near every pipe at stage 6. Doubling before a
        # variable shift keeps the last bit shifted out, which is all that rounding half up needs: x is (2x + 1) >> 1,
        # and -x is -2x >> 1. The shift is made in two steps, a stage each.
        shifted = Signal(signed(config.momentum_word + 1))
        doubled = Signal(signed(max(config.momentum_word, 17) + 1))
        plus = Signal(signed(len(doubled)))
        minus = Signal.like(plus)
        m.d.sync += [
            shifted.eq(Cat(0, coefficient).as_signed() >> (sweep.scale & _COARSE)),
            doubled.eq(Mux(perturbs, Cat(0, sweep.mu, 0).as_signed(), shifted >> (sweep.scale & _FINE))),
            plus.eq((doubled + 1) >> 1),
            minus.eq(-doubled >> 1),
        ]
        m.submodules.moves = steps = Copies(width=2 * len(plus), count=-(-config.sweep_pipes // _SHARING))
        m.d.comb += steps.i.eq(Cat(plus, minus))
        forth = Signal(32 - RATE_FRACTION + 1)
        back = Signal(signed(len(forth) + 1))
        m.d.sync += [forth.eq(arithmetic.round_shift(rate, RATE_FRACTION)), back.eq(-forth)]

        def of_turn(flags: Value, pipe: int, stage: int) -> Value:
            """The flag of the pipe's column of this turn, of one a column."""
            return flags.word_select(turns[stage], config.sweep_pipes)[pipe]

        for pipe in range(config.sweep_pipes):
            own = data.View(sweep.shape(), copies.o[pipe])
            perturbs_own = own.kind == SweepKind.PERTURB

            # Stage 5: the words, near the pipe.
            master = Signal(signed(config.master_word), name=f"master{pipe}")
            momentum = Signal(signed(config.momentum_word), name=f"momentum{pipe}")
            m.d.sync += [master.eq(store.masters[pipe]), momentum.eq(store.momenta[pipe])]

            # Stage 6: what decays, doubled as above (a shift of 0 leaves nothing of the word); the rounded master.
            decay = Signal(signed(config.momentum_word + 1), name=f"decay{pipe}")
            kept = Signal.like(momentum, name=f"kept{pipe}")
            shrink = Signal(signed(config.master_word + 1), name=f"shrink{pipe}")
            whole = Signal.like(master, name=f"whole{pipe}")
            rounded = Signal(signed(config.word + 1), name=f"rounded{pipe}")
            m.d.sync += [
                decay.eq(Mux(own.first, Cat(0, momentum).as_signed() >> own.decay, 0)),
                kept.eq(momentum),
                shrink.eq(Mux(own.weight_decay != 0, Cat(0, master).as_signed() >> own.weight_decay, 0)),
                whole.eq(master),
                rounded.eq(arithmetic.round_shift(master, config.master_extra)),
            ]

            # Stage 7: the word to add to, and the step along this column's sign.
            base = Signal(signed(max(config.word + 1, config.momentum_word)), name=f"base{pipe}")
            along = Signal.like(plus, name=f"along{pipe}")
            forth_step, back_step = (step.as_signed() for step in _halves(steps.o[pipe // _SHARING]))
            flip = perturbs_own & own.negative
            backward = (of_turn(generator.state[: config.columns], pipe, 6) & ~own.single) ^ flip
            weight = [Signal.like(master, name=f"weight{pipe}_{stage}") for stage in (7, 8, 9)]
            m.d.sync += [
                base.eq(Mux(perturbs_own, rounded, (Cat(0, kept).as_signed() - decay) >> 1)),
                along.eq(Mux(of_turn(chosen, pipe, 6), Mux(backward, back_step, forth_step), 0)),
                weight[0].eq((Cat(0, whole).as_signed() - shrink) >> 1),
                weight[1].eq(weight[0]),
                weight[2].eq(weight[1]),
            ]

            # Stage 8: the sum. Stage 9: what is stored of it, and what the master moves by.
            total = Signal(signed(max(len(base), len(along)) + 1), name=f"total{pipe}")
            effective = Signal(signed(config.word), name=f"effective{pipe}")
            moved = Signal.like(momentum, name=f"moved{pipe}")
            move = Signal(signed(max(config.momentum_word, len(back))), name=f"move{pipe}")
            m.d.sync += total.eq(base + along)
            m.d.comb += effective.eq(arithmetic.saturate(total, config.word))
            m.d.sync += moved.eq(arithmetic.saturate(total, config.momentum_word))
            with m.If(~own.sign):
                m.d.sync += move.eq(arithmetic.saturate(total, config.momentum_word))
            with m.Elif(total < 0):
                m.d.sync += move.eq(back)
            with m.Else():
                m.d.sync += move.eq(Mux(total.any(), forth, 0))

            # Stage 10: the moved master. Stage 11: saturated.
            difference = Signal(signed(max(config.master_word, len(move)) + 1), name=f"difference{pipe}")
            master_word = Signal.like(master, name=f"master_word{pipe}")
            m.d.sync += [
                difference.eq(weight[2] - move),
                master_word.eq(arithmetic.saturate(difference, config.master_word)),
            ]

            # A row's effective words are written together in its last turn, the others each in its own.
            for turn in range(config.sweep_turns):
                with m.If(turns[8] == turn):
                    m.d.sync += store.effective_words[turn * config.sweep_pipes + pipe].eq(effective)
            m.d.comb += [
                store.momentum_words[pipe].eq(moved),
                store.momentum_write[pipe].eq(valid[9] & ~perturbs_own & of_turn(chosen, pipe, 9)),
                store.master_words[pipe].eq(master_word),
                store.master_write[pipe].eq(valid[11] & ~perturbs_own & own.last & of_turn(chosen, pipe, 11)),
            ]

        m.d.comb += [
            store.effective_write.eq(valid[9] & (turns[9] == config.sweep_turns - 1) & perturbs),
            store.effective_row.eq(Cat(rows[9], sweep.half)),
            store.momentum_place.eq(Cat(rows[9], turns[9])),
            store.master_place.eq(Cat(rows[11], turns[11])),
        ]
        return m


def _halves(pair: Value) -> tuple[Value, Value]:
    return pair[: len(pair) // 2], pair[len(pair) // 2 :]
