"""The breakers of all venues: shown, operated, told as events.

Each router judges by its own calls, and what it counted is gone with it. What a person sets is a record in a JetStream
bucket that every router follows, so it outlives restarts and holds everywhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial

from google.protobuf.message import DecodeError

from router.breaker import State
from router.measures import Measures
from router.plans import instant
from router.venues import VenueLink, Venues
from router.views import Refusal
from venuemesh.bus import Bus, SubjectTaken
from venuemesh.cancellation import end_if_cancelled
from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest, JournalUnavailable, VersionConflict
from venuemesh.follower import StoredMessage
from venuemesh.risk_commands import signature
from venuemesh.subjects import BREAKER_KEYS, ROUTING_STREAM, Kind, breaker_key, subject
from venuemesh.v1 import event_pb2, operations_pb2
from venuemesh.v1 import operations_service_pb2 as pb

log = logging.getLogger(__name__)

RETRY_WAIT_S = 0.25
LOOK_S = 0.25
"""Between two looks at what time alone changes."""
WRITE_TRIES = 8
MAX_UNTOLD = 1_000
"""Events kept while the broker is away; of more, the oldest are dropped, the state is shown all the same."""
_STATES = {
    State.CLOSED: operations_pb2.CIRCUIT_STATE_CLOSED,
    State.OPEN: operations_pb2.CIRCUIT_STATE_OPEN,
    State.HALF_OPEN: operations_pb2.CIRCUIT_STATE_HALF_OPEN,
}
_FORCIBLE = {operations_pb2.CIRCUIT_STATE_CLOSED: State.CLOSED, operations_pb2.CIRCUIT_STATE_OPEN: State.OPEN}


class Breakers:
    """What is done with the breakers beside the calls, which go through each link's guard.

    Args:
        router_id: names this router process in what is shown.
    """

    def __init__(self, venues: Venues, bus: Bus, clock: Clock, measures: Measures, router_id: str) -> None:
        self.ready = asyncio.Event()
        """Set once it is known what operators have set."""
        self._venues = venues
        self._bus = bus
        self._clock = clock
        self._measures = measures
        self._router_id = router_id
        self._taken: dict[str, int] = {}
        self._set_by: dict[str, str] = {}
        self._untold: deque[event_pb2.Event] = deque(maxlen=MAX_UNTOLD)
        self._to_tell = asyncio.Event()
        self._count = 0
        for link in venues.all():
            link.guard.on_change.append(partial(self._changed, link))
            measures.circuit(link.name, State.CLOSED)

    # --- showing ---

    def refusal(self, venue: str) -> Refusal | None:
        """Why new orders for a venue would be refused now; see `router.planning.Eligibility`."""
        return self._venues.get(venue).guard.refusal()

    def all(self) -> list[operations_pb2.CircuitBreaker]:
        """Every breaker, by venue."""
        return [self.shown(link) for link in self._venues.all()]

    def shown(self, link: VenueLink) -> operations_pb2.CircuitBreaker:
        """The breaker of a venue now."""
        seen = link.guard.view()
        row = operations_pb2.CircuitBreaker(
            venue=link.name,
            state=_STATES[seen.state],
            since=instant(link.guard.wall_ns(seen.since_s)),
            cause=seen.cause,
            forced=seen.forced,
            calls=seen.counts.calls,
            failures=seen.counts.failures,
            slow_calls=seen.counts.slow,
            timeouts=seen.counts.timeouts,
            set_by=self._set_by.get(link.name, ""),
            router_id=self._router_id,
        )
        if seen.retry_at_s is not None:
            row.retry_time.CopyFrom(instant(link.guard.wall_ns(seen.retry_at_s)))
        return row

    # --- operating ---

    async def set(self, request: pb.SetCircuitBreakerRequest) -> operations_pb2.CircuitBreaker:
        """Force a breaker, or let it free; what it is set to already stays as it is.

        Raises:
            InvalidRequest, VenueNotFound: names the field.
            JournalUnavailable: not set, as far as known.
            VersionConflict: others set it all the time.
        """
        link = self._venues.get(request.venue)
        operator, reason = signature(request)
        if request.state != operations_pb2.CIRCUIT_STATE_UNSPECIFIED and request.state not in _FORCIBLE:
            raise InvalidRequest(
                f"state: must be OPEN, CLOSED, or unspecified to let it free, not {request.state}", field="state"
            )
        wanted = operations_pb2.CircuitBreaker(
            venue=link.name,
            state=request.state,
            since=instant(self._clock.now_ns()),
            cause=reason,
            forced=request.state in _FORCIBLE,
            set_by=operator,
            router_id=self._router_id,
        )
        await self._store(wanted)
        return self.shown(link)

    async def _store(self, wanted: operations_pb2.CircuitBreaker) -> None:
        if not self._bus.connected:
            raise JournalUnavailable("NATS is not connected", retry_after_s=1.0)
        key = breaker_key(wanted.venue)
        for _ in range(WRITE_TRIES):
            known = await self._bus.last(ROUTING_STREAM, key)
            last = 0
            if known is not None:
                last, record = known.sequence, _record(known)
                if record is not None and _same(record, wanted):
                    self._take(record, known.sequence)
                    return
            try:
                sequence = await self._bus.append_after(key, wanted.SerializeToString(), last)
            except SubjectTaken:
                continue
            self._take(wanted, sequence)
            return
        raise VersionConflict(f"others set the breaker of {wanted.venue} all the time")

    def _take(self, record: operations_pb2.CircuitBreaker, sequence: int) -> None:
        """Do what a record says, unless a newer one was seen or its venue is not here."""
        if sequence <= self._taken.get(record.venue, 0) or record.venue not in self._venues.names:
            return
        self._taken[record.venue] = sequence
        guard = self._venues.get(record.venue).guard
        self._set_by[record.venue] = record.set_by
        cause = f"{record.set_by}: {record.cause}"
        if record.forced and record.state in _FORCIBLE:
            guard.force(_FORCIBLE[record.state], cause)
        else:
            guard.release(cause)

    # --- running ---

    async def run(self) -> None:
        """Follow what operators set, and tell of changes, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="breakers/records")
            tasks.create_task(self._watch(), name="breakers/changes")
            tasks.create_task(self._tell(), name="breakers/events")

    async def _follow(self) -> None:
        while True:
            try:
                follower = self._bus.follow(ROUTING_STREAM, [BREAKER_KEYS], last_per_subject=True)
                async with follower:
                    if not follower.backlog:
                        self.ready.set()
                    async for message in follower:
                        record = _record(message)
                        if record is not None:
                            self._take(record, message.sequence)
                        if not message.pending:
                            self.ready.set()
            except JournalUnavailable as error:
                end_if_cancelled()
                log.info("breaker_records_away", extra={"error": error.message})
                await asyncio.sleep(RETRY_WAIT_S)

    async def _watch(self) -> None:
        while True:
            for link in self._venues.all():
                link.guard.look()
            await asyncio.sleep(LOOK_S)

    def _changed(self, link: VenueLink) -> None:
        """Count, log and queue a change."""
        row, seen = self.shown(link), link.guard.view()
        self._measures.circuit_changed(link.name, seen.state)
        log.warning(
            "circuit_changed",
            extra={"venue": link.name, "circuit": seen.state.value, "forced": seen.forced, "cause": seen.cause},
        )
        self._untold.append(self._event(row))
        self._to_tell.set()

    def _event(self, row: operations_pb2.CircuitBreaker) -> event_pb2.Event:
        self._count += 1
        event = event_pb2.Event(
            event_id=f"circuit/{self._router_id}/{self._count}", venue=row.venue, circuit_breaker=row
        )
        now = instant(self._clock.now_ns())
        event.received_time.CopyFrom(now)
        event.published_time.CopyFrom(now)
        return event

    async def _tell(self) -> None:
        while True:
            await self._to_tell.wait()
            self._to_tell.clear()
            while self._untold:
                event = self._untold[0]
                # The symbol's place holds what it is about: health of the venue itself has none there.
                name = subject(Kind.VENUE, event.venue, "", "circuit_breaker")
                try:
                    await self._bus.publish(name, event.SerializeToString(), message_id=event.event_id)
                except JournalUnavailable as error:
                    end_if_cancelled()
                    log.info("circuit_event_waits", extra={"error": error.message})
                    await asyncio.sleep(RETRY_WAIT_S)
                    continue
                if self._untold and self._untold[0] is event:
                    self._untold.popleft()


def _same(one: operations_pb2.CircuitBreaker, other: operations_pb2.CircuitBreaker) -> bool:
    return (one.forced, one.state, one.set_by, one.cause) == (other.forced, other.state, other.set_by, other.cause)


def _record(message: StoredMessage) -> operations_pb2.CircuitBreaker | None:
    """What an operator set; None where nobody can read it, which is told and changes nothing."""
    try:
        record = operations_pb2.CircuitBreaker.FromString(message.payload)
    except DecodeError:
        log.error("breaker_record_unreadable", extra={"subject": message.subject})
        return None
    return record if record.venue else None
