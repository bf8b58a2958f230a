"""What every served call goes through: token, limits, deadline, errors, metrics, span, one log line.

One interceptor for all four call kinds, and one wrapper per method, built once. The wrapper reads the raw
request and writes the raw response itself, because gRPC's own code answers a request it cannot parse, or a
response it cannot encode, with the text of the Python exception.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from contextvars import ContextVar
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanKind
from opentelemetry.trace import StatusCode as SpanStatus

from venuemesh.call_metrics import CallMetrics
from venuemesh.call_policy import CallPolicy
from venuemesh.clock import Clock
from venuemesh.counted_writes import CountedWrites
from venuemesh.deadlines import REQUEST_ID, Deadline, set_deadline, set_request_id
from venuemesh.draining import Drain, OpenStreams
from venuemesh.errors import (
    DeadlineTooShort,
    Draining,
    InvalidRequest,
    MeshError,
    OutcomeUnknown,
    RateLimited,
    Reason,
)
from venuemesh.limits import CallerLimits
from venuemesh.metrics import Metrics
from venuemesh.security.door import Door, permit, while_granted
from venuemesh.security.grants import READ, Grant
from venuemesh.security.requests import rules_of
from venuemesh.status import to_grpc_status
from venuemesh.stream_requests import Element, StreamRequests, elements_of
from venuemesh.telemetry import TRACEPARENT, TRACESTATE, Tracing, make_current, parse_traceparent

log = logging.getLogger(__name__)

BUILT_IN = ("/grpc.health.v1.", "/grpc.reflection.v1.", "/grpc.reflection.v1alpha.")
"""Streams of these never watch the drain signal, and time limits do not apply to them."""
HEALTH = "/grpc.health.v1."
"""Open to everybody: the kubelet has no token."""
DRAIN_RETRY_S = 1.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)

# The stub package types handlers and contexts of the synchronous kind only.
Handler = Any
Context = Any
Trailers = Callable[[], Sequence[tuple[str, str]]]

_metadata: ContextVar[tuple[tuple[str, Any], ...]] = ContextVar("venuemesh_call_metadata", default=())


class MeshInterceptor(grpc.aio.ServerInterceptor):
    """The server interceptor of every service; see the module.

    Args:
        policy: what calls are held to.
        callers: call rate and streams of each caller.
        drain: once it has begun, new streams are refused.
        streams: where open streams are counted, and through which they are evicted.
        trailers: trailing metadata of every answer but health and reflection; called for each, so it must be cheap.
    """

    def __init__(
        self,
        policy: CallPolicy,
        callers: CallerLimits,
        *,
        metrics: Metrics,
        tracing: Tracing,
        clock: Clock,
        drain: Drain | None = None,
        streams: OpenStreams | None = None,
        trailers: Trailers | None = None,
    ) -> None:
        self.policy = policy
        self.trailers = trailers
        self.tracing = tracing
        self.clock = clock
        self.drain = Drain() if drain is None else drain
        self.streams = OpenStreams() if streams is None else streams
        self.callers = callers
        self.metrics = CallMetrics(metrics)
        self._served: dict[str, _Served] = {}

    def door(self, method: str, *, reflection: bool = False, request: Descriptor | None = None) -> Door | None:
        """What callers of a method must pass; None where everybody is admitted.

        Args:
            request: type of the request; the method's own when None.
        """
        policy = self.policy
        if policy.authority is None:
            return None
        # Reflection tells the contract to whoever may read.
        scope = READ if reflection else policy.scopes.get(method, 0)
        request = request or policy.request_types.get(method)
        rules = None if request is None else rules_of(method, request)
        return Door(method, scope, rules, policy.own_venue, policy.authority, self.callers, self.clock)

    def elements(self, method: str) -> Mapping[str, Element]:
        """The kinds of message of a method that takes a stream of them; see `elements_of`."""
        types = self.policy.request_types
        return elements_of(
            method,
            types.get(method),
            types,
            safety=self.policy.safety,
            door_of=lambda name, request: self.door(name, request=request),
        )

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Handler]], handler_call_details: Any
    ) -> Handler:
        """Give gRPC the wrapped handler; None, and so UNIMPLEMENTED, for a method nobody serves."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        served = self._served.get(method)
        if served is None or served.original is not handler:
            served = self._served[method] = _Served(self, method, handler)
        # The wrapper runs in this same task; asking its context would build all the metadata once more.
        _metadata.set(handler_call_details.invocation_metadata)
        return served.handler


class _Call:
    """One call being served."""

    __slots__ = (
        "authorization",
        "counted",
        "deadline",
        "grant",
        "host",
        "messages",
        "request_id",
        "span",
        "started_s",
    )

    def __init__(self, served: _Served, context: Context) -> None:
        mesh = served.mesh
        self.started_s = mesh.clock.monotonic_s()
        self.host = _host(context.peer())
        self.counted = False
        self.messages = 0
        self.authorization: str | None = None
        self.grant: Grant | None = None
        traceparent = tracestate = request_id = None
        for key, value in _metadata.get():
            if key == TRACEPARENT:
                traceparent = value
            elif key == REQUEST_ID:
                request_id = value
            elif key == TRACESTATE:
                tracestate = value
            elif key == "authorization":
                self.authorization = value if isinstance(value, str) else None
        left_s = context.time_remaining()
        self.deadline = None if left_s is None else Deadline(mesh.clock, self.started_s + left_s)
        if self.deadline is None and not served.streaming:
            self.deadline = Deadline(mesh.clock, self.started_s + served.default_deadline_s)
        set_deadline(self.deadline)
        if request_id is None or not _REQUEST_ID.fullmatch(request_id):
            request_id = f"{random.getrandbits(64):016x}"
        self.request_id: str = request_id
        set_request_id(request_id)
        parent = parse_traceparent(traceparent, tracestate) if traceparent else None
        self.span = mesh.tracing.start(served.method[1:], parent=parent or INVALID_SPAN_CONTEXT, kind=SpanKind.SERVER)
        make_current(self.span)


class _Served:
    """One method as this interceptor serves it; `handler` is what gRPC calls instead of `original`."""

    def __init__(self, mesh: MeshInterceptor, method: str, handler: Handler) -> None:
        inner = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        self.yields = inspect.isasyncgenfunction(inner)
        if not (self.yields or inspect.iscoroutinefunction(inner)):
            raise TypeError(f"{method}: a handler must be `async def`")
        policy = mesh.policy
        self.mesh = mesh
        self.method = method
        self.original = handler
        self.streaming: bool = handler.response_streaming or handler.request_streaming
        self.built_in = method.startswith(BUILT_IN)
        self.door = None if method.startswith(HEALTH) else mesh.door(method, reflection=self.built_in)
        self.elements = mesh.elements(method) if handler.request_streaming else {}
        self.is_read = method in policy.reads or self.built_in
        self.safety = method in policy.safety
        self.default_deadline_s = policy.deadlines_s.get(method, policy.default_deadline_s)
        self._inner = inner
        self._max_bytes = policy.max_message_bytes
        self._deserialize = handler.request_deserializer or _same
        self._serialize = handler.response_serializer or _same
        self._seconds = mesh.metrics.seconds.labels(method)
        self._gauge = (mesh.metrics.streams if self.streaming else mesh.metrics.in_flight).labels(method)
        self._messages = mesh.metrics.messages.labels(method)
        self._ok = mesh.metrics.calls.labels(method, "OK", "")
        self.handler = self._build()

    def _build(self) -> Handler:
        original = self.original
        # A handler that calls `context.write` itself needs gRPC to encode; one that yields is encoded here.
        writer = original.response_serializer
        match original.request_streaming, original.response_streaming:
            case False, False:
                return grpc.unary_unary_rpc_method_handler(self._unary)
            case True, False:
                return grpc.stream_unary_rpc_method_handler(self._stream_unary)
            case False, True:
                return grpc.unary_stream_rpc_method_handler(
                    self._unary_stream, response_serializer=None if self.yields else writer
                )
            case _:
                return grpc.stream_stream_rpc_method_handler(
                    self._stream_stream, response_serializer=None if self.yields else writer
                )

    # --- the four kinds ---

    async def _unary(self, raw: bytes, context: Context) -> bytes:
        call = self._begin(context)
        try:
            self._admit(call, context)
            request = permit(self.door, call.grant, self._parse(raw))
            if context.time_remaining() is None:
                response = await self._within_default(self._inner(request, context))
            else:
                response = await self._inner(request, context)
            code = context.code() or grpc.StatusCode.OK
            encoded: bytes = self._serialize(response) if code is grpc.StatusCode.OK else b""
        except BaseException as error:
            await self._fail(call, context, error)
            raise
        self._add_trailers(context)
        self._end(call, code)
        return encoded

    async def _stream_unary(self, requests: Any, context: Context) -> bytes:
        call = self._begin(context)
        try:
            self._admit_stream(call, context)
            async with aclosing(self._requests(call, requests)) as admitted:
                response = await self._inner(admitted, context)
            code = context.code() or grpc.StatusCode.OK
            encoded: bytes = self._serialize(response) if code is grpc.StatusCode.OK else b""
        except BaseException as error:
            await self._fail(call, context, error)
            raise
        else:
            self._add_trailers(context)
            self._end(call, code)
        finally:
            self._leave(call)
        return encoded

    async def _unary_stream(self, raw: bytes, context: Context) -> None:
        await self._stream(raw, lambda call, sent: permit(self.door, call.grant, self._parse(sent)), context)

    async def _stream_stream(self, requests: Any, context: Context) -> None:
        async with AsyncExitStack() as stack:

            def take(call: _Call, sent: Any) -> StreamRequests:
                admitted = self._requests(call, sent)
                stack.push_async_callback(admitted.aclose)
                return admitted

            await self._stream(requests, take, context)

    async def _stream(self, request: Any, take: Callable[[_Call, Any], Any], context: Context) -> None:
        call = self._begin(context)
        try:
            self._admit_stream(call, context)
            parsed = take(call, request)
            async with while_granted(call.grant, self.mesh.clock):
                if self.yields:
                    async with aclosing(self._inner(parsed, context)) as messages:
                        async for message in messages:
                            await context.write(self._serialize(message))
                            self._count(call)
                else:
                    await self._inner(parsed, CountedWrites(context, partial(self._count, call)))
        except BaseException as error:
            await self._fail(call, context, error)
            raise
        else:
            self._add_trailers(context)
            self._end(call, context.code() or grpc.StatusCode.OK)
        finally:
            self._leave(call)

    # --- the steps ---

    def _count(self, call: _Call) -> None:
        call.messages += 1
        self._messages.inc()

    def _begin(self, context: Context) -> _Call:
        call = _Call(self, context)
        self._gauge.inc()
        return call

    def _admit(self, call: _Call, context: Context) -> None:
        """Who calls, rate, and for streams the drain and a slot; before a byte of the request is looked at."""
        if self.door is not None:
            call.grant = self.door.admit(call.host, call.started_s, call.authorization, context)
            call.span.set_attribute("enduser.id", call.grant.subject)
        self.mesh.callers.admit_call(call.host, call.started_s, safety=self.safety)

    def _requests(self, call: _Call, sent: Any) -> StreamRequests:
        mesh = self.mesh
        return StreamRequests(
            sent,
            parse=self._parse,
            door=self.door,
            grant=call.grant,
            elements=self.elements,
            count=lambda safety: mesh.callers.admit_call(call.host, mesh.clock.monotonic_s(), safety=safety),
            clock=mesh.clock,
        )

    def _admit_stream(self, call: _Call, context: Context) -> None:
        mesh = self.mesh
        self._admit(call, context)
        if mesh.drain.draining and not self.built_in:
            raise Draining("the service is stopping", retry_after_s=DRAIN_RETRY_S)
        mesh.callers.open_stream(call.host, call.started_s)
        call.counted = True
        mesh.streams.opened(_this_task(), watches_drain=not self.built_in)

    def _leave(self, call: _Call) -> None:
        """Give the slot back: after the status went out, because the drain waits for this."""
        if call.counted:
            self.mesh.callers.close_stream(call.host)
            self.mesh.streams.closed(_this_task())

    def _parse(self, raw: bytes) -> Any:
        if len(raw) > self._max_bytes:
            raise InvalidRequest(
                f"the message has {len(raw)} bytes, the limit is {self._max_bytes}",
                reason=Reason.MESSAGE_TOO_LARGE,
                metadata={"limit": "max_message_bytes", "value": str(self._max_bytes)},
            )
        try:
            return self._deserialize(raw)
        except DecodeError:
            raise InvalidRequest(f"the message is no valid request of {self.method}") from None

    async def _within_default(self, response: Awaitable[Any]) -> Any:
        """Bound a call whose client set no deadline."""
        try:
            async with asyncio.timeout(self.default_deadline_s) as scope:
                return await response
        except TimeoutError:
            if not scope.expired():
                raise
            late = f"no answer within {self.default_deadline_s:g} s, the bound of a call without a deadline"
            raise (DeadlineTooShort(late) if self.is_read else OutcomeUnknown(late)) from None

    async def _fail(self, call: _Call, context: Context, error: BaseException) -> None:
        """Record the failure and answer it; returns where gRPC must see the exception itself."""
        match error:
            case grpc.aio.AbortError():
                self._end(call, context.code() or grpc.StatusCode.UNKNOWN)
                return
            case asyncio.CancelledError():
                if not self.mesh.streams.was_evicted(_this_task()):
                    late = call.deadline is not None and call.deadline.remaining_s() <= 0
                    self._end(call, grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED)
                    return
                refusal: MeshError = Draining("the service is stopping", retry_after_s=DRAIN_RETRY_S)
                fault: BaseException | None = None
            case grpc.aio.BaseError() if not isinstance(error, grpc.aio.UsageError):
                # A write to a caller that has gone.
                self._end(call, grpc.StatusCode.CANCELLED)
                return
            case Exception():
                known = _mesh_error(error)
                fault = error if known is None else None
                refusal = known or MeshError(f"internal error; request id {call.request_id}")
            case _:
                self._end(call, grpc.StatusCode.INTERNAL)
                return
        self._end(call, refusal.code, refusal, fault)
        await context.abort_with_status(to_grpc_status(refusal, tuple(self._trailers())))

    def _trailers(self) -> Sequence[tuple[str, str]]:
        """What every answer carries; a fault in making it must not become the answer."""
        if self.mesh.trailers is None or self.built_in:
            return ()
        try:
            return self.mesh.trailers()
        except Exception:
            log.exception("trailers_failed")
            return ()

    def _add_trailers(self, context: Context) -> None:
        """Put them behind what the handler set itself."""
        trailers = self._trailers()
        if trailers:
            context.set_trailing_metadata(tuple(context.trailing_metadata() or ()) + tuple(trailers))

    def _end(
        self,
        call: _Call,
        code: grpc.StatusCode,
        refusal: MeshError | None = None,
        fault: BaseException | None = None,
    ) -> None:
        mesh = self.mesh
        self._gauge.dec()
        seconds = mesh.clock.monotonic_s() - call.started_s
        if not self.streaming:
            self._seconds.observe(seconds)
        if code is grpc.StatusCode.OK:
            self._ok.inc()
        else:
            mesh.metrics.calls.labels(self.method, code.name, refusal.reason.value if refusal else "").inc()
        if call.span.is_recording():
            call.span.set_attribute("rpc.grpc.status_code", code.value[0])
            if refusal is not None:
                call.span.set_attribute("venuemesh.reason", refusal.reason.value)
            if code is not grpc.StatusCode.OK:
                call.span.set_status(SpanStatus.ERROR, code.name)
        call.span.end()
        self._log(call, code, seconds, refusal, fault)

    def _log(
        self,
        call: _Call,
        code: grpc.StatusCode,
        seconds: float,
        refusal: MeshError | None,
        fault: BaseException | None,
    ) -> None:
        level = logging.INFO if refusal is None else logging.WARNING
        if fault is not None:
            level = logging.ERROR
        elif isinstance(refusal, RateLimited) and not self.mesh.callers.may_report(call.host, call.started_s):
            level = logging.DEBUG
        if not log.isEnabledFor(level):
            return
        extra: dict[str, object] = {
            "method": self.method,
            "code": code.name,
            "duration_ms": round(seconds * 1e3, 3),
            "peer": call.host,
            "request_id": call.request_id,
        }
        if self.streaming:
            extra["messages"] = call.messages
        if refusal is not None:
            extra |= {"reason": refusal.reason.value, "sent": refusal.sent.value}
            if fault is None:
                extra["detail"] = refusal.message
        if refusal is None and fault is None:
            # gRPC sends the answer when the handler returns: a caller need not wait for our log to be written.
            asyncio.get_running_loop().call_soon(partial(log.log, level, "rpc", extra=extra))
            return
        log.log(level, "rpc", extra=extra, exc_info=fault)


def _mesh_error(error: BaseException) -> MeshError | None:
    """The `MeshError` to answer with; a group counts when everything in it is one."""
    if isinstance(error, MeshError):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = [_mesh_error(inner) for inner in error.exceptions]
        return None if None in found else found[0]
    return None


def _host(peer: str) -> str:
    """`ipv4:10.0.0.7:41000` without the port, so that more connections give no more room."""
    return peer[: peer.rfind(":")] if peer.startswith("ip") else peer


def _this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None, "gRPC runs every handler in a task"
    return task


def _same(value: Any) -> Any:
    return value
