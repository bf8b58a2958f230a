"""The one place where risk meets the path of an order: `admit` before anything is journalled, `covering` around a send.

    await desk.admit(order, children)           # all children have room, or MeshError and none has
    async with desk.covering(orders) as room:   # takes room for what was not admitted yet
        answer = await send(...)
        room.answered(order, answer)            # no word, or an error that may have sent: the room stays taken

Room is taken per key: an order that has it, or that its account's stream shows, is never judged again, so repeats get
their first result. Room is given back when the order certainly is not live, by its own account's stream, or by its
gateway when a while after the sender's deadline nobody has shown it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from router.calls import read
from router.risk import RiskCheck, RiskOrder, check_order, needs_mark, needs_room, run_checks
from router.risk_feeds import AccountFeeds, Marks
from router.risk_ledger import ZERO, Ledger, Limit, OrderKey
from router.risk_log import ReservationLog
from router.risk_reservations import Reservations, key_of, reservation_of
from router.settings import RiskSettings
from router.venues import VenueLink, Venues
from venuemesh.bus import Bus
from venuemesh.clock import Clock
from venuemesh.deadlines import remaining_s
from venuemesh.errors import ClientOrderIdReused, MeshError, PreconditionFailed, Reason, Sent
from venuemesh.gateway.rules import check_fields
from venuemesh.money import EXACT, parse_decimal
from venuemesh.risk_board import Record
from venuemesh.risk_scope import Scope
from venuemesh.risk_store import RiskStore
from venuemesh.subjects import JOURNAL_STREAM, Kind, subject
from venuemesh.v1 import order_pb2, order_service_pb2, risk_pb2

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 2.0
REDUCE_ONLY = order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY


@dataclass(slots=True)
class Room:
    """What a send learns of its orders."""

    dead: set[OrderKey] = field(default_factory=set)
    """Proved not to be live."""
    unsent: set[OrderKey] = field(default_factory=set)
    """Not sent by this attempt; another one under the same key may have been."""

    def answered(self, order: order_pb2.NewOrder, answer: order_service_pb2.SubmitOrderResponse) -> None:
        """The gateway's answer to one order."""
        if answer.outcome == order_service_pb2.SUBMIT_OUTCOME_REJECTED:
            self.dead.add(order_key(order))

    def refused(self, orders: Iterable[order_pb2.NewOrder], error: MeshError) -> None:
        """The error of these orders; a key that belongs to another order says nothing about that one."""
        if error.sent is Sent.NO and not isinstance(error, ClientOrderIdReused):
            self.unsent |= {order_key(order) for order in orders}


def order_key(order: order_pb2.NewOrder) -> OrderKey:
    """Venue, account and key of an order that names its venue."""
    return order.venue, order.account_id, order.client_order_id


@dataclass(frozen=True, kw_only=True)
class RiskParts:
    """What the desk judges with."""

    store: RiskStore
    ledger: Ledger
    book: Reservations
    log: ReservationLog
    accounts: AccountFeeds
    marks: Marks
    checks: Sequence[RiskCheck] = ()


class RiskDesk:
    """Admits orders and settles their room."""

    def __init__(self, parts: RiskParts, venues: Venues, bus: Bus, clock: Clock, settings: RiskSettings) -> None:
        self.parts = parts
        self._venues = venues
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._sending: Counter[OrderKey] = Counter()
        self._amended: dict[OrderKey, int] = {}
        self.on_refusal: list[Callable[[order_pb2.NewOrder, MeshError], None]] = []
        """Called with an order that was refused, the first of those that were judged together, and why."""
        self._board = parts.store.board
        self._board.on_change.append(self._on_record)

    def _on_record(self, record: Record) -> None:
        if isinstance(record, risk_pb2.RiskLimit):
            self.parts.ledger.set_limits(
                Limit(
                    scope=Scope.of(one.scope),
                    limit_type=one.limit_type,
                    bound=parse_decimal(one.limit, field="limit"),
                    version=one.version,
                )
                for one in self._board.current_limits()
            )

    # admitting

    async def admit(self, order: order_pb2.NewOrder, children: Sequence[order_pb2.NewOrder]) -> None:
        """Return when the order may go out as these children, with room taken for each.

        Args:
            children: what is sent, one per venue; the order itself when it names its venue.
        Raises:
            MeshError: as `take`; nothing is held.
        """
        await self.take(children)

    async def take(self, orders: Sequence[order_pb2.NewOrder], *, reduces: Sequence[bool] = ()) -> None:
        """Let all orders pass, with room taken for them, or none.

        Args:
            orders: each names its venue.
            reduces: whether the order at a place only makes a position smaller although it does not say so.
        Raises:
            PreconditionFailed: TRADING_HALTED, TRADING_REDUCE_ONLY, KILL_SWITCH_ACTIVE, RISK_LIMIT_REACHED,
                INSUFFICIENT_MARGIN, RISK_CHECK_FAILED or RISK_VIEW_STALE.
            InvalidRequest: the order cannot be read, and a limit would have to judge it.
            JournalUnavailable: no room can be taken now.
        """
        new: list[tuple[order_pb2.NewOrder, bool]] = []
        for place, order in enumerate(orders):
            if not self._known(order_key(order)):
                new.append((order, REDUCE_ONLY in order.instructions or (place < len(reduces) and reduces[place])))
        if not new:
            return
        try:
            await self._judge(new)
        except MeshError as error:
            fresh = [one for one in new if not await self._was_used(one[0])]
            if fresh:
                for listener in self.on_refusal:
                    listener(fresh[0][0], error)
                raise
            # Every key was used before: the gateways have the first results.
            log.info("risk_passed_repeat", extra={"reason": error.reason.value})

    def _known(self, key: OrderKey) -> bool:
        return key in self.parts.book or self.parts.book.shown_open(key)

    async def _was_used(self, order: order_pb2.NewOrder) -> bool:
        """Whether a gateway has journalled this key, so that a repeat must get its first result.

        Raises:
            JournalUnavailable: nobody can tell.
        """
        name = subject(Kind.INTENT, order.venue, order.account_id, order.client_order_id)
        return await self._bus.last(JOURNAL_STREAM, name) is not None

    async def _judge(self, orders: Sequence[tuple[order_pb2.NewOrder, bool]]) -> None:
        await self._require_loaded(all(reduces for _, reduces in orders))
        wanted: list[RiskOrder] = []
        for order, reduces in orders:
            failure = self._board.refusal(
                order.venue, order.account_id, order.symbol, reduce_only=reduces
            ) or run_checks(self.parts.checks, order, self.parts.ledger)
            if failure is not None:
                if failure.__cause__ is not None:
                    log.error("risk_check_broke", exc_info=failure.__cause__)
                raise failure
            if (read := self._read(order, reduces)) is not None:
                wanted.append(read)
        await self._take_room(wanted)

    async def _require_loaded(self, reduces: bool) -> None:
        ready = self.parts.store.ready
        if ready.is_set():
            return
        try:
            async with asyncio.timeout(self._settings.load_wait_s):
                await ready.wait()
        except TimeoutError:
            if reduces:
                return
            raise PreconditionFailed(
                "the limits have not been read since the router started: the broker does not answer",
                reason=Reason.RISK_VIEW_STALE,
                retry_after_s=1.0,
            ) from None

    def _read(self, order: order_pb2.NewOrder, reduces: bool) -> RiskOrder | None:
        """The order as the limits see it; None when none covers it, or when its gateway will refuse it anyway."""
        place = (order.venue, order.account_id, order.symbol)
        if not self.parts.ledger.covering(place):
            return None
        link = self._venues.get(order.venue, field="order.venue")
        if link.known and order.account_id not in link.account_ids:
            return None
        checked = check_fields(order)
        return RiskOrder(
            venue=order.venue,
            account_id=order.account_id,
            symbol=order.symbol,
            client_order_id=order.client_order_id,
            is_buy=order.side == order_pb2.SIDE_BUY,
            quantity=checked.quantity,
            price=checked.price,
            reduce_only=reduces,
            leverage=self.leverage(link, order.account_id, order.symbol),
        )

    def leverage(self, link: VenueLink, account_id: str, symbol: str) -> Decimal | None:
        """What margin of an order can be divided by; None where all of it is needed."""
        fold = self.parts.accounts.folds.get((link.name, account_id))
        return fold.leverage(symbol) if fold is not None else leverage_of(link, symbol)

    async def _take_room(self, orders: Sequence[RiskOrder]) -> None:
        ledger, book = self.parts.ledger, self.parts.book
        for order in orders:
            if needs_mark(ledger, order.place):
                await self.parts.marks.ensure(order.venue, order.symbol)
        left_s = remaining_s()
        bound_s = left_s if left_s is not None else 10.0
        expires_ns = self._clock.now_ns() + round(max(bound_s, 0.0) * 1e9)

        def judge() -> list[risk_pb2.RiskReservation]:
            rows: list[risk_pb2.RiskReservation] = []
            accounts = self.parts.accounts.accounts()
            try:
                for order in orders:
                    claim = check_order(ledger, order, accounts)
                    if self._takes_room(order) and order.key not in book:
                        row = reservation_of(order.key, claim, expires_ns)
                        book.reserve(row)
                        rows.append(row)
            except BaseException:
                for row in rows:
                    book.give_back(key_of(row))
                raise
            return rows

        if any(self._takes_room(order) for order in orders):
            await self.parts.log.reserve(judge)
        else:
            judge()

    def _takes_room(self, order: RiskOrder) -> bool:
        """What only makes a position smaller needs none, and so does not wait for the log either."""
        return not order.reduce_only and needs_room(self.parts.ledger, order.place)

    # settling

    @asynccontextmanager
    async def covering(
        self, orders: Sequence[order_pb2.NewOrder], *, reduces: Sequence[bool] = ()
    ) -> AsyncIterator[Room]:
        """Hold room for orders while they are sent.

        Raises:
            MeshError: as `take`; what the block raises passes through, and gives room back where nothing was sent.
        """
        await self.take(orders, reduces=reduces)
        keys = [order_key(order) for order in orders]
        self._sending.update(keys)
        room = Room()
        try:
            yield room
        except MeshError as error:
            room.refused(orders, error)
            raise
        finally:
            self._sending.subtract(keys)
            for key in keys:
                self._end_attempt(key, room)

    def _end_attempt(self, key: OrderKey, room: Room) -> None:
        if not self._sending[key]:
            del self._sending[key]
        if key in room.dead:
            self.give_back(key)
        elif key not in room.unsent:
            self.parts.book.note_sent(key)
        elif key not in self._sending and self.parts.book.surely_unsent(key):
            self.give_back(key)

    def give_back(self, key: OrderKey) -> None:
        """The order certainly is not live."""
        if key in self.parts.book:
            self.parts.book.give_back(key)
            self.parts.log.release(key, None)

    def forgo(self, orders: Iterable[order_pb2.NewOrder]) -> None:
        """Orders that were admitted and will not be sent by this call."""
        for order in orders:
            key = order_key(order)
            if key not in self._sending and self.parts.book.surely_unsent(key):
                self.give_back(key)

    async def run(self) -> None:
        """Ask gateways about orders that nobody has shown, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.settle_s)
            for key, version in list(self._amended.items()):
                if self._has_seen(key, version):
                    del self._amended[key]
                    self.give_back(key)
            now_ns = self._clock.now_ns() - round(self._settings.grace_s * 1e9)
            for row in self.parts.book.expired(now_ns):
                try:
                    await self._settle(row)
                except MeshError as error:
                    log.info("reservation_not_settled", extra={"venue": row.venue, "cause": error.message})

    async def _settle(self, row: risk_pb2.RiskReservation) -> None:
        """The sender gave up long ago: its gateway has the order, or never will.

        A gateway takes no request after its deadline and journals what it takes within seconds, and its answer counts
        only while it is caught up with its venue.
        """
        key = key_of(row)
        fold = self.parts.accounts.folds.get(key[:2])
        if fold is None or key[:2] in self.parts.ledger.stale or key not in self.parts.book or key in self._amended:
            return
        order = await self.find(self._venues.get(row.venue), _base(key))
        if order is None or order.terminal:
            log.info("reservation_settled", extra={"venue": row.venue, "found": order is not None})
            self.give_back(key)
        elif _base(key) != key and not order.pending_replace:
            self._amended[key] = order.order_version

    async def find(self, link: VenueLink, key: OrderKey) -> order_pb2.Order | None:
        """The order of a key as its gateway knows it; None when it has none.

        Raises:
            MeshError: the gateway cannot tell now.
        """
        reference = order_service_pb2.OrderReference(account_id=key[1], venue=key[0], client_order_id=key[2])
        return await self.read_order(link, reference)

    async def read_order(self, link: VenueLink, reference: order_service_pb2.OrderReference) -> order_pb2.Order | None:
        """The same by any reference."""
        request = order_service_pb2.GetOrderRequest(reference=reference)
        try:
            answer: order_service_pb2.GetOrderResponse = await read(
                link, link.orders.GetOrder, request, timeout_s=READ_TIMEOUT_S
            )
        except MeshError as error:
            if error.reason is Reason.ORDER_NOT_FOUND:
                return None
            raise
        return answer.order

    # amendments

    @asynccontextmanager
    async def amending(
        self, link: VenueLink, request: order_service_pb2.ReplaceOrderRequest
    ) -> AsyncIterator[Callable[[order_service_pb2.ReplaceOrderResponse], None]]:
        """Judge an amendment as the order it would make, and hold room for what it adds while it is sent.

        Gives what takes the gateway's answer.
        """
        key = await self._admit_amendment(link, request)
        seen: list[order_service_pb2.ReplaceOrderResponse] = []
        unsent = False
        try:
            yield seen.append
        except MeshError as error:
            unsent = error.sent is Sent.NO
            raise
        finally:
            if key is not None:
                answer = seen[0] if seen else None
                if unsent or (answer is not None and answer.outcome == order_service_pb2.SUBMIT_OUTCOME_REJECTED):
                    self.give_back(key)
                elif answer is not None and answer.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED:
                    self._amended[key] = answer.order.order_version

    async def _admit_amendment(
        self, link: VenueLink, request: order_service_pb2.ReplaceOrderRequest
    ) -> OrderKey | None:
        ledger = self.parts.ledger
        if not any(limit.scope.venue in ("", link.name) for limit in ledger.limits):
            return None
        order = await self.read_order(link, request.reference)
        if order is None or order.terminal:
            return None
        terms = order.terms
        place = (link.name, terms.account_id, terms.symbol)
        base = (link.name, terms.account_id, terms.client_order_id)
        if not ledger.covering(place):
            return None
        quantity = parse_decimal(request.quantity if request.HasField("quantity") else terms.quantity, field="quantity")
        price_text = request.price if request.HasField("price") else terms.price
        leaves = EXACT.subtract(quantity, parse_decimal(order.filled_quantity, field="filled_quantity"))
        extra = max(EXACT.subtract(leaves, parse_decimal(order.leaves_quantity, field="leaves_quantity")), ZERO)
        amended = RiskOrder(
            venue=link.name,
            account_id=terms.account_id,
            symbol=terms.symbol,
            client_order_id=f"{terms.client_order_id}/{request.request_id}",
            is_buy=terms.side == order_pb2.SIDE_BUY,
            quantity=quantity,
            price=parse_decimal(price_text, field="price") if price_text else None,
            reduce_only=REDUCE_ONLY in terms.instructions or not extra,
            leverage=self.leverage(link, terms.account_id, terms.symbol),
            orders=0,
            claimed=extra,
        )
        if amended.key in self.parts.book:
            return None
        try:
            await self._take_room([amended])
        except MeshError as error:
            for listener in self.on_refusal:
                listener(terms, error)
            raise
        return amended.key if amended.key in self.parts.book and amended.key != base else None

    def _has_seen(self, key: OrderKey, version: int) -> bool:
        """Whether the account's view shows the amended order with this version, or not at all any more."""
        fold = self.parts.accounts.folds.get(key[:2])
        if fold is None or key[:2] in self.parts.ledger.stale:
            return False
        return fold.versions.get(_base(key), version) >= version


def _base(key: OrderKey) -> OrderKey:
    """The key of the order that an amendment's key belongs to; an order's own key itself."""
    return key[0], key[1], key[2].partition("/")[0]


def leverage_of(link: VenueLink, symbol: str) -> Decimal | None:
    """The highest leverage the venue lists for a symbol; None on spot and where it lists none."""
    instrument = link.listed.get(symbol)
    if instrument is None or not instrument.HasField("max_leverage"):
        return None
    return parse_decimal(instrument.max_leverage, field="max_leverage")
