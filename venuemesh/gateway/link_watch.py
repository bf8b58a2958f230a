"""Looks at the venue's links all the time: tells of degraded ones, and pauses new orders over them where so set.

The links themselves are judged with hysteresis (`venuemesh.transport.quality`), so nothing here flaps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass

from venuemesh.gateway.alerts import LINK_DEGRADED, ORDERS_PAUSED, Alerts
from venuemesh.gateway.link_board import REST_LINK, user_link
from venuemesh.gateway.venue import Venue
from venuemesh.v1 import stream_pb2, venue_pb2

LinkListener = Callable[[Sequence[venue_pb2.LinkStatus]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkWatchSettings:
    """What follows from a degraded link.

    Attributes:
        pause_orders: new orders and amendments of an account are refused while a link they go over is degraded.
        look_every_s: between two looks.
    """

    pause_orders: bool = False
    look_every_s: float = 1.0


class LinkWatch:
    """The watch over one venue's links.

    Args:
        pauses: accounts whose new orders are paused, with the cause; kept here, obeyed by the desk.
        accounts: ids of all accounts.
    """

    def __init__(
        self,
        venue: Venue,
        alerts: Alerts,
        pauses: MutableMapping[str, str],
        *,
        accounts: Sequence[str],
        settings: LinkWatchSettings,
    ) -> None:
        self._venue = venue
        self._alerts = alerts
        self._pauses = pauses
        self._accounts = accounts
        self._settings = settings
        self.degraded: dict[str, str] = {}
        """Links that are degraded now, with the cause."""
        self.listeners: list[LinkListener] = []
        """Called with every link at each look."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a link became degraded or good again."""

    def change(self, settings: LinkWatchSettings) -> None:
        """Do what these say from now on; pauses that are no longer wanted end at once."""
        switched = settings.pause_orders is not self._settings.pause_orders
        self._settings = settings
        if not settings.pause_orders:
            for account_id in self._accounts:
                self._resume(account_id)
        self.look()
        if switched:
            self.on_change()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(self._settings.look_every_s)

    def look(self) -> None:
        """One look: alerts, pauses and listeners follow from it."""
        links = self._venue.links()
        before = set(self.degraded)
        self.degraded = {link.link_id: link.cause for link in links if link.state == stream_pb2.LINK_STATE_DEGRADED}
        for link_id in before - set(self.degraded):
            self._alerts.end(LINK_DEGRADED, link_id)
        for link_id, cause in self.degraded.items():
            self._alerts.begin(LINK_DEGRADED, link_id, f"{link_id}: {cause}")
        if self._settings.pause_orders:
            for account_id in self._accounts:
                self._pause(account_id)
        for listener in self.listeners:
            listener(links)
        if before != set(self.degraded):
            self.on_change()

    def _pause(self, account_id: str) -> None:
        """Orders go over the account's own link and over REST; bad prices are the book's affair, which says STALE."""
        ways = [link_id for link_id in (user_link(account_id), REST_LINK) if link_id in self.degraded]
        if not ways:
            self._resume(account_id)
            return
        cause = "; ".join(f"link {link_id} is degraded: {self.degraded[link_id]}" for link_id in ways)
        self._pauses[account_id] = cause
        self._alerts.begin(ORDERS_PAUSED, account_id, f"{account_id}: {cause}", account_id=account_id)

    def _resume(self, account_id: str) -> None:
        self._pauses.pop(account_id, None)
        self._alerts.end(ORDERS_PAUSED, account_id)
