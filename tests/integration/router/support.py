"""Scripted gateways behind real gRPC, and a real router in front of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc

from router.server import Router, build
from router.settings import RouterSettings
from venuemesh.bus import Bus
from venuemesh.clock import SystemClock
from venuemesh.errors import MeshError, OrderNotFound, VenueNotFound
from venuemesh.metrics import Metrics
from venuemesh.running import bus_options
from venuemesh.serving import GrpcServer
from venuemesh.settings import GrpcSettings
from venuemesh.status import error_from_rpc
from venuemesh.subjects import stream_specs
from venuemesh.telemetry import Tracing
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
    order_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
    reconciliation_pb2,
    reconciliation_service_pb2,
    reconciliation_service_pb2_grpc,
    stream_pb2,
    venue_pb2,
    venue_service_pb2,
    venue_service_pb2_grpc,
)

SYMBOL = "BTC/USDC:USDC"
ACCOUNT = "main"
WAIT_S = 60.0

OrderHandler = Callable[[Any, Any], Awaitable[Any]]


def now() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


def capabilities() -> venue_pb2.VenueCapabilities:
    support = venue_pb2.OrderTypeSupport
    return venue_pb2.VenueCapabilities(
        order_types=[
            support(order_type=order_pb2.ORDER_TYPE_MARKET, times_in_force=[order_pb2.TIME_IN_FORCE_IOC]),
            support(
                order_type=order_pb2.ORDER_TYPE_LIMIT,
                times_in_force=[order_pb2.TIME_IN_FORCE_GTC, order_pb2.TIME_IN_FORCE_IOC],
                instructions=[order_pb2.EXECUTION_INSTRUCTION_POST_ONLY],
            ),
        ]
    )


def instrument(venue: str, symbol: str = SYMBOL) -> instrument_pb2.Instrument:
    return instrument_pb2.Instrument(
        venue=venue,
        symbol=symbol,
        quote_asset="USDC",
        state=instrument_pb2.INSTRUMENT_STATE_TRADING,
        price_rule=instrument_pb2.PriceRule(tick_size="0.5"),
        quantity_rule=instrument_pb2.QuantityRule(step_size="0.001", min_notional="10"),
        taker_fee_rate="0.00045",
    )


class Gateway:
    """A gateway that answers as its script says: replace the attributes of `on`."""

    def __init__(self, venue: str, *, bid: str = "99", ask: str = "101") -> None:
        self.venue = venue
        self.bid, self.ask = bid, ask
        self.levels: dict[str, list[tuple[str, str]]] = {}
        """Price and quantity of "bids" or "asks", best first; ten at `bid` or `ask` where not set."""
        self.instrument = instrument(venue)
        self.fee_rates: tuple[str, str] | None = None
        """Maker's and taker's of the account; the instrument's when not set."""
        self.funding_rate: str | None = None
        self.book_freshness = stream_pb2.FRESHNESS_FRESH
        self.state = venue_pb2.VENUE_STATE_TRADING
        self.port = 0
        self.orders: dict[str, order_pb2.Order] = {}
        self.listed_orders: list[order_pb2.Order] = []
        self.requests: list[Any] = []
        self.time_left_s: list[float] = []
        self.on: dict[str, OrderHandler] = {}
        self.sessions: dict[str, ScriptedSession] = {}
        """Order sessions by id, also those that have ended."""
        self.stream_script: Callable[[Any], AsyncIterator[Any]] | None = None
        self.stream_cancelled = asyncio.Event()
        self.pull_book = asyncio.Event()
        self._server: GrpcServer | None = None

    # --- life ---

    async def start(self) -> None:
        settings = GrpcSettings(port=self.port, drain_pause_s=0, drain_grace_s=0.5)
        server = GrpcServer(settings, metrics=Metrics(), tracing=Tracing(self.venue), clock=SystemClock())
        self.add_services(server)
        self.port = await server.start()
        await server.set_serving(True)
        await server.health.set(f"venue/{self.venue}", True)
        self._server = server

    def add_services(self, server: GrpcServer) -> None:
        """What it serves."""
        for module, stubs, name, servicer in (
            (venue_service_pb2, venue_service_pb2_grpc, "VenueService", _Venues(self)),
            (instrument_service_pb2, instrument_service_pb2_grpc, "InstrumentService", _Instruments(self)),
            (market_data_service_pb2, market_data_service_pb2_grpc, "MarketDataService", _MarketData(self)),
            (order_service_pb2, order_service_pb2_grpc, "OrderService", _Orders(self)),
            (account_service_pb2, account_service_pb2_grpc, "AccountService", _Accounts(self)),
            (
                reconciliation_service_pb2,
                reconciliation_service_pb2_grpc,
                "ReconciliationService",
                _Reconciliation(self),
            ),
        ):
            add = getattr(stubs, f"add_{name}Servicer_to_server")
            server.add(module.DESCRIPTOR.services_by_name[name], add, servicer)

    async def set_serving(self, serving: bool) -> None:
        assert self._server is not None
        await self._server.health.set(f"venue/{self.venue}", serving)

    async def kill(self) -> None:
        """Break every connection at once."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop_now()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    # --- what it knows ---

    def book(self, symbol: str) -> market_data_pb2.OrderBook:
        return market_data_pb2.OrderBook(
            venue=self.venue,
            symbol=symbol,
            bids=self._side("bids", self.bid),
            asks=self._side("asks", self.ask),
            received_time=now(),
            freshness=self.book_freshness,
            stale_cause="" if self.book_freshness == stream_pb2.FRESHNESS_FRESH else "scripted",
        )

    def _side(self, name: str, price: str) -> list[market_data_pb2.PriceLevel]:
        levels = self.levels.get(name, [(price, "10")])
        return [market_data_pb2.PriceLevel(price=price, quantity=quantity) for price, quantity in levels]

    def submits(self) -> list[order_service_pb2.SubmitOrderRequest]:
        return [one for one in self.requests if isinstance(one, order_service_pb2.SubmitOrderRequest)]

    async def submit(self, request: order_service_pb2.SubmitOrderRequest) -> order_service_pb2.SubmitOrderResponse:
        """One order per key, as a real gateway keeps it."""
        key = request.order.client_order_id
        known = self.orders.get(key)
        if known is None:
            known = self.orders[key] = order_pb2.Order(
                order_id=f"{self.venue}-{key}",
                terms=request.order,
                status=order_pb2.ORDER_STATUS_NEW,
                working=True,
                filled_quantity="0",
                leaves_quantity=request.order.quantity,
                created_time=now(),
            )
            replayed = False
        else:
            replayed = True
        return order_service_pb2.SubmitOrderResponse(
            order=known, outcome=order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED, replayed=replayed
        )

    def find(self, reference: order_service_pb2.OrderReference) -> order_pb2.Order:
        for order in self.orders.values():
            if reference.client_order_id and reference.client_order_id == order.terms.client_order_id:
                return order
            if reference.order_id and reference.order_id == order.order_id:
                return order
        raise OrderNotFound(f"no such order at {self.venue}")


class ScriptedSession:
    """An order session as a gateway has it. `heard` are the caller's messages behind the logon."""

    def __init__(self, session_id: str, logon: order_service_pb2.SessionLogon) -> None:
        self.session_id = session_id
        self.logon = logon
        self.heard: list[order_service_pb2.OpenOrderSessionRequest] = []
        self.news = asyncio.Event()
        self.half_closed = asyncio.Event()
        self.over = asyncio.Event()
        self.outgoing: asyncio.Queue[Any] = asyncio.Queue(100)

    def tell(self, **body: Any) -> None:
        """Send a message to the caller."""
        self.outgoing.put_nowait(order_service_pb2.OpenOrderSessionResponse(**body))

    async def read(self, requests: Any) -> None:
        """Keep what the caller sends; the session ends once it sends no more."""
        async for message in requests:
            self.heard.append(message)
            self.news.set()
        self.half_closed.set()
        reason = stream_pb2.CLOSING_REASON_LOGGED_OUT
        self.tell(closing=stream_pb2.StreamClosing(reason=reason))


class _Part:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def scripted(self, name: str, request: Any, context: Any, default: Callable[[], Awaitable[Any]]) -> Any:
        self.gateway.requests.append(request)
        self.gateway.time_left_s.append(context.time_remaining() or 0.0)
        script = self.gateway.on.get(name)
        return await (script(request, context) if script is not None else default())


class _Venues(_Part):
    async def GetVenue(self, request: Any, context: Any) -> Any:
        gateway = self.gateway
        if request.venue not in ("", gateway.venue):
            raise VenueNotFound(request.venue)
        status = venue_pb2.VenueStatus(venue=gateway.venue, state=gateway.state)
        return venue_service_pb2.GetVenueResponse(
            venue=venue_pb2.Venue(
                venue=gateway.venue, account_ids=[ACCOUNT], capabilities=capabilities(), status=status
            )
        )

    async def StreamVenueStatus(self, request: Any, context: Any) -> AsyncIterator[Any]:
        status = venue_pb2.VenueStatus(venue=self.gateway.venue, state=self.gateway.state)
        yield venue_service_pb2.StreamVenueStatusResponse(venue_status=status)
        await asyncio.Event().wait()

    async def ListVenues(self, request: Any, context: Any) -> Any:
        raise AssertionError("the router asks for its venue")

    GetCapabilities = ListVenues


class _Instruments(_Part):
    async def ListInstruments(self, request: Any, context: Any) -> Any:
        return instrument_service_pb2.ListInstrumentsResponse(instruments=[self.gateway.instrument])

    async def GetInstrument(self, request: Any, context: Any) -> Any:
        return instrument_service_pb2.GetInstrumentResponse(instrument=self.gateway.instrument)

    StreamInstrumentUpdates = GetInstrument


class _MarketData(_Part):
    async def GetOrderBook(self, request: Any, context: Any) -> Any:
        async def default() -> Any:
            return market_data_service_pb2.GetOrderBookResponse(order_book=self.gateway.book(request.symbol))

        return await self.scripted("GetOrderBook", request, context, default)

    async def StreamOrderBook(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """A snapshot each time the test asks for one."""
        response = market_data_service_pb2.StreamOrderBookResponse
        yield response(acknowledgement=stream_pb2.StreamAcknowledgement(stream_id="book"))
        sequence = 0
        while True:
            header = stream_pb2.StreamHeader(sequence=sequence + 1, previous_sequence=sequence)
            sequence += 1
            yield response(header=header, snapshot=self.gateway.book(request.symbols[0]))
            self.gateway.pull_book.clear()
            await self.gateway.pull_book.wait()

    async def ListTrades(self, request: Any, context: Any) -> Any:
        raise AssertionError("not scripted")

    async def GetStatistics(self, request: Any, context: Any) -> Any:
        statistics = market_data_pb2.MarketStatistics(funding_rate=self.gateway.funding_rate)
        return market_data_service_pb2.GetStatisticsResponse(statistics=statistics)

    ListCandles = StreamTopOfBook = StreamTrades = ListTrades
    StreamCandles = StreamStatistics = UpdateSubscription = ListTrades


class _Orders(_Part):
    async def SubmitOrder(self, request: Any, context: Any) -> Any:
        return await self.scripted("SubmitOrder", request, context, lambda: self.gateway.submit(request))

    async def CancelOrder(self, request: Any, context: Any) -> Any:
        async def default() -> Any:
            return order_service_pb2.CancelOrderResponse(
                order=self.gateway.find(request.reference), outcome=order_service_pb2.CANCEL_OUTCOME_CANCELED
            )

        return await self.scripted("CancelOrder", request, context, default)

    async def ReplaceOrder(self, request: Any, context: Any) -> Any:
        async def default() -> Any:
            return order_service_pb2.ReplaceOrderResponse(order=self.gateway.find(request.reference))

        return await self.scripted("ReplaceOrder", request, context, default)

    async def GetOrder(self, request: Any, context: Any) -> Any:
        async def default() -> Any:
            return order_service_pb2.GetOrderResponse(order=self.gateway.find(request.reference))

        return await self.scripted("GetOrder", request, context, default)

    async def BatchSubmitOrders(self, request: Any, context: Any) -> Any:
        async def default() -> Any:
            answers = [
                await self.gateway.submit(order_service_pb2.SubmitOrderRequest(order=order)) for order in request.orders
            ]
            results = [order_service_pb2.BatchSubmitResult(response=answer) for answer in answers]
            return order_service_pb2.BatchSubmitOrdersResponse(results=results)

        return await self.scripted("BatchSubmitOrders", request, context, default)

    async def CancelAllOrders(self, request: Any, context: Any) -> Any:
        async def default() -> Any:
            results = [order_service_pb2.CancelOrderResponse(order=order) for order in self.gateway.orders.values()]
            return order_service_pb2.CancelAllOrdersResponse(results=results)

        return await self.scripted("CancelAllOrders", request, context, default)

    async def ListOrders(self, request: Any, context: Any) -> Any:
        async def default() -> Any:
            rows = [
                order
                for order in sorted(self.gateway.listed_orders, key=lambda one: -one.created_time.ToNanoseconds())
                if not request.HasField("to_time")
                or order.created_time.ToNanoseconds() < request.to_time.ToNanoseconds()
            ]
            start = int(request.page_token or 0)
            size = request.page_size or 100
            more = str(start + size) if start + size < len(rows) else ""
            return order_service_pb2.ListOrdersResponse(orders=rows[start : start + size], next_page_token=more)

        return await self.scripted("ListOrders", request, context, default)

    async def StreamExecutionReports(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.gateway.requests.append(request)
        assert self.gateway.stream_script is not None
        try:
            async for message in self.gateway.stream_script(request):
                yield message
        except (asyncio.CancelledError, GeneratorExit):
            self.gateway.stream_cancelled.set()
            raise

    async def SubmitOrderList(self, request: Any, context: Any) -> Any:
        raise AssertionError("not scripted")

    BatchCancelOrders = PreviewOrder = SubmitOrderList

    async def OpenOrderSession(self, requests: Any, context: Any) -> None:
        """A session that is open until its caller leaves."""
        if "OpenOrderSession" in self.gateway.on:
            await self.gateway.on["OpenOrderSession"](requests, context)
        first = await anext(requests)
        session = ScriptedSession(f"{self.gateway.venue}-{len(self.gateway.sessions) + 1}", first.logon)
        self.gateway.sessions[session.session_id] = session
        session.tell(acknowledgement=stream_pb2.StreamAcknowledgement(stream_id=session.session_id))
        reading = asyncio.create_task(session.read(requests))
        try:
            while True:
                message = await session.outgoing.get()
                await context.write(message)
                if message.HasField("closing"):
                    return
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            session.over.set()


class _Accounts(_Part):
    async def ListPositions(self, request: Any, context: Any) -> Any:
        async def default() -> Any:
            position = account_pb2.Position(venue=self.gateway.venue, account_id=ACCOUNT, symbol=SYMBOL, quantity="1")
            return account_service_pb2.ListPositionsResponse(positions=[position])

        return await self.scripted("ListPositions", request, context, default)

    async def GetFeeRates(self, request: Any, context: Any) -> Any:
        told = self.gateway.fee_rates
        maker, taker = told or (self.gateway.instrument.taker_fee_rate,) * 2
        return account_service_pb2.GetFeeRatesResponse(
            maker_fee_rate=maker, taker_fee_rate=taker, of_account=told is not None
        )

    async def ListAccounts(self, request: Any, context: Any) -> Any:
        raise AssertionError("not scripted")

    GetAccount = ListBalances = ListFills = ListLedgerEntries = SetLeverage = SetMarginMode = ListAccounts
    AdjustIsolatedMargin = TransferCollateral = ListPositionHistory = ListAccounts

    async def StreamAccountEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """An account with nothing in it, and nothing ever happens."""
        response = account_service_pb2.StreamAccountEventsResponse
        header = stream_pb2.StreamHeader(epoch="e", sequence=1)
        yield response(header=header, acknowledgement=stream_pb2.StreamAcknowledgement(stream_id="account"))
        account = account_pb2.Account(account_id=ACCOUNT, venue=self.gateway.venue)
        yield response(header=header, snapshot=account_service_pb2.AccountSnapshot(account=account))
        await asyncio.Event().wait()


class _Reconciliation(_Part):
    async def ListUncertainOrders(self, request: Any, context: Any) -> Any:
        async def default() -> Any:
            row = reconciliation_pb2.UncertainOrder(order=order_pb2.Order(order_id=f"stuck-{self.gateway.venue}"))
            row.order.uncertain_since.FromSeconds(len(self.gateway.venue))
            return reconciliation_service_pb2.ListUncertainOrdersResponse(uncertain_orders=[row])

        return await self.scripted("ListUncertainOrders", request, context, default)

    async def ListDiscrepancies(self, request: Any, context: Any) -> Any:
        async def default() -> Any:
            found = reconciliation_pb2.Discrepancy(venue=self.gateway.venue)
            found.found_time.FromSeconds(len(self.gateway.venue))
            return reconciliation_service_pb2.ListDiscrepanciesResponse(discrepancies=[found])

        return await self.scripted("ListDiscrepancies", request, context, default)

    async def ResolveUncertainOrder(self, request: Any, context: Any) -> Any:
        async def default() -> Any:
            order = self.gateway.find(request.reference)
            return reconciliation_service_pb2.ResolveUncertainOrderResponse(order=order)

        return await self.scripted("ResolveUncertainOrder", request, context, default)

    async def StreamDiscrepancies(self, request: Any, context: Any) -> Any:
        raise AssertionError("not scripted")

    GetReconciliationReport = TriggerReconciliation = StreamDiscrepancies


def settings(broker_url: str, gateways: dict[str, str], **more: Any) -> RouterSettings:
    venues = tuple(f"{name}={address}" for name, address in gateways.items())
    gateway = {"reconnect_cap_s": 0.2, "connect_wait_s": 1.0, "retry_initial_s": 0.01, **more.pop("gateway", {})}
    return RouterSettings.model_validate(
        {
            "venues": venues,
            "nats": {"urls": (broker_url,)},
            "grpc": {"port": 0, "drain_pause_s": 0, "drain_grace_s": 1.0},
            "gateway": gateway,
            # A busy machine must not turn a first reading into a missing book.
            "books": {"fetch_timeout_s": 5.0, **more.pop("books", {})},
            "facts": {"fetch_timeout_s": 5.0},
            **more,
        }
    )


@asynccontextmanager
async def running(broker_url: str, *gateways: Gateway, **more: Any) -> AsyncIterator[tuple[Router, grpc.aio.Channel]]:
    """A router over these gateways, serving, with a client channel."""
    wanted = settings(broker_url, {one.venue: one.address for one in gateways}, **more)
    clock, metrics = SystemClock(), Metrics()
    server = GrpcServer(wanted.grpc, metrics=metrics, tracing=Tracing("router"), clock=clock)
    options = bus_options("router", wanted.nats)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Bus.connect(options))
        await bus.ensure_streams(stream_specs(options.event_max_age_s))
        router = await stack.enter_async_context(build(wanted, server, bus, clock, metrics))
        await router.server.start()
        channel = grpc.aio.insecure_channel(
            router.server.address, options=(("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
        )
        try:
            async with asyncio.timeout(WAIT_S):
                await router.risk.store.ready.wait()
            await until(router, lambda: all(link.listed for link in router.venues.all() if gateway_up(link, gateways)))
            yield router, channel
        finally:
            await channel.close()
            await router.server.stop_now()


def gateway_up(link: Any, gateways: tuple[Gateway, ...]) -> bool:
    return any(one.venue == link.name and one._server is not None for one in gateways)


async def until(router: Router, condition: Callable[[], bool]) -> None:
    """Wait for what the router hears about its venues to satisfy `condition`."""
    with router.venues.listening() as changed:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                changed.clear()
                await changed.wait()


@asynccontextmanager
async def gateways(*wanted: Gateway) -> AsyncIterator[None]:
    for one in wanted:
        await one.start()
    try:
        yield
    finally:
        for one in wanted:
            await one.kill()


def new_order(key: str = "k1", **changes: Any) -> order_pb2.NewOrder:
    """A market buy without a venue."""
    terms = {
        "account_id": ACCOUNT,
        "client_order_id": key,
        "symbol": SYMBOL,
        "side": order_pb2.SIDE_BUY,
        "order_type": order_pb2.ORDER_TYPE_MARKET,
        "quantity": "1",
        **changes,
    }
    return order_pb2.NewOrder(**terms)


def submit_request(key: str = "k1", **changes: Any) -> order_service_pb2.SubmitOrderRequest:
    return order_service_pb2.SubmitOrderRequest(order=new_order(key, **changes))


def orders(channel: grpc.aio.Channel) -> order_service_pb2_grpc.OrderServiceStub:
    return order_service_pb2_grpc.OrderServiceStub(channel)


async def refused(call: Any) -> MeshError:
    """The error a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value, is_write=True)


async def health_becomes(channel: grpc.aio.Channel, name: str, wanted: int) -> None:
    """Wait until the server's health of `name` is `wanted`."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name))  # type: ignore[attr-defined]
    try:
        async with asyncio.timeout(WAIT_S):
            async for answer in watch:
                if answer.status == wanted:
                    return
    finally:
        watch.cancel()
