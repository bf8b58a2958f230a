"""The listener for probes: health in plain text, and nothing else."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.integration.platform.probe import Probe, Stub, make_server
from venuemesh.probing import LIVE, main, probe
from venuemesh.security.local_certificates import write_certificates
from venuemesh.serving import GrpcServer, ServingError, serve_until_stopped


def secured(folder: Path, **settings: Any) -> GrpcServer:
    """A server over TLS that asks for certificates, as a gateway is."""
    write_certificates(folder, ("gateway",), ("localhost",), datetime.now(UTC))
    server, _, _ = make_server(
        Probe(),
        tls_cert_file=folder / "gateway.pem",
        tls_key_file=folder / "gateway.key",
        tls_client_ca_file=folder / "ca.pem",
        peers=("router=read",),
        **settings,
    )
    return server


async def test_probe_listener_tells_health_without_a_certificate_and_serves_nothing_else(tmp_path: Path) -> None:
    """Live from the start, ready when the owner says so; no other method, no reflection."""
    server = secured(tmp_path, probe_port=0)
    ready, stop = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_until_stopped(server, ready=ready, stop=stop), name="serve")
        while not server.health.is_serving(LIVE):
            await asyncio.sleep(0)
        address = f"127.0.0.1:{server.probe_port}"
        assert await asyncio.to_thread(probe, address, LIVE) == "SERVING"
        assert await asyncio.to_thread(probe, address, "") == "NOT_SERVING"
        assert await asyncio.to_thread(main, [address, ""]) == 1
        assert await asyncio.to_thread(main, [address]) == 0
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await Stub(channel).read(StringValue(value="x"), timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        ready.set()
        while not server.health.is_serving(""):
            await asyncio.sleep(0)
        assert await asyncio.to_thread(probe, address, "") == "SERVING"
        stop.set()
    assert (await asyncio.to_thread(probe, address, LIVE)).startswith("UNAVAILABLE")


async def test_probe_listener_when_the_drain_begins_says_not_serving(tmp_path: Path) -> None:
    """`live` ends with the drain, so that load balancers send nobody new."""
    server = secured(tmp_path, probe_port=0)
    await server.start()
    async with asyncio.timeout(30), grpc.aio.insecure_channel(f"127.0.0.1:{server.probe_port}") as channel:
        stub: Any = HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=LIVE))
        seen = [(await watch.read()).status]
        await server.health.drain()
        seen.append((await watch.read()).status)
        watch.cancel()
    assert seen == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    await server.stop_now()


async def test_server_when_the_probe_port_is_taken_does_not_start(tmp_path: Path) -> None:
    """A container whose probes reach another process would look alive for ever."""
    first = secured(tmp_path, probe_port=0)
    await first.start()
    try:
        with pytest.raises(ServingError, match="cannot bind"):
            await secured(tmp_path, probe_port=first.probe_port).start()
    finally:
        await first.stop_now()
