"""Signatures: recorded vectors, round trips, and forgeries that must fail."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_lighter.ecgfp5 import ORDER
from gateway_lighter.goldilocks import BYTES, P
from gateway_lighter.poseidon2 import hash_elements
from gateway_lighter.schnorr import PrivateKey, derive_nonce, sign, verify
from tests.unit.gateway_lighter.support import KEY, SECRET, needs_recordings, vectors
from venuemesh.errors import AuthenticationFailed

MESSAGE = b"".join(word.to_bytes(8, "little") for word in hash_elements([1, 2, 3], 5))
SIGNATURE = sign(KEY, MESSAGE)
BOUNDED = settings(max_examples=15, deadline=None)


@needs_recordings
def test_public_keys_equal_the_recorded_vectors() -> None:
    """w of key * G."""
    found = vectors("schnorr_vectors")["keygen"]
    assert found
    for vector in found:
        assert PrivateKey(vector["sk"]).public_key.hex() == vector["pk"]


@needs_recordings
def test_signatures_equal_the_recorded_vectors_for_their_nonces() -> None:
    """Byte for byte, and they verify."""
    found = vectors("schnorr_vectors")["sign"]
    assert found
    for vector in found:
        key, message = PrivateKey(vector["sk"]), bytes.fromhex(vector["hashed_msg"])
        signature = sign(key, message, int.from_bytes(bytes.fromhex(vector["k"]), "little"))
        assert signature.hex() == vector["sig"]
        assert verify(key.public_key, message, signature)


def test_signing_twice_gives_the_same_bytes_and_another_message_another_nonce() -> None:
    """The nonce is a function of key and message: never repeated over two messages."""
    other = b"\x01" + bytes(39)
    assert sign(KEY, MESSAGE) == SIGNATURE
    nonces = {derive_nonce(key, message) for key in (KEY, PrivateKey("01" * 40)) for message in (MESSAGE, other)}
    assert len(nonces) == 4 and all(0 < nonce < ORDER for nonce in nonces)


@given(words=st.lists(st.integers(0, P - 1), min_size=5, max_size=5), scalar=st.integers(1, ORDER - 1))
@BOUNDED
def test_every_signature_verifies(words: list[int], scalar: int) -> None:
    """Whatever key and message."""
    key = PrivateKey(scalar.to_bytes(BYTES, "little").hex())
    message = b"".join(word.to_bytes(8, "little") for word in words)
    assert verify(key.public_key, message, sign(key, message))


@given(bit=st.integers(0, 8 * 80 - 1))
@BOUNDED
def test_signature_with_one_bit_changed_fails(bit: int) -> None:
    """Any of the 640."""
    forged = bytearray(SIGNATURE)
    forged[bit // 8] ^= 1 << bit % 8
    assert not verify(KEY.public_key, MESSAGE, bytes(forged))


@given(bit=st.integers(0, 8 * 40 - 1))
@BOUNDED
def test_message_or_key_with_one_bit_changed_fails(bit: int) -> None:
    """A signature belongs to one message and one key."""
    for original, position in ((MESSAGE, 0), (KEY.public_key, 1)):
        changed = bytearray(original)
        changed[bit // 8] ^= 1 << bit % 8
        message, public = (bytes(changed), KEY.public_key) if position == 0 else (MESSAGE, bytes(changed))
        assert not verify(public, message, SIGNATURE)


@pytest.mark.parametrize(
    ("public", "message", "signature"),
    [
        (KEY.public_key[:-1], MESSAGE, SIGNATURE),
        (bytes(40), MESSAGE, SIGNATURE),
        (b"\xff" * 40, MESSAGE, SIGNATURE),
        (KEY.public_key, MESSAGE[:-8], SIGNATURE),
        (KEY.public_key, b"\xff" * 40, SIGNATURE),
        (KEY.public_key, MESSAGE, SIGNATURE[:-1]),
        (KEY.public_key, MESSAGE, b""),
        (KEY.public_key, MESSAGE, b"\xff" * 80),
        (KEY.public_key, MESSAGE, bytes(80)),
    ],
)
def test_malformed_input_does_not_verify(public: bytes, message: bytes, signature: bytes) -> None:
    """No exception, no truth."""
    assert not verify(public, message, signature)


def test_signature_with_the_order_added_fails() -> None:
    """s and s + n are one scalar, and only one of them is a signature."""
    s = int.from_bytes(SIGNATURE[:BYTES], "little") + ORDER
    assert not verify(KEY.public_key, MESSAGE, s.to_bytes(BYTES, "little") + SIGNATURE[BYTES:])


@pytest.mark.parametrize("message", [b"", bytes(39), b"\xff" * 40])
def test_sign_when_the_message_is_no_hash_is_refused(message: bytes) -> None:
    """Only five field elements are signed."""
    with pytest.raises(ValueError, match="field elements"):
        sign(KEY, message)


@pytest.mark.parametrize(
    "text", ["", "00" * 40, "zz" * 40, "01" * 39, "01" * 41, ORDER.to_bytes(40, "little").hex(), " ".join(["01"] * 40)]
)
def test_private_key_when_it_is_none_is_refused_without_repeating_it(text: str) -> None:
    """Zero, the order, other lengths, blanks: the message holds no part of it."""
    with pytest.raises(AuthenticationFailed) as refused:
        PrivateKey(text)
    assert not text or text not in str(refused.value)


def test_private_key_takes_0x_and_compares_by_value() -> None:
    """The two spellings of one key are one key."""
    assert PrivateKey("0x" + SECRET) == KEY
    assert hash(PrivateKey(SECRET)) == hash(KEY)
    assert PrivateKey("01" * 40) != KEY
    assert KEY != SECRET


def test_private_key_never_prints_and_is_not_pickled() -> None:
    """repr, str, format, pickle and copy."""
    for text in (repr(KEY), str(KEY), f"{KEY}", f"{[KEY]}"):
        assert SECRET not in text and str(KEY.scalar()) not in text and "***" in text
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
    with pytest.raises(TypeError):
        copy.deepcopy(KEY)
