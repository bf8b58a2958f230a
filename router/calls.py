"""How one gateway is called: what is repeated, what never is, and what a lost answer means.

Reads and cancels are repeated on UNAVAILABLE within the deadline and a budget per venue. A submit or amendment is sent
once: a failure before there was a connection is GatewayUnavailable with `sent` = no, any other failure of the transport
is OutcomeUnknown. Every call holds a place at its venue and none waits for one, so a venue that hangs delays no other.
Requests and answers are the message objects themselves, so fields and enum numbers of a newer contract pass through.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from router.budgets import ExtraBudget
from router.call_rules import CallRule, rule_of
from router.hedging import hedge
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
    """Call a method that may be repeated and makes nothing: repeated on UNAVAILABLE, hedged when it is a quick read.

    Args:
        context: gets the answer's trailing metadata of ours.
        timeout_s: bound of each attempt, when less than what the deadline leaves.
        bounded: whether it counts among the venue's reads in flight; not when a cancel waits for it.
    Raises:
        MeshError: the gateway's own, or what the transport's failure means for a read.
    """
    rule = _repeatable(method)

    async def attempt() -> Any:
        return await _attempt(method, request, context, is_write=False, timeout_s=timeout_s)

    async def hedged() -> Any:
        if not rule.hedged:
            return await attempt()
        return await hedge(attempt, after_s=link.settings.hedge_after_s, may_start=lambda: _may_hedge(link))

    link.hedges.call()
    # What a cancel waits for passes, whatever reads do.
    with (
        link.guard.call(rule, request, given_s=timeout_s) if bounded else nullcontext(),
        link.reads.slot() if bounded else nullcontext(),
    ):
        return await _repeated(link, hedged, link.read_repeats, link.settings.read_retries, is_write=False)


async def cancel(
    link: VenueLink, method: Method, request: Any, context: Context = None, *, bounded: bool = True
) -> Any:
    """Call a cancel: has places of its own, passes an open breaker, repeated on UNAVAILABLE and when a limit is spent.

    Args:
        bounded: whether it needs a place; a kill switch does not.
    Raises:
        RateLimited: the venue holds more cancels than anybody meant; nothing was sent.
        OutcomeUnknown: an attempt may have reached the gateway and none was answered.
        MeshError: the gateway's own; GatewayUnavailable when no attempt left this process.
    """
    rule = _repeatable(method)

    async def attempt() -> Any:
        await link.require_ready()
        with link.guard.call(rule, request, given_s=link.settings.default_timeout_s) as watched:
            watched.answer = await _attempt(method, request, context, is_write=True)
            return watched.answer

    with link.cancels.slot() if bounded else nullcontext():
        return await _repeated(link, attempt, link.cancel_repeats, link.settings.cancel_retries, is_write=True)


async def submit(link: VenueLink, method: Method, request: Any, context: Context = None, *, known: bool = False) -> Any:
    """Call a write that must not be repeated here: once, and only over a connection that is up.

    Args:
        known: the gateway has the order's key already, so that it answers what became of it.
    Raises:
        CircuitOpen, DeadlineTooShort, GatewayUnavailable, RateLimited: nothing was sent.
        OutcomeUnknown: it may have reached the gateway.
        MeshError: the gateway's own.
    """
    rule = rule_of(method)
    given_s = link.settings.default_timeout_s
    with (
        link.guard.call(rule, request, given_s=given_s, known=known) as watched,
        link.cancels.slot() if rule.safety else link.submits.slot(),
    ):
        require_remaining(link.settings.reserve_s + link.settings.min_submit_s)
        await link.require_ready()
        watched.answer = await _attempt(method, request, context, is_write=True)
        return watched.answer


def _repeatable(method: Method) -> CallRule:
    rule = rule_of(method)
    if not rule.repeatable:
        raise TypeError(f"{rule.name} may not be repeated, says the contract")
    return rule


@contextmanager
def _may_hedge(link: VenueLink) -> Iterator[bool]:
    """Whether a second attempt may start; holds its place while it runs."""
    if link.reads.full or not link.hedges.take():
        yield False
        return
    with link.reads.slot():
        yield True


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
    link: VenueLink, attempt: Callable[[], Awaitable[Any]], budget: ExtraBudget, retries: int, *, is_write: bool
) -> Any:
    """Attempt until it is answered, as often as the deadline, the setting and the venue's budget of repeats allow."""
    settings = link.settings
    policy = BackoffPolicy(
        initial_s=settings.retry_initial_s, cap_s=max(settings.retry_cap_s, settings.retry_initial_s)
    )
    budget.call()
    lost: OutcomeUnknown | None = None
    for done in range(retries + 1):
        try:
            return await attempt()
        except MeshError as error:
            # Once an attempt may have arrived, a later one that certainly did not changes nothing about it.
            if lost is not None and isinstance(error, DeadlineTooShort):
                raise lost from error
            if not (_away(error) or (is_write and isinstance(error, RateLimited))):
                raise
            lost = error if isinstance(error, OutcomeUnknown) else lost
            failure = lost or error
        wait_s = policy.delay_s(done, random.random())  # noqa: S311 - spreads repeats, keeps no secret
        wait_s = max(wait_s, failure.retry_after_s or 0.0) if isinstance(failure, RateLimited) else wait_s
        left_s = remaining_s()
        in_time = left_s is None or left_s - settings.reserve_s > wait_s
        if done == retries or not in_time or not budget.take():
            raise failure
        await asyncio.sleep(wait_s)
    raise AssertionError("the last attempt returns or raises")


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
