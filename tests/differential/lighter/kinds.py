"""Transactions of every kind, as strategies: the same for each judge of hashes and signatures."""

from __future__ import annotations

from hypothesis import strategies as st

from gateway_lighter import account_transactions as account
from gateway_lighter.schnorr import PrivateKey
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

KEY = PrivateKey("3c" * 39 + "02")
MASTER, SUB = 4_242, 2**48 - 77

markets = st.one_of(st.integers(0, 254), st.integers(2_048, 4_094), st.integers(256, MAX_48))
sizes, prices = st.integers(1, MAX_48), st.integers(1, MAX_32)
client_indices = st.integers(0, MAX_48)
expiries = st.integers(1_600_000_000_000, 2_000_000_000_000)
nonces = st.integers(0, 2**47 - 2)
money = st.integers(1, 2**60 - 1)


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
    """A group in one of the three groupings: exits at market or at a price, of a size or of the position's."""
    grouping = draw(st.sampled_from(Grouping))
    expiry, is_ask, market = draw(expiries), draw(st.booleans()), draw(st.integers(0, 254))
    size = draw(st.one_of(st.just(0), sizes)) if grouping is Grouping.ONE_CANCELS_OTHER else 0

    def child(at_market: OrderKind, at_a_price: OrderKind) -> OrderFields:
        kind = draw(st.sampled_from((at_market, at_a_price)))
        tif = TimeInForce.IMMEDIATE_OR_CANCEL if kind is at_market else draw(st.sampled_from(TimeInForce))
        return OrderFields(
            market_index=market,
            client_order_index=draw(st.sampled_from((0, int(at_market)))),
            base_amount=size,
            price=draw(prices),
            is_ask=is_ask,
            type=kind,
            time_in_force=tif,
            reduce_only=True,
            trigger_price=draw(prices),
            order_expiry=expiry,
        )

    children = [
        child(OrderKind.TAKE_PROFIT, OrderKind.TAKE_PROFIT_LIMIT),
        child(OrderKind.STOP_LOSS, OrderKind.STOP_LOSS_LIMIT),
    ]
    if grouping is Grouping.ONE_TRIGGERS_OTHER:
        children = [draw(st.sampled_from(children))]
    at_once = draw(st.booleans())
    parent = OrderFields(
        market_index=market,
        base_amount=draw(sizes),
        price=draw(prices),
        is_ask=not is_ask,
        type=draw(st.sampled_from((OrderKind.LIMIT, OrderKind.MARKET))) if at_once else OrderKind.LIMIT,
        time_in_force=TimeInForce.IMMEDIATE_OR_CANCEL if at_once else draw(st.sampled_from(list(TimeInForce)[1:])),
        order_expiry=0 if at_once else expiry,
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
