"""What the adapter says is left of the venue's limits."""

from __future__ import annotations

from pathlib import Path

from tests.integration.hypercore.adapter.world import World, sim_settings, world
from venuemesh.gateway.venue import Placed, Refused
from venuemesh.v1 import operations_pb2


def quota(found: World, limiter: str) -> operations_pb2.Quota:
    """The row of a limiter."""
    (row,) = [row for row in found.venue.quotas() if row.limiter == limiter]
    return row


async def _budget_read(found: World) -> None:
    await found.sink.until(lambda: any(row.limiter == "address.main" for row in found.venue.quotas()))


async def test_quotas_show_every_limiter_with_capacity_kept_for_cancels(tmp_path: Path) -> None:
    """Those of the IP address, the posts of the account and its address budget."""
    async with world(tmp_path) as found:
        await _budget_read(found)
        rows = {row.limiter: row for row in found.venue.quotas()}
        assert set(rows) == {
            "ip_weight",
            "websocket_messages",
            "websocket_connections",
            "websocket_posts.main",
            "address.main",
        }
        assert rows["ip_weight"].reserved_for_cancels == 120
        assert rows["ip_weight"].remaining < rows["ip_weight"].limit
        assert rows["ip_weight"].HasField("reset_after")
        assert rows["websocket_posts.main"].reserved_for_cancels == 5
        assert all(row.venue == "hyperliquid" for row in rows.values())


async def test_address_budget_counts_orders_between_readings(tmp_path: Path) -> None:
    """The venue is not asked again for each order."""
    async with world(tmp_path) as found:
        await _budget_read(found)
        before = quota(found, "address.main").remaining
        for _ in range(3):
            assert isinstance(await found.venue.place_order(found.ticket(), lambda: None), Placed)
        assert quota(found, "address.main").remaining == before - 3


async def test_address_budget_when_exhausted_takes_the_numbers_of_the_refusal(tmp_path: Path) -> None:
    """Orders are refused, cancels have a reserve and the rows say so."""
    async with world(tmp_path, simulator_settings=sim_settings(address_budget=2)) as found:
        await _budget_read(found)
        answers = [await found.venue.place_order(found.ticket(), lambda: None) for _ in range(4)]
        assert any(isinstance(answer, Refused) for answer in answers)
        row = quota(found, "address.main")
        assert row.remaining == row.reserved_for_cancels
