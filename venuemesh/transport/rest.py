"""HTTP/1.1 to one venue: pooled, bounded, and honest about what may have been sent.

Failures are translated here, once. The rule: a write whose first byte may have left the process and that
has no answer is `OutcomeUnknown`; only what certainly was not sent is `VenueUnavailable(sent=no)`. A
keep-alive connection that the server closes at the moment of reuse shows as a broken read after the
bytes were written, which proves nothing: for a write it is `OutcomeUnknown` too.
"""

from __future__ import annotations

import asyncio
import logging
import random as _random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import httpx

from venuemesh.clock import Clock, left_s
from venuemesh.errors import (
    DeadlineTooShort,
    MeshError,
    OutcomeUnknown,
    ProtocolViolation,
    RateLimited,
    Reason,
    Sent,
    VenueUnavailable,
)
from venuemesh.transport.backoff import BackoffPolicy
from venuemesh.transport.environment import HostGuard, Target
from venuemesh.transport.gate import Charge, LimiterGate
from venuemesh.transport.link import LinkState, LinkStats
from venuemesh.transport.observer import Observer, RequestOutcome, RequestRecord, SafeObserver, StateRecord
from venuemesh.transport.retry_after import parse_retry_after
from venuemesh.transport.tls import client_context, empty_context

# Raised by httpx before the request's first byte: no connection was made, or none was free in the pool.
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
log = logging.getLogger(__name__)

_FIRST_BYTE_EVENT = "http11.send_request_headers.started"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestConfig:
    """Bounds of one client.

    Args:
        max_connections: most sockets open at once; further requests wait within their time-out.
        max_idle_connections: most sockets kept open for the next request.
        idle_expiry_s: idle sockets are dropped after this long; keep it below the venue's own time-out.
        connect_timeout_s: most time for one connect, within the request's own time-out.
        max_response_bytes: a longer answer (after decompression) is refused.
        read_retries: how often a failed read is repeated; writes never are.
        retry_backoff: waits between repeats.
        default_retry_after_s: wait after a 429 that names none.
    """

    max_connections: int = 16
    max_idle_connections: int = 8
    idle_expiry_s: float = 20.0
    connect_timeout_s: float = 5.0
    max_response_bytes: int = 32 * 1024 * 1024
    read_retries: int = 2
    retry_backoff: BackoffPolicy = field(default_factory=lambda: BackoffPolicy(initial_s=0.05, cap_s=1.0))
    default_retry_after_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RestReply:
    """An answer below 500 other than 429; what a 4xx means is for the protocol to say."""

    status: int
    body: bytes
    headers: Mapping[str, str]  # names in lower case
    latency_s: float


@dataclass(slots=True, kw_only=True)
class _Attempt:
    """What is known about one attempt while it runs."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]
    write: bool
    endpoint: str
    correlation_id: str
    charge: Charge | None
    number: int
    started_s: float
    started_ns: int
    first_byte: bool = False

    async def trace(self, event: str, _info: Mapping[str, object]) -> None:
        if event == _FIRST_BYTE_EVENT:
            self.first_byte = True


class RestClient:
    """Requests to one origin. Use as an async context manager, or call `aclose`.

    Args:
        base_url: `scheme://host[:port]`, without a path; checked by `guard` here, before any socket.
        guard: refuses hosts outside the environment.
        clock: wall clock for records, monotonic for latencies.
        name: the link's name in records.
        config: bounds.
        gate: rate limiter, asked when a request names a `charge`; a 429 closes the charged budgets.
        stats: link statistics to feed.
        observer: told of every attempt.
        headers: sent with every request.
        random, sleep: chance and waiting between repeated reads, injected for tests.
    Raises:
        EnvironmentViolation: the URL lies outside the guard's environment.
    """

    def __init__(
        self,
        base_url: str,
        *,
        guard: HostGuard,
        clock: Clock,
        name: str = "rest",
        config: RestConfig | None = None,
        gate: LimiterGate | None = None,
        stats: LinkStats | None = None,
        observer: Observer | None = None,
        headers: Mapping[str, str] | None = None,
        random: Callable[[], float] = _random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._target = _origin(guard, base_url)
        self._clock = clock
        self._name = name
        self._config = config or RestConfig()
        self._gate = gate
        self.stats = stats or LinkStats(clock)
        self._observer = SafeObserver(*([observer] if observer is not None else []))
        self._random = random
        self._sleep = sleep
        self._origin_url = httpx.URL(self._target.origin)
        self._client = self._build_client(headers or {})

    def _build_client(self, headers: Mapping[str, str]) -> httpx.AsyncClient:
        limits = httpx.Limits(
            max_connections=self._config.max_connections,
            max_keepalive_connections=self._config.max_idle_connections,
            keepalive_expiry=self._config.idle_expiry_s,
        )
        tls = client_context() if self._target.scheme == "https" else empty_context()
        return httpx.AsyncClient(
            http2=False,
            verify=tls,
            limits=limits,
            headers={"content-type": "application/json", **headers},
            follow_redirects=False,
            trust_env=False,  # no proxy from the environment may stand between us and the venue
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def post(
        self,
        path: str,
        body: bytes,
        *,
        write: bool,
        timeout_s: float,
        endpoint: str,
        charge: Charge | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str = "",
        expires_ms: int | None = None,
    ) -> RestReply:
        """POST `body`; see `request`."""
        return await self.request(
            "POST",
            path,
            body,
            write=write,
            timeout_s=timeout_s,
            endpoint=endpoint,
            charge=charge,
            headers=headers,
            correlation_id=correlation_id,
            expires_ms=expires_ms,
        )

    async def get(
        self,
        path: str,
        *,
        timeout_s: float,
        endpoint: str,
        charge: Charge | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str = "",
    ) -> RestReply:
        """GET `path` (with its query string), a read; see `request`."""
        return await self.request(
            "GET",
            path,
            b"",
            write=False,
            timeout_s=timeout_s,
            endpoint=endpoint,
            charge=charge,
            headers=headers,
            correlation_id=correlation_id,
        )

    async def request(
        self,
        method: str,
        path: str,
        body: bytes,
        *,
        write: bool,
        timeout_s: float,
        endpoint: str,
        charge: Charge | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str = "",
        expires_ms: int | None = None,
    ) -> RestReply:
        """One request, within `timeout_s` seconds for everything: limiter, pool, connect, answer, repeats.

        Args:
            path: absolute path with its query string, already escaped.
            write: whether the venue's state may change. Writes are sent at most once.
            endpoint: short bounded name for records, such as `exchange.order`.
            charge: what the limiter takes for each attempt.
            headers: in addition to the client's own.
            correlation_id: goes into the records.
            expires_ms: Unix milliseconds after which the venue would refuse it; the limiter holds it no longer.
        Raises:
            VenueUnavailable: nothing was sent (`sent=no`), or a read failed for good.
            OutcomeUnknown: a write may have reached the venue and has no readable answer.
            RateLimited: by our limiter (`sent=no`) or the venue's 429 (`sent=yes`), with `retry_after_s`.
            DeadlineTooShort: no time is left to begin.
            ProtocolViolation: a read was redirected or answered beyond the size bound.
            ValueError: `path` is not an absolute path in ASCII.
        """
        if not path.startswith("/") or path.startswith("//") or not path.isascii() or not path.isprintable():
            raise ValueError(f"not an absolute ASCII path: {path!r}")
        ends_s = self._clock.monotonic_s() + timeout_s
        retries = 0 if write else self._config.read_retries
        number = 0
        while True:
            await self._pass_gate(charge, min(ends_s - self._clock.monotonic_s(), left_s(self._clock, expires_ms)))
            attempt = _Attempt(
                method=method,
                path=path,
                body=body,
                headers=headers or {},
                write=write,
                endpoint=endpoint,
                correlation_id=correlation_id,
                charge=charge,
                number=number,
                started_s=self._clock.monotonic_s(),
                started_ns=self._clock.now_ns(),
            )
            try:
                return await self._attempt(attempt, ends_s - attempt.started_s)
            except VenueUnavailable as error:
                pause_s = self._config.retry_backoff.delay_s(number, self._random())
                pause_s = max(pause_s, error.retry_after_s or 0.0)
                if number >= retries or self._clock.monotonic_s() + pause_s >= ends_s:
                    raise
            number += 1
            await self._sleep(pause_s)

    async def _pass_gate(self, charge: Charge | None, wait_s: float) -> None:
        if self._gate is not None and charge is not None:
            await self._gate.acquire_all(charge, wait_s)

    async def _attempt(self, attempt: _Attempt, time_left_s: float) -> RestReply:
        if time_left_s <= 0:
            raise DeadlineTooShort(f"no time left to send {attempt.endpoint}")
        try:
            async with asyncio.timeout(time_left_s):
                response, body = await self._exchange(attempt, time_left_s)
        except TimeoutError as error:
            raise self._no_answer(attempt, error, certain=not attempt.first_byte) from error
        except (httpx.DecodingError, _TooLarge) as error:
            raise self._unreadable(attempt, str(error)) from error
        except (httpx.RequestError, OSError) as error:
            certain = not attempt.first_byte and isinstance(error, _NOTHING_SENT)
            raise self._no_answer(attempt, error, certain=certain) from error
        except asyncio.CancelledError:
            sent = Sent.MAYBE if attempt.first_byte else Sent.NO
            self._record(attempt, RequestOutcome.CANCELED, sent=sent)
            raise
        except Exception as error:
            # A fault of ours or of a library, never expected. With bytes out the outcome is still unknown.
            log.exception("request_fault", extra={"link": self._name, "endpoint": attempt.endpoint})
            if not attempt.first_byte:
                raise
            raise self._no_answer(attempt, error, certain=False) from error
        return self._judge(attempt, response, body)

    async def _exchange(self, attempt: _Attempt, time_left_s: float) -> tuple[httpx.Response, bytes]:
        # The whole is bounded by the caller's `asyncio.timeout`; only the connect has a bound of its own.
        timeout = httpx.Timeout(None, connect=min(self._config.connect_timeout_s, time_left_s))
        request = self._client.build_request(
            attempt.method,
            self._origin_url.copy_with(raw_path=attempt.path.encode("ascii")),
            content=attempt.body or None,
            headers=dict(attempt.headers),
            timeout=timeout,
            extensions={"trace": attempt.trace},
        )
        response = await self._client.send(request, stream=True)
        try:
            return response, await self._read_body(response)
        finally:
            await response.aclose()

    async def _read_body(self, response: httpx.Response) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > self._config.max_response_bytes:
                raise _TooLarge(f"answer exceeds {self._config.max_response_bytes} bytes")
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _judge(self, attempt: _Attempt, response: httpx.Response, body: bytes) -> RestReply:
        status = response.status_code
        self._reached()
        if status == httpx.codes.TOO_MANY_REQUESTS:
            raise self._rate_limited(attempt, response, body)
        if status >= 500:
            self._record(attempt, RequestOutcome.SERVER_ERROR, status=status, body=body)
            message = f"{attempt.endpoint}: the venue answered {status}"
            if attempt.write:
                raise OutcomeUnknown(message, metadata={"http_status": str(status)})
            raise VenueUnavailable(
                message,
                reason=Reason.VENUE_UNAVAILABLE,
                sent=Sent.YES,
                retry_after_s=self._retry_after_s(response),
                metadata={"http_status": str(status)},
            )
        if not 200 <= status < 300 and status < 400:
            raise self._unreadable(attempt, f"status {status}; redirects are not followed", status, body)
        outcome = RequestOutcome.OK if status < 300 else RequestOutcome.CLIENT_ERROR
        latency_s = self._record(attempt, outcome, status=status, body=body, date_s=_date_s(response))
        return RestReply(status=status, body=body, headers=response.headers, latency_s=latency_s)

    def _rate_limited(self, attempt: _Attempt, response: httpx.Response, body: bytes) -> RateLimited:
        self._record(attempt, RequestOutcome.RATE_LIMITED, status=response.status_code, body=body)
        named_s = self._retry_after_s(response)
        wait_s = self._config.default_retry_after_s if named_s is None else named_s
        if self._gate is not None and attempt.charge is not None:
            self._gate.penalise(attempt.charge.costs, wait_s)
        return RateLimited(
            f"{attempt.endpoint}: the venue's limit is spent; wait {wait_s:.3f} s",
            reason=Reason.RATE_LIMIT_VENUE,
            sent=Sent.YES,
            retry_after_s=wait_s,
        )

    def _retry_after_s(self, response: httpx.Response) -> float | None:
        return parse_retry_after(
            response.headers.get("retry-after"),
            date=response.headers.get("date"),
            now_ns=self._clock.now_ns(),
        )

    def _no_answer(self, attempt: _Attempt, error: Exception, *, certain: bool) -> MeshError:
        detail = f"{type(error).__name__}: {error}".removesuffix(": ")
        if certain:
            self._record(attempt, RequestOutcome.NOT_CONNECTED, sent=Sent.NO, detail=detail)
            if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
                self._unreachable(detail)
            return VenueUnavailable(f"{attempt.endpoint}: nothing was sent ({detail})", sent=Sent.NO)
        self._record(attempt, RequestOutcome.LOST, sent=Sent.MAYBE, detail=detail)
        if attempt.write:
            return OutcomeUnknown(f"{attempt.endpoint}: the answer was lost ({detail})")
        return VenueUnavailable(f"{attempt.endpoint}: no answer ({detail})", sent=Sent.MAYBE)

    def _reached(self) -> None:
        if not self.stats.connected:
            self.stats.connect_succeeded()
            self._tell(LinkState.LIVE, "")

    def _unreachable(self, detail: str) -> None:
        was_connected = self.stats.connected
        self.stats.disconnected(detail)
        self.stats.connect_failed(detail)
        if was_connected:
            self._tell(LinkState.DOWN, detail)

    def _tell(self, state: LinkState, detail: str) -> None:
        at_ns = self._clock.now_ns()
        self._observer.on_state(StateRecord(link=self._name, state=state, at_ns=at_ns, detail=detail))

    def _unreadable(self, attempt: _Attempt, detail: str, status: int | None = None, body: bytes = b"") -> MeshError:
        self._record(attempt, RequestOutcome.UNEXPECTED, status=status, body=body, detail=detail)
        if attempt.write:
            return OutcomeUnknown(f"{attempt.endpoint}: the answer cannot be read ({detail})")
        return ProtocolViolation(f"{attempt.endpoint}: {detail}", sent=Sent.YES)

    def _record(
        self,
        attempt: _Attempt,
        outcome: RequestOutcome,
        *,
        sent: Sent = Sent.YES,
        status: int | None = None,
        body: bytes = b"",
        detail: str = "",
        date_s: int = 0,
    ) -> float:
        latency_s = self._clock.monotonic_s() - attempt.started_s
        if outcome is not RequestOutcome.CANCELED:
            # A 4xx is an answer about the request; it says nothing bad about the link.
            good = outcome in (RequestOutcome.OK, RequestOutcome.CLIENT_ERROR)
            self.stats.request_done(failed=not good, latency_s=latency_s if status is not None else None)
        self._observer.on_request(
            RequestRecord(
                link=self._name,
                endpoint=attempt.endpoint,
                outcome=outcome,
                write=attempt.write,
                sent=sent,
                started_ns=attempt.started_ns,
                latency_s=latency_s,
                request_body=attempt.body,
                response_body=body,
                status=status,
                attempt=attempt.number,
                correlation_id=attempt.correlation_id,
                detail=detail,
                target=f"{attempt.method} {attempt.path}",
                date_s=date_s,
            )
        )
        return latency_s


class _TooLarge(Exception):
    """The answer passes the bound."""


def _date_s(response: httpx.Response) -> int:
    """The `Date` of an answer that was made for this request; a cache's is that of an older one."""
    if "age" in response.headers:
        return 0
    try:
        return int(parsedate_to_datetime(response.headers.get("date", "")).timestamp())
    except (ValueError, OverflowError):
        return 0


def _origin(guard: HostGuard, base_url: str) -> Target:
    target = guard.check(base_url)
    if target.scheme not in ("http", "https") or target.path != "/" or target.query:
        raise ValueError(f"base_url must be http(s)://host[:port] without a path, got {target.url}")
    return target
