"""The Hyperliquid adapter: the port's calls as the venue's requests. It decides nothing.

Actions go over the account's WebSocket while it is up and over HTTP otherwise; an action is sent at most once, and
only where nothing left the process is the other path tried. Reads go over HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol, TypeVar

from hypercore.adapter.account_actions import AccountActions
from hypercore.adapter.capabilities import capabilities
from hypercore.adapter.keys import Wallet, load_wallets, verify_wallet
from hypercore.adapter.links import Links
from hypercore.adapter.listing import Listing
from hypercore.adapter.market_normalizer import Interval, account_fees
from hypercore.adapter.market_reads import MarketReads
from hypercore.adapter.market_stream import MarketStream
from hypercore.adapter.normalizer import NS_PER_MS
from hypercore.adapter.order_actions import OrderActions
from hypercore.adapter.private_stream import PrivateStream
from hypercore.adapter.quotas import Quotas
from hypercore.adapter.sender import Sender
from hypercore.adapter.settings import HyperCoreSettings
from hypercore.adapter.views import AccountView, Directory
from hypercore.assets import MAIN_DEX
from hypercore.stream import StreamConfig
from venuemesh.clock import Clock
from venuemesh.errors import (
    AccountNotFound,
    DeadlineTooShort,
    NotSupported,
    ProtocolViolation,
    RateLimited,
    Sent,
    VenueUnavailable,
)
from venuemesh.gateway.venue import (
    Amended,
    BookSnapshot,
    CancelAnswer,
    CollateralTransfer,
    Feed,
    Grouping,
    LeverageSetting,
    OrderTarget,
    OrderTicket,
    Placed,
    Refused,
    Reservation,
    Unclear,
    VenueAccount,
    VenueFill,
    VenueOrder,
    VenueSink,
    VenueSnapshot,
)
from venuemesh.gateway.venue_offers import FeeRates
from venuemesh.transport.observer import Observer
from venuemesh.transport.quality import QualityPolicy
from venuemesh.v1 import account_pb2, instrument_pb2, market_data_pb2, operations_pb2, venue_pb2

log = logging.getLogger(__name__)

LEDGER_PAGE = 500
MAX_LEDGER_PAGES = 50
VERIFY_RETRY_S = 1.0


class HyperCoreVenue:
    """All accounts of one gateway at one dex. Satisfies `venuemesh.gateway.venue.Venue`.

    Args:
        observer: told of every request and every change of a link: metrics, audit.
        stream_config: bounds of the streams, in tests.
    Raises:
        SecretError, AuthenticationFailed: a key cannot be read.
    """

    def __init__(
        self,
        settings: HyperCoreSettings,
        clock: Clock,
        *,
        observer: Observer | None = None,
        stream_config: StreamConfig | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = settings.venue
        self.capabilities = capabilities(
            settle_delay_s=settings.settle_delay_s,
            book_stale_after_s=settings.book_stale_after_s,
            fast_books=settings.fast_books,
            collateral_sections=settings.collateral_sections,
            spot=settings.spot,
            scheduled_cancel=settings.dex == MAIN_DEX,
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
            stream_config=stream_config,
        )
        self._rest = self._links.rest
        self._directory = Directory(venue=settings.venue, dex=settings.dex)
        self._views = {account.account_id: AccountView(account, self._directory) for account in settings.accounts}
        self._listing = Listing(self._rest, self._directory, clock, spot=settings.spot)
        self._reads = MarketReads(self._rest, self._directory, clock)
        self._market = MarketStream(self._directory, self._links, settings, clock)
        self._private = {
            account_id: PrivateStream(view, self._links, settings, clock, sleep=sleep)
            for account_id, view in self._views.items()
        }
        self._quotas = Quotas(
            settings.venue,
            self._links.shared.gate,
            self._private,
            lambda account_id: self._rest.fetch_rate_budget(self._view(account_id).user),
            period_s=settings.address_budget_s,
            sleep=sleep,
        )
        self._send = Sender(
            self._wallets,
            self._private,
            self._rest,
            self._quotas,
            on_unknown=self._links.shared.board.on_unknown_words,
            timeout_s=settings.action_timeout_s,
            clock=clock,
        )
        self._actions = AccountActions(
            rest=self._rest,
            directory=self._directory,
            views=self._views,
            wallets=self._wallets,
            send=self._send,
            clock=clock,
        )
        self._orders = OrderActions(rest=self._rest, directory=self._directory, views=self._views, send=self._send)

    # --- running -------------------------------------------------------------------------------------------

    async def run(self, sink: VenueSink) -> None:
        """Keep the links up until cancelled, then close them.

        Raises:
            AuthenticationFailed: an account and its API wallet do not belong together.
        """
        self._links.shared.board.sink = sink
        try:
            await self._prepare(sink)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._market.run(sink), name="market")
                tasks.create_task(self._quotas.run(), name="quotas")
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
        await self._links.shared.client.aclose()

    def quotas(self) -> Sequence[operations_pb2.Quota]:
        """What is left of every limit."""
        return self._quotas.rows()

    def links(self) -> Sequence[venue_pb2.LinkStatus]:
        """Health of each connection: "rest", "market" and "user/<account_id>"."""
        return self._links.shared.board.statuses()

    def judge_links(self, policy: QualityPolicy) -> None:
        """Judge every connection by these limits from now on."""
        self._links.shared.board.policy = policy

    async def fetch_instruments(self) -> Sequence[instrument_pb2.Instrument]:
        """Perpetuals of the dex, and spot where the settings have it."""
        return await self._listing.fetch()

    async def fetch_fee_rates(self, account_id: str, instrument: instrument_pb2.Instrument) -> FeeRates | None:
        """What the account pays at its tier."""
        return account_fees(await self._rest.fetch_fees(self._view(account_id).user), instrument)

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
        if not (self._private[account_id].stream.connected or self._links.shared.client.stats.connected):
            raise VenueUnavailable(f"{self.name}: neither WebSocket nor HTTP reaches the venue", retry_after_s=1.0)
        now_ns = self._clock.now_ns()
        expires_ns = min(not_after_ns, now_ns + int(self._settings.order_expiry_s * 1e9))
        nonce = wallet.nonces.reserve(now_ns // NS_PER_MS)
        return Reservation(nonce=nonce, expires_ns=expires_ns // NS_PER_MS * NS_PER_MS)

    def restore_nonce(self, account_id: str, nonce: int) -> None:
        """Never give out `nonce` or less again."""
        self._wallet(account_id).nonces.restore(nonce)

    def sign_ahead(self, ticket: OrderTicket) -> None:
        """Sign what `place_order` of this ticket will send."""
        self._orders.sign_ahead(ticket)

    async def place_order(self, ticket: OrderTicket, sent: Callable[[], None]) -> Placed | Refused:
        """Place one order."""
        return await self._orders.place_order(ticket, sent)

    async def place_orders(
        self, tickets: Sequence[OrderTicket], sent: Callable[[], None], *, grouping: Grouping = Grouping.NONE
    ) -> Sequence[Placed | Refused | Unclear]:
        """Place orders of one account in one action."""
        return await self._orders.place_orders(tickets, sent, grouping)

    async def cancel_order(self, target: OrderTarget) -> CancelAnswer | Refused:
        """Cancel by the venue's id, else by cloid."""
        return await self._orders.cancel_order(target)

    async def cancel_orders(self, targets: Sequence[OrderTarget]) -> Sequence[CancelAnswer | Refused | Unclear]:
        """Cancel orders of one account at once."""
        return await self._orders.cancel_orders(targets)

    async def cancel_all(self, account_id: str, instrument: instrument_pb2.Instrument | None) -> Refused | None:
        """Not offered: `capabilities.cancel_all` is EMULATED."""
        raise NotSupported(f"account {account_id}: {self.name} has no cancel of all orders")

    async def amend_order(self, target: OrderTarget, ticket: OrderTicket) -> Amended | Refused:
        """Cancel and place anew in one action."""
        return await self._orders.amend_order(target, ticket)

    async def set_leverage(
        self, account_id: str, instrument: instrument_pb2.Instrument, leverage: int, cross: bool
    ) -> Refused | None:
        """Set leverage and margin mode of one asset."""
        self._wallet(account_id)
        return await self._actions.set_leverage(account_id, instrument, leverage, cross)

    async def fetch_leverage(self, account_id: str, instrument: instrument_pb2.Instrument) -> LeverageSetting:
        """Leverage and margin mode in force."""
        self._view(account_id)
        return await self._actions.fetch_leverage(account_id, instrument)

    async def adjust_isolated_margin(
        self, account_id: str, instrument: instrument_pb2.Instrument, amount: Decimal, reservation: Reservation
    ) -> Refused | None:
        """Add or take out margin of an isolated position."""
        return await self._actions.adjust_isolated_margin(account_id, instrument, amount, reservation)

    async def transfer_collateral(self, transfer: CollateralTransfer) -> Refused | None:
        """Move money between sections of one account."""
        return await self._actions.transfer_collateral(transfer)

    async def schedule_cancel(self, account_id: str, at_ns: int | None) -> Refused | None:
        """Set or take back the venue's cancel of every order of the account."""
        return await self._actions.schedule_cancel(account_id, at_ns)

    async def fetch_section_balances(
        self, account_id: str, asset: str, sections: Sequence[str]
    ) -> Sequence[account_pb2.Balance]:
        """Balances of an asset in sections."""
        return await self._actions.fetch_section_balances(account_id, asset, sections)

    # --- reading an account --------------------------------------------------------------------------------

    async def fetch_order(self, target: OrderTarget) -> VenueOrder | None:
        """One order by every id known."""
        return await self._orders.fetch_order(target)

    async def fetch_orders(self, targets: Sequence[OrderTarget]) -> Sequence[VenueOrder | None]:
        """Several orders of one account by every id known."""
        return await self._orders.fetch_orders(targets)

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
        return await self._reads.fetch_book(symbol)

    async def fetch_trades(self, symbol: str, limit: int) -> Sequence[market_data_pb2.Trade]:
        """Recent public trades, newest first."""
        return await self._reads.fetch_trades(symbol, limit)

    async def fetch_candles(
        self, symbol: str, interval: Interval, from_ns: int, to_ns: int
    ) -> Sequence[market_data_pb2.Candle]:
        """Candles that open in [from, to), oldest first."""
        return await self._reads.fetch_candles(symbol, interval, from_ns, to_ns)

    async def fetch_statistics(self, symbol: str) -> market_data_pb2.MarketStatistics:
        """Mark, index, funding and so on now."""
        return await self._reads.fetch_statistics(symbol)

    # --- helpers -------------------------------------------------------------------------------------------

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
