"""A gateway without its servers: one venue, its accounts, and what keeps them true.

It is the sink of the adapter: venue facts become order states and events here. `recover` rebuilds everything from the
journal before the first link opens; `run` keeps all pumps going and ends when one of them fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from venuemesh import deadlines
from venuemesh.bus import Bus
from venuemesh.clock import Clock
from venuemesh.crashpoints import CrashPoint, reach
from venuemesh.dead_letters import DeadLetters
from venuemesh.errors import MeshError, Reason
from venuemesh.gateway.account import Account
from venuemesh.gateway.account_operations import AccountOperations
from venuemesh.gateway.alerts import (
    ACCOUNT_STALE,
    AUDIT_LOST,
    CRITICAL,
    DISCREPANCY,
    ILLEGAL_TRANSITION,
    LINK_LOST,
    ORDER_REVIVED,
    ORDER_STUCK,
    UNKNOWN_TEXT,
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
from venuemesh.gateway.evidence import facts_of
from venuemesh.gateway.facts import OutcomeLost
from venuemesh.gateway.instruments import Instruments
from venuemesh.gateway.kill_switch import KillSwitch
from venuemesh.gateway.link_watch import LinkWatch, LinkWatchSettings
from venuemesh.gateway.market_data import MarketData
from venuemesh.gateway.operator_actions import OperatorActions
from venuemesh.gateway.operator_drain import OperatorDrain
from venuemesh.gateway.order_wire import from_order, timestamp
from venuemesh.gateway.orders import Change, IllegalTransition, OrderState
from venuemesh.gateway.reconciler import Reconciler, ReconcilerSettings
from venuemesh.gateway.recovery import Recovery
from venuemesh.gateway.resolver import Resolver, ResolverSettings
from venuemesh.gateway.sections import Sections, told_facts
from venuemesh.gateway.venue import (
    BookSnapshot,
    Level,
    ReferencePrice,
    Reservation,
    Venue,
    VenueFill,
    VenueOrder,
    VenueOrderState,
    VenuePosition,
)
from venuemesh.gateway.working import WorkingOrders
from venuemesh.journal import INTENT_OVERLAP, AccountHistory, EventLog, LogOverflow, OrderJournal
from venuemesh.risk_board import RiskBoard
from venuemesh.risk_store import RiskStore
from venuemesh.v1 import account_pb2, error_pb2, event_pb2, market_data_pb2, reconciliation_pb2, stream_pb2, venue_pb2
from venuemesh.v1 import order_pb2 as pb

log = logging.getLogger(__name__)

RULE_HINTS = frozenset(
    error_pb2.Reason.Value(f"REASON_{reason}")
    for reason in (
        Reason.PRICE_OFF_TICK,
        Reason.QUANTITY_OFF_LOT,
        Reason.BELOW_MIN_NOTIONAL,
        Reason.ABOVE_MAX_NOTIONAL,
        Reason.INSTRUMENT_NOT_TRADING,
        Reason.OPEN_INTEREST_CAP,
        Reason.POSITION_LIMIT_REACHED,
    )
)
"""A venue's refusals of orders that our own checks let pass: a rule may have changed since it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreSettings:
    """Bounds and periods of a gateway, in seconds.

    Attributes:
        instrument_refresh_s: between two readings of the instruments.
        instrument_hint_s: a refusal that hints at a changed rule has them read at once, at most this often.
        section_period_s: between two looks whether a section of the venue has changed.
        oracle_still_after_s: an oracle price that stood for so long is counted as still.
    """

    desk: DeskSettings = field(default_factory=DeskSettings)
    resolver: ResolverSettings = field(default_factory=ResolverSettings)
    reconciler: ReconcilerSettings = field(default_factory=ReconcilerSettings)
    links: LinkWatchSettings = field(default_factory=LinkWatchSettings)
    instrument_refresh_s: float = 600.0
    instrument_retry_s: float = 0.5
    instrument_hint_s: float = 10.0
    section_period_s: float = 1.0
    oracle_still_after_s: float = 60.0


class GatewayCore:
    """One venue's desk, books and accounts. Use as: build, `recover`, `run`.

    Args:
        audit: where the adapter's requests are remembered; made here, and empty, where the adapter has no observer.
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
    ) -> None:
        venue = attributed(venue)
        self.venue = venue
        self.environment = environment
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
        self.on_status: list[Callable[[venue_pb2.VenueStatus], None]] = []
        self._bus = bus
        self._recoveries: dict[str, Recovery] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._instruments_known = asyncio.Event()
        self._hinted = asyncio.Event()
        self._refreshed_s = float("-inf")
        self._told_sections: list[bytes] = []
        self._status = self._new_status(venue_pb2.VENUE_STATE_RECONCILING, "starting")
        self.reconciler.on_gate = self._on_gate
        self.alerts = Alerts(venue.name, clock)
        self.switches = DeadMansSwitches(
            self.desk, self.working, SwitchStore(bus, venue.name, clock), clock=clock, alerts=self.alerts
        )
        self.audit = audit or AuditTrail(bus, venue=venue.name, writer_id=writer_id, clock=clock)
        self.audit.find_orders = partial(orders_about, self.accounts)
        self.audit.on_loss = partial(self.alerts.begin, AUDIT_LOST, venue.name, severity=CRITICAL)
        self.audit.on_whole = partial(self.alerts.end, AUDIT_LOST, venue.name)
        self.link_watch = LinkWatch(
            venue, self.alerts, self.desk.pauses, accounts=list(self.accounts), settings=settings.links
        )
        self.link_watch.on_change = self._publish_status
        self._operator_drain = OperatorDrain(bus, venue.name, clock)
        self.kill_switch = KillSwitch(self.desk, self.working)
        self.on_unknown_text: list[Callable[[str], None]] = []
        """Called with each text of the venue that nobody has seen before."""
        self.reconciler.on_discrepancy.append(self._on_discrepancy)
        self.resolver.on_stuck = self._on_stuck
        self.resolver.on_settled = lambda order: self.alerts.end(ORDER_STUCK, order.order_id)
        for account in self.accounts.values():
            account.on_illegal = self._on_illegal
            account.on_revived = self._on_revived
            account.on_change = partial(self._on_order_change, account.on_change)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> object:
        """Run something that outlives the call it began in; if it fails, the gateway ends."""
        if self._tasks is None:
            work.close()
            raise RuntimeError("the gateway is not running")
        task = self._tasks.create_task(work, name=name, context=deadlines.background_context())
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
        """Rebuild all accounts from the journal; nothing is sent.

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
        history = self.history(account.account_id)
        # Read before replaying: an intent stored in between is then read twice rather than missed.
        newest = await history.last_broker_time()
        recovery, last = Recovery(), 0
        async for event in history.replay():
            account.restore_event(event, recovery)
            last = event.sequence
        reach(CrashPoint.JOURNAL_REPLAYED)
        self.log.restore(account.account_id, last)
        account.finish_restore(recovery)
        self._recoveries[account.account_id] = recovery
        async for intent in self.journal.intents_since(account.account_id, newest - INTENT_OVERLAP if newest else None):
            await self._recover_intent(account, intent)
        for order in account.open_orders():
            await self._recover_order(account, order)
        log.info(
            "account_recovered",
            extra={"account_id": account.account_id, "sequence": last, "open_orders": len(account.open_orders())},
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
            tasks.create_task(self._refresh_instruments(), name="instruments")
            await self._instruments_known.wait()
            while self._recoveries:
                account_id, recovery = self._recoveries.popitem()
                self.accounts[account_id].catch_up_positions(recovery)
            tasks.create_task(self.venue.run(self), name="venue")
            tasks.create_task(self.link_watch.run(), name="links")
            tasks.create_task(self.resolver.run(), name="resolver")
            tasks.create_task(self.switches.run(), name="dead-mans-switches")
            tasks.create_task(self.risk.run(), name="risk-bucket")
            tasks.create_task(self.books.run(), name="books")
            tasks.create_task(self.market.run(), name="market")
            tasks.create_task(self._watch_sections(), name="sections")
            for account_id in self.accounts:
                tasks.create_task(self.reconciler.run(account_id), name=f"reconcile-{account_id}")

    async def _refresh_instruments(self) -> None:
        while True:
            try:
                changed = self.instruments.replace(await self.venue.fetch_instruments())
            except MeshError as error:
                log.warning("instruments_not_refreshed", extra={"error": error.message})
                await asyncio.sleep(self.settings.instrument_retry_s)
                continue
            log.info("instruments_refreshed", extra={"count": len(self.instruments), "changed": len(changed)})
            self._instruments_known.set()
            self._refreshed_s = self.clock.monotonic_s()
            await self._pause_refresh()

    async def _watch_sections(self) -> None:
        """Publish what changed in a section: silence and prices that stand make no event."""
        while True:
            await asyncio.sleep(self.settings.section_period_s)
            if told_facts(self.sections.statuses(self.instruments.all())) != self._told_sections:
                self._publish_status()

    async def _pause_refresh(self) -> None:
        """Wait for the period, or until a refusal hints that a rule has changed."""
        self._hinted.clear()
        try:
            async with asyncio.timeout(self.settings.instrument_refresh_s):
                await self._hinted.wait()
        except TimeoutError:
            return

    def _on_order_change(self, inner: Callable[[OrderState], None], order: OrderState) -> None:
        inner(order)
        refused = order.status == pb.ORDER_STATUS_REJECTED and order.reject is not None
        if not refused or order.reject is None or order.reject.reason not in RULE_HINTS:
            return
        if self.clock.monotonic_s() - self._refreshed_s >= self.settings.instrument_hint_s:
            log.info("instruments_doubted", extra={"symbol": order.terms.symbol, "reason": order.reject.reason})
            self._hinted.set()

    def drain(self) -> None:
        """Take no new orders from here on."""
        self.desk.draining = True
        self._publish_status()

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
            self._publish_status()

    # health

    @property
    def serving(self) -> bool:
        """Whether every account is caught up with the venue and the journal takes events."""
        return all(gate.ready for gate in self.desk.gates.values()) and self._bus.connected

    def status(self) -> venue_pb2.VenueStatus:
        """Health of the venue now."""
        status = venue_pb2.VenueStatus()
        status.CopyFrom(self._status)
        del status.links[:]
        status.links.extend(self.venue.links())
        status.sections.extend(self.sections.statuses(self.instruments.all()))
        return status

    def venue_message(self) -> venue_pb2.Venue:
        """The venue as VenueService shows it."""
        return venue_pb2.Venue(
            venue=self.venue.name,
            display_name=self.venue.name,
            environment=self.environment,
            account_ids=sorted(self.accounts),
            capabilities=self.venue.capabilities,
            status=self.status(),
        )

    def _new_status(self, state: venue_pb2.VenueState.ValueType, cause: str) -> venue_pb2.VenueStatus:
        return venue_pb2.VenueStatus(
            venue=self.venue.name, state=state, since=timestamp(self.clock.now_ns()), cause=cause
        )

    def _publish_status(self) -> None:
        state, cause = self._judge()
        same = (state, cause) == (self._status.state, self._status.cause)
        facts = told_facts(self.sections.statuses(self.instruments.all()))
        if same and facts == self._told_sections:
            return
        self._told_sections = facts
        if not same:
            self._status = self._new_status(state, cause)
        status = self.status()
        event = event_pb2.Event(received_time=timestamp(self.clock.now_ns()), venue_status=status)
        self.log.append_venue_event(event)
        for listener in self.on_status:
            listener(status)

    def _judge(self) -> tuple[venue_pb2.VenueState.ValueType, str]:
        if self.desk.draining:
            return venue_pb2.VENUE_STATE_DRAINING, "stopping"
        if self.desk.drained_because:
            return venue_pb2.VENUE_STATE_DRAINING, self.desk.drained_because
        waiting = {name: gate.cause for name, gate in self.desk.gates.items() if not gate.ready}
        if waiting:
            causes = "; ".join(f"{name}: {cause}" for name, cause in sorted(waiting.items()))
            down = any(link.state == stream_pb2.LINK_STATE_DOWN for link in self.venue.links())
            state = venue_pb2.VENUE_STATE_DOWN if down else venue_pb2.VENUE_STATE_RECONCILING
            return state, causes
        degraded = [link for link in self.venue.links() if link.state == stream_pb2.LINK_STATE_DEGRADED]
        if degraded:
            causes = "; ".join(f"{link.link_id}: {link.cause}" for link in degraded)
            paused = "; new orders are paused" if self.desk.pauses else ""
            return venue_pb2.VENUE_STATE_DEGRADED, f"degraded: {causes}{paused}"
        return venue_pb2.VENUE_STATE_TRADING, ""

    # what the venue tells

    def on_link(self, link_id: str, state: stream_pb2.LinkState.ValueType, cause: str) -> None:
        """A connection changed its state."""
        log.info(
            "link_changed",
            extra={"link_id": link_id, "state": stream_pb2.LinkState.Name(state), "cause": cause},
        )
        if state == stream_pb2.LINK_STATE_DOWN and not self.desk.draining:
            self.alerts.begin(LINK_LOST, link_id, f"{link_id}: {cause}")
        elif state == stream_pb2.LINK_STATE_LIVE:
            self.alerts.end(LINK_LOST, link_id)
        self._publish_status()

    def _on_gate(self) -> None:
        """An account's gate was opened or closed."""
        for account_id, gate in self.desk.gates.items():
            if gate.ready:
                self.alerts.end(ACCOUNT_STALE, account_id)
        self._publish_status()

    def _on_discrepancy(self, found: reconciliation_pb2.Discrepancy) -> None:
        kind = reconciliation_pb2.DiscrepancyType.Name(found.discrepancy_type).removeprefix("DISCREPANCY_TYPE_")
        what = found.order_id or found.symbol
        message = f"{kind.lower()} of {what}: {found.ours!r} here, {found.venues!r} at the venue"
        self.alerts.note(DISCREPANCY, message, account_id=found.account_id)

    def _on_illegal(self, order: OrderState, error: IllegalTransition) -> None:
        message = f"order {order.order_id}: {error}"
        account = self.accounts[order.terms.account_id]
        self.alerts.note(ILLEGAL_TRANSITION, message, account_id=account.account_id)
        self.reconciler.note_contradiction(account, order, str(error))
        if not order.terminal:
            self.resolver.recheck(account, order.order_id)

    def _on_revived(self, before: OrderState, change: Change) -> None:
        message = f"order {before.order_id} was held rejected and is alive: {change.text}"
        self.alerts.note(ORDER_REVIVED, message, severity=CRITICAL, account_id=before.terms.account_id)
        self.resolver.doubt(self.accounts[before.terms.account_id], before.order_id)

    def _on_stuck(self, order: OrderState) -> None:
        message = f"order {order.order_id} is uncertain for more than {self.settings.resolver.stuck_after_s:g}s"
        self.alerts.begin(ORDER_STUCK, order.order_id, message, account_id=order.terms.account_id)

    def on_unknown_words(self, account_id: str, text: str) -> None:
        """The venue said something nobody has seen: told in full, counted, and a person should look."""
        log.warning("venue_text_unknown", extra={"account_id": account_id, "text": text})
        for listener in self.on_unknown_text:
            listener(text)
        self.alerts.note(UNKNOWN_TEXT, text, account_id=account_id)

    def on_account_live(self, account_id: str) -> None:
        """The account's private stream is subscribed."""
        self.reconciler.on_live(account_id)
        self._publish_status()

    def on_account_lost(self, account_id: str, cause: str) -> None:
        """The account's private stream is gone."""
        if not self.desk.draining:
            self.alerts.begin(ACCOUNT_STALE, account_id, f"{account_id}: {cause}", account_id=account_id)
        self.reconciler.on_lost(account_id, cause)
        self._publish_status()

    def on_order(self, account_id: str, order: VenueOrder) -> None:
        """The venue pushed an order's state; orders the mesh did not place are left to reconciliation."""
        account = self.accounts[account_id]
        known = account.order_by_venue_client_id(order.venue_client_order_id or "")
        known = known or account.order_by_venue_id(order.venue_order_id)
        if known is None or (order.state is VenueOrderState.REJECTED and self.desk.awaits_answer(known)):
            # Of a refusal the answer under way says more than the status word; if it is lost, the venue is asked.
            return
        if order.state is VenueOrderState.UNRECOGNISED:
            self.on_unknown_words(account_id, f"order status {order.text}")
        for fact in facts_of(order):
            known = account.apply(known.order_id, fact)
        if known.ending is not None:
            self.resolver.doubt(account, known.order_id)

    def on_fill(self, account_id: str, fill: VenueFill) -> None:
        """The venue pushed a fill."""
        self.accounts[account_id].on_fill(fill, self.clock.now_ns())

    def on_ledger(self, account_id: str, entry: account_pb2.LedgerEntry) -> None:
        """Money moved other than by a fill."""
        self.accounts[account_id].on_ledger(entry, self.clock.now_ns())

    def on_positions(self, account_id: str, positions: Sequence[VenuePosition]) -> None:
        """Marks, margin and liquidation prices."""
        self.accounts[account_id].on_positions(positions)

    def on_balances(
        self, account_id: str, balances: Sequence[account_pb2.Balance], summary: account_pb2.AccountSummary
    ) -> None:
        """Balances and margin."""
        self.accounts[account_id].on_balances(balances, summary, self.clock.now_ns())

    def on_book(self, book: BookSnapshot) -> None:
        """A new state of a watched book."""
        self.market.on_book(book)

    def on_top(self, symbol: str, bid: Level | None, ask: Level | None, venue_time_ns: int, received_ns: int) -> None:
        """A new best bid and offer."""
        self.market.on_top(symbol, bid, ask, venue_time_ns, received_ns)

    def on_trades(self, symbol: str, trades: Sequence[market_data_pb2.Trade]) -> None:
        """Public trades."""
        self.market.on_trades(symbol, trades)

    def on_statistics(self, statistics: market_data_pb2.MarketStatistics) -> None:
        """Mark, index, funding."""
        self.market.on_statistics(statistics)

    def on_candle(self, candle: market_data_pb2.Candle) -> None:
        """The running candle."""
        self.market.on_candle(candle)

    def on_reference_prices(self, section: str, prices: Sequence[ReferencePrice], received_ns: int) -> None:
        """Oracle and mark prices of a section."""
        self.sections.on_reference_prices(section, prices, received_ns)

    def on_reference_lost(self, section: str, cause: str) -> None:
        """They are not current any more."""
        self.sections.on_lost(section, cause)
        self._publish_status()

    def on_feed_lost(self, symbol: str, cause: str) -> None:
        """Market data of the symbol is not current any more."""
        self.market.on_feed_lost(symbol, cause)


__all__ = ["CoreSettings", "GatewayCore", "LogOverflow"]
