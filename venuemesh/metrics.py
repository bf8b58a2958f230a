"""Prometheus metrics of one process, on a registry of its own, and their HTTP exposition.

Names begin with `venuemesh_`, units are base units (seconds, bytes), labels are bounded: a method, a code,
a venue - never an id. Nothing registers itself globally, so a test or a second service in the process
builds its own `Metrics`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    start_http_server,
)

from venuemesh.metrics_tls import TlsMetricsServer
from venuemesh.security.certificates import ServerFiles

PREFIX = "venuemesh_"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bucket bounds for latencies, from an in-memory read to a venue's slowest answer."""


class Metrics:
    """The metrics of a process: makes the families, and renders or serves them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)

    def counter(self, name: str, text: str, labels: Iterable[str] = ()) -> Counter:
        """A count that only grows; `_total` is added to its name."""
        return Counter(_named(name), text, tuple(labels), registry=self.registry)

    def gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        """A value that goes up and down."""
        return Gauge(_named(name), text, tuple(labels), registry=self.registry)

    def histogram(
        self, name: str, text: str, labels: Iterable[str] = (), *, buckets: Sequence[float] = SECONDS
    ) -> Histogram:
        """A distribution; for durations the name ends in `_seconds`."""
        return Histogram(_named(name), text, tuple(labels), buckets=buckets, registry=self.registry)

    def watch_process(self) -> None:
        """Add memory, processor time and open files of this process, under the names every exporter uses (Linux)."""
        ProcessCollector(registry=self.registry)

    def render(self) -> str:
        """The text exposition format."""
        return generate_latest(self.registry).decode()

    @asynccontextmanager
    async def serve(
        self, *, host: str = "127.0.0.1", port: int = 0, tls: ServerFiles | None = None
    ) -> AsyncIterator[int]:
        """Serve `/metrics` over HTTP, or over mutual TLS, while the block runs; gives the bound port.

        The server is a thread of its own: a scrape costs the event loop nothing but the interpreter lock.

        Raises:
            OSError: the address is taken or not ours. CertificateError: a file of `tls` cannot be used.
        """
        server, thread = self._start(host, port, tls)
        try:
            yield server.server_port
        finally:
            await asyncio.shield(asyncio.to_thread(_close, server, thread))

    def _start(self, host: str, port: int, tls: ServerFiles | None) -> tuple[WSGIServer, threading.Thread]:
        if tls is None:
            return start_http_server(port, addr=host, registry=self.registry)
        server = TlsMetricsServer.bind(host, port, self.registry, tls)
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        return server, thread


def _close(server: WSGIServer, thread: threading.Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()


def _named(name: str) -> str:
    if name.startswith(PREFIX):
        raise ValueError(f"{name!r}: the prefix {PREFIX!r} is added here")
    return PREFIX + name
