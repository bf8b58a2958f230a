"""The walk passes a mesh that keeps its promises, and fails at the step where one is broken."""

from __future__ import annotations

import pytest

from deploy.local.walkthrough import Setting, walk
from deploy.local.watching import StepFailed
from tests.integration.local.fake_mesh import ACCOUNT, SYMBOL, VENUE, Fault, serving


async def walked(fault: Fault) -> list[str]:
    """The story told; raises as the walk does."""
    story: list[str] = []
    async with serving(fault) as address:
        setting = Setting(
            router=address, aggregator=address, venue=VENUE, account_id=ACCOUNT, symbol=SYMBOL, run_id="walk-1"
        )
        await walk(setting, story.append)
    return story


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.REFUSES_BY_ANSWER])
async def test_walk_when_every_promise_holds_tells_each_step(fault: Fault) -> None:
    """One line per step, in the order of the main job."""
    story = await walked(fault)
    assert [line.split("  ")[1].strip() for line in story] == [
        "venues",
        "top of book",
        "rules",
        "portfolio",
        "submit",
        "executions",
        "portfolio",
        "same key again",
        "submit",
        "cancel",
        "bad order",
    ]
    text = "\n".join(story)
    assert "-> ACKNOWLEDGED, order id-0" in text
    assert "FILLED 0.00078 at 64124" in text
    assert "the stream shows 0.50078" in text
    assert "limit buy 0.00098 at 51298" in text
    assert "QUANTITY_NOT_POSITIVE" in text


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault.MAINNET, "bound to MAINNET, not to the simulator"),
        (Fault.STALE_BOOK, "the book is not fresh: venue link down"),
        (Fault.REJECTS, "the submit answered REJECTED, INSUFFICIENT_MARGIN: no margin"),
        (Fault.STREAM_CLOSES, "waited for the snapshot of orders, but the stream closed"),
        (Fault.POSITION_WRONG, r"waited for a position of 0.50078 .*last messages: delta"),
        (Fault.READ_DISAGREES, "GetPortfolio says -0.49922, the stream said 0.50078"),
        (Fault.NOT_REPLAYED, "not answered with replayed = true"),
        (Fault.CANCEL_UNKNOWN, "the cancel answered UNKNOWN"),
        (Fault.ACCEPTS_ZERO, "quantity 0 was answered ACKNOWLEDGED"),
    ],
)
async def test_walk_when_a_promise_is_broken_fails_there(fault: Fault, message: str) -> None:
    """Each step is verified, not only printed."""
    with pytest.raises(StepFailed, match=message):
        await walked(fault)


async def test_walk_when_nothing_listens_says_which_call_failed() -> None:
    """A mesh that is away is told in words, not by a traceback."""
    async with serving(Fault.NONE) as address:
        gone = address
    setting = Setting(router=gone, aggregator=gone, venue=VENUE, account_id=ACCOUNT, symbol=SYMBOL, run_id="walk-1")
    with pytest.raises(StepFailed, match="ListVenues failed with UNAVAILABLE"):
        await walk(setting, lambda line: None)
