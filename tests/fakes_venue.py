"""A venue in memory: takes orders, keeps books, and misbehaves exactly as told.

    venue = FakeVenue()
    venue.script("place_order", Lost(), Refused(...), Held(event))     # one reply per call, then the normal ones
    venue.fill(venue.order_of(ticket), "0.5", "100")                   # a fill, pushed to the gateway
    venue.go_down("socket closed"); venue.go_up()

By default an order rests until the test fills or ends it, a cancel works, and every change is pushed. Nothing sleeps.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from google.protobuf.duration_pb2 import Duration

from tests.fakes import ManualClock
from venuemesh.clock import Clock
from venuemesh.errors import OutcomeUnknown, Reason, VenueUnavailable
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.venue import (
    Amended,
    BookSnapshot,
    CancelAnswer,
    CollateralTransfer,
    Feed,
    Grouping,
    Level,
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
    VenueOrderState,
    VenuePosition,
    VenueSink,
    VenueSnapshot,
)
from venuemesh.transport.quality import QualityPolicy
from venuemesh.v1 import account_pb2, instrument_pb2, market_data_pb2, operations_pb2, order_pb2, stream_pb2, venue_pb2

BTC = "BTC/USDC:USDC"
ETH = "ETH/USDC:USDC"
VENUE = "fakevenue"
MAIN = "main"
ZERO = Decimal(0)
DEFAULT_LEVERAGE = LeverageSetting(leverage=Decimal(20), margin_mode=instrument_pb2.MARGIN_MODE_CROSS)


@dataclass(frozen=True, slots=True)
class Lost:
    """The call takes effect at the venue (unless `arrived` is False) and its reply is lost."""

    arrived: bool = True


@dataclass(frozen=True, slots=True)
class Held:
    """The call waits until the test sets `until`; then `reply` is what it would have been."""

    until: asyncio.Event
    reply: Any = None


@dataclass(frozen=True, slots=True)
class Down:
    """Nothing leaves the process."""

    cause: str = "link down"


TRIGGERS = (
    order_pb2.ORDER_TYPE_STOP_MARKET,
    order_pb2.ORDER_TYPE_STOP_LIMIT,
    order_pb2.ORDER_TYPE_TAKE_PROFIT_MARKET,
    order_pb2.ORDER_TYPE_TAKE_PROFIT_LIMIT,
)


def capabilities(
    *, stale_after_s: float = 5.0, max_depth: int = 20, batch: int = 1, groups: bool = False, twap: bool = False
) -> venue_pb2.VenueCapabilities:
    """Limit, market and trigger orders, in-place amendments, proof of absence one second after expiry.

    `batch` is the size of native batches, `groups` offers brackets, `twap` TWAPs of 5 to 1440 minutes.
    """
    gtc, ioc = order_pb2.TIME_IN_FORCE_GTC, order_pb2.TIME_IN_FORCE_IOC
    both = [order_pb2.EXECUTION_INSTRUCTION_POST_ONLY, order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY]
    return venue_pb2.VenueCapabilities(
        order_types=[
            venue_pb2.OrderTypeSupport(
                order_type=order_pb2.ORDER_TYPE_LIMIT, times_in_force=[gtc, ioc], instructions=both
            ),
            venue_pb2.OrderTypeSupport(
                order_type=order_pb2.ORDER_TYPE_MARKET, times_in_force=[ioc], instructions=both[1:]
            ),
            *(
                venue_pb2.OrderTypeSupport(order_type=kind, times_in_force=[gtc], instructions=both[1:])
                for kind in (*TRIGGERS, *([order_pb2.ORDER_TYPE_TWAP] if twap else []))
            ),
        ],
        amend_mode=venue_pb2.AMEND_MODE_IN_PLACE,
        max_batch_orders=batch,
        max_batch_cancels=batch,
        brackets=venue_pb2.PROVISION_NATIVE if groups else venue_pb2.PROVISION_NONE,
        twap=venue_pb2.PROVISION_NATIVE if twap else venue_pb2.PROVISION_NONE,
        twap_randomize=twap,
        min_twap_duration=Duration(seconds=300) if twap else None,
        max_twap_duration=Duration(seconds=86_400) if twap else None,
        query_by_client_order_id=True,
        expires_after=True,
        settle_delay=Duration(seconds=1),
        book=venue_pb2.BookSupport(
            max_depth=max_depth,
            stale_after=Duration(nanos=int(stale_after_s * 1e9) % 10**9, seconds=int(stale_after_s)),
        ),
        isolated_margin=True,
        perpetuals=True,
        collateral_sections=["", "spot"],
    )


def instrument(symbol: str = BTC, *, tick: str = "0.5", step: str = "0.001") -> instrument_pb2.Instrument:
    """A perpetual that trades."""
    base = symbol.partition("/")[0]
    return instrument_pb2.Instrument(
        venue=VENUE,
        symbol=symbol,
        venue_symbol=base,
        instrument_type=instrument_pb2.INSTRUMENT_TYPE_PERPETUAL,
        base_asset=base,
        quote_asset="USDC",
        settle_asset="USDC",
        state=instrument_pb2.INSTRUMENT_STATE_TRADING,
        price_rule=instrument_pb2.PriceRule(tick_size=tick),
        quantity_rule=instrument_pb2.QuantityRule(step_size=step, min_notional="10"),
        contract_size="1",
        max_leverage="50",
        margin_modes=[instrument_pb2.MARGIN_MODE_CROSS, instrument_pb2.MARGIN_MODE_ISOLATED],
        maker_fee_rate="0.0001",
        taker_fee_rate="0.0005",
    )


def levels(*pairs: tuple[str, str]) -> list[Level]:
    """`("100", "1.5")` pairs as levels."""
    return [Level(Decimal(price), Decimal(quantity)) for price, quantity in pairs]


class FakeVenue:
    """Satisfies `venuemesh.gateway.venue.Venue`.

    Attributes:
        orders: the venue's own book of orders, by the id we gave them.
        placed, cancels, amendments, watching, leverages: what was asked of it.
        sink: where it pushes; set while `run` runs.
    """

    def __init__(self, clock: Clock | None = None, *, accounts: Sequence[str] = (MAIN,), **options: Any) -> None:
        self.name = VENUE
        self.clock: Clock = clock or ManualClock()
        self.capabilities = capabilities(**options)
        self.accounts: Sequence[VenueAccount] = [
            VenueAccount(account_id=name, venue_account=f"0x{name}") for name in accounts
        ]
        self.instruments = [instrument(BTC), instrument(ETH, tick="0.1")]
        self.orders: dict[str, VenueOrder] = {}
        self.order_accounts: dict[str, str] = {}
        self.fills: dict[str, list[VenueFill]] = {name: [] for name in accounts}
        self.ledger: dict[str, list[account_pb2.LedgerEntry]] = {name: [] for name in accounts}
        self.positions: dict[tuple[str, str], Decimal] = {}
        self.balances: list[account_pb2.Balance] = []
        self.books: dict[str, BookSnapshot] = {}
        self.trades: list[market_data_pb2.Trade] = []
        self.candles: list[market_data_pb2.Candle] = []
        self.statistics: dict[str, market_data_pb2.MarketStatistics] = {}
        self.placed: list[OrderTicket] = []
        self.batches: list[tuple[Grouping, list[OrderTicket]]] = []
        self.cancels: list[OrderTarget] = []
        self.cancel_batches: list[list[OrderTarget]] = []
        self.cancels_of_all: list[str] = []
        self.amendments: list[OrderTicket] = []
        self.leverages: list[tuple[str, str, int, bool]] = []
        self.leverage_settings: dict[tuple[str, str], LeverageSetting] = {}
        self.margin_changes: list[tuple[str, str, Decimal]] = []
        self.transfers: list[CollateralTransfer] = []
        self.schedules: dict[str, int | None] = {}
        self.quota_rows: list[operations_pb2.Quota] = []
        self.watching: set[tuple[Feed, str, int]] = set()
        self.calls: list[str] = []
        self.sink: VenueSink | None = None
        self.running = asyncio.Event()
        self.up = True
        self.pushing = True
        self._scripts: dict[str, deque[Any]] = {}
        self._nonce = 0
        self._ids = 0

    # what tests tell it

    def script(self, method: str, *replies: Any) -> None:
        """The next calls of `method` do this: a value, an exception, `Lost`, `Held` or `Down`; None is normal."""
        self._scripts.setdefault(method, deque()).extend(replies)

    def order_of(self, ticket: OrderTicket | str) -> VenueOrder:
        """The venue's order of a ticket or of the id we gave it."""
        return self.orders[ticket if isinstance(ticket, str) else ticket.venue_client_order_id]

    def fill(self, order: VenueOrder, quantity: str, price: str, *, fee: str = "0", push: bool = True) -> VenueFill:
        """Fill some of an order, or all that is left of it."""
        key = order.venue_client_order_id or ""
        order = self.orders[key]
        account = self.order_accounts[key]
        filled = (order.filled_quantity or ZERO) + Decimal(quantity)
        state = VenueOrderState.FILLED if filled == order.quantity else order.state
        self.orders[key] = replace(order, filled_quantity=filled, state=state)
        self._ids += 1
        fill = VenueFill(
            execution_id=f"x{self._ids}",
            trade_id=f"t{self._ids}",
            venue_order_id=order.venue_order_id,
            venue_client_order_id=order.venue_client_order_id,
            symbol=order.symbol,
            side=order.side,
            quantity=Decimal(quantity),
            price=Decimal(price),
            fee=Decimal(fee),
            fee_asset="USDC",
            liquidity_role=order_pb2.LIQUIDITY_ROLE_MAKER,
            venue_realized_pnl=None,
            venue_time_ns=self.clock.now_ns(),
        )
        self.fills[account].append(fill)
        sign = 1 if order.side == order_pb2.SIDE_BUY else -1
        place = (account, order.symbol)
        self.positions[place] = self.positions.get(place, ZERO) + sign * fill.quantity
        if push:
            self._push(lambda sink: sink.on_fill(account, fill))
            self._push_order(key)
        return fill

    def trigger(self, order: VenueOrder) -> None:
        """The trigger of an order fires."""
        key = order.venue_client_order_id or ""
        fired = replace(self.orders[key], trigger_state=order_pb2.TRIGGER_STATE_TRIGGERED, text="triggered")
        self.orders[key] = fired
        self._push_order(key)

    def end(self, order: VenueOrder, state: VenueOrderState, text: str = "", *, push: bool = True) -> None:
        """End an order: cancelled, expired, rejected."""
        key = order.venue_client_order_id or ""
        self.orders[key] = replace(self.orders[key], state=state, text=text or state.value)
        if push:
            self._push_order(key)

    def fund(self, account_id: str, entry_id: str, amount: str, symbol: str = BTC) -> account_pb2.LedgerEntry:
        """Pay or take funding."""
        entry = account_pb2.LedgerEntry(
            ledger_entry_id=entry_id,
            account_id=account_id,
            venue=self.name,
            ledger_entry_type=account_pb2.LEDGER_ENTRY_TYPE_FUNDING,
            asset="USDC",
            amount=amount,
            symbol=symbol,
            venue_time=timestamp(self.clock.now_ns()),
        )
        self.ledger[account_id].append(entry)
        self._push(lambda sink: sink.on_ledger(account_id, entry))
        return entry

    def set_book(
        self, symbol: str, bids: Sequence[Level], asks: Sequence[Level], *, push: bool = True, age_s: float = 0.0
    ) -> BookSnapshot:
        """Set a book; pushed when it is watched."""
        now_ns = self.clock.now_ns()
        book = BookSnapshot(
            symbol=symbol, bids=bids, asks=asks, venue_time_ns=now_ns - int(age_s * 1e9), received_ns=now_ns
        )
        self.books[symbol] = book
        if push and (Feed.BOOK, symbol, 0) in self.watching:
            self._push(lambda sink: sink.on_book(book))
        if push and (Feed.TOP, symbol, 0) in self.watching:
            bid, ask = (bids[0] if bids else None), (asks[0] if asks else None)
            self._push(lambda sink: sink.on_top(symbol, bid, ask, book.venue_time_ns, now_ns))
        return book

    def go_down(self, cause: str = "socket closed") -> None:
        """Lose every link: writes fail before they are sent, the gateway is told."""
        self.up = False
        self._push(lambda sink: sink.on_link("user", stream_pb2.LINK_STATE_DOWN, cause))
        for account in self.accounts:
            self._push(lambda sink, name=account.account_id: sink.on_account_lost(name, cause))
        for symbol in sorted({symbol for _, symbol, _ in self.watching}):
            self._push(lambda sink, symbol=symbol: sink.on_feed_lost(symbol, cause))

    def go_up(self) -> None:
        """The links are back; what was missed is not pushed again."""
        self.up = True
        self._push(lambda sink: sink.on_link("user", stream_pb2.LINK_STATE_LIVE, ""))
        for account in self.accounts:
            self._push(lambda sink, name=account.account_id: sink.on_account_live(name))

    def _push(self, tell: Callable[..., None]) -> None:
        if self.sink is not None and self.pushing:
            tell(self.sink)

    def _push_order(self, key: str) -> None:
        self._push(lambda sink: sink.on_order(self.order_accounts[key], self.orders[key]))

    async def _scripted(self, method: str, act: Callable[[], Any]) -> Any:
        """Do what the script says, or act."""
        self.calls.append(method)
        replies = self._scripts.get(method)
        reply = replies.popleft() if replies else None
        if isinstance(reply, Held):
            await reply.until.wait()
            reply = reply.reply
        if isinstance(reply, Lost):
            if reply.arrived:
                act()
            raise OutcomeUnknown(f"the reply to {method} was lost")
        if isinstance(reply, Down) or (reply is None and not self.up):
            raise VenueUnavailable(reply.cause if isinstance(reply, Down) else "link down", retry_after_s=1.0)
        if isinstance(reply, BaseException):
            raise reply
        return act() if reply is None else reply

    # what the gateway asks of it

    async def run(self, sink: VenueSink) -> None:
        self.sink = sink
        try:
            self.go_up()
            self.running.set()
            await asyncio.Event().wait()
        finally:
            self.sink = None

    def links(self) -> Sequence[venue_pb2.LinkStatus]:
        state = stream_pb2.LINK_STATE_LIVE if self.up else stream_pb2.LINK_STATE_DOWN
        return [venue_pb2.LinkStatus(link_id="user", state=state)]

    def judge_links(self, policy: QualityPolicy) -> None:
        self.link_policy = policy

    def quotas(self) -> Sequence[operations_pb2.Quota]:
        return self.quota_rows

    async def fetch_instruments(self) -> Sequence[instrument_pb2.Instrument]:
        answer: Sequence[instrument_pb2.Instrument] = await self._scripted(
            "fetch_instruments", lambda: self.instruments
        )
        return answer

    def venue_client_order_id(self, order_id: str) -> str:
        return f"0x{order_id}"

    def reserve(self, account_id: str, *, not_after_ns: int) -> Reservation:
        if not self.up:
            raise VenueUnavailable("link down", retry_after_s=1.0)
        self._nonce += 1
        return Reservation(nonce=self._nonce, expires_ns=not_after_ns)

    def restore_nonce(self, account_id: str, nonce: int) -> None:
        self._nonce = max(self._nonce, nonce)

    async def place_order(self, ticket: OrderTicket, sent: Callable[[], None]) -> Placed | Refused:
        self.placed.append(ticket)
        if self.up:
            sent()
        answer: Placed | Refused = await self._scripted("place_order", lambda: self._rest(ticket))
        return answer

    async def place_orders(
        self, tickets: Sequence[OrderTicket], sent: Callable[[], None], *, grouping: Grouping = Grouping.NONE
    ) -> Sequence[Placed | Refused | Unclear]:
        self.batches.append((grouping, list(tickets)))
        self.placed.extend(tickets)
        if self.up:
            sent()
        answers: Sequence[Placed | Refused | Unclear] = await self._scripted(
            "place_orders", lambda: self._rest_all(tickets, grouping)
        )
        return answers

    def _rest_all(self, tickets: Sequence[OrderTicket], grouping: Grouping) -> list[Placed]:
        """Children of a bracket are answered without an id, as venues do."""
        placed = [self._rest(ticket) for ticket in tickets]
        if grouping is Grouping.NONE:
            return placed
        waiting = order_pb2.TRIGGER_STATE_WAITING
        if grouping is Grouping.BRACKET:
            waiting = order_pb2.TRIGGER_STATE_WAITING_FOR_PARENT
        first = 1 if grouping is Grouping.BRACKET else 0
        return [*placed[:first], *(Placed(venue_order_id="", trigger_state=waiting) for _ in placed[first:])]

    def _rest(self, ticket: OrderTicket) -> Placed:
        self._ids += 1
        order = VenueOrder(
            venue_order_id=f"v{self._ids}",
            venue_client_order_id=ticket.venue_client_order_id,
            symbol=ticket.instrument.symbol,
            side=ticket.side,
            quantity=ticket.quantity,
            filled_quantity=ZERO,
            price=ticket.price,
            state=VenueOrderState.WORKING,
            reason=None,
            text="open",
            venue_time_ns=self.clock.now_ns(),
            trigger_price=ticket.trigger_price,
            reduce_only=ticket.reduce_only,
        )
        self.orders[ticket.venue_client_order_id] = order
        self.order_accounts[ticket.venue_client_order_id] = ticket.account_id
        self._push_order(ticket.venue_client_order_id)
        return Placed(venue_order_id=order.venue_order_id, filled_quantity=ZERO)

    async def cancel_order(self, target: OrderTarget) -> CancelAnswer | Refused:
        self.cancels.append(target)
        answer: CancelAnswer | Refused = await self._scripted("cancel_order", lambda: self._cancel(target))
        return answer

    async def cancel_orders(self, targets: Sequence[OrderTarget]) -> Sequence[CancelAnswer | Refused | Unclear]:
        self.cancel_batches.append(list(targets))
        self.cancels.extend(targets)
        answers: Sequence[CancelAnswer | Refused | Unclear] = await self._scripted(
            "cancel_orders", lambda: [self._cancel(target) for target in targets]
        )
        return answers

    async def cancel_all(self, account_id: str, instrument: instrument_pb2.Instrument | None) -> Refused | None:
        self.cancels_of_all.append(instrument.symbol if instrument else "")
        answer: Refused | None = await self._scripted("cancel_all", lambda: self._cancel_all(instrument))
        return answer

    def _cancel_all(self, instrument: instrument_pb2.Instrument | None) -> None:
        for order in list(self.orders.values()):
            if order.state is VenueOrderState.WORKING and (instrument is None or order.symbol == instrument.symbol):
                self.end(order, VenueOrderState.CANCELED)

    def _cancel(self, target: OrderTarget) -> CancelAnswer:
        order = self.orders.get(target.venue_client_order_id)
        if order is None or order.state is not VenueOrderState.WORKING:
            return CancelAnswer.GONE
        self.end(order, VenueOrderState.CANCELED)
        return CancelAnswer.CANCELED

    async def amend_order(self, target: OrderTarget, ticket: OrderTicket) -> Amended | Refused:
        self.amendments.append(ticket)
        answer: Amended | Refused = await self._scripted("amend_order", lambda: self._amend(target, ticket))
        return answer

    def _amend(self, target: OrderTarget, ticket: OrderTicket) -> Amended | Refused:
        order = self.orders.get(target.venue_client_order_id)
        if order is None or order.state is not VenueOrderState.WORKING:
            return Refused(reason=Reason.ORDER_NOT_FOUND, text="no such order")
        self.orders[target.venue_client_order_id] = replace(
            order, quantity=ticket.quantity, price=ticket.price, trigger_price=ticket.trigger_price
        )
        return Amended(venue_order_id=order.venue_order_id, filled_quantity=order.filled_quantity)

    async def fetch_order(self, target: OrderTarget) -> VenueOrder | None:
        answer: VenueOrder | None = await self._scripted(
            "fetch_order", lambda: self.orders.get(target.venue_client_order_id)
        )
        return answer

    async def fetch_orders(self, targets: Sequence[OrderTarget]) -> Sequence[VenueOrder | None]:
        self.calls.append("fetch_orders")
        return [await self.fetch_order(target) for target in targets]

    async def fetch_fills(self, account_id: str, since_ns: int) -> Sequence[VenueFill]:
        fills: Sequence[VenueFill] = await self._scripted("fetch_fills", lambda: list(self.fills[account_id]))
        return [fill for fill in fills if fill.venue_time_ns >= since_ns]

    async def fetch_ledger(self, account_id: str, since_ns: int) -> Sequence[account_pb2.LedgerEntry]:
        rows: Sequence[account_pb2.LedgerEntry] = await self._scripted(
            "fetch_ledger", lambda: list(self.ledger[account_id])
        )
        return [row for row in rows if row.venue_time.ToNanoseconds() >= since_ns]

    async def fetch_snapshot(self, account_id: str) -> VenueSnapshot:
        taken_ns = self.clock.now_ns()
        answer: VenueSnapshot = await self._scripted("fetch_snapshot", lambda: self._snapshot(account_id, taken_ns))
        return answer

    def _snapshot(self, account_id: str, taken_ns: int) -> VenueSnapshot:
        return VenueSnapshot(
            taken_ns=taken_ns,
            open_orders=[
                order
                for key, order in self.orders.items()
                if order.state is VenueOrderState.WORKING and self.order_accounts[key] == account_id
            ],
            positions=[
                VenuePosition(symbol=symbol, quantity=quantity, entry_price=None)
                for (owner, symbol), quantity in self.positions.items()
                if owner == account_id and quantity
            ],
            balances=[row for row in self.balances if row.account_id == account_id],
            summary=account_pb2.AccountSummary(asset="USDC", equity="1000"),
        )

    async def set_leverage(
        self, account_id: str, instrument: instrument_pb2.Instrument, leverage: int, cross: bool
    ) -> Refused | None:
        self.leverages.append((account_id, instrument.symbol, leverage, cross))
        mode = instrument_pb2.MARGIN_MODE_CROSS if cross else instrument_pb2.MARGIN_MODE_ISOLATED

        def act() -> None:
            setting = LeverageSetting(leverage=Decimal(leverage), margin_mode=mode)
            self.leverage_settings[(account_id, instrument.symbol)] = setting

        answer: Refused | None = await self._scripted("set_leverage", act)
        return answer

    async def fetch_leverage(self, account_id: str, instrument: instrument_pb2.Instrument) -> LeverageSetting:
        setting: LeverageSetting = await self._scripted(
            "fetch_leverage", lambda: self.leverage_settings.get((account_id, instrument.symbol), DEFAULT_LEVERAGE)
        )
        return setting

    async def adjust_isolated_margin(
        self, account_id: str, instrument: instrument_pb2.Instrument, amount: Decimal, reservation: Reservation
    ) -> Refused | None:
        def act() -> None:
            self.margin_changes.append((account_id, instrument.symbol, amount))

        answer: Refused | None = await self._scripted("adjust_isolated_margin", act)
        return answer

    async def transfer_collateral(self, transfer: CollateralTransfer) -> Refused | None:
        def act() -> None:
            self.transfers.append(transfer)

        answer: Refused | None = await self._scripted("transfer_collateral", act)
        return answer

    async def schedule_cancel(self, account_id: str, at_ns: int | None) -> Refused | None:
        def act() -> None:
            self.schedules[account_id] = at_ns

        answer: Refused | None = await self._scripted("schedule_cancel", act)
        return answer

    async def fetch_section_balances(
        self, account_id: str, asset: str, sections: Sequence[str]
    ) -> Sequence[account_pb2.Balance]:
        rows: Sequence[account_pb2.Balance] = await self._scripted("fetch_section_balances", lambda: self.balances)
        return [row for row in rows if (row.account_id, row.asset) == (account_id, asset)]

    async def watch(
        self, feed: Feed, symbol: str, interval: market_data_pb2.CandleInterval.ValueType | None = None
    ) -> None:
        await self._scripted("watch", lambda: self.watching.add((feed, symbol, interval or 0)))

    async def unwatch(
        self, feed: Feed, symbol: str, interval: market_data_pb2.CandleInterval.ValueType | None = None
    ) -> None:
        await self._scripted("unwatch", lambda: self.watching.discard((feed, symbol, interval or 0)))

    async def fetch_book(self, symbol: str) -> BookSnapshot:
        answer: BookSnapshot = await self._scripted("fetch_book", lambda: self._book(symbol))
        return answer

    def _book(self, symbol: str) -> BookSnapshot:
        empty = BookSnapshot(symbol=symbol, bids=(), asks=(), venue_time_ns=0, received_ns=0)
        return replace(self.books.get(symbol, empty), received_ns=self.clock.now_ns())

    async def fetch_trades(self, symbol: str, limit: int) -> Sequence[market_data_pb2.Trade]:
        rows: Sequence[market_data_pb2.Trade] = await self._scripted("fetch_trades", lambda: list(self.trades))
        return [row for row in rows if row.symbol == symbol][:limit]

    async def fetch_candles(
        self, symbol: str, interval: market_data_pb2.CandleInterval.ValueType, from_ns: int, to_ns: int
    ) -> Sequence[market_data_pb2.Candle]:
        rows: Sequence[market_data_pb2.Candle] = await self._scripted("fetch_candles", lambda: list(self.candles))
        return [
            row
            for row in rows
            if (row.symbol, row.interval) == (symbol, interval) and from_ns <= row.open_time.ToNanoseconds() < to_ns
        ]

    async def fetch_statistics(self, symbol: str) -> market_data_pb2.MarketStatistics:
        answer: market_data_pb2.MarketStatistics = await self._scripted(
            "fetch_statistics",
            lambda: self.statistics.get(symbol, market_data_pb2.MarketStatistics(venue=VENUE, symbol=symbol)),
        )
        return answer
