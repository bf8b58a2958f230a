"""Three venues with different books, fees, rules and faults: the plan against every division there is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest

from tests.broker import Broker
from tests.integration.router.support import Gateway, gateways, new_order, running
from venuemesh.v1 import order_pb2, routing_pb2, routing_service_pb2, venue_pb2
from venuemesh.v1 import routing_service_pb2_grpc as routing_grpc

Levels = list[tuple[str, str]]
NAMES = ("alpha", "beta", "gamma")
HORIZON_H = 8


@dataclass(frozen=True, kw_only=True)
class Venue:
    """One simulated venue; `fault` is what keeps it out."""

    asks: Levels
    bids: Levels = field(default_factory=lambda: [("90", "50")])
    taker: str = "0"
    funding: str | None = None
    step: str = "1"
    min_notional: str = "1"
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Venues by place in `NAMES`, and an order."""

    name: str
    venues: tuple[Venue, Venue, Venue]
    quantity: int = 8
    order: dict[str, Any] = field(default_factory=dict)
    is_buy: bool = True


DEEP: Levels = [("100", "4"), ("101", "4"), ("103", "40")]
FLAT: Levels = [("100.5", "50")]
LIMIT = {"order_type": order_pb2.ORDER_TYPE_LIMIT, "price": "101", "time_in_force": order_pb2.TIME_IN_FORCE_IOC}
SCENARIOS = [
    Scenario(name="equal books go to one venue", venues=(Venue(asks=FLAT), Venue(asks=FLAT), Venue(asks=FLAT))),
    Scenario(
        name="each venue as far as it is cheaper",
        venues=(Venue(asks=DEEP), Venue(asks=[("100.2", "3"), ("102", "50")]), Venue(asks=FLAT)),
    ),
    Scenario(
        name="a fee turns the better price",
        venues=(Venue(asks=DEEP, taker="0.02"), Venue(asks=[("101", "50")]), Venue(asks=FLAT, taker="0.004")),
    ),
    Scenario(
        name="funding turns the better price",
        venues=(Venue(asks=DEEP, funding="0.002"), Venue(asks=FLAT, funding="-0.0001"), Venue(asks=[("100.1", "5")])),
    ),
    Scenario(
        name="a least notional keeps a scrap away",
        venues=(Venue(asks=[("99", "1"), ("104", "50")], min_notional="300"), Venue(asks=FLAT), Venue(asks=DEEP)),
    ),
    Scenario(
        name="coarse steps leave the rest to a fine venue",
        venues=(Venue(asks=[("99", "50")], step="5"), Venue(asks=FLAT, step="2"), Venue(asks=[("103", "50")])),
    ),
    Scenario(
        name="more than any venue has alone",
        venues=(Venue(asks=[("100", "10")]), Venue(asks=[("101", "10")]), Venue(asks=[("102", "10")])),
        quantity=25,
    ),
    Scenario(
        name="the best book is stale",
        venues=(Venue(asks=[("80", "50")], fault="stale"), Venue(asks=DEEP), Venue(asks=FLAT)),
    ),
    Scenario(
        name="the best venue is degraded and the next reconciles",
        venues=(Venue(asks=[("80", "50")], fault="degraded"), Venue(asks=FLAT, fault="reconciling"), Venue(asks=DEEP)),
    ),
    Scenario(
        name="a limit leaves a rest to expire",
        venues=(Venue(asks=[("100", "2"), ("105", "9")]), Venue(asks=[("100.5", "3")]), Venue(asks=[("104", "9")])),
        order=LIMIT,
    ),
    Scenario(
        name="a sale to the highest bids after fees",
        venues=(
            Venue(asks=[("120", "1")], bids=[("100", "3"), ("99", "50")], taker="0.001"),
            Venue(asks=[("120", "1")], bids=[("100.05", "4"), ("98", "50")], taker="0.002"),
            Venue(asks=[("120", "1")], bids=[("99.9", "2"), ("99.8", "50")]),
        ),
        is_buy=False,
    ),
]


def gateway_of(name: str, venue: Venue) -> Gateway:
    gateway = Gateway(name)
    gateway.levels = {"asks": venue.asks, "bids": venue.bids}
    gateway.fee_rates = (venue.taker, venue.taker)
    rule = gateway.instrument.quantity_rule
    rule.step_size, rule.min_notional = venue.step, venue.min_notional
    gateway.instrument.price_rule.tick_size = "0.01"
    if venue.funding is not None:
        gateway.funding_rate = venue.funding
        gateway.instrument.funding_interval.FromSeconds(3_600)
    if venue.fault == "stale":
        gateway.book_freshness = 2
    if venue.fault in ("degraded", "reconciling"):
        gateway.state = venue_pb2.VenueState.Value(f"VENUE_STATE_{venue.fault.upper()}")
    return gateway


def cost_at(venue: Venue, scenario: Scenario, quantity: int) -> tuple[Fraction, Fraction] | None:
    """What stays unfilled and what the rest costs; None when the venue may not have so much."""
    levels = venue.asks if scenario.is_buy else venue.bids
    price = Fraction(scenario.order.get("price", levels[0][0]))
    if venue.fault or quantity % int(venue.step) or quantity * price < Fraction(venue.min_notional):
        return None
    sign = 1 if scenario.is_buy else -1
    funding = Fraction(venue.funding or 0) * HORIZON_H
    left, cost = Fraction(quantity), Fraction(0)
    for text, offered in levels:
        if "price" in scenario.order and sign * Fraction(text) > sign * Fraction(scenario.order["price"]):
            break
        part = min(left, Fraction(offered))
        left -= part
        cost += part * Fraction(text) * (sign + Fraction(venue.taker) + sign * funding)
    if left and not scenario.order:
        return None
    # A venue that can fill nothing takes no part of an order that cannot rest.
    return None if left == quantity else (left, cost)


def divisions(scenario: Scenario) -> Iterator[tuple[Fraction, Fraction, tuple[int, ...]]]:
    """Unfilled, cost and parts of every division into whole units."""
    for parts in itertools.product(range(scenario.quantity + 1), repeat=3):
        if sum(parts) != scenario.quantity:
            continue
        costs = [
            cost_at(venue, scenario, part) if part else (Fraction(0), Fraction(0))
            for venue, part in zip(scenario.venues, parts, strict=True)
        ]
        known = [cost for cost in costs if cost is not None]
        if len(known) == len(parts):
            yield sum((left for left, _ in known), Fraction(0)), sum((cost for _, cost in known), Fraction(0)), parts


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
async def test_plan_is_the_brute_force_optimum(broker: Broker, scenario: Scenario) -> None:
    """P3, P21 to P24: venues at fault have no part, the parts obey every rule, sum exactly, and none are cheaper."""
    fleet = [gateway_of(name, venue) for name, venue in zip(NAMES, scenario.venues, strict=True)]
    side = order_pb2.SIDE_BUY if scenario.is_buy else order_pb2.SIDE_SELL
    order = new_order("", quantity=str(scenario.quantity), side=side, **scenario.order)
    request = routing_service_pb2.PlanRouteRequest(order=order)
    async with gateways(*fleet), running(broker.url, *fleet) as (_, channel):
        stub = routing_grpc.RoutingServiceStub(channel)
        plan = (await stub.PlanRoute(request, timeout=5)).plan
        request.instruction.split_mode = routing_pb2.SPLIT_MODE_ALWAYS
        spread = (await stub.PlanRoute(request, timeout=5)).plan
    best = min((left, cost) for left, cost, _ in divisions(scenario))
    chosen = {leg.venue: int(leg.quantity) for leg in plan.legs}
    found = next(
        (left, cost)
        for left, cost, parts in divisions(scenario)
        if {name: part for name, part in zip(NAMES, parts, strict=True) if part} == chosen
    )
    assert found == best
    fewest = min(sum(part > 0 for part in parts) for left, cost, parts in divisions(scenario) if (left, cost) == best)
    assert fewest == 1 or len(plan.legs) > 1
    for name, venue in zip(NAMES, scenario.venues, strict=True):
        (candidate,) = (one for one in plan.candidates if one.venue == name)
        assert not (venue.fault and candidate.eligible)
        assert candidate.message or name in chosen
    assert sum(int(leg.quantity) for leg in spread.legs) == scenario.quantity
    assert not {leg.venue for leg in spread.legs} & {
        name for name, venue in zip(NAMES, scenario.venues, strict=True) if venue.fault
    }
