"""Compares each account with the venue and takes the venue's truth: at start, after each reconnect, and on request.

Orders are refused while an account's first comparison after a (re)connect is under way; cancels pass.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from venuemesh.clock import Clock
from venuemesh.errors import MeshError
from venuemesh.gateway.account import Account
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.facts import Ended, Ending
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.orders import UNANSWERED, OrderState, held_absent
from venuemesh.gateway.reconcile import (
    ZERO,
    describe_fill,
    emptied,
    is_missed,
    make_discrepancy,
    plan_orders,
    position_differences,
)
from venuemesh.gateway.resolver import FILL_OVERLAP_NS, Fetched, Resolver
from venuemesh.gateway.venue import VenueOrder, VenuePosition, VenueSnapshot
from venuemesh.journal import LogOverflow
from venuemesh.v1 import account_pb2, order_pb2, reconciliation_pb2, stream_pb2

log = logging.getLogger(__name__)

Trigger = reconciliation_pb2.ReconciliationTrigger
MAX_CONTRADICTIONS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerSettings:
    """Seconds between periodic comparisons, and between tries after one failed (doubling up to the last)."""

    period_s: float = 60.0
    retry_first_s: float = 0.25
    retry_last_s: float = 5.0


class Reconciler:
    """Keeps accounts equal to the venue. One task per account runs `run`."""

    def __init__(
        self, desk: Desk, resolver: Resolver, *, clock: Clock, settings: ReconcilerSettings | None = None
    ) -> None:
        self._desk = desk
        self._resolver = resolver
        self._venue = desk.venue
        self._clock = clock
        self._settings = settings or ReconcilerSettings()
        self._reports: dict[str, reconciliation_pb2.ReconciliationReport] = {}
        self._live: dict[str, asyncio.Event] = {name: asyncio.Event() for name in desk.accounts}
        self._again: dict[str, asyncio.Event] = {name: asyncio.Event() for name in desk.accounts}
        self._locks: dict[str, asyncio.Lock] = {name: asyncio.Lock() for name in desk.accounts}
        self._unexpected: dict[str, set[str]] = {name: set() for name in desk.accounts}
        self._contradictions: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._started: set[str] = set()
        self._live_since_ns: dict[str, int] = dict.fromkeys(desk.accounts, 0)
        self._link_changes: dict[str, int] = dict.fromkeys(desk.accounts, 0)
        self.on_gate: Callable[[], None] = lambda: None
        """Called when an account's gate was opened or closed."""
        self.on_discrepancy: list[Callable[[reconciliation_pb2.Discrepancy], None]] = []
        """Called with each difference found."""

    def last_report(self, account_id: str) -> reconciliation_pb2.ReconciliationReport | None:
        """The last comparison that ended; None before the first."""
        return self._reports.get(account_id)

    def on_live(self, account_id: str) -> None:
        """The account's private stream is subscribed: compare before taking orders."""
        self._link_changes[account_id] += 1
        self._live_since_ns[account_id] = self._clock.now_ns()
        self._close_gate(account_id, "catching up with the venue")
        self._live[account_id].set()
        self._again[account_id].set()

    def on_lost(self, account_id: str, cause: str) -> None:
        """The account's private stream is gone: no new orders until it is caught up again."""
        self._link_changes[account_id] += 1
        self._live[account_id].clear()
        self._close_gate(account_id, cause)

    def _close_gate(self, account_id: str, cause: str) -> None:
        gate = self._desk.gates[account_id]
        if gate.ready:
            self._desk.account(account_id).report_freshness(stream_pb2.FRESHNESS_STALE, cause)
        gate.ready, gate.cause = False, cause
        self.on_gate()

    async def run(self, account_id: str) -> None:
        """Compare whenever the stream came back, and periodically while it is live."""
        while True:
            await self._live[account_id].wait()
            trigger = Trigger.RECONCILIATION_TRIGGER_PERIODIC
            if not self._desk.gates[account_id].ready:
                started = account_id in self._started
                trigger = Trigger.RECONCILIATION_TRIGGER_RECONNECT if started else Trigger.RECONCILIATION_TRIGGER_START
            self._again[account_id].clear()
            await self._reconcile_until_done(account_id, trigger)
            await self._pause(account_id)

    async def _pause(self, account_id: str) -> None:
        try:
            async with asyncio.timeout(self._settings.period_s):
                await self._again[account_id].wait()
        except TimeoutError:
            return

    async def _reconcile_until_done(self, account_id: str, trigger: Trigger.ValueType) -> None:
        wait_s = self._settings.retry_first_s
        while self._live[account_id].is_set():
            report = await self.reconcile(account_id, trigger)
            if not report.error:
                return
            log.warning("reconcile_failed", extra={"account_id": account_id, "error": report.error})
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, self._settings.retry_last_s)

    async def reconcile(
        self,
        account_id: str,
        trigger: Trigger.ValueType = Trigger.RECONCILIATION_TRIGGER_OPERATOR,
        *,
        operator: str = "",
        reason: str = "",
    ) -> reconciliation_pb2.ReconciliationReport:
        """Compare once; a venue that cannot be reached makes a report with an error."""
        account = self._desk.account(account_id)
        async with self._locks[account_id]:
            report = reconciliation_pb2.ReconciliationReport(
                venue=self._venue.name,
                account_id=account_id,
                trigger=trigger,
                begin_time=timestamp(self._clock.now_ns()),
                operator=operator,
                reason=reason,
            )
            link_changes = self._link_changes[account_id]
            try:
                await self._compare(account, report)
            except MeshError as error:
                report.error = error.message
            except LogOverflow:
                raise
            except Exception as error:
                # The gate stays shut and cancels go on; ending the process would only repeat it without them.
                log.exception("reconcile_broke", extra={"account_id": account_id})
                report.error = f"fault of ours: {type(error).__name__}"
            report.end_time.CopyFrom(timestamp(self._clock.now_ns()))
            self._reports[account_id] = report
            # A link that went and came back meanwhile may have missed what this comparison read before.
            unbroken = link_changes == self._link_changes[account_id] and self._live[account_id].is_set()
            if not report.error and unbroken:
                self._open_gate(account_id)
        return report

    def _open_gate(self, account_id: str) -> None:
        self._started.add(account_id)
        gate = self._desk.gates[account_id]
        if not gate.ready:
            gate.ready, gate.cause = True, ""
            self._desk.account(account_id).report_freshness(stream_pb2.FRESHNESS_FRESH, "reconciled")
            self._resolver.hurry(account_id)
            self.on_gate()

    async def _compare(self, account: Account, report: reconciliation_pb2.ReconciliationReport) -> None:
        asked_ns = self._clock.now_ns()
        fetched = await self._resolver.fetch_fills(account)
        report.fills_compared = fetched.compared
        self._note_missed(account, fetched, asked_ns, report)
        await self._fetch_ledger(account)
        snapshot = await self._venue.fetch_snapshot(account.account_id)
        await self._compare_orders(account, snapshot, report)
        snapshot = await self._compare_holdings(account, snapshot, report)
        report.balances_compared = len(snapshot.balances)
        account.on_balances(self._all_balances(account, snapshot), snapshot.summary, self._clock.now_ns())
        account.newborn = False

    async def _fetch_ledger(self, account: Account) -> None:
        since_ns = max(account.history_from_ns, account.ledger.complete_ns - FILL_OVERLAP_NS)
        for entry in await self._venue.fetch_ledger(account.account_id, since_ns):
            account.on_ledger(entry, self._clock.now_ns())

    def _all_balances(self, account: Account, snapshot: VenueSnapshot) -> list[account_pb2.Balance]:
        return [*snapshot.balances, *emptied(account.balances, snapshot.balances, self._clock.now_ns())]

    def _note_missed(
        self, account: Account, fetched: Fetched, asked_ns: int, report: reconciliation_pb2.ReconciliationReport
    ) -> None:
        """Report fills that the stream should have told; those that are just on their way are none."""
        live_since_ns = self._live_since_ns[account.account_id]
        for fill in fetched.learnt:
            if is_missed(fill, asked_ns=asked_ns, live_since_ns=live_since_ns, settle_ns=self._resolver.settle_ns):
                order = account.order_by_venue_id(fill.venue_order_id)
                kind = reconciliation_pb2.DISCREPANCY_TYPE_FILL_MISSED
                told = describe_fill(fill)
                self._discrepancy(account, report, kind, order, "none", told, restated=True, symbol=fill.symbol)

    async def _compare_orders(
        self, account: Account, snapshot: VenueSnapshot, report: reconciliation_pb2.ReconciliationReport
    ) -> None:
        plan = plan_orders(account.open_orders(), snapshot, settle_ns=self._resolver.settle_ns)
        report.orders_compared = len(plan.confirmed) + len(plan.to_query)
        for order, view in plan.confirmed:
            before = order.status
            origin = order_pb2.ORIGIN_RECONCILIATION
            after = await self._resolver.apply_view(account, order, view, snapshot.taken_ns, origin)
            if before != after.status and order.working:
                self._restate(account, report, after, before)
        for order in plan.to_query:
            await self._ask_about(account, order, report)
        for order in plan.unsettled:
            self._resolver.recheck(account, order.order_id)
        unexpected = [view for view in plan.unexpected if not await self._revive(account, view, snapshot, report)]
        self._note_unexpected(account, unexpected, snapshot.taken_ns, report)

    async def _revive(
        self,
        account: Account,
        view: VenueOrder,
        snapshot: VenueSnapshot,
        report: reconciliation_pb2.ReconciliationReport,
    ) -> bool:
        """Take back an order that is open there and was held never to have reached the venue."""
        order = _ours(account, view)
        if order is None or not held_absent(order):
            return False
        origin = order_pb2.ORIGIN_RECONCILIATION
        after = await self._resolver.apply_view(account, order, view, snapshot.taken_ns, origin)
        self._restate(account, report, after, order.status)
        return True

    async def _ask_about(
        self, account: Account, order: OrderState, report: reconciliation_pb2.ReconciliationReport
    ) -> None:
        if order.status in UNANSWERED:
            # On its way, or with the resolver, which knows when absence is proof.
            return
        asked_ns = self._clock.now_ns()
        view = await self._venue.fetch_order(self._desk.target_of(account, order))
        if view is None:
            # Venues forget old orders. It is not among the open ones and its fills were fetched: it has ended.
            ending = Ending(
                status=order_pb2.ORDER_STATUS_CANCELED,
                filled_quantity=None,
                text="not open at the venue any more, which has forgotten how it ended",
                venue_order_id=order.venue_order_id,
            )
            account.apply(order.order_id, Ended(ending=ending, origin=order_pb2.ORIGIN_RECONCILIATION))
            kind = reconciliation_pb2.DISCREPANCY_TYPE_ORDER_MISSING
            self._discrepancy(account, report, kind, order, "open", "forgotten", restated=True)
            return
        after = await self._resolver.apply_view(account, order, view, asked_ns, order_pb2.ORIGIN_RECONCILIATION)
        if after.status != order.status:
            self._restate(account, report, after, order.status)
        if after.ending is not None:
            self._resolver.doubt(account, order.order_id)

    def _restate(
        self,
        account: Account,
        report: reconciliation_pb2.ReconciliationReport,
        after: OrderState,
        before: order_pb2.OrderStatus.ValueType,
    ) -> None:
        ours, venues = (order_pb2.OrderStatus.Name(status) for status in (before, after.status))
        kind = reconciliation_pb2.DISCREPANCY_TYPE_ORDER_STATE
        self._discrepancy(account, report, kind, after, ours, venues, restated=True)

    def _note_unexpected(
        self,
        account: Account,
        unexpected: Sequence[VenueOrder],
        taken_ns: int,
        report: reconciliation_pb2.ReconciliationReport,
    ) -> None:
        """Report, once each, what is open there and not here; one of ours only if we have held it ended for long."""
        known, told = self._unexpected[account.account_id], set[str]()
        for view in unexpected:
            order = _ours(account, view)
            just_ended = order is not None and order.updated_ns + self._resolver.settle_ns > taken_ns
            if just_ended or (order is not None and not order.terminal):
                continue
            told.add(view.venue_order_id)
            if view.venue_order_id in known:
                continue
            self._discrepancy(
                account,
                report,
                reconciliation_pb2.DISCREPANCY_TYPE_ORDER_UNEXPECTED,
                order,
                order_pb2.OrderStatus.Name(order.status) if order else "none",
                f"order {view.venue_order_id} of {view.quantity}",
                restated=False,
                symbol=view.symbol,
            )
        self._unexpected[account.account_id] = told

    async def _compare_holdings(
        self, account: Account, snapshot: VenueSnapshot, report: reconciliation_pb2.ReconciliationReport
    ) -> VenueSnapshot:
        """Take the venue's positions and balances where they differ; returns the latest reading."""
        report.positions_compared = len(snapshot.positions)
        account.on_positions(snapshot.positions)
        odd = {_key(told): ours for ours, told in account.unexplained_balances(self._all_balances(account, snapshot))}
        if not odd and not position_differences(account.positions, snapshot.positions):
            return snapshot
        # A fill may have happened between the two readings, or be shown in one place before the other: read both again
        # when that has settled, and believe a difference only where nothing moved meanwhile.
        await asyncio.sleep(self._resolver.settle_ns / 1e9)
        asked_ns = self._clock.now_ns()
        self._note_missed(account, await self._resolver.fetch_fills(account), asked_ns, report)
        await self._fetch_ledger(account)
        before = {symbol: state.quantity for symbol, state in account.positions.items()}
        again = await self._venue.fetch_snapshot(account.account_id)
        await self._resolver.fetch_fills(account)
        for ours, position in position_differences(account.positions, again.positions):
            if ours == before.get(position.symbol, ZERO):
                self._take_position(account, str(ours), position, report)
        for told, balance in account.unexplained_balances(self._all_balances(account, again)):
            if odd.get(_key(balance)) == told:
                self._note_balance(account, told, balance, report)
        return again

    def _note_balance(
        self,
        account: Account,
        ours: str,
        balance: account_pb2.Balance,
        report: reconciliation_pb2.ReconciliationReport,
    ) -> None:
        if account.newborn:
            return
        where = f" in {balance.venue_section}" if balance.venue_section else ""
        texts = [f"{amount} {balance.asset}{where}" for amount in (ours, balance.total)]
        self._discrepancy(account, report, reconciliation_pb2.DISCREPANCY_TYPE_BALANCE, None, *texts, restated=True)

    def _take_position(
        self, account: Account, ours: str, position: VenuePosition, report: reconciliation_pb2.ReconciliationReport
    ) -> None:
        if not account.newborn:
            self._discrepancy(
                account,
                report,
                reconciliation_pb2.DISCREPANCY_TYPE_POSITION,
                None,
                ours,
                str(position.quantity),
                restated=True,
                symbol=position.symbol,
            )
        account.reconcile_position(position, self._clock.now_ns())

    def _discrepancy(
        self,
        account: Account,
        report: reconciliation_pb2.ReconciliationReport,
        kind: reconciliation_pb2.DiscrepancyType.ValueType,
        order: OrderState | None,
        ours: str,
        venues: str,
        *,
        restated: bool,
        symbol: str = "",
    ) -> None:
        discrepancy = make_discrepancy(
            kind,
            venue=self._venue.name,
            account_id=account.account_id,
            symbol=order.terms.symbol if order else symbol,
            order_id=order.order_id if order else "",
            ours=ours,
            venues=venues,
            restated=restated,
            now_ns=self._clock.now_ns(),
        )
        report.discrepancies.append(discrepancy)
        account.report_discrepancy(discrepancy)
        for listener in self.on_discrepancy:
            listener(discrepancy)
        log.warning(
            "discrepancy",
            extra={"account_id": account.account_id, "symbol": discrepancy.symbol, "ours": ours, "venues": venues},
        )

    def note_contradiction(self, account: Account, order: OrderState, told: str) -> None:
        """Record, once, what the venue said of an order and what proof forbids to take over."""
        key = (order.order_id, told)
        if key in self._contradictions:
            return
        self._contradictions[key] = None
        if len(self._contradictions) > MAX_CONTRADICTIONS:
            self._contradictions.popitem(last=False)
        account.report_discrepancy(
            make_discrepancy(
                reconciliation_pb2.DISCREPANCY_TYPE_ORDER_STATE,
                venue=self._venue.name,
                account_id=account.account_id,
                symbol=order.terms.symbol,
                order_id=order.order_id,
                ours=order_pb2.OrderStatus.Name(order.status),
                venues=told,
                restated=False,
                now_ns=self._clock.now_ns(),
            )
        )


def _ours(account: Account, view: VenueOrder) -> OrderState | None:
    known = account.order_by_venue_id(view.venue_order_id)
    return known or account.order_by_venue_client_id(view.venue_client_order_id or "")


def _key(balance: account_pb2.Balance) -> tuple[str, str]:
    return balance.venue_section, balance.asset
