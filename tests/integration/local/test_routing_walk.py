"""The walk over several venues passes a router that takes the cheaper one, and fails where its word is not so."""

from __future__ import annotations

import grpc.aio
import pytest

from deploy.local.routing_walk import RoutedSetting, RoutingWalk
from deploy.local.watching import StepFailed
from tests.integration.local.fake_mesh import ACCOUNT, CHEAPER, SYMBOL, VENUE, Fault, serving


async def walked(fault: Fault) -> list[str]:
    """The story told; raises as the walk does."""
    story: list[str] = []
    async with serving(fault) as address, grpc.aio.insecure_channel(address) as router:
        setting = RoutedSetting(
            venues=(VENUE, CHEAPER), account_id=ACCOUNT, symbol=SYMBOL, quantity="0.01", run_id="walk-1"
        )
        await RoutingWalk(setting, story.append, router).run()
    return story


async def test_walk_when_the_cheaper_book_is_taken_tells_why() -> None:
    """Both venues with price and score, the loser with what it costs more."""
    story = await walked(Fault.NONE)
    steps = ["plan", "why", "first", "next", "check", "routed", "check", "same key again"]
    assert [line.split("  ")[1].strip() for line in story] == steps
    assert story[2].endswith("lighter: 64120 each, best ask 64120, score 64120: the lowest")
    assert story[3].endswith("hyperliquid: 64124 each, best ask 64124, score 64124: dearer by 4 each")
    assert "FILLED 0.01 at lighter for 64120 each" in story[5]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault.PLANS_DEARER, "hyperliquid was chosen, and cheaper was lighter"),
        (Fault.SEES_OTHER_BOOKS, "none of 5 plans chose the cheaper book; the last: hyperliquid was chosen"),
        (Fault.SEES_ONE_BOOK, "the plan saw no price for hyperliquid: .*left out, VENUE_DISCONNECTED"),
        (Fault.SENDS_ELSEWHERE, "the order went to hyperliquid, the plan said lighter"),
        (Fault.ROUTE_RESTS, "the routed order is NEW"),
        (Fault.ROUTES_ANEW, "the same key was routed anew"),
    ],
)
async def test_walk_when_the_choice_is_not_what_is_said_fails_there(fault: Fault, message: str) -> None:
    """Each claim is compared with something else than itself."""
    with pytest.raises(StepFailed, match=message):
        await walked(fault)
