"""Streams resumed behind every position of a recorded run. Property 41."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import grpc.aio
import pytest

from tests.broker import Broker
from tests.fakes_venue import BTC, ETH
from tests.integration.gateway.served_gateway import Gateway, serving_gateway
from venuemesh.v1 import account_pb2, account_service_pb2, event_pb2, stream_pb2
from venuemesh.v1 import order_service_pb2 as wire

REPORTED = ("execution_report", "stream_status")
"""What StreamExecutionReports gives of an account's events."""
AT_ONCE = 16
WANTED = {"execution_report", "position", "ledger_entry", "balance", "stream_status"}

Row = tuple[int, bytes]


async def record(gateway: Gateway) -> list[event_pb2.Event]:
    """Orders, fills, cancels, amendments, funding, balances and a lost link; the stored events."""
    rng = random.Random(41)
    for number in range(5):
        key = f"key-{number}"
        await gateway.submit(key, symbol=rng.choice([BTC, ETH]))
        order = gateway.venue.order_of(gateway.venue.placed[-1])
        reference = wire.OrderReference(account_id="main", client_order_id=key)
        match number % 4:
            case 0:
                gateway.venue.fill(order, "0.25", "100")
                gateway.venue.fill(gateway.venue.orders[order.venue_client_order_id or ""], "0.75", "99")
            case 1:
                gateway.venue.fill(order, "0.5", "100")
                await gateway.orders.CancelOrder(wire.CancelOrderRequest(reference=reference), timeout=10)
            case 2:
                change = wire.ReplaceOrderRequest(reference=reference, request_id=f"change-{number}", price="101")
                await gateway.orders.ReplaceOrder(change, timeout=10)
            case 3:
                gateway.venue.fund("main", f"funding-{number}", "-0.1")
                money = account_pb2.Balance(account_id="main", asset="USDC", total=str(number), available="1")
                gateway.core.intake.on_balances("main", [money], account_pb2.AccountSummary())
    gateway.venue.go_down()
    gateway.venue.go_up()
    while not gateway.core.desk.gates["main"].ready:
        await asyncio.sleep(0)
    return await gateway.journal()


def open_stream(gateway: Gateway, kind: str, after: int) -> Any:
    """The stream behind a position."""
    options = gateway.resume_after(after)
    if kind == "reports":
        reports = wire.StreamExecutionReportsRequest(account_id="main", options=options)
        return gateway.orders.StreamExecutionReports(reports)
    events = account_service_pb2.StreamAccountEventsRequest(account_id="main", options=options)
    return gateway.accounts.StreamAccountEvents(events)


def content(event: event_pb2.Event) -> Row:
    """A stored event as a stream shows it: freshness stands without its envelope."""
    shown = event.stream_status if event.HasField("stream_status") else event
    return event.sequence, shown.SerializeToString(deterministic=True)


async def read_to(stream: Any, count: int) -> list[Row]:
    """The next events of a resumed stream."""
    acknowledgement = (await stream.read()).acknowledgement
    assert acknowledgement.resume_outcome == stream_pb2.RESUME_OUTCOME_RESUMED, acknowledgement.resume_note
    rows: list[Row] = []
    while len(rows) < count:
        message = await stream.read()
        assert message is not grpc.aio.EOF
        body = message.WhichOneof("body")
        if body == "heartbeat":
            continue
        shown = message.event if body == "event" else message.status
        rows.append((message.header.sequence, shown.SerializeToString(deterministic=True)))
    return rows


@pytest.mark.parametrize("kind", ["reports", "account"])
async def test_stream_resumed_behind_every_position_gives_exactly_the_rest(broker: Broker, kind: str) -> None:
    """From the first to the newest: what is stored behind it, once, in order, and then what comes live."""
    async with serving_gateway(broker) as gateway:
        events = await record(gateway)
        assert {str(event.WhichOneof("payload")) for event in events} >= WANTED
        shown = [one for one in events if kind == "account" or one.WhichOneof("payload") in REPORTED]
        newest = events[-1].sequence
        assert [event.sequence for event in events] == list(range(1, newest + 1))

        async def resumed(after: int) -> None:
            rest = [content(event) for event in shown if event.sequence > after]
            stream = open_stream(gateway, kind, after)
            try:
                assert await read_to(stream, len(rest)) == rest, f"behind {after}"
            finally:
                stream.cancel()

        for first in range(0, newest + 1, AT_ONCE):
            positions: Sequence[int] = range(first, min(first + AT_ONCE, newest + 1))
            await asyncio.gather(*(resumed(after) for after in positions))
        at_the_end = open_stream(gateway, kind, newest)
        await gateway.submit("live")
        later = [one for one in await gateway.journal() if one.sequence > newest]
        live = [content(one) for one in later if kind == "account" or one.WhichOneof("payload") in REPORTED]
        assert await read_to(at_the_end, len(live)) == live
        at_the_end.cancel()


@pytest.mark.parametrize("kind", ["reports", "account"])
async def test_position_that_never_was_gets_a_snapshot_and_is_told_why(broker: Broker, kind: str) -> None:
    """Ahead of the newest event, or of another numbering: never silence, never a wrong place."""
    async with serving_gateway(broker) as gateway:
        await gateway.trade("key-1")
        newest = (await gateway.journal())[-1].sequence
        stream = open_stream(gateway, kind, newest + 1)
        acknowledgement = (await stream.read()).acknowledgement
        assert acknowledgement.resume_outcome == stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD
        assert str(newest + 1) in acknowledgement.resume_note
        stream.cancel()
