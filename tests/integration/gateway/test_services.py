"""A gateway over real gRPC and JetStream: bad input, keys, batches, streams that lose and double nothing, drain."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.broker import Broker
from tests.fakes_venue import BTC, ETH, Held, levels
from tests.integration.gateway.served_gateway import SMALL_WINDOW, Gateway, connected, new_order, serving_gateway
from venuemesh.errors import MeshError, Reason, Sent
from venuemesh.status import error_from_rpc
from venuemesh.v1 import account_service_pb2, market_data_service_pb2, order_pb2, stream_pb2, venue_service_pb2
from venuemesh.v1 import order_service_pb2 as wire
from venuemesh.v1.account_service_pb2_grpc import AccountServiceStub


async def refusal(call: Any) -> MeshError:
    """The error a call ends with, as another service would read it."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value, is_write=True)


BAD_INPUT: list[tuple[dict[str, Any], Reason, str]] = [
    ({"symbol": "NOPE/USDC:USDC"}, Reason.INSTRUMENT_NOT_FOUND, "order.symbol"),
    ({"quantity": "0"}, Reason.QUANTITY_NOT_POSITIVE, "order.quantity"),
    ({"quantity": "-2"}, Reason.QUANTITY_NOT_POSITIVE, "order.quantity"),
    ({"quantity": "1.0005"}, Reason.QUANTITY_OFF_LOT, "order.quantity"),
    ({"price": "100.3"}, Reason.PRICE_OFF_TICK, "order.price"),
    ({"quantity": "0.01"}, Reason.BELOW_MIN_NOTIONAL, "order.quantity"),
    ({"price": None}, Reason.REQUIRED_FIELD_MISSING, "order.price"),
    ({"side": 0}, Reason.REQUIRED_FIELD_MISSING, "order.side"),
    ({"client_order_id": "x" * 37}, Reason.INVALID_CLIENT_ORDER_ID, "order.client_order_id"),
    ({"quantity": "1e2"}, Reason.INVALID_DECIMAL, "order.quantity"),
]


async def test_bad_input_is_refused_before_send_with_reason_and_field(broker: Broker) -> None:
    """Every fault of the list, on the wire: reason, field, sent = no; the venue saw nothing."""
    async with serving_gateway(broker) as gateway:
        for changes, reason, field in BAD_INPUT:
            error = await refusal(gateway.submit("key-1", **changes))
            assert (error.reason, error.field, error.sent) == (reason, field, Sent.NO), changes
        assert gateway.venue.placed == []
        await gateway.submit("key-1")
        error = await refusal(gateway.submit("key-1", quantity="2"))
        assert (error.reason, error.field) == (Reason.CLIENT_ORDER_ID_REUSED, "order.client_order_id")
        assert error.code is grpc.StatusCode.ALREADY_EXISTS
        assert len(gateway.venue.placed) == 1


async def test_flood_big_messages_and_too_many_streams_are_bounded_and_told(broker: Broker) -> None:
    """By configured limits, each with its name."""
    async with serving_gateway(broker, streams_per_peer=3, streams_total=5, max_concurrent_streams=100) as gateway:
        big = new_order("key-1", tags={"k": "x" * 10_000_000})
        error = await refusal(gateway.orders.SubmitOrder(wire.SubmitOrderRequest(order=big), timeout=10))
        assert error.reason is Reason.MESSAGE_TOO_LARGE
        request = venue_service_pb2.StreamVenueStatusRequest()
        open_streams = [gateway.venues.StreamVenueStatus(request) for _ in range(3)]
        for stream in open_streams:
            await stream.read()
        error = await refusal(gateway.venues.StreamVenueStatus(request).read())
        assert (error.reason, error.metadata["limit"]) == (Reason.TOO_MANY_STREAMS, "streams_per_peer")
        for stream in open_streams:
            stream.cancel()
    async with serving_gateway(broker, calls_per_second=1.0, call_burst=5) as gateway:
        calls = [gateway.venues.ListVenues(venue_service_pb2.ListVenuesRequest(), timeout=10) for _ in range(20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        failed = [error_from_rpc(r, is_write=False) for r in results if isinstance(r, grpc.aio.AioRpcError)]
        assert len(failed) >= 14
        assert {error.reason for error in failed} == {Reason.RATE_LIMIT_LOCAL}
        assert all(error.retry_after_s for error in failed)


async def test_one_key_twice_at_once_is_one_venue_order_also_over_a_restart(broker: Broker) -> None:
    """The repeat gets the first result, marked as such, from memory and from the journal."""
    async with serving_gateway(broker) as gateway:
        release = asyncio.Event()
        gateway.venue.script("place_order", Held(release))
        calls = [asyncio.create_task(gateway.submit("key-1")) for _ in range(5)]
        while not gateway.venue.placed:
            await asyncio.sleep(0)
        release.set()
        answers = await asyncio.gather(*calls)
        assert sorted(answer.replayed for answer in answers) == [False, True, True, True, True]
        assert {answer.order.order_id for answer in answers} == {answers[0].order.order_id}
        assert {answer.outcome for answer in answers} == {wire.SUBMIT_OUTCOME_ACKNOWLEDGED}
        await gateway.core.log.flush()
        venue = gateway.venue
    async with serving_gateway(broker, venue=venue) as gateway:
        again = await gateway.submit("key-1")
        assert (again.replayed, again.outcome) == (True, wire.SUBMIT_OUTCOME_ACKNOWLEDGED)
        assert again.order.order_id == answers[0].order.order_id
        assert len(venue.placed) == 1
        error = await refusal(gateway.submit("key-1", price="101"))
        assert error.reason is Reason.CLIENT_ORDER_ID_REUSED


async def test_batch_with_one_bad_element_places_the_rest(broker: Broker) -> None:
    """200 orders, every tenth bad: each has its own answer, in its place."""
    async with serving_gateway(broker) as gateway:
        batch = [new_order(f"key-{n}", quantity="0" if n % 10 == 3 else "1") for n in range(200)]
        response = await gateway.orders.BatchSubmitOrders(wire.BatchSubmitOrdersRequest(orders=batch), timeout=20)
        for number, result in enumerate(response.results):
            if number % 10 == 3:
                assert result.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
            else:
                assert result.response.order.terms.client_order_id == f"key-{number}"
                assert result.response.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert len(gateway.venue.placed) == 180
        batch.append(new_order("one-more"))
        error = await refusal(gateway.orders.BatchSubmitOrders(wire.BatchSubmitOrdersRequest(orders=batch)))
        assert (error.reason, error.field) == (Reason.INVALID_ARGUMENT, "orders")


def _follow(gateway: Gateway, after: int | None, stub: Any = None) -> Any:
    request = account_service_pb2.StreamAccountEventsRequest(account_id="main")
    if after is not None:
        request.options.CopyFrom(gateway.resume_after(after))
    return (stub or gateway.accounts).StreamAccountEvents(request)


def _content(message: Any) -> bytes:
    return (message.event if message.WhichOneof("body") == "event" else message.status).SerializeToString(
        deterministic=True
    )


def _stored(event: Any) -> bytes:
    return (event.stream_status if event.HasField("stream_status") else event).SerializeToString(deterministic=True)


@pytest.mark.parametrize("seed", [1, 2])
async def test_stream_resumed_after_random_disconnects_equals_the_journal(broker: Broker, seed: int) -> None:
    """Property 41: wherever the connection is cut, also by the broker's restart, nothing is lost or doubled."""
    rng = random.Random(seed)
    async with serving_gateway(broker) as gateway:
        got: list[tuple[int, bytes]] = []
        done = asyncio.Event()

        async def produce() -> None:
            for number in range(40):
                await gateway.trade(f"key-{number}", symbol=rng.choice([BTC, ETH]))
                if number == 20:
                    await broker.stop(signal.SIGKILL)
                    gateway.venue.fund("main", "while-away", "-0.1")
                    await broker.start()
                    while not gateway.core.serving:
                        await asyncio.sleep(0.01)
            await gateway.core.log.flush()
            done.set()

        async def read() -> None:
            after = 0
            while not (done.is_set() and after == gateway.core.log.sequence("main")):
                stream = _follow(gateway, after)
                try:
                    for _ in range(rng.randrange(2, 30)):
                        message = await stream.read()
                        if message is grpc.aio.EOF or (done.is_set() and message.WhichOneof("body") == "heartbeat"):
                            break
                        if message.WhichOneof("body") in ("event", "status"):
                            assert message.header.previous_sequence == after
                            after = message.header.sequence
                            got.append((after, _content(message)))
                        if done.is_set() and after == gateway.core.log.sequence("main"):
                            break
                except grpc.aio.AioRpcError as error:
                    # The broker is away: the position stays good.
                    assert error.code() is grpc.StatusCode.UNAVAILABLE, error
                finally:
                    stream.cancel()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            tasks.create_task(produce())
        journal = [(event.sequence, _stored(event)) for event in await gateway.journal()]
        assert got == journal
        assert [sequence for sequence, _ in got] == list(range(1, len(got) + 1))


async def test_resume_over_a_restart_of_the_gateway_equals_the_journal(broker: Broker) -> None:
    """The numbering goes on where it was; the reader does not notice which process it is."""
    async with serving_gateway(broker) as gateway:
        for number in range(5):
            await gateway.trade(f"key-{number}")
        await gateway.core.log.flush()
        middle = gateway.core.log.sequence("main") - 7
        venue = gateway.venue
    async with serving_gateway(broker, venue=venue) as gateway:
        await gateway.trade("key-9")
        journal = [(e.sequence, _stored(e)) for e in await gateway.journal() if e.sequence > middle]
        stream = _follow(gateway, middle)
        assert (await stream.read()).acknowledgement.resume_outcome == stream_pb2.RESUME_OUTCOME_RESUMED
        got = [await stream.read() for _ in journal]
        assert [(message.header.sequence, _content(message)) for message in got] == journal
        stream.cancel()


async def test_slow_reader_is_closed_with_a_usable_position_and_hurts_nobody(broker: Broker) -> None:
    """Its queue overflows while another reader of the same account gets every event as it comes."""
    async with serving_gateway(broker, capacity=40) as gateway, connected(gateway.server.port, *SMALL_WINDOW) as other:
        slow = _follow(gateway, None, AccountServiceStub(other))
        quick = _follow(gateway, None)
        for stream in (slow, quick):
            assert (await stream.read()).WhichOneof("body") == "acknowledgement"
        last = (await quick.read()).header.sequence
        tags = {f"k{n}": "x" * 64 for n in range(16)}
        for number in range(150):
            await gateway.trade(f"key-{number}", tags=tags)
            await gateway.core.log.flush()
            while last < gateway.core.log.sequence("main"):
                message = await quick.read()
                assert message.header.previous_sequence == last
                last = message.header.sequence
        got: list[tuple[int, bytes]] = []
        begins = (await slow.read()).header.sequence
        while (message := await slow.read()).WhichOneof("body") != "closing":
            got.append((message.header.sequence, _content(message)))
        assert message.closing.reason == stream_pb2.CLOSING_REASON_SLOW_CONSUMER
        after = message.closing.resume_after.sequence
        assert after == got[-1][0] < last
        again = _follow(gateway, after)
        assert (await again.read()).acknowledgement.resume_outcome == stream_pb2.RESUME_OUTCOME_RESUMED
        while got[-1][0] < last:
            message = await again.read()
            got.append((message.header.sequence, _content(message)))
        journal = [(event.sequence, _stored(event)) for event in await gateway.journal()]
        assert got == [row for row in journal if row[0] > begins]
        for stream in (quick, again):
            stream.cancel()


async def test_drain_ends_every_stream_with_a_notice_and_ok(broker: Broker) -> None:
    """Order, account, market and venue streams say goodbye; those that can be resumed say where."""
    async with serving_gateway(broker) as gateway:
        await gateway.trade("key-1")
        await gateway.core.log.flush()
        streams = {
            "account": _follow(gateway, None),
            "orders": gateway.orders.StreamExecutionReports(wire.StreamExecutionReportsRequest(account_id="main")),
            "books": gateway.market_data.StreamOrderBook(market_data_service_pb2.StreamOrderBookRequest(symbols=[BTC])),
            "venue": gateway.venues.StreamVenueStatus(venue_service_pb2.StreamVenueStatusRequest()),
        }
        for stream in streams.values():
            await stream.read()
            await stream.read()
        draining = asyncio.create_task(gateway.server.drain_and_stop())
        for name, stream in streams.items():
            last = message = await stream.read()
            while message is not grpc.aio.EOF:
                last, message = message, await stream.read()
            assert last.closing.reason == stream_pb2.CLOSING_REASON_DRAINING, name
            assert last.closing.HasField("resume_after") == (name in ("account", "orders")), name
            assert await stream.code() is grpc.StatusCode.OK
        await draining


async def test_broker_away_refuses_orders_as_not_sent_and_returns_without_a_restart(broker: Broker) -> None:
    """No journal, no order; cancels pass; afterwards everything goes on."""
    async with serving_gateway(broker) as gateway:
        await gateway.submit("key-1")
        await gateway.core.log.flush()
        await broker.stop(signal.SIGKILL)
        while gateway.core.serving:
            await asyncio.sleep(0.01)
        error = await refusal(gateway.submit("key-2"))
        assert (error.reason, error.sent) == (Reason.JOURNAL_UNAVAILABLE, Sent.NO)
        reference = wire.OrderReference(account_id="main", client_order_id="key-1")
        answer = await gateway.orders.CancelOrder(wire.CancelOrderRequest(reference=reference), timeout=10)
        assert answer.outcome == wire.CANCEL_OUTCOME_CANCELED
        await broker.start()
        while not gateway.core.serving:
            await asyncio.sleep(0.01)
        assert (await gateway.submit("key-2")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        ended = [
            event.execution_report.order.status
            for event in await gateway.journal()
            if event.execution_report.order.terms.client_order_id == "key-1"
        ]
        assert ended[-1] == order_pb2.ORDER_STATUS_CANCELED


async def test_fills_and_orders_pages_over_the_wire(broker: Broker) -> None:
    """Lists read JetStream back, newest first, each row once."""
    async with serving_gateway(broker) as gateway:
        for number in range(12):
            await gateway.trade(f"key-{number}")
        await gateway.core.log.flush()
        names, token = [], ""
        while True:
            request = account_service_pb2.ListFillsRequest(account_id="main", page_size=5, page_token=token)
            response = await gateway.accounts.ListFills(request, timeout=10)
            names += [fill.execution_id for fill in response.fills]
            token = response.next_page_token
            if not token:
                break
        assert names == [fill.execution_id for fill in reversed(gateway.venue.fills["main"])]
        bad = account_service_pb2.ListFillsRequest(account_id="main", page_token="garbage")
        assert (await refusal(gateway.accounts.ListFills(bad))).field == "page_token"


async def test_books_stream_over_the_wire_from_snapshot_to_change(broker: Broker) -> None:
    """A client sees the feed begin, a book, and what changed."""
    async with serving_gateway(broker) as gateway:
        request = market_data_service_pb2.StreamOrderBookRequest(symbols=[BTC])
        stream = gateway.market_data.StreamOrderBook(request)
        kinds = [(await stream.read()).WhichOneof("body") for _ in range(2)]
        while not gateway.venue.watching:
            await asyncio.sleep(0)
        asks = levels(("101", "1"))
        gateway.venue.set_book(BTC, levels(("100", "1")), asks)
        kinds += [(await stream.read()).WhichOneof("body") for _ in range(2)]
        gateway.venue.set_book(BTC, levels(("100", "2")), asks)
        delta = await stream.read()
        kinds.append(delta.WhichOneof("body"))
        assert kinds == ["acknowledgement", "status", "status", "snapshot", "delta"]
        assert [(row.price, row.quantity) for row in delta.delta.bids] == [("100", "2")]
        stream.cancel()
