"""Orders that wait for a price, orders that belong together, orders with an end, and the scheduled cancel."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind
from tests.integration.gateway_lighter.world import ACCOUNT, World, world
from venuemesh.errors import InvalidOrder, InvalidRequest, Reason, Sent
from venuemesh.gateway.venue import (
    CancelAnswer,
    Grouping,
    OrderTicket,
    Placed,
    Refused,
    VenueOrder,
    VenueOrderState,
)
from venuemesh.v1 import order_pb2

IOC, GTD = order_pb2.TIME_IN_FORCE_IOC, order_pb2.TIME_IN_FORCE_GTD
STOP, STOP_LIMIT = order_pb2.ORDER_TYPE_STOP_MARKET, order_pb2.ORDER_TYPE_STOP_LIMIT
TAKE, TAKE_LIMIT = order_pb2.ORDER_TYPE_TAKE_PROFIT_MARKET, order_pb2.ORDER_TYPE_TAKE_PROFIT_LIMIT
WAITING, FOR_PARENT = order_pb2.TRIGGER_STATE_WAITING, order_pb2.TRIGGER_STATE_WAITING_FOR_PARENT


async def hold(found: World, quantity: str = "0.01") -> None:
    """Open a long."""
    found.front.house_order("BTC", Side.SELL, found.mark, quantity)
    placed = await found.venue.place_order(found.ticket(offset=200, time_in_force=IOC, quantity=quantity), lambda: None)
    assert isinstance(placed, Placed)


async def group(found: World, tickets: list[OrderTicket], grouping: Grouping) -> list[Any]:
    """Send orders that belong together; the answers."""
    return list(await found.venue.place_orders(tickets, lambda: None, grouping=grouping))


def told(found: World, ticket: OrderTicket) -> list[VenueOrder]:
    """What the stream said of an order."""
    return [row for row in found.sink.orders if row.venue_client_order_id == ticket.venue_client_order_id]


def statuses(found: World, *tickets: OrderTicket) -> list[str]:
    """The venue's words for orders."""
    rows = [found.truth(ticket) for ticket in tickets]
    return [row["status"] if row is not None else "none" for row in rows]


@pytest.mark.parametrize(
    ("order_type", "offset"), [(STOP, -1_000), (STOP_LIMIT, -1_000), (TAKE, 1_000), (TAKE_LIMIT, 1_000)]
)
async def test_order_waits_for_its_trigger_fires_and_fills(
    tmp_path: Path, order_type: order_pb2.OrderType.ValueType, offset: int
) -> None:
    """Every kind: it says that it waits, then that it has fired, and its fill names our index."""
    async with world(tmp_path) as found:
        await hold(found)
        exit_ticket = found.exit(order_type, offset)
        placed = await found.venue.place_order(exit_ticket, lambda: None)
        assert isinstance(placed, Placed)
        assert (placed.trigger_state, placed.ended) == (WAITING, False)
        view = await found.venue.fetch_order(found.target(exit_ticket, placed.venue_order_id))
        assert view is not None
        assert (view.trigger_state, view.trigger_price) == (WAITING, exit_ticket.trigger_price)
        reached = found.mark + offset
        found.front.house_order("BTC", Side.BUY, reached - 100, "1")
        found.move_mark(reached)
        await found.sink.until(lambda: len(found.sink.fills) == 2)
        assert found.sink.fills[1].venue_client_order_id == exit_ticket.venue_client_order_id
        await found.sink.until(lambda: told(found, exit_ticket)[-1].state is VenueOrderState.FILLED)
        assert told(found, exit_ticket)[-1].trigger_state == order_pb2.TRIGGER_STATE_TRIGGERED


async def test_stop_that_finds_nobody_within_its_worst_price_ends_canceled_and_not_rejected(tmp_path: Path) -> None:
    """It was working before it fired."""
    async with world(tmp_path) as found:
        await hold(found)
        stop = found.exit(STOP, -1_000)
        await found.venue.place_order(stop, lambda: None)
        found.move_mark(found.mark - 1_000)
        await found.sink.until(lambda: told(found, stop) and told(found, stop)[-1].state is not VenueOrderState.WORKING)
        last = told(found, stop)[-1]
        assert (last.state, last.reason) == (VenueOrderState.CANCELED, Reason.NO_LIQUIDITY)


async def test_stop_on_the_wrong_side_is_refused_and_amended_one_keeps_its_trigger(tmp_path: Path) -> None:
    """The venue's own no; and an amendment carries trigger and price together."""
    async with world(tmp_path) as found:
        await hold(found)
        wrong = await found.venue.place_order(found.exit(STOP, 1_000), lambda: None)
        assert isinstance(wrong, Refused)
        assert wrong.reason is Reason.INVALID_TRIGGER_PRICE
        stop = found.exit(STOP, -1_000)
        placed = await found.venue.place_order(stop, lambda: None)
        assert isinstance(placed, Placed)
        moved = replace(found.exit(STOP, -1_500), venue_client_order_id=stop.venue_client_order_id)
        await found.venue.amend_order(found.target(stop, placed.venue_order_id), moved)
        view = await found.venue.fetch_order(found.target(stop, placed.venue_order_id))
        assert view is not None
        assert (view.trigger_price, view.price) == (moved.trigger_price, moved.price)
        assert await found.venue.cancel_order(found.target(stop)) is CancelAnswer.CANCELED


async def test_bracket_is_one_transaction_and_its_exits_live_and_die_with_it(tmp_path: Path) -> None:
    """Entry works, exits wait for it; it fills, they are armed; one fires, the other goes."""
    async with world(tmp_path) as found:
        entry = found.ticket(offset=-100)
        profit, stop = found.exit(TAKE_LIMIT, 1_000), found.exit(STOP, -1_000)
        first, *exits = await group(found, [entry, profit, stop], Grouping.BRACKET)
        assert isinstance(first, Placed)
        assert [row.trigger_state for row in exits] == [FOR_PARENT, FOR_PARENT]
        assert len({row.venue_order_id for row in (first, *exits)}) == 3
        assert len([row for row in found.front.venue.log.of_account(ACCOUNT) if row.tx.type == 28]) == 1
        found.front.house_order("BTC", Side.SELL, found.mark - 100, "0.01")
        await found.sink.until(lambda: found.sink.fills)
        for ticket in (profit, stop):
            view = await found.venue.fetch_order(found.target(ticket))
            assert view is not None
            assert (view.state, view.trigger_state) == (VenueOrderState.WORKING, WAITING)
        found.front.house_order("BTC", Side.BUY, found.mark + 900, "1")
        found.move_mark(found.mark + 1_000)
        await found.sink.until(lambda: told(found, stop) and told(found, stop)[-1].state is VenueOrderState.CANCELED)
        assert statuses(found, entry, profit, stop) == ["filled", "filled", "canceled-oco"]
        assert told(found, stop)[-1].reason is None


async def test_bracket_with_one_exit_ends_with_its_entry(tmp_path: Path) -> None:
    """One triggers the other: the venue's smallest group, at market too."""
    async with world(tmp_path) as found:
        entry, stop = found.ticket(offset=-100), found.exit(STOP, -1_000)
        answers = await group(found, [entry, stop], Grouping.BRACKET)
        assert [row.trigger_state for row in answers] == [order_pb2.TRIGGER_STATE_UNSPECIFIED, FOR_PARENT]
        assert await found.venue.cancel_order(found.target(entry)) is CancelAnswer.CANCELED
        assert statuses(found, entry, stop) == ["canceled", "canceled-child"]
        found.front.house_order("BTC", Side.SELL, found.mark, "0.01")
        at_market = found.ticket(offset=200, time_in_force=IOC, order_type=order_pb2.ORDER_TYPE_MARKET)
        first, second = await group(found, [at_market, found.exit(STOP, -1_000)], Grouping.BRACKET)
        assert (first.ended, first.filled_quantity) == (True, Decimal("0.01"))
        assert second.trigger_state in (WAITING, FOR_PARENT)


async def test_group_the_venue_refuses_is_refused_whole(tmp_path: Path) -> None:
    """At once and by its sequencer: each order has the same no, and none is there."""
    async with world(tmp_path) as found:
        for fault in (None, Fault(kind=FaultKind.LATE_REFUSAL, match="create_grouped_orders", code=21743)):
            if fault is not None:
                found.front.faults.add(fault)
            entry = found.ticket(offset=-100, quantity="0.00001" if fault is None else "0.01")
            answers = await group(found, [entry, found.exit(TAKE, 1_000), found.exit(STOP, -1_000)], Grouping.BRACKET)
            assert all(isinstance(row, Refused) for row in answers)
            assert len({row.reason for row in answers}) == 1
        assert not found.front.orders(ACCOUNT)


async def test_bracket_the_signer_refuses_is_never_sent(tmp_path: Path) -> None:
    """The orders of a group end together; nothing leaves, and the nonce is free."""
    async with world(tmp_path) as found:
        end_ns = (found.front.app.now_ms() + 3_600_000) * 1_000_000
        entry = replace(found.ticket(), time_in_force=GTD, expire_ns=end_ns)
        with pytest.raises(InvalidOrder) as caught:
            await group(found, [entry, found.exit(STOP, -2_000)], Grouping.BRACKET)
        assert caught.value.sent is Sent.NO
        assert not found.front.venue.log.of_account(ACCOUNT)
        assert found.venue._parts.wallets["main"].pool.source(4).outstanding == 1  # the exit's reservation, never sent


async def test_lost_rows_of_a_group_are_asked_for(tmp_path: Path) -> None:
    """The stream tells nothing: the transaction is looked up once, then each order by its index."""
    async with world(tmp_path, verdict_poll_s=0.05) as found:
        for channel in ("account_all_orders", "account_tx"):
            found.front.faults.add(Fault(kind=FaultKind.DROP_FRAME, match=channel))
        answers = await group(
            found, [found.ticket(), found.exit(TAKE, 1_000), found.exit(STOP, -2_000)], Grouping.BRACKET
        )
        assert [type(row) for row in answers] == [Placed] * 3


async def test_exits_of_a_position_follow_its_size(tmp_path: Path) -> None:
    """What fires closes what is held then, also what was bought later; the other exit goes."""
    async with world(tmp_path) as found:
        await hold(found)
        profit, stop = found.exit(TAKE, 1_000), found.exit(STOP, -1_000)
        answers = await group(found, [profit, stop], Grouping.POSITION)
        assert [row.trigger_state for row in answers] == [WAITING, WAITING]
        await hold(found, "0.02")
        found.front.house_order("BTC", Side.BUY, found.mark - 1_100, "1")
        found.move_mark(found.mark - 1_000)
        await found.sink.until(lambda: len(found.sink.fills) == 3)
        assert (found.sink.fills[2].quantity, found.sink.fills[2].side) == (Decimal("0.03"), order_pb2.SIDE_SELL)
        await found.sink.until(lambda: told(found, profit)[-1].state is not VenueOrderState.WORKING)
        assert told(found, profit)[-1].state is VenueOrderState.CANCELED
        assert not (await found.venue.fetch_snapshot("main")).positions


async def test_one_exit_alone_follows_the_position(tmp_path: Path) -> None:
    """A list of one is a plain order of size zero."""
    async with world(tmp_path) as found:
        await hold(found)
        (answer,) = await group(found, [found.exit(STOP, -1_000, quantity="0.005")], Grouping.POSITION)
        assert answer.trigger_state == WAITING
        found.front.house_order("BTC", Side.BUY, found.mark - 1_100, "1")
        found.move_mark(found.mark - 1_000)
        await found.sink.until(lambda: len(found.sink.fills) == 2)
        assert found.sink.fills[1].quantity == Decimal("0.01")


async def test_good_till_date_order_ends_when_its_time_has_come(tmp_path: Path) -> None:
    """The venue holds the caller's own end, to the millisecond, and says EXPIRED (P20)."""
    async with world(tmp_path) as found:
        end_ms = found.front.app.now_ms() + 600_000
        ticket = replace(found.ticket(), time_in_force=GTD, expire_ns=end_ms * 1_000_000)
        assert isinstance(await found.venue.place_order(ticket, lambda: None), Placed)
        truth = found.truth(ticket)
        assert truth is not None
        assert truth["order_expiry"] == end_ms
        found.front.venue.step(end_ms)
        found.front.app.publish()
        await found.sink.until(lambda: told(found, ticket) and told(found, ticket)[-1].state is VenueOrderState.EXPIRED)


async def test_scheduled_cancel_is_set_moved_and_taken_back_and_takes_stops_too(tmp_path: Path) -> None:
    """The venue performs it without us; what it cannot do so soon is not sent."""
    async with world(tmp_path) as found:
        account = found.front.venue.accounts.get(ACCOUNT)
        now_ns = found.front.app.now_ms() * 1_000_000
        for ahead_s in (600, 900):
            assert await found.venue.schedule_cancel("main", now_ns + ahead_s * 10**9) is None
            assert account.cancel_all_ms == now_ns // 1_000_000 + ahead_s * 1_000
        assert await found.venue.schedule_cancel("main", None) is None
        assert account.cancel_all_ms == 0
        for ahead_s in (5, 299, 16 * 86_400):
            with pytest.raises(InvalidRequest) as caught:
                await found.venue.schedule_cancel("main", now_ns + ahead_s * 10**9)
            assert caught.value.sent is Sent.NO
        await hold(found)
        stop, resting = found.exit(STOP, -1_000), found.ticket()
        await asyncio.gather(*(found.venue.place_order(one, lambda: None) for one in (stop, resting)))
        await found.venue.schedule_cancel("main", now_ns + 600 * 10**9)
        found.front.venue.step(now_ns // 1_000_000 + 600_000)
        found.front.app.publish()
        assert statuses(found, stop, resting) == ["canceled", "canceled"]
        await found.sink.until(lambda: told(found, stop)[-1].state is VenueOrderState.CANCELED)
