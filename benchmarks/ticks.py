"""From a trade at the venue to a client's stream: `python -m benchmarks.ticks`.

Trades are made one by one through the simulator's admin interface, each with a quantity of its own. The same trade is
awaited at a bare client of the venue's WebSocket, at a stream of the gateway and at one of the router, all in this
process. "after the venue's frame" is the time between the bare client's frame and the mesh's message.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
import websockets.asyncio.client as websockets

from benchmarks.contenders import SYMBOL, channel_to
from benchmarks.figures import in_ms
from benchmarks.submits import reference_price
from benchmarks.world import Mesh, mesh
from venuemesh.v1 import market_data_service_pb2, market_data_service_pb2_grpc

COIN = "BTC"
START_S = 20.0
WAIT_S = 2.0
PAUSE_S = 0.05


class _Seen:
    """When each quantity was seen at each place."""

    def __init__(self) -> None:
        self.at_s: dict[tuple[str, Decimal], float] = {}
        self._changed = asyncio.Condition()

    async def note(self, place: str, quantity: Decimal) -> None:
        now_s = time.perf_counter()
        async with self._changed:
            self.at_s.setdefault((place, quantity), now_s)
            self._changed.notify_all()

    async def wait(self, place: str, quantity: Decimal) -> float:
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(lambda: (place, quantity) in self.at_s)
        return self.at_s[(place, quantity)]


async def _raw(url: str, seen: _Seen, ready: Callable[[], None]) -> None:
    async with websockets.connect(url, compression=None) as socket:
        subscription = {"method": "subscribe", "subscription": {"type": "trades", "coin": COIN}}
        await socket.send(json.dumps(subscription))
        async for text in socket:
            frame = json.loads(text)
            if frame["channel"] == "subscriptionResponse":
                ready()
            if frame["channel"] == "trades":
                for trade in frame["data"]:
                    await seen.note("venue", Decimal(trade["sz"]))


async def _stream(place: str, channel: Any, seen: _Seen, ready: Callable[[], None]) -> None:
    stub: Any = market_data_service_pb2_grpc.MarketDataServiceStub(channel)
    request = market_data_service_pb2.StreamTradesRequest(venue="hyperliquid", symbols=[SYMBOL])
    call = stub.StreamTrades(request)
    async for message in call:
        if message.WhichOneof("body") == "acknowledgement":
            ready()
        if message.WhichOneof("body") == "trade":
            await seen.note(place, Decimal(message.trade.quantity))


async def measure(mesh: Mesh, *, trades: int) -> dict[str, Any]:
    """Latencies of as many trades."""
    seen, facts, price = _Seen(), mesh.known["simulator"], await reference_price(mesh)
    places = {"gateway": mesh.grpc("gateway_hyperliquid"), "router": mesh.grpc("router")}
    ready, split = asyncio.Semaphore(0), 0
    times: dict[str, list[float]] = {name: [] for name in ("venue frame", "gateway", "router")}
    late: dict[str, list[float]] = {name: [] for name in places}
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        tasks = [asyncio.create_task(_raw(facts["hyperliquid_ws_url"], seen, ready.release))]
        for name, address in places.items():
            channel = await stack.enter_async_context(channel_to(address))
            tasks.append(asyncio.create_task(_stream(name, channel, seen, ready.release)))
        for _ in tasks:
            await ready.acquire()
        await _until_live(session, facts["hyperliquid_url"], price, seen, ("venue", *places))
        for number in range(trades):
            quantity = Decimal(101 + number).scaleb(-5)
            if any((place, quantity) in seen.at_s for place in ("venue", *places)):
                continue  # the venue's own traders chose the same
            began_s = time.perf_counter()
            await _trade(session, facts["hyperliquid_url"], price, quantity)
            try:
                at_s = {place: await seen.wait(place, quantity) for place in ("venue", *places)}
            except TimeoutError:
                split += 1  # over two levels of the book, so that no trade has its quantity
                continue
            await asyncio.sleep(PAUSE_S)
            times["venue frame"].append(at_s["venue"] - began_s)
            for name in places:
                times[name].append(at_s[name] - began_s)
                late[name].append(at_s[name] - at_s["venue"])
        if split > trades // 5:
            raise RuntimeError(f"{split} of {trades} trades were not seen everywhere")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return {
        "from the request that trades": {name: in_ms(values) for name, values in times.items()},
        "trades over two levels, left out": split,
        "after the venue's frame": {name: in_ms(values) for name, values in late.items()},
    }


async def _until_live(
    session: aiohttp.ClientSession, url: str, price: Decimal, seen: _Seen, places: tuple[str, ...]
) -> None:
    """Trade until every place has seen one: a stream is acknowledged before the venue has answered its subscription."""
    async with asyncio.timeout(START_S):
        while len({place for place, _ in seen.at_s}) < len(places):
            await _trade(session, url, price, Decimal(1).scaleb(-3))
            await asyncio.sleep(PAUSE_S)


async def _trade(session: aiohttp.ClientSession, url: str, price: Decimal, quantity: Decimal) -> None:
    """A house order that takes from the best bid."""
    body = {"coin": COIN, "side": "sell", "price": str(price), "size": str(quantity)}
    async with session.post(f"{url}/sim/house/order", json=body) as answer:
        if answer.status != 200:
            raise RuntimeError(await answer.text())


async def _alone(trades: int) -> None:
    with tempfile.TemporaryDirectory(prefix="venuemesh-bench-") as folder:
        async with mesh(Path(folder), {}) as running:
            print(json.dumps(await measure(running, trades=trades), indent=2))


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trades", type=int, default=200)
    uvloop.run(_alone(parser.parse_args().trades))
    return 0


if __name__ == "__main__":
    sys.exit(main())
