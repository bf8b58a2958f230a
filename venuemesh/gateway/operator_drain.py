"""An operator's word that a venue takes no new orders: in force at once, and over restarts until it is taken back.

Cancels, reads and streams go on, and so does the process; `GatewayCore.drain` is the end of a process.
"""

from __future__ import annotations

import logging
import uuid

from venuemesh.bus import Bus
from venuemesh.clock import Clock
from venuemesh.gateway.order_wire import timestamp
from venuemesh.subjects import MESH_STREAM, Kind, subject
from venuemesh.v1 import event_pb2, venue_pb2

log = logging.getLogger(__name__)

NAME = "operator_drain"


class OperatorDrain:
    """Whether an operator has drained the venue; `cause` says who and why, and is empty while nobody has."""

    def __init__(self, bus: Bus, venue: str, clock: Clock) -> None:
        self.cause = ""
        self._bus = bus
        self._venue = venue
        self._clock = clock

    async def begin(self, operator: str, reason: str) -> None:
        """Refuse new orders from now on; returns when a restart would know it too.

        Raises:
            JournalUnavailable: in force, but a restart before the broker is back would forget it.
        """
        self.cause = f"drained by {operator}: {reason}"
        log.warning("venue_drained", extra={"operator": operator, "reason": reason})
        await self._save(venue_pb2.VENUE_STATE_DRAINING, self.cause)

    async def end(self, operator: str, reason: str) -> None:
        """Take orders again once that is durable.

        Raises:
            JournalUnavailable: the broker did not confirm, so the venue stays drained.
        """
        await self._save(venue_pb2.VENUE_STATE_TRADING, f"taken back by {operator}: {reason}")
        self.cause = ""
        log.warning("venue_drain_ended", extra={"operator": operator, "reason": reason})

    async def recover(self) -> None:
        """Learn what was in force when the last process ended.

        Raises:
            JournalUnavailable: the broker does not answer.
        """
        stored = await self._bus.last(MESH_STREAM, self._subject)
        if stored is None:
            return
        status = event_pb2.Event.FromString(stored.payload).venue_status
        self.cause = status.cause if status.state == venue_pb2.VENUE_STATE_DRAINING else ""
        if self.cause:
            log.warning("venue_still_drained", extra={"cause": self.cause})

    async def _save(self, state: venue_pb2.VenueState.ValueType, cause: str) -> None:
        now = timestamp(self._clock.now_ns())
        status = venue_pb2.VenueStatus(venue=self._venue, state=state, since=now, cause=cause)
        event = event_pb2.Event(
            event_id=f"{self._venue}/{NAME}/{uuid.uuid4().hex}",
            venue=self._venue,
            received_time=now,
            published_time=now,
            venue_status=status,
        )
        await self._bus.publish(self._subject, event.SerializeToString(), message_id=event.event_id)

    @property
    def _subject(self) -> str:
        return subject(Kind.VENUE, self._venue, "", NAME)


__all__ = ["OperatorDrain"]
