"""Signed transactions and auth tokens of the pure signer, against recordings and against themselves."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_lighter.codec_transactions import read_tx_info
from gateway_lighter.schnorr import PrivateKey, verify
from gateway_lighter.signing import (
    CHAIN_IDS,
    MAX_TOKEN_LIFETIME_S,
    AuthToken,
    PureSigner,
    TokenSource,
    hash_token_text,
    hash_transaction,
)
from gateway_lighter.transactions import Attributes, CancelOrder, CreateOrder
from tests.fakes import ManualClock
from tests.unit.gateway_lighter import vectors as own
from tests.unit.gateway_lighter.support import (
    ACCOUNT,
    API_KEY,
    CHAIN,
    FIXTURES,
    KEY,
    ORDER,
    SECRET,
    SIGNER,
    needs_recordings,
    recording,
    vectors,
)
from venuemesh.errors import InvalidOrder, InvalidRequest
from venuemesh.transport.environment import Environment

SDK = recording("signing_sdk_1_1_8_vectors.json") if FIXTURES.is_dir() else {"transactions": [], "auth_tokens": []}
SIGNED = [case for case in SDK["transactions"] if "tx_info" in case]
ORACLE: list[dict[str, Any]] = list(vectors("tx_oracle"))


@needs_recordings
@pytest.mark.parametrize("case", SIGNED, ids=[case["name"] for case in SIGNED])
def test_hash_and_signature_of_the_official_signer_hold(case: dict[str, Any]) -> None:
    """Each kind's hash is derived again and its signature verifies."""
    transaction, envelope, signature = read_tx_info(case["tx_type"], case["tx_info"].encode(), SDK["chain_id"])
    message = hash_transaction(transaction, envelope)
    assert message.hex() == case["tx_hash"]
    assert verify(bytes.fromhex(SDK["public_key"]), message, signature)


@needs_recordings
def test_oracle_transactions_hold() -> None:
    """Five more, by an older signer with another spelling of empty attributes."""
    assert ORACLE
    for case in ORACLE:
        key = PrivateKey(case["sk"])
        transaction, envelope, signature = read_tx_info(case["tx_type"], case["tx_info"].encode(), case["chain_id"])
        assert envelope.expired_at_ms == case["expired_at"]
        message = hash_transaction(transaction, envelope)
        assert message.hex() == case["tx_hash"]
        assert signature.hex() == case["sig"]
        assert verify(key.public_key, message, signature)


@needs_recordings
def test_golden_order_hashes_as_recorded() -> None:
    """Built from its fields, signed here: hash as recorded."""
    golden = recording("signing_golden_order.json")
    order = msgspec.json.decode(msgspec.json.encode(golden), type=CreateOrder, strict=False)
    signer = PureSigner(
        PrivateKey(golden["private_key"]),
        chain_id=golden["chain_id"],
        account_index=golden["AccountIndex"],
        api_key_index=golden["ApiKeyIndex"],
    )
    signed = signer.sign(order, nonce=golden["Nonce"], expired_at_ms=golden["ExpiredAt"])
    assert signed.tx_hash == golden["tx_hash"]


@needs_recordings
def test_auth_tokens_of_the_official_signer_verify() -> None:
    """The text before the last colon is what is signed."""
    cases = [(SDK["public_key"], token) for token in SDK["auth_tokens"]]
    cases += [(PrivateKey(case["sk"]).public_key.hex(), case["token"]) for case in vectors("auth_token_oracle")]
    assert len(cases) > 2
    for public, token in cases:
        text, _, signature = token.rpartition(":")
        assert verify(bytes.fromhex(public), hash_token_text(text), bytes.fromhex(signature))


@needs_recordings
def test_public_key_is_that_of_the_official_signer() -> None:
    """As `apikeys` would show it."""
    assert PrivateKey(SDK["private_key"]).public_key.hex() == SDK["public_key"]


@pytest.mark.parametrize(
    ("kind", "info", "tx_hash"),
    [(14, own.ORDER_INFO, own.ORDER_HASH), (28, own.GROUP_INFO, own.GROUP_HASH)],
)
def test_official_librarys_signature_over_our_key_holds(kind: int, info: str, tx_hash: str) -> None:
    """These need no recordings: attributes and a folded group."""
    assert KEY.public_key.hex() == own.PUBLIC_KEY
    transaction, envelope, signature = read_tx_info(kind, info.encode(), CHAIN)
    message = hash_transaction(transaction, envelope)
    assert message.hex() == tx_hash
    assert verify(KEY.public_key, message, signature)


def test_official_librarys_token_over_our_key_holds() -> None:
    """The same for an auth token."""
    text, _, signature = own.TOKEN.rpartition(":")
    assert verify(KEY.public_key, hash_token_text(text), bytes.fromhex(signature))


def test_signed_order_is_complete_and_verifies() -> None:
    """Hash, envelope and signature agree, whatever the caller does with them."""
    signed = SIGNER.sign(ORDER, nonce=11, expired_at_ms=1_800_000_000_000, attributes=Attributes(skip_nonce=True))
    transaction, envelope, signature = read_tx_info(14, signed.tx_info.encode(), CHAIN)
    assert transaction == ORDER == signed.transaction
    assert (envelope.account_index, envelope.api_key_index, envelope.nonce) == (ACCOUNT, API_KEY, 11)
    assert envelope.attributes == Attributes(skip_nonce=True)
    assert hash_transaction(transaction, envelope).hex() == signed.tx_hash
    assert verify(bytes.fromhex(SIGNER.public_key), bytes.fromhex(signed.tx_hash), signature)


@given(bit=st.integers(0, 639))
@settings(max_examples=10, deadline=None)
def test_forged_transaction_does_not_verify(bit: int) -> None:
    """One bit of the signature, or one unit of a field."""
    signed = SIGNER.sign(ORDER, nonce=11, expired_at_ms=9)
    transaction, envelope, signature = read_tx_info(14, signed.tx_info.encode(), CHAIN)
    message = hash_transaction(transaction, envelope)
    forged = (int.from_bytes(signature, "big") ^ (1 << bit)).to_bytes(80, "big")
    assert not verify(KEY.public_key, message, forged)
    dearer = msgspec.structs.replace(transaction, price=ORDER.price + 1)
    assert not verify(KEY.public_key, hash_transaction(dearer, envelope), signature)


@pytest.mark.parametrize("changes", [{"nonce": 12}, {"expired_at_ms": 10}, {"attributes": Attributes(skip_nonce=True)}])
def test_hash_covers_the_envelope(changes: dict[str, Any]) -> None:
    """Nonce, expiry and attributes are signed."""
    plain: dict[str, Any] = {"nonce": 11, "expired_at_ms": 9}
    assert SIGNER.sign(ORDER, **plain).tx_hash != SIGNER.sign(ORDER, **{**plain, **changes}).tx_hash


def test_sign_when_the_order_breaks_a_rule_signs_nothing() -> None:
    """The rule is found before the signature."""
    with pytest.raises(InvalidOrder):
        SIGNER.sign(CancelOrder(market_index=255, index=1), nonce=1, expired_at_ms=1)
    with pytest.raises(InvalidOrder):
        SIGNER.sign(ORDER, nonce=2**47, expired_at_ms=1)


def test_signer_prints_no_secret() -> None:
    """Neither does a token."""
    token = SIGNER.sign_token(1_900_000_000)
    assert SECRET not in repr(SIGNER)
    assert token.reveal() not in repr(token) and token.reveal() not in str([token])


def test_token_text_is_as_the_venue_reads_it() -> None:
    """deadline, account, key and 160 hex digits that verify."""
    text, _, signature = SIGNER.sign_token(1_900_000_000).reveal().rpartition(":")
    assert text == f"1900000000:{ACCOUNT}:{API_KEY}"
    assert len(signature) == 160
    assert verify(KEY.public_key, hash_token_text(text), bytes.fromhex(signature))
    with pytest.raises(InvalidRequest):
        SIGNER.sign_token(0)


class CountingSigner(PureSigner):
    """Counts the tokens it signs."""

    signed = 0

    def sign_token(self, deadline_s: int) -> AuthToken:
        self.signed += 1
        return super().sign_token(deadline_s)


def source(clock: ManualClock) -> tuple[TokenSource, CountingSigner]:
    """A token source over a counting signer."""
    signer = CountingSigner(KEY, chain_id=CHAIN, account_index=ACCOUNT, api_key_index=API_KEY)
    return TokenSource(signer, clock, lifetime_s=3_600, renew_before_s=600), signer


def test_token_is_kept_until_ten_minutes_before_its_end_and_then_renewed() -> None:
    """Signed once an hour, not once a request."""
    clock = ManualClock()
    tokens, signer = source(clock)
    first = tokens.token()
    clock.advance(2_999)
    assert tokens.token() is first
    clock.advance(1)
    second = tokens.token()
    assert second.deadline_s == first.deadline_s + 3_000
    assert signer.signed == 2


@given(steps=st.lists(st.integers(-20_000, 20_000), max_size=8))
@settings(max_examples=30, deadline=None)
def test_token_given_out_is_always_alive_and_never_too_far_ahead(steps: list[int]) -> None:
    """Whatever the wall clock does: alive for the renewal time, and within the venue's eight hours."""
    clock = ManualClock()
    tokens, _ = source(clock)
    for step in steps:
        clock.step_wall(step)
        ahead_s = tokens.token().deadline_s - clock.now_ns() // 10**9
        assert 600 < ahead_s <= 3_600


def test_token_refused_by_the_venue_is_signed_anew() -> None:
    """After `forget`."""
    tokens, signer = source(ManualClock())
    tokens.token()
    tokens.forget()
    tokens.token()
    assert signer.signed == 2


@pytest.mark.parametrize(("lifetime_s", "renew_before_s"), [(MAX_TOKEN_LIFETIME_S + 1, 60), (60, 60), (60, 0)])
def test_token_source_with_times_the_venue_refuses_is_refused(lifetime_s: int, renew_before_s: int) -> None:
    """Eight hours at most, and renewal within the life."""
    with pytest.raises(ValueError, match="eight hours"):
        TokenSource(SIGNER, ManualClock(), lifetime_s=lifetime_s, renew_before_s=renew_before_s)


def test_every_environment_has_a_chain_and_testnet_its_own() -> None:
    """A signature of one network is worth nothing on the other."""
    assert set(CHAIN_IDS) == set(Environment)
    assert CHAIN_IDS[Environment.TESTNET] != CHAIN_IDS[Environment.MAINNET]


def test_signature_is_base64_of_eighty_bytes() -> None:
    """As the venue wants it."""
    signed = SIGNER.sign(ORDER, nonce=1, expired_at_ms=1)
    assert len(base64.b64decode(msgspec.json.decode(signed.tx_info)["Sig"], validate=True)) == 80
