"""A venue that hangs holds its own places and nobody else's; repeats and second readings stay within their budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from router.server import Router
from tests.broker import Broker
from tests.integration.router.support import (
    ACCOUNT,
    SYMBOL,
    WAIT_S,
    Gateway,
    gateways,
    new_order,
    orders,
    refused,
    running,
    submit_request,
)
from venuemesh.errors import Reason, Sent, VenueUnavailable
from venuemesh.v1 import order_service_pb2 as pb
from venuemesh.v1 import routing_service_pb2, routing_service_pb2_grpc


def reference(venue: str, key: str = "k1") -> pb.OrderReference:
    return pb.OrderReference(account_id=ACCOUNT, client_order_id=key, venue=venue)


def cancel_request(venue: str, key: str = "k1") -> pb.CancelOrderRequest:
    return pb.CancelOrderRequest(reference=reference(venue, key))


def get_request(venue: str, key: str = "k1") -> pb.GetOrderRequest:
    return pb.GetOrderRequest(reference=reference(venue, key))


class Hanging:
    """Calls of a gateway that never answer; tells how many have arrived."""

    def __init__(self, gateway: Gateway, *methods: str) -> None:
        self.arrived = 0
        self.ended = asyncio.Event()
        self._more = asyncio.Event()
        for method in methods:
            gateway.on[method] = self._hang

    async def _hang(self, request: Any, context: Any) -> Any:
        self.arrived += 1
        self._more.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.arrived < count:
                self._more.clear()
                await self._more.wait()


async def test_hung_venue_full_of_calls_of_every_kind_delays_no_call_of_another(broker: Broker) -> None:
    """R11: while every place at one venue is held by calls that never end, the other answers each kind at once."""
    stuck, well = Gateway("stuck"), Gateway("well")
    hanging = Hanging(stuck, "SubmitOrder", "CancelOrder", "GetOrder")
    bounds = {"max_submits": 2, "max_cancels": 2, "max_reads": 2, "hedge_after_s": 0.0}
    async with gateways(stuck, well), running(broker.url, stuck, well, gateway=bounds) as (router, channel):
        stub = orders(channel)
        held = [
            asyncio.ensure_future(call)
            for place in range(2)
            for call in (
                stub.SubmitOrder(submit_request(f"s{place}", venue="stuck"), timeout=60),
                stub.CancelOrder(cancel_request("stuck", f"c{place}"), timeout=60),
                stub.GetOrder(get_request("stuck", f"g{place}"), timeout=60),
            )
        ]
        await hanging.until(6)
        for place in range(5):
            await stub.SubmitOrder(submit_request(f"k{place}", venue="well"), timeout=30)
            await stub.GetOrder(get_request("well", f"k{place}"), timeout=30)
            await stub.CancelOrder(cancel_request("well", f"k{place}"), timeout=30)
        assert not any(call.done() for call in held), "none of them was waited for"
        errors = [
            await refused(stub.SubmitOrder(submit_request("more", venue="stuck"), timeout=30)),
            await refused(stub.CancelOrder(cancel_request("stuck", "more"), timeout=30)),
            await refused(stub.GetOrder(get_request("stuck", "more"), timeout=30)),
        ]
        assert hanging.arrived == 6
        for call in held:
            call.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        async with asyncio.timeout(WAIT_S):
            await hanging.ended.wait()
        link = router.venues.get("stuck")
        held_now = [
            bulkhead.held for bulkhead in (router.venues.get("well").submits, router.venues.get("well").cancels)
        ]
    assert [(one.reason, one.sent, one.metadata["limit"]) for one in errors] == [
        (Reason.RATE_LIMIT_LOCAL, Sent.NO, "submits"),
        (Reason.RATE_LIMIT_LOCAL, Sent.NO, "cancels"),
        (Reason.RATE_LIMIT_LOCAL, Sent.NO, "reads"),
    ]
    assert all("in flight to stuck" in one.message for one in errors)
    assert held_now == [0, 0] and link.guard.view().counts.failures == 0, "callers that left prove nothing"


async def test_venue_that_gives_no_book_is_not_waited_for_by_every_decision(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R11: one decision waits for its book and finds none; those that follow do without it."""
    monkeypatch.setattr("router.books.REREAD_S", 600.0)
    stuck, well = Gateway("stuck"), Gateway("well")
    hanging = Hanging(stuck, "GetOrderBook")

    def no_book(symbol: str) -> Any:
        raise VenueUnavailable("no book")

    stuck.book = no_book  # type: ignore[method-assign]
    request = routing_service_pb2.PlanRouteRequest(order=new_order(""))
    async with (
        gateways(stuck, well),
        running(broker.url, stuck, well, books={"fetch_timeout_s": 3.0}) as (router, channel),
    ):
        stub = routing_service_pb2_grpc.RoutingServiceStub(channel)
        await until_followed(router, "well")
        plans = [(await stub.PlanRoute(request, timeout=30)).plan for _ in range(4)]
    assert [[leg.venue for leg in plan.legs] for plan in plans] == [["well"]] * 4
    assert hanging.arrived == 1


async def until_followed(router: Router, venue: str) -> None:
    """Wait for the book stream of a venue, however long the machine takes to its first book."""
    told, link = asyncio.Event(), router.venues.get(venue)
    router.feeds.on_change.append(lambda symbol: told.set())
    async with asyncio.timeout(WAIT_S):
        while router.feeds.peek(link, SYMBOL)[0] is None:
            told.clear()
            await told.wait()


async def test_submits_that_nobody_answers_open_the_breaker_and_further_ones_are_refused_at_once(
    broker: Broker,
) -> None:
    """A venue that hangs costs its callers three deadlines, then CIRCUIT_OPEN tells them without waiting."""
    stuck = Gateway("stuck")
    hanging = Hanging(stuck, "SubmitOrder")
    rules = {"breaker": {"min_timeout_s": 0.0, "open_s": 600.0, "open_cap_s": 600.0}, "reserve_s": 3.0}
    async with gateways(stuck), running(broker.url, stuck, gateway=rules) as (_, channel):
        stub = orders(channel)
        answers = [await stub.SubmitOrder(submit_request(f"k{place}", venue="stuck"), timeout=4) for place in range(3)]
        error = await refused(stub.SubmitOrder(submit_request("k9", venue="stuck"), timeout=30))
        refused_at = hanging.arrived
        again = await stub.SubmitOrder(submit_request("k0", venue="stuck"), timeout=4)
    assert again.outcome == pb.SUBMIT_OUTCOME_UNKNOWN, "its key is in doubt: it must not read that nothing was sent"
    assert [answer.outcome for answer in answers] == [pb.SUBMIT_OUTCOME_UNKNOWN] * 3
    assert (error.reason, error.sent, refused_at) == (Reason.CIRCUIT_OPEN, Sent.NO, 3)


def failing(times: Callable[[], bool], then: Any) -> Any:
    """A handler that is unavailable as long as `times` says."""

    async def handler(request: Any, context: Any) -> Any:
        if times():
            raise VenueUnavailable("away")
        return then(request)

    return handler


async def test_repeats_end_with_their_budget_and_cancels_have_their_own(broker: Broker) -> None:
    """In an outage reads are not multiplied by their repeats, and leave those of cancels alone."""
    gateway = Gateway("only")
    gateway.on["GetOrder"] = gateway.on["CancelOrder"] = failing(lambda: True, None)
    bounds = {"read_retry_percent": 0, "cancel_retry_percent": 0, "retry_burst": 3, "hedge_after_s": 0.0}
    async with gateways(gateway), running(broker.url, gateway, gateway=bounds) as (_, channel):
        stub, seen = orders(channel), []
        for _ in range(3):
            await refused(stub.GetOrder(get_request("only"), timeout=30))
            seen.append(sum(isinstance(one, pb.GetOrderRequest) for one in gateway.requests))
        error = await refused(stub.CancelOrder(cancel_request("only"), timeout=30))
        cancels = sum(isinstance(one, pb.CancelOrderRequest) for one in gateway.requests)
    assert seen == [3, 5, 6], "two repeats, one, none"
    assert (cancels, error.reason) == (4, Reason.VENUE_DISCONNECTED)


async def test_slow_read_is_asked_twice_and_the_first_answer_counts(broker: Broker) -> None:
    """The attempt that lost is cancelled at the gateway; no more than one reading in twenty-five is a second one."""
    gateway = Gateway("only")
    bounds = {"hedge_after_s": 0.01, "reserve_s": 3.0}
    async with gateways(gateway), running(broker.url, gateway, gateway=bounds) as (router, channel):
        stub = orders(channel)
        await stub.SubmitOrder(submit_request("k1", venue="only"), timeout=30)
        for _ in range(24):
            await stub.GetOrder(get_request("only"), timeout=30)
        first = asyncio.Event()
        hanging = Hanging(gateway)

        async def first_hangs(request: Any, context: Any) -> Any:
            if not first.is_set():
                first.set()
                await hanging._hang(request, context)
            return pb.GetOrderResponse(order=gateway.find(request.reference))

        # A busy machine may have spent a second reading on one of those that were quick.
        budget = router.venues.get("only").hedges
        for _ in range(25):
            budget.call()
        gateway.on["GetOrder"] = first_hangs
        before = len(gateway.requests)
        answer = await stub.GetOrder(get_request("only"), timeout=30)
        async with asyncio.timeout(WAIT_S):
            await hanging.ended.wait()
        while budget.take():
            pass
        hung = Hanging(gateway, "GetOrder")
        error = await refused(stub.GetOrder(get_request("only"), timeout=4))
    assert answer.order.order_id == "only-k1"
    assert len(gateway.requests) == before + 3, "two attempts, and one alone when the budget was spent"
    assert (error.reason, hung.arrived) == (Reason.DEADLINE_TOO_SHORT, 1)


async def test_every_hop_gets_less_time_than_the_one_before_and_too_little_is_refused(broker: Broker) -> None:
    """The router keeps its reserve of each kind of call; with less than that nothing leaves it."""
    gateway = Gateway("only")
    bounds = {"reserve_s": 5.0, "min_submit_s": 1.0, "hedge_after_s": 0.0}
    async with gateways(gateway), running(broker.url, gateway, gateway=bounds) as (_, channel):
        stub = orders(channel)
        await stub.SubmitOrder(submit_request("k1", venue="only"), timeout=60)
        await stub.GetOrder(get_request("only"), timeout=60)
        await stub.CancelOrder(cancel_request("only"), timeout=60)
        left = list(gateway.time_left_s)
        before = len(gateway.requests)
        errors = [
            await refused(stub.SubmitOrder(submit_request("k2", venue="only"), timeout=5.5)),
            await refused(stub.CancelOrder(cancel_request("only"), timeout=4.5)),
            await refused(stub.GetOrder(get_request("only"), timeout=4.5)),
        ]
        after = len(gateway.requests)
    # gRPC rounds what it tells the other side up, by less than a tenth of the reserve.
    assert len(left) == 3 and all(0 < seconds <= 55.5 for seconds in left)
    assert [(one.reason, one.sent) for one in errors] == [(Reason.DEADLINE_TOO_SHORT, Sent.NO)] * 3
    assert after == before
