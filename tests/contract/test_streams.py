"""What all streams have in common: acknowledgement first, heartbeats, chained numbers, resuming, wishes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from tests.contract.client import CALL_S, Client, opened, read_until
from tests.contract.refusals import reason_of, refused
from venuemesh.v1 import account_service_pb2, order_pb2, order_service_pb2, stream_pb2, venue_service_pb2
from venuemesh.v1 import market_data_pb2 as market
from venuemesh.v1 import market_data_service_pb2 as prices
from venuemesh.v1 import operations_service_pb2 as operations

Open = Callable[[Client, stream_pb2.StreamOptions], Any]
SHORTEST_MS = 1_000


def _reports(client: Client, options: stream_pb2.StreamOptions) -> Any:
    request = order_service_pb2.StreamExecutionReportsRequest(
        account_id=client.account_id, venue=client.name, options=options
    )
    return client.orders.StreamExecutionReports(request, timeout=2 * CALL_S)


def _events(client: Client, options: stream_pb2.StreamOptions) -> Any:
    request = account_service_pb2.StreamAccountEventsRequest(
        account_id=client.account_id, venue=client.name, options=options
    )
    return client.accounts.StreamAccountEvents(request, timeout=2 * CALL_S)


def _venue(client: Client, options: stream_pb2.StreamOptions) -> Any:
    request = venue_service_pb2.StreamVenueStatusRequest(venues=[client.name], options=options)
    return client.venues.StreamVenueStatus(request, timeout=2 * CALL_S)


def _market(method: str, **more: Any) -> Open:
    def call(client: Client, options: stream_pb2.StreamOptions) -> Any:
        request = getattr(prices, f"{method}Request")(
            venue=client.name, symbols=[client.symbol], options=options, **more
        )
        return getattr(client.market, method)(request, timeout=2 * CALL_S)

    return call


ACCOUNT: dict[str, Open] = {"StreamExecutionReports": _reports, "StreamAccountEvents": _events}
PRICES: dict[str, Open] = {
    "StreamOrderBook": _market("StreamOrderBook"),
    "StreamTopOfBook": _market("StreamTopOfBook"),
    "StreamCandles": _market("StreamCandles", interval=market.CANDLE_INTERVAL_1M),
    "StreamStatistics": _market("StreamStatistics"),
}
OTHERS: dict[str, Open] = {"StreamTrades": _market("StreamTrades"), "StreamVenueStatus": _venue}
ALL = ACCOUNT | PRICES | OTHERS


async def test_every_stream_acknowledges_first_and_beats_when_nothing_happens(client: Client) -> None:
    """All at once, at the shortest interval; the acknowledgement says what is in force."""
    options = stream_pb2.StreamOptions(heartbeat_interval_ms=SHORTEST_MS)

    async def watch(name: str, stream: Any) -> None:
        hello = await stream.read()
        assert hello.WhichOneof("body") == "acknowledgement", name
        assert hello.acknowledgement.stream_id, name
        assert hello.acknowledgement.heartbeat_interval_ms == SHORTEST_MS, name
        assert hello.acknowledgement.resume_outcome == stream_pb2.RESUME_OUTCOME_UNSPECIFIED, name
        assert all(row.accepted for row in hello.acknowledgement.results), name
        if name not in QUIET:
            return
        beat = (await read_until(stream, "heartbeat"))[-1].heartbeat
        assert beat.server_unix_nanos > 0, name
        assert beat.link_state == stream_pb2.LINK_STATE_LIVE, name

    async with AsyncExitStack() as stack:
        streams = {name: await stack.enter_async_context(opened(call(client, options))) for name, call in ALL.items()}
        await asyncio.gather(*(watch(name, stream) for name, stream in streams.items()))
        ids = {row.stream_id for row in (await _subscribers(client))}
        assert len(ids) >= len(ALL)


# Where something always happens no heartbeat is due.
QUIET = frozenset({"StreamExecutionReports", "StreamVenueStatus"})


async def _subscribers(client: Client) -> Any:
    return (await client.operations.ListSubscribers(operations.ListSubscribersRequest(), timeout=CALL_S)).subscribers


@pytest.mark.parametrize("name", ALL)
async def test_stream_refuses_wishes_out_of_bounds(client: Client, name: str) -> None:
    """Named by field: a heartbeat too quick or too slow, an unknown policy."""
    cases: list[tuple[dict[str, Any], str]] = [
        ({"heartbeat_interval_ms": 10}, "options.heartbeat_interval_ms"),
        ({"heartbeat_interval_ms": 60_000}, "options.heartbeat_interval_ms"),
        ({"slow_reader_policy": 9999}, "options.slow_reader_policy"),
    ]
    if name in ACCOUNT:
        lossy = stream_pb2.SLOW_READER_POLICY_CONFLATE_LATEST
        cases.append(({"slow_reader_policy": lossy}, "options.slow_reader_policy"))
    for wishes, field in cases:
        async with opened(ALL[name](client, stream_pb2.StreamOptions(**wishes))) as stream:
            refusal = await refused(stream.read())
        assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field]), wishes


async def test_one_bad_symbol_does_not_end_the_others(client: Client) -> None:
    """Each subscription has its result."""
    request = prices.StreamTopOfBookRequest(venue=client.name, symbols=["NO/SUCH:SYMBOL", client.symbol])
    async with opened(client.market.StreamTopOfBook(request, timeout=CALL_S)) as stream:
        bad, good = (await stream.read()).acknowledgement.results
        assert (bad.subscription, bad.accepted, reason_of(bad)) == ("NO/SUCH:SYMBOL", False, "INSTRUMENT_NOT_FOUND")
        assert (good.subscription, good.accepted) == (client.symbol, True)
        top = (await read_until(stream, "top_of_book"))[-1].top_of_book
    assert top.symbol == client.symbol


async def rest_durably(client: Client, count: int) -> list[order_pb2.Order]:
    """Orders that rest, once a stream has told of them: only what is stored is ever on one."""
    async with opened(client.reports()) as stream:
        await read_until(stream, "snapshot_end")
        orders = [await client.rest() for _ in range(count)]
        waiting = {order.order_id for order in orders}
        while waiting:
            order = (await read_until(stream, "event"))[-1].event.execution_report.order
            if order.working:
                waiting.discard(order.order_id)
        return orders


async def test_stream_of_reports_begins_with_the_orders_that_are_open(client: Client) -> None:
    """Each once, as it stands, then the end of the snapshot with their number."""
    orders = await rest_durably(client, 3)
    async with opened(client.reports()) as stream:
        messages = await read_until(stream, "snapshot_end")
    assert messages[0].WhichOneof("body") == "acknowledgement"
    told = {message.snapshot.order.order_id: message.snapshot.order for message in messages[1:-1]}
    assert len(told) == len(messages) - 2 == messages[-1].snapshot_end.count
    for order in orders:
        assert told[order.order_id].working


async def test_account_stream_begins_with_the_whole_account(client: Client) -> None:
    """Balances and open orders as the lists give them, at a place in the numbering."""
    (order,) = await rest_durably(client, 1)
    async with opened(_events(client, stream_pb2.StreamOptions())) as stream:
        message = (await read_until(stream, "snapshot"))[-1]
    snapshot = message.snapshot
    assert snapshot.account.account_id == client.account_id
    assert snapshot.account.position.sequence == message.header.sequence
    assert order.order_id in {row.order_id for row in snapshot.orders}
    assert client.instrument.settle_asset in {row.asset for row in snapshot.balances}


async def make_events(client: Client) -> None:
    """Something of every kind."""
    for _ in range(3):
        order = await client.rest()
        await client.cancel(client.by_key(order.terms.client_order_id))
        await client.take()


def content(message: Any) -> bytes:
    """What a message of an account stream tells, without when it was sent."""
    body = message.WhichOneof("body")
    told: bytes = getattr(message, body).SerializeToString(deterministic=True)
    return bytes(body.encode() + told)


async def read_numbered(stream: Any, after: int, last: int, most: int) -> list[tuple[int, bytes]]:
    """Up to `most` numbered messages behind `after`, until number `last`; their chain holds."""
    found: list[tuple[int, bytes]] = []
    while after < last and len(found) < most:
        message = (await read_until(stream, "event", "status"))[-1]
        assert message.header.previous_sequence == after
        assert message.header.sequence > after
        after = message.header.sequence
        found.append((after, content(message)))
    return found


@pytest.mark.parametrize("name", ACCOUNT)
async def test_resumed_stream_loses_and_doubles_nothing(client: Client, name: str) -> None:
    """Cut after a few messages again and again, it tells what an uncut one tells."""
    call = ACCOUNT[name]
    start = (await client.account()).position
    async with opened(call(client, stream_pb2.StreamOptions(resume_after=start))) as whole:
        assert (await whole.read()).acknowledgement.resume_outcome == stream_pb2.RESUME_OUTCOME_RESUMED
        await make_events(client)
        key = (await client.take()).terms.client_order_id
        uncut: list[tuple[int, bytes]] = []
        after = start.sequence
        done = False
        while not done:
            message = (await read_until(whole, "event", "status"))[-1]
            assert message.header.previous_sequence == after
            after = message.header.sequence
            uncut.append((after, content(message)))
            order = message.event.execution_report.order if message.WhichOneof("body") == "event" else None
            done = order is not None and order.terms.client_order_id == key and order.terminal
    cut: list[tuple[int, bytes]] = []
    for number in range(len(uncut)):
        at = cut[-1][0] if cut else start.sequence
        if at >= uncut[-1][0]:
            break
        position = stream_pb2.StreamPosition(epoch=start.epoch, sequence=at)
        async with opened(call(client, stream_pb2.StreamOptions(resume_after=position))) as stream:
            hello = (await stream.read()).acknowledgement
            assert hello.resume_outcome == stream_pb2.RESUME_OUTCOME_RESUMED
            cut += await read_numbered(stream, at, uncut[-1][0], 1 + number % 5)
    assert cut == uncut
    if name == "StreamAccountEvents":
        assert [sequence for sequence, _ in cut] == list(range(start.sequence + 1, cut[-1][0] + 1))


@pytest.mark.parametrize("name", ACCOUNT)
async def test_position_of_another_numbering_gets_a_snapshot_instead(client: Client, name: str) -> None:
    """And is told why."""
    position = stream_pb2.StreamPosition(epoch="another", sequence=5)
    async with opened(ACCOUNT[name](client, stream_pb2.StreamOptions(resume_after=position))) as stream:
        hello = (await stream.read()).acknowledgement
        assert hello.resume_outcome == stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD
        assert hello.resume_note
        await read_until(stream, "snapshot", "snapshot_end")


@pytest.mark.parametrize("name", PRICES | OTHERS)
async def test_stream_of_prices_answers_a_resume_with_a_snapshot(client: Client, name: str) -> None:
    """It cannot be resumed, and says so."""
    position = stream_pb2.StreamPosition(epoch="any", sequence=1)
    async with opened(ALL[name](client, stream_pb2.StreamOptions(resume_after=position))) as stream:
        hello = (await stream.read()).acknowledgement
    assert hello.resume_outcome == stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD
    assert hello.resume_note


async def test_venue_stream_begins_with_the_state_of_the_venue(client: Client) -> None:
    """With every link."""
    async with opened(_venue(client, stream_pb2.StreamOptions())) as stream:
        status = (await read_until(stream, "venue_status"))[-1].venue_status
    assert status.venue == client.name
    assert status.links


async def test_stream_of_an_unknown_account_is_refused(client: Client) -> None:
    """At once, not by silence."""
    request = order_service_pb2.StreamExecutionReportsRequest(account_id="no-such-account", venue=client.name)
    async with opened(client.orders.StreamExecutionReports(request, timeout=CALL_S)) as stream:
        assert (await refused(stream.read())).reason == "ACCOUNT_NOT_FOUND"
