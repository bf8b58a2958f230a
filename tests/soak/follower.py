"""Clients that follow an account's stream through every death, always going on behind the last thing they saw."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
import grpc.aio

from tests.soak.mesh import SoakAccount, SoakMesh
from venuemesh.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    event_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
    stream_pb2,
)

RETRY_S = 0.05
REPORTS = "execution reports"
ACCOUNT_EVENTS = "account events"
_REPORTED = frozenset({"execution_report", "stream_status"})


@dataclass(slots=True)
class Follower:
    """One reader of one stream.

    Args:
        service: whom it reads from: a gateway or the router.
        kind: which of the two streams.
        random: after how many events it hangs up by itself.
    """

    mesh: SoakMesh
    account: SoakAccount
    service: str
    kind: str
    random: Random
    seen: list[tuple[int, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    connections: int = 0
    closings: int = 0
    began_after: int = -1
    _position: stream_pb2.StreamPosition | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind} of {self.account.venue}/{self.account.account_id} at {self.service}"

    @property
    def last(self) -> int:
        """Sequence of the last event seen, or of the place it began behind."""
        return self._position.sequence if self._position is not None else -1

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            call = self._call()
            try:
                await self._read(call, hang_up_after=self.random.randint(20, 200))
            except grpc.aio.AioRpcError:
                await asyncio.sleep(RETRY_S)
            finally:
                call.cancel()

    def _call(self) -> Any:
        options = stream_pb2.StreamOptions(resume_after=self._position, heartbeat_interval_ms=1_000)
        account_id, venue = self.account.account_id, self.account.venue
        if self.kind == REPORTS:
            orders: Any = order_service_pb2_grpc.OrderServiceStub(self.mesh.channel(self.service))
            reports = order_service_pb2.StreamExecutionReportsRequest(
                account_id=account_id, venue=venue, options=options
            )
            return orders.StreamExecutionReports(reports)
        accounts: Any = account_service_pb2_grpc.AccountServiceStub(self.mesh.channel(self.service))
        events = account_service_pb2.StreamAccountEventsRequest(account_id=account_id, venue=venue, options=options)
        return accounts.StreamAccountEvents(events)

    async def _read(self, call: Any, *, hang_up_after: int) -> None:
        fresh, count = self._position is None, 0
        async for message in call:
            match message.WhichOneof("body"):
                case "acknowledgement":
                    self.connections += 1
                    outcome = message.acknowledgement.resume_outcome
                    if not fresh and outcome != stream_pb2.RESUME_OUTCOME_RESUMED:
                        self.faults.append(f"not resumed behind {self.last}: {message.acknowledgement.resume_note}")
                case "snapshot" | "snapshot_end":
                    if fresh:
                        self._position = _position_of(message.header)
                        self.began_after = message.header.sequence
                case "event":
                    count += 1
                    self._take(message.header, message.event.sequence, message.event.event_id)
                case "status" if message.header.sequence > self.last >= 0:
                    # An event too, shown without its envelope; a snapshot's own has the snapshot's number.
                    self._take(message.header, message.header.sequence, "")
                case "closing":
                    self.closings += 1
                    self._check_closing(message.closing)
            if count >= hang_up_after:
                return
        await asyncio.sleep(RETRY_S)

    def _take(self, header: stream_pb2.StreamHeader, sequence: int, event_id: str) -> None:
        if sequence != header.sequence:
            self.faults.append(f"event {sequence} under header {header.sequence}")
        if header.sequence <= self.last:
            self.faults.append(f"event {header.sequence} again, behind {self.last}")
        self._position = _position_of(header)
        self.seen.append((sequence, event_id))

    def _check_closing(self, closing: stream_pb2.StreamClosing) -> None:
        """A closing notice says where to go on: behind what was sent, never before or beyond it."""
        if not closing.HasField("resume_after") or self._position is None:
            return
        if closing.resume_after.sequence < self.last:
            self.faults.append(f"closed with position {closing.resume_after.sequence}, {self.last} was sent")
        self._position = closing.resume_after

    def expected(self, events: list[event_pb2.Event]) -> list[tuple[int, str]]:
        """What it should have seen of the stored events."""
        return [
            (event.sequence, "" if event.HasField("stream_status") else event.event_id)
            for event in events
            if event.sequence > self.began_after
            and (self.kind == ACCOUNT_EVENTS or event.WhichOneof("payload") in _REPORTED)
        ]

    def differences(self, events: list[event_pb2.Event]) -> list[str]:
        """How what was seen differs from what is stored."""
        expected, seen = self.expected(events), self.seen
        found = [f"STREAM {self.name}: {fault}" for fault in self.faults]
        if seen != expected:
            missing = sorted(set(expected) - set(seen))
            doubled, strange = len(seen) - len(set(seen)), len(set(seen) - set(expected))
            first = f", first {missing[0][0]}" if missing else ""
            found.append(
                f"STREAM {self.name}: {len(missing)} of {len(expected)} missing{first}, {doubled} doubled, "
                f"{strange} not stored; began behind {self.began_after}, stands at {self.last}"
            )
        return found


def _position_of(header: stream_pb2.StreamHeader) -> stream_pb2.StreamPosition:
    return stream_pb2.StreamPosition(epoch=header.epoch, sequence=header.sequence)


__all__ = ["ACCOUNT_EVENTS", "REPORTS", "Follower"]
