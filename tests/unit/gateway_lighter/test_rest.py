"""Reads and transactions over real loopback HTTP: what each failure proves, and what each request costs."""

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

from gateway_lighter.codec_verdicts import Queued, TransactionState
from gateway_lighter.limits import REST, TRANSACTIONS, Tier, TierLimits
from gateway_lighter.refusals import FIREWALL_WAIT_S, RefusalMeaning
from gateway_lighter.rest import MAX_PAGES, ROWS_PER_PAGE, LighterRest
from gateway_lighter.signing import TokenSource
from tests.fakes import ManualClock
from tests.unit.gateway_lighter.support import ACCOUNT, API_KEY, FIXTURES, ORDER, SIGNER, recording
from tests.unit.gateway_lighter.test_codec import TRADE
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
from venuemesh.transport.environment import Environment, HostGuard
from venuemesh.transport.gate import LimiterGate
from venuemesh.transport.limiter import Limiter, LimiterQueue
from venuemesh.transport.rest import RestClient, RestConfig

SIGNED = SIGNER.sign(ORDER, nonce=1, expired_at_ms=1)
SECOND = SIGNER.sign(ORDER, nonce=2, expired_at_ms=1)
OK = {"code": 200, "message": '{"ratelimit": "Ratelimit is off"}', "tx_hash": SIGNED.tx_hash}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Venue:
    """A loopback HTTP server that answers as told and keeps the requests."""

    handler: Handler
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.requests.append(
            {
                "path": request.path,
                "query": dict(request.query),
                "form": form,
                "authorization": request.headers.get("authorization"),
            }
        )
        return await self.handler(request)


def says(body: Any, status: int = 200) -> Handler:
    """A handler with one answer: JSON, or text as it is."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text=body if isinstance(body, str) else json.dumps(body), status=status)

    return handler


async def resets(request: web.Request) -> web.StreamResponse:
    """The connection breaks after the request was read."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def gate_of(limits: TierLimits) -> LimiterGate:
    """A gate over a tier's budgets."""
    return LimiterGate(LimiterQueue(Limiter(limits.budget_specs())), SystemClock())


@asynccontextmanager
async def connected(
    handler: Handler, *, limits: TierLimits | None = None, gate: LimiterGate | None = None, tokens: bool = True
) -> AsyncIterator[tuple[Venue, LighterRest]]:
    """A server and a client of it."""
    venue = Venue(handler)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", venue.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    venue.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    guard = HostGuard(environment=Environment.SIMULATOR)
    try:
        async with (
            asyncio.timeout(60),
            RestClient(
                venue.url, guard=guard, clock=SystemClock(), gate=gate, config=RestConfig(read_retries=0)
            ) as client,
        ):
            source = TokenSource(SIGNER, ManualClock()) if tokens else None
            yield venue, LighterRest(client, tokens=source, limits=limits, gate=gate)
    finally:
        await runner.cleanup()


# --- transactions ------------------------------------------------------------------------------------------


async def test_transaction_goes_out_as_the_form_the_venue_reads() -> None:
    """tx_type and tx_info, urlencoded, without a token: the signature is the authority."""
    async with connected(says(OK)) as (venue, rest):
        answer = await rest.send_transactions([SIGNED])
        assert isinstance(answer, Queued) and answer.tx_hashes == (SIGNED.tx_hash,)
        (request,) = venue.requests
        assert request["path"] == "/api/v1/sendTx"
        assert request["form"] == {"tx_type": "14", "tx_info": SIGNED.tx_info}
        assert request["authorization"] is None


async def test_batch_goes_out_as_two_json_strings() -> None:
    """And is acknowledged hash by hash."""
    body = {"code": 200, "tx_hash": [SIGNED.tx_hash, SECOND.tx_hash], "volume_quota_remaining": 7}
    async with connected(says(body)) as (venue, rest):
        answer = await rest.send_transactions([SIGNED, SECOND])
        assert isinstance(answer, Queued) and answer.volume_quota_remaining == 7
        (request,) = venue.requests
        assert request["path"] == "/api/v1/sendTxBatch"
        assert json.loads(request["form"]["tx_types"]) == [14, 14]
        assert json.loads(request["form"]["tx_infos"]) == [SIGNED.tx_info, SECOND.tx_info]


async def test_price_protection_is_only_named_when_it_is_off() -> None:
    """On is the venue's default."""
    async with connected(says(OK)) as (venue, rest):
        await rest.send_transactions([SIGNED], price_protection=False)
        assert venue.requests[0]["form"]["price_protection"] == "false"


@pytest.mark.parametrize("count", [0, 16])
async def test_batch_the_venue_does_not_take_is_refused_unsent(count: int) -> None:
    """None, or more than fifteen."""
    async with connected(says(OK)) as (venue, rest):
        with pytest.raises(InvalidRequest):
            await rest.send_transactions([SIGNED] * count)
        assert venue.requests == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (21602, Reason.INSTRUMENT_NOT_FOUND),
        (21104, Reason.NONCE_REJECTED),
        (21120, Reason.AUTHENTICATION_FAILED),
        (21739, Reason.INSUFFICIENT_MARGIN),
    ],
)
async def test_transaction_refused_at_once_is_an_answer(code: int, reason: Reason) -> None:
    """HTTP 400 with a code we know proves that nothing happened."""
    async with connected(says({"code": code, "message": "words"}, 400)) as (_, rest):
        answer = await rest.send_transactions([SIGNED])
        assert isinstance(answer, RefusalMeaning) and answer.reason is reason


@pytest.mark.parametrize(
    ("handler", "error", "sent"),
    [
        (resets, OutcomeUnknown, Sent.MAYBE),
        (says("bad gateway", 502), OutcomeUnknown, Sent.MAYBE),
        (says({"code": 29500, "message": "internal server error"}, 500), OutcomeUnknown, Sent.MAYBE),
        (says({"code": 29501, "message": "process timeout"}, 400), OutcomeUnknown, Sent.MAYBE),
        (says({"code": 77777, "message": "new"}, 400), OutcomeUnknown, Sent.MAYBE),
        (says("<html>", 200), OutcomeUnknown, Sent.MAYBE),
        (says({"code": 200}, 200), OutcomeUnknown, Sent.MAYBE),
        (says({"code": 200, "tx_hash": "00"}, 200), OutcomeUnknown, Sent.MAYBE),
        (says("conflict", 409), OutcomeUnknown, Sent.MAYBE),
        (says(OK, 400), OutcomeUnknown, Sent.MAYBE),
        (says("<html>Bad Request</html>", 400), InvalidRequest, Sent.YES),
        (says("<html>blocked region</html>", 403), AuthenticationFailed, Sent.YES),
        (says({"code": 23000, "message": "Too Many Requests!"}, 429), RateLimited, Sent.YES),
        (says({"code": 23000, "message": "Too Many Requests!"}, 400), RateLimited, Sent.YES),
        (says("blocked", 405), RateLimited, Sent.YES),
    ],
)
async def test_failed_send_says_what_it_proves(handler: Handler, error: type[MeshError], sent: Sent) -> None:
    """Never a guess, and never sent twice."""
    async with connected(handler) as (venue, rest):
        with pytest.raises(error) as failed:
            await rest.send_transactions([SIGNED], timeout_s=5)
        assert failed.value.sent is sent
        assert len(venue.requests) == 1


async def test_transaction_without_an_answer_in_time_is_outcome_unknown() -> None:
    """It may have been queued."""
    forever = asyncio.Event()

    async def hangs(request: web.Request) -> web.StreamResponse:
        await forever.wait()
        return web.Response()

    async with connected(hangs) as (_, rest):
        with pytest.raises(OutcomeUnknown):
            await rest.send_transactions([SIGNED], timeout_s=1.5)
        forever.set()


async def test_transaction_to_a_closed_port_is_certainly_not_sent() -> None:
    """The caller may try again elsewhere."""
    guard = HostGuard(environment=Environment.SIMULATOR)
    async with RestClient("http://127.0.0.1:1", guard=guard, clock=SystemClock()) as client:
        with pytest.raises(VenueUnavailable) as failed:
            await LighterRest(client).send_transactions([SIGNED])
    assert failed.value.sent is Sent.NO


async def test_firewall_closes_the_budget_for_a_minute() -> None:
    """Asking on would lengthen the ban; nothing more leaves, not even a cancel."""
    limits = TierLimits()
    gate = gate_of(limits)
    async with connected(says("blocked", 405), gate=gate, limits=limits) as (venue, rest):
        with pytest.raises(RateLimited) as limited:
            await rest.fetch_status()
        assert limited.value.retry_after_s == FIREWALL_WAIT_S
        with pytest.raises(RateLimited) as local:
            await rest.send_transactions([SIGNED], timeout_s=0.1)
        assert local.value.sent is Sent.NO
        assert len(venue.requests) == 1


async def test_requests_are_charged_by_tier() -> None:
    """Standard counts each once; premium weighs reads and counts transactions apart."""
    for tier, rest_used, sends_used in ((Tier.STANDARD, 2, None), (Tier.PREMIUM, 600, 1)):
        limits = TierLimits(tier=tier)
        gate = gate_of(limits)
        async with connected(says({**OK, "trades": []}), gate=gate, limits=limits) as (_, rest):
            await rest.send_transactions([SIGNED])
            await rest.fetch_recent_trades(1)
        used = {view.name: view.used for view in gate.remaining()}
        assert used[REST] == rest_used
        assert used.get(TRANSACTIONS) == sends_used


# --- reads -------------------------------------------------------------------------------------------------


async def test_private_read_carries_the_token_and_a_public_one_does_not() -> None:
    """Bare, in the authorization header."""
    async with connected(says({"code": 200, "orders": [], "accounts": []})) as (venue, rest):
        await rest.fetch_active_orders(ACCOUNT)
        with pytest.raises(ProtocolViolation):
            await rest.fetch_account(ACCOUNT)
        private, public = venue.requests
        assert private["authorization"].split(":")[1:3] == [str(ACCOUNT), str(API_KEY)]
        assert private["query"] == {"account_index": str(ACCOUNT)}
        assert public["authorization"] is None


async def test_private_read_without_a_key_is_refused_unsent() -> None:
    """There is nothing to sign a token with."""
    async with connected(says({"code": 200}), tokens=False) as (venue, rest):
        with pytest.raises(AuthenticationFailed):
            await rest.fetch_active_orders(ACCOUNT)
        assert venue.requests == []


async def test_token_refused_by_the_venue_is_not_used_again() -> None:
    """The next read signs another."""
    async with connected(says({"code": 20013, "message": "invalid auth: invalid deadline"}, 401)) as (venue, rest):
        for _ in range(2):
            with pytest.raises(AuthenticationFailed):
                await rest.fetch_account_limits(ACCOUNT)
        assert len(venue.requests) == 2


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (says({"code": 21100, "message": "account not found"}, 400), InvalidRequest),
        (says({"code": 29500, "message": "internal"}, 400), VenueUnavailable),
        (says({"code": 23000, "message": "Too Many"}, 400), RateLimited),
        (says("boom", 500), VenueUnavailable),
        (says("<html>", 200), ProtocolViolation),
        (says("<html>", 403), AuthenticationFailed),
        (says("<html>", 404), InvalidRequest),
        (says("<html>", 418), ProtocolViolation),
        (says({"code": 200, "nonce": "many"}), ProtocolViolation),
    ],
)
async def test_failed_read_says_why(handler: Handler, error: type[MeshError]) -> None:
    """By code where there is one, by status otherwise."""
    async with connected(handler) as (_, rest):
        with pytest.raises(error):
            await rest.fetch_next_nonce(ACCOUNT, API_KEY)


async def test_next_nonce_is_read_with_a_cancels_priority() -> None:
    """A cancel may be waiting for it."""
    limits = TierLimits()
    gate = gate_of(limits)
    gate.charge(REST, 55)
    async with connected(says({"code": 200, "nonce": 7}), gate=gate, limits=limits) as (venue, rest):
        assert await rest.fetch_next_nonce(ACCOUNT, API_KEY) == 7
        assert venue.requests[0]["query"] == {"account_index": str(ACCOUNT), "api_key_index": str(API_KEY)}


async def test_verdict_of_an_unknown_transaction_is_none() -> None:
    """Not yet, or never."""
    async with connected(says({"code": 21500, "message": "transaction not found"}, 400)) as (_, rest):
        assert await rest.fetch_verdict("ab") is None
    async with connected(says({"code": 21501, "message": "invalid tx info"}, 400)) as (_, rest):
        with pytest.raises(InvalidRequest):
            await rest.fetch_verdict("ab")


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no recorded payloads: set VENUEMESH_FIXTURES to their folder")
async def test_recorded_answers_are_read_over_the_wire() -> None:
    """Recorded bodies, served as they are."""
    names = {
        "/api/v1/tx": "rest_tx.create_order_filled.json",
        "/api/v1/orderBookDetails": "rest_orderBookDetails.eth.json",
        "/api/v1/account": "rest_account.isolated.json",
        "/api/v1/accountActiveOrders": "rest_accountActiveOrders.one.json",
        "/api/v1/candles": "rest_candles.1m.json",
        "/api/v1/fundings": "rest_fundings.1h.json",
        "/api/v1/orderBookOrders": "rest_orderBookOrders.eth.json",
        "/api/v1/assetDetails": "rest_assetDetails.json",
        "/api/v1/systemConfig": "rest_systemConfig.json",
        "/api/v1/apikeys": "rest_apikeys.json",
    }

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(recording(names[request.path]))

    async with connected(handler) as (_, rest):
        verdict = await rest.fetch_verdict("43de")
        assert verdict is not None and verdict.state is TransactionState.EXECUTED
        (perp,) = (await rest.fetch_order_book_details(0)).order_book_details or ()
        assert (perp.size_decimals, perp.price_decimals) == (4, 2)
        account = await rest.fetch_account(22149)
        open_positions = [one for one in account.positions or () if one.position]
        assert len(open_positions) == 2 and open_positions[0].margin_mode == 1
        (order,) = await rest.fetch_active_orders(516, 1)
        assert order.price == Decimal("56608.2")
        assert len(await rest.fetch_candles(0, "1m", start_ms=1, end_ms=2)) == 2
        assert len(await rest.fetch_fundings(0, start_ms=1, end_ms=2)) == 2
        assert (await rest.fetch_order_book_orders(0)).asks
        assert len(await rest.fetch_asset_details()) == 12
        assert (await rest.fetch_system_config()).max_integrator_perps_taker_fee == 1_000
        assert len(await rest.fetch_api_keys(3)) == 1


async def test_candles_of_a_range_without_one_are_empty() -> None:
    """The venue refuses it with 22400 instead; a range that ends before it begins is refused here."""
    refusal = {"code": 22400, "message": "invalid timestamps"}
    async with connected(says(refusal, 400)) as (venue, rest):
        assert await rest.fetch_candles(0, "1m", start_ms=1, end_ms=2) == ()
        with pytest.raises(InvalidRequest):
            await rest.fetch_candles(0, "1m", start_ms=2, end_ms=2)
        assert len(venue.requests) == 1


def paged(rows: list[dict[str, Any]], *, key: str) -> Handler:
    """A server that pages newest first by cursor."""

    async def handler(request: web.Request) -> web.StreamResponse:
        start, limit = int(request.query.get("cursor", "0")), int(request.query["limit"])
        page = rows[start : start + limit]
        following = str(start + limit) if start + limit < len(rows) else ""
        return web.json_response({"code": 200, key: page, "next_cursor": following})

    return handler


async def test_trades_since_a_time_come_over_all_pages_oldest_first_each_once() -> None:
    """250 newer ones over three pages, and nothing older."""
    rows = [{**TRADE, "trade_id": n, "timestamp": n} for n in range(400, 0, -1)]
    rows.insert(100, rows[99])  # the newest page grew while it was read
    async with connected(paged(rows, key="trades")) as (venue, rest):
        trades = await rest.fetch_trades_since(ACCOUNT, since_ms=151)
        assert [trade.timestamp for trade in trades] == list(range(151, 401))
        assert len(venue.requests) == 3
        assert venue.requests[0]["query"]["limit"] == str(ROWS_PER_PAGE)


async def test_funding_since_a_time_comes_over_all_pages() -> None:
    """The same for funding payments."""
    row = {"market_id": 0, "change": "1", "rate": "1", "position_size": "1", "position_side": "long"}
    rows = [{**row, "funding_id": n, "timestamp": n} for n in range(150, 0, -1)]
    async with connected(paged(rows, key="position_fundings")) as (_, rest):
        fundings = await rest.fetch_position_fundings_since(ACCOUNT, since_s=0)
        assert [funding.timestamp for funding in fundings] == list(range(1, 151))


@pytest.mark.parametrize("cursor", ["same", None])
async def test_pages_that_do_not_end_are_not_thought_complete(cursor: str | None) -> None:
    """A cursor that repeats, or more pages than are reasonable."""
    number = iter(range(10_000))

    async def handler(request: web.Request) -> web.StreamResponse:
        following = cursor or str(next(number))
        return web.json_response({"code": 200, "trades": [TRADE], "next_cursor": following})

    async with connected(handler) as (venue, rest):
        with pytest.raises(ProtocolViolation, match="does not end"):
            await rest.fetch_trades_since(ACCOUNT, since_ms=0)
        assert len(venue.requests) == (2 if cursor else MAX_PAGES)


async def test_orders_by_client_index_are_asked_for_twenty_at_a_time() -> None:
    """Comma separated; more are refused here."""
    async with connected(says({"code": 200, "orders": None})) as (venue, rest):
        assert await rest.fetch_orders_by_client_index(ACCOUNT, [1, 2]) == ()
        assert venue.requests[0]["query"]["client_order_indexes"] == "1,2"
        assert await rest.fetch_inactive_orders(ACCOUNT) == ()
        for indexes in ([], list(range(21))):
            with pytest.raises(InvalidRequest):
                await rest.fetch_orders_by_client_index(ACCOUNT, indexes)


async def test_status_is_read_from_the_root() -> None:
    """One of the two paths outside /api/v1."""
    async with connected(says({"status": 200, "network_id": 1, "timestamp": 5})) as (venue, rest):
        assert (await rest.fetch_status()).timestamp == 5
        assert venue.requests[0]["path"] == "/"
