"""The whole mesh: an order from client to portfolio, and every process killed at the worst moment."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.e2e.mesh import ACCOUNT_ID, SYMBOL, VENUE, Mesh, by_key, limit_order, market_order, running_mesh
from venuemesh.errors import Reason, Sent
from venuemesh.gateway.order_wire import order_id_of
from venuemesh.status import error_from_rpc
from venuemesh.v1 import (
    account_pb2,
    account_service_pb2,
    account_service_pb2_grpc,
    error_pb2,
    order_pb2,
    order_service_pb2,
    portfolio_service_pb2,
    stream_pb2,
)

pytestmark = pytest.mark.xdist_group("e2e")
TIMEOUT_S = 60.0
RECOVERY_S = 60.0
# The proof of absence waits for the request's own expiry; a short one keeps the test short.
SHORT_EXPIRY = {"GATEWAY_HYPERLIQUID_ORDER_EXPIRY_S": "1.0", "GATEWAY_HYPERLIQUID_SETTLE_DELAY_S": "0.5"}


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with running_mesh(tmp_path) as running:
        yield running


async def submit(mesh: Mesh, request: order_service_pb2.SubmitOrderRequest) -> order_service_pb2.SubmitOrderResponse:
    return await mesh.orders().SubmitOrder(request, timeout=TIMEOUT_S)


async def submit_until_answered(
    mesh: Mesh, request: order_service_pb2.SubmitOrderRequest
) -> order_service_pb2.SubmitOrderResponse:
    """Repeat a key until a gateway answers it: what a careful client does after a crash."""
    async with asyncio.timeout(RECOVERY_S):
        while True:
            try:
                return await submit(mesh, request)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)


async def settled(mesh: Mesh, key: str) -> order_pb2.Order:
    """The order once its outcome is not in doubt any more."""
    async with asyncio.timeout(RECOVERY_S):
        while True:
            try:
                answer = await mesh.orders().GetOrder(
                    order_service_pb2.GetOrderRequest(reference=by_key(key)), timeout=TIMEOUT_S
                )
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
                continue
            order: order_pb2.Order = answer.order
            if not order.uncertain and order.status != order_pb2.ORDER_STATUS_PENDING_NEW:
                return order
            await asyncio.sleep(0.05)


def of_key(venue_orders: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The venue's orders that carry the id derived from this key."""
    cloid = f"0x{order_id_of(VENUE, ACCOUNT_ID, key)}"
    return [row for row in venue_orders if row["order"]["cloid"] == cloid]


async def test_order_goes_from_client_to_portfolio(mesh: Mesh) -> None:
    """The main job: router, gateway, venue, JetStream, aggregator, and back to the client's stream."""
    watch = mesh.portfolio().StreamPortfolio(portfolio_service_pb2.StreamPortfolioRequest(), timeout=RECOVERY_S)
    answer = await submit(mesh, market_order("main-job"))
    assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    async for message in watch:
        positions = [
            position
            for account in (message.snapshot.accounts or message.delta.accounts)
            for position in account.positions
            if position.symbol == SYMBOL
        ]
        if any(position.quantity == "0.01" for position in positions):
            break
    else:
        pytest.fail("the portfolio stream ended before the position")
    watch.cancel()
    accounts = account_service_pb2_grpc.AccountServiceStub(mesh.channel("router"))
    history = await accounts.ListPositionHistory(
        account_service_pb2.ListPositionHistoryRequest(account_id=ACCOUNT_ID, symbol=SYMBOL), timeout=TIMEOUT_S
    )
    assert [(row.venue, row.quantity, row.change) for row in history.positions] == [
        (VENUE, "0.01", account_pb2.POSITION_CHANGE_OPEN)
    ]
    order = await settled(mesh, "main-job")
    assert (order.status, order.filled_quantity, order.leaves_quantity) == (order_pb2.ORDER_STATUS_FILLED, "0.01", "0")


async def test_routed_order_without_a_venue_is_repeated_to_the_same_venue(mesh: Mesh) -> None:
    """The router's choice is journalled: a repeat never makes another."""
    first = await submit(mesh, market_order("routed", venue=""))
    again = await submit(mesh, market_order("routed", venue=""))
    assert first.outcome == again.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert again.replayed
    assert (first.order.order_id, first.order.terms.venue) == (again.order.order_id, again.order.terms.venue)
    # Whichever venue was cheaper then: over all of them there is one order of this key.
    listed = await mesh.orders().ListOrders(
        order_service_pb2.ListOrdersRequest(account_id=ACCOUNT_ID), timeout=TIMEOUT_S
    )
    assert [order.order_id for order in listed.orders] == [first.order.order_id]


async def test_same_key_across_a_gateway_restart_is_one_venue_order(mesh: Mesh) -> None:
    """The first result comes back, also from another process."""
    request = limit_order("restart-key", price="20000")
    first = await submit(mesh, request)
    assert first.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    mesh.kill("gateway_hyperliquid", signal.SIGTERM)
    await mesh.wait_for_message("gateway_hyperliquid is up again")
    again = await submit_until_answered(mesh, request)
    assert again.replayed
    assert again.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert again.order.order_id == first.order.order_id
    assert len(of_key(await mesh.venue_orders(), "restart-key")) == 1


async def test_same_key_with_other_content_is_refused_and_names_the_order(mesh: Mesh) -> None:
    """A key is never two orders."""
    first = await submit(mesh, limit_order("reused", price="20000"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await submit(mesh, limit_order("reused", price="21000"))
    error = error_from_rpc(caught.value, is_write=True)
    assert (error.reason, error.sent) == (Reason.CLIENT_ORDER_ID_REUSED, Sent.NO)
    assert error.metadata["order_id"] == first.order.order_id


async def test_stream_client_that_reconnects_misses_and_doubles_nothing(mesh: Mesh) -> None:
    """Cut after every few messages and resumed, also over a killed gateway, the stream equals the journal."""
    seen: list[int] = []
    position = await _beginning(mesh)
    for round_number in range(3):
        for number in range(2):
            await submit_until_answered(mesh, market_order(f"stream-{round_number}-{number}"))
        last = f"stream-{round_number}-1"
        position = await _read_events(mesh, seen, position, until_key=last)
        if round_number == 0:
            mesh.kill("gateway_hyperliquid")
            await mesh.wait_for_message("gateway_hyperliquid is up again")
    assert seen == sorted(set(seen))
    everything: list[int] = []
    start = stream_pb2.StreamPosition(epoch=position.epoch, sequence=1)
    await _read_events(mesh, everything, start, until_key="stream-2-1")
    assert seen == everything[-len(seen) :]
    # Each market order makes at least three events: pending, accepted, filled.
    assert len(seen) >= 3 * 2 * 3


async def _read_events(
    mesh: Mesh, seen: list[int], position: stream_pb2.StreamPosition, *, until_key: str
) -> stream_pb2.StreamPosition:
    """Read numbered events behind a position until the key's order is done; returns where to go on."""
    async with asyncio.timeout(RECOVERY_S):
        while True:
            request = order_service_pb2.StreamExecutionReportsRequest(account_id=ACCOUNT_ID, venue=VENUE)
            request.options.resume_after.CopyFrom(position)
            call = mesh.orders().StreamExecutionReports(request)
            try:
                async for message in call:
                    if message.WhichOneof("body") != "event":
                        continue
                    seen.append(message.header.sequence)
                    position = _position_of(message.header)
                    order = message.event.execution_report.order
                    if order.terms.client_order_id == until_key and order.terminal:
                        return position
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
            finally:
                call.cancel()


def _position_of(header: stream_pb2.StreamHeader) -> stream_pb2.StreamPosition:
    return stream_pb2.StreamPosition(epoch=header.epoch, sequence=header.sequence)


async def _beginning(mesh: Mesh) -> stream_pb2.StreamPosition:
    """Where the account's numbering stands now."""
    call = mesh.orders().StreamExecutionReports(
        order_service_pb2.StreamExecutionReportsRequest(account_id=ACCOUNT_ID, venue=VENUE), timeout=TIMEOUT_S
    )
    async for message in call:
        if message.WhichOneof("body") == "snapshot_end":
            call.cancel()
            return _position_of(message.header)
    raise AssertionError("the stream ended before its snapshot did")


@pytest.mark.parametrize("point", ["intent_written", "event_queued"])
async def test_gateway_killed_before_the_request_left_is_proved_to_have_sent_none(tmp_path: Path, point: str) -> None:
    """Dead just after the journal write: no venue order, and the repeat gets to know."""
    settings = {"GATEWAY_HYPERLIQUID_CRASH_POINT": point, **SHORT_EXPIRY}
    async with running_mesh(tmp_path, settings=settings) as mesh:
        request = limit_order("dead-early", price="20000")
        try:
            lost = await submit(mesh, request)
        except grpc.aio.AioRpcError as error:
            assert error_from_rpc(error, is_write=True).sent is not Sent.NO
        else:
            assert lost.outcome == order_service_pb2.SUBMIT_OUTCOME_UNKNOWN
        await mesh.wait_for_message("gateway_hyperliquid is up again")
        order = await settled(mesh, "dead-early")
        assert order.status == order_pb2.ORDER_STATUS_REJECTED
        assert order.reject.reason == error_pb2.REASON_NEVER_REACHED_VENUE
        assert of_key(await mesh.venue_orders(), "dead-early") == []
        again = await submit_until_answered(mesh, request)
        assert (again.outcome, again.replayed) == (order_service_pb2.SUBMIT_OUTCOME_REJECTED, True)
        assert of_key(await mesh.venue_orders(), "dead-early") == []


@pytest.mark.parametrize("point", ["request_written", "answer_read", "answer_folded"])
async def test_gateway_killed_after_the_request_left_finds_its_one_order(tmp_path: Path, point: str) -> None:
    """Dead just after the socket write: one venue order, found by the id derived from the key."""
    settings = {"GATEWAY_HYPERLIQUID_CRASH_POINT": point, **SHORT_EXPIRY}
    async with running_mesh(tmp_path, settings=settings) as mesh:
        request = limit_order("dead-late", price="20000")
        try:
            lost = await submit(mesh, request)
        except grpc.aio.AioRpcError as error:
            assert error_from_rpc(error, is_write=True).sent is not Sent.NO
        else:
            assert lost.outcome == order_service_pb2.SUBMIT_OUTCOME_UNKNOWN
        await mesh.wait_for_message("gateway_hyperliquid is up again")
        again = await submit_until_answered(mesh, request)
        assert again.replayed
        order = await settled(mesh, "dead-late")
        there = of_key(await mesh.venue_orders(), "dead-late")
        if order.status == order_pb2.ORDER_STATUS_REJECTED:
            # A request in the socket of a process that died may never have been read.
            assert there == []
        else:
            assert order.status == order_pb2.ORDER_STATUS_NEW
            assert len(there) == 1


async def test_broker_gone_refuses_orders_passes_cancels_and_needs_no_restart(mesh: Mesh) -> None:
    """No journal, no order; a cancel gets through; all is well when the broker is back."""
    await submit(mesh, limit_order("before-outage", price="20000"))
    # Killed at once it would be back so soon that it could still store what the client sends again.
    mesh.kill("nats", signal.SIGSTOP)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mesh.orders("gateway_hyperliquid").SubmitOrder(limit_order("during", price="20000"), timeout=TIMEOUT_S)
    error = error_from_rpc(caught.value, is_write=True)
    assert (error.reason, error.sent) == (Reason.JOURNAL_UNAVAILABLE, Sent.NO)
    canceled = await mesh.orders("gateway_hyperliquid").CancelOrder(
        order_service_pb2.CancelOrderRequest(reference=by_key("before-outage")), timeout=TIMEOUT_S
    )
    assert canceled.outcome == order_service_pb2.CANCEL_OUTCOME_CANCELED
    mesh.kill("nats")
    await mesh.wait_for_message("nats is up again")
    after = await submit_until_answered(mesh, limit_order("after-outage", price="20000"))
    assert after.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert not any(f"{name} ended" in text for text in mesh.messages for name in ("gateway", "router", "aggregator"))


async def test_simulator_gone_and_back_needs_no_restart(mesh: Mesh) -> None:
    """The venue away: orders are refused, nothing dies, and trading goes on when it is back."""
    mesh.kill("simulator")
    await mesh.wait_for_message("simulator is up again")
    after = await submit_until_answered(mesh, market_order("after-venue"))
    assert after.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert not any(f"{name} ended" in text for text in mesh.messages for name in ("gateway", "router", "aggregator"))
