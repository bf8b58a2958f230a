"""The observer hook: records reach every watcher, and a broken watcher hurts nobody."""

from __future__ import annotations

import logging

import pytest

from venuemesh.errors import Sent
from venuemesh.transport.link import LinkState
from venuemesh.transport.observer import (
    NullObserver,
    RequestOutcome,
    RequestRecord,
    SafeObserver,
    StateRecord,
)


class Recorder:
    def __init__(self) -> None:
        self.records: list[object] = []

    def on_request(self, record: RequestRecord) -> None:
        self.records.append(record)

    def on_state(self, record: StateRecord) -> None:
        self.records.append(record)


class Broken:
    def on_request(self, record: RequestRecord) -> None:
        raise ZeroDivisionError

    def on_state(self, record: StateRecord) -> None:
        raise ZeroDivisionError


def test_safe_observer_when_one_watcher_fails_tells_the_others_and_logs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A fault of metrics or audit is logged in full and never reaches the caller of a request."""
    request = RequestRecord(
        link="rest",
        endpoint="info",
        outcome=RequestOutcome.OK,
        write=False,
        sent=Sent.YES,
        started_ns=1,
        latency_s=0.1,
        request_body=b"abc",
        response_body=b"de",
        status=200,
    )
    state = StateRecord(link="rest", state=LinkState.LIVE, at_ns=1)
    recorder = Recorder()
    observer = SafeObserver(Broken(), NullObserver(), recorder)
    with caplog.at_level(logging.ERROR):
        observer.on_request(request)
        observer.on_state(state)
    assert recorder.records == [request, state]
    assert [record.message for record in caplog.records] == ["observer_failed", "observer_failed"]
    assert (request.request_bytes, request.response_bytes) == (3, 2)
