"""Everything `status` asks for, at once; what does not answer is said in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from venuemesh.cli.failure import as_json as failure_json
from venuemesh.cli.failure import word_of
from venuemesh.cli.grids import Facts, Part, moment, scope, word
from venuemesh.cli.link import Link
from venuemesh.cli.printing import as_json
from venuemesh.cli.session import Session
from venuemesh.cli.views import market
from venuemesh.errors import MeshError, Reason
from venuemesh.v1 import (
    operations_pb2,
    operations_service_pb2,
    portfolio_service_pb2,
    reconciliation_service_pb2,
    risk_pb2,
    risk_service_pb2,
    venue_pb2,
    venue_service_pb2,
)

_WELL = {venue_pb2.VENUE_STATE_TRADING, venue_pb2.VENUE_STATE_DEGRADED, venue_pb2.VENUE_STATE_POST_ONLY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Answers, each or the error that came instead."""

    health: dict[str, str | MeshError]
    venues: Any
    breakers: Any
    risk: Any
    stuck: Any
    portfolio: Any

    @property
    def well(self) -> bool:
        """Whether the services serve and every venue takes orders or at least post-only ones."""
        serving = all(one == "SERVING" for one in self.health.values())
        if not serving or isinstance(self.venues, MeshError):
            return False
        return all(venue.status.state in _WELL for venue in self.venues.venues)

    def as_json(self) -> dict[str, Any]:
        """The same for scripts: protobuf JSON of each answer, or what `--output json` says of an error."""

        def record(part: Any) -> Any:
            return failure_json(part) if isinstance(part, MeshError) else as_json(part)

        return {
            "well": self.well,
            "health": {
                name: failure_json(one) if isinstance(one, MeshError) else one for name, one in self.health.items()
            },
            "venues": record(self.venues),
            "circuitBreakers": record(self.breakers),
            "risk": record(self.risk),
            "uncertainOrders": record(self.stuck),
            "portfolio": record(self.portfolio),
        }


async def read(session: Session) -> Overview:
    """Ask all of it at once."""
    router, aggregator = session.router, session.aggregator
    health = (_health(router), _health(aggregator))
    answers = (
        _or_error(router.call(venue_service_pb2.ListVenuesRequest(), venue_service_pb2.ListVenuesResponse)),
        _or_error(
            router.call(
                operations_service_pb2.ListCircuitBreakersRequest(),
                operations_service_pb2.ListCircuitBreakersResponse,
            )
        ),
        _or_error(router.call(risk_service_pb2.GetRiskStateRequest(), risk_service_pb2.GetRiskStateResponse)),
        _or_error(
            router.call(
                reconciliation_service_pb2.ListUncertainOrdersRequest(),
                reconciliation_service_pb2.ListUncertainOrdersResponse,
            )
        ),
        _or_error(
            aggregator.call(portfolio_service_pb2.GetPortfolioRequest(), portfolio_service_pb2.GetPortfolioResponse)
        ),
    )
    of_router, of_aggregator, *found = await asyncio.gather(*health, *answers)
    venues, breakers, risk, stuck, portfolio = found
    return Overview(
        health={"router": of_router, "aggregator": of_aggregator},  # type: ignore[dict-item]
        venues=venues,
        breakers=breakers,
        risk=risk,
        stuck=stuck,
        portfolio=portfolio,
    )


async def _health(link: Link) -> str | MeshError:
    try:
        return await link.health()
    except MeshError as error:
        return error


async def _or_error(call: Awaitable[Message]) -> Message | MeshError:
    try:
        return await call
    except MeshError as error:
        return error


def shown(overview: Overview) -> list[Part]:
    """The same for people."""
    parts: list[Part] = [
        Facts(rows=[(name, _said(one) if isinstance(one, MeshError) else one) for name, one in overview.health.items()])
    ]
    if isinstance(overview.venues, MeshError):
        parts.append(Facts(rows=[("venues", _said(overview.venues))]))
    else:
        parts += market.venues(overview.venues)
    parts.append(
        Facts(
            rows=[
                ("breakers", _told(overview.breakers, _breakers)),
                ("trading", _told(overview.risk, _trading)),
                ("kill switch", _told(overview.risk, _switch)),
                ("orders in doubt", _told(overview.stuck, _doubts)),
                ("portfolio", _told(overview.portfolio, _portfolio)),
            ]
        )
    )
    return parts


def _said(error: MeshError) -> str:
    if error.reason is Reason.NOT_IMPLEMENTED:
        return "not served by this release"
    return f"{word_of(error)}: {error}"


def _told(answer: Any, tell: Any) -> str:
    return _said(answer) if isinstance(answer, MeshError) else str(tell(answer))


def _breakers(answer: Any) -> str:
    open_ones = [
        f"{one.venue} {word(one, 'state')}: {one.cause}"
        for one in answer.circuit_breakers
        if one.state != operations_pb2.CIRCUIT_STATE_CLOSED
    ]
    return "; ".join(open_ones) or "CLOSED"


def _trading(answer: Any) -> str:
    states = [
        f"{word(one, 'state')} for {scope(one.scope)} by {one.set_by}: {one.reason}"
        for one in answer.risk_state.trading_states
        if one.state != risk_pb2.TRADING_STATE_ACTIVE
    ]
    return "; ".join(states) or "ACTIVE"


def _switch(answer: Any) -> str:
    state = answer.risk_state
    engaged = [
        f"ENGAGED for {scope(one.scope)} by {one.engaged_by} since {moment(one.engaged_time)}: {one.reason}"
        for one in state.kill_switches or [state.kill_switch]
        if one.engaged
    ]
    return "; ".join(engaged) or "released"


def _doubts(answer: Any) -> str:
    count = len(answer.uncertain_orders)
    more = " or more" if answer.next_page_token else ""
    return f"{count}{more}: see `venuemesh stuck`" if count else "0"


def _portfolio(answer: Any) -> str:
    stale = [f"{part.part} ({part.cause})" for part in answer.portfolio.stale_parts]
    return "STALE: " + "; ".join(stale) if stale else "FRESH"
