"""Live marks of the instruments with open positions, from the mesh's own market data services."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol

import grpc
import grpc.aio

from aggregator.aggregate import Aggregate
from aggregator.feeds import EventFeed
from aggregator.valuation import Instrument, Mark
from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest
from venuemesh.money import parse_decimal
from venuemesh.v1 import market_data_service_pb2, stream_pb2

log = logging.getLogger(__name__)

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 5.0
EXPECTED_ENDS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)

PutMark = Callable[[Instrument, Mark], None]


class MarkSource(Protocol):
    """Where live marks of one venue come from."""

    async def follow(self, venue: str, symbols: frozenset[str], put: PutMark) -> None:
        """Hand every mark to `put` until cancelled; reconnecting is its own affair, silence is a stale mark."""


class StatisticsMarks:
    """Marks from `MarketDataService.StreamStatistics` of a gateway or the router."""

    def __init__(self, stub: Any, clock: Clock) -> None:
        self._stub = stub
        self._clock = clock
        self._known: dict[str, dict[str, Mark]] = {}

    async def follow(self, venue: str, symbols: frozenset[str], put: PutMark) -> None:
        """See `MarkSource`."""
        # Kept over a change of the symbols: a stream that does not come up again makes the old marks stale.
        former = self._known.get(venue, {})
        known = self._known[venue] = {symbol: mark for symbol, mark in former.items() if symbol in symbols}
        wait_s = FIRST_WAIT_S

        def keep(symbol: str, mark: Mark) -> None:
            known[symbol] = mark
            put((venue, symbol), mark)

        while True:
            seen = await self._read(venue, symbols, known, keep)
            now_ns = self._clock.now_ns()
            for symbol, mark in known.items():
                if mark.stale_since_ns is None:
                    keep(symbol, Mark(price=mark.price, stale_since_ns=now_ns, cause="the mark stream was lost"))
            wait_s = FIRST_WAIT_S if seen else min(2 * wait_s, LONGEST_WAIT_S)
            await asyncio.sleep(wait_s)

    async def _read(
        self, venue: str, symbols: frozenset[str], known: Mapping[str, Mark], keep: Callable[[str, Mark], None]
    ) -> bool:
        """One stream to its end; returns whether it gave any mark."""
        request = market_data_service_pb2.StreamStatisticsRequest(venue=venue, symbols=sorted(symbols))
        call = self._stub.StreamStatistics(request)
        seen = False
        try:
            async for message in call:
                match message.WhichOneof("body"):
                    case "statistics":
                        seen = self._on_statistics(message.statistics, keep) or seen
                    case "status" if message.status.subscription in known:
                        self._on_status(message.status, known, keep)
                    case "closing":
                        return seen
        except grpc.aio.AioRpcError as error:
            level = logging.INFO if error.code() in EXPECTED_ENDS else logging.WARNING
            log.log(level, "mark_stream_ended", extra={"venue": venue, "code": error.code().name})
        finally:
            # A dropped stream that is not cancelled is never collected by gRPC.
            call.cancel()
        return seen

    def _on_statistics(self, statistics: Any, keep: Callable[[str, Mark], None]) -> bool:
        if not statistics.HasField("mark_price"):
            return False
        try:
            price = parse_decimal(statistics.mark_price, field="mark_price")
        except InvalidRequest as error:
            log.warning("mark_refused", extra={"symbol": statistics.symbol, "error": error.message})
            return False
        if price <= Decimal(0):
            return False
        stale = statistics.freshness == stream_pb2.FRESHNESS_STALE
        since_ns = self._clock.now_ns() if stale else None
        keep(statistics.symbol, Mark(price=price, stale_since_ns=since_ns, cause="stale at the venue" if stale else ""))
        return True

    @staticmethod
    def _on_status(
        status: stream_pb2.StreamStatus, known: Mapping[str, Mark], keep: Callable[[str, Mark], None]
    ) -> None:
        price = known[status.subscription].price
        if status.freshness == stream_pb2.FRESHNESS_STALE:
            mark = Mark(price=price, stale_since_ns=status.since.ToNanoseconds(), cause=status.cause)
        else:
            mark = Mark(price=price)
        keep(status.subscription, mark)


class MarkBoard:
    """Follows the marks that the portfolio needs and hands them to it, at most once per interval together.

    Args:
        sources: by venue; `default` serves the venues that have none of their own.
    """

    def __init__(
        self,
        feed: EventFeed,
        sources: Mapping[str, MarkSource],
        *,
        default: MarkSource | None = None,
        interval_s: float = 0.1,
    ) -> None:
        self._feed = feed
        self._sources = sources
        self._default = default
        self._interval_s = interval_s
        self._marks: dict[Instrument, Mark] = {}
        self._dirty: dict[Instrument, Mark | None] = {}
        self._given_to: Aggregate | None = None
        self._followed: dict[str, tuple[frozenset[str], asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                aggregate = self._feed.aggregate
                if aggregate is not None:
                    self._follow_wanted(aggregate, tasks)
                    self._hand_over(aggregate)
                await asyncio.sleep(self._interval_s)

    def _put(self, instrument: Instrument, mark: Mark) -> None:
        if self._marks.get(instrument) != mark:
            self._marks[instrument] = mark
            self._dirty[instrument] = mark

    def _hand_over(self, aggregate: Aggregate) -> None:
        if aggregate is not self._given_to:
            self._given_to = aggregate
            self._dirty = dict(self._marks)
        if self._dirty:
            dirty, self._dirty = self._dirty, {}
            aggregate.set_marks(dirty)

    def _follow_wanted(self, aggregate: Aggregate, tasks: asyncio.TaskGroup) -> None:
        wanted: dict[str, set[str]] = {}
        for venue, symbol in aggregate.portfolio.open_instruments:
            if self._source(venue) is not None:
                wanted.setdefault(venue, set()).add(symbol)
        for venue in self._followed.keys() | wanted.keys():
            symbols = frozenset(wanted.get(venue, ()))
            former = self._followed.get(venue)
            if former is not None and former[0] == symbols:
                continue
            if former is not None:
                former[1].cancel()
                del self._followed[venue]
            self._forget_others(venue, symbols)
            source = self._source(venue)
            if symbols and source is not None:
                task = tasks.create_task(source.follow(venue, symbols, self._put), name=f"marks {venue}")
                self._followed[venue] = (symbols, task)

    def _source(self, venue: str) -> MarkSource | None:
        return self._sources.get(venue, self._default)

    def _forget_others(self, venue: str, symbols: frozenset[str]) -> None:
        for instrument in [mark for mark in self._marks if mark[0] == venue and mark[1] not in symbols]:
            del self._marks[instrument]
            self._dirty[instrument] = None
