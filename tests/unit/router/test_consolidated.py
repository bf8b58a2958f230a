"""One book out of many, without the one that is wrong."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from router.consolidated import consolidate, outliers
from router.views import BookView, Level
from venuemesh.v1 import stream_pb2


def book(bid: str, ask: str) -> BookView:
    one = Decimal(1)
    return BookView(bids=(Level(Decimal(bid), one),), asks=(Level(Decimal(ask), one),), age_s=0.5)


def test_book_far_from_the_median_is_an_outlier() -> None:
    """Two agree, the third is 10 % away."""
    found = outliers(
        {"a": book("99", "101"), "b": book("99.5", "100.5"), "c": book("109", "111")}, max_distance_bps=200
    )
    assert found == {"c": "outlier: middle 110 is 1000 bps from the median of all venues"}


def test_of_two_that_disagree_none_is_an_outlier() -> None:
    """Nobody knows which is wrong."""
    assert outliers({"a": book("99", "101"), "c": book("109", "111")}, max_distance_bps=200) == {}


def test_one_sided_book_has_no_middle_and_stays() -> None:
    """It is neither judged nor counted."""
    half = BookView(bids=(), asks=(Level(Decimal(500), Decimal(1)),), age_s=0)
    assert outliers({"a": book("99", "101"), "b": book("99", "101"), "c": half}, max_distance_bps=1) == {}


@settings(max_examples=100, deadline=None)
@given(middles=st.lists(st.integers(50, 150), min_size=3, max_size=6))
def test_most_books_are_never_left_out(middles: list[int]) -> None:
    """Whatever the books say, at least one of an odd number stays, and those that stay are near the median."""
    books = {f"v{n}": book(str(middle - 1), str(middle + 1)) for n, middle in enumerate(middles)}
    found = outliers(books, max_distance_bps=500)
    ordered = sorted(middles)
    half = len(ordered) // 2
    odd = len(ordered) % 2 == 1
    median = Decimal(ordered[half]) if odd else Decimal(ordered[half - 1] + ordered[half]) / 2
    for name, middle in zip(books, middles, strict=True):
        assert (name in found) == (abs(middle - median) * 10_000 > median * 500)
    assert not odd or len(found) < len(books)


def test_consolidated_book_without_any_venue_says_stale() -> None:
    """Never an empty book that looks fresh."""
    empty = consolidate("S", {}, ["a: gone"], depth=0, now_ns=1)
    assert empty.freshness == stream_pb2.FRESHNESS_STALE
    assert list(empty.left_out) == ["a: gone"]
