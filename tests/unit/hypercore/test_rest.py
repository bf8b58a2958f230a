"""Reads and actions over real loopback HTTP: what each failure proves, and what each request costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from hypercore import actions
from hypercore.action_types import Tif
from hypercore.exchange_codec import Accepted, Refused, Resting
from hypercore.limits import IP_WEIGHT, budget_specs
from hypercore.rest import FILLS_PER_PAGE, HyperCoreRest
from hypercore.signing import Network, SecretKey, SignedAction, Signer, recover_signer
from tests.unit.hypercore import vectors
from tests.unit.hypercore.shapes import FILL
from venuemesh.clock import SystemClock
from venuemesh.errors import (
    AuthenticationFailed,
    InvalidRequest,
    MeshError,
    OutcomeUnknown,
    ProtocolViolation,
    RateLimited,
    Reason,
    Sent,
    VenueUnavailable,
)
from venuemesh.transport.backoff import BackoffPolicy
from venuemesh.transport.environment import Environment, HostGuard
from venuemesh.transport.gate import LimiterGate
from venuemesh.transport.limiter import Limiter, LimiterQueue
from venuemesh.transport.rest import RestClient, RestConfig

USER = "0x" + "ab" * 20
SIGNER = Signer(SecretKey(vectors.K1), Network.TESTNET)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Venue:
    """A loopback HTTP server that answers as told and keeps the requests."""

    handler: Handler
    bodies: list[Any] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        return await self.handler(request)


def says_text(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Handler:
    """A handler with one answer, sent as it is."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status, headers=headers)

    return handler


def says(body: Any) -> Handler:
    """A handler with one JSON answer."""
    return says_text(json.dumps(body))


async def resets(request: web.Request) -> web.StreamResponse:
    """The connection breaks after the request was read."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def stalls(request: web.Request) -> web.StreamResponse:
    """No answer while the client waits."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@asynccontextmanager
async def running(handler: Handler) -> AsyncIterator[Venue]:
    venue = Venue(handler)
    app = web.Application()
    app.router.add_post("/info", venue.answer)
    app.router.add_post("/exchange", venue.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    venue.url = f"http://{host}:{port}"
    try:
        yield venue
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client_of(url: str, gate: LimiterGate | None = None) -> AsyncIterator[HyperCoreRest]:
    guard = HostGuard(environment=Environment.SIMULATOR)
    config = RestConfig(read_retries=0, retry_backoff=BackoffPolicy(initial_s=0.001, cap_s=0.002))
    async with RestClient(url, guard=guard, clock=SystemClock(), config=config, gate=gate) as client:
        yield HyperCoreRest(client, gate=gate, read_timeout_s=2.0)


def an_order() -> SignedAction:
    order = actions.build_order(
        asset_id=4,
        is_buy=True,
        price=Decimal("1500.0"),
        size=Decimal("1.0"),
        order_type=actions.limit(Tif.GTC),
        cloid="0x00000000000000000000000000000001",
    )
    return SIGNER.sign(actions.build_order_action([order]), 1_790_000_000_000)


OK = {"status": "ok", "response": {"type": "order", "data": {"statuses": [{"resting": {"oid": 5}}]}}}


async def test_send_action_posts_what_was_signed_and_returns_the_typed_answer() -> None:
    """The body that arrives recovers our signer; the answer is typed."""
    async with running(says(OK)) as venue, client_of(venue.url) as rest:
        answer = await rest.send_action(an_order())
    assert answer == Accepted(kind="order", statuses=(Resting(oid=5),))
    (body,) = venue.bodies
    received = SignedAction(
        action=body["action"],
        nonce=body["nonce"],
        signature=an_order().signature.__class__(**body["signature"]),
        vault_address=body["vaultAddress"],
        expires_after=body["expiresAfter"],
    )
    assert recover_signer(received, Network.TESTNET) == SIGNER.address


async def test_send_action_refused_by_the_venue_is_an_answer() -> None:
    """HTTP 200 with `status: err` is data."""
    refusal = {"status": "err", "response": "Nonce mismatch."}
    async with running(says(refusal)) as venue, client_of(venue.url) as rest:
        answer = await rest.send_action(an_order())
    assert isinstance(answer, Refused)
    assert answer.meaning.reason is Reason.NONCE_REJECTED


@pytest.mark.parametrize(
    "handler",
    [
        says_text("null", 500),
        says_text("<html>bad gateway</html>", 502),
        says_text("", 504),
        says_text("slow hop", 408),
        says_text("conflict", 409),
        says_text("not json"),
        says({"status": "ok"}),
        says_text(""),
        resets,
    ],
    ids=["500", "502", "504", "408", "409", "not json", "half an answer", "empty", "reset"],
)
async def test_send_action_without_a_readable_answer_is_outcome_unknown_and_sent_once(handler: Handler) -> None:
    """Whatever leaves doubt is said to be in doubt, and never sent again."""
    async with running(handler) as venue, client_of(venue.url) as rest:
        with pytest.raises(OutcomeUnknown) as caught:
            await rest.send_action(an_order())
    assert caught.value.sent is Sent.MAYBE
    assert len(venue.bodies) == 1


async def test_send_action_without_an_answer_in_time_is_outcome_unknown() -> None:
    """A time-out after the bytes left proves nothing."""
    async with running(stalls) as venue, client_of(venue.url) as rest:
        with pytest.raises(OutcomeUnknown):
            await rest.send_action(an_order(), timeout_s=1.5)


async def test_send_action_when_nothing_listens_is_unavailable_and_not_sent() -> None:
    """A refused connect proves that nothing was sent."""
    async with running(says(OK)) as venue:
        url = venue.url
    async with client_of(url) as rest:
        with pytest.raises(VenueUnavailable) as caught:
            await rest.send_action(an_order())
    assert caught.value.sent is Sent.NO


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (422, "Failed to deserialize the JSON body into the target type: missing field", InvalidRequest),
        (400, "bad", InvalidRequest),
        (413, "too large", InvalidRequest),
        (403, "forbidden", AuthenticationFailed),
    ],
)
async def test_send_action_refused_unread_keeps_the_venues_text(status: int, text: str, error: type[MeshError]) -> None:
    """The request was never acted upon; the text says why."""
    async with running(says_text(text, status)) as venue, client_of(venue.url) as rest:
        with pytest.raises(error) as caught:
            await rest.send_action(an_order())
    assert caught.value.metadata["payload"] == text
    assert caught.value.sent is Sent.YES


async def test_send_action_over_the_venues_limit_says_how_long_to_wait() -> None:
    """429 with Retry-After."""
    async with running(says_text("slow down", 429, {"Retry-After": "7"})) as venue, client_of(venue.url) as rest:
        with pytest.raises(RateLimited) as caught:
            await rest.send_action(an_order())
    assert caught.value.retry_after_s == 7.0
    assert caught.value.reason is Reason.RATE_LIMIT_VENUE


def a_gate() -> LimiterGate:
    return LimiterGate(LimiterQueue(Limiter(budget_specs())), SystemClock())


def used(gate: LimiterGate) -> int:
    return next(view.used for view in gate.remaining() if view.name == IP_WEIGHT)


async def test_requests_charge_their_weight_and_their_rows() -> None:
    """2 for a light read, 20 + 1 per started twenty rows for fills, 1 for an action, 2 from 40 entries on."""
    gate = a_gate()
    async with running(says([FILL] * 21)) as venue, client_of(venue.url, gate) as rest:
        await rest.fetch_fills(USER)
        assert used(gate) == 22
        venue.handler = says({"BTC": "1.0"})
        await rest.fetch_all_mids()
        assert used(gate) == 24
        venue.handler = says(OK)
        await rest.send_action(an_order())
        assert used(gate) == 25
        venue.handler = says({"status": "ok", "response": {"type": "cancel", "data": {"statuses": []}}})
        await rest.send_action(SIGNER.sign(actions.build_cancel([(0, 1)] * 40), 1))
        assert used(gate) == 27


async def test_cancel_passes_when_reads_have_spent_their_part() -> None:
    """Reads stop at their ceiling; a cancel still goes out."""
    gate = a_gate()
    async with running(says({"BTC": "1.0"})) as venue, client_of(venue.url, gate) as rest:
        gate.charge(IP_WEIGHT, 1_100)
        with pytest.raises(RateLimited) as caught:
            await rest.fetch_all_mids()
        assert caught.value.sent is Sent.NO
        assert venue.bodies == []
        venue.handler = says({"status": "ok", "response": {"type": "cancel", "data": {"statuses": ["success"]}}})
        await rest.send_action(SIGNER.sign(actions.build_cancel([(0, 1)]), 1))


READS: list[tuple[str, tuple[Any, ...], dict[str, Any], dict[str, Any], Any]] = [
    ("fetch_all_mids", (), {}, {"type": "allMids", "dex": ""}, {}),
    ("fetch_all_mids", ("xyz",), {}, {"type": "allMids", "dex": "xyz"}, {}),
    ("fetch_l2_book", ("NOPE",), {}, {"type": "l2Book", "coin": "NOPE"}, None),
    (
        "fetch_l2_book",
        ("BTC",),
        {"n_sig_figs": 5, "mantissa": 2},
        {"type": "l2Book", "coin": "BTC", "nSigFigs": 5, "mantissa": 2},
        {"coin": "BTC", "time": 1, "levels": [[], []]},
    ),
    (
        "fetch_candles",
        ("BTC", "1h"),
        {"start_ms": 1, "end_ms": 2},
        {"type": "candleSnapshot", "req": {"coin": "BTC", "interval": "1h", "startTime": 1, "endTime": 2}},
        [],
    ),
    ("fetch_recent_trades", ("BTC",), {}, {"type": "recentTrades", "coin": "BTC"}, []),
    (
        "fetch_funding_history",
        ("BTC",),
        {"start_ms": 1},
        {"type": "fundingHistory", "coin": "BTC", "startTime": 1},
        [],
    ),
    ("fetch_open_orders", (USER, "xyz"), {}, {"type": "frontendOpenOrders", "user": USER, "dex": "xyz"}, []),
    ("fetch_order_status", (USER, 5), {}, {"type": "orderStatus", "user": USER, "oid": 5}, {"status": "unknownOid"}),
    (
        "fetch_order_status",
        (USER, "0x" + "0" * 32),
        {},
        {"type": "orderStatus", "user": USER, "oid": "0x" + "0" * 32},
        {"status": "unknownOid"},
    ),
    ("fetch_historical_orders", (USER,), {}, {"type": "historicalOrders", "user": USER}, []),
    (
        "fetch_fills_by_time",
        (USER,),
        {"start_ms": 1, "end_ms": 2},
        {"type": "userFillsByTime", "user": USER, "startTime": 1, "endTime": 2},
        [],
    ),
    (
        "fetch_funding_payments",
        (USER,),
        {"start_ms": 1},
        {"type": "userFunding", "user": USER, "startTime": 1},
        [],
    ),
    (
        "fetch_ledger_updates",
        (USER,),
        {"start_ms": 1},
        {"type": "userNonFundingLedgerUpdates", "user": USER, "startTime": 1},
        [],
    ),
    ("fetch_role", (USER,), {}, {"type": "userRole", "user": USER}, {"role": "missing"}),
    ("fetch_abstraction", (USER,), {}, {"type": "userAbstraction", "user": USER}, "default"),
    ("fetch_extra_agents", (USER,), {}, {"type": "extraAgents", "user": USER}, []),
    ("fetch_sub_accounts", (USER,), {}, {"type": "subAccounts", "user": USER}, None),
    ("fetch_spot_state", (USER,), {}, {"type": "spotClearinghouseState", "user": USER}, {"balances": []}),
    ("fetch_twap_history", (USER,), {}, {"type": "twapHistory", "user": USER}, []),
    (
        "fetch_perps_at_open_interest_cap",
        ("xyz",),
        {},
        {"type": "perpsAtOpenInterestCap", "dex": "xyz"},
        ["xyz:A"],
    ),
    ("fetch_exchange_status", (), {}, {"type": "exchangeStatus"}, {"time": 1, "specialStatuses": None}),
    ("fetch_perp_dexs", (), {}, {"type": "perpDexs"}, [None]),
]


@pytest.mark.parametrize(("method", "args", "kwargs", "request_body", "answer"), READS)
async def test_fetch_sends_the_documented_request(
    method: str, args: tuple[Any, ...], kwargs: dict[str, Any], request_body: dict[str, Any], answer: Any
) -> None:
    """Names and nesting of the fields; unset options are left out."""
    async with running(says(answer)) as venue, client_of(venue.url) as rest:
        await getattr(rest, method)(*args, **kwargs)
    assert venue.bodies == [request_body]


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (says_text("null", 500), VenueUnavailable),
        (says_text("what?", 422), InvalidRequest),
        (says_text("no", 403), AuthenticationFailed),
        (says_text("teapot", 418), ProtocolViolation),
        (says_text("not json"), ProtocolViolation),
        (says({"BTC": 5, "ETH": []}), ProtocolViolation),
        (resets, VenueUnavailable),
    ],
    ids=["500", "422", "403", "418", "not json", "ill-typed", "reset"],
)
async def test_fetch_failing_is_a_typed_error(handler: Handler, error: type[MeshError]) -> None:
    """Reads never look like an empty answer."""
    async with running(handler) as venue, client_of(venue.url) as rest:
        with pytest.raises(error):
            await rest.fetch_all_mids()


async def test_fetch_order_status_without_its_order_is_a_protocol_violation() -> None:
    """Only `unknownOid` means that the venue does not know the order."""
    async with running(says({"status": "order"})) as venue, client_of(venue.url) as rest:
        with pytest.raises(ProtocolViolation):
            await rest.fetch_order_status(USER, 5)


def fills_at(times: list[int]) -> list[dict[str, Any]]:
    return [{**FILL, "time": time, "tid": 1_000_000 + n, "oid": n} for n, time in enumerate(times)]


async def test_fetch_fills_since_reads_all_pages_and_each_fill_once() -> None:
    """Pages overlap at their borders: the start time of the next is the last time of the one before."""
    everything = fills_at([1_000 + n // 3 for n in range(2 * FILLS_PER_PAGE + 500)])

    async def pages(request: web.Request) -> web.StreamResponse:
        start = (await request.json())["startTime"]
        return web.json_response([fill for fill in everything if fill["time"] >= start][:FILLS_PER_PAGE])

    async with running(pages) as venue, client_of(venue.url) as rest:
        found = await rest.fetch_fills_since(USER, start_ms=1_000)
    assert [fill.tid for fill in found] == [fill["tid"] for fill in everything]
    assert [body["startTime"] for body in venue.bodies] == [1_000, 1_666, 2_332]


async def test_fetch_fills_since_that_cannot_pass_one_millisecond_is_refused() -> None:
    """A page full of one instant hides what follows: better no answer than half of one."""
    async with running(says(fills_at([1_000] * FILLS_PER_PAGE))) as venue, client_of(venue.url) as rest:
        with pytest.raises(ProtocolViolation):
            await rest.fetch_fills_since(USER, start_ms=1_000)
    assert len(venue.bodies) == 1


async def test_fetch_universe_reads_the_lists_it_needs() -> None:
    """spotMeta for the collateral, perpDexs for the numbers, one meta per dex."""
    row = {"szDecimals": 3, "maxLeverage": 20, "marginTableId": 20}
    token = {"name": "USDC", "szDecimals": 8, "weiDecimals": 8, "index": 0, "tokenId": "0x6d"}
    lists: dict[str, Any] = {
        "spotMeta": {"universe": [], "tokens": [token]},
        "perpDexs": [
            None,
            {"name": "flx", "fullName": "", "deployer": "0x"},
            {"name": "xyz", "fullName": "", "deployer": ""},
        ],
        "meta": {"universe": [{"name": "xyz:TSLA", **row}], "collateralToken": 0},
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(lists[(await request.json())["type"]])

    async with running(answer) as venue, client_of(venue.url) as rest:
        universe = await rest.fetch_universe(["xyz"], include_spot=False)
    assert universe.by_symbol("TSLA/USDC:USDC").asset_id == 120_000
    assert {"type": "meta", "dex": "xyz"} in venue.bodies


async def test_fetch_fills_since_keeps_fills_that_have_no_trade_id() -> None:
    """Rows of 2023 lack the id and dust conversions share id 0: only equal rows are one."""
    bare = {key: value for key, value in FILL.items() if key != "tid"}
    rows = [{**bare, "sz": "0.1"}, {**bare, "sz": "0.2"}, {**bare, "tid": 0}, {**bare, "tid": 0, "sz": "0.3"}]
    async with running(says(rows)) as venue, client_of(venue.url) as rest:
        found = await rest.fetch_fills_since(USER, start_ms=0)
    assert len(found) == len(rows)
