"""Writes whose request or answer goes wrong: the first answer is never a guess, and the end is the venue's truth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from simulator.faults import Fault, FaultKind
from tests.broker import Broker
from tests.integration.faults.conftest import SIDES
from tests.integration.faults.sides import Case, VenueSide
from tests.integration.faults.truth import assert_equal_to_the_venue
from tests.integration.faults.world import EXPIRY_S, QUICK, SETTLE_S, TIMEOUT_S, world
from venuemesh.errors import MeshError
from venuemesh.v1 import error_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

LATE_S = TIMEOUT_S + 0.15
CASES = {
    "socket-cut-before-effect": Case(fault=Fault(kind=FaultKind.RESET_BEFORE), effect=False),
    "lost-reply": Case(fault=Fault(kind=FaultKind.DROP_REPLY), effect=True),
    "late-reply": Case(fault=Fault(kind=FaultKind.DELAY_REPLY, delay_s=LATE_S), effect=True),
    "late-effect": Case(fault=Fault(kind=FaultKind.DELAY_BEFORE, delay_s=LATE_S), effect=True),
    "effect-after-its-expiry": Case(fault=Fault(kind=FaultKind.DELAY_BEFORE, delay_s=EXPIRY_S + 0.2), effect=False),
    "503-before-effect": Case(fault=Fault(kind=FaultKind.ERROR_BEFORE, status=503), effect=False),
    "502-after-effect": Case(fault=Fault(kind=FaultKind.ERROR_AFTER, status=502), effect=True),
    "garbled-reply": Case(fault=Fault(kind=FaultKind.GARBLE_REPLY), effect=True),
    "429": Case(fault=Fault(kind=FaultKind.RATE_LIMIT), effect=False, lost=False),
    "429-with-retry-after": Case(fault=Fault(kind=FaultKind.RATE_LIMIT, retry_after_s=30), effect=False, lost=False),
}


def each(wanted: Callable[[Case], bool] = lambda _case: True) -> pytest.MarkDecorator:
    """Every wanted case at every venue, with those in the venue's own words."""
    found = [
        pytest.param(side(), case, id=f"{side.name}-{name}")
        for side in SIDES.values()
        for name, case in {**CASES, **side.own_cases}.items()
        if wanted(case)
    ]
    return pytest.mark.parametrize(("side", "case"), found)


def times(case: Case) -> dict[str, float]:
    """Short ones only where they have to pass: for an answer that does not come, and for proof of absence."""
    names = [("action_timeout_s", case.lost), ("order_expiry_s", _never_arrived(case))]
    return {name: QUICK[name] for name, wanted in names if wanted}


def _took_effect(case: Case) -> bool:
    return case.effect


def _never_arrived(case: Case) -> bool:
    return case.lost and not case.effect


def of(case: Case, match: str) -> Fault:
    """The case's fault for one action."""
    return replace(case.fault, match=match)


def check_first_answer(outcome: int, case: Case) -> None:
    """ACKNOWLEDGED is claimed only of what is there, REJECTED only of what is not; a lost answer is UNKNOWN.

    The venue's stream may tell of the order before the lost answer would have come: then it is known.
    """
    if outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED:
        assert case.effect
    elif outcome == wire.SUBMIT_OUTCOME_REJECTED:
        assert not case.effect
        assert not case.lost
    else:
        assert outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        assert case.lost


@pytest.mark.parametrize("path", ["socket", "http"])
@each()
async def test_submit_of_a_resting_order_ends_as_the_venue_has_it(
    side: VenueSide, case: Case, broker: Broker, tmp_path: Path, path: str
) -> None:
    """Sent once whatever happens; a repeat of the key tells the truth and sends nothing."""
    async with world(side, broker, tmp_path, **times(case)) as here:
        if path == "http":
            side.use_http()
        side.faults.add(of(case, side.order))
        first = await here.submit("resting")
        check_first_answer(first.outcome, case)
        order = await here.settled("resting")
        assert len(here.venue_orders_of("resting")) == (1 if case.effect else 0)
        assert order.status == (pb.ORDER_STATUS_NEW if case.effect else pb.ORDER_STATUS_REJECTED)
        again = await here.submit("resting")
        assert again.replayed
        assert again.outcome == (wire.SUBMIT_OUTCOME_ACKNOWLEDGED if case.effect else wire.SUBMIT_OUTCOME_REJECTED)
        assert len(here.venue_orders_of("resting")) == (1 if case.effect else 0)
        await assert_equal_to_the_venue(here)
        # Nothing is stuck: the next order goes through, except where the venue said to wait and HTTP is all there is.
        await here.until(lambda: here.ready)
        after = await here.submit("next")
        waits = case.fault.kind is FaultKind.RATE_LIMIT and path == "http"
        assert after.outcome == (wire.SUBMIT_OUTCOME_REJECTED if waits else wire.SUBMIT_OUTCOME_ACKNOWLEDGED)
        await assert_equal_to_the_venue(here)


@each(_never_arrived)
async def test_rejection_without_an_answer_comes_only_after_its_proof(
    side: VenueSide, case: Case, broker: Broker, tmp_path: Path
) -> None:
    """The order is REJECTED no sooner than it could not arrive any more, plus the venue's settle delay."""
    async with world(side, broker, tmp_path, **times(case)) as here:
        begun_s = here.clock.monotonic_s()
        side.faults.add(of(case, side.order))
        await here.submit("absent")
        order = await here.settled("absent")
        assert order.status == pb.ORDER_STATUS_REJECTED
        assert order.reject is not None
        reason = error_pb2.Reason.Name(order.reject.reason)
        assert reason in ("REASON_NEVER_REACHED_VENUE", "REASON_EXPIRED_BEFORE_PROCESSING")
        if reason == "REASON_NEVER_REACHED_VENUE":
            # Expiries are whole milliseconds.
            assert here.clock.monotonic_s() - begun_s >= EXPIRY_S + SETTLE_S - 0.002


@each(_took_effect)
async def test_submit_that_fills_at_once_counts_each_fill_once(
    side: VenueSide, case: Case, broker: Broker, tmp_path: Path
) -> None:
    """A market order over several levels: filled as the venue has it, whoever tells first."""
    async with world(side, broker, tmp_path, **times(case)) as here:
        for price in ("3900", "3901", "3902"):
            here.offer(ask=price, size="0.1")
        side.faults.add(of(case, side.order))
        taking = {"order_type": pb.ORDER_TYPE_MARKET, "price": None, "time_in_force": pb.TIME_IN_FORCE_IOC}
        first = await here.submit("taking", quantity="0.25", **taking)
        check_first_answer(first.outcome, case)
        order = await here.settled("taking")
        assert (order.status, order.filled) == (pb.ORDER_STATUS_FILLED, Decimal("0.25"))
        await assert_equal_to_the_venue(here)


@each()
async def test_cancel_gets_through(side: VenueSide, case: Case, broker: Broker, tmp_path: Path) -> None:
    """Whatever befalls the first try: CANCELED is claimed only when it is so, and in the end it is."""
    async with world(side, broker, tmp_path, **times(case)) as here:
        await here.submit("doomed")
        side.faults.add(of(case, side.cancel))
        answer = await here.cancel("doomed")
        if answer.outcome == wire.CANCEL_OUTCOME_CANCELED:
            assert here.venue_orders_of("doomed")[0].status == "canceled"
        assert answer.outcome != wire.CANCEL_OUTCOME_REJECTED
        await here.until(lambda: here.order("doomed").terminal)
        assert here.order("doomed").status == pb.ORDER_STATUS_CANCELED
        await assert_equal_to_the_venue(here)


@each()
async def test_amendment_ends_as_the_venue_has_it(side: VenueSide, case: Case, broker: Broker, tmp_path: Path) -> None:
    """Applied or not, never half: price, quantity and the venue's ids agree."""
    async with world(side, broker, tmp_path, **times(case)) as here:
        await here.submit("amended")
        side.faults.add(of(case, side.amend))
        answer = await here.amend("amended", price="3010", quantity="0.2")
        check_first_answer(answer.outcome, case)
        order = await here.settled("amended")
        expected = (Decimal(3010), Decimal("0.2")) if case.effect else (Decimal(3000), Decimal("0.1"))
        assert (order.price, order.quantity) == expected
        assert order.working
        await assert_equal_to_the_venue(here)


async def test_fill_of_the_replacement_while_its_answer_is_lost_is_counted(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """The new life of an amended order fills before anybody here knows its id."""
    async with world(side, broker, tmp_path, **QUICK) as here:
        await here.submit("amended", price="3000", quantity="0.2")
        here.offer(ask="3100", size="0.15")
        side.faults.add(Fault(kind=FaultKind.DROP_REPLY, match=side.amend))
        await here.amend("amended", price="3100")
        await here.until(lambda: here.order("amended").filled)
        order = await here.settled("amended")
        assert (order.price, order.filled) == (Decimal(3100), Decimal("0.15"))
        await assert_equal_to_the_venue(here)


async def test_burst_over_a_socket_that_is_cut_again_and_again_makes_each_order_once(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """Answers known, lost and never sent beside each other."""
    async with world(side, broker, tmp_path, **QUICK) as here:
        here.offer(ask="3900", size="1")
        for skip in (1, 3, 5):
            side.faults.add(Fault(kind=FaultKind.DROP_REPLY, match=side.order, skip=skip))

        async def one(number: int) -> None:
            price = "3900" if number % 3 == 0 else f"{3000 + number}"
            await here.until(lambda: here.ready)
            await here.submit(f"burst-{number}", price=price)

        results = await asyncio.gather(*(one(number) for number in range(12)), return_exceptions=True)
        placed = [number for number, result in enumerate(results) if result is None]
        assert len(placed) >= 3
        # The others met the gate while the link was down: nothing was sent.
        assert all(result is None or isinstance(result, MeshError) for result in results)
        for number in placed:
            await here.settled(f"burst-{number}")
            assert len(here.venue_orders_of(f"burst-{number}")) <= 1
        await assert_equal_to_the_venue(here)
