"""Waiting for a gRPC service to say SERVING, by grpc.health.v1."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from venuemesh.channels import open_channel
from venuemesh.clock import Clock, SystemClock
from venuemesh.security.certificates import ChannelFiles

PAUSE_S = 0.05
_PERMANENT = {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


class NotServing(Exception):
    """The service did not say SERVING in time; the text tells what it said last."""


async def wait_serving(
    address: str, *, timeout_s: float, name: str = "", clock: Clock | None = None, tls: ChannelFiles | None = None
) -> None:
    """Watch one health name of a server until it is SERVING.

    Args:
        address: `host:port`.
        name: "" is the whole process, `venue/<venue>` a venue as the server sees it.
        timeout_s: bound of the wait.
        tls: certificates of the channel; plain text without.
    Raises:
        NotServing: it was not within `timeout_s`, or answers the health call with an error that will stay.
    """
    clock = clock or SystemClock()
    until_s = clock.monotonic_s() + timeout_s
    last = "does not answer"
    async with open_channel(address, tls=tls) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # the type stubs lack `Watch`
        while (left_s := until_s - clock.monotonic_s()) > 0:
            call = stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=left_s, wait_for_ready=True)
            try:
                async for reply in call:
                    if reply.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                    last = f"says {health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)}"
            except grpc.aio.AioRpcError as error:
                if error.code() in _PERMANENT:
                    raise NotServing(f"{address} answers the health call with {error.code().name}") from error
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    last = f"answers {error.code().name}: {error.details()}"
            finally:
                call.cancel()
            # A server that ends the watch at once must not make this a busy loop.
            await asyncio.sleep(PAUSE_S)
    raise NotServing(f"{address}{f' for {name}' if name else ''} {last} after {timeout_s:.1f} s")
