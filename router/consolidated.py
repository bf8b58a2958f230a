"""One book over several venues: every level with its venue, and who was left out. Pure.

A book whose middle is far from the median of all middles is an outlier and left out. It takes three books to tell: of
two that disagree nobody knows which is wrong, so both stay and the book may be crossed.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from decimal import Decimal

from router.plans import instant
from router.views import BookView, Level
from venuemesh.money import EXACT, divide, format_decimal
from venuemesh.v1 import market_data_pb2, stream_pb2

DEFAULT_DEPTH = 20
LEAST_BOOKS = 3
_BPS = Decimal(10_000)


def outliers(books: Mapping[str, BookView], *, max_distance_bps: int) -> dict[str, str]:
    """Venues whose middle price is further from the median of all than allowed, with the words for it.

    Args:
        books: fresh books by venue; one without both sides has no middle and is never an outlier.
        max_distance_bps: in hundredths of a percent of the median.
    """
    middles = {
        venue: divide(EXACT.add(book.bids[0].price, book.asks[0].price), Decimal(2))
        for venue, book in books.items()
        if book.bids and book.asks
    }
    if len(middles) < LEAST_BOOKS:
        return {}
    median = statistics.median(middles.values())
    found = {}
    for venue, middle in middles.items():
        distance = abs(EXACT.subtract(middle, median))
        if EXACT.multiply(distance, _BPS) > EXACT.multiply(median, Decimal(max_distance_bps)):
            bps = format_decimal(divide(EXACT.multiply(distance, _BPS), median).quantize(Decimal(1)))
            found[venue] = f"outlier: middle {format_decimal(middle)} is {bps} bps from the median of all venues"
    return found


def consolidate(
    symbol: str, books: Mapping[str, BookView], left_out: Sequence[str], *, depth: int, now_ns: int
) -> market_data_pb2.OrderBook:
    """Levels of all books, best first, at equal prices by venue name; `received_time` is of the oldest book used.

    Args:
        books: fresh books by venue.
        left_out: the other venues, each as "venue: reason".
        depth: levels per side; 0 for 20.
    """
    oldest_s = max((book.age_s for book in books.values()), default=0.0)
    bids = [(venue, level) for venue, book in sorted(books.items()) for level in book.bids]
    asks = [(venue, level) for venue, book in sorted(books.items()) for level in book.asks]
    size = depth or DEFAULT_DEPTH
    return market_data_pb2.OrderBook(
        symbol=symbol,
        bids=_messages(sorted(bids, key=_price, reverse=True)[:size]),
        asks=_messages(sorted(asks, key=_price)[:size]),
        received_time=instant(now_ns - round(oldest_s * 1e9)),
        freshness=stream_pb2.FRESHNESS_FRESH if books else stream_pb2.FRESHNESS_STALE,
        stale_cause="" if books else "no venue has a fresh book",
        left_out=left_out,
    )


def best(symbol: str, books: Mapping[str, BookView], *, now_ns: int) -> market_data_pb2.TopOfBook:
    """The best bid and offer of all books, at equal prices by venue name; `received_unix_nanos` is of the older one."""
    bids = [(venue, book.bids[0], book.age_s) for venue, book in sorted(books.items()) if book.bids]
    asks = [(venue, book.asks[0], book.age_s) for venue, book in sorted(books.items()) if book.asks]
    bid = max(bids, key=lambda one: one[1].price, default=None)
    ask = min(asks, key=lambda one: one[1].price, default=None)
    oldest_s = max((one[2] for one in (bid, ask) if one is not None), default=0.0)
    return market_data_pb2.TopOfBook(
        symbol=symbol,
        bid=None if bid is None else _messages([bid[:2]])[0],
        ask=None if ask is None else _messages([ask[:2]])[0],
        received_unix_nanos=now_ns - round(oldest_s * 1e9),
        freshness=stream_pb2.FRESHNESS_FRESH if books else stream_pb2.FRESHNESS_STALE,
    )


def _messages(levels: Sequence[tuple[str, Level]]) -> list[market_data_pb2.PriceLevel]:
    return [
        market_data_pb2.PriceLevel(price=_text(level.price), quantity=_text(level.quantity), venue=venue)
        for venue, level in levels
    ]


def _price(one: tuple[str, Level]) -> Decimal:
    return one[1].price


def _text(value: Decimal) -> str:
    return format_decimal(value)
