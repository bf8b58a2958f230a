"""A small service with a real descriptor, and a running server around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodOptions
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from venuemesh.deadlines import remaining_s, request_id
from venuemesh.draining import Drain
from venuemesh.metrics import Metrics
from venuemesh.serving import GrpcServer
from venuemesh.settings import GrpcSettings
from venuemesh.telemetry import Tracing
from venuemesh.v1 import options_pb2

SERVICE = "venuemesh.test.ProbeService"


def _descriptor() -> ServiceDescriptor:
    pool = descriptor_pool.Default()
    try:
        return pool.FindServiceByName(SERVICE)
    except KeyError:
        pass
    proto = FileDescriptorProto(name="venuemesh/test/probe.proto", package="venuemesh.test", syntax="proto3")
    proto.dependency.extend(("google/protobuf/wrappers.proto", "venuemesh/v1/options.proto"))
    service = proto.service.add(name="ProbeService")
    for name, streaming in (("Read", False), ("Write", False), ("Watch", True), ("Chat", True)):
        method = service.method.add(name=name, server_streaming=streaming, client_streaming=name == "Chat")
        method.input_type = method.output_type = ".google.protobuf.StringValue"
        writes = name in ("Write", "Chat")
        method.options.Extensions[options_pb2.policy].scope = (
            options_pb2.SCOPE_TRADE if writes else options_pb2.SCOPE_READ
        )
        if name == "Read":
            method.options.idempotency_level = MethodOptions.NO_SIDE_EFFECTS
    pool.AddSerializedFile(proto.SerializeToString())
    return pool.FindServiceByName(SERVICE)


DESCRIPTOR = _descriptor()


class Probe:
    """Does what each test tells it to."""

    def __init__(self) -> None:
        self.on_unary: Callable[[StringValue], Any] = self.echo
        self.seen_remaining_s: float | None = None
        self.seen_request_id: str | None = None
        self.entered = asyncio.Event()
        self.ended = asyncio.Event()
        self.drain: Drain | None = None
        self.queue: asyncio.Queue[str] = asyncio.Queue(maxsize=100)

    async def echo(self, request: StringValue) -> StringValue:
        return request

    async def unary(self, request: StringValue, context: Any) -> Any:
        self.seen_remaining_s, self.seen_request_id = remaining_s(), request_id()
        self.entered.set()
        try:
            return await self.on_unary(request)
        finally:
            self.ended.set()

    async def watch(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        """`hello`, then what the queue holds; polite streams end with `closing` when draining."""
        self.seen_remaining_s = remaining_s()
        try:
            yield StringValue(value="hello")
            self.entered.set()
            if request.value == "bad":
                raise RuntimeError("secret text")
            if request.value == "unencodable":
                yield "not a message"  # type: ignore[misc]
            source = self._items()
            async for item in self.drain.until_draining(source) if self.drain else source:
                yield StringValue(value=item)
            yield StringValue(value="closing")
        finally:
            self.ended.set()

    async def _items(self) -> Any:
        while True:
            yield await self.queue.get()

    async def chat(self, requests: Any, context: Any) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield request


def add_probe(probe: Probe, server: grpc.aio.Server) -> None:
    coded = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    handlers = {
        "Read": grpc.unary_unary_rpc_method_handler(probe.unary, **coded),
        "Write": grpc.unary_unary_rpc_method_handler(probe.unary, **coded),
        "Watch": grpc.unary_stream_rpc_method_handler(probe.watch, **coded),
        "Chat": grpc.stream_stream_rpc_method_handler(probe.chat, **coded),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


class Stub:
    """What a generated stub would be."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        coded = {
            "request_serializer": StringValue.SerializeToString,
            "response_deserializer": StringValue.FromString,
        }
        self.read = channel.unary_unary(f"/{SERVICE}/Read", **coded)
        self.write = channel.unary_unary(f"/{SERVICE}/Write", **coded)
        self.watch = channel.unary_stream(f"/{SERVICE}/Watch", **coded)
        self.chat = channel.stream_stream(f"/{SERVICE}/Chat", **coded)


@dataclass
class Running:
    """A started server, a channel to it, and what they report."""

    server: GrpcServer
    probe: Probe
    channel: grpc.aio.Channel
    metrics: Metrics
    spans: InMemorySpanExporter
    stub: Stub = field(init=False)

    def __post_init__(self) -> None:
        self.stub = Stub(self.channel)


def make_server(probe: Probe, **settings: Any) -> tuple[GrpcServer, Metrics, InMemorySpanExporter]:
    """A server that is not started; quick to drain unless told otherwise."""
    times = {"drain_pause_s": 0.0, "drain_grace_s": 5.0, **settings}
    metrics, spans = Metrics(), InMemorySpanExporter()
    tracing = Tracing("probe", SimpleSpanProcessor(spans))
    server = GrpcServer(GrpcSettings(**times), metrics=metrics, tracing=tracing)
    server.add(DESCRIPTOR, add_probe, probe)
    return server, metrics, spans


@asynccontextmanager
async def running(probe: Probe | None = None, **settings: Any) -> AsyncIterator[Running]:
    """Start a server on a free port and connect to it."""
    probe = probe or Probe()
    server, metrics, spans = make_server(probe, **settings)
    port = await server.start()
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield Running(server=server, probe=probe, channel=channel, metrics=metrics, spans=spans)
    finally:
        await server.stop_now()
