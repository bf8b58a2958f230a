"""What an adapter tells: venue facts become order states, positions, prices and alerts here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from venuemesh.clock import Clock
from venuemesh.gateway.account import Account
from venuemesh.gateway.alerts import ACCOUNT_STALE, LINK_LOST, UNKNOWN_TEXT, Alerts
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.evidence import facts_of
from venuemesh.gateway.market_data import MarketData
from venuemesh.gateway.reconciler import Reconciler
from venuemesh.gateway.resolver import Resolver
from venuemesh.gateway.sections import Sections
from venuemesh.gateway.venue import (
    BookSnapshot,
    Level,
    ReferencePrice,
    VenueFill,
    VenueOrder,
    VenueOrderState,
    VenuePosition,
)
from venuemesh.v1 import account_pb2, market_data_pb2, stream_pb2

log = logging.getLogger(__name__)


class Intake:
    """The sink of an adapter (`venuemesh.gateway.venue.VenueSink`).

    Args:
        publish: tells the venue's state anew, where it changed.
    """

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        desk: Desk,
        resolver: Resolver,
        reconciler: Reconciler,
        market: MarketData,
        sections: Sections,
        alerts: Alerts,
        clock: Clock,
        publish: Callable[[], None],
    ) -> None:
        self._accounts = accounts
        self._desk = desk
        self._resolver = resolver
        self._reconciler = reconciler
        self._market = market
        self._sections = sections
        self._alerts = alerts
        self._clock = clock
        self._publish = publish
        self.on_unknown_text: list[Callable[[str], None]] = []
        """Called with each text of the venue that nobody has seen before."""

    def on_link(self, link_id: str, state: stream_pb2.LinkState.ValueType, cause: str) -> None:
        """A connection changed its state."""
        log.info(
            "link_changed",
            extra={"link_id": link_id, "state": stream_pb2.LinkState.Name(state), "cause": cause},
        )
        if state == stream_pb2.LINK_STATE_DOWN and not self._desk.draining:
            self._alerts.begin(LINK_LOST, link_id, f"{link_id}: {cause}")
        elif state == stream_pb2.LINK_STATE_LIVE:
            self._alerts.end(LINK_LOST, link_id)
        self._publish()

    def on_unknown_words(self, account_id: str, text: str) -> None:
        """The venue said something nobody has seen: told in full, counted, and a person should look."""
        log.warning("venue_text_unknown", extra={"account_id": account_id, "text": text})
        for listener in self.on_unknown_text:
            listener(text)
        self._alerts.note(UNKNOWN_TEXT, text, account_id=account_id)

    def on_account_live(self, account_id: str) -> None:
        """The account's private stream is subscribed."""
        self._reconciler.on_live(account_id)
        self._publish()

    def on_account_lost(self, account_id: str, cause: str) -> None:
        """The account's private stream is gone."""
        if not self._desk.draining:
            self._alerts.begin(ACCOUNT_STALE, account_id, f"{account_id}: {cause}", account_id=account_id)
        self._reconciler.on_lost(account_id, cause)
        self._publish()

    def on_order(self, account_id: str, order: VenueOrder) -> None:
        """The venue pushed an order's state; orders the mesh did not place are left to reconciliation."""
        account = self._accounts[account_id]
        known = account.order_by_venue_client_id(order.venue_client_order_id or "")
        known = known or account.order_by_venue_id(order.venue_order_id)
        if known is None or (order.state is VenueOrderState.REJECTED and self._desk.awaits_answer(known)):
            # Of a refusal the answer under way says more than the status word; if it is lost, the venue is asked.
            return
        if order.state is VenueOrderState.UNRECOGNISED:
            self.on_unknown_words(account_id, f"order status {order.text}")
        for fact in facts_of(order):
            known = account.apply(known.order_id, fact)
        if known.ending is not None:
            self._resolver.doubt(account, known.order_id)

    def on_fill(self, account_id: str, fill: VenueFill) -> None:
        """The venue pushed a fill."""
        self._accounts[account_id].on_fill(fill, self._clock.now_ns())

    def on_ledger(self, account_id: str, entry: account_pb2.LedgerEntry) -> None:
        """Money moved other than by a fill."""
        self._accounts[account_id].on_ledger(entry, self._clock.now_ns())

    def on_positions(self, account_id: str, positions: Sequence[VenuePosition]) -> None:
        """Marks, margin and liquidation prices."""
        self._accounts[account_id].on_positions(positions)

    def on_balances(
        self, account_id: str, balances: Sequence[account_pb2.Balance], summary: account_pb2.AccountSummary
    ) -> None:
        """Balances and margin."""
        self._accounts[account_id].on_balances(balances, summary, self._clock.now_ns())

    def on_book(self, book: BookSnapshot) -> None:
        """A new state of a watched book."""
        self._market.on_book(book)

    def on_top(self, symbol: str, bid: Level | None, ask: Level | None, venue_time_ns: int, received_ns: int) -> None:
        """A new best bid and offer."""
        self._market.on_top(symbol, bid, ask, venue_time_ns, received_ns)

    def on_trades(self, symbol: str, trades: Sequence[market_data_pb2.Trade]) -> None:
        """Public trades."""
        self._market.on_trades(symbol, trades)

    def on_statistics(self, statistics: market_data_pb2.MarketStatistics) -> None:
        """Mark, index, funding."""
        self._market.on_statistics(statistics)

    def on_candle(self, candle: market_data_pb2.Candle) -> None:
        """The running candle."""
        self._market.on_candle(candle)

    def on_reference_prices(self, section: str, prices: Sequence[ReferencePrice], received_ns: int) -> None:
        """Oracle and mark prices of a section."""
        self._sections.on_reference_prices(section, prices, received_ns)

    def on_reference_lost(self, section: str, cause: str) -> None:
        """They are not current any more."""
        self._sections.on_lost(section, cause)
        self._publish()

    def on_feed_lost(self, symbol: str, cause: str) -> None:
        """Market data of the symbol is not current any more."""
        self._market.on_feed_lost(symbol, cause)
