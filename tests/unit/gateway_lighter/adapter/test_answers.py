"""Orders as transactions, and verdicts as answers."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from gateway_lighter import answers
from gateway_lighter.account_messages import EventOrder
from gateway_lighter.codec_verdicts import TransactionState, Verdict
from gateway_lighter.normalizer import normalize_order
from gateway_lighter.refusals import classify_error
from gateway_lighter.transactions import CreateGroupedOrders, CreateOrder, Grouping, OrderKind, TimeInForce
from gateway_lighter.verdicts import Verdicts
from tests.unit.gateway_lighter.adapter.shapes import MARKET, order, target, ticket
from venuemesh.errors import InvalidOrder, Reason
from venuemesh.gateway.venue import Amended, CancelAnswer, Placed, Refused, VenueOrderState
from venuemesh.v1 import order_pb2

UNTIL_MS = 1_893_456_000_000
IOC = order_pb2.TIME_IN_FORCE_IOC


def executed(**event: Any) -> Verdict:
    """A transaction that was executed and touched an order of 0.5 BTC."""
    found = EventOrder(**({"order_index": 5, "initial_size": 50_000, "remaining_size": 50_000, "status": 2} | event))
    return Verdict(tx_hash="aa", state=TransactionState.EXECUTED, order=found)


def refused(code: int) -> Verdict:
    """A transaction the sequencer refused."""
    return Verdict(tx_hash="aa", state=TransactionState.REFUSED, refusal=classify_error(code, "words"))


@pytest.mark.parametrize(
    ("changes", "kind", "tif", "expiry"),
    [
        ({}, OrderKind.LIMIT, TimeInForce.GOOD_TILL_TIME, UNTIL_MS),
        ({"post_only": True}, OrderKind.LIMIT, TimeInForce.POST_ONLY, UNTIL_MS),
        ({"time_in_force": IOC}, OrderKind.LIMIT, TimeInForce.IMMEDIATE_OR_CANCEL, 0),
        (
            {"time_in_force": IOC, "order_type": order_pb2.ORDER_TYPE_MARKET},
            OrderKind.MARKET,
            TimeInForce.IMMEDIATE_OR_CANCEL,
            0,
        ),
    ],
)
def test_order_becomes_a_transaction_the_signer_takes(
    changes: dict[str, Any], kind: OrderKind, tif: TimeInForce, expiry: int
) -> None:
    """Every order type in the capability record, exactly scaled."""
    found = answers.build_create(ticket(**changes), MARKET, until_ms=UNTIL_MS)
    found.check()
    assert (found.type, found.time_in_force, found.order_expiry) == (kind, tif, expiry)
    assert (found.base_amount, found.price, found.client_order_index, found.is_ask) == (50_000, 600_000, 77, False)


@pytest.mark.parametrize(
    ("order_type", "changes", "kind", "tif"),
    [
        (order_pb2.ORDER_TYPE_STOP_MARKET, {}, OrderKind.STOP_LOSS, TimeInForce.IMMEDIATE_OR_CANCEL),
        (order_pb2.ORDER_TYPE_TAKE_PROFIT_MARKET, {}, OrderKind.TAKE_PROFIT, TimeInForce.IMMEDIATE_OR_CANCEL),
        (order_pb2.ORDER_TYPE_STOP_LIMIT, {}, OrderKind.STOP_LOSS_LIMIT, TimeInForce.GOOD_TILL_TIME),
        (
            order_pb2.ORDER_TYPE_STOP_LIMIT,
            {"time_in_force": IOC},
            OrderKind.STOP_LOSS_LIMIT,
            TimeInForce.IMMEDIATE_OR_CANCEL,
        ),
        (
            order_pb2.ORDER_TYPE_TAKE_PROFIT_LIMIT,
            {"post_only": True, "time_in_force": order_pb2.TIME_IN_FORCE_GTD},
            OrderKind.TAKE_PROFIT_LIMIT,
            TimeInForce.POST_ONLY,
        ),
    ],
)
def test_order_that_waits_for_its_trigger_has_trigger_and_end(
    order_type: order_pb2.OrderType.ValueType, changes: dict[str, Any], kind: OrderKind, tif: TimeInForce
) -> None:
    """Also one that is immediate once it fires: it waits until then."""
    terms = {"order_type": order_type, "trigger_price": Decimal("61000.5"), "reduce_only": True}
    found = answers.build_create(ticket(**(terms | changes)), MARKET, until_ms=UNTIL_MS)
    found.check()
    assert (found.type, found.time_in_force, found.order_expiry) == (kind, tif, UNTIL_MS)
    assert (found.trigger_price, found.price, found.reduce_only) == (610_005, 600_000, True)


def exit_ticket(order_type: order_pb2.OrderType.ValueType, index: int, trigger: int, **changes: Any) -> Any:
    """An exit of the long that `ticket` opens."""
    terms = {
        "order_type": order_type,
        "side": order_pb2.SIDE_SELL,
        "reduce_only": True,
        "trigger_price": Decimal(trigger),
        "price": Decimal(trigger - 1_000),
        "venue_client_order_id": str(index),
    }
    return ticket(**(terms | changes))


PROFIT = exit_ticket(order_pb2.ORDER_TYPE_TAKE_PROFIT_LIMIT, 78, 70_000)
STOP = exit_ticket(order_pb2.ORDER_TYPE_STOP_MARKET, 79, 50_000)


@pytest.mark.parametrize(
    ("exits", "grouping"),
    [([PROFIT, STOP], Grouping.ONE_TRIGGERS_ONE_CANCELS_OTHER), ([STOP], Grouping.ONE_TRIGGERS_OTHER)],
)
def test_bracket_is_one_transaction_whose_exits_have_no_size(exits: list[Any], grouping: Grouping) -> None:
    """The signer's rules for a group are kept, whatever the entry is."""
    for entry in (
        ticket(),
        ticket(post_only=True),
        ticket(order_type=order_pb2.ORDER_TYPE_MARKET, time_in_force=IOC),
    ):
        found = answers.build_bracket([entry, *exits], MARKET, until_ms=[UNTIL_MS] * (1 + len(exits)))
        assert isinstance(found, CreateGroupedOrders)
        found.check()
        assert found.grouping_type == grouping
        assert [order.base_amount for order in found.orders] == [50_000, *[0] * len(exits)]
        assert [order.client_order_index for order in found.orders] == [77, *[78, 79][-len(exits) :]]


def test_bracket_whose_orders_end_at_different_times_is_refused() -> None:
    """The venue takes none: a stop must not be gone before its position."""
    found = answers.build_bracket([ticket(), PROFIT, STOP], MARKET, until_ms=[UNTIL_MS - 1, UNTIL_MS, UNTIL_MS])
    with pytest.raises(InvalidOrder, match="expire together"):
        found.check()


def test_exits_of_a_position_have_no_size_together_or_alone() -> None:
    """Zero is the venue's word for whatever the position is."""
    pair = answers.build_position_exits([PROFIT, STOP], MARKET, until_ms=[UNTIL_MS] * 2)
    assert isinstance(pair, CreateGroupedOrders)
    pair.check()
    assert pair.grouping_type == Grouping.ONE_CANCELS_OTHER
    assert [order.base_amount for order in pair.orders] == [0, 0]
    alone = answers.build_position_exits([STOP], MARKET, until_ms=[UNTIL_MS])
    assert isinstance(alone, CreateOrder)
    alone.check()
    assert (alone.base_amount, alone.type) == (0, OrderKind.STOP_LOSS)


def test_transaction_of_a_group_tells_only_of_the_order_it_names() -> None:
    """An exit is not placed because its entry was."""
    verdict = executed(client_order_index=77)
    assert isinstance(answers.read_placed(verdict, MARKET, 77), Placed)
    assert answers.read_placed(verdict, MARKET, 78) is None
    assert isinstance(answers.read_placed(refused(21743), MARKET, 78), Refused)


def test_amendment_carries_the_trigger() -> None:
    """Else the venue would take it away."""
    assert answers.build_modify(target(), STOP, MARKET).trigger_price == 500_000


@pytest.mark.parametrize(
    "changes",
    [
        {"order_type": order_pb2.ORDER_TYPE_STOP_MARKET, "time_in_force": IOC, "trigger_price": Decimal(61_000)},
        {"order_type": order_pb2.ORDER_TYPE_MARKET},
        {"time_in_force": order_pb2.TIME_IN_FORCE_FOK},
        {"time_in_force": IOC, "post_only": True},
        {"price": Decimal("60000.01")},
        {"quantity": Decimal("0.000001")},
    ],
)
def test_order_the_venue_cannot_take_is_refused_before_it_is_sent(changes: dict[str, Any]) -> None:
    """Nothing is rounded, nothing is replaced by something similar."""
    with pytest.raises(InvalidOrder):
        answers.build_create(ticket(**changes), MARKET, until_ms=UNTIL_MS)


def test_order_is_named_by_the_venues_index_where_known() -> None:
    """Else by ours; the size tells them apart."""
    assert answers.wire_index(target()) == 77
    assert answers.wire_index(target("844424912956320")) == 844424912956320
    assert answers.build_modify(target(), ticket(), MARKET).index == 77


def test_executed_order_that_rests_or_filled_is_placed() -> None:
    """The transaction's row is enough where it says all."""
    assert answers.read_placed(executed(remaining_size=20_000), MARKET) == Placed(
        venue_order_id="5", filled_quantity=Decimal("0.30000")
    )
    assert answers.read_placed(executed(status=3, remaining_size=0), MARKET) == Placed(
        venue_order_id="5", filled_quantity=Decimal("0.50000"), ended=True
    )


@pytest.mark.parametrize("status", [0, 4, 5, 9])
def test_executed_order_that_ended_otherwise_waits_for_its_own_row(status: int) -> None:
    """A cancelled order's row in a transaction does not say how much filled."""
    assert answers.read_placed(executed(status=status), MARKET) is None


def test_executed_transaction_without_an_order_says_nothing_of_it() -> None:
    """Never accepted by assumption."""
    verdict = Verdict(tx_hash="aa", state=TransactionState.EXECUTED)
    assert answers.read_placed(verdict, MARKET) is None
    assert answers.read_amended(verdict) is None


def test_refused_verdict_is_the_venues_no_also_without_a_reason() -> None:
    """A failed transaction did nothing."""
    found = answers.read_placed(refused(21739), MARKET)
    assert isinstance(found, Refused)
    assert found.reason is Reason.INSUFFICIENT_MARGIN
    silent = answers.read_placed(Verdict(tx_hash="aa", state=TransactionState.REFUSED), MARKET)
    assert isinstance(silent, Refused)
    assert silent.reason is Reason.VENUE_REJECTED


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "in-progress"}, None),
        ({"status": "nonsense"}, None),
        ({}, Placed(venue_order_id="844424912956320", filled_quantity=Decimal("0.00000"))),
        (
            {"status": "canceled", "time_in_force": "immediate-or-cancel", "filled_base_amount": Decimal("0.1")},
            Placed(venue_order_id="844424912956320", filled_quantity=Decimal("0.1"), ended=True),
        ),
        ({"status": "canceled-post-only"}, Refused(reason=Reason.POST_ONLY_WOULD_CROSS, text="canceled-post-only")),
    ],
)
def test_order_row_settles_a_submit(changes: dict[str, Any], expected: object) -> None:
    """What the order's own state says is the answer; an unfinished or unknown one is none."""
    assert answers.read_placed(normalize_order(order(**changes), MARKET), MARKET) == expected


def test_amendment_and_cancel_are_told_by_their_transaction() -> None:
    """A gone order is GONE for a cancel and a refusal for an amendment."""
    assert answers.read_amended(executed()) == Amended(venue_order_id="5")
    assert answers.read_amended(executed(status=3)) == Amended(venue_order_id="5", ended=True)
    assert isinstance(answers.read_amended(refused(21709)), Refused)
    ended = answers.read_amended(executed(status=5))
    assert ended == Refused(reason=Reason.POST_ONLY_WOULD_CROSS, text="canceled-post-only")
    assert answers.read_canceled(executed()) is CancelAnswer.CANCELED
    assert answers.read_canceled(refused(21709)) is CancelAnswer.GONE
    assert answers.read_canceled(refused(21700)) is CancelAnswer.GONE
    assert isinstance(answers.read_canceled(refused(21120)), Refused)
    assert answers.read_canceled(normalize_order(order(), MARKET)) is None
    assert answers.read_done(executed()) is True


# --- waiting -----------------------------------------------------------------------------------------------


async def test_orders_of_one_transaction_are_each_told_of_it() -> None:
    """Its verdict reaches all of them; one that is done leaves the others waiting."""
    verdicts = Verdicts()
    first, second = verdicts.expect("aa", 77), verdicts.expect("aa", 78)
    first.close()
    verdicts.on_verdict(executed())
    assert (first.findings, second.findings) == ((), (executed(),))
    second.close()
    assert not verdicts.is_first_sight(78)


async def test_expectation_hears_of_its_transaction_and_its_order_only() -> None:
    """The order's row says more than the transaction's and comes first among the findings."""
    verdicts = Verdicts()
    mine, other = verdicts.expect("aa", 77), verdicts.expect("bb", 78)
    verdicts.on_verdict(executed())
    assert verdicts.is_first_sight(77)
    verdicts.on_order(77, normalize_order(order(), MARKET))
    assert not verdicts.is_first_sight(77)
    assert not verdicts.is_first_sight(79)
    async with asyncio.timeout(60):
        await mine.changed.wait()
    first, second = mine.findings
    assert first == normalize_order(order(), MARKET)
    assert second == executed()
    assert other.findings == ()
    assert not other.changed.is_set()


def test_queued_transaction_tells_nothing() -> None:
    """Queued is not a verdict."""
    verdicts = Verdicts()
    mine = verdicts.expect("aa")
    verdicts.on_verdict(Verdict(tx_hash="aa", state=TransactionState.QUEUED))
    assert mine.findings == ()


def test_closed_expectation_is_forgotten_and_its_hash_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash is what a lost order can be asked about; the memory is bounded."""
    monkeypatch.setattr("gateway_lighter.verdicts.REMEMBERED", 2)
    verdicts = Verdicts()
    for number in (1, 2, 3):
        verdicts.expect(f"hash-{number}", number).close()
    assert not verdicts.is_first_sight(3)
    assert [verdicts.sent_hash(number) for number in (1, 2, 3)] == [None, "hash-2", "hash-3"]
    assert normalize_order(order(), MARKET).state is VenueOrderState.WORKING
