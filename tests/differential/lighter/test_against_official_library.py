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
from gateway_lighter.schnorr import PrivateKey, verify
from gateway_lighter.signing import hash_token_text, hash_transaction
from gateway_lighter.transactions import (
    MAX_32,
    MAX_48,
    NO_ATTRIBUTES,
    Attributes,
    CancelAllOrders,
    CancelAllWhen,
    CancelOrder,
    CreateGroupedOrders,
    CreateOrder,
    Grouping,
    ModifyOrder,
    OrderFields,
    OrderKind,
    TimeInForce,
    Transaction,
    UpdateLeverage,
    UpdateMargin,
)
from venuemesh.errors import InvalidOrder

try:
    find_library()
except NativeUnavailable as cause:
    pytest.skip(f"the official signer library cannot be the oracle: {cause}", allow_module_level=True)

BOUNDED = settings(max_examples=60, deadline=None)
KEY = PrivateKey("3c" * 39 + "02")
MASTER, SUB = 4_242, 2**48 - 77

markets = st.one_of(st.integers(0, 254), st.integers(2_048, 4_094), st.integers(256, MAX_48))
sizes, prices = st.integers(1, MAX_48), st.integers(1, MAX_32)
client_indices = st.integers(0, MAX_48)
expiries = st.integers(1_600_000_000_000, 2_000_000_000_000)
nonces = st.integers(0, 2**47 - 2)
money = st.integers(1, 2**60 - 1)


@pytest.fixture(scope="module")
def library() -> NativeLibrary:
    """Loaded and self-tested once."""
    return load_library()


@st.composite
def orders(draw: st.DrawFn) -> CreateOrder:
    """An order in one of the combinations the venue takes."""
    kind = draw(st.sampled_from(OrderKind))
    free = kind in (OrderKind.LIMIT, OrderKind.STOP_LOSS_LIMIT, OrderKind.TAKE_PROFIT_LIMIT)
    only = TimeInForce.GOOD_TILL_TIME if kind is OrderKind.TWAP else TimeInForce.IMMEDIATE_OR_CANCEL
    tif = draw(st.sampled_from(TimeInForce)) if free else only
    triggered = kind.name.startswith(("STOP", "TAKE"))
    lives = triggered or tif is not TimeInForce.IMMEDIATE_OR_CANCEL
    perp = triggered or draw(st.booleans())
    return CreateOrder(
        market_index=draw(st.integers(0, 254) if perp else markets),
        client_order_index=draw(client_indices),
        base_amount=draw(sizes),
        price=draw(prices),
        is_ask=draw(st.booleans()),
        type=kind,
        time_in_force=tif,
        reduce_only=perp and draw(st.booleans()),
        trigger_price=draw(prices) if triggered else 0,
        order_expiry=draw(expiries) if lives else 0,
    )


@st.composite
def groups(draw: st.DrawFn) -> CreateGroupedOrders:
    """A group in one of the three groupings."""
    grouping = draw(st.sampled_from(Grouping))
    expiry, is_ask, market = draw(expiries), draw(st.booleans()), draw(st.integers(0, 254))
    size = draw(sizes) if grouping is Grouping.ONE_CANCELS_OTHER else 0

    def child(kind: OrderKind) -> OrderFields:
        return OrderFields(
            market_index=market,
            base_amount=size,
            price=draw(prices),
            is_ask=is_ask,
            type=kind,
            time_in_force=TimeInForce.GOOD_TILL_TIME,
            reduce_only=True,
            trigger_price=draw(prices),
            order_expiry=expiry,
        )

    children = [child(OrderKind.TAKE_PROFIT_LIMIT), child(OrderKind.STOP_LOSS_LIMIT)]
    if grouping is Grouping.ONE_TRIGGERS_OTHER:
        children = children[:1]
    parent = OrderFields(
        market_index=market, base_amount=draw(sizes), price=draw(prices), is_ask=not is_ask, order_expiry=expiry
    )
    parents = [] if grouping is Grouping.ONE_CANCELS_OTHER else [parent]
    return CreateGroupedOrders(grouping_type=grouping, orders=(*parents, *children))


trading_attributes = st.one_of(
    st.just(NO_ATTRIBUTES),
    st.builds(
        Attributes,
        skip_nonce=st.booleans(),
        self_trade_mode=st.integers(0, 2),
        self_trade_scope=st.integers(0, 1),
    ),
    st.builds(Attributes, self_trade_mode=st.just(3)),
    st.builds(
        Attributes,
        integrator_account_index=st.integers(1, MASTER),
        integrator_taker_fee=st.integers(1, 1_000),
        integrator_maker_fee=st.integers(1, 1_000),
    ),
)


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


plain_kinds: st.SearchStrategy[tuple[Transaction, Attributes]] = st.one_of(
    st.tuples(
        st.builds(CancelOrder, market_index=markets, index=st.integers(1, 2**56)),
        st.builds(Attributes, skip_nonce=st.booleans()),
    ),
    st.tuples(st.just(CancelAllOrders()), st.builds(Attributes, cancel_all_market=markets, skip_nonce=st.booleans())),
    st.tuples(
        st.builds(CancelAllOrders, time_in_force=st.just(CancelAllWhen.SCHEDULED), time=expiries),
        st.just(NO_ATTRIBUTES),
    ),
    st.tuples(
        st.builds(
            ModifyOrder,
            market_index=markets,
            index=st.integers(1, 2**56),
            base_amount=sizes,
            price=prices,
            trigger_price=st.integers(0, MAX_32),
        ),
        st.builds(Attributes, order_version=st.integers(0, 1_000), skip_nonce=st.booleans()),
    ),
    st.tuples(
        st.builds(
            UpdateLeverage,
            market_index=st.integers(0, 254),
            initial_margin_fraction=st.integers(1, 10_000),
            margin_mode=st.integers(0, 1),
        ),
        st.just(NO_ATTRIBUTES),
    ),
    st.tuples(
        st.builds(UpdateMargin, market_index=st.integers(0, 254), usdc_amount=money, direction=st.integers(0, 1)),
        st.just(NO_ATTRIBUTES),
    ),
)


@given(case=plain_kinds, nonce=nonces, account_index=st.sampled_from([MASTER, SUB]))
@BOUNDED
def test_other_trading_kinds_hash_as_the_library_hashes_them(
    library: NativeLibrary, case: tuple[Transaction, Attributes], nonce: int, account_index: int
) -> None:
    """Cancels, modifies, leverage and margin, of master and sub-account."""
    check(library, case[0], nonce, case[1], account_index)


account_kinds: list[Transaction] = [
    account.Withdraw(asset_index=3, route_type=1, amount=6_000_000_001),
    account.Transfer(
        to_account_index=777, asset_index=3, to_route_type=1, amount=6_000_000_001, usdc_fee=2**33, memo=(7,) * 32
    ),
    account.ChangePubKey(pub_key=KEY.public_key),
    account.CreateSubAccount(),
    account.CreatePublicPool(operator_fee=100_000, initial_total_shares=1_000_000, min_operator_share_rate=500),
    account.UpdatePublicPool(public_pool_index=2**48 - 2, status=0, operator_fee=100_000, min_operator_share_rate=500),
    account.MintShares(public_pool_index=2**48 - 2, share_amount=100),
    account.BurnShares(public_pool_index=2**48 - 2, share_amount=100),
    account.StakeAssets(staking_pool_index=2**48 - 9, share_amount=100),
    account.UnstakeAssets(staking_pool_index=2**48 - 9, share_amount=100),
    account.UpdateAccountConfig(account_trading_mode=1),
    account.UpdateAccountAssetConfig(asset_index=1, asset_margin_mode=1),
    account.ApproveIntegrator(
        integrator_account_index=718_718,
        max_perps_taker_fee=1_000,
        max_perps_maker_fee=500,
        max_spot_taker_fee=10_000,
        max_spot_maker_fee=5_000,
        approval_expiry=1_893_456_000_000,
    ),
]


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
