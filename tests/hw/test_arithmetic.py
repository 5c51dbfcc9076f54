"""The gateware's number rules against ``numbers``, for signed and unsigned values of any width."""

import random

import pytest
from amaranth.hdl import Module, Shape, Signal, signed
from amaranth.sim import Simulator
from tenzo_hw import arithmetic, numbers


@pytest.mark.parametrize("seed", range(3))
def test_gateware_is_the_rule(seed):
    rng = random.Random(seed)
    m, cases = Module(), []
    for _ in range(60):
        shape = Shape(rng.randint(1, 12), signed=rng.random() < 0.7)
        shift, bits = rng.randint(0, 14), rng.randint(2, 14)
        value, rounded, clipped = Signal(shape), Signal(signed(20)), Signal(signed(20))
        m.d.comb += [rounded.eq(arithmetic.round_shift(value, shift)), clipped.eq(arithmetic.saturate(value, bits))]
        cases.append((value, shift, bits, rounded, clipped))

    async def bench(ctx):
        for value, shift, bits, rounded, clipped in cases:
            shape = value.shape()
            low = -(1 << shape.width - 1) if shape.signed else 0
            high = low + (1 << shape.width) - 1
            for given in [low, high, 0, *(rng.randint(low, high) for _ in range(60))]:
                ctx.set(value, given)
                assert ctx.get(rounded) == numbers.round_shift(given, shift), (shape, given, shift)
                assert ctx.get(clipped) == numbers.saturate(given, bits), (shape, given, bits)

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(("a_bits", "b_bits"), [(8, 8), (9, 5), (1, 7), (6, 1)])
def test_small_product(a_bits, b_bits):
    rng = random.Random(a_bits)
    m = Module()
    a, b, product = Signal(a_bits), Signal(b_bits), Signal(a_bits + b_bits)
    m.d.comb += product.eq(arithmetic.small_product(a, b))
    largest = (1 << a_bits) - 1, (1 << b_bits) - 1

    async def bench(ctx):
        for given in [(0, 0), largest, *((rng.randint(0, largest[0]), rng.randint(0, largest[1])) for _ in range(200))]:
            ctx.set(a, given[0])
            ctx.set(b, given[1])
            assert ctx.get(product) == given[0] * given[1]

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
