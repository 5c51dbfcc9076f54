# amaranth: UnusedElaboratable=no
"""The vendor cells: generic twins against what they stand for, and how many cells an ECP5 or iCE40 spends on them.

That the cells do the same is shown on the netlist (tests/netlist).
"""

from __future__ import annotations

import random

import pytest
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.sim import Simulator
from tenzo_hw.cells import Accumulator, BlockRam, Copies, LargeRam, Multiplier, MultiplyAccumulate, Ram, Rom

CYCLES = 300


class Ecp5:
    """What the cells ask a platform for."""

    family = "ecp5"


class Ice40:
    """The same for the other family."""

    family = "iCE40"


def cells(component: wiring.Component, kind: str, platform: object = Ecp5()) -> int:
    return rtlil.convert(component, platform=platform, emit_src=False).count(f"cell \\{kind} ")


def simulate(component: wiring.Component, bench) -> None:
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize("registered_inputs", [True, False])
@pytest.mark.parametrize(("a_bits", "b_bits"), [(18, 18), (9, 9), (18, 12), (2, 5)])
def test_multiplier_twin(a_bits: int, b_bits: int, registered_inputs: bool, is_signed: bool) -> None:
    seed = 100 * a_bits + b_bits
    print(f"seed {seed}")
    rng = random.Random(seed)
    multiplier = Multiplier(a_bits=a_bits, b_bits=b_bits, registered_inputs=registered_inputs, is_signed=is_signed)
    latency = 1 + registered_inputs

    def word(bits: int) -> int:
        extremes = (-1 << (bits - 1), (1 << (bits - 1)) - 1) if is_signed else (0, (1 << bits) - 1)
        return rng.choice([*extremes, rng.randint(*extremes)])

    async def bench(ctx) -> None:
        expected = [0] * latency
        for _ in range(CYCLES):
            a, b = word(a_bits), word(b_bits)
            ctx.set(multiplier.a, a)
            ctx.set(multiplier.b, b)
            assert ctx.get(multiplier.o) == expected.pop(0)
            expected.append(a * b)
            await ctx.tick()

    simulate(multiplier, bench)


@pytest.mark.parametrize(("width", "depth", "parts"), [(18, 16, 1), (36, 8, 2), (9, 64, 1), (30, 32, 3), (5, 2, 5)])
def test_block_ram_twin(width: int, depth: int, parts: int) -> None:
    seed = width * depth
    print(f"seed {seed}")
    rng = random.Random(seed)
    ram = BlockRam(width=width, depth=depth, parts=parts)
    size = width // parts

    async def bench(ctx) -> None:
        words = [0] * depth
        expected = [0, 0]
        for _ in range(CYCLES):
            written, enables, data = rng.randrange(depth), rng.getrandbits(parts), rng.getrandbits(width)
            # A word that is being written is not read.
            read = rng.choice([address for address in range(depth) if address != written])
            ctx.set(ram.read_address, read)
            ctx.set(ram.write, enables)
            ctx.set(ram.write_address, written)
            ctx.set(ram.write_data, data)
            assert ctx.get(ram.read_data) == expected.pop(0)
            expected.append(words[read])
            for part in range(parts):
                if enables >> part & 1:
                    mask = ((1 << size) - 1) << part * size
                    words[written] = words[written] & ~mask | data & mask
            await ctx.tick()

    simulate(ram, bench)


@pytest.mark.parametrize(("width", "depth", "parts"), [(18, 16, 1), (36, 8, 2), (30, 32, 3)])
def test_block_ram_twin_has_another_writer(width: int, depth: int, parts: int) -> None:
    seed = width * depth + 1
    print(f"seed {seed}")
    rng = random.Random(seed)
    ram = BlockRam(width=width, depth=depth, parts=parts, other_writer=True)
    size = width // parts

    async def bench(ctx) -> None:
        words = [0] * depth
        expected: list[int | None] = [0, 0]
        for _ in range(CYCLES):
            address, data = rng.randrange(depth), rng.getrandbits(width)
            enables = rng.choice([0, 0, rng.getrandbits(parts)])
            ctx.set(ram.read_address, address)
            ctx.set(ram.write, 0)
            ctx.set(ram.other_write, enables)
            ctx.set(ram.other_data, data)
            before = expected.pop(0)
            assert before is None or ctx.get(ram.read_data) == before
            expected.append(None if enables else words[address])
            for part in range(parts):
                if enables >> part & 1:
                    mask = ((1 << size) - 1) << part * size
                    words[address] = words[address] & ~mask | data & mask
            await ctx.tick()

    simulate(ram, bench)


@pytest.mark.parametrize(("width", "depth"), [(26, 256), (36, 512), (1, 2)])
def test_rom_twin(width: int, depth: int) -> None:
    seed = width * depth
    print(f"seed {seed}")
    rng = random.Random(seed)
    words = [rng.getrandbits(width) for _ in range(depth)]
    rom = Rom(width=width, words=words)

    async def bench(ctx) -> None:
        expected: list[int] = []
        for _ in range(CYCLES):
            address = rng.randrange(depth)
            ctx.set(rom.read_address, address)
            expected.append(words[address])
            await ctx.tick()
            if len(expected) > 1:
                assert ctx.get(rom.read_data) == expected[-2]

    simulate(rom, bench)


@pytest.mark.parametrize(("bits", "i_bits"), [(48, 36), (5, 5), (8, 1)])
def test_accumulator_twin(bits: int, i_bits: int) -> None:
    seed = 100 * bits + i_bits
    print(f"seed {seed}")
    rng = random.Random(seed)
    accumulator = Accumulator(bits=bits, i_bits=i_bits)
    half = 1 << (bits - 1)

    async def bench(ctx) -> None:
        total = 0
        for _ in range(CYCLES):
            adds, given = rng.random() < 0.9, rng.randrange(-1 << (i_bits - 1), 1 << (i_bits - 1))
            ctx.set(accumulator.adds, adds)
            ctx.set(accumulator.i, given)
            assert ctx.get(accumulator.o) == total
            total = (total * adds + given + half) % (2 * half) - half
            await ctx.tick()

    simulate(accumulator, bench)


def test_copies_twin() -> None:
    copies = Copies(width=3, count=4)

    async def bench(ctx) -> None:
        before = 0
        for word in range(8):
            ctx.set(copies.i, word)
            assert [ctx.get(copies.o[number]) for number in range(4)] == [before] * 4
            before = word
            await ctx.tick()

    simulate(copies, bench)


@pytest.mark.parametrize(("width", "depth", "given"), [(16, 256, 100), (32, 8, 8), (5, 2, 0), (10, 512, 3)])
def test_ram_twin(width: int, depth: int, given: int) -> None:
    seed = width * depth
    print(f"seed {seed}")
    rng = random.Random(seed)
    words = [rng.getrandbits(width) for _ in range(given)]
    ram = Ram(width=width, depth=depth, init=words)
    words += [0] * (depth - given)

    async def bench(ctx) -> None:
        expected = None
        for _ in range(CYCLES):
            address, reads, writes, data = (
                rng.randrange(depth),
                rng.random() < 0.7,
                rng.random() < 0.5,
                rng.getrandbits(width),
            )
            written = rng.choice([place for place in range(depth) if place != address])
            ctx.set(ram.read_address, address)
            ctx.set(ram.read, reads)
            ctx.set(ram.write, writes)
            ctx.set(ram.write_address, written)
            ctx.set(ram.write_data, data)
            assert expected is None or ctx.get(ram.read_data) == expected
            expected = words[address] if reads else expected
            if writes:
                words[written] = data
            await ctx.tick()

    simulate(ram, bench)


def test_large_ram_twin() -> None:
    seed = 4
    print(f"seed {seed}")
    rng = random.Random(seed)
    ram = LargeRam(width=20, depth=16)

    async def bench(ctx) -> None:
        words = [0] * 16
        expected = None
        for _ in range(CYCLES):
            address, writes, data = rng.randrange(16), rng.random() < 0.5, rng.getrandbits(20)
            ctx.set(ram.address, address)
            ctx.set(ram.write, writes)
            ctx.set(ram.write_data, data)
            assert expected is None or ctx.get(ram.read_data) == expected
            expected = None if writes else words[address]
            if writes:
                words[address] = data
            await ctx.tick()

    simulate(ram, bench)


def test_multiply_accumulate_twin() -> None:
    seed = 5
    print(f"seed {seed}")
    rng = random.Random(seed)
    link = MultiplyAccumulate(a_bits=10, b_bits=9)
    half = 1 << 31

    async def bench(ctx) -> None:
        total = 0
        for _ in range(CYCLES):
            adds, given = rng.random() < 0.8, rng.randrange(-half, half)
            a, b = rng.randrange(-512, 512), rng.randrange(-256, 256)
            for port, value in ((link.adds, adds), (link.i, given), (link.a, a), (link.b, b)):
                ctx.set(port, value)
            assert ctx.get(link.o) == total
            total = (total + a * b + half) % (2 * half) - half if adds else given
            await ctx.tick()

    simulate(link, bench)


def test_ice40_memories() -> None:
    platform = Ice40()
    assert cells(Ram(width=32, depth=256), "SB_RAM40_4K", platform) == 2
    assert cells(Ram(width=32, depth=257), "SB_RAM40_4K", platform) == 0
    assert cells(LargeRam(width=32, depth=1 << 14), "SB_SPRAM256KA", platform) == 2
    assert cells(LargeRam(width=16, depth=1 << 15), "SB_SPRAM256KA", platform) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ram(width=0, depth=4), "width=0, depth=4 with 0 words in it is not possible"),
        (lambda: Ram(width=4, depth=2, init=[1, 2, 3]), "width=4, depth=2 with 3 words in it is not possible"),
        (lambda: LargeRam(width=4, depth=12), "width=4, depth=12 is not possible"),
    ],
)
def test_impossible_memories_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_ecp5_copies_and_accumulators() -> None:
    assert cells(Copies(width=3, count=4), "TRELLIS_FF") == 12
    assert cells(Accumulator(bits=48, i_bits=36), "CCU2C") == 24
    assert cells(Accumulator(bits=5, i_bits=5), "CCU2C") == 3


def test_ecp5_roms() -> None:
    assert cells(Rom(width=36, words=[1] * 512), "DP16KD") == 1
    assert cells(Rom(width=37, words=[1] * 512), "DP16KD") == 0
    assert cells(Rom(width=8, words=[1] * 1024), "DP16KD") == 0


@pytest.mark.parametrize(
    ("width", "depth", "parts", "count"),
    [
        (18, 16, 1, 1),
        (36, 512, 2, 1),
        (18, 1024, 1, 1),
        (18, 2048, 1, 2),
        (9, 8192, 1, 4),
        (198, 2048, 1, 22),
        (352, 1024, 11, 22),
        (264, 1024, 11, 17),
        (1, 16384, 1, 1),
        (9, 32768, 1, 16),
    ],
)
def test_ecp5_block_rams(width: int, depth: int, parts: int, count: int) -> None:
    assert cells(BlockRam(width=width, depth=depth, parts=parts), "DP16KD") == count


def test_ecp5_multipliers() -> None:
    assert cells(Multiplier(a_bits=18, b_bits=18), "MULT18X18D") == 1
    assert cells(Multiplier(a_bits=19, b_bits=18), "MULT18X18D") == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Multiplier(a_bits=1, b_bits=4), "a_bits=1"),
        (lambda: Multiplier(a_bits=4, b_bits=0), "b_bits=0"),
        (lambda: BlockRam(width=0, depth=4), "width=0"),
        (lambda: BlockRam(width=4, depth=3), "depth=3"),
        (lambda: BlockRam(width=4, depth=4, parts=3), "parts=3"),
        (lambda: Accumulator(bits=4, i_bits=5), "i_bits=5"),
        (lambda: Copies(width=0, count=2), "width=0"),
        (lambda: Copies(width=1, count=0), "count=0"),
        (lambda: Rom(width=4, words=[0, 1, 2]), "3 words"),
        (lambda: Rom(width=4, words=[0, 16]), "width=4"),
        (lambda: Rom(width=4, words=[0, -1]), "width=4"),
    ],
)
def test_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
