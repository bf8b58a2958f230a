"""The prime-order group ECgFp5: points of y^2 = x (x^2 + 2 x + 263 z) over GF(p^5) outside the odd subgroup. Pure.

Group elements are held as fractions (X : Z : U : T), x = X / Z and x / y = U / T; the neutral element is the point
(0, 0), encoded as zero. The addition is complete: one formula for every pair.
Source: T. Pornin, "EcGFp5: a Specialized Elliptic Curve", 2022; checked with the recorded test vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from simulator.lighter.signing import quintic as q
from simulator.lighter.signing.poseidon2 import P
from simulator.lighter.signing.quintic import Element

A = 2
B: Element = (0, 263, 0, 0, 0)
ORDER = 1067993516717146951041484916571792702745057740581727230159139685185762082554198619328292418486241
BITS = 320
WINDOW = 5


class Point(NamedTuple):
    """A group element in fractional coordinates."""

    x: Element
    z: Element
    u: Element
    t: Element


NEUTRAL = Point(q.ZERO, q.ONE, q.ZERO, q.ONE)
GENERATOR = Point(
    (
        12883135586176881569,
        4356519642755055268,
        5248930565894896907,
        2165973894480315022,
        2448410071095648785,
    ),
    q.ONE,
    q.ONE,
    (4, 0, 0, 0, 0),
)


def _times_b(a: Element) -> Element:
    """a * 263 z."""
    return (a[4] * 789 % P, a[0] * 263 % P, a[1] * 263 % P, a[2] * 263 % P, a[3] * 263 % P)


def add(left: Point, right: Point) -> Point:
    """left + right; ten multiplications."""
    mul, plus, minus = q.mul, q.add, q.sub
    t1, t2 = mul(left.x, right.x), mul(left.z, right.z)
    t3, t4 = mul(left.u, right.u), mul(left.t, right.t)
    t5 = minus(mul(plus(left.x, left.z), plus(right.x, right.z)), plus(t1, t2))
    t6 = minus(mul(plus(left.u, left.t), plus(right.u, right.t)), plus(t3, t4))
    bt2 = _times_b(t2)
    t7 = plus(t1, bt2)
    t8 = mul(t4, t7)
    t9 = q.scale(mul(t3, plus(_times_b(t5), t7)), 2)
    t10 = mul(plus(t4, plus(t3, t3)), plus(t5, t7))
    return Point(_times_b(minus(t10, t8)), minus(t8, t9), mul(t6, minus(bt2, t1)), plus(t8, t9))


def encode(point: Point) -> bytes:
    """w = y / x as forty bytes."""
    return q.encode(q.mul(point.t, q.invert(point.u)))


def decode(data: bytes) -> Point | None:
    """The group element of forty bytes, None when there is none."""
    w = q.decode(data)
    if w is None:
        return None
    if w == q.ZERO:
        return NEUTRAL
    e = q.sub(q.mul(w, w), (A, 0, 0, 0, 0))
    root = q.square_root(q.sub(q.mul(e, e), q.scale(B, 4)))
    if root is None:
        return None
    half = (P + 1) // 2
    x = q.scale(q.add(e, root), half)
    if q.is_square(x):  # the other root: a group element's x is never a square
        x = q.scale(q.sub(e, root), half)
    return Point(x, q.ONE, q.ONE, w)


class Multiples:
    """Multiples of one point by windows, so that a scalar multiplication is 64 additions and no doubling.

    Making the table costs about 2000 additions; it pays after a handful of uses.
    """

    def __init__(self, point: Point) -> None:
        self._rows: list[Sequence[Point]] = []
        base = point
        for _ in range(BITS // WINDOW):
            row = [NEUTRAL]
            for _ in range((1 << WINDOW) - 1):
                row.append(add(row[-1], base))
            self._rows.append(row)
            base = add(row[-1], base)

    def times(self, scalar: int, start: Point = NEUTRAL) -> Point:
        """start + scalar * point, 0 <= scalar < 2^320."""
        found = start
        for row in self._rows:
            digit = scalar & ((1 << WINDOW) - 1)
            if digit:
                found = add(found, row[digit])
            scalar >>= WINDOW
        return found
