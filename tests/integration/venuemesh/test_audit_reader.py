"""The trail read back over a real broker: every query finds exactly what it asks for, page by page (property 9)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.broker import Broker
from venuemesh.bus import Bus, BusOptions
from venuemesh.gateway.audit_entry import subject_of
from venuemesh.gateway.audit_reader import SPREAD_S, AuditQuery, AuditReader
from venuemesh.subjects import AUDIT_STREAM, stream_specs
from venuemesh.v1 import operations_pb2 as pb

NS = 1_000_000_000
COUNT = 100


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    async with Bus.connect(BusOptions(servers=[broker.url], name="test")) as connected:
        await connected.ensure_streams(stream_specs(0))
        yield connected


def entry(number: int, venue: str = "sim") -> pb.AuditEntry:
    """One a minute; three accounts in turn, few refusals, rare orders and batches."""
    row = pb.AuditEntry(
        audit_entry_id=str(number),
        venue=venue,
        account_id=f"a{number % 3}",
        outcome=pb.AUDIT_OUTCOME_REFUSED if number % 10 == 0 else pb.AUDIT_OUTCOME_OK,
        order_id="rare" if number % 30 == 7 else f"o{number}",
        other_order_ids=["rare", "x"] if number % 40 == 31 else [],
    )
    row.request_time.seconds = number * 60
    return row


async def store(bus: Bus, *entries: pb.AuditEntry) -> None:
    """As the trail publishes them."""
    for row in entries:
        await bus.publish(subject_of(row), row.SerializeToString())


async def read_all(reader: AuditReader, query: AuditQuery, size: int) -> list[int]:
    """All pages."""
    found: list[int] = []
    before = 0
    while True:
        page = await reader.page(query, size, before=before)
        assert len(page.entries) <= size
        found += [int(row.audit_entry_id) for row in page.entries]
        before = page.before
        if not before:
            return found


QUERIES = [
    AuditQuery(),
    AuditQuery(account_id="a1"),
    AuditQuery(order_id="rare"),
    AuditQuery(order_id="rare", account_id="a1"),
    AuditQuery(order_id="x"),
    AuditQuery(order_id="nobody"),
    AuditQuery(outcome=pb.AUDIT_OUTCOME_REFUSED),
    AuditQuery(from_ns=60 * 60 * NS),
    AuditQuery(to_ns=60 * 60 * NS),
    AuditQuery(from_ns=40 * 60 * NS, to_ns=41 * 60 * NS),
    AuditQuery(from_ns=40 * 60 * NS, to_ns=75 * 60 * NS, account_id="a2", outcome=pb.AUDIT_OUTCOME_REFUSED),
    AuditQuery(from_ns=COUNT * 60 * NS),
]


async def test_pages_of_every_query_are_what_a_scan_of_everything_finds(bus: Bus) -> None:
    """P9: newest first, none missing, none twice, whatever the sizes are; nothing of another venue."""
    rows = [entry(number) for number in range(COUNT)]
    for row in rows:
        await store(bus, row, entry(int(row.audit_entry_id), "other"))
    for block, most, size in ((9, 40, 7), (500, 10_000, 3), (500, 10_000, 1_000)):
        reader = AuditReader(bus, "sim", block=block, max_looked=most)
        for query in QUERIES:
            expected = [int(row.audit_entry_id) for row in reversed(rows) if query.takes(row)]
            assert await read_all(reader, query, size) == expected, (query, block, size)


async def test_page_that_finds_little_is_short_and_says_where_it_goes_on(bus: Bus) -> None:
    """A rare outcome costs a bounded look per call."""
    await store(bus, *(entry(number) for number in range(1, 100)))
    reader = AuditReader(bus, "sim", block=5, max_looked=20)
    page = await reader.page(AuditQuery(outcome=pb.AUDIT_OUTCOME_UNKNOWN), 10)
    assert page.entries == ()
    assert page.before == 80


async def test_entries_that_come_while_pages_are_read_shift_nothing(bus: Bus) -> None:
    """The place of a page is a place in the trail."""
    await store(bus, *(entry(number) for number in range(20)))
    reader = AuditReader(bus, "sim")
    first = await reader.page(AuditQuery(), 5)
    await store(bus, *(entry(number) for number in range(20, 30)))
    second = await reader.page(AuditQuery(), 5, before=first.before)
    assert [row.audit_entry_id for row in (*first.entries, *second.entries)] == [str(n) for n in range(19, 9, -1)]


async def test_requests_that_took_long_are_found_by_when_they_began(bus: Bus) -> None:
    """Stored as they end, so a slow one lies behind later ones: within the spread nothing is missed."""
    rows = [entry(number) for number in range(60)]
    late = pb.AuditEntry(audit_entry_id="999", venue="sim")
    late.request_time.seconds = 40 * 60 - SPREAD_S + 61
    await store(bus, *rows[:40], late, *rows[40:])
    at_ns = late.request_time.ToNanoseconds()
    found = await read_all(AuditReader(bus, "sim", block=4), AuditQuery(from_ns=at_ns, to_ns=at_ns + 1), 10)
    assert found == [999]


async def test_an_empty_trail_is_one_empty_page(bus: Bus) -> None:
    """Also where only another venue has entries."""
    reader = AuditReader(bus, "sim")
    assert (await reader.page(AuditQuery(), 10)).entries == ()
    await store(bus, entry(1, "other"))
    page = await reader.page(AuditQuery(to_ns=NS), 10)
    assert (page.entries, page.before) == ((), 0)


async def test_the_trail_ages_and_has_a_bound_in_bytes(bus: Bus) -> None:
    """G10: thirty days and one GiB unless set; the oldest go first."""
    info = await bus._js.stream_info(AUDIT_STREAM)
    assert (info.config.max_age, info.config.max_bytes) == (30 * 86_400, 1024**3)
    await bus.ensure_streams(stream_specs(0, audit_max_age_s=3_600, audit_max_bytes=5_000))
    await store(bus, *(entry(number) for number in range(100)))
    kept = await read_all(AuditReader(bus, "sim"), AuditQuery(), 1_000)
    assert kept[0] == 99
    assert 0 < len(kept) < 100
    assert kept == list(range(99, 99 - len(kept), -1))
