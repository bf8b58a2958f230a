"""Submitting orders: journal, send, settle; idempotent by `client_order_id`.

The order of steps is the promise: the intent is in the journal before the first byte leaves, the answer is taken from
the order's state and from nothing else, and an order whose answer was lost is UNCERTAIN until evidence settles it.
Once journalled, an attempt runs to its end whatever becomes of the call that began it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from google.protobuf.duration_pb2 import Duration

from venuemesh import deadlines
from venuemesh.clock import Clock
from venuemesh.crashpoints import CrashPoint, reach
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
    VersionConflict,
)
from venuemesh.gateway import rules
from venuemesh.gateway.account import Account
from venuemesh.gateway.attempts import Attempt, duration, response_of, reused
from venuemesh.gateway.books import Books
from venuemesh.gateway.evidence import facts_of_placed, proves_not_done
from venuemesh.gateway.facts import OutcomeLost, RejectedByVenue, refusal
from venuemesh.gateway.instruments import Instruments
from venuemesh.gateway.order_wire import (
    fingerprint_of,
    from_order,
    new_order_state,
    order_id_of,
    timestamp,
    to_order,
)
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.venue import OrderTarget, OrderTicket, Refused, Reservation, Venue
from venuemesh.gateway.waits import OrderWaits
from venuemesh.journal import OrderJournal, SubjectTaken
from venuemesh.money import EXACT, Rounding
from venuemesh.v1 import event_pb2, instrument_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as service

log = logging.getLogger(__name__)

BPS = Decimal(10_000)
MAX_UNSENT = 1_000
Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskSettings:
    """Bounds of the desk, in seconds unless said otherwise.

    Attributes:
        reserve_s: kept of a caller's deadline to send the answer.
        default_wait_s: how long a call without a deadline waits.
        order_lifetime_s: longest time in which a sent order may still reach the venue.
        max_slippage_bps: worst price of a market order that names none.
    """

    reserve_s: float = 0.1
    default_wait_s: float = 2.0
    order_lifetime_s: float = 15.0
    max_slippage_bps: int = 100


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
    ) -> None:
        self.venue = venue
        self.accounts = accounts
        self.instruments = instruments
        self.settings = settings
        self.waits = OrderWaits()
        self.gates: dict[str, Gate] = {account_id: Gate() for account_id in accounts}
        self.draining = False
        self.reservations: dict[str, Reservation] = {}
        """What was reserved for orders that are not terminal, by order id: tells when absence becomes proof."""
        self.on_doubt: Callable[[Account, str], None] = lambda _account, _order_id: None
        """Called with an order nobody can tell the state of; the resolver takes it from there."""
        self._journal = journal
        self._books = books
        self._clock = clock
        self._spawn = spawn
        self._writer_id = writer_id
        self._attempts: dict[Key, Attempt] = {}
        self._unsent: OrderedDict[Key, None] = OrderedDict()
        for account in accounts.values():
            account.on_change = self._on_change

    @property
    def in_flight(self) -> int:
        """Submits that wait for the venue."""
        return len(self._attempts)

    def _on_change(self, state: OrderState) -> None:
        if state.terminal:
            self.reservations.pop(state.order_id, None)
        self.waits.on_change(state)

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
        )

    # submitting

    async def submit(
        self, order: pb.NewOrder, ack_level: service.AckLevel.ValueType = service.ACK_LEVEL_UNSPECIFIED
    ) -> service.SubmitOrderResponse:
        """Submit an order, or give the result of the first submit under its key.

        Raises:
            InvalidRequest, NotFound, PreconditionFailed, Unavailable: nothing was sent and the key is still free.
            ClientOrderIdReused: the key belongs to an order with other content.
        """
        received_s = self._clock.monotonic_s()
        self.check_venue(order.venue, "order.venue")
        rules.check_client_id(order.client_order_id, field="order.client_order_id")
        account = self.account(order.account_id, "order.account_id")
        terms = self._complete(order)
        key = (account.account_id, terms.client_order_id)
        fingerprint = fingerprint_of(terms)
        if (running := self._attempts.get(key)) is not None:
            return await self._join(running, account, terms, fingerprint, ack_level)
        if (known := account.order_by_key(terms.client_order_id)) is not None:
            return self._replay(known, fingerprint)
        try:
            ticket, state = await self._prepare(account, terms)
        except MeshError:
            # A key that was used long ago must give its first result even where a new order would be refused.
            if (replayed := await self._replay_from_journal(account, terms, fingerprint)) is not None:
                return replayed
            raise
        if (running := self._attempts.get(key)) is not None:
            return await self._join(running, account, terms, fingerprint, ack_level)
        attempt = Attempt(
            fingerprint=fingerprint, received_s=received_s, journalled=asyncio.get_running_loop().create_future()
        )
        self._spawn(self._attempt(key, attempt, account, ticket, state), f"submit-{state.order_id}")
        self._attempts[key] = attempt
        try:
            await asyncio.shield(attempt.journalled)
        except SubjectTaken:
            replayed = await self._replay_from_journal(account, terms, fingerprint)
            if replayed is None:
                raise OutcomeUnknown(f"the journal lost {terms.client_order_id}", sent=Sent.MAYBE) from None
            return replayed
        await self._wait_for_level(attempt, account, state, ack_level)
        return self._answer(account, state, attempt, replayed=False)

    def _complete(self, order: pb.NewOrder) -> pb.NewOrder:
        """The order with everything spelled out that the caller may leave to us."""
        terms = pb.NewOrder()
        terms.CopyFrom(order)
        terms.venue = self.venue.name
        if terms.order_type == pb.ORDER_TYPE_MARKET and terms.time_in_force == pb.TIME_IN_FORCE_UNSPECIFIED:
            terms.time_in_force = pb.TIME_IN_FORCE_IOC
        if not terms.correlation_id:
            terms.correlation_id = deadlines.request_id() or terms.client_order_id
        return terms

    async def _prepare(self, account: Account, terms: pb.NewOrder) -> tuple[OrderTicket, OrderState]:
        """Everything that can refuse an order before its key is used up."""
        checked = rules.check_fields(terms)
        rules.check_capabilities(terms, self.venue.capabilities)
        instrument = self.instruments.get(terms.symbol, self.venue.name, field="order.symbol")
        self.check_ready(account)
        reduce_only = pb.EXECUTION_INSTRUCTION_REDUCE_ONLY in terms.instructions
        worst = checked.price
        if worst is None:
            worst = await self._worst_price(terms, instrument)
        rules.check_instrument(checked, instrument, reduce_only=reduce_only, reference_price=worst)
        deadlines.require_remaining(self.settings.reserve_s)
        now_ns = self._clock.now_ns()
        reservation = self.venue.reserve(
            account.account_id, not_after_ns=now_ns + int(self.settings.order_lifetime_s * 1e9)
        )
        order_id = order_id_of(self.venue.name, account.account_id, terms.client_order_id)
        state = new_order_state(
            terms,
            order_id=order_id,
            venue_symbol=instrument.venue_symbol,
            venue_client_order_id=self.venue.venue_client_order_id(order_id),
            now_ns=now_ns,
        )
        ticket = OrderTicket(
            account_id=account.account_id,
            order_id=order_id,
            venue_client_order_id=state.venue_client_order_id,
            instrument=instrument,
            side=terms.side,
            order_type=terms.order_type,
            quantity=checked.quantity,
            price=worst,
            trigger_price=checked.trigger_price,
            time_in_force=rules.time_in_force_of(terms),
            post_only=pb.EXECUTION_INSTRUCTION_POST_ONLY in terms.instructions,
            reduce_only=reduce_only,
            reservation=reservation,
        )
        return ticket, state

    def check_ready(self, account: Account) -> None:
        """Refuse new orders while draining or while the account's private stream is not caught up."""
        if self.draining:
            raise Draining(f"{self.venue.name} gateway is stopping", retry_after_s=1.0)
        gate = self.gates[account.account_id]
        if not gate.ready:
            raise Reconciling(
                f"{self.venue.name}/{account.account_id} is reconciling: {gate.cause}",
                retry_after_s=1.0,
                metadata={"account_id": account.account_id, "cause": gate.cause},
            )

    async def _worst_price(self, terms: pb.NewOrder, instrument: instrument_pb2.Instrument) -> Decimal:
        """The worst price a market order accepts: a bound away from the best opposite price of a fresh book."""
        buy = terms.side == pb.SIDE_BUY
        best = await self._books.best_opposite(terms.symbol, buy=buy)
        bound = terms.max_slippage_bps if terms.HasField("max_slippage_bps") else self.settings.max_slippage_bps
        factor = (BPS + bound if buy else BPS - bound) / BPS
        rounding = Rounding.FLOOR if buy else Rounding.CEILING
        return rules.nearest_price(EXACT.multiply(best, factor), instrument.price_rule, rounding)

    async def _attempt(
        self, key: Key, attempt: Attempt, account: Account, ticket: OrderTicket, state: OrderState
    ) -> None:
        """Journal, send, settle. Never raises: whatever happens ends in the order's state."""
        try:
            if not await self._write_intent(attempt, account, ticket, state):
                return
            reach(CrashPoint.INTENT_WRITTEN)
            account.take(state)
            self.reservations[state.order_id] = ticket.reservation
            reach(CrashPoint.EVENT_QUEUED)
            attempt.journalled.set_result(None)
            await self._send(attempt, account, ticket)
        finally:
            if not attempt.journalled.done():
                # Cancelled or broken before the intent was confirmed: whoever waits must not wait for ever.
                stopped = Draining(f"{self.venue.name} gateway is stopping; nothing was sent", retry_after_s=1.0)
                attempt.fail(stopped)
            # An attempt that ended without sending is answered too.
            attempt.sent.set()
            attempt.answered.set()
            del self._attempts[key]

    async def _write_intent(self, attempt: Attempt, account: Account, ticket: OrderTicket, state: OrderState) -> bool:
        intent = event_pb2.OrderIntent(
            order=to_order(state),
            nonce=ticket.reservation.nonce,
            expires_unix_nanos=ticket.reservation.expires_ns,
            journalled_time=timestamp(self._clock.now_ns()),
            writer_id=self._writer_id,
        )
        try:
            await self._journal.write_intent(account.account_id, state.terms.client_order_id, intent)
        except (SubjectTaken, MeshError) as error:
            if not isinstance(error, SubjectTaken):
                self._remember_unsent(account.account_id, state.terms.client_order_id)
            attempt.fail(error)
            return False
        self._unsent.pop((account.account_id, state.terms.client_order_id), None)
        attempt.timings.journal.CopyFrom(self._since(attempt.received_s))
        return True

    async def _send(self, attempt: Attempt, account: Account, ticket: OrderTicket) -> None:
        journalled_s = self._clock.monotonic_s()
        written_s = journalled_s

        def sent() -> None:
            nonlocal written_s
            written_s = self._clock.monotonic_s()
            attempt.timings.send.CopyFrom(duration(written_s - journalled_s))
            attempt.sent.set()
            reach(CrashPoint.REQUEST_WRITTEN)

        try:
            answer = await self.venue.place_order(ticket, sent)
        except MeshError as error:
            self._settle_failure(account, ticket.order_id, error, written=attempt.sent.is_set())
            return
        except Exception as error:
            log.exception("place_order_failed", extra={"order_id": ticket.order_id})
            self._lose(account, ticket.order_id, f"fault of ours: {type(error).__name__}")
            return
        reach(CrashPoint.ANSWER_READ)
        attempt.timings.acknowledgement.CopyFrom(duration(self._clock.monotonic_s() - written_s))
        if isinstance(answer, Refused):
            account.apply(ticket.order_id, refusal(answer))
            return
        order = account.order(ticket.order_id)
        for fact in facts_of_placed(answer, order) if order else ():
            account.apply(ticket.order_id, fact)
        reach(CrashPoint.ANSWER_FOLDED)

    def _settle_failure(self, account: Account, order_id: str, error: MeshError, *, written: bool) -> None:
        """A failed send: proved not to have taken effect, or unknown."""
        if not proves_not_done(error) or (written and error.sent is Sent.NO):
            self._lose(account, order_id, error.message)
            return
        fact = RejectedByVenue(reason=error.reason, text=error.message, origin=pb.ORIGIN_GATEWAY)
        account.apply(order_id, fact)

    def _lose(self, account: Account, order_id: str, cause: str) -> None:
        account.apply(order_id, OutcomeLost(cause=cause))
        self.on_doubt(account, order_id)

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

    # answering

    async def _join(
        self,
        attempt: Attempt,
        account: Account,
        terms: pb.NewOrder,
        fingerprint: bytes,
        ack_level: service.AckLevel.ValueType,
    ) -> service.SubmitOrderResponse:
        """A repeat that came while the first call is under way: the same order, the same answer."""
        order_id = order_id_of(self.venue.name, account.account_id, terms.client_order_id)
        if attempt.fingerprint != fingerprint:
            raise reused(terms.client_order_id, order_id)
        try:
            await asyncio.shield(attempt.journalled)
        except SubjectTaken:
            replayed = await self._replay_from_journal(account, terms, fingerprint)
            if replayed is None:
                raise OutcomeUnknown(f"the journal lost {terms.client_order_id}", sent=Sent.MAYBE) from None
            return replayed
        state = account.order(order_id)
        if state is None:
            raise OrderNotFound(f"order {order_id} is no longer retained")
        await self._wait_for_level(attempt, account, state, ack_level)
        return self._answer(account, state, attempt, replayed=True)

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

    async def _replay_from_journal(
        self, account: Account, terms: pb.NewOrder, fingerprint: bytes
    ) -> service.SubmitOrderResponse | None:
        intent = await self._journal.read_intent(account.account_id, terms.client_order_id)
        if intent is None:
            return None
        known = account.order_by_key(terms.client_order_id)
        if known is None:
            outcome = await self._journal.read_outcome(account.account_id, terms.client_order_id)
            # Another repeat may have taken the order over meanwhile.
            known = account.order_by_key(terms.client_order_id)
            known = known or (from_order(outcome.order, []) if outcome else self._adopt(account, intent))
        return self._replay(known, fingerprint)

    def _adopt(self, account: Account, intent: event_pb2.OrderIntent) -> OrderState:
        """An intent that another process wrote, or one of ours whose confirmation was lost: find out what it became."""
        state = from_order(intent.order, [])
        if (account.account_id, state.terms.client_order_id) in self._unsent:
            account.take(state)
            text = "the journal did not confirm the intent in time, so nothing was sent"
            fact = RejectedByVenue(reason=Reason.NEVER_REACHED_VENUE, text=text, origin=pb.ORIGIN_GATEWAY)
            return account.apply(state.order_id, fact)
        self.adopt_intent(account, state, intent)
        return account.order(state.order_id) or state

    def _remember_unsent(self, account_id: str, client_order_id: str) -> None:
        """A key whose intent may be stored later than we waited: certain not to have been sent. Bounded."""
        self._unsent[(account_id, client_order_id)] = None
        while len(self._unsent) > MAX_UNSENT:
            self._unsent.popitem(last=False)

    def adopt_intent(self, account: Account, state: OrderState, intent: event_pb2.OrderIntent) -> None:
        """Take over an order of which only the intent is known: it may or may not have been sent."""
        self.reservations[state.order_id] = Reservation(nonce=intent.nonce, expires_ns=intent.expires_unix_nanos)
        account.take(state)
        self._lose(account, state.order_id, "only the intent was journalled: it may have been sent")

    def check_version(self, order: OrderState, expected: int | None) -> None:
        """Refuse a change that was decided on another version of the order."""
        if expected is not None and expected != order.version:
            raise VersionConflict(
                f"order {order.order_id} has version {order.version}, not {expected}",
                metadata={"order_version": str(order.version)},
            )

    def _since(self, start_s: float) -> Duration:
        return duration(self._clock.monotonic_s() - start_s)


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
