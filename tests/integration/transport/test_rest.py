"""REST client over real sockets: what was sent, what is unknown, what is retried, what is bounded."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from email.utils import formatdate

import pytest

from tests.fakes import ManualClock
from tests.integration.transport.servers import Recorder, http_server, refusing_port, reply
from venuemesh.clock import Clock, SystemClock
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
from venuemesh.transport.environment import Environment, EnvironmentViolation, HostGuard
from venuemesh.transport.gate import Charge, LimiterGate
from venuemesh.transport.limiter import BudgetSpec, Limiter, LimiterQueue, Priority
from venuemesh.transport.link import LinkState
from venuemesh.transport.observer import RequestOutcome
from venuemesh.transport.rest import RestClient, RestConfig, RestReply

GUARD = HostGuard(environment=Environment.SIMULATOR)


class Sleeper:
    """Notes waits instead of waiting."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)


class Bench:
    def __init__(
        self,
        url: str,
        *,
        config: RestConfig | None = None,
        gate: LimiterGate | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.recorder, self.sleeper = Recorder(), Sleeper()
        self.client = RestClient(
            url,
            guard=GUARD,
            clock=clock or SystemClock(),
            config=config,
            gate=gate,
            observer=self.recorder,
            random=lambda: 0.0,
            sleep=self.sleeper,
        )

    async def post(self, *, write: bool, timeout_s: float = 5, charge: Charge | None = None) -> RestReply:
        return await self.client.post(
            "/x", b'{"a":1}', write=write, timeout_s=timeout_s, endpoint="x", charge=charge, correlation_id="c-1"
        )

    async def failure(self, *, write: bool, timeout_s: float = 5, charge: Charge | None = None) -> MeshError:
        with pytest.raises(MeshError) as caught:
            await self.post(write=write, timeout_s=timeout_s, charge=charge)
        return caught.value

    def outcomes(self) -> list[RequestOutcome]:
        return [record.outcome for record in self.recorder.requests]


def always(answer: bytes | None) -> Callable[[bytes], Awaitable[bytes | None]]:
    async def give(_request: bytes) -> bytes | None:
        return answer

    return give


async def never(_request: bytes) -> bytes | None:
    await asyncio.Event().wait()
    return None


async def test_post_returns_the_answer_and_records_it() -> None:
    """The happy path: bytes out, bytes in, one complete record, the link live."""
    async with http_server(always(reply(body=b'{"ok":true}', x_quota="7"))) as server:
        bench = Bench(server.url)
        async with bench.client:
            answer = await bench.post(write=True)
    assert (answer.status, answer.body, answer.headers["x-quota"]) == (200, b'{"ok":true}', "7")
    assert server.requests[0].startswith(b"POST /x HTTP/1.1\r\n")
    assert server.requests[0].endswith(b'\r\n\r\n{"a":1}')
    (record,) = bench.recorder.requests
    assert (record.outcome, record.sent, record.status) == (RequestOutcome.OK, Sent.YES, 200)
    assert (record.request_body, record.response_body) == (b'{"a":1}', b'{"ok":true}')
    assert (record.correlation_id, record.endpoint, record.attempt) == ("c-1", "x", 0)
    assert record.latency_s == answer.latency_s > 0
    assert [state.state for state in bench.recorder.states] == [LinkState.LIVE]
    assert bench.client.stats.snapshot().latency_p50_s == answer.latency_s


@pytest.mark.parametrize(
    ("headers", "date_s"),
    [
        ({"date": "Fri, 20 Nov 2026 16:15:01 GMT"}, 1_795_191_301),
        ({"date": "Fri, 20 Nov 2026 16:15:01 GMT", "age": "7"}, 0),
        ({"date": "yesterday"}, 0),
        ({}, 0),
    ],
)
async def test_record_has_the_date_of_an_answer_made_for_its_request(headers: dict[str, str], date_s: int) -> None:
    """What a cache kept has the date of another request; what cannot be read is none."""
    async with http_server(always(reply(body=b"{}", **headers))) as server:
        bench = Bench(server.url)
        async with bench.client:
            await bench.post(write=False)
    assert [record.date_s for record in bench.recorder.requests] == [date_s]


async def test_get_keeps_the_query_and_reuses_the_connection() -> None:
    """Reads by GET carry their query as given; requests in a row share one connection."""
    async with http_server(always(reply())) as server, Bench(server.url).client as client:
        for _ in range(3):
            await client.get("/a/b?c=%20d&e", timeout_s=5, endpoint="a")
    assert server.requests[0].startswith(b"GET /a/b?c=%20d&e HTTP/1.1\r\n")
    assert (len(server.requests), server.connections) == (3, 1)


@pytest.mark.parametrize("write", [True, False])
async def test_post_when_connection_is_refused_reports_nothing_sent(write: bool) -> None:
    """No connection, no bytes: unavailable with sent=no, for writes too."""
    with refusing_port() as port:
        bench = Bench(f"http://127.0.0.1:{port}")
        async with bench.client:
            error = await bench.failure(write=write)
    assert type(error) is VenueUnavailable
    assert error.sent is Sent.NO
    assert bench.outcomes() == [RequestOutcome.NOT_CONNECTED] * (1 if write else 3)
    assert bench.client.stats.state() is LinkState.DOWN


async def test_post_when_tls_handshake_fails_reports_nothing_sent() -> None:
    """A failed handshake comes before the first byte of the request."""

    async def garbage(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"this is no TLS\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with listening:
        bench = Bench(f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        async with bench.client:
            error = await bench.failure(write=True)
    assert type(error) is VenueUnavailable
    assert error.sent is Sent.NO


LOSSES: dict[str, bytes | None] = {
    "closed_without_answer": None,
    "cut_in_the_head": b"HTTP/1.1 200 OK\r\nconnection: close",
    "cut_in_the_body": b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\nconnection: close\r\n\r\nhalf",
    "not_http": b"\x00\x01\x02 connection: close\r\n\r\n",
    "server_fault": reply(500, b"null"),
    "gateway_fault": reply(502),
    "redirected": reply(307, location="http://127.0.0.1:1/"),
    "not_gzip": reply(200, b"plain", content_encoding="gzip"),
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_write_when_the_reply_is_lost_is_unknown_and_never_repeated(loss: str) -> None:
    """Whatever way the answer is lost after the bytes left, a write is unknown and was sent once."""
    async with http_server(always(LOSSES[loss])) as server:
        bench = Bench(server.url)
        async with bench.client:
            error = await bench.failure(write=True)
    assert type(error) is OutcomeUnknown
    assert (error.sent, error.reason) == (Sent.MAYBE, Reason.OUTCOME_UNKNOWN)
    assert len(server.requests) == 1
    assert len(bench.recorder.requests) == 1
    assert bench.recorder.requests[0].sent in (Sent.MAYBE, Sent.YES)


async def test_write_when_no_reply_comes_in_time_is_unknown() -> None:
    """Silence after the request is no answer; what was sent may have been done."""
    async with http_server(never) as server:
        bench = Bench(server.url)
        async with bench.client:
            error = await bench.failure(write=True, timeout_s=1.5)
    assert type(error) is OutcomeUnknown
    assert len(server.requests) == 1
    assert bench.outcomes() == [RequestOutcome.LOST]


async def test_write_when_the_kept_connection_dies_at_reuse_is_unknown() -> None:
    """The keep-alive race: bytes went into a connection the server was closing, which proves nothing."""
    answers = [reply(), None]

    async def second_time_close(_request: bytes) -> bytes | None:
        return answers.pop(0)

    async with http_server(second_time_close) as server:
        bench = Bench(server.url)
        async with bench.client:
            await bench.post(write=True)
            error = await bench.failure(write=True)
    assert type(error) is OutcomeUnknown
    assert (len(server.requests), server.connections) == (2, 1)


async def test_write_when_the_caller_gives_up_is_recorded_as_maybe_sent() -> None:
    """Cancellation passes through; the record says that bytes may have left."""
    arrived = asyncio.Event()

    async def hold(_request: bytes) -> bytes | None:
        arrived.set()
        return await never(_request)

    async with http_server(hold) as server:
        bench = Bench(server.url)
        async with bench.client:
            task = asyncio.create_task(bench.post(write=True))
            async with asyncio.timeout(60):
                await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    (record,) = bench.recorder.requests
    assert (record.outcome, record.sent) == (RequestOutcome.CANCELED, Sent.MAYBE)


async def test_read_when_failing_is_repeated_with_growing_waits_until_it_succeeds() -> None:
    """Reads are repeated a bounded number of times, with the back-off between them."""
    answers = [None, reply(503), reply(body=b"[1]")]

    async def third_time_right(_request: bytes) -> bytes | None:
        return answers.pop(0)

    async with http_server(third_time_right) as server:
        bench = Bench(server.url)
        async with bench.client:
            answer = await bench.post(write=False)
    assert answer.body == b"[1]"
    assert bench.sleeper.waits == [0.05, 0.1]
    assert bench.outcomes() == [RequestOutcome.LOST, RequestOutcome.SERVER_ERROR, RequestOutcome.OK]
    assert [record.attempt for record in bench.recorder.requests] == [0, 1, 2]


async def test_read_when_failing_for_good_is_unavailable_after_the_stated_repeats() -> None:
    """The bound on repeats holds; the error says the venue answered with a fault."""
    async with http_server(always(reply(500))) as server:
        bench = Bench(server.url, config=RestConfig(read_retries=1))
        async with bench.client:
            error = await bench.failure(write=False)
    assert type(error) is VenueUnavailable
    assert error.reason is Reason.VENUE_UNAVAILABLE
    assert len(server.requests) == 2


async def test_read_when_the_named_wait_passes_the_time_out_is_not_repeated() -> None:
    """A 503 with a long Retry-After ends the call at once instead of at its time-out."""
    async with http_server(always(reply(503, retry_after="60"))) as server:
        bench = Bench(server.url)
        async with bench.client:
            error = await bench.failure(write=False)
    assert error.retry_after_s == 60
    assert (len(server.requests), bench.sleeper.waits) == (1, [])


@pytest.mark.parametrize("write", [True, False])
async def test_client_errors_are_answers_for_the_protocol(write: bool) -> None:
    """A 4xx comes back as a reply: only the protocol knows what it means."""
    async with http_server(always(reply(422, b"Failed to deserialize"))) as server:
        bench = Bench(server.url)
        async with bench.client:
            answer = await bench.post(write=write)
    assert (answer.status, answer.body) == (422, b"Failed to deserialize")
    assert bench.outcomes() == [RequestOutcome.CLIENT_ERROR]
    assert bench.client.stats.snapshot().error_rate == 0


NOW_S = 1_790_000_000


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry_after": "7"}, 7.0),
        ({}, 10.0),
        ({"retry_after": "nonsense"}, 10.0),
        ({"retry_after": formatdate(NOW_S + 42, usegmt=True)}, 42.0),
    ],
)
@pytest.mark.parametrize("write", [True, False])
async def test_429_is_rate_limited_and_closes_the_charged_budget(
    headers: dict[str, str], expected: float, write: bool
) -> None:
    """P34: a 429 is never repeated, says how long to wait, and the limiter holds to it."""
    clock = ManualClock(NOW_S * 10**9)
    budgets = [BudgetSpec(name="ip_weight", limit=100), BudgetSpec(name="other", limit=100)]
    gate = LimiterGate(LimiterQueue(Limiter(budgets)), clock)
    charge = Charge(costs={"ip_weight": 20}, priority=Priority.QUERY)
    async with http_server(always(reply(429, b"", **headers))) as server:
        bench = Bench(server.url, gate=gate, clock=clock)
        async with bench.client:
            error = await bench.failure(write=write, charge=charge)
            again = await bench.failure(write=write, charge=charge)
    assert type(error) is RateLimited
    assert (error.reason, error.sent, error.retry_after_s) == (Reason.RATE_LIMIT_VENUE, Sent.YES, expected)
    assert type(again) is RateLimited
    assert (again.reason, again.sent, again.retry_after_s) == (Reason.RATE_LIMIT_LOCAL, Sent.NO, expected)
    assert len(server.requests) == 1
    weight, other = gate.remaining()
    assert (weight.used, weight.closed_s, other.closed_s) == (20, expected, 0)


async def test_request_that_would_expire_before_there_is_room_is_refused_at_once() -> None:
    """The limiter holds it no longer than the venue would take it; without an expiry it may wait."""
    clock = ManualClock()
    gate = LimiterGate(LimiterQueue(Limiter([BudgetSpec(name="ip_weight", limit=100)])), clock)
    gate.charge("ip_weight", 100)
    charge = Charge(costs={"ip_weight": 1}, priority=Priority.ORDER)
    async with http_server(always(reply(body=b"{}"))) as server:
        client = Bench(server.url, gate=gate, clock=clock).client
        async with client:
            with pytest.raises(RateLimited) as limited:
                await client.post(
                    *("/x", b""),
                    write=True,
                    timeout_s=3_600.0,
                    endpoint="x",
                    charge=charge,
                    expires_ms=clock.now_ns() // 1_000_000 + 500,
                )
    assert limited.value.sent is Sent.NO
    assert server.requests == []


async def test_pool_when_full_makes_others_wait_and_time_out_unsent() -> None:
    """P29: never more sockets than stated; who gets none in time sent nothing, even as a write."""
    release, two_in = asyncio.Event(), asyncio.Event()

    async def hold(_request: bytes) -> bytes | None:
        if len(server.requests) == 2:
            two_in.set()
        await release.wait()
        return reply()

    async with http_server(hold) as server:
        bench = Bench(server.url, config=RestConfig(max_connections=2, max_idle_connections=1))
        async with bench.client, asyncio.timeout(60):
            held = [asyncio.create_task(bench.post(write=True)) for _ in range(6)]
            await two_in.wait()
            error = await bench.failure(write=True, timeout_s=1.5)
            assert type(error) is VenueUnavailable
            assert error.sent is Sent.NO
            assert len(server.requests) == 2
            release.set()
            answers = await asyncio.gather(*held)
    assert [answer.status for answer in answers] == [200] * 6
    assert server.open_most == 2
    assert bench.client.stats.state() is LinkState.LIVE  # a full pool says nothing about the venue


async def test_redirect_is_never_followed() -> None:
    """V5: a redirect could lead out of the environment, so its target sees no connection."""
    async with (
        http_server(always(reply())) as elsewhere,
        http_server(always(reply(302, location=elsewhere.url))) as server,
    ):
        bench = Bench(server.url)
        async with bench.client:
            assert type(await bench.failure(write=False)) is ProtocolViolation
            assert type(await bench.failure(write=True)) is OutcomeUnknown
    assert (len(server.requests), elsewhere.connections) == (2, 0)


async def test_proxy_from_the_environment_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """V5: no proxy variable can put a stranger between the link and its venue."""
    async with http_server(always(reply())) as server, http_server(always(reply(500))) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        bench = Bench(server.url)
        async with bench.client:
            await bench.post(write=True)
    assert (server.connections, proxy.connections) == (1, 0)


def test_client_outside_its_environment_is_not_even_made() -> None:
    """V5: the refusal comes before any socket."""
    with pytest.raises(EnvironmentViolation):
        RestClient("https://api.venue.example", guard=GUARD, clock=ManualClock())
    with pytest.raises(ValueError, match="base_url"):
        RestClient("http://localhost/path", guard=GUARD, clock=ManualClock())
    with pytest.raises(ValueError, match="base_url"):
        RestClient("ws://localhost", guard=GUARD, clock=ManualClock())


@pytest.mark.parametrize("compressed", [True, False])
async def test_answer_over_the_bound_is_refused(compressed: bool) -> None:
    """A huge answer, also one that is small only on the wire, cannot fill the memory."""
    huge = b"0" * 5000
    body = reply(body=gzip.compress(huge), content_encoding="gzip") if compressed else reply(body=huge)
    async with http_server(always(body)) as server:
        bench = Bench(server.url, config=RestConfig(max_response_bytes=4999))
        async with bench.client:
            assert type(await bench.failure(write=False)) is ProtocolViolation
            assert type(await bench.failure(write=True)) is OutcomeUnknown
        exact = Bench(server.url, config=RestConfig(max_response_bytes=5000))
        async with exact.client:
            assert (await exact.post(write=True)).body == huge


async def test_request_without_time_or_with_a_bad_path_is_not_sent() -> None:
    """What cannot be sent is refused before the socket."""
    async with http_server(always(reply())) as server:
        bench = Bench(server.url)
        async with bench.client:
            assert type(await bench.failure(write=True, timeout_s=0)) is DeadlineTooShort
            for path in ("x", "//evil.example/x", "/ü", "/a\r\nb", "http://evil.example"):
                with pytest.raises(ValueError, match="path"):
                    await bench.client.post(path, b"", write=True, timeout_s=1, endpoint="x")
    assert server.connections == 0


async def test_link_when_the_venue_goes_and_comes_back_says_so() -> None:
    """A refused connect takes the link down, the next answer brings it back, in order."""
    async with http_server(always(reply(connection="close"))) as server:
        bench = Bench(server.url)
        async with bench.client:
            await bench.post(write=True)
            bench.client._origin_url = bench.client._origin_url.copy_with(port=1)
            await bench.failure(write=True)
            bench.client._origin_url = bench.client._origin_url.copy_with(port=server.port)
            await bench.post(write=True)
    states = [record.state for record in bench.recorder.states]
    assert states == [LinkState.LIVE, LinkState.DOWN, LinkState.LIVE]
    assert bench.client.stats.snapshot().reconnections == 1
