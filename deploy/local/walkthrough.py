"""The main job of the mesh, done through its public gRPC services and checked at every step.

Needs nothing but the addresses of router and aggregator, so it also shows how to write a client.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import grpc
import grpc.aio

from deploy.local.routing_walk import RoutedSetting, RoutingWalk
from deploy.local.steps import CALL_TIMEOUT_S, Say, call, require, tell, why, word
from deploy.local.watching import Watch
from venuemesh.channels import open_channel
from venuemesh.errors import Reason, Sent
from venuemesh.money import Rounding, format_decimal, round_to_step
from venuemesh.secrets import Secret
from venuemesh.security.certificates import ChannelFiles
from venuemesh.status import error_from_rpc
from venuemesh.v1 import (
    error_pb2,
    instrument_pb2,
    instrument_service_pb2,
    instrument_service_pb2_grpc,
    market_data_pb2,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    order_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
    portfolio_service_pb2,
    portfolio_service_pb2_grpc,
    stream_pb2,
    venue_pb2,
    venue_service_pb2,
    venue_service_pb2_grpc,
)

WATCH_TIMEOUT_S = 30.0
WANTED_NOTIONAL = Decimal(50)
FAR_FROM_MARKET = Decimal("0.8")
_ACKNOWLEDGED = order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
_REJECTED = order_service_pb2.SUBMIT_OUTCOME_REJECTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the walk is about.

    Args:
        router: address `host:port` of the router.
        aggregator: address of the aggregator.
        tls, token: of the channels; plain text and no token without.
        run_id: makes the client order ids of this walk unique; letters, digits, `-`, `_`, at most 24.
    """

    router: str
    aggregator: str
    venue: str
    account_id: str
    symbol: str
    run_id: str
    tls: ChannelFiles | None = None
    token: Secret | None = None


class Walkthrough:
    """One walk. Run it with `walk`."""

    def __init__(self, setting: Setting, say: Say, router: grpc.aio.Channel, aggregator: grpc.aio.Channel) -> None:
        self._setting = setting
        self._say = say
        self._venues = venue_service_pb2_grpc.VenueServiceStub(router)
        self._instruments = instrument_service_pb2_grpc.InstrumentServiceStub(router)
        self._market = market_data_service_pb2_grpc.MarketDataServiceStub(router)
        self._orders = order_service_pb2_grpc.OrderServiceStub(router)
        self._portfolio = portfolio_service_pb2_grpc.PortfolioServiceStub(aggregator)

    async def run(self) -> None:
        """All steps, in order. Raises StepFailed, naming the step and what was seen instead."""
        await self._show_venue()
        bid, ask = await self._show_book()
        rules = await self._rules()
        with self._watch_executions() as executions, self._watch_portfolio() as portfolio:
            await executions.until(lambda message: message.HasField("snapshot_end"), "the snapshot of orders")
            held = await self._quantity_held(portfolio)
            order = self._market_order(rules, ask)
            await self._submit(order)
            await self._see_filled(executions, order)
            await self._see_position(portfolio, held + Decimal(order.quantity))
            await self._repeat(order)
            await self._rest_and_cancel(executions, rules, bid)
        await self._be_refused()

    async def run_short(self) -> None:
        """One order at another venue, from the book to the portfolio. Raises StepFailed."""
        _, ask = await self._show_book()
        rules = await self._rules()
        with self._watch_executions() as executions, self._watch_portfolio() as portfolio:
            await executions.until(lambda message: message.HasField("snapshot_end"), "the snapshot of orders")
            held = await self._quantity_held(portfolio)
            order = self._market_order(rules, ask)
            await self._submit(order)
            await self._see_filled(executions, order)
            await self._see_position(portfolio, held + Decimal(order.quantity))

    # --- looking ---------------------------------------------------------------------------------------------

    async def _show_venue(self) -> None:
        reply = await call(self._venues.ListVenues, venue_service_pb2.ListVenuesRequest())
        names = [venue.venue for venue in reply.venues]
        require(self._setting.venue in names, f"ListVenues has no {self._setting.venue}, only {names}")
        for venue in reply.venues:
            require(
                venue.environment == venue_pb2.ENVIRONMENT_SIMULATOR,
                f"{venue.venue} is bound to {word(venue_pb2.Environment, venue.environment)}, not to the simulator",
            )
            state = word(venue_pb2.VenueState, venue.status.state)
            self._tell("venues", f"{venue.venue} is {state}, with account(s) {', '.join(venue.account_ids)}")

    async def _show_book(self) -> tuple[Decimal, Decimal]:
        request = market_data_service_pb2.GetOrderBookRequest(
            venue=self._setting.venue, symbol=self._setting.symbol, depth=1
        )
        book = (await call(self._market.GetOrderBook, request)).order_book
        require(bool(book.bids and book.asks), f"the book of {self._setting.symbol} has an empty side")
        require(
            book.freshness == stream_pb2.FRESHNESS_FRESH, f"the book is not fresh: {book.stale_cause or 'no cause'}"
        )
        bid, ask = _level(book.bids[0]), _level(book.asks[0])
        require(bid[0] < ask[0], f"the book is crossed: bid {bid[0]}, ask {ask[0]}")
        self._tell("top of book", f"{self._setting.symbol}  bid {bid[0]} × {bid[1]}   ask {ask[0]} × {ask[1]}")
        return bid[0], ask[0]

    async def _rules(self) -> instrument_pb2.Instrument:
        request = instrument_service_pb2.GetInstrumentRequest(venue=self._setting.venue, symbol=self._setting.symbol)
        reply = await call(self._instruments.GetInstrument, request)
        instrument: instrument_pb2.Instrument = reply.instrument
        rule = instrument.quantity_rule
        require(bool(rule.step_size), f"GetInstrument gives no step size for {self._setting.symbol}")
        minimum = rule.min_notional if rule.HasField("min_notional") else "none"
        self._tell("rules", f"quantity in steps of {rule.step_size}, smallest notional {minimum}")
        return instrument

    # --- trading ---------------------------------------------------------------------------------------------

    def _market_order(self, rules: instrument_pb2.Instrument, ask: Decimal) -> order_pb2.NewOrder:
        step = Decimal(rules.quantity_rule.step_size)
        quantity = round_to_step(WANTED_NOTIONAL / ask, step=step, rounding=Rounding.AWAY_FROM_ZERO)
        order = self._buy("market", quantity)
        order.order_type = order_pb2.ORDER_TYPE_MARKET
        order.time_in_force = order_pb2.TIME_IN_FORCE_IOC
        return order

    def _buy(self, suffix: str, quantity: Decimal) -> order_pb2.NewOrder:
        return order_pb2.NewOrder(
            account_id=self._setting.account_id,
            client_order_id=f"{self._setting.run_id}-{suffix}",
            venue=self._setting.venue,
            symbol=self._setting.symbol,
            side=order_pb2.SIDE_BUY,
            quantity=format_decimal(quantity),
        )

    async def _submit(self, order: order_pb2.NewOrder) -> None:
        request = order_service_pb2.SubmitOrderRequest(order=order)
        reply = await call(self._orders.SubmitOrder, request)
        require(reply.outcome == _ACKNOWLEDGED, f"the submit answered {why(reply)}")
        require(bool(reply.order.order_id), "the acknowledged order has no order_id")
        require(not reply.replayed, "a first submit answered replayed = true")
        kind = word(order_pb2.OrderType, order.order_type).lower()
        price = f" at {order.price}" if order.HasField("price") else ""
        asked = f"{kind} buy {order.quantity}{price} as {order.client_order_id}"
        self._tell("submit", f"{asked} -> {why(reply)}, order {reply.order.order_id}")

    async def _see_filled(self, executions: Watch, order: order_pb2.NewOrder) -> None:
        report = await self._see_status(executions, order, order_pb2.ORDER_STATUS_FILLED)
        require(
            Decimal(report.order.filled_quantity) == Decimal(order.quantity),
            f"FILLED with {report.order.filled_quantity} of {order.quantity}",
        )
        self._tell("executions", f"FILLED {report.order.filled_quantity} at {report.order.average_price}")

    async def _see_status(self, executions: Watch, order: order_pb2.NewOrder, status: int) -> order_pb2.ExecutionReport:
        def reached(message: Any) -> bool:
            report = message.event.execution_report
            same = report.order.terms.client_order_id == order.client_order_id
            return bool(same and report.order.status == status)

        wanted = word(order_pb2.OrderStatus, status)
        message = await executions.until(reached, f"{order.client_order_id} to be {wanted}")
        report: order_pb2.ExecutionReport = message.event.execution_report
        return report

    async def _quantity_held(self, portfolio: Watch) -> Decimal:
        message = await portfolio.until(lambda message: message.HasField("snapshot"), "the snapshot of the portfolio")
        quantity = self._position_in(message.snapshot.accounts) or Decimal(0)
        self._tell("portfolio", f"snapshot with {quantity} {self._setting.symbol}")
        return quantity

    async def _see_position(self, portfolio: Watch, wanted: Decimal) -> None:
        await portfolio.until(
            lambda message: self._position_in(message.delta.accounts) == wanted,
            f"a position of {wanted} {self._setting.symbol}",
        )
        reply = await call(self._portfolio.GetPortfolio, portfolio_service_pb2.GetPortfolioRequest())
        read = self._position_in(reply.portfolio.accounts)
        require(read == wanted, f"GetPortfolio says {read}, the stream said {wanted}")
        self._tell("portfolio", f"the stream shows {wanted} {self._setting.symbol}; GetPortfolio agrees")

    def _position_in(self, accounts: Any) -> Decimal | None:
        for account in accounts:
            if (account.venue, account.account_id) == (self._setting.venue, self._setting.account_id):
                for position in account.positions:
                    if position.symbol == self._setting.symbol:
                        return Decimal(position.quantity)
        return None

    async def _repeat(self, order: order_pb2.NewOrder) -> None:
        reply = await call(self._orders.SubmitOrder, order_service_pb2.SubmitOrderRequest(order=order))
        require(reply.replayed, "the same client_order_id was not answered with replayed = true")
        require(reply.outcome == _ACKNOWLEDGED, f"the replay answered {why(reply)}")
        self._tell("same key again", f"replayed, the same order {reply.order.order_id}: nothing was sent twice")

    async def _rest_and_cancel(self, executions: Watch, rules: instrument_pb2.Instrument, bid: Decimal) -> None:
        price = allowed_price(bid * FAR_FROM_MARKET, rules.price_rule)
        step = Decimal(rules.quantity_rule.step_size)
        quantity = round_to_step(WANTED_NOTIONAL / price, step=step, rounding=Rounding.AWAY_FROM_ZERO)
        order = self._buy("limit", quantity)
        order.order_type = order_pb2.ORDER_TYPE_LIMIT
        order.time_in_force = order_pb2.TIME_IN_FORCE_GTC
        order.price = format_decimal(price)
        await self._submit(order)
        reference = order_service_pb2.OrderReference(
            account_id=order.account_id, venue=order.venue, client_order_id=order.client_order_id
        )
        request = order_service_pb2.CancelOrderRequest(reference=reference)
        reply = await call(self._orders.CancelOrder, request)
        outcome = word(order_service_pb2.CancelOutcome, reply.outcome)
        require(reply.outcome == order_service_pb2.CANCEL_OUTCOME_CANCELED, f"the cancel answered {outcome}")
        await self._see_status(executions, order, order_pb2.ORDER_STATUS_CANCELED)
        self._tell("cancel", f"{order.client_order_id} -> {outcome}, confirmed by the venue and on the stream")

    async def _be_refused(self) -> None:
        bad = self._buy("bad", Decimal(0))
        bad.order_type = order_pb2.ORDER_TYPE_MARKET
        bad.time_in_force = order_pb2.TIME_IN_FORCE_IOC
        request = order_service_pb2.SubmitOrderRequest(order=bad)
        try:
            reply = await self._orders.SubmitOrder(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as failure:
            error = error_from_rpc(failure, is_write=True)
            require(error.sent is Sent.NO, f"a refused order may have been sent: {error.sent}")
            reason, told = error.reason.value, f"{error.message} (field {error.field or 'not named'})"
        else:
            require(reply.outcome == _REJECTED, f"quantity 0 was answered {why(reply)}")
            reason, told = word(error_pb2.Reason, reply.reject.reason), reply.reject.message
        require(reason == Reason.QUANTITY_NOT_POSITIVE, f"quantity 0 was refused with {reason}: {told}")
        self._tell("bad order", f"quantity 0 -> refused with {reason}: {told}")

    # --- plumbing --------------------------------------------------------------------------------------------

    @contextmanager
    def _watch_executions(self) -> Iterator[Watch]:
        request = order_service_pb2.StreamExecutionReportsRequest(
            account_id=self._setting.account_id, venue=self._setting.venue
        )
        with Watch(self._orders.StreamExecutionReports(request, timeout=WATCH_TIMEOUT_S)) as watch:
            yield watch

    @contextmanager
    def _watch_portfolio(self) -> Iterator[Watch]:
        request = portfolio_service_pb2.StreamPortfolioRequest()
        with Watch(self._portfolio.StreamPortfolio(request, timeout=WATCH_TIMEOUT_S)) as watch:
            yield watch

    def _tell(self, step: str, text: str) -> None:
        tell(self._say, step, text)


async def walk(setting: Setting, say: Say, others: Sequence[Setting] = (), routed: RoutedSetting | None = None) -> None:
    """Do the walk over fresh channels, then one order for each of `others`, which are served by the same services.

    Args:
        routed: an order for which the router is to choose among venues, after all of those.

    Raises:
        StepFailed: a step did not answer as it must.
    """
    async with (
        open_channel(setting.router, tls=setting.tls, token=setting.token) as router,
        open_channel(setting.aggregator, tls=setting.tls, token=setting.token) as aggregator,
    ):
        await Walkthrough(setting, say, router, aggregator).run()
        for other in others:
            say(f"the same at {other.venue}:")
            await Walkthrough(other, say, router, aggregator).run_short()
        if routed is not None:
            say(f"best price over {' and '.join(routed.venues)}:")
            await RoutingWalk(routed, say, router).run()


def allowed_price(price: Decimal, rule: instrument_pb2.PriceRule) -> Decimal:
    """The highest price the rule allows that is not above `price`."""
    step = Decimal(rule.tick_size) if rule.HasField("tick_size") else Decimal(0)
    if rule.HasField("max_decimals"):
        step = max(step, Decimal(1).scaleb(-rule.max_decimals))
    if rule.HasField("max_significant_figures"):
        step = max(step, Decimal(1).scaleb(price.adjusted() + 1 - rule.max_significant_figures))
    return round_to_step(price, step=step, rounding=Rounding.FLOOR) if step else price


def _level(level: market_data_pb2.PriceLevel) -> tuple[Decimal, Decimal]:
    return Decimal(level.price), Decimal(level.quantity)
