"""What the adapter does with frames that cannot be believed, read or had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hypercore.frames import parse_frame
from hypercore.refusals import classify_error
from hypercore.session import SubscriptionRefused, UnreadableFrame
from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind
from tests.integration.hypercore.adapter.world import ADDRESS, SYMBOL, World, world
from venuemesh.errors import ProtocolViolation
from venuemesh.gateway.venue import Feed
from venuemesh.transport.session import StreamConnected, StreamEvent
from venuemesh.v1 import account_pb2


def event(channel: str, data: Any, received_ns: int = 5) -> StreamEvent:
    """A frame as the stream would tell it."""
    frame: Any = parse_frame(msgspec.json.encode({"channel": channel, "data": data}))
    return StreamEvent(epoch=1, received_ns=received_ns, event=frame)


def book(time: int, bid: str = "3890.0", ask: str = "3900.0") -> StreamEvent:
    """An ETH book with one level a side."""
    levels = [[{"px": price, "sz": "1.0", "n": 1}] for price in (bid, ask)]
    return event("l2Book", {"coin": "ETH", "time": time, "levels": levels})


def top(time: int, bid: str, ask: str) -> StreamEvent:
    """An ETH top of book."""
    pair = [{"px": price, "sz": "1.0", "n": 1} for price in (bid, ask)]
    return event("bbo", {"coin": "ETH", "time": time, "bbo": pair})


async def watching(found: World, feed: Feed) -> Any:
    """Watch ETH; the stream's handler. Frames are given to it by hand, far in the future of the simulator's."""
    await found.sink.until(lambda: any(link == "market" for link, _, _ in found.sink.links))
    await found.venue.watch(feed, SYMBOL)
    return found.venue._market._on_event


FUTURE_MS = 4_000_000_000_000


async def test_crossed_book_is_not_told_and_the_next_good_one_is(tmp_path: Path) -> None:
    """A crossed book makes the feed stale, with the cause."""
    async with world(tmp_path, accounts=[], live=False) as found:
        handle = await watching(found, Feed.BOOK)
        await handle(book(FUTURE_MS, bid="3901.0"))
        assert found.sink.feed_losses[-1][0] == SYMBOL
        assert "crossed" in found.sink.feed_losses[-1][1]
        assert all(row.venue_time_ns != FUTURE_MS * 1_000_000 for row in found.sink.books)
        await handle(book(FUTURE_MS + 1))
        assert found.sink.books[-1].venue_time_ns == (FUTURE_MS + 1) * 1_000_000


@pytest.mark.parametrize("feed", [Feed.BOOK, Feed.TOP])
async def test_frame_older_than_the_last_is_dropped_until_a_reconnect(tmp_path: Path, feed: Feed) -> None:
    """Time that goes back is a fault; a new connection starts a new time."""
    async with world(tmp_path, accounts=[], live=False) as found:
        handle = await watching(found, feed)

        def frame(time: int) -> StreamEvent:
            return book(time) if feed is Feed.BOOK else top(time, "3890.0", "3900.0")

        def told() -> int:
            return len(found.sink.books) + len(found.sink.tops)

        await handle(frame(FUTURE_MS))
        before = told()
        await handle(frame(FUTURE_MS - 7))
        assert told() == before
        assert "back by 7 ms" in found.sink.feed_losses[-1][1]
        await handle(StreamConnected(epoch=9, received_ns=6))
        await handle(frame(FUTURE_MS - 7))
        assert told() == before + 1


async def test_crossed_top_and_refused_feed_are_told_lost(tmp_path: Path) -> None:
    """Both name the symbol and the cause."""
    async with world(tmp_path, accounts=[], live=False) as found:
        handle = await watching(found, Feed.TOP)
        await handle(top(FUTURE_MS, "3900.0", "3900.0"))
        assert "crossed" in found.sink.feed_losses[-1][1]
        refused = SubscriptionRefused(
            subscription={"type": "bbo", "coin": "ETH"}, meaning=classify_error("Invalid subscription")
        )
        await handle(StreamEvent(epoch=1, received_ns=5, event=refused))
        assert found.sink.feed_losses[-1] == (SYMBOL, "the venue refused the feed: Invalid subscription")


async def test_unreadable_market_frame_makes_every_feed_stale(tmp_path: Path) -> None:
    """Nobody can tell whose frame it was."""
    async with world(tmp_path, accounts=[], live=False) as found:
        handle = await watching(found, Feed.BOOK)
        broken = UnreadableFrame(violation=ProtocolViolation("broken", metadata={"what": "l2Book frame"}))
        await handle(StreamEvent(epoch=1, received_ns=5, event=broken))
        assert found.sink.feed_losses[-1][0] == SYMBOL


async def test_unreadable_private_frame_makes_the_account_compare_again(tmp_path: Path) -> None:
    """What the frame said is lost: the account is told live again, so that it is compared with the venue."""
    async with world(tmp_path) as found:
        handle = found.venue._private["main"]._on_event
        broken = UnreadableFrame(violation=ProtocolViolation("broken", metadata={"what": "userFills frame"}))
        await handle(StreamEvent(epoch=1, received_ns=5, event=broken))
        assert found.sink.live == ["main", "main"]
        harmless = UnreadableFrame(violation=ProtocolViolation("broken", metadata={"what": "spotState frame"}))
        await handle(StreamEvent(epoch=1, received_ns=5, event=harmless))
        assert found.sink.live == ["main", "main"]


async def test_private_frame_of_another_account_is_not_believed(tmp_path: Path) -> None:
    """Fills of somebody else never reach this account."""
    async with world(tmp_path) as found:
        handle = found.venue._private["main"]._on_event
        row = {
            "coin": "ETH",
            "px": "1.0",
            "sz": "1.0",
            "side": "B",
            "time": 1,
            "startPosition": "0.0",
            "dir": "Open Long",
            "closedPnl": "0.0",
            "hash": "0x0",
            "oid": 1,
            "crossed": True,
            "fee": "0.0",
            "tid": 1,
            "feeToken": "USDC",
        }
        await handle(event("userFills", {"user": "0x" + "99" * 20, "fills": [row]}))
        assert found.sink.fills == []
        await handle(event("userFills", {"user": ADDRESS, "fills": [row]}))
        assert len(found.sink.fills) == 1


async def test_refused_essential_subscription_loses_the_account_and_is_tried_again(tmp_path: Path) -> None:
    """Without its fills an account is not live; the venue is asked again for as long as it takes."""
    async with world(tmp_path) as found:
        private = found.venue._private["main"]
        fills = {"type": "userFills", "user": ADDRESS}
        await private.stream.unsubscribe(fills)
        refused = SubscriptionRefused(
            subscription=fills, meaning=classify_error("Cannot track more than 10 total users.")
        )
        await private._on_event(StreamEvent(epoch=1, received_ns=5, event=refused))
        assert "refused userFills" in found.sink.lost[-1][1]
        await found.sink.until(lambda: len(found.sink.live) == 2)


async def test_account_state_no_stream_tells_is_read(tmp_path: Path) -> None:
    """Without the state streams, balances are read at the configured interval."""
    async with world(tmp_path, live=False, account_poll_s=0.05) as found:
        for channel in ("clearinghouseState", "spotState"):
            found.simulator.faults.add(Fault(kind=FaultKind.DROP_FRAME, match=channel, count=0))
        await found.sink.until(lambda: len(found.sink.balances) >= 1)
        found.simulator.fund(ADDRESS, "7")
        await found.sink.until(lambda: found.sink.balances[-1][0][0].total == "100007")


async def test_unified_account_is_noticed_by_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """userAbstraction decides which state holds the money."""
    async with world(tmp_path) as found:

        async def unified(_: str) -> str:
            return "unifiedAccount"

        monkeypatch.setattr(found.venue._rest, "fetch_abstraction", unified)
        found.simulator.fund(ADDRESS, "42", wallet="spot")
        snapshot = await found.venue.fetch_snapshot("main")
        assert [(row.venue_section, row.asset, row.total) for row in snapshot.balances] == [("unified", "USDC", "42")]
        assert not snapshot.summary.HasField("equity")


async def test_liquidation_fills_are_forced(tmp_path: Path) -> None:
    """What the venue closed for us says so, and its order is nobody's."""
    async with world(tmp_path) as found:
        instrument = found.instruments[SYMBOL]
        await found.venue.set_leverage("main", instrument, 25, False)
        found.simulator.house_order("ETH", Side.SELL, "3900", "2")
        ticket = found.ticket(quantity="2", price="3900", time_in_force=2)
        await found.venue.place_order(ticket, lambda: None)
        found.simulator.house_order("ETH", Side.BUY, "3600", "5")
        found.simulator.set_price("ETH", "3700")
        await found.sink.until(lambda: any(fill.forced for fill in found.sink.fills))
        forced = next(fill for fill in found.sink.fills if fill.forced)
        assert forced.venue_client_order_id is None
        assert all(row.ledger_entry_type != account_pb2.LEDGER_ENTRY_TYPE_ADJUSTMENT for row in found.sink.ledger)
