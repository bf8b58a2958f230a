"""How one gateway is called: what is repeated, what never is, and what a lost answer means.

Reads and cancels are repeated on UNAVAILABLE within the deadline. A submit or amendment is sent once: a failure before
there was a connection is GatewayUnavailable with `sent` = no, any other failure of the transport is OutcomeUnknown.
Requests and answers are the message objects themselves, so fields and enum numbers of a newer contract pass through.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import nullcontext
from typing import Any

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from router.venues import VenueLink
from venuemesh.clock import Clock
from venuemesh.deadlines import remaining_s, require_remaining
from venuemesh.draining import Drain
from venuemesh.errors import DeadlineTooShort, MeshError, OutcomeUnknown, RateLimited
from venuemesh.status import error_from_rpc
from venuemesh.transport.backoff import BackoffPolicy
from venuemesh.v1 import stream_pb2

log = logging.getLogger(__name__)

Context = Any  # grpc.aio.ServicerContext; its stub type is generic in two parameters that matter to nobody here
Method = Callable[..., Any]
"""A method of a generated stub."""
RECONNECT_AFTER_S = 1
_PASSED_ON = "x-"
_SOURCE_GONE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
    }
)


async def read(
    link: VenueLink,
    method: Method,
    request: Any,
    context: Context = None,
    *,
    timeout_s: float | None = None,
    bounded: bool = True,
) -> Any:
    """Call a method without side effects; repeated on UNAVAILABLE.

    Args:
        context: gets the answer's trailing metadata of ours.
        timeout_s: bound of each attempt, when less than what the deadline leaves.
        bounded: whether it counts among the venue's reads in flight; not when a cancel waits for it.
    Raises:
        MeshError: the gateway's own, or what the transport's failure means for a read.
    """
    with link.reads.slot() if bounded else nullcontext():
        return await _repeated(link, method, request, context, is_write=False, timeout_s=timeout_s)


async def cancel(link: VenueLink, method: Method, request: Any, context: Context = None) -> Any:
    """Call a cancel: no bound on how many, repeated on UNAVAILABLE and when a limit is spent.

    Raises:
        OutcomeUnknown: an attempt may have reached the gateway and none was answered.
        MeshError: the gateway's own; GatewayUnavailable when no attempt left this process.
    """
    return await _repeated(link, method, request, context, is_write=True)


async def submit(link: VenueLink, method: Method, request: Any, context: Context = None) -> Any:
    """Call a write that must not be repeated here: once, and only over a connection that is up.

    Raises:
        DeadlineTooShort, GatewayUnavailable, RateLimited: nothing was sent.
        OutcomeUnknown: it may have reached the gateway.
        MeshError: the gateway's own.
    """
    with link.submits.slot():
        require_remaining(link.settings.reserve_s + link.settings.min_submit_s)
        await link.require_ready()
        return await _attempt(method, request, context, is_write=True)


async def _attempt(
    method: Method, request: Any, context: Context, *, is_write: bool, timeout_s: float | None = None
) -> Any:
    call = method(request, timeout=timeout_s)
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error, is_write=is_write) from error
    if context is not None:
        trailers = tuple((key, value) for key, value in await call.trailing_metadata() if key.startswith(_PASSED_ON))
        if trailers:
            context.set_trailing_metadata(trailers)
    return answer


async def _repeated(
    link: VenueLink,
    method: Method,
    request: Any,
    context: Context,
    *,
    is_write: bool,
    timeout_s: float | None = None,
) -> Any:
    settings = link.settings
    retries = settings.cancel_retries if is_write else settings.read_retries
    policy = BackoffPolicy(
        initial_s=settings.retry_initial_s, cap_s=max(settings.retry_cap_s, settings.retry_initial_s)
    )
    lost: OutcomeUnknown | None = None
    attempt = 0
    while True:
        try:
            if is_write:
                await link.require_ready()
            return await _attempt(method, request, context, is_write=is_write, timeout_s=timeout_s)
        except MeshError as error:
            # Once an attempt may have arrived, a later one that certainly did not changes nothing about it.
            if lost is not None and isinstance(error, DeadlineTooShort):
                raise lost from error
            if not (_away(error) or (is_write and isinstance(error, RateLimited))):
                raise
            lost = error if isinstance(error, OutcomeUnknown) else lost
            failure = lost or error
        wait_s = policy.delay_s(attempt, random.random())  # noqa: S311 - spreads repeats, keeps no secret
        wait_s = max(wait_s, failure.retry_after_s or 0.0) if isinstance(failure, RateLimited) else wait_s
        left_s = remaining_s()
        if attempt == retries or (left_s is not None and left_s - settings.reserve_s <= wait_s):
            raise failure
        attempt += 1
        await asyncio.sleep(wait_s)


def _away(error: MeshError) -> bool:
    return error.code is grpc.StatusCode.UNAVAILABLE or error.metadata.get("grpc_code") == "UNAVAILABLE"


class StreamProxy:
    """Passes a gateway's stream on, message by message; ends it with a closing notice when its source goes away.

    The reader's pace is the gateway's: a message is read only once the one before was taken by the transport, so
    nothing queues here and the gateway's own slow-reader rule applies.
    """

    def __init__(self, drain: Drain, clock: Clock) -> None:
        self._drain = drain
        self._clock = clock

    async def follow(
        self, link: VenueLink, method: Method, request: Any, response: type[Any], *, resumable: bool
    ) -> AsyncIterator[Any]:
        """The messages of `method(request)` unchanged, then at most one closing notice of the router's own.

        Args:
            response: message class of the stream; has `header` and `closing`.
            resumable: whether the notice names a position to resume after.
        Raises:
            MeshError: the gateway refused the stream or failed before its first message.
        """
        last = stream_pb2.StreamHeader()
        closed = False
        source = self._source(link, method, request)
        async for message in self._drain.until_draining(source):
            if message.HasField("header"):
                last = message.header if message.header.sequence else last
            closed = message.WhichOneof("body") == "closing"
            yield message
        if closed:
            return
        reason = stream_pb2.CLOSING_REASON_DRAINING if self._drain.draining else stream_pb2.CLOSING_REASON_SOURCE_LOST
        closing = stream_pb2.StreamClosing(reason=reason, reconnect_after=Duration(seconds=RECONNECT_AFTER_S))
        if resumable and last.sequence:
            closing.resume_after.epoch = last.epoch
            closing.resume_after.sequence = last.sequence
        header = stream_pb2.StreamHeader(
            epoch=last.epoch,
            sequence=last.sequence,
            previous_sequence=last.sequence,
            published_unix_nanos=self._clock.now_ns(),
        )
        yield response(header=header, closing=closing)

    async def _source(self, link: VenueLink, method: Method, request: Any) -> AsyncGenerator[Any, None]:
        call = method(request)
        begun = False
        try:
            async for message in call:
                begun = True
                yield message
        except grpc.aio.AioRpcError as error:
            if not begun or error.code() not in _SOURCE_GONE:
                raise error_from_rpc(error, is_write=False) from error
            log.info("stream_source_lost", extra={"venue": link.name, "cause": error.details()})
        finally:
            call.cancel()
