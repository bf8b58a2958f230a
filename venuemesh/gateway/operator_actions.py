"""What a person does about an order that machines cannot settle: journalled with who and why, told as an event.

An action is journalled under its `request_id` before anything is done, so a repeat never does another thing under the
same key, also after a restart. Every action may be carried out twice without harm, so one that a crash cut short is
carried out when it is repeated. A cancel that must pass while the journal is down is CancelOrder's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from venuemesh.clock import Clock
from venuemesh.errors import (
    ClientOrderIdReused,
    InvalidRequest,
    MeshError,
    OrderNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    Reason,
)
from venuemesh.gateway import rules
from venuemesh.gateway.account import Account
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.facts import Ended, Ending, OperatorActed, ProvedAbsent
from venuemesh.gateway.order_wire import timestamp, to_order
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.resolver import Resolver
from venuemesh.gateway.venue import CancelAnswer
from venuemesh.gateway.working import WorkingOrders
from venuemesh.journal import EventLog, LogOverflow, OrderJournal, SubjectTaken
from venuemesh.v1 import event_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import reconciliation_service_pb2 as wire

log = logging.getLogger(__name__)

KEY_PREFIX = "operator."
"""No client order id has a point, so that keys of actions and of orders never meet."""
MAX_OPERATOR = 64
MAX_REASON = 500
WORDS = {
    wire.RESOLUTION_QUERY: "query",
    wire.RESOLUTION_FORCE_CANCEL: "force cancel",
    wire.RESOLUTION_FORCE_RECONCILE: "force reconcile",
    wire.RESOLUTION_DECLARE_REJECTED: "declare rejected",
}


@dataclass(frozen=True, slots=True)
class _Running:
    """One action on its way; the future gives whether it had been done before."""

    content: event_pb2.AccountOperation
    replayed: asyncio.Future[bool]


class OperatorActions:
    """Carries out what operators ask for, each request at a time once."""

    def __init__(
        self,
        desk: Desk,
        resolver: Resolver,
        working: WorkingOrders,
        *,
        journal: OrderJournal,
        log: EventLog,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
        writer_id: str,
    ) -> None:
        self._desk = desk
        self._venue = desk.venue
        self._resolver = resolver
        self._working = working
        self._journal = journal
        self._log = log
        self._clock = clock
        self._spawn = spawn
        self._writer_id = writer_id
        self._running: dict[tuple[str, str], _Running] = {}

    async def resolve(self, request: wire.ResolveUncertainOrderRequest) -> wire.ResolveUncertainOrderResponse:
        """Carry out an action, or tell what became of the order of one that was carried out before.

        Raises:
            InvalidRequest, OrderNotFound, PreconditionFailed, JournalUnavailable: nothing was done.
            ClientOrderIdReused: the key belongs to another action.
            OutcomeUnknown: it is journalled and goes on; repeat it under the same key to learn the result.
        """
        check_request(request)
        account, order = await self._desk.find(request.reference)
        content = event_pb2.AccountOperation(
            method=request.DESCRIPTOR.full_name,
            request_id=request.request_id,
            request=request.SerializeToString(deterministic=True),
        )
        key = (account.account_id, request.request_id)
        running = self._running.get(key)
        joined = running is not None
        if running is None:
            running = _Running(content, asyncio.get_running_loop().create_future())
            self._spawn(self._run(key, running, account, order.order_id, request), f"operator-{request.request_id}")
            self._running[key] = running
        elif running.content != content:
            raise _reused(request.request_id)
        replayed = await self._wait(running, request.request_id)
        now = account.order(order.order_id) or order
        return wire.ResolveUncertainOrderResponse(order=to_order(now), replayed=replayed or joined)

    async def _wait(self, running: _Running, request_id: str) -> bool:
        try:
            async with asyncio.timeout(max(self._desk.wait_s(), 0)):
                return await asyncio.shield(running.replayed)
        except TimeoutError:
            raise OutcomeUnknown(
                f"request_id {request_id!r} is still being carried out: repeat it to learn the result",
                metadata={"request_id": request_id},
            ) from None

    async def _run(
        self,
        key: tuple[str, str],
        running: _Running,
        account: Account,
        order_id: str,
        request: wire.ResolveUncertainOrderRequest,
    ) -> None:
        """Runs to its end whatever becomes of the call that began it."""
        try:
            running.replayed.set_result(await self._perform(account, order_id, request, running.content))
        except MeshError as error:
            running.replayed.set_exception(error)
            # The caller may have hung up, and an error nobody reads is reported as ours.
            running.replayed.exception()
        except LogOverflow:
            raise
        except Exception as error:
            # A fault about one order must not end the gateway.
            log.exception("operator_action_failed", extra={"order_id": order_id})
            running.replayed.set_exception(OutcomeUnknown(f"fault of ours: {type(error).__name__}; see the log"))
            running.replayed.exception()
        finally:
            running.replayed.cancel()
            self._running.pop(key, None)

    async def _perform(
        self,
        account: Account,
        order_id: str,
        request: wire.ResolveUncertainOrderRequest,
        content: event_pb2.AccountOperation,
    ) -> bool:
        if await self._was_done(account, content):
            return True
        order = account.order(order_id)
        if order is None:
            raise OrderNotFound(f"order {order_id} ended long ago", metadata={"order_id": order_id})
        self._require(order, request.resolution)
        await self._write_intent(account, content)
        what = f"{WORDS[request.resolution]} by {request.operator}: {request.reason}"
        log.warning("operator_action", extra={"order_id": order_id, "action": what})
        last_change_ns = order.updated_ns
        account.apply(order_id, OperatorActed(text=what))
        await self._act(account, order_id, request.resolution, what, last_change_ns)
        done = event_pb2.OrderOutcome(account_operation=event_pb2.AccountOperationResult(done=True))
        self._log.append_outcome(account.account_id, KEY_PREFIX + content.request_id, done)
        return False

    async def _was_done(self, account: Account, content: event_pb2.AccountOperation) -> bool:
        name = KEY_PREFIX + content.request_id
        intent = await self._journal.read_intent(account.account_id, name)
        if intent is None:
            return False
        if intent.account_operation != content:
            raise _reused(content.request_id)
        return await self._journal.read_outcome(account.account_id, name) is not None

    async def _write_intent(self, account: Account, content: event_pb2.AccountOperation) -> None:
        intent = event_pb2.OrderIntent(
            account_operation=content,
            journalled_time=timestamp(self._clock.now_ns()),
            writer_id=self._writer_id,
        )
        try:
            await self._journal.write_intent(account.account_id, KEY_PREFIX + content.request_id, intent)
        except SubjectTaken:
            # It was journalled before and not carried out to its end: go on with it. Another process may have been
            # quicker with another content.
            await self._was_done(account, content)

    def _require(self, order: OrderState, resolution: wire.Resolution.ValueType) -> None:
        if order.terminal:
            raise _refused(order, "has ended")
        if resolution == wire.RESOLUTION_DECLARE_REJECTED and not order.uncertain:
            raise _refused(order, "is not uncertain: what the venue said of it outranks an operator")

    async def _act(
        self,
        account: Account,
        order_id: str,
        resolution: wire.Resolution.ValueType,
        what: str,
        last_change_ns: int,
    ) -> None:
        match resolution:
            case wire.RESOLUTION_QUERY:
                await self._resolver.ask_now(account, order_id)
            case wire.RESOLUTION_FORCE_CANCEL:
                await self._cancel(account, order_id)
                await self._resolver.ask_now(account, order_id)
            case wire.RESOLUTION_FORCE_RECONCILE:
                await self._reconcile(account, order_id, what, last_change_ns)
            case wire.RESOLUTION_DECLARE_REJECTED:
                account.apply(order_id, ProvedAbsent(evidence=what, origin=pb.ORIGIN_OPERATOR))

    async def _cancel(self, account: Account, order_id: str) -> None:
        """A cancel under each id the order has: first the current one, as any cancel, then the others."""
        order = _current(account, order_id)
        await self._working.cancel_orders([(account, order)])
        order = _current(account, order_id)
        others: list[str | None] = [*order.venue_order_ids[:-1], *([None] if order.venue_order_ids else [])]
        for venue_order_id in others:
            if _current(account, order_id).terminal:
                return
            target = replace(self._desk.target_of(account, order), venue_order_id=venue_order_id)
            try:
                answer = await self._venue.cancel_order(target)
            except MeshError as error:
                said = f"not reached: {error.message}"
            else:
                said = answer.value if isinstance(answer, CancelAnswer) else answer.text
            log.info("force_cancel", extra={"order_id": order_id, "by": venue_order_id or "our id", "said": said})

    async def _reconcile(self, account: Account, order_id: str, what: str, last_change_ns: int) -> None:
        await self._resolver.fetch_fills(account, _current(account, order_id).created_ns)
        asked_ns = self._clock.now_ns()
        view = await self._venue.fetch_order(self._desk.target_of(account, _current(account, order_id)))
        order = _current(account, order_id)
        if view is not None:
            await self._resolver.apply_view(account, order, view, asked_ns, pb.ORIGIN_OPERATOR)
            if not _current(account, order_id).terminal:
                self._resolver.doubt(account, order_id)
            return
        if order.terminal:
            return
        if not (order.working or order.filled):
            if asked_ns < self._resolver.last_arrival_ns(order):
                raise _refused(order, "is unknown at the venue, and may still arrive there: its absence proves nothing")
            account.apply(order_id, ProvedAbsent(evidence=what, origin=pb.ORIGIN_OPERATOR))
            return
        if asked_ns < last_change_ns + self._resolver.settle_ns:
            raise _refused(order, "has changed just now: that the venue does not show it proves nothing")
        ending = Ending(
            status=pb.ORDER_STATUS_CANCELED,
            filled_quantity=None,
            text=f"unknown at the venue ({what})",
            venue_order_id=order.venue_order_id,
        )
        account.apply(order_id, Ended(ending=ending, origin=pb.ORIGIN_OPERATOR))


def check_request(request: wire.ResolveUncertainOrderRequest) -> None:
    """Refuse an action without who, why, what or key.

    Raises:
        InvalidRequest: naming the field.
    """
    rules.check_client_id(request.request_id, field="request_id")
    check_person(request.operator, request.reason, required=True)
    if request.resolution not in WORDS:
        known = (
            "is required" if not request.resolution else f"has a value this gateway does not know: {request.resolution}"
        )
        raise InvalidRequest(f"resolution: {known}", field="resolution")


def check_person(operator: str, reason: str, *, required: bool) -> None:
    """Refuse an operator or a reason that is missing, too long, or not fit for a line of text."""
    for field, value, most in (("operator", operator, MAX_OPERATOR), ("reason", reason, MAX_REASON)):
        if required and not value.strip():
            raise InvalidRequest(f"{field}: is required", reason=Reason.REQUIRED_FIELD_MISSING, field=field)
        if len(value) > most or (value and not value.isprintable()):
            shown = value[:48]
            raise InvalidRequest(f"{field}: at most {most} printable characters, got {shown!r}", field=field)


def _current(account: Account, order_id: str) -> OrderState:
    order = account.order(order_id)
    if order is None:
        raise OrderNotFound(f"order {order_id} is no longer retained", metadata={"order_id": order_id})
    return order


def _refused(order: OrderState, why: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"order {order.order_id} {why}",
        reason=Reason.ORDER_NOT_WORKING,
        metadata={"order_id": order.order_id, "status": pb.OrderStatus.Name(order.status)},
    )


def _reused(request_id: str) -> ClientOrderIdReused:
    return ClientOrderIdReused(
        f"request_id: {request_id!r} belongs to another action",
        field="request_id",
        metadata={"request_id": request_id},
    )
