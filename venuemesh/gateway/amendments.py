"""Amendments of working orders: applied when the venue confirms, and only then.

A repeat of a `request_id` gives the first result, also after a restart. An amendment whose answer was lost is judged by
what the venue shows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

from venuemesh.clock import Clock
from venuemesh.crashpoints import CrashPoint, reach
from venuemesh.errors import (
    Draining,
    InvalidOrder,
    MeshError,
    NotSupported,
    OutcomeUnknown,
    PreconditionFailed,
    Reason,
    Sent,
)
from venuemesh.gateway import rules
from venuemesh.gateway.account import Account
from venuemesh.gateway.amendment_journal import AmendmentJournal, Result, reused
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.evidence import proves_not_done
from venuemesh.gateway.facts import Ended, Ending, ReplaceConfirmed, ReplaceFailed, ReplaceRequested
from venuemesh.gateway.order_wire import nanoseconds, to_order
from venuemesh.gateway.orders import OrderState, reason_number
from venuemesh.gateway.venue import Amended, OrderTicket, Refused
from venuemesh.journal import SubjectTaken
from venuemesh.money import EXACT, format_decimal, parse_decimal
from venuemesh.v1 import event_pb2, venue_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as service

log = logging.getLogger(__name__)

MAX_REMEMBERED_AMENDMENTS = 10_000


class Amendment:
    """One amendment on its way or done: what the call that made it, and repeats of it, wait for."""

    def __init__(self, content: bytes, ticket: OrderTicket, loop: asyncio.AbstractEventLoop) -> None:
        self.content = content
        self.ticket = ticket
        self.journalled: asyncio.Future[None] = loop.create_future()
        self.answered = asyncio.Event()
        self.outcome: service.SubmitOutcome.ValueType = service.SUBMIT_OUTCOME_UNKNOWN
        self.reject: pb.Reject | None = None

    def fail(self, error: Exception) -> None:
        """Nothing was sent. Nobody may be waiting any more, and an error nobody reads is reported as ours."""
        self.journalled.set_exception(error)
        self.journalled.exception()


class Amendments:
    """Amends orders that are live."""

    def __init__(
        self,
        desk: Desk,
        journal: AmendmentJournal,
        *,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        self._desk = desk
        self._venue = desk.venue
        self._journal = journal
        self._clock = clock
        self._spawn = spawn
        self._amendments: dict[tuple[str, str], Amendment] = {}

    async def replace(self, request: service.ReplaceOrderRequest) -> service.ReplaceOrderResponse:
        """Amend a working order; applied when the venue confirms, and only then. A repeat gives the first result.

        Raises:
            OrderNotFound, InvalidOrder, PreconditionFailed, VersionConflict: nothing was sent.
            ClientOrderIdReused: the key belongs to another amendment.
        """
        rules.check_client_id(request.request_id, field="request_id")
        account, order = await self._desk.find(request.reference)
        known = self._amendments.get((account.account_id, request.request_id))
        if known is not None and known.content != request.SerializeToString(deterministic=True):
            raise reused(request.request_id, known.ticket.order_id)
        try:
            amendment = known or self._begin(account, order, request)
        except MeshError:
            # A key that was used before gives its first result even where nothing could be amended now.
            result = await self._journal.result(account.account_id, order, request)
            if result is None:
                raise
            return self._response(account, order, result, replayed=True)
        try:
            await asyncio.shield(amendment.journalled)
        except SubjectTaken:
            result = await self._journal.result(account.account_id, order, request)
            if result is None:
                raise OutcomeUnknown(f"the journal lost amendment {request.request_id}", sent=Sent.MAYBE) from None
            return self._response(account, order, result, replayed=True)
        result = await self._outcome(amendment)
        if known is not None and result[0] == service.SUBMIT_OUTCOME_UNKNOWN:
            # It may have been settled by evidence since.
            now = account.order(order.order_id) or order
            result = await self._journal.result(account.account_id, now, request) or result
        return self._response(account, order, result, replayed=known is not None)

    def _response(
        self, account: Account, order: OrderState, result: Result, *, replayed: bool
    ) -> service.ReplaceOrderResponse:
        outcome, reject = result
        now = account.order(order.order_id) or order
        return service.ReplaceOrderResponse(order=to_order(now), outcome=outcome, reject=reject, replayed=replayed)

    def _begin(self, account: Account, order: OrderState, request: service.ReplaceOrderRequest) -> Amendment:
        ticket = self._ticket(account, order, request)
        content = request.SerializeToString(deterministic=True)
        amendment = Amendment(content, ticket, asyncio.get_running_loop())
        self._spawn(self._attempt(request, amendment, account, order), f"amend-{order.order_id}")
        self._remember((account.account_id, request.request_id), amendment)
        return amendment

    async def recover(self, account: Account, intent: event_pb2.OrderIntent) -> None:
        """An amendment found in the journal at a restart: one that nothing settled may have been sent."""
        order = account.order(intent.order.order_id)
        if order is None or order.terminal or order.pending_replace:
            return
        if await self._journal.settled(account.account_id, intent) is None:
            account.apply(order.order_id, ReplaceRequested())

    async def _outcome(self, amendment: Amendment) -> Result:
        try:
            async with asyncio.timeout(max(self._desk.wait_s(), 0)):
                await amendment.answered.wait()
        except TimeoutError:
            return service.SUBMIT_OUTCOME_PENDING, None
        return amendment.outcome, amendment.reject

    def _remember(self, key: tuple[str, str], amendment: Amendment) -> None:
        self._amendments[key] = amendment
        while len(self._amendments) > MAX_REMEMBERED_AMENDMENTS:
            del self._amendments[next(iter(self._amendments))]

    async def _attempt(
        self, request: service.ReplaceOrderRequest, amendment: Amendment, account: Account, order: OrderState
    ) -> None:
        """Journal and send. Runs to its end whatever becomes of the call that began it."""
        key = (account.account_id, request.request_id)
        try:
            await self._journal.write_intent(account.account_id, order, amendment.ticket, request)
        except (MeshError, SubjectTaken) as error:
            self._amendments.pop(key, None)
            amendment.fail(error)
            return
        except BaseException:
            amendment.fail(Draining(f"{self._venue.name} gateway is stopping; nothing was sent", retry_after_s=1.0))
            raise
        order = account.order(order.order_id) or order
        try:
            # The journal took its time: the order may have ended, or another amendment may have overtaken this one.
            _require_amendable(order)
        except PreconditionFailed as error:
            self._amendments.pop(key, None)
            self._journal.record(*key, (service.SUBMIT_OUTCOME_REJECTED, _reject(error.reason, error.message)))
            amendment.fail(error)
            return
        reach(CrashPoint.AMENDMENT_WRITTEN)
        account.apply(order.order_id, ReplaceRequested())
        amendment.journalled.set_result(None)
        try:
            amendment.outcome, amendment.reject = await self._amend(account, order, amendment.ticket)
            if amendment.outcome != service.SUBMIT_OUTCOME_UNKNOWN:
                self._journal.record(*key, (amendment.outcome, amendment.reject))
        finally:
            amendment.answered.set()

    def _ticket(self, account: Account, order: OrderState, request: service.ReplaceOrderRequest) -> OrderTicket:
        if self._venue.capabilities.amend_mode in (venue_pb2.AMEND_MODE_NONE, venue_pb2.AMEND_MODE_UNSPECIFIED):
            raise NotSupported(f"{self._venue.name} cannot amend orders: cancel and submit anew")
        expected = request.expected_version if request.HasField("expected_version") else None
        self._desk.check_version(order, expected)
        _require_amendable(order)
        self._desk.check_ready(account, order.terms)
        quantity, price, trigger = _amended_terms(order, request)
        if quantity <= order.filled:
            raise InvalidOrder(
                f"quantity: {format_decimal(quantity)} must be more than the {format_decimal(order.filled)} filled",
                field="quantity",
            )
        instrument = self._desk.instruments.get(order.terms.symbol, self._venue.name)
        reduce_only = pb.EXECUTION_INSTRUCTION_REDUCE_ONLY in order.terms.instructions
        checked = rules.CheckedOrder(quantity=quantity, price=price, trigger_price=trigger)
        worst = self._desk.tickets.bounded_price(order.terms, checked, instrument)
        if worst is None:
            raise NotSupported("amending an order without a limit or trigger price is not offered")
        rules.check_instrument(checked, instrument, reduce_only=reduce_only, reference_price=worst)
        lifetime_ns = int(self._desk.settings.order_lifetime_s * 1e9)
        return OrderTicket(
            account_id=account.account_id,
            order_id=order.order_id,
            venue_client_order_id=order.venue_client_order_id,
            instrument=instrument,
            side=order.terms.side,
            order_type=order.terms.order_type,
            quantity=self._quantity_sent(order, quantity),
            price=worst,
            trigger_price=trigger,
            time_in_force=rules.time_in_force_of(order.terms),
            post_only=pb.EXECUTION_INSTRUCTION_POST_ONLY in order.terms.instructions,
            reduce_only=reduce_only,
            reservation=self._venue.reserve(account.account_id, not_after_ns=self._clock.now_ns() + lifetime_ns),
            expire_ns=nanoseconds(order.terms.expire_time) if order.terms.HasField("expire_time") else 0,
        )

    def _quantity_sent(self, order: OrderState, quantity: Decimal) -> Decimal:
        """Of a new total, what to ask for: a venue that places anew counts fills from 0 again."""
        anew = self._venue.capabilities.amend_mode == venue_pb2.AMEND_MODE_CANCEL_REPLACE
        return EXACT.subtract(quantity, order.filled) if anew else quantity

    async def _amend(self, account: Account, order: OrderState, ticket: OrderTicket) -> Result:
        try:
            answer = await self._venue.amend_order(self._desk.target_of(account, order), ticket)
            reach(CrashPoint.AMENDMENT_ANSWERED)
        except MeshError as error:
            if not proves_not_done(error):
                self._desk.on_doubt(account, order.order_id)
                return service.SUBMIT_OUTCOME_UNKNOWN, None
            answer = Refused(reason=error.reason, text=error.message)
        except Exception:
            log.exception("amend_order_failed", extra={"order_id": order.order_id})
            self._desk.on_doubt(account, order.order_id)
            return service.SUBMIT_OUTCOME_UNKNOWN, None
        if isinstance(answer, Refused):
            account.apply(order.order_id, ReplaceFailed(text=answer.text))
            return service.SUBMIT_OUTCOME_REJECTED, _reject(answer.reason, answer.text)
        self.confirm_amendment(account, order.order_id, answer, ticket)
        return service.SUBMIT_OUTCOME_ACKNOWLEDGED, None

    def confirm_amendment(self, account: Account, order_id: str, answer: Amended, ticket: OrderTicket) -> OrderState:
        """Fold in an amendment that the venue confirmed."""
        order = account.order(order_id)
        now = account.apply(
            order_id,
            ReplaceConfirmed(
                venue_order_id=answer.venue_order_id,
                quantity=ticket.quantity,
                # What a market type is sent with is a worst price, not one of its terms.
                price=None if order is None or order.price is None else ticket.price,
                trigger_price=ticket.trigger_price,
            ),
        )
        if answer.ended:
            full = answer.filled_quantity is not None and answer.filled_quantity >= ticket.quantity
            ending = Ending(
                status=pb.ORDER_STATUS_FILLED if full else pb.ORDER_STATUS_EXPIRED,
                filled_quantity=answer.filled_quantity,
                text="ended on amendment",
                venue_order_id=answer.venue_order_id,
            )
            now = account.apply(order_id, Ended(ending=ending))
        return now


def _require_amendable(order: OrderState) -> None:
    if not order.working or order.pending_replace or order.ending is not None:
        raise PreconditionFailed(
            f"order {order.order_id} is {pb.OrderStatus.Name(order.status)} and cannot be amended now",
            reason=Reason.ORDER_NOT_WORKING,
            metadata={"order_id": order.order_id},
        )


def _amended_terms(
    order: OrderState, request: service.ReplaceOrderRequest
) -> tuple[Decimal, Decimal | None, Decimal | None]:
    if not (request.HasField("quantity") or request.HasField("price") or request.HasField("trigger_price")):
        raise InvalidOrder(
            "quantity, price or trigger_price: at least one is required",
            reason=Reason.REQUIRED_FIELD_MISSING,
            field="quantity",
        )
    quantity, price, trigger = order.quantity, order.price, order.trigger_price
    if request.HasField("quantity"):
        quantity = _positive(request.quantity, "quantity")
    if request.HasField("price"):
        _require_term(price, "price")
        price = _positive(request.price, "price")
    if request.HasField("trigger_price"):
        _require_term(trigger, "trigger_price")
        trigger = _positive(request.trigger_price, "trigger_price")
    return quantity, price, trigger


def _require_term(before: Decimal | None, field: str) -> None:
    if before is None:
        raise InvalidOrder(f"{field}: the order has none to change", reason=Reason.CONTRADICTORY_FIELDS, field=field)


def _positive(text: str, field: str) -> Decimal:
    value = parse_decimal(text, field=field)
    if value <= 0:
        reason = Reason.QUANTITY_NOT_POSITIVE if field == "quantity" else Reason.PRICE_NOT_POSITIVE
        raise InvalidOrder(f"{field}: must be more than 0, got {text}", reason=reason, field=field)
    return value


def _reject(reason: Reason, text: str) -> pb.Reject:
    return pb.Reject(reason=reason_number(reason), message=text, venue_text=text)
