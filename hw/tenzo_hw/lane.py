"""A lane: the activations of one sample, C multiply-accumulators, the drain and its epilogue."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .epilogue import Epilogue
from .isa import Contract
from .timing import epilogue_latency


class Reading(data.Struct):
    """Which activation a row reads, as it travels from lane to lane."""

    address: unsigned(15)
    from_batch: unsigned(1)
    half: unsigned(1)


class Multiplying(data.Struct):
    """What the multipliers do with a row, together with its weights."""

    row: unsigned(1)
    first: unsigned(1)
    last: unsigned(1)
    bias: unsigned(1)
    one: unsigned(Contract.FIELDS["one"].width)
    from_batch: unsigned(1)


class Draining(data.Struct):
    """What becomes of the next drained result."""

    valid: unsigned(1)
    address: unsigned(15)
    store: unsigned(1)
    to_loss: unsigned(1)
    shift: unsigned(Contract.FIELDS["shift"].width)
    activation: unsigned(Contract.FIELDS["activation"].width)


def chain_layout(config: Config) -> data.StructLayout:
    """What a lane hands to the next one, a cycle later."""
    lane = range(config.lanes)
    return data.StructLayout(
        {
            "reading": Reading,
            "multiplying": Multiplying,
            "weights": data.ArrayLayout(signed(config.word), config.columns),
            "draining": Draining,
            "batch_write": data.StructLayout(
                {
                    "strobe": 1,
                    "lane": lane,
                    "half": 1,
                    "address": range(config.batch_depth),
                    "data": signed(config.input_word),
                }
            ),
            "table_write": data.StructLayout(
                {
                    "value": 1,
                    "slope": 1,
                    "address": range(max(config.tables, 1) << config.table_bits),
                    "data": signed(config.word + 1),
                }
            ),
            "host_lane": lane,
            "host_data": signed(config.word),
        }
    )


#: Cycles from a row's address in a lane's register to its activation at the multipliers: memory, output register,
#: operand register. Weights and ``Multiplying`` enter the lane that much later than ``Reading``.
READ_CYCLES = 3
#: Cycles from a row at the multipliers to its result in the drain registers: product, sum.
SUM_CYCLES = 2


class Lane(wiring.Component):
    """One lane of the contraction engine.

    Everything arrives by ``chain_i``, is registered once, used, and goes on by ``chain_o``: wires are as long as the
    way to the neighbour. Lane l does what lane 0 does l cycles later. The activation memory has one read port, used by
    the rows of a contraction and by the host while nothing runs, and one write port for results.

    A row that ``Reading`` brings in cycle t meets the weights of cycle t + READ_CYCLES; after the last row of
    a tile the C sums move to the drain registers, whence each ``Draining`` takes one, column 0 first, while the next
    tile adds up. ``result`` is the drained word if it goes to the loss accumulator.
    """

    def __init__(self, *, config: Config, number: int) -> None:
        self.config = config
        self.number = number
        chain = chain_layout(config)
        super().__init__(
            {
                "chain_i": In(chain),
                "chain_o": Out(chain),
                "result": Out(data.StructLayout({"valid": 1, "value": signed(config.word)})),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Chain register, activation memories, multipliers, drain, epilogue and write-back."""
        config = self.config
        m = Module()
        chain = Signal(chain_layout(config))
        m.d.sync += chain.eq(self.chain_i)
        m.d.comb += self.chain_o.eq(chain)

        operand = self._operand(m, chain)
        drained = self._multiply(m, chain, operand)
        self._drain(m, chain, drained)
        return m

    def _operand(self, m: Module, chain: Signal) -> Signal:
        """The activation at the multipliers. (Here an operand prologue would form it from several words.)"""
        config = self.config
        m.submodules.activations = self._activations = activations = memory.Memory(
            shape=signed(config.word), depth=config.lane_depth, init=[]
        )
        m.submodules.batch = batch = memory.Memory(
            shape=signed(config.input_word), depth=2 * config.batch_depth, init=[]
        )
        reading, write = chain.reading, chain.batch_write
        batch_writer = batch.write_port()
        m.d.comb += [
            batch_writer.addr.eq(Cat(write.address, write.half)),
            batch_writer.data.eq(write.data),
            batch_writer.en.eq(write.strobe & (write.lane == self.number)),
        ]
        stored = Signal(signed(config.word))
        received = Signal(signed(config.input_word))
        activation_reader = activations.read_port(transparent_for=())
        batch_reader = batch.read_port(transparent_for=())
        m.d.comb += [
            activation_reader.addr.eq(reading.address),
            batch_reader.addr.eq(Cat(reading.address[: config.batch_depth.bit_length() - 1], reading.half)),
        ]
        m.d.sync += [stored.eq(activation_reader.data), received.eq(batch_reader.data)]
        # The host reads through the same port and gets the word of its lane along the chain.
        m.d.comb += [activation_reader.en.eq(1), batch_reader.en.eq(1)]
        with m.If(chain.host_lane == self.number):
            m.d.comb += self.chain_o.host_data.eq(stored)

        # Multiplying comes with the weights: at the lane's input one cycle before the operand register is used.
        coming = self.chain_i.multiplying
        operand = Signal(signed(config.word))
        m.d.sync += operand.eq(Mux(coming.bias, 1 << coming.one, Mux(coming.from_batch, received, stored)))
        return operand

    def _multiply(self, m: Module, chain: Signal, operand: Signal) -> Signal:
        """C products and sums; returns the first drain register."""
        config = self.config
        multiplying = chain.multiplying
        adding = Signal(Multiplying)
        m.d.sync += adding.eq(multiplying)
        drain = [Signal(signed(config.accumulator), name=f"drain{column}") for column in range(config.columns)]
        for column in range(config.columns):
            product = Signal(signed(2 * config.word), name=f"product{column}")
            acc = Signal(signed(config.accumulator), name=f"acc{column}")
            total = Signal(signed(config.accumulator), name=f"total{column}")
            m.d.comb += total.eq(Mux(adding.first, 0, acc) + product)
            with m.If(multiplying.row):
                m.d.sync += product.eq(operand * chain.weights[column])
            with m.If(adding.row):
                m.d.sync += acc.eq(total)
            with m.If(adding.row & adding.last):
                m.d.sync += drain[column].eq(total)
            if column + 1 < config.columns:
                with m.Elif(chain.draining.valid):
                    m.d.sync += drain[column].eq(drain[column + 1])
        return drain[0]

    def _drain(self, m: Module, chain: Signal, drained: Signal) -> None:
        """Drained results through the epilogue to the memory and the loss accumulator."""
        config = self.config
        m.submodules.epilogue = epilogue = Epilogue(config=config)
        draining, table_write = chain.draining, chain.table_write
        m.d.comb += [
            epilogue.acc.eq(drained),
            epilogue.shift.eq(draining.shift),
            epilogue.activation.eq(draining.activation),
            epilogue.table_value_write.eq(table_write.value),
            epilogue.table_slope_write.eq(table_write.slope),
            epilogue.table_address.eq(table_write.address),
            epilogue.table_data.eq(table_write.data),
        ]
        writing = draining
        for cycle in range(epilogue_latency(config)):
            late = Signal(Draining, name=f"writing{cycle}")
            m.d.sync += late.eq(writing)
            writing = late
        writer = self._activations.write_port()
        m.d.comb += [
            writer.addr.eq(writing.address),
            writer.data.eq(epilogue.y),
            writer.en.eq(writing.valid & writing.store),
            self.result.valid.eq(writing.valid & writing.to_loss),
            self.result.value.eq(epilogue.y),
        ]
