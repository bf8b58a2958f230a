"""One book over several venues: every level with its venue, and who was left out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from router.plans import instant
from router.views import BookView, Level
from venuemesh.money import format_decimal
from venuemesh.v1 import market_data_pb2, stream_pb2

DEFAULT_DEPTH = 20


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


def _messages(levels: Sequence[tuple[str, Level]]) -> list[market_data_pb2.PriceLevel]:
    return [
        market_data_pb2.PriceLevel(price=_text(level.price), quantity=_text(level.quantity), venue=venue)
        for venue, level in levels
    ]


def _price(one: tuple[str, Level]) -> Decimal:
    return one[1].price


def _text(value: Decimal) -> str:
    return format_decimal(value)
