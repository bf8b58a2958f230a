"""Pages of routes, newest first: the journal says which there are, the stored states what became of them."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import DecodeError

from router.parents import unsent_order, with_children
from router.route_log import RouteLog
from venuemesh.bus import Bus
from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest, MeshError, Reason
from venuemesh.paging import Pager
from venuemesh.subjects import JOURNAL_STREAM, ROOT, Kind, token
from venuemesh.v1 import routing_pb2

CLOCK_SKEW_S = 60
"""A router's clock may differ this much from the broker's."""
AT_ONCE = 32

Row = tuple[int, str, routing_pb2.Route]


class RouteLists:
    """Reads the journal from the time asked for on and keeps one page of it."""

    def __init__(self, bus: Bus, log: RouteLog, pager: Pager, clock: Clock) -> None:
        self._bus = bus
        self._log = log
        self._pager = pager
        self._clock = clock

    async def page(self, request: Any) -> tuple[list[routing_pb2.Route], str]:
        """The routes of one page as they stand, and the token of the next; empty on the last.

        Args:
            request: has `account_id` (empty for all), a half-open range of time, and a page.
        Raises:
            InvalidRequest, ResumeExpired: the range or the page token.
            JournalUnavailable: the broker does not answer.
        """
        now_ns = self._clock.now_ns()
        page = self._pager.read(request, now_ns=now_ns)
        before = _read_cursor(page.cursor) if page.cursor else None
        rows = await self._newest(request, before, page.size + 1)
        shown = rows[: page.size]
        token_text = ""
        if len(rows) > page.size:
            created_ns, route_id, _ = shown[-1]
            token_text = self._pager.token(request, f"{created_ns}/{route_id}", now_ns=now_ns)
        return await self._states([route for _, _, route in shown]), token_text

    async def _newest(self, request: Any, before: tuple[int, str] | None, count: int) -> list[Row]:
        from_ns, to_ns = _range(request)
        account = token(request.account_id) if request.account_id else "*"
        filters = [f"{ROOT}.{Kind.ROUTE_INTENT}.{token('')}.{account}.*"]
        since = datetime.fromtimestamp(from_ns / 1e9 - CLOCK_SKEW_S, UTC) if from_ns > CLOCK_SKEW_S * 10**9 else None
        kept: list[Row] = []
        async with aclosing(self._bus.replay(JOURNAL_STREAM, filters, since=since)) as stored:
            async for message in stored:
                route = _route(message.payload)
                place = (route.created_time.ToNanoseconds(), route.route_id)
                if not from_ns <= place[0] < to_ns or (before is not None and place >= before):
                    continue
                heapq.heappush(kept, (*place, route))
                if len(kept) > count:
                    heapq.heappop(kept)
        return sorted(kept, key=lambda row: row[:2], reverse=True)

    async def _states(self, routes: Sequence[routing_pb2.Route]) -> list[routing_pb2.Route]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def state(route: routing_pb2.Route) -> routing_pb2.Route:
            async with gate:
                known = await self._log.last(route)
            if known is not None:
                return known
            return with_children(route, [unsent_order(route, leg) for leg in route.plan.legs], self._clock.now_ns())

        return list(await asyncio.gather(*(state(route) for route in routes)))


def _range(request: Any) -> tuple[int, int]:
    from_ns = request.from_time.ToNanoseconds() if request.HasField("from_time") else 0
    to_ns = request.to_time.ToNanoseconds() if request.HasField("to_time") else 2**63
    if from_ns > to_ns:
        raise InvalidRequest("from_time is after to_time", reason=Reason.CONTRADICTORY_FIELDS, field="from_time")
    return from_ns, to_ns


def _read_cursor(text: str) -> tuple[int, str]:
    created_ns, _, route_id = text.partition("/")
    return int(created_ns), route_id


def _route(payload: bytes) -> routing_pb2.Route:
    try:
        return routing_pb2.Route.FromString(payload)
    except DecodeError:
        raise MeshError("a route in the journal cannot be read", reason=Reason.INTERNAL) from None
