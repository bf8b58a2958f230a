"""Subjects and streams of the mesh on JetStream: what is published where, and how long it stays.

    venuemesh.v1.<kind>.<venue>.<account>.<symbol>             events, one subject per kind
    venuemesh.v1.intent.<venue>.<account>.<client_order_id>    the journal: one message per key, for ever
    venuemesh.v1.outcome.<venue>.<account>.<client_order_id>   the last word on a key, for ever
    venuemesh.v1.audit.<venue>.<account>.<order_id>            requests to a venue; "several" where they are about more
    venuemesh.v1.dead_letter.<service>.<...>                   what a service could not handle

Subscribers filter with NATS wildcards: `venuemesh.v1.fill.*.main.>` is every fill of account `main`,
`venuemesh.v1.*.hyperliquid.>` everything of a venue. "-" stands where a part does not apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

ROOT = "venuemesh.v1"
NONE = "-"

JOURNAL_STREAM = "VENUEMESH_JOURNAL"
EVENT_STREAM = "VENUEMESH_EVENTS"
MESH_STREAM = "VENUEMESH_MESH"
DEAD_LETTER_STREAM = "VENUEMESH_DEAD_LETTERS"
SNAPSHOT_STREAM = "VENUEMESH_SNAPSHOTS"
AUDIT_STREAM = "VENUEMESH_AUDIT"
RISK_BUCKET = "VENUEMESH_RISK"
RISK_STREAM = f"KV_{RISK_BUCKET}"
RESERVATION_STREAM = "VENUEMESH_RESERVATIONS"
RESERVATION_SUBJECT = f"{ROOT}.reservation"
MAX_RESERVATION_MESSAGES = 20_000
ROUTING_BUCKET = "VENUEMESH_ROUTING"
ROUTING_STREAM = f"KV_{ROUTING_BUCKET}"
ROUTING_POLICY_KEY = f"$KV.{ROUTING_BUCKET}.policy"
BREAKER_KEYS = f"$KV.{ROUTING_BUCKET}.breaker.*"

DAY_S = 86_400.0
AUDIT_DAYS = 30
AUDIT_MAX_BYTES = 1024**3


class Kind(StrEnum):
    """First varying part of a subject."""

    # the journal
    INTENT = "intent"
    OUTCOME = "outcome"
    ROUTE_INTENT = "route_intent"
    # account events, numbered per account
    ORDER = "order"
    FILL = "fill"
    POSITION = "position"
    BALANCE = "balance"
    LEDGER = "ledger"
    SUMMARY = "summary"
    DISCREPANCY = "discrepancy"
    FRESHNESS = "freshness"
    # events of no account
    VENUE = "venue"
    ROUTE = "route"
    RISK = "risk"
    # what could not be handled, and what of it was put back
    DEAD_LETTER = "dead_letter"
    REQUEUED = "requeued"
    # what was said to a venue and what it answered
    AUDIT = "audit"
    # state of a service, to start from
    SNAPSHOT = "snapshot"


ACCOUNT_KINDS = (
    Kind.ORDER,
    Kind.FILL,
    Kind.POSITION,
    Kind.BALANCE,
    Kind.LEDGER,
    Kind.SUMMARY,
    Kind.DISCREPANCY,
    Kind.FRESHNESS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """A JetStream stream as the mesh wants it; `max_age_s` 0 keeps for ever, `max_bytes` -1 sets no bound."""

    name: str
    subjects: Sequence[str]
    description: str
    max_age_s: float = 0
    max_bytes: int = -1
    max_messages_per_subject: int = -1
    keep_old: bool = False
    dedupe_window_s: float = 120
    metadata: dict[str, str] = field(default_factory=dict)


def _all_of(kinds: Sequence[Kind]) -> list[str]:
    return [f"{ROOT}.{kind}.>" for kind in kinds]


def stream_specs(
    event_max_age_s: float, *, audit_max_age_s: float = AUDIT_DAYS * DAY_S, audit_max_bytes: int = AUDIT_MAX_BYTES
) -> list[StreamSpec]:
    """Every stream of the mesh.

    The journal refuses new messages rather than forget old ones, and keeps one per key: it is what makes a repeated
    key return the first result for ever.
    """
    return [
        StreamSpec(
            name=JOURNAL_STREAM,
            subjects=_all_of((Kind.INTENT, Kind.OUTCOME, Kind.ROUTE_INTENT)),
            description="Order intents and outcomes, one per key",
            max_messages_per_subject=1,
            keep_old=True,
        ),
        StreamSpec(
            name=EVENT_STREAM,
            subjects=_all_of(ACCOUNT_KINDS),
            description="Everything that happened to accounts, in order",
            max_age_s=event_max_age_s,
        ),
        StreamSpec(
            name=MESH_STREAM,
            subjects=_all_of((Kind.VENUE, Kind.ROUTE, Kind.RISK)),
            description="Venue health, routing decisions and risk events",
            max_age_s=event_max_age_s,
        ),
        StreamSpec(
            name=RISK_STREAM,
            subjects=[f"$KV.{RISK_BUCKET}.>"],
            description="Limits, trading states and kill switches: a key-value bucket, the last value per key",
            max_messages_per_subject=1,
        ),
        StreamSpec(
            name=RESERVATION_STREAM,
            subjects=[RESERVATION_SUBJECT],
            description="Room under the limits that routers have taken for orders on their way",
            max_messages_per_subject=MAX_RESERVATION_MESSAGES,
        ),
        StreamSpec(
            name=ROUTING_STREAM,
            subjects=[f"$KV.{ROUTING_BUCKET}.>"],
            description="The routing policy and forced breakers: a key-value bucket, with its last versions",
            max_messages_per_subject=64,
        ),
        StreamSpec(
            name=DEAD_LETTER_STREAM,
            subjects=_all_of((Kind.DEAD_LETTER, Kind.REQUEUED)),
            description="Events that could not be handled, with the reason",
            max_age_s=event_max_age_s,
        ),
        StreamSpec(
            name=AUDIT_STREAM,
            subjects=_all_of((Kind.AUDIT,)),
            description="Requests to venues with their answers, secrets removed",
            max_age_s=audit_max_age_s,
            max_bytes=audit_max_bytes,
        ),
        StreamSpec(
            name=SNAPSHOT_STREAM,
            subjects=_all_of((Kind.SNAPSHOT,)),
            description="State of folds of the event log, the newest per slot and part",
            max_messages_per_subject=1,
        ),
    ]


@lru_cache(maxsize=16_384)
def token(part: str) -> str:
    """One subject token for any text: what NATS gives a meaning is written as %XX, nothing becomes "-"."""
    if not part:
        return NONE
    if part == NONE:
        return "%2D"
    return "".join(c if c.isprintable() and c not in ".*> %" else _escape(c) for c in part)


def _escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def breaker_key(venue: str) -> str:
    """Subject of what an operator set for the breaker of a venue."""
    return BREAKER_KEYS.replace("*", _key_token(venue))


def risk_key(*parts: str) -> str:
    """Subject of a key of the risk bucket; each part is written with what keys of a bucket may hold."""
    return ".".join(("$KV", RISK_BUCKET, *(_key_token(part) for part in parts)))


def _key_token(part: str) -> str:
    if not part:
        return NONE
    if part == NONE:
        return "=2D"
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_/") else _escape(c) for c in part)
    return plain.replace("%", "=")


def family(name: str) -> str:
    """A subject without venue, account and all behind: one of few, fit for the name of a span."""
    return ".".join(name.split(".", 3)[:3])


def subject(kind: Kind, venue: str, account_id: str = "", *rest: str) -> str:
    """Subject of one message, such as `venuemesh.v1.fill.hyperliquid.main.BTC/USDC:USDC`."""
    return ".".join((ROOT, kind, token(venue), token(account_id), *(token(part) for part in rest or ("",))))


def account_filter(venue: str, account_id: str) -> str:
    """Filter of all events of one account, in their one global order."""
    return f"{ROOT}.*.{token(venue)}.{token(account_id)}.>"
