"""The metrics of served calls."""

from __future__ import annotations

from venuemesh.metrics import Metrics


class CallMetrics:
    """The metrics of served calls; labels are methods that exist, status codes and reasons."""

    def __init__(self, metrics: Metrics) -> None:
        self.calls = metrics.counter(
            "grpc_calls", "Calls that ended, by method, status code and reason.", ("method", "code", "reason")
        )
        self.seconds = metrics.histogram("grpc_call_seconds", "Time to serve a unary call.", ("method",))
        self.in_flight = metrics.gauge("grpc_calls_in_flight", "Unary calls being served.", ("method",))
        self.streams = metrics.gauge("grpc_open_streams", "Streams being served.", ("method",))
        self.messages = metrics.counter("grpc_stream_messages", "Messages sent on streams.", ("method",))
