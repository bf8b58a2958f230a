"""Metrics of the streams of a service: readers, what they were sent, and how they ended."""

from __future__ import annotations

from typing import Protocol

from venuemesh.metrics import Metrics
from venuemesh.v1 import stream_pb2


class Readers(Protocol):
    """What is counted: `venuemesh.streaming.StreamHub`."""

    def __len__(self) -> int:
        """Readers now."""

    def longest_queue(self) -> int:
        """Messages waiting for the slowest of them."""


class StreamMetrics:
    """Readers, what they were sent, and how they ended; labels are methods and reasons."""

    def __init__(self, metrics: Metrics, readers: Readers) -> None:
        self.sent = metrics.counter("stream_sent", "Messages sent to readers, by method.", ("method",))
        self._conflated = metrics.counter("stream_conflated", "States replaced before they were sent.", ("method",))
        self._ended = metrics.counter("stream_ended", "Streams that ended, by reason.", ("method", "reason"))
        metrics.gauge("stream_readers", "Readers now.").set_function(lambda: len(readers))
        metrics.gauge("stream_longest_queue", "Messages waiting for the slowest reader.").set_function(
            readers.longest_queue
        )

    def ended(self, method: str, reason: stream_pb2.ClosingReason.ValueType | None, conflated: int) -> None:
        """A stream is over; without a reason its caller has left."""
        self._conflated.labels(method).inc(conflated)
        name = "client" if reason is None else stream_pb2.ClosingReason.Name(reason).removeprefix("CLOSING_REASON_")
        self._ended.labels(method, name.lower()).inc()
