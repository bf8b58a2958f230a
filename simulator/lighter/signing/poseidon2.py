"""Poseidon2 over the Goldilocks field: permutation and sponge. Pure.

Width 12, rate 8, x^7, four external rounds, 22 internal, four external. The sponge overwrites the rate part block
by block and adds no padding. Source: reference section 8.1; checked with the recorded test vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

from simulator.lighter.signing.constants import DIAGONAL, EXTERNAL, INTERNAL

P = 0xFFFF_FFFF_0000_0001
WIDTH = 12
RATE = 8


def _mix_external(s: list[int]) -> list[int]:
    """Multiply by the external matrix: a 4x4 MDS block on each quarter, then the sum of the three added to each."""
    mixed: list[int] = []
    for at in (0, 4, 8):
        a, b, c, d = s[at : at + 4]
        ab, cd = a + b, c + d
        whole = ab + cd
        mixed += (whole + a + 2 * b, whole + b + 2 * c, whole + c + 2 * d, whole + d + 2 * a)
    sums = [mixed[i] + mixed[i + 4] + mixed[i + 8] for i in range(4)]
    return [(mixed[i] + sums[i % 4]) % P for i in range(WIDTH)]


def _sbox(x: int) -> int:
    square = x * x % P
    return square * square % P * square % P * x % P


def permute(state: Sequence[int]) -> list[int]:
    """The permutation of twelve field elements."""
    s = _mix_external(list(state))
    for constants in EXTERNAL[:4]:
        s = _mix_external([_sbox(x + c) for x, c in zip(s, constants, strict=True)])
    for constant in INTERNAL:
        s[0] = _sbox(s[0] + constant)
        total = sum(s)
        s = [(x * d + total) % P for x, d in zip(s, DIAGONAL, strict=True)]
    for constants in EXTERNAL[4:]:
        s = _mix_external([_sbox(x + c) for x, c in zip(s, constants, strict=True)])
    return s


def digest(elements: Sequence[int], size: int) -> list[int]:
    """The first `size` words of the sponge after absorbing `elements`, each reduced to the field."""
    state = [0] * WIDTH
    for at in range(0, len(elements), RATE):
        block = [value % P for value in elements[at : at + RATE]]
        state[: len(block)] = block
        state = permute(state)
    return state[:size]
