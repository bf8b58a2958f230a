"""Books: what is believed, when it grows old, what market orders get, and the law of changes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import ManualClock
from tests.fakes_venue import BTC, Down, FakeVenue, Held, levels
from venuemesh import deadlines
from venuemesh.errors import PreconditionFailed, RateLimited, Reason, Sent, VenueUnavailable
from venuemesh.gateway.books import Books, FreshnessChange, Top, apply_levels, book_fault, diff_levels
from venuemesh.gateway.instruments import Instruments
from venuemesh.gateway.venue import BookSnapshot, Feed, Level

BIDS = levels(("100", "1"), ("99.5", "2"))
ASKS = levels(("100.5", "1"), ("101", "2"))


class Shelf:
    """Books over a fake venue, with what listeners were told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.venue = FakeVenue(self.clock, stale_after_s=5.0)
        instruments = Instruments()
        instruments.replace(self.venue.instruments)
        self.books = Books(self.venue, instruments, self.clock)
        self.told: list[FreshnessChange] = []
        self.books.listeners.append(self.told.append)
        self.wanted: list[tuple[Feed, str]] = []
        self.books.on_interest = lambda feed, symbol: self.wanted.append((feed, symbol))

    def snapshot(self, bids: list[Level] = BIDS, asks: list[Level] = ASKS, age_s: float = 0.0) -> BookSnapshot:
        now_ns = self.clock.now_ns()
        return BookSnapshot(
            symbol=BTC, bids=bids, asks=asks, venue_time_ns=now_ns - int(age_s * 1e9), received_ns=now_ns
        )

    def causes(self) -> list[str]:
        return [change.stale_cause for change in self.told if change.feed is Feed.BOOK]


@pytest.mark.parametrize(
    ("bids", "asks", "fault"),
    [
        (BIDS, ASKS, ""),
        ([], ASKS, ""),
        ([], [], ""),
        (levels(("101", "1")), levels(("100.5", "1")), "crossed: bid 101 at or above ask 100.5"),
        (levels(("100.5", "1")), levels(("100.5", "1")), "crossed: bid 100.5 at or above ask 100.5"),
        (BIDS[::-1], ASKS, "bids are not best first"),
        (BIDS, ASKS[::-1], "asks are not best first"),
        (levels(("100", "1"), ("100", "2")), ASKS, "bids are not best first"),
        (levels(("100", "0")), ASKS, "bids hold a level without price or quantity"),
        (BIDS, levels(("-1", "1")), "asks hold a level without price or quantity"),
    ],
)
def test_book_fault_names_what_is_wrong(bids: list[Level], asks: list[Level], fault: str) -> None:
    """Only a whole, ordered, uncrossed book passes."""
    assert book_fault(bids, asks) == fault


PRICES = st.lists(st.integers(1, 1_000), min_size=1, max_size=6, unique=True)


@settings(max_examples=60)
@given(prices=PRICES, split=st.integers(0, 6))
def test_a_sorted_uncrossed_book_is_sound(prices: list[int], split: int) -> None:
    """Bids falling, asks rising, bids below asks: nothing to object to."""
    ordered = sorted(prices)
    bids = [Level(Decimal(price), Decimal(1)) for price in reversed(ordered[:split])]
    asks = [Level(Decimal(price), Decimal(1)) for price in ordered[split:]]
    assert book_fault(bids, asks) == ""


def test_book_when_a_frame_is_crossed_is_stale_until_a_good_one_comes() -> None:
    """The bad frame is not taken; the last good book is still there, marked with the cause."""
    shelf = Shelf()
    good = shelf.books.on_book(shelf.snapshot())
    assert good is not None
    assert shelf.books.on_book(shelf.snapshot(bids=levels(("102", "1")))) is None
    known = shelf.books.book(BTC)
    assert known is not None
    cause = "crossed: bid 102 at or above ask 100.5"
    assert (known.fresh, known.stale_cause, known.book) == (False, cause, good.book)
    again = shelf.books.on_book(shelf.snapshot())
    assert again is not None
    assert again.sequence > good.sequence
    assert shelf.causes() == ["", cause, ""]


def test_book_when_time_goes_back_is_stale_and_a_lost_feed_starts_time_anew() -> None:
    """A late frame never passes for news; after a new link the venue's clock may be another."""
    shelf = Shelf()
    shelf.books.on_book(shelf.snapshot())
    assert shelf.books.on_book(shelf.snapshot(age_s=1.0)) is None
    assert shelf.books.stale_cause(Feed.BOOK, BTC) == "time went back by 1000 ms"
    assert shelf.books.on_book(shelf.snapshot(age_s=0.5)) is None
    shelf.books.on_feed_lost(BTC, "link down")
    assert shelf.books.on_book(shelf.snapshot(age_s=0.5)) is not None
    assert shelf.causes() == ["", "time went back by 1000 ms", ""]


def test_book_when_silent_is_stale_for_readers_before_any_sweep() -> None:
    """Freshness comes from the clock, not from a timer that may be late; the sweep tells listeners."""
    shelf = Shelf()
    shelf.books.on_book(shelf.snapshot())
    shelf.clock.advance(5.0)
    known = shelf.books.book(BTC)
    assert known is not None
    assert known.fresh
    shelf.clock.advance(0.1)
    known = shelf.books.book(BTC)
    assert known is not None
    assert known.stale_cause == "no update for 5s"
    assert shelf.causes() == [""]
    shelf.books.sweep()
    shelf.books.sweep()
    assert shelf.causes() == ["", "no update for 5s"]


def test_sweep_says_when_the_next_feed_can_turn_stale() -> None:
    """The pump sleeps no longer than the soonest silence."""
    shelf = Shelf()
    shelf.books.on_book(shelf.snapshot())
    shelf.clock.advance(3.0)
    assert shelf.books.sweep() == pytest.approx(2.001)


async def test_run_when_a_feed_goes_silent_tells_listeners() -> None:
    """The pump notices by itself."""
    shelf = Shelf()

    async def pause(event: asyncio.Event, seconds: float) -> None:
        await asyncio.sleep(0)
        shelf.clock.advance(seconds)
        if shelf.causes() == ["", "no update for 5s"]:
            raise asyncio.CancelledError

    shelf.books._pause = pause
    shelf.books.on_book(shelf.snapshot())
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(60):
            await shelf.books.run()


def test_top_when_only_the_book_goes_on_stays_fresh() -> None:
    """A top is sent when it changes: a live book beside it proves that it stands."""
    shelf = Shelf()
    top = Top(symbol=BTC, bid=BIDS[0], ask=ASKS[0], venue_time_ns=shelf.clock.now_ns(), received_ns=0)
    shelf.books.on_top(top)
    shelf.clock.advance(4.0)
    shelf.books.on_book(shelf.snapshot())
    shelf.clock.advance(3.0)
    assert shelf.books.stale_cause(Feed.TOP, BTC) == ""
    shelf.clock.advance(3.0)
    assert shelf.books.stale_cause(Feed.TOP, BTC) == "no update for 5s"


async def test_best_opposite_when_the_top_is_fresh_asks_nobody() -> None:
    """A buyer meets the best ask, a seller the best bid."""
    shelf = Shelf()
    shelf.books.on_book(shelf.snapshot())
    assert await shelf.books.best_opposite(BTC, buy=True) == Decimal("100.5")
    assert await shelf.books.best_opposite(BTC, buy=False) == Decimal("100")
    assert shelf.venue.calls == []


async def test_best_opposite_when_nothing_is_known_fetches_once_for_all_and_wants_the_feed() -> None:
    """Many market orders at once are one request to the venue."""
    shelf = Shelf()
    shelf.venue.set_book(BTC, BIDS, ASKS)
    release = asyncio.Event()
    shelf.venue.script("fetch_book", Held(release))
    asks = [asyncio.create_task(shelf.books.best_opposite(BTC, buy=True)) for _ in range(5)]
    await asyncio.sleep(0)
    release.set()
    async with asyncio.timeout(60):
        assert await asyncio.gather(*asks) == [Decimal("100.5")] * 5
    assert shelf.venue.calls == ["fetch_book"]
    assert set(shelf.wanted) == {(Feed.TOP, BTC)}


async def test_best_opposite_when_stale_and_the_venue_is_away_names_the_staleness() -> None:
    """No market order is priced from an old book; nothing was sent."""
    shelf = Shelf()
    shelf.books.on_book(shelf.snapshot())
    shelf.books.on_feed_lost(BTC, "socket closed")
    shelf.venue.script("fetch_book", Down("link down"))
    with pytest.raises(VenueUnavailable, match="socket closed; link down") as caught:
        await shelf.books.best_opposite(BTC, buy=True)
    assert caught.value.sent is Sent.NO


async def test_best_opposite_when_the_venue_is_slow_keeps_to_the_callers_deadline() -> None:
    """The fetch ends while there is time to say so."""
    shelf = Shelf()
    shelf.venue.script("fetch_book", Held(asyncio.Event()))
    deadlines.set_deadline(deadlines.Deadline(shelf.clock, shelf.clock.monotonic_s() + 0.15))
    async with asyncio.timeout(60):
        with pytest.raises(VenueUnavailable, match="in time"):
            await shelf.books.best_opposite(BTC, buy=True)


async def test_best_opposite_when_the_side_is_empty_is_no_liquidity() -> None:
    """An empty side is an answer of its own, not a missing book."""
    shelf = Shelf()
    shelf.books.on_book(shelf.snapshot(asks=[]))
    with pytest.raises(PreconditionFailed) as caught:
        await shelf.books.best_opposite(BTC, buy=True)
    assert caught.value.reason is Reason.NO_LIQUIDITY


async def test_best_opposite_when_the_fetched_book_is_crossed_refuses_it() -> None:
    """Integrity holds for fetched books too."""
    shelf = Shelf()
    shelf.venue.set_book(BTC, levels(("102", "1")), ASKS)
    with pytest.raises(VenueUnavailable, match="crossed"):
        await shelf.books.best_opposite(BTC, buy=True)


async def test_fresh_book_when_the_venue_limits_us_says_so() -> None:
    """A limit keeps its own reason and time to wait."""
    shelf = Shelf()
    shelf.venue.script("fetch_book", RateLimited("slow down", retry_after_s=3.0))
    with pytest.raises(RateLimited):
        await shelf.books.fresh_book(BTC)


async def test_fetched_book_grows_old_like_any_other() -> None:
    """One fetch serves for the configured silence and no longer."""
    shelf = Shelf()
    shelf.venue.set_book(BTC, BIDS, ASKS)
    await shelf.books.fresh_book(BTC)
    shelf.clock.advance(4.0)
    await shelf.books.fresh_book(BTC)
    assert shelf.venue.calls == ["fetch_book"]
    shelf.clock.advance(2.0)
    known = shelf.books.book(BTC)
    assert known is not None
    assert not known.fresh
    await shelf.books.fresh_book(BTC)
    assert shelf.venue.calls == ["fetch_book"] * 2


prices = st.integers(1, 40).map(lambda cents: Decimal(cents) / 4)
sides = st.dictionaries(prices, st.tuples(st.integers(1, 5), st.none() | st.integers(1, 3)), max_size=12).map(
    lambda side: [Level(price, Decimal(size), count) for price, (size, count) in sorted(side.items())]
)


@settings(max_examples=200)
@given(sides, st.lists(sides, min_size=1, max_size=5), st.booleans())
def test_law_changes_applied_to_the_clients_copy_give_the_servers_side(
    first: list[Level], later: list[list[Level]], descending: bool
) -> None:
    """Whatever states a reader skips, one change leads from what it holds to what there is; equal sides change
    nothing."""
    held = first[::-1] if descending else first
    for side in later:
        wanted = side[::-1] if descending else side
        changes = diff_levels(held, wanted)
        held = apply_levels(held, changes, descending=descending)
        assert held == wanted
        assert diff_levels(held, wanted) == []


@settings(max_examples=100)
@given(sides, sides)
def test_law_a_change_never_names_a_level_that_stayed(before: list[Level], after: list[Level]) -> None:
    """Deltas are minimal: each entry is new, different or gone."""
    known = {level.price: level for level in before}
    for change in diff_levels(before, after):
        if change.quantity:
            assert known.get(change.price) != change
        else:
            assert change.price in known
            assert change == replace(known[change.price], quantity=Decimal(0), order_count=None)
