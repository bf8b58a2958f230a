"""A book from snapshot and chained updates: equal to the venue's, or said to be stale."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_lighter.codec_book import BookChanged, BookGap, BookIgnored, BookState
from gateway_lighter.codec_frames import DataFrame, parse_frame
from gateway_lighter.messages import BookFrame, BookLevel
from tests.unit.gateway_lighter.support import encode, needs_recordings, recording


def level(price: int | str, size: int | str) -> BookLevel:
    """A level from plain numbers."""
    return BookLevel(price=Decimal(price), size=Decimal(size))


def frame(
    begin: int, nonce: int, bids: list[BookLevel] | None = None, asks: list[BookLevel] | None = None
) -> BookFrame:
    """A book frame."""
    return BookFrame(begin_nonce=begin, nonce=nonce, bids=tuple(bids or ()), asks=tuple(asks or ()), last_updated_at=7)


def fresh() -> BookState:
    """A book with two levels a side at nonce 10."""
    book = BookState(3)
    snapshot = frame(0, 10, [level(99, 1), level(98, 2)], [level(101, 1), level(102, 2)])
    assert isinstance(book.apply(snapshot, is_snapshot=True), BookChanged)
    return book


def test_update_in_the_chain_changes_removes_and_adds() -> None:
    """Absolute sizes; zero removes, in whatever decimals."""
    book = fresh()
    outcome = book.apply(frame(10, 25, [level(99, "0.0000"), level("98.5", 3)], [level(101, 7)]), is_snapshot=False)
    assert outcome == BookChanged(market_index=3, nonce=25, venue_time_us=7, is_snapshot=False)
    assert book.bids() == (level("98.5", 3), level(98, 2))
    assert book.asks(1) == (level(101, 7),)


def test_update_that_skips_nonces_is_a_gap_and_the_book_is_stale_until_a_snapshot() -> None:
    """Told once; what follows is ignored; the old levels stay visible as stale."""
    book = fresh()
    gap = book.apply(frame(20, 25, [level(97, 1)]), is_snapshot=False)
    assert isinstance(gap, BookGap) and (gap.expected_nonce, gap.found_nonce) == (10, 20)
    assert not book.is_fresh and book.nonce is None and book.gaps == 1
    assert isinstance(book.apply(frame(25, 30, [level(97, 1)]), is_snapshot=False), BookIgnored)
    assert book.bids() == (level(99, 1), level(98, 2))
    assert isinstance(book.apply(frame(0, 40, [level(50, 1)]), is_snapshot=True), BookChanged)
    assert book.bids() == (level(50, 1),) and book.asks() == ()


def test_update_older_than_the_snapshot_is_ignored() -> None:
    """It may arrive around subscribing."""
    book = fresh()
    assert isinstance(book.apply(frame(5, 9, [level(1, 1)]), is_snapshot=False), BookIgnored)
    assert isinstance(book.apply(frame(5, 10, [level(1, 1)]), is_snapshot=False), BookIgnored)
    assert book.is_fresh and len(book.bids()) == 2


def test_update_that_repeats_is_a_gap_because_it_does_not_chain() -> None:
    """The same update twice: the second does not follow the first."""
    book = fresh()
    book.apply(frame(10, 20), is_snapshot=False)
    assert isinstance(book.apply(frame(10, 20), is_snapshot=False), BookGap)


def test_update_that_ends_before_it_begins_is_a_gap() -> None:
    """A server that counts backwards is not followed."""
    book = fresh()
    book.apply(frame(10, 30), is_snapshot=False)
    assert isinstance(book.apply(frame(30, 29), is_snapshot=False), BookGap)


def test_book_before_its_snapshot_ignores_updates() -> None:
    """And after `invalidate`."""
    book = BookState(0)
    assert isinstance(book.apply(frame(0, 5), is_snapshot=False), BookIgnored)
    book = fresh()
    book.invalidate()
    assert isinstance(book.apply(frame(10, 12), is_snapshot=False), BookIgnored)
    assert book.gaps == 0


@needs_recordings
def test_recorded_chain_is_followed_without_a_gap() -> None:
    """One snapshot and six updates of the venue."""
    book = BookState(36)
    frames = [parse_frame(encode(one)) for one in recording("ws_order_book.crv.json")]
    for one in frames:
        assert isinstance(one, DataFrame)
        assert isinstance(book.apply(one.body.order_book, is_snapshot=one.is_snapshot), BookChanged)
    assert book.bids(1)[0].price < book.asks(1)[0].price
    without_third = BookState(36)
    outcomes = [
        without_third.apply(one.body.order_book, is_snapshot=one.is_snapshot)
        for number, one in enumerate(frames)
        if number != 3 and isinstance(one, DataFrame)
    ]
    assert sum(isinstance(outcome, BookGap) for outcome in outcomes) == 1
    assert not without_third.is_fresh


changes = st.lists(
    st.tuples(st.booleans(), st.integers(1, 12), st.integers(0, 3)), min_size=0, max_size=6
)  # is bid, price, size


@given(updates=st.lists(st.tuples(changes, st.integers(1, 9), st.booleans()), max_size=25))
@settings(max_examples=150)
def test_book_equals_a_plain_dictionary_or_says_that_it_is_stale(
    updates: list[tuple[list[tuple[bool, int, int]], int, bool]],
) -> None:
    """Random updates, some of them lost: whenever the book calls itself fresh it equals the true one."""
    book = BookState(0)
    truth: dict[bool, dict[int, int]] = {True: {}, False: {}}
    nonce = 1
    book.apply(frame(0, nonce), is_snapshot=True)
    for levels, step, is_lost in updates:
        sides: dict[bool, list[BookLevel]] = {True: [], False: []}
        for is_bid, price, size in levels:
            sides[is_bid].append(level(price, size))
            truth[is_bid][price] = size
        if not is_lost:
            book.apply(frame(nonce, nonce + step, sides[True], sides[False]), is_snapshot=False)
        nonce += step
        if book.is_fresh and book.nonce == nonce:
            for is_bid, shown in ((True, book.bids()), (False, book.asks())):
                expected = sorted(((p, s) for p, s in truth[is_bid].items() if s), reverse=is_bid)
                assert [(int(one.price), int(one.size)) for one in shown] == expected
    if any(lost for _, _, lost in updates[:-1]) and not updates[-1][2]:
        assert not book.is_fresh
