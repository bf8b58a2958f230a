"""An order session as a state: its terms, its lease, what is under way. Pure; time is passed in, in monotonic seconds.

The caller's first message is a logon, every message renews the lease, and each request is one call of SubmitOrder,
CancelOrder or ReplaceOrder. `venuemesh.session_stream` moves the messages; which orders are the session's is known to
the gateways alone, and durably, in the orders themselves (`Order.session_id`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum

from google.protobuf.duration_pb2 import Duration

from venuemesh.errors import InvalidRequest, Reason
from venuemesh.v1 import order_service_pb2 as wire
from venuemesh.v1 import stream_pb2

MIN_LEASE_S = 1.0
MAX_LEASE_S = 60.0
DEFAULT_LEASE_S = 10.0
MAX_UNDER_WAY = 64
"""Submits and replaces of a session at once; cancels have as many places of their own."""
MAX_HEARTBEAT_S = 5.0
HEARTBEATS_PER_LEASE = 3
NS_PER_S = 1_000_000_000


class Kind(StrEnum):
    """What a request asks for; the name of its field in the message."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    REPLACE = "replace"


class Gone(Enum):
    """Why a session is over; the value is what its stream's last message says, 0 where nobody can be told."""

    LEASE_EXPIRED = stream_pb2.CLOSING_REASON_LEASE_EXPIRED
    LOGGED_OUT = stream_pb2.CLOSING_REASON_LOGGED_OUT
    DRAINING = stream_pb2.CLOSING_REASON_DRAINING
    SLOW_CONSUMER = stream_pb2.CLOSING_REASON_SLOW_CONSUMER
    SOURCE_LOST = stream_pb2.CLOSING_REASON_SOURCE_LOST
    CALL_BROKEN = stream_pb2.CLOSING_REASON_UNSPECIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTerms:
    """What was logged on for. `venue` is empty where orders may go anywhere."""

    account_id: str
    venue: str = ""
    cancel_on_disconnect: bool = False
    lease_s: float = DEFAULT_LEASE_S

    @property
    def heartbeat_s(self) -> float:
        """How often either side says that it lives, at least."""
        return min(self.lease_s / HEARTBEATS_PER_LEASE, MAX_HEARTBEAT_S)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to be attempted.

    Attributes:
        number: of the message, the logon being 1.
        message: a SubmitOrderRequest, CancelOrderRequest or ReplaceOrderRequest, with the session's account.
    """

    number: int
    kind: Kind
    message: wire.SubmitOrderRequest | wire.CancelOrderRequest | wire.ReplaceOrderRequest


def parse_logon(request: wire.OpenOrderSessionRequest) -> SessionTerms:
    """The terms in a session's first message.

    Raises:
        InvalidRequest: it is no logon, or a field of it breaks a rule.
    """
    body = request.WhichOneof("body")
    if body != "logon":
        raise _missing("logon", f"is required as the first message, got {body or 'an empty one'}")
    logon = request.logon
    if not logon.account_id:
        raise _missing("logon.account_id", "is required")
    return SessionTerms(
        account_id=logon.account_id,
        venue=logon.venue,
        cancel_on_disconnect=logon.cancel_on_disconnect,
        lease_s=_lease_s(logon.lease) if logon.HasField("lease") else DEFAULT_LEASE_S,
    )


def _lease_s(lease: Duration) -> float:
    seconds = lease.seconds + lease.nanos / NS_PER_S
    if not (MIN_LEASE_S <= seconds <= MAX_LEASE_S and 0 <= lease.nanos < NS_PER_S):
        raise InvalidRequest(
            f"logon.lease: {lease.seconds}s {lease.nanos}ns is not within {MIN_LEASE_S:g}s to {MAX_LEASE_S:g}s",
            field="logon.lease",
        )
    return seconds


class OrderSession:
    """One session, from its logon on.

    Bounds: `MAX_UNDER_WAY` submits and replaces, as many cancels. While the caller is not listened to because there are
    so many, its silence is our doing and the lease does not run.
    """

    def __init__(self, terms: SessionTerms, now_s: float) -> None:
        self.terms = terms
        self.number = 1
        """Of the caller's last message."""
        self.gone: Gone | None = None
        self._due_s = now_s + terms.lease_s
        self._listening = True
        self._under_way: dict[int, Asked] = {}
        self._lanes: Counter[bool] = Counter()

    # life

    def heard(self, now_s: float) -> int:
        """A message came, whatever is in it: the lease is renewed. Returns its number."""
        self.number += 1
        self._due_s = now_s + self.terms.lease_s
        return self.number

    def lease_left_s(self, now_s: float) -> float:
        """Seconds until the session is gone for the caller's silence; 0 or below when it is."""
        return self._due_s - now_s if self._listening else self.terms.lease_s

    def end(self, cause: Gone) -> bool:
        """It is over; whether it was not before. The first cause counts."""
        if self.gone is not None:
            return False
        self.gone = cause
        return True

    # requests

    def receive(self, request: wire.OpenOrderSessionRequest, now_s: float) -> Asked | None:
        """What a message behind the logon asks for; None of a heartbeat.

        Raises:
            InvalidRequest: it asks for nothing that a session does, or for another account or venue.
        """
        number = self.heard(now_s)
        match request.WhichOneof("body"):
            case "heartbeat":
                return None
            case "submit":
                return Asked(number, Kind.SUBMIT, self._submit(request.submit))
            case "cancel":
                asked = wire.CancelOrderRequest()
                asked.CopyFrom(request.cancel)
                self._refer(asked.reference, "cancel.reference")
                return Asked(number, Kind.CANCEL, asked)
            case "replace":
                amendment = wire.ReplaceOrderRequest()
                amendment.CopyFrom(request.replace)
                self._refer(amendment.reference, "replace.reference")
                return Asked(number, Kind.REPLACE, amendment)
            case "logon":
                raise InvalidRequest(
                    f"logon: the session of {self.terms.account_id!r} is open; open another stream for another session",
                    reason=Reason.CONTRADICTORY_FIELDS,
                    field="logon",
                )
            case _:
                raise _missing("body", "is required: submit, cancel, replace or heartbeat")

    def _submit(self, request: wire.SubmitOrderRequest) -> wire.SubmitOrderRequest:
        if not request.HasField("order"):
            raise _missing("submit.order", "is required")
        asked = wire.SubmitOrderRequest()
        asked.CopyFrom(request)
        self._same("submit.order.account_id", asked.order.account_id, self.terms.account_id)
        asked.order.venue = asked.order.venue or self.terms.venue
        if self.terms.venue:
            self._same("submit.order.venue", asked.order.venue, self.terms.venue)
        return asked

    def _refer(self, reference: wire.OrderReference, field: str) -> None:
        reference.account_id = reference.account_id or self.terms.account_id
        self._same(f"{field}.account_id", reference.account_id, self.terms.account_id)
        if self.terms.venue and reference.venue:
            self._same(f"{field}.venue", reference.venue, self.terms.venue)

    def _same(self, field: str, value: str, wanted: str) -> None:
        if value != wanted:
            raise InvalidRequest(
                f"{field}: must be the session's, {wanted!r}, got {value[:64]!r}",
                reason=Reason.CONTRADICTORY_FIELDS,
                field=field,
            )

    # what is under way

    def has_room(self, kind: Kind) -> bool:
        """Whether one more of the kind may begin."""
        return self._lanes[kind is Kind.CANCEL] < MAX_UNDER_WAY

    def begin(self, asked: Asked) -> None:
        """It is being attempted. There must be room."""
        assert self.has_room(asked.kind), "the reader waits for room"
        self._under_way[asked.number] = asked
        self._lanes[asked.kind is Kind.CANCEL] += 1

    def finish(self, number: int) -> None:
        """It was answered."""
        asked = self._under_way.pop(number)
        self._lanes[asked.kind is Kind.CANCEL] -= 1

    @property
    def under_way(self) -> int:
        """Requests that are not answered yet."""
        return len(self._under_way)

    def submits_before(self, number: int) -> Iterator[int]:
        """Numbers of submits asked for earlier and not answered: the order that a later request means may be one."""
        return (one.number for one in self._under_way.values() if one.kind is Kind.SUBMIT and one.number < number)

    def stop_listening(self) -> None:
        """The next message is not read until there is room."""
        self._listening = False

    def listen(self, now_s: float) -> None:
        """Messages are read again; the caller has its whole lease to be heard."""
        self._listening = True
        self._due_s = now_s + self.terms.lease_s


def _missing(field: str, rule: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {rule}", reason=Reason.REQUIRED_FIELD_MISSING, field=field)
