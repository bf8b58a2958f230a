"""What the servicers of a gateway need of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from venuemesh.clock import Clock
from venuemesh.dead_letters import DeadLetters
from venuemesh.gateway.account_operations import AccountOperations
from venuemesh.gateway.alerts import Alerts
from venuemesh.gateway.audit_reader import AuditReader
from venuemesh.gateway.books import Books
from venuemesh.gateway.dead_mans_switch import DeadMansSwitches
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.discrepancies import DiscrepancyHistory
from venuemesh.gateway.instruments import Instruments
from venuemesh.gateway.kill_switch import KillSwitch
from venuemesh.gateway.market_data import MarketData
from venuemesh.gateway.operator_actions import OperatorActions
from venuemesh.gateway.reconciler import Reconciler
from venuemesh.gateway.resolver import Resolver
from venuemesh.gateway.session_cancels import SessionCancels
from venuemesh.gateway.venue import Venue
from venuemesh.gateway.working import WorkingOrders
from venuemesh.journal import AccountHistory, EventLog
from venuemesh.risk_store import RiskStore
from venuemesh.v1 import venue_pb2

Context: TypeAlias = Any
"""`grpc.aio.ServicerContext`; its stub type is generic in two parameters that matter to nobody here."""


class GatewayParts(Protocol):
    """A gateway whose accounts are restored; `venuemesh.gateway.core.GatewayCore` is one."""

    venue: Venue
    desk: Desk
    working: WorkingOrders
    operations: AccountOperations
    alerts: Alerts
    switches: DeadMansSwitches
    sessions: SessionCancels
    risk: RiskStore
    kill_switch: KillSwitch
    instruments: Instruments
    books: Books
    market: MarketData
    log: EventLog
    clock: Clock
    reconciler: Reconciler
    resolver: Resolver
    operators: OperatorActions
    discrepancies: DiscrepancyHistory
    dead_letters: DeadLetters
    on_status: list[Callable[[venue_pb2.VenueStatus], None]]
    """Called with each new status of the venue."""

    def audit_entries(self) -> AuditReader:
        """The stored audit trail of the venue."""

    def history(self, account_id: str) -> AccountHistory:
        """The account's stored events."""

    async def drain_by_operator(self, operator: str, reason: str, *, drain: bool) -> None:
        """Take no new orders, or take them again, as an operator says."""

    def status(self) -> venue_pb2.VenueStatus:
        """Health of the venue now."""

    def venue_message(self) -> venue_pb2.Venue:
        """The venue as VenueService shows it."""
