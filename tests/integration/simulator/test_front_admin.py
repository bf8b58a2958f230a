"""The front's own admin routes, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from simulator.clock import SteppedClock
from simulator.engine.chance import SplitMix
from simulator.engine.population import QUIET
from simulator.faults import FaultPlan
from simulator.hyperliquid import admin
from simulator.hyperliquid.app import HyperliquidApp
from simulator.hyperliquid.venue import Venue, VenueSettings

START_MS = 1_790_000_000_000
Client = Any


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A front with its admin routes."""
    venue = Venue(VenueSettings(), QUIET, SplitMix(1), START_MS)
    clock = SteppedClock(START_MS * 1_000_000)
    app = HyperliquidApp(venue, clock, FaultPlan(), ip_weight_per_minute=0, idle_close_s=60)
    app.application.add_routes(admin.routes(app))
    async with TestClient(TestServer(app.application)) as made:
        made.venue = venue  # type: ignore[attr-defined]
        yield made


async def post(client: Client, path: str, **body: Any) -> int:
    """Status of an admin request."""
    async with client.post(f"/sim/hyperliquid/{path}", json=body) as answer:
        return int(answer.status)


async def test_switches_when_posted_take_effect(client: Client) -> None:
    """Each route does what the venue offers in process."""
    venue = client.venue
    assert await post(client, "post_only", until_ms=START_MS + 5) == 200
    assert venue.post_only_until_ms == START_MS + 5
    assert await post(client, "open_interest", coin="ETH", cap="0", step="100") == 200
    assert venue.at_open_interest_cap("") == ["ETH"]
    assert await post(client, "open_interest", coin="ETH") == 200
    assert venue.at_open_interest_cap("") == []
    assert await post(client, "retention", orders=7, changes=9) == 200
    assert (venue.engine.rules.kept_closed_orders, venue.engine.rules.kept_changes) == (7, 9)
    assert await post(client, "session", coin="xyz:TSLA", session="internal") == 200
    async with client.get("/sim/hyperliquid/sessions") as answer:
        sessions = await answer.json()
    assert (sessions["xyz:TSLA"], sessions["xyz:NVDA"]) == ("internal", "external")
    assert await post(client, "session", coin="xyz:TSLA", session="external", price="440") == 200
    assert venue.engine.markets["xyz:TSLA"].mark == 440
    assert await post(client, "halt", coin="xyz:TSLA") == 200
    assert not venue.engine.markets["xyz:TSLA"].instrument.open


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("halt", {"coin": "NOPE"}),
        ("halt", {}),
        ("open_interest", {"coin": "NOPE", "cap": "1"}),
        ("session", {"coin": "xyz:TSLA", "session": "sleepy"}),
        ("session", {"coin": "xyz:TSLA", "session": "external"}),
    ],
)
async def test_switches_when_misused_are_refused(client: Client, path: str, body: dict[str, Any]) -> None:
    """Unknown coins, missing or invalid fields."""
    assert await post(client, path, **body) == 400
