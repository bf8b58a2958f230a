"""Writes whose outcome may be lost: say so, read back by key, and never guess."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from venuemesh.cli import failure
from venuemesh.cli.exits import Exit
from venuemesh.cli.link import Link
from venuemesh.cli.session import Session
from venuemesh.errors import MeshError, OrderNotFound
from venuemesh.v1 import order_pb2, order_service_pb2

READ_PAUSE_S = 0.25
_SUBMIT = order_service_pb2.SubmitOutcome
_CANCEL = order_service_pb2.CancelOutcome

_SETTLED: dict[int, Any] = {
    order_pb2.ORDER_STATUS_UNSPECIFIED: _SUBMIT.SUBMIT_OUTCOME_UNKNOWN,
    order_pb2.ORDER_STATUS_UNCERTAIN: _SUBMIT.SUBMIT_OUTCOME_UNKNOWN,
    order_pb2.ORDER_STATUS_PENDING_NEW: _SUBMIT.SUBMIT_OUTCOME_PENDING,
    order_pb2.ORDER_STATUS_REJECTED: _SUBMIT.SUBMIT_OUTCOME_REJECTED,
}
_EXITS = {
    _SUBMIT.SUBMIT_OUTCOME_ACKNOWLEDGED: Exit.OK,
    _SUBMIT.SUBMIT_OUTCOME_REJECTED: Exit.REFUSED,
}
_CANCEL_EXITS = {
    _CANCEL.CANCEL_OUTCOME_CANCELED: Exit.OK,
    _CANCEL.CANCEL_OUTCOME_ALREADY_TERMINAL: Exit.OK,
    _CANCEL.CANCEL_OUTCOME_REJECTED: Exit.REFUSED,
}


async def submit(session: Session, request: Any, *, settle_s: float) -> Any:
    """Submit an order; where the answer is lost or in doubt, read the order back for at most `settle_s` seconds.

    Returns:
        A SubmitOrderResponse. After a lost answer `outcome` is what the order read back proves, and UNKNOWN with the
        terms alone where the mesh does not show the order: that proves nothing, the request may be under way.
    Raises:
        MeshError: certainly nothing was sent.
    """
    terms = request.order
    reference = reference_to(terms.account_id, terms.venue, client_order_id=terms.client_order_id)
    try:
        with session.out.progress("waiting for the venue"):
            answer = await session.router.call(request, order_service_pb2.SubmitOrderResponse)
    except MeshError as error:
        if not failure.in_doubt(error):
            raise
        session.out.note(f"OUTCOME UNKNOWN: the answer was lost ({error}). Reading back {terms.client_order_id}.")
        answer = order_service_pb2.SubmitOrderResponse(
            order=order_pb2.Order(terms=terms), outcome=_SUBMIT.SUBMIT_OUTCOME_UNKNOWN
        )
    if answer.outcome != _SUBMIT.SUBMIT_OUTCOME_UNKNOWN:
        return answer
    if answer.order.order_id:
        session.out.note(f"OUTCOME UNKNOWN: sent, and not answered. Reading back {terms.client_order_id}.")
    order = await read_back(session, reference, settle_s=settle_s, settled=_is_settled)
    if order is not None:
        answer.order.CopyFrom(order)
        answer.outcome = _SETTLED.get(order.status, _SUBMIT.SUBMIT_OUTCOME_ACKNOWLEDGED)
        if order.status == order_pb2.ORDER_STATUS_REJECTED and order.HasField("reject"):
            answer.reject.CopyFrom(order.reject)
    if exit_of_submit(answer) is Exit.UNKNOWN:
        session.out.note(
            f"still unknown after {settle_s:g} s. Do not send anew under another key: repeat with --client-order-id "
            f"{terms.client_order_id}, or look with `venuemesh order show {terms.client_order_id}`."
        )
    return answer


def _is_settled(order: Any) -> bool:
    return order.status not in (order_pb2.ORDER_STATUS_PENDING_NEW, order_pb2.ORDER_STATUS_UNCERTAIN)


def exit_of_submit(answer: Any, *, until_sent: bool = False) -> Exit:
    """The exit code of a submit or an amendment.

    Args:
        until_sent: the caller wanted to wait only until it was sent, so PENDING is what was asked for.
    """
    if until_sent and answer.outcome == _SUBMIT.SUBMIT_OUTCOME_PENDING:
        return Exit.OK
    return _EXITS.get(answer.outcome, Exit.UNKNOWN)


async def amend(session: Session, request: Any) -> Any:
    """Amend an order; where the answer is lost, the order as it is now with the outcome UNKNOWN.

    Raises:
        MeshError: certainly nothing was sent.
    """
    try:
        with session.out.progress("waiting for the venue"):
            return await session.router.call(request, order_service_pb2.ReplaceOrderResponse)
    except MeshError as error:
        if not failure.in_doubt(error):
            raise
        session.out.note(
            f"OUTCOME UNKNOWN: the answer was lost ({error}). Repeating with --request-id {request.request_id} is safe."
        )
    answer = order_service_pb2.ReplaceOrderResponse(outcome=_SUBMIT.SUBMIT_OUTCOME_UNKNOWN)
    order = await read_back(session, request.reference, settle_s=0.0, settled=lambda _order: True)
    if order is not None:
        answer.order.CopyFrom(order)
    return answer


async def cancel(session: Session, request: Any, *, settle_s: float) -> Any:
    """Cancel an order; where the answer is lost or in doubt, read back until it has ended.

    Raises:
        MeshError: certainly nothing was sent.
    """
    try:
        with session.out.progress("waiting for the venue"):
            answer = await session.router.call(request, order_service_pb2.CancelOrderResponse)
    except MeshError as error:
        if not failure.in_doubt(error):
            raise
        answer = order_service_pb2.CancelOrderResponse(outcome=_CANCEL.CANCEL_OUTCOME_UNKNOWN)
        session.out.note(f"OUTCOME UNKNOWN: the answer was lost ({error}). Repeating the cancel is safe.")
    if answer.outcome != _CANCEL.CANCEL_OUTCOME_UNKNOWN:
        return answer
    order = await read_back(session, request.reference, settle_s=settle_s, settled=lambda one: bool(one.terminal))
    if order is not None:
        answer.order.CopyFrom(order)
        if order.terminal:
            # It may have filled meanwhile: canceled is only what the order itself says.
            gone = order.status == order_pb2.ORDER_STATUS_CANCELED
            answer.outcome = _CANCEL.CANCEL_OUTCOME_CANCELED if gone else _CANCEL.CANCEL_OUTCOME_ALREADY_TERMINAL
            answer.already_terminal = not gone
    return answer


def exit_of_cancel(answer: Any) -> Exit:
    """The exit code of a cancel."""
    return _CANCEL_EXITS.get(answer.outcome, Exit.UNKNOWN)


async def read_back(session: Session, reference: Any, *, settle_s: float, settled: Callable[[Any], bool]) -> Any | None:
    """The order as last read within `settle_s` seconds, as soon as it is settled; None when nothing showed it."""
    link: Link = session.router
    request = order_service_pb2.GetOrderRequest(reference=reference)
    until_s = session.clock.monotonic_s() + settle_s
    found = None
    with session.out.progress("reading the order back"):
        while True:
            try:
                found = (await link.call(request, order_service_pb2.GetOrderResponse)).order
            except OrderNotFound:
                pass
            except MeshError as error:
                session.out.note(f"cannot read it: {error}")
            if (found is not None and settled(found)) or session.clock.monotonic_s() + READ_PAUSE_S > until_s:
                return found
            await asyncio.sleep(READ_PAUSE_S)


def reference_to(account_id: str, venue: str | None, **one_id: str) -> Any:
    """Names an order by one of its ids."""
    return order_service_pb2.OrderReference(account_id=account_id, venue=venue or "", **one_id)
