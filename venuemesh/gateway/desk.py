"""Taking orders: one order per key, checked before its key is used up, answered from its state and from nothing else.

The order of steps is the promise: the intent is in the journal before the first byte leaves, and an order whose answer
was lost is UNCERTAIN until evidence settles it. Once journalled, an attempt runs to its end whatever becomes of the
call that began it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from venuemesh import deadlines
from venuemesh.clock import Clock
from venuemesh.errors import (
    AccountNotFound,
    Draining,
    InvalidRequest,
    MeshError,
    OrderNotFound,
    OutcomeUnknown,
    Reason,
    Reconciling,
    Sent,
    VenueDegraded,
    VersionConflict,
)
from venuemesh.gateway import rules
from venuemesh.gateway.account import Account
from venuemesh.gateway.attempts import Attempt, Begun, Entry, response_of, reused
from venuemesh.gateway.books import Books
from venuemesh.gateway.facts import Armed, RejectedByVenue
from venuemesh.gateway.instruments import Instruments
from venuemesh.gateway.order_wire import fingerprint_of, from_order, order_id_of
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.sending import Sending
from venuemesh.gateway.session_book import SessionBook
from venuemesh.gateway.tickets import DeskSettings, Tickets, twap_target
from venuemesh.gateway.venue import Grouping, OrderTarget, Reservation, Venue
from venuemesh.gateway.waits import OrderWaits
from venuemesh.journal import OrderJournal, SubjectTaken
from venuemesh.risk_board import RiskBoard
from venuemesh.v1 import event_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as service

__all__ = ["Begun", "Desk", "DeskSettings", "Gate"]

Key = tuple[str, str]


@dataclass(slots=True)
class Gate:
    """Whether new orders of an account are taken, and why not."""

    ready: bool = False
    cause: str = "starting"


class Desk:
    """Takes orders for all accounts of one venue."""

    def __init__(
        self,
        *,
        venue: Venue,
        journal: OrderJournal,
        accounts: Mapping[str, Account],
        instruments: Instruments,
        books: Books,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
        writer_id: str,
        settings: DeskSettings,
        board: RiskBoard | None = None,
        sessions: SessionBook | None = None,
    ) -> None:
        self.venue = venue
        self.sessions = SessionBook() if sessions is None else sessions
        self.board = RiskBoard() if board is None else board
        """Trading states and kill switches; the last known ones hold while the broker is away."""
        self.accounts = accounts
        self.instruments = instruments
        self.settings = settings
        self.tickets = Tickets(venue=venue, instruments=instruments, books=books, clock=clock, settings=settings)
        self.waits = OrderWaits()
        self.gates: dict[str, Gate] = {account_id: Gate() for account_id in accounts}
        self.pauses: dict[str, str] = {}
        """Accounts whose new orders are paused, with the cause; cancels pass."""
        self.draining = False
        self.drained_because = ""
        """Why an operator wants no new orders; empty while none does."""
        self.on_doubt: Callable[[Account, str], None] = lambda _account, _order_id: None
        """Called with an order nobody can tell the state of; the resolver takes it from there."""
        self.on_ended: Callable[[Attempt, OrderState | None], None] = lambda _attempt, _order: None
        """Called when a submit has ended, with its order; None where nothing was journalled."""
        self._sending = Sending(venue=venue, journal=journal, clock=clock, writer_id=writer_id)
        self._sending.on_doubt = lambda account, order_id: self.on_doubt(account, order_id)
        self.reservations: dict[str, Reservation] = self._sending.reservations
        """What was reserved for orders that are not terminal, by order id: tells when absence becomes proof."""
        self._unsent = self._sending.unsent
        self._journal = journal
        self._clock = clock
        self._spawn = spawn
        self._attempts: dict[Key, Attempt] = {}
        for account in accounts.values():
            account.on_change = self._on_change

    @property
    def in_flight(self) -> int:
        """Submits that wait for the venue."""
        return len(self._attempts)

    async def journalled(self) -> None:
        """Wait until every submit under way has its order among those of its account, or was refused."""
        waiting = [asyncio.shield(attempt.journalled) for attempt in self._attempts.values()]
        await asyncio.gather(*waiting, return_exceptions=True)

    def _on_change(self, state: OrderState) -> None:
        if state.terminal:
            self.reservations.pop(state.order_id, None)
        if state.status == pb.ORDER_STATUS_FILLED and state.order_list_id:
            self._arm_children(self.accounts[state.terms.account_id], state)
        self.waits.on_change(state)

    def _arm_children(self, account: Account, parent: OrderState) -> None:
        """What waited for the parent waits for its price from now on; the venue has no word for that."""
        for order in account.open_orders():
            if order.order_list_id == parent.order_list_id:
                account.apply(order.order_id, Armed())

    # finding

    def account(self, account_id: str, field_name: str = "account_id") -> Account:
        """One account of this gateway.

        Raises:
            AccountNotFound: naming the field.
        """
        found = self.accounts.get(account_id)
        if found is None:
            raise AccountNotFound(
                f"{field_name}: {self.venue.name} gateway serves no account {account_id!r}",
                field=field_name,
                metadata={"account_id": account_id},
            )
        return found

    def check_venue(self, venue: str, field_name: str = "venue") -> None:
        """Refuse a request that names another venue."""
        if venue not in ("", self.venue.name):
            raise InvalidRequest(
                f"{field_name}: this is the gateway of {self.venue.name}, not of {venue!r}",
                reason=Reason.VENUE_NOT_FOUND,
                field=field_name,
            )

    async def find(self, reference: service.OrderReference) -> tuple[Account, OrderState]:
        """The order that a reference names; an old one is read from the journal.

        Raises:
            OrderNotFound: no such order. InvalidRequest: the reference names no id.
        """
        self.check_venue(reference.venue, "reference.venue")
        accounts = [self.account(reference.account_id)] if reference.account_id else list(self.accounts.values())
        kind = reference.WhichOneof("id")
        for account in accounts:
            if (found := _look_up(account, reference)) is not None:
                return account, found
        if kind is None:
            raise InvalidRequest(
                "reference: one of order_id, client_order_id and venue_order_id is required",
                reason=Reason.REQUIRED_FIELD_MISSING,
                field="reference.id",
            )
        if kind == "client_order_id" and rules.CLIENT_ORDER_ID.fullmatch(reference.client_order_id):
            for account in accounts:
                outcome = await self._journal.read_outcome(account.account_id, reference.client_order_id)
                if outcome is not None:
                    return account, from_order(outcome.order, [])
        name = getattr(reference, kind)
        raise OrderNotFound(
            f"reference.{kind}: no order {name!r} at {self.venue.name}",
            field=f"reference.{kind}",
            metadata={kind: name},
        )

    def target_of(self, account: Account, order: OrderState) -> OrderTarget:
        """How to name an order to the venue."""
        return OrderTarget(
            account_id=account.account_id,
            instrument=self.instruments.last_known(order.terms.symbol, self.venue.name),
            venue_client_order_id=order.venue_client_order_id,
            venue_order_id=order.venue_order_id,
            twap=twap_target(account, order, self.reservations.get(order.order_id), self.settings.order_lifetime_s),
        )

    # submitting

    async def submit(
        self,
        order: pb.NewOrder,
        ack_level: service.AckLevel.ValueType = service.ACK_LEVEL_UNSPECIFIED,
        *,
        session_id: str = "",
    ) -> service.SubmitOrderResponse:
        """Submit an order, or give the result of the first submit under its key.

        Args:
            session_id: the open order session it shall belong to; a key that was used before stays where it is.
        Raises:
            InvalidRequest, NotFound, PreconditionFailed, Unavailable: nothing was sent and the key is still free.
            ClientOrderIdReused: the key belongs to an order with other content.
        """
        begun = await self.examine(order, session_id=session_id)
        self.start([begun])
        return await self.result(begun, ack_level)

    async def submit_all(
        self, orders: Sequence[pb.NewOrder], ack_level: service.AckLevel.ValueType = service.ACK_LEVEL_UNSPECIFIED
    ) -> list[service.SubmitOrderResponse | BaseException]:
        """Submit several orders in as few actions as the venue takes; what `submit` would raise stands in its place."""
        looked = await asyncio.gather(*(self.examine(order) for order in orders), return_exceptions=True)
        self.start([begun for begun in looked if isinstance(begun, Begun)])
        return await asyncio.gather(*(self._result_of(begun, ack_level) for begun in looked), return_exceptions=True)

    async def _result_of(
        self, begun: Begun | BaseException, ack_level: service.AckLevel.ValueType
    ) -> service.SubmitOrderResponse:
        if isinstance(begun, BaseException):
            raise begun
        return await self.result(begun, ack_level)

    async def examine(self, order: pb.NewOrder, *, reduce_only: bool = False, session_id: str = "") -> Begun:
        """Everything that can refuse an order before its key is used up, or the result its key already has.

        Args:
            reduce_only: whether the order only makes a position smaller, even if it does not say so.
        Raises:
            As `submit`.
        """
        self.check_venue(order.venue, "order.venue")
        rules.check_client_id(order.client_order_id, field="order.client_order_id")
        account = self.account(order.account_id, "order.account_id")
        terms = self.tickets.complete(order, reduce_only=reduce_only)
        begun = Begun(account=account, terms=terms, fingerprint=fingerprint_of(terms), session_id=session_id)
        if begun.key in self._attempts:
            return begun
        if (known := account.order_by_key(terms.client_order_id)) is not None:
            begun.answer = self._replay(known, begun.fingerprint)
            return begun
        try:
            begun.draft = await self.tickets.draft(terms, lambda: self._check_begun(begun))
        except MeshError:
            # A key that was used long ago must give its first result even where a new order would be refused.
            begun.answer = await self._replay_from_journal(begun)
            if begun.answer is None:
                raise
        return begun

    async def recall(self, begun: Begun) -> None:
        """Look in the journal whether the key of an order about to be sent was used before."""
        if begun.draft is not None and (answer := await self._replay_from_journal(begun)) is not None:
            begun.draft, begun.answer = None, answer

    def is_under_way(self, begun: Begun) -> bool:
        """Whether another call is submitting the same key right now."""
        return begun.key in self._attempts

    def awaits_answer(self, order: OrderState) -> bool:
        """Whether the venue's answer to the submit of an order is still to come."""
        key = (order.terms.account_id, order.terms.client_order_id)
        return order.status == pb.ORDER_STATUS_PENDING_NEW and key in self._attempts

    def start(self, begun: Sequence[Begun]) -> None:
        """Send what has a draft: in batches where the venue takes them, each account on its own.

        From here on an order is an attempt that others join; nothing waits, so that no key can begin twice.
        """
        most = max(1, self.venue.capabilities.max_batch_orders)
        batches: dict[Key, list[Begun]] = {}
        for one in begun:
            if one.draft is None or self._join(one):
                continue
            if (barred := self._barred(one)) is not None:
                one.attempt = self._new_attempt(one)
                one.attempt.fail(barred)
                continue
            one.attempt = self._attempts[one.key] = self._new_attempt(one)
            # A TWAP is an action of its own at every venue.
            apart = one.terms.client_order_id if one.terms.order_type == pb.ORDER_TYPE_TWAP else ""
            batches.setdefault((one.account.account_id, apart), []).append(one)
        for batch in batches.values():
            for first in range(0, len(batch), most):
                self._start_action(batch[first : first + most])
        for one in begun:
            if one.answer is None and one.attempt is None:
                self._join(one)

    def start_list(self, begun: Sequence[Begun], grouping: Grouping, order_list_id: str) -> None:
        """Send orders that belong together, in one action; none of their keys may be known or under way."""
        for one in begun:
            if (barred := self._barred(one)) is not None:
                raise barred
        for one in begun:
            one.attempt = self._attempts[one.key] = self._new_attempt(one)
        self._start_action(begun, grouping, order_list_id)

    def _join(self, begun: Begun) -> bool:
        running = self._attempts.get(begun.key)
        if running is None:
            return False
        begun.attempt, begun.joined = running, True
        return True

    def _new_attempt(self, begun: Begun) -> Attempt:
        return Attempt(
            fingerprint=begun.fingerprint,
            received_s=self._clock.monotonic_s(),
            journalled=asyncio.get_running_loop().create_future(),
        )

    def _start_action(
        self, begun: Sequence[Begun], grouping: Grouping = Grouping.NONE, order_list_id: str = ""
    ) -> None:
        """One action with one reservation. What fails here is told to each of its orders, with its key free."""
        try:
            account = begun[0].account
            reservation = self.tickets.reserve(account.account_id)
            entries = [self._entry(one, reservation, grouping, order_list_id) for one in begun]
            name = f"submit-{order_list_id or entries[0].state.order_id}"
            self._spawn(self._sending.run(account, entries, self._ended, grouping), name)
        except Exception as error:
            for one in begun:
                del self._attempts[one.key]
                if one.attempt is not None:
                    one.attempt.fail(error)

    def _entry(self, begun: Begun, reservation: Reservation, grouping: Grouping, order_list_id: str) -> Entry:
        assert begun.draft is not None and begun.attempt is not None  # the caller has just made them
        waits = grouping is Grouping.BRACKET and begun.terms.HasField("trigger")
        trigger_state = pb.TRIGGER_STATE_WAITING_FOR_PARENT if waits else pb.TRIGGER_STATE_UNSPECIFIED
        ticket, state = self.tickets.issue(
            begun.draft,
            reservation,
            order_list_id=order_list_id,
            trigger_state=trigger_state,
            session_id=begun.session_id,
            cancel_on_disconnect=self.sessions.cancels(begun.session_id),
        )
        return Entry(begun.attempt, ticket, state)

    def _ended(self, entry: Entry) -> None:
        self._attempts.pop((entry.ticket.account_id, entry.state.terms.client_order_id), None)
        self.on_ended(entry.attempt, self.accounts[entry.ticket.account_id].order(entry.state.order_id))

    def _barred(self, begun: Begun) -> MeshError | None:
        """Why no such order may pass now. Asked again in the instant an order becomes an attempt: a kill switch engaged
        or a session ended before that has stopped it, one engaged or ended later finds the attempt and cancels it."""
        account_id = begun.account.account_id
        return self.sessions.refusal(begun.session_id, account_id) or self._halted(account_id, begun.terms)

    def _check_begun(self, begun: Begun) -> None:
        if (barred := self._barred(begun)) is not None:
            raise barred
        self.check_ready(begun.account, begun.terms)

    def _halted(self, account_id: str, terms: pb.NewOrder) -> MeshError | None:
        """Why operators let no such order pass now."""
        reduces = pb.EXECUTION_INSTRUCTION_REDUCE_ONLY in terms.instructions
        return self.board.refusal(self.venue.name, account_id, terms.symbol, reduce_only=reduces)

    def check_ready(self, account: Account, terms: pb.NewOrder) -> None:
        """Refuse new orders while operators have halted them, while draining, while the account's stream is not
        caught up, and while they are paused."""
        if (halted := self._halted(account.account_id, terms)) is not None:
            raise halted
        if self.draining:
            raise Draining(f"{self.venue.name} gateway is stopping", retry_after_s=1.0)
        if self.drained_because:
            text = f"{self.venue.name} takes no new orders, {self.drained_because}"
            raise Draining(text, metadata={"cause": self.drained_because})
        gate = self.gates[account.account_id]
        if not gate.ready:
            raise Reconciling(
                f"{self.venue.name}/{account.account_id} is reconciling: {gate.cause}",
                retry_after_s=1.0,
                metadata={"account_id": account.account_id, "cause": gate.cause},
            )
        if cause := self.pauses.get(account.account_id):
            raise VenueDegraded(
                f"new orders of {self.venue.name}/{account.account_id} are paused: {cause}; cancels pass",
                retry_after_s=1.0,
                metadata={"account_id": account.account_id, "cause": cause},
            )

    # answering

    async def result(
        self, begun: Begun, ack_level: service.AckLevel.ValueType = service.ACK_LEVEL_UNSPECIFIED
    ) -> service.SubmitOrderResponse:
        """The answer to one order of a call that was started, waiting for it as long as asked.

        Raises:
            As `submit`.
        """
        if begun.answer is not None:
            return begun.answer
        attempt, account, key = begun.attempt, begun.account, begun.terms.client_order_id
        order_id = order_id_of(self.venue.name, account.account_id, key)
        if attempt is None:
            # It was under way when it was looked at and has ended since.
            return await self._recalled(begun)
        if attempt.fingerprint != begun.fingerprint:
            raise reused(key, order_id)
        try:
            await asyncio.shield(attempt.journalled)
        except SubjectTaken:
            return await self._recalled(begun)
        state = account.order(order_id)
        if state is None:
            raise OrderNotFound(f"order {order_id} is no longer retained")
        await self._wait_for_level(attempt, account, state, ack_level)
        return self._answer(account, state, attempt, replayed=begun.joined)

    async def _recalled(self, begun: Begun) -> service.SubmitOrderResponse:
        replayed = await self._replay_from_journal(begun)
        if replayed is None:
            raise OutcomeUnknown(f"the journal lost {begun.terms.client_order_id}", sent=Sent.MAYBE)
        return replayed

    async def _wait_for_level(
        self, attempt: Attempt, account: Account, state: OrderState, ack_level: service.AckLevel.ValueType
    ) -> None:
        timeout_s = self.wait_s()
        until_s = self._clock.monotonic_s() + timeout_s
        awaited = attempt.sent if ack_level == service.ACK_LEVEL_GATEWAY else attempt.answered
        try:
            async with asyncio.timeout(max(timeout_s, 0)):
                await awaited.wait()
        except TimeoutError:
            return
        if ack_level == service.ACK_LEVEL_TERMINAL:
            now = account.order(state.order_id) or state
            await self.waits.until(now, lambda order: order.terminal, until_s - self._clock.monotonic_s())

    def wait_s(self) -> float:
        """How long the current call may still wait for something."""
        left_s = deadlines.remaining_s()
        return self.settings.default_wait_s if left_s is None else left_s - self.settings.reserve_s

    def _answer(
        self, account: Account, state: OrderState, attempt: Attempt, *, replayed: bool
    ) -> service.SubmitOrderResponse:
        now = account.order(state.order_id) or state
        response = response_of(now, in_flight=not attempt.answered.is_set(), replayed=replayed)
        if not replayed:
            response.timings.CopyFrom(attempt.timings)
        return response

    def _replay(self, known: OrderState, fingerprint: bytes) -> service.SubmitOrderResponse:
        if known.fingerprint != fingerprint:
            raise reused(known.terms.client_order_id, known.order_id)
        return response_of(known, in_flight=False, replayed=True)

    async def _replay_from_journal(self, begun: Begun) -> service.SubmitOrderResponse | None:
        account, key = begun.account, begun.terms.client_order_id
        intent = await self._journal.read_intent(account.account_id, key)
        if intent is None:
            return None
        known = account.order_by_key(key)
        if known is None:
            outcome = await self._journal.read_outcome(account.account_id, key)
            # Another repeat may have taken the order over meanwhile.
            known = account.order_by_key(key)
            known = known or (from_order(outcome.order, []) if outcome else self._adopt(account, intent))
        return self._replay(known, begun.fingerprint)

    def _adopt(self, account: Account, intent: event_pb2.OrderIntent) -> OrderState:
        """An intent that another process wrote, or one of ours whose confirmation was lost: find out what it became."""
        state = from_order(intent.order, [])
        if state.terminal:
            # The router took the key for an order that it sends elsewhere: this one was never sent and never will be.
            return state
        if (account.account_id, state.terms.client_order_id) in self._unsent:
            account.take(state)
            text = "the journal did not confirm the intent in time, so nothing was sent"
            fact = RejectedByVenue(reason=Reason.NEVER_REACHED_VENUE, text=text, origin=pb.ORIGIN_GATEWAY)
            return account.apply(state.order_id, fact)
        self.adopt_intent(account, state, intent)
        return account.order(state.order_id) or state

    def adopt_intent(self, account: Account, state: OrderState, intent: event_pb2.OrderIntent) -> None:
        """Take over an order of which only the intent is known: it may or may not have been sent."""
        self.reservations[state.order_id] = Reservation(nonce=intent.nonce, expires_ns=intent.expires_unix_nanos)
        account.take(state)
        self._sending.lose(account, state.order_id, "only the intent was journalled: it may have been sent")

    def check_version(self, order: OrderState, expected: int | None) -> None:
        """Refuse a change that was decided on another version of the order."""
        if expected is not None and expected != order.version:
            raise VersionConflict(
                f"order {order.order_id} has version {order.version}, not {expected}",
                metadata={"order_version": str(order.version)},
            )


def _look_up(account: Account, reference: service.OrderReference) -> OrderState | None:
    match reference.WhichOneof("id"):
        case "order_id":
            return account.order(reference.order_id)
        case "client_order_id":
            return account.order_by_key(reference.client_order_id)
        case "venue_order_id":
            return account.order_by_venue_id(reference.venue_order_id)
        case _:
            return None
