"""TWAP orders: the venue cuts them into immediate orders until they expire. Pure.

The venue's slice period is not published; half a minute is what its web client counts with. A slice names its parent.
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from decimal import Decimal

from simulator.engine.engine import Engine
from simulator.engine.slices import credit_slice
from simulator.engine.values import Order, TimeInForce
from simulator.lighter.orders import Extra, OrderType, OrderViews, TimeInForceCode

PERIOD_MS = 30_000


class Twaps:
    """Parents that still have slices to come."""

    def __init__(self, engine: Engine, orders: OrderViews) -> None:
        self._engine = engine
        self._orders = orders
        self._due: list[tuple[int, int]] = []

    def start(self, engine_id: int, now_ms: int) -> None:
        """Work a parent from now on, the first slice with the next passing of time."""
        heapq.heappush(self._due, (now_ms, engine_id))

    def run(self, now_ms: int) -> None:
        """Send every slice that is due; a parent that is done is forgotten."""
        while self._due and self._due[0][0] <= now_ms:
            at_ms, engine_id = heapq.heappop(self._due)
            parent = self._engine.order(engine_id)
            if parent is None or not parent.state.live:
                continue
            self._slice(parent, now_ms)
            if parent.state.live:
                heapq.heappush(self._due, (max(at_ms, now_ms) + PERIOD_MS, engine_id))

    def _slice(self, parent: Order, now_ms: int) -> None:
        extra = self._orders.extras.of(parent.order_id) or Extra()
        instrument = self._engine.markets[parent.instrument].instrument
        left = max(1, -(-(extra.expiry_ms - now_ms) // PERIOD_MS))
        quantity = max(instrument.lot, instrument.floor_quantity(parent.remaining / Decimal(left)))
        request = replace(
            parent.request,
            quantity=min(quantity, parent.remaining),
            time_in_force=TimeInForce.IMMEDIATE_OR_CANCEL,
            client_id=None,
        )
        outcome = self._engine.submit(parent.account, [request], now_ms)[0]
        if outcome.order is None:
            return
        child = Extra(
            type=OrderType.TWAP_SUB, time_in_force=TimeInForceCode.IMMEDIATE_OR_CANCEL, parent_id=parent.order_id
        )
        self._orders.extras.put(outcome.order.order_id, child)
        credit_slice(self._engine, parent, outcome.order, now_ms)
