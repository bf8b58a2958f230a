"""Whether the gateway's state is the venue's: orders, fills, positions, balances, and what was told of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from hypercore.codec import parse_info
from simulator.hyperliquid import info
from simulator.hyperliquid.account_info import user_fills
from tests.integration.faults.world import ADDRESS, MAIN, POLL_S, SYMBOL, WAIT_S, World
from venuemesh.gateway.orders import OrderState
from venuemesh.v1 import event_pb2
from venuemesh.v1 import order_pb2 as pb

ZERO = Decimal(0)
OPEN_WORDS = frozenset({"open"})


def venue_rows(world: World) -> dict[str, dict[str, Any]]:
    """The venue's orders by its ids."""
    return {str(row["order"]["oid"]): row for row in world.simulator.orders(ADDRESS)}


def venue_orders_of(world: World, key: str) -> list[dict[str, Any]]:
    """The venue's orders that came of one key: more than one only where it was amended."""
    cloid = world.order(key).venue_client_order_id
    return [row for row in venue_rows(world).values() if row["order"]["cloid"] == cloid]


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
    rows = venue_rows(world)
    claimed: Counter[str] = Counter()
    for order in world.core.accounts[MAIN].all_orders():
        if order.uncertain or order.pending_cancel or order.pending_replace:
            yield f"{order.terms.client_order_id} is in doubt: {order.status}"
            continue
        claimed.update(order.venue_order_ids)
        if order.status == pb.ORDER_STATUS_REJECTED:
            if any(row["order"]["cloid"] == order.venue_client_order_id for row in rows.values() if _lived(row)):
                yield f"{order.terms.client_order_id} is REJECTED, and the venue has it"
            continue
        yield from _one_order(order, rows)
    yield from (f"venue order {name} belongs to two of ours" for name, count in claimed.items() if count > 1)
    yield from (f"venue order {name} is of nobody" for name, row in rows.items() if _lived(row) and name not in claimed)


def _lived(row: dict[str, Any]) -> bool:
    return not str(row["status"]).endswith("ejected")


def _one_order(order: OrderState, rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    key = order.terms.client_order_id
    row = rows.get(order.venue_order_id or "")
    if row is None:
        yield f"{key} is {pb.OrderStatus.Name(order.status)}, and the venue does not know it"
        return
    there = row["status"] in OPEN_WORDS
    if order.working != there:
        yield f"{key}: working is {order.working} here, {row['status']} there"
    if there and Decimal(row["order"]["limitPx"]) != order.price:
        yield f"{key}: price is {order.price} here, {row['order']['limitPx']} there"
    lives = [rows[name]["order"] for name in order.venue_order_ids if name in rows]
    filled = sum((Decimal(life["origSz"]) - Decimal(life["sz"]) for life in lives), ZERO)
    if row["status"] in ("open", "filled") and filled != order.filled:
        yield f"{key}: filled is {order.filled} here, {filled} there"


def _venue_fills(world: World) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = user_fills(world.simulator.venue, ADDRESS)
    return rows


def _fills(world: World) -> Iterator[str]:
    account = world.core.accounts[MAIN]
    for row in _venue_fills(world):
        order = account.order_by_venue_client_id(row["cloid"]) if row["cloid"] else None
        if order is not None and str(row["oid"]) not in order.venue_order_ids:
            yield f"fill {row['tid']} is of a life of {order.terms.client_order_id} that is not known here"


def _venue_position(world: World) -> Decimal:
    signs = {"B": 1, "A": -1}
    return sum((signs[row["side"]] * Decimal(row["sz"]) for row in _venue_fills(world)), ZERO)


def _positions(world: World) -> Iterator[str]:
    held = world.core.accounts[MAIN].positions.get(SYMBOL)
    ours = held.quantity if held is not None else ZERO
    if ours != (venues := _venue_position(world)):
        yield f"position is {ours} here, {venues} there"


def _money(world: World) -> Iterator[str]:
    """Balances against the venue's own answer, taken from the simulator without a request, so that none is counted."""
    ours = world.core.accounts[MAIN].balances
    perps, spot = (_ask(world, kind) for kind in ("clearinghouseState", "spotClearinghouseState"))
    rows, _ = world.venue._views[MAIN].money(perps, spot, received_ns=0)
    there = {(row.venue_section, row.asset): row for row in rows}
    if set(there) != set(ours):
        yield f"balances of {set(there) ^ set(ours)} are on one side only"
    for name in set(there) & set(ours):
        if (ours[name].total, ours[name].available) != (there[name].total, there[name].available):
            yield f"{name} is {ours[name].total} here, {there[name].total} there"


def _ask(world: World, kind: str) -> Any:
    question = {"type": kind, "user": ADDRESS}
    answer = info.handle(world.simulator.venue, question, world.simulator.now_ms())
    return parse_info(kind, msgspec.json.encode(answer.body))


def _check_events(world: World, events: list[event_pb2.Event]) -> None:
    """What was told: numbered without a gap, each fill once, and the last word on each order is its state."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    reports = [event.execution_report for event in events if event.HasField("execution_report")]
    fills = [report.fill for report in reports if report.HasField("fill")]
    told = Counter(fill.trade_id for fill in fills)
    assert told == Counter(str(row["tid"]) for row in _venue_fills(world))
    assert len({fill.execution_id for fill in fills}) == len(fills)
    last = {report.order.order_id: report.order for report in reports if report.HasField("order")}
    for order in world.core.accounts[MAIN].all_orders():
        told_order = last[order.order_id]
        assert (told_order.status, told_order.order_version) == (order.status, order.version)
        of_order = [fill for fill in fills if fill.order_id == order.order_id]
        assert sum((Decimal(fill.quantity) for fill in of_order), ZERO) == Decimal(told_order.filled_quantity)
    assert world.core.accounts[MAIN].illegal_transitions == 0
    assert {event.symbol for event in events if event.HasField("position")} <= {SYMBOL}


__all__ = ["assert_equal_to_the_venue", "venue_orders_of", "venue_rows"]
