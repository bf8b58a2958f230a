"""Whether the gateway's state is the venue's: orders, fills, positions, balances, and what was told of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from tests.integration.faults.sides import TrueOrder
from tests.integration.faults.world import MAIN, POLL_S, SYMBOL, WAIT_S, World
from venuemesh.gateway.orders import OrderState
from venuemesh.v1 import event_pb2
from venuemesh.v1 import order_pb2 as pb

ZERO = Decimal(0)


async def assert_equal_to_the_venue(world: World) -> None:
    """The gateway's state becomes the venue's, and what it told adds up to that state.

    What the venue pushes is on its way for a moment, so that differences may be there at first; they must go.
    """
    different = ["not compared yet"]
    try:
        async with asyncio.timeout(WAIT_S):
            while different:
                different = [*_orders(world), *_fills(world), *_positions(world), *_money(world)]
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError("\n".join(["the gateway differs from the venue:", *different])) from None
    _check_events(world, await world.events())


def _orders(world: World) -> Iterator[str]:
    rows = {row.venue_order_id: row for row in world.side.orders()}
    claimed: Counter[str] = Counter()
    for order in world.core.accounts[MAIN].all_orders():
        if order.uncertain or order.pending_cancel or order.pending_replace:
            yield f"{order.terms.client_order_id} is in doubt: {order.status}"
            continue
        claimed.update(order.venue_order_ids)
        if order.status == pb.ORDER_STATUS_REJECTED:
            if any(row.client_id == order.venue_client_order_id for row in rows.values() if row.lived):
                yield f"{order.terms.client_order_id} is REJECTED, and the venue has it"
            continue
        yield from _one_order(order, rows)
    yield from (f"venue order {name} belongs to two of ours" for name, count in claimed.items() if count > 1)
    yield from (f"venue order {name} is of nobody" for name, row in rows.items() if row.lived and name not in claimed)


def _one_order(order: OrderState, rows: dict[str, TrueOrder]) -> Iterator[str]:
    key = order.terms.client_order_id
    row = rows.get(order.venue_order_id or "")
    if row is None:
        yield f"{key} is {pb.OrderStatus.Name(order.status)}, and the venue does not know it"
        return
    if order.working != row.open:
        yield f"{key}: working is {order.working} here, {row.status} there"
    if row.open and row.price != order.price:
        yield f"{key}: price is {order.price} here, {row.price} there"
    filled = sum((rows[name].filled for name in order.venue_order_ids if name in rows), ZERO)
    if row.exact and filled != order.filled:
        yield f"{key}: filled is {order.filled} here, {filled} there"


def _fills(world: World) -> Iterator[str]:
    account = world.core.accounts[MAIN]
    for row in world.side.fills():
        order = account.order_by_venue_client_id(row.client_id) if row.client_id else None
        if order is not None and row.venue_order_id not in order.venue_order_ids:
            yield f"fill {row.trade_id} is of a life of {order.terms.client_order_id} that is not known here"


def _positions(world: World) -> Iterator[str]:
    held = world.core.accounts[MAIN].positions.get(SYMBOL)
    ours = held.quantity if held is not None else ZERO
    if ours != (venues := sum((row.quantity for row in world.side.fills()), ZERO)):
        yield f"position is {ours} here, {venues} there"


def _money(world: World) -> Iterator[str]:
    ours = world.core.accounts[MAIN].balances
    there = {(row.venue_section, row.asset): row for row in world.side.balances()}
    if set(there) != set(ours):
        yield f"balances of {set(there) ^ set(ours)} are on one side only"
    for name in set(there) & set(ours):
        if (ours[name].total, ours[name].available) != (there[name].total, there[name].available):
            yield f"{name} is {ours[name].total} here, {there[name].total} there"


def _check_events(world: World, events: list[event_pb2.Event]) -> None:
    """What was told: numbered without a gap, each fill once, and the last word on each order is its state."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    reports = [event.execution_report for event in events if event.HasField("execution_report")]
    fills = [report.fill for report in reports if report.HasField("fill")]
    told = Counter(fill.trade_id for fill in fills)
    assert told == Counter(row.trade_id for row in world.side.fills())
    assert len({fill.execution_id for fill in fills}) == len(fills)
    last = {report.order.order_id: report.order for report in reports if report.HasField("order")}
    for order in world.core.accounts[MAIN].all_orders():
        told_order = last[order.order_id]
        assert (told_order.status, told_order.order_version) == (order.status, order.version)
        of_order = [fill for fill in fills if fill.order_id == order.order_id]
        assert sum((Decimal(fill.quantity) for fill in of_order), ZERO) == Decimal(told_order.filled_quantity)
    assert world.core.accounts[MAIN].illegal_transitions == 0
    assert {event.symbol for event in events if event.HasField("position")} <= {SYMBOL}
