"""RiskService of a gateway: what halts, cancels and watches at its own venue. Limits and events are the router's."""
# ruff: noqa: N802 - methods are named by the contract

from __future__ import annotations

from typing import Any

from venuemesh.errors import MeshError
from venuemesh.gateway.attempts import duration
from venuemesh.gateway.dead_mans_switch import MAX_LEASE_S
from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.services.requests import missing, not_yet, required
from venuemesh.risk_commands import RiskCommands, signature
from venuemesh.risk_scope import Scope, parse_scope
from venuemesh.v1 import risk_pb2, risk_service_pb2_grpc
from venuemesh.v1 import risk_service_pb2 as wire


class RiskServicer(risk_service_pb2_grpc.RiskServiceServicer):
    """Dead-man's switches, one per account; trading state and kill switch of the venue, also without a router."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts
        self._venue = parts.venue.name
        self._commands = RiskCommands(parts.risk, parts.clock)

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
        """What operators have set that touches this venue, and its own switches; limits are the router's."""
        here, board = Scope(venue=self._venue), self._parts.risk.board
        kills = [kill for kill in board.engaged() if Scope.of(kill.scope).touches(here)]
        state = risk_pb2.RiskState(
            trading_states=[one for one in board.trading_states() if Scope.of(one.scope).touches(here)],
            kill_switch=kills[0] if kills else None,
            kill_switches=kills,
            dead_mans_switches=[self._parts.switches.armed[name] for name in sorted(self._parts.switches.armed)],
            max_lease=duration(MAX_LEASE_S),
        )
        return wire.GetRiskStateResponse(risk_state=state)

    async def SetTradingState(
        self, request: wire.SetTradingStateRequest, context: Context
    ) -> wire.SetTradingStateResponse:
        """Set the state of this venue or a part of it, for the whole mesh to know."""
        return wire.SetTradingStateResponse(
            trading_state=await self._commands.set_trading_state(request, self._scope(request))
        )

    async def ListLimits(self, request: wire.ListLimitsRequest, context: Context) -> wire.ListLimitsResponse:
        """Not served yet."""
        raise not_yet("ListLimits")

    async def UpdateLimit(self, request: wire.UpdateLimitRequest, context: Context) -> wire.UpdateLimitResponse:
        """Not served yet."""
        raise not_yet("UpdateLimit")

    async def EngageKillSwitch(
        self, request: wire.EngageKillSwitchRequest, context: Context
    ) -> wire.EngageKillSwitchResponse:
        """Halt, cancel and verify at this venue; also while the broker is away, which the answer then says."""
        scope = self._scope(request)
        operator, reason = signature(request)
        kill = self._covering(scope)
        fault = ""
        if kill is None:
            kill = self._commands.new_kill(scope, operator, reason, (self._venue,))
            # Halted before it is stored: the broker must not be waited for.
            self._parts.risk.board.hold(kill)
            try:
                # The bucket may have a wider one already, such as the router's that called.
                await self._parts.risk.load()
                stored = self._covering(scope)
                if stored is not None:
                    self._parts.risk.board.let_go(scope)
                kill = stored or await self._commands.engage(kill)
            except MeshError as error:
                fault = f"not stored, so a restart of the gateway forgets it: {error.message}"
        result = await self._parts.kill_switch.execute(kill)
        if fault:
            result.message = "; ".join(filter(None, (fault, result.message)))
        shown = risk_pb2.KillSwitchState()
        shown.CopyFrom(kill)
        del shown.venues[:]
        shown.venues.append(result)
        return wire.EngageKillSwitchResponse(kill_switch=shown)

    def _covering(self, scope: Scope) -> risk_pb2.KillSwitchState | None:
        """A stored kill switch that halts the scope already."""
        kills = self._parts.risk.board.kills.values()
        return next((kill for kill in kills if kill.engaged and Scope.of(kill.scope).includes(scope)), None)

    async def ReleaseKillSwitch(
        self, request: wire.ReleaseKillSwitchRequest, context: Context
    ) -> wire.ReleaseKillSwitchResponse:
        """Release what was engaged for this venue or a part of it; a wider one is released at the router."""
        operator, reason = signature(request)
        scope = self._scope(request)
        kill = await self._commands.release(scope, operator, reason)
        self._parts.risk.board.let_go(scope)
        return wire.ReleaseKillSwitchResponse(kill_switch=kill)

    def _scope(self, request: Any) -> Scope:
        """The request's scope within this venue."""
        scope = parse_scope(request.scope)
        self._parts.desk.check_venue(scope.venue, "scope.venue")
        if scope.account_id:
            self._parts.desk.account(scope.account_id, "scope.account_id")
        return Scope(venue=self._venue, account_id=scope.account_id, symbol=scope.symbol)

    async def StreamRiskEvents(self, request: wire.StreamRiskEventsRequest, context: Context) -> None:  # type: ignore[override]
        """Not served yet."""
        raise not_yet("StreamRiskEvents")
