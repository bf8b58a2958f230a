"""Settles what nobody knows: asks the venue about doubtful orders until evidence decides.

Doubtful is an order whose submit, cancel or amendment was left without an answer, and one whose end the venue told
before its last fills came. Each is asked about again and again, ever more slowly, for as long as it takes: never by a
count of tries. Absence becomes proof only when the venue was asked later than the request could still have arrived,
plus the venue's settle delay. Orders of one account that are due together are asked about in one reading.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial

from google.protobuf.timestamp_pb2 import Timestamp

from venuemesh.clock import Clock
from venuemesh.errors import MeshError, Reason
from venuemesh.gateway.account import Account
from venuemesh.gateway.account_fold import MAX_EVIDENCE
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.evidence import amended_terms, facts_of, proves_absence
from venuemesh.gateway.facts import CancelFailed, FillsComplete, ProvedAbsent, ReplaceConfirmed, ReplaceFailed
from venuemesh.gateway.order_wire import timestamp, to_order
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.venue import (
    MAX_FETCHED_TOGETHER,
    CancelAnswer,
    Refused,
    Reservation,
    VenueFill,
    VenueOrder,
    VenueOrderState,
)
from venuemesh.journal import LogOverflow
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import reconciliation_pb2

log = logging.getLogger(__name__)

FILL_OVERLAP_NS = 60_000_000_000
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverSettings:
    """How often a doubtful order is asked about, in seconds: first, then doubling up to the last.

    Attributes:
        stuck_after_s: an order uncertain for this long is one for a person.
    """

    first_s: float = 0.25
    last_s: float = 5.0
    stuck_after_s: float = 60.0


@dataclass(slots=True)
class Doubt:
    """One order in doubt, with what was found out so far."""

    account: Account
    order_id: str
    next_s: float
    wait_s: float
    recheck: bool = False
    """Ask once, although nothing about the order is in doubt but that the venue did not list it."""
    evidence: deque[reconciliation_pb2.Evidence] = field(default_factory=lambda: deque(maxlen=MAX_EVIDENCE))


@dataclass(frozen=True, slots=True)
class Fetched:
    """Fills that were asked for: how many the venue told, and those that were news."""

    compared: int
    learnt: Sequence[VenueFill]


class Resolver:
    """Asks about doubtful orders, soonest due first."""

    def __init__(self, desk: Desk, *, clock: Clock, settings: ResolverSettings | None = None) -> None:
        self._desk = desk
        self._venue = desk.venue
        self._clock = clock
        self._settings = settings or ResolverSettings()
        self._doubts: dict[str, Doubt] = {}
        self._wake = asyncio.Event()
        self.settle_ns = desk.venue.capabilities.settle_delay.ToNanoseconds()
        desk.on_doubt = self.doubt
        self.on_stuck: Callable[[OrderState], None] = lambda _order: None
        """Called, perhaps again and again, with an order that has been uncertain for too long."""
        self.on_settled: Callable[[OrderState], None] = lambda _order: None
        """Called with an order that is not in doubt any more."""
        self.ahead_ns: Callable[[], int] = lambda: 0
        """How far our clock certainly is ahead of the venue's."""
        for account in desk.accounts.values():
            account.on_evidence = partial(self._take_evidence, account)

    @property
    def doubts(self) -> Mapping[str, Doubt]:
        """Orders in doubt, by our id."""
        return self._doubts

    def doubt(self, account: Account, order_id: str) -> None:
        """Take an order in; asking begins at once, or a little later where only fills are awaited: they will come."""
        order = account.order(order_id)
        delay_s = self._settings.first_s if order is not None and order.ending is not None else 0.0
        next_s = self._clock.monotonic_s() + delay_s
        known = self._doubts.get(order_id)
        if known is None:
            self._doubts[order_id] = Doubt(account, order_id, next_s=next_s, wait_s=self._settings.first_s)
        else:
            known.next_s = min(known.next_s, next_s)
        self._wake.set()

    def recheck(self, account: Account, order_id: str) -> None:
        """Ask about an order once its last change has settled: a list of open orders, perhaps older, left it out."""
        next_s = self._clock.monotonic_s() + self.settle_ns / 1e9
        doubt = self._doubts.setdefault(
            order_id, Doubt(account, order_id, next_s=next_s, wait_s=self._settings.first_s)
        )
        doubt.recheck = True
        self._wake.set()

    def hurry(self, account_id: str) -> None:
        """Ask about an account's doubts at once: its link has just come back."""
        for doubt in self._doubts.values():
            if doubt.account.account_id == account_id:
                doubt.next_s, doubt.wait_s = self._clock.monotonic_s(), self._settings.first_s
        self._wake.set()

    def settles_ns(self, order: OrderState) -> int | None:
        """When the order's absence at the venue becomes proof; None when the venue cannot tell."""
        if order.order_id not in self._desk.reservations:
            return None
        return self.last_arrival_ns(order) + self.settle_ns

    def last_arrival_ns(self, order: OrderState) -> int:
        """The last moment at which the venue can have accepted the order, our clock."""
        reservation = self._desk.reservations.get(order.order_id, Reservation())
        expires_ns = reservation.expires_ns or order.created_ns + int(self._desk.settings.order_lifetime_s * 1e9)
        # The venue goes by its own clock: where that is behind, it takes the order for so much longer.
        return expires_ns + max(0, self.ahead_ns())

    async def ask_now(self, account: Account, order_id: str) -> None:
        """Ask about an order at once, in doubt or not."""
        now_s = self._clock.monotonic_s()
        fresh = Doubt(account, order_id, next_s=now_s, wait_s=self._settings.first_s)
        doubt = self._doubts.setdefault(order_id, fresh)
        doubt.recheck = True
        await self.ask(doubt)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            self._wake.clear()
            due = min(self._doubts.values(), key=lambda doubt: doubt.next_s, default=None)
            if due is None:
                await self._wake.wait()
                continue
            wait_s = due.next_s - self._clock.monotonic_s()
            if wait_s > 0:
                await self._sleep(wait_s)
                continue
            together = self._due_together(due)
            await (self.ask(due) if len(together) < 2 else self.ask_together(together))

    def _due_together(self, first: Doubt) -> list[Doubt]:
        """Doubts of the same account that are due too and want nothing but to be asked about."""
        now_s = self._clock.monotonic_s()
        due = [one for one in self._doubts.values() if one.account is first.account and one.next_s <= now_s]
        plain = [one for one in due if self._wants_only_a_query(one)]
        return plain[:MAX_FETCHED_TOGETHER] if first in plain else [first]

    def _wants_only_a_query(self, doubt: Doubt) -> bool:
        order = doubt.account.order(doubt.order_id)
        return order is not None and order.ending is None and not order.pending_cancel and self._is_open(doubt, order)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def ask(self, doubt: Doubt) -> None:
        """Gather evidence about one order once and act on it."""
        order = doubt.account.order(doubt.order_id)
        if order is not None and self._is_open(doubt, order):
            await self._guarded(doubt, self._gather(doubt, order))
        self._put_back(doubt)

    async def ask_together(self, doubts: Sequence[Doubt]) -> None:
        """The same about several orders of one account that want only a query, with one reading for all of them."""
        account = doubts[0].account
        orders = [order for doubt in doubts if (order := account.order(doubt.order_id)) is not None]
        asked_ns = self._clock.now_ns()
        try:
            views = await self._venue.fetch_orders([self._desk.target_of(account, order) for order in orders])
        except MeshError as error:
            for doubt in doubts:
                self._note(doubt, "venue", f"not reached: {error.message}")
        except Exception:
            # One of them may be more than our code can handle: it must not keep the others from being settled.
            log.exception("resolve_together_failed", extra={"order_ids": [order.order_id for order in orders]})
            for doubt in doubts:
                await self.ask(doubt)
            return
        else:
            found = {order.order_id: view for order, view in zip(orders, views, strict=True)}
            for doubt in doubts:
                order = account.order(doubt.order_id)
                if order is not None and order.order_id in found:
                    await self._guarded(doubt, self._weigh(doubt, order, found[order.order_id], asked_ns))
        for doubt in doubts:
            self._put_back(doubt)

    async def _guarded(self, doubt: Doubt, work: Awaitable[None]) -> None:
        try:
            await work
            doubt.recheck = False
        except MeshError as error:
            self._note(doubt, "venue", f"not reached: {error.message}")
        except LogOverflow:
            raise
        except Exception as error:
            # One order that our code cannot handle must not keep the others, and all cancels, from being served.
            log.exception("resolve_failed", extra={"order_id": doubt.order_id})
            self._note(doubt, "gateway", f"fault of ours: {type(error).__name__}")

    def _put_back(self, doubt: Doubt) -> None:
        """Ask again later, or no more."""
        order = doubt.account.order(doubt.order_id)
        if order is None or not self._is_open(doubt, order):
            self._doubts.pop(doubt.order_id, None)
            if order is not None:
                self.on_settled(order)
            return
        doubt.next_s = self._clock.monotonic_s() + doubt.wait_s
        doubt.wait_s = min(doubt.wait_s * 2, self._settings.last_s)
        if order.uncertain and self._clock.now_ns() - order.uncertain_since_ns >= self._settings.stuck_after_s * 1e9:
            self.on_stuck(order)

    def _is_open(self, doubt: Doubt, order: OrderState) -> bool:
        return self._in_doubt(order) or (doubt.recheck and not order.terminal)

    def _in_doubt(self, order: OrderState) -> bool:
        if order.terminal:
            return False
        waits_for_fills = order.ending is not None
        return order.uncertain or order.pending_cancel or order.pending_replace or waits_for_fills

    async def _gather(self, doubt: Doubt, order: OrderState) -> None:
        account = doubt.account
        if order.ending is not None:
            asked_ns = self._clock.now_ns()
            await self._fetch_due_fills(account, order.order_id, order.ending.venue_order_id, ZERO)
            order = account.order(order.order_id) or order
            if asked_ns >= order.updated_ns + self.settle_ns:
                # Asked for all its fills, and long after it ended: there are no others.
                order = account.apply(order.order_id, FillsComplete())
            if order.terminal:
                return
        if order.pending_cancel:
            answer = await self._venue.cancel_order(self._desk.target_of(account, order))
            said = answer.value if isinstance(answer, CancelAnswer) else answer.text
            self._note(doubt, "cancel", said)
            if isinstance(answer, Refused) and answer.reason is not Reason.NONCE_REJECTED:
                account.apply(order.order_id, CancelFailed(text=answer.text))
        asked_ns = self._clock.now_ns()
        view = await self._venue.fetch_order(self._desk.target_of(account, order))
        await self._weigh(doubt, account.order(order.order_id) or order, view, asked_ns)

    async def _weigh(self, doubt: Doubt, order: OrderState, view: VenueOrder | None, asked_ns: int) -> None:
        """Act on the answer to a query by id."""
        account = doubt.account
        if view is None:
            self._note(doubt, "query by id", "unknown at the venue")
            self._judge_absence(account, order, asked_ns)
            return
        self._note(doubt, "query by id", f"{view.state} as {view.venue_order_id}, filled {view.filled_quantity}")
        await self.apply_view(account, order, view, asked_ns)

    async def apply_view(
        self,
        account: Account,
        order: OrderState,
        view: VenueOrder,
        asked_ns: int,
        origin: pb.Origin.ValueType = pb.ORIGIN_VENUE,
    ) -> OrderState:
        """Fold what the venue shows of an order into ours, and fetch the fills it mentions and we lack.

        Args:
            asked_ns: our clock before the venue was asked.
        """
        order = account.order(order.order_id) or order
        if order.pending_replace:
            self._judge_amendment(account, order, view, asked_ns)
        elif (amended := self._amended_unasked(order, view, asked_ns)) is not None:
            account.apply(order.order_id, amended)
        for fact in facts_of(view, origin):
            account.apply(order.order_id, fact)
        await self._fetch_due_fills(account, order.order_id, view.venue_order_id, view.filled_quantity or ZERO)
        return account.order(order.order_id) or order

    async def _fetch_due_fills(self, account: Account, order_id: str, life: str | None, due: Decimal) -> None:
        """Fetch the fills an order is known to lack: the latest first, then all since it was made."""
        for whole_life in (False, True):
            order = account.order(order_id)
            if order is None or (order.ending is None and due <= order.filled_in(life)):
                return
            await self.fetch_fills(account, order.created_ns if whole_life else None)

    async def fetch_fills(self, account: Account, since_ns: int | None = None) -> Fetched:
        """Fetch fills from a little before `since_ns`, or before the first that may be missing."""
        start_ns = (account.fills.complete_ns if since_ns is None else since_ns) - FILL_OVERLAP_NS
        since_ns = max(account.history_from_ns, start_ns)
        fills = await self._venue.fetch_fills(account.account_id, since_ns)
        received_ns = self._clock.now_ns()
        learnt = []
        for fill in fills:
            known = account.knows_execution(fill.execution_id)
            account.on_fill(fill, received_ns)
            if not known and account.knows_execution(fill.execution_id):
                learnt.append(fill)
        return Fetched(len(fills), learnt)

    def _judge_absence(self, account: Account, order: OrderState, asked_ns: int) -> None:
        if order.order_id not in self._desk.reservations:
            # Until when it could arrive is not known: that is for an operator to settle.
            return
        arrival_ns = self.last_arrival_ns(order)
        if not proves_absence(order, asked_ns=asked_ns, last_arrival_ns=arrival_ns, settle_ns=self.settle_ns):
            return
        evidence = "the venue does not know it after the last moment it could have arrived"
        account.apply(order.order_id, ProvedAbsent(evidence=evidence))

    def _amended_unasked(self, order: OrderState, view: VenueOrder, asked_ns: int) -> ReplaceConfirmed | None:
        """Other terms at the venue although no amendment is under way here: a crash took what was learnt of one, or
        somebody else made it. The venue's hold, unless its view may be older than our last change.
        """
        if order.terminal or not order.venue_order_ids or view.state is not VenueOrderState.WORKING:
            return None
        new_life = view.venue_order_id not in order.venue_order_ids
        if not new_life and asked_ns < order.updated_ns + self.settle_ns:
            return None
        return amended_terms(order, view)

    def _judge_amendment(self, account: Account, order: OrderState, view: VenueOrder, asked_ns: int) -> None:
        """Tell from the venue's view whether an amendment without an answer took effect."""
        if view.state is VenueOrderState.UNRECOGNISED:
            return
        if view.state is VenueOrderState.REJECTED:
            account.apply(order.order_id, ReplaceFailed(text=f"its new terms were refused: {view.text}"))
            return
        confirmed = amended_terms(order, view)
        if confirmed is not None:
            account.apply(order.order_id, confirmed)
            return
        if view.state is not VenueOrderState.WORKING:
            account.apply(order.order_id, ReplaceFailed(text="the order ended"))
            return
        lifetime_ns = int(self._desk.settings.order_lifetime_s * 1e9) + max(0, self.ahead_ns())
        if asked_ns >= order.updated_ns + lifetime_ns + self.settle_ns:
            account.apply(order.order_id, ReplaceFailed(text="the amendment never reached the venue"))

    def _take_evidence(self, account: Account, order_id: str, evidence: reconciliation_pb2.Evidence) -> None:
        """What an event of an order says of its doubt; what was said before a restart is said again by the log."""
        order = account.order(order_id)
        if order_id not in self._doubts and order is not None and order.uncertain:
            self.doubt(account, order_id)
        if order_id in self._doubts:
            self._doubts[order_id].evidence.append(evidence)

    def _note(self, doubt: Doubt, source: str, finding: str) -> None:
        now = self._clock.now_ns()
        doubt.evidence.append(reconciliation_pb2.Evidence(time=timestamp(now), source=source, finding=finding))
        log.info("evidence", extra={"order_id": doubt.order_id, "source": source, "finding": finding})

    def uncertain_orders(self, account_id: str = "") -> list[reconciliation_pb2.UncertainOrder]:
        """Orders whose outcome is unknown, longest first, with their evidence."""
        rows = []
        for account in self._desk.accounts.values():
            if account_id and account.account_id != account_id:
                continue
            rows += [(order.uncertain_since_ns, account, order) for order in account.open_orders() if order.uncertain]
        rows.sort(key=lambda row: (row[0], row[2].order_id))
        return [self._uncertain_row(order, to_order(order)) for _, _, order in rows]

    def _uncertain_row(self, state: OrderState, order: pb.Order) -> reconciliation_pb2.UncertainOrder:
        doubt = self._doubts.get(state.order_id)
        settles_ns = self.settles_ns(state)
        settles: Timestamp | None = timestamp(settles_ns) if settles_ns is not None else None
        return reconciliation_pb2.UncertainOrder(
            order=order, evidence=doubt.evidence if doubt else (), settles_time=settles
        )
