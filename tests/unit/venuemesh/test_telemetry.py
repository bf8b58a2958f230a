"""Log lines and trace context."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from venuemesh.secrets import Secret
from venuemesh.telemetry import (
    Tracing,
    configure_logging,
    extract,
    inject,
    parse_traceparent,
    set_log_level,
)

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
log = logging.getLogger("test.telemetry")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield io.StringIO()
    root.setLevel(level)
    root.handlers[:] = handlers


def test_json_log_when_written_has_event_and_key_values(stream: io.StringIO) -> None:
    """One object a line, values of any type, secrets as stars."""
    configure_logging(log_format="json", stream=stream)
    log.info("order_placed", extra={"venue": "lighter", "count": 3, "key": Secret("x"), "other": object})
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["logger"]) == ("order_placed", "INFO", "test.telemetry")
    assert (line["venue"], line["count"], line["key"]) == ("lighter", 3, "***")
    assert line["time"].endswith("Z")
    assert "trace_id" not in line


def test_json_log_when_an_exception_is_logged_has_the_traceback_on_the_same_line(stream: io.StringIO) -> None:
    """A line is a record, whatever is in it."""
    configure_logging(log_format="json", stream=stream)
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        log.exception("failed")
    (text,) = stream.getvalue().splitlines()
    assert "ValueError: line one\nline two" in json.loads(text)["exception"]


def test_text_log_when_values_have_spaces_quotes_them(stream: io.StringIO) -> None:
    """For people, but still one line that can be cut at spaces."""
    configure_logging(log_format="text", stream=stream)
    log.warning("odd", extra={"detail": "a b\nc", "plain": "x"})
    (text,) = stream.getvalue().splitlines()
    assert text.endswith(r"WARNING test.telemetry odd detail='a b\nc' plain=x")


def test_auto_log_when_not_on_a_terminal_is_json(stream: io.StringIO) -> None:
    """What a container writes is for machines."""
    configure_logging(stream=stream)
    log.info("event")
    assert json.loads(stream.getvalue())["event"] == "event"


def test_log_level_when_changed_at_run_time_takes_effect(stream: io.StringIO) -> None:
    """No restart to see more; a second set-up does not double the lines."""
    configure_logging(log_format="json", stream=io.StringIO())
    configure_logging(level="WARNING", log_format="json", stream=stream)
    log.info("hidden")
    set_log_level("DEBUG")
    log.debug("shown")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["shown"]
    with pytest.raises(ValueError, match="LOUD"):
        set_log_level("LOUD")


@pytest.mark.parametrize("recording", [True, False])
def test_trace_when_a_span_is_current_is_in_logs_and_headers(stream: io.StringIO, recording: bool) -> None:
    """Also without an exporter the ids of a call run through logs and on to the next service."""
    configure_logging(log_format="json", stream=stream)
    tracing = Tracing("test", SimpleSpanProcessor(InMemorySpanExporter()) if recording else None)
    assert tracing.recording is recording
    with tracing.span("work", parent=parse_traceparent(PARENT)) as span:
        log.info("event")
        headers: dict[str, str] = {}
        inject(headers)
    line = json.loads(stream.getvalue())
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert line["span_id"] == f"{span.get_span_context().span_id:016x}" != "b7ad6b7169203331"
    assert headers == {"traceparent": f"00-{line['trace_id']}-{line['span_id']}-01"}
    assert not trace.get_current_span().get_span_context().is_valid
    tracing.shutdown()


def test_trace_when_recorded_keeps_parent_and_error() -> None:
    """An exporter sees the span under its remote parent, with the exception."""
    exporter = InMemorySpanExporter()
    tracing = Tracing("test", SimpleSpanProcessor(exporter))
    with pytest.raises(RuntimeError), tracing.span("work", parent=parse_traceparent(PARENT)):
        raise RuntimeError("no")
    (span,) = exporter.get_finished_spans()
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert not span.status.is_ok
    assert span.resource.attributes["service.name"] == "test"
    tracing.shutdown()


def test_trace_when_there_is_no_parent_begins_a_new_one() -> None:
    """Two roots share no trace; a child shares its parent's."""
    tracing = Tracing("test")
    first, second = tracing.start("a").get_span_context(), tracing.start("b").get_span_context()
    assert first.is_valid
    assert first.trace_id != second.trace_id
    assert tracing.start("c", parent=first).get_span_context().trace_id == first.trace_id


def test_inject_when_no_span_is_current_adds_nothing() -> None:
    """No header is better than an invalid one."""
    headers: dict[str, str] = {}
    inject(headers)
    assert headers == {}


def test_extract_when_tracestate_is_there_passes_it_on() -> None:
    """Other vendors' entries survive our hop."""
    context = extract({"traceparent": PARENT, "tracestate": "a=1,b=2"})
    assert context is not None
    headers: dict[str, str] = {}
    with Tracing("test").span("hop", parent=context):
        inject(headers)
    assert headers["tracestate"] == "a=1,b=2"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        PARENT.upper(),
        PARENT + "-x",
        "ff" + PARENT[2:],
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
    ],
)
def test_traceparent_when_malformed_is_treated_as_absent(header: str) -> None:
    """W3C: restart the trace rather than fail the call."""
    assert parse_traceparent(header) is None
    assert extract({"traceparent": header}) is None


def test_traceparent_when_of_a_later_version_is_read() -> None:
    """W3C: later versions may append fields."""
    assert parse_traceparent("01" + PARENT[2:] + "-more") is not None


@given(text=st.text(max_size=80))
def test_traceparent_when_any_text_never_raises(text: str) -> None:
    """The header comes from strangers."""
    parse_traceparent(text, text)
