"""Faults of the Lighter front over real sockets, its delays, limits, admin interface, and the process itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulator.clock import SteppedClock
from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind
from simulator.testing import quiet, running_simulator
from tests.unit.simulator.lighter.serving import ACCOUNT, API_KEY, WAIT_S, Caller, accounts, lighter, until

START_NS = 1_790_000_000_000_000_000


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    """A caller of a quiet venue without delays."""
    async with lighter(alive=False) as simulator, aiohttp.ClientSession() as session:
        yield Caller(simulator, session)


def fault(caller: Caller, kind: FaultKind, match: str = "create_order", **more: Any) -> None:
    """Put a rule in force."""
    caller.simulator.lighter.faults.add(Fault(kind=kind, match=match, **more))


def known(caller: Caller, client_index: int = 1) -> bool:
    """Whether the venue saw the order."""
    return caller.simulator.lighter.find_order(ACCOUNT, client_index) is not None


# -- requests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "happened"), [(FaultKind.DROP_REPLY, True), (FaultKind.RESET_BEFORE, False)])
async def test_request_when_its_connection_dies_has_or_has_not_happened(
    caller: Caller, kind: FaultKind, happened: bool
) -> None:
    """The caller sees the same broken connection; the truth differs."""
    fault(caller, kind)
    with pytest.raises(aiohttp.ClientError):
        await caller.post(caller.order())
    assert known(caller) is happened
    assert caller.simulator.lighter.next_nonce(ACCOUNT, API_KEY) == (2 if happened else 1)


@pytest.mark.parametrize(
    ("kind", "status", "happened"),
    [
        (FaultKind.ERROR_BEFORE, 502, False),
        (FaultKind.ERROR_AFTER, 502, True),
        (FaultKind.RATE_LIMIT, 429, False),
        (FaultKind.REFUSE, 400, False),
        (FaultKind.DELAY_REPLY, 200, True),
        (FaultKind.DELAY_BEFORE, 200, True),
        (FaultKind.GARBLE_REPLY, 200, True),
    ],
)
async def test_request_when_a_fault_befalls_it_answers_and_acts_as_said(
    caller: Caller, kind: FaultKind, status: int, happened: bool
) -> None:
    """5xx before and after, 429, refusal, delays, garble."""
    fault(caller, kind, status=502, retry_after_s=3, code=21706, delay_s=0.01)
    found, headers, body = await caller.post(caller.order())
    assert (found, known(caller)) == (status, happened)
    if kind is FaultKind.RATE_LIMIT:
        assert (headers["Retry-After"], body["code"]) == ("3", 23000)
    if kind is FaultKind.REFUSE:
        assert body == {"code": 21706, "message": "invalid order base or quote amount"}
    if kind is FaultKind.GARBLE_REPLY:
        assert isinstance(body, str)


async def test_nonce_when_spent_by_another_is_refused_and_next_nonce_tells(caller: Caller) -> None:
    """21104 leaves the counter; `nextNonce` gives the value to go on with."""
    fault(caller, FaultKind.SPEND_NONCE)
    status, _, body = await caller.post(caller.order())
    assert (status, body) == (400, {"code": 21104, "message": "invalid nonce"})
    _, body = await caller.get("/api/v1/nextNonce", account_index=ACCOUNT, api_key_index=API_KEY)
    assert body == {"code": 200, "nonce": 2}
    assert (await caller.post(caller.order(Nonce=2)))[0] == 200


async def test_nonce_when_stale_from_the_venue_fails_once(caller: Caller) -> None:
    """`nextNonce` lies by one."""
    await caller.post(caller.order())
    fault(caller, FaultKind.STALE_NONCE, "info:nextNonce")
    asked = {"account_index": ACCOUNT, "api_key_index": API_KEY}
    assert (await caller.get("/api/v1/nextNonce", **asked))[1]["nonce"] == 1
    assert (await caller.get("/api/v1/nextNonce", **asked))[1]["nonce"] == 2


async def test_order_when_refused_late_is_answered_200_and_never_appears(caller: Caller) -> None:
    """The transaction exists, its event carries the error, its nonce is spent."""
    fault(caller, FaultKind.LATE_REFUSAL, code=21739)
    status, _, body = await caller.post(caller.order())
    assert (status, body["code"]) == (200, 200)
    _, tx = await caller.get("/api/v1/tx", by="hash", value=body["tx_hash"])
    assert json.loads(json.loads(tx["event_info"])["ae"])["code"] == 21739
    assert not known(caller)
    assert caller.simulator.lighter.next_nonce(ACCOUNT, API_KEY) == 2


async def test_form_when_multipart_or_urlencoded_is_read(caller: Caller) -> None:
    """The official SDK sends one, ccxt the other."""
    assert (await caller.post(caller.order(1)))[0] == 200
    multipart = aiohttp.FormData(default_to_multipart=True)
    for name, value in caller.order(2).items():
        multipart.add_field(name, value)
    assert (await caller.post(multipart))[0] == 200


async def test_requests_when_unknown_or_malformed_are_refused_with_codes(caller: Caller) -> None:
    """29404, 20001, 21501, 21505."""
    assert (await caller.get("/api/v1/nothing"))[0:2] == (404, {"code": 29404, "message": "not found"})
    assert (await caller.get("/elsewhere"))[0] == 404
    assert (await caller.get("/api/v1/account", by="index"))[1]["code"] == 20001
    assert (await caller.post({"tx_type": "x"}))[2]["code"] == 20001
    assert (await caller.post({"tx_type": "14", "tx_info": "{}"}))[2]["code"] == 21501
    assert (await caller.post({"tx_type": "999", "tx_info": "{}"}))[2]["code"] == 21505
    assert (await caller.post({}, "fastwithdraw"))[0] == 404
    _, body = await caller.get("/api/v1/accountActiveOrders", account_index=ACCOUNT)
    assert body["message"] == "invalid param : auth query param and Authorization header are empty"


# -- sockets -----------------------------------------------------------------------------------------------------


async def test_transaction_when_sent_over_the_socket_is_answered_with_its_id(caller: Caller) -> None:
    """An object or a text for `tx_info`; errors carry the id too."""
    async with caller.stream() as socket:
        form = caller.order(1)
        await socket.send_json(
            {"type": "jsonapi/sendtx", "data": {"id": "17", "tx_type": 14, "tx_info": json.loads(form["tx_info"])}}
        )
        reply = await socket.receive_json()
        assert (reply["code"], reply["id"], reply["type"]) == (200, "17", "jsonapi/sendtx")
        await socket.send_json(
            {"type": "jsonapi/sendtx", "data": {"id": "18", "tx_type": 14, "tx_info": form["tx_info"]}}
        )
        reply = await socket.receive_json()
        assert reply == {"error": {"code": 21104, "message": "invalid nonce"}, "id": "18"}
        forms = [caller.order(index, Nonce=index) for index in (2, 3)]
        infos = json.dumps([item["tx_info"] for item in forms])
        data = {"id": "19", "tx_types": "[14,14]", "tx_infos": infos}
        await socket.send_json({"type": "jsonapi/sendtxbatch", "data": data})
        reply = await socket.receive_json()
        assert len(reply["tx_hash"]) == 2
    assert all(known(caller, index) for index in (1, 2, 3))


async def next_book(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    """The next frame's book."""
    found: dict[str, Any] = (await socket.receive_json())["order_book"]
    return found


async def test_book_frames_when_lost_doubled_or_swapped_break_the_chain(caller: Caller) -> None:
    """What a client must notice by `begin_nonce` and `nonce` alone."""
    async with caller.stream("order_book/0") as socket:
        nonce = (await next_book(socket))["nonce"]
        fault(caller, FaultKind.DROP_FRAME, "order_book")
        for price in ("3700", "3701"):
            caller.simulator.lighter.house_order("ETH", Side.BUY, price, "1")
        after_loss = await next_book(socket)
        assert after_loss["begin_nonce"] > nonce
        fault(caller, FaultKind.DUPLICATE_FRAME, "order_book")
        caller.simulator.lighter.house_order("ETH", Side.BUY, "3702", "1")
        assert await next_book(socket) == await next_book(socket)
        fault(caller, FaultKind.REORDER_FRAME, "order_book")
        for price in ("3703", "3704"):
            caller.simulator.lighter.house_order("ETH", Side.BUY, price, "1")
        late, early = await next_book(socket), await next_book(socket)
        assert late["begin_nonce"] == early["nonce"]
        fault(caller, FaultKind.BOOK_GAP, "ETH")
        caller.simulator.lighter.house_order("ETH", Side.BUY, "3705", "1")
        assert (await next_book(socket))["begin_nonce"] > late["nonce"]


async def test_frames_when_delayed_come_in_order_and_later(caller: Caller) -> None:
    """A delay holds back what is behind it as well."""
    async with caller.stream("order_book/0") as socket:
        await next_book(socket)
        fault(caller, FaultKind.DELAY_FRAME, "order_book", delay_s=0.05)
        for price in ("3700", "3701"):
            caller.simulator.lighter.house_order("ETH", Side.BUY, price, "1")
        first, second = await next_book(socket), await next_book(socket)
        assert second["begin_nonce"] == first["nonce"]


async def test_sockets_when_cut_silent_or_told_to_go_behave_so(caller: Caller) -> None:
    """Silence holds frames back, a shutdown is announced, a cut has no goodbye."""
    async with caller.stream("order_book/0") as socket:
        await next_book(socket)
        caller.simulator.lighter.app.fall_silent(0.05)
        caller.simulator.lighter.house_order("ETH", Side.BUY, "3700", "1")
        assert (await next_book(socket))["bids"]
        caller.simulator.lighter.app.announce_shutdown(500)
        assert await socket.receive_json() == {"type": "shutdown", "close_in_ms": 500}
        assert caller.simulator.lighter.app.cut_sockets() == 1
        assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


async def test_client_when_it_leaves_a_ping_unanswered_is_closed(caller: Caller) -> None:
    """The venue's own ping, not the protocol's; closed with 1008 "no pong"."""
    app = caller.simulator.lighter.app
    async with caller.stream() as good, caller.stream() as bad:
        await app.ping_sockets()
        assert await good.receive_json() == await bad.receive_json() == {"type": "ping"}
        await good.send_json({"type": "pong"})
        await good.send_json({"type": "ping"})
        assert await good.receive_json() == {"type": "pong"}
        await app.ping_sockets()
        assert await good.receive_json() == {"type": "ping"}
        closing = await bad.receive()
        assert (closing.type, closing.data, closing.extra) == (aiohttp.WSMsgType.CLOSE, 1008, "no pong")


async def test_connections_when_refused_are_reset(caller: Caller) -> None:
    """Until the rule is used up."""
    caller.simulator.lighter.faults.add(Fault(kind=FaultKind.REFUSE_CONNECTIONS))
    with pytest.raises(aiohttp.ClientError):
        await caller.post(caller.order())
    assert (await caller.get("/api/v1/orderBooks"))[0] == 200
    assert not known(caller)


async def test_faults_when_set_for_one_venue_leave_the_other_alone(caller: Caller) -> None:
    """Each front has a plan of its own; the admin interface reaches both."""
    url = caller.simulator.url + "/sim/faults"
    rule = {"kind": "error_before", "match": "create_order", "status": 503}
    async with caller.session.post(url, params={"venue": "lighter"}, json=rule) as answer:
        assert answer.status == 200
    assert caller.simulator.faults.rules == ()
    assert (await caller.post(caller.order()))[0] == 503
    async with caller.session.get(url, params={"venue": "lighter"}) as answer:
        assert await answer.json() == []
    house = {"coin": "ETH", "side": "buy", "price": "3700", "size": "1"}
    async with caller.session.post(
        caller.simulator.url + "/sim/house/order", params={"venue": "lighter"}, json=house
    ) as answer:
        assert (await answer.json())["result"] > 1 << 48
    orders = caller.simulator.url + "/sim/orders"
    async with caller.session.get(orders, params={"venue": "lighter", "user": str(ACCOUNT)}) as answer:
        assert await answer.json() == []
    async with caller.session.get(orders, params={"venue": "lighter", "user": "x"}) as answer:
        assert answer.status == 400


# -- time and limits ---------------------------------------------------------------------------------------------


async def test_order_when_delayed_by_its_tier_is_executed_by_a_timer() -> None:
    """The answer comes first and says when."""
    async with lighter(alive=False, lighter_delays=True) as simulator, aiohttp.ClientSession() as session:
        caller = Caller(simulator, session)
        _, _, body = await caller.post(caller.order())
        assert body["predicted_execution_time_ms"] > simulator.now_ms() - 1000
        assert not known(caller)
        await until(lambda: known(caller))


async def test_order_when_the_clock_stands_still_waits_for_it_to_be_stepped() -> None:
    """A manual clock executes nothing by itself."""
    settings = quiet(lighter_accounts=accounts(), lighter_delays=True, clock="manual")
    clock = SteppedClock(START_NS)
    async with (
        asyncio.timeout(WAIT_S),
        running_simulator(settings, clock=clock) as simulator,
        aiohttp.ClientSession() as session,
    ):
        caller = Caller(simulator, session)
        assert (await caller.post(caller.order()))[0] == 200
        assert not known(caller)
        simulator.advance(200)
        assert known(caller)


async def test_standard_account_when_over_sixty_requests_a_minute_gets_429() -> None:
    """Unweighted, reads and transactions together; another owner is not touched."""
    async with lighter(alive=False, lighter_rate_limits=True) as simulator, aiohttp.ClientSession() as session:
        caller = Caller(simulator, session)
        statuses = [(await caller.get("/api/v1/orderBooks"))[0] for _ in range(61)]
        assert statuses == [200] * 60 + [429]
        assert (await caller.post(caller.order()))[0] == 200


async def test_reference_price_when_held_moves_both_venues(caller: Caller) -> None:
    """One set of reference prices."""
    caller.simulator.set_price("BTC", "99000")
    _, details = await caller.get("/api/v1/orderBookDetails", market_id=1)
    assert details["order_book_details"][0]["index_price"] == "99000.0"


async def test_process_when_started_announces_both_fronts_and_stops_on_a_signal() -> None:
    """Accounts come from the environment, as JSON; without a port of its own the front takes a free one."""
    known_accounts = {str(index): account for index, account in accounts().items()}
    environment = {
        **os.environ,
        "SIMULATOR_HYPERLIQUID_PORT": "0",
        "SIMULATOR_LIGHTER_ACCOUNTS": json.dumps(known_accounts),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "simulator",
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S), aiohttp.ClientSession() as session:
        line = json.loads(await process.stdout.readline())
        assert (line["event"], line["lighter_ws_url"][-7:]) == ("simulator_ready", "/stream")
        asked = {"by": "index", "value": str(ACCOUNT)}
        async with session.get(line["lighter_url"] + "/api/v1/account", params=asked) as answer:
            assert (await answer.json())["accounts"][0]["collateral"] == "100000.000000"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
