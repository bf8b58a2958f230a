"""Client side of a hop: a channel whose calls carry the deadline, trace, request id and token of the call they serve.

A wrapper around the channel instead of gRPC's client interceptors: those put a task around every call, lose
the cancellation of a dropped one, and need a class per call kind. Generated stubs take this channel as any.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from venuemesh.clock import SystemClock
from venuemesh.deadlines import REQUEST_ID, remaining_s, request_id
from venuemesh.errors import DeadlineTooShort
from venuemesh.secrets import Secret
from venuemesh.security.certificates import CertificateError, ChannelFiles
from venuemesh.security.files import FileWatch
from venuemesh.security.passing import caller_token
from venuemesh.telemetry import trace_headers

log = logging.getLogger(__name__)

DEFAULT_RESERVE_S = 0.1


def open_channel(
    target: str,
    *,
    reserve_s: float = DEFAULT_RESERVE_S,
    default_timeout_s: float = 10.0,
    max_message_bytes: int = 4 * 1024**2,
    tls: ChannelFiles | None = None,
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
        tls: files to trust and to be known by, followed when they change; plain text when None.
        token: sent as a bearer token where the call being served has none to pass on.
        options: further channel arguments; they win.
    Raises:
        CertificateError: a TLS file cannot be used.
    """
    arguments = (
        ("grpc.enable_retries", 0),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Not a wait: the time one attempt may take, handshake included.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.max_receive_message_length", max_message_bytes),
        *options,
    )

    if tls is None:
        return MeshChannel(
            grpc.aio.insecure_channel(target, options=arguments),
            reserve_s=reserve_s,
            default_timeout_s=default_timeout_s,
            token=token,
        )
    files, watch = tls, FileWatch(tls.paths, SystemClock())

    def renew() -> grpc.aio.Channel | None:
        return grpc.aio.secure_channel(target, files.credentials(), options=arguments) if watch.changed() else None

    return MeshChannel(
        grpc.aio.secure_channel(target, files.credentials(), options=arguments),
        reserve_s=reserve_s,
        default_timeout_s=default_timeout_s,
        token=token,
        renew=renew,
    )


class MeshChannel(grpc.aio.Channel):
    """Adds to every call started through it: a time-out, `traceparent`, `x-request-id`, the token.

    The time-out is the smaller of the one given and what the served call has left, less `reserve_s`. A call
    that has nothing left is refused here.

    Args:
        renew: makes the channel that calls use from now on when its certificates changed, else None; asked before
            each call. Calls under way end on the channel they began on.

    Raises (from each call): DeadlineTooShort with `sent` = no.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        reserve_s: float = DEFAULT_RESERVE_S,
        default_timeout_s: float = 10.0,
        token: Secret | None = None,
        renew: Callable[[], grpc.aio.Channel | None] | None = None,
    ) -> None:
        self._channel = channel
        self._reserve_s = reserve_s
        self._default_timeout_s = default_timeout_s
        self._token = () if token is None else (("authorization", f"Bearer {token.reveal()}"),)
        self._renew = renew
        self._calls: dict[grpc.aio.Channel, int] = {}
        """Calls under way by channel, kept only where channels are renewed."""
        self._closing: set[asyncio.Task[None]] = set()

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        call = self._wrap(lambda channel: channel.unary_unary(method, *args, **kwargs), self._default_timeout_s)
        # Tells callers of a stub's method which one it is.
        call.path = method
        return call

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._wrap(lambda channel: channel.unary_stream(method, *args, **kwargs), None)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._wrap(lambda channel: channel.stream_unary(method, *args, **kwargs), None)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._wrap(lambda channel: channel.stream_stream(method, *args, **kwargs), None)

    def _wrap(self, make: Callable[[grpc.aio.Channel], Any], default_timeout_s: float | None) -> Any:
        bound = self._channel
        callable_ = make(bound)

        def start(request: Any = None, *, timeout: float | None = None, metadata: Any = None, **kwargs: Any) -> Any:
            nonlocal bound, callable_
            headers, timeout = self._metadata(metadata), self._timeout(timeout, default_timeout_s)
            if self._renew is None:
                return callable_(request, timeout=timeout, metadata=headers, **kwargs)
            self._follow_certificates(self._renew)
            if bound is not self._channel:
                bound, callable_ = self._channel, make(self._channel)
            call = callable_(request, timeout=timeout, metadata=headers, **kwargs)
            self._count(bound, call)
            return call

        return start

    # --- changed certificates ---

    def _follow_certificates(self, renew: Callable[[], grpc.aio.Channel | None]) -> None:
        try:
            channel = renew()
        except CertificateError as error:
            log.warning("certificate_unusable", extra={"detail": str(error), "policy": "the old channel stays"})
            return
        if channel is not None:
            old, self._channel = self._channel, channel
            self._close_unused(old)

    def _count(self, channel: grpc.aio.Channel, call: Any) -> None:
        self._calls[channel] = self._calls.get(channel, 0) + 1

        def ended(_: Any) -> None:
            self._calls[channel] -= 1
            self._close_unused(channel)

        call.add_done_callback(ended)

    def _close_unused(self, channel: grpc.aio.Channel) -> None:
        if channel is self._channel or self._calls.get(channel):
            return
        self._calls.pop(channel, None)
        closing = asyncio.get_running_loop().create_task(channel.close(), name="close-old-channel")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    # --- what a call carries ---

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
        passed = caller_token()
        token = self._token if passed is None else (("authorization", passed),)
        return (*(given or ()), *trace_headers(), *ids, *token)

    async def close(self, grace: float | None = None) -> None:
        for channel in {self._channel, *self._calls}:
            await channel.close(grace)

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
