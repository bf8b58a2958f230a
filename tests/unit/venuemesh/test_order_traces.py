"""Which trace an order's events belong to."""

from __future__ import annotations

from venuemesh.order_traces import OrderTraces
from venuemesh.telemetry import Tracing, parse_traceparent, sampled_headers

SAMPLED = parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
UNSAMPLED = parse_traceparent("00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_event_within_a_sampled_call_carries_the_call() -> None:
    """The message names the span that was current when it was appended."""
    traces = OrderTraces()
    with Tracing("test").span("call", parent=SAMPLED):
        headers = traces.headers("main", "key", "e1", "")
        assert headers == sampled_headers()
    assert TRACE in headers["traceparent"]


def test_event_that_comes_later_by_itself_carries_the_call_of_its_order() -> None:
    """A fill from the venue's stream belongs to the submit, its position to the fill, other accounts to neither."""
    traces = OrderTraces()
    with Tracing("test").span("call", parent=SAMPLED):
        sent = traces.headers("main", "key", "e1", "")
    assert traces.headers("main", "key", "e2", "") == sent
    assert traces.headers("main", "", "e3", "e2") == sent
    assert traces.headers("main", "", "e4", "") == {}
    assert traces.headers("main", "", "e5", "e3") == {}
    assert traces.headers("other", "key", "e6", "") == {}


def test_order_that_has_ended_is_forgotten_but_not_its_last_effect() -> None:
    """The position behind the last fill still belongs to it."""
    traces = OrderTraces()
    with Tracing("test").span("call", parent=SAMPLED):
        traces.headers("main", "key", "e1", "")
    filled = traces.headers("main", "key", "e2", "")
    traces.ended("main", "key")
    assert traces.headers("main", "", "e3", "e2") == filled != {}
    assert traces.headers("main", "key", "e4", "") == {}


def test_unsampled_call_is_neither_carried_nor_remembered() -> None:
    """Ids nobody records are not worth bytes that are kept for ever."""
    traces = OrderTraces()
    with Tracing("test").span("call", parent=UNSAMPLED):
        assert traces.headers("main", "key", "e1", "") == {}
    assert traces.headers("main", "key", "e2", "") == {}


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    """As many orders as its capacity."""
    traces = OrderTraces(capacity=2)
    with Tracing("test").span("call", parent=SAMPLED):
        for number in range(3):
            traces.headers("main", f"key-{number}", f"e{number}", "")
    assert [bool(traces.headers("main", f"key-{number}", "later", "")) for number in range(3)] == [False, True, True]
