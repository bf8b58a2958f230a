"""The hook by which metrics and the audit trail watch a link without the link knowing them. Pure."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from venuemesh.errors import Sent
from venuemesh.transport.link import LinkState

log = logging.getLogger(__name__)


class RequestOutcome(StrEnum):
    """How one attempt to ask the venue ended; bounded, so fit for a metric label."""

    OK = "ok"  # 2xx, or an answer on a socket
    CLIENT_ERROR = "client_error"  # 4xx other than 429
    RATE_LIMITED = "rate_limited"  # 429
    SERVER_ERROR = "server_error"  # 5xx
    UNEXPECTED = "unexpected"  # 3xx, or an answer that breaks a bound
    NOT_CONNECTED = "not_connected"  # nothing was sent
    LOST = "lost"  # the connection broke or the answer did not come in time
    CANCELED = "canceled"  # the caller gave up
    LATE = "late"  # an answer nobody waited for any more; its request is a record of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One attempt, complete enough for the audit trail.

    Bodies are the raw bytes: whoever keeps them removes secrets first. `latency_s` is from the monotonic
    clock, `started_ns` from the wall clock. `status` is None when no answer came; for a socket it is 0. `target` is
    method and path with query of an HTTP request: what a read without a body asked for. `date_s` is the venue's time of
    the answer, whole seconds since the Unix epoch; 0 when it named none.
    """

    link: str
    endpoint: str
    outcome: RequestOutcome
    write: bool
    sent: Sent
    started_ns: int
    latency_s: float
    request_body: bytes
    response_body: bytes = b""
    status: int | None = None
    attempt: int = 0
    correlation_id: str = ""
    detail: str = ""
    target: str = ""
    date_s: int = 0

    @property
    def request_bytes(self) -> int:
        """Length of the request body."""
        return len(self.request_body)

    @property
    def response_bytes(self) -> int:
        """Length of the answer's body."""
        return len(self.response_body)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRecord:
    """A link changed its state; `detail` says why, for people."""

    link: str
    state: LinkState
    at_ns: int
    detail: str = ""
    epoch: int = 0


class Observer(Protocol):
    """Called synchronously on the link's own task: must be quick and must not block."""

    def on_request(self, record: RequestRecord) -> None:
        """One attempt ended."""

    def on_state(self, record: StateRecord) -> None:
        """The link changed its state."""


class NullObserver:
    """Watches nothing."""

    def on_request(self, record: RequestRecord) -> None:
        """Ignored."""

    def on_state(self, record: StateRecord) -> None:
        """Ignored."""


class SafeObserver:
    """Passes records on; a fault of the watcher is logged in full and never changes an order's outcome."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def on_request(self, record: RequestRecord) -> None:
        for observer in self._observers:
            try:
                observer.on_request(record)
            except Exception:
                log.exception("observer_failed", extra={"link": record.link, "hook": "on_request"})

    def on_state(self, record: StateRecord) -> None:
        for observer in self._observers:
            try:
                observer.on_state(record)
            except Exception:
                log.exception("observer_failed", extra={"link": record.link, "hook": "on_state"})
