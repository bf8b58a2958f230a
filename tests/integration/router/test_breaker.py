"""A venue whose calls fail gets no new orders, and says so; what concerns orders that are there still passes."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest

from router.journal import RouteJournal
from router.plans import new_route
from router.server import Router
from tests.broker import Broker
from tests.integration.router.support import (
    ACCOUNT,
    WAIT_S,
    Gateway,
    gateways,
    new_order,
    orders,
    refused,
    running,
    submit_request,
)
from venuemesh.clock import SystemClock
from venuemesh.errors import Reason, Sent, VenueUnavailable
from venuemesh.subjects import MESH_STREAM, ROOT, Kind, subject
from venuemesh.v1 import (
    error_pb2,
    event_pb2,
    operations_pb2,
    operations_service_pb2,
    operations_service_pb2_grpc,
    order_pb2,
    order_service_pb2,
    routing_pb2,
    routing_service_pb2,
    routing_service_pb2_grpc,
)

OPEN, CLOSED = operations_pb2.CIRCUIT_STATE_OPEN, operations_pb2.CIRCUIT_STATE_CLOSED
FREE, HALF_OPEN = operations_pb2.CIRCUIT_STATE_UNSPECIFIED, operations_pb2.CIRCUIT_STATE_HALF_OPEN
QUICK = {"breaker": {"min_calls": 3, "open_s": 600.0, "open_cap_s": 600.0}}
CIRCUITS = [f"{ROOT}.{Kind.VENUE}.*.*.circuit_breaker"]


def operations(channel: grpc.aio.Channel) -> Any:
    return operations_service_pb2_grpc.OperationsServiceStub(channel)


async def breakers(channel: grpc.aio.Channel) -> dict[str, operations_pb2.CircuitBreaker]:
    answer = await operations(channel).ListCircuitBreakers(
        operations_service_pb2.ListCircuitBreakersRequest(), timeout=5
    )
    return {row.venue: row for row in answer.circuit_breakers}


async def force(channel: grpc.aio.Channel, venue: str, state: int, **more: str) -> operations_pb2.CircuitBreaker:
    wanted = {"operator": "ana", "reason": "maintenance", **more}
    request = operations_service_pb2.SetCircuitBreakerRequest(venue=venue, state=state, **wanted)  # type: ignore[arg-type]
    answer = await operations(channel).SetCircuitBreaker(request, timeout=5)
    shown: operations_pb2.CircuitBreaker = answer.circuit_breaker
    return shown


async def becomes(channel: grpc.aio.Channel, venue: str, state: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while (await breakers(channel))[venue].state != state:
            pass


async def told(router: Router, count: int) -> list[operations_pb2.CircuitBreaker]:
    """The first `count` events of breakers."""
    rows: list[operations_pb2.CircuitBreaker] = []
    async with asyncio.timeout(WAIT_S), router.bus.follow(MESH_STREAM, CIRCUITS) as follower:
        async for message in follower:
            rows.append(event_pb2.Event.FromString(message.payload).circuit_breaker)
            if len(rows) == count:
                break
    return rows


async def fail(request: Any, context: Any) -> Any:
    raise VenueUnavailable("the venue answers 503")


async def break_down(gateway: Gateway, channel: grpc.aio.Channel) -> None:
    """Open the breaker of a venue by three orders that fail."""
    gateway.on["SubmitOrder"] = fail
    for place in range(3):
        error = await refused(orders(channel).SubmitOrder(submit_request(f"f{place}", venue=gateway.venue), timeout=5))
        assert error.reason is Reason.VENUE_DISCONNECTED
    del gateway.on["SubmitOrder"]


def plan_request() -> routing_service_pb2.PlanRouteRequest:
    return routing_service_pb2.PlanRouteRequest(order=new_order(""))


async def test_venue_that_fails_gets_no_new_orders_but_cancels_amendments_and_reads(broker: Broker) -> None:
    """P3: refused with CIRCUIT_OPEN and sent = no; what is there can still be seen, changed and cancelled."""
    sick = Gateway("sick")
    rules = {"breaker": {**QUICK["breaker"], "min_calls": 4}}
    async with gateways(sick), running(broker.url, sick, gateway=rules) as (router, channel):
        await orders(channel).SubmitOrder(submit_request("k0", venue="sick"), timeout=5)
        await break_down(sick, channel)
        seen = len(sick.submits())
        error = await refused(orders(channel).SubmitOrder(submit_request("k9", venue="sick"), timeout=5))
        batch = order_service_pb2.BatchSubmitOrdersRequest(orders=[new_order("k8", venue="sick")])
        results = (await orders(channel).BatchSubmitOrders(batch, timeout=5)).results
        reference = order_service_pb2.OrderReference(account_id=ACCOUNT, client_order_id="k0", venue="sick")
        stub = orders(channel)
        await stub.GetOrder(order_service_pb2.GetOrderRequest(reference=reference), timeout=5)
        await stub.ReplaceOrder(
            order_service_pb2.ReplaceOrderRequest(reference=reference, request_id="r1", price="90"), timeout=5
        )
        canceled = await stub.CancelOrder(order_service_pb2.CancelOrderRequest(reference=reference), timeout=5)
        row = (await breakers(channel))["sick"]
        (event,) = await told(router, 1)
    assert (error.reason, error.sent, error.code) == (Reason.CIRCUIT_OPEN, Sent.NO, grpc.StatusCode.UNAVAILABLE)
    assert error.retry_after_s is not None and 0 < error.retry_after_s <= 600
    assert error.metadata["cause"] == "3 of 4 calls in 30 s failed"
    assert results[0].error.error.reason == error_pb2.REASON_CIRCUIT_OPEN
    assert len(sick.submits()) == seen, "nothing reached the venue's gateway"
    assert canceled.outcome == order_service_pb2.CANCEL_OUTCOME_CANCELED
    assert (row.state, row.forced, row.cause) == (OPEN, False, "3 of 4 calls in 30 s failed")
    assert row.retry_time.ToNanoseconds() > row.since.ToNanoseconds()
    assert (event.venue, event.state, event.cause) == ("sick", OPEN, row.cause)


async def test_rejected_orders_and_spent_limits_never_open_it(broker: Broker) -> None:
    """The venue's own word is a success, however unwelcome."""
    gateway = Gateway("only")

    async def reject(request: Any, context: Any) -> Any:
        return order_service_pb2.SubmitOrderResponse(outcome=order_service_pb2.SUBMIT_OUTCOME_REJECTED)

    gateway.on["SubmitOrder"] = reject
    async with gateways(gateway), running(broker.url, gateway, gateway=QUICK) as (_, channel):
        for place in range(6):
            await orders(channel).SubmitOrder(submit_request(f"k{place}", venue="only"), timeout=5)
        row = (await breakers(channel))["only"]
    assert (row.state, row.calls, row.failures) == (CLOSED, 6, 0)


async def test_plan_leaves_an_open_venue_out_with_its_reason_and_orders_go_elsewhere(broker: Broker) -> None:
    """P3, P21: the better price of a venue with an open breaker loses, and the decision says why."""
    sick, well = Gateway("sick", ask="90"), Gateway("well", ask="101")
    async with gateways(sick, well), running(broker.url, sick, well, gateway=QUICK) as (_, channel):
        await break_down(sick, channel)
        seen = len(sick.submits())
        plan = (await routing_service_pb2_grpc.RoutingServiceStub(channel).PlanRoute(plan_request(), timeout=5)).plan
        answer = await orders(channel).SubmitOrder(submit_request("k1"), timeout=5)
    lost = {one.venue: one for one in plan.candidates}["sick"]
    assert [leg.venue for leg in plan.legs] == ["well"]
    assert not lost.eligible and "circuit breaker of sick is open" in lost.message
    assert answer.order.terms.venue == "well" and len(sick.submits()) == seen


async def test_routed_child_refused_by_a_breaker_is_fenced_and_goes_elsewhere(broker: Broker) -> None:
    """R6: the plan was journalled before the breaker opened; nothing was sent, so another venue may have it."""
    sick, well = Gateway("sick", ask="90"), Gateway("well", ask="101")
    async with gateways(sick, well), running(broker.url, sick, well, gateway=QUICK) as (router, channel):
        clock = SystemClock()
        plan = routing_pb2.RoutePlan(legs=[routing_pb2.RouteLeg(venue="sick", quantity="1", client_order_id="k1")])
        route = new_route(new_order("k1"), routing_pb2.RoutingInstruction(), plan, clock.now_ns())
        await RouteJournal(router.bus, clock).decide(route)
        await force(channel, "sick", OPEN)
        answer = await orders(channel).SubmitOrder(submit_request("k1"), timeout=5)
        await force(channel, "sick", FREE)
        again = await orders(channel).SubmitOrder(submit_request("k1"), timeout=5)
    assert answer.order.terms.venue == again.order.terms.venue == "well"
    assert sick.submits() == [] and again.replayed


async def test_repeat_of_a_key_its_gateway_has_passes_an_open_breaker(broker: Broker) -> None:
    """P36: an order in doubt must not be answered with "nothing was sent"; the gateway gives the first result."""
    sick = Gateway("sick")
    async with gateways(sick), running(broker.url, sick) as (router, channel):
        stub = orders(channel)
        for key in ("k1", "k2"):
            await stub.SubmitOrder(submit_request(key, venue="sick"), timeout=5)
            intent = event_pb2.OrderIntent(order=order_pb2.Order(terms=new_order(key, venue="sick")))
            await router.bus.append_once(subject(Kind.INTENT, "sick", ACCOUNT, key), intent.SerializeToString())
        await force(channel, "sick", OPEN)
        answer = await stub.SubmitOrder(submit_request("k1", venue="sick"), timeout=5)
        mixed = [new_order(key, venue="sick") for key in ("k1", "new", "k2")]
        batch = await stub.BatchSubmitOrders(order_service_pb2.BatchSubmitOrdersRequest(orders=mixed), timeout=5)
    assert answer.replayed and answer.order.order_id == "sick-k1"
    assert [one.response.order.order_id for one in batch.results] == ["sick-k1", "", "sick-k2"]
    assert batch.results[1].HasField("error") and "new" not in sick.orders


async def test_forced_breaker_holds_at_every_router_and_after_restart_until_it_is_let_free(broker: Broker) -> None:
    """Operator and reason are shown and told; letting it free closes it."""
    gateway = Gateway("only")
    async with gateways(gateway):
        async with running(broker.url, gateway) as (_, channel), running(broker.url, gateway) as (_, other):
            shown = await force(channel, "only", OPEN)
            assert (shown.state, shown.forced, shown.set_by) == (OPEN, True, "ana")
            assert shown.cause == "ana: maintenance" and not shown.HasField("retry_time")
            await becomes(other, "only", OPEN)
        async with running(broker.url, gateway) as (router, channel):
            async with asyncio.timeout(WAIT_S):
                await router.breakers.ready.wait()
            error = await refused(orders(channel).SubmitOrder(submit_request("k1", venue="only"), timeout=5))
            freed = await force(channel, "only", FREE, reason="done")
            await orders(channel).SubmitOrder(submit_request("k1", venue="only"), timeout=5)
            rows = await told(router, 4)
    assert (error.reason, error.sent) == (Reason.CIRCUIT_OPEN, Sent.NO)
    assert "forced open: ana: maintenance" in error.message
    assert (freed.state, freed.forced, freed.set_by) == (CLOSED, False, "ana")
    assert [(row.state, row.forced) for row in rows] == [(OPEN, True)] * 3 + [(CLOSED, False)]
    assert len({row.router_id for row in rows}) == 3


async def test_forced_closed_lets_orders_pass_whatever_they_end_with(broker: Broker) -> None:
    """And a repeat of what is set changes nothing."""
    gateway = Gateway("only")
    gateway.on["SubmitOrder"] = fail
    async with gateways(gateway), running(broker.url, gateway, gateway=QUICK) as (_, channel):
        first = await force(channel, "only", CLOSED)
        assert (await force(channel, "only", CLOSED)).since == first.since
        for place in range(5):
            await refused(orders(channel).SubmitOrder(submit_request(f"k{place}", venue="only"), timeout=5))
        row = (await breakers(channel))["only"]
    assert (row.state, row.forced, row.failures) == (CLOSED, True, 5)
    assert len(gateway.submits()) == 5


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"venue": "nowhere"}, "venue"),
        ({"state": HALF_OPEN}, "state"),
        ({"state": 9_999}, "state"),
        ({"operator": " "}, "operator"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 513}, "reason"),
    ],
)
async def test_set_circuit_breaker_refuses_what_nobody_could_mean(
    broker: Broker, changes: dict[str, Any], field: str
) -> None:
    """Each names the field, and nothing is set."""
    gateway = Gateway("only")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        wanted = {"venue": "only", "state": OPEN, "operator": "ana", "reason": "why", **changes}
        request = operations_service_pb2.SetCircuitBreakerRequest(**wanted)
        error = await refused(operations(channel).SetCircuitBreaker(request, timeout=5))
        row = (await breakers(channel))["only"]
    assert (error.field, error.sent, row.state) == (field, Sent.NO, CLOSED)


async def test_venue_that_recovered_closes_after_test_orders_went_well(broker: Broker) -> None:
    """Open, half open, closed: all three are told, in order."""
    gateway = Gateway("only")
    rules = {"breaker": {"min_calls": 3, "open_s": 0.01, "probes": 2, "slow_s": 60.0}}
    async with gateways(gateway), running(broker.url, gateway, gateway=rules) as (router, channel):
        await break_down(gateway, channel)
        await becomes(channel, "only", HALF_OPEN)
        for key in ("k1", "k2"):
            await orders(channel).SubmitOrder(submit_request(key, venue="only"), timeout=5)
        row = (await breakers(channel))["only"]
        rows = await told(router, 3)
    assert (row.state, row.calls, row.cause) == (CLOSED, 0, "2 test calls went well")
    assert [one.state for one in rows] == [OPEN, HALF_OPEN, CLOSED]


async def test_half_open_venue_gets_only_its_test_orders(broker: Broker) -> None:
    """P3: while one test order is under way, further ones are refused at once."""
    gateway = Gateway("only")
    arrived, release = asyncio.Event(), asyncio.Event()

    async def hold(request: Any, context: Any) -> Any:
        arrived.set()
        await release.wait()
        return await gateway.submit(request)

    rules = {"breaker": {"min_calls": 3, "open_s": 0.01, "probes": 1, "slow_s": 60.0}}
    async with gateways(gateway), running(broker.url, gateway, gateway=rules) as (_, channel):
        await break_down(gateway, channel)
        await becomes(channel, "only", HALF_OPEN)
        gateway.on["SubmitOrder"] = hold
        test = asyncio.ensure_future(orders(channel).SubmitOrder(submit_request("k1", venue="only"), timeout=30))
        async with asyncio.timeout(WAIT_S):
            await arrived.wait()
        error = await refused(orders(channel).SubmitOrder(submit_request("k2", venue="only"), timeout=5))
        release.set()
        await test
        row = (await breakers(channel))["only"]
    assert (error.reason, error.metadata["circuit_state"]) == (Reason.CIRCUIT_OPEN, "half_open")
    assert row.state == CLOSED


async def test_reads_stop_at_an_open_breaker_where_the_operator_wants_it(broker: Broker) -> None:
    """Reads then; a cancel, and what it must read to find its order, still passes."""
    gateway = Gateway("only")
    rules = {"breaker": {"reads_pass": False}}
    async with gateways(gateway), running(broker.url, gateway, gateway=rules) as (_, channel):
        stub = orders(channel)
        answer = await stub.SubmitOrder(submit_request("k1", venue="only"), timeout=5)
        await force(channel, "only", OPEN)
        named = order_service_pb2.OrderReference(account_id=ACCOUNT, client_order_id="k1", venue="only")
        error = await refused(stub.GetOrder(order_service_pb2.GetOrderRequest(reference=named), timeout=5))
        unnamed = order_service_pb2.OrderReference(account_id=ACCOUNT, client_order_id="k1")
        canceled = await stub.CancelOrder(order_service_pb2.CancelOrderRequest(reference=unnamed), timeout=5)
    assert error.reason is Reason.CIRCUIT_OPEN
    assert canceled.order.order_id == answer.order.order_id


async def test_breaker_works_without_the_broker_but_cannot_be_forced(broker: Broker) -> None:
    """It opens and refuses by itself; what would not outlive a restart is not taken, and nobody waits for it."""
    sick = Gateway("sick")
    async with gateways(sick), running(broker.url, sick, gateway=QUICK) as (router, channel):
        await break_down(sick, channel)
        await broker.stop()
        async with asyncio.timeout(WAIT_S):
            while router.bus.connected:
                await asyncio.sleep(0)
        request = operations_service_pb2.SetCircuitBreakerRequest(
            venue="sick", state=CLOSED, operator="ana", reason="why"
        )
        error = await refused(operations(channel).SetCircuitBreaker(request, timeout=5))
        row = (await breakers(channel))["sick"]
        link = router.venues.get("sick")
    assert (error.reason, error.sent) == (Reason.JOURNAL_UNAVAILABLE, Sent.NO)
    assert (row.state, row.forced) == (OPEN, False) and link.guard.refusal() is not None
