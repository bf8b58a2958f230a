"""From submit to the last fill: what the stream tells adds up exactly, and lists, positions and balances agree."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal
from typing import Any

import pytest

from tests.contract.client import BUY, CALL_S, SELL, Client, opened, read_until
from tests.contract.numbers import is_canonical
from venuemesh.v1 import account_service_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire
from venuemesh.v1 import reconciliation_service_pb2 as reconciliation

ZERO = Decimal(0)
WIDE = Context(prec=60)
# An average may be rounded: the contract gives decimals 18 digits after the point.
AVERAGE_TOLERANCE = Decimal("1e-15")
STATUS_OF = {
    pb.EXECUTION_TYPE_PENDING_NEW: pb.ORDER_STATUS_PENDING_NEW,
    pb.EXECUTION_TYPE_NEW: pb.ORDER_STATUS_NEW,
    pb.EXECUTION_TYPE_CANCELED: pb.ORDER_STATUS_CANCELED,
}


async def reports_of(stream: Any, *keys: str) -> dict[str, list[pb.ExecutionReport]]:
    """Reports of these orders, in their order, until the last of them is terminal."""
    found: dict[str, list[pb.ExecutionReport]] = {key: [] for key in keys}
    waiting = set(keys)
    while waiting:
        message = (await read_until(stream, "event"))[-1]
        report = message.event.execution_report
        key = report.order.terms.client_order_id
        if key in found:
            found[key].append(report)
            if report.order.terminal:
                waiting.discard(key)
    return found


def check_amounts(reports: Iterable[pb.ExecutionReport]) -> list[pb.Fill]:
    """Every report's amounts follow from the fills before it; returns the fills."""
    fills: list[pb.Fill] = []
    version = 0
    for report in reports:
        order = report.order
        if report.HasField("fill"):
            assert report.execution_type == pb.EXECUTION_TYPE_TRADE
            fills.append(report.fill)
        filled, leaves = Decimal(order.filled_quantity), Decimal(order.leaves_quantity)
        assert filled == sum((Decimal(fill.quantity) for fill in fills), ZERO)
        assert leaves == (ZERO if order.terminal else Decimal(order.terms.quantity) - filled)
        assert order.HasField("average_price") == bool(fills)
        if fills:
            cost = sum((Decimal(fill.quantity) * Decimal(fill.price) for fill in fills), ZERO)
            exact = WIDE.divide(cost, filled)
            assert abs(WIDE.subtract(Decimal(order.average_price), exact)) <= AVERAGE_TOLERANCE * exact
        fees: dict[str, Decimal] = {}
        for fill in fills:
            fees[fill.fee_asset] = fees.get(fill.fee_asset, ZERO) + Decimal(fill.fee)
        assert {row.asset: Decimal(row.amount) for row in order.fees if Decimal(row.amount)} == {
            asset: amount for asset, amount in fees.items() if amount
        }
        assert order.order_version > version
        version = order.order_version
        assert not (order.working and order.terminal)
        for text in (order.filled_quantity, order.leaves_quantity):
            assert is_canonical(text)
    return fills


async def test_resting_order_that_is_cancelled_is_told_step_by_step(client: Client) -> None:
    """Journalled, accepted, asked to cancel, cancelled: nothing skipped, nothing doubled."""
    async with opened(client.reports()) as stream:
        await read_until(stream, "snapshot_end")
        order = await client.rest()
        key = order.terms.client_order_id
        await client.cancel(client.by_key(key))
        reports = (await reports_of(stream, key))[key]
    kinds = [report.execution_type for report in reports]
    assert kinds[0] == pb.EXECUTION_TYPE_PENDING_NEW
    assert kinds[-1] == pb.EXECUTION_TYPE_CANCELED
    assert kinds.count(pb.EXECUTION_TYPE_NEW) == 1
    assert pb.EXECUTION_TYPE_PENDING_CANCEL in kinds
    for report in reports:
        assert report.order.status == STATUS_OF.get(report.execution_type, report.order.status)
        assert report.origin != pb.ORIGIN_UNSPECIFIED
    assert check_amounts(reports) == []


async def test_filled_order_adds_up_on_stream_lists_position_and_balance(client: Client) -> None:
    """Buy and sell: fills of the stream = fills listed = filled quantity = change of the position."""
    before = await client.position()
    async with opened(client.reports()) as stream:
        await read_until(stream, "snapshot_end")
        bought = await client.take(BUY, quantity=client.quantity(await client.quote(), times=5))
        held = await client.position()
        sold = await client.take(SELL, quantity=bought.terms.quantity)
        keys = [bought.terms.client_order_id, sold.terms.client_order_id]
        reports = await reports_of(stream, *keys)
    assert held - before == Decimal(bought.filled_quantity)
    assert await client.position() == before
    for order, key in zip((bought, sold), keys, strict=True):
        fills = check_amounts(reports[key])
        assert fills
        assert reports[key][-1].order.status == pb.ORDER_STATUS_FILLED
        assert [fill.execution_id for fill in reversed(await client.fills(order))] == [
            fill.execution_id for fill in fills
        ]
        assert len({fill.execution_id for fill in fills}) == len(fills)
        for fill in fills:
            check_fill(client, fill, order)


def check_fill(client: Client, fill: pb.Fill, order: pb.Order) -> None:
    """A fill names its order by every id, and its time and fee."""
    assert (fill.account_id, fill.venue, fill.symbol) == (client.account_id, client.name, client.symbol)
    assert (fill.order_id, fill.client_order_id) == (order.order_id, order.terms.client_order_id)
    assert fill.venue_order_id in order.venue_order_ids
    assert fill.side == order.terms.side
    assert fill.trade_id
    assert fill.fee_asset
    assert fill.liquidity_role == pb.LIQUIDITY_ROLE_TAKER
    assert fill.venue_time.ToNanoseconds() > 0
    assert fill.received_time.ToNanoseconds() > 0
    for text in (fill.quantity, fill.price, fill.fee):
        assert is_canonical(text)


async def test_position_is_the_sum_of_its_fills(client: Client) -> None:
    """Quantity, exact cost and average entry of what was bought from flat."""
    if await client.position():
        pytest.skip("the account holds a position; the test above has its change")
    orders = [await client.take(BUY), await client.take(BUY)]
    fills = [fill for order in orders for fill in await client.fills(order)]
    quantity = sum((Decimal(fill.quantity) for fill in fills), ZERO)
    cost = sum((Decimal(fill.quantity) * Decimal(fill.price) for fill in fills), ZERO)
    request = account_service_pb2.ListPositionsRequest(
        account_id=client.account_id, venue=client.name, symbols=[client.symbol]
    )
    position = (await client.accounts.ListPositions(request, timeout=CALL_S)).positions[0]
    assert (Decimal(position.quantity), Decimal(position.open_cost)) == (quantity, cost)
    exact = WIDE.divide(cost, quantity)
    assert abs(WIDE.subtract(Decimal(position.entry_price), exact)) <= AVERAGE_TOLERANCE * exact
    assert position.settle_asset == client.instrument.settle_asset
    if position.HasField("mark_price"):
        assert Decimal(position.unrealized_pnl) == quantity * Decimal(position.mark_price) - cost


async def test_balances_are_there_and_hold_what_they_say(client: Client) -> None:
    """The settlement asset is among them; no more is available than there is, profit not yet realized included."""
    equity = Decimal((await client.account()).summary.equity)
    request = account_service_pb2.ListBalancesRequest(account_id=client.account_id, venue=client.name)
    rows = (await client.accounts.ListBalances(request, timeout=CALL_S)).balances
    assert any(row.asset == client.instrument.settle_asset and Decimal(row.total) > 0 for row in rows)
    names = [(row.venue_section, row.asset) for row in rows]
    assert len(set(names)) == len(names)
    for row in rows:
        assert (row.account_id, row.venue) == (client.account_id, client.name)
        assert is_canonical(row.total)
        assert is_canonical(row.available)
        assert Decimal(row.available) <= max(Decimal(row.total), equity)
        assert row.updated_time.ToNanoseconds() > 0


async def test_order_in_the_stream_equals_the_order_read(client: Client) -> None:
    """The last report of an order is what GetOrder and ListOrders give."""
    async with opened(client.reports()) as stream:
        await read_until(stream, "snapshot_end")
        order = await client.take()
        key = order.terms.client_order_id
        told = (await reports_of(stream, key))[key][-1].order
    read = await client.order(key)
    request = wire.ListOrdersRequest(account_id=client.account_id, venue=client.name, symbol=client.symbol, page_size=1)
    listed = (await client.orders.ListOrders(request, timeout=CALL_S)).orders[0]
    assert told == read == listed


async def test_reconciliation_with_the_venue_finds_nothing(client: Client) -> None:
    """After trading, a comparison on request agrees, and no order of ours is in doubt."""
    await client.rest()
    await client.take()
    request = reconciliation.TriggerReconciliationRequest(account_id=client.account_id, venue=client.name)
    report = (await client.reconciliation.TriggerReconciliation(request, timeout=2 * CALL_S)).report
    assert not report.error
    assert [row for row in report.discrepancies if row.symbol == client.symbol] == []
    assert report.orders_compared >= 1
    assert report.fills_compared >= 1
    last = reconciliation.GetReconciliationReportRequest(account_id=client.account_id, venue=client.name)
    again = (await client.reconciliation.GetReconciliationReport(last, timeout=CALL_S)).report
    assert again.begin_time.ToNanoseconds() >= report.begin_time.ToNanoseconds()
    uncertain = reconciliation.ListUncertainOrdersRequest(account_id=client.account_id, venue=client.name)
    rows = (await client.reconciliation.ListUncertainOrders(uncertain, timeout=CALL_S)).uncertain_orders
    assert not [row for row in rows if row.order.terms.client_order_id.startswith(f"cf-{client.run}")]
