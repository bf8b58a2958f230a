"""The kill switch at one venue: nothing new, everything open cancelled, and the venue asked what is left.

It trusts the venue and nobody else: an order counts as gone when the venue's own list of open orders, read after the
cancels, lacks it and nothing of ours is in doubt. Orders there that the mesh did not place are cancelled too. It may be
called again at any time and then does what is left to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from venuemesh.errors import MeshError
from venuemesh.gateway.account import Account
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.venue import CancelAnswer, OrderTarget, VenueOrder
from venuemesh.gateway.working import WorkingOrders
from venuemesh.risk_scope import Scope
from venuemesh.v1 import order_service_pb2 as service
from venuemesh.v1 import risk_pb2

log = logging.getLogger(__name__)

MAX_NAMED = 5


@dataclass(slots=True)
class _Found:
    """What became of one account."""

    canceled: int = 0
    remaining: int = 0
    message: str = ""


class KillSwitch:
    """Cancels and verifies; the halt itself is the board's, which the desk asks before each order."""

    def __init__(self, desk: Desk, working: WorkingOrders) -> None:
        self._desk = desk
        self._venue = desk.venue
        self._working = working

    async def execute(self, kill: risk_pb2.KillSwitchState) -> risk_pb2.KillSwitchVenueResult:
        """Cancel what is open in the switch's scope, within the call's deadline; says what remains."""
        scope = Scope.of(kill.scope)
        board = self._desk.board
        if not any(Scope.of(one.scope).includes(scope) for one in board.engaged()):
            board.hold(kill)
        # From here on nothing new becomes an attempt; what is one already is found below once it is journalled.
        try:
            async with asyncio.timeout(max(self._desk.wait_s(), 0.0)):
                await self._desk.journalled()
        except TimeoutError:
            log.warning("kill_switch_did_not_wait", extra={"in_flight": self._desk.in_flight})
        accounts = [account for name, account in self._desk.accounts.items() if scope.account_id in ("", name)]
        found = await asyncio.gather(*(self._clear(account, scope) for account in accounts))
        in_flight = self._desk.in_flight
        messages = [one.message for one in found if one.message]
        if in_flight:
            messages.append(f"{in_flight} submits wait for the venue's answer")
        result = risk_pb2.KillSwitchVenueResult(
            venue=self._venue.name,
            verified=not messages,
            canceled_orders=sum(one.canceled for one in found),
            remaining_orders=sum(one.remaining for one in found),
            message="; ".join(messages),
        )
        log.warning(
            "kill_switch_executed",
            extra={"scope": str(scope), "verified": result.verified, "remaining": result.remaining_orders},
        )
        return result

    async def _clear(self, account: Account, scope: Scope) -> _Found:
        """Cancel an account's orders, ours and others', and ask the venue what is open then."""
        found = _Found()
        ours = _open(account, scope)
        answers = await self._working.cancel_orders([(account, order) for order in ours])
        found.canceled = sum(answer.outcome == service.CANCEL_OUTCOME_CANCELED for answer in answers)
        try:
            left = await self._open_there(account, scope)
            foreign = [view for view in left if self._ours(account, view) is None]
            if foreign:
                found.canceled += await self._cancel_foreign(account, foreign)
                left = await self._open_there(account, scope)
        except MeshError as error:
            remaining = _open(account, scope)
            found.remaining = len(remaining)
            found.message = f"{account.account_id}: the venue does not tell what is open: {error.message}"
            return found
        names = {order.order_id for order in _open(account, scope)}
        names |= {order.order_id if (order := self._ours(account, view)) else view.venue_order_id for view in left}
        found.remaining = len(names)
        if names:
            shown = ", ".join(sorted(names)[:MAX_NAMED])
            found.message = f"{account.account_id}: {len(names)} orders are not gone yet: {shown}"
        return found

    async def _open_there(self, account: Account, scope: Scope) -> list[VenueOrder]:
        snapshot = await self._venue.fetch_snapshot(account.account_id)
        return [view for view in snapshot.open_orders if scope.symbol in ("", view.symbol)]

    @staticmethod
    def _ours(account: Account, view: VenueOrder) -> OrderState | None:
        order = account.order_by_venue_id(view.venue_order_id)
        return order or account.order_by_venue_client_id(view.venue_client_order_id or "")

    async def _cancel_foreign(self, account: Account, views: Sequence[VenueOrder]) -> int:
        """Cancel orders the mesh did not place; how many the venue confirmed."""

        async def one(view: VenueOrder) -> bool:
            target = OrderTarget(
                account_id=account.account_id,
                instrument=self._desk.instruments.last_known(view.symbol, self._venue.name),
                venue_client_order_id=view.venue_client_order_id or "",
                venue_order_id=view.venue_order_id,
            )
            return await self._venue.cancel_order(target) is CancelAnswer.CANCELED

        confirmed = 0
        for answer in await asyncio.gather(*(one(view) for view in views), return_exceptions=True):
            if isinstance(answer, MeshError):
                log.warning("kill_switch_cancel_failed", extra={"error": answer.message})
            elif isinstance(answer, BaseException):
                raise answer
            else:
                confirmed += answer
        return confirmed


def _open(account: Account, scope: Scope) -> list[OrderState]:
    return [order for order in account.open_orders() if scope.symbol in ("", order.terms.symbol)]
