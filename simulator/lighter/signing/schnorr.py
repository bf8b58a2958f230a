"""Schnorr signatures over ECgFp5 with Poseidon2 challenges. Pure.

A signature is s and e, forty little-endian bytes each: e = H(encode(k G), message), s = k - e * secret. Nothing is
kept of a message; what is kept per public key is a table of its multiples, in a bounded cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cache

from simulator.lighter.signing import quintic
from simulator.lighter.signing.curve import GENERATOR, ORDER, Multiples, decode, encode
from simulator.lighter.signing.poseidon2 import digest

SIGNATURE_BYTES = 80
KEPT_TABLES = 32  # about 2 MB each


@cache
def _generator() -> Multiples:
    return Multiples(GENERATOR)


class _Tables:
    """Tables of the public keys used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Multiples | None] = OrderedDict()

    def of(self, public_key: bytes) -> Multiples | None:
        if public_key not in self._kept:
            point = decode(public_key)
            self._kept[public_key] = None if point is None else Multiples(point)
            if len(self._kept) > KEPT_TABLES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(public_key)
        return self._kept[public_key]


_TABLES = _Tables()


def prepare(key: bytes) -> bool:
    """Make the tables for a public key ahead of its first use; False when it is no point one can sign for."""
    _generator()
    return _TABLES.of(key) is not None and quintic.decode(key) != quintic.ZERO


def _challenge(commitment: bytes, message: Sequence[int]) -> int:
    words = [int.from_bytes(commitment[at : at + 8], "little") for at in range(0, 40, 8)]
    return int.from_bytes(message_bytes(digest([*words, *message], 5)), "little") % ORDER


def message_bytes(message: Sequence[int]) -> bytes:
    """Five words as forty bytes: what the venue calls a transaction hash."""
    return b"".join(word.to_bytes(8, "little") for word in message)


def public_key(secret: int) -> bytes:
    """Forty bytes of secret * G."""
    return encode(_generator().times(secret % ORDER))


def sign(message: Sequence[int], secret: int, k: int) -> bytes:
    """Eighty bytes; `k` must be random and secret, which is the caller's part. Tests sign, the venue does not."""
    challenge = _challenge(encode(_generator().times(k % ORDER)), message)
    response = (k - challenge * secret) % ORDER
    return response.to_bytes(40, "little") + challenge.to_bytes(40, "little")


def verify(message: Sequence[int], signature: bytes, key: bytes) -> bool:
    """Whether `signature` of the five words `message` was made with the secret of `key`."""
    table = _TABLES.of(key)
    if table is None or len(signature) != SIGNATURE_BYTES or quintic.decode(key) == quintic.ZERO:
        return False
    response = int.from_bytes(signature[:40], "little")
    challenge = int.from_bytes(signature[40:], "little")
    if response >= ORDER or challenge >= ORDER:
        return False
    commitment = table.times(challenge, _generator().times(response))
    return _challenge(encode(commitment), message) == challenge
