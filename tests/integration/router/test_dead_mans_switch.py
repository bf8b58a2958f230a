"""The dead-man's switch of one venue through the router, over a real gateway."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.broker import Broker
from tests.integration.gateway.served_gateway import serving_gateway
from tests.integration.router.support import running
from venuemesh.errors import MeshError, Reason
from venuemesh.status import error_from_rpc
from venuemesh.v1 import risk_pb2
from venuemesh.v1 import risk_service_pb2 as risk
from venuemesh.v1.risk_service_pb2_grpc import RiskServiceStub


async def refusal(call: Any) -> MeshError:
    """The error a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value, is_write=True)


async def test_switch_of_a_named_venue_is_armed_renewed_and_disarmed_at_its_gateway(broker: Broker) -> None:
    """Its id names the venue."""
    async with serving_gateway(broker) as gateway:
        await gateway.server.health.set("venue/fakevenue", True)
        there: Any = SimpleNamespace(venue="fakevenue", address=gateway.server.address, _server=gateway.server)
        async with running(broker.url, there) as (_, channel):
            stub: Any = RiskServiceStub(channel)
            request = risk.ArmDeadMansSwitchRequest(account_id="main", venues=["fakevenue"], lease=Duration(seconds=60))
            switch = (await stub.ArmDeadMansSwitch(request, timeout=5)).dead_mans_switch
            assert switch.state == risk_pb2.DEAD_MANS_SWITCH_STATE_ARMED
            assert gateway.core.switches.armed["main"].deadline == switch.deadline
            renewed = (
                await stub.RenewLease(risk.RenewLeaseRequest(switch_id=switch.switch_id), timeout=5)
            ).dead_mans_switch
            assert renewed.deadline.ToNanoseconds() > switch.deadline.ToNanoseconds()
            disarm = risk.DisarmDeadMansSwitchRequest(switch_id=switch.switch_id)
            assert (await stub.DisarmDeadMansSwitch(disarm, timeout=5)).was_armed
            assert gateway.core.switches.armed == {}
            unknown = await refusal(stub.RenewLease(risk.RenewLeaseRequest(switch_id="nowhere/main"), timeout=5))
            assert (unknown.reason, unknown.field) == (Reason.VENUE_NOT_FOUND, "switch_id")
