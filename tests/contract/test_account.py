"""What an account's past and its safety devices look like from outside."""

from __future__ import annotations

from decimal import Decimal

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.contract.client import BUY, CALL_S, SELL, Client
from tests.contract.refusals import read_refusal, refused
from venuemesh.v1 import (
    account_pb2,
    account_service_pb2,
    order_pb2,
    risk_pb2,
    risk_service_pb2,
    risk_service_pb2_grpc,
    venue_pb2,
)

LEASE_S = 30
SHORT_LEASE_S = 2


async def test_history_of_a_position_tells_each_change(client: Client) -> None:
    """Opened, enlarged, made smaller, closed: newest first, with what was held after each."""
    if await client.position():
        pytest.skip("the account holds a position")
    quote = await client.quote()
    one, two = client.quantity(quote), client.quantity(quote, times=2)
    steps = [(BUY, one), (BUY, two), (SELL, one), (SELL, two)]
    begun = await client.account()
    orders = [await client.take(side, quantity=quantity) for side, quantity in steps]
    await client.fills(orders[-1])
    request = account_service_pb2.ListPositionHistoryRequest(
        account_id=client.account_id, venue=client.name, symbol=client.symbol, from_time=orders[0].created_time
    )
    rows: list[account_pb2.Position] = []
    # A position's change is durable a moment after the fill that made it.
    while not rows or Decimal(rows[0].quantity):
        answer = await client.accounts.ListPositionHistory(request, timeout=CALL_S)
        rows = list(answer.positions)
    assert begun.position.epoch == (await client.account()).position.epoch
    changes = [row.change for row in reversed(rows)]
    assert changes[0] == account_pb2.POSITION_CHANGE_OPEN
    assert changes[-1] == account_pb2.POSITION_CHANGE_CLOSE
    assert {account_pb2.POSITION_CHANGE_INCREASE, account_pb2.POSITION_CHANGE_DECREASE} <= set(changes)
    held = {Decimal(row.quantity) for row in rows}
    assert {Decimal(one), Decimal(one) + Decimal(two), Decimal(two), Decimal(0)} <= held
    assert all(
        (row.account_id, row.venue, row.symbol) == (client.account_id, client.name, client.symbol) for row in rows
    )
    assert not rows[0].HasField("entry_price")


async def test_leverage_out_of_range_is_refused_before_it_is_sent(client: Client) -> None:
    """Under one, over the instrument's highest, or no number."""
    if not client.instrument.HasField("max_leverage"):
        pytest.skip("the instrument has no leverage")
    over = str(int(Decimal(client.instrument.max_leverage)) + 1)
    for leverage, reason in (("0", "LEVERAGE_OUT_OF_RANGE"), (over, "LEVERAGE_OUT_OF_RANGE"), ("x", "INVALID_DECIMAL")):
        request = account_service_pb2.SetLeverageRequest(
            account_id=client.account_id, venue=client.name, symbol=client.symbol, leverage=leverage
        )
        refusal = await refused(client.accounts.SetLeverage(request, timeout=CALL_S))
        assert (refusal.reason, refusal.sent) == (reason, "no"), leverage


async def test_transfer_between_sections_the_record_does_not_list_is_refused(client: Client) -> None:
    """Nothing moves where the venue has nothing to move between."""
    request = account_service_pb2.TransferCollateralRequest(
        account_id=client.account_id,
        venue=client.name,
        asset=client.instrument.settle_asset,
        amount="1",
        from_section="",
        to_section="no-such-section",
        request_id=client.key(),
    )
    refusal = await refused(client.accounts.TransferCollateral(request, timeout=CALL_S))
    assert refusal.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)
    assert refusal.sent == "no"


async def test_dead_mans_switch_is_armed_renewed_and_disarmed_as_the_record_says(client: Client) -> None:
    """Renewing moves its deadline on; disarming it twice says that it was gone. Refused by name where there is none."""
    stub = risk_service_pb2_grpc.RiskServiceStub(client.channel)
    request = risk_service_pb2.ArmDeadMansSwitchRequest(
        account_id=client.account_id, venues=[client.name], lease=Duration(seconds=LEASE_S)
    )
    try:
        switch = (await stub.ArmDeadMansSwitch(request, timeout=CALL_S)).dead_mans_switch
    except grpc.aio.AioRpcError as error:
        refusal = read_refusal(error)
        assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
        assert client.capabilities.dead_mans_switch == venue_pb2.PROVISION_NONE or refusal.reason == "NOT_IMPLEMENTED"
        pytest.skip("the gateway has no dead-man's switch")
    try:
        assert (switch.account_id, switch.lease.seconds) == (client.account_id, LEASE_S)
        assert switch.state == risk_pb2.DEAD_MANS_SWITCH_STATE_ARMED
        assert [row.venue for row in switch.venues] == [client.name]
        lease = risk_service_pb2.RenewLeaseRequest(switch_id=switch.switch_id)
        renewed = (await stub.RenewLease(lease, timeout=CALL_S)).dead_mans_switch
        assert renewed.deadline.ToNanoseconds() >= switch.deadline.ToNanoseconds()
    finally:
        disarm = risk_service_pb2.DisarmDeadMansSwitchRequest(switch_id=switch.switch_id)
        gone = await stub.DisarmDeadMansSwitch(disarm, timeout=CALL_S)
    assert gone.was_armed
    assert not (await stub.DisarmDeadMansSwitch(disarm, timeout=CALL_S)).was_armed


async def test_dead_mans_switch_that_is_not_renewed_cancels_what_rests(client: Client) -> None:
    """The caller is gone for longer than its lease: its orders go too."""
    if client.capabilities.dead_mans_switch == venue_pb2.PROVISION_NONE:
        pytest.skip("the venue lists no dead-man's switch")
    if await client.open_orders():
        pytest.skip("the account has other open orders")
    order = await client.rest()
    stub = risk_service_pb2_grpc.RiskServiceStub(client.channel)
    request = risk_service_pb2.ArmDeadMansSwitchRequest(
        account_id=client.account_id, venues=[client.name], lease=Duration(seconds=SHORT_LEASE_S)
    )
    try:
        switch = (await stub.ArmDeadMansSwitch(request, timeout=CALL_S)).dead_mans_switch
    except grpc.aio.AioRpcError as error:
        assert "lease" in read_refusal(error).fields
        pytest.skip("the venue takes no lease short enough for a test")
    ended = await client.until_terminal(order.terms.client_order_id)
    assert ended.status == order_pb2.ORDER_STATUS_CANCELED
    disarm = risk_service_pb2.DisarmDeadMansSwitchRequest(switch_id=switch.switch_id)
    assert not (await stub.DisarmDeadMansSwitch(disarm, timeout=CALL_S)).was_armed
