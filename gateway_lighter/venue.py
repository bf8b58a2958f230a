"""The Lighter adapter: the port's calls as the venue's requests. It decides nothing.

Transactions go over the account's WebSocket while it is up and over HTTP otherwise; reads go over HTTP. What a
transaction did is told by the account's stream, or asked where that is silent; its acknowledgement says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

from gateway_lighter import answers
from gateway_lighter.account_actions import no_transfer
from gateway_lighter.capabilities import capabilities
from gateway_lighter.keys import verify_wallet
from gateway_lighter.market_normalizer import Interval
from gateway_lighter.normalizer import Market
from gateway_lighter.parts import build_parts
from gateway_lighter.settings import GatewaySettings
from gateway_lighter.stream import StreamConfig
from venuemesh.clock import Clock
from venuemesh.errors import (
    AccountNotFound,
    DeadlineTooShort,
    RateLimited,
    VenueUnavailable,
)
from venuemesh.gateway import venue as port
from venuemesh.gateway.venue_offers import FeeRates
from venuemesh.transport.observer import Observer
from venuemesh.transport.quality import QualityPolicy
from venuemesh.v1 import account_pb2, instrument_pb2, market_data_pb2, operations_pb2, venue_pb2

VERIFY_RETRY_S = 1.0
T = TypeVar("T")


class LighterVenue:
    """All accounts of one gateway. Satisfies `venuemesh.gateway.venue.Venue`.

    Args:
        observer: told of every request and every change of a link: metrics, audit.
        stream_config: bounds of the streams, in tests.
    Raises:
        SecretError, AuthenticationFailed: a key cannot be read.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        clock: Clock,
        *,
        observer: Observer | None = None,
        stream_config: StreamConfig | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = settings.venue
        self.capabilities = capabilities(
            settle_delay_s=settings.settle_delay_s, book_stale_after_s=settings.book_stale_after_s
        )
        self.accounts: Sequence[port.VenueAccount] = [
            port.VenueAccount(account_id=account.account_id, venue_account=str(account.account_index))
            for account in settings.accounts
        ]
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._parts = build_parts(settings, clock, observer=observer, stream_config=stream_config, sleep=sleep)

    # --- running -------------------------------------------------------------------------------------------

    async def run(self, sink: port.VenueSink) -> None:
        """Keep the links up until cancelled, then close them.

        Raises:
            AuthenticationFailed: an account, its owner and its keys do not belong together.
        """
        self._parts.links.shared.board.sink = sink
        try:
            await self._prepare(sink)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._parts.market.run(sink), name="market")
                tasks.create_task(self._parts.send.run(), name="nonces")
                for account_id, stream in self._parts.private.items():
                    tasks.create_task(stream.run(sink), name=f"account/{account_id}")
        finally:
            await self.aclose()

    async def _prepare(self, sink: port.VenueSink) -> None:
        """Learn the markets and check the keys, for as long as the venue cannot be asked."""
        while True:
            try:
                if not self._parts.directory.loaded:
                    await self.fetch_instruments()
                for wallet in self._parts.wallets.values():
                    await verify_wallet(self._parts.links.rest(wallet.tokens), wallet, self._settings.tier)
            except (VenueUnavailable, RateLimited, DeadlineTooShort) as error:
                for account_id in self._parts.wallets:
                    sink.on_account_lost(account_id, f"not verified yet: {error.message}")
                await self._sleep(max(VERIFY_RETRY_S, error.retry_after_s or 0.0))
            else:
                return

    async def aclose(self) -> None:
        """Close the HTTP connections; `run` does it when it ends."""
        await self._parts.links.shared.client.aclose()

    def links(self) -> Sequence[venue_pb2.LinkStatus]:
        """Health of each connection: "rest", "market" and "user/<account_id>"."""
        return self._parts.links.shared.board.statuses()

    def judge_links(self, policy: QualityPolicy) -> None:
        """Judge every connection by these limits from now on."""
        self._parts.links.shared.board.policy = policy

    def quotas(self) -> Sequence[operations_pb2.Quota]:
        """What is left of every limit."""
        return self._parts.quotas.rows()

    async def fetch_instruments(self) -> Sequence[instrument_pb2.Instrument]:
        """Every perpetual with its rules."""
        return await self._parts.queries.fetch_instruments()

    # --- writing -------------------------------------------------------------------------------------------

    def venue_client_order_id(self, order_id: str) -> str:
        """The client order index as text; see `order_ids`."""
        return str(self._parts.indices.assign(order_id))

    def reserve(self, account_id: str, *, not_after_ns: int) -> port.Reservation:
        """Key, nonce and expiry of a transaction; the expiry is in whole milliseconds.

        Raises:
            VenueUnavailable: neither the WebSocket nor HTTP reaches the venue.
            Unavailable: no key has a known nonce.
        """
        wallet = _found(self._parts.wallets, account_id)
        if not (self._parts.private[account_id].stream.connected or self._parts.links.shared.client.stats.connected):
            raise VenueUnavailable(f"{self.name}: neither WebSocket nor HTTP reaches the venue", retry_after_s=1.0)
        return wallet.reserve(min(not_after_ns, self._clock.now_ns() + int(self._settings.order_expiry_s * 1e9)))

    def restore_nonce(self, account_id: str, nonce: int) -> None:
        """Never give out `nonce` or less of its key again."""
        _found(self._parts.wallets, account_id).pool.restore(nonce)

    async def place_order(self, ticket: port.OrderTicket, sent: Callable[[], None]) -> port.Placed | port.Refused:
        """Place one order."""
        return await self._parts.orders.place_order(ticket, sent)

    async def place_orders(
        self,
        tickets: Sequence[port.OrderTicket],
        sent: Callable[[], None],
        *,
        grouping: port.Grouping = port.Grouping.NONE,
    ) -> Sequence[port.Placed | port.Refused | port.Unclear]:
        """Place orders of one account in one message."""
        return await self._parts.orders.place_orders(tickets, sent, grouping)

    async def cancel_order(self, target: port.OrderTarget) -> port.CancelAnswer | port.Refused:
        """Cancel by the venue's index, else by ours."""
        return await self._parts.orders.cancel_order(target)

    async def cancel_orders(
        self, targets: Sequence[port.OrderTarget]
    ) -> Sequence[port.CancelAnswer | port.Refused | port.Unclear]:
        """Cancel orders of one account in one message."""
        return await self._parts.orders.cancel_orders(targets)

    async def cancel_all(self, account_id: str, instrument: instrument_pb2.Instrument | None) -> port.Refused | None:
        """Cancel every order of an account, or of one market."""
        return await self._parts.orders.cancel_all(account_id, instrument)

    async def amend_order(self, target: port.OrderTarget, ticket: port.OrderTicket) -> port.Amended | port.Refused:
        """Change an order in place."""
        return await self._parts.orders.amend_order(target, ticket)

    async def set_leverage(
        self, account_id: str, instrument: instrument_pb2.Instrument, leverage: int, cross: bool
    ) -> port.Refused | None:
        """Set leverage and margin mode of one market."""
        return await self._parts.actions.set_leverage(account_id, self._market_of(instrument), leverage, cross)

    async def fetch_leverage(self, account_id: str, instrument: instrument_pb2.Instrument) -> port.LeverageSetting:
        """Leverage and margin mode in force."""
        _found(self._parts.wallets, account_id)
        return await self._parts.actions.fetch_leverage(account_id, self._market_of(instrument))

    async def adjust_isolated_margin(
        self, account_id: str, instrument: instrument_pb2.Instrument, amount: Decimal, reservation: port.Reservation
    ) -> port.Refused | None:
        """Add or take out margin of an isolated position."""
        found = self._market_of(instrument)
        return await self._parts.actions.adjust_isolated_margin(account_id, found, amount, reservation)

    async def transfer_collateral(self, transfer: port.CollateralTransfer) -> port.Refused | None:
        """Not offered: `capabilities.collateral_sections` is empty."""
        raise no_transfer(transfer.account_id)

    async def schedule_cancel(self, account_id: str, at_ns: int | None) -> port.Refused | None:
        """Set or take back the venue's cancel of every order of the account."""
        return await self._parts.actions.schedule_cancel(account_id, at_ns)

    async def fetch_section_balances(
        self, account_id: str, asset: str, sections: Sequence[str]
    ) -> Sequence[account_pb2.Balance]:
        """Balances of an asset in sections."""
        _found(self._parts.wallets, account_id)
        return await self._parts.actions.fetch_section_balances(account_id, asset, sections)

    # --- reading an account --------------------------------------------------------------------------------

    async def fetch_order(self, target: port.OrderTarget) -> port.VenueOrder | None:
        """Ask by every id known."""
        return (await self.fetch_orders([target]))[0]

    async def fetch_orders(self, targets: Sequence[port.OrderTarget]) -> Sequence[port.VenueOrder | None]:
        """Ask for several orders of one account."""
        for target in targets:
            self._parts.indices.remember(answers.client_index(target))
        return await _found(self._parts.reads, targets[0].account_id).fetch_orders(targets)

    async def fetch_fills(self, account_id: str, since_ns: int) -> Sequence[port.VenueFill]:
        """All pages, oldest first, each fill once."""
        return await _found(self._parts.reads, account_id).fetch_fills(since_ns)

    async def fetch_fee_rates(self, account_id: str, instrument: instrument_pb2.Instrument) -> FeeRates | None:
        """What the account pays at its tier."""
        return await _found(self._parts.reads, account_id).fetch_fee_rates()

    async def fetch_ledger(self, account_id: str, since_ns: int) -> Sequence[account_pb2.LedgerEntry]:
        """Funding, deposits, withdrawals and transfers."""
        return await _found(self._parts.reads, account_id).fetch_ledger(since_ns)

    async def fetch_snapshot(self, account_id: str) -> port.VenueSnapshot:
        """Open orders, positions, balances and margin."""
        return await _found(self._parts.reads, account_id).fetch_snapshot()

    # --- market data ---------------------------------------------------------------------------------------

    async def watch(self, feed: port.Feed, symbol: str, interval: Interval | None = None) -> None:
        """Begin a feed."""
        self._parts.market.watch(feed, symbol, interval)

    async def unwatch(self, feed: port.Feed, symbol: str, interval: Interval | None = None) -> None:
        """End a feed."""
        self._parts.market.unwatch(feed, symbol, interval)

    async def fetch_book(self, symbol: str) -> port.BookSnapshot:
        """The book now."""
        return await self._parts.queries.fetch_book(symbol)

    async def fetch_trades(self, symbol: str, limit: int) -> Sequence[market_data_pb2.Trade]:
        """Recent public trades, newest first."""
        return await self._parts.queries.fetch_trades(symbol, limit)

    async def fetch_candles(
        self, symbol: str, interval: Interval, from_ns: int, to_ns: int
    ) -> Sequence[market_data_pb2.Candle]:
        """Candles that open in [from, to), oldest first."""
        return await self._parts.queries.fetch_candles(symbol, interval, from_ns, to_ns)

    async def fetch_statistics(self, symbol: str) -> market_data_pb2.MarketStatistics:
        """Mark, index and so on now."""
        return await self._parts.queries.fetch_statistics(symbol)

    # --- helpers -------------------------------------------------------------------------------------------

    def _market_of(self, instrument: instrument_pb2.Instrument) -> Market:
        return self._parts.directory.by_venue_symbol(instrument.venue_symbol)


def _found(known: Mapping[str, T], account_id: str) -> T:
    found = known.get(account_id)
    if found is None:
        raise AccountNotFound(f"account_id: {account_id!r} is no account of this gateway", field="account_id")
    return found
