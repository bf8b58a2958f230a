"""One submit on its way, and the answer that an order's state makes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration

from venuemesh.errors import ClientOrderIdReused
from venuemesh.gateway.account import Account
from venuemesh.gateway.evidence import outcome_of
from venuemesh.gateway.order_wire import to_order
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.tickets import Draft
from venuemesh.gateway.venue import OrderTicket
from venuemesh.v1 import order_pb2
from venuemesh.v1 import order_service_pb2 as service


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One submit on its way: what the call that made it, and repeats of it, wait for."""

    fingerprint: bytes
    received_s: float
    journalled: asyncio.Future[None]
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    timings: service.SubmitTimings = field(default_factory=service.SubmitTimings)

    def fail(self, error: Exception) -> None:
        """Nothing was sent. Nobody may be waiting any more, and an error nobody reads is reported as ours."""
        self.journalled.set_exception(error)
        self.journalled.exception()


@dataclass(slots=True, kw_only=True)
class Begun:
    """One order of a call: what it became when its key was looked at.

    Attributes:
        answer: the first result, where the key is known.
        draft: an order to send, where it is not; neither is set where the first call is still under way.
        joined: whether the attempt is another call's.
        session_id: the order session it shall belong to; empty for none.
    """

    account: Account
    terms: order_pb2.NewOrder
    fingerprint: bytes
    answer: service.SubmitOrderResponse | None = None
    draft: Draft | None = None
    attempt: Attempt | None = None
    joined: bool = False
    session_id: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What makes the order unique."""
        return self.account.account_id, self.terms.client_order_id


@dataclass(frozen=True, slots=True)
class Entry:
    """An order of one action: what is sent, and what it is before it is sent."""

    attempt: Attempt
    ticket: OrderTicket
    state: OrderState


def response_of(state: OrderState, *, in_flight: bool, replayed: bool) -> service.SubmitOrderResponse:
    """What is known of a submit: the same for the first call and every repeat."""
    response = service.SubmitOrderResponse(
        order=to_order(state), outcome=outcome_of(state, in_flight=in_flight), replayed=replayed
    )
    if state.status == order_pb2.ORDER_STATUS_REJECTED and state.reject is not None:
        response.reject.CopyFrom(state.reject)
    return response


def reused(client_order_id: str, order_id: str) -> ClientOrderIdReused:
    """The refusal of a key that belongs to another order."""
    return ClientOrderIdReused(
        f"order.client_order_id: {client_order_id!r} belongs to order {order_id}, which has other content",
        field="order.client_order_id",
        metadata={"order_id": order_id, "client_order_id": client_order_id},
    )


def duration(seconds: float) -> Duration:
    """A proto duration."""
    nanos = int(seconds * 1e9)
    return Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)
