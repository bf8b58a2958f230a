"""Candles of a venue a page at a time."""

from __future__ import annotations

from collections.abc import Sequence

from venuemesh.gateway.services.history import number_of
from venuemesh.gateway.services.requests import missing, time_range
from venuemesh.gateway.venue import Venue
from venuemesh.paging import Page
from venuemesh.v1 import market_data_pb2 as pb
from venuemesh.v1 import market_data_service_pb2 as wire

_MINUTE_NS = 60 * 1_000_000_000
_HOUR_NS = 60 * _MINUTE_NS
_DAY_NS = 24 * _HOUR_NS
LENGTH_NS = {
    pb.CANDLE_INTERVAL_1M: _MINUTE_NS,
    pb.CANDLE_INTERVAL_3M: 3 * _MINUTE_NS,
    pb.CANDLE_INTERVAL_5M: 5 * _MINUTE_NS,
    pb.CANDLE_INTERVAL_15M: 15 * _MINUTE_NS,
    pb.CANDLE_INTERVAL_30M: 30 * _MINUTE_NS,
    pb.CANDLE_INTERVAL_1H: _HOUR_NS,
    pb.CANDLE_INTERVAL_2H: 2 * _HOUR_NS,
    pb.CANDLE_INTERVAL_4H: 4 * _HOUR_NS,
    pb.CANDLE_INTERVAL_8H: 8 * _HOUR_NS,
    pb.CANDLE_INTERVAL_12H: 12 * _HOUR_NS,
    pb.CANDLE_INTERVAL_1D: _DAY_NS,
    pb.CANDLE_INTERVAL_3D: 3 * _DAY_NS,
    pb.CANDLE_INTERVAL_1W: 7 * _DAY_NS,
    pb.CANDLE_INTERVAL_1MONTH: 31 * _DAY_NS,
}
"""Longest length of each interval."""
MAX_TRIES = 4
WIDENING = 10


async def ask_candles(
    venue: Venue, request: wire.ListCandlesRequest, page: Page, *, now_ns: int
) -> tuple[Sequence[pb.Candle], str]:
    """One page of candles, and the cursor of the next: a time in nanoseconds; empty when there is none.

    The venue is asked for the time that one page fills, so a quiet stretch can make a short page.
    """
    if not request.HasField("from_time"):
        raise missing("from_time", "is required")
    from_ns, to_ns = time_range(request)
    end_ns = to_ns if to_ns is not None else now_ns + 1
    begin_ns = number_of(page.cursor) if page.cursor else from_ns
    width_ns = page.size * LENGTH_NS[request.interval]
    rows: list[pb.Candle] = []
    until_ns = begin_ns
    for _ in range(MAX_TRIES):
        begin_ns, until_ns = until_ns, min(end_ns, until_ns + width_ns)
        if begin_ns >= until_ns:
            break
        rows = list(await venue.fetch_candles(request.symbol, request.interval, begin_ns, until_ns))
        if rows:
            break
        # Before the first candle there are none: the next step is longer.
        width_ns *= WIDENING
    if len(rows) > page.size:
        return rows[: page.size], str(rows[page.size].open_time.ToNanoseconds())
    return rows, str(until_ns) if until_ns < end_ns else ""
