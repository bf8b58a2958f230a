"""Hashes, curve and signatures against vectors made with the venue's own code."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.lighter import auth, l1
from simulator.lighter.errors import Code, Refused
from simulator.lighter.signing import curve, poseidon2, quintic, schnorr
from simulator.lighter.transactions import TxType, parse
from tests.unit.simulator.lighter.world import recorded

WORDS = st.integers(0, poseidon2.P - 1)
ELEMENTS = st.tuples(WORDS, WORDS, WORDS, WORDS, WORDS)


def words(text: str) -> list[int]:
    """Little-endian 64-bit words of hex."""
    data = bytes.fromhex(text)
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]


def scalar(text: str) -> int:
    """A little-endian number."""
    return int.from_bytes(bytes.fromhex(text), "little")


def element(text: str) -> quintic.Element:
    """A field element."""
    found = quintic.decode(bytes.fromhex(text))
    assert found is not None
    return found


def test_poseidon2_when_given_vectors_agrees() -> None:
    """Permutation and sponge of any length."""
    vectors = recorded("signing_hash_poseidon2_vectors")["vectors"]
    for vector in vectors["permute"]:
        assert poseidon2.permute(words(vector["input"])) == words(vector["output"])
    for vector in vectors["sponge"]:
        count = int(vector["num_outputs"])
        if count <= poseidon2.RATE:
            assert poseidon2.digest(words(vector["input"]), count) == words(vector["output"])
    for vector in vectors["hash_to_quintic"]:
        assert poseidon2.digest(words(vector["input"]), 5) == words(vector["output"])


def test_quintic_field_when_given_vectors_agrees() -> None:
    """Sum, difference, product, inverse, power."""
    for vector in recorded("signing_field_quintic_vectors")["vectors"]:
        a, b = element(vector["a"]), element(vector["b"])
        assert quintic.encode(quintic.add(a, b)).hex() == vector["add"]
        assert quintic.encode(quintic.sub(a, b)).hex() == vector["sub"]
        assert quintic.encode(quintic.mul(a, b)).hex() == vector["mul"]
        assert quintic.encode(quintic.neg(a)).hex() == vector["neg_a"]
        assert quintic.encode(quintic.invert(a)).hex() == vector["inv_a"]
        assert quintic.encode(quintic.power(a, int(vector["e"]))).hex() == vector["pow_a_e"]


@settings(max_examples=25, deadline=None)
@given(ELEMENTS, ELEMENTS, ELEMENTS)
def test_quintic_field_when_computing_obeys_its_laws(
    a: quintic.Element, b: quintic.Element, c: quintic.Element
) -> None:
    """Distributivity, inverses, and roots of squares."""
    assert quintic.mul(a, quintic.add(b, c)) == quintic.add(quintic.mul(a, b), quintic.mul(a, c))
    if a != quintic.ZERO:
        assert quintic.mul(a, quintic.invert(a)) == quintic.ONE
    square = quintic.mul(a, a)
    root = quintic.square_root(square)
    assert root in (a, quintic.neg(a))


def test_curve_when_given_vectors_agrees() -> None:
    """Decoding, addition, multiplication."""
    vectors = recorded("signing_curve_ecgfp5_vectors")["vectors"]
    for vector in vectors["decode"]:
        point = curve.decode(bytes.fromhex(vector["w"]))
        assert (point is not None) == vector["decodes"]
        if point is not None:
            assert curve.encode(point).hex() == vector["encoded_back"]
    for vector in vectors["add"]:
        a, b = curve.decode(bytes.fromhex(vector["a_w"])), curve.decode(bytes.fromhex(vector["b_w"]))
        assert a is not None
        assert b is not None
        assert curve.encode(curve.add(a, b)).hex() == vector["sum_w"]
        assert curve.encode(curve.add(a, a)).hex() == vector["a_double_w"]
    for vector in vectors["scalar_mul"]:
        base = curve.decode(bytes.fromhex(vector["base_w"]))
        assert base is not None
        assert curve.encode(curve.Multiples(base).times(scalar(vector["scalar_le"]))).hex() == vector["out_w"]


def test_schnorr_when_given_vectors_makes_the_same_keys_and_signatures() -> None:
    """With the recorded k even the signature is the same, byte for byte."""
    vectors = recorded("signing_schnorr_vectors")["vectors"]
    for vector in vectors["keygen"]:
        assert schnorr.public_key(scalar(vector["sk"])).hex() == vector["pk"]
    for vector in vectors["sign"]:
        message, secret = words(vector["hashed_msg"]), scalar(vector["sk"])
        signature = schnorr.sign(message, secret, scalar(vector["k"]))
        assert signature.hex() == vector["sig"]
        assert schnorr.verify(message, signature, schnorr.public_key(secret))


def sdk_transactions() -> list[dict[str, Any]]:
    """Transactions signed by the official library."""
    return [row for row in recorded("signing_sdk_1_1_8_vectors")["transactions"] if "tx_info" in row]


def test_transactions_when_signed_by_the_official_library_hash_and_verify() -> None:
    """Every kind: the hash is the library's, the signature holds."""
    vectors = recorded("signing_sdk_1_1_8_vectors")
    key = bytes.fromhex(vectors["public_key"])
    for row in sdk_transactions():
        tx = parse(row["tx_type"], row["tx_info"])
        message = tx.words(vectors["chain_id"])
        assert schnorr.message_bytes(message).hex() == row["tx_hash"], row["name"]
        assert schnorr.verify(message, tx.signature, key), row["name"]
        if "message_to_sign" in row:
            assert l1.message(tx, vectors["chain_id"]) == row["message_to_sign"]


def test_transactions_when_recorded_elsewhere_hash_the_same() -> None:
    """Older signers, another chain, a real transaction of the Robinhood instance."""
    for row in recorded("signing_tx_oracle")["vectors"]:
        tx = parse(row["tx_type"], row["tx_info"])
        assert schnorr.message_bytes(tx.words(row["chain_id"])).hex() == row["tx_hash"]
        assert schnorr.verify(tx.words(row["chain_id"]), tx.signature, schnorr.public_key(scalar(row["sk"])))
    real = recorded("rest_tx.create_order_filled")
    assert schnorr.message_bytes(parse(real["type"], real["info"]).words(466324)).hex() == real["hash"]


@pytest.mark.parametrize("part", ["Nonce", "ExpiredAt", "AccountIndex", "Price", "BaseAmount", "OrderExpiry"])
def test_transaction_when_a_signed_field_differs_by_one_does_not_verify(part: str) -> None:
    """Nothing that was signed can be changed."""
    vectors = recorded("signing_sdk_1_1_8_vectors")
    row = sdk_transactions()[0]
    wire = msgspec.json.decode(row["tx_info"])
    wire[part] += 1
    tx = parse(row["tx_type"], msgspec.json.encode(wire).decode())
    assert not schnorr.verify(tx.words(304), tx.signature, bytes.fromhex(vectors["public_key"]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 639))
def test_signature_when_one_bit_differs_is_refused(bit: int) -> None:
    """Any bit of the eighty bytes."""
    message = [1, 2, 3, 4, 5]
    signature = schnorr.sign(message, 12345, 67890)
    forged = (int.from_bytes(signature, "little") ^ (1 << bit)).to_bytes(80, "little")
    assert schnorr.verify(message, signature, schnorr.public_key(12345))
    assert not schnorr.verify(message, forged, schnorr.public_key(12345))


def test_signature_when_out_of_range_or_key_is_no_point_is_refused() -> None:
    """s + n is another encoding of s; the neutral element would sign anything."""
    message = [1, 2, 3, 4, 5]
    signature = schnorr.sign(message, 12345, 67890)
    key = schnorr.public_key(12345)
    larger = int.from_bytes(signature[:40], "little") + curve.ORDER
    if larger < 1 << 320:
        assert not schnorr.verify(message, larger.to_bytes(40, "little") + signature[40:], key)
    assert not schnorr.verify(message, signature[:79], key)
    assert not schnorr.verify(message, signature, bytes(40))
    assert not schnorr.verify(message, signature, b"\xff" * 40)


def test_chain_id_when_wrong_makes_another_hash() -> None:
    """Test and main network do not share signatures."""
    vectors = recorded("signing_sdk_1_1_8_vectors")
    row = sdk_transactions()[0]
    tx = parse(row["tx_type"], row["tx_info"])
    assert not schnorr.verify(tx.words(300), tx.signature, bytes.fromhex(vectors["public_key"]))


def test_auth_tokens_when_made_by_the_official_library_verify_until_their_deadline() -> None:
    """Good before it and not more than eight hours before it."""
    vectors = recorded("signing_sdk_1_1_8_vectors")
    key = bytes.fromhex(vectors["public_key"])
    for token in vectors["auth_tokens"]:
        deadline_ms = int(token.split(":")[0]) * 1000
        found = auth.check_token(token, deadline_ms - 60_000, lambda _account, _key: key)
        assert found == vectors["account_index"]
        for at_ms in (deadline_ms + 1000, deadline_ms - 9 * 3_600_000):
            with pytest.raises(Refused, match="invalid deadline") as caught:
                auth.check_token(token, at_ms, lambda _account, _key: key)
            assert (caught.value.code, caught.value.status) == (Code.INVALID_AUTH, 401)
        longer = str(int(token.split(":")[0]) + 1) + token[token.index(":") :]
        with pytest.raises(Refused, match="invalid signature"):
            auth.check_token(longer, deadline_ms - 60_000, lambda _account, _key: key)


FIELDS = st.dictionaries(st.text(max_size=8), st.integers(0, 2**62) | st.text(max_size=8), max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60) | FIELDS.map(lambda value: msgspec.json.encode(value).decode()))
def test_parse_when_given_anything_refuses_with_a_code(text: str) -> None:
    """No input raises anything but a refusal."""
    for kind in (TxType.CREATE_ORDER, TxType.CREATE_GROUPED_ORDERS, TxType.CHANGE_PUB_KEY, 99):
        with pytest.raises(Refused):
            parse(kind, text)
