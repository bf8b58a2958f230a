"""RiskService of a gateway: the dead-man's switch of its own venue. Limits and the kill switch are the router's."""
# ruff: noqa: N802 - methods are named by the contract

from __future__ import annotations

from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.services.requests import missing, not_yet, required
from venuemesh.v1 import risk_service_pb2 as wire
from venuemesh.v1 import risk_service_pb2_grpc


class RiskServicer(risk_service_pb2_grpc.RiskServiceServicer):
    """Arms, renews and disarms; an account has one switch at a venue."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts

    async def ArmDeadMansSwitch(
        self, request: wire.ArmDeadMansSwitchRequest, context: Context
    ) -> wire.ArmDeadMansSwitchResponse:
        """Cancel the account's orders unless the lease is renewed in time; arming again replaces the lease."""
        for venue in request.venues:
            self._parts.desk.check_venue(venue, "venues")
        account_id = required(request.account_id, "account_id")
        if not request.HasField("lease"):
            raise missing("lease", "is required")
        switch = await self._parts.switches.arm(account_id, request.lease.ToNanoseconds() / 1e9)
        return wire.ArmDeadMansSwitchResponse(dead_mans_switch=switch)

    async def RenewLease(self, request: wire.RenewLeaseRequest, context: Context) -> wire.RenewLeaseResponse:
        """Say that the caller is alive."""
        switch = await self._parts.switches.renew(required(request.switch_id, "switch_id"))
        return wire.RenewLeaseResponse(dead_mans_switch=switch)

    async def DisarmDeadMansSwitch(
        self, request: wire.DisarmDeadMansSwitchRequest, context: Context
    ) -> wire.DisarmDeadMansSwitchResponse:
        """Take the switch away."""
        was_armed = await self._parts.switches.disarm(required(request.switch_id, "switch_id"))
        return wire.DisarmDeadMansSwitchResponse(was_armed=was_armed)

    async def GetRiskState(self, request: wire.GetRiskStateRequest, context: Context) -> wire.GetRiskStateResponse:
        """Not served yet."""
        raise not_yet("GetRiskState")

    async def SetTradingState(
        self, request: wire.SetTradingStateRequest, context: Context
    ) -> wire.SetTradingStateResponse:
        """Not served yet."""
        raise not_yet("SetTradingState")

    async def ListLimits(self, request: wire.ListLimitsRequest, context: Context) -> wire.ListLimitsResponse:
        """Not served yet."""
        raise not_yet("ListLimits")

    async def UpdateLimit(self, request: wire.UpdateLimitRequest, context: Context) -> wire.UpdateLimitResponse:
        """Not served yet."""
        raise not_yet("UpdateLimit")

    async def EngageKillSwitch(
        self, request: wire.EngageKillSwitchRequest, context: Context
    ) -> wire.EngageKillSwitchResponse:
        """Not served yet."""
        raise not_yet("EngageKillSwitch")

    async def ReleaseKillSwitch(
        self, request: wire.ReleaseKillSwitchRequest, context: Context
    ) -> wire.ReleaseKillSwitchResponse:
        """Not served yet."""
        raise not_yet("ReleaseKillSwitch")

    async def StreamRiskEvents(self, request: wire.StreamRiskEventsRequest, context: Context) -> None:  # type: ignore[override]
        """Not served yet."""
        raise not_yet("StreamRiskEvents")
