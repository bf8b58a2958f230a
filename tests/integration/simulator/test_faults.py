"""Faults over real sockets, the admin interface, limits, and the process itself."""

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
from eth_account import Account
from hyperliquid.utils import signing

from simulator.clock import SteppedClock
from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind
from simulator.server import Simulator
from simulator.testing import quiet, running_simulator

WALLET = Account.from_key("0x0123456789012345678901234567890123456789012345678901234567890123")
USER = WALLET.address.lower()
START_NS = 1_790_000_000_000_000_000
CLOID = "0x1234567890abcdef1234567890abcdef"
WAIT_S = 60.0


class Caller:
    """A hand-made client that shows every byte it gets."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.session = session
        self._nonce = simulator.now_ms()

    def envelope(self, action: dict[str, Any]) -> dict[str, Any]:
        """A signed action."""
        self._nonce += 1
        signature = signing.sign_l1_action(WALLET, action, None, self._nonce, None, False)
        return {"action": action, "nonce": self._nonce, "signature": signature}

    def order(self, price: str = "3800", cloid: str = CLOID) -> dict[str, Any]:
        """A signed order."""
        row = {"a": 1, "b": True, "p": price, "s": "0.1", "r": False, "t": {"limit": {"tif": "Gtc"}}, "c": cloid}
        return self.envelope({"type": "order", "orders": [row], "grouping": "na"})

    async def post(self, path: str, body: Any) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body of a POST."""
        async with self.session.post(self.simulator.url + path, json=body) as answer:
            text = await answer.text()
            parsed = json.loads(text) if answer.content_type == "application/json" else text
            return answer.status, dict(answer.headers), parsed


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    """A caller of a quiet venue on a stepped clock."""
    settings = quiet(accounts={USER: "10000"}, clock="manual")
    async with (
        asyncio.timeout(WAIT_S),
        running_simulator(settings, clock=SteppedClock(START_NS)) as simulator,
        aiohttp.ClientSession() as session,
    ):
        yield Caller(simulator, session)


async def test_reply_when_dropped_leaves_the_order_at_the_venue(caller: Caller) -> None:
    """The caller sees a broken connection, the truth shows the order."""
    caller.simulator.faults.add(Fault(kind=FaultKind.DROP_REPLY, match="order"))
    with pytest.raises(aiohttp.ClientError):
        await caller.post("/exchange", caller.order())
    assert caller.simulator.find_order(USER, CLOID) is not None


async def test_request_when_reset_before_leaves_no_order(caller: Caller) -> None:
    """The same broken connection, and nothing happened."""
    caller.simulator.faults.add(Fault(kind=FaultKind.RESET_BEFORE, match="order"))
    with pytest.raises(aiohttp.ClientError):
        await caller.post("/exchange", caller.order())
    assert caller.simulator.find_order(USER, CLOID) is None


@pytest.mark.parametrize(("kind", "placed"), [(FaultKind.ERROR_BEFORE, False), (FaultKind.ERROR_AFTER, True)])
async def test_server_error_when_injected_has_or_has_not_an_effect(
    caller: Caller, kind: FaultKind, placed: bool
) -> None:
    """A 5xx says nothing about the outcome."""
    caller.simulator.faults.add(Fault(kind=kind, match="order", status=502))
    status, _, body = await caller.post("/exchange", caller.order())
    assert (status, body) == (502, None)
    assert (caller.simulator.find_order(USER, CLOID) is not None) is placed


@pytest.mark.parametrize("retry_after", [None, 7])
async def test_rate_limit_when_injected_may_carry_retry_after(caller: Caller, retry_after: int | None) -> None:
    """429 with and without the header; no effect."""
    caller.simulator.faults.add(Fault(kind=FaultKind.RATE_LIMIT, match="order", retry_after_s=retry_after))
    status, headers, _ = await caller.post("/exchange", caller.order())
    assert (status, headers.get("Retry-After")) == (429, None if retry_after is None else "7")
    assert caller.simulator.find_order(USER, CLOID) is None


async def test_refusal_when_injected_has_its_text_and_no_effect(caller: Caller) -> None:
    """Any top-level refusal of the venue can be played."""
    text = "Invalid nonce: duplicate nonce 1"
    caller.simulator.faults.add(Fault(kind=FaultKind.REFUSE, match="order", text=text))
    _, _, body = await caller.post("/exchange", caller.order())
    assert body == {"status": "err", "response": text}
    assert caller.simulator.find_order(USER, CLOID) is None


async def test_reply_when_garbled_is_not_json(caller: Caller) -> None:
    """An unreadable answer after the effect."""
    caller.simulator.faults.add(Fault(kind=FaultKind.GARBLE_REPLY, match="order"))
    status, _, body = await caller.post("/exchange", caller.order())
    assert (status, body) == (200, "<html>garbled")
    assert caller.simulator.find_order(USER, CLOID) is not None


async def test_connections_when_refused_are_reset_until_cleared(caller: Caller) -> None:
    """Requests and new sockets alike; the admin interface stays."""
    caller.simulator.faults.add(Fault(kind=FaultKind.REFUSE_CONNECTIONS, count=0))
    with pytest.raises(aiohttp.ClientError):
        await caller.post("/info", {"type": "meta"})
    with pytest.raises(aiohttp.ClientError):
        await caller.session.ws_connect(caller.simulator.ws_url)
    async with caller.session.delete(caller.simulator.url + "/sim/faults") as answer:
        assert answer.status == 200
    assert (await caller.post("/info", {"type": "meta"}))[0] == 200


async def next_frame(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    """The next frame as JSON."""
    return json.loads(await socket.receive_str())  # type: ignore[no-any-return]


async def updates(caller: Caller) -> aiohttp.ClientWebSocketResponse:
    """A socket subscribed to the user's order updates."""
    socket = await caller.session.ws_connect(caller.simulator.ws_url)
    subscription = {"type": "orderUpdates", "user": USER}
    await socket.send_json({"method": "subscribe", "subscription": subscription})
    assert (await next_frame(socket))["channel"] == "subscriptionResponse"
    return socket


async def test_frames_when_doubled_lost_and_reordered_arrive_so(caller: Caller) -> None:
    """First twice, second lost, third after the fourth."""
    socket = await updates(caller)
    faults = caller.simulator.faults
    faults.add(Fault(kind=FaultKind.DUPLICATE_FRAME, match="orderUpdates"))
    faults.add(Fault(kind=FaultKind.DROP_FRAME, match="orderUpdates"))
    faults.add(Fault(kind=FaultKind.REORDER_FRAME, match="orderUpdates"))
    for price in ("3801", "3802", "3803", "3804"):
        await caller.post("/exchange", caller.order(price))
    heard = [(await next_frame(socket))["data"][0]["order"]["limitPx"] for _ in range(4)]
    assert heard == ["3801.0", "3801.0", "3804.0", "3803.0"]
    await socket.close()


async def test_frame_when_delayed_holds_back_those_behind_it_and_none_is_lost(caller: Caller) -> None:
    """A late frame is late for all: a socket keeps its order."""
    socket = await updates(caller)
    caller.simulator.faults.add(Fault(kind=FaultKind.DELAY_FRAME, match="orderUpdates", delay_s=0.05))
    for price in ("3801", "3802"):
        await caller.post("/exchange", caller.order(price))
    heard = [(await next_frame(socket))["data"][0]["order"]["limitPx"] for _ in range(2)]
    assert heard == ["3801.0", "3802.0"]
    assert caller.simulator.faults.rules == ()
    await socket.close()


async def test_post_when_its_reply_is_dropped_cuts_the_socket_after_the_effect(caller: Caller) -> None:
    """A write over the socket whose answer is lost."""
    socket = await updates(caller)
    caller.simulator.faults.add(Fault(kind=FaultKind.DROP_REPLY, match="order"))
    request = {"type": "action", "payload": caller.order()}
    await socket.send_json({"method": "post", "id": 1, "request": request})
    while not socket.closed:
        await socket.receive()
    assert caller.simulator.find_order(USER, CLOID) is not None


async def test_post_when_sent_is_answered_with_its_id(caller: Caller) -> None:
    """Order and info over the socket."""
    socket = await caller.session.ws_connect(caller.simulator.ws_url)
    await socket.send_json({"method": "post", "id": 5, "request": {"type": "action", "payload": caller.order()}})
    frame = await next_frame(socket)
    assert frame["data"]["id"] == 5
    assert "resting" in frame["data"]["response"]["payload"]["response"]["data"]["statuses"][0]
    await socket.send_json({"method": "post", "id": 6, "request": {"type": "info", "payload": {"type": "meta"}}})
    assert (await next_frame(socket))["data"]["response"]["payload"]["type"] == "meta"
    await socket.close()


async def test_sockets_when_cut_close_without_a_goodbye(caller: Caller) -> None:
    """Abnormal closure."""
    socket = await updates(caller)
    assert caller.simulator.cut_sockets() == 1
    message = await socket.receive()
    assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    assert socket.close_code == 1006


async def test_silence_when_commanded_holds_frames_back(caller: Caller) -> None:
    """What is due waits and is then sent."""
    socket = await updates(caller)
    caller.simulator.fall_silent(0.2)
    await caller.post("/exchange", caller.order())
    with pytest.raises(TimeoutError):
        await socket.receive(timeout=0.05)
    assert (await next_frame(socket))["channel"] == "orderUpdates"
    await socket.close()


async def test_socket_when_nothing_was_sent_for_a_minute_is_closed(caller: Caller) -> None:
    """By the venue's own clock."""
    socket = await updates(caller)
    caller.simulator.advance(59_000)
    await caller.simulator.app.close_idle()
    assert caller.simulator.sockets == 1
    caller.simulator.advance(1_000)
    await caller.simulator.app.close_idle()
    message = await socket.receive()
    assert message.type is aiohttp.WSMsgType.CLOSE


async def test_weight_when_spent_answers_429_until_the_minute_is_over() -> None:
    """The client address has a budget; time gives it back."""
    settings = quiet(clock="manual", ip_weight_per_minute=40)
    async with (
        running_simulator(settings, clock=SteppedClock(START_NS)) as simulator,
        aiohttp.ClientSession() as session,
    ):
        caller = Caller(simulator, session)
        codes = [(await caller.post("/info", {"type": "meta"}))[0] for _ in range(3)]
        assert codes == [200, 200, 429]
        simulator.advance(60_000)
        assert (await caller.post("/info", {"type": "meta"}))[0] == 200


async def test_bodies_when_unreadable_are_refused_as_text(caller: Caller) -> None:
    """422 for a wrong shape."""
    status, headers, body = await caller.post("/exchange", {"action": {"type": "order"}})
    assert (status, headers["Content-Type"].partition(";")[0]) == (422, "text/plain")
    assert body.startswith("Failed to deserialize")


async def test_admin_when_used_moves_the_world(caller: Caller) -> None:
    """Price, house order, funds, clock, faults and the truth about orders."""
    await caller.post("/exchange", caller.order("3800"))
    house = {"coin": "ETH", "side": "sell", "price": "3800", "size": "0.1"}
    assert (await caller.post("/sim/house/order", house))[0] == 200
    async with caller.session.get(caller.simulator.url + f"/sim/orders?user={USER}") as answer:
        rows = json.loads(await answer.text())
    assert [row["status"] for row in rows] == ["filled"]
    assert (await caller.post("/sim/price", {"coin": "ETH", "oracle": "4000"}))[0] == 200
    state = (await caller.post("/info", {"type": "clearinghouseState", "user": USER}))[2]
    assert state["assetPositions"][0]["position"]["unrealizedPnl"] == "20.0"
    assert (await caller.post("/sim/fund", {"user": USER, "amount": "5", "wallet": "xyz"}))[0] == 200
    before = caller.simulator.now_ms()
    assert (await caller.post("/sim/clock/advance", {"ms": 500}))[0] == 200
    assert caller.simulator.now_ms() == before + 500
    assert (await caller.post("/sim/faults", {"kind": "drop_reply", "match": "order"}))[0] == 200
    assert caller.simulator.faults.rules[0].kind is FaultKind.DROP_REPLY
    assert (await caller.post("/sim/price", {"coin": "NOPE", "oracle": "1"}))[0] == 400
    assert (await caller.post("/sim/faults", {"kind": "nope"}))[0] == 400


async def test_admin_when_not_enabled_does_not_exist() -> None:
    """Off unless asked for."""
    async with running_simulator(quiet(admin=False)) as simulator, aiohttp.ClientSession() as session:
        assert (await Caller(simulator, session).post("/sim/faults", {}))[0] == 404


async def test_house_order_when_refused_says_so(caller: Caller) -> None:
    """A test that asks the impossible hears of it."""
    with pytest.raises(ValueError, match="off_tick"):
        caller.simulator.house_order("ETH", Side.BUY, "3800.05", "1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_process_when_signalled_stops_cleanly(number: signal.Signals) -> None:
    """One JSON line when ready, exit status 0 after a signal."""
    environment = {**os.environ, "SIMULATOR_HYPERLIQUID_PORT": "0"}
    root = Path(__file__).resolve().parents[3]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "simulator",
        cwd=root,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WAIT_S):
            assert process.stdout is not None
            line = json.loads(await process.stdout.readline())
            assert line["event"] == "simulator_ready"
            async with (
                aiohttp.ClientSession() as session,
                session.post(line["hyperliquid_url"] + "/info", json={"type": "exchangeStatus"}) as answer,
                session.ws_connect(line["hyperliquid_ws_url"]),
            ):
                assert answer.status == 200
                process.send_signal(number)
                _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_process_when_settings_are_bad_exits_two_and_names_them() -> None:
    """Every bad key is told."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "simulator",
        cwd=Path(__file__).resolve().parents[3],
        env={**os.environ, "SIMULATOR_HYPERLIQUID_PORT": "-1", "SIMULATOR_CLOCK": "sundial"},
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(WAIT_S):
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"hyperliquid_port" in errors
    assert b"clock" in errors
