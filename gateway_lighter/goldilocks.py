"""The Goldilocks field GF(p) and its extension GF(p^5) = GF(p)[z] / (z^5 - 3). Pure.

An element of the extension is one Python integer that holds five limbs of `LIMB` bits, so that a product of two
elements is one product of two integers. Sums are left unreduced: a limb may grow to `LOOSE_BITS` bits before the
next `mul`, whose result is reduced again. Only `mul`, `square`, `invert`, `reduce` and `pack` give canonical limbs.
Source of the field: venue reference section 8; p = 2^64 - 2^32 + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

P: Final = 2**64 - 2**32 + 1
NON_RESIDUE: Final = 3
FROBENIUS_ROOT: Final = 1041288259238279555
"""z^p = FROBENIUS_ROOT * z."""

LIMB: Final = 180
LOOSE_BITS: Final = 86
"""5 * 3 * (2^86)^2 still fits a limb."""

BYTES: Final = 40
_MASK: Final = (1 << LIMB) - 1
_L2, _L3, _L4, _L5 = 2 * LIMB, 3 * LIMB, 4 * LIMB, 5 * LIMB
_LOW4: Final = (1 << _L4) - 1
_LOW5: Final = (1 << _L5) - 1
_ROOTS: Final = tuple(pow(FROBENIUS_ROOT, i, P) for i in range(5))
_ROOTS2: Final = tuple(root * root % P for root in _ROOTS)

ZERO: Final = 0
ONE: Final = 1


def pack(limbs: Sequence[int]) -> int:
    """The element with these five coefficients, lowest power of z first."""
    a, b, c, d, e = (limb % P for limb in limbs)
    return a | b << LIMB | c << _L2 | d << _L3 | e << _L4


def unpack(element: int) -> tuple[int, int, int, int, int]:
    """The five coefficients, each in 0..p-1."""
    return (
        (element & _MASK) % P,
        ((element >> LIMB) & _MASK) % P,
        ((element >> _L2) & _MASK) % P,
        ((element >> _L3) & _MASK) % P,
        (element >> _L4) % P,
    )


def reduce(element: int) -> int:
    """The same element with canonical limbs."""
    return pack(unpack(element))


SUB_BIAS: Final = sum((64 * P) << (LIMB * i) for i in range(5))
"""Add it before subtracting elements whose limbs together stay below 64 p; it is a multiple of p in every limb."""


def mul(a: int, b: int) -> int:
    """Product of two elements with loose limbs; canonical."""
    c = a * b
    c = (c & _LOW5) + NON_RESIDUE * (c >> _L5)
    return (
        (c & _MASK) % P
        | ((c >> LIMB) & _MASK) % P << LIMB
        | ((c >> _L2) & _MASK) % P << _L2
        | ((c >> _L3) & _MASK) % P << _L3
        | (c >> _L4) % P << _L4
    )


def times_z(a: int) -> int:
    """a * z, loose: no limb grows by more than a factor of three."""
    return ((a & _LOW4) << LIMB) + NON_RESIDUE * (a >> _L4)


def sub(a: int, b: int) -> int:
    """a - b, loose; the limbs of `b` are below 64 p."""
    return a + SUB_BIAS - b


def _frobenius(a: int, roots: Sequence[int]) -> int:
    return pack([limb * root for limb, root in zip(unpack(a), roots, strict=True)])


def _conjugates(a: int) -> int:
    """a to the power p + p^2 + p^3 + p^4: the product of all other conjugates."""
    once = _frobenius(a, _ROOTS)
    twice = mul(once, _frobenius(once, _ROOTS))
    return mul(twice, _frobenius(twice, _ROOTS2))


def invert(a: int) -> int:
    """1 / a; zero for zero."""
    others = _conjugates(a)
    norm = mul(a, others) & _MASK
    return mul(others, pow(norm, -1, P)) if norm else ZERO


def power(a: int, exponent: int) -> int:
    """a to a non-negative power."""
    result = ONE
    for bit in bin(exponent)[2:]:
        result = mul(result, result)
        if bit == "1":
            result = mul(result, a)
    return result


def is_square(a: int) -> bool:
    """Whether `a` has a square root; true for zero."""
    norm = mul(a, _conjugates(a)) & _MASK
    return norm == 0 or pow(norm, (P - 1) // 2, P) == 1


def square_root(a: int) -> int | None:
    """A square root of `a`, or None.

    With r = (p^5 - 1) / (p - 1), which is odd, a^r is the norm and lies in GF(p), so that
    sqrt(a) = sqrt(norm) / a^((r - 1) / 2) and (r - 1) / 2 = p (1 + p^2) (p + 1) / 2.
    """
    if reduce(a) == ZERO:
        return ZERO
    root_of_norm = _base_square_root(mul(a, _conjugates(a)) & _MASK)
    if root_of_norm is None:
        return None
    half = _frobenius(power(a, (P + 1) // 2), _ROOTS)
    half = mul(half, _frobenius(half, _ROOTS2))
    return mul(invert(half), root_of_norm)


_TWO_ADICITY: Final = 32
_ODD_PART: Final = (P - 1) >> _TWO_ADICITY
_TWO_POWER_ROOT: Final = pow(7, _ODD_PART, P)
"""Of order 2^32: 7 generates the multiplicative group."""


def _base_square_root(value: int) -> int | None:
    """Tonelli and Shanks in GF(p)."""
    if pow(value, (P - 1) // 2, P) != 1:
        return None
    root = pow(value, (_ODD_PART + 1) // 2, P)
    rest, order, generator = pow(value, _ODD_PART, P), _TWO_ADICITY, _TWO_POWER_ROOT
    while rest != 1:
        step, probe = 0, rest
        while probe != 1:
            probe, step = probe * probe % P, step + 1
        factor = pow(generator, 1 << (order - step - 1), P)
        root, order, generator = root * factor % P, step, factor * factor % P
        rest = rest * generator % P
    return root


def to_bytes(element: int) -> bytes:
    """Five little-endian u64, lowest power of z first."""
    return b"".join(limb.to_bytes(8, "little") for limb in unpack(element))


def limbs_of(data: bytes) -> tuple[int, ...]:
    """Little-endian u64 values of `data`, whose length is a multiple of eight; not reduced."""
    return tuple(int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8))


def from_bytes(data: bytes) -> int | None:
    """The element `to_bytes` writes as `data`, or None for other lengths and for limbs of p or more."""
    limbs = limbs_of(data)
    if len(data) != BYTES or any(limb >= P for limb in limbs):
        return None
    return pack(limbs)
