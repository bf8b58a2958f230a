"""Random transactions: hash and JSON equal the official signer library's, and its signatures verify."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_lighter import account_transactions as account
from gateway_lighter.codec_transactions import build_tx_info, l1_message, read_tx_info
from gateway_lighter.native_signer import NativeLibrary, NativeSigner, NativeUnavailable, find_library, load_library
from gateway_lighter.schnorr import verify
from gateway_lighter.signing import hash_token_text, hash_transaction
from gateway_lighter.transactions import (
    NO_ATTRIBUTES,
    Attributes,
    CancelAllOrders,
    CancelOrder,
    CreateGroupedOrders,
    CreateOrder,
    ModifyOrder,
    Transaction,
    UpdateLeverage,
    UpdateMargin,
)
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
from venuemesh.errors import InvalidOrder

try:
    find_library()
except NativeUnavailable as cause:
    pytest.skip(f"the official signer library cannot be the oracle: {cause}", allow_module_level=True)

BOUNDED = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def library() -> NativeLibrary:
    """Loaded and self-tested once."""
    return load_library()


def check(
    library: NativeLibrary,
    transaction: Transaction,
    nonce: int,
    attributes: Attributes = NO_ATTRIBUTES,
    account_index: int = MASTER,
) -> None:
    """Let the library sign, and derive everything deterministic again."""
    signer = NativeSigner(library, KEY, chain_id=304, account_index=account_index, api_key_index=9)
    signed = signer.sign(transaction, nonce=nonce, expired_at_ms=1, attributes=attributes)
    written, envelope, signature = read_tx_info(signed.tx_type, signed.tx_info.encode(), 304)
    assert written == transaction
    assert envelope.attributes == attributes
    message = hash_transaction(transaction, envelope)
    assert message.hex() == signed.tx_hash
    assert build_tx_info(transaction, envelope, base64.b64encode(signature).decode()).decode() == signed.tx_info
    assert verify(KEY.public_key, message, signature)
    forged = bytes([signature[0] ^ 1]) + signature[1:]
    assert not verify(KEY.public_key, message, forged)


@given(order=orders(), nonce=nonces, attributes=trading_attributes)
@BOUNDED
def test_orders_hash_as_the_library_hashes_them(
    library: NativeLibrary, order: CreateOrder, nonce: int, attributes: Attributes
) -> None:
    """Every kind, time in force, side, flag and attribute."""
    check(library, order, nonce, attributes)


@given(group=groups(), nonce=nonces, attributes=trading_attributes)
@BOUNDED
def test_groups_hash_as_the_library_hashes_them(
    library: NativeLibrary, group: CreateGroupedOrders, nonce: int, attributes: Attributes
) -> None:
    """The folding of two or three orders."""
    check(library, group, nonce, attributes)


@given(case=plain_kinds, nonce=nonces, account_index=st.sampled_from([MASTER, SUB]))
@BOUNDED
def test_other_trading_kinds_hash_as_the_library_hashes_them(
    library: NativeLibrary, case: tuple[Transaction, Attributes], nonce: int, account_index: int
) -> None:
    """Cancels, modifies, leverage and margin, of master and sub-account."""
    check(library, case[0], nonce, case[1], account_index)


@pytest.mark.parametrize("transaction", account_kinds, ids=lambda kind: type(kind).__name__)
def test_account_kinds_hash_as_the_library_hashes_them(library: NativeLibrary, transaction: Transaction) -> None:
    """One of each kind that is no order, and the text for the owner's key."""
    check(library, transaction, 5)
    _, _, message = library.sign(transaction, NO_ATTRIBUTES, nonce=5, account_index=MASTER, api_key_index=9)
    info, _, _ = library.sign(transaction, NO_ATTRIBUTES, nonce=5, account_index=MASTER, api_key_index=9)
    _, envelope, _ = read_tx_info(transaction.tx_type, info.encode(), 304)
    assert message == (l1_message(transaction, envelope) if transaction.l1_signed else "")


def test_every_kind_is_compared() -> None:
    """A kind added without a comparison fails here."""
    compared = {type(kind) for kind in account_kinds} | {
        CreateOrder,
        CreateGroupedOrders,
        CancelOrder,
        CancelAllOrders,
        ModifyOrder,
        UpdateLeverage,
        UpdateMargin,
    }
    assert compared == set(account.KINDS.values())


@given(deadline_s=st.integers(1, 2**40), account_index=st.sampled_from([MASTER, SUB]))
@settings(max_examples=20, deadline=None)
def test_auth_tokens_of_the_library_verify(library: NativeLibrary, deadline_s: int, account_index: int) -> None:
    """Text and signature."""
    signer = NativeSigner(library, KEY, chain_id=304, account_index=account_index, api_key_index=9)
    text, _, signature = signer.sign_token(deadline_s).reveal().rpartition(":")
    assert text == f"{deadline_s}:{account_index}:9"
    assert verify(KEY.public_key, hash_token_text(text), bytes.fromhex(signature))


def broken_orders() -> list[dict[str, Any]]:
    """Orders one step outside the rules."""
    plain: dict[str, Any] = {"market_index": 0, "base_amount": 1, "price": 1, "is_ask": False, "order_expiry": 10**12}
    return [
        {**plain, "market_index": 255},
        {**plain, "base_amount": 0},
        {**plain, "base_amount": 2**48},
        {**plain, "price": 0},
        {**plain, "client_order_index": 2**48},
        {**plain, "order_expiry": 0},
        {**plain, "trigger_price": 1},
        {**plain, "type": 1},
        {**plain, "type": 2, "time_in_force": 0},
        {**plain, "type": 6, "time_in_force": 0},
    ]


@pytest.mark.parametrize("fields", broken_orders())
def test_what_the_library_refuses_our_rules_refuse(library: NativeLibrary, fields: dict[str, Any]) -> None:
    """Both, so that no order is refused only after it was journalled."""
    order = CreateOrder(**fields)
    library.create_client(KEY, chain_id=304, account_index=MASTER, api_key_index=9)
    with pytest.raises(InvalidOrder):
        order.check()
    with pytest.raises(InvalidOrder):
        library.sign(order, NO_ATTRIBUTES, nonce=1, account_index=MASTER, api_key_index=9)


EDGES = (-1, 0, 1, 62, 63, 254, 255, 256, 10_000, 10_001, 2**31, 2**32 - 1)
WIDE_EDGES = (*EDGES, 2**47, 2**48 - 2, 2**48 - 1, 2**48, 2**56, 2**60 - 1, 2**60, 2**62)
EDGE_CASES: list[tuple[Transaction, str, tuple[int, ...]]] = [
    (transaction, field, WIDE_EDGES if wide else EDGES)
    for transaction, fields in (
        (
            CreateOrder(market_index=0, base_amount=1, price=1, is_ask=False, order_expiry=10**12),
            {"market_index": True, "client_order_index": True, "base_amount": True, "price": False},
        ),
        (CancelOrder(market_index=0, index=5), {"market_index": True, "index": True}),
        (
            ModifyOrder(market_index=0, index=5, base_amount=4, price=5),
            {"market_index": True, "index": True, "base_amount": True, "price": False, "trigger_price": False},
        ),
        (
            UpdateLeverage(market_index=0, initial_margin_fraction=500),
            {"market_index": True, "initial_margin_fraction": False},
        ),
        (UpdateMargin(market_index=0, usdc_amount=5, direction=1), {"market_index": True, "usdc_amount": True}),
        (account.Withdraw(asset_index=3, route_type=0, amount=5), {"asset_index": False, "amount": True}),
        (
            account.Transfer(to_account_index=5, asset_index=3, amount=5),
            {"to_account_index": True, "amount": True, "usdc_fee": True},
        ),
    )
    for field, wide in fields.items()
]


@pytest.mark.parametrize(
    ("transaction", "field", "values"), EDGE_CASES, ids=lambda case: case if isinstance(case, str) else ""
)
def test_edges_the_library_refuses_our_rules_refuse(
    library: NativeLibrary, transaction: Transaction, field: str, values: tuple[int, ...]
) -> None:
    """Field by field at every power that could be a bound; ours may be stricter, never laxer."""
    library.create_client(KEY, chain_id=304, account_index=MASTER, api_key_index=9)
    for value in values:
        changed = msgspec.structs.replace(transaction, **{field: value})
        try:
            library.sign(changed, NO_ATTRIBUTES, nonce=1, account_index=MASTER, api_key_index=9)
        except InvalidOrder:
            with pytest.raises(InvalidOrder):
                changed.check()
