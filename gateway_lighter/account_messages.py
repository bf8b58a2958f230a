"""Typed shapes of the venue's account answers and of its answers to transactions.

Conventions as in `messages`. Source: venue reference sections 4 to 6 and 15.5.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from gateway_lighter.messages import ZERO, Index, Trade, Wire

# --- accounts ----------------------------------------------------------------------------------------------


class Position(Wire, frozen=True, kw_only=True):
    """One market's position: `position` is unsigned, `sign` 1 long and -1 short. Flat markets stay in the list.

    `initial_margin_fraction` percent (leverage is 100 over it), `margin_mode` 0 cross and 1 isolated.
    """

    market_id: Index
    symbol: str = ""
    initial_margin_fraction: Decimal
    open_order_count: int = 0
    pending_order_count: int = 0
    position_tied_order_count: int = 0
    sign: int
    position: Decimal
    avg_entry_price: Decimal
    position_value: Decimal = ZERO
    unrealized_pnl: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    liquidation_price: Decimal = ZERO
    total_funding_paid_out: Decimal = ZERO
    margin_mode: int = 0
    allocated_margin: Decimal = ZERO

    def __post_init__(self) -> None:
        if self.sign not in (-1, 0, 1):
            raise ValueError(f"sign {self.sign} is neither long nor short")

    @property
    def signed_quantity(self) -> Decimal:
        """Base units, negative when short."""
        return self.position if self.sign >= 0 else -self.position


class AccountAsset(Wire, frozen=True, kw_only=True):
    """Spot balance (`locked_balance` of it in open orders) and perp-side balance of one asset."""

    symbol: str
    asset_id: Index
    balance: Decimal
    locked_balance: Decimal = ZERO
    margin_mode: str = ""
    margin_balance: Decimal = ZERO


class Account(Wire, frozen=True, kw_only=True):
    """An account; `account_type` is its kind, not its fee tier. `collateral` perp USDC, `transaction_time` us."""

    index: Index
    account_type: int
    l1_address: str
    status: int = 0
    available_balance: Decimal
    collateral: Decimal
    transaction_time: int = 0
    account_trading_mode: int = 0
    total_order_count: int = 0
    pending_order_count: int = 0
    cancel_all_time: int = 0
    positions: tuple[Position, ...] | None = None
    assets: tuple[AccountAsset, ...] | None = None
    total_asset_value: Decimal = ZERO
    cross_asset_value: Decimal = ZERO
    cross_initial_margin_requirement: Decimal = ZERO
    cross_maintenance_margin_requirement: Decimal = ZERO


class Accounts(Wire, frozen=True, kw_only=True):
    """`GET account`."""

    total: int = 0
    accounts: tuple[Account, ...]


class SubAccount(Wire, frozen=True, kw_only=True):
    """Row of `accountsByL1Address`; the smallest index is the master."""

    index: Index
    account_type: int
    status: int = 0


class SubAccounts(Wire, frozen=True, kw_only=True):
    """`GET accountsByL1Address`."""

    l1_address: str
    sub_accounts: tuple[SubAccount, ...] | None = None


class ApiKey(Wire, frozen=True, kw_only=True):
    """A registered key: 80 hex digits without 0x, and its next nonce."""

    account_index: Index
    api_key_index: Index
    nonce: int
    public_key: str
    transaction_time: int = 0


class ApiKeys(Wire, frozen=True, kw_only=True):
    """`GET apikeys`."""

    api_keys: tuple[ApiKey, ...] | None = None


class AccountLimits(Wire, frozen=True, kw_only=True):
    """`GET accountLimits`: the tier and the fees (ticks of 1e-6) that really apply."""

    user_tier: str
    user_tier_name: str = ""
    current_maker_fee_tick: int = 0
    current_taker_fee_tick: int = 0
    effective_lit_stakes: Decimal = ZERO


class PositionFunding(Wire, frozen=True, kw_only=True):
    """One funding payment: `change` signed USDC, `timestamp` s."""

    timestamp: int
    market_id: Index
    funding_id: Index
    change: Decimal
    discount: Decimal = ZERO
    rate: Decimal
    position_size: Decimal
    position_side: str


class PositionFundings(Wire, frozen=True, kw_only=True):
    """`GET positionFunding`, newest first."""

    position_fundings: tuple[PositionFunding, ...] | None = None
    next_cursor: str | None = None


class Deposit(Wire, frozen=True, kw_only=True):
    """Row of `deposit/history`."""

    id: str
    amount: Decimal
    timestamp: int
    status: str
    asset_id: int = 0
    l1_tx_hash: str = ""


class Deposits(Wire, frozen=True, kw_only=True):
    """`GET deposit/history`."""

    deposits: tuple[Deposit, ...] | None = None
    cursor: str | None = None


class Withdrawal(Wire, frozen=True, kw_only=True):
    """Row of `withdraw/history`."""

    id: str
    amount: Decimal
    timestamp: int
    status: str
    type: str = ""
    asset_id: int = 0
    l1_tx_hash: str = ""


class Withdrawals(Wire, frozen=True, kw_only=True):
    """`GET withdraw/history`."""

    withdraws: tuple[Withdrawal, ...] | None = None
    cursor: str | None = None


class TransferRow(Wire, frozen=True, kw_only=True):
    """Row of `transfer/history`; the accounts tell the direction, the routes ("perps", "spot") the sections."""

    id: str
    amount: Decimal
    timestamp: int
    type: str
    from_account_index: int = 0
    to_account_index: int = 0
    from_route: str | None = None
    to_route: str | None = None
    asset_id: int = 0
    fee: Decimal = ZERO
    tx_hash: str = ""


class Transfers(Wire, frozen=True, kw_only=True):
    """`GET transfer/history`."""

    transfers: tuple[TransferRow, ...] | None = None
    cursor: str | None = None


# --- orders ------------------------------------------------------------------------------------------------


class Order(Wire, frozen=True, kw_only=True):
    """An order's whole state. The side is `is_ask`; there is no word for a partial fill.

    `order_expiry` ms, `timestamp` block time in s, `transaction_time` microseconds: the only one fit for ordering.
    """

    order_index: Index
    client_order_index: int = 0
    market_index: Index
    owner_account_index: int
    initial_base_amount: Decimal
    price: Decimal
    remaining_base_amount: Decimal
    is_ask: bool
    filled_base_amount: Decimal
    filled_quote_amount: Decimal
    type: str
    time_in_force: str
    reduce_only: bool = False
    trigger_price: Decimal = ZERO
    order_expiry: int = 0
    status: str
    trigger_status: str = "na"
    trigger_time: int = 0
    parent_order_index: int = 0
    order_version: int = 0
    block_height: int = 0
    timestamp: int = 0
    created_at: int = 0
    updated_at: int = 0
    transaction_time: int = 0


class Orders(Wire, frozen=True, kw_only=True):
    """`GET accountActiveOrders`, `accountInactiveOrders` and `accountOrders`."""

    orders: tuple[Order, ...] | None = None
    next_cursor: str | None = None


# --- transactions ------------------------------------------------------------------------------------------


class NextNonce(Wire, frozen=True, kw_only=True):
    """`GET nextNonce`: the nonce to use next."""

    nonce: Index


class SendAnswer(Wire, frozen=True, kw_only=True):
    """A transaction is queued, which is not yet accepted: the verdict comes later."""

    tx_hash: str
    message: str | None = None
    predicted_execution_time_ms: int = 0
    volume_quota_remaining: int | None = None


class SendBatchAnswer(Wire, frozen=True, kw_only=True):
    """All transactions of a batch are queued."""

    tx_hash: tuple[str, ...]
    message: str | None = None
    predicted_execution_time_ms: int = 0
    volume_quota_remaining: int | None = None


class TransactionRow(Wire, frozen=True, kw_only=True):
    """A transaction the venue knows: `GET tx`, `accountTxs` and `account_tx`.

    `status` 0 failed, 1 pending, 2 executed, 3 pending-final. `event_info` is JSON in a string, see `verdicts`.
    """

    hash: str
    type: int
    info: str = ""
    event_info: str = ""
    status: int
    account_index: int = 0
    api_key_index: int = 0
    nonce: int = 0
    expire_at: int = 0
    block_height: int = 0
    sequence_index: int = 0
    queued_at: int = 0
    executed_at: int = 0
    transaction_time: int = 0


class TransactionRows(Wire, frozen=True, kw_only=True):
    """`GET accountTxs`."""

    txs: tuple[TransactionRow, ...] | None = None


class EventOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order inside `event_info`, in wire integers: the parts needed to settle it."""

    order_index: int = msgspec.field(name="i", default=0)
    client_order_index: int = msgspec.field(name="u", default=0)
    account_index: int = msgspec.field(name="a", default=0)
    initial_size: int = msgspec.field(name="is", default=0)
    remaining_size: int = msgspec.field(name="rs", default=0)
    price: int = msgspec.field(name="p", default=0)
    is_ask: int = msgspec.field(name="ia", default=0)
    status: int = msgspec.field(name="st", default=0)
    trigger_status: int = msgspec.field(name="ts", default=0)


class EventTrade(msgspec.Struct, frozen=True, kw_only=True):
    """The match shown in `event_info`: wire price and size, fees in ticks."""

    price: int = msgspec.field(name="p", default=0)
    size: int = msgspec.field(name="s", default=0)
    taker_fee: int = msgspec.field(name="tf", default=0)
    maker_fee: int = msgspec.field(name="mf", default=0)


class EventInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`event_info`: what executing the transaction did. `application_error` is empty or JSON in a string."""

    market_index: int | None = msgspec.field(name="m", default=None)
    trade: EventTrade | None = msgspec.field(name="t", default=None)
    maker_order: EventOrder | None = msgspec.field(name="mo", default=None)
    taker_order: EventOrder | None = msgspec.field(name="to", default=None)
    old_order: EventOrder | None = msgspec.field(name="oo", default=None)
    new_order: EventOrder | None = msgspec.field(name="no", default=None)
    order_index: int | None = msgspec.field(name="i", default=None)
    client_order_index: int | None = msgspec.field(name="u", default=None)
    application_error: str = msgspec.field(name="ae", default="")


# --- stream bodies -----------------------------------------------------------------------------------------

TradesByMarket = dict[str, tuple[Trade, ...]]
OrdersByMarket = dict[str, tuple[Order, ...]]


class Stats(Wire, frozen=True, kw_only=True):
    """Margin figures of an account, quote units; `leverage` times, `margin_usage` percent."""

    collateral: Decimal
    portfolio_value: Decimal
    leverage: Decimal
    available_balance: Decimal
    margin_usage: Decimal
    buying_power: Decimal = ZERO


class UserStats(Stats, frozen=True, kw_only=True):
    """Body of `user_stats`."""

    account_trading_mode: int = 0
    cross_stats: Stats | None = None
    total_stats: Stats | None = None
