"""Writes whose request or answer goes wrong: the first answer is never a guess, and the end is the venue's truth."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import pytest

from simulator.faults import Fault, FaultKind
from tests.broker import Broker
from tests.integration.faults.truth import assert_equal_to_the_venue, venue_orders_of
from tests.integration.faults.world import EXPIRY_S, SETTLE_S, TIMEOUT_S, world
from venuemesh.errors import MeshError
from venuemesh.v1 import error_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault.

    Attributes:
        effect: whether the request takes effect at the venue.
        lost: whether the caller gets no answer, so that nobody can know at first.
    """

    fault: Fault
    effect: bool
    lost: bool = True


NONCE_TOO_LOW = "nonce-too-low"
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
    "429-with-retry-after": Case(fault=Fault(kind=FaultKind.RATE_LIMIT, retry_after_s=1), effect=False, lost=False),
    # The nonce was used by somebody, perhaps by a copy of this very request: only the venue can tell.
    "duplicate-nonce": Case(
        fault=Fault(kind=FaultKind.REFUSE, text="Invalid nonce: duplicate nonce 1790000000000"), effect=False
    ),
    NONCE_TOO_LOW: Case(
        fault=Fault(kind=FaultKind.REFUSE, text="Invalid nonce: nonce too low 1790000000000 < 1790000000001"),
        effect=False,
        lost=False,
    ),
}


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
@pytest.mark.parametrize("name", CASES)
async def test_submit_of_a_resting_order_ends_as_the_venue_has_it(
    broker: Broker, tmp_path: Path, name: str, path: str
) -> None:
    """Sent once whatever happens; a repeat of the key tells the truth and sends nothing."""
    case = CASES[name]
    async with world(broker, tmp_path) as here:
        if path == "http":
            here.use_http()
        here.simulator.faults.add(of(case, "order"))
        first = await here.submit("resting")
        check_first_answer(first.outcome, case)
        order = await here.settled("resting")
        assert len(venue_orders_of(here, "resting")) == (1 if case.effect else 0)
        assert order.status == (pb.ORDER_STATUS_NEW if case.effect else pb.ORDER_STATUS_REJECTED)
        again = await here.submit("resting")
        assert again.replayed
        assert again.outcome == (wire.SUBMIT_OUTCOME_ACKNOWLEDGED if case.effect else wire.SUBMIT_OUTCOME_REJECTED)
        assert len(venue_orders_of(here, "resting")) == (1 if case.effect else 0)
        await assert_equal_to_the_venue(here)
        # Nothing is stuck: the next order goes through, except where the venue said to wait and HTTP is all there is.
        await here.until(lambda: here.ready)
        after = await here.submit("next")
        waits = case.fault.kind is FaultKind.RATE_LIMIT and path == "http"
        assert after.outcome == (wire.SUBMIT_OUTCOME_REJECTED if waits else wire.SUBMIT_OUTCOME_ACKNOWLEDGED)
        await assert_equal_to_the_venue(here)


@pytest.mark.parametrize("name", ["socket-cut-before-effect", "effect-after-its-expiry", "503-before-effect"])
async def test_rejection_without_an_answer_comes_only_after_its_proof(
    broker: Broker, tmp_path: Path, name: str
) -> None:
    """The order is REJECTED no sooner than it could not arrive any more, plus the venue's settle delay."""
    async with world(broker, tmp_path) as here:
        begun_s = here.clock.monotonic_s()
        here.simulator.faults.add(of(CASES[name], "order"))
        await here.submit("absent")
        order = await here.settled("absent")
        assert order.status == pb.ORDER_STATUS_REJECTED
        assert order.reject is not None
        reason = error_pb2.Reason.Name(order.reject.reason)
        assert reason in ("REASON_NEVER_REACHED_VENUE", "REASON_EXPIRED_BEFORE_PROCESSING")
        if reason == "REASON_NEVER_REACHED_VENUE":
            # Expiries are whole milliseconds.
            assert here.clock.monotonic_s() - begun_s >= EXPIRY_S + SETTLE_S - 0.002


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.effect])
async def test_submit_that_fills_at_once_counts_each_fill_once(broker: Broker, tmp_path: Path, name: str) -> None:
    """A market order over several levels: filled as the venue has it, whoever tells first."""
    case = CASES[name]
    async with world(broker, tmp_path) as here:
        for price in ("3900", "3901", "3902"):
            here.offer(ask=price, size="0.1")
        here.simulator.faults.add(of(case, "order"))
        taking = {"order_type": pb.ORDER_TYPE_MARKET, "price": None, "time_in_force": pb.TIME_IN_FORCE_IOC}
        first = await here.submit("taking", quantity="0.25", **taking)
        check_first_answer(first.outcome, case)
        order = await here.settled("taking")
        assert (order.status, str(order.filled)) == (pb.ORDER_STATUS_FILLED, "0.25")
        await assert_equal_to_the_venue(here)


@pytest.mark.parametrize("name", CASES)
async def test_cancel_gets_through(broker: Broker, tmp_path: Path, name: str) -> None:
    """Whatever befalls the first try: CANCELED is claimed only when it is so, and in the end it is."""
    case = CASES[name]
    async with world(broker, tmp_path) as here:
        await here.submit("doomed")
        here.simulator.faults.add(of(case, "cancel"))
        answer = await here.cancel("doomed")
        if answer.outcome == wire.CANCEL_OUTCOME_CANCELED:
            assert venue_orders_of(here, "doomed")[0]["status"] == "canceled"
        assert answer.outcome != wire.CANCEL_OUTCOME_REJECTED
        await here.until(lambda: here.order("doomed").terminal)
        assert here.order("doomed").status == pb.ORDER_STATUS_CANCELED
        await assert_equal_to_the_venue(here)


@pytest.mark.parametrize("name", CASES)
async def test_amendment_ends_as_the_venue_has_it(broker: Broker, tmp_path: Path, name: str) -> None:
    """Applied or not, never half: price, quantity and the venue's ids agree."""
    case = CASES[name]
    async with world(broker, tmp_path) as here:
        await here.submit("amended")
        here.simulator.faults.add(of(case, "batchModify"))
        answer = await here.amend("amended", price="3010", quantity="0.2")
        check_first_answer(answer.outcome, case)
        order = await here.settled("amended")
        expected = (Decimal(3010), Decimal("0.2")) if case.effect else (Decimal(3000), Decimal("0.1"))
        assert (order.price, order.quantity) == expected
        assert order.working
        await assert_equal_to_the_venue(here)


async def test_fill_of_the_replacement_while_its_answer_is_lost_is_counted(broker: Broker, tmp_path: Path) -> None:
    """The new life of an amended order fills before anybody here knows its id."""
    async with world(broker, tmp_path) as here:
        await here.submit("amended", price="3000", quantity="0.2")
        here.offer(ask="3100", size="0.15")
        here.simulator.faults.add(Fault(kind=FaultKind.DROP_REPLY, match="batchModify"))
        await here.amend("amended", price="3100")
        await here.until(lambda: here.order("amended").filled)
        order = await here.settled("amended")
        assert (order.price, order.filled) == (Decimal(3100), Decimal("0.15"))
        await assert_equal_to_the_venue(here)


async def test_burst_over_a_socket_that_is_cut_again_and_again_makes_each_order_once(
    broker: Broker, tmp_path: Path
) -> None:
    """Answers known, lost and never sent beside each other."""
    async with world(broker, tmp_path) as here:
        here.offer(ask="3900", size="1")
        for skip in (1, 3, 5):
            here.simulator.faults.add(Fault(kind=FaultKind.DROP_REPLY, match="order", skip=skip))

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
            assert len(venue_orders_of(here, f"burst-{number}")) <= 1
        await assert_equal_to_the_venue(here)
