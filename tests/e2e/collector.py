"""A collector of traces on loopback: what services export over OTLP/HTTP, as trees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp.web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Exported:
    """One span as it left its service."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    failed: bool
    attributes: dict[str, str] = field(compare=False)


class Collector:
    """Spans by arrival."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Exported] = []
        self.arrived = asyncio.Event()

    def take(self, body: bytes) -> None:
        """Read one export."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                self.spans.append(
                    Exported(
                        service=names["service.name"],
                        name=span.name,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        start_ns=span.start_time_unix_nano,
                        end_ns=span.end_time_unix_nano,
                        failed=span.status.code == span.status.STATUS_CODE_ERROR,
                        attributes={item.key: item.value.string_value for item in span.attributes},
                    )
                )
        self.arrived.set()

    async def wait_for(self, enough: Callable[[Sequence[Exported]], bool]) -> None:
        """Return once what has arrived is enough."""
        async with asyncio.timeout(PATIENCE_S):
            while not enough(self.spans):
                self.arrived.clear()
                await self.arrived.wait()

    def of(self, trace_id: str) -> list[Exported]:
        """The spans of one trace, in the order of their beginnings."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start_ns)


def tree(spans: Sequence[Exported], root_id: str) -> Iterator[str]:
    """The trace for people: one line a span, children indented below their parent."""
    began = min(span.start_ns for span in spans)

    def below(parent_id: str, depth: int) -> Iterator[str]:
        for span in spans:
            if span.parent_id == parent_id:
                at_ms, took_ms = (span.start_ns - began) / 1e6, (span.end_ns - span.start_ns) / 1e6
                yield f"{at_ms:7.2f} ms  {took_ms:6.2f} ms  {'  ' * depth}{span.service}: {span.name}"
                yield from below(span.span_id, depth + 1)

    yield from below(root_id, 0)


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector that listens while the block runs."""
    app = aiohttp.web.Application()
    runner = aiohttp.web.AppRunner(app)

    async def take(request: aiohttp.web.Request) -> aiohttp.web.Response:
        collector.take(await request.read())
        return aiohttp.web.Response(body=b"", content_type="application/x-protobuf")

    app.router.add_post("/v1/traces", take)
    await runner.setup()
    try:
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        collector = Collector(f"http://{host}:{port}/v1/traces")
        yield collector
    finally:
        await runner.cleanup()
