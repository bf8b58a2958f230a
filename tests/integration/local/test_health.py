"""Waiting for SERVING against a real health servicer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from deploy.local.health import NotServing, wait_serving

BOUND_S = 30.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def health_server() -> AsyncIterator[tuple[str, health_aio.HealthServicer]]:
    server, servicer = grpc.aio.server(), health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await servicer.set("", NOT_SERVING)
    await server.start()
    try:
        yield f"127.0.0.1:{port}", servicer
    finally:
        await server.stop(None)


async def test_wait_serving_when_status_turns_returns() -> None:
    """It follows the change instead of asking again and again."""
    async with health_server() as (address, servicer), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(wait_serving(address, timeout_s=BOUND_S))
        await servicer.set("", SERVING)
        await waiting


async def test_wait_serving_when_status_never_turns_says_what_it_said_last() -> None:
    """The last status is in the message."""
    async with health_server() as (address, _):
        with pytest.raises(NotServing, match=r"says NOT_SERVING after 1.0 s"):
            await wait_serving(address, timeout_s=1.0)


async def test_wait_serving_when_name_becomes_known_later_returns() -> None:
    """A venue has no status before its gateway was reached."""
    async with health_server() as (address, servicer), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(wait_serving(address, name="venue/x", timeout_s=BOUND_S))
        await servicer.set("venue/y", SERVING)
        await servicer.set("venue/x", SERVING)
        await waiting


async def test_wait_serving_when_name_never_becomes_known_names_it() -> None:
    """Which part of a server is missing is in the message."""
    async with health_server() as (address, servicer):
        await servicer.set("", SERVING)
        with pytest.raises(NotServing, match=r"for venue/x says SERVICE_UNKNOWN after 1.0 s"):
            await wait_serving(address, name="venue/x", timeout_s=1.0)


async def test_wait_serving_when_nothing_listens_gives_up_in_time() -> None:
    """No server, no endless wait."""
    with pytest.raises(NotServing, match="does not answer"):
        await wait_serving("127.0.0.1:1", timeout_s=0.2)


async def test_wait_serving_when_server_has_no_health_fails_at_once() -> None:
    """A server without grpc.health.v1 will not get one by waiting."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        with pytest.raises(NotServing, match="UNIMPLEMENTED"):
            await wait_serving(f"127.0.0.1:{port}", timeout_s=BOUND_S)
    finally:
        await server.stop(None)
