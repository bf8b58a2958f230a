"""The audit trail: every attempt to ask the venue, on its way to JetStream without ever holding up an order.

The link hands a record over and goes on; secrets are removed and the entry is published behind it. The queue is bounded
in entries and bytes. When it is full, because the broker is away or slow, new entries are lost: reads at half of it
already, so that writes have the rest. What is lost is counted, told as an alert, and its place is marked in the trail
itself. What still waits when the process is killed is lost without a mark; the journal has the intents.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from venuemesh import deadlines
from venuemesh.bus import Bus
from venuemesh.clock import Clock
from venuemesh.gateway import attribution
from venuemesh.gateway.account import Account
from venuemesh.gateway.attribution import About
from venuemesh.gateway.audit_entry import Observed, Refuses, build_entry, loss_entry, never_refuses, subject_of
from venuemesh.gateway.link_board import account_of_link
from venuemesh.outbox import Outbox, Outgoing
from venuemesh.transport.observer import RequestRecord, StateRecord
from venuemesh.v1 import operations_pb2

log = logging.getLogger(__name__)

_GIVE_WAY_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """Bounds of the trail.

    Attributes:
        max_entries, max_bytes: most that waits for the broker, in entries and in bytes of bodies.
        max_body_bytes: a longer body is left out; its length is kept.
        window: entries in flight to the broker.
    """

    max_entries: int = 4_096
    max_bytes: int = 8 * 1024 * 1024
    max_body_bytes: int = 32 * 1024
    window: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedOrder:
    """What the trail says of an order."""

    order_id: str
    correlation_id: str


@dataclass(slots=True)
class _Loss:
    """Entries lost since the last one that was taken."""

    count: int = 0
    writes: int = 0
    since_ns: int = 0
    until_ns: int = 0


class AuditTrail:
    """A `venuemesh.transport.observer.Observer` that remembers. Run `run` for as long as the venue is asked anything.

    Args:
        writer_id: names the process; entry ids begin with it.
        refuses: whether an answer of this venue declines what was asked.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        venue: str,
        writer_id: str,
        clock: Clock,
        settings: AuditSettings | None = None,
        refuses: Refuses = never_refuses,
    ) -> None:
        self._venue = venue
        self._writer_id = writer_id
        self._clock = clock
        self._settings = settings or AuditSettings()
        self._refuses = refuses
        self._outbox: Outbox[Observed | None] = Outbox(
            bus, name="audit", on_durable=self._on_durable, window=self._settings.window, retry_wait_s=0.5
        )
        self._waiting: deque[Observed | operations_pb2.AuditEntry] = deque()
        self._held = 0
        self._bytes = 0
        self._filled = asyncio.Event()
        self._moved = asyncio.Event()
        self._loss = _Loss()
        self._number = 0
        self.lost = 0
        """Entries lost since the start."""
        self.find_orders: Callable[[About], list[AuditedOrder]] = lambda _about: []
        """The orders a request is about, as the gateway knows them."""
        self.on_loss: Callable[[str], None] = lambda _detail: None
        """Called when entries begin to be lost, with the reason."""
        self.on_whole: Callable[[], None] = lambda: None
        """Called when the trail takes entries again and the loss is marked in it."""

    @property
    def backlog(self) -> int:
        """Entries not yet durable."""
        return self._held

    # --- on the link's own task: quick, and never waits --------------------------------------------------------

    def on_state(self, record: StateRecord) -> None:
        """Not a request."""

    def on_request(self, record: RequestRecord) -> None:
        """Take a record, or count it as lost."""
        if self._is_full(record):
            self._lose(record)
            return
        if self._loss.count:
            self._mark_loss()
        seen = self._observe(record)
        self._bytes += _size(seen)
        self._queue(seen)

    def _queue(self, entry: Observed | operations_pb2.AuditEntry) -> None:
        self._waiting.append(entry)
        self._held += 1
        self._filled.set()

    def _is_full(self, record: RequestRecord) -> bool:
        # Once entries of a sort are lost there must be room for many, or the trail would be a row of marks.
        usual, after_loss, lost = (1.0, 0.5, self._loss.writes) if record.write else (0.5, 0.25, self._loss.count)
        share = after_loss if lost else usual
        settings = self._settings
        return self._held >= settings.max_entries * share or self._bytes >= settings.max_bytes * share

    def _observe(self, record: RequestRecord) -> Observed:
        about = attribution.current()
        orders = self.find_orders(about)
        order_ids = dict.fromkeys([*about.order_ids, *(order.order_id for order in orders)])
        correlation_id = orders[0].correlation_id if orders else deadlines.request_id() or ""
        self._number += 1
        return Observed(
            number=self._number,
            record=self._bounded(record),
            account_id=about.account_id or account_of_link(record.link),
            order_ids=tuple(order_ids),
            correlation_id=correlation_id,
            request_bytes=record.request_bytes,
            response_bytes=record.response_bytes,
        )

    def _bounded(self, record: RequestRecord) -> RequestRecord:
        most = self._settings.max_body_bytes
        if record.request_bytes <= most and record.response_bytes <= most:
            return record
        return replace(
            record,
            request_body=record.request_body if record.request_bytes <= most else b"",
            response_body=record.response_body if record.response_bytes <= most else b"",
        )

    def _lose(self, record: RequestRecord) -> None:
        self.lost += 1
        loss = self._loss
        if not loss.count:
            loss.since_ns = record.started_ns
            log.error("audit_entries_lost", extra={"waiting": self._held, "bytes": self._bytes})
            self.on_loss(f"{self._held} entries wait for the broker and no more are taken")
        loss.count += 1
        loss.writes += record.write
        loss.until_ns = max(loss.until_ns, record.started_ns)

    def _mark_loss(self) -> None:
        """Put the place of what was lost into the trail, between the entries before and after it."""
        loss, self._loss = self._loss, _Loss()
        self._number += 1
        entry = loss_entry(
            venue=self._venue,
            writer_id=self._writer_id,
            number=self._number,
            lost=loss.count,
            since_ns=loss.since_ns,
            until_ns=loss.until_ns,
        )
        self._queue(entry)

    # --- behind it --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._outbox.run(), name="audit-outbox")
            while True:
                await self._filled.wait()
                # The answer to the request is on its way to its caller, who comes first.
                await asyncio.sleep(_GIVE_WAY_S)
                self._filled.clear()
                while self._waiting:
                    await self._publish_next()

    async def _publish_next(self) -> None:
        while self._outbox.backlog >= self._settings.window:
            self._moved.clear()
            await self._moved.wait()
        waiting = self._waiting.popleft()
        if isinstance(waiting, Observed):
            entry = build_entry(waiting, venue=self._venue, writer_id=self._writer_id, refuses=self._refuses)
            self._push(entry, waiting)
        else:
            self._push(waiting, None)
        # One entry at a time: removing secrets from a long body takes a moment that an order must not wait for.
        await asyncio.sleep(0)

    def _push(self, entry: operations_pb2.AuditEntry, seen: Observed | None) -> None:
        self._outbox.push(
            Outgoing(
                subject=subject_of(entry),
                payload=entry.SerializeToString(),
                message_id=f"audit/{entry.audit_entry_id}",
                about=seen,
            )
        )

    def _on_durable(self, seen: Observed | None) -> None:
        self._held -= 1
        self._moved.set()
        if seen is None:
            self.on_whole()
        else:
            self._bytes -= _size(seen)

    async def flush(self) -> None:
        """Wait until everything taken so far is durable."""
        if self._loss.count:
            self._mark_loss()
        while self._held:
            self._moved.clear()
            await self._moved.wait()
            await asyncio.sleep(0)


def orders_about(accounts: Mapping[str, Account], about: About) -> list[AuditedOrder]:
    """The orders a request is about that an account still holds."""
    account = accounts.get(about.account_id)
    if account is None:
        return []
    found = [account.order(order_id) for order_id in about.order_ids]
    found += [account.order_by_venue_client_id(name) for name in about.venue_client_ids]
    return [
        AuditedOrder(order_id=order.order_id, correlation_id=order.terms.correlation_id)
        for order in found
        if order is not None
    ]


def _size(seen: Observed) -> int:
    return len(seen.record.request_body) + len(seen.record.response_body)
