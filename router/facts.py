"""What costs depend on beside the book: the account's fee rates and the running funding rate, read and kept a while.

Both change seldom. The first decision about a venue waits a short time for them; later ones get what is known at once
while it is read again behind their back. What could not be read, or is too old, counts as not known. Bounded: the
entry used least recently makes room.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, TypeVar

import grpc
import grpc.aio

from router.settings import FactSettings
from router.venues import VenueLink
from router.views import FeeRates, Funding
from venuemesh.clock import Clock
from venuemesh.deadlines import background_context
from venuemesh.errors import MeshError
from venuemesh.status import error_from_rpc
from venuemesh.v1 import account_service_pb2, instrument_pb2, market_data_service_pb2, stream_pb2

log = logging.getLogger(__name__)

T = TypeVar("T")
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known; None where nothing is."""

    fees: FeeRates | None = None
    funding: Funding | None = None


class _Entry(Generic[T]):
    def __init__(self) -> None:
        self.value: T | None = None
        self.value_s = 0.0
        self.tried_s: float | None = None
        self.reading: asyncio.Task[None] | None = None


class _Kept(Generic[T]):
    """Values by key, each read again when older than `refresh_s`, forgotten when older than `max_age_s`."""

    def __init__(
        self, refresh_s: float, max_age_s: float, size: int, wait_s: float, clock: Clock, tasks: asyncio.TaskGroup
    ) -> None:
        self._refresh_s = refresh_s
        self._max_age_s = max_age_s
        self._size = size
        self._wait_s = wait_s
        self._clock = clock
        self._tasks = tasks
        self._entries: OrderedDict[Key, _Entry[T]] = OrderedDict()

    async def get(self, key: Key, read: Callable[[], Awaitable[T | None]]) -> T | None:
        """The value, or None; waits at most `wait_s`, and only the first time."""
        entry = self._entry(key)
        now_s = self._clock.monotonic_s()
        is_new = entry.tried_s is None
        if entry.tried_s is None or now_s - entry.tried_s > self._refresh_s:
            entry.tried_s = now_s
            name = "fact/" + "/".join(key)
            entry.reading = self._tasks.create_task(self._read(entry, read), name=name, context=background_context())
        if entry.reading is not None and (is_new or entry.value is None) and not entry.reading.done():
            await asyncio.wait((entry.reading,), timeout=self._wait_s)
        known = entry.value is not None and self._clock.monotonic_s() - entry.value_s <= self._max_age_s
        return entry.value if known else None

    async def _read(self, entry: _Entry[T], read: Callable[[], Awaitable[T | None]]) -> None:
        try:
            entry.value = await read()
        except grpc.aio.AioRpcError as error:
            log.info("fact_not_read", extra={"cause": error_from_rpc(error, is_write=False).message})
        except MeshError as error:
            log.info("fact_not_read", extra={"cause": error.message})
        else:
            entry.value_s = self._clock.monotonic_s()

    def _entry(self, key: Key) -> _Entry[T]:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            return entry
        while len(self._entries) >= self._size:
            _, oldest = self._entries.popitem(last=False)
            if oldest.reading is not None:
                oldest.reading.cancel()
        entry = self._entries[key] = _Entry()
        return entry

    def close(self) -> None:
        for entry in self._entries.values():
            if entry.reading is not None:
                entry.reading.cancel()
        self._entries.clear()


class AccountFacts:
    """Fee rates by venue, account and symbol; funding by venue and symbol.

    Args:
        tasks: owns the readings; they end with it.
    """

    def __init__(self, settings: FactSettings, clock: Clock, tasks: asyncio.TaskGroup) -> None:
        self._timeout_s = settings.fetch_timeout_s
        self._fees: _Kept[FeeRates] = _Kept(
            settings.fee_refresh_s,
            3 * settings.fee_refresh_s,
            settings.max_entries,
            settings.fetch_timeout_s,
            clock,
            tasks,
        )
        self._funding: _Kept[Funding] = _Kept(
            settings.funding_refresh_s,
            3 * settings.funding_refresh_s,
            settings.max_entries,
            settings.fetch_timeout_s,
            clock,
            tasks,
        )

    async def of_all(self, links: Iterable[VenueLink], account_id: str, symbol: str) -> dict[str, Facts]:
        """What is known of each venue, by its name."""
        wanted = list(links)
        found = await asyncio.gather(*(self._of(link, account_id, symbol) for link in wanted))
        return {link.name: facts for link, facts in zip(wanted, found, strict=True)}

    async def _of(self, link: VenueLink, account_id: str, symbol: str) -> Facts:
        instrument = link.listed.get(symbol)
        if instrument is None:
            return Facts()
        fees, funding = await asyncio.gather(
            self._fees.get((link.name, account_id, symbol), lambda: self._read_fees(link, account_id, symbol)),
            self._funding_of(link, instrument),
        )
        return Facts(fees=fees, funding=funding)

    async def _funding_of(self, link: VenueLink, instrument: instrument_pb2.Instrument) -> Funding | None:
        if not instrument.HasField("funding_interval"):
            return None
        return await self._funding.get((link.name, instrument.symbol), lambda: self._read_funding(link, instrument))

    async def _read_fees(self, link: VenueLink, account_id: str, symbol: str) -> FeeRates | None:
        request = account_service_pb2.GetFeeRatesRequest(account_id=account_id, venue=link.name, symbol=symbol)
        answer = await link.accounts.GetFeeRates(request, timeout=self._timeout_s)
        return FeeRates(maker=Decimal(answer.maker_fee_rate), taker=Decimal(answer.taker_fee_rate))

    async def _read_funding(self, link: VenueLink, instrument: instrument_pb2.Instrument) -> Funding | None:
        request = market_data_service_pb2.GetStatisticsRequest(venue=link.name, symbol=instrument.symbol)
        statistics = (await link.market_data.GetStatistics(request, timeout=self._timeout_s)).statistics
        if not statistics.HasField("funding_rate") or statistics.freshness == stream_pb2.FRESHNESS_STALE:
            return None
        return Funding(rate=Decimal(statistics.funding_rate), interval_s=instrument.funding_interval.seconds)

    def close(self) -> None:
        """End every reading."""
        self._fees.close()
        self._funding.close()
