"""Orders split over venues: one plan for ever, one state over all children, nothing hidden, nothing twice."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import grpc.aio
import pytest

from router.journal import RouteJournal
from router.parents import child_key
from tests.broker import Broker
from tests.integration.router.support import (
    ACCOUNT,
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
from tests.integration.router.test_process import environment, start
from venuemesh.bus import Bus, BusOptions
from venuemesh.clock import SystemClock
from venuemesh.errors import GatewayUnavailable, InvalidOrder, PermissionDenied, Reason, RiskRefused, Sent
from venuemesh.subjects import Kind, subject
from venuemesh.v1 import event_pb2, order_pb2, order_service_pb2, routing_pb2, routing_service_pb2
from venuemesh.v1 import routing_service_pb2_grpc as routing_grpc

LIMIT = {
    "order_type": order_pb2.ORDER_TYPE_LIMIT,
    "price": "102",
    "time_in_force": order_pb2.TIME_IN_FORCE_GTC,
}


def thin_pair() -> tuple[Gateway, Gateway]:
    """Five units at 100 on one venue, five at 100.5 on the other: eight are cheapest as five and three."""
    one, two = Gateway("one"), Gateway("two")
    one.levels["asks"] = [("100", "5"), ("110", "50")]
    two.levels["asks"] = [("100.5", "5"), ("110", "50")]
    return one, two


def routing(channel: grpc.aio.Channel) -> routing_grpc.RoutingServiceStub:
    return routing_grpc.RoutingServiceStub(channel)


def parts(gateway: Gateway) -> list[str]:
    return [order.terms.quantity for order in gateway.orders.values()]


def reference(**names: str) -> order_service_pb2.OrderReference:
    return order_service_pb2.OrderReference(account_id=ACCOUNT, **names)  # type: ignore[arg-type]


def fill(gateway: Gateway, quantity: str, price: str, fee: str = "0.1") -> None:
    """The gateway's only order fills by so much."""
    (order,) = gateway.orders.values()
    order.filled_quantity = quantity
    order.leaves_quantity = str(Decimal(order.terms.quantity) - Decimal(quantity))
    order.average_price = price
    done = order.leaves_quantity == "0"
    order.status = order_pb2.ORDER_STATUS_FILLED if done else order_pb2.ORDER_STATUS_PARTIALLY_FILLED
    order.working, order.terminal = not done, done
    order.order_version += 1
    order.fees.append(order_pb2.FeeTotal(asset="USDC", amount=fee))
    order.updated_time.GetCurrentTime()


async def publish(bus: Any, gateway: Gateway) -> None:
    """What a gateway reports about its only order."""
    (order,) = gateway.orders.values()
    event = event_pb2.Event(venue=gateway.venue, account_id=ACCOUNT, symbol=order.terms.symbol)
    event.execution_report.order.CopyFrom(order)
    name = subject(Kind.FILL, gateway.venue, ACCOUNT, order.terms.symbol, order.terms.client_order_id)
    await bus.publish(name, event.SerializeToString())


async def test_order_is_split_where_that_is_cheaper_and_answers_as_one(broker: Broker) -> None:
    """P23 and the facade: the parts sum to the order, the parent holds both, and both ways of asking agree."""
    one, two = thin_pair()
    async with gateways(one, two), running(broker.url, one, two) as (_, channel):
        answer = await orders(channel).SubmitOrder(submit_request(quantity="8"), timeout=5)
        again = await routing(channel).SubmitRoutedOrder(
            routing_service_pb2.SubmitRoutedOrderRequest(order=new_order(quantity="8")), timeout=5
        )
        got = await orders(channel).GetOrder(
            order_service_pb2.GetOrderRequest(reference=reference(client_order_id="k1")), timeout=5
        )
    assert (parts(one), parts(two)) == (["5"], ["3"])
    assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert (answer.order.status, answer.order.leaves_quantity) == (order_pb2.ORDER_STATUS_NEW, "8")
    assert again.replayed
    assert [leg.quantity for leg in again.route.plan.legs] == ["5", "3"]
    assert [child.terms.parent_order_id for child in again.route.children] == [again.route.route_id] * 2
    assert answer.order.order_id == again.route.route_id == got.order.order_id
    assert {next(iter(gateway.orders)) for gateway in (one, two)} == {
        child_key(ACCOUNT, "k1", "one"),
        child_key(ACCOUNT, "k1", "two"),
    }


async def test_plan_says_what_a_split_costs_and_why_others_lost(broker: Broker) -> None:
    """PlanRoute: parts, average, fee, slippage; the dear venue's candidate says why it has no part."""
    one, two = thin_pair()
    dear = Gateway("dear", ask="120")
    request = routing_service_pb2.PlanRouteRequest(order=new_order("", quantity="8"))
    async with gateways(one, two, dear), running(broker.url, one, two, dear) as (_, channel):
        plan = (await routing(channel).PlanRoute(request, timeout=5)).plan
    assert [(leg.venue, leg.quantity, leg.expected_price) for leg in plan.legs] == [
        ("one", "5", "100"),
        ("two", "3", "100.5"),
    ]
    assert plan.expected_price == "100.1875"
    assert Decimal(plan.expected_fee) == Decimal("801.5") * Decimal("0.00045")
    assert [one.venue for one in plan.candidates] == ["one", "two", "dear"]
    assert "costs less" in plan.candidates[2].message
    assert "5 at one" in plan.explanation


async def test_account_fees_and_funding_decide_where_prices_tie(broker: Broker) -> None:
    """ALL_IN_COST is the default: the account's own rates and the funding of the horizon count, each with its name."""
    cheap, dear, paying = Gateway("cheap"), Gateway("dear"), Gateway("paying")
    dear.fee_rates, paying.fee_rates, cheap.fee_rates = ("0.0001", "0.0009"), ("0", "0"), ("0.0001", "0.0002")
    for gateway, rate in ((cheap, "0.00001"), (paying, "0.0001")):
        gateway.funding_rate = rate
        gateway.instrument.funding_interval.FromSeconds(3_600)
    request = routing_service_pb2.PlanRouteRequest(order=new_order(""))
    all_of = (cheap, dear, paying)
    async with gateways(*all_of), running(broker.url, *all_of) as (_, channel):
        plan = (await routing(channel).PlanRoute(request, timeout=5)).plan
        request.instruction.funding_horizon.FromSeconds(0)
        without = (await routing(channel).PlanRoute(request, timeout=5)).plan
    shown = {one.venue: one for one in plan.candidates}
    assert [one.venue for one in plan.candidates] == ["cheap", "paying", "dear"]
    assert [shown[name].fee_rate for name in ("cheap", "dear", "paying")] == ["0.0002", "0.0009", "0"]
    assert shown["paying"].expected_funding == "0.0808"
    assert not shown["dear"].HasField("expected_funding")
    assert without.legs[0].venue == "paying"


async def test_router_killed_between_two_children_leaves_an_exact_parent_and_one_plan(broker: Broker) -> None:
    """The process dies with one child sent: after restart the parent tells both, and a repeat completes that plan."""
    one, two = thin_pair()
    taken, reached = asyncio.Event(), asyncio.Event()

    async def take(request: Any, context: Any) -> Any:
        answer = await one.submit(request)
        taken.set()
        return answer

    async def hang(request: Any, context: Any) -> Any:
        reached.set()
        await asyncio.Event().wait()

    one.on["SubmitOrder"], two.on["SubmitOrder"] = take, hang
    env = environment(broker, "")
    async with gateways(one, two), asyncio.timeout(40):
        env["ROUTER_VENUES"] = f"one={one.address},two={two.address}"
        process, channel = await _process(env)
        call = orders(channel).SubmitOrder(submit_request(quantity="8"), timeout=20)
        await reached.wait()
        await taken.wait()
        process.kill()
        await process.wait()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        await channel.close()
        del two.on["SubmitOrder"]
        one.levels["asks"], two.levels["asks"] = [("150", "50")], [("90", "50")]
        process, channel = await _process(env)
        key = routing_service_pb2.GetRouteRequest(account_id=ACCOUNT, client_order_id="k1")
        between = (await routing(channel).GetRoute(key, timeout=5)).route
        answers = [await orders(channel).SubmitOrder(submit_request(quantity="8"), timeout=5) for _ in range(2)]
        after = (await routing(channel).GetRoute(key, timeout=5)).route
        process.kill()
        await process.wait()
        await channel.close()
    assert [child.terms.quantity for child in between.children] == ["5", "3"]
    assert [child.working for child in between.children] == [True, False]
    assert (between.filled_quantity, between.leaves_quantity) == ("0", "8")
    assert (parts(one), parts(two)) == (["5"], ["3"])
    assert [answer.outcome for answer in answers] == [order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED] * 2
    assert [leg.quantity for leg in after.plan.legs] == ["5", "3"]
    assert all(child.working for child in after.children)


async def _process(env: dict[str, str]) -> tuple[asyncio.subprocess.Process, grpc.aio.Channel]:
    process = await start(env)
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    channel = grpc.aio.insecure_channel(ready["grpc_address"])
    for venue in ("one", "two"):
        await health_becomes(channel, f"venue/{venue}", 1)
    return process, channel


async def test_cancel_of_a_split_reaches_every_child_by_any_name(broker: Broker) -> None:
    """By the caller's key, by the order id, and by the route id; one result per child."""
    one, two = thin_pair()
    async with gateways(one, two), running(broker.url, one, two) as (_, channel):
        made = await orders(channel).SubmitOrder(submit_request(quantity="8"), timeout=5)
        answers = []
        for name in ({"client_order_id": "k1"}, {"order_id": made.order.order_id}):
            request = order_service_pb2.CancelOrderRequest(reference=reference(**name))
            answers.append(await orders(channel).CancelOrder(request, timeout=5))
        route = await routing(channel).CancelRoute(
            routing_service_pb2.CancelRouteRequest(route_id=made.order.order_id), timeout=5
        )
    asked = [
        sum(isinstance(request, order_service_pb2.CancelOrderRequest) for request in gateway.requests)
        for gateway in (one, two)
    ]
    assert asked == [3, 3]
    assert [answer.outcome for answer in answers] == [order_service_pb2.CANCEL_OUTCOME_CANCELED] * 2
    assert [result.order.terms.venue for result in route.results] == ["one", "two"]


async def test_cancel_of_a_split_when_one_gateway_is_away_says_which(broker: Broker) -> None:
    """The other child is cancelled; the answer is REJECTED with the venue's reason, never a success."""
    one, two = thin_pair()
    async with gateways(one, two), running(broker.url, one, two) as (router, channel):
        await orders(channel).SubmitOrder(submit_request(quantity="8"), timeout=5)
        (child,) = two.orders.values()
        intent = event_pb2.OrderIntent(order=child, writer_id="its gateway")
        name = subject(Kind.INTENT, "two", ACCOUNT, child.terms.client_order_id)
        await router.bus.append_once(name, intent.SerializeToString())
        await two.kill()
        await until(router, lambda: router.venues.get("two").known_down)
        request = order_service_pb2.CancelOrderRequest(reference=reference(client_order_id="k1"))
        answer = await orders(channel).CancelOrder(request, timeout=5)
        key = routing_service_pb2.GetRouteRequest(account_id=ACCOUNT, client_order_id="k1")
        call = routing(channel).GetRoute(key, timeout=5)
        route, trailers = (await call).route, await call.trailing_metadata()
    assert answer.outcome == order_service_pb2.CANCEL_OUTCOME_REJECTED
    assert answer.reject.message.startswith("two: ")
    assert any(isinstance(one_of, order_service_pb2.CancelOrderRequest) for one_of in one.requests)
    assert route.status == order_pb2.ORDER_STATUS_UNCERTAIN
    assert any(value.startswith("two: ") for key, value in trailers if key == "x-venuemesh-unreached")


async def test_cancel_of_a_split_works_while_the_journal_is_down(broker: Broker) -> None:
    """Children are found by keys that follow from the parent's."""
    one, two = thin_pair()
    async with gateways(one, two), running(broker.url, one, two) as (_, channel):
        await orders(channel).SubmitOrder(submit_request(quantity="8"), timeout=5)
        await broker.stop()
        await health_becomes(channel, "", 2)
        request = order_service_pb2.CancelOrderRequest(reference=reference(client_order_id="k1"))
        answer = await orders(channel).CancelOrder(request, timeout=5)
    for gateway in (one, two):
        named = [
            request.reference.client_order_id
            for request in gateway.requests
            if isinstance(request, order_service_pb2.CancelOrderRequest)
        ]
        assert next(iter(gateway.orders)) in named
    assert answer.outcome == order_service_pb2.CANCEL_OUTCOME_UNKNOWN


async def test_amendment_of_a_split_is_divided_once_however_often_it_is_asked(broker: Broker) -> None:
    """Price to all, quantity in proportion; a repeat after fills asks the same of every child."""
    one, two = thin_pair()
    one.levels["asks"], two.levels["asks"] = [("110", "5")], [("110", "5")]
    instruction = routing_pb2.RoutingInstruction(split_mode=routing_pb2.SPLIT_MODE_ALWAYS)
    submit = routing_service_pb2.SubmitRoutedOrderRequest(
        order=new_order(quantity="8", **LIMIT), instruction=instruction
    )
    amend = order_service_pb2.ReplaceOrderRequest(
        reference=reference(client_order_id="k1"), request_id="r1", quantity="6", price="101"
    )

    def asked(gateway: Gateway) -> list[tuple[str, str, str]]:
        return [
            (one_of.quantity, one_of.price, one_of.request_id)
            for one_of in gateway.requests
            if isinstance(one_of, order_service_pb2.ReplaceOrderRequest)
        ]

    async def replaced(gateway: Gateway, request: Any) -> Any:
        outcome = order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
        return order_service_pb2.ReplaceOrderResponse(order=gateway.find(request.reference), outcome=outcome)

    for gateway in (one, two):
        gateway.on["ReplaceOrder"] = lambda request, context, gateway=gateway: replaced(gateway, request)
    async with gateways(one, two), running(broker.url, one, two) as (_, channel):
        made = await routing(channel).SubmitRoutedOrder(submit, timeout=5)
        first = await orders(channel).ReplaceOrder(amend, timeout=5)
        fill(one, "1", "102")
        again = await orders(channel).ReplaceOrder(amend, timeout=5)
        amend.quantity = "7"
        other = await refused(orders(channel).ReplaceOrder(amend, timeout=5))
        amend.request_id, amend.quantity = "r2", "0.0015"
        too_fine = await refused(orders(channel).ReplaceOrder(amend, timeout=5))
    assert [leg.quantity for leg in made.route.plan.legs] == ["4", "4"]
    assert (first.outcome, first.replayed, again.replayed) == (
        order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED,
        False,
        True,
    )
    assert [quantity for quantity, _, _ in asked(one)] == ["3", "3"]
    assert asked(one)[0] == asked(one)[1]
    assert {price for _, price, _ in asked(one) + asked(two)} == {"101"}
    assert (other.reason, other.field) == (Reason.CLIENT_ORDER_ID_REUSED, "request_id")
    assert too_fine.field == "quantity"


async def test_part_that_certainly_was_not_sent_goes_to_another_venue(broker: Broker) -> None:
    """R6: the gateway refuses unsent, the key is fenced, a further revision of the plan names the other venue."""
    first, second = Gateway("first", ask="100"), Gateway("second", ask="101")

    async def refuse(request: Any, context: Any) -> Any:
        raise GatewayUnavailable("draining", sent=Sent.NO)

    first.on["SubmitOrder"] = refuse
    async with gateways(first, second), running(broker.url, first, second) as (router, channel):
        answer = await orders(channel).SubmitOrder(submit_request(), timeout=5)
        del first.on["SubmitOrder"]
        again = await orders(channel).SubmitOrder(submit_request(), timeout=5)
        key = routing_service_pb2.GetRouteRequest(account_id=ACCOUNT, client_order_id="k1")
        route = (await routing(channel).GetRoute(key, timeout=5)).route
        journal = RouteJournal(router.bus, SystemClock())
        fenced = await journal.evidence(new_order(venue="first"))
    assert (answer.order.terms.venue, again.order.terms.venue) == ("second", "second")
    assert first.orders == {}
    assert len(second.orders) == 1
    assert (route.revision, [leg.venue for leg in route.plan.dropped_legs]) == (1, ["first"])
    assert "first certainly did not get its part" in route.plan.explanation
    assert fenced is not None
    assert fenced.status == order_pb2.ORDER_STATUS_REJECTED


async def test_unknown_part_is_never_sent_elsewhere(broker: Broker) -> None:
    """R6: a lost answer stays where it is, and the parent says that it does not know."""
    one, two, idle = *thin_pair(), Gateway("idle", ask="109")
    reached = asyncio.Event()

    async def hang(request: Any, context: Any) -> Any:
        reached.set()
        await asyncio.Event().wait()

    two.on["SubmitOrder"] = hang
    async with gateways(one, two, idle), running(broker.url, one, two, idle) as (_, channel):
        call = orders(channel).SubmitOrder(submit_request(quantity="8"), timeout=10)
        async with asyncio.timeout(WAIT_S):
            await reached.wait()
        await two.kill()
        answer = await call
    assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_UNKNOWN
    assert answer.order.status == order_pb2.ORDER_STATUS_UNCERTAIN
    assert idle.submits() == []
    assert parts(one) == ["5"]


async def test_part_its_venue_refuses_is_shown_beside_the_one_that_lives(broker: Broker) -> None:
    """Partial failure: the parent is live with what it has, its refused child is there with the reason, fenced."""
    one, two = thin_pair()

    async def refuse(request: Any, context: Any) -> Any:
        raise InvalidOrder("off tick", reason=Reason.PRICE_OFF_TICK, field="order.price", sent=Sent.NO)

    two.on["SubmitOrder"] = refuse
    submit = routing_service_pb2.SubmitRoutedOrderRequest(order=new_order(quantity="8"))
    async with gateways(one, two), running(broker.url, one, two) as (_, channel):
        made = await routing(channel).SubmitRoutedOrder(submit, timeout=5)
        got = await orders(channel).GetOrder(
            order_service_pb2.GetOrderRequest(reference=reference(client_order_id="k1")), timeout=5
        )
    assert made.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert [child.status for child in made.route.children] == [
        order_pb2.ORDER_STATUS_NEW,
        order_pb2.ORDER_STATUS_REJECTED,
    ]
    assert made.route.leaves_quantity == "5"
    assert got.order.reject.reason == made.route.children[1].reject.reason
    assert "off tick" in got.order.reject.message


async def test_route_is_followed_to_its_end_streamed_resumed_and_measured_by_every_router(broker: Broker) -> None:
    """Two replicas: each state is stored once, a stream resumes at the other, and paid is compared with expected."""
    one, two = thin_pair()
    stream = routing_service_pb2.StreamRoutesRequest(account_id=ACCOUNT)
    async with (
        gateways(one, two),
        running(broker.url, one, two) as (router, left),
        running(broker.url, one, two) as (_, right),
        asyncio.timeout(30),
    ):
        seen: list[Any] = []
        call = routing(left).StreamRoutes(stream)
        assert (await call.read()).WhichOneof("body") == "acknowledgement"
        await orders(left).SubmitOrder(submit_request(quantity="8"), timeout=5)
        fill(one, "5", "100.2")
        await publish(router.bus, one)
        while not (seen and Decimal(seen[-1].route.filled_quantity) == 5):
            seen.append(await call.read())
        call.cancel()
        fill(two, "3", "100.5")
        await publish(router.bus, two)
        stream.options.resume_after.epoch = seen[-1].header.epoch
        stream.options.resume_after.sequence = seen[-1].header.sequence
        resumed = routing(right).StreamRoutes(stream)
        acknowledgement = (await resumed.read()).acknowledgement
        last = await resumed.read()
        while last.route.status != order_pb2.ORDER_STATUS_FILLED:
            last = await resumed.read()
        resumed.cancel()
        listed = await routing(right).ListRoutes(routing_service_pb2.ListRoutesRequest(account_id=ACCOUNT), timeout=5)
        outcomes = await routing(left).ListRoutingOutcomes(routing_service_pb2.ListRoutingOutcomesRequest(), timeout=5)
        kept = [message.subject async for message in _stored(router)]
    assert acknowledgement.resume_outcome == 1
    assert last.header.sequence > seen[-1].header.sequence
    assert (last.route.filled_quantity, last.route.leaves_quantity) == ("8", "0")
    assert last.route.average_price == "100.3125"
    assert [route.status for route in listed.routes] == [order_pb2.ORDER_STATUS_FILLED]
    (outcome,) = outcomes.outcomes
    expected, paid = Decimal("100.1875"), Decimal("100.3125")
    assert abs(Decimal(outcome.price_error_bps) - (paid - expected) / expected * 10_000) < Decimal("1e-15")
    assert outcome.fees_paid == "0.2"
    assert outcome.HasField("time_to_fill")
    assert len(kept) <= 5


async def _stored(router: Any) -> Any:
    async with aclosing(router.bus.replay("VENUEMESH_MESH", ["venuemesh.v1.route.>"])) as messages:
        async for message in messages:
            yield message


async def test_router_that_was_away_catches_up_with_children_that_moved_meanwhile(broker: Broker) -> None:
    """No state but JetStream's: a fill while no router ran is in the route once one does."""
    one, two = thin_pair()
    async with gateways(one, two), asyncio.timeout(30):
        async with running(broker.url, one, two) as (_, channel):
            await orders(channel).SubmitOrder(submit_request(quantity="8"), timeout=5)
            call = routing(channel).StreamRoutes(routing_service_pb2.StreamRoutesRequest(account_id=ACCOUNT))
            while (await call.read()).route.status != order_pb2.ORDER_STATUS_NEW:
                continue
            call.cancel()
        fill(one, "5", "100")
        async with Bus.connect(BusOptions(servers=(broker.url,), name="gateway")) as bus:
            await publish(bus, one)
        async with running(broker.url, one, two) as (_, channel):
            call = routing(channel).StreamRoutes(routing_service_pb2.StreamRoutesRequest(account_id=ACCOUNT))
            route = (await call.read()).route
            while route.filled_quantity != "5":
                route = (await call.read()).route
            call.cancel()
    assert route.status == order_pb2.ORDER_STATUS_PARTIALLY_FILLED


async def test_policy_is_versioned_and_in_force_at_every_router(broker: Broker) -> None:
    """Changed at one, refused with an old version at the other, decided by at both."""
    one, two = thin_pair()
    async with (
        gateways(one, two),
        running(broker.url, one, two) as (_, left),
        running(broker.url, one, two) as (_, right),
        asyncio.timeout(30),
    ):
        first = (await routing(left).GetRoutingPolicy(routing_service_pb2.GetRoutingPolicyRequest(), timeout=5)).policy
        wanted = routing_pb2.RoutingPolicy()
        wanted.CopyFrom(first)
        wanted.default_split_mode = routing_pb2.SPLIT_MODE_NEVER
        wanted.excluded_venues.append("one")
        update = routing_service_pb2.UpdateRoutingPolicyRequest(policy=wanted)
        changed = (await routing(left).UpdateRoutingPolicy(update, timeout=5)).policy
        conflict = await refused(routing(right).UpdateRoutingPolicy(update, timeout=5))
        read = (await routing(right).GetRoutingPolicy(routing_service_pb2.GetRoutingPolicyRequest(), timeout=5)).policy
        plan = routing_service_pb2.PlanRouteRequest(order=new_order("", quantity="8"))
        plans = [(await routing(channel).PlanRoute(plan, timeout=5)).plan for channel in (left, right)]
        update.policy.version, update.policy.default_strategy = 1, routing_pb2.ROUTING_STRATEGY_EXPLICIT
        bad = await refused(routing(left).UpdateRoutingPolicy(update, timeout=5))
    assert (first.version, changed.version, read.version) == (0, 1, 1)
    assert (conflict.reason, conflict.metadata["version"]) == (Reason.STATE_VERSION_CONFLICT, "1")
    assert [[leg.venue for leg in plan.legs] for plan in plans] == [["two"], ["two"]]
    assert bad.field == "policy.default_strategy"


async def test_routes_are_paged_newest_first_and_bounded_by_time(broker: Broker) -> None:
    """Every route once over all pages; a range that holds none gives none."""
    gateway = Gateway("only")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        for number in range(5):
            await orders(channel).SubmitOrder(submit_request(f"k{number}"), timeout=5)
        request = routing_service_pb2.ListRoutesRequest(account_id=ACCOUNT, page_size=2)
        seen: list[str] = []
        while True:
            page = await routing(channel).ListRoutes(request, timeout=5)
            seen += [route.order.client_order_id for route in page.routes]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        early = routing_service_pb2.ListRoutesRequest(account_id=ACCOUNT)
        early.to_time.FromSeconds(1)
        none = await routing(channel).ListRoutes(early, timeout=5)
    assert seen == ["k4", "k3", "k2", "k1", "k0"]
    assert list(none.routes) == []


async def test_order_that_is_not_admitted_is_neither_journalled_nor_sent(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks see the order with all its children before the plan is stored."""
    asked: list[list[str]] = []

    async def refuse(_: Any, new: Any, **__: Any) -> None:
        asked.append([order.venue for order in new])
        raise RiskRefused("over the limit")

    monkeypatch.setattr("router.risk_desk.RiskDesk.take", refuse)
    one, two = thin_pair()
    async with gateways(one, two), running(broker.url, one, two) as (router, channel):
        routed = await refused(orders(channel).SubmitOrder(submit_request(quantity="8"), timeout=5))
        named = await refused(orders(channel).SubmitOrder(submit_request("k2", venue="one"), timeout=5))
        stored = await RouteJournal(router.bus, SystemClock()).find(ACCOUNT, "k1")
    assert (routed.reason, named.reason) == (Reason.RISK_LIMIT_REACHED, Reason.RISK_LIMIT_REACHED)
    assert asked == [["one", "two"], ["one"]]
    assert stored is None
    assert one.submits() == two.submits() == []


async def test_split_is_not_reached_by_its_id_from_another_account(broker: Broker) -> None:
    """Who may act for one account only must not act for another by naming its order."""
    one, two = thin_pair()
    async with gateways(one, two), running(broker.url, one, two) as (_, channel):
        made = await orders(channel).SubmitOrder(submit_request(quantity="8"), timeout=5)
        foreign = order_service_pb2.OrderReference(account_id="other", order_id=made.order.order_id)
        read = await refused(orders(channel).GetOrder(order_service_pb2.GetOrderRequest(reference=foreign), timeout=5))
        gone = await refused(
            orders(channel).CancelOrder(order_service_pb2.CancelOrderRequest(reference=foreign), timeout=5)
        )
    assert (read.reason, gone.reason) == (Reason.ORDER_NOT_FOUND, Reason.ORDER_NOT_FOUND)
    for gateway in (one, two):
        assert not any(isinstance(request, order_service_pb2.CancelOrderRequest) for request in gateway.requests)


async def test_cancel_a_gateway_refuses_to_its_caller_fences_nothing(broker: Broker) -> None:
    """A refusal that says nothing about the child leaves a child that was not sent as it is."""
    one, two = thin_pair()

    async def hang(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    async def deny(request: Any, context: Any) -> Any:
        raise PermissionDenied("not yours")

    two.on["SubmitOrder"], two.on["CancelOrder"] = hang, deny
    bounds = {"reserve_s": 3.0}
    async with gateways(one, two), running(broker.url, one, two, gateway=bounds) as (router, channel):
        made = await orders(channel).SubmitOrder(submit_request(quantity="8"), timeout=5)
        request = order_service_pb2.CancelOrderRequest(reference=reference(client_order_id="k1"))
        answer = await orders(channel).CancelOrder(request, timeout=10)
        child = new_order(child_key(ACCOUNT, "k1", "two"), venue="two")
        evidence = await RouteJournal(router.bus, SystemClock()).evidence(child)
    assert made.outcome == order_service_pb2.SUBMIT_OUTCOME_UNKNOWN
    assert answer.outcome == order_service_pb2.CANCEL_OUTCOME_REJECTED
    assert answer.reject.message == "two: not yours"
    assert evidence is None
