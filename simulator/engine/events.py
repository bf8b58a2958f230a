"""What the engine tells: typed, frozen events in the order they happened. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from simulator.engine.values import OrderSnapshot, Reason, Side


class Change(StrEnum):
    """What an `OrderChanged` reports."""

    ACCEPTED = "accepted"
    FILLED = "filled"
    PARTLY_FILLED = "partly_filled"
    SHRUNK = "shrunk"
    TRIGGERED = "triggered"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChanged:
    """An order was accepted, filled, cancelled, ...; `order` is its state just after."""

    change: Change
    order: OrderSnapshot
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One side of one trade.

    Args:
        start_position: signed position (perpetual) or base balance (spot) before the fill.
        closed_pnl: gross of fees, in quote.
        fee: in `fee_token`; includes `extra_fee`.
        liquidated: account being liquidated when the trade came of a liquidation.
        mark_price: mark at the time, for liquidations.
        twap_id: time-weighted order this is a slice of.
        settlement: the venue closed the position at the mark; there is no trade behind it.
    """

    account: str
    instrument: str
    trade_id: int
    order_id: int
    client_id: str | None
    side: Side
    price: Decimal
    quantity: Decimal
    taker: bool
    fee: Decimal
    extra_fee: Decimal
    fee_token: str
    start_position: Decimal
    closed_pnl: Decimal
    time_ms: int
    liquidated: str | None = None
    mark_price: Decimal | None = None
    twap_id: int | None = None
    settlement: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeSide:
    """One side of a match: its order, and the signed position and entry price just before."""

    order_id: int
    client_id: str | None
    position: Decimal
    entry_price: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One match as the public sees it; `side` is the taker's. `buy` and `sell` are what each side brought to it."""

    instrument: str
    trade_id: int
    price: Decimal
    quantity: Decimal
    side: Side
    buyer: str
    seller: str
    time_ms: int
    buy: TradeSide
    sell: TradeSide
    liquidated: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionChanged:
    """A position opened, grew, shrank, closed or flipped."""

    account: str
    instrument: str
    quantity: Decimal
    entry_price: Decimal
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceChanged:
    """The cash of a margin pool (`pool` set) or a spot token (`token` set) changed."""

    account: str
    pool: str | None
    token: str
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BookChanged:
    """The visible book of an instrument changed since the last drain; at most one per drain."""

    instrument: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceChanged:
    """Oracle and mark price of an instrument moved."""

    instrument: str
    oracle: Decimal
    mark: Decimal
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingPaid:
    """Hourly funding of one position; `amount` is negative when the account paid."""

    account: str
    instrument: str
    amount: Decimal
    quantity: Decimal
    rate: Decimal
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Liquidated:
    """An account (pool) or one isolated position of it was liquidated; signed quantities before it."""

    account: str
    pool: str
    isolated: bool
    instruments: tuple[str, ...]
    quantities: tuple[Decimal, ...]
    notional: Decimal
    account_value: Decimal
    liquidation_id: int
    time_ms: int


class TransferKind(StrEnum):
    """Why money moved without a trade."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    BETWEEN_POOLS = "between_pools"
    BETWEEN_ACCOUNTS = "between_accounts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """Money moved: `source` and `destination` are wallet names (a pool or `SPOT_WALLET`).

    `label` is the front's own name for the movement; `fee` was paid by `account` on top, in `token`.
    """

    kind: TransferKind
    account: str
    counterparty: str
    source: str
    destination: str
    token: str
    amount: Decimal
    time_ms: int
    sequence: int
    label: str = ""
    fee: Decimal = Decimal(0)


class TwapState(StrEnum):
    """Where a time-weighted order is in its life."""

    ACTIVATED = "activated"
    FINISHED = "finished"
    TERMINATED = "terminated"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class TwapRequest:
    """A time-weighted order as asked for; `randomise` varies its slices by up to a fifth."""

    instrument: str
    side: Side
    quantity: Decimal
    minutes: int
    reduce_only: bool = False
    randomise: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TwapSnapshot:
    """A time-weighted order at one moment; `error` says what ended it when `state` is ERROR."""

    twap_id: int
    account: str
    request: TwapRequest
    created_ms: int
    executed: Decimal
    executed_notional: Decimal
    state: TwapState
    error: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TwapChanged:
    """A time-weighted order began, executed a slice (`progress`), or ended."""

    twap: TwapSnapshot
    progress: bool
    time_ms: int


Event = (
    OrderChanged
    | Fill
    | Trade
    | PositionChanged
    | BalanceChanged
    | BookChanged
    | PriceChanged
    | FundingPaid
    | Liquidated
    | Transferred
    | TwapChanged
)
