"""Order sessions over the whole mesh: whichever process is killed, no order outlives its session."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.e2e.mesh import ACCOUNT_ID, Mesh, limit_order, running_mesh
from tests.e2e.test_mesh import RECOVERY_S, TIMEOUT_S, of_key, settled, submit
from venuemesh.v1 import order_pb2, stream_pb2
from venuemesh.v1 import order_service_pb2 as wire

pytestmark = pytest.mark.xdist_group("e2e")
LEASE = Duration(seconds=30)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with running_mesh(tmp_path) as running:
        yield running


async def open_session(mesh: Mesh, service: str, **logon: Any) -> Any:
    """A session at a service that cancels on disconnect."""
    call = mesh.orders(service).OpenOrderSession()
    fields = {"account_id": ACCOUNT_ID, "cancel_on_disconnect": True, "lease": LEASE, **logon}
    await call.write(wire.OpenOrderSessionRequest(logon=wire.SessionLogon(**fields)))
    await read_until(call, "acknowledgement")
    return call


async def read_until(call: Any, body: str) -> Any:
    """The next message of this kind."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            message = await call.read()
            assert message is not grpc.aio.EOF, f"the session ended without {body}"
            if message.WhichOneof("body") == body:
                return message


async def rest_in(call: Any, key: str) -> wire.SubmitOrderResponse:
    """An order of the session that rests at the venue."""
    await call.write(wire.OpenOrderSessionRequest(submit=limit_order(key, price="20000")))
    answer: wire.SubmitOrderResponse = (await read_until(call, "submitted")).submitted
    assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert answer.order.cancel_on_disconnect and answer.order.session_id
    return answer


async def is_gone_at_the_venue(mesh: Mesh, key: str) -> None:
    """Wait until the venue itself has the order cancelled, and only once placed."""
    async with asyncio.timeout(RECOVERY_S):
        while True:
            (row,) = of_key(await mesh.venue_orders(), key)
            if row["status"] == "canceled":
                return
            await asyncio.sleep(0.05)


async def test_gateway_killed_during_a_session_cancels_what_the_session_left(mesh: Mesh) -> None:
    """Also what came through a router, whose caller is told; an order of no session stays."""
    await submit(mesh, limit_order("stays", price="20000"))
    direct, routed = await open_session(mesh, "gateway_hyperliquid"), await open_session(mesh, "router")
    await rest_in(direct, "direct")
    await rest_in(routed, "routed")
    mesh.kill("gateway_hyperliquid")
    closing = (await read_until(routed, "closing")).closing
    assert closing.reason == stream_pb2.CLOSING_REASON_SOURCE_LOST
    with pytest.raises(grpc.aio.AioRpcError):
        await read_until(direct, "closing")
    await mesh.wait_for_message("gateway_hyperliquid is up again")
    for key in ("direct", "routed"):
        await is_gone_at_the_venue(mesh, key)
        assert (await settled(mesh, key)).status == order_pb2.ORDER_STATUS_CANCELED
    assert (await settled(mesh, "stays")).status == order_pb2.ORDER_STATUS_NEW


async def test_router_killed_during_a_session_has_its_gateways_cancel_the_orders(mesh: Mesh) -> None:
    """The broken calls tell them; the router need not come back for that."""
    routed = await open_session(mesh, "router")
    await rest_in(routed, "routed")
    mesh.kill("router")
    await is_gone_at_the_venue(mesh, "routed")
    with pytest.raises(grpc.aio.AioRpcError):
        await read_until(routed, "closing")


async def test_router_that_hangs_loses_its_leases_at_the_gateways(mesh: Mesh) -> None:
    """Its connections stay up and nothing is heard of it."""
    routed = await open_session(mesh, "router", lease=Duration(seconds=6))
    await rest_in(routed, "routed")
    mesh.kill("router", signal.SIGSTOP)
    try:
        await is_gone_at_the_venue(mesh, "routed")
    finally:
        mesh.kill("router", signal.SIGCONT)


async def test_caller_that_goes_away_has_its_orders_cancelled_by_way_of_the_router(mesh: Mesh) -> None:
    """A call that breaks, and one that is ended properly and hears the result."""
    broken, ended = await open_session(mesh, "router"), await open_session(mesh, "router")
    await rest_in(broken, "broken")
    await rest_in(ended, "ended")
    broken.cancel()
    await is_gone_at_the_venue(mesh, "broken")
    await ended.done_writing()
    while True:
        order = (await read_until(ended, "event")).event.execution_report.order
        if order.status == order_pb2.ORDER_STATUS_CANCELED:
            break
    assert (await read_until(ended, "closing")).closing.reason == stream_pb2.CLOSING_REASON_LOGGED_OUT
    await is_gone_at_the_venue(mesh, "ended")


async def test_gateway_that_drains_cancels_the_orders_before_it_says_goodbye(mesh: Mesh) -> None:
    """Nobody would watch over them afterwards, and the caller is told where to go on."""
    direct = await open_session(mesh, "gateway_hyperliquid")
    await rest_in(direct, "drained")
    mesh.kill("gateway_hyperliquid", signal.SIGTERM)
    closing = (await read_until(direct, "closing")).closing
    assert closing.reason == stream_pb2.CLOSING_REASON_DRAINING and closing.resume_after.sequence
    (row,) = of_key(await mesh.venue_orders(), "drained")
    assert row["status"] == "canceled"
