"""A book out of stream messages, and several books as one."""

from __future__ import annotations

from decimal import Decimal

import pytest

from router.book_fold import BookFold, BookGap, book_view
from router.consolidated import consolidate
from router.plans import instant
from router.views import BookView, Level
from venuemesh.v1 import market_data_pb2, stream_pb2
from venuemesh.v1 import market_data_service_pb2 as pb

NOW_NS = 1_790_000_000_000_000_000


def book(bids: dict[str, str], asks: dict[str, str], *, read_ns: int = NOW_NS) -> market_data_pb2.OrderBook:
    level = market_data_pb2.PriceLevel
    return market_data_pb2.OrderBook(
        bids=[level(price=price, quantity=quantity) for price, quantity in bids.items()],
        asks=[level(price=price, quantity=quantity) for price, quantity in asks.items()],
        received_time=instant(read_ns),
        freshness=stream_pb2.FRESHNESS_FRESH,
    )


def header(sequence: int, previous: int) -> stream_pb2.StreamHeader:
    return stream_pb2.StreamHeader(sequence=sequence, previous_sequence=previous)


def started() -> BookFold:
    fold = BookFold()
    first = pb.StreamOrderBookResponse(header=header(1, 0), snapshot=book({"99": "1", "98": "2"}, {"101": "3"}))
    fold.apply(first, wall_ns=NOW_NS, mono_s=10.0)
    return fold


def test_changes_replace_remove_and_keep_the_order() -> None:
    """Best first after every change."""
    fold = started()
    change = book({"99": "0", "98.5": "4"}, {"100.5": "1"})
    fold.apply(pb.StreamOrderBookResponse(header=header(2, 1), delta=change), wall_ns=NOW_NS, mono_s=11.0)
    view = fold.view(12.0)
    assert view is not None
    assert [(str(one.price), str(one.quantity)) for one in view.bids] == [("98.5", "4"), ("98", "2")]
    assert [str(one.price) for one in view.asks] == ["100.5", "101"]
    assert view.age_s == pytest.approx(1.0)


def test_change_that_does_not_follow_is_a_gap() -> None:
    """A book with a hole is worse than none."""
    with pytest.raises(BookGap):
        started().apply(pb.StreamOrderBookResponse(header=header(4, 3), delta=book({}, {})), wall_ns=0, mono_s=0)
    with pytest.raises(BookGap):
        BookFold().apply(pb.StreamOrderBookResponse(header=header(1, 0), delta=book({}, {})), wall_ns=0, mono_s=0)


def test_age_counts_from_the_gateways_reading_not_from_arrival() -> None:
    """A book that was two seconds old when it came is three seconds old a second later."""
    fold = BookFold()
    old = pb.StreamOrderBookResponse(header=header(1, 0), snapshot=book({}, {}, read_ns=NOW_NS - 2 * 10**9))
    fold.apply(old, wall_ns=NOW_NS, mono_s=5.0)
    view = fold.view(6.0)
    assert view is not None
    assert view.age_s == pytest.approx(3.0)


def test_heartbeats_do_not_make_a_book_younger() -> None:
    """They prove the pipe, not the data."""
    fold = started()
    beat = pb.StreamOrderBookResponse(header=header(1, 1), heartbeat=stream_pb2.StreamHeartbeat())
    fold.apply(beat, wall_ns=NOW_NS, mono_s=20.0)
    view = fold.view(20.0)
    assert view is not None
    assert view.age_s == pytest.approx(10.0)


def test_stale_status_marks_the_book_until_fresh() -> None:
    """The gateway's word, with its cause."""
    fold = started()
    stale = stream_pb2.StreamStatus(freshness=stream_pb2.FRESHNESS_STALE, cause="link down")
    fold.apply(pb.StreamOrderBookResponse(header=header(2, 1), status=stale), wall_ns=NOW_NS, mono_s=10.5)
    view = fold.view(10.5)
    assert view is not None
    assert view.stale_cause == "link down"
    fresh = stream_pb2.StreamStatus(freshness=stream_pb2.FRESHNESS_FRESH)
    fold.apply(pb.StreamOrderBookResponse(header=header(3, 2), status=fresh), wall_ns=NOW_NS, mono_s=10.6)
    view = fold.view(10.6)
    assert view is not None
    assert view.stale_cause == ""


def test_lost_stream_leaves_no_book() -> None:
    """Nothing is known until the next snapshot."""
    fold = started()
    fold.lost()
    assert fold.view(10.0) is None


def test_book_whose_gateway_does_not_say_fresh_is_stale() -> None:
    """Unspecified is not fresh."""
    read = book({}, {})
    read.freshness = stream_pb2.FRESHNESS_UNSPECIFIED
    assert book_view(read, NOW_NS).stale_cause


def test_consolidated_book_sorts_levels_over_venues_and_dates_from_the_oldest() -> None:
    """Equal prices by venue name; the depth bounds each side."""

    def side(*prices: str) -> tuple[Level, ...]:
        return tuple(Level(Decimal(price), Decimal(1)) for price in prices)

    books = {
        "b": BookView(bids=side("99", "97"), asks=side("100"), age_s=2.0),
        "a": BookView(bids=side("99", "98"), asks=side("101"), age_s=1.0),
    }
    whole = consolidate("X", books, ["c: down"], depth=3, now_ns=NOW_NS)
    assert [(one.price, one.venue) for one in whole.bids] == [("99", "a"), ("99", "b"), ("98", "a")]
    assert [(one.price, one.venue) for one in whole.asks] == [("100", "b"), ("101", "a")]
    assert whole.received_time.ToNanoseconds() == NOW_NS - 2 * 10**9
    assert list(whole.left_out) == ["c: down"]


def test_consolidated_book_of_nothing_says_stale() -> None:
    """Never silently empty."""
    whole = consolidate("X", {}, ["a: down"], depth=0, now_ns=NOW_NS)
    assert whole.freshness == stream_pb2.FRESHNESS_STALE
    assert whole.stale_cause
