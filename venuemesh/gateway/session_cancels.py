"""Cancels the orders of order sessions that are gone, until there are none.

An order that says `cancel_on_disconnect` and whose session is not open is cancelled, whenever that comes to light: when
the session ends, when a submit of it is journalled after that, when an order in doubt turns out to live, when the
gateway is back after a crash. The cancel is the desk's usual one: verified, and once it is on its way repeated by the
resolver until the venue has spoken. Here is repeated what the venue refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from venuemesh.clock import Clock
from venuemesh.gateway.account import Account
from venuemesh.gateway.alerts import CRITICAL, SESSION_LEFT_ORDERS, Alerts
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.session_book import OpenSession, SessionBook
from venuemesh.gateway.working import WorkingOrders

log = logging.getLogger(__name__)

FIRST_REPEAT_S = 0.5
LAST_REPEAT_S = 5.0
MAX_NAMED = 5


class Durable(Protocol):
    """The part of `venuemesh.journal.EventLog` that is needed."""

    async def flush(self) -> None:
        """Wait until everything appended so far is durable."""


@dataclass(slots=True)
class _Left:
    """An order that outlived its session.

    Attributes:
        live: a cancel was sent when it was known to be at the venue. One sent before may have overtaken the order.
    """

    account: Account
    session_id: str
    next_s: float
    wait_s: float = FIRST_REPEAT_S
    busy: bool = False
    live: bool = False


class SessionCancels:
    """The end of sessions at one gateway. One task runs `run`."""

    def __init__(
        self,
        desk: Desk,
        working: WorkingOrders,
        *,
        log: Durable,
        clock: Clock,
        alerts: Alerts,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        self._desk = desk
        self._book: SessionBook = desk.sessions
        self._working = working
        self._log = log
        self._clock = clock
        self._alerts = alerts
        self._spawn = spawn
        self._left: dict[str, _Left] = {}
        self._of_session: dict[str, set[str]] = {}
        self._cleared: dict[str, asyncio.Event] = {}
        self._to_settle: list[tuple[str, asyncio.Event]] = []
        self._wake = asyncio.Event()

    @property
    def left(self) -> int:
        """Orders of gone sessions that have not ended yet."""
        return len(self._left)

    # sessions

    def open(self, session_id: str, session: OpenSession) -> None:
        """Orders may join the session from here on."""
        self._book.open(session_id, session)

    def close(self, session_id: str, settled: asyncio.Event) -> None:
        """The session is gone: none may join it, and its orders are cancelled where that was asked for. Never waits.

        Args:
            settled: set once none of its orders is left and all that became of them is durable.
        """
        session = self._book.close(session_id)
        if session is None or not session.cancel_on_disconnect:
            settled.set()
            return
        for order in self._desk.account(session.account_id).open_orders():
            if order.session_id == session_id:
                self.on_change(order)
        chosen = len(self._of_session.get(session_id, ()))
        log.info(
            "order_session_cancels",
            extra={"session_id": session_id, "account_id": session.account_id, "orders": chosen},
        )
        self._to_settle.append((session_id, settled))
        self._wake.set()

    async def _settle(self, session_id: str, settled: asyncio.Event) -> None:
        # A submit that is being journalled is an order of the account after that, or was refused.
        await self._desk.journalled()
        while self._of_session.get(session_id):
            await self._cleared.setdefault(session_id, asyncio.Event()).wait()
        await self._log.flush()
        settled.set()

    # orders

    def on_change(self, order: OrderState) -> None:
        """An order has changed: it may be one that outlived its session, or have ended."""
        if not order.cancel_on_disconnect:
            return
        if order.terminal:
            self._drop(order.order_id)
            return
        row = self._left.get(order.order_id)
        if row is not None:
            if order.working and not row.live and not row.busy:
                row.next_s = self._clock.monotonic_s()
                self._wake.set()
        elif order.session_id not in self._book:
            account = self._desk.account(order.terms.account_id)
            self._left[order.order_id] = _Left(account, order.session_id, next_s=self._clock.monotonic_s())
            self._of_session.setdefault(order.session_id, set()).add(order.order_id)
            self._wake.set()

    def _drop(self, order_id: str) -> None:
        row = self._left.pop(order_id, None)
        if row is None:
            return
        others = self._of_session[row.session_id]
        others.discard(order_id)
        if others:
            return
        del self._of_session[row.session_id]
        self._alerts.end(SESSION_LEFT_ORDERS, row.session_id)
        log.info("order_session_cleared", extra={"session_id": row.session_id, "account_id": row.account.account_id})
        if (cleared := self._cleared.pop(row.session_id, None)) is not None:
            cleared.set()

    async def run(self) -> None:
        """Cancel what is left, and what will be, until cancelled."""
        for account in self._desk.accounts.values():
            for order in account.open_orders():
                self.on_change(order)
        if self._left:
            log.warning("order_sessions_left_orders", extra={"orders": self.left, "sessions": len(self._of_session)})
        while True:
            self._wake.clear()
            for session_id, settled in self._to_settle:
                self._spawn(self._settle(session_id, settled), f"session-settle-{session_id}")
            self._to_settle.clear()
            self._start_due()
            next_s = min((row.next_s for row in self._left.values() if not row.busy), default=None)
            wait_s = None if next_s is None else max(next_s - self._clock.monotonic_s(), 0.001)
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _start_due(self) -> None:
        now_s = self._clock.monotonic_s()
        due: dict[str, list[str]] = {}
        for order_id, row in self._left.items():
            if not row.busy and row.next_s <= now_s:
                row.busy = True
                due.setdefault(row.account.account_id, []).append(order_id)
        for account_id, order_ids in due.items():
            # Apart from this task: an account whose venue hangs must not hold up the others.
            self._spawn(self._cancel(self._desk.account(account_id), order_ids), f"session-cancel-{account_id}")

    async def _cancel(self, account: Account, order_ids: Sequence[str]) -> None:
        orders = [order for name in order_ids if (order := account.order(name)) is not None]
        # A pending cancel is the resolver's: it repeats it until the venue has spoken.
        chosen = [order for order in orders if not order.pending_cancel or self._was_early(order)]
        for order in chosen:
            if (found := self._left.get(order.order_id)) is not None:
                found.live = order.working
        await self._working.cancel_orders([(account, order) for order in chosen])
        rows = {name: row for name in order_ids if (row := self._left.get(name)) is not None}
        for name, row in rows.items():
            now = account.order(name)
            row.busy = False
            early = now is not None and self._was_early(now)
            row.next_s = self._clock.monotonic_s() + (0.0 if early else row.wait_s)
            row.wait_s = min(2 * row.wait_s, LAST_REPEAT_S)
        # What is there after a second try is told; after a restart the first often finds the link still closed.
        for session_id in {row.session_id for row in rows.values() if row.wait_s > 2 * FIRST_REPEAT_S}:
            names = sorted(self._of_session[session_id])
            message = (
                f"{account.account_id}: order session {session_id} is gone, and {len(names)} of its orders are not "
                f"confirmed as cancelled yet: {', '.join(names[:MAX_NAMED])}"
            )
            self._alerts.begin(
                SESSION_LEFT_ORDERS, session_id, message, severity=CRITICAL, account_id=account.account_id
            )
        self._wake.set()

    def _was_early(self, order: OrderState) -> bool:
        """Whether it is live, and the last cancel was sent when nobody knew."""
        row = self._left.get(order.order_id)
        return row is not None and order.working and not row.live
