"""One reader's order books: a snapshot per symbol, then what changed since the last message of that symbol.

Changes are made when a message goes out, against what this reader holds. So a slow reader whose states were conflated
gets one change that leads to the newest book, and needs nothing it did not get.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from venuemesh.gateway.books import BookState
from venuemesh.gateway.services.book_wire import Scales, Sides, change, cut, to_order_book, to_scaled
from venuemesh.streaming import responder
from venuemesh.v1 import market_data_service_pb2 as wire
from venuemesh.v1 import stream_pb2

NOTHING = Sides((), ())


class BookStream:
    """Makes the messages of one StreamOrderBook call.

    Args:
        depth: levels per side the reader wants.
        scales: per symbol, when the reader wants scaled integers; a symbol whose numbers turn out not to fit goes on
            in strings with a new snapshot.
    """

    def __init__(self, *, venue: str, epoch: str, depth: int, scales: Mapping[str, Scales] | None = None) -> None:
        self._venue = venue
        self._epoch = epoch
        self._depth = depth
        self._scales = dict(scales or {})
        self._held: dict[str, Sides] = {}
        self._message = responder(wire.StreamOrderBookResponse, self._body)

    def respond(self, header: stream_pb2.StreamHeader, value: Any) -> wire.StreamOrderBookResponse:
        """The message of a book state, a status or a control message."""
        if isinstance(value, stream_pb2.StreamStatus):
            # What comes after a silence or a new link is told whole.
            self.forget(value.subscription)
        return self._message(header, value)

    def forget(self, symbol: str) -> None:
        """The next message of the symbol is a snapshot."""
        self._held.pop(symbol, None)

    def add(self, symbol: str, scales: Scales | None) -> None:
        """A symbol was added to the stream."""
        self.forget(symbol)
        if scales is not None:
            self._scales[symbol] = scales

    def _body(self, state: BookState) -> dict[str, Any]:
        symbol, after = state.book.symbol, cut(state, self._depth)
        before = self._held.get(symbol)
        if not state.fresh:
            # Scaled messages cannot say that they are stale.
            self.forget(symbol)
            return {"snapshot": to_order_book(state, after, venue=self._venue, epoch=self._epoch)}
        self._held[symbol] = after
        sides = after if before is None else change(before, after)
        scales = self._scales.get(symbol)
        if scales is not None:
            scaled = to_scaled(state, sides, scales, venue=self._venue, snapshot=before is None)
            if scaled is not None:
                return {"scaled": scaled}
            del self._scales[symbol]
            before, sides = None, after
        message = to_order_book(state, sides, venue=self._venue, epoch=self._epoch)
        return {"snapshot" if before is None else "delta": message}
