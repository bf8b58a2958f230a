"""Which trace an order's events belong to, also those that come later and by themselves.

A fill arrives on the venue's stream, where no call is being served; it belongs to the trace of the call that sent the
order. Bounded, and only traces that are recorded somewhere are remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from venuemesh.telemetry import NO_HEADERS, sampled_headers

MAX_ORDERS = 10_000


class OrderTraces:
    """Trace headers by account and key of the orders that may still get events."""

    def __init__(self, capacity: int = MAX_ORDERS) -> None:
        self._capacity = capacity
        self._orders: OrderedDict[tuple[str, str], Mapping[str, str]] = OrderedDict()
        self._last: tuple[str, Mapping[str, str]] = ("", NO_HEADERS)

    def headers(self, account_id: str, client_order_id: str, event_id: str, causation_id: str) -> Mapping[str, str]:
        """What the event's message carries: the current span, else that of its order, else that of its cause.

        Args:
            client_order_id: of the order it is about; empty for others.
            causation_id: the event that caused it; an effect follows its cause at once.
        """
        found = sampled_headers()
        key = (account_id, client_order_id)
        if found and client_order_id:
            self._orders[key] = found
            if len(self._orders) > self._capacity:
                self._orders.popitem(last=False)
        elif not found and self._orders:
            found = self._orders.get(key, NO_HEADERS)
        if not found and causation_id and causation_id == self._last[0]:
            return self._last[1]
        if found or self._last[1]:
            self._last = (event_id, found)
        return found

    def ended(self, account_id: str, client_order_id: str) -> None:
        """An order is terminal: what still comes of it is no part of a call."""
        self._orders.pop((account_id, client_order_id), None)
