"""Best price over venues, through the public services: where would it go and why, send it, and was it cheaper there?

The router tells what it saw of every venue. Its word is not taken for the proof: the books themselves are read before
and after the plan, and the venue that was cheaper both times must be the one that was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import grpc.aio

from deploy.local.steps import Say, call, require, tell, why, word
from deploy.local.watching import StepFailed
from venuemesh.money import EXACT, divide, format_decimal, to_wire
from venuemesh.v1 import (
    error_pb2,
    market_data_pb2,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    order_pb2,
    order_service_pb2,
    routing_pb2,
    routing_service_pb2,
    routing_service_pb2_grpc,
)

DEPTH: Final = 5
TRIES: Final = 5
"""Of a plan whose venues changed places while it was made; prices move twice a second."""

Costs = Mapping[str, Decimal]
"""Average price of the quantity by venue, on the book read; a book too thin is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedSetting:
    """An order for which the router chooses the venue.

    Args:
        venues: those that list the symbol, at least two.
        quantity: base units, a step and a size that all of them take.
        run_id: see `Setting`.
    """

    venues: tuple[str, ...]
    account_id: str
    symbol: str
    quantity: str
    run_id: str

    def order(self, name: str) -> order_pb2.NewOrder:
        """Market buy of it all; `name` makes its key."""
        return order_pb2.NewOrder(
            account_id=self.account_id,
            client_order_id=f"{self.run_id}-{name}",
            symbol=self.symbol,
            side=order_pb2.SIDE_BUY,
            order_type=order_pb2.ORDER_TYPE_MARKET,
            time_in_force=order_pb2.TIME_IN_FORCE_IOC,
            quantity=self.quantity,
        )


class RoutingWalk:
    """One plan, one order. Run it with `run`."""

    def __init__(self, setting: RoutedSetting, say: Say, router: grpc.aio.Channel) -> None:
        self._setting = setting
        self._say = say
        self._market = market_data_service_pb2_grpc.MarketDataServiceStub(router)
        self._routing = routing_service_pb2_grpc.RoutingServiceStub(router)

    async def run(self) -> None:
        """Plan, compare, submit, compare, repeat. Raises StepFailed, naming the step and what was seen instead."""
        await self._plan()
        await self._submit()

    async def _plan(self) -> None:
        """A plan that holds against the books; anew where they changed places under it."""
        request = routing_service_pb2.PlanRouteRequest(order=self._setting.order("routed"), instruction=_best_price())
        otherwise = ""
        for _ in range(TRIES):
            before = await self._costs()
            plan = (await call(self._routing.PlanRoute, request)).plan
            after = await self._costs()
            self._check_choice(plan)
            chosen, cheaper = plan.legs[0].venue, cheapest(before)
            if cheaper == cheapest(after) and chosen in cheaper:
                self._show(plan)
                self._tell("check", f"the books read beside it say so too: {_listed(before)}")
                return
            otherwise = f"{chosen} was chosen; the books said {_listed(before)} before and {_listed(after)} after"
        raise StepFailed(f"none of {TRIES} plans chose the cheaper book; the last: {otherwise}")

    async def _submit(self) -> None:
        request = routing_service_pb2.SubmitRoutedOrderRequest(
            order=self._setting.order("routed"),
            instruction=_best_price(),
            ack_level=order_service_pb2.ACK_LEVEL_TERMINAL,
        )
        reply = await call(self._routing.SubmitRoutedOrder, request)
        route = reply.route
        require(
            reply.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED, f"the routed submit answered {why(reply)}"
        )
        seen = self._check_choice(route.plan)
        status = word(order_pb2.OrderStatus, route.status)
        require(route.status == order_pb2.ORDER_STATUS_FILLED, f"the routed order is {status}")
        (child,) = route.children
        require(
            child.terms.venue == route.plan.legs[0].venue,
            f"the order went to {child.terms.venue}, the plan said {route.plan.legs[0].venue}",
        )
        self._tell("routed", f"{status} {route.filled_quantity} at {child.terms.venue} for {route.average_price} each")
        self._tell("check", f"the books it was decided on: {_listed(seen)}: the cheaper one was chosen")
        again = await call(self._routing.SubmitRoutedOrder, request)
        require(again.replayed and again.route.route_id == route.route_id, "the same key was routed anew, not replayed")
        self._tell("same key again", f"replayed, the same route {again.route.route_id}")

    # --- looking ---------------------------------------------------------------------------------------------

    async def _costs(self) -> Costs:
        found = {}
        for venue in self._setting.venues:
            request = market_data_service_pb2.GetOrderBookRequest(venue=venue, symbol=self._setting.symbol, depth=DEPTH)
            book = (await call(self._market.GetOrderBook, request)).order_book
            cost = average_price(book.asks, Decimal(self._setting.quantity))
            if cost is not None:
                found[venue] = cost
        require(len(found) > 1, f"fewer than two books can fill {self._setting.quantity}: {_listed(found)}")
        return found

    def _check_choice(self, plan: routing_pb2.RoutePlan) -> Costs:
        """What the router saw of each venue, of which the chosen one must be the cheapest."""
        seen = {
            one.venue: Decimal(one.expected_price)
            for one in plan.candidates
            if one.eligible and one.HasField("expected_price")
        }
        chosen = plan.legs[0].venue
        missing = [venue for venue in self._setting.venues if venue not in seen]
        require(not missing, f"the plan saw no price for {', '.join(missing)}: {_told(plan)}")
        require(chosen in cheapest(seen), f"{chosen} was chosen, and cheaper was {', '.join(cheapest(seen))}")
        return seen

    def _show(self, plan: routing_pb2.RoutePlan) -> None:
        terms = f"market buy {self._setting.quantity} {self._setting.symbol}"
        self._tell("plan", f"{terms} by {word(routing_pb2.RoutingStrategy, plan.strategy)} -> {plan.legs[0].venue}")
        self._tell("why", plan.explanation)
        best = plan.candidates[0]
        for place, one in enumerate(plan.candidates):
            self._tell("first" if not place else "next", describe(one, None if not place else best))

    # --- plumbing --------------------------------------------------------------------------------------------

    def _tell(self, step: str, text: str) -> None:
        tell(self._say, step, text)


def average_price(asks: Sequence[market_data_pb2.PriceLevel], quantity: Decimal) -> Decimal | None:
    """Price per base unit when `quantity` is bought from these levels, best first; None when they hold less."""
    left, notional = quantity, Decimal(0)
    for level in asks:
        taken = min(left, Decimal(level.quantity))
        notional = EXACT.add(notional, EXACT.multiply(taken, Decimal(level.price)))
        left = EXACT.subtract(left, taken)
        if not left:
            return divide(notional, quantity)
    return None


def cheapest(costs: Costs) -> tuple[str, ...]:
    """The venues with the lowest cost, by name: more than one where they are equal."""
    lowest = min(costs.values())
    return tuple(sorted(venue for venue, cost in costs.items() if cost == lowest))


def describe(one: routing_pb2.RouteCandidate, best: routing_pb2.RouteCandidate | None) -> str:
    """A candidate in words: its prices and score, and why it lost against `best`, which is None for the winner."""
    if not one.eligible:
        return f"{one.venue}: left out, {word(error_pb2.Reason, one.reason)}: {one.message}"
    prices = f"{one.expected_price or 'not all'} each, best ask {one.best_price or 'none'}"
    told = f"{one.venue}: {prices}, score {one.score}"
    if best is None:
        return f"{told}: the lowest"
    worse = EXACT.subtract(Decimal(one.score), Decimal(best.score))
    reason = f"dearer by {format_decimal(to_wire(worse))} each" if worse else "equal, and later by tie-break"
    return f"{told}: {reason}"


def _told(plan: routing_pb2.RoutePlan) -> str:
    return "; ".join(describe(one, None) for one in plan.candidates)


def _listed(costs: Mapping[str, Any]) -> str:
    return ", ".join(f"{venue} {format_decimal(to_wire(cost))}" for venue, cost in sorted(costs.items()))


def _best_price() -> routing_pb2.RoutingInstruction:
    return routing_pb2.RoutingInstruction(strategy=routing_pb2.ROUTING_STRATEGY_BEST_PRICE)
