"""Serves an order session: logon, requests in, answers and events out, and the end that everybody must hear of.

    await serve_session(request_iterator, context, orders=self, open_port=self._open_port, hub=hub)

A request is one call of the service's own SubmitOrder, CancelOrder or ReplaceOrder, under the deadline that method
declares, so there is no second way to submit. Requests run beside each other; one that finds no order yet waits for the
submits before it. What differs between gateway and router is the `SessionPort`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from google.protobuf.message import Message

from venuemesh import deadlines
from venuemesh.deadlines import Deadline
from venuemesh.elements import element_error
from venuemesh.errors import InvalidRequest, MeshError, OrderNotFound, OutcomeUnknown, Reason, SessionGone
from venuemesh.order_session import Asked, Gone, Kind, OrderSession, SessionTerms, parse_logon
from venuemesh.stream_queue import Entry
from venuemesh.streaming import StreamHub, StreamPlan, Subscription, Topic, responder
from venuemesh.v1 import options_pb2, stream_pb2
from venuemesh.v1 import order_service_pb2 as wire

log = logging.getLogger(__name__)

METHOD = "/venuemesh.v1.OrderService/OpenOrderSession"
LOGON_WAIT_S = 10.0
FAREWELL_S = 3.0
"""How long a session that is over waits for its last answers and the end of its orders, so that its caller hears them;
what is not done by then goes on without a listener."""

_METHODS = {Kind.SUBMIT: "SubmitOrder", Kind.CANCEL: "CancelOrder", Kind.REPLACE: "ReplaceOrder"}
_FIELDS = {Kind.SUBMIT: "submitted", Kind.CANCEL: "canceled", Kind.REPLACE: "replaced"}
_SERVICE = wire.DESCRIPTOR.services_by_name["OrderService"]
_LIMIT_S = {
    kind: _SERVICE.methods_by_name[name].GetOptions().Extensions[options_pb2.policy].default_deadline_ms / 1_000
    for kind, name in _METHODS.items()
}

Context = Any  # grpc.aio.ServicerContext


class Start(Protocol):
    """Runs something beside the session, as its caller and without a deadline; it is cancelled at the session's end."""

    def __call__(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Begin with it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open session as its service sees it. `lose` ends it: what it lives on is gone."""

    session_id: str
    lose: Callable[[], None]
    start: Start


class SessionPort(Protocol):
    """What a service does for one session.

    Attributes:
        topic: where the events of its orders are published; `plan` says how they are read.
        settled: set when nothing of the session is left to be waited for once it is over.
    """

    topic: Topic[Any]
    plan: StreamPlan[Any]
    settled: asyncio.Event

    def attached(self, opened: Opened) -> None:
        """The session is open."""

    def over(self) -> None:
        """It is gone: no order may join it, and those it has are cancelled where it was asked for. Never waits."""


OpenPort = Callable[[SessionTerms, Context], Awaitable[SessionPort]]
"""Raises MeshError where the logon is refused."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """A message for this caller alone, behind what was queued before it."""

    number: int
    field: str
    message: Message


async def serve_session(
    requests: AsyncIterable[wire.OpenOrderSessionRequest],
    context: Context,
    *,
    orders: Any,
    open_port: OpenPort,
    hub: StreamHub,
) -> None:
    """Serve one call of OpenOrderSession to its end.

    Args:
        orders: has SubmitOrder, CancelOrder and ReplaceOrder of the same service.
    Raises:
        MeshError: the logon is refused; nothing was opened.
    """
    messages = aiter(requests)
    terms = parse_logon(await _first(messages))
    port = await open_port(terms, context)
    session = OrderSession(terms, hub.clock.monotonic_s())
    await _SessionStream(session, port, orders, messages, hub).run(context.write)


async def _first(messages: AsyncIterator[wire.OpenOrderSessionRequest]) -> wire.OpenOrderSessionRequest:
    try:
        async with asyncio.timeout(LOGON_WAIT_S):
            return await anext(messages)
    except StopAsyncIteration:
        rule = "is required as the first message, got none"
    except TimeoutError:
        rule = f"is required as the first message, within {LOGON_WAIT_S:g}s"
    raise InvalidRequest(f"logon: {rule}", reason=Reason.REQUIRED_FIELD_MISSING, field="logon")


class _SessionStream:
    """One session being served: a reader, a watch over the lease, a task for each request, and the writer."""

    def __init__(
        self,
        session: OrderSession,
        port: SessionPort,
        orders: Any,
        requests: AsyncIterator[wire.OpenOrderSessionRequest],
        hub: StreamHub,
    ) -> None:
        self.session = session
        self._port = port
        self._orders = orders
        self._requests = requests
        self._hub = hub
        self._clock = hub.clock
        self._subscription: Subscription[Any] | None = None
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._freed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._over = asyncio.Event()
        self._farewell_until_s = 0.0
        self._context = contextvars.Context()
        self._control = responder(wire.OpenOrderSessionResponse, lambda event: {"event": event})

    @property
    def session_id(self) -> str:
        """Set once the session is open."""
        return "" if self._subscription is None else self._subscription.stream_id

    async def run(self, write: Callable[[wire.OpenOrderSessionResponse], Awaitable[None]]) -> None:
        """Serve until the session is over and its last message is written, or the call breaks."""
        plan, accepts = self._port.plan, self._port.plan.accepts
        plan = replace(
            plan,
            method=METHOD,
            begins_now=True,
            attached=self._attached,
            accepts=lambda value: isinstance(value, _Answer) or accepts is None or accepts(value),
        )
        async with self._tasks:
            try:
                async with aclosing(self._hub.serve(self._port.topic, plan, self._respond)) as messages:
                    async for message in messages:
                        if message.WhichOneof("body") == "closing":
                            self.end(Gone(message.closing.reason))
                            await self._farewell()
                        await write(message)
            finally:
                self.end(Gone.CALL_BROKEN)
                for task in self._running:
                    task.cancel()

    def _attached(self, subscription: Subscription[Any]) -> None:
        self._subscription = subscription
        self._context = contextvars.copy_context()
        self._port.attached(
            Opened(subscription.stream_id, lose=lambda: self.end(Gone.SOURCE_LOST), start=self._start_as_caller)
        )
        terms = self.session.terms
        log.info(
            "order_session_opened",
            extra={
                "session_id": self.session_id,
                "account_id": terms.account_id,
                "cancel_on_disconnect": terms.cancel_on_disconnect,
                "lease_s": terms.lease_s,
            },
        )
        self._start(self._read(), "session/read")
        self._start(self._watch(subscription), "session/lease")

    def _start_as_caller(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self._start(work, name, self._context.copy())

    def _start(
        self, work: Coroutine[Any, Any, None], name: str, context: contextvars.Context | None = None
    ) -> asyncio.Task[None]:
        task = self._tasks.create_task(work, name=name, context=context)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    # the end

    def end(self, cause: Gone) -> None:
        """The session is over from here on, and its orders are being cancelled; the first cause counts."""
        if not self.session.end(cause):
            return
        self._farewell_until_s = self._clock.monotonic_s() + FAREWELL_S
        if self._subscription is not None:
            self._port.over()
            log.info(
                "order_session_ended",
                extra={
                    "session_id": self.session_id,
                    "account_id": self.session.terms.account_id,
                    "cause": cause.name.lower(),
                    "messages": self.session.number,
                },
            )
        self._over.set()
        self._freed.set()

    async def _watch(self, subscription: Subscription[Any]) -> None:
        """End the session when its caller is silent for too long, or cannot be told anything any more."""
        while self.session.gone is None:
            left_s = self.session.lease_left_s(self._clock.monotonic_s())
            if left_s <= 0:
                self.end(Gone.LEASE_EXPIRED)
            elif subscription.queue.overflowed:
                # The writer may be waiting for a caller that does not read: the orders must not.
                self.end(Gone.SLOW_CONSUMER)
            else:
                await self._hub.pause(self._over, min(left_s, self.session.terms.heartbeat_s))
        await self._farewell()
        subscription.end(self.session.gone.value)

    async def _farewell(self) -> None:
        """Let the last answers and the ends of the session's orders come, within a bound."""
        for event in (self._idle, self._port.settled):
            while not event.is_set() and (left_s := self._farewell_until_s - self._clock.monotonic_s()) > 0:
                await self._hub.pause(event, left_s)

    # requests

    async def _read(self) -> None:
        while self.session.gone is None:
            try:
                request = await anext(self._requests)
            except StopAsyncIteration:
                self.end(Gone.LOGGED_OUT)
                return
            except MeshError as error:
                # Not admitted, or not readable: this message alone.
                self._refuse(self.session.heard(self._clock.monotonic_s()), error)
                continue
            try:
                asked = self.session.receive(request, self._clock.monotonic_s())
            except MeshError as error:
                self._refuse(self.session.number, error)
                continue
            if asked is not None:
                await self._begin(asked)

    async def _begin(self, asked: Asked) -> None:
        """Start a request once there is room for it; the next message is read after that."""
        if not self.session.has_room(asked.kind):
            self.session.stop_listening()
            while not self.session.has_room(asked.kind) and self.session.gone is None:
                self._freed.clear()
                await self._freed.wait()
            self.session.listen(self._clock.monotonic_s())
        if self.session.gone is not None:
            self._refuse(asked.number, SessionGone("the session is over; nothing was sent"))
            return
        self.session.begin(asked)
        self._idle.clear()
        self._answering[asked.number] = self._start(self._perform(asked), f"session/{asked.kind}")

    async def _perform(self, asked: Asked) -> None:
        """One request from its deadline to its answer; whatever happens, it is answered."""
        limit_s = _LIMIT_S[asked.kind]
        if (left_s := deadlines.remaining_s()) is not None:
            limit_s = min(limit_s, left_s)
        deadlines.set_deadline(Deadline(self._clock, self._clock.monotonic_s() + limit_s))
        deadlines.set_request_id(f"{self.session_id}:{asked.number}")
        try:
            async with asyncio.timeout(max(limit_s, 0)) as scope:
                answer = await self._attempt(asked)
            self._offer(_Answer(asked.number, _FIELDS[asked.kind], answer))
        except TimeoutError:
            fault = f"no answer within {limit_s:g}s" if scope.expired() else "fault of ours: TimeoutError"
            self._refuse(asked.number, OutcomeUnknown(fault))
        except MeshError as error:
            self._refuse(asked.number, error)
        except Exception as error:
            # A fault of ours in one request must not end the session; what became of it nobody knows.
            log.exception("session_request_failed", extra={"session_id": self.session_id, "number": asked.number})
            self._refuse(asked.number, OutcomeUnknown(f"fault of ours: {type(error).__name__}"))
        finally:
            del self._answering[asked.number]
            self.session.finish(asked.number)
            self._freed.set()
            if not self.session.under_way:
                self._idle.set()

    async def _attempt(self, asked: Asked) -> Message:
        method: Callable[..., Awaitable[Message]] = getattr(self._orders, _METHODS[asked.kind])
        if isinstance(asked.message, wire.SubmitOrderRequest):
            self._bind(asked.message)
            return await method(asked.message, None)
        try:
            return await method(asked.message, None)
        except OrderNotFound:
            before = [self._answering[number] for number in self.session.submits_before(asked.number)]
            if not before:
                raise
        # It may be an order whose submit, sent earlier, is not journalled yet.
        await asyncio.wait(before)
        return await method(asked.message, None)

    def _bind(self, request: wire.SubmitOrderRequest) -> None:
        if request.session_id not in ("", self.session_id):
            raise InvalidRequest(
                f"submit.session_id: must be the session's or empty, got {request.session_id[:64]!r}",
                reason=Reason.CONTRADICTORY_FIELDS,
                field="submit.session_id",
            )
        request.session_id = self.session_id

    # answers

    def _refuse(self, number: int, error: MeshError) -> None:
        self._offer(_Answer(number, "error", element_error(error)))

    def _offer(self, answer: _Answer) -> None:
        assert self._subscription is not None, "requests are read once the session is open"
        self._subscription.offer(Entry(answer, published_ns=self._clock.now_ns()))
        if self._subscription.queue.overflowed:
            self.end(Gone.SLOW_CONSUMER)

    def _respond(self, header: stream_pb2.StreamHeader, body: Any) -> wire.OpenOrderSessionResponse:
        if isinstance(body, _Answer):
            fields: dict[str, Any] = {body.field: body.message}
            return wire.OpenOrderSessionResponse(header=header, request_number=body.number, **fields)
        message = self._control(header, body)
        if message.HasField("acknowledgement"):
            message.request_number = 1
        return message
