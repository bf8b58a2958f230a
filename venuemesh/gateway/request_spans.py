"""Spans of what a gateway asks its venue, made of the records that metrics and audit trail get too."""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from venuemesh.telemetry import Tracing
from venuemesh.transport.observer import RequestOutcome, RequestRecord, StateRecord


class RequestSpans:
    """A `venuemesh.transport.observer.Observer`: each attempt is a child of the call that waits for it.

    Links tell of an attempt on the task that made it, so the current span is the caller's. What nobody called for,
    such as the polls of a gateway's own, belongs to no trace and makes no span.
    """

    def __init__(self, tracing: Tracing, venue: str) -> None:
        self._tracing = tracing
        self._venue = venue

    def on_request(self, record: RequestRecord) -> None:
        """Record one attempt that has ended."""
        if not self._tracing.sampling or record.outcome is RequestOutcome.LATE:
            return
        attributes: dict[str, str | int] = {
            "venuemesh.venue": self._venue,
            "venuemesh.link": record.link,
            "venuemesh.outcome": record.outcome.value,
            "venuemesh.sent": record.sent.value,
            "venuemesh.attempt": record.attempt,
        }
        if record.status:
            attributes["http.response.status_code"] = record.status
        self._tracing.record(
            record.endpoint,
            kind=SpanKind.CLIENT,
            start_ns=record.started_ns,
            end_ns=record.started_ns + round(record.latency_s * 1e9),
            attributes=attributes,
            failure="" if record.outcome is RequestOutcome.OK else record.outcome.value,
        )

    def on_state(self, record: StateRecord) -> None:
        """Ignored: a connection belongs to no call."""
