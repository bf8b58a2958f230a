"""Answers made here for writes whose own answer was lost, with nothing in them but what is known. Pure."""

from __future__ import annotations

from router.plans import instant
from venuemesh.gateway.order_wire import order_id_of
from venuemesh.v1 import order_pb2, order_service_pb2


def unknown_order(terms: order_pb2.NewOrder, now_ns: int) -> order_pb2.Order:
    """An order that may or may not be live: its terms, the id its gateway gives it, and nothing claimed."""
    return order_pb2.Order(
        order_id=order_id_of(terms.venue, terms.account_id, terms.client_order_id),
        terms=terms,
        status=order_pb2.ORDER_STATUS_UNCERTAIN,
        uncertain=True,
        filled_quantity="0",
        leaves_quantity=terms.quantity,
        updated_time=instant(now_ns),
        uncertain_since=instant(now_ns),
    )


def unknown_submit(terms: order_pb2.NewOrder, now_ns: int) -> order_service_pb2.SubmitOrderResponse:
    """The gateway may have the order; repeating the key is safe and gives the truth."""
    return order_service_pb2.SubmitOrderResponse(
        order=unknown_order(terms, now_ns), outcome=order_service_pb2.SUBMIT_OUTCOME_UNKNOWN
    )


def unknown_replace(reference: order_service_pb2.OrderReference, now_ns: int) -> order_service_pb2.ReplaceOrderResponse:
    """The amendment may have been made; repeating the request id is safe."""
    return order_service_pb2.ReplaceOrderResponse(
        order=_named(reference, now_ns), outcome=order_service_pb2.SUBMIT_OUTCOME_UNKNOWN
    )


def unknown_cancel(reference: order_service_pb2.OrderReference, now_ns: int) -> order_service_pb2.CancelOrderResponse:
    """The cancel may have been sent; repeating is safe."""
    return order_service_pb2.CancelOrderResponse(
        order=_named(reference, now_ns), outcome=order_service_pb2.CANCEL_OUTCOME_UNKNOWN
    )


def _named(reference: order_service_pb2.OrderReference, now_ns: int) -> order_pb2.Order:
    """An order of which only names are known; its life cycle is left unstated."""
    order = order_pb2.Order(updated_time=instant(now_ns))
    order.terms.account_id = reference.account_id
    order.terms.venue = reference.venue
    match reference.WhichOneof("id"):
        case "order_id":
            order.order_id = reference.order_id
        case "client_order_id":
            order.terms.client_order_id = reference.client_order_id
        case "venue_order_id":
            order.venue_order_ids.append(reference.venue_order_id)
    return order
