"""Orders and cancels a second, and cancels when the budget for orders is spent: `python -m benchmarks.throughput`.

Bursts stay below what the venue allows in a minute, so each kind has one. The last part goes beyond on purpose: orders
until the gateway's own limiter refuses them, then cancels, every one of which must pass.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.bare import bare
from benchmarks.contenders import NotTaken, OverGrpc, channel_to
from benchmarks.figures import in_ms
from benchmarks.submits import reference_price
from benchmarks.world import Mesh, mesh
from venuemesh.v1 import error_pb2, order_service_pb2

WORKERS = 16
BUDGET_S = 61.0
"""After this long the venue's budget of a minute is whole again."""
MOST_ORDERS = 3_000
PATIENCE_S = 0.5
"""How long an order that the limiter holds back is waited for."""
KEPT = 50
"""Orders whose cancels are timed when the budget is spent."""


async def _at_once(requests: Sequence[Any], work: Callable[[Any], Awaitable[None]]) -> float:
    """Requests a second with `WORKERS` under way at any time."""
    waiting = iter(requests)

    async def worker() -> None:
        for request in waiting:
            await work(request)

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(WORKERS):
            tasks.create_task(worker())
    return len(requests) / (time.perf_counter() - began_s)


async def measure(
    mesh: Mesh, *, orders: int, most: int = MOST_ORDERS, refill_s: float = BUDGET_S, patience_s: float = PATIENCE_S
) -> dict[str, Any]:
    """Rates through gateway, router and a bare echo, then the spent budget at the gateway.

    Args:
        refill_s: waited before that, so that nothing spent earlier comes back while it lasts.
        patience_s: what a caller gives an order once the budget is spent; it is held back for that long.
    """
    price, run_id = await reference_price(mesh), f"t{time.time_ns() // 1_000_000}"
    found: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        addresses = {
            "gateway": mesh.grpc("gateway_hyperliquid"),
            "router": mesh.grpc("router"),
            "bare echo": await stack.enter_async_context(bare()),
        }
        for name, address in addresses.items():
            channel = await stack.enter_async_context(channel_to(address))
            way = OverGrpc(channel, venue="hyperliquid", price=price, run_id=f"{name[0]}{run_id}")
            requests = [way.request() for _ in range(orders)]
            found[name] = {"submits_per_s": round(await _at_once(requests, way.send), 1)}
            if name != "bare echo":
                found[name]["cancels_per_s"] = round(await _at_once(requests, way.take_back), 1)
            if name == "gateway":
                gateway = way
        await asyncio.sleep(refill_s)
        found["spent budget"] = await _spent(gateway, most, patience_s)
    return found


async def _spent(way: OverGrpc, most: int, patience_s: float) -> dict[str, Any]:
    """Orders until one is held back; then cancels, one after the other, while many more orders want to pass."""
    live: list[Any] = []
    taken = held = 0
    for _ in range(most):
        request = way.request()
        try:
            await way.send(request, patience_s)
        except NotTaken as error:
            if not _is_held(error):
                raise
            held += 1
            break
        taken += 1
        live.append(request)
        if len(live) > KEPT:
            await way.take_back(live.pop(0))
    times_s: list[float] = []

    async def press() -> None:
        nonlocal held
        while len(times_s) < len(live):
            try:
                await way.send(way.request(), patience_s)
            except NotTaken as error:
                held += _is_held(error)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WORKERS):
            tasks.create_task(press())
        await asyncio.sleep(patience_s)
        for request in live:
            began_s = time.perf_counter()
            await way.take_back(request)
            times_s.append(time.perf_counter() - began_s)
    return {"orders_before": taken, "orders_held": held, "callers": WORKERS, "cancels": in_ms(times_s)}


def _is_held(error: NotTaken) -> bool:
    """Whether the gateway's own limiter holds an order back: it waits there, or was refused at once."""
    pending = error.outcome == order_service_pb2.SUBMIT_OUTCOME_PENDING
    return pending or error.reason == error_pb2.REASON_RATE_LIMIT_LOCAL


async def _alone(orders: int) -> None:
    with tempfile.TemporaryDirectory(prefix="venuemesh-bench-") as folder:
        async with mesh(Path(folder), {}) as running:
            print(json.dumps(await measure(running, orders=orders), indent=2))


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=400)
    uvloop.run(_alone(parser.parse_args().orders))
    return 0


if __name__ == "__main__":
    sys.exit(main())
