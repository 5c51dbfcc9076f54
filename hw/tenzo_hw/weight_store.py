"""The weight store: masters, momenta and the two halves of effective words.

A row has C effective words, which the engine reads at once. Its masters and momenta are read in the turns of a sweep: a
pipe's memory holds the words of the pipe's columns, one turn's after the other's, so that nothing has to be chosen.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out

from .cells import BlockRam, Copies
from .config import Config

#: Columns, or pipes, are in so many groups at most, and a group has so many of them at least, while there are any.
_GROUPS, _SMALLEST_GROUP = 4, 4
#: Cycles until all groups know whose turn it is.
TURN_CYCLES = _GROUPS
#: Cycles until the host's word is there, whatever its column.
READ_CYCLES = TURN_CYCLES + 4


class SweepPort(wiring.Signature):
    """The sweep unit's way to the weight store, seen from the sweep unit.

    ``masters`` and ``momenta`` are those of ``place`` two cycles before, a word a pipe; a word written in one cycle can
    be read by the next. A place is turn * weight_rows + row, an ``effective_row`` half * weight_rows + row. Momenta and
    masters have a write enable a pipe.
    """

    def __init__(self, config: Config) -> None:
        place, pipes = range(config.sweep_depth), config.sweep_pipes
        masters = ArrayLayout(signed(config.master_word), pipes)
        momenta = ArrayLayout(signed(config.momentum_word), pipes)
        super().__init__(
            {
                "place": Out(place),
                "masters": In(masters),
                "momenta": In(momenta),
                "effective_write": Out(1),
                "effective_row": Out(range(config.effective_rows)),
                "effective_words": Out(ArrayLayout(signed(config.word), config.columns)),
                "momentum_write": Out(pipes),
                "momentum_place": Out(place),
                "momentum_words": Out(momenta),
                "master_write": Out(pipes),
                "master_place": Out(place),
                "master_words": Out(masters),
            }
        )


class WeightStore(wiring.Component):
    """Three memories, each one read and one write port wide.

    Engine: ``weights`` are the effective words of ``row`` four cycles before. What the sweep or the gather unit writes
    (``gather_words`` become the effective words of ``gather_row`` with ``gather_write``, while ``gather_turn``) can be
    read from the next cycle on.

    Host: masters and momenta are its own with ``host_turn``, else the sweep's. ``host_read`` is the word at
    ``host_row``, ``host_column`` of the masters (or momenta with ``host_momentum``) ``READ_CYCLES`` after these are
    stable; ``host_write`` stores ``host_data``. Turns begin and end ``TURN_CYCLES`` away from sweeps and gathers.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        widest = max(config.master_word, config.momentum_word)
        super().__init__(
            {
                "row": In(range(config.effective_rows)),
                "weights": Out(ArrayLayout(signed(config.word), config.columns)),
                "sweep": In(SweepPort(config)),
                "gather_turn": In(1),
                "gather_write": In(1),
                "gather_row": In(range(config.effective_rows)),
                "gather_words": In(ArrayLayout(signed(config.word), config.columns)),
                "host_turn": In(1),
                "host_row": In(range(config.weight_rows)),
                "host_column": In(range(config.columns)),
                "host_momentum": In(1),
                "host_write": In(1),
                "host_data": In(signed(widest)),
                "host_read": Out(signed(widest)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The memories, and who has their ports."""
        m = Module()
        config, sweep = self._config, self.sweep
        # Each group of columns, or of pipes, has its own registers of whose turn it is and of what the host asks for.
        # They pass this on from group to group, so that each has few loads, all nearby.
        groups = _groups(config.columns)

        # A word is never read for use in the cycle in which it is written. Each group has its own copies of addresses.
        m.submodules.rows = rows = Copies(width=len(self.row), count=len(groups))
        m.submodules.writes = writes = Copies(width=len(self.row) + 1, count=len(groups))
        turns = Signal(len(groups))
        words = Signal.like(self.gather_words)
        m.d.sync += turns.eq(Cat(self.gather_turn, turns))
        m.d.comb += [
            rows.i.eq(self.row),
            writes.i.eq(
                Cat(sweep.effective_write | self.gather_write, Mux(turns[0], self.gather_row, sweep.effective_row))
            ),
        ]
        for number, columns in enumerate(groups):
            m.submodules[f"effective{number}"] = effective = BlockRam(
                width=config.word * len(columns), depth=config.effective_rows
            )
            m.d.comb += [
                effective.read_address.eq(rows.o[number]),
                Cat(effective.write, effective.write_address).eq(writes.o[number]),
                effective.write_data.eq(Cat(words[column] for column in columns)),
            ]
            m.d.sync += Cat(self.weights[column] for column in columns).eq(effective.read_data)
            for column in columns:
                word = Mux(turns[number], self.gather_words[column], sweep.effective_words[column])
                m.d.sync += words[column].eq(word)

        # The host writes at the port that reads: nothing stands between the sweep's words and the memories. What it
        # reads goes through a register a group. An address between a row's last column and the next row reads 0.
        kept = (
            ("masters", 0, sweep.masters, sweep.master_write, sweep.master_place, sweep.master_words),
            ("momenta", 1, sweep.momenta, sweep.momentum_write, sweep.momentum_place, sweep.momentum_words),
        )
        fields = {name: getattr(self, f"host_{name}") for name in ("turn", "column", "momentum", "write", "data")}
        fields["place"] = Cat(self.host_row, self.host_column // config.sweep_pipes)[: len(sweep.place)]
        asked = StructLayout({name: field.shape() for name, field in fields.items()})
        before = Signal(asked, name="asked")
        m.d.comb += [before[name].eq(field) for name, field in fields.items()]
        found = []
        for number, pipes in enumerate(_groups(config.sweep_pipes)):
            now = Signal(asked, name=f"asked{number}")
            m.d.sync += now.eq(before)
            address = Signal.like(sweep.place, name=f"address{number}")
            m.d.comb += address.eq(Mux(now.turn, now.place, sweep.place))
            read: list[Value] = []
            for name, is_momentum, held, write, write_place, write_words in kept:
                width = len(held[0])
                m.submodules[f"{name}{number}"] = memory = BlockRam(
                    width=width * len(pipes), depth=config.sweep_depth, parts=len(pipes), other_writer=True
                )
                m.d.comb += [
                    memory.read_address.eq(address),
                    memory.write.eq(Cat(write[pipe] for pipe in pipes)),
                    memory.write_address.eq(write_place),
                    memory.write_data.eq(Cat(write_words[pipe] for pipe in pipes)),
                    memory.other_data.eq(now.data[:width].replicate(len(pipes))),
                    Cat(held[pipe] for pipe in pipes).eq(memory.read_data),
                ]
                chosen = Signal(len(pipes), name=f"chosen_{name}{number}")
                is_chosen = [
                    before.column.matches(*range(pipe, config.columns, config.sweep_pipes))
                    & (before.momentum == is_momentum)
                    for pipe in pipes
                ]
                m.d.sync += [
                    chosen.eq(Cat(is_chosen)),
                    memory.other_write.eq(Cat(is_chosen) & before.write.replicate(len(pipes))),
                ]
                read += [Mux(is_read, held[pipe], 0) for is_read, pipe in zip(chosen, pipes, strict=True)]
            found.append(Signal.like(self.host_read, name=f"found{number}"))
            m.d.sync += found[-1].eq(reduce(or_, read))
            before = now
        m.d.sync += self.host_read.eq(reduce(or_, found))
        return m


def _groups(words: int) -> list[range]:
    """The numbers of a row's words in groups."""
    size = max(_SMALLEST_GROUP, -(-words // _GROUPS))
    return [range(words)[first : first + size] for first in range(0, words, size)]
