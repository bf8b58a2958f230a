"""Dead letters over a real broker: kept once with their origin, listed, put back once, and harmless to who reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.broker import Broker
from tests.fakes import ManualClock
from venuemesh.bus import MSG_ID, Bus, BusOptions
from venuemesh.dead_letter_service import DeadLetterDesk
from venuemesh.dead_letters import REQUEUED, DeadLetters, Unhandled
from venuemesh.errors import DeadLetterNotFound, InvalidRequest, JournalUnavailable, Reason
from venuemesh.follower import StoredMessage
from venuemesh.journal import AccountHistory
from venuemesh.paging import Pager
from venuemesh.subjects import EVENT_STREAM, ROOT, Kind, stream_specs, subject
from venuemesh.v1 import event_pb2
from venuemesh.v1 import operations_service_pb2 as wire

FILL = f"{ROOT}.fill.sim.main.BTC"


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    async with Bus.connect(BusOptions(servers=[broker.url], name="test")) as connected:
        await connected.ensure_streams(stream_specs(0))
        yield connected


async def store(bus: Bus, payload: bytes, name: str = FILL) -> int:
    """An event as a service publishes it."""
    return await bus.publish(name, payload, message_id=f"id/{payload!r}", headers={"traceparent": "00-aa-bb-01"})


async def stored(bus: Bus) -> list[StoredMessage]:
    """Every event in the log."""
    return [message async for message in bus.replay(EVENT_STREAM, [f"{ROOT}.>"])]


def unhandled(payload: bytes, sequence: int, **changes: object) -> Unhandled:
    """What a service says of an event it could not handle."""
    fields = {
        "name": ("epoch", str(sequence)),
        "subject": FILL,
        "payload": payload,
        "error": "no number",
        "source_stream": EVENT_STREAM,
        "source_sequence": sequence,
    }
    return Unhandled(**{**fields, **changes})  # type: ignore[arg-type]


async def bury(bus: Bus, payload: bytes = b"bad", handler: str = "aggregator") -> int:
    """Store an event, bury it, and give the number of its letter."""
    letters = DeadLetters(bus, ManualClock(), handler=handler)
    await letters.bury(unhandled(payload, await store(bus, payload)))
    found, _ = await letters.page(1_000)
    return found[-1].stream_sequence


async def test_letter_is_kept_once_with_reason_subject_and_original_headers(bus: Bus) -> None:
    """A second finder, and a finder that only knows a pattern of the subject, change nothing of it."""
    letters = DeadLetters(bus, ManualClock(), handler="aggregator")
    sequence = await store(bus, b"bad")
    await letters.bury(unhandled(b"bad", sequence, subject=f"{ROOT}.*.sim.main.>"))
    await letters.bury(unhandled(b"bad", sequence, error="another reason"))
    (letter,), more = await letters.page(10)
    assert (letter.subject, letter.payload, letter.handler, letter.error) == (FILL, b"bad", "aggregator", "no number")
    assert (letter.source_stream, letter.source_sequence) == (EVENT_STREAM, sequence)
    assert dict(letter.headers) == {"traceparent": "00-aa-bb-01", MSG_ID: "id/b'bad'"}
    assert letter.failed_time.ToNanoseconds() == ManualClock().now_ns()
    assert not letter.HasField("requeued_time")
    assert not more


async def test_pages_go_from_oldest_to_newest_and_each_service_shows_its_own(bus: Bus) -> None:
    """Who is of no service shows them all."""
    numbers = [
        await bury(bus, f"e{place}".encode(), "aggregator" if place % 2 else "gateway_sim") for place in range(5)
    ]
    desk = DeadLetterDesk(DeadLetters(bus, ManualClock()), Pager(b"k"), ManualClock())
    request, seen = wire.ListDeadLettersRequest(page_size=2), []
    while True:
        answer = await desk.list(request)
        seen += [letter.stream_sequence for letter in answer.dead_letters]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert seen == numbers
    own, _ = await DeadLetters(bus, ManualClock(), handler="gateway_sim").page(10)
    assert [letter.payload for letter in own] == [b"e0", b"e2", b"e4"]


async def test_put_back_publishes_once_whoever_asks_how_often(bus: Bus) -> None:
    """Two at once and a repeat: one copy, under its subject, with its headers and an id of its own, and a note."""
    number = await bury(bus)
    clock = ManualClock()
    letters = DeadLetters(bus, clock, handler="aggregator")
    both = await asyncio.gather(*(letters.requeue(number, operator="ana", reason="fixed") for _ in range(2)))
    assert sorted(both) == [(FILL, False), (FILL, True)]
    assert await letters.requeue(number, operator="bob") == (FILL, True)
    original, copy = await stored(bus)
    assert (copy.subject, copy.payload) == (original.subject, original.payload)
    assert copy.headers["traceparent"] == "00-aa-bb-01"
    assert (copy.headers[REQUEUED], copy.headers[MSG_ID]) == (str(number), f"requeue/{number}")
    (letter,), _ = await letters.page(10)
    assert (letter.requeued_by, letter.requeued_time.ToNanoseconds()) == ("ana", clock.now_ns())


async def test_put_back_after_a_crash_before_the_note_publishes_no_second_copy(bus: Bus) -> None:
    """The message id comes from the letter, so the broker knows the copy."""
    number = await bury(bus)
    await bus.publish(FILL, b"bad", message_id=f"requeue/{number}")
    await DeadLetters(bus, ManualClock()).requeue(number)
    assert len(await stored(bus)) == 2


async def test_put_back_of_what_is_no_event_is_refused_by_name(bus: Bus) -> None:
    """A gap has no bytes, a journal entry is no event, an unknown number is none, another's is none."""
    letters = DeadLetters(bus, ManualClock(), handler="aggregator")
    gap = {"name": ("e", "gap"), "source_stream": "", "source_sequence": 0, "subject": f"{ROOT}.*.sim.main.>"}
    await letters.bury(unhandled(b"", 0, **gap))
    intent = {"name": ("e", "intent"), "source_stream": "", "subject": subject(Kind.INTENT, "sim", "main", "k-1")}
    await letters.bury(unhandled(b"x", 0, **intent))
    found, _ = await letters.page(10)
    for letter in found:
        with pytest.raises(InvalidRequest, match="nothing can be put back") as refused:
            await letters.requeue(letter.stream_sequence)
        assert refused.value.field == "stream_sequence"
    other = await bury(bus, b"theirs", "gateway_sim")
    for number in (0, 999, other):
        with pytest.raises(DeadLetterNotFound, match=f"no dead letter {number} of aggregator") as missing:
            await letters.requeue(number)
        assert missing.value.reason is Reason.DEAD_LETTER_NOT_FOUND


async def test_texts_of_an_operator_are_bounded(bus: Bus) -> None:
    """The field is named."""
    desk = DeadLetterDesk(DeadLetters(bus, ManualClock()), Pager(b"k"), ManualClock())
    for field, size in (("operator", 101), ("reason", 2_001)):
        with pytest.raises(InvalidRequest) as refused:
            await desk.requeue(wire.RequeueDeadLetterRequest(stream_sequence=1, **{field: "x" * size}))  # type: ignore[arg-type]
        assert refused.value.field == field


def event(number: int, account: str = "main") -> bytes:
    """An event of an account's one global order."""
    return event_pb2.Event(event_id=f"e{number}", venue="sim", account_id=account, sequence=number).SerializeToString()


async def test_history_resumes_exactly_with_an_old_event_put_back_at_the_end(bus: Bus) -> None:
    """P41: the copy of event 5 behind everything else moves no reader's place, and is told to nobody twice."""
    for number in range(1, 31):
        await store(bus, event(number))
    for number in range(600):
        await bus.publish(f"{ROOT}.fill.sim.other.BTC", event(number + 1, "other"))
    letters = DeadLetters(bus, ManualClock(), handler="aggregator")
    await letters.bury(unhandled(event(5), 5))
    (letter,), _ = await letters.page(1)
    await letters.requeue(letter.stream_sequence)
    history = AccountHistory(bus, "sim", "main")
    for after in (0, 4, 5, 20, 30):
        assert [found.sequence async for found in history.replay(after)] == list(range(after + 1, 31))
    assert await history.first_sequence() == 1


async def test_unreadable_message_among_an_accounts_events_is_buried_and_ends_the_reading(bus: Bus) -> None:
    """A gateway does not tell an account over a hole; the letter names the message to look at."""
    await store(bus, event(1))
    sequence = await store(bus, b"\xff\xff")
    letters = DeadLetters(bus, ManualClock(), handler="gateway_sim")
    history = AccountHistory(bus, "sim", "main", dead_letters=letters)
    for _ in range(2):
        with pytest.raises(JournalUnavailable, match=f"message {sequence} "):
            assert [found.sequence async for found in history.replay()]
    (letter,), _ = await letters.page(10)
    assert (letter.payload, letter.source_sequence, letter.handler) == (b"\xff\xff", sequence, "gateway_sim")
