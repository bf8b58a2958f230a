"""Alerts about orders and accounts: what a person should look at, and what is asked again because of it."""

from __future__ import annotations

from collections.abc import Mapping

from venuemesh.gateway.account import Account
from venuemesh.gateway.alerts import (
    CRITICAL,
    DISCREPANCY,
    ILLEGAL_TRANSITION,
    ORDER_REVIVED,
    ORDER_STUCK,
    Alerts,
)
from venuemesh.gateway.orders import Change, IllegalTransition, OrderState
from venuemesh.gateway.reconciler import Reconciler
from venuemesh.gateway.resolver import Resolver
from venuemesh.v1 import reconciliation_pb2


class OrderAlerts:
    """Listens to accounts, reconciler and resolver from its making on."""

    def __init__(
        self,
        alerts: Alerts,
        accounts: Mapping[str, Account],
        *,
        resolver: Resolver,
        reconciler: Reconciler,
        stuck_after_s: float,
    ) -> None:
        self._alerts = alerts
        self._accounts = accounts
        self._resolver = resolver
        self._reconciler = reconciler
        self._stuck_after_s = stuck_after_s
        reconciler.on_discrepancy.append(self._on_discrepancy)
        resolver.on_stuck = self._on_stuck
        resolver.on_settled = lambda order: alerts.end(ORDER_STUCK, order.order_id)
        for account in accounts.values():
            account.on_illegal = self._on_illegal
            account.on_revived = self._on_revived

    def _on_discrepancy(self, found: reconciliation_pb2.Discrepancy) -> None:
        kind = reconciliation_pb2.DiscrepancyType.Name(found.discrepancy_type).removeprefix("DISCREPANCY_TYPE_")
        what = found.order_id or found.symbol
        message = f"{kind.lower()} of {what}: {found.ours!r} here, {found.venues!r} at the venue"
        self._alerts.note(DISCREPANCY, message, account_id=found.account_id)

    def _on_illegal(self, order: OrderState, error: IllegalTransition) -> None:
        message = f"order {order.order_id}: {error}"
        account = self._accounts[order.terms.account_id]
        self._alerts.note(ILLEGAL_TRANSITION, message, account_id=account.account_id)
        self._reconciler.note_contradiction(account, order, str(error))
        if not order.terminal:
            self._resolver.recheck(account, order.order_id)

    def _on_revived(self, before: OrderState, change: Change) -> None:
        message = f"order {before.order_id} was held rejected and is alive: {change.text}"
        self._alerts.note(ORDER_REVIVED, message, severity=CRITICAL, account_id=before.terms.account_id)
        self._resolver.doubt(self._accounts[before.terms.account_id], before.order_id)

    def _on_stuck(self, order: OrderState) -> None:
        message = f"order {order.order_id} is uncertain for more than {self._stuck_after_s:g}s"
        self._alerts.begin(ORDER_STUCK, order.order_id, message, account_id=order.terms.account_id)
