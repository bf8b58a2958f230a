"""The streams that risk is judged on: every account of every venue, and the marks of what they hold.

A stream that ends is opened again with jittered back-off, behind its last position; meanwhile its account or its marks
count as stale. Bounded by what there is: one stream per account, one stream of marks per venue.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import grpc
import grpc.aio

from router.risk_ledger import AccountKey, Ledger
from router.risk_view import AccountFold, BadView
from router.settings import RiskSettings
from router.venues import VenueLink, Venues
from venuemesh.clock import Clock
from venuemesh.deadlines import background_context
from venuemesh.errors import InvalidRequest
from venuemesh.money import parse_decimal
from venuemesh.transport.backoff import Backoff, BackoffPolicy
from venuemesh.v1 import account_service_pb2, market_data_pb2, market_data_service_pb2, stream_pb2

log = logging.getLogger(__name__)

MakeFold = Callable[[VenueLink, str], AccountFold]
FIRST_WAIT_S = 0.1


def _backoff(settings: RiskSettings) -> Backoff:
    policy = BackoffPolicy(initial_s=min(FIRST_WAIT_S, settings.reconnect_cap_s), cap_s=settings.reconnect_cap_s)
    return Backoff(policy, random.random)


class AccountFeeds:
    """Follows every account that a venue's gateway says it serves.

    Args:
        fold: makes the fold of a venue's account.
    """

    def __init__(self, venues: Venues, settings: RiskSettings, clock: Clock, fold: MakeFold) -> None:
        self.folds: dict[AccountKey, AccountFold] = {}
        self._venues = venues
        self._settings = settings
        self._clock = clock
        self._make_fold = fold

    def accounts(self) -> list[AccountKey] | None:
        """Every account of the mesh; None while a venue was never reached, so that its accounts are not known."""
        links = self._venues.all()
        if not all(link.known for link in links):
            return None
        return [(link.name, account_id) for link in links for account_id in link.account_ids]

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            with self._venues.listening() as changed:
                while True:
                    changed.clear()
                    for link in self._venues.all():
                        for account_id in link.account_ids:
                            self._follow_account(tasks, link, account_id)
                    await changed.wait()

    def _follow_account(self, tasks: asyncio.TaskGroup, link: VenueLink, account_id: str) -> None:
        key = (link.name, account_id)
        if key in self.folds:
            return
        fold = self.folds[key] = self._make_fold(link, account_id)
        tasks.create_task(self._follow(link, fold), name=f"risk/{link.name}/{account_id}", context=background_context())

    async def _follow(self, link: VenueLink, fold: AccountFold) -> None:
        backoff = _backoff(self._settings)
        while True:
            began_s = self._clock.monotonic_s()
            cause = await self._stream(link, fold)
            fold.lost(f"the stream of its account is away: {cause}")
            log.info("risk_view_lost", extra={"venue": link.name, "account_id": fold.account[1], "cause": cause})
            backoff.connection_ended(self._clock.monotonic_s() - began_s)
            await asyncio.sleep(backoff.next_delay_s())

    async def _stream(self, link: VenueLink, fold: AccountFold) -> str:
        """One stream to its end; returns why it ended."""
        options = stream_pb2.StreamOptions(heartbeat_interval_ms=self._settings.heartbeat_ms)
        if fold.position is not None:
            options.resume_after.CopyFrom(fold.position)
        call = link.accounts.StreamAccountEvents(
            account_service_pb2.StreamAccountEventsRequest(account_id=fold.account[1], venue=link.name, options=options)
        )
        silence_s = 3 * self._settings.heartbeat_ms / 1_000
        try:
            messages = aiter(call)
            while True:
                async with asyncio.timeout(silence_s):
                    message = await anext(messages, None)
                if message is None:
                    return "ended"
                fold.apply(message)
                if message.WhichOneof("body") == "closing":
                    return "closed by its gateway"
        except TimeoutError:
            return f"nothing came for {silence_s:g}s"
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        except BadView as bad:
            fold.position = None
            log.error("risk_view_broken", extra={"account_id": fold.account[1], "cause": str(bad)})
            return str(bad)
        finally:
            call.cancel()


class Marks:
    """Marks of what accounts hold and of what was asked for lately, from the gateways' statistics."""

    def __init__(self, venues: Venues, ledger: Ledger, settings: RiskSettings, clock: Clock) -> None:
        self._venues = venues
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._asked: dict[tuple[str, str], float] = {}
        self._reading: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._followed: dict[str, tuple[frozenset[str], asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

    async def ensure(self, venue: str, symbol: str) -> None:
        """Have a mark of the symbol if there is one to be had within `mark_wait_s`; from then on it is followed."""
        key = (venue, symbol)
        if key not in self._asked:
            if len(self._asked) >= self._settings.max_marks:
                del self._asked[min(self._asked, key=lambda one: self._asked[one])]
            self._changed.set()
        self._asked[key] = self._clock.monotonic_s()
        if key in self._ledger.marks or self._tasks is None:
            return
        reading = self._reading.get(key)
        if reading is None or reading.done():
            reading = self._reading[key] = self._tasks.create_task(
                self._read(key), name=f"risk-mark/{venue}", context=background_context()
            )
        await asyncio.shield(reading)

    async def _read(self, key: tuple[str, str]) -> None:
        venue, symbol = key
        link = self._venues.get(venue)
        request = market_data_service_pb2.GetStatisticsRequest(venue=venue, symbol=symbol)
        try:
            answer = await link.market_data.GetStatistics(request, timeout=self._settings.mark_wait_s)
        except grpc.aio.AioRpcError as error:
            log.info("mark_not_read", extra={"venue": venue, "symbol": symbol, "cause": error.details()})
        else:
            self._take(venue, answer.statistics)
        finally:
            self._reading.pop(key, None)

    def _take(self, venue: str, statistics: market_data_pb2.MarketStatistics) -> None:
        mark: Decimal | None = None
        if statistics.HasField("mark_price") and statistics.freshness != stream_pb2.FRESHNESS_STALE:
            try:
                mark = parse_decimal(statistics.mark_price, field="mark_price")
            except InvalidRequest as error:
                log.warning("mark_refused", extra={"symbol": statistics.symbol, "error": error.message})
        self._ledger.set_mark(venue, statistics.symbol, mark if mark is not None and mark > 0 else None)

    async def run(self) -> None:
        """Follow what is held or was asked for, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                while True:
                    self._changed.clear()
                    self._follow_wanted(tasks)
                    try:
                        async with asyncio.timeout(self._settings.mark_review_s):
                            await self._changed.wait()
                    except TimeoutError:
                        continue
            finally:
                self._tasks = None

    def _follow_wanted(self, tasks: asyncio.TaskGroup) -> None:
        oldest_s = self._clock.monotonic_s() - self._settings.mark_idle_s
        self._asked = {key: at_s for key, at_s in self._asked.items() if at_s > oldest_s}
        wanted = self._ledger.weighed_symbols()
        for venue, symbol in self._asked:
            wanted.setdefault(venue, set()).add(symbol)
        for link in self._venues.all():
            symbols = frozenset(wanted.get(link.name, ()))
            former = self._followed.get(link.name)
            if former is not None:
                if former[0] == symbols:
                    continue
                former[1].cancel()
                del self._followed[link.name]
                for symbol in former[0] - symbols:
                    self._ledger.set_mark(link.name, symbol, None)
            if symbols:
                task = tasks.create_task(self._follow(link, symbols), name=f"risk-marks/{link.name}")
                self._followed[link.name] = (symbols, task)

    async def _follow(self, link: VenueLink, symbols: frozenset[str]) -> None:
        backoff = _backoff(self._settings)
        while True:
            began_s = self._clock.monotonic_s()
            cause = await self._stream(link, symbols)
            for symbol in symbols:
                self._ledger.set_mark(link.name, symbol, None)
            log.info("risk_marks_lost", extra={"venue": link.name, "cause": cause})
            backoff.connection_ended(self._clock.monotonic_s() - began_s)
            await asyncio.sleep(backoff.next_delay_s())

    async def _stream(self, link: VenueLink, symbols: frozenset[str]) -> str:
        options = stream_pb2.StreamOptions(heartbeat_interval_ms=self._settings.heartbeat_ms)
        request = market_data_service_pb2.StreamStatisticsRequest(
            venue=link.name, symbols=sorted(symbols), options=options
        )
        call: Any = link.market_data.StreamStatistics(request)
        silence_s = 3 * self._settings.heartbeat_ms / 1_000
        try:
            messages = aiter(call)
            while True:
                async with asyncio.timeout(silence_s):
                    message = await anext(messages, None)
                if message is None:
                    return "ended"
                match message.WhichOneof("body"):
                    case "statistics":
                        self._take(link.name, message.statistics)
                    case "status" if message.status.freshness == stream_pb2.FRESHNESS_STALE:
                        self._ledger.set_mark(link.name, message.status.subscription, None)
                    case "closing":
                        return "closed by its gateway"
        except TimeoutError:
            return f"nothing came for {silence_s:g}s"
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        finally:
            call.cancel()
