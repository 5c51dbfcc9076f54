"""The core: sequencer, engine, weight store and units put together, and the host's way to their memories."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from .batch import BatchHalves
from .coefficient import CoefficientUnit
from .config import Config
from .engine import ContractionEngine
from .gather import GatherUnit
from .host_bus import CoreControl, HostBus
from .isa import Base
from .loss import LossAccumulator
from .protocol import Register, Space, State
from .sequencer import Sequencer
from .sweep import SweepUnit
from .weight_store import WeightStore


class Core(wiring.Component):
    """All blocks of one machine but its link; see ``HostBus`` and ``CoreControl``."""

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__({"host": In(HostBus()), "control": In(CoreControl())})

    def elaborate(self, platform: object) -> Module:
        """Blocks and their connections."""
        m = Module()
        m.submodules.sequencer = self._sequencer = sequencer = Sequencer(self.config)
        m.submodules.halves = self._halves = halves = BatchHalves()
        m.submodules.engine = self._engine = engine = ContractionEngine(self.config)
        m.submodules.store = self._store = store = WeightStore(self.config)
        m.submodules.sweep = self._sweep = sweep = SweepUnit(self.config)
        m.submodules.loss = self._loss = loss = LossAccumulator(self.config)
        m.submodules.coefficient = self._coefficient = coefficient = CoefficientUnit(self.config)

        contract = sequencer.contract
        wiring.connect(m, sweep.store, store.sweep)
        m.d.comb += [
            # The sequencer and its units.
            engine.contract.eq(contract),
            engine.deltas.eq(sequencer.deltas),
            engine.number.eq(sequencer.contract_number),
            engine.start.eq(sequencer.contract_start),
            sequencer.engine_drained.eq(engine.drained),
            sequencer.engine_fault.eq(engine.fault),
            sequencer.engine_fault_number.eq(engine.fault_number),
            sweep.sweep.eq(sequencer.sweep),
            sequencer.sweep_ready.eq(sweep.ready),
            loss.setup.eq(sequencer.loss),
            sequencer.loss_free.eq(loss.free),
            sequencer.loss_idle.eq(loss.idle),
            sequencer.loss_done.eq(loss.done),
            coefficient.instruction.eq(sequencer.coefficient),
            sequencer.coefficient_ready.eq(coefficient.ready),
            # The units among each other.
            store.row.eq(engine.weights_row),
            engine.weights.eq(store.weights),
            engine.half.eq(halves.current),
            loss.results.eq(engine.results),
            loss.outcome.eq(engine.outcome),
            loss.captured.eq(engine.captured),
            loss.half.eq(halves.current),
            loss.coefficient_read.address.eq(coefficient.slot),
            loss.coefficient_reads.eq(coefficient.reads),
            coefficient.loss.eq(loss.coefficient_read.data),
            coefficient.correct.eq(loss.correct),
            loss.correct_clear.eq(coefficient.correct_clear),
            coefficient.coefficient_index.eq(sweep.coefficient_index),
            sweep.coefficient.eq(coefficient.coefficient),
            sweep.rewind.eq(coefficient.start),
            sweep.rate.eq(coefficient.rate),
            # Runs and batches.
            sequencer.run.eq(self.control.run),
            sequencer.run_pc.eq(self.control.pc),
            sequencer.repeat.eq(self.control.repeat),
            sequencer.abort.eq(self.control.abort),
            engine.run_start.eq(self.control.run),
            loss.run_start.eq(self.control.run),
            coefficient.run_start.eq(self.control.run),
            halves.commit.eq(self.control.commit),
            halves.clear.eq(self.control.abort),
            halves.take.eq(sequencer.take),
            sequencer.filled.eq(halves.filled),
            self.control.state.eq(sequencer.state),
            self.control.fault.eq(sequencer.fault),
            self.control.current_pc.eq(sequencer.pc),
            self.control.free_halves.eq(halves.free),
            self.control.cycles.eq(sequencer.cycles),
            self.control.waits.eq(sequencer.waits),
            self.control.steps.eq(coefficient.steps),
        ]
        # Starts are registered where they arrive, as is what the engine has taken; fields stay as they are meanwhile.
        m.d.sync += [
            sequencer.engine_taken.eq(engine.taken),
            sweep.start.eq(sequencer.sweep_start),
            loss.setup_start.eq(sequencer.loss_start),
            loss.reserve.eq(sequencer.contract_start & contract.to_loss & (contract.base != Base.ADD)),
            coefficient.start.eq(sequencer.coefficient_start),
        ]
        self._host(m)
        m.d.comb += sequencer.gather_ready.eq(1)
        if self.config.incremental:
            self._gather(m)
        return m

    def _gather(self, m: Module) -> None:
        """The gather unit, which has the host's way to the lanes while it is not ready."""
        m.submodules.gather = gather = GatherUnit(self.config)
        sequencer, engine, store = self._sequencer, self._engine, self._store
        m.d.comb += [
            gather.gather.eq(sequencer.gather),
            sequencer.gather_ready.eq(gather.ready),
            sequencer.gather_fault.eq(gather.fault),
            store.gather_turn.eq(~gather.ready),
            store.gather_write.eq(gather.effective_write),
            store.gather_row.eq(gather.effective_row),
            store.gather_words.eq(gather.effective_words),
            gather.lane_read.data.eq(engine.lane_read.data),
        ]
        m.d.sync += gather.start.eq(sequencer.gather_start)
        with m.If(~gather.ready):
            m.d.sync += engine.lane_read.address.eq(gather.lane_read.address)

    def _host(self, m: Module) -> None:
        """Decodes the host bus. Registers at both of its ends: it reaches all over the chip."""
        config = self.config
        sequencer, engine, store, loss = self._sequencer, self._engine, self._store, self._loss
        sweep, coefficient = self._sweep, self._coefficient
        space = Signal(Space)
        address = Signal(32)
        word = Signal(signed(32))
        m.d.sync += [space.eq(self.host.space), address.eq(self.host.address), word.eq(self.host.data)]

        def writes(target: Space) -> Signal:
            strobe = Signal(name=f"write_{target.name.lower()}")
            m.d.sync += strobe.eq(self.host.write & (self.host.space == target))
            return strobe

        write_register = writes(Space.REGISTER)

        # The link lets no address through that is outside of its space.
        register_bits = (len(Register) - 1).bit_length()

        def writes_register(register: Register) -> Signal:
            strobe = Signal(name=f"write_{register.name.lower()}")
            m.d.comb += strobe.eq(write_register & (address[:register_bits] == register))
            return strobe

        column_bits = (config.columns - 1).bit_length()
        m.d.comb += [
            sequencer.program_write.eq(writes(Space.PROGRAM)),
            sequencer.program_address.eq(address),
            sequencer.program_data.eq(word),
            store.host_row.eq(address[column_bits:]),
            store.host_column.eq(address[:column_bits]),
            store.host_momentum.eq(space == Space.MOMENTUM),
            store.host_write.eq(writes(Space.MASTER) | writes(Space.MOMENTUM)),
            store.host_data.eq(word),
            engine.batch_write.strobe.eq(writes(Space.BATCH)),
            engine.batch_write.half.eq(self._halves.filling),
            engine.batch_write.lane.eq(address >> _log2(config.batch_depth)),
            engine.batch_write.address.eq(address),
            engine.batch_write.data.eq(word),
            loss.target_write.strobe.eq(writes(Space.TARGET)),
            loss.target_write.half.eq(self._halves.filling),
            loss.target_write.address.eq(address),
            loss.target_write.data.eq(word),
            engine.table_write.strobe.eq(writes(Space.TABLE)),
            engine.table_write.slope.eq(address[0]),
            engine.table_write.address.eq(address[1:]),
            engine.table_write.data.eq(word),
            loss.host_read.address.eq(address[1:]),
            coefficient.history_address.eq(address),
            sweep.generator_write.eq(
                Cat(writes_register(Register.GENERATOR_LOW), writes_register(Register.GENERATOR_HIGH))
            ),
            sweep.generator_data.eq(word),
            coefficient.rate_write.eq(writes_register(Register.RATE)),
            coefficient.rate_step_write.eq(writes_register(Register.RATE_STEP)),
            coefficient.scale_write.eq(Cat(writes_register(Register.SCALE_LOW), writes_register(Register.SCALE_HIGH))),
            coefficient.host_data.eq(word),
        ]

        m.d.sync += [engine.lane_read.address.eq(address), store.host_turn.eq(sequencer.state != State.RUNNING)]

        # A word on its way back: the parts of a wide one, then all spaces.
        register = Signal(32)
        slot_half = Signal(32)
        m.d.sync += slot_half.eq(Mux(address[0], loss.host_read.data[32:], loss.host_read.data[:32]))
        with m.Switch(address[:register_bits]):
            for number, value in (
                (Register.GENERATOR_LOW, sweep.generator[:32]),
                (Register.GENERATOR_HIGH, sweep.generator[32:]),
                (Register.RATE, coefficient.rate),
                (Register.RATE_STEP, coefficient.rate_step),
                (Register.SCALE_LOW, coefficient.scale[:32]),
                (Register.SCALE_HIGH, coefficient.scale[32:]),
            ):
                with m.Case(number):
                    m.d.sync += register.eq(value)
        with m.Switch(space):
            for source, value in (
                (Space.REGISTER, register),
                (Space.PROGRAM, sequencer.program_word),
                (Space.MASTER, store.host_read),
                (Space.MOMENTUM, store.host_read),
                (Space.LANE, engine.lane_read.data),
                (Space.LOSS, slot_half),
                (Space.HISTORY, coefficient.history_data),
            ):
                with m.Case(source):
                    m.d.sync += self.host.read_data.eq(value)


def _log2(power_of_two: int) -> int:
    return power_of_two.bit_length() - 1
