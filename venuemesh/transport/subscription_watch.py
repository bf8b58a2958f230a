"""Whether the venue serves everything a stream wants: for those who wait for it, and for whoever watches the link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from venuemesh.transport.session import Disconnected
from venuemesh.transport.subscriptions import SubscriptionRecords
from venuemesh.transport.websocket import ReconnectingSocket
from venuemesh.transport.wiring import LinkWiring


class SubscriptionWatch:
    """Told what is asked for, answered and lost; what is wanted at all is the session's to know.

    Args:
        unacknowledged: what is wanted and not served on the present connection.
        wiring: that of the socket.
    """

    def __init__(
        self,
        socket: ReconnectingSocket,
        unacknowledged: Callable[[], Sequence[object]],
        wiring: LinkWiring,
    ) -> None:
        self._socket = socket
        self._unacknowledged = unacknowledged
        self._clock = wiring.clock
        self._observer = wiring.watcher
        self._records = SubscriptionRecords(wiring.name)
        self._served = asyncio.Event()

    async def wait_served(self) -> None:
        """Wait until everything wanted is served on the present connection."""
        while not self._socket.connected or self._unacknowledged():
            await self._socket.wait_connected()
            await self._served.wait()

    def review(self) -> None:
        """What is wanted or served has changed."""
        if self._unacknowledged():
            self._served.clear()
        else:
            self._served.set()

    def asked(self, wanted: str, kind: str) -> None:
        """A subscription was asked for; see `SubscriptionRecords.asked`."""
        self._records.asked(wanted, kind, now_s=self._clock.monotonic_s(), now_ns=self._clock.now_ns())

    def answered(self, wanted: str, refusal: str = "") -> None:
        """The venue confirmed a subscription, or refused it."""
        self.review()
        record = self._records.answered(wanted, now_s=self._clock.monotonic_s(), refusal=refusal)
        if record is not None:
            self._observer.on_request(record)

    def disconnected(self, event: Disconnected) -> None:
        """Nothing is served any more, and what was asked for is not answered."""
        for record in self._records.lost(now_s=self._clock.monotonic_s(), detail=event.detail or event.reason):
            self._observer.on_request(record)
        self._served.clear()
