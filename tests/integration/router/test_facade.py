"""The gateways' services behind the router: passed through, asked everywhere, missing parts named."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2

from tests.broker import Broker
from tests.integration.router.support import (
    ACCOUNT,
    SYMBOL,
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
from venuemesh.errors import RateLimited, Reason, Sent, VenueUnavailable
from venuemesh.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    operations_service_pb2,
    operations_service_pb2_grpc,
    order_pb2,
    order_service_pb2,
    reconciliation_service_pb2,
    reconciliation_service_pb2_grpc,
    venue_pb2,
    venue_service_pb2,
    venue_service_pb2_grpc,
)

UNKNOWN_FIELD = b"\xfa\x3f\x05hello"
"""Field 1023, length-delimited: no message of the contract has it."""


def reference(**id_: str) -> order_service_pb2.OrderReference:
    return order_service_pb2.OrderReference(account_id=ACCOUNT, **id_)  # type: ignore[arg-type]


async def away(venue: str) -> Gateway:
    """A gateway with an address at which nobody listens."""
    gateway = Gateway(venue)
    await gateway.start()
    await gateway.kill()
    return gateway


async def test_unknown_fields_and_enum_numbers_pass_through_unchanged_both_ways(broker: Broker) -> None:
    """A newer caller and a newer gateway meet over this router: explicit, routed, and in the answer."""
    gateway = Gateway("only")

    async def answer(request: Any, context: Any) -> Any:
        response = await gateway.submit(request)
        response.outcome = 9999
        response.order.status = 9999
        response.order.MergeFromString(UNKNOWN_FIELD)
        response.MergeFromString(UNKNOWN_FIELD)
        return response

    gateway.on["SubmitOrder"] = answer
    explicit = submit_request("k1", venue="only", self_trade_prevention=9999)
    routed = submit_request("k2", self_trade_prevention=9999)
    for request in (explicit, routed):
        request.order.MergeFromString(UNKNOWN_FIELD)
        request.MergeFromString(UNKNOWN_FIELD)
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        answers = [await orders(channel).SubmitOrder(one, timeout=5) for one in (explicit, routed)]
    sent = gateway.submits()
    assert sent[0] == explicit
    assert sent[0].SerializeToString() == explicit.SerializeToString()
    routed.order.venue = "only"
    assert sent[1].SerializeToString(deterministic=True) == routed.SerializeToString(deterministic=True)
    for one in answers:
        assert (one.outcome, one.order.status, one.order.terms.self_trade_prevention) == (9999, 9999, 9999)
        assert one.SerializeToString().count(UNKNOWN_FIELD) == 3


async def test_list_over_venues_when_one_is_down_gives_the_rest_and_names_it(broker: Broker) -> None:
    """Positions of the venue that answers, and the other in the trailing metadata."""
    here, gone = Gateway("here"), await away("gone")
    async with gateways(here), running(broker.url, here, gone) as (router, channel):
        await until(router, lambda: router.venues.get("gone").known_down)
        stub = account_service_pb2_grpc.AccountServiceStub(channel)
        call = stub.ListPositions(account_service_pb2.ListPositionsRequest(account_id=ACCOUNT), timeout=5)
        answer = await call
        trailers = [value for key, value in await call.trailing_metadata() if key == "x-venuemesh-unreached"]
    assert [one.venue for one in answer.positions] == ["here"]
    assert len(trailers) == 1
    assert trailers[0].startswith("gone: GATEWAY_UNAVAILABLE")


async def test_venue_down_at_start_is_listed_as_down_and_used_once_it_comes(broker: Broker) -> None:
    """ListVenues names it with the cause; health of its name follows; no restart is needed."""
    here, late = Gateway("here"), await away("late")
    async with gateways(here), running(broker.url, here, late) as (router, channel):
        await until(router, lambda: router.venues.get("late").known_down)
        stub = venue_service_pb2_grpc.VenueServiceStub(channel)
        before = await stub.ListVenues(venue_service_pb2.ListVenuesRequest(), timeout=5)
        await health_becomes(channel, "venue/late", health_pb2.HealthCheckResponse.NOT_SERVING)
        await health_becomes(channel, "venue/here", health_pb2.HealthCheckResponse.SERVING)
        async with gateways(late):
            await health_becomes(channel, "venue/late", health_pb2.HealthCheckResponse.SERVING)
            # SERVING means usable: what it lists was read before.
            assert router.venues.get("late").view(SYMBOL).instrument is not None
            answer = await orders(channel).SubmitOrder(submit_request(venue="late"), timeout=5)
            await late.set_serving(False)
            await health_becomes(channel, "venue/late", health_pb2.HealthCheckResponse.NOT_SERVING)
    states = {one.venue: one.status.state for one in before.venues}
    assert states == {"here": venue_pb2.VENUE_STATE_TRADING, "late": venue_pb2.VENUE_STATE_DOWN}
    assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_cancel_without_venue_finds_the_order_by_route_and_by_asking(broker: Broker) -> None:
    """By its route, by the caller's id at an unknown venue, and by our id."""
    one, two = Gateway("one", ask="100"), Gateway("two", ask="200")
    async with gateways(one, two), running(broker.url, one, two) as (_, channel):
        stub = orders(channel)
        await stub.SubmitOrder(submit_request("routed"), timeout=5)
        await stub.SubmitOrder(submit_request("named", venue="two"), timeout=5)
        answers = [
            await stub.CancelOrder(order_service_pb2.CancelOrderRequest(reference=name), timeout=5)
            for name in (
                reference(client_order_id="routed"),
                reference(client_order_id="named"),
                reference(order_id="two-named"),
            )
        ]
        missing = order_service_pb2.CancelOrderRequest(reference=reference(order_id="nowhere"))
        error = await refused(stub.CancelOrder(missing, timeout=5))
    assert [answer.order.order_id for answer in answers] == ["one-routed", "two-named", "two-named"]
    assert error.reason is Reason.ORDER_NOT_FOUND


async def test_cancel_by_our_id_is_not_held_up_by_a_hung_venue(broker: Broker) -> None:
    """The venue that has the order answers; the other is no longer waited for."""
    good, hung = Gateway("good"), Gateway("hung")

    async def hang(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    hung.on["CancelOrder"] = hang
    async with gateways(good, hung), running(broker.url, good, hung) as (_, channel):
        await orders(channel).SubmitOrder(submit_request("k", venue="good"), timeout=5)
        wanted = order_service_pb2.CancelOrderRequest(reference=reference(order_id="good-k"))
        call = orders(channel).CancelOrder(wanted, timeout=60)
        async with asyncio.timeout(60):
            answer = await call
    assert answer.outcome == order_service_pb2.CANCEL_OUTCOME_CANCELED


async def test_cancel_is_repeated_on_unavailable_and_submit_is_not(broker: Broker) -> None:
    """Refused as away and as over a limit, then the cancel passes; the submit is asked once."""
    gateway = Gateway("only")
    tries = 0

    async def flaky(request: Any, context: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise RateLimited("one caller may make 500 calls per second", retry_after_s=0.02)
        if tries < 4:
            raise VenueUnavailable("the venue link is down")
        return order_service_pb2.CancelOrderResponse(outcome=order_service_pb2.CANCEL_OUTCOME_CANCELED)

    async def down(request: Any, context: Any) -> Any:
        raise VenueUnavailable("the venue link is down")

    gateway.on["CancelOrder"], gateway.on["SubmitOrder"] = flaky, down
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        wanted = order_service_pb2.CancelOrderRequest(reference=reference(client_order_id="x"))
        wanted.reference.venue = "only"
        answer = await orders(channel).CancelOrder(wanted, timeout=5)
        error = await refused(orders(channel).SubmitOrder(submit_request(venue="only"), timeout=5))
    assert (answer.outcome, tries) == (order_service_pb2.CANCEL_OUTCOME_CANCELED, 4)
    assert (error.reason, error.sent) == (Reason.VENUE_DISCONNECTED, Sent.NO)
    assert len(gateway.submits()) == 1


async def test_cancel_when_gateway_dies_mid_call_answers_unknown(broker: Broker) -> None:
    """The first attempt may have arrived, so the refused ones after it prove nothing."""
    gateway = Gateway("only")
    arrived = asyncio.Event()

    async def hang(request: Any, context: Any) -> Any:
        arrived.set()
        await asyncio.Event().wait()

    gateway.on["CancelOrder"] = hang
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        wanted = order_service_pb2.CancelOrderRequest(reference=reference(client_order_id="x"))
        wanted.reference.venue = "only"
        call = orders(channel).CancelOrder(wanted, timeout=10)
        async with asyncio.timeout(60):
            await arrived.wait()
        await gateway.kill()
        answer = await call
    assert answer.outcome == order_service_pb2.CANCEL_OUTCOME_UNKNOWN
    assert answer.order.terms.client_order_id == "x"


async def test_list_when_one_venue_hangs_gives_the_rest_before_the_deadline(broker: Broker) -> None:
    """The router keeps its reserve, so the answer with the missing part named arrives in time."""
    here, hung = Gateway("here"), Gateway("hung")

    async def hang(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    hung.on["ListPositions"] = hang
    async with gateways(here, hung), running(broker.url, here, hung, gateway={"reserve_s": 3.0}) as (_, channel):
        stub = account_service_pb2_grpc.AccountServiceStub(channel)
        call = stub.ListPositions(account_service_pb2.ListPositionsRequest(account_id=ACCOUNT), timeout=5)
        answer = await call
        trailers = [value for key, value in await call.trailing_metadata() if key == "x-venuemesh-unreached"]
    assert [one.venue for one in answer.positions] == ["here"]
    assert trailers[0].startswith("hung: ")


async def test_cancel_passes_while_submits_fill_their_bound(broker: Broker) -> None:
    """A full bulkhead refuses the next submit and lets a cancel through."""
    gateway = Gateway("only")
    arrived = asyncio.Event()

    async def hang(request: Any, context: Any) -> Any:
        arrived.set()
        await asyncio.Event().wait()

    gateway.on["SubmitOrder"] = hang
    async with gateways(gateway), running(broker.url, gateway, gateway={"max_submits": 1}) as (_, channel):
        held = orders(channel).SubmitOrder(submit_request("k1", venue="only"), timeout=30)
        async with asyncio.timeout(60):
            await arrived.wait()
        error = await refused(orders(channel).SubmitOrder(submit_request("k2", venue="only"), timeout=5))
        gateway.orders["k1"] = order_pb2.Order(order_id="only-k1", terms=new_order("k1"))
        wanted = order_service_pb2.CancelOrderRequest(reference=reference(client_order_id="k1"))
        answer = await orders(channel).CancelOrder(wanted, timeout=5)
        held.cancel()
    assert (error.reason, error.sent) == (Reason.RATE_LIMIT_LOCAL, Sent.NO)
    assert answer.outcome == order_service_pb2.CANCEL_OUTCOME_CANCELED


async def test_cancel_all_over_venues_reports_the_one_not_reached(broker: Broker) -> None:
    """What works at the other is not cancelled, and the answer says so."""
    here, gone = Gateway("here"), await away("gone")
    async with gateways(here), running(broker.url, here, gone) as (router, channel):
        await until(router, lambda: router.venues.get("gone").known_down)
        await orders(channel).SubmitOrder(submit_request("k", venue="here"), timeout=5)
        wanted = order_service_pb2.CancelAllOrdersRequest(account_id=ACCOUNT)
        answer = await orders(channel).CancelAllOrders(wanted, timeout=5)
    assert [one.order.order_id for one in answer.results] == ["here-k"]
    assert len(answer.unreached) == 1
    assert answer.unreached[0].startswith("gone: ")


async def test_pages_over_venues_give_every_order_once_while_new_ones_arrive(broker: Broker) -> None:
    """Newest first over both venues; orders made between two pages do not shift the rest."""
    one, two = Gateway("one"), Gateway("two")
    for number in range(20):
        made = Timestamp(seconds=1_000 + number)
        owner = one if number % 3 else two
        owner.listed_orders.append(order_pb2.Order(order_id=f"o{number}", created_time=made))
    request = order_service_pb2.ListOrdersRequest(account_id=ACCOUNT, page_size=4)
    seen: list[str] = []
    async with gateways(one, two), running(broker.url, one, two) as (_, channel):
        while True:
            page = await orders(channel).ListOrders(request, timeout=5)
            seen += [order.order_id for order in page.orders]
            late = Timestamp(seconds=2_000 + len(seen))
            one.listed_orders.append(order_pb2.Order(order_id=f"late{len(seen)}", created_time=late))
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        request.symbol = SYMBOL
        request.page_token = request.page_token or page.next_page_token
        error = await refused(orders(channel).ListOrders(request, timeout=5))
    assert seen == [f"o{number}" for number in reversed(range(20))]
    assert (error.reason, error.field) == (Reason.INVALID_ARGUMENT, "page_token")


async def test_consolidated_book_names_levels_by_venue_and_who_was_left_out(broker: Broker) -> None:
    """Best first over both, the stale one left out with its cause."""
    one, two, stale = Gateway("one", bid="99", ask="101"), Gateway("two", bid="98", ask="100"), Gateway("stale")
    stale.book_freshness = 2
    async with gateways(one, two, stale), running(broker.url, one, two, stale) as (_, channel):
        stub = market_data_service_pb2_grpc.MarketDataServiceStub(channel)
        request = market_data_service_pb2.GetOrderBookRequest(symbol=SYMBOL)
        book = (await stub.GetOrderBook(request, timeout=5)).order_book
    assert [(level.price, level.venue) for level in book.asks] == [("100", "two"), ("101", "one")]
    assert [(level.price, level.venue) for level in book.bids] == [("99", "one"), ("98", "two")]
    assert list(book.left_out) == ["stale: stale: scripted"]


async def test_unknown_venue_and_unserved_method_are_refused_with_their_reasons(broker: Broker) -> None:
    """VENUE_NOT_FOUND names the field; a method the router does not serve answers NOT_IMPLEMENTED."""
    gateway = Gateway("only")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        unknown = await refused(orders(channel).SubmitOrder(submit_request(venue="nowhere"), timeout=5))
        operations = operations_service_pb2_grpc.OperationsServiceStub(channel)
        unserved = await refused(
            operations.StreamAlerts(operations_service_pb2.StreamAlertsRequest(), timeout=5).read()
        )
    assert (unknown.reason, unknown.field) == (Reason.VENUE_NOT_FOUND, "order.venue")
    assert (unserved.reason, unserved.code) == (Reason.NOT_IMPLEMENTED, grpc.StatusCode.UNIMPLEMENTED)


async def test_doubts_and_differences_of_all_venues_come_in_one_list(broker: Broker) -> None:
    """Longest uncertain first, newest difference first; a venue named is the only one asked."""
    one, three = Gateway("one"), Gateway("three")
    async with gateways(one, three), running(broker.url, one, three) as (_, channel):
        stub = reconciliation_service_pb2_grpc.ReconciliationServiceStub(channel)
        doubts = await stub.ListUncertainOrders(
            reconciliation_service_pb2.ListUncertainOrdersRequest(account_id=ACCOUNT), timeout=5
        )
        assert [row.order.order_id for row in doubts.uncertain_orders] == ["stuck-one", "stuck-three"]
        found = await stub.ListDiscrepancies(reconciliation_service_pb2.ListDiscrepanciesRequest(), timeout=5)
        assert [row.venue for row in found.discrepancies] == ["three", "one"]
        found = await stub.ListDiscrepancies(
            reconciliation_service_pb2.ListDiscrepanciesRequest(venue="one"), timeout=5
        )
        assert [row.venue for row in found.discrepancies] == ["one"]


async def test_operators_act_finds_the_orders_venue(broker: Broker) -> None:
    """By asking around, as a cancel does; the gateway reads who, why and the key as they were given."""
    one, two = Gateway("one"), Gateway("two")
    async with gateways(one, two), running(broker.url, one, two) as (_, channel):
        placed = await orders(channel).SubmitOrder(submit_request(venue="two"), timeout=5)
        stub = reconciliation_service_pb2_grpc.ReconciliationServiceStub(channel)
        request = reconciliation_service_pb2.ResolveUncertainOrderRequest(
            resolution=reconciliation_service_pb2.RESOLUTION_QUERY, operator="ops-1", reason="why", request_id="r-1"
        )
        request.reference.order_id = placed.order.order_id
        answer = await stub.ResolveUncertainOrder(request, timeout=5)
        assert answer.order.order_id == placed.order.order_id
        (asked,) = [one for one in two.requests if one.DESCRIPTOR.name == "ResolveUncertainOrderRequest"]
        assert (asked.reference.venue, asked.operator, asked.reason, asked.request_id) == ("two", "ops-1", "why", "r-1")
