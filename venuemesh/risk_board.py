"""What operators have set: trading states, kill switches and limits by scope, the newest version of each. Pure.

Records come from the key-value bucket and from the events about it, in any order and more than once; a record counts
when its version is newer than the one held. So every process that has read the same bucket holds the same board.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from venuemesh.errors import MeshError, PreconditionFailed, Reason, TradingHalted
from venuemesh.risk_scope import Scope
from venuemesh.v1 import risk_pb2

HALTED = risk_pb2.TRADING_STATE_HALTED
REDUCE_ONLY = risk_pb2.TRADING_STATE_REDUCE_ONLY
ACTIVE = risk_pb2.TRADING_STATE_ACTIVE

LimitKey: TypeAlias = tuple[Scope, int]
"""A limit's scope and type."""
Record: TypeAlias = risk_pb2.ScopedTradingState | risk_pb2.RiskLimit | risk_pb2.KillSwitchState


def restricted_to_reduce_only(scope: Scope, reason: str) -> PreconditionFailed:
    """The refusal of an order that could make a position larger."""
    return PreconditionFailed(
        f"only reduce-only orders are taken in {scope}: {reason}",
        reason=Reason.TRADING_REDUCE_ONLY,
        metadata={"scope": str(scope), "cause": reason},
    )


class RiskBoard:
    """The records in force."""

    def __init__(self) -> None:
        self.states: dict[Scope, risk_pb2.ScopedTradingState] = {}
        self.kills: dict[Scope, risk_pb2.KillSwitchState] = {}
        self.limits: dict[LimitKey, risk_pb2.RiskLimit] = {}
        self.on_change: list[Callable[[Record], None]] = []
        """Called with each record that took effect."""
        self._held: dict[Scope, risk_pb2.KillSwitchState] = {}

    def apply(self, record: Record) -> bool:
        """Take a record; whether it is news."""
        scope = Scope.of(record.scope)
        match record:
            case risk_pb2.ScopedTradingState():
                known: Record | None = self.states.get(scope)
            case risk_pb2.KillSwitchState():
                known = self.kills.get(scope)
            case _:
                known = self.limits.get((scope, record.limit_type))
        if known is not None and known.version >= record.version:
            return False
        match record:
            case risk_pb2.ScopedTradingState():
                self.states[scope] = record
            case risk_pb2.KillSwitchState():
                self.kills[scope] = record
                # The stored word counts from now on, for everything it covers.
                for held in [one for one in self._held if one == scope or (record.engaged and scope.includes(one))]:
                    del self._held[held]
            case _:
                self.limits[(scope, record.limit_type)] = record
        for listener in self.on_change:
            listener(record)
        return True

    def hold(self, kill: risk_pb2.KillSwitchState) -> None:
        """Halt a scope here and now, until the bucket has a newer word on it: for when it cannot be written."""
        self._held[Scope.of(kill.scope)] = kill

    def let_go(self, scope: Scope) -> None:
        """The reverse of `hold`."""
        self._held.pop(scope, None)

    # reading

    def engaged(self) -> list[risk_pb2.KillSwitchState]:
        """Kill switches in force, widest scope first."""
        found = {scope: kill for scope, kill in self.kills.items() if kill.engaged} | self._held
        return [found[scope] for scope in sorted(found, key=lambda one: one.rank)]

    def trading_states(self) -> list[risk_pb2.ScopedTradingState]:
        """Every trading state that was set, widest scope first."""
        return [self.states[scope] for scope in sorted(self.states, key=lambda one: one.rank)]

    def current_limits(self) -> list[risk_pb2.RiskLimit]:
        """Limits that were set and not removed, widest scope first."""
        keys = sorted(self.limits, key=lambda key: (key[0].rank, key[1]))
        return [self.limits[key] for key in keys if self.limits[key].limit]

    def refusal(self, venue: str, account_id: str, symbol: str, *, reduce_only: bool) -> MeshError | None:
        """Why a new order is not taken now; None when it is. The strictest state that covers it counts.

        Args:
            reduce_only: whether the order says that it only makes a position smaller.
        """
        # Nearly always both are empty, and every order passes here.
        if self.kills or self._held:
            for kill in self.engaged():
                scope = Scope.of(kill.scope)
                if scope.covers(venue, account_id, symbol):
                    return TradingHalted(
                        f"the kill switch of {scope} was engaged by {kill.engaged_by}: {kill.reason}",
                        reason=Reason.KILL_SWITCH_ACTIVE,
                        metadata={"scope": str(scope), "operator": kill.engaged_by, "cause": kill.reason},
                    )
        if not self.states:
            return None
        covering = [state for scope, state in self.states.items() if scope.covers(venue, account_id, symbol)]
        strictest = max(covering, key=lambda state: state.state, default=None)
        if strictest is None or strictest.state == ACTIVE:
            return None
        scope = Scope.of(strictest.scope)
        if strictest.state == REDUCE_ONLY:
            return None if reduce_only else restricted_to_reduce_only(scope, strictest.reason)
        # A state that this release does not know is stricter than those it knows.
        return TradingHalted(
            f"trading is halted in {scope} by {strictest.set_by}: {strictest.reason}",
            metadata={"scope": str(scope), "operator": strictest.set_by, "cause": strictest.reason},
        )
