"""The curve: recorded vectors, and the laws of a group of prime order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_lighter import ecgfp5 as curve
from gateway_lighter.goldilocks import from_bytes, pack, to_bytes
from tests.unit.gateway_lighter.support import needs_recordings, vectors

scalars = st.one_of(st.integers(0, curve.ORDER - 1), st.sampled_from([0, 1, 2, 31, 32, curve.ORDER - 1]))
BOUNDED = settings(max_examples=12, deadline=None)


def point(text: str) -> curve.Point:
    """The point whose encoding is this hex."""
    w = from_bytes(bytes.fromhex(text))
    assert w is not None
    found = curve.decode(w)
    assert found is not None
    return found


def hex_of(p: curve.Point) -> str:
    """Its encoding."""
    return to_bytes(curve.encode(p)).hex()


@needs_recordings
def test_decoding_equals_the_recorded_vectors() -> None:
    """What decodes encodes back to the same bytes; what is no point is refused."""
    found = vectors("curve_ecgfp5_vectors")["decode"]
    assert {vector["decodes"] for vector in found} == {True, False}
    for vector in found:
        w = from_bytes(bytes.fromhex(vector["w"]))
        decoded = None if w is None else curve.decode(w)
        assert (decoded is not None) == vector["decodes"]
        if decoded is not None:
            assert hex_of(decoded) == vector["encoded_back"]
            assert curve.same(decoded, curve.NEUTRAL) == vector["is_neutral"]


@needs_recordings
def test_addition_and_doubling_equal_the_recorded_vectors() -> None:
    """The complete formula also doubles."""
    found = vectors("curve_ecgfp5_vectors")["add"]
    assert found
    for vector in found:
        a, b = point(vector["a_w"]), point(vector["b_w"])
        assert hex_of(curve.add(a, b)) == vector["sum_w"]
        assert hex_of(curve.double(a)) == hex_of(curve.add(a, a)) == vector["a_double_w"]


@needs_recordings
def test_scalar_product_equals_the_recorded_vectors() -> None:
    """Scalars are taken modulo the order."""
    for vector in vectors("curve_ecgfp5_vectors")["scalar_mul"]:
        scalar = int.from_bytes(bytes.fromhex(vector["scalar_le"]), "little")
        assert hex_of(curve.multiply(point(vector["base_w"]), scalar)) == vector["out_w"]


@needs_recordings
def test_scalar_arithmetic_equals_the_recorded_vectors() -> None:
    """The order is the one the venue computes with."""
    for vector in vectors("curve_ecgfp5_vectors")["scalar_ops"]:
        value = {
            name: int.from_bytes(bytes.fromhex(vector[name]), "little") for name in ("a", "b", "add", "sub", "mul")
        }
        a, b, n = value["a"], value["b"], curve.ORDER
        assert ((a + b) % n, (a - b) % n, a * b % n) == (value["add"], value["sub"], value["mul"])


def test_generator_has_the_group_order() -> None:
    """n G is neutral and (n - 1) G is not."""
    assert curve.same(curve.multiply(curve.GENERATOR, curve.ORDER), curve.NEUTRAL)
    last = curve.multiply(curve.GENERATOR, curve.ORDER - 1)
    assert not curve.same(last, curve.NEUTRAL)
    assert curve.same(curve.add(last, curve.GENERATOR), curve.NEUTRAL)


@given(a=scalars, b=scalars)
@BOUNDED
def test_multiples_of_the_generator_add_as_their_scalars(a: int, b: int) -> None:
    """Table, window and formula agree: (a + b) G = a G + b G."""
    total = curve.add(curve.multiply_generator(a), curve.multiply(curve.GENERATOR, b))
    assert curve.same(total, curve.multiply_generator(a + b))


@pytest.mark.parametrize("digit", [0, 1, 63, 64, 65, 127, 128])
@pytest.mark.parametrize("place", [0, 1, 44, 45])
@pytest.mark.parametrize("sign", [1, -1])
def test_every_edge_of_a_digit_of_the_table_carries_over(digit: int, place: int, sign: int) -> None:
    """Digits beyond 64 are taken as negative ones and carry into the next; the last one has room for it."""
    scalar = sign * (digit << (7 * place)) % curve.ORDER
    assert curve.same(curve.multiply_generator(scalar), curve.multiply(curve.GENERATOR, scalar))


@given(a=scalars)
@BOUNDED
def test_encoding_decodes_to_the_same_point(a: int) -> None:
    """Forty bytes name one element of the group."""
    p = curve.multiply_generator(a)
    decoded = curve.decode(curve.encode(p))
    assert decoded is not None and curve.same(decoded, p)


@pytest.mark.parametrize("w", [pack((1, 0, 0, 0, 0)), pack((2, 0, 0, 0, 0)), pack((3, 0, 0, 0, 0))])
def test_field_elements_that_are_no_encoding_are_none_or_round_trip(w: int) -> None:
    """Whatever is decoded encodes back."""
    p = curve.decode(w)
    assert p is None or curve.encode(p) == w


def test_neutral_element_is_zero_on_the_wire() -> None:
    """And adding it changes nothing."""
    assert curve.encode(curve.NEUTRAL) == 0
    assert curve.same(curve.add(curve.NEUTRAL, curve.GENERATOR), curve.GENERATOR)
    assert curve.same(curve.multiply_generator(0), curve.NEUTRAL)
