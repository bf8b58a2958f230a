"""The Hyperliquid adapter: the port's calls as the venue's requests. It decides nothing.

Actions go over the account's WebSocket while it is up and over HTTP otherwise; an action is sent at most once, and
only where nothing left the process is the other path tried. Reads go over HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from hypercore.action_types import AnyAction
from hypercore.actions import build_batch_modify, build_cancel, build_cancel_by_cloid, build_order_action
from hypercore.actions import build_update_leverage as build_leverage
from hypercore.adapter import answers
from hypercore.adapter import market_normalizer as market
from hypercore.adapter.capabilities import capabilities
from hypercore.adapter.keys import Wallet, load_wallets, verify_wallet
from hypercore.adapter.links import Links, OnWritten
from hypercore.adapter.market_normalizer import Interval
from hypercore.adapter.market_stream import MarketStream, interval_word
from hypercore.adapter.normalizer import NS_PER_MS, latest_order, readable
from hypercore.adapter.private_stream import PrivateStream
from hypercore.adapter.settings import HyperCoreSettings
from hypercore.adapter.views import AccountView, Directory
from hypercore.assets import Asset
from hypercore.exchange_codec import ExchangeAnswer
from venuemesh.clock import Clock
from venuemesh.errors import (
    AccountNotFound,
    DeadlineTooShort,
    NotFound,
    ProtocolViolation,
    RateLimited,
    Sent,
    VenueUnavailable,
)
from venuemesh.gateway.venue import (
    Amended,
    BookSnapshot,
    CancelAnswer,
    Feed,
    OrderTarget,
    OrderTicket,
    Placed,
    Refused,
    Reservation,
    VenueAccount,
    VenueFill,
    VenueOrder,
    VenueSink,
    VenueSnapshot,
)
from venuemesh.transport.observer import Observer
from venuemesh.v1 import account_pb2, instrument_pb2, market_data_pb2, venue_pb2

log = logging.getLogger(__name__)

LEDGER_PAGE = 500
MAX_LEDGER_PAGES = 50
VERIFY_RETRY_S = 1.0


class HyperCoreVenue:
    """All accounts of one gateway at one dex. Satisfies `venuemesh.gateway.venue.Venue`.

    Args:
        observer: told of every request and every change of a link: metrics, audit.
        stream_options: for tests, see `Links`.
    Raises:
        SecretError, AuthenticationFailed: a key cannot be read.
    """

    def __init__(
        self,
        settings: HyperCoreSettings,
        clock: Clock,
        *,
        observer: Observer | None = None,
        stream_options: dict[str, Any] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = settings.venue
        self.capabilities = capabilities(
            settle_delay_s=settings.settle_delay_s,
            book_stale_after_s=settings.book_stale_after_s,
            fast_books=settings.fast_books,
        )
        self.accounts: Sequence[VenueAccount] = [
            VenueAccount(account_id=account.account_id, venue_account=account.user) for account in settings.accounts
        ]
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._wallets = load_wallets(settings)
        self._links = Links(
            settings,
            clock=clock,
            observer=observer,
            streams=1 + len(settings.accounts),
            stream_options=stream_options,
        )
        self._rest = self._links.rest
        self._directory = Directory(venue=settings.venue, dex=settings.dex)
        self._views = {account.account_id: AccountView(account, self._directory) for account in settings.accounts}
        self._market = MarketStream(self._directory, self._links, settings, clock)
        self._private = {
            account_id: PrivateStream(view, self._links, settings, clock, sleep=sleep)
            for account_id, view in self._views.items()
        }

    # --- running -------------------------------------------------------------------------------------------

    async def run(self, sink: VenueSink) -> None:
        """Keep the links up until cancelled, then close them.

        Raises:
            AuthenticationFailed: an account and its API wallet do not belong together.
        """
        self._links.board.sink = sink
        try:
            await self._prepare(sink)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._market.run(sink), name="market")
                for account_id, stream in self._private.items():
                    tasks.create_task(stream.run(sink), name=f"account/{account_id}")
        finally:
            await self.aclose()

    async def _prepare(self, sink: VenueSink) -> None:
        """Learn the instruments and check the wallets, for as long as the venue cannot be asked."""
        while True:
            try:
                if not self._directory.loaded:
                    await self.fetch_instruments()
                for wallet in self._wallets.values():
                    await verify_wallet(self._rest, wallet)
            except (VenueUnavailable, RateLimited, DeadlineTooShort) as error:
                for account_id in self._wallets:
                    sink.on_account_lost(account_id, f"not verified yet: {error.message}")
                await self._sleep(max(VERIFY_RETRY_S, error.retry_after_s or 0.0))
            else:
                return

    async def aclose(self) -> None:
        """Close the HTTP connections; `run` does it when it ends."""
        await self._links.client.aclose()

    def links(self) -> Sequence[venue_pb2.LinkStatus]:
        """Health of each connection: "rest", "market" and "user/<account_id>"."""
        return self._links.board.statuses()

    async def fetch_instruments(self) -> Sequence[instrument_pb2.Instrument]:
        """Perpetuals of the dex."""
        universe = await self._rest.fetch_universe([self._settings.dex], include_spot=False)
        for row in universe.skipped:
            log.warning("instrument_skipped", extra={"row": row})
        self._directory.replace(universe)
        now_ns = self._clock.now_ns()
        return [market.normalize_instrument(row, venue=self.name, updated_ns=now_ns) for row in universe.assets]

    # --- writing -------------------------------------------------------------------------------------------

    def venue_client_order_id(self, order_id: str) -> str:
        """The venue's cloid: 0x and our 32 hex digits."""
        return "0x" + order_id

    def reserve(self, account_id: str, *, not_after_ns: int) -> Reservation:
        """Nonce and expiry of a request, both in whole milliseconds.

        Raises:
            VenueUnavailable: neither the WebSocket nor HTTP reaches the venue.
            NonceRejected: the clock or the journal is wrong by a day.
        """
        wallet = self._wallet(account_id)
        if not (self._private[account_id].stream.connected or self._links.client.stats.connected):
            raise VenueUnavailable(f"{self.name}: neither WebSocket nor HTTP reaches the venue", retry_after_s=1.0)
        now_ns = self._clock.now_ns()
        expires_ns = min(not_after_ns, now_ns + int(self._settings.order_expiry_s * 1e9))
        nonce = wallet.nonces.reserve(now_ns // NS_PER_MS)
        return Reservation(nonce=nonce, expires_ns=expires_ns // NS_PER_MS * NS_PER_MS)

    def restore_nonce(self, account_id: str, nonce: int) -> None:
        """Never give out `nonce` or less again."""
        self._wallet(account_id).nonces.restore(nonce)

    async def place_order(self, ticket: OrderTicket, sent: Callable[[], None]) -> Placed | Refused:
        """Place one order."""
        action = build_order_action([answers.build_order_wire(ticket, self._asset(ticket.instrument).asset_id)])
        answer = await self._send(ticket.account_id, action, ticket.reservation, ticket.order_id, sent)
        return answers.read_placed(answer, ticket)

    async def cancel_order(self, target: OrderTarget) -> CancelAnswer | Refused:
        """Cancel by the venue's id, else by cloid. It carries no expiry: a late cancel is still wanted."""
        asset_id = self._asset(target.instrument).asset_id
        action: AnyAction = build_cancel_by_cloid([(asset_id, target.venue_client_order_id)])
        if target.venue_order_id:
            action = build_cancel([(asset_id, int(target.venue_order_id))])
        answer = await self._send(target.account_id, action, None, target.venue_client_order_id)
        return answers.read_canceled(answer)

    async def amend_order(self, target: OrderTarget, ticket: OrderTicket) -> Amended | Refused:
        """Cancel and place anew in one action: a new oid, the same cloid, `ticket.quantity` open in the book."""
        order = answers.build_order_wire(ticket, self._asset(ticket.instrument).asset_id)
        known = int(target.venue_order_id) if target.venue_order_id else target.venue_client_order_id
        answer = await self._send(
            ticket.account_id, build_batch_modify([(known, order)]), ticket.reservation, ticket.order_id
        )
        return answers.read_amended(answer, ticket)

    async def set_leverage(
        self, account_id: str, instrument: instrument_pb2.Instrument, leverage: int, cross: bool
    ) -> Refused | None:
        """Set leverage and margin mode of one asset."""
        action = build_leverage(self._asset(instrument).asset_id, is_cross=cross, leverage=leverage)
        return answers.read_done(await self._send(account_id, action, None, instrument.symbol))

    async def _send(
        self,
        account_id: str,
        action: AnyAction,
        reservation: Reservation | None,
        correlation_id: str,
        sent: Callable[[], None] = lambda: None,
    ) -> ExchangeAnswer:
        """Sign and send one action. Over HTTP nothing tells when it was written: `sent` comes with the answer."""
        wallet, stream = self._wallet(account_id), self._private[account_id].stream
        nonce = reservation.nonce if reservation else wallet.nonces.reserve(self._clock.now_ns() // NS_PER_MS)
        expires_ms = reservation.expires_ns // NS_PER_MS if reservation else 0
        signed = wallet.signer.sign(action, nonce, vault_address=wallet.account.vault, expires_after=expires_ms or None)
        timeout_s = self._settings.action_timeout_s
        if stream.connected:
            try:
                return await stream.post_action(
                    signed, timeout_s=timeout_s, tag=OnWritten(sent), correlation_id=correlation_id
                )
            except (VenueUnavailable, RateLimited) as error:
                if error.sent is not Sent.NO:
                    raise
        answer = await self._rest.send_action(signed, timeout_s=timeout_s, correlation_id=correlation_id)
        sent()
        return answer

    # --- reading an account --------------------------------------------------------------------------------

    async def fetch_order(self, target: OrderTarget) -> VenueOrder | None:
        """Ask by both ids, then look through the latest 2000 rows of history."""
        view = self._view(target.account_id)
        ids: list[int | str] = [target.venue_client_order_id]
        if target.venue_order_id:
            ids.insert(0, int(target.venue_order_id))
        rows = [row for name in ids if (row := await self._rest.fetch_order_status(view.user, name)) is not None]
        if not rows:
            history = await self._rest.fetch_historical_orders(view.user)
            rows = [row for row in history if row.order.oid in ids or row.order.cloid in ids]
        return latest_order(order for row in rows if (order := view.reported_order(row)) is not None)

    async def fetch_fills(self, account_id: str, since_ns: int) -> Sequence[VenueFill]:
        """All pages, oldest first, each fill once."""
        view = self._view(account_id)
        rows = await self._rest.fetch_fills_since(view.user, start_ms=since_ns // NS_PER_MS)
        found = [fill for row in rows if (fill := view.fill(row)) is not None]
        fills = {fill.execution_id: fill for fill in found}
        return sorted(fills.values(), key=lambda fill: fill.venue_time_ns)

    async def fetch_ledger(self, account_id: str, since_ns: int) -> Sequence[account_pb2.LedgerEntry]:
        """Funding, deposits, withdrawals and transfers."""
        view, start_ms = self._view(account_id), since_ns // NS_PER_MS
        payments = await _all_pages(lambda at: self._rest.fetch_funding_payments(view.user, start_ms=at), start_ms)
        updates = await _all_pages(lambda at: self._rest.fetch_ledger_updates(view.user, start_ms=at), start_ms)
        entries = [entry for row in payments if (entry := view.funding(row.delta, time_ms=row.time)) is not None]
        entries += [entry for row in updates for entry in view.ledger_updates(row)]
        return sorted(entries, key=lambda entry: entry.venue_time.ToNanoseconds())

    async def fetch_snapshot(self, account_id: str) -> VenueSnapshot:
        """Open orders, positions, balances and margin of the dex."""
        view, dex, taken_ns = self._view(account_id), self._settings.dex, self._clock.now_ns()
        view.mode = await self._rest.fetch_abstraction(view.user)
        rows = await self._rest.fetch_open_orders(view.user, dex)
        perps = await self._rest.fetch_clearinghouse_state(view.user, dex)
        spot = await self._rest.fetch_spot_state(view.user)
        balances, summary = view.money(perps, spot, received_ns=self._clock.now_ns())
        return VenueSnapshot(
            taken_ns=taken_ns,
            open_orders=[order for row in rows if (order := view.order(row)) is not None],
            positions=view.positions(perps),
            balances=balances,
            summary=summary,
        )

    # --- market data ---------------------------------------------------------------------------------------

    async def watch(self, feed: Feed, symbol: str, interval: Interval | None = None) -> None:
        """Begin a feed."""
        await self._market.watch(feed, symbol, interval)

    async def unwatch(self, feed: Feed, symbol: str, interval: Interval | None = None) -> None:
        """End a feed."""
        await self._market.unwatch(feed, symbol, interval)

    async def fetch_book(self, symbol: str) -> BookSnapshot:
        """The book now; a faulty one is a `ProtocolViolation`."""
        asset = self._directory.universe.by_symbol(symbol)
        book = await self._rest.fetch_l2_book(asset.coin)
        if book is None:
            raise NotFound(f"the venue has no book of {symbol}", sent=Sent.YES)
        snapshot = market.normalize_book(book, asset, received_ns=self._clock.now_ns())
        if (fault := market.book_fault(snapshot.bids, snapshot.asks)) is not None:
            raise ProtocolViolation(f"book of {symbol}: {fault}", sent=Sent.YES)
        return snapshot

    async def fetch_trades(self, symbol: str, limit: int) -> Sequence[market_data_pb2.Trade]:
        """Recent public trades, newest first."""
        asset, now_ns = self._directory.universe.by_symbol(symbol), self._clock.now_ns()
        rows = market.oldest_first(await self._rest.fetch_recent_trades(asset.coin))[::-1][:limit]
        with readable("trades"):
            return [market.normalize_trade(row, asset, venue=self.name, received_ns=now_ns) for row in rows]

    async def fetch_candles(
        self, symbol: str, interval: Interval, from_ns: int, to_ns: int
    ) -> Sequence[market_data_pb2.Candle]:
        """Candles that open in [from, to), oldest first."""
        asset, word = self._directory.universe.by_symbol(symbol), interval_word(interval)
        start_ms, end_ms = -(-from_ns // NS_PER_MS), -(-to_ns // NS_PER_MS)
        rows = await self._rest.fetch_candles(asset.coin, word, start_ms=start_ms, end_ms=end_ms)
        now_ns = self._clock.now_ns()
        with readable("candles"):
            found = [
                market.normalize_candle(row, asset, venue=self.name, now_ns=now_ns)
                for row in rows
                if start_ms <= row.open_time < end_ms
            ]
        return [candle for candle in found if candle is not None]

    async def fetch_statistics(self, symbol: str) -> market_data_pb2.MarketStatistics:
        """Mark, index, funding and so on now."""
        asset = self._directory.universe.by_symbol(symbol)
        found = await self._rest.fetch_asset_ctxs(asset.dex)
        if asset.index >= len(found.ctxs) or found.meta.universe[asset.index].name != asset.coin:
            raise ProtocolViolation(f"the contexts of dex {asset.dex!r} do not fit its list", sent=Sent.YES)
        ctx = found.ctxs[asset.index]
        with readable("statistics"):
            return market.normalize_statistics(ctx, asset, venue=self.name, received_ns=self._clock.now_ns())

    # --- helpers -------------------------------------------------------------------------------------------

    def _asset(self, instrument: instrument_pb2.Instrument) -> Asset:
        return self._directory.universe.by_coin(instrument.venue_symbol)

    def _wallet(self, account_id: str) -> Wallet:
        return _found(self._wallets, account_id)

    def _view(self, account_id: str) -> AccountView:
        return _found(self._views, account_id)


class _Timed(Protocol):
    @property
    def time(self) -> int: ...


T = TypeVar("T")
Row = TypeVar("Row", bound=_Timed)


def _found(known: Mapping[str, T], account_id: str) -> T:
    found = known.get(account_id)
    if found is None:
        raise AccountNotFound(f"account_id: {account_id!r} is no account of this gateway", field="account_id")
    return found


async def _all_pages(fetch: Callable[[int], Awaitable[tuple[Row, ...]]], start_ms: int) -> list[Row]:
    """Rows from `start_ms` on, oldest first, over as many pages as it takes.

    Raises:
        ProtocolViolation: they do not end within `MAX_LEDGER_PAGES`, or one instant fills a page.
    """
    rows: list[Row] = []
    start = start_ms
    for _ in range(MAX_LEDGER_PAGES):
        page = await fetch(start)
        seen = {row for row in rows if row.time >= start}
        rows += [row for row in page if row not in seen]
        if len(page) < LEDGER_PAGE:
            return rows
        last = max(row.time for row in page)
        if last <= start:
            break
        start = last
    raise ProtocolViolation(f"ledger rows since {start_ms} do not end; stopped at {start}", sent=Sent.YES)
