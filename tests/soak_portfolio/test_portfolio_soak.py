"""Aggregator, broker and gateway killed at random while a client follows the portfolio: it ends with the journal's.

A longer run: `PORTFOLIO_SOAK_ROUNDS=100 PORTFOLIO_SOAK_SEED=7 python -m pytest tests/soak_portfolio -s`.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import text_format

from aggregator.aggregate import Aggregate
from tests.e2e.mesh import Mesh, limit_order, market_order, running_mesh
from tests.unit.aggregator.gateway_events import PortfolioClient
from venuemesh.bus import Bus, BusOptions
from venuemesh.clock import SystemClock
from venuemesh.journal import epoch_of
from venuemesh.subjects import EVENT_STREAM, ROOT
from venuemesh.v1 import portfolio_pb2, portfolio_service_pb2, stream_pb2

pytestmark = pytest.mark.xdist_group("e2e")
ROUNDS = int(os.environ.get("PORTFOLIO_SOAK_ROUNDS", "3"))
SEED = int(os.environ.get("PORTFOLIO_SOAK_SEED", "20261120"))
VICTIMS = ("aggregator", "nats", "gateway_hyperliquid")
CALL_S = 10.0
RECOVERY_S = 90.0
RETRY_S = 0.05
# Small enough that restarts find snapshots, and that orders left uncertain by a kill are soon settled.
SETTINGS = {
    "AGGREGATOR_FOLD__SNAPSHOT_EVERY_S": "0.2",
    "AGGREGATOR_FOLD__SNAPSHOT_MIN_MESSAGES": "5",
    "GATEWAY_HYPERLIQUID_ORDER_EXPIRY_S": "1.0",
    "GATEWAY_HYPERLIQUID_SETTLE_DELAY_S": "0.5",
}


class Follower:
    """A client that folds its stream and comes back behind its last number whenever the stream ends."""

    def __init__(self, mesh: Mesh) -> None:
        self.client = PortfolioClient()
        self.resumed = 0
        self.began_at = 0
        self._mesh = mesh
        self._whole = False
        self._moved = asyncio.Event()

    async def run(self) -> None:
        while True:
            with suppress(grpc.aio.AioRpcError):
                await self._follow()
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        client = self.client
        options = stream_pb2.StreamOptions(heartbeat_interval_ms=1_000)
        if client.sequence:
            options.resume_after.epoch, options.resume_after.sequence = client.epoch, client.sequence
        call = self._mesh.portfolio().StreamPortfolio(portfolio_service_pb2.StreamPortfolioRequest(options=options))
        try:
            async for message in call:
                if message.WhichOneof("body") == "acknowledgement":
                    outcome = message.acknowledgement.resume_outcome
                    assert outcome != stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD, message.acknowledgement.resume_note
                    self.resumed += outcome == stream_pb2.RESUME_OUTCOME_RESUMED
                client.take(message)
                if message.WhichOneof("body") == "snapshot":
                    self.began_at = message.header.sequence
                # Marks keep coming, and a catch-up ends with all marks and totals: both are deltas without an event.
                self._whole = not message.delta.HasField("event") and message.WhichOneof("body") != "acknowledgement"
                self._moved.set()
        finally:
            call.cancel()

    async def reach(self, sequence: int) -> None:
        """Wait until the client's copy is that of this log sequence, all marks and totals of its state included."""
        async with asyncio.timeout(RECOVERY_S):
            while self.client.sequence < sequence or not self._whole:
                self._moved.clear()
                await self._moved.wait()


async def trade(mesh: Mesh, key: str, chance: random.Random) -> None:
    """Send an order under its key until somebody answers."""
    request = market_order(key) if chance.random() < 0.7 else limit_order(key, price="1000")
    async with asyncio.timeout(RECOVERY_S):
        while True:
            try:
                await mesh.orders().SubmitOrder(request, timeout=CALL_S)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(RETRY_S)
            else:
                return


async def journal(mesh: Mesh) -> tuple[Aggregate, list[tuple[int, str]]]:
    """The log as it is stored, folded here, and its events with their places in the order they were folded in."""
    options = BusOptions(servers=[mesh.known["nats"]["url"]], name="soak")
    async with Bus.connect(options) as bus:
        aggregate = Aggregate(SystemClock(), epoch_of(await bus.stream_created(EVENT_STREAM)))
        async with aclosing(bus.replay(EVENT_STREAM, [f"{ROOT}.>"])) as messages:
            async for message in messages:
                assert aggregate.take(message) == []
    events = [(entry.sequence, entry.value.event_id) async for entry in aggregate.event_history(0, aggregate.sequence)]
    return aggregate, events


def without_marks(portfolio: portfolio_pb2.Portfolio) -> str:
    """What the log alone decides, as text that shows a difference: all but marks, what follows from them, staleness."""
    copied = portfolio_pb2.Portfolio.FromString(portfolio.SerializeToString())
    for name in ("net_positions", "stale_parts", "position", "as_of_time"):
        copied.ClearField(name)  # type: ignore[arg-type]  # a name of the message's
    for account in copied.accounts:
        for position in account.positions:
            for name in ("mark_price", "unrealized_pnl", "liquidation_distance_bps"):
                position.ClearField(name)  # type: ignore[arg-type]
    for totals in copied.totals:
        for name in ("equity", "unrealized_pnl", "gross_exposure", "net_exposure", "leverage", "leaves_out"):
            totals.ClearField(name)  # type: ignore[arg-type]
    return text_format.MessageToString(copied)


async def test_client_that_follows_through_kills_ends_with_the_journals_portfolio(tmp_path: Path) -> None:
    """Properties 40 and 41 over the whole mesh: each event once and in order, and the folded copy is the journal's."""
    chance = random.Random(SEED)
    async with running_mesh(tmp_path, settings=SETTINGS) as mesh, asyncio.TaskGroup() as tasks:
        follower = Follower(mesh)
        following = tasks.create_task(follower.run(), name="follower")
        await trade(mesh, "before", chance)
        for turn in range(ROUNDS):
            trading = [
                tasks.create_task(trade(mesh, f"r{turn}-{n}", random.Random(chance.random())), name="trade")
                for n in range(3)
            ]
            await asyncio.sleep(chance.random() * 0.3)
            with suppress(ProcessLookupError):  # it has not come back from the last time
                mesh.kill(VICTIMS[turn % len(VICTIMS)] if turn < len(VICTIMS) else chance.choice(VICTIMS))
            await asyncio.gather(*trading)
        aggregate, events = await agreement(mesh, follower)
        following.cancel()
    assert follower.resumed >= 1
    assert sum(account.fill_count for account in follower.client.portfolio.accounts) >= 1
    assert follower.client.events == [name for place, name in events if place > follower.began_at]
    assert without_marks(follower.client.portfolio) == without_marks(aggregate.portfolio.message())


async def agreement(mesh: Mesh, follower: Follower) -> tuple[Aggregate, list[tuple[int, str]]]:
    """The journal at an instant when nothing more is written and the client has all of it."""
    async with asyncio.timeout(RECOVERY_S):
        while True:
            aggregate, events = await journal(mesh)
            await follower.reach(aggregate.sequence)
            if follower.client.sequence == aggregate.sequence:
                return aggregate, events


def test_what_is_left_out_of_the_comparison_is_only_what_marks_decide() -> None:
    """A wrong balance, position or order would be seen."""
    portfolio = portfolio_pb2.Portfolio()
    account: Any = portfolio.accounts.add(venue="v", account_id="a", fill_count=1)
    account.positions.add(symbol="s", quantity="1", mark_price="5")
    before = without_marks(portfolio)
    account.positions[0].mark_price = "6"
    assert without_marks(portfolio) == before
    account.positions[0].quantity = "2"
    assert without_marks(portfolio) != before
