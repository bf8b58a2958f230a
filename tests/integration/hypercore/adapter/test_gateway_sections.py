"""What a caller sees of trade.xyz's hours, halts, caps and oracle, at the gateway and through the router."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc.aio

from simulator.faults import Fault, FaultKind
from tests.broker import Broker
from tests.integration.hypercore.adapter.gateway import LIMIT_S, Whole, whole
from tests.integration.hypercore.adapter.world import ADDRESS, AGENT, sim_settings
from tests.integration.router.support import running
from venuemesh.v1 import instrument_pb2, stream_pb2, venue_pb2, venue_service_pb2, venue_service_pb2_grpc

VENUE = "tradexyz"
FRESH, STALE = stream_pb2.FRESHNESS_FRESH, stream_pb2.FRESHNESS_STALE


@dataclass(frozen=True)
class Served:
    """A gateway as the router's tests name one."""

    venue: str
    address: str
    _server: Any


@asynccontextmanager
async def tradexyz(broker: Broker, folder: Path) -> AsyncIterator[Whole]:
    """A gateway of the dex `xyz`."""
    settings = sim_settings(dex_accounts={ADDRESS: "500"}, agents={AGENT: ADDRESS})
    async with whole(broker, folder, simulator_settings=settings, dex="xyz", venue=VENUE, spot=False) as found:
        yield found


async def read_until(call: Any, wanted: Callable[[venue_pb2.SectionStatus], bool]) -> venue_pb2.SectionStatus:
    """The first status of the section `xyz` that is as wanted."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            message = await call.read()
            assert message is not grpc.aio.EOF
            for section in message.venue_status.sections:
                assert section.venue_section == "xyz"
                if wanted(section):
                    return section


def is_fresh(section: venue_pb2.SectionStatus) -> bool:
    """Whether reference prices have come."""
    return section.oracle_freshness == FRESH


async def test_venue_says_that_it_trades_around_the_clock_and_that_sessions_are_not_told(
    broker: Broker, tmp_path: Path
) -> None:
    """Nothing is guessed from a calendar; the reference prices themselves are followed."""
    async with tradexyz(broker, tmp_path) as found:
        stream = found.gateway.venues.StreamVenueStatus(venue_service_pb2.StreamVenueStatusRequest())
        section = await read_until(stream, is_fresh)
        stream.cancel()
        assert section.oracle_session == instrument_pb2.ORACLE_SESSION_UNSPECIFIED
        assert section.oracle_time.ToNanoseconds() > 0
        assert (section.instruments_halted, section.instruments_delisted > 0) == (0, True)
        venue = (await found.gateway.venues.GetVenue(venue_service_pb2.GetVenueRequest())).venue
        assert venue.capabilities.trading_hours == venue_pb2.TRADING_HOURS_CONTINUOUS
        found.simulator.set_price("xyz:TSLA", "400", mark="402")
        async with asyncio.timeout(LIMIT_S):
            while section.max_mark_distance_bps != "50":
                venue = (await found.gateway.venues.GetVenue(venue_service_pb2.GetVenueRequest())).venue
                (section,) = venue.status.sections
                await asyncio.sleep(0.005)
        assert section.max_mark_distance_symbol == "TSLA/USDC:USDC"


async def test_caps_halts_and_lost_oracle_are_streamed_through_the_router(broker: Broker, tmp_path: Path) -> None:
    """Each change as it is noticed: at the next listing for caps and halts, at once where the link is lost."""
    async with tradexyz(broker, tmp_path) as found:
        served = Served(VENUE, found.gateway.server.address, found.gateway.server)
        async with running(broker.url, served) as (_, channel):  # type: ignore[arg-type]
            stream = venue_service_pb2_grpc.VenueServiceStub(channel).StreamVenueStatus(
                venue_service_pb2.StreamVenueStatusRequest()
            )
            before = await read_until(stream, is_fresh)
            now_ms = found.simulator.now_ms()
            found.simulator.venue.set_open_interest_cap("xyz:GOLD", Decimal(0), now_ms)
            found.simulator.venue.halt("xyz:TSLA", now_ms)
            found.gateway.core.refresh.read_now()  # read the listing now
            after = await read_until(stream, lambda section: bool(section.instruments_at_open_interest_cap))
            assert after.instruments_at_open_interest_cap == 1
            assert after.instruments_trading == before.instruments_trading - 1
            assert after.instruments_delisted == before.instruments_delisted + 1
            found.simulator.faults.add(Fault(kind=FaultKind.REFUSE_CONNECTIONS, count=0))
            found.simulator.cut_sockets()
            lost = await read_until(stream, lambda section: section.oracle_freshness == STALE)
            assert "the market data link is down" in lost.oracle_cause
            found.simulator.faults.clear()
            await read_until(stream, is_fresh)
            stream.cancel()
