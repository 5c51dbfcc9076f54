"""The serial machine's core: processor, engine and memories."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..batch import HALVES, BatchHalves
from ..cells import LargeRam, Ram
from ..config import Config
from ..host_bus import CoreControl, HostBus
from ..perturbation import PerturbationGenerator
from ..protocol import Fault, Register, Space, State
from . import tables
from .assembly import FIELDS, WORD_BITS, Event, Port
from .engine import SerialEngine
from .firmware import firmware
from .memory_map import HALF_BITS, MainMap, half_words, target_base
from .processor import Processor
from .sequencer_firmware import FAULT_BIT


class SerialCore(wiring.Component):
    """A machine without its link, as ``Core`` is; the host may speak once ``ready`` is high, soon after power-on.

    The main memory has one port: the engine's while it works, else the processor's during a run, else the host's.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__({"host": In(HostBus()), "control": In(CoreControl()), "ready": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Blocks and memories."""
        m = Module()
        config, control = self.config, self.control
        m.submodules.processor = self._processor = processor = Processor(firmware(config))
        m.submodules.engine = self._engine = engine = SerialEngine(config=config)
        m.submodules.halves = self._halves = halves = BatchHalves()
        running = Signal()
        aborts = Signal()
        m.d.comb += [
            running.eq(control.state == State.RUNNING),
            engine.field.eq(processor.port),
            engine.field_data.eq(processor.accumulator),
            engine.field_write.eq(processor.output & processor.port[FIELDS.bit_length() - 1]),
            engine.start.eq(self._takes(Port.START)),
            halves.commit.eq(control.commit),
            halves.clear.eq(control.abort),
            halves.take.eq(self._takes(Port.TAKE)),
            control.free_halves.eq(halves.free),
            processor.events[Event.RUN].eq(running),
            processor.events[Event.ENGINE].eq(engine.done),
            processor.events[Event.BATCH].eq(halves.filled | aborts),
        ]

        # A run's course.
        with m.If(control.run):
            m.d.sync += [
                control.state.eq(State.RUNNING),
                control.fault.eq(Fault.NONE),
                control.cycles.eq(0),
                control.waits.eq(0),
                aborts.eq(0),
            ]
        with m.Elif(running):
            m.d.sync += control.cycles.eq(control.cycles + 1)
            with m.If(processor.stalled & (processor.port == Event.BATCH)):
                m.d.sync += control.waits.eq(control.waits + 1)
            with m.If(control.abort):
                m.d.sync += aborts.eq(1)
            with m.If(self._takes(Port.STATE)):
                m.d.sync += [
                    control.state.eq(processor.accumulator),
                    control.fault.eq(processor.accumulator >> FAULT_BIT),
                ]
        with m.If(self._takes(Port.RUN_PC)):
            m.d.sync += control.current_pc.eq(processor.accumulator)
        with m.If(self._takes(Port.STEPS)):
            m.d.sync += control.steps.eq(processor.accumulator)
        with m.If(self._takes(Port.READY)):
            m.d.sync += self.ready.eq(1)

        self._main(m, running)
        said = {
            Port.RUN_PC: control.pc,
            Port.REPEAT: control.repeat,
            Port.STATE: Cat(engine.bad, engine.fault, aborts),
            Port.OUTCOME: self._outcomes(m),
            Port.TARGET: self._batch(m),
            Port.TABLE: self._tables(m),
        }
        said |= self._signs(m)
        self._weights(m)
        with m.Switch(processor.port[: max(Port).bit_length()]):
            for port, value in said.items():
                with m.Case(port):
                    m.d.comb += processor.input_data.eq(value)
        return m

    def _takes(self, port: Port) -> Value:
        return self._processor.output & (self._processor.port == port)

    def _main(self, m: Module, running: Signal) -> None:
        """The main memory."""
        config, place, host = self.config, MainMap.of(self.config), self.host
        processor, engine = self._processor, self._engine
        m.submodules.main = main = LargeRam(width=WORD_BITS, depth=place.depth)
        # The host's spaces in it. What has no word at all, the upper half of the scale, stays zero.
        spaces = {
            Space.REGISTER: place.registers,
            Space.PROGRAM: place.program,
            Space.MASTER: place.masters,
            Space.MOMENTUM: place.momenta,
            Space.LANE: place.lane,
            Space.LOSS: place.slots,
            Space.HISTORY: place.history,
        }
        base = Signal(range(place.depth))
        is_main = Signal()
        with m.Switch(host.space):
            for space, first in spaces.items():
                with m.Case(space):
                    m.d.comb += [base.eq(first), is_main.eq(1)]
        is_void = (host.space == Space.REGISTER) & (host.address[: max(Register).bit_length()] == Register.SCALE_HIGH)
        with m.If(~engine.done):
            m.d.comb += [
                main.address.eq(place.lane | engine.activation_address[: (config.lane_depth - 1).bit_length()]),
                main.write.eq(engine.store),
                main.write_data.eq(engine.result),
            ]
        with m.Elif(running | ~self.ready):
            m.d.comb += [
                main.address.eq(processor.pointer),
                main.write.eq(processor.main_write),
                main.write_data.eq(processor.accumulator),
            ]
        with m.Else():
            m.d.comb += [
                main.address.eq(base | host.address),
                main.write.eq(host.write & is_main & ~is_void),
                main.write_data.eq(host.data),
            ]
        m.d.comb += [
            processor.main_data.eq(main.read_data),
            engine.lane_data.eq(main.read_data),
            host.read_data.eq(main.read_data),
        ]

    def _batch(self, m: Module) -> Value:
        """The batch halves, inputs and targets; the target at the pointer."""
        config, host, engine = self.config, self.host, self._engine
        targets = target_base(config)
        writes_target = host.space == Space.TARGET
        writes = host.write & (writes_target | (host.space == Space.BATCH))
        given = Signal(HALF_BITS)
        read_address = Mux(engine.done, self._processor.pointer, engine.activation_address)
        m.d.comb += given.eq(
            Mux(
                writes_target,
                host.data[: config.output_word].as_signed(),
                host.data[: config.input_word].as_signed(),
            )
        )
        read = []
        for number in range(HALVES):
            m.submodules[f"half{number}"] = half = LargeRam(width=HALF_BITS, depth=half_words(config))
            fills = writes & (self._halves.filling == number)
            m.d.comb += [
                half.write.eq(fills),
                half.write_data.eq(given),
                half.address.eq(Mux(fills, Mux(writes_target, targets | host.address, host.address), read_address)),
            ]
            read.append(half.read_data)
        current = Signal(HALF_BITS)
        m.d.comb += [current.eq(Array(read)[self._halves.current]), engine.batch_data.eq(current)]
        return current.as_signed()

    def _outcomes(self, m: Module) -> Value:
        """The last contraction's outcomes."""
        config, engine = self.config, self._engine
        m.submodules.outcomes = outcomes = Ram(width=config.output_word, depth=config.outputs)
        m.d.comb += [
            outcomes.read_address.eq(self._processor.pointer),
            outcomes.write.eq(engine.capture),
            outcomes.write_address.eq(engine.capture_index),
            outcomes.write_data.eq(engine.outcome),
        ]
        return outcomes.read_data.as_signed()

    def _tables(self, m: Module) -> Value:
        """The firmware's tables."""
        m.submodules.tables = words = Ram(width=tables.BITS, depth=tables.DEPTH, init=tables.WORDS, writable=False)
        m.d.comb += words.read_address.eq(self._processor.pointer)
        return words.read_data

    def _signs(self, m: Module) -> dict[Port, Value]:
        """The perturbation generator: a step with the first sign of each row."""
        processor = self._processor
        m.submodules.generator = generator = PerturbationGenerator()
        column = Signal(range(self.config.columns))
        low, high = self._takes(Port.GENERATOR_LOW), self._takes(Port.GENERATOR_HIGH)
        halves = [generator.state[:WORD_BITS], generator.state[WORD_BITS:]]
        m.d.comb += [
            generator.value.eq(
                Cat(
                    Mux(low, processor.accumulator, halves[0]),
                    Mux(high, processor.accumulator, halves[1]),
                )
            ),
            generator.load.eq(low | high),
            generator.step.eq(processor.sign_next & (column == 0)),
            processor.sign.eq(generator.state.bit_select(column, 1)),
        ]
        with m.If(self._takes(Port.COLUMN)):
            m.d.sync += column.eq(0)
        with m.Elif(processor.sign_used):
            m.d.sync += column.eq(column + 1)
        return {Port.GENERATOR_LOW: halves[0], Port.GENERATOR_HIGH: halves[1], Port.COLUMN: column}

    def _weights(self, m: Module) -> None:
        """The effective words, a memory for each column."""
        config, engine, processor = self.config, self._engine, self._processor
        rows = range(config.effective_rows)
        column_bits = (config.columns - 1).bit_length()
        place = Signal(len(Const(0, rows)) + column_bits)
        writes = self._takes(Port.WEIGHT)
        with m.If(self._takes(Port.WEIGHT_ADDRESS)):
            m.d.sync += place.eq(processor.accumulator)
        with m.Elif(writes):
            m.d.sync += place.eq(place + 1)
        for column in range(config.columns):
            m.submodules[f"weights{column}"] = weights = Ram(width=config.word, depth=config.effective_rows)
            m.d.comb += [
                weights.read_address.eq(engine.weight_row),
                engine.weights[column].eq(weights.read_data),
                weights.write.eq(writes & (place[:column_bits] == column)),
                weights.write_address.eq(place[column_bits:]),
                weights.write_data.eq(processor.accumulator),
            ]
