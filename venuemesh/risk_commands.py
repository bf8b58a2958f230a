"""What an operator does to risk, checked and written: trading state and kill switch, the same at router and gateway."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest, Reason
from venuemesh.risk_scope import Scope, parse_scope
from venuemesh.risk_store import RiskStore
from venuemesh.v1 import risk_pb2, risk_service_pb2

MAX_OPERATOR = 64
MAX_REASON = 512


def signature(request: Any) -> tuple[str, str]:
    """Operator and reason of a request; both are mandatory.

    Raises:
        InvalidRequest: one is missing or too long; names it.
    """
    for field, most in (("operator", MAX_OPERATOR), ("reason", MAX_REASON)):
        value = getattr(request, field).strip()
        if not value:
            raise InvalidRequest(
                f"{field}: is required, it is kept with the change", reason=Reason.REQUIRED_FIELD_MISSING, field=field
            )
        if len(value) > most:
            raise InvalidRequest(f"{field}: {len(value)} characters, at most {most}", field=field)
    return request.operator.strip(), request.reason.strip()


def stamp(clock: Clock) -> Timestamp:
    """Now, as the contract carries it."""
    now = Timestamp()
    now.FromNanoseconds(clock.now_ns())
    return now


class RiskCommands:
    """Writes what operators decide."""

    def __init__(self, store: RiskStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def set_trading_state(
        self, request: risk_service_pb2.SetTradingStateRequest, scope: Scope | None = None
    ) -> risk_pb2.ScopedTradingState:
        """Put a scope into a state; the state it has already is left as it is.

        Args:
            scope: instead of the request's.
        Raises:
            InvalidRequest: names the field. JournalUnavailable: not set, as far as known.
        """
        operator, reason = signature(request)
        known_states = risk_pb2.TradingState.values()
        if request.state == risk_pb2.TRADING_STATE_UNSPECIFIED or request.state not in known_states:
            raise InvalidRequest(
                f"state: must be ACTIVE, REDUCE_ONLY or HALTED, not {request.state}",
                reason=Reason.REQUIRED_FIELD_MISSING if not request.state else None,
                field="state",
            )
        wanted = risk_pb2.ScopedTradingState(
            scope=(scope or parse_scope(request.scope)).message(),
            state=request.state,
            set_by=operator,
            reason=reason,
            set_time=stamp(self._clock),
        )

        def make(known: risk_pb2.ScopedTradingState | None) -> risk_pb2.ScopedTradingState | None:
            same = known is not None and (known.state, known.set_by, known.reason) == (wanted.state, operator, reason)
            return None if same else wanted

        return await self._store.change(wanted, make)

    def new_kill(
        self, scope: Scope, operator: str, reason: str, venues: tuple[str, ...] = ()
    ) -> risk_pb2.KillSwitchState:
        """A kill switch as engaged now, nothing reached yet."""
        return risk_pb2.KillSwitchState(
            engaged=True,
            scope=scope.message(),
            engaged_by=operator,
            reason=reason,
            engaged_time=stamp(self._clock),
            venues=[risk_pb2.KillSwitchVenueResult(venue=name, message="not reached yet") for name in venues],
        )

    async def engage(self, wanted: risk_pb2.KillSwitchState) -> risk_pb2.KillSwitchState:
        """Engage a kill switch; one that is engaged stays as it is.

        Raises:
            JournalUnavailable: not stored, as far as known.
        """

        def make(known: risk_pb2.KillSwitchState | None) -> risk_pb2.KillSwitchState | None:
            return None if known is not None and known.engaged else wanted

        return await self._store.change(wanted, make)

    async def release(self, scope: Scope, operator: str, reason: str) -> risk_pb2.KillSwitchState:
        """Release a kill switch; what is not engaged stays so.

        Raises:
            JournalUnavailable: not stored, as far as known.
        """
        wanted = risk_pb2.KillSwitchState(scope=scope.message(), engaged_by=operator, reason=reason)

        def make(known: risk_pb2.KillSwitchState | None) -> risk_pb2.KillSwitchState | None:
            return None if known is None or not known.engaged else wanted

        return await self._store.change(wanted, make)
