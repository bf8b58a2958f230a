"""Cancels and amendments of working orders.

A cancel passes every gate: it is tried while the account reconciles, while the gateway drains, while the journal is
away. Its answer is the venue's; the order is CANCELED when the venue has said so, with what was filled before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from decimal import Decimal
from typing import Any

from venuemesh.clock import Clock
from venuemesh.errors import InvalidOrder, MeshError, NotSupported, OutcomeUnknown, PreconditionFailed, Reason, Sent
from venuemesh.gateway import rules
from venuemesh.gateway.account import Account
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.evidence import facts_of
from venuemesh.gateway.order_wire import timestamp, to_order
from venuemesh.gateway.orders import (
    CancelFailed,
    CancelRequested,
    Ended,
    Ending,
    OrderState,
    ReplaceConfirmed,
    ReplaceFailed,
    ReplaceRequested,
    reason_number,
)
from venuemesh.gateway.venue import Amended, CancelAnswer, OrderTicket, Refused
from venuemesh.journal import OrderJournal, SubjectTaken
from venuemesh.money import parse_decimal
from venuemesh.v1 import event_pb2, venue_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as service

log = logging.getLogger(__name__)

CANCEL_TRIES = 3
CONFIRM_WAIT_S = 0.5
AMEND_PREFIX = "amend."
MAX_REMEMBERED_AMENDMENTS = 10_000


class WorkingOrders:
    """Changes orders that are live, or may be."""

    def __init__(
        self,
        desk: Desk,
        *,
        journal: OrderJournal,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
        writer_id: str,
    ) -> None:
        self._desk = desk
        self._venue = desk.venue
        self._journal = journal
        self._clock = clock
        self._spawn = spawn
        self._writer_id = writer_id
        self._amendments: dict[tuple[str, str], tuple[bytes, service.ReplaceOrderResponse]] = {}

    # cancels

    async def cancel(
        self, reference: service.OrderReference, expected_version: int | None = None
    ) -> service.CancelOrderResponse:
        """Cancel one order.

        Raises:
            OrderNotFound, InvalidRequest, VersionConflict: nothing was sent.
        """
        account, order = await self._desk.find(reference)
        self._desk.check_version(order, expected_version)
        return await self.cancel_order(account, order)

    async def cancel_order(self, account: Account, order: OrderState) -> service.CancelOrderResponse:
        """Cancel an order that was found."""
        if order.terminal:
            return _canceled(order, service.CANCEL_OUTCOME_ALREADY_TERMINAL)
        done: asyncio.Future[service.CancelOrderResponse] = asyncio.get_running_loop().create_future()

        async def attempt() -> None:
            response = await self._cancel(account, order)
            if not done.done():
                done.set_result(response)

        # The attempt outlives the call: a caller that hangs up does not stop a cancel.
        self._spawn(attempt(), f"cancel-{order.order_id}")
        try:
            async with asyncio.timeout(max(self._desk.wait_s(), 0)):
                return await done
        except TimeoutError:
            now = account.order(order.order_id) or order
            return _canceled(now, service.CANCEL_OUTCOME_UNKNOWN)

    async def cancel_all(self, request: service.CancelAllOrdersRequest) -> service.CancelAllOrdersResponse:
        """Cancel every order of an account that is not terminal, at once."""
        self._desk.check_venue(request.venue)
        account = self._desk.account(request.account_id)
        chosen = [order for order in account.open_orders() if _matches(order, request)]
        results = await asyncio.gather(*(self.cancel_order(account, order) for order in chosen))
        return service.CancelAllOrdersResponse(results=results)

    async def _cancel(self, account: Account, order: OrderState) -> service.CancelOrderResponse:
        order = account.apply(order.order_id, CancelRequested())
        answer: CancelAnswer | Refused | None = None
        failure = ""
        for _ in range(CANCEL_TRIES):
            order = account.order(order.order_id) or order
            if order.terminal:
                break
            try:
                answer = await self._venue.cancel_order(self._desk.target_of(account, order))
                break
            except MeshError as error:
                failure = error.message
                if error.sent is Sent.NO and not isinstance(error, OutcomeUnknown):
                    # Nothing left the process: the link is down, and trying again at once is no use.
                    break
        return await self._settle_cancel(account, order, answer, failure)

    async def _settle_cancel(
        self, account: Account, order: OrderState, answer: CancelAnswer | Refused | None, failure: str
    ) -> service.CancelOrderResponse:
        if answer is None and not order.terminal:
            # The order keeps its pending_cancel; the resolver sends the cancel again until the venue has spoken.
            self._desk.on_doubt(account, order.order_id)
            return _canceled(order, service.CANCEL_OUTCOME_UNKNOWN, text=failure)
        if isinstance(answer, Refused):
            order = account.apply(order.order_id, CancelFailed(text=answer.text))
            return _canceled(order, service.CANCEL_OUTCOME_REJECTED, reason=answer.reason, text=answer.text)
        order = await self._confirm_end(account, order, canceled=answer is CancelAnswer.CANCELED)
        if not order.terminal:
            return _canceled(order, service.CANCEL_OUTCOME_UNKNOWN)
        ended_so = order.status == pb.ORDER_STATUS_CANCELED and answer is CancelAnswer.CANCELED
        return _canceled(
            order, service.CANCEL_OUTCOME_CANCELED if ended_so else service.CANCEL_OUTCOME_ALREADY_TERMINAL
        )

    async def _confirm_end(self, account: Account, order: OrderState, *, canceled: bool) -> OrderState:
        """The venue confirmed a cancel, or says the order is gone: learn how it ended and with how much filled."""
        now = account.order(order.order_id) or order
        if await self._desk.waits.until(now, lambda state: state.terminal, CONFIRM_WAIT_S if canceled else 0):
            return account.order(order.order_id) or now
        try:
            view = await self._venue.fetch_order(self._desk.target_of(account, now))
        except MeshError as error:
            log.info("cancel_not_confirmed", extra={"order_id": order.order_id, "error": error.message})
            view = None
        for fact in facts_of(view) if view is not None else ():
            account.apply(order.order_id, fact)
        now = account.order(order.order_id) or now
        if not now.terminal and canceled and now.ending is None:
            ending = Ending(
                status=pb.ORDER_STATUS_CANCELED,
                filled_quantity=None,
                text="cancel confirmed",
                venue_order_id=now.venue_order_id,
            )
            now = account.apply(order.order_id, Ended(ending=ending))
        if not now.terminal:
            self._desk.on_doubt(account, order.order_id)
            await self._desk.waits.until(now, lambda state: state.terminal, CONFIRM_WAIT_S)
        return account.order(order.order_id) or now

    # amendments

    async def replace(self, request: service.ReplaceOrderRequest) -> service.ReplaceOrderResponse:
        """Amend a working order; applied when the venue confirms, and only then.

        Raises:
            OrderNotFound, InvalidOrder, PreconditionFailed, VersionConflict: nothing was sent.
        """
        rules.check_client_id(request.request_id, field="request_id")
        account, order = await self._desk.find(request.reference)
        key = (account.account_id, request.request_id)
        content = request.SerializeToString(deterministic=True)
        if (known := self._amendments.get(key)) is not None:
            return _amended_before(known, content, request.request_id)
        ticket = self._ticket(account, order, request)
        await self._write_amend_intent(account, order, ticket, request.request_id)
        account.apply(order.order_id, ReplaceRequested())
        done: asyncio.Future[service.ReplaceOrderResponse] = asyncio.get_running_loop().create_future()

        async def attempt() -> None:
            response = await self._amend(account, order, ticket)
            self._remember(key, content, response)
            if not done.done():
                done.set_result(response)

        self._spawn(attempt(), f"amend-{order.order_id}")
        try:
            async with asyncio.timeout(max(self._desk.wait_s(), 0)):
                return await done
        except TimeoutError:
            now = account.order(order.order_id) or order
            return service.ReplaceOrderResponse(order=to_order(now), outcome=service.SUBMIT_OUTCOME_PENDING)

    def _remember(self, key: tuple[str, str], content: bytes, response: service.ReplaceOrderResponse) -> None:
        self._amendments[key] = (content, response)
        while len(self._amendments) > MAX_REMEMBERED_AMENDMENTS:
            del self._amendments[next(iter(self._amendments))]

    def _ticket(self, account: Account, order: OrderState, request: service.ReplaceOrderRequest) -> OrderTicket:
        if self._venue.capabilities.amend_mode in (venue_pb2.AMEND_MODE_NONE, venue_pb2.AMEND_MODE_UNSPECIFIED):
            raise NotSupported(f"{self._venue.name} cannot amend orders: cancel and submit anew")
        expected = request.expected_version if request.HasField("expected_version") else None
        self._desk.check_version(order, expected)
        if not order.working or order.pending_replace or order.ending is not None:
            raise PreconditionFailed(
                f"order {order.order_id} is {pb.OrderStatus.Name(order.status)} and cannot be amended now",
                reason=Reason.ORDER_NOT_WORKING,
                metadata={"order_id": order.order_id},
            )
        self._desk.check_ready(account)
        quantity, price, trigger = _amended_terms(order, request)
        if quantity <= order.filled:
            raise InvalidOrder(
                f"quantity: {request.quantity} must be more than the {order.filled} already filled", field="quantity"
            )
        instrument = self._desk.instruments.get(order.terms.symbol, self._venue.name)
        reduce_only = pb.EXECUTION_INSTRUCTION_REDUCE_ONLY in order.terms.instructions
        checked = rules.CheckedOrder(quantity=quantity, price=price, trigger_price=trigger)
        rules.check_instrument(checked, instrument, reduce_only=reduce_only, reference_price=None)
        if price is None:
            raise NotSupported("amending an order without a limit price is not offered")
        lifetime_ns = int(self._desk.settings.order_lifetime_s * 1e9)
        return OrderTicket(
            account_id=account.account_id,
            order_id=order.order_id,
            venue_client_order_id=order.venue_client_order_id,
            instrument=instrument,
            side=order.terms.side,
            order_type=order.terms.order_type,
            quantity=quantity,
            price=price,
            trigger_price=trigger,
            time_in_force=order.terms.time_in_force,
            post_only=pb.EXECUTION_INSTRUCTION_POST_ONLY in order.terms.instructions,
            reduce_only=reduce_only,
            reservation=self._venue.reserve(account.account_id, not_after_ns=self._clock.now_ns() + lifetime_ns),
        )

    async def _write_amend_intent(
        self, account: Account, order: OrderState, ticket: OrderTicket, request_id: str
    ) -> None:
        wanted = replace(order, quantity=ticket.quantity, price=ticket.price, trigger_price=ticket.trigger_price)
        intent = event_pb2.OrderIntent(
            order=to_order(wanted),
            nonce=ticket.reservation.nonce,
            expires_unix_nanos=ticket.reservation.expires_ns,
            journalled_time=timestamp(self._clock.now_ns()),
            writer_id=self._writer_id,
        )
        try:
            await self._journal.write_intent(account.account_id, AMEND_PREFIX + request_id, intent)
        except SubjectTaken:
            raise PreconditionFailed(
                f"request_id: {request_id!r} was used for an amendment before; read the order for its result",
                reason=Reason.STATE_VERSION_CONFLICT,
                field="request_id",
                metadata={"order_id": order.order_id},
            ) from None

    async def _amend(self, account: Account, order: OrderState, ticket: OrderTicket) -> service.ReplaceOrderResponse:
        try:
            answer = await self._venue.amend_order(self._desk.target_of(account, order), ticket)
        except MeshError as error:
            if error.sent is Sent.MAYBE or isinstance(error, OutcomeUnknown):
                self._desk.on_doubt(account, order.order_id)
                now = account.order(order.order_id) or order
                return service.ReplaceOrderResponse(order=to_order(now), outcome=service.SUBMIT_OUTCOME_UNKNOWN)
            answer = Refused(reason=error.reason, text=error.message)
        if isinstance(answer, Refused):
            now = account.apply(order.order_id, ReplaceFailed(text=answer.text))
            return service.ReplaceOrderResponse(
                order=to_order(now),
                outcome=service.SUBMIT_OUTCOME_REJECTED,
                reject=_reject(answer.reason, answer.text),
            )
        now = self.confirm_amendment(account, order.order_id, answer, ticket)
        return service.ReplaceOrderResponse(order=to_order(now), outcome=service.SUBMIT_OUTCOME_ACKNOWLEDGED)

    def confirm_amendment(self, account: Account, order_id: str, answer: Amended, ticket: OrderTicket) -> OrderState:
        """Fold in an amendment that the venue confirmed."""
        now = account.apply(
            order_id,
            ReplaceConfirmed(
                venue_order_id=answer.venue_order_id,
                quantity=ticket.quantity,
                price=ticket.price,
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


def _amended_before(
    known: tuple[bytes, service.ReplaceOrderResponse], content: bytes, request_id: str
) -> service.ReplaceOrderResponse:
    first, response = known
    if first != content:
        raise InvalidOrder(
            f"request_id: {request_id!r} belongs to another amendment",
            reason=Reason.CLIENT_ORDER_ID_REUSED,
            field="request_id",
        )
    repeated = service.ReplaceOrderResponse()
    repeated.CopyFrom(response)
    repeated.replayed = True
    return repeated


def _matches(order: OrderState, request: service.CancelAllOrdersRequest) -> bool:
    return (not request.symbol or order.terms.symbol == request.symbol) and (
        request.side == pb.SIDE_UNSPECIFIED or order.terms.side == request.side
    )


def _canceled(
    order: OrderState,
    outcome: service.CancelOutcome.ValueType,
    *,
    reason: Reason = Reason.OUTCOME_UNKNOWN,
    text: str = "",
) -> service.CancelOrderResponse:
    response = service.CancelOrderResponse(
        order=to_order(order),
        outcome=outcome,
        already_terminal=outcome == service.CANCEL_OUTCOME_ALREADY_TERMINAL,
    )
    if text:
        response.reject.CopyFrom(_reject(reason, text))
    return response


def _reject(reason: Reason, text: str) -> pb.Reject:
    return pb.Reject(reason=reason_number(reason), message=text, venue_text=text)
