"""Spans of requests to a venue."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from venuemesh.errors import Sent
from venuemesh.gateway.request_spans import RequestSpans
from venuemesh.telemetry import Tracing, parse_traceparent
from venuemesh.transport.link import LinkState
from venuemesh.transport.observer import RequestOutcome, RequestRecord, StateRecord

UNSAMPLED = parse_traceparent("00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
STARTED_NS = 1_700_000_000_000_000_000


def record(outcome: RequestOutcome = RequestOutcome.OK, status: int | None = None) -> RequestRecord:
    return RequestRecord(
        link="user/main",
        endpoint="exchange.order",
        outcome=outcome,
        write=True,
        sent=Sent.YES,
        started_ns=STARTED_NS,
        latency_s=0.25,
        request_body=b"secret",
        status=status,
    )


def spans_of(*records: RequestRecord, within_a_call: bool = True) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    tracing = Tracing("gateway", SimpleSpanProcessor(exporter))
    spans = RequestSpans(tracing, "lighter")
    if within_a_call:
        with tracing.span("call"):
            for one in records:
                spans.on_request(one)
    else:
        for one in records:
            spans.on_request(one)
    tracing.shutdown()
    return exporter


def test_request_is_a_child_of_the_call_with_its_own_times_and_no_body() -> None:
    """Named by endpoint; what was said to the venue is the audit trail's."""
    request, call = spans_of(record(status=200)).get_finished_spans()
    assert (request.name, call.name) == ("exchange.order", "call")
    assert request.parent is not None and call.context is not None
    assert request.parent.span_id == call.context.span_id
    assert (request.start_time, request.end_time) == (STARTED_NS, STARTED_NS + 250_000_000)
    assert request.attributes == {
        "venuemesh.venue": "lighter",
        "venuemesh.link": "user/main",
        "venuemesh.outcome": "ok",
        "venuemesh.sent": "yes",
        "venuemesh.attempt": 0,
        "http.response.status_code": 200,
    }
    assert request.status.is_unset


@pytest.mark.parametrize(
    "outcome", [one for one in RequestOutcome if one not in (RequestOutcome.OK, RequestOutcome.LATE)]
)
def test_request_that_failed_is_a_failed_span(outcome: RequestOutcome) -> None:
    """Its outcome is the status text."""
    request, _ = spans_of(record(outcome)).get_finished_spans()
    assert not request.status.is_ok and request.status.description == outcome.value


def test_request_nobody_called_for_and_late_answer_make_no_span() -> None:
    """A poll belongs to no trace, and a late answer's request has a span of its own."""
    assert spans_of(record(), within_a_call=False).get_finished_spans() == ()
    (call,) = spans_of(record(RequestOutcome.LATE)).get_finished_spans()
    assert call.name == "call"


def test_request_of_an_unsampled_call_makes_no_span() -> None:
    """The caller decides; and without an exporter nothing is recorded at all."""
    exporter = InMemorySpanExporter()
    for tracing in (Tracing("gateway", SimpleSpanProcessor(exporter)), Tracing("gateway")):
        spans = RequestSpans(tracing, "lighter")
        with tracing.span("call", parent=UNSAMPLED):
            spans.on_request(record())
        spans.on_state(StateRecord(link="user/main", state=LinkState.DOWN, at_ns=STARTED_NS))
    assert exporter.get_finished_spans() == ()
