"""RiskService of the router: limits, trading state, kill switch and dead-man's switch over all venues."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from google.protobuf.duration_pb2 import Duration

from router.calls import Context
from router.facade import Facade, fill_in
from router.risk_events import RiskEvents
from router.risk_kill import KillSwitches
from router.risk_ledger import ZERO, Ledger
from router.risk_switches import Switches
from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest, JournalUnavailable, MeshError, Reason, VersionConflict
from venuemesh.gateway.dead_mans_switch import MAX_LEASE_S
from venuemesh.money import format_decimal, parse_decimal, to_wire
from venuemesh.risk_commands import RiskCommands, signature, stamp
from venuemesh.risk_scope import Scope, parse_scope
from venuemesh.risk_store import RiskStore
from venuemesh.stream_options import EVENTS, StreamTerms, parse_stream_options
from venuemesh.stream_queue import Entry
from venuemesh.streaming import StreamHub, StreamPlan, Topic, responder
from venuemesh.v1 import order_pb2, risk_pb2, stream_pb2
from venuemesh.v1 import risk_service_pb2 as pb

log = logging.getLogger(__name__)

METHOD = "/venuemesh.v1.RiskService/StreamRiskEvents"
MAX_LIMITS = 1_000
"""Limits in force at once; each is looked at for every order it covers."""
_WHOLE = frozenset({risk_pb2.RISK_LIMIT_TYPE_MAX_OPEN_ORDERS})
_respond = responder(
    pb.StreamRiskEventsResponse,
    lambda item: {"snapshot" if isinstance(item, risk_pb2.RiskState) else "risk_event": item},
)


class RiskView:
    """What is shown of risk: the board, with what each limit has in use."""

    def __init__(self, store: RiskStore, ledger: Ledger, kills: KillSwitches, events: RiskEvents) -> None:
        self._board = store.board
        self._ready = store.ready
        self._ledger = ledger
        self._kills = kills
        self._events = events

    def require_ready(self) -> None:
        """Return once the bucket was read.

        Raises:
            JournalUnavailable: it was not, so that nobody knows what is set.
        """
        if not self._ready.is_set():
            raise JournalUnavailable("the risk bucket has not been read yet", retry_after_s=1.0)

    def state(self) -> risk_pb2.RiskState:
        """Everything now."""
        kills = [self._kills.shown(kill) for kill in self._board.engaged()]
        return risk_pb2.RiskState(
            trading_states=self._board.trading_states(),
            limits=self.limits(Scope()),
            kill_switch=kills[0] if kills else None,
            kill_switches=kills,
            dead_mans_switches=self._events.armed(),
            max_lease=Duration(seconds=int(MAX_LEASE_S)),
        )

    def limits(self, scope: Scope) -> list[risk_pb2.RiskLimit]:
        """Limits that touch a scope, with their use."""
        return [self.with_use(limit) for limit in self._board.current_limits() if Scope.of(limit.scope).touches(scope)]

    def with_use(self, limit: risk_pb2.RiskLimit) -> risk_pb2.RiskLimit:
        """A limit with what it has in use now."""
        shown = risk_pb2.RiskLimit()
        shown.CopyFrom(limit)
        scope = Scope.of(limit.scope)
        known = next(
            (one for one in self._ledger.limits if (one.scope, one.limit_type) == (scope, limit.limit_type)), None
        )
        used = None if known is None else self._ledger.used(known)
        shown.used = "" if used is None else format_decimal(to_wire(used))
        return shown


@fill_in(pb.DESCRIPTOR.services_by_name["RiskService"])
class RiskServicer:
    """Risk as operators and callers set and see it."""

    def __init__(
        self,
        facade: Facade,
        store: RiskStore,
        view: RiskView,
        kills: KillSwitches,
        events: RiskEvents,
        hub: StreamHub,
        clock: Clock,
    ) -> None:
        self.facade = facade
        self._store = store
        self._view = view
        self._kills = kills
        self._events = events
        self._hub = hub
        self._clock = clock
        self._commands = RiskCommands(store, clock)
        self._switches = Switches(facade)

    def _scope(self, request: Any) -> Scope:
        """The scope of a request; a venue it names must be one of the mesh, lest a limit covers nothing."""
        scope = parse_scope(request.scope)
        if scope.venue:
            self.facade.link(scope.venue, field="scope.venue")
        return scope

    # --- state and limits ---

    async def GetRiskState(self, request: pb.GetRiskStateRequest, context: Context) -> pb.GetRiskStateResponse:  # noqa: N802
        """Everything now."""
        self._view.require_ready()
        return pb.GetRiskStateResponse(risk_state=self._view.state())

    async def SetTradingState(self, request: pb.SetTradingStateRequest, context: Context) -> pb.SetTradingStateResponse:  # noqa: N802
        """Active, reduce-only or halted; gateways follow within the broker's latency, this router at once."""
        state = await self._commands.set_trading_state(request, self._scope(request))
        return pb.SetTradingStateResponse(trading_state=state)

    async def ListLimits(self, request: pb.ListLimitsRequest, context: Context) -> pb.ListLimitsResponse:  # noqa: N802
        """Limits that touch the scope, widest first."""
        self._view.require_ready()
        return pb.ListLimitsResponse(limits=self._view.limits(parse_scope(request.scope)))

    async def UpdateLimit(self, request: pb.UpdateLimitRequest, context: Context) -> pb.UpdateLimitResponse:  # noqa: N802
        """Set, change or remove a limit."""
        operator, reason = signature(request)
        wanted = risk_pb2.RiskLimit(
            scope=self._scope(request).message(),
            limit_type=_limit_type(request),
            limit=_bound(request),
            set_by=operator,
            reason=reason,
            set_time=stamp(self._clock),
        )
        expected = request.expected_version if request.HasField("expected_version") else None

        def make(known: risk_pb2.RiskLimit | None) -> risk_pb2.RiskLimit | None:
            same = known is not None and (known.limit, known.set_by, known.reason) == (wanted.limit, operator, reason)
            version = known.version if known is not None else 0
            if same and expected in (None, version, version - 1):
                # The first call's answer was lost, or it is as it should be.
                return None
            gone = known is None or not known.limit
            if expected is not None and expected != version and not (expected == 0 and gone):
                raise VersionConflict(
                    f"expected_version: the limit has version {version}, not {expected}",
                    field="expected_version",
                    metadata={"version": str(version), "limit": known.limit if known is not None else ""},
                )
            self._check_room(known)
            return None if gone and not wanted.limit else wanted

        stored = await self._store.change(wanted, make)
        shown = self._view.with_use(stored) if stored.limit else None
        return pb.UpdateLimitResponse(limit=shown)

    def _check_room(self, known: risk_pb2.RiskLimit | None) -> None:
        if known is None and len(self._store.board.limits) >= MAX_LIMITS:
            raise InvalidRequest(f"{MAX_LIMITS} limits were set already, which is the most there may be")

    # --- kill switch ---

    async def EngageKillSwitch(  # noqa: N802
        self, request: pb.EngageKillSwitchRequest, context: Context
    ) -> pb.EngageKillSwitchResponse:
        """Halt, cancel, verify; goes on after the answer until every venue has verified."""
        operator, reason = signature(request)
        kill = await self._kills.engage(self._scope(request), operator, reason)
        return pb.EngageKillSwitchResponse(kill_switch=kill)

    async def ReleaseKillSwitch(  # noqa: N802
        self, request: pb.ReleaseKillSwitchRequest, context: Context
    ) -> pb.ReleaseKillSwitchResponse:
        """Let trading begin again in exactly this scope."""
        operator, reason = signature(request)
        kill = await self._kills.release(self._scope(request), operator, reason)
        return pb.ReleaseKillSwitchResponse(kill_switch=kill)

    # --- dead-man's switch ---

    async def ArmDeadMansSwitch(  # noqa: N802
        self, request: pb.ArmDeadMansSwitchRequest, context: Context
    ) -> pb.ArmDeadMansSwitchResponse:
        """Arm it at the venues named, or at all that serve the account."""
        return pb.ArmDeadMansSwitchResponse(dead_mans_switch=await self._switches.arm(request, context))

    async def RenewLease(self, request: pb.RenewLeaseRequest, context: Context) -> pb.RenewLeaseResponse:  # noqa: N802
        """Renew it at every venue that its id names."""
        return pb.RenewLeaseResponse(dead_mans_switch=await self._switches.renew(request))

    async def DisarmDeadMansSwitch(  # noqa: N802
        self, request: pb.DisarmDeadMansSwitchRequest, context: Context
    ) -> pb.DisarmDeadMansSwitchResponse:
        """Disarm it at every venue that its id names."""
        return pb.DisarmDeadMansSwitchResponse(was_armed=await self._switches.disarm(request))

    # --- events ---

    async def StreamRiskEvents(  # noqa: N802
        self, request: pb.StreamRiskEventsRequest, context: Context
    ) -> AsyncIterator[pb.StreamRiskEventsResponse]:
        """State now or the events behind a position, then each change and refusal."""
        terms = parse_stream_options(request.options, EVENTS)
        scope = parse_scope(request.scope)
        self._view.require_ready()
        topic = self._events.current()
        note = _why_not_resumed(topic, terms)
        resumed = terms.resume_after is not None and not note
        outcome = stream_pb2.RESUME_OUTCOME_UNSPECIFIED
        if terms.resume_after is not None:
            outcome = stream_pb2.RESUME_OUTCOME_RESUMED if resumed else stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD
        plan = StreamPlan[Any](
            terms=terms,
            method=METHOD,
            peer=context.peer(),
            accepts=lambda event: Scope.of(event.scope).touches(scope),
            snapshot=None if resumed else lambda: [Entry(self._view.state(), topic.sequence)],
            history=self._events.history if resumed else None,
            resume_outcome=outcome,
            resume_note=note,
        )
        async with aclosing(self._hub.serve(topic, plan, _respond)) as messages:
            async for message in messages:
                yield message


def _why_not_resumed(topic: Topic[Any], terms: StreamTerms) -> str:
    if terms.resume_after is None:
        return ""
    if terms.resume_epoch != topic.epoch:
        return f"epoch {terms.resume_epoch!r} is over, the numbering in force is {topic.epoch!r}"
    if terms.resume_after > topic.sequence:
        return f"position {terms.resume_after} is ahead of the newest event, {topic.sequence}"
    return ""


def _limit_type(request: pb.UpdateLimitRequest) -> risk_pb2.RiskLimitType.ValueType:
    if request.limit_type == risk_pb2.RISK_LIMIT_TYPE_UNSPECIFIED:
        raise InvalidRequest("limit_type: is required", reason=Reason.REQUIRED_FIELD_MISSING, field="limit_type")
    if request.limit_type not in risk_pb2.RiskLimitType.values():
        raise InvalidRequest(f"limit_type: {request.limit_type} is no limit this router knows", field="limit_type")
    return request.limit_type


def _bound(request: pb.UpdateLimitRequest) -> str:
    """The new bound; empty to remove the limit."""
    if not request.HasField("limit"):
        return ""
    bound = parse_decimal(request.limit, field="limit")
    if bound < ZERO:
        raise InvalidRequest(f"limit: {request.limit} is negative", field="limit")
    if request.limit_type in _WHOLE and bound != bound.to_integral_value():
        raise InvalidRequest(f"limit: {request.limit} is no whole number of orders", field="limit")
    return request.limit


class RefusalNews:
    """Tells as events which limits refuse orders: each at most once per period."""

    def __init__(self, events: RiskEvents, store: RiskStore, clock: Clock, period_s: float) -> None:
        self._events = events
        self._store = store
        self._clock = clock
        self._period_s = period_s
        self._told_s: dict[tuple[str, str], float] = {}
        self._waiting: asyncio.Queue[tuple[risk_pb2.RiskLimit, str]] = asyncio.Queue(maxsize=100)

    def on_refusal(self, order: order_pb2.NewOrder, error: MeshError) -> None:
        """Note a refusal; those by anything but a limit are in the log of the call."""
        key = (error.metadata.get("limit_type", ""), error.metadata.get("scope", ""))
        if not key[0]:
            return
        now_s = self._clock.monotonic_s()
        if now_s - self._told_s.get(key, float("-inf")) < self._period_s or self._waiting.full():
            return
        record = next((one for one in self._store.board.current_limits() if _names(one) == key), None)
        if record is None:
            return
        self._told_s[key] = now_s
        shown = risk_pb2.RiskLimit()
        shown.CopyFrom(record)
        shown.used = error.metadata.get("used", "0")
        text = f"refused {order.client_order_id} of {order.account_id} at {order.venue}: {error.message}"
        self._waiting.put_nowait((shown, text))

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            limit, text = await self._waiting.get()
            try:
                await self._events.tell_refusal(limit, text)
            except JournalUnavailable as error:
                log.warning("risk_event_not_stored", extra={"cause": error.message})


def _names(limit: risk_pb2.RiskLimit) -> tuple[str, str]:
    kind = risk_pb2.RiskLimitType.Name(limit.limit_type).removeprefix("RISK_LIMIT_TYPE_")
    return kind, str(Scope.of(limit.scope))
