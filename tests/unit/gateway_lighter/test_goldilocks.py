"""The fields: recorded vectors, and the laws of a field."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_lighter import goldilocks as field
from tests.unit.gateway_lighter.support import needs_recordings, vectors

limbs = st.one_of(st.integers(0, field.P - 1), st.sampled_from([0, 1, 2, 2**32 - 1, 2**32, field.P - 2, field.P - 1]))
elements = st.tuples(limbs, limbs, limbs, limbs, limbs).map(field.pack)
BOUNDED = settings(max_examples=60, deadline=None)


def read(text: str) -> int:
    """An element from the vectors' hex; limbs there may be p or more."""
    return field.pack(field.limbs_of(bytes.fromhex(text)))


@needs_recordings
def test_base_field_equals_the_recorded_vectors() -> None:
    """Sum, difference, product, inverse and power of single limbs, which are elements of the extension too."""
    found = vectors("field_goldilocks_vectors")
    assert found
    for vector in found:
        a, b = (int.from_bytes(bytes.fromhex(vector[name]), "little") % field.P for name in ("a", "b"))
        expected = {
            name: int.from_bytes(bytes.fromhex(vector[name]), "little") % field.P
            for name in ("add", "sub", "mul", "neg_a", "inv_a", "pow_a_e")
        }
        assert field.reduce(a + b) == expected["add"]
        assert field.reduce(field.sub(a, b)) == expected["sub"]
        assert field.reduce(field.sub(0, a)) == expected["neg_a"]
        assert field.mul(a, b) == expected["mul"]
        assert field.invert(a) == expected["inv_a"]
        assert field.power(a, int(vector["e"])) == expected["pow_a_e"]
        assert (a == b) == vector["a_eq_b"]


@needs_recordings
def test_quintic_field_equals_the_recorded_vectors() -> None:
    """The same in the extension."""
    found = vectors("field_quintic_vectors")
    assert found
    for vector in found:
        a, b = read(vector["a"]), read(vector["b"])
        assert field.reduce(a + b) == read(vector["add"])
        assert field.reduce(field.sub(a, b)) == read(vector["sub"])
        assert field.reduce(field.sub(0, a)) == read(vector["neg_a"])
        assert field.mul(a, b) == read(vector["mul"])
        assert field.invert(a) == read(vector["inv_a"])
        assert field.power(a, int(vector["e"])) == read(vector["pow_a_e"])
        assert (a == b) == vector["a_eq_b"]


def test_z_to_the_fifth_is_three() -> None:
    """The defining relation, and `times_z` as a product with z."""
    z = 1 << field.LIMB
    assert field.power(z, 5) == field.NON_RESIDUE
    assert field.reduce(field.times_z(field.pack((1, 2, 3, 4, 5)))) == field.pack((15, 1, 2, 3, 4))


def test_frobenius_root_is_the_one_of_this_extension() -> None:
    """z^p = root * z."""
    z = 1 << field.LIMB
    assert field.power(z, field.P) == field.mul(z, field.FROBENIUS_ROOT)


@given(a=elements, b=elements, c=elements)
@BOUNDED
def test_product_is_commutative_associative_and_distributive(a: int, b: int, c: int) -> None:
    """The laws of a ring, with unreduced sums as operands."""
    assert field.mul(a, b) == field.mul(b, a)
    assert field.mul(field.mul(a, b), c) == field.mul(a, field.mul(b, c))
    assert field.mul(a, b + c) == field.reduce(field.mul(a, b) + field.mul(a, c))
    assert field.reduce(field.sub(a + b, b)) == a


@given(a=elements)
@BOUNDED
def test_inverse_and_square_root_undo(a: int) -> None:
    """a / a is one, and the root of a square squares back; a non-square has none."""
    square = field.mul(a, a)
    root = field.square_root(square)
    assert root is not None and field.mul(root, root) == square and field.is_square(square)
    assert field.mul(a, field.invert(a)) == (field.ONE if a else field.ZERO)
    # 7 generates the base field's group and 5 is odd, so that 7 stays a non-square in the extension.
    assert a == 0 or field.square_root(field.mul(square, 7)) is None


@given(a=elements)
@BOUNDED
def test_limbs_at_the_loose_bound_still_multiply_exactly(a: int) -> None:
    """A limb of LOOSE_BITS bits does not spill into its neighbour."""
    loose = sum(((1 << field.LOOSE_BITS) - 1) << (field.LIMB * i) for i in range(5))
    assert field.mul(loose, loose) == field.mul(field.reduce(loose), field.reduce(loose))
    assert field.mul(loose, a) == field.mul(field.reduce(loose), a)


@given(a=elements)
@BOUNDED
def test_bytes_round_trip(a: int) -> None:
    """Forty bytes, five little-endian words."""
    assert field.from_bytes(field.to_bytes(a)) == a


@pytest.mark.parametrize("raw", [b"", bytes(39), bytes(41), b"\xff" * 8 + bytes(32), field.P.to_bytes(8, "little") * 5])
def test_bytes_of_no_element_are_none(raw: bytes) -> None:
    """Another length, or a limb of p or more."""
    assert field.from_bytes(raw) is None
