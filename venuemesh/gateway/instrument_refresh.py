"""Keeps the instruments current: read at the start, from time to time, and when a refusal hints at a changed rule."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from venuemesh.clock import Clock
from venuemesh.errors import MeshError, Reason
from venuemesh.gateway.instruments import Instruments
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.venue import Venue
from venuemesh.v1 import error_pb2
from venuemesh.v1 import order_pb2 as pb

log = logging.getLogger(__name__)

RULE_HINTS = frozenset(
    error_pb2.Reason.Value(f"REASON_{reason}")
    for reason in (
        Reason.PRICE_OFF_TICK,
        Reason.QUANTITY_OFF_LOT,
        Reason.BELOW_MIN_NOTIONAL,
        Reason.ABOVE_MAX_NOTIONAL,
        Reason.INSTRUMENT_NOT_TRADING,
        Reason.OPEN_INTEREST_CAP,
        Reason.POSITION_LIMIT_REACHED,
    )
)
"""A venue's refusals of orders that our own checks let pass: a rule may have changed since it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshSettings:
    """Periods, in seconds.

    Attributes:
        period_s: between two readings.
        retry_s: after one that failed.
        hint_s: a refusal that hints at a changed rule has them read at once, at most this often.
    """

    period_s: float = 600.0
    retry_s: float = 0.5
    hint_s: float = 10.0


class InstrumentRefresh:
    """Reads the instruments of one venue."""

    def __init__(self, venue: Venue, instruments: Instruments, clock: Clock, settings: RefreshSettings) -> None:
        self.known = asyncio.Event()
        """Set once they were read."""
        self._venue = venue
        self._instruments = instruments
        self._clock = clock
        self._settings = settings
        self._hinted = asyncio.Event()
        self._refreshed_s = float("-inf")

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                changed = self._instruments.replace(await self._venue.fetch_instruments())
            except MeshError as error:
                log.warning("instruments_not_refreshed", extra={"error": error.message})
                await asyncio.sleep(self._settings.retry_s)
                continue
            log.info("instruments_refreshed", extra={"count": len(self._instruments), "changed": len(changed)})
            self.known.set()
            self._refreshed_s = self._clock.monotonic_s()
            await self._pause()

    def read_now(self) -> None:
        """End the pause between two readings."""
        self._hinted.set()

    def on_order_change(self, order: OrderState) -> None:
        """A refusal may say that a rule has changed."""
        refused = order.status == pb.ORDER_STATUS_REJECTED and order.reject is not None
        if not refused or order.reject is None or order.reject.reason not in RULE_HINTS:
            return
        if self._clock.monotonic_s() - self._refreshed_s >= self._settings.hint_s:
            log.info("instruments_doubted", extra={"symbol": order.terms.symbol, "reason": order.reject.reason})
            self.read_now()

    async def _pause(self) -> None:
        """Wait for the period, or until a refusal hints that a rule has changed."""
        self._hinted.clear()
        try:
            async with asyncio.timeout(self._settings.period_s):
                await self._hinted.wait()
        except TimeoutError:
            return
