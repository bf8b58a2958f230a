"""Risk events as every router sees them: followed from JetStream, numbered by it, and so resumable at any router.

A change of the board comes here twice, from the bucket and as an event; the event has the record in it, so that the
state at a position of this stream never lacks what the position says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

from google.protobuf.message import DecodeError

from venuemesh.bus import Bus
from venuemesh.cancellation import end_if_cancelled
from venuemesh.clock import Clock
from venuemesh.errors import JournalUnavailable
from venuemesh.follower import StoredMessage
from venuemesh.journal import epoch_of
from venuemesh.risk_board import RiskBoard
from venuemesh.risk_scope import Scope
from venuemesh.stream_queue import Entry
from venuemesh.streaming import Topic
from venuemesh.subjects import MESH_STREAM, ROOT, Kind, subject
from venuemesh.v1 import event_pb2, risk_pb2

log = logging.getLogger(__name__)

ALL_RISK = f"{ROOT}.{Kind.RISK}.>"
SWITCHES = f"{ROOT}.{Kind.RISK}.*.*.dead_mans_switch"
RETRY_WAIT_S = 0.25
ARMED = risk_pb2.DEAD_MANS_SWITCH_STATE_ARMED


class RiskEvents:
    """Follows risk events; `topic` is there once they were found."""

    def __init__(self, bus: Bus, clock: Clock, board: RiskBoard, writer_id: str) -> None:
        self.topic: Topic[risk_pb2.RiskEvent] | None = None
        self.switches: dict[str, risk_pb2.DeadMansSwitch] = {}
        """Dead-man's switches as each gateway last told, by id."""
        self._bus = bus
        self._clock = clock
        self._board = board
        self._writer_id = writer_id
        self._count = 0

    def current(self) -> Topic[risk_pb2.RiskEvent]:
        """What streams are served from.

        Raises:
            JournalUnavailable: the events have not been found yet.
        """
        if self.topic is None:
            raise JournalUnavailable("the risk events have not been read yet", retry_after_s=1.0)
        return self.topic

    def armed(self) -> list[risk_pb2.DeadMansSwitch]:
        """Switches that are armed and not due, by id."""
        now_ns = self._clock.now_ns()
        rows = [self.switches[name] for name in sorted(self.switches)]
        return [row for row in rows if row.state == ARMED and row.deadline.ToNanoseconds() > now_ns]

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self._follow()
            except JournalUnavailable as error:
                end_if_cancelled()
                log.info("risk_events_away", extra={"error": error.message})
                await asyncio.sleep(RETRY_WAIT_S)

    async def _follow(self) -> None:
        epoch = epoch_of(await self._bus.stream_created(MESH_STREAM))
        if self.topic is None or self.topic.epoch != epoch:
            newest = await self._bus.last(MESH_STREAM, ALL_RISK)
            topic = Topic[risk_pb2.RiskEvent](
                self._clock, epoch=epoch, sequence=newest.sequence if newest is not None else 0
            )
            async with aclosing(self._bus.replay(MESH_STREAM, [SWITCHES], last_per_subject=True)) as stored:
                async for message in stored:
                    self._fold(_decode(message))
            if self.topic is not None:
                self.topic.end()
            self.topic = topic
        async with self._bus.follow(MESH_STREAM, [ALL_RISK], after=self.topic.sequence) as follower:
            async for message in follower:
                event = _decode(message)
                self._fold(event)
                if event is not None:
                    self.topic.publish(event, sequence=message.sequence)

    def _fold(self, event: risk_pb2.RiskEvent | None) -> None:
        match event.WhichOneof("change") if event is not None else None:
            case "dead_mans_switch":
                assert event is not None
                self.switches[event.dead_mans_switch.switch_id] = event.dead_mans_switch
            case "trading_state" | "kill_switch" | "limit" as name:
                record = getattr(event, name)
                # What merely tells of a refusal has no version.
                if record.version and not (name == "limit" and record.used):
                    self._board.apply(record)

    async def history(self, after: int, up_to: int) -> AsyncIterator[Entry[risk_pb2.RiskEvent]]:
        """Stored events behind `after`; see `venuemesh.streaming.StreamPlan.history`."""
        async with aclosing(self._bus.replay(MESH_STREAM, [ALL_RISK], after=after)) as stored:
            async for message in stored:
                if (event := _decode(message)) is not None:
                    yield Entry(event, message.sequence)

    async def tell_refusal(self, limit: risk_pb2.RiskLimit, message: str) -> None:
        """Publish that a limit refused an order; `limit.used` is what it had in use.

        Raises:
            JournalUnavailable: the broker takes nothing now.
        """
        scope = Scope.of(limit.scope)
        self._count += 1
        now_ns = self._clock.now_ns()
        event = event_pb2.Event(
            event_id=f"risk/refusal/{self._writer_id}/{self._count}",
            venue=scope.venue,
            account_id=scope.account_id,
            symbol=scope.symbol,
            risk_event=risk_pb2.RiskEvent(scope=limit.scope, limit=limit, message=message),
        )
        event.risk_event.event_time.FromNanoseconds(now_ns)
        event.received_time.FromNanoseconds(now_ns)
        event.published_time.FromNanoseconds(now_ns)
        name = subject(Kind.RISK, scope.venue, scope.account_id, "refusal", scope.symbol)
        stored = await self._bus.publish_soon(name, event.SerializeToString(), message_id=event.event_id)
        stored.add_done_callback(_check_told)


def _check_told(stored: asyncio.Future[object]) -> None:
    if not stored.cancelled() and (error := stored.exception()) is not None:
        log.warning("risk_event_not_stored", extra={"cause": repr(error)})


def _decode(message: StoredMessage) -> risk_pb2.RiskEvent | None:
    try:
        event = event_pb2.Event.FromString(message.payload)
    except DecodeError:
        log.error("risk_event_unreadable", extra={"sequence": message.sequence})
        return None
    return event.risk_event if event.HasField("risk_event") else None
