"""Waiting for an order to reach a state, without polling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from venuemesh.gateway.orders import OrderState

Predicate = Callable[[OrderState], bool]


class OrderWaits:
    """Who waits for which order. Every wait is bounded by its time-out."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[Predicate, asyncio.Future[None]]]] = {}

    def on_change(self, state: OrderState) -> None:
        """Tell everybody whose wish the order's new state fulfils."""
        waiting = self._waiting.get(state.order_id)
        if not waiting:
            return
        for predicate, future in waiting:
            if not future.done() and predicate(state):
                future.set_result(None)

    async def until(self, state: OrderState, predicate: Predicate, timeout_s: float) -> bool:
        """Wait until `predicate` holds for the order; False when `timeout_s` passed first."""
        if predicate(state):
            return True
        if timeout_s <= 0:
            return False
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (predicate, future)
        self._waiting.setdefault(state.order_id, []).append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        else:
            return True
        finally:
            rest = self._waiting[state.order_id]
            rest.remove(entry)
            if not rest:
                del self._waiting[state.order_id]
