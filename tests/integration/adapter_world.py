"""What tests of every adapter do alike: run it against its simulator, and make the tickets the frame would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

from tests.integration.recording_sink import Recorder
from venuemesh.gateway.venue import OrderTarget, OrderTicket
from venuemesh.v1 import instrument_pb2, order_pb2

LIFE_NS = 10_000_000_000


@asynccontextmanager
async def running_adapter(venue: Any, sink: Recorder, *, live: bool = True) -> AsyncIterator[None]:
    """Run an adapter while the block runs; by default its account is live when the block begins."""
    running = asyncio.create_task(venue.run(sink), name="venue")
    try:
        if live:
            await sink.until(lambda: sink.live)
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await venue.aclose()  # `run` does it, unless it was cancelled before it began


def ticket_of(
    venue: Any,
    instrument: instrument_pb2.Instrument,
    *,
    number: int,
    quantity: str,
    price: Decimal,
    now_ns: int,
    side: order_pb2.Side.ValueType = order_pb2.SIDE_BUY,
    time_in_force: order_pb2.TimeInForce.ValueType = order_pb2.TIME_IN_FORCE_GTC,
    order_type: order_pb2.OrderType.ValueType = order_pb2.ORDER_TYPE_LIMIT,
    post_only: bool = False,
    reduce_only: bool = False,
) -> OrderTicket:
    """An order of account `main` ready to send; the same `number` gives the same order id."""
    order_id = f"{number:032x}"
    return OrderTicket(
        account_id="main",
        order_id=order_id,
        venue_client_order_id=venue.venue_client_order_id(order_id),
        instrument=instrument,
        side=side,
        order_type=order_type,
        quantity=Decimal(quantity),
        price=price,
        trigger_price=None,
        time_in_force=time_in_force,
        post_only=post_only,
        reduce_only=reduce_only,
        reservation=venue.reserve("main", not_after_ns=now_ns + LIFE_NS),
    )


def target_of(ticket: OrderTicket, venue_order_id: str | None = None) -> OrderTarget:
    """The order of a ticket, to cancel or ask about."""
    return OrderTarget(
        account_id="main",
        instrument=ticket.instrument,
        venue_client_order_id=ticket.venue_client_order_id,
        venue_order_id=venue_order_id,
    )


async def place(found: Any, **terms: Any) -> tuple[Any, Any]:
    """Send an order; its ticket and the answer."""
    ticket = found.ticket(**terms)
    return ticket, await found.venue.place_order(ticket, lambda: None)


class SentCalls:
    """Counts calls of the sent callback."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
