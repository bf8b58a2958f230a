"""GF(p^5): polynomials of degree four over Goldilocks modulo z^5 - 3. Pure.

An element is a tuple of five integers below p, the constant first; on the wire five little-endian 64-bit limbs.
"""

from __future__ import annotations

from simulator.lighter.signing.poseidon2 import P

Element = tuple[int, int, int, int, int]

ZERO: Element = (0, 0, 0, 0, 0)
ONE: Element = (1, 0, 0, 0, 0)
NON_RESIDUE = 3
_ROOT = pow(NON_RESIDUE, (P - 1) // 5, P)  # z^p = _ROOT * z
_GENERATOR = 7  # of the multiplicative group of Goldilocks
_ODD = (P - 1) >> 32


def add(a: Element, b: Element) -> Element:
    """a + b."""
    return ((a[0] + b[0]) % P, (a[1] + b[1]) % P, (a[2] + b[2]) % P, (a[3] + b[3]) % P, (a[4] + b[4]) % P)


def sub(a: Element, b: Element) -> Element:
    """a - b."""
    return ((a[0] - b[0]) % P, (a[1] - b[1]) % P, (a[2] - b[2]) % P, (a[3] - b[3]) % P, (a[4] - b[4]) % P)


def neg(a: Element) -> Element:
    """-a."""
    return sub(ZERO, a)


def mul(a: Element, b: Element) -> Element:
    """a * b."""
    a0, a1, a2, a3, a4 = a
    b0, b1, b2, b3, b4 = b
    return (
        (a0 * b0 + 3 * (a1 * b4 + a2 * b3 + a3 * b2 + a4 * b1)) % P,
        (a0 * b1 + a1 * b0 + 3 * (a2 * b4 + a3 * b3 + a4 * b2)) % P,
        (a0 * b2 + a1 * b1 + a2 * b0 + 3 * (a3 * b4 + a4 * b3)) % P,
        (a0 * b3 + a1 * b2 + a2 * b1 + a3 * b0 + 3 * a4 * b4) % P,
        (a0 * b4 + a1 * b3 + a2 * b2 + a3 * b1 + a4 * b0) % P,
    )


def scale(a: Element, k: int) -> Element:
    """a times an integer."""
    return (a[0] * k % P, a[1] * k % P, a[2] * k % P, a[3] * k % P, a[4] * k % P)


def power(a: Element, exponent: int) -> Element:
    """a ** exponent for exponent >= 0."""
    found = ONE
    while exponent:
        if exponent & 1:
            found = mul(found, a)
        a = mul(a, a)
        exponent >>= 1
    return found


def _frobenius(a: Element) -> Element:
    """a ** p."""
    r2 = _ROOT * _ROOT % P
    r3 = r2 * _ROOT % P
    return (a[0], a[1] * _ROOT % P, a[2] * r2 % P, a[3] * r3 % P, a[4] * r3 * _ROOT % P)


def _conjugates(a: Element) -> Element:
    """a ** (p + p^2 + p^3 + p^4); times a it is the norm, which lies in Goldilocks."""
    first = _frobenius(a)
    second = mul(first, _frobenius(first))
    return mul(second, _frobenius(_frobenius(second)))


def norm(a: Element) -> int:
    """Product of all conjugates."""
    return mul(_conjugates(a), a)[0]


def invert(a: Element) -> Element:
    """1 / a, and 0 for 0."""
    others = _conjugates(a)
    return scale(others, pow(mul(others, a)[0], P - 2, P))


def is_square(a: Element) -> bool:
    """Whether a is a square other than 0: exactly when its norm is one."""
    return pow(norm(a), (P - 1) // 2, P) == 1


def _root_of_word(value: int) -> int:
    """A square root in Goldilocks of a known square (Tonelli and Shanks)."""
    if not value:
        return 0
    order, unit = 32, pow(_GENERATOR, _ODD, P)
    root, rest = pow(value, (_ODD + 1) // 2, P), pow(value, _ODD, P)
    while rest != 1:
        level, square = 0, rest
        while square != 1:
            square = square * square % P
            level += 1
        step = pow(unit, 1 << (order - level - 1), P)
        root = root * step % P
        unit = step * step % P
        rest = rest * unit % P
        order = level
    return root


def square_root(a: Element) -> Element | None:
    """A square root of a, None when there is none."""
    if a == ZERO:
        return ZERO
    if not is_square(a):
        return None
    # a^((r+1)/2) squared is a^r * a with r = 1 + p + .. + p^4, and a^r is the norm, a word with a root.
    half = power(a, (1 + (P**5 - 1) // (P - 1)) // 2)
    return scale(half, pow(_root_of_word(norm(a)), P - 2, P))


def encode(a: Element) -> bytes:
    """Forty bytes."""
    return b"".join(word.to_bytes(8, "little") for word in a)


def decode(data: bytes) -> Element | None:
    """An element from forty bytes; None unless every limb is below p."""
    if len(data) != 40:
        return None
    words = tuple(int.from_bytes(data[at : at + 8], "little") for at in range(0, 40, 8))
    return (words[0], words[1], words[2], words[3], words[4]) if max(words) < P else None
