"""Stored messages into events, and what one message leads to. Pure."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from aggregator.reading import BadEvent, check_event, is_good
from aggregator.sequencing import AccountKey, Gap, Sequencer
from venuemesh.follower import StoredMessage
from venuemesh.subjects import token
from venuemesh.v1 import event_pb2, portfolio_service_pb2, stream_pb2

PortfolioItem = portfolio_service_pb2.PortfolioDelta | stream_pb2.StreamStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What could not be folded, for the dead letters. `name` is unique within the log sequence."""

    name: str
    subject: str
    payload: bytes
    error: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Record:
    """Events folded at one log sequence, in order."""

    sequence: int
    events: tuple[event_pb2.Event, ...]


class Batch:
    """What one log message leads to."""

    def __init__(self, sequence: int, time_ns: int) -> None:
        self.sequence = sequence
        self.time_ns = time_ns
        self.ready: list[event_pb2.Event] = []
        self.keys: set[AccountKey] = set()
        self.gaps: list[tuple[AccountKey, Gap | None]] = []
        self.losses: list[tuple[AccountKey, str]] = []
        self.refusals: list[Refusal] = []
        self.deltas: list[PortfolioItem] = []

    def refuse(self, message: StoredMessage, error: str) -> None:
        self.refusals.append(
            Refusal(
                name="message",
                subject=message.subject,
                payload=message.payload,
                error=error,
                sequence=message.sequence,
            )
        )


def fingerprint(payload: bytes) -> bytes:
    """What tells one stored message from another at the same place of the log."""
    return hashlib.sha256(payload).digest()


def decode(message: StoredMessage) -> event_pb2.Event:
    """The event in a stored message, fit to be put into its account's order.

    Raises:
        BadEvent: it is none, or its subject names another account.
    """
    try:
        event = event_pb2.Event.FromString(message.payload)
    except DecodeError as error:
        raise BadEvent(f"the payload is not an event: {error}") from None
    check_event(event)
    parts = message.subject.split(".")
    if parts[3:5] != [token(event.venue), token(event.account_id)]:
        raise BadEvent(f"an event of {event.venue}/{event.account_id} under {message.subject}")
    return event


def replayed(sequencer: Sequencer, message: StoredMessage) -> list[event_pb2.Event]:
    """What `take` folded at this message, from a copy of the sequencer that has read the same log."""
    time_ns = message.time_ns
    ready: list[event_pb2.Event] = []
    for gap in sequencer.overdue(time_ns):
        ready += sequencer.give_up(gap, log_sequence=message.sequence, time_ns=time_ns).ready
    with suppress(BadEvent):
        ready += sequencer.offer(decode(message), log_sequence=message.sequence, time_ns=time_ns).ready
    return [event for event in ready if is_good(event)]
