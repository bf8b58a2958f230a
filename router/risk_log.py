"""The reservation log on JetStream: appended by compare-and-set, followed by every router.

One append at a time per router. It succeeds only if this router has read everything before it; otherwise the router
reads on and judges again. So two routers never give the same room to two orders, and none needs to know of the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from router.risk_ledger import OrderKey
from router.risk_reservations import COMPLETE_EVERY, Reservations, decode, key_of
from venuemesh.bus import Bus, SubjectTaken
from venuemesh.cancellation import end_if_cancelled
from venuemesh.errors import JournalUnavailable
from venuemesh.follower import StoredMessage
from venuemesh.subjects import RESERVATION_STREAM, RESERVATION_SUBJECT
from venuemesh.v1 import risk_pb2, stream_pb2

log = logging.getLogger(__name__)

APPEND_TRIES = 64
FLUSH_S = 0.25
RETRY_WAIT_S = 0.25
CATCH_UP_S = 1.0


class ReservationLog:
    """Writes and follows reservations. `run` must run; before it has read the log nothing is reserved."""

    def __init__(self, bus: Bus, book: Reservations) -> None:
        self._bus = bus
        self._book = book
        self._lock = asyncio.Lock()
        self._caught_up = asyncio.Event()
        self._advanced = asyncio.Event()
        self._released: dict[OrderKey, risk_pb2.RiskRelease] = {}
        self._to_flush = asyncio.Event()

    @property
    def caught_up(self) -> bool:
        """Whether the log was read to its end once."""
        return self._caught_up.is_set()

    async def reserve(self, judge: Callable[[], Sequence[risk_pb2.RiskReservation]]) -> None:
        """Judge and take room in one step, as if no other router were there.

        Args:
            judge: checks against the ledger as it is and returns what to reserve; raises to refuse. Asked again when
                another router was faster. What it returns is held in the book when this returns.
        Raises:
            JournalUnavailable: the log cannot be read or written, so there is no room to be had.
        """
        async with self._lock:
            # Nothing below may be given to a caller before everything up to now is known.
            try:
                async with asyncio.timeout(CATCH_UP_S):
                    await self._caught_up.wait()
            except TimeoutError:
                raise JournalUnavailable("the reservation log has not been read yet", retry_after_s=1.0) from None
            for _ in range(APPEND_TRIES):
                rows = judge()
                try:
                    stored = await self._append(rows)
                except BaseException:
                    # It may be stored all the same: whatever becomes of it, it is given back behind it.
                    for row in rows:
                        self._book.give_back(key_of(row))
                        self._note_release(key_of(row), None)
                    raise
                if stored:
                    return
                for row in rows:
                    self._book.give_back(key_of(row))
                await self._catch_up()
            raise JournalUnavailable("other routers reserve all the time", retry_after_s=0.1)

    async def _append(self, rows: Sequence[risk_pb2.RiskReservation]) -> bool:
        """One message with these rows and what is to be released; False when another router was faster."""
        sent = dict(self._released)
        complete = self._book.since_complete >= COMPLETE_EVERY
        reserved = list(rows)
        if complete:
            own = {key_of(row) for row in rows}
            others = [row for row in self._book.outstanding() if key_of(row) not in own]
            reserved += [row for row in others if key_of(row) not in sent]
        batch = risk_pb2.RiskReservationBatch(reserved=reserved, released=sent.values(), complete=complete)
        try:
            sequence = await self._bus.append_after(RESERVATION_SUBJECT, batch.SerializeToString(), self._book.seen)
        except SubjectTaken:
            return False
        for key, release in sent.items():
            if self._released.get(key) is release:
                del self._released[key]
        self._book.apply(batch, sequence)
        return True

    async def _catch_up(self) -> None:
        """Wait until the follower has brought something that was not seen."""
        self._advanced.clear()
        newest = await self._bus.last(RESERVATION_STREAM, RESERVATION_SUBJECT)
        wanted = newest.sequence if newest is not None else 0
        try:
            async with asyncio.timeout(CATCH_UP_S):
                while self._book.seen < wanted:
                    self._advanced.clear()
                    await self._advanced.wait()
        except TimeoutError:
            raise JournalUnavailable("the reservation log does not come", retry_after_s=0.1) from None

    def release(self, key: OrderKey, shown_at: stream_pb2.StreamPosition | None) -> None:
        """Tell every router, with the next message or soon, that a reservation is over.

        Args:
            shown_at: the account's event that shows the order; None when the order was never live.
        """
        self._note_release(key, shown_at)
        self._to_flush.set()

    def _note_release(self, key: OrderKey, shown_at: stream_pb2.StreamPosition | None) -> None:
        venue, account_id, client_order_id = key
        self._released[key] = risk_pb2.RiskRelease(
            venue=venue, account_id=account_id, client_order_id=client_order_id, shown_at=shown_at
        )

    # following

    async def run(self) -> None:
        """Follow the log, and flush releases that no reservation carries along, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="risk-reservations")
            tasks.create_task(self._flush(), name="risk-releases")

    async def _follow(self) -> None:
        while True:
            try:
                async with self._bus.follow(
                    RESERVATION_STREAM, [RESERVATION_SUBJECT], after=self._book.seen
                ) as follower:
                    if not follower.backlog:
                        self._caught_up.set()
                    async for message in follower:
                        self._take(message)
            except JournalUnavailable as error:
                end_if_cancelled()
                log.info("reservation_log_away", extra={"error": error.message})
                await asyncio.sleep(RETRY_WAIT_S)

    def _take(self, message: StoredMessage) -> None:
        batch = decode(message.payload)
        if batch is None:
            # Without it nobody can tell what room is taken. A later complete message heals it.
            log.error("reservation_unreadable", extra={"sequence": message.sequence})
            batch = risk_pb2.RiskReservationBatch()
        self._book.apply(batch, message.sequence)
        self._advanced.set()
        if not message.pending:
            self._caught_up.set()

    async def _flush(self) -> None:
        while True:
            await self._to_flush.wait()
            # Reservations that come meanwhile carry them along for nothing.
            await asyncio.sleep(FLUSH_S)
            self._to_flush.clear()
            if not self._released or not self.caught_up:
                continue
            try:
                async with self._lock:
                    if self._released and not await self._append(()):
                        await self._catch_up()
            except JournalUnavailable as error:
                end_if_cancelled()
                log.info("releases_not_stored", extra={"error": error.message})
            if self._released:
                self._to_flush.set()
