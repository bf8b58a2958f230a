"""Logs and traces of a process: set-up, and the trace context across gRPC and NATS.

Logs: a static event name and key-values (`log.info("order_placed", extra={...})`), one JSON object a line
outside a terminal, with the trace id whenever a span is current.

Traces: W3C trace context. Without an exporter no span is recorded, but ids are still taken over, made and
passed on, so that the log lines of one call can be found across services for next to nothing.
"""

from __future__ import annotations

import logging
import random
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, TextIO

import msgspec
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_encoder = msgspec.json.Encoder(enc_hook=str)


# --- logs ----------------------------------------------------------------------------------------------------


def configure_logging(
    *, level: str = "INFO", log_format: str = "auto", stream: TextIO | None = None
) -> logging.Handler:
    """Send every log of the process to one handler; a second call replaces what the first one set.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        log_format: `json`, `text`, or `auto`: text on a terminal, JSON elsewhere.
        stream: standard error when None.
    """
    stream = sys.stderr if stream is None else stream
    as_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.set_name("venuemesh")
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.get_name() == "venuemesh"]:
        root.removeHandler(old)
    root.addHandler(handler)
    # One line per request to a venue is what the metrics are for; libraries speak up when something is wrong.
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    set_log_level(level)
    return handler


def set_log_level(level: str) -> None:
    """Change the level of the running process.

    Raises:
        ValueError: no such level.
    """
    logging.getLogger().setLevel(level)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, then the key-values, then trace ids."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": _instant(record.created),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **_extras(record),
            **_current_ids(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _encoder.encode(fields).decode()


class TextFormatter(logging.Formatter):
    """The same for people: `12:34:56.789 INFO router.service order_placed venue=lighter`."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = {**_extras(record), **_current_ids()}
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        parts = [f"{time} {record.levelname:<7} {record.name} {record.getMessage()}"]
        parts += [f"{key}={_plain(value)}" for key, value in pairs.items()]
        line = " ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


def _plain(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(not 32 < ord(char) < 127 for char in text) else text


def _current_ids() -> dict[str, str]:
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


# --- traces --------------------------------------------------------------------------------------------------


class Tracing:
    """Starts the spans of one process; owns its tracer provider and sets no global one.

    Args:
        service: `service.name` of the exported spans.
        processor: what recorded spans go to, such as `otlp_processor(...)`, or a `SimpleSpanProcessor` over
            an in-memory exporter in tests; nothing is recorded when None.
    """

    def __init__(self, service: str, processor: SpanProcessor | None = None) -> None:
        self._provider: TracerProvider | None = None
        self._tracer: trace.Tracer | None = None
        if processor is not None:
            # 2 MB, which only those who record should pay.
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider

            self._provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
            self._provider.add_span_processor(processor)
            self._tracer = self._provider.get_tracer("venuemesh")

    @property
    def recording(self) -> bool:
        """Whether spans go anywhere."""
        return self._tracer is not None

    @property
    def sampling(self) -> bool:
        """Whether a child of the current span would be exported: what to ask before making one on a hot path."""
        return self._tracer is not None and trace.get_current_span().get_span_context().trace_flags.sampled

    def record(
        self,
        name: str,
        *,
        kind: SpanKind,
        start_ns: int,
        end_ns: int,
        attributes: Mapping[str, str | int],
        failure: str = "",
    ) -> None:
        """Record a span that is over, child of the current one; nothing unless that one is sampled.

        Args:
            start_ns, end_ns: wall clock, nanoseconds since the Unix epoch.
            failure: what went wrong, if anything did.
        """
        if self._tracer is None or not self.sampling:
            return
        span = self._tracer.start_span(name, kind=kind, start_time=start_ns, attributes=attributes)
        if failure:
            span.set_status(StatusCode.ERROR, failure)
        span.end(end_ns)

    def start(self, name: str, *, parent: SpanContext | None = None, kind: SpanKind = SpanKind.INTERNAL) -> Span:
        """A started span, child of `parent` or else of the current span; the caller ends it."""
        if parent is None:
            parent = trace.get_current_span().get_span_context()
        if self._tracer is None:
            return NonRecordingSpan(_child_of(parent))
        context = trace.set_span_in_context(NonRecordingSpan(parent), otel_context.Context())
        return self._tracer.start_span(name, context=context, kind=kind)

    @contextmanager
    def span(
        self, name: str, *, parent: SpanContext | None = None, kind: SpanKind = SpanKind.INTERNAL
    ) -> Iterator[Span]:
        """Run the block in a span of its own; an exception is recorded on it and passes through."""
        span = self.start(name, parent=parent, kind=kind)
        with trace.use_span(span, end_on_exit=True):
            yield span

    def shutdown(self) -> None:
        """Export what is left and stop; blocks for as long as the exporter takes."""
        if self._provider is not None:
            self._provider.shutdown()


def make_current(span: Span) -> None:
    """Make `span` the current one for the rest of this task: only where the task ends with the span."""
    otel_context.attach(trace.set_span_in_context(span))


def otlp_processor(endpoint: str) -> SpanProcessor:
    """Export in batches over OTLP/HTTP (protobuf).

    Args:
        endpoint: the collector's URL for traces, such as "http://127.0.0.1:4318/v1/traces".
    """
    # 18 MB and 0.2 s, which only those who export should pay.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint))


def parse_traceparent(traceparent: str, tracestate: str | None = None) -> SpanContext | None:
    """The caller's span; None when the header is malformed, which W3C says to treat as absent.

    Source: https://www.w3.org/TR/trace-context/#traceparent-header
    """
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match[4] is not None and traceparent.startswith("00")):
        return None
    context = SpanContext(
        int(match[1], 16),
        int(match[2], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(match[3], 16)),
        trace_state=TraceState.from_header([tracestate]) if tracestate else None,
    )
    return context if context.is_valid else None


def extract(headers: Mapping[str, str] | None) -> SpanContext | None:
    """The caller's span from NATS headers (or any mapping with lower-case keys)."""
    if not headers or TRACEPARENT not in headers:
        return None
    return parse_traceparent(headers[TRACEPARENT], headers.get(TRACESTATE))


def inject(headers: MutableMapping[str, str]) -> None:
    """Add the current span to NATS headers; nothing when there is none."""
    headers.update(trace_headers())


def sampled_headers() -> Mapping[str, str]:
    """The current span as NATS headers if its trace is recorded somewhere; empty otherwise, and shared.

    Messages are kept for ever: the ids of a trace that nobody records are not worth their bytes.
    """
    context = trace.get_current_span().get_span_context()
    return dict(trace_headers()) if context.trace_flags.sampled else NO_HEADERS


def trace_headers() -> tuple[tuple[str, str], ...]:
    """The current span as header pairs: gRPC metadata as it stands."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ()
    parent = (TRACEPARENT, f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}")
    return (parent, (TRACESTATE, context.trace_state.to_header())) if context.trace_state else (parent,)


def _child_of(parent: SpanContext) -> SpanContext:
    """A span of our own that nobody records: the parent's trace, or a new one that is not sampled."""
    # Ids need only be unlikely to meet; no secret depends on them.
    span_id = random.getrandbits(64) or 1
    if parent.is_valid:
        return SpanContext(parent.trace_id, span_id, False, parent.trace_flags, parent.trace_state)
    return SpanContext(random.getrandbits(128) or 1, span_id, False, TraceFlags(0))
