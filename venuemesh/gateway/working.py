"""Cancels of working orders, one by one and many at once; amendments are in `venuemesh.gateway.amendments`.

A cancel passes every gate: it is tried while the account reconciles, while the gateway drains, while the journal is
away. Its answer is the venue's; the order is CANCELED when the venue has said so, with what was filled before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeGuard

from venuemesh.clock import Clock
from venuemesh.crashpoints import CrashPoint, reach
from venuemesh.errors import MeshError, ProtocolViolation, Reason, Sent
from venuemesh.gateway.account import Account
from venuemesh.gateway.amendment_journal import AmendmentJournal
from venuemesh.gateway.amendments import Amendments
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.evidence import facts_of, proves_not_done
from venuemesh.gateway.facts import CancelFailed, CancelRequested, Ended, Ending
from venuemesh.gateway.order_wire import to_order
from venuemesh.gateway.orders import OrderState, reason_number
from venuemesh.gateway.venue import CancelAnswer, OrderTarget, Refused, Unclear
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as service
from venuemesh.v1 import venue_pb2

log = logging.getLogger(__name__)

CANCEL_TRIES = 3
CONFIRM_WAIT_S = 0.5
MIN_FOR_ALL = 2
"""Orders of one instrument from which on one request for all of them is fewer than one for each."""

Found = tuple[Account, OrderState]
Answer = CancelAnswer | Refused | Unclear


class WorkingOrders:
    """Changes orders that are live, or may be."""

    def __init__(
        self,
        desk: Desk,
        *,
        journal: AmendmentJournal,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        self.amendments = Amendments(desk, journal, clock=clock, spawn=spawn)
        self._desk = desk
        self._venue = desk.venue
        self._spawn = spawn

    async def replace(self, request: service.ReplaceOrderRequest) -> service.ReplaceOrderResponse:
        """Amend a working order; see `Amendments.replace`."""
        return await self.amendments.replace(request)

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
        (response,) = await self.cancel_orders([(account, order)])
        return response

    async def cancel_all(self, request: service.CancelAllOrdersRequest) -> service.CancelAllOrdersResponse:
        """Cancel every order of an account that is not terminal, at once."""
        self._desk.check_venue(request.venue)
        account = self._desk.account(request.account_id)
        chosen = [order for order in account.open_orders() if _matches(order, request)]
        if self._venue.capabilities.cancel_all == venue_pb2.PROVISION_NATIVE and request.side == pb.SIDE_UNSPECIFIED:
            await self._cancel_natively(account, chosen, request.symbol)
        now = [account.order(order.order_id) or order for order in chosen]
        # What has ended so was ended by it; all else, also what it may not have met yet, is cancelled by its own ids.
        done = {order.order_id: order for order in now if order.status == pb.ORDER_STATUS_CANCELED}
        left = [(account, order) for order in now if order.order_id not in done]
        answers = {answer.order.order_id: answer for answer in await self.cancel_orders(left)}
        answers |= {name: _canceled(order, service.CANCEL_OUTCOME_CANCELED) for name, order in done.items()}
        return service.CancelAllOrdersResponse(results=[answers[order.order_id] for order in chosen])

    async def _cancel_natively(self, account: Account, chosen: Sequence[OrderState], symbol: str) -> None:
        """One request for all of them, where it is worth one. Whatever becomes of it, each is cancelled by itself too.

        Without a symbol it is sent although no order is known: there may be one that we do not know.
        """
        if symbol and len(chosen) < MIN_FOR_ALL:
            return
        instrument = self._desk.instruments.last_known(symbol, self._venue.name) if symbol else None
        ended = asyncio.Event()

        async def work() -> None:
            try:
                orders = [account.apply(order.order_id, CancelRequested()) for order in chosen]
                refused = await self._venue.cancel_all(account.account_id, instrument)
                if refused is not None:
                    log.warning("cancel_all_refused", extra={"account_id": account.account_id, "text": refused.text})
                    return
                waits = (self._desk.waits.until(order, lambda now: now.terminal, CONFIRM_WAIT_S) for order in orders)
                await asyncio.gather(*waits)
            except MeshError as error:
                log.warning("cancel_all_failed", extra={"account_id": account.account_id, "error": error.message})
            except Exception:
                log.exception("cancel_all_failed", extra={"account_id": account.account_id})
            finally:
                ended.set()

        # The attempt outlives the call, and the call keeps time for the orders' own cancels.
        self._spawn(work(), f"cancel-all-{account.account_id}")
        try:
            async with asyncio.timeout(max(self._desk.wait_s() / 2, 0)):
                await ended.wait()
        except TimeoutError:
            return

    async def cancel_orders(self, found: Sequence[Found]) -> list[service.CancelOrderResponse]:
        """Cancel orders that were found, in as few requests as the venue takes; one answer each, in order."""
        loop = asyncio.get_running_loop()
        waiting: dict[str, asyncio.Future[service.CancelOrderResponse]] = {}
        batches: dict[str, list[OrderState]] = {}
        for account, order in found:
            if not order.terminal and order.order_id not in waiting:
                waiting[order.order_id] = loop.create_future()
                batches.setdefault(account.account_id, []).append(order)
        most = max(1, self._venue.capabilities.max_batch_cancels)
        for account_id, orders in batches.items():
            for first in range(0, len(orders), most):
                chunk = orders[first : first + most]
                # The attempt outlives the call: a caller that hangs up does not stop a cancel.
                work = self._attempt(self._desk.account(account_id), chunk, waiting)
                self._spawn(work, f"cancel-{chunk[0].order_id}")
        if waiting:
            # Every future is waited for under one bound: the first that is late must not take the time of the others.
            await asyncio.wait(waiting.values(), timeout=max(self._desk.wait_s(), 0))
        return [self._answer(account, order, waiting.get(order.order_id)) for account, order in found]

    def _answer(
        self, account: Account, order: OrderState, future: asyncio.Future[service.CancelOrderResponse] | None
    ) -> service.CancelOrderResponse:
        if future is None:
            return _canceled(order, service.CANCEL_OUTCOME_ALREADY_TERMINAL)
        if future.done():
            return future.result()
        return _canceled(account.order(order.order_id) or order, service.CANCEL_OUTCOME_UNKNOWN)

    async def _attempt(
        self,
        account: Account,
        orders: Sequence[OrderState],
        waiting: dict[str, asyncio.Future[service.CancelOrderResponse]],
    ) -> None:
        """Send, then settle each order on its own. Runs to its end whatever becomes of the call that began it."""

        async def settle(order: OrderState, answer: Answer | None, failure: str) -> None:
            response = await self._settle(account, order, answer, failure)
            if not waiting[order.order_id].done():
                waiting[order.order_id].set_result(response)

        orders = [account.apply(order.order_id, CancelRequested()) for order in orders]
        reach(CrashPoint.CANCEL_QUEUED)
        answers, failure = await self._send(account, orders)
        reach(CrashPoint.CANCEL_ANSWERED)
        await asyncio.gather(*(settle(order, answers.get(order.order_id), failure) for order in orders))

    async def _send(self, account: Account, orders: Sequence[OrderState]) -> tuple[dict[str, Answer], str]:
        """The venue's answers by order id, and why there are none for the rest of them."""
        failure = ""
        for _ in range(CANCEL_TRIES):
            now = [account.order(order.order_id) or order for order in orders]
            live = [order for order in now if not order.terminal]
            if not live:
                break
            try:
                answers = await self._ask([self._desk.target_of(account, order) for order in live])
                if unread := next((answer for answer in answers if is_unread(answer)), None):
                    failure = unread.text
                    continue
                return {order.order_id: answer for order, answer in zip(live, answers, strict=True)}, failure
            except MeshError as error:
                failure = error.message
                if proves_not_done(error):
                    # Nothing left the process, or the venue would not hear it: trying again at once is no use.
                    break
            except Exception as error:
                log.exception("cancel_order_failed", extra={"order_ids": [order.order_id for order in live]})
                failure = f"fault of ours: {type(error).__name__}"
                break
        return {}, failure

    async def _ask(self, targets: Sequence[OrderTarget]) -> Sequence[Answer]:
        if len(targets) == 1:
            return [await self._venue.cancel_order(targets[0])]
        answers = await self._venue.cancel_orders(targets)
        if len(answers) != len(targets):
            raise ProtocolViolation(f"{len(answers)} answers to {len(targets)} cancels", sent=Sent.MAYBE)
        return answers

    async def _settle(
        self, account: Account, order: OrderState, answer: Answer | None, failure: str
    ) -> service.CancelOrderResponse:
        order = account.order(order.order_id) or order
        if isinstance(answer, Unclear):
            failure = answer.cause
            answer = None
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


def is_unread(answer: Answer) -> TypeGuard[Refused]:
    """Whether the venue refused the request for its nonce, without reading what it asks: a new nonce may do."""
    return isinstance(answer, Refused) and answer.reason is Reason.NONCE_REJECTED


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
