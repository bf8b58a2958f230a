"""A caller of one gateway through the public contract: everything it knows, the gateway told it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import grpc

from tests.contract.numbers import plain, round_price, smallest_quantity
from venuemesh.v1 import (
    account_pb2,
    account_service_pb2,
    account_service_pb2_grpc,
    instrument_pb2,
    instrument_service_pb2,
    instrument_service_pb2_grpc,
    market_data_pb2,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    operations_service_pb2_grpc,
    order_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
    reconciliation_service_pb2_grpc,
    stream_pb2,
    venue_pb2,
    venue_service_pb2,
    venue_service_pb2_grpc,
)

CALL_S = 30.0
"""Most time a call may take, and any wait for something to happen."""
AWAY = Decimal("0.9")
"""Where an order rests: this share of the best price, nearer than any venue's price band and far from a fill."""
FIRST_CHOICE_TRIES = 20
LISTED_TRIES = 100
ALLOW_MAINNET = "CONFORMANCE_ALLOW_MAINNET"
GTC, IOC = order_pb2.TIME_IN_FORCE_GTC, order_pb2.TIME_IN_FORCE_IOC
LIMIT, MARKET = order_pb2.ORDER_TYPE_LIMIT, order_pb2.ORDER_TYPE_MARKET
BUY, SELL = order_pb2.SIDE_BUY, order_pb2.SIDE_SELL
REDUCE_ONLY = order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY
POST_ONLY = order_pb2.EXECUTION_INSTRUCTION_POST_ONLY


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """Best prices of one moment."""

    bid: Decimal
    ask: Decimal


@dataclass(kw_only=True)
class Client:
    """A gateway, one account and one instrument of it.

    Attributes:
        local: whether the gateway was started for this run, so that nobody else's orders are in its account.
    """

    channel: grpc.aio.Channel
    venue: venue_pb2.Venue
    account_id: str
    instrument: instrument_pb2.Instrument
    local: bool
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:10])
    orders: Any = field(init=False)
    accounts: Any = field(init=False)
    market: Any = field(init=False)
    instruments: Any = field(init=False)
    venues: Any = field(init=False)
    reconciliation: Any = field(init=False)
    operations: Any = field(init=False)
    _number: int = 0
    _used: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.orders = order_service_pb2_grpc.OrderServiceStub(self.channel)
        self.accounts = account_service_pb2_grpc.AccountServiceStub(self.channel)
        self.market = market_data_service_pb2_grpc.MarketDataServiceStub(self.channel)
        self.instruments = instrument_service_pb2_grpc.InstrumentServiceStub(self.channel)
        self.venues = venue_service_pb2_grpc.VenueServiceStub(self.channel)
        self.reconciliation = reconciliation_service_pb2_grpc.ReconciliationServiceStub(self.channel)
        self.operations = operations_service_pb2_grpc.OperationsServiceStub(self.channel)

    # what it is about

    @property
    def name(self) -> str:
        """The venue's name."""
        return self.venue.venue

    @property
    def symbol(self) -> str:
        """Of the instrument traded."""
        return self.instrument.symbol

    @property
    def capabilities(self) -> venue_pb2.VenueCapabilities:
        """The record all differences between gateways come from."""
        return self.venue.capabilities

    def support(self, order_type: int) -> venue_pb2.OrderTypeSupport | None:
        """What goes with an order type; None when the venue has none."""
        return next((row for row in self.capabilities.order_types if row.order_type == order_type), None)

    def offers(self, order_type: int, time_in_force: int, *instructions: int) -> bool:
        """Whether the record lists the combination."""
        row = self.support(order_type)
        return (
            row is not None
            and time_in_force in row.times_in_force
            and all(instruction in row.instructions for instruction in instructions)
        )

    # prices

    async def quote(self) -> Quote:
        """Best prices now."""
        book = await self.book(depth=1)
        return Quote(bid=Decimal(book.bids[0].price), ask=Decimal(book.asks[0].price))

    async def book(self, depth: int = 0) -> market_data_pb2.OrderBook:
        """The book now."""
        request = market_data_service_pb2.GetOrderBookRequest(venue=self.name, symbol=self.symbol, depth=depth)
        answer = await self.market.GetOrderBook(request, timeout=CALL_S)
        book: market_data_pb2.OrderBook = answer.order_book
        return book

    def price(self, wanted: Decimal, *, up: bool = False) -> str:
        """A valid price at or beside what is wanted."""
        return plain(round_price(wanted, self.instrument.price_rule, up=up))

    def away(self, quote: Quote, side: int = BUY) -> str:
        """A price at which an order rests."""
        return self.price(quote.bid * AWAY) if side == BUY else self.price(quote.ask / AWAY, up=True)

    def through(self, quote: Quote, side: int = BUY) -> str:
        """A price at which an order fills at once."""
        return (
            self.price(quote.ask * Decimal("1.01"), up=True) if side == BUY else self.price(quote.bid / Decimal("1.01"))
        )

    def quantity(self, quote: Quote, *, times: int = 1) -> str:
        """A small quantity, valid also at the price at which orders rest."""
        return plain(smallest_quantity(quote.bid * AWAY, self.instrument.quantity_rule, times=times))

    # orders

    def key(self) -> str:
        """A key nobody used before; what it is used for is cleaned up after the test."""
        self._number += 1
        key = f"cf-{self.run}-{self._number}"
        self._used.append(key)
        return key

    def new_order(self, quote: Quote, **changes: Any) -> order_pb2.NewOrder:
        """A limit order to buy that rests, with changes; None clears a field."""
        fields: dict[str, Any] = {
            "account_id": self.account_id,
            "venue": self.name,
            "symbol": self.symbol,
            "side": BUY,
            "order_type": LIMIT,
            "quantity": self.quantity(quote),
            "time_in_force": GTC,
            **changes,
        }
        fields.setdefault("client_order_id", self.key())
        if "price" not in fields:
            fields["price"] = self.away(quote, fields["side"])
        return order_pb2.NewOrder(**{name: value for name, value in fields.items() if value is not None})

    def market_order(self, quote: Quote, **changes: Any) -> order_pb2.NewOrder:
        """A market order to buy, with changes."""
        return self.new_order(quote, **{"order_type": MARKET, "time_in_force": IOC, "price": None, **changes})

    def taking_order(self, quote: Quote, side: int = BUY, **changes: Any) -> order_pb2.NewOrder:
        """An order that fills at once: a market order, or what the venue has in its place."""
        if self.offers(MARKET, IOC):
            return self.market_order(quote, side=side, **changes)
        time_in_force = IOC if self.offers(LIMIT, IOC) else GTC
        return self.new_order(
            quote, **{"side": side, "price": self.through(quote, side), "time_in_force": time_in_force, **changes}
        )

    async def submit(
        self, order: order_pb2.NewOrder, ack_level: int = order_service_pb2.ACK_LEVEL_VENUE, timeout: float = CALL_S
    ) -> order_service_pb2.SubmitOrderResponse:
        """Submit an order."""
        request = order_service_pb2.SubmitOrderRequest(order=order, ack_level=ack_level)  # type: ignore[arg-type]
        answer: order_service_pb2.SubmitOrderResponse = await self.orders.SubmitOrder(request, timeout=timeout)
        return answer

    async def rest(self, **changes: Any) -> order_pb2.Order:
        """An order that rests at the venue."""
        answer = await self.submit(self.new_order(await self.quote(), **changes))
        assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED, answer
        assert answer.order.working
        return answer.order

    async def take(self, side: int = BUY, **changes: Any) -> order_pb2.Order:
        """An order that was filled."""
        order = self.taking_order(await self.quote(), side, **changes)
        answer = await self.submit(order, order_service_pb2.ACK_LEVEL_TERMINAL)
        assert answer.order.status == order_pb2.ORDER_STATUS_FILLED, answer
        return answer.order

    def by_key(self, key: str) -> order_service_pb2.OrderReference:
        """Names an order by the caller's id."""
        return order_service_pb2.OrderReference(account_id=self.account_id, venue=self.name, client_order_id=key)

    def by_id(self, **name: str) -> order_service_pb2.OrderReference:
        """Names an order by another id."""
        return order_service_pb2.OrderReference(account_id=self.account_id, venue=self.name, **name)

    async def order(self, key: str, min_version: int | None = None) -> order_pb2.Order:
        """An order as known now."""
        request = order_service_pb2.GetOrderRequest(reference=self.by_key(key), min_version=min_version)
        answer = await self.orders.GetOrder(request, timeout=CALL_S)
        order: order_pb2.Order = answer.order
        return order

    async def until_terminal(self, key: str) -> order_pb2.Order:
        """An order once it can never change again."""
        order = await self.order(key)
        while not order.terminal:
            order = await self.order(key, min_version=order.order_version + 1)
        return order

    async def cancel(
        self, reference: order_service_pb2.OrderReference, **more: Any
    ) -> order_service_pb2.CancelOrderResponse:
        """Cancel an order."""
        request = order_service_pb2.CancelOrderRequest(reference=reference, **more)
        answer: order_service_pb2.CancelOrderResponse = await self.orders.CancelOrder(request, timeout=CALL_S)
        return answer

    async def open_orders(self) -> list[order_pb2.Order]:
        """Orders that may still change, of the account's whole symbol."""
        statuses = [
            order_pb2.ORDER_STATUS_PENDING_NEW,
            order_pb2.ORDER_STATUS_NEW,
            order_pb2.ORDER_STATUS_PARTIALLY_FILLED,
            order_pb2.ORDER_STATUS_UNCERTAIN,
        ]
        request = order_service_pb2.ListOrdersRequest(
            account_id=self.account_id, venue=self.name, statuses=statuses, page_size=1_000
        )
        answer = await self.orders.ListOrders(request, timeout=CALL_S)
        return list(answer.orders)

    # account

    async def position(self) -> Decimal:
        """Signed quantity held of the instrument."""
        request = account_service_pb2.ListPositionsRequest(
            account_id=self.account_id, venue=self.name, symbols=[self.symbol]
        )
        answer = await self.accounts.ListPositions(request, timeout=CALL_S)
        return sum((Decimal(row.quantity) for row in answer.positions), Decimal(0))

    async def account(self) -> account_pb2.Account:
        """The account now."""
        request = account_service_pb2.GetAccountRequest(account_id=self.account_id, venue=self.name)
        answer = await self.accounts.GetAccount(request, timeout=CALL_S)
        account: account_pb2.Account = answer.account
        return account

    async def fills(self, order: order_pb2.Order) -> list[order_pb2.Fill]:
        """All fills of an order, newest first: asked for until they add up, as a fill is listed once it is durable."""
        for _ in range(LISTED_TRIES):
            rows = await self._listed_fills(order.order_id)
            if sum((Decimal(row.quantity) for row in rows), Decimal(0)) == Decimal(order.filled_quantity):
                return rows
        raise AssertionError(f"the fills listed do not add up to {order.filled_quantity}: {rows}")

    async def _listed_fills(self, order_id: str) -> list[order_pb2.Fill]:
        rows: list[order_pb2.Fill] = []
        token = ""
        while True:
            request = account_service_pb2.ListFillsRequest(
                account_id=self.account_id, venue=self.name, order_id=order_id, page_token=token
            )
            answer = await self.accounts.ListFills(request, timeout=CALL_S)
            rows += answer.fills
            token = answer.next_page_token
            if not token:
                return rows

    def reports(self, **more: Any) -> Any:
        """A stream of the account's execution reports."""
        request = order_service_pb2.StreamExecutionReportsRequest(
            account_id=self.account_id, venue=self.name, options=stream_pb2.StreamOptions(**more)
        )
        return self.orders.StreamExecutionReports(request, timeout=2 * CALL_S)

    # cleaning up

    async def tidy(self) -> None:
        """Cancel what this test left working and give back what it bought."""
        keys, self._used = self._used, []
        ended = [order for order in await asyncio.gather(*map(self._end, keys)) if order is not None]
        net: dict[str, Decimal] = {}
        for order in ended:
            sign = 1 if order.terms.side == BUY else -1
            symbol = order.terms.symbol
            net[symbol] = net.get(symbol, Decimal(0)) + sign * Decimal(order.filled_quantity)
        held = net.pop(self.symbol, Decimal(0))
        assert not any(net.values()), f"filled in other instruments: {net}"
        if held:
            await self._give_back(held)

    async def _end(self, key: str) -> order_pb2.Order | None:
        try:
            order = await self.order(key)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise
        if not order.terminal:
            await self.cancel(self.by_key(key))
            order = await self.until_terminal(key)
        return order

    async def _give_back(self, held: Decimal) -> None:
        side = SELL if held > 0 else BUY
        quote = await self.quote()
        order = self.taking_order(quote, side, quantity=plain(abs(held)))
        if (row := self.support(order.order_type)) is not None and REDUCE_ONLY in row.instructions:
            order.instructions.append(REDUCE_ONLY)
        self._used.clear()
        answer = await self.submit(order, order_service_pb2.ACK_LEVEL_TERMINAL)
        assert answer.order.status == order_pb2.ORDER_STATUS_FILLED, f"not given back: {answer}"


@asynccontextmanager
async def opened(call: Any) -> AsyncIterator[Any]:
    """A stream that is cancelled at the end of the block."""
    try:
        yield call
    finally:
        call.cancel()


async def read_until(call: Any, *bodies: str) -> list[Any]:
    """Messages of a stream up to the first of one of these kinds, that one included."""
    seen = []
    while (message := await call.read()) is not grpc.aio.EOF:
        seen.append(message)
        if message.WhichOneof("body") in bodies:
            return seen
    raise AssertionError(f"the stream ended before {bodies}: {[row.WhichOneof('body') for row in seen]}")


def refusal_to_run(venue: venue_pb2.Venue, environ: Mapping[str, str]) -> str:
    """Why the suite must not run against a gateway: its orders cost real money, or nobody can tell; else empty."""
    harmless = (venue_pb2.ENVIRONMENT_SIMULATOR, venue_pb2.ENVIRONMENT_TESTNET)
    if venue.environment in harmless or environ.get(ALLOW_MAINNET) == "yes":
        return ""
    return (
        f"{venue.venue} is bound to {venue_pb2.Environment.Name(venue.environment)}, and the suite submits, fills and "
        f"cancels orders. Set {ALLOW_MAINNET}=yes to run it all the same."
    )


async def find_client(
    channel: grpc.aio.Channel, *, account_id: str = "", symbol: str = "", local: bool = False
) -> Client:
    """The client of the gateway behind a channel: what is not said is the first the gateway lists and that trades."""
    venues = venue_service_pb2_grpc.VenueServiceStub(channel)
    answer = await venues.GetVenue(venue_service_pb2.GetVenueRequest(), timeout=CALL_S)
    venue = answer.venue
    accounts = account_service_pb2_grpc.AccountServiceStub(channel)
    listed = await accounts.ListAccounts(account_service_pb2.ListAccountsRequest(), timeout=CALL_S)
    names = [row.account_id for row in listed.accounts]
    account_id = account_id or names[0]
    assert account_id in names, f"{account_id} is none of the gateway's accounts {names}"
    instrument = await _choose_instrument(channel, symbol)
    return Client(channel=channel, venue=venue, account_id=account_id, instrument=instrument, local=local)


async def _choose_instrument(channel: grpc.aio.Channel, symbol: str) -> instrument_pb2.Instrument:
    stub = instrument_service_pb2_grpc.InstrumentServiceStub(channel)
    if symbol:
        answer = await stub.GetInstrument(instrument_service_pb2.GetInstrumentRequest(symbol=symbol), timeout=CALL_S)
        found: instrument_pb2.Instrument = answer.instrument
        return found
    market = market_data_service_pb2_grpc.MarketDataServiceStub(channel)
    kind = instrument_pb2.INSTRUMENT_TYPE_PERPETUAL
    request = instrument_service_pb2.ListInstrumentsRequest(instrument_type=kind)
    listed = await stub.ListInstruments(request, timeout=CALL_S)
    trading = [row for row in listed.instruments if row.state == instrument_pb2.INSTRUMENT_STATE_TRADING]
    for row in trading[:FIRST_CHOICE_TRIES]:
        asked = market_data_service_pb2.GetOrderBookRequest(symbol=row.symbol)
        book = (await market.GetOrderBook(asked, timeout=CALL_S)).order_book
        if book.bids and book.asks:
            chosen: instrument_pb2.Instrument = row
            return chosen
    raise AssertionError("no perpetual with a two-sided book: name one with CONFORMANCE_SYMBOL")
