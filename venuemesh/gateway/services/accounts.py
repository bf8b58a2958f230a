"""AccountService of a gateway: accounts, money and positions at its venue."""
# ruff: noqa: N802 - methods are named by the contract

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from venuemesh.errors import NotSupported
from venuemesh.gateway.account import Account
from venuemesh.gateway.services.account_feed import AccountFeeds
from venuemesh.gateway.services.account_view import AccountView
from venuemesh.gateway.services.collateral import Collateral
from venuemesh.gateway.services.history import newest_first, oldest_first
from venuemesh.gateway.services.margin import MarginSettings
from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.services.requests import (
    check_enum,
    check_enums,
    check_symbols,
    required,
    time_range,
)
from venuemesh.gateway.venue_offers import TellsFees
from venuemesh.money import format_decimal
from venuemesh.paging import Pager
from venuemesh.stream_options import EVENTS, parse_stream_options
from venuemesh.streaming import StreamHub, responder
from venuemesh.v1 import (
    account_pb2,
    account_service_pb2_grpc,
    event_pb2,
    instrument_pb2,
    order_pb2,
    stream_pb2,
)
from venuemesh.v1 import account_service_pb2 as wire

CLOCK_SKEW_NS = 60_000_000_000
"""A venue's clock may be this much ahead of ours."""


class AccountServicer(account_service_pb2_grpc.AccountServiceServicer):
    """The accounts this gateway serves."""

    def __init__(self, parts: GatewayParts, feeds: AccountFeeds, hub: StreamHub, pager: Pager) -> None:
        self._parts = parts
        self._feeds = feeds
        self._hub = hub
        self._pager = pager
        self._margin = MarginSettings(parts)
        self._collateral = Collateral(parts)
        self._venue_accounts = {account.account_id: account.venue_account for account in parts.venue.accounts}
        self._respond = responder(wire.StreamAccountEventsResponse, _body)

    # reading

    async def ListAccounts(self, request: wire.ListAccountsRequest, context: Context) -> wire.ListAccountsResponse:
        """Accounts by name."""
        self._parts.desk.check_venue(request.venue)
        accounts = self._parts.desk.accounts
        return wire.ListAccountsResponse(accounts=[self._message(accounts[name]) for name in sorted(accounts)])

    async def GetAccount(self, request: wire.GetAccountRequest, context: Context) -> wire.GetAccountResponse:
        """One account with its margin."""
        return wire.GetAccountResponse(account=self._message(self._account(request)))

    async def GetFeeRates(self, request: wire.GetFeeRatesRequest, context: Context) -> wire.GetFeeRatesResponse:
        """The account's own rates where the venue tells them, else the instrument's."""
        account = self._account(request)
        venue = self._parts.venue
        instrument = self._parts.instruments.get(request.symbol, venue.name, field="symbol")
        if isinstance(venue, TellsFees):
            rates = await venue.fetch_fee_rates(account.account_id, instrument)
            if rates is not None:
                maker, taker = format_decimal(rates.maker), format_decimal(rates.taker)
                return wire.GetFeeRatesResponse(maker_fee_rate=maker, taker_fee_rate=taker, of_account=True)
        if not instrument.HasField("taker_fee_rate"):
            raise NotSupported(f"{venue.name} does not tell what {request.symbol!r} costs")
        maker = instrument.maker_fee_rate if instrument.HasField("maker_fee_rate") else instrument.taker_fee_rate
        return wire.GetFeeRatesResponse(maker_fee_rate=maker, taker_fee_rate=instrument.taker_fee_rate)

    async def ListBalances(self, request: wire.ListBalancesRequest, context: Context) -> wire.ListBalancesResponse:
        """Balances by section and asset."""
        balances = self._account(request).balances
        return wire.ListBalancesResponse(balances=[balances[key] for key in sorted(balances)])

    async def ListPositions(self, request: wire.ListPositionsRequest, context: Context) -> wire.ListPositionsResponse:
        """Open positions by symbol."""
        account = self._account(request)
        symbols = set(check_symbols(request.symbols))
        return wire.ListPositionsResponse(
            positions=[
                account.to_position(state)
                for symbol, state in sorted(account.positions.items())
                if state.quantity and (not symbols or symbol in symbols)
            ]
        )

    async def ListFills(self, request: wire.ListFillsRequest, context: Context) -> wire.ListFillsResponse:
        """Fills out of the account's stored events, newest first, a page at a time; a page can be short."""
        account = self._account(request)
        from_ns, to_ns = time_range(request)

        def pick(event: event_pb2.Event) -> order_pb2.Fill | None:
            if not event.execution_report.HasField("fill"):
                return None
            fill = event.execution_report.fill
            wanted = (
                request.symbol in ("", fill.symbol)
                and request.order_id in ("", fill.order_id)
                and _within(fill.venue_time.ToNanoseconds(), from_ns, to_ns)
            )
            return fill if wanted else None

        now_ns = self._parts.clock.now_ns()
        page = self._pager.read(request, now_ns=now_ns)
        rows, cursor = await newest_first(
            self._parts.history(account.account_id),
            self._feeds.get(account.account_id).newest,
            page.cursor,
            page.size,
            pick,
            not_before_ns=from_ns - CLOCK_SKEW_NS,
        )
        token = self._pager.token(request, cursor, now_ns=now_ns) if cursor else ""
        return wire.ListFillsResponse(fills=rows, next_page_token=token)

    async def ListPositionHistory(
        self, request: wire.ListPositionHistoryRequest, context: Context
    ) -> wire.ListPositionHistoryResponse:
        """Position changes out of the account's stored events, newest first, a page at a time; a page can be short."""
        account = self._account(request)
        check_enums(request.changes, account_pb2.PositionChange, "changes")
        changes = frozenset(request.changes)
        from_ns, to_ns = time_range(request)

        def pick(event: event_pb2.Event) -> account_pb2.Position | None:
            if not event.HasField("position"):
                return None
            position = event.position
            wanted = (
                request.symbol in ("", position.symbol)
                and (not changes or position.change in changes)
                and _within(_position_time_ns(position), from_ns, to_ns)
            )
            return position if wanted else None

        now_ns = self._parts.clock.now_ns()
        page = self._pager.read(request, now_ns=now_ns)
        rows, cursor = await newest_first(
            self._parts.history(account.account_id),
            self._feeds.get(account.account_id).newest,
            page.cursor,
            page.size,
            pick,
            not_before_ns=from_ns - CLOCK_SKEW_NS,
        )
        token = self._pager.token(request, cursor, now_ns=now_ns) if cursor else ""
        return wire.ListPositionHistoryResponse(positions=rows, next_page_token=token)

    async def ListLedgerEntries(
        self, request: wire.ListLedgerEntriesRequest, context: Context
    ) -> wire.ListLedgerEntriesResponse:
        """Ledger entries out of the account's stored events, oldest first, a page at a time; a page can be short."""
        account = self._account(request)
        check_enums(request.ledger_entry_types, account_pb2.LedgerEntryType, "ledger_entry_types")
        types = frozenset(request.ledger_entry_types)
        from_ns, to_ns = time_range(request)

        def pick(event: event_pb2.Event) -> account_pb2.LedgerEntry | None:
            if not event.HasField("ledger_entry"):
                return None
            entry = event.ledger_entry
            wanted = (not types or entry.ledger_entry_type in types) and _within(
                entry.venue_time.ToNanoseconds(), from_ns, to_ns
            )
            return entry if wanted else None

        now_ns = self._parts.clock.now_ns()
        page = self._pager.read(request, now_ns=now_ns)
        newest = self._feeds.get(account.account_id).newest
        rows, cursor = await oldest_first(self._parts.history(account.account_id), newest, page.cursor, page.size, pick)
        token = self._pager.token(request, cursor, now_ns=now_ns) if cursor else ""
        return wire.ListLedgerEntriesResponse(ledger_entries=rows, next_page_token=token)

    # writing

    async def SetLeverage(self, request: wire.SetLeverageRequest, context: Context) -> wire.SetLeverageResponse:
        """Set the leverage of an instrument; its margin mode stays."""
        account, symbol = self._account(request), required(request.symbol, "symbol")
        leverage = await self._margin.set_leverage(account, symbol, required(request.leverage, "leverage"))
        return wire.SetLeverageResponse(leverage=leverage)

    async def SetMarginMode(self, request: wire.SetMarginModeRequest, context: Context) -> wire.SetMarginModeResponse:
        """Set cross or isolated margin of an instrument; its leverage stays."""
        account, symbol = self._account(request), required(request.symbol, "symbol")
        check_enum(request.margin_mode, instrument_pb2.MarginMode, "margin_mode")
        mode = await self._margin.set_mode(account, symbol, request.margin_mode)
        return wire.SetMarginModeResponse(margin_mode=mode)

    async def AdjustIsolatedMargin(
        self, request: wire.AdjustIsolatedMarginRequest, context: Context
    ) -> wire.AdjustIsolatedMarginResponse:
        """Add margin to an isolated position, or take it out; a repeat of the key gives the first result."""
        account, symbol = self._account(request), required(request.symbol, "symbol")
        return wire.AdjustIsolatedMarginResponse(position=await self._collateral.adjust(account, symbol, request))

    async def TransferCollateral(
        self, request: wire.TransferCollateralRequest, context: Context
    ) -> wire.TransferCollateralResponse:
        """Move money between sections of the venue; a repeat of the key gives the first result."""
        balances = await self._collateral.transfer(self._account(request), request)
        return wire.TransferCollateralResponse(balances=balances)

    # following

    async def StreamAccountEvents(
        self, request: wire.StreamAccountEventsRequest, context: Context
    ) -> AsyncGenerator[wire.StreamAccountEventsResponse, None]:
        """The account's state, then every event of it; or the events behind a position."""
        account = self._account(request)
        feed = self._feeds.get(account.account_id)
        plan = await feed.plan(
            parse_stream_options(request.options, EVENTS),
            lambda view: [self._snapshot(account, view)],
            method="/venuemesh.v1.AccountService/StreamAccountEvents",
            context=context,
            results=[stream_pb2.SubscriptionResult(subscription=account.account_id, accepted=True)],
            link_state=self._parts.market.link_state,
        )
        async with aclosing(self._hub.serve(feed.topic, plan, self._respond)) as messages:
            async for message in messages:
                yield message

    def _snapshot(self, account: Account, view: AccountView) -> wire.AccountSnapshot:
        message = self._message(account)
        message.position.sequence = view.sequence
        message.ClearField("summary")
        if view.summary is not None:
            message.summary.CopyFrom(view.summary)
        return wire.AccountSnapshot(
            account=message,
            balances=view.all_balances(),
            positions=view.open_positions(),
            orders=view.open_orders(),
        )

    def _account(self, request: Any) -> Account:
        """The account a request names."""
        self._parts.desk.check_venue(request.venue)
        return self._parts.desk.account(required(request.account_id, "account_id"))

    def _message(self, account: Account) -> account_pb2.Account:
        topic = self._feeds.get(account.account_id).topic
        return account_pb2.Account(
            account_id=account.account_id,
            venue=account.venue,
            venue_account=self._venue_accounts[account.account_id],
            account_type=account_pb2.ACCOUNT_TYPE_LIVE,
            summary=account.summary,
            position=stream_pb2.StreamPosition(epoch=topic.epoch, sequence=topic.sequence),
        )


def _position_time_ns(position: account_pb2.Position) -> int:
    """The venue's time of a change; ours where it gave none."""
    stamp = position.venue_time if position.HasField("venue_time") else position.updated_time
    return stamp.ToNanoseconds()


def _within(time_ns: int, from_ns: int, to_ns: int | None) -> bool:
    return from_ns <= time_ns and (to_ns is None or time_ns < to_ns)


def _body(value: Any) -> dict[str, Any]:
    if isinstance(value, wire.AccountSnapshot):
        return {"snapshot": value}
    if value.HasField("stream_status"):
        return {"status": value.stream_status}
    return {"event": value}
