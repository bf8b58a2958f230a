"""Spans leave the process over OTLP."""

from __future__ import annotations

import asyncio

import aiohttp.web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from venuemesh.telemetry import Tracing, otlp_processor


async def test_span_reaches_the_collector_that_the_setting_names() -> None:
    """A real HTTP collector on loopback reads the span with its service name."""
    exported: asyncio.Queue[bytes] = asyncio.Queue()

    async def collect(request: aiohttp.web.Request) -> aiohttp.web.Response:
        await exported.put(await request.read())
        return aiohttp.web.Response(body=b"", content_type="application/x-protobuf")

    app = aiohttp.web.Application()
    app.router.add_post("/v1/traces", collect)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    try:
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        tracing = Tracing("router", otlp_processor(f"http://{host}:{port}/v1/traces"))
        tracing.start("submit").end()
        await asyncio.to_thread(tracing.shutdown)
        request = ExportTraceServiceRequest.FromString(await asyncio.wait_for(exported.get(), 10))
    finally:
        await runner.cleanup()
    (resource,) = request.resource_spans
    assert {item.key: item.value.string_value for item in resource.resource.attributes}["service.name"] == "router"
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["submit"]
