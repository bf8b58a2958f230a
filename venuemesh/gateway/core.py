"""A gateway without its servers: one venue, its accounts, and what keeps them true.

`recover` rebuilds everything from the
journal before the first link opens; `run` keeps all pumps going and ends when one of them fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from venuemesh import deadlines
from venuemesh.bus import Bus
from venuemesh.clock import Clock
from venuemesh.crashpoints import CrashPoint, reach
from venuemesh.dead_letters import DeadLetters
from venuemesh.gateway.account import Account
from venuemesh.gateway.account_fold import AccountFold
from venuemesh.gateway.account_operations import AccountOperations
from venuemesh.gateway.account_snapshots import AccountSnapshots, SnapshotSettings
from venuemesh.gateway.alerts import (
    ACCOUNT_STALE,
    AUDIT_LOST,
    CLOCK_SKEW,
    CRITICAL,
    Alerts,
)
from venuemesh.gateway.amendment_journal import AmendmentJournal
from venuemesh.gateway.attribution import attributed
from venuemesh.gateway.audit import AuditTrail, orders_about
from venuemesh.gateway.audit_reader import AuditReader
from venuemesh.gateway.books import Books
from venuemesh.gateway.dead_mans_switch import DeadMansSwitches, SwitchStore
from venuemesh.gateway.desk import Desk, DeskSettings
from venuemesh.gateway.discrepancies import DiscrepancyHistory
from venuemesh.gateway.facts import OutcomeLost
from venuemesh.gateway.health import VenueHealth
from venuemesh.gateway.instrument_refresh import InstrumentRefresh, RefreshSettings
from venuemesh.gateway.instruments import Instruments
from venuemesh.gateway.intake import Intake
from venuemesh.gateway.kill_switch import KillSwitch
from venuemesh.gateway.link_watch import LinkWatch, LinkWatchSettings
from venuemesh.gateway.market_data import MarketData
from venuemesh.gateway.operator_actions import OperatorActions
from venuemesh.gateway.operator_drain import OperatorDrain
from venuemesh.gateway.order_alerts import OrderAlerts
from venuemesh.gateway.order_wire import from_order
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.reconciler import Reconciler, ReconcilerSettings
from venuemesh.gateway.resolver import Resolver, ResolverSettings
from venuemesh.gateway.sections import Sections
from venuemesh.gateway.session_cancels import SessionCancels
from venuemesh.gateway.venue import (
    Reservation,
    Venue,
)
from venuemesh.gateway.venue_clock import VenueClock
from venuemesh.gateway.working import WorkingOrders
from venuemesh.journal import INTENT_OVERLAP, AccountHistory, EventLog, LogOverflow, OrderJournal
from venuemesh.risk_board import RiskBoard
from venuemesh.risk_store import RiskStore
from venuemesh.v1 import event_pb2, venue_pb2
from venuemesh.v1 import order_pb2 as pb

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreSettings:
    """Bounds and periods of a gateway, in seconds.

    Attributes:
        section_period_s: between two looks whether a section of the venue has changed.
        oracle_still_after_s: an oracle price that stood for so long is counted as still.
        max_clock_skew_s: a proven difference from the venue's clock above this is alerted.
        retained_orders: terminal orders of an account kept in memory, some 6 kB each; older ones are in the journal.
    """

    desk: DeskSettings = field(default_factory=DeskSettings)
    resolver: ResolverSettings = field(default_factory=ResolverSettings)
    reconciler: ReconcilerSettings = field(default_factory=ReconcilerSettings)
    links: LinkWatchSettings = field(default_factory=LinkWatchSettings)
    instruments: RefreshSettings = field(default_factory=RefreshSettings)
    snapshots: SnapshotSettings = field(default_factory=SnapshotSettings)
    section_period_s: float = 1.0
    oracle_still_after_s: float = 60.0
    max_clock_skew_s: float = 1.0
    retained_orders: int = 10_000


class GatewayCore:
    """One venue's desk, books and accounts. Use as: build, `recover`, `run`.

    Args:
        audit: where the adapter's requests are remembered; made here, and empty, where the adapter has no observer.
        venue_clock: what the adapter's requests tell of the venue's clock; the same.
    """

    def __init__(
        self,
        *,
        venue: Venue,
        environment: venue_pb2.Environment.ValueType,
        bus: Bus,
        clock: Clock,
        writer_id: str,
        settings: CoreSettings,
        audit: AuditTrail | None = None,
        venue_clock: VenueClock | None = None,
    ) -> None:
        venue = attributed(venue)
        self.venue = venue
        self.clock = clock
        self.settings = settings
        self.instruments = Instruments()
        self.dead_letters = DeadLetters(bus, clock, handler=f"gateway_{venue.name}")
        self.log = EventLog(bus, venue=venue.name, writer_id=writer_id, clock=clock)
        self.journal = OrderJournal(bus, venue.name)
        self.sections = Sections(clock, still_after_s=settings.oracle_still_after_s)
        self.books = Books(venue, self.instruments, clock)
        self.market = MarketData(venue, self.books, clock)
        self.accounts = {
            account.account_id: Account(
                venue=venue.name,
                account_id=account.account_id,
                log=self.log,
                clock=clock,
                settle_asset_of=self.instruments.settle_asset_of,
                retained=settings.retained_orders,
            )
            for account in venue.accounts
        }
        self.risk = RiskStore(bus, clock, RiskBoard())
        self.desk = Desk(
            venue=venue,
            journal=self.journal,
            accounts=self.accounts,
            instruments=self.instruments,
            books=self.books,
            clock=clock,
            spawn=self.spawn,
            writer_id=writer_id,
            settings=settings.desk,
            board=self.risk.board,
        )
        self.working = WorkingOrders(
            self.desk,
            journal=AmendmentJournal(self.journal, self.log, self.history, clock=clock, writer_id=writer_id),
            clock=clock,
            spawn=self.spawn,
        )
        self.operations = AccountOperations(
            self.desk, journal=self.journal, log=self.log, clock=clock, spawn=self.spawn, writer_id=writer_id
        )
        self.resolver = Resolver(self.desk, clock=clock, settings=settings.resolver)
        self.reconciler = Reconciler(self.desk, self.resolver, clock=clock, settings=settings.reconciler)
        self.operators = OperatorActions(
            self.desk,
            self.resolver,
            self.working,
            journal=self.journal,
            log=self.log,
            clock=clock,
            spawn=self.spawn,
            writer_id=writer_id,
        )
        self.discrepancies = DiscrepancyHistory(bus, venue.name)
        self.snapshots = AccountSnapshots(
            bus,
            venue.name,
            list(self.accounts),
            history=self.history,
            sequence=self.log.sequence,
            epoch=lambda: self.log.epoch,
            settings=settings.snapshots,
            retained=settings.retained_orders,
        )
        self._bus = bus
        self._folds: dict[str, AccountFold] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self.refresh = InstrumentRefresh(venue, self.instruments, clock, settings.instruments)
        self.health = VenueHealth(
            venue=venue,
            environment=environment,
            accounts=self.accounts,
            desk=self.desk,
            instruments=self.instruments,
            sections=self.sections,
            log=self.log,
            clock=clock,
            journal_up=lambda: bus.connected,
        )
        self.on_status = self.health.on_status
        self.reconciler.on_gate = self._on_gate
        self.alerts = Alerts(venue.name, clock)
        self.switches = DeadMansSwitches(
            self.desk, self.working, SwitchStore(bus, venue.name, clock), clock=clock, alerts=self.alerts
        )
        self.sessions = SessionCancels(
            self.desk, self.working, log=self.log, clock=clock, alerts=self.alerts, spawn=self.spawn
        )
        self.venue_clock = venue_clock or VenueClock(clock)
        self.venue_clock.on_answer = self._judge_clock
        self.resolver.ahead_ns = self.venue_clock.proven_ns
        self.audit = audit or AuditTrail(bus, venue=venue.name, writer_id=writer_id, clock=clock)
        self.audit.find_orders = partial(orders_about, self.accounts)
        self.audit.on_loss = partial(self.alerts.begin, AUDIT_LOST, venue.name, severity=CRITICAL)
        self.audit.on_whole = partial(self.alerts.end, AUDIT_LOST, venue.name)
        self.link_watch = LinkWatch(
            venue, self.alerts, self.desk.pauses, accounts=list(self.accounts), settings=settings.links
        )
        self.link_watch.on_change = self.health.publish
        self._operator_drain = OperatorDrain(bus, venue.name, clock)
        self.kill_switch = KillSwitch(self.desk, self.working)
        OrderAlerts(
            self.alerts,
            self.accounts,
            resolver=self.resolver,
            reconciler=self.reconciler,
            stuck_after_s=settings.resolver.stuck_after_s,
        )
        self.intake = Intake(
            accounts=self.accounts,
            desk=self.desk,
            resolver=self.resolver,
            reconciler=self.reconciler,
            market=self.market,
            sections=self.sections,
            alerts=self.alerts,
            clock=clock,
            publish=self.health.publish,
        )
        for account in self.accounts.values():
            account.on_change = partial(self._on_order_change, account.on_change)

    def _judge_clock(self) -> None:
        """Expiries are stamps of our clock that the venue judges by its own."""
        ahead_s = self.venue_clock.proven_ns() / 1e9
        if abs(ahead_s) <= self.settings.max_clock_skew_s:
            self.alerts.end(CLOCK_SKEW, self.venue.name)
            return
        way = "ahead of" if ahead_s > 0 else "behind"
        message = f"this machine's clock is {abs(ahead_s):.1f} s or more {way} the venue's"
        self.alerts.begin(CLOCK_SKEW, self.venue.name, message, severity=CRITICAL)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> object:
        """Run something that outlives the call it began in; if it fails, the gateway ends."""
        if self._tasks is None:
            work.close()
            raise RuntimeError("the gateway is not running")
        try:
            task = self._tasks.create_task(work, name=name, context=deadlines.background_context())
        except RuntimeError:
            # The gateway is ending: whatever this was is taken up at its next start.
            work.close()
            raise
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def audit_entries(self) -> AuditReader:
        """The stored audit trail of the venue."""
        return AuditReader(self._bus, self.venue.name)

    def history(self, account_id: str) -> AccountHistory:
        """The account's stored events."""
        return AccountHistory(self._bus, self.venue.name, account_id, dead_letters=self.dead_letters)

    # running

    async def recover(self) -> None:
        """Rebuild all accounts from snapshots and the journal; nothing is sent.

        Raises:
            JournalUnavailable: the broker does not answer.
        """
        await self.log.open()
        for account in self.accounts.values():
            await self._recover_account(account)
        await self.switches.recover()
        await self._operator_drain.recover()
        self.desk.drained_because = self._operator_drain.cause
        # Before the first order is taken: what was halted stays so over a restart.
        await self.risk.load()

    async def _recover_account(self, account: Account) -> None:
        # Read before replaying: an intent stored in between is then read twice rather than missed.
        newest = await self.history(account.account_id).last_broker_time()
        fold = await self.snapshots.fold(account.account_id)
        reach(CrashPoint.JOURNAL_REPLAYED)
        self.log.restore(account.account_id, fold.sequence)
        account.adopt(fold)
        self._folds[account.account_id] = fold
        async for intent in self.journal.intents_since(account.account_id, newest - INTENT_OVERLAP if newest else None):
            await self._recover_intent(account, intent)
        for order in account.open_orders():
            await self._recover_order(account, order)
        log.info(
            "account_recovered",
            extra={
                "account_id": account.account_id,
                "sequence": fold.sequence,
                "open_orders": len(account.open_orders()),
            },
        )

    async def _recover_intent(self, account: Account, intent: event_pb2.OrderIntent) -> None:
        if intent.nonce:
            self.venue.restore_nonce(account.account_id, intent.nonce)
        if intent.order.status != pb.ORDER_STATUS_PENDING_NEW:
            # Not of a new order: an amendment, or an operation that is no order at all.
            if intent.HasField("order"):
                await self.working.amendments.recover(account, intent)
            return
        key = intent.order.terms.client_order_id
        known = account.order_by_key(key)
        if known is None and await self.journal.read_outcome(account.account_id, key) is None:
            self.desk.adopt_intent(account, from_order(intent.order, []), intent)
        elif known is not None and not known.terminal:
            reservation = Reservation(nonce=intent.nonce, expires_ns=intent.expires_unix_nanos)
            self.desk.reservations[known.order_id] = reservation

    async def _recover_order(self, account: Account, order: OrderState) -> None:
        """An order that was open when the last process ended: what was under way then is in doubt now."""
        if order.order_id not in self.desk.reservations and not order.working:
            intent = await self.journal.read_intent(account.account_id, order.terms.client_order_id)
            if intent is not None:
                reservation = Reservation(nonce=intent.nonce, expires_ns=intent.expires_unix_nanos)
                self.desk.reservations[order.order_id] = reservation
        if order.status == pb.ORDER_STATUS_PENDING_NEW:
            account.apply(order.order_id, OutcomeLost(cause="the gateway ended before the venue answered"))
        self.resolver.doubt(account, order.order_id)

    async def run(self) -> None:
        """Keep everything going until cancelled; ends with the first failure of a part."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self.log.run(), name="event-log")
            tasks.create_task(self.audit.run(), name="audit")
            tasks.create_task(self.snapshots.run(), name="snapshots")
            tasks.create_task(self.refresh.run(), name="instruments")
            await self.refresh.known.wait()
            while self._folds:
                account_id, fold = self._folds.popitem()
                self.accounts[account_id].catch_up_positions(fold)
            tasks.create_task(self.venue.run(self.intake), name="venue")
            tasks.create_task(self.link_watch.run(), name="links")
            tasks.create_task(self.resolver.run(), name="resolver")
            tasks.create_task(self.switches.run(), name="dead-mans-switches")
            tasks.create_task(self.sessions.run(), name="order-sessions")
            tasks.create_task(self.risk.run(), name="risk-bucket")
            tasks.create_task(self.books.run(), name="books")
            tasks.create_task(self.market.run(), name="market")
            tasks.create_task(self.health.watch_sections(self.settings.section_period_s), name="sections")
            for account_id in self.accounts:
                tasks.create_task(self.reconciler.run(account_id), name=f"reconcile-{account_id}")

    def drain(self) -> None:
        """Take no new orders from here on."""
        self.desk.draining = True
        self.health.publish()

    async def finish(self, timeout_s: float) -> None:
        """Wait, so long at most, for what was sent to be answered; what is not is in doubt at the next start."""
        if self._under_way:
            _, unfinished = await asyncio.wait(self._under_way, timeout=timeout_s)
            if unfinished:
                log.warning("left_in_flight", extra={"count": len(unfinished)})

    async def drain_by_operator(self, operator: str, reason: str, *, drain: bool) -> None:
        """Take no new orders while everything else goes on, over restarts too; or take them again.

        Raises:
            JournalUnavailable: not durable. A drain is in force all the same, its end is not.
        """
        change = self._operator_drain.begin if drain else self._operator_drain.end
        try:
            await change(operator, reason)
        finally:
            self.desk.drained_because = self._operator_drain.cause
            self.health.publish()

    def _on_gate(self) -> None:
        """An account's gate was opened or closed."""
        for account_id, gate in self.desk.gates.items():
            if gate.ready:
                self.alerts.end(ACCOUNT_STALE, account_id)
        self.health.publish()

    def _on_order_change(self, inner: Callable[[OrderState], None], order: OrderState) -> None:
        inner(order)
        self.refresh.on_order_change(order)
        self.sessions.on_change(order)

    @property
    def serving(self) -> bool:
        """Whether every account is caught up with the venue and the journal takes events."""
        return self.health.serving

    def status(self) -> venue_pb2.VenueStatus:
        """Health of the venue now."""
        return self.health.status()

    def venue_message(self) -> venue_pb2.Venue:
        """The venue as VenueService shows it."""
        return self.health.message()


__all__ = ["CoreSettings", "GatewayCore", "LogOverflow"]
