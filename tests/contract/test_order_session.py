"""Order sessions: requests and answers as the methods give them, and orders that live no longer than their session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.contract.client import CALL_S, Client
from tests.contract.refusals import reason_of, refused
from venuemesh.v1 import order_pb2, stream_pb2
from venuemesh.v1 import order_service_pb2 as wire

Message = wire.OpenOrderSessionResponse
LONG = Duration(seconds=60)


class Session:
    """A session at the gateway; messages that are not asked for wait."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.call = client.orders.OpenOrderSession()
        self._kept: list[Message] = []

    async def send(self, **body: Any) -> None:
        """Send a message with this body."""
        await self.call.write(wire.OpenOrderSessionRequest(**body))

    async def submit(self, **changes: Any) -> tuple[str, wire.SubmitOrderResponse]:
        """An order that rests, by the session: its key and the answer."""
        order = self.client.new_order(await self.client.quote(), **changes)
        await self.send(submit=wire.SubmitOrderRequest(order=order))
        return order.client_order_id, (await self.next("submitted")).submitted

    async def next(self, body: str, key: str = "", status: int = 0) -> Message:
        """The next message of this kind; of an event also of this order with this status."""
        async with asyncio.timeout(2 * CALL_S):
            while True:
                for place, message in enumerate(self._kept):
                    if message.WhichOneof("body") == body and _is_of(message, key, status):
                        return self._kept.pop(place)
                message = await self.call.read()
                assert message is not grpc.aio.EOF, f"the session ended without {body}"
                self._kept.append(message)


def _is_of(message: Message, key: str, status: int) -> bool:
    order = message.event.execution_report.order
    return not key or (order.terms.client_order_id == key and order.status == status)


@asynccontextmanager
async def logged_on(client: Client, **changes: Any) -> AsyncIterator[Session]:
    """A session that cancels on disconnect; its call is broken at the end of the block."""
    session = Session(client)
    fields = {"account_id": client.account_id, "cancel_on_disconnect": True, "lease": LONG, **changes}
    try:
        await session.send(logon=wire.SessionLogon(**fields))
        await session.next("acknowledgement")
        yield session
    finally:
        session.call.cancel()


async def test_session_submits_and_cancels(client: Client) -> None:
    """Answers name the message they are for, events are those of the session's own orders."""
    other = client.key()
    async with logged_on(client, venue=client.name) as session:
        key, answer = await session.submit()
        assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert answer.order.cancel_on_disconnect and answer.order.session_id
        await session.next("event", key, order_pb2.ORDER_STATUS_NEW)
        await client.rest(client_order_id=other)
        reference = wire.OrderReference(client_order_id=key)
        await session.send(cancel=wire.CancelOrderRequest(reference=reference))
        canceled = await session.next("canceled")
        assert (canceled.request_number, canceled.canceled.outcome) == (3, wire.CANCEL_OUTCOME_CANCELED)
        await session.next("event", key, order_pb2.ORDER_STATUS_CANCELED)
        assert not [message for message in session._kept if _is_of(message, other, order_pb2.ORDER_STATUS_NEW)]


async def test_session_repeats_a_key_as_the_method_does(client: Client) -> None:
    """One key is one order, whichever way it comes."""
    first = await client.rest()
    key = first.terms.client_order_id
    async with logged_on(client) as session:
        order = client.new_order(await client.quote(), client_order_id=key, price=first.terms.price)
        order.quantity = first.terms.quantity
        await session.send(submit=wire.SubmitOrderRequest(order=order))
        again = (await session.next("submitted")).submitted
        assert again.replayed and again.order.order_id == first.order_id and not again.order.cancel_on_disconnect
    assert (await client.order(key)).working


async def test_orders_end_with_the_call_that_breaks(client: Client) -> None:
    """Verified with the venue: they are terminal, and nobody else's are touched."""
    other = await client.rest()
    async with logged_on(client) as session:
        keys = [(await session.submit())[0] for _ in range(3)]
    for key in keys:
        assert (await client.until_terminal(key)).status == order_pb2.ORDER_STATUS_CANCELED
    assert (await client.order(other.terms.client_order_id)).working


async def test_orders_end_when_the_caller_stops_writing_and_it_hears_of_it(client: Client) -> None:
    """With a place at which the account's stream goes on."""
    async with logged_on(client) as session:
        key, _ = await session.submit()
        await session.call.done_writing()
        await session.next("event", key, order_pb2.ORDER_STATUS_CANCELED)
        closing = await session.next("closing")
        assert closing.closing.reason == stream_pb2.CLOSING_REASON_LOGGED_OUT
        assert closing.closing.resume_after.sequence == closing.header.sequence
        assert await session.call.read() is grpc.aio.EOF


async def test_orders_end_when_the_lease_runs_out(client: Client) -> None:
    """The call is up, and nothing is heard for a second."""
    order = client.new_order(await client.quote())
    session = Session(client)
    logon = wire.SessionLogon(account_id=client.account_id, cancel_on_disconnect=True, lease=Duration(seconds=1))
    try:
        await session.send(logon=logon)
        await session.send(submit=wire.SubmitOrderRequest(order=order))
        closing = await session.next("closing")
    finally:
        session.call.cancel()
    assert closing.closing.reason == stream_pb2.CLOSING_REASON_LEASE_EXPIRED
    if any(message.HasField("submitted") for message in session._kept):
        # A machine that stood still may have let the lease run out before the order was looked at.
        assert (await client.until_terminal(order.client_order_id)).status == order_pb2.ORDER_STATUS_CANCELED


async def test_signs_of_life_keep_the_session(client: Client) -> None:
    """For longer than a lease."""
    async with logged_on(client, lease=Duration(seconds=4)) as session:
        key, _ = await session.submit()
        for _ in range(4):
            # The gateway's own come three in a lease.
            await session.next("heartbeat")
            await session.send(heartbeat=wire.SessionHeartbeat())
        assert (await client.order(key)).working


async def test_session_without_cancel_on_disconnect_leaves_its_orders(client: Client) -> None:
    """It was not asked to take them along."""
    async with logged_on(client, cancel_on_disconnect=False) as session:
        key, answer = await session.submit()
        assert answer.order.session_id and not answer.order.cancel_on_disconnect
        await session.call.done_writing()
        await session.next("closing")
    assert (await client.order(key)).working


@pytest.mark.parametrize(
    ("logon", "code", "reason", "field"),
    [
        ({"account_id": ""}, grpc.StatusCode.INVALID_ARGUMENT, "REQUIRED_FIELD_MISSING", "logon.account_id"),
        ({"account_id": "no-such-account"}, grpc.StatusCode.NOT_FOUND, "ACCOUNT_NOT_FOUND", "logon.account_id"),
        ({"venue": "no-such-venue"}, grpc.StatusCode.INVALID_ARGUMENT, "VENUE_NOT_FOUND", "logon.venue"),
        ({"lease": Duration(nanos=1)}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", "logon.lease"),
        ({"lease": Duration(seconds=61)}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", "logon.lease"),
        ({"lease": Duration(seconds=-5)}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", "logon.lease"),
    ],
)
async def test_logon_that_breaks_a_rule_is_refused_by_field(
    client: Client, logon: dict[str, Any], code: grpc.StatusCode, reason: str, field: str
) -> None:
    """And nothing is opened."""
    session = Session(client)
    fields = {"account_id": client.account_id, **logon}
    await session.send(logon=wire.SessionLogon(**fields))
    refusal = await refused(session.call.read())
    assert (refusal.code, refusal.reason, refusal.fields, refusal.sent) == (code, reason, [field], "no")


async def test_first_message_must_be_a_logon(client: Client) -> None:
    """Whatever else it is, and when none comes."""
    for body in ({"heartbeat": wire.SessionHeartbeat()}, {}, None):
        session = Session(client)
        if body is None:
            await session.call.done_writing()
        else:
            await session.send(**body)
        refusal = await refused(session.call.read())
        assert (refusal.reason, refusal.fields) == ("REQUIRED_FIELD_MISSING", ["logon"]), body


async def test_request_that_cannot_be_attempted_is_answered_and_the_session_goes_on(client: Client) -> None:
    """Each by its number, with the reason that the method would have given."""
    quote = await client.quote()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"submit": {"order": client.new_order(quote, account_id="other")}}, "CONTRADICTORY_FIELDS"),
        ({"submit": {"order": client.new_order(quote, quantity="0")}}, "QUANTITY_NOT_POSITIVE"),
        ({"submit": {"order": client.new_order(quote, symbol="NO/SUCH:SYMBOL")}}, "INSTRUMENT_NOT_FOUND"),
        ({"submit": {"order": client.new_order(quote), "session_id": "another"}}, "CONTRADICTORY_FIELDS"),
        ({"submit": {}}, "REQUIRED_FIELD_MISSING"),
        ({"cancel": {"reference": client.by_key(client.key())}}, "ORDER_NOT_FOUND"),
        ({"cancel": {"reference": {"account_id": "other", "client_order_id": "x"}}}, "CONTRADICTORY_FIELDS"),
        ({"replace": {"request_id": "r1"}}, "REQUIRED_FIELD_MISSING"),
        ({"logon": {"account_id": client.account_id}}, "CONTRADICTORY_FIELDS"),
        ({}, "REQUIRED_FIELD_MISSING"),
    ]
    async with logged_on(client) as session:
        for number, (body, reason) in enumerate(cases, start=2):
            await session.send(**body)
            answer = await session.next("error")
            assert (answer.request_number, reason_of(answer.error.error)) == (number, reason), body
            assert answer.error.code and answer.error.error.message
        _, submitted = await session.submit()
        assert submitted.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_message_that_cannot_be_read_is_answered_and_the_session_goes_on(client: Client) -> None:
    """Bytes that are no message of the contract, and a message beyond the bound."""
    raw = client.channel.stream_stream("/venuemesh.v1.OrderService/OpenOrderSession")()
    logon = wire.SessionLogon(account_id=client.account_id, lease=LONG)
    large = wire.OrderReference(account_id=client.account_id, client_order_id="x" * 5_000_000)
    messages = [
        wire.OpenOrderSessionRequest(logon=logon).SerializeToString(),
        b"\xff\xff",
        wire.OpenOrderSessionRequest(cancel=wire.CancelOrderRequest(reference=large)).SerializeToString(),
    ]
    try:
        for number, message in enumerate(messages, start=1):
            await raw.write(message)
            async with asyncio.timeout(2 * CALL_S):
                while True:
                    answer = Message.FromString(await raw.read())
                    if answer.request_number == number:
                        break
            if number > 1:
                assert answer.WhichOneof("body") == "error"
        assert reason_of(answer.error.error) == "MESSAGE_TOO_LARGE"
    finally:
        raw.cancel()


async def test_submit_that_names_a_session_joins_it_while_it_is_open(client: Client) -> None:
    """Refused with SESSION_GONE otherwise, and the key is free."""
    async with logged_on(client) as session:
        _, first = await session.submit()
        order = client.new_order(await client.quote())
        request = wire.SubmitOrderRequest(order=order, session_id=first.order.session_id)
        joined = await client.orders.SubmitOrder(request, timeout=CALL_S)
        assert joined.order.cancel_on_disconnect
        await session.next("event", order.client_order_id, order_pb2.ORDER_STATUS_NEW)
    assert (await client.until_terminal(order.client_order_id)).status == order_pb2.ORDER_STATUS_CANCELED
    late = client.new_order(await client.quote())
    request = wire.SubmitOrderRequest(order=late, session_id=first.order.session_id)
    refusal = await refused(client.orders.SubmitOrder(request, timeout=CALL_S))
    assert (refusal.code, refusal.reason, refusal.fields, refusal.sent) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "SESSION_GONE",
        ["session_id"],
        "no",
    )
    assert (await client.submit(late)).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
