"""What the gateway signs, the simulated venue's own mathematics hashes alike and verifies; and not one bit else.

Two implementations of hashes, curve and signatures that share no line. Other than the official library this judge is
there on every machine.
"""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_lighter.account_transactions import KINDS
from gateway_lighter.codec_transactions import l1_message
from gateway_lighter.signing import PureSigner, SignedTransaction
from gateway_lighter.transactions import NO_ATTRIBUTES, Attributes, CreateOrder, Envelope, Transaction
from simulator.lighter import auth, l1
from simulator.lighter.errors import Refused
from simulator.lighter.signing import schnorr
from simulator.lighter.transactions import parse
from tests.differential.lighter.kinds import (
    KEY,
    MASTER,
    SUB,
    account_kinds,
    groups,
    nonces,
    orders,
    plain_kinds,
    trading_attributes,
)

BOUNDED = settings(max_examples=25, deadline=None)
CHAIN, API_KEY = 304, 9
EXPIRES_MS = 1_893_456_000_123


def sign(
    transaction: Transaction, nonce: int, attributes: Attributes = NO_ATTRIBUTES, account: int = MASTER
) -> SignedTransaction:
    """As the gateway does."""
    signer = PureSigner(KEY, chain_id=CHAIN, account_index=account, api_key_index=API_KEY)
    return signer.sign(transaction, nonce=nonce, expired_at_ms=EXPIRES_MS, attributes=attributes)


def verifies(signed: SignedTransaction, *, chain_id: int = CHAIN, key: bytes = KEY.public_key) -> bool:
    """Whether the venue takes the signature; the hash it derives is held against ours."""
    parsed = parse(signed.tx_type, signed.tx_info)
    words = parsed.words(chain_id)
    if chain_id == CHAIN:
        assert schnorr.message_bytes(words).hex() == signed.tx_hash
    return schnorr.verify(words, parsed.signature, key)


def check(transaction: Transaction, nonce: int, attributes: Attributes = NO_ATTRIBUTES, account: int = MASTER) -> None:
    """Taken as it is; refused for another chain, another key, and with one bit of the signature changed."""
    signed = sign(transaction, nonce, attributes, account)
    parsed = parse(signed.tx_type, signed.tx_info)
    assert (parsed.account, parsed.api_key, parsed.nonce, parsed.expired_at) == (account, API_KEY, nonce, EXPIRES_MS)
    assert parsed.skip_nonce == attributes.skip_nonce
    assert verifies(signed)
    assert not verifies(signed, chain_id=300)
    wire = msgspec.json.decode(signed.tx_info)
    raw = bytearray(base64.b64decode(wire["Sig"]))
    raw[nonce % len(raw)] ^= 1 << nonce % 8
    wire["Sig"] = base64.b64encode(bytes(raw)).decode()
    forged = parse(signed.tx_type, msgspec.json.encode(wire).decode())
    assert not schnorr.verify(forged.words(CHAIN), forged.signature, KEY.public_key)


@given(order=orders(), nonce=nonces, attributes=trading_attributes)
@BOUNDED
def test_orders_verify_at_the_simulated_venue(order: Transaction, nonce: int, attributes: Attributes) -> None:
    """Every kind, time in force, side, flag and attribute (P5)."""
    check(order, nonce, attributes)


@given(group=groups(), nonce=nonces, attributes=trading_attributes)
@BOUNDED
def test_groups_verify_at_the_simulated_venue(group: Transaction, nonce: int, attributes: Attributes) -> None:
    """The folding of two or three orders (P5)."""
    check(group, nonce, attributes)


@given(case=plain_kinds, nonce=nonces, account=st.sampled_from([MASTER, SUB]))
@BOUNDED
def test_other_trading_kinds_verify_at_the_simulated_venue(
    case: tuple[Transaction, Attributes], nonce: int, account: int
) -> None:
    """Cancels, the scheduled one too, modifies, leverage and margin (P5)."""
    check(case[0], nonce, case[1], account)


@pytest.mark.parametrize("transaction", account_kinds, ids=lambda kind: type(kind).__name__)
def test_account_kinds_verify_at_the_simulated_venue(transaction: Transaction) -> None:
    """One of each that moves money, keys or settings; the text for the owner's key is the same too."""
    check(transaction, 5)
    assert type(transaction) in KINDS.values()
    if not transaction.l1_signed:
        return
    envelope = Envelope(chain_id=CHAIN, account_index=MASTER, api_key_index=API_KEY, nonce=5, expired_at_ms=EXPIRES_MS)
    signed = sign(transaction, 5)
    assert l1.message(parse(signed.tx_type, signed.tx_info), CHAIN) == l1_message(transaction, envelope)


@given(field=st.sampled_from(["Price", "BaseAmount", "IsAsk", "MarketIndex", "Nonce", "ExpiredAt"]), nonce=nonces)
@settings(max_examples=20, deadline=None)
def test_changed_field_makes_another_transaction(field: str, nonce: int) -> None:
    """Whoever changes what was signed, changes its hash."""
    signed = sign(CreateOrder(market_index=1, base_amount=10, price=5, is_ask=False, order_expiry=10**12), nonce)
    wire = msgspec.json.decode(signed.tx_info)
    wire[field] ^= 1
    changed = parse(signed.tx_type, msgspec.json.encode(wire).decode())
    assert schnorr.message_bytes(changed.words(CHAIN)).hex() != signed.tx_hash
    assert not schnorr.verify(changed.words(CHAIN), changed.signature, KEY.public_key)


@given(account=st.sampled_from([MASTER, SUB]), ahead_s=st.integers(1, 8 * 3600))
@settings(max_examples=15, deadline=None)
def test_auth_tokens_verify_at_the_simulated_venue(account: int, ahead_s: int) -> None:
    """For the account they name, until their deadline, and not one digit changed."""
    now_s = EXPIRES_MS // 1000
    signer = PureSigner(KEY, chain_id=CHAIN, account_index=account, api_key_index=API_KEY)
    token = signer.sign_token(now_s + ahead_s).reveal()

    def public_key(index: int, api_key: int) -> bytes | None:
        return KEY.public_key if (index, api_key) == (account, API_KEY) else None

    assert auth.check_token(token, now_s * 1000, public_key) == account
    with pytest.raises(Refused):
        auth.check_token(token, (now_s + ahead_s) * 1000, public_key)
    last = "0" if token[-1] != "0" else "1"
    with pytest.raises(Refused):
        auth.check_token(token[:-1] + last, now_s * 1000, public_key)
