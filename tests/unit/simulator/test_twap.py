"""TWAP: slices on the venue's time, rows, refusals, streams."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from simulator.engine.chance import SplitMix
from simulator.engine.events import TwapRequest, TwapState
from simulator.engine.twaps import TwapDesk
from simulator.engine.values import Reason, Side
from simulator.hyperliquid.rows import ZERO_HASH
from tests.unit.simulator.engine_world import ALICE, BUY, HOUSE, PERP, SELL, START_MS, World
from tests.unit.simulator.front_world import USER, Front
from tests.unit.simulator.listening import Ear
from tests.unit.simulator.recordings import recorded

SLICE_MS = 30_000
RUNNING = {"type": "twapOrder"}


def twap(**changes: Any) -> dict[str, Any]:
    """A five minute TWAP to buy 1.1 ETH: eleven slices of 0.1."""
    terms = {"a": 1, "b": True, "s": "1.1", "r": False, "m": 5, "t": False}
    return {"type": "twapOrder", "twap": terms | changes}


def start(front: Front, **changes: Any) -> int:
    """Start a TWAP; its id."""
    body = front.act(twap(**changes))
    assert body["response"]["type"] == "twapOrder"
    return int(body["response"]["data"]["status"]["running"]["twapId"])


def liquid() -> Front:
    """A venue with asks at 3900 and bids at 3890."""
    front = Front(cash="100000")
    front.house(Side.SELL, "50", "3900")
    front.house(Side.BUY, "50", "3890")
    return front


def pass_time(front: Front, milliseconds: int) -> None:
    """Let time pass."""
    front.now_ms += milliseconds
    front.venue.step(front.now_ms)


def test_twap_when_time_passes_places_one_slice_every_thirty_seconds() -> None:
    """The first at once, the last at the end; each fill names the TWAP and has a zero hash."""
    front = liquid()
    number = start(front)
    assert len(front.ask("userFills")) == 1
    for _ in range(10):
        pass_time(front, SLICE_MS)
    fills = front.ask("userFills")
    assert [fill["sz"] for fill in fills] == ["0.1"] * 11
    assert {fill["twapId"] for fill in fills} == {number}
    assert {fill["hash"] for fill in fills} == {ZERO_HASH}
    assert fills[0]["time"] - fills[-1]["time"] == 10 * SLICE_MS
    slices = front.ask("userTwapSliceFills")
    assert [row["twapId"] for row in slices] == [number] * 11
    assert slices[0]["fill"] == fills[0]


def test_twap_when_the_clock_jumps_plays_every_slice_at_its_own_time() -> None:
    """A jump of the clock skips nothing and stamps each slice with its own time."""
    front = liquid()
    begun = front.now_ms
    start(front)
    pass_time(front, 3_600_000)
    times = [fill["time"] for fill in reversed(front.ask("userFills"))]
    assert times == [begun + step * SLICE_MS for step in range(11)]
    finished, activated = front.ask("twapHistory")
    assert (activated["status"], activated["time"]) == ({"status": "activated"}, begun // 1000)
    assert (finished["status"], finished["time"]) == ({"status": "finished"}, (begun + 300_000) // 1000)
    assert finished["state"] == {
        "coin": "ETH", "user": USER, "side": "B", "sz": "1.1", "executedSz": "1.1", "executedNtl": "4290.0",
        "minutes": 5, "reduceOnly": False, "randomize": False, "timestamp": begun, "trigger": None, "stopPx": None,
    }  # fmt: skip


def test_twap_when_slices_found_nobody_catches_up_by_at_most_three_at_once() -> None:
    """An empty book delays; later slices are larger but bounded."""
    front = Front(cash="100000")
    start(front)
    for _ in range(6):
        pass_time(front, SLICE_MS)
    assert front.ask("userFills") == []
    front.house(Side.SELL, "50", "3900")
    for _ in range(4):
        pass_time(front, SLICE_MS)
    sizes = [Decimal(fill["sz"]) for fill in reversed(front.ask("userFills"))]
    assert sizes == [Decimal("0.3"), Decimal("0.3"), Decimal("0.3"), Decimal("0.2")]
    assert front.ask("twapHistory")[0]["status"] == {"status": "finished"}


REFUSALS = [
    ({"s": "0.01"}, "TWAP order value too small. Min is $50, which is $10 per minute."),
    ({"s": "0.3", "m": 120}, "TWAP order value too small. Min is $1200, which is $10 per minute."),
    ({"m": 4}, "Invalid TWAP duration: 4 min(s)"),
    ({"r": True}, "Reduce-only TWAP order would increase position."),
    ({"s": "0.00001"}, "Order has invalid size."),
    ({"a": 999}, "Invalid asset. asset=999"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSALS)
def test_twap_when_refused_says_why_inside_the_status(changes: dict[str, Any], message: str) -> None:
    """The action itself is ok; the status holds the error."""
    body = liquid().act(twap(**changes))
    assert body == {"status": "ok", "response": RUNNING | {"data": {"status": {"error": message}}}}


def test_twap_when_cancelled_ends_and_a_second_cancel_is_refused() -> None:
    """Success once; afterwards there is nothing to cancel."""
    front = liquid()
    action = {"type": "twapCancel", "a": 1, "t": start(front)}
    assert front.act(action)["response"] == {"type": "twapCancel", "data": {"status": "success"}}
    gone = {"error": "TWAP was never placed, already canceled, or filled."}
    assert front.act(action)["response"] == {"type": "twapCancel", "data": {"status": gone}}
    pass_time(front, 600_000)
    assert len(front.ask("userFills")) == 1
    assert front.ask("twapHistory")[0]["status"] == {"status": "terminated"}


def test_twap_when_margin_runs_out_ends_with_the_reason() -> None:
    """A slice that cannot be paid for ends the TWAP in an error."""
    front = Front(cash="100")
    front.house(Side.SELL, "50", "3900")
    start(front)  # 0.1 ETH takes 19.5 of margin
    pass_time(front, 600_000)
    status = front.ask("twapHistory")[0]["status"]
    assert status == {"status": "error", "description": "Insufficient margin to place order."}


def test_twap_slice_when_looked_up_is_an_order_of_its_own_kind() -> None:
    """History shows it as a TWAP slice, free of the ten dollar minimum."""
    front = liquid()
    start(front, s="0.0143", m=5)  # 0.0013 ETH a slice: five dollars
    row = front.ask("historicalOrders")[0]
    assert (row["order"]["orderType"], row["order"]["sz"], row["status"]) == ("Twap Slice", "0.0", "filled")
    assert row["order"]["origSz"] == "0.0013"


def test_reduce_only_twap_when_the_position_is_gone_ends() -> None:
    """It never opens the other way."""
    front = liquid()
    front.order(size="0.3", price="3900", tif="Ioc")
    start(front, b=False, r=True)
    pass_time(front, 600_000)
    assert front.ask("clearinghouseState")["assetPositions"] == []
    status = front.ask("twapHistory")[0]["status"]
    assert status == {"status": "error", "description": "Reduce only order would increase position."}


def test_streams_when_a_twap_runs_tell_states_slices_and_history() -> None:
    """twapStates, userTwapSliceFills, userTwapHistory and userEvents each have their part."""
    front = liquid()
    ear = Ear(front)
    for kind in ("twapStates", "userTwapSliceFills", "userTwapHistory", "userEvents"):
        ear.subscribe(kind, user=USER)
    number = start(front)
    heard = ear.hear()
    (states,) = heard["twapStates"]
    assert [(twap_id, state["executedSz"]) for twap_id, state in states["states"]] == [(number, "0.1")]
    assert heard["userTwapSliceFills"][0]["twapSliceFills"][0]["twapId"] == number
    assert heard["userTwapHistory"][0]["history"][0]["status"] == {"status": "activated"}
    kinds = [next(iter(data)) for data in heard["user"]]
    assert kinds == ["fills", "twapSliceFills", "twapHistory"]
    pass_time(front, 300_000)
    heard = ear.hear()
    assert heard["twapStates"][-1]["states"] == []
    assert heard["userTwapHistory"][0]["history"][0]["status"] == {"status": "finished"}
    fresh = Ear(front)
    (history,) = fresh.subscribe("userTwapHistory", user=USER)
    assert [row["status"]["status"] for row in history["history"]] == ["activated", "finished"]
    assert history["isSnapshot"] is True


def test_history_when_recorded_has_the_same_keys_in_order() -> None:
    """Row, state and status as the venue sends them, on the dex too."""
    front = liquid()
    ear = Ear(front)
    start(front)
    pass_time(front, 300_000)
    ours = ear.subscribe("userTwapHistory", user=USER)[0]
    twin = recorded("ws_userTwapHistory_snapshot.json")["data"]
    assert list(ours) == list(twin)
    for row, other in zip(
        sorted(ours["history"], key=status_word), sorted(twin["history"], key=status_word), strict=True
    ):
        assert list(row) == list(other)
        assert list(row["state"]) == list(other["state"])
        assert row["status"] == other["status"]


def status_word(row: dict[str, Any]) -> str:
    """Status of a history row."""
    return str(row["status"]["status"])


def randomised(seed: int) -> list[Decimal]:
    """Slice sizes of a randomised order."""
    world = World()
    world.place(HOUSE, SELL, "100", "100")
    desk = TwapDesk(world.engine, SplitMix(seed))
    request = TwapRequest(instrument=PERP, side=BUY, quantity=Decimal(11), minutes=5, randomise=True)
    found = desk.start(ALICE, request, START_MS)
    assert not isinstance(found, Reason)
    for step in range(1, 11):
        desk.run_due(START_MS + step * SLICE_MS)
    assert desk.history(ALICE)[-1].twap.state is TwapState.FINISHED
    return [fill.quantity for fill in world.engine.fills(ALICE)]


def test_randomised_twap_when_seeded_alike_repeats_and_otherwise_differs() -> None:
    """Sizes vary by seed, never by run, and sum to the whole."""
    assert randomised(1) == randomised(1)
    assert randomised(1) != randomised(2)
    assert sum(randomised(3), Decimal(0)) == 11
    assert len(set(randomised(3))) > 3
