"""What became of the parts of a message: each told by itself, asked for where the stream is silent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gateway_lighter.codec_verdicts import TransactionState, Verdict
from gateway_lighter.normalizer import normalize_order
from gateway_lighter.settling import Part, Settler
from gateway_lighter.verdicts import Finding, Verdicts
from tests.fakes import ManualClock
from tests.unit.gateway_lighter.adapter.shapes import MARKET, order
from venuemesh.errors import OutcomeUnknown, VenueUnavailable
from venuemesh.gateway.venue import VenueOrder

TIMEOUT_S = 10.0
VIEW = normalize_order(order(), MARKET)
EXECUTED = Verdict(tx_hash="aa", state=TransactionState.EXECUTED)


class World:
    """A settler over a stream that says what a test says, and a venue that is asked in no time."""

    def __init__(self, answer: Callable[[str], Verdict | None]) -> None:
        self.clock = ManualClock()
        self.verdicts = Verdicts()
        self.asked: list[str] = []
        self._answer = answer
        stream: Any = SimpleNamespace(verdicts=self.verdicts)
        rest: Any = SimpleNamespace(fetch_verdict=self._fetch_verdict)
        self.settler = Settler(
            {"main": stream},
            {"main": rest},
            timeout_s=TIMEOUT_S,
            poll_s=0.001,
            clock=self.clock,
            on_unknown=lambda _account, _text: None,
        )

    async def _fetch_verdict(self, tx_hash: str) -> Verdict | None:
        self.asked.append(tx_hash)
        self.clock.advance(4.0)
        return self._answer(tx_hash)


def placed(finding: Finding) -> str | None:
    """An order's row is the answer, its transaction's is none."""
    return finding.venue_order_id if isinstance(finding, VenueOrder) else None


def part(look_up: Callable[[], Awaitable[VenueOrder | None]] | None = None) -> Part[str]:
    return Part(read=placed, look_up=look_up)


async def test_part_without_a_verdict_in_time_is_unknown_and_the_others_are_told() -> None:
    """One silence does not take the answers of others with it, and the time is that of all together."""
    world = World(lambda _hash: None)
    silent, told = world.verdicts.expect("aa", 1), world.verdicts.expect("bb", 2)
    told.tell(VIEW)
    lost, answer = await world.settler.settle("main", [silent, told], [part(), part()])
    assert isinstance(lost, OutcomeUnknown)
    assert lost.metadata["tx_hash"] == "aa"
    assert answer == VIEW.venue_order_id
    assert world.asked == ["aa"] * 3


async def test_verdict_that_was_asked_for_reaches_every_order_of_the_transaction() -> None:
    """A group costs one question about its transaction, and one about each order."""
    world = World(lambda _hash: EXECUTED)
    looked: list[int] = []

    def look(number: int) -> Callable[[], Awaitable[VenueOrder | None]]:
        async def up() -> VenueOrder | None:
            looked.append(number)
            return VIEW

        return up

    group = [world.verdicts.expect("aa", number) for number in (1, 2, 3)]
    answers = await world.settler.settle("main", group, [part(look(number)) for number in (1, 2, 3)])
    assert answers == [VIEW.venue_order_id] * 3
    assert (world.asked, looked) == (["aa"], [1, 2, 3])


async def test_venue_that_cannot_be_asked_is_asked_again() -> None:
    """A failed question proves nothing."""
    failures = [VenueUnavailable("away")]

    def answer(_hash: str) -> Verdict | None:
        if failures:
            raise failures.pop()
        return EXECUTED

    async def up() -> VenueOrder | None:
        return VIEW

    world = World(answer)
    (found,) = await world.settler.settle("main", [world.verdicts.expect("aa", 1)], [part(up)])
    assert found == VIEW.venue_order_id
    assert len(world.asked) == 2


@pytest.mark.parametrize("count", [0, 1])
async def test_parts_and_answers_are_as_many(count: int) -> None:
    """None for none."""
    world = World(lambda _hash: EXECUTED)
    expectations = [world.verdicts.expect("aa", 1) for _ in range(count)]
    for expectation in expectations:
        expectation.tell(VIEW)
    assert len(await world.settler.settle("main", expectations, [part() for _ in range(count)])) == count
