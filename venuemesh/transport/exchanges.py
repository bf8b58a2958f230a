"""Requests over a socket that are answered by id: each is written at most once, and how it ended is recorded once.

The difference everything else rests on is made here: a request that certainly did not leave fails with `sent` = no;
one that may have left and has no answer is in doubt, and is never written again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from venuemesh.clock import left_s
from venuemesh.errors import MeshError, OutcomeUnknown, RateLimited, Sent, VenueUnavailable
from venuemesh.transport.in_flight import InFlight
from venuemesh.transport.limiter import Priority
from venuemesh.transport.observer import RequestOutcome, RequestRecord
from venuemesh.transport.replies import PendingReplies
from venuemesh.transport.session import Frame
from venuemesh.transport.websocket import ReconnectingSocket
from venuemesh.transport.wiring import LinkWiring

Key = TypeVar("Key")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketRequest:
    """One request, and what is known of it from its start.

    Args:
        endpoint: its bounded name in metrics and audit trail.
        write: whether it can change something at the venue: then nobody may guess what became of it.
        frame: what is written.
        body: what the audit trail keeps as the request.
        started_s, started_ns: monotonic and wall clock when it was asked for.
        expires_ms: Unix milliseconds after which the venue would refuse it: it is not held back for the limiter until
            then, to spend room on a refusal. None where it has none, or must pass in any case.
    """

    endpoint: str
    write: bool
    frame: bytes
    body: bytes
    priority: Priority
    started_s: float
    started_ns: int
    correlation_id: str = ""
    expires_ms: int | None = None


class Exchanges(Generic[Key, Answer]):
    """Everything asked over one socket.

    Args:
        in_flight: the session's table; a request is opened there before it is written.
        wiring: that of the socket.
        late_endpoint: bounded name under which answers are recorded that nobody waited for any more.
        on_late: gets an answer that came in the very moment in which its caller was cancelled.
    """

    def __init__(
        self,
        socket: ReconnectingSocket,
        in_flight: InFlight[Key],
        wiring: LinkWiring,
        *,
        late_endpoint: str,
        on_late: Callable[[Answer, Frame], None],
    ) -> None:
        self._socket = socket
        self._in_flight = in_flight
        self._name = wiring.name
        self._clock = wiring.clock
        self._observer = wiring.watcher
        self._late_endpoint = late_endpoint
        self._on_late = on_late
        self._replies: PendingReplies[Key, tuple[Answer, Frame]] = PendingReplies()

    # --- asking --------------------------------------------------------------------------------------------

    async def ask(
        self, key: Key, request: SocketRequest, timeout_s: float, on_written: Callable[[], None] | None = None
    ) -> Answer:
        """Write a request that is open in the table, and wait for its answer.

        Args:
            timeout_s: most time for sending, and for the answer counted from the request's start.
            on_written: called once the request has left, or may have; never for one that certainly has not.
        Raises:
            VenueUnavailable, RateLimited: nothing was sent (`sent` = no).
            OutcomeUnknown: a write that left, or may have, and has no answer.
            VenueUnavailable: the same of a read (`sent` = maybe).
        """
        try:
            answer, frame = await self._exchange(key, request, timeout_s, on_written)
        except asyncio.CancelledError:
            self._record(request, RequestOutcome.CANCELED, sent=Sent.MAYBE)
            raise
        except MeshError as error:
            if error.sent is not Sent.NO:
                self._record(request, RequestOutcome.LOST, sent=error.sent, detail=error.message)
            elif not isinstance(error, RateLimited):  # our own limit says nothing about the link
                self._record(request, RequestOutcome.NOT_CONNECTED, sent=Sent.NO, detail=error.message)
            raise
        self._record(request, RequestOutcome.OK, sent=Sent.YES, answer=frame.data)
        return answer

    async def _exchange(
        self, key: Key, request: SocketRequest, timeout_s: float, on_written: Callable[[], None] | None
    ) -> tuple[Answer, Frame]:
        try:
            return await self._replies.exchange(
                key,
                lambda: self._write(key, request, timeout_s, on_written),
                left_s=lambda: request.started_s + timeout_s - self._clock.monotonic_s(),
                on_late=lambda late: self._on_late(*late),
            )
        except TimeoutError:
            raise self._lost(request, f"no reply within {timeout_s:.3f} s") from None
        except _ConnectionEnded as ended:
            raise self._lost(request, f"the connection ended ({ended})") from None
        finally:
            self._in_flight.abandon(key, self._clock.monotonic_s())

    async def _write(
        self, key: Key, request: SocketRequest, timeout_s: float, on_written: Callable[[], None] | None
    ) -> None:
        send_s = min(timeout_s, left_s(self._clock, request.expires_ms))
        try:
            epoch = await self._socket.send(request.frame, priority=request.priority, timeout_s=send_s)
        except OutcomeUnknown:
            epoch = self._socket.epoch  # it may have left, and its answer may be among the frames not yet read
        except MeshError:
            self._in_flight.not_sent(key)
            raise
        if on_written is not None:
            on_written()
        if not self._in_flight.written(key, epoch):
            raise self._lost(request, "the connection ended as the request was written")

    def _lost(self, request: SocketRequest, detail: str) -> MeshError:
        message = f"{self._name}: {detail}"
        return OutcomeUnknown(message) if request.write else VenueUnavailable(message, sent=Sent.MAYBE)

    # --- what comes ----------------------------------------------------------------------------------------

    def answered(self, key: Key, answer: Answer, frame: Frame) -> bool:
        """Hand an answer to whoever waits for it. False when nobody does any more: it is late, and recorded as such."""
        if self._replies.resolve(key, (answer, frame)):
            return True
        self._observer.on_request(
            RequestRecord(
                link=self._name,
                endpoint=self._late_endpoint,
                outcome=RequestOutcome.LATE,
                write=False,
                sent=Sent.YES,
                started_ns=frame.received_ns,
                latency_s=0.0,
                request_body=b"",
                response_body=frame.data,
            )
        )
        return False

    def lost(self, keys: Iterable[Key], reason: str) -> None:
        """The connection that carried these requests ended: no answer can come."""
        for key in keys:
            self._replies.fail(key, _ConnectionEnded(reason))

    def _record(
        self, request: SocketRequest, outcome: RequestOutcome, *, sent: Sent, answer: bytes = b"", detail: str = ""
    ) -> None:
        latency_s = self._clock.monotonic_s() - request.started_s
        if outcome is not RequestOutcome.CANCELED:
            answered = outcome is RequestOutcome.OK
            self._socket.stats.request_done(failed=not answered, latency_s=latency_s if answered else None)
        self._observer.on_request(
            RequestRecord(
                link=self._name,
                endpoint=request.endpoint,
                outcome=outcome,
                write=request.write,
                sent=sent,
                started_ns=request.started_ns,
                latency_s=latency_s,
                request_body=request.body,
                response_body=answer,
                status=0 if answer else None,
                correlation_id=request.correlation_id,
                detail=detail,
            )
        )


class _ConnectionEnded(Exception):
    """What a request was waiting for cannot come any more; says why."""
