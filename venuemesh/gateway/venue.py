"""The port a venue adapter implements, and the values that cross it. Pure.

An adapter turns these calls into its venue's protocol and its venue's messages into these values; it decides
nothing. Journal, idempotency, order states, positions, books, reconciliation and streams are the frame's.

Failures are `venuemesh.errors`: `sent` = no proves that nothing left the process, `sent` = maybe that nobody can
tell. What a venue decided about an order is a value (`Refused`), not an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Protocol

from venuemesh.errors import Reason
from venuemesh.transport.quality import QualityPolicy
from venuemesh.v1 import (
    account_pb2,
    instrument_pb2,
    market_data_pb2,
    operations_pb2,
    order_pb2,
    stream_pb2,
    venue_pb2,
)

MAX_FETCHED_TOGETHER = 20
"""Orders of one `Venue.fetch_orders`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What the journal must remember of a request before it is sent.

    Attributes:
        nonce: the venue's nonce; 0 when it has none.
        expires_ns: the venue refuses the request after this time; 0 when it has no such rule.
    """

    nonce: int = 0
    expires_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TwapTerms:
    """Schedule of a TWAP."""

    minutes: int
    randomize: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTicket:
    """An order ready to send: validated, with every id it will ever need.

    Attributes:
        price: limit price; for market types the worst price accepted, already on tick; of a TWAP the worst one of its
            slices where the venue takes one, else 0.
        venue_client_order_id: the id the venue will know the caller's key by, where it takes one.
        twap: set for a TWAP alone.
        expire_ns: end of a GTD order; 0 of every other.
    """

    account_id: str
    order_id: str
    venue_client_order_id: str
    instrument: instrument_pb2.Instrument
    side: order_pb2.Side.ValueType
    order_type: order_pb2.OrderType.ValueType
    quantity: Decimal
    price: Decimal
    trigger_price: Decimal | None
    time_in_force: order_pb2.TimeInForce.ValueType
    post_only: bool
    reduce_only: bool
    reservation: Reservation
    twap: TwapTerms | None = None
    expire_ns: int = 0


class Grouping(Enum):
    """How orders of one action belong together."""

    NONE = "none"
    BRACKET = "bracket"
    """The first is the entry; the others start when it has filled, and end with it."""
    POSITION = "position"
    """Each follows the whole position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwapTarget:
    """What a TWAP is known by where its venue id is not: its terms and when it was sent.

    Attributes:
        not_before_ns, not_after_ns: when the venue can have taken it, our clock.
        others: venue ids of the account's other TWAPs, which it cannot be.
        rivals: True when another TWAP of equal terms waits for its id too, so that neither can be told from the other.
    """

    side: order_pb2.Side.ValueType
    quantity: Decimal
    reduce_only: bool
    terms: TwapTerms
    not_before_ns: int
    not_after_ns: int
    others: frozenset[str]
    rivals: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTarget:
    """A working or uncertain order to cancel, amend or ask about; `venue_order_id` is None while unknown."""

    account_id: str
    instrument: instrument_pb2.Instrument
    venue_client_order_id: str
    venue_order_id: str | None
    twap: TwapTarget | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """The venue took the order. `filled_quantity` is None when the answer does not say."""

    venue_order_id: str
    filled_quantity: Decimal | None = None
    ended: bool = False
    """True when nothing of it stays in the book."""
    trigger_state: order_pb2.TriggerState.ValueType = order_pb2.TRIGGER_STATE_UNSPECIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The venue's own no, with its words. `reason` OPEN-ended texts are VENUE_REJECTED."""

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear:
    """What became of one element of a batch cannot be told from the answer; of the others it can."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Amended:
    """The venue confirmed an amendment; the id is new where the venue cancels and places anew."""

    venue_order_id: str
    filled_quantity: Decimal | None = None
    ended: bool = False


class CancelAnswer(Enum):
    """What a venue says to a cancel."""

    CANCELED = "canceled"
    GONE = "gone"
    """It never was, is cancelled or filled: which one, the order's own state must tell."""


class VenueOrderState(StrEnum):
    """Where an order stands at the venue."""

    WORKING = "working"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    UNRECOGNISED = "unrecognised"
    """The venue said a word we do not know; it is in `text`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueOrder:
    """An order as the venue shows it.

    Attributes:
        filled_quantity: None where the venue's numbers do not tell it.
        price: limit price; for market types perhaps a worst price.
        trigger_price: None where it has none, or where the row does not say.
        reason: why it ended, when it was not by fill or by request.
        text: the venue's status word.
    """

    venue_order_id: str
    venue_client_order_id: str | None
    symbol: str
    side: order_pb2.Side.ValueType
    quantity: Decimal
    filled_quantity: Decimal | None
    price: Decimal | None
    state: VenueOrderState
    reason: Reason | None
    text: str
    venue_time_ns: int
    trigger_state: order_pb2.TriggerState.ValueType = order_pb2.TRIGGER_STATE_UNSPECIFIED
    trigger_price: Decimal | None = None
    reduce_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueFill:
    """One fill of the account. `execution_id` is made of the venue's facts and unique per account."""

    execution_id: str
    trade_id: str
    venue_order_id: str
    venue_client_order_id: str | None
    symbol: str
    side: order_pb2.Side.ValueType
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    liquidity_role: order_pb2.LiquidityRole.ValueType
    venue_realized_pnl: Decimal | None
    venue_time_ns: int
    forced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VenuePosition:
    """A position as the venue shows it; None where the venue does not say."""

    symbol: str
    quantity: Decimal
    entry_price: Decimal | None
    mark_price: Decimal | None = None
    liquidation_price: Decimal | None = None
    leverage: Decimal | None = None
    margin_mode: instrument_pb2.MarginMode.ValueType = instrument_pb2.MARGIN_MODE_UNSPECIFIED
    margin_used: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeverageSetting:
    """Leverage and margin mode of one instrument, as the venue has them."""

    leverage: Decimal
    margin_mode: instrument_pb2.MarginMode.ValueType


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralTransfer:
    """Money to move between two sections of the venue; the main section is empty."""

    account_id: str
    asset: str
    amount: Decimal
    from_section: str
    to_section: str
    reservation: Reservation


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueSnapshot:
    """An account at the venue at one moment; `taken_ns` is our clock before the first request of it left."""

    taken_ns: int
    open_orders: Sequence[VenueOrder]
    positions: Sequence[VenuePosition]
    balances: Sequence[account_pb2.Balance]
    summary: account_pb2.AccountSummary


@dataclass(frozen=True, slots=True)
class Level:
    """Quantity at one price, base units."""

    price: Decimal
    quantity: Decimal
    order_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BookSnapshot:
    """A whole book, best first on both sides."""

    symbol: str
    bids: Sequence[Level]
    asks: Sequence[Level]
    venue_time_ns: int
    received_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePrice:
    """Prices of one instrument besides its book's; `mid_price` is None while the book has no middle."""

    symbol: str
    oracle_price: Decimal
    mark_price: Decimal
    mid_price: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueAccount:
    """An account of this gateway: our name and the venue's public one."""

    account_id: str
    venue_account: str


class Feed(StrEnum):
    """A kind of market data that can be watched per symbol."""

    BOOK = "book"
    TOP = "top"
    TRADES = "trades"
    STATISTICS = "statistics"
    CANDLES = "candles"


class VenueSink(Protocol):
    """Where an adapter delivers what the venue tells. Every method returns at once and never raises."""

    def on_link(self, link_id: str, state: stream_pb2.LinkState.ValueType, cause: str) -> None:
        """A connection changed its state."""

    def on_account_live(self, account_id: str) -> None:
        """The private stream of the account is subscribed (again): what came before may have been missed."""

    def on_account_lost(self, account_id: str, cause: str) -> None:
        """The private stream of the account is gone."""

    def on_order(self, account_id: str, order: VenueOrder) -> None:
        """The venue pushed an order's state."""

    def on_fill(self, account_id: str, fill: VenueFill) -> None:
        """The venue pushed a fill; repeats are welcome."""

    def on_ledger(self, account_id: str, entry: account_pb2.LedgerEntry) -> None:
        """Money moved other than by a fill: funding, transfers."""

    def on_positions(self, account_id: str, positions: Sequence[VenuePosition]) -> None:
        """Marks, margin and liquidation prices of positions; quantities come from fills."""

    def on_balances(
        self, account_id: str, balances: Sequence[account_pb2.Balance], summary: account_pb2.AccountSummary
    ) -> None:
        """Balances and margin as the venue sees them now."""

    def on_book(self, book: BookSnapshot) -> None:
        """A new state of a watched book."""

    def on_top(self, symbol: str, bid: Level | None, ask: Level | None, venue_time_ns: int, received_ns: int) -> None:
        """A new best bid and offer."""

    def on_trades(self, symbol: str, trades: Sequence[market_data_pb2.Trade]) -> None:
        """Public trades, oldest first."""

    def on_statistics(self, statistics: market_data_pb2.MarketStatistics) -> None:
        """Mark, index, funding and so on."""

    def on_candle(self, candle: market_data_pb2.Candle) -> None:
        """The running or just completed candle."""

    def on_feed_lost(self, symbol: str, cause: str) -> None:
        """Market data of the symbol is not current any more."""

    def on_reference_prices(self, section: str, prices: Sequence[ReferencePrice], received_ns: int) -> None:
        """All reference prices of a section of the venue; adapters that do not follow them never call."""

    def on_reference_lost(self, section: str, cause: str) -> None:
        """The reference prices of a section are not current any more."""

    def on_unknown_words(self, account_id: str, text: str) -> None:
        """The venue refused something, or answered, in words that no table of the adapter has; the whole text."""


class Venue(Protocol):
    """What an adapter offers. One instance serves all accounts of the gateway."""

    name: str
    capabilities: venue_pb2.VenueCapabilities
    accounts: Sequence[VenueAccount]

    async def run(self, sink: VenueSink) -> None:
        """Keep the links up until cancelled; everything learnt goes to `sink`."""

    def links(self) -> Sequence[venue_pb2.LinkStatus]:
        """Health of each connection now."""

    def judge_links(self, policy: QualityPolicy) -> None:
        """Judge every connection by these limits from now on; one that is degraded is good again by their rule."""

    def quotas(self) -> Sequence[operations_pb2.Quota]:
        """What is left of each limit of the venue; read often, so it must be cheap."""

    async def fetch_instruments(self) -> Sequence[instrument_pb2.Instrument]:
        """Everything that trades, with its rules."""

    def venue_client_order_id(self, order_id: str) -> str:
        """The id the venue will know our order by; pure, the same for ever."""

    def reserve(self, account_id: str, *, not_after_ns: int) -> Reservation:
        """Take the next nonce and choose the request's expiry.

        Args:
            not_after_ns: the caller gives up at this time; the request should not take effect later.
        Raises:
            Unavailable: the link is down; nothing was used up.
        """

    def restore_nonce(self, account_id: str, nonce: int) -> None:
        """A nonce this or an earlier process used; later ones are higher."""

    async def place_order(self, ticket: OrderTicket, sent: Callable[[], None]) -> Placed | Refused:
        """Send an order; call `sent` once the request is written, before waiting for the answer."""

    async def place_orders(
        self, tickets: Sequence[OrderTicket], sent: Callable[[], None], *, grouping: Grouping = Grouping.NONE
    ) -> Sequence[Placed | Refused | Unclear]:
        """Send orders of one account, at most `capabilities.max_batch_orders`, in one request under one reservation.

        One answer per order, in order; a failure of the request as a whole is an exception.
        """

    async def cancel_order(self, target: OrderTarget) -> CancelAnswer | Refused:
        """Send a cancel, by the venue's id where known, else by ours. Passes every limit."""

    async def cancel_orders(self, targets: Sequence[OrderTarget]) -> Sequence[CancelAnswer | Refused | Unclear]:
        """Cancel orders of one account, at most `capabilities.max_batch_cancels`; one answer each, in order."""

    async def cancel_all(self, account_id: str, instrument: instrument_pb2.Instrument | None) -> Refused | None:
        """Cancel every order of an account, or of one instrument, in one request; what it did the orders' states tell.

        Called only where `capabilities.cancel_all` is NATIVE.
        """

    async def amend_order(self, target: OrderTarget, ticket: OrderTicket) -> Amended | Refused:
        """Change a working order into `ticket`."""

    async def fetch_order(self, target: OrderTarget) -> VenueOrder | None:
        """Ask for one order by every id known; None when the venue knows none of them."""

    async def fetch_orders(self, targets: Sequence[OrderTarget]) -> Sequence[VenueOrder | None]:
        """The same for up to `MAX_FETCHED_TOGETHER` orders of one account, one answer each, in order.

        What has to be read in bulk to tell that an order is unknown is read once for all of them.
        """

    async def fetch_fills(self, account_id: str, since_ns: int) -> Sequence[VenueFill]:
        """Fills at this venue time or later, oldest first, all pages."""

    async def fetch_ledger(self, account_id: str, since_ns: int) -> Sequence[account_pb2.LedgerEntry]:
        """Funding and transfers at this venue time or later, oldest first."""

    async def fetch_snapshot(self, account_id: str) -> VenueSnapshot:
        """Open orders, positions, balances and margin."""

    async def fetch_leverage(self, account_id: str, instrument: instrument_pb2.Instrument) -> LeverageSetting:
        """Leverage and margin mode in force, with or without a position."""

    async def set_leverage(
        self, account_id: str, instrument: instrument_pb2.Instrument, leverage: int, cross: bool
    ) -> Refused | None:
        """Set leverage and margin mode."""

    async def adjust_isolated_margin(
        self, account_id: str, instrument: instrument_pb2.Instrument, amount: Decimal, reservation: Reservation
    ) -> Refused | None:
        """Add margin to an isolated position, or take it out where `amount` is negative; settlement asset."""

    async def transfer_collateral(self, transfer: CollateralTransfer) -> Refused | None:
        """Move money between two of `capabilities.collateral_sections`, within one account."""

    async def schedule_cancel(self, account_id: str, at_ns: int | None) -> Refused | None:
        """Have the venue cancel every order of the account at a time unless it is moved; None takes that back.

        Called only where `capabilities.dead_mans_switch` is NATIVE.
        """

    async def fetch_section_balances(
        self, account_id: str, asset: str, sections: Sequence[str]
    ) -> Sequence[account_pb2.Balance]:
        """What an account holds of an asset in sections of the venue, also those this gateway does not trade in."""

    async def watch(
        self, feed: Feed, symbol: str, interval: market_data_pb2.CandleInterval.ValueType | None = None
    ) -> None:
        """Begin a feed; a second call changes nothing."""

    async def unwatch(
        self, feed: Feed, symbol: str, interval: market_data_pb2.CandleInterval.ValueType | None = None
    ) -> None:
        """End a feed."""

    async def fetch_book(self, symbol: str) -> BookSnapshot:
        """The book now."""

    async def fetch_trades(self, symbol: str, limit: int) -> Sequence[market_data_pb2.Trade]:
        """Recent public trades, newest first."""

    async def fetch_candles(
        self, symbol: str, interval: market_data_pb2.CandleInterval.ValueType, from_ns: int, to_ns: int
    ) -> Sequence[market_data_pb2.Candle]:
        """Candles that open in [from, to), oldest first."""

    async def fetch_statistics(self, symbol: str) -> market_data_pb2.MarketStatistics:
        """Mark, index, funding and so on now."""
