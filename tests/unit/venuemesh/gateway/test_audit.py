"""The trail never holds up an order, and loses nothing in silence (property 9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import ManualClock
from tests.unit.venuemesh.gateway.gateway_world import MemoryBus, gateway, until
from venuemesh.errors import JournalUnavailable, Sent
from venuemesh.gateway.alerts import AUDIT_LOST
from venuemesh.gateway.audit import AuditSettings, AuditTrail
from venuemesh.gateway.audit_entry import is_about, never_refuses, outcome_of, subject_of
from venuemesh.gateway.measures import LinkMetrics
from venuemesh.metrics import Metrics
from venuemesh.transport.observer import RequestOutcome, RequestRecord
from venuemesh.v1 import operations_pb2 as pb

MARK = "audit.lost"


class AuditBus(MemoryBus):
    """A broker that may be away."""

    away = False

    async def publish_soon(
        self, subject: str, payload: bytes, *, message_id: str, headers: Mapping[str, str]
    ) -> asyncio.Future[Any]:
        if self.away:
            raise JournalUnavailable("NATS is not connected")
        return await super().publish_soon(subject, payload, message_id=message_id, headers=headers)

    def entries(self) -> list[pb.AuditEntry]:
        """Every stored entry, in order."""
        return [pb.AuditEntry.FromString(row.payload) for row in self._stored.get("VENUEMESH_AUDIT", [])]


def record(endpoint: str = "e", **changes: Any) -> RequestRecord:
    """One attempt that was answered."""
    fields: dict[str, Any] = {
        "link": "rest",
        "endpoint": endpoint,
        "outcome": RequestOutcome.OK,
        "write": True,
        "sent": Sent.YES,
        "started_ns": 1_000,
        "latency_s": 0.25,
        "request_body": b'{"a":1}',
        "response_body": b'{"b":2}',
        "status": 200,
        **changes,
    }
    return RequestRecord(**fields)


@asynccontextmanager
async def running(bus: AuditBus, **bounds: Any) -> AsyncIterator[AuditTrail]:
    """A trail whose pumps run while the block does."""
    trail = AuditTrail(
        bus,  # type: ignore[arg-type]
        venue="sim",
        writer_id="w",
        clock=ManualClock(),
        settings=AuditSettings(**bounds),
    )
    task = asyncio.create_task(trail.run(), name="audit")
    try:
        async with asyncio.timeout(60):
            yield trail
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_entry_says_what_when_how_long_and_how_it_ended() -> None:
    """P9: an answered request, complete."""
    bus = AuditBus()
    async with running(bus) as trail:
        trail.on_request(record("exchange.order", link="user/main", attempt=1))
        await trail.flush()
    (entry,) = bus.entries()
    assert (entry.audit_entry_id, entry.venue, entry.account_id, entry.link_id) == (
        "sim/w/1",
        "sim",
        "main",
        "user/main",
    )
    assert (entry.endpoint, entry.request, entry.response) == ("exchange.order", '{"a":1}', '{"b":2}')
    assert (entry.outcome, entry.write, entry.attempt, entry.http_status) == (pb.AUDIT_OUTCOME_OK, True, 1, 200)
    assert (entry.request_time.ToNanoseconds(), entry.latency.ToNanoseconds()) == (1_000, 250_000_000)


async def test_request_that_was_never_answered_is_kept_with_the_reason_and_no_latency() -> None:
    """P9: and a read without a body by what it asked for."""
    bus = AuditBus()
    async with running(bus) as trail:
        trail.on_request(
            record(outcome=RequestOutcome.LOST, sent=Sent.MAYBE, status=None, response_body=b"", detail="reset by peer")
        )
        trail.on_request(record(write=False, request_body=b"", target="GET /api/v1/tx?by=hash&auth=xyz"))
        await trail.flush()
    lost, read = bus.entries()
    assert (lost.outcome, lost.detail, lost.response) == (pb.AUDIT_OUTCOME_UNKNOWN, "reset by peer", "")
    assert not lost.HasField("latency") and not lost.HasField("http_status")
    assert read.request == "GET /api/v1/tx?by=hash&auth=***"


async def test_a_long_body_is_left_out_and_its_length_kept() -> None:
    """The order path shares a processor with the trail: removing secrets from megabytes is not worth it."""
    bus = AuditBus()
    async with running(bus, max_body_bytes=100) as trail:
        trail.on_request(record(response_body=b"[" + b"1," * 200 + b"1]"))
        await trail.flush()
    (entry,) = bus.entries()
    assert (entry.response, entry.response_length) == ("[403 bytes, left out for their size]", 403)
    assert entry.request == '{"a":1}'


async def test_full_queue_loses_new_entries_counts_them_and_marks_their_place() -> None:
    """P9: reads stop at half, writes at the whole; the mark stands between what was before and what comes after."""
    bus = AuditBus()
    bus.away = True
    async with running(bus, max_entries=8, window=2) as trail:
        told: list[str] = []
        trail.on_loss = told.append
        trail.on_whole = lambda: told.append("whole")
        for number in range(6):
            trail.on_request(record(f"r{number}", write=False))
        for number in range(6):
            trail.on_request(record(f"w{number}", started_ns=1_000 + number))
        assert (trail.backlog, trail.lost) == (8, 5)
        assert told == [f"{count} entries wait for the broker and no more are taken" for count in (4, 8)]
        bus.away = False
        await trail.flush()
        trail.on_request(record("after"))
        await trail.flush()
        assert (trail.backlog, trail.lost) == (0, 5)
        assert told[2:] == ["whole", "whole"]
    entries = bus.entries()
    before, between, after = ["r0", "r1", "r2", "r3"], ["w0", "w1", "w2"], ["after"]
    assert [entry.endpoint for entry in entries] == [*before, MARK, *between, MARK, *after]
    assert [entry.detail.split()[0] for entry in entries if entry.endpoint == MARK] == ["2", "3"]


async def test_bytes_are_bounded_too() -> None:
    """A few long answers fill the queue as many short ones do."""
    bus = AuditBus()
    bus.away = True
    async with running(bus, max_bytes=1_000, max_body_bytes=10_000) as trail:
        for _ in range(5):
            trail.on_request(record(response_body=b"1" * 400))
        assert (trail.backlog, trail.lost) == (3, 2)


@given(st.lists(st.sampled_from(["read", "write", "away", "back", "flush"]), max_size=40))
@settings(deadline=None)
def test_nothing_is_lost_in_silence(script: list[str]) -> None:
    """P9: whatever happens, entries stored and entries counted in marks are the requests made, and order is kept."""

    async def play() -> None:
        bus = AuditBus()
        async with running(bus, max_entries=4, window=2) as trail:
            made = 0
            for step in script:
                if step in ("read", "write"):
                    trail.on_request(record(str(made), write=step == "write"))
                    made += 1
                elif step == "flush" and not bus.away:
                    await trail.flush()
                else:
                    bus.away = step == "away"
            bus.away = False
            await trail.flush()
            entries = bus.entries()
            kept = [int(entry.endpoint) for entry in entries if entry.endpoint != MARK]
            marked = sum(int(entry.detail.split()[0]) for entry in entries if entry.endpoint == MARK)
            assert kept == sorted(set(kept))
            assert (len(kept) + marked, marked) == (made, trail.lost)
            assert len({entry.audit_entry_id for entry in entries}) == len(entries)

    asyncio.run(play())


async def test_an_order_is_acknowledged_while_the_trail_cannot_be_written() -> None:
    """P9: the trail is behind the order path, and its loss is an alert that ends with it."""
    async with gateway() as world:
        trail = world.core.audit
        trail._settings = AuditSettings(max_entries=2)
        world.bus.holding = True
        for number in range(3):
            trail.on_request(record(str(number)))
        assert [alert.kind for alert in world.core.alerts.lasting()] == [AUDIT_LOST]
        world.bus.release()
        await world.submit("k-1")
        await trail.flush()
        await until(lambda: not world.core.alerts.lasting())
        assert trail.lost == 1


@pytest.mark.parametrize(
    ("outcome", "sent", "expected"),
    [
        (RequestOutcome.OK, Sent.YES, pb.AUDIT_OUTCOME_OK),
        (RequestOutcome.LATE, Sent.YES, pb.AUDIT_OUTCOME_OK),
        (RequestOutcome.CLIENT_ERROR, Sent.YES, pb.AUDIT_OUTCOME_REFUSED),
        (RequestOutcome.RATE_LIMITED, Sent.YES, pb.AUDIT_OUTCOME_REFUSED),
        (RequestOutcome.SERVER_ERROR, Sent.YES, pb.AUDIT_OUTCOME_UNKNOWN),
        (RequestOutcome.UNEXPECTED, Sent.YES, pb.AUDIT_OUTCOME_UNKNOWN),
        (RequestOutcome.LOST, Sent.MAYBE, pb.AUDIT_OUTCOME_UNKNOWN),
        (RequestOutcome.CANCELED, Sent.MAYBE, pb.AUDIT_OUTCOME_UNKNOWN),
        (RequestOutcome.CANCELED, Sent.NO, pb.AUDIT_OUTCOME_NOT_SENT),
        (RequestOutcome.NOT_CONNECTED, Sent.NO, pb.AUDIT_OUTCOME_NOT_SENT),
    ],
)
def test_every_end_of_a_request_has_one_outcome(
    outcome: RequestOutcome, sent: Sent, expected: pb.AuditOutcome.ValueType
) -> None:
    """P7, P9: for an auditor."""
    assert outcome_of(record(outcome=outcome, sent=sent), never_refuses) == expected


def test_every_outcome_of_the_transport_is_known() -> None:
    """P9: a new one must be given a meaning."""
    for outcome in RequestOutcome:
        assert outcome_of(record(outcome=outcome), never_refuses)


def test_an_answer_that_declines_is_refused_and_an_unreadable_one_is_not_asked() -> None:
    """The adapter knows what declines; a body that is no JSON is not its affair."""
    assert outcome_of(record(response_body=b'{"no":1}'), lambda answer: "no" in answer) == pb.AUDIT_OUTCOME_REFUSED
    assert outcome_of(record(response_body=b"<html>"), lambda _answer: True) == pb.AUDIT_OUTCOME_OK


def test_entry_about_several_orders_lies_under_several_and_is_about_each() -> None:
    """P9: a batch is found by each of its orders."""
    one = pb.AuditEntry(venue="sim", account_id="main", order_id="a")
    both = pb.AuditEntry(venue="sim", account_id="main", order_id="a", other_order_ids=["b"])
    assert subject_of(one) == "venuemesh.v1.audit.sim.main.a"
    assert subject_of(both) == "venuemesh.v1.audit.sim.main.several"
    assert subject_of(pb.AuditEntry(venue="sim")) == "venuemesh.v1.audit.sim.-.-"
    assert [is_about(both, order_id) for order_id in "abc"] == [True, True, False]


def test_late_answers_are_no_latency() -> None:
    """P30: what came after the time-out was measured as lost."""
    metrics = Metrics()
    watcher = LinkMetrics(metrics, "sim")
    watcher.on_request(record(outcome=RequestOutcome.LATE))
    assert "venue_request_seconds_count" not in metrics.render()
