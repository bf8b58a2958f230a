"""Order sessions through the router: routed as every order is, and each order held by a session at its gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.broker import Broker
from tests.integration.router.support import (
    ACCOUNT,
    WAIT_S,
    Gateway,
    ScriptedSession,
    gateways,
    new_order,
    orders,
    refused,
    running,
)
from tests.integration.router.test_split import LIMIT, parts, thin_pair
from venuemesh.errors import NotYetImplemented, Reason
from venuemesh.gateway.orders import reason_number
from venuemesh.v1 import event_pb2, order_pb2, stream_pb2
from venuemesh.v1 import order_service_pb2 as wire

LEASE = Duration(seconds=30)


class Session:
    """The caller's side of a session."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.call = orders(channel).OpenOrderSession()
        self.stream_id = ""

    async def send(self, **body: Any) -> None:
        await self.call.write(wire.OpenOrderSessionRequest(**body))

    async def submit(self, key: str, **changes: Any) -> None:
        await self.send(submit=wire.SubmitOrderRequest(order=new_order(key, **changes)))

    async def next(self, body: str) -> wire.OpenOrderSessionResponse:
        """The next message of this kind; heartbeats and others are passed over."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message = await self.call.read()
                assert message is not grpc.aio.EOF, f"ended without {body}"
                if message.WhichOneof("body") == body:
                    found: wire.OpenOrderSessionResponse = message
                    return found

    async def over(self) -> list[Any]:
        """What is still told, to the end of the stream."""
        told = []
        async with asyncio.timeout(WAIT_S):
            while (message := await self.call.read()) is not grpc.aio.EOF:
                told.append(message)
        return told


@asynccontextmanager
async def logged_on(channel: grpc.aio.Channel, **changes: Any) -> AsyncIterator[Session]:
    """A session that cancels on disconnect; its call is broken at the end of the block."""
    session = Session(channel)
    try:
        await session.send(
            logon=wire.SessionLogon(**{"account_id": ACCOUNT, "cancel_on_disconnect": True, "lease": LEASE, **changes})
        )
        session.stream_id = (await session.next("acknowledgement")).acknowledgement.stream_id
        yield session
    finally:
        session.call.cancel()


def only(gateway: Gateway) -> ScriptedSession:
    """The one session that was opened at a gateway."""
    (session,) = gateway.sessions.values()
    return session


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(WAIT_S):
        await event.wait()


async def test_order_that_names_its_venue_joins_a_session_at_its_gateway(broker: Broker) -> None:
    """Which is logged on with the caller's terms when the first order needs it, and serves the later ones."""
    gateway, other = Gateway("one"), Gateway("two")
    async with gateways(gateway, other), running(broker.url, gateway, other) as (_, channel):
        async with logged_on(channel) as session:
            for key in ("k1", "k2"):
                await session.submit(key, venue="one")
                answer = await session.next("submitted")
                assert answer.submitted.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
            assert answer.request_number == 3
            leg = only(gateway)
            assert leg.logon == wire.SessionLogon(
                account_id=ACCOUNT, cancel_on_disconnect=True, lease=LEASE, venue="one"
            )
            assert [request.session_id for request in gateway.submits()] == [leg.session_id] * 2
            assert other.sessions == {}
        await happens(leg.over)


async def test_parts_of_a_split_join_a_session_each_and_the_order_is_cancelled_as_one(broker: Broker) -> None:
    """What the router decides is what it decides without a session."""
    one, two = thin_pair()
    async with gateways(one, two), running(broker.url, one, two) as (_, channel), logged_on(channel) as session:
        await session.submit("k1", quantity="8", **LIMIT)
        answer = (await session.next("submitted")).submitted
        assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert (parts(one), parts(two)) == (["5"], ["3"])
        for gateway in (one, two):
            assert [request.session_id for request in gateway.submits()] == [only(gateway).session_id]
        await session.send(cancel=wire.CancelOrderRequest(reference=wire.OrderReference(client_order_id="k1")))
        assert (await session.next("canceled")).canceled.outcome == wire.CANCEL_OUTCOME_CANCELED


async def test_events_of_the_gateways_come_through_unchanged(broker: Broker) -> None:
    """Numbered as the stream's own, for those of several venues have no common numbering."""
    gateway = Gateway("one")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel), logged_on(channel) as session:
        await session.submit("k1", venue="one")
        await session.next("submitted")
        event = event_pb2.Event(event_id="e1", sequence=77, venue="one")
        only(gateway).tell(event=event)
        message = await session.next("event")
        assert message.event == event and message.header.epoch == session.stream_id


async def test_session_that_is_ended_ends_those_at_the_gateways(broker: Broker) -> None:
    """By their half-close, so that what becomes of the orders is still heard; then the caller is told."""
    gateway = Gateway("one")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel), logged_on(channel) as session:
        await session.submit("k1", venue="one")
        await session.next("submitted")
        await session.call.done_writing()
        await happens(only(gateway).half_closed)
        told = await session.over()
        assert told[-1].closing.reason == stream_pb2.CLOSING_REASON_LOGGED_OUT
        assert not told[-1].closing.HasField("resume_after")


async def test_caller_that_breaks_away_ends_those_at_the_gateways(broker: Broker) -> None:
    """The gateways cancel what there is."""
    gateway = Gateway("one")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        async with logged_on(channel) as session:
            await session.submit("k1", venue="one")
            await session.next("submitted")
        await happens(only(gateway).over)


async def test_silent_caller_ends_those_at_the_gateways(broker: Broker) -> None:
    """Its lease is watched here; the gateways hear the router meanwhile."""
    gateway = Gateway("one")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        async with logged_on(channel, lease=Duration(seconds=4)) as session:
            await session.submit("k1", venue="one")
            assert (await session.next("closing")).closing.reason == stream_pb2.CLOSING_REASON_LEASE_EXPIRED
        await happens(only(gateway).over)


async def test_router_keeps_the_lease_at_the_gateway(broker: Broker) -> None:
    """The caller's own heartbeats end here."""
    gateway = Gateway("one")
    async with (
        gateways(gateway),
        running(broker.url, gateway) as (_, channel),
        logged_on(channel, lease=Duration(seconds=9)) as session,
    ):
        await session.submit("k1", venue="one")
        await session.next("submitted")
        await happens(only(gateway).news)
        assert only(gateway).heard[0].WhichOneof("body") == "heartbeat"


async def test_session_ends_when_one_at_a_gateway_is_lost(broker: Broker) -> None:
    """Its orders are being cancelled there, so the caller must know; the others end with it."""
    one, two = Gateway("one"), Gateway("two")
    async with gateways(one, two), running(broker.url, one, two) as (_, channel), logged_on(channel) as session:
        for venue in ("one", "two"):
            await session.submit(f"k-{venue}", venue=venue)
            await session.next("submitted")
        await one.kill()
        assert (await session.next("closing")).closing.reason == stream_pb2.CLOSING_REASON_SOURCE_LOST
        await happens(only(two).over)


async def test_gateway_that_closes_its_session_ends_the_session(broker: Broker) -> None:
    """As a gateway does that drains."""
    gateway = Gateway("one")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel), logged_on(channel) as session:
        await session.submit("k1", venue="one")
        await session.next("submitted")
        only(gateway).tell(closing=stream_pb2.StreamClosing(reason=stream_pb2.CLOSING_REASON_DRAINING))
        assert (await session.next("closing")).closing.reason == stream_pb2.CLOSING_REASON_SOURCE_LOST


async def test_router_that_drains_ends_those_at_the_gateways_first(broker: Broker) -> None:
    """Nobody would keep their leases."""
    gateway = Gateway("one")
    async with gateways(gateway), running(broker.url, gateway) as (router, channel), logged_on(channel) as session:
        await session.submit("k1", venue="one")
        await session.next("submitted")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(router.server.drain_and_stop())
            assert (await session.next("closing")).closing.reason == stream_pb2.CLOSING_REASON_DRAINING
            assert only(gateway).half_closed.is_set()


async def test_gateway_that_opens_no_session_gets_no_order(broker: Broker) -> None:
    """An order that nobody would watch over must not be sent; the session goes on."""
    gateway, other = Gateway("one"), Gateway("two")

    async def refuse(requests: Any, context: Any) -> None:
        raise NotYetImplemented("OpenOrderSession is not served yet")

    gateway.on["OpenOrderSession"] = refuse
    async with (
        gateways(gateway, other),
        running(broker.url, gateway, other) as (_, channel),
        logged_on(channel) as session,
    ):
        await session.submit("k1", venue="one")
        error = (await session.next("error")).error
        assert error.error.reason == reason_number(Reason.NOT_IMPLEMENTED)
        assert gateway.submits() == []
        await session.submit("k2", venue="two")
        assert (await session.next("submitted")).submitted.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_request_that_cannot_be_attempted_is_answered_and_the_session_goes_on(broker: Broker) -> None:
    """With the reason that the method gives."""
    gateway = Gateway("one")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel), logged_on(channel) as session:
        reference = wire.OrderReference(client_order_id="never")
        for body, reason in (
            ({"submit": wire.SubmitOrderRequest(order=new_order("k", venue="nowhere"))}, Reason.VENUE_NOT_FOUND),
            ({"submit": wire.SubmitOrderRequest(order=new_order("k", account_id="x"))}, Reason.CONTRADICTORY_FIELDS),
            ({"submit": wire.SubmitOrderRequest(order=new_order("k", symbol="?"))}, Reason.INSTRUMENT_NOT_FOUND),
            ({"cancel": wire.CancelOrderRequest(reference=reference)}, Reason.ORDER_NOT_FOUND),
            ({"cancel": wire.CancelOrderRequest()}, Reason.REQUIRED_FIELD_MISSING),
            ({}, Reason.REQUIRED_FIELD_MISSING),
        ):
            await session.send(**body)
            assert (await session.next("error")).error.error.reason == reason_number(reason), body


async def test_submit_that_names_the_routers_session_joins_it(broker: Broker) -> None:
    """And one that names another is refused before anything is sent."""
    gateway = Gateway("one")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel), logged_on(channel) as session:
        order = new_order("k1", venue="one")
        joined = wire.SubmitOrderRequest(order=order, session_id=session.stream_id)
        await orders(channel).SubmitOrder(joined, timeout=WAIT_S)
        assert gateway.submits()[0].session_id == only(gateway).session_id
        for wrong in ("never", only(gateway).session_id):
            request = wire.SubmitOrderRequest(order=new_order("k2", venue="one"), session_id=wrong)
            error = await refused(orders(channel).SubmitOrder(request, timeout=WAIT_S))
            assert (error.reason, error.field) == (Reason.SESSION_GONE, "session_id")
        assert len(gateway.submits()) == 1


@pytest.mark.parametrize(
    ("logon", "reason", "field"),
    [
        ({"account_id": "nobody"}, Reason.ACCOUNT_NOT_FOUND, "logon.account_id"),
        ({"account_id": ACCOUNT, "venue": "nowhere"}, Reason.VENUE_NOT_FOUND, "logon.venue"),
        ({"account_id": ACCOUNT, "lease": Duration(seconds=61)}, Reason.INVALID_ARGUMENT, "logon.lease"),
        ({"account_id": ""}, Reason.REQUIRED_FIELD_MISSING, "logon.account_id"),
    ],
)
async def test_logon_that_breaks_a_rule_is_refused_by_field(
    broker: Broker, logon: dict[str, Any], reason: Reason, field: str
) -> None:
    """Nothing is opened anywhere."""
    gateway = Gateway("one")
    async with gateways(gateway), running(broker.url, gateway) as (_, channel):
        session = Session(channel)
        await session.send(logon=wire.SessionLogon(**logon))
        error = await refused(session.call.read())
        assert (error.reason, error.field) == (reason, field)
        assert gateway.sessions == {}


async def test_session_of_one_venue_sends_its_orders_there(broker: Broker) -> None:
    """Without a choice by the router; another venue is refused by name."""
    one, two = Gateway("one", ask="101"), Gateway("two", ask="100")
    async with (
        gateways(one, two),
        running(broker.url, one, two) as (_, channel),
        logged_on(channel, venue="one") as session,
    ):
        await session.submit("k1", venue="")
        answer = (await session.next("submitted")).submitted
        assert answer.order.terms.venue == "one" and answer.order.terms.side == order_pb2.SIDE_BUY
        await session.submit("k2", venue="two")
        assert "submit.order.venue" in (await session.next("error")).error.error.message
