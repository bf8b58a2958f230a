"""What must agree before a new order is journalled at the router, and hears afterwards what became of it.

Two calls in the submit path: `admit` before anything is journalled or sent, `settle` once per child when its first
answer is known. A repeat of a key that was routed before is not admitted again: its children were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from venuemesh.v1 import order_pb2, order_service_pb2


class Admission(Protocol):
    """Checks orders; may hold something for each until it is settled."""

    async def admit(self, order: order_pb2.NewOrder, children: Sequence[order_pb2.NewOrder]) -> None:
        """Return when the order may go out as these children.

        Args:
            children: what is sent, one per venue; the order itself when it names its venue.
        Raises:
            MeshError: it may not; `sent` = no, and nothing is held.
        """

    def settle(self, child: order_pb2.NewOrder, answer: order_service_pb2.SubmitOrderResponse | None) -> None:
        """A child was answered; None: it certainly was not sent. UNKNOWN is an answer: it may be live."""


class AdmitAll:
    """No checks."""

    async def admit(self, order: order_pb2.NewOrder, children: Sequence[order_pb2.NewOrder]) -> None:
        """Agree."""

    def settle(self, child: order_pb2.NewOrder, answer: order_service_pb2.SubmitOrderResponse | None) -> None:
        """Hold nothing."""
