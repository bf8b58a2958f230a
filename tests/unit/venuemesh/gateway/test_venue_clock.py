"""The difference of two clocks is told as far as it is proved, and orders are waited for accordingly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import ManualClock
from tests.unit.venuemesh.gateway.gateway_world import gateway
from tests.unit.venuemesh.gateway.test_resolver import lose, order
from venuemesh.errors import Sent
from venuemesh.gateway.alerts import CLOCK_SKEW
from venuemesh.gateway.venue_clock import MAX_AGE_S, MAX_ANSWERS, VenueClock
from venuemesh.transport.observer import RequestOutcome, RequestRecord
from venuemesh.v1 import order_pb2 as pb

NS = 1_000_000_000
NOW_NS = 1_790_000_000 * NS


def answer(*, started_ns: int, latency_s: float, date_s: int) -> RequestRecord:
    return RequestRecord(
        link="rest",
        endpoint="x",
        outcome=RequestOutcome.OK,
        write=False,
        sent=Sent.YES,
        started_ns=started_ns,
        latency_s=latency_s,
        request_body=b"",
        status=200,
        date_s=date_s,
    )


def asked(*, at_ns: int, ahead_ns: int, there_ms: int = 20, back_ms: int = 20) -> RequestRecord:
    """A request at `at_ns` of our clock, to a venue over which our clock is ahead by so much."""
    made_ns = at_ns + there_ms * 1_000_000 - ahead_ns
    return answer(started_ns=at_ns, latency_s=(there_ms + back_ms) / 1e3, date_s=made_ns // NS)


@given(
    ahead_ms=st.integers(-100_000, 100_000),
    answers=st.lists(
        st.tuples(st.integers(0, 5_000), st.integers(0, 9_000), st.integers(0, 9_000)), min_size=1, max_size=80
    ),
)
def test_truth_lies_within_the_bounds(ahead_ms: int, answers: list[tuple[int, int, int]]) -> None:
    """However slow the ways there and back are; and what is proved never says more than the truth."""
    clock, at_ns = VenueClock(ManualClock()), NOW_NS
    for gap_ms, there_ms, back_ms in answers:
        at_ns += gap_ms * 1_000_000
        clock.on_request(asked(at_ns=at_ns, ahead_ns=ahead_ms * 1_000_000, there_ms=there_ms, back_ms=back_ms))
        least_ns, most_ns = clock.ahead_ns()
        # Latencies are floats of seconds.
        assert least_ns - 1_000 <= ahead_ms * 1_000_000 <= most_ns + 1_000
    proven_ns = clock.proven_ns()
    assert 0 <= proven_ns <= max(0, ahead_ms * 1_000_000) + 1_000 or 0 >= proven_ns >= ahead_ms * 1_000_000 - 1_000


def test_answers_together_say_more_than_each() -> None:
    """A date is a second wide; dates at many places of the second are narrower together than one round trip."""
    clock = VenueClock(ManualClock())
    for number in range(60):
        clock.on_request(asked(at_ns=NOW_NS + number * 1_017_000_000, ahead_ns=300_000_000))
    least_ns, most_ns = clock.ahead_ns()
    assert most_ns - least_ns < 100_000_000
    assert 200_000_000 < clock.proven_ns() <= 300_000_000


def test_clocks_that_may_agree_are_not_accused() -> None:
    """One slow answer proves nothing; none at all neither."""
    clock = VenueClock(ManualClock())
    assert clock.proven_ns() == 0
    clock.on_request(asked(at_ns=NOW_NS, ahead_ns=0, there_ms=5_000, back_ms=5_000))
    clock.on_request(answer(started_ns=NOW_NS, latency_s=1.0, date_s=0))
    assert clock.proven_ns() == 0
    assert len(clock._answers) == 1


@pytest.mark.parametrize("then_ns", [0, -30 * NS])
def test_clock_that_was_set_is_believed_anew(then_ns: int) -> None:
    """What older answers proved of another time is forgotten when a new one contradicts it."""
    clock = VenueClock(ManualClock())
    clock.on_request(asked(at_ns=NOW_NS, ahead_ns=10 * NS))
    assert 8 * NS < clock.proven_ns() <= 10 * NS
    clock.on_request(asked(at_ns=NOW_NS + NS, ahead_ns=then_ns))
    assert abs(clock.proven_ns() - then_ns) <= 1.1 * NS


def test_old_answers_are_forgotten_and_their_number_is_bounded() -> None:
    """Clocks drift; memory does not grow."""
    machine = ManualClock()
    clock = VenueClock(machine)
    for number in range(2 * MAX_ANSWERS):
        clock.on_request(asked(at_ns=NOW_NS + number, ahead_ns=10 * NS))
    assert len(clock._answers) == MAX_ANSWERS
    machine.advance(MAX_AGE_S + 1)
    assert clock.proven_ns() == 0


async def test_absence_waits_for_a_venue_whose_clock_is_behind() -> None:
    """It would take the order for as long as its own clock says that it may."""
    async with gateway() as world:
        now_ns = world.clock.now_ns()
        world.core.venue_clock.on_request(asked(at_ns=now_ns, ahead_ns=20 * NS, there_ms=0, back_ms=0))
        doubt = await lose(world, arrived=False)
        world.clock.advance(world.core.desk.settings.order_lifetime_s + 15)
        await world.core.resolver.ask(doubt)
        assert order(world).uncertain
        world.clock.advance(6.5)
        await world.core.resolver.ask(doubt)
        assert order(world).status == pb.ORDER_STATUS_REJECTED


@pytest.mark.parametrize(("ahead_ns", "words"), [(5 * NS, "ahead of"), (-5 * NS, "behind")])
async def test_proven_difference_is_alerted_until_it_is_gone(ahead_ns: int, words: str) -> None:
    """A person should set the clock; what may be the network's slowness alerts nobody."""
    async with gateway() as world:
        clock, now_ns = world.core.venue_clock, world.clock.now_ns()
        clock.on_request(asked(at_ns=now_ns, ahead_ns=NS // 2, there_ms=900, back_ms=900))
        assert world.core.alerts.lasting() == []
        clock.on_request(asked(at_ns=now_ns, ahead_ns=ahead_ns))
        (alert,) = world.core.alerts.lasting()
        assert alert.kind == CLOCK_SKEW
        assert words in alert.message
        clock.on_request(asked(at_ns=now_ns, ahead_ns=0))
        assert world.core.alerts.lasting() == []
