"""Waiting for an order's state."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.unit.venuemesh.gateway.order_facts import new_order
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.waits import OrderWaits
from venuemesh.v1 import order_pb2 as pb


def done(state: OrderState) -> bool:
    return state.terminal


async def test_until_when_it_holds_already_returns_at_once() -> None:
    """Even with no time left."""
    state = replace(new_order(), status=pb.ORDER_STATUS_FILLED)
    assert await OrderWaits().until(state, done, 0)


async def test_until_with_no_time_left_does_not_wait() -> None:
    """A deadline in the past is an answer, not a fault."""
    assert not await OrderWaits().until(new_order(), done, -1)


async def test_until_is_woken_by_the_change_it_waits_for_and_by_no_other() -> None:
    """Several waiters, several orders: each by its own wish; nothing is kept afterwards."""
    waits, state, other = OrderWaits(), new_order("a"), new_order("b")
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(waits.until(state, done, 60))
        second = tasks.create_task(waits.until(state, lambda order: order.version > 1, 60))
        await asyncio.sleep(0)
        waits.on_change(replace(other, status=pb.ORDER_STATUS_FILLED))
        waits.on_change(replace(state, version=2))
        assert await second
        assert not first.done()
        waits.on_change(replace(state, status=pb.ORDER_STATUS_FILLED))
        assert await first
    assert not waits._waiting


async def test_until_leaves_nothing_behind_when_it_times_out_or_is_cancelled() -> None:
    """Callers that hang up do not pile up."""
    waits = OrderWaits()
    assert not await waits.until(new_order(), done, 0.001)
    task = asyncio.create_task(waits.until(new_order(), done, 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not waits._waiting
