"""Client side of a hop: a channel whose calls carry the deadline, trace and request id of the call they serve.

A wrapper around the channel instead of gRPC's client interceptors: those put a task around every call, lose
the cancellation of a dropped one, and need a class per call kind. Generated stubs take this channel as any.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from venuemesh.deadlines import REQUEST_ID, remaining_s, request_id
from venuemesh.errors import DeadlineTooShort
from venuemesh.secrets import Secret
from venuemesh.telemetry import trace_headers

DEFAULT_RESERVE_S = 0.1


def open_channel(
    target: str,
    *,
    reserve_s: float = DEFAULT_RESERVE_S,
    default_timeout_s: float = 10.0,
    max_message_bytes: int = 4 * 1024**2,
    credentials: grpc.ChannelCredentials | None = None,
    token: Secret | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> MeshChannel:
    """A channel to another service of the mesh; nothing connects before the first call.

    gRPC's own retries are off, because a write must never be repeated behind the caller's back. Reconnects
    back off from 0.1 to 2 s; dead peers are noticed within 25 s.

    Args:
        target: `host:port`, or `dns:///name:port` for all addresses of a headless service.
        reserve_s: kept back from the caller's deadline for our own work after the answer.
        default_timeout_s: bound of a unary call that inherits no deadline and is given none.
        max_message_bytes: of one received message.
        credentials: TLS; plain text when None.
        token: sent as a bearer token.
        options: further channel arguments; they win.
    """
    arguments = (
        ("grpc.enable_retries", 0),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.max_receive_message_length", max_message_bytes),
        *options,
    )
    if credentials is None:
        channel = grpc.aio.insecure_channel(target, options=arguments)
    else:
        channel = grpc.aio.secure_channel(target, credentials, options=arguments)
    return MeshChannel(channel, reserve_s=reserve_s, default_timeout_s=default_timeout_s, token=token)


class MeshChannel(grpc.aio.Channel):
    """Adds to every call started through it: a time-out, `traceparent`, `x-request-id`, the token.

    The time-out is the smaller of the one given and what the served call has left, less `reserve_s`. A call
    that has nothing left is refused here.

    Raises (from each call): DeadlineTooShort with `sent` = no.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        reserve_s: float = DEFAULT_RESERVE_S,
        default_timeout_s: float = 10.0,
        token: Secret | None = None,
    ) -> None:
        self._channel = channel
        self._reserve_s = reserve_s
        self._default_timeout_s = default_timeout_s
        self._token = () if token is None else (("authorization", f"Bearer {token.reveal()}"),)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._wrap(self._channel.unary_unary(method, *args, **kwargs), self._default_timeout_s)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._wrap(self._channel.unary_stream(method, *args, **kwargs), None)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._wrap(self._channel.stream_unary(method, *args, **kwargs), None)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._wrap(self._channel.stream_stream(method, *args, **kwargs), None)

    def _wrap(self, callable_: Any, default_timeout_s: float | None) -> Any:
        def start(request: Any = None, *, timeout: float | None = None, metadata: Any = None, **kwargs: Any) -> Any:
            headers = self._metadata(metadata)
            return callable_(request, timeout=self._timeout(timeout, default_timeout_s), metadata=headers, **kwargs)

        return start

    def _timeout(self, given_s: float | None, default_s: float | None) -> float | None:
        left_s = remaining_s()
        if left_s is None:
            return default_s if given_s is None else given_s
        left_s -= self._reserve_s
        if left_s <= 0:
            raise DeadlineTooShort(
                f"{left_s + self._reserve_s:.3f} s left, {self._reserve_s:.3f} s of it kept in reserve",
                metadata={"reserve_s": f"{self._reserve_s:.3f}"},
            )
        return left_s if given_s is None else min(given_s, left_s)

    def _metadata(self, given: Any) -> tuple[tuple[str, str | bytes], ...]:
        served = request_id()
        ids = () if served is None else ((REQUEST_ID, served),)
        return (*(given or ()), *trace_headers(), *ids, *self._token)

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    async def __aenter__(self) -> Self:
        await self._channel.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self._channel.__aexit__(exc_type, exc_val, exc_tb)
