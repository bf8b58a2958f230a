"""Schnorr signatures over ECgFp5 with Poseidon2 as their hash, as the venue checks them. Pure.

r = encode(k G); e = Poseidon2(r, message) as a 320-bit integer modulo the order; s = k - e * key. A signature is
s then e, 40 bytes little-endian each. The venue draws k at random; here it is derived from key and message by
SHAKE-256, so that no source of randomness can repeat it and a signature can be tested.
Source: venue reference section 8.2.
"""

from __future__ import annotations

import hmac
from hashlib import shake_256
from typing import Final, NoReturn

from gateway_lighter.ecgfp5 import ORDER, add, decode, encode, multiply, multiply_generator
from gateway_lighter.goldilocks import BYTES, P, from_bytes, limbs_of, to_bytes, unpack
from gateway_lighter.poseidon2 import hash_elements
from venuemesh.errors import AuthenticationFailed

SIGNATURE_BYTES: Final = 2 * BYTES
MESSAGE_ELEMENTS: Final = 5

_NONCE_DOMAIN: Final = b"venuemesh/lighter/schnorr-nonce/1"
_NONCE_BYTES: Final = 80
"""Twice the order's length, so that the reduction leaves no bias."""


class PrivateKey:
    """An API key: a scalar in 1..order-1 that never prints, compares in constant time and is not pickled.

    Args:
        text: 80 hex digits, little-endian, with or without 0x.
    Raises:
        AuthenticationFailed: not such a key; the text is not repeated.
    """

    __slots__ = ("_public", "_scalar")

    def __init__(self, text: str) -> None:
        digits = text.strip().removeprefix("0x").removeprefix("0X")
        try:
            raw = bytes.fromhex(digits)
        except ValueError:
            raw = b""
        self._scalar = int.from_bytes(raw, "little")
        if len(raw) != BYTES or len(digits) != 2 * BYTES or not 0 < self._scalar < ORDER:
            raise AuthenticationFailed("the API key must be 80 hex digits of a scalar below the group order")
        self._public = to_bytes(encode(multiply_generator(self._scalar)))

    @property
    def public_key(self) -> bytes:
        """40 bytes: what the venue has registered for the key."""
        return self._public

    def scalar(self) -> int:
        """The secret itself: only where it is used, in signing."""
        return self._scalar

    def reveal_hex(self) -> str:
        """80 hex digits of the secret: only to hand it to another signer."""
        return self._scalar.to_bytes(BYTES, "little").hex()

    def __repr__(self) -> str:
        return f"PrivateKey(***, public_key={self._public.hex()})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PrivateKey):
            return NotImplemented
        mine, theirs = self._scalar.to_bytes(BYTES, "little"), other._scalar.to_bytes(BYTES, "little")
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash(self._public)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PrivateKey is not pickled: read it again where it is needed")


def derive_nonce(key: PrivateKey, message: bytes) -> int:
    """The scalar k for one message: never zero, the same for ever, unknown without the key."""
    seed = shake_256(_NONCE_DOMAIN + key.scalar().to_bytes(BYTES, "little") + message).digest(_NONCE_BYTES)
    return int.from_bytes(seed, "little") % (ORDER - 1) + 1


def _challenge(r: int, message: bytes) -> int:
    words = hash_elements([*unpack(r), *limbs_of(message)], MESSAGE_ELEMENTS)
    return sum(word << (64 * i) for i, word in enumerate(words)) % ORDER


def sign(key: PrivateKey, message: bytes, k: int | None = None) -> bytes:
    """The 80-byte signature of a 40-byte message hash.

    Args:
        k: a nonce in 1..order-1, for tests against recorded signatures; derived when absent.
    Raises:
        ValueError: the message is not five field elements.
    """
    if from_bytes(message) is None:
        raise ValueError("a message is five little-endian field elements")
    nonce = derive_nonce(key, message) if k is None else k
    e = _challenge(encode(multiply_generator(nonce)), message)
    s = (nonce - e * key.scalar()) % ORDER
    return s.to_bytes(BYTES, "little") + e.to_bytes(BYTES, "little")


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is the key's for this message; false for anything malformed."""
    if len(signature) != SIGNATURE_BYTES or len(message) != BYTES or any(limb >= P for limb in limbs_of(message)):
        return False
    s, e = (int.from_bytes(part, "little") for part in (signature[:BYTES], signature[BYTES:]))
    w = from_bytes(public_key)
    point = None if w is None else decode(w)
    if s >= ORDER or e >= ORDER or w == 0 or point is None:
        return False
    r = encode(add(multiply_generator(s), multiply(point, e)))
    return _challenge(r, message) == e
