"""Start, health, reflection and drain of a real server, in the process and as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2

from tests.integration.platform.probe import SERVICE, Probe, Stub, make_server, running
from venuemesh.errors import Reason
from venuemesh.serving import GrpcServer, ServingError, serve_until_stopped
from venuemesh.status import error_from_rpc

ROOT = Path(__file__).parents[3]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def connected(server: GrpcServer) -> AsyncIterator[grpc.aio.Channel]:
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        yield channel


@asynccontextmanager
async def serving(
    probe: Probe, *, polite: bool, flush: Any = (), **settings: Any
) -> AsyncIterator[tuple[GrpcServer, asyncio.Event, asyncio.Task[None]]]:
    """`serve_until_stopped` running beside the test; yields once it says SERVING."""
    server, _, _ = make_server(probe, **settings)
    probe.drain = server.drain if polite else None
    stop = asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(serve_until_stopped(server, stop=stop, flush=flush), name="serve")
        while server.port == 0 or not server.health.is_serving(""):
            await asyncio.sleep(0)
        yield server, stop, task
        stop.set()


def check(name: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=name)


async def test_health_when_a_venue_goes_down_tells_only_that_one() -> None:
    """One status per service and venue; watchers hear of their own only."""
    async with running() as mesh, asyncio.timeout(60):
        health = HealthStub(mesh.channel)
        await mesh.server.set_serving(True)
        await mesh.server.health.set("venue/lighter", True)
        await mesh.server.health.set("venue/hyperliquid", True)
        watch = health.Watch(check("venue/hyperliquid"))
        assert (await watch.read()).status == SERVING
        await mesh.server.health.set("venue/hyperliquid", False)
        assert (await watch.read()).status == NOT_SERVING
        watch.cancel()
        assert (await health.Check(check("venue/lighter"))).status == SERVING
        assert (await health.Check(check(SERVICE))).status == SERVING
        assert (await health.Check(check(""))).status == SERVING


async def test_health_when_started_is_not_serving_until_ready() -> None:
    """A started server that is not ready must get no traffic."""
    async with running() as mesh:
        assert (await HealthStub(mesh.channel).Check(check(""))).status == NOT_SERVING


async def test_health_when_name_is_unknown_is_not_found() -> None:
    """As the health protocol says."""
    async with running() as mesh:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await HealthStub(mesh.channel).Check(check("nobody"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def ask(channel: grpc.aio.Channel, version: str, **request: Any) -> Any:
    """One reflection request; v1 and v1alpha messages are the same on the wire."""
    method = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    call = method(iter([reflection_pb2.ServerReflectionRequest(**request)]))
    (answer,) = [message async for message in call]
    return answer


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_when_asked_under_either_name_describes_every_service(version: str) -> None:
    """Both versions list all services and resolve each of them, themselves included."""
    async with running() as mesh, asyncio.timeout(60):
        listed = await ask(mesh.channel, version, list_services="*")
        names = {service.name for service in listed.list_services_response.service}
        assert names == {
            SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        for name in names:
            found = await ask(mesh.channel, version, file_containing_symbol=name)
            raw = found.file_descriptor_response.file_descriptor_proto
            files = [FileDescriptorProto.FromString(each) for each in raw]
            services = {f"{file.package}.{service.name}" for file in files for service in file.service}
            assert name in services
        missing = await ask(mesh.channel, version, file_containing_symbol="no.Such")
        assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_start_when_the_port_is_taken_refuses_with_the_address() -> None:
    """Two processes never share a port unnoticed."""
    async with running() as mesh:
        second, _, _ = make_server(Probe(), port=mesh.server.port)
        with pytest.raises(ServingError, match=str(mesh.server.port)):
            await second.start()


# --- drain ---


async def test_drain_when_streams_watch_the_signal_ends_them_with_a_closing_notice() -> None:
    """Order of the end: health down, closing notice, OK, flush hooks."""
    flushed: list[bool] = []
    probe = Probe()

    async def flush() -> None:
        flushed.append(True)

    async with (
        # A health watch that held the drain up would run into the test's own bound.
        serving(probe, polite=True, flush=[flush], drain_grace_s=60.0) as (server, stop, task),
        connected(server) as channel,
    ):
        health = HealthStub(channel).Watch(check(""))
        assert (await health.read()).status == SERVING
        call = Stub(channel).watch(StringValue())
        assert (await call.read()).value == "hello"
        stop.set()
        assert (await health.read()).status == NOT_SERVING
        assert (await call.read()).value == "closing"
        assert await call.code() is grpc.StatusCode.OK
        await task
    assert flushed == [True]


async def test_drain_when_a_stream_ignores_the_signal_ends_it_unavailable() -> None:
    """A deaf stream cannot hold the process; its reader learns that it may come back."""
    probe = Probe()
    async with (
        serving(probe, polite=False, drain_grace_s=0.05) as (server, stop, task),
        connected(server) as channel,
    ):
        call = Stub(channel).watch(StringValue())
        await call.read()
        stop.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        error = error_from_rpc(caught.value, is_write=False)
        assert error.reason is Reason.GATEWAY_DRAINING
        assert error.retry_after_s == 1.0
        await task
        assert probe.ended.is_set()


async def test_drain_when_begun_refuses_new_streams_and_serves_unary_calls() -> None:
    """Cancels get through until the very end."""
    probe = Probe()
    async with (
        serving(probe, polite=False, drain_grace_s=20.0) as (server, stop, _),
        connected(server) as channel,
    ):
        stub = Stub(channel)
        held = stub.watch(StringValue())
        await held.read()
        stop.set()
        await server.drain.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.watch(StringValue()).read()
        assert error_from_rpc(caught.value, is_write=False).reason is Reason.GATEWAY_DRAINING
        assert (await stub.write(StringValue(value="cancel"))).value == "cancel"
        held.cancel()


async def test_drain_when_a_unary_call_is_in_flight_lets_it_finish() -> None:
    """`stop(grace)` waits for calls that were admitted."""
    probe = Probe()
    release = asyncio.Event()

    async def wait(request: StringValue) -> StringValue:
        await release.wait()
        return request

    probe.on_unary = wait
    async with serving(probe, polite=True) as (server, stop, task), connected(server) as channel:
        call = Stub(channel).write(StringValue(value="x"))
        await probe.entered.wait()
        stop.set()
        await server.drain.wait()
        release.set()
        assert (await call).value == "x"
        await task


async def test_serve_when_cancelled_stops_the_server_and_passes_the_cancellation_on() -> None:
    """What a task group does when a pump fails."""
    async with serving(Probe(), polite=True) as (server, _, task), connected(server) as channel:
        call = Stub(channel).watch(StringValue())
        await call.read()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.drain.draining


async def test_flush_when_one_hook_fails_runs_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """Telemetry that cannot be flushed must not cost the events."""
    flushed: list[bool] = []

    async def broken() -> None:
        raise OSError("no route")

    async def works() -> None:
        flushed.append(True)

    async with serving(Probe(), polite=True, flush=[broken, works]) as (_, stop, task):
        stop.set()
        await task
    assert flushed == [True]
    assert "flush_failed" in caplog.text


# --- as a process ---


async def start(mode: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("service_process.py")),
        mode,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_process_when_told_to_stop_drains_flushes_and_exits_zero(number: signal.Signals) -> None:
    """The whole way: signal, drain with an open stream, flush, exit 0."""
    async with asyncio.timeout(30):
        process = await start("serve")
        assert process.stdout is not None
        address = ""
        while not address:
            line = json.loads(await process.stdout.readline())
            address = line["address"] if line["event"] == "serving" else ""
        async with grpc.aio.insecure_channel(address) as channel:
            call = Stub(channel).watch(StringValue())
            assert (await call.read()).value == "hello"
            process.send_signal(number)
            assert (await call.read()).value == "closing"
            assert await call.code() is grpc.StatusCode.OK
        rest = (await process.stdout.read()).decode()
        assert await process.wait() == 0
        assert rest.rstrip().endswith("flushed")


@pytest.mark.parametrize(
    ("mode", "code", "event"),
    [
        ("pump-fails", 1, "the venue went away"),
        ("pump-ends", 1, "pump ended"),
        ("bad-settings", 2, "settings_wrong"),
    ],
)
async def test_process_when_it_cannot_go_on_exits_non_zero_and_says_why(mode: str, code: int, event: str) -> None:
    """A dead pump takes the process with it; bad settings have a code of their own."""
    async with asyncio.timeout(30):
        process = await start(mode)
        assert process.stdout is not None
        output = (await process.stdout.read()).decode()
        assert await process.wait() == code
        assert event in output
