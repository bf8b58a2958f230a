"""The group of ECgFp5: y^2 = x (x^2 + 2x + 263 z) over GF(p^5), of prime order `ORDER`. Pure.

A point is kept as fractions (x : z, u : t) with u = x / y, which makes one addition formula complete. Its wire form
is w = y / x = t / u as 40 bytes; the neutral element is w = 0. Not constant in time: a signer's nonce must never be
used for two messages, and whoever can time single operations of this process is trusted with its keys.
Source: T. Pornin, "EcGFp5: a specialized elliptic curve"; venue reference section 8.2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from gateway_lighter.goldilocks import (
    LIMB,
    ONE,
    ZERO,
    P,
    invert,
    is_square,
    mul,
    pack,
    reduce,
    square_root,
    sub,
    times_z,
)

ORDER: Final = 1067993516717146951041484916571792702745057740581727230159139685185762082554198619328292418486241
ORDER_BITS: Final = 319
_A: Final = 2
_B: Final = 263
"""Coefficient of z in b."""

_WINDOW: Final = 5
_DIGITS: Final = -(-ORDER_BITS // _WINDOW)
_DIGIT_MASK: Final = (1 << _WINDOW) - 1

_TABLE_WINDOW: Final = 7
_TABLE_BASE: Final = 1 << _TABLE_WINDOW
_TABLE_HALF: Final = _TABLE_BASE // 2
_TABLE_DIGITS: Final = -(-(ORDER_BITS + 1) // _TABLE_WINDOW)


class Point(NamedTuple):
    """x / z and u / t, each an element of GF(p^5)."""

    x: int
    z: int
    u: int
    t: int


class _Affine(NamedTuple):
    """x and u, with denominators of one."""

    x: int
    u: int


NEUTRAL: Final = Point(ZERO, ONE, ZERO, ONE)
GENERATOR: Final = Point(
    pack(
        (
            12883135586176881569,
            4356519642755055268,
            5248930565894896907,
            2165973894480315022,
            2448410071095648785,
        )
    ),
    ONE,
    ONE,
    4,
)


def add(p: Point, q: Point) -> Point:
    """Sum of any two points."""
    t1, t2, t3, t4 = mul(p.x, q.x), mul(p.z, q.z), mul(p.u, q.u), mul(p.t, q.t)
    t5 = sub(mul(p.x + p.z, q.x + q.z), t1 + t2)
    t6 = sub(mul(p.u + p.t, q.u + q.t), t3 + t4)
    return _finish(t1, t2, t3, t4, t5, t6)


def _add_affine(p: Point, q: _Affine) -> Point:
    t1, t3 = mul(p.x, q.x), mul(p.u, q.u)
    return _finish(t1, p.z, t3, p.t, p.x + mul(q.x, p.z), p.u + mul(q.u, p.t))


def _finish(t1: int, t2: int, t3: int, t4: int, t5: int, t6: int) -> Point:
    bz = _B * times_z(t2)
    t7 = t1 + bz
    t8 = mul(t4, t7)
    t9 = mul(t3, 2 * (_B * times_z(t5) + t7))
    t10 = mul(t4 + 2 * t3, t5 + t7)
    return Point(reduce(_B * times_z(sub(t10, t8))), reduce(sub(t8, t9)), mul(t6, sub(bz, t1)), reduce(t8 + t9))


def double(p: Point) -> Point:
    """The sum of a point with itself."""
    t1 = mul(p.z, p.t)
    t2 = mul(t1, p.t)
    x1, z1, t3 = mul(t2, t2), mul(t1, p.u), mul(p.u, p.u)
    w1 = sub(t2, mul(2 * (p.x + p.z), t3))
    t4, z = mul(z1, z1), mul(w1, w1)
    rest = sub(2 * x1, 4 * t4 + z)
    return Point(reduce(4 * _B * times_z(t4)), z, sub(mul(w1 + z1, w1 + z1), t4 + z), reduce(rest))


def multiply(p: Point, scalar: int) -> Point:
    """`scalar` times a point, by windows of five bits."""
    scalar %= ORDER
    table = [NEUTRAL, p]
    while len(table) <= _DIGIT_MASK:
        table.append(add(table[-1], p))
    result = NEUTRAL
    for place in reversed(range(_DIGITS)):
        for _ in range(_WINDOW):
            result = double(result)
        if digit := (scalar >> (place * _WINDOW)) & _DIGIT_MASK:
            result = add(result, table[digit])
    return result


def multiply_generator(scalar: int) -> Point:
    """`scalar` times the generator: one addition per seven bits, from a table built at first use (about 80 ms).

    Digits run from -63 to 64: the negative of a point is at hand, and half of the table is enough.
    """
    scalar %= ORDER
    result = NEUTRAL
    for row in _generator_table():
        digit = scalar % _TABLE_BASE
        if digit > _TABLE_HALF:
            digit -= _TABLE_BASE
        scalar = (scalar - digit) >> _TABLE_WINDOW
        if digit > 0:
            result = _add_affine(result, row[digit - 1])
        elif digit < 0:
            point = row[-digit - 1]
            result = _add_affine(result, _Affine(point.x, sub(ZERO, point.u)))
    return result


@lru_cache(maxsize=1)
def _generator_table() -> tuple[tuple[_Affine, ...], ...]:
    points: list[Point] = []
    base = GENERATOR
    for _ in range(_TABLE_DIGITS):
        point = base
        for _ in range(_TABLE_HALF):
            points.append(point)
            point = add(point, base)
        base = double(points[-1])
    affine = _normalize(points)
    return tuple(tuple(affine[i : i + _TABLE_HALF]) for i in range(0, len(affine), _TABLE_HALF))


def _normalize(points: list[Point]) -> list[_Affine]:
    """All denominators away, with a single inversion."""
    products = [ONE]
    for point in points:
        products.append(mul(products[-1], mul(point.z, point.t)))
    inverse = invert(products[-1])
    affine: list[_Affine] = []
    for point, before in zip(reversed(points), reversed(products[:-1]), strict=True):
        own = mul(inverse, before)
        affine.append(_Affine(mul(point.x, mul(own, point.t)), mul(point.u, mul(own, point.z))))
        inverse = mul(inverse, mul(point.z, point.t))
    affine.reverse()
    return affine


def encode(p: Point) -> int:
    """The element w = t / u; zero for the neutral element."""
    return mul(p.t, invert(p.u))


def decode(w: int) -> Point | None:
    """The point whose encoding is `w`, or None when there is none.

    Of the two roots of x^2 - (w^2 - 2) x + 263 z, the one that is not a square names the group's element.
    """
    w = reduce(w)
    if w == ZERO:
        return NEUTRAL
    e = sub(mul(w, w), _A)
    root = square_root(sub(mul(e, e), 4 * _B << LIMB))
    if root is None:
        return None
    half = (P + 1) // 2
    x = mul(e + root, half)
    if is_square(x):
        x = mul(sub(e, root), half)
    return Point(x, ONE, ONE, w)


def same(p: Point, q: Point) -> bool:
    """Whether two representations name one element of the group."""
    return mul(p.u, q.t) == mul(q.u, p.t)
