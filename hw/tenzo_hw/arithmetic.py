"""The number rules of ``numbers`` as gateware: combinational, of any width; see there for what they mean."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Mux, Value, ValueLike


def _signed(value: ValueLike) -> Value:
    value = Value.cast(value)
    return value if value.shape().signed else Cat(value, 0).as_signed()


def round_shift(value: ValueLike, shift: int) -> Value:
    """``value / 2**shift`` rounded half up, one bit wider than the shifted value; ``shift`` >= 0 is a constant."""
    value = _signed(value)
    if shift == 0:
        return value
    # Adding the last bit shifted out is the same as adding a half before, with a shorter carry chain.
    carry = value[shift - 1] if shift <= len(value) else value[-1]
    return (value >> shift) + carry


def saturate(value: ValueLike, bits: int) -> Value:
    """``value`` clipped to a signed word of ``bits`` bits: the bits above the word say whether it fits."""
    value = _signed(value)
    if len(value) <= bits:
        return value
    sign = value[-1]
    fits = value[bits - 1 :] == sign.replicate(len(value) - bits + 1)
    return Mux(fits, value[:bits], Cat((~sign).replicate(bits - 1), sign)).as_signed()


def small_product(a: Value, b: Value) -> Value:
    """The product of two unsigned factors as a tree of adders: for narrow ones, where DSP blocks are few."""
    terms: list[Value] = [Cat(C(0, place), Mux(bit, a, 0)) for place, bit in enumerate(b)]
    while len(terms) > 1:
        pairs = zip(terms[::2], [*terms[1::2], C(0, 1)], strict=False)
        terms = [one + other for one, other in pairs]
    return terms[0][: len(a) + len(b)]
