"""What the path of an order asks of risk: `router.risk_desk` is it, tests have others.

`admit` before anything is journalled, `covering` around each send, `forgo` for what was admitted and is not sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from router.risk_desk import Room
from router.venues import VenueLink
from venuemesh.v1 import order_pb2, order_service_pb2


class Admission(Protocol):
    """Checks orders, and holds room for each until it is settled."""

    async def admit(self, order: order_pb2.NewOrder, children: Sequence[order_pb2.NewOrder]) -> None:
        """Return when the order may go out as these children, with room taken for each.

        Args:
            children: what is sent, one per venue.
        Raises:
            MeshError: it may not; `sent` = no, and nothing is held.
        """

    def covering(self, orders: Sequence[order_pb2.NewOrder]) -> AbstractAsyncContextManager[Room]:
        """Hold room for orders while they are sent; orders that were not admitted are judged first."""

    def forgo(self, orders: Sequence[order_pb2.NewOrder]) -> None:
        """Orders that were admitted and will not be sent by this call."""


class AmendmentAdmission(Protocol):
    """Judges amendments as the orders they would make."""

    def amending(
        self, link: VenueLink, request: order_service_pb2.ReplaceOrderRequest
    ) -> AbstractAsyncContextManager[Callable[[order_service_pb2.ReplaceOrderResponse], None]]:
        """Hold room for what an amendment adds while it is sent; gives what takes the gateway's answer."""
