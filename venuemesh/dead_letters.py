"""Events that a service could not handle: kept with the reason, shown to an operator, put back when asked.

A letter is named by its sequence number in the stream of dead letters. Putting one back publishes the event again under
its subject with its headers and a message id made from the letter, and notes who did it and why; a repeat finds the
note and publishes nothing. A crash between the two publishes once more, which readers must bear as of any event: they
know it by its `event_id`. The copy carries `REQUEUED`, so that who reads by position tells it from the original.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from venuemesh.bus import MSG_ID, Bus, SubjectTaken
from venuemesh.clock import Clock
from venuemesh.errors import DeadLetterNotFound, InvalidRequest, JournalUnavailable
from venuemesh.follower import StoredMessage
from venuemesh.subjects import ACCOUNT_KINDS, DEAD_LETTER_STREAM, ROOT, Kind, subject, token
from venuemesh.v1 import event_pb2

log = logging.getLogger(__name__)

REQUEUED: Final = "Venuemesh-Requeued"
"""Header of an event that was put back: the number of its letter."""
MAX_TEXT: Final = 2_000
MAX_OPERATOR: Final = 100
_RETURNABLE = frozenset({*ACCOUNT_KINDS, Kind.VENUE, Kind.ROUTE, Kind.RISK})
_BROKERS_OWN = "nats-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhandled:
    """An event that could not be handled.

    Attributes:
        name: unique among the letters of its service for ever; parts of the letter's subject.
        source_stream, source_sequence: where the event is stored; empty and 0 when it is not.
    """

    name: tuple[str, ...]
    subject: str
    payload: bytes
    error: str
    source_stream: str = ""
    source_sequence: int = 0


class DeadLetters:
    """The dead letters of one service, or of all. Every method raises JournalUnavailable when the broker is away.

    Args:
        handler: the service; empty for all services, which can then only be read and put back.
    """

    def __init__(self, bus: Bus, clock: Clock, *, handler: str = "") -> None:
        self._bus = bus
        self._clock = clock
        self._handler = handler

    async def bury(self, unhandled: Unhandled) -> None:
        """Keep an event with the reason; once per name, whoever finds it again."""
        if not self._handler:
            raise ValueError("only a service of a name buries events")
        letter = event_pb2.DeadLetter(
            subject=unhandled.subject,
            payload=unhandled.payload,
            handler=self._handler,
            error=unhandled.error[:MAX_TEXT],
            failed_time=self._now(),
            source_stream=unhandled.source_stream,
            source_sequence=unhandled.source_sequence,
        )
        original = await self._original(unhandled)
        if original is not None:
            letter.subject = original.subject
            letter.headers.update(_published_with(original.headers))
        try:
            await self._bus.append_once(
                subject(Kind.DEAD_LETTER, self._handler, *unhandled.name), letter.SerializeToString()
            )
        except SubjectTaken:
            return
        log.error("event_buried", extra={"subject": letter.subject, "error": letter.error})

    async def _original(self, unhandled: Unhandled) -> StoredMessage | None:
        """The message as it is stored; None when it is not, or is another."""
        if not unhandled.source_stream or not unhandled.payload:
            return None
        stored = await self._bus.next_at(unhandled.source_stream, f"{ROOT}.>", unhandled.source_sequence)
        same = stored is not None and stored.payload == unhandled.payload
        return stored if same else None

    async def page(self, size: int, *, after: int = 0) -> tuple[list[event_pb2.DeadLetter], bool]:
        """At most `size` letters behind the one of number `after`, oldest first, and whether there are more."""
        letters: list[event_pb2.DeadLetter] = []
        async with aclosing(
            self._bus.replay(DEAD_LETTER_STREAM, [self._filter(Kind.DEAD_LETTER)], after=after)
        ) as rows:
            async for message in rows:
                if len(letters) == size:
                    await self._note_requeued(letters)
                    return letters, True
                letters.append(_letter(message))
        await self._note_requeued(letters)
        return letters, False

    async def requeue(self, number: int, *, operator: str = "", reason: str = "") -> tuple[str, bool]:
        """Publish the event of a letter again; returns its subject, and whether that had been done before.

        Raises:
            DeadLetterNotFound: no letter of this service has the number.
            InvalidRequest: the letter tells of something that is no event, so that nothing can be put back.
        """
        letter = await self._find(number)
        _require_event(letter)
        marker = subject(Kind.REQUEUED, letter.handler, str(number))
        if await self._bus.last(DEAD_LETTER_STREAM, marker) is not None:
            return letter.subject, True
        headers = {name: value for name, value in letter.headers.items() if name != MSG_ID}
        headers[REQUEUED] = str(number)
        await self._bus.publish(letter.subject, letter.payload, message_id=f"requeue/{number}", headers=headers)
        note = event_pb2.DeadLetter(
            subject=letter.subject,
            handler=letter.handler,
            error=reason[:MAX_TEXT],
            stream_sequence=number,
            requeued_time=self._now(),
            requeued_by=operator[:MAX_OPERATOR],
        )
        try:
            await self._bus.append_once(marker, note.SerializeToString())
        except SubjectTaken:
            return letter.subject, True
        log.warning("dead_letter_requeued", extra={"number": number, "subject": letter.subject, "operator": operator})
        return letter.subject, False

    async def _find(self, number: int) -> event_pb2.DeadLetter:
        stored = await self._bus.next_at(DEAD_LETTER_STREAM, self._filter(Kind.DEAD_LETTER), number) if number else None
        if stored is None or stored.sequence != number:
            raise DeadLetterNotFound(
                f"stream_sequence: no dead letter {number} of {self._handler or 'any service'}",
                field="stream_sequence",
                metadata={"stream_sequence": str(number)},
            )
        return _letter(stored)

    async def _note_requeued(self, letters: list[event_pb2.DeadLetter]) -> None:
        if not letters:
            return
        notes: dict[int, event_pb2.DeadLetter] = {}
        async with aclosing(self._bus.replay(DEAD_LETTER_STREAM, [self._filter(Kind.REQUEUED)])) as rows:
            async for message in rows:
                note = _parse(message)
                notes[note.stream_sequence] = note
        for letter in letters:
            if (found := notes.get(letter.stream_sequence)) is not None:
                letter.requeued_time.CopyFrom(found.requeued_time)
                letter.requeued_by = found.requeued_by

    def _filter(self, kind: Kind) -> str:
        return f"{ROOT}.{kind}.{token(self._handler) if self._handler else '*'}.>"

    def _now(self) -> Timestamp:
        stamp = Timestamp()
        stamp.FromNanoseconds(self._clock.now_ns())
        return stamp


def is_requeued(headers: Mapping[str, str]) -> bool:
    """Whether a stored event is a copy that an operator put back."""
    return REQUEUED in headers


def _published_with(headers: Mapping[str, str]) -> dict[str, str]:
    """What the publisher wrote, without what the broker adds when it hands a message out."""
    return {
        name: value for name, value in headers.items() if name == MSG_ID or not name.lower().startswith(_BROKERS_OWN)
    }


def _require_event(letter: event_pb2.DeadLetter) -> None:
    parts = letter.subject.split(".")
    returnable = letter.subject.startswith(f"{ROOT}.") and len(parts) > 2 and parts[2] in _RETURNABLE
    if not letter.payload or not returnable or "*" in parts or ">" in parts:
        raise InvalidRequest(
            f"stream_sequence: dead letter {letter.stream_sequence} is no event under a subject of its own "
            f"({letter.subject}: {letter.error}); nothing can be put back",
            field="stream_sequence",
        )


def _letter(message: StoredMessage) -> event_pb2.DeadLetter:
    letter = _parse(message)
    letter.stream_sequence = message.sequence
    return letter


def _parse(message: StoredMessage) -> event_pb2.DeadLetter:
    try:
        return event_pb2.DeadLetter.FromString(message.payload)
    except DecodeError as error:
        raise JournalUnavailable(f"message {message.sequence} of {DEAD_LETTER_STREAM} is no dead letter") from error
