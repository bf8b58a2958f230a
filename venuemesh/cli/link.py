"""Calls to one service of the mesh: the contract's own deadlines, safe repeats, and one family of errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from venuemesh.channels import MeshChannel
from venuemesh.clock import Clock
from venuemesh.errors import GatewayUnavailable, MeshError, Reason, Sent
from venuemesh.status import error_from_rpc
from venuemesh.v1 import options_pb2

Answer = TypeVar("Answer", bound=Message)

PATIENCE_S = 5.0
"""Least time for a call that may be repeated: a person would rather wait than ask again."""
CONNECT_S = 5.0
TRIES = 4
PAUSE_S = 0.1
MAX_PAGE = 1_000


class Link:
    """One service.

    Args:
        name: such as "router", for messages.
        timeout_s: of each call; None takes what the contract says, and at least `PATIENCE_S` where a repeat is safe.
    """

    def __init__(self, channel: MeshChannel, *, name: str, address: str, timeout_s: float | None, clock: Clock) -> None:
        self.name = name
        self.address = address
        self._channel = channel
        self._timeout_s = timeout_s
        self._clock = clock

    async def connect(self) -> None:
        """Be connected before a write: what fails here was certainly not sent.

        Raises:
            GatewayUnavailable: it could not be reached within `CONNECT_S`.
        """
        try:
            async with asyncio.timeout(CONNECT_S):
                state = self._channel.get_state(try_to_connect=True)
                while state is not grpc.ChannelConnectivity.READY:
                    if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                        break
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
                else:
                    return
        except TimeoutError:
            raise self._unreachable(f"no connection within {CONNECT_S:g} s") from None
        raise self._unreachable("no connection")

    def _unreachable(self, cause: str) -> GatewayUnavailable:
        return GatewayUnavailable(f"{self.name} at {self.address} cannot be reached", metadata={"cause": cause})

    async def call(self, request: Message, answer: type[Answer]) -> Answer:
        """Call the method whose request this is.

        A method that may be repeated is tried again while the service is away, within its time; a write that may not
        is tried once, and only over a connection that stands.

        Raises:
            MeshError: what the service answered, or what the failure of the transport means.
        """
        method = method_of(request)
        options: MethodOptions = method.GetOptions()
        policy = options.Extensions[options_pb2.policy]
        write = options.idempotency_level != MethodOptions.NO_SIDE_EFFECTS
        once = policy.repeat not in (options_pb2.REPEAT_READ, options_pb2.REPEAT_IDEMPOTENT)
        if write:
            await self.connect()
        start = self._channel.unary_unary(
            _path(method), request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        until_s = self._clock.monotonic_s() + self._time_of(policy, once=once)
        for left in reversed(range(1 if once else TRIES)):
            try:
                reply: Answer = await start(request, timeout=max(0.001, until_s - self._clock.monotonic_s()))
            except grpc.aio.AioRpcError as failed:
                error = error_from_rpc(failed, is_write=write)
                pause_s = PAUSE_S * 2 ** (TRIES - left)
                # What a service of the mesh answered to a read will not be other in a moment.
                again = (
                    left and failed.code() is grpc.StatusCode.UNAVAILABLE and (write or "grpc_code" in error.metadata)
                )
                if again and self._clock.monotonic_s() + pause_s < until_s:
                    await asyncio.sleep(pause_s)
                    continue
                raise self._told(error, write=write) from None
            else:
                return reply
        raise AssertionError("the last try returns or raises")

    def _time_of(self, policy: Any, *, once: bool) -> float:
        if self._timeout_s is not None:
            return self._timeout_s
        own_s = policy.default_deadline_ms / 1e3
        return float(own_s if once else max(own_s, PATIENCE_S))

    def _told(self, error: MeshError, *, write: bool) -> MeshError:
        if not write:
            error.sent = Sent.NO  # whatever was asked of a venue on the way changed nothing
        if error.reason is Reason.GATEWAY_UNAVAILABLE and "grpc_code" in error.metadata:
            # gRPC's own words, not an answer: what is away is the service itself.
            return self._unreachable(str(error))
        return error

    async def pages(self, request: Any, answer: type[Answer], rows: str, limit: int) -> Answer:
        """The first `limit` rows of a list as one answer; its `next_page_token` is that of the last page read."""
        whole = answer()
        while True:
            request.page_size = min(limit - len(getattr(whole, rows)), MAX_PAGE)
            page: Any = await self.call(request, answer)
            getattr(whole, rows).extend(getattr(page, rows))
            whole.next_page_token = page.next_page_token  # type: ignore[attr-defined]
            if not page.next_page_token or len(getattr(whole, rows)) >= limit:
                return whole
            request.page_token = page.next_page_token

    async def stream(self, request: Message, answer: type[Answer]) -> AsyncGenerator[Answer, None]:
        """Messages of the server stream whose request this is, until either side ends it. Raises MeshError."""
        method = method_of(request)
        start = self._channel.unary_stream(
            _path(method), request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        call = start(request)
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as failed:
            raise self._told(error_from_rpc(failed, is_write=False), write=False) from None
        finally:
            call.cancel()

    async def health(self, name: str = "") -> str:
        """What grpc.health.v1 says of a name: SERVING, NOT_SERVING or SERVICE_UNKNOWN. Raises MeshError."""
        start = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await start(health_pb2.HealthCheckRequest(service=name), timeout=self._timeout_s or PATIENCE_S)
        except grpc.aio.AioRpcError as failed:
            if failed.code() is grpc.StatusCode.NOT_FOUND:
                return "SERVICE_UNKNOWN"
            raise self._told(error_from_rpc(failed, is_write=False), write=False) from None
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def method_of(request: Message) -> MethodDescriptor:
    """The one method that takes this message: each method of the contract has a request of its own."""
    wanted = request.DESCRIPTOR.full_name
    services: Any = request.DESCRIPTOR.file.services_by_name
    for service in services.values():
        for method in service.methods:
            if method.input_type.full_name == wanted:
                found: MethodDescriptor = method
                return found
    raise TypeError(f"{wanted} is the request of no method")


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"
