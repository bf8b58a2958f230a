"""Every sentence of the venue arrives with one reason and its own words; deadlines travel with requests."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from simulator.faults import Fault, FaultKind
from tests.broker import Broker
from tests.integration.hypercore.adapter.gateway import order, whole
from tests.integration.hypercore.adapter.world import ADDRESS
from venuemesh.v1 import error_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

ACKNOWLEDGED, REJECTED = wire.SUBMIT_OUTCOME_ACKNOWLEDGED, wire.SUBMIT_OUTCOME_REJECTED
UNKNOWN = wire.SUBMIT_OUTCOME_UNKNOWN

PER_ORDER = [
    ("Price must be divisible by tick size. asset=1", error_pb2.REASON_PRICE_OFF_TICK),
    ("Order must have minimum value of $10. asset=1", error_pb2.REASON_BELOW_MIN_NOTIONAL),
    ("Order must have minimum value of 10 USDC. asset=10107", error_pb2.REASON_BELOW_MIN_NOTIONAL),
    ("Insufficient margin to place order. asset=1", error_pb2.REASON_INSUFFICIENT_MARGIN),
    ("Reduce only order would increase position. asset=1", error_pb2.REASON_REDUCE_ONLY_WOULD_INCREASE),
    (
        "Post only order would have immediately matched, bbo was 1866.7@1866.9. asset=1",
        error_pb2.REASON_POST_ONLY_WOULD_CROSS,
    ),
    ("Order could not immediately match against any resting orders. asset=1", error_pb2.REASON_NO_LIQUIDITY),
    ("Invalid TP/SL price. asset=1", error_pb2.REASON_INVALID_TRIGGER_PRICE),
    ("No liquidity available for market order. asset=1", error_pb2.REASON_NO_LIQUIDITY),
    ("Order would increase open interest while open interest is capped", error_pb2.REASON_OPEN_INTEREST_CAP),
    (
        "Order rejected due to price more aggressive than oracle while at open interest cap",
        error_pb2.REASON_OPEN_INTEREST_CAP,
    ),
    ("Order would increase open interest too quickly", error_pb2.REASON_OPEN_INTEREST_CAP),
    ("Order has insufficient spot balance to trade", error_pb2.REASON_INSUFFICIENT_MARGIN),
    ("Insufficient spot balance asset=10107", error_pb2.REASON_INSUFFICIENT_MARGIN),
    ("Order price too far from oracle", error_pb2.REASON_PRICE_OUT_OF_BAND),
    ("Price too far from oracle asset=1", error_pb2.REASON_PRICE_OUT_OF_BAND),
    (
        "Order would cause position to exceed margin tier limit at current leverage",
        error_pb2.REASON_POSITION_LIMIT_REACHED,
    ),
    ("Order price cannot be more than 80% away from the reference price", error_pb2.REASON_PRICE_OUT_OF_BAND),
    ("Order price cannot be more than 95% away from the reference price", error_pb2.REASON_PRICE_OUT_OF_BAND),
    ("Order value too large. Max is $5000000.", error_pb2.REASON_ABOVE_MAX_NOTIONAL),
    ("Order has invalid price.", error_pb2.REASON_PRICE_OFF_TICK),
    ("Order has invalid size.", error_pb2.REASON_QUANTITY_OFF_LOT),
    ("Order has zero size.", error_pb2.REASON_QUANTITY_NOT_POSITIVE),
    (
        "Only post-only orders allowed immediately after network upgrade",
        error_pb2.REASON_VENUE_POST_ONLY_WINDOW,
    ),
    (
        "TWAP order value too small. Min is $1200, which is $10 per minute.",
        error_pb2.REASON_BELOW_MIN_NOTIONAL,
    ),
    ("Reduce-only TWAP order would increase position.", error_pb2.REASON_REDUCE_ONLY_WOULD_INCREASE),
]
"""Section 3.5 of the venue reference, per order."""

WHOLE_ACTION = [
    ("User or API Wallet 0xabc0 does not exist.", error_pb2.REASON_AUTHENTICATION_FAILED),
    ("L1 error: User or API Wallet 0xabc0 does not exist.", error_pb2.REASON_AUTHENTICATION_FAILED),
    ("Must deposit before performing actions. User: 0xabc0", error_pb2.REASON_AUTHENTICATION_FAILED),
    ("Invalid nonce: nonce too low 1 < 2", error_pb2.REASON_NONCE_REJECTED),
    ("Invalid nonce: nonce too high 3 > 2", error_pb2.REASON_NONCE_REJECTED),
    ("Action already expired", error_pb2.REASON_EXPIRED_BEFORE_PROCESSING),
    (
        "Too many cumulative requests sent (97460 > 97456) for cumulative volume traded $87457.46. Place taker orders "
        "to free up 1 request per USDC traded.",
        error_pb2.REASON_VOLUME_QUOTA_EXHAUSTED,
    ),
    ("Signed action over weight limit of 200.", error_pb2.REASON_MESSAGE_TOO_LARGE),
    ("Vault not registered: 0xabc0", error_pb2.REASON_ACCOUNT_NOT_FOUND),
    ("Builder fee has not been approved.", error_pb2.REASON_VENUE_REJECTED),
    ("Multi-sig required", error_pb2.REASON_AUTHENTICATION_FAILED),
    ("The moon is full.", error_pb2.REASON_VENUE_REJECTED),
]
"""The same for a whole action, and a sentence nobody has seen."""


async def test_every_sentence_of_the_venue_reaches_the_caller_with_its_reason_and_words(
    broker: Broker, tmp_path: Path
) -> None:
    """One reason each, the raw text whole, and nothing placed: also for each element of a batch."""
    async with whole(broker, tmp_path) as found:
        told: dict[str, tuple[int, int, str]] = {}
        for number, (text, _) in enumerate(PER_ORDER + WHOLE_ACTION):
            found.simulator.faults.add(Fault(kind=FaultKind.REFUSE, match="order", text=text))
            answer = await found.submit(f"k-{number}")
            told[text] = (answer.outcome, answer.reject.reason, answer.reject.venue_text)
            found.simulator.faults.add(Fault(kind=FaultKind.REFUSE, match="order", text=text))
            rows = (await found.batch(order(f"a-{number}"), order(f"b-{number}"))).results
            for row in rows:
                assert (row.response.outcome, row.response.reject) == (REJECTED, answer.reject), text
        assert told == {text: (REJECTED, reason, text) for text, reason in PER_ORDER + WHOLE_ACTION}
        assert found.simulator.orders(ADDRESS) == []


async def test_sentence_that_proves_nothing_leaves_the_order_unknown(broker: Broker, tmp_path: Path) -> None:
    """A duplicate nonce may be our own request's copy: the venue is asked."""
    async with whole(broker, tmp_path, order_expiry_s=0.5) as found:
        text = "Invalid nonce: duplicate nonce 1791399877207"
        found.simulator.faults.add(Fault(kind=FaultKind.REFUSE, match="order", text=text))
        assert (await found.submit("k")).outcome == UNKNOWN
        state = await found.ended("k")
        assert state.reject is not None
        assert state.reject.reason == error_pb2.REASON_NEVER_REACHED_VENUE


async def test_order_that_reaches_the_venue_after_its_callers_deadline_is_refused_there(
    broker: Broker, tmp_path: Path
) -> None:
    """`expiresAfter` is the caller's deadline: nobody meets an order he has given up."""
    async with whole(broker, tmp_path) as found:
        found.simulator.faults.add(Fault(kind=FaultKind.DELAY_BEFORE, match="order", delay_s=4.0))
        request = wire.SubmitOrderRequest(order=order("late"))
        try:
            answer = await found.gateway.orders.SubmitOrder(request, timeout=3)
        except grpc.aio.AioRpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        else:
            assert answer.outcome in (wire.SUBMIT_OUTCOME_PENDING, UNKNOWN)
        state = await found.ended("late")
        assert state.status == pb.ORDER_STATUS_REJECTED
        assert state.reject is not None
        assert state.reject.reason == error_pb2.REASON_EXPIRED_BEFORE_PROCESSING
        assert found.simulator.orders(ADDRESS) == []


@pytest.mark.parametrize("seconds", [5.0, None])
async def test_order_in_time_is_taken(broker: Broker, tmp_path: Path, seconds: float | None) -> None:
    """With a deadline and without one."""
    async with whole(broker, tmp_path) as found:
        request = wire.SubmitOrderRequest(order=order("in-time"))
        answer = await found.gateway.orders.SubmitOrder(request, timeout=seconds)
        assert answer.outcome == ACKNOWLEDGED
