"""Submitting through the router: where it goes, once, and what a lost answer is called."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from router.journal import RouteJournal
from router.plans import new_route
from tests.broker import Broker
from tests.integration.router.support import (
    WAIT_S,
    Gateway,
    gateways,
    health_becomes,
    new_order,
    orders,
    refused,
    running,
    submit_request,
    until,
)
from venuemesh.clock import SystemClock
from venuemesh.errors import InvalidOrder, Reason, Sent
from venuemesh.subjects import MESH_STREAM, Kind, subject
from venuemesh.v1 import event_pb2, order_pb2, order_service_pb2, routing_pb2, routing_service_pb2
from venuemesh.v1 import routing_service_pb2_grpc as routing_grpc


async def test_submit_without_venue_goes_to_the_best_price(broker: Broker) -> None:
    """The cheaper of two live books takes a buy."""
    cheap, dear = Gateway("cheap", ask="100.5"), Gateway("dear", ask="101")
    async with gateways(cheap, dear), running(broker.url, cheap, dear) as (_, channel):
        answer = await orders(channel).SubmitOrder(submit_request(), timeout=5)
    assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert answer.order.terms.venue == "cheap"
    assert [one.order.venue for one in cheap.submits()] == ["cheap"]
    assert dear.submits() == []


async def test_submit_repeated_after_restart_and_changed_books_goes_to_the_same_venue(broker: Broker) -> None:
    """The stored route decides, not today's books."""
    first, second = Gateway("first", ask="100"), Gateway("second", ask="101")
    async with gateways(first, second):
        async with running(broker.url, first, second) as (_, channel):
            before = await orders(channel).SubmitOrder(submit_request(), timeout=5)
        first.ask, second.ask = "105", "95"
        async with running(broker.url, first, second) as (_, channel):
            after = await orders(channel).SubmitOrder(submit_request(correlation_id="another"), timeout=5)
    assert (before.order.terms.venue, before.replayed) == ("first", False)
    assert (after.order.terms.venue, after.replayed) == ("first", True)
    assert second.submits() == []
    assert len(first.orders) == 1


async def test_submit_at_two_routers_at_once_makes_one_order_at_one_venue(broker: Broker) -> None:
    """Whoever journals first decides for both, even when they see different books."""
    left, right = Gateway("left", ask="100"), Gateway("right", ask="100")
    async with (
        gateways(left, right),
        running(broker.url, left, right) as (_, one),
        running(broker.url, left, right, excluded_venues=("left",)) as (_, two),
    ):
        calls = [
            orders(channel).SubmitOrder(submit_request(f"k{number}"), timeout=5)
            for number in range(10)
            for channel in (one, two)
        ]
        answers = await asyncio.gather(*calls)
    for number in range(10):
        pair = {answer.order.order_id for answer in answers if answer.order.terms.client_order_id == f"k{number}"}
        assert len(pair) == 1
    assert len(left.orders) + len(right.orders) == 10
    assert not set(left.orders) & set(right.orders)


async def test_submit_same_key_with_other_content_is_refused_and_names_the_route(broker: Broker) -> None:
    """CLIENT_ORDER_ID_REUSED, nothing sent."""
    gateway = Gateway("only")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        await orders(channel).SubmitOrder(submit_request(), timeout=5)
        error = await refused(orders(channel).SubmitOrder(submit_request(quantity="2"), timeout=5))
    assert (error.reason, error.sent) == (Reason.CLIENT_ORDER_ID_REUSED, Sent.NO)
    assert error.metadata["venue"] == "only"
    assert len(gateway.submits()) == 1


async def test_submit_when_gateway_dies_mid_call_answers_unknown_and_never_resends(broker: Broker) -> None:
    """A lost answer is data: OK with outcome UNKNOWN and the terms."""
    gateway = Gateway("only")
    arrived = asyncio.Event()

    async def hang(request: Any, context: Any) -> Any:
        arrived.set()
        await asyncio.Event().wait()

    gateway.on["SubmitOrder"] = hang
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        call = orders(channel).SubmitOrder(submit_request(venue="only"), timeout=10)
        async with asyncio.timeout(WAIT_S):
            await arrived.wait()
        await gateway.kill()
        answer = await call
    assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_UNKNOWN
    assert answer.order.uncertain
    assert answer.order.terms.client_order_id == "k1"
    assert len(gateway.submits()) == 1


async def test_submit_when_gateway_hangs_answers_unknown_before_the_deadline(broker: Broker) -> None:
    """The router keeps its reserve, so that the caller hears UNKNOWN instead of a bare time-out."""
    gateway = Gateway("only")

    async def hang(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    gateway.on["SubmitOrder"] = hang
    async with gateways(gateway), running(broker.url, gateway, gateway={"reserve_s": 3.0}) as (_, channel):
        answer = await orders(channel).SubmitOrder(submit_request(venue="only"), timeout=4)
    assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_UNKNOWN
    assert gateway.time_left_s[-1] < 2


async def test_submit_when_connection_is_refused_says_nothing_was_sent(broker: Broker) -> None:
    """GATEWAY_UNAVAILABLE with sent=no, for a named venue and for the only candidate."""
    gateway = Gateway("only")
    await gateway.start()
    await gateway.kill()
    async with running(broker.url, gateway) as (router, channel):
        await until(router, lambda: router.venues.get("only").known_down)
        named = await refused(orders(channel).SubmitOrder(submit_request(venue="only"), timeout=5))
        routed = await refused(orders(channel).SubmitOrder(submit_request("k2"), timeout=5))
    assert (named.reason, named.sent) == (Reason.GATEWAY_UNAVAILABLE, Sent.NO)
    assert (routed.reason, routed.sent) == (Reason.GATEWAY_UNAVAILABLE, Sent.NO)


async def test_submit_with_too_little_time_is_refused_unsent(broker: Broker) -> None:
    """DEADLINE_TOO_SHORT, sent=no: what is left is under reserve and least time together."""
    gateway = Gateway("only")
    async with gateways(gateway), running(broker.url, gateway, gateway={"reserve_s": 4.0}) as (_, channel):
        error = await refused(orders(channel).SubmitOrder(submit_request(venue="only"), timeout=3))
    assert (error.reason, error.sent) == (Reason.DEADLINE_TOO_SHORT, Sent.NO)
    assert gateway.submits() == []


async def test_gateway_error_passes_with_reason_field_and_sent(broker: Broker) -> None:
    """The gateway's own refusal reaches the caller as it was made."""
    gateway = Gateway("only")

    async def refuse(request: Any, context: Any) -> Any:
        raise InvalidOrder("price 1 is off tick", reason=Reason.PRICE_OFF_TICK, field="order.price", sent=Sent.NO)

    gateway.on["SubmitOrder"] = refuse
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        error = await refused(orders(channel).SubmitOrder(submit_request(venue="only"), timeout=5))
    assert (error.reason, error.field, error.sent) == (Reason.PRICE_OFF_TICK, "order.price", Sent.NO)


async def test_submit_when_journal_is_down_refuses_routed_and_passes_explicit(broker: Broker) -> None:
    """A decision that cannot be stored is not made; a named venue needs none; the broker's return is noticed."""
    gateway = Gateway("only")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        await broker.stop()
        await health_becomes(channel, "", health_pb2.HealthCheckResponse.NOT_SERVING)
        routed = await refused(orders(channel).SubmitOrder(submit_request("k1"), timeout=5))
        explicit = await orders(channel).SubmitOrder(submit_request("k2", venue="only"), timeout=5)
        await broker.start()
        await health_becomes(channel, "", health_pb2.HealthCheckResponse.SERVING)
        again = await orders(channel).SubmitOrder(submit_request("k1"), timeout=5)
    assert (routed.reason, routed.sent) == (Reason.JOURNAL_UNAVAILABLE, Sent.NO)
    assert explicit.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert again.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert [one.order.client_order_id for one in gateway.submits()] == ["k2", "k1"]


async def test_stale_book_is_left_out_with_its_reason_in_the_plan(broker: Broker) -> None:
    """The better price of a stale book loses, and the plan says why."""
    stale, fresh = Gateway("stale", ask="90"), Gateway("fresh", ask="101")
    stale.book_freshness = 2
    request = routing_service_pb2.PlanRouteRequest(order=new_order(""))
    async with gateways(stale, fresh), running(broker.url, stale, fresh) as (_, channel):
        plan = (await routing_grpc.RoutingServiceStub(channel).PlanRoute(request, timeout=5)).plan
    assert [leg.venue for leg in plan.legs] == ["fresh"]
    assert [(one.venue, one.eligible) for one in plan.candidates] == [("fresh", True), ("stale", False)]
    assert "stale" in plan.candidates[1].message
    assert plan.expected_price == "101"


async def test_routed_submit_is_found_by_id_and_by_key_and_published(broker: Broker) -> None:
    """GetRoute shows plan and child; the decision is an event of the mesh stream."""
    gateway = Gateway("only")
    async with gateways(gateway), running(broker.url, gateway) as (router, channel):
        stub = routing_grpc.RoutingServiceStub(channel)
        submit = routing_service_pb2.SubmitRoutedOrderRequest(
            order=new_order(),
            instruction=routing_pb2.RoutingInstruction(strategy=routing_pb2.ROUTING_STRATEGY_BEST_PRICE),
        )
        made = await stub.SubmitRoutedOrder(submit, timeout=5)
        by_id = await stub.GetRoute(routing_service_pb2.GetRouteRequest(route_id=made.route.route_id), timeout=5)
        key = routing_service_pb2.GetRouteRequest(account_id="main", client_order_id="k1")
        by_key = await stub.GetRoute(key, timeout=5)
        async with asyncio.timeout(WAIT_S):
            async for message in router.bus.replay(MESH_STREAM, ["venuemesh.v1.route.>"]):
                event = event_pb2.Event.FromString(message.payload)
    assert made.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert made.route.children[0].order_id == "only-k1"
    assert by_id.route.route_id == by_key.route.route_id == made.route.route_id
    assert by_id.route.status == order_pb2.ORDER_STATUS_NEW
    assert event.route.plan.legs[0].venue == "only"


async def test_contradictory_instruction_is_refused_naming_the_field(broker: Broker) -> None:
    """A venue with BEST_PRICE, and a strategy nobody knows."""
    gateway = Gateway("only")
    both = routing_service_pb2.SubmitRoutedOrderRequest(
        order=new_order(venue="only"),
        instruction=routing_pb2.RoutingInstruction(strategy=routing_pb2.ROUTING_STRATEGY_BEST_PRICE),
    )
    unheard = routing_service_pb2.SubmitRoutedOrderRequest(
        order=new_order(),
        instruction=routing_pb2.RoutingInstruction(strategy=9999),  # type: ignore[arg-type]
    )
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        stub = routing_grpc.RoutingServiceStub(channel)
        one = await refused(stub.SubmitRoutedOrder(both, timeout=5))
        two = await refused(stub.SubmitRoutedOrder(unheard, timeout=5))
    assert (one.reason, one.field) == (Reason.CONTRADICTORY_FIELDS, "order.venue")
    assert two.field == "instruction.strategy"


async def test_batch_over_venues_answers_every_element_in_its_place(broker: Broker) -> None:
    """Two venues, one of them away, and one order for the router to place."""
    here, away = Gateway("here"), Gateway("away")
    await away.start()
    await away.kill()
    wanted = [new_order("a", venue="here"), new_order("b", venue="away"), new_order("c"), new_order("d", venue="here")]
    async with gateways(here), running(broker.url, here, away) as (router, channel):
        await until(router, lambda: router.venues.get("away").known_down)
        request = order_service_pb2.BatchSubmitOrdersRequest(orders=wanted)
        answer = await orders(channel).BatchSubmitOrders(request, timeout=5)
    shown = [one.response.order.terms.client_order_id or one.error.code for one in answer.results]
    assert shown == ["a", grpc.StatusCode.UNAVAILABLE.value[0], "c", "d"]


async def test_route_journalled_by_a_router_that_died_before_sending_is_carried_out(broker: Broker) -> None:
    """The repeat sends the stored route's child, though today's books say otherwise."""
    planned, cheaper = Gateway("planned", ask="105"), Gateway("cheaper", ask="95")
    async with gateways(planned, cheaper), running(broker.url, planned, cheaper) as (router, channel):
        leg = routing_pb2.RouteLeg(venue="planned", quantity="1", client_order_id="k1")
        plan = routing_pb2.RoutePlan(legs=[leg])
        instruction = routing_pb2.RoutingInstruction()
        clock = SystemClock()
        route = new_route(new_order(), instruction, plan, clock.now_ns())
        await RouteJournal(router.bus, clock).decide(route)
        answer = await orders(channel).SubmitOrder(submit_request(), timeout=5)
    assert (answer.order.terms.venue, answer.replayed) == ("planned", False)
    assert cheaper.submits() == []


async def test_key_of_an_explicit_order_is_not_routed_a_second_time(broker: Broker) -> None:
    """A gateway journalled the key already: CLIENT_ORDER_ID_REUSED with the order it belongs to."""
    there, cheaper = Gateway("there", ask="105"), Gateway("cheaper", ask="95")
    async with gateways(there, cheaper), running(broker.url, there, cheaper) as (router, channel):
        order = order_pb2.Order(order_id="o-1", terms=new_order("k1", venue="there"))
        intent = event_pb2.OrderIntent(order=order)
        await router.bus.append_once(subject(Kind.INTENT, "there", "main", "k1"), intent.SerializeToString())
        error = await refused(orders(channel).SubmitOrder(submit_request("k1"), timeout=5))
    assert (error.reason, error.sent) == (Reason.CLIENT_ORDER_ID_REUSED, Sent.NO)
    assert (error.metadata["venue"], error.metadata["order_id"]) == ("there", "o-1")
    assert there.submits() == cheaper.submits() == []


async def test_order_no_venue_can_take_is_refused_with_its_field_and_leaves_the_key_free(broker: Broker) -> None:
    """A quantity off the lot is told as itself; the corrected order may use the same key."""
    gateway = Gateway("only")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        error = await refused(orders(channel).SubmitOrder(submit_request(quantity="1.0005"), timeout=5))
        answer = await orders(channel).SubmitOrder(submit_request(quantity="1.001"), timeout=5)
    assert (error.reason, error.field) == (Reason.QUANTITY_OFF_LOT, "order.quantity")
    assert error.metadata["nearest_above"] == "1.001"
    assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_books_followed_are_bounded_and_the_least_used_makes_room(broker: Broker) -> None:
    """Two feeds for two venues when one is allowed: the other's stream is closed, and decisions still see both."""
    one, two = Gateway("one", ask="100"), Gateway("two", ask="101")
    request = routing_service_pb2.PlanRouteRequest(order=new_order(""))
    async with gateways(one, two), running(broker.url, one, two, books={"max_feeds": 1}) as (router, channel):
        stub = routing_grpc.RoutingServiceStub(channel)
        plans = [(await stub.PlanRoute(request, timeout=5)).plan for _ in range(3)]
        followed = router.feeds.followed
    assert len(followed) == 1
    for plan in plans:
        assert [(one.venue, one.eligible) for one in plan.candidates] == [("one", True), ("two", True)]
