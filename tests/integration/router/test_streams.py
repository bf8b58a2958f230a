"""Streams of a gateway through the router."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from tests.broker import Broker
from tests.integration.router.support import ACCOUNT, Gateway, gateways, orders, refused, running
from venuemesh.errors import Reason, ResumeExpired
from venuemesh.v1 import event_pb2, stream_pb2, venue_pb2, venue_service_pb2, venue_service_pb2_grpc
from venuemesh.v1 import order_service_pb2 as pb

REQUEST = pb.StreamExecutionReportsRequest(account_id=ACCOUNT, venue="only")


def event(sequence: int) -> pb.StreamExecutionReportsResponse:
    header = stream_pb2.StreamHeader(epoch="e1", sequence=sequence, previous_sequence=sequence - 1)
    return pb.StreamExecutionReportsResponse(header=header, event=event_pb2.Event(event_id=str(sequence)))


async def three_then_wait(request: Any) -> AsyncIterator[Any]:
    yield pb.StreamExecutionReportsResponse(acknowledgement=stream_pb2.StreamAcknowledgement(stream_id="s"))
    yield event(1)
    yield event(2)
    await asyncio.Event().wait()


async def rest(call: Any) -> list[Any]:
    """The messages still to come, of a call read one by one before."""
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return messages


async def test_stream_passes_messages_unchanged_and_its_cancel_reaches_the_gateway(broker: Broker) -> None:
    """Headers and bodies as sent; a client that goes away ends the gateway's stream."""
    gateway = Gateway("only")
    gateway.stream_script = three_then_wait
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        call = orders(channel).StreamExecutionReports(REQUEST)
        messages = [await call.read() for _ in range(3)]
        call.cancel()
        async with asyncio.timeout(60):
            await gateway.stream_cancelled.wait()
    assert messages[0].acknowledgement.stream_id == "s"
    assert messages[1:] == [event(1), event(2)]


async def test_stream_when_gateway_goes_away_closes_with_source_lost_and_position(broker: Broker) -> None:
    """The closing notice names where to resume."""
    gateway = Gateway("only")
    gateway.stream_script = three_then_wait
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        call = orders(channel).StreamExecutionReports(REQUEST)
        for _ in range(3):
            await call.read()
        await gateway.kill()
        async with asyncio.timeout(60):
            last = await rest(call)
    assert [one.WhichOneof("body") for one in last] == ["closing"]
    assert last[0].closing.reason == stream_pb2.CLOSING_REASON_SOURCE_LOST
    assert (last[0].closing.resume_after.epoch, last[0].closing.resume_after.sequence) == ("e1", 2)


async def test_stream_when_router_drains_closes_with_draining_and_position(broker: Broker) -> None:
    """A planned end is announced by the router itself."""
    gateway = Gateway("only")
    gateway.stream_script = three_then_wait
    async with gateways(gateway), running(broker.url, gateway) as (router, channel):
        call = orders(channel).StreamExecutionReports(REQUEST)
        for _ in range(3):
            await call.read()
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(router.server.drain_and_stop())
            last = await rest(call)
    assert [one.closing.reason for one in last] == [stream_pb2.CLOSING_REASON_DRAINING]
    assert last[0].closing.resume_after.sequence == 2


async def test_stream_ended_by_the_gateways_own_notice_gets_no_second_one(broker: Broker) -> None:
    """The gateway's closing is the last message."""
    gateway = Gateway("only")

    async def close(request: Any) -> AsyncIterator[Any]:
        yield event(1)
        notice = stream_pb2.StreamClosing(reason=stream_pb2.CLOSING_REASON_SLOW_CONSUMER)
        yield pb.StreamExecutionReportsResponse(closing=notice)

    gateway.stream_script = close
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        call = orders(channel).StreamExecutionReports(REQUEST)
        got = [message async for message in call]
    assert [one.WhichOneof("body") for one in got] == ["event", "closing"]
    assert got[1].closing.reason == stream_pb2.CLOSING_REASON_SLOW_CONSUMER


async def test_stream_refused_by_the_gateway_or_without_venue_is_an_error(broker: Broker) -> None:
    """The gateway's reason passes; a stream of no venue has no numbering."""
    gateway = Gateway("only")

    async def expired(request: Any) -> AsyncIterator[Any]:
        raise ResumeExpired("older than what is kept")
        yield

    gateway.stream_script = expired
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        stub = orders(channel)
        one = await refused(anext(aiter(stub.StreamExecutionReports(REQUEST))))
        nameless = pb.StreamExecutionReportsRequest(account_id=ACCOUNT)
        two = await refused(anext(aiter(stub.StreamExecutionReports(nameless))))
    assert one.reason is Reason.RESUME_POSITION_EXPIRED
    assert (two.reason, two.field) == (Reason.REQUIRED_FIELD_MISSING, "venue")


async def test_slow_reader_holds_the_gateways_stream_instead_of_filling_the_router(broker: Broker) -> None:
    """The gateway cannot send more than flow control lets through while nobody reads."""
    gateway = Gateway("only")
    sent = 0
    text = "x" * 64_000

    async def flood(request: Any) -> AsyncIterator[Any]:
        nonlocal sent
        for number in range(2_000):
            message = event(number + 1)
            message.event.correlation_id = text
            yield message
            sent += 1

    gateway.stream_script = flood
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        call = orders(channel).StreamExecutionReports(REQUEST)
        await call.read()
        # Calls served meanwhile show that time passes for the stream, too.
        status = venue_service_pb2_grpc.VenueServiceStub(channel)
        for _ in range(100):
            await status.GetVenue(venue_service_pb2.GetVenueRequest(venue="only"), timeout=5)
        held = sent
        call.cancel()
    assert held < 600


async def test_status_stream_shows_each_venue_and_each_change(broker: Broker) -> None:
    """The router's own stream: acknowledgement, states, and DOWN once the gateway is gone."""
    gateway = Gateway("only")
    request = venue_service_pb2.StreamVenueStatusRequest()
    request.options.resume_after.sequence = 7
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        call = venue_service_pb2_grpc.VenueServiceStub(channel).StreamVenueStatus(request)
        opening = [await call.read(), await call.read()]
        await gateway.kill()
        async with asyncio.timeout(60):
            message = await call.read()
            while message.venue_status.state != venue_pb2.VENUE_STATE_DOWN:
                message = await call.read()
        call.cancel()
    assert opening[0].acknowledgement.results[0].subscription == "only"
    assert opening[0].acknowledgement.resume_outcome == stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD
    assert opening[1].venue_status.state == venue_pb2.VENUE_STATE_TRADING
    assert message.header.previous_sequence < message.header.sequence
    assert message.venue_status.cause
