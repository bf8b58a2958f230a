"""One symbol's book out of the messages of a book stream, with its age. Pure.

Numbers stay strings until a decision asks for the book: most snapshots are replaced before anybody looks.
"""

from __future__ import annotations

from decimal import Decimal

from router.views import BookView, Level
from venuemesh.v1 import market_data_pb2, market_data_service_pb2, stream_pb2


class BookGap(Exception):
    """A change was lost, so the book cannot be trusted; the stream must begin again."""


class BookFold:
    """The state of one book. Times are passed in: `wall_ns` Unix, `mono_s` monotonic."""

    def __init__(self) -> None:
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}
        self._unread: market_data_pb2.OrderBook | None = None
        self._seen = False
        self._stale_cause = ""
        self._read_at_s = 0.0
        self._sequence = 0

    def lost(self) -> None:
        """The stream ended: nothing is known until the next snapshot."""
        self._seen = False
        self._unread = None
        self._sequence = 0

    def apply(self, message: market_data_service_pb2.StreamOrderBookResponse, *, wall_ns: int, mono_s: float) -> None:
        """Take one message of the stream.

        Raises:
            BookGap: a change does not follow the one before.
        """
        match message.WhichOneof("body"):
            case "snapshot":
                self._replace(message.snapshot, wall_ns, mono_s)
            case "delta":
                if not self._seen or message.header.previous_sequence != self._sequence:
                    raise BookGap(f"{message.header.previous_sequence} follows {self._sequence}")
                self._change(message.delta, wall_ns, mono_s)
            case "status":
                stale = message.status.freshness != stream_pb2.FRESHNESS_FRESH
                self._stale_cause = (message.status.cause or "its gateway says so") if stale else ""
            case _:
                return
        self._sequence = message.header.sequence

    def _replace(self, book: market_data_pb2.OrderBook, wall_ns: int, mono_s: float) -> None:
        self._unread, self._seen = book, True
        self._stale_cause = stale_cause(book)
        self._stamp(book, wall_ns, mono_s)

    def _change(self, book: market_data_pb2.OrderBook, wall_ns: int, mono_s: float) -> None:
        self._read()
        for side, levels in ((self._bids, book.bids), (self._asks, book.asks)):
            for level in levels:
                price, quantity = Decimal(level.price), Decimal(level.quantity)
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)
        self._stamp(book, wall_ns, mono_s)

    def _stamp(self, book: market_data_pb2.OrderBook, wall_ns: int, mono_s: float) -> None:
        self._read_at_s = mono_s - age_s(book, wall_ns)

    def _read(self) -> None:
        if self._unread is not None:
            book, self._unread = self._unread, None
            self._bids = {Decimal(level.price): Decimal(level.quantity) for level in book.bids}
            self._asks = {Decimal(level.price): Decimal(level.quantity) for level in book.asks}

    def view(self, mono_s: float) -> BookView | None:
        """The book with its age now; None before the first snapshot."""
        if not self._seen:
            return None
        self._read()
        return BookView(
            bids=tuple(Level(price, self._bids[price]) for price in sorted(self._bids, reverse=True)),
            asks=tuple(Level(price, self._asks[price]) for price in sorted(self._asks)),
            age_s=max(0.0, mono_s - self._read_at_s),
            stale_cause=self._stale_cause,
        )


def book_view(book: market_data_pb2.OrderBook, wall_ns: int) -> BookView:
    """One book as a gateway answered it."""
    return BookView(
        bids=tuple(Level(Decimal(level.price), Decimal(level.quantity)) for level in book.bids),
        asks=tuple(Level(Decimal(level.price), Decimal(level.quantity)) for level in book.asks),
        age_s=age_s(book, wall_ns),
        stale_cause=stale_cause(book),
    )


def age_s(book: market_data_pb2.OrderBook, wall_ns: int) -> float:
    """Time since the gateway read it; zero when its clock is ahead of ours or it does not say."""
    if not book.HasField("received_time"):
        return 0.0
    return max(0.0, (wall_ns - book.received_time.ToNanoseconds()) / 1e9)


def stale_cause(book: market_data_pb2.OrderBook) -> str:
    """Why the gateway says it is stale; empty when it says it is fresh."""
    if book.freshness == stream_pb2.FRESHNESS_FRESH:
        return ""
    return book.stale_cause or "its gateway does not say it is fresh"
