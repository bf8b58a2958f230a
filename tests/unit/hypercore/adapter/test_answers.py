"""Orders as actions, and answers to them."""

from __future__ import annotations

import logging
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercore.adapter import answers
from hypercore.exchange_codec import ExchangeAnswer, parse_exchange_answer
from tests.unit.hypercore.adapter.support import CLOID, answer, refusal, ticket
from venuemesh.errors import InvalidOrder, OutcomeUnknown, Reason
from venuemesh.gateway.venue import CancelAnswer, OrderTicket, Placed, Refused, Unclear
from venuemesh.v1 import order_pb2


@pytest.mark.parametrize(
    ("order", "word"),
    [
        (ticket(), "Gtc"),
        (ticket(post_only=True), "Alo"),
        (ticket(time_in_force=order_pb2.TIME_IN_FORCE_IOC), "Ioc"),
        (ticket(order_type=order_pb2.ORDER_TYPE_MARKET, time_in_force=order_pb2.TIME_IN_FORCE_IOC), "Ioc"),
    ],
)
def test_order_wire_carries_time_in_force_and_cloid(order: OrderTicket, word: str) -> None:
    """Each combination the gateway offers has its one spelling on the wire."""
    wire = msgspec.to_builtins(answers.build_order_wire(order, 7))
    assert wire == {
        "a": 7,
        "b": True,
        "p": "1500",
        "s": "1",
        "r": False,
        "t": {"limit": {"tif": word}},
        "c": CLOID,
    }


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (ticket(order_type=order_pb2.ORDER_TYPE_TWAP), Reason.UNSUPPORTED_ORDER_TYPE),
        (ticket(order_type=order_pb2.ORDER_TYPE_STOP_MARKET), Reason.REQUIRED_FIELD_MISSING),
        (
            ticket(
                order_type=order_pb2.ORDER_TYPE_STOP_LIMIT,
                trigger_price="1400",
                time_in_force=order_pb2.TIME_IN_FORCE_IOC,
            ),
            Reason.UNSUPPORTED_TIME_IN_FORCE,
        ),
        (
            ticket(order_type=order_pb2.ORDER_TYPE_STOP_LIMIT, trigger_price="1400", post_only=True),
            Reason.UNSUPPORTED_TIME_IN_FORCE,
        ),
        (ticket(time_in_force=order_pb2.TIME_IN_FORCE_FOK), Reason.UNSUPPORTED_TIME_IN_FORCE),
        (ticket(time_in_force=order_pb2.TIME_IN_FORCE_GTD), Reason.UNSUPPORTED_TIME_IN_FORCE),
        (ticket(time_in_force=order_pb2.TIME_IN_FORCE_IOC, post_only=True), Reason.UNSUPPORTED_TIME_IN_FORCE),
        (ticket(order_type=order_pb2.ORDER_TYPE_MARKET), Reason.UNSUPPORTED_TIME_IN_FORCE),
    ],
)
def test_order_wire_refuses_what_the_venue_does_not_have(order: OrderTicket, reason: Reason) -> None:
    """Nothing is quietly turned into another kind of order."""
    with pytest.raises(InvalidOrder) as caught:
        answers.build_order_wire(order, 7)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("order_type", "is_market", "tpsl"),
    [
        (order_pb2.ORDER_TYPE_STOP_MARKET, True, "sl"),
        (order_pb2.ORDER_TYPE_STOP_LIMIT, False, "sl"),
        (order_pb2.ORDER_TYPE_TAKE_PROFIT_MARKET, True, "tp"),
        (order_pb2.ORDER_TYPE_TAKE_PROFIT_LIMIT, False, "tp"),
    ],
)
def test_trigger_orders_carry_what_they_become_and_where_they_fire(
    order_type: order_pb2.OrderType.ValueType, is_market: bool, tpsl: str
) -> None:
    """Keys in the order that is signed; the price beside it is the limit, or the worst of a market order."""
    order = ticket(
        order_type=order_type, trigger_price="1400.50", side=order_pb2.SIDE_SELL, price="1260", reduce_only=True
    )
    wire = msgspec.to_builtins(answers.build_order_wire(order, 7))
    assert (wire["b"], wire["p"], wire["r"]) == (False, "1260", True)
    assert list(wire["t"]["trigger"].items()) == [("isMarket", is_market), ("triggerPx", "1400.5"), ("tpsl", tpsl)]


@pytest.mark.parametrize(
    ("order", "filled", "ended"),
    [
        (ticket(), "1.0", True),
        (ticket(), "0.4", False),
        (ticket(time_in_force=order_pb2.TIME_IN_FORCE_IOC), "0.4", True),
        (ticket(time_in_force=order_pb2.TIME_IN_FORCE_IOC), "1.0", True),
    ],
)
def test_filled_answer_says_whether_anything_rests(order: OrderTicket, filled: str, ended: bool) -> None:
    """An immediate-or-cancel order never rests; another one only when it filled short."""
    found = answers.read_placed(answer({"filled": {"totalSz": filled, "avgPx": "1500.0", "oid": 9}}), order)
    assert found == Placed(venue_order_id="9", filled_quantity=Decimal(filled), ended=ended)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("waitingForFill", order_pb2.TRIGGER_STATE_WAITING_FOR_PARENT),
        ("waitingForTrigger", order_pb2.TRIGGER_STATE_WAITING),
    ],
)
def test_waiting_answer_is_placed_without_an_id(word: str, state: order_pb2.TriggerState.ValueType) -> None:
    """Bare words are acceptance, not failure."""
    assert answers.read_placed(answer(word), ticket()) == Placed(venue_order_id="", trigger_state=state)


@pytest.mark.parametrize("found", [answer("brandNew"), answer({"novel": {}}), answer(), answer("success", "success")])
def test_answer_of_unknown_form_is_outcome_unknown(found: ExchangeAnswer) -> None:
    """What cannot be read, or belongs to nobody knows which element, is not guessed about."""
    with pytest.raises(OutcomeUnknown):
        answers.read_placed(found, ticket())


def test_unrecognised_refusal_is_kept_whole_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The venue's error form is a refusal even when its sentence is new."""
    with caplog.at_level(logging.WARNING):
        found = answers.read_placed(answer({"error": "The moon is full. asset=3"}), ticket())
    assert found == Refused(reason=Reason.VENUE_REJECTED, text="The moon is full. asset=3")
    assert "refusal_unrecognised" in caplog.text


def test_duplicate_nonce_is_outcome_unknown() -> None:
    """The nonce was used, perhaps by this very request."""
    with pytest.raises(OutcomeUnknown) as caught:
        answers.read_placed(refusal("Invalid nonce: duplicate nonce 1791399877207"), ticket())
    assert caught.value.metadata["nonce"] == "1791399877207"


def test_expired_action_is_refused() -> None:
    """A request that came too late took no effect."""
    found = answers.read_placed(refusal("Action already expired"), ticket())
    assert isinstance(found, Refused)
    assert found.reason is Reason.EXPIRED_BEFORE_PROCESSING


def test_cancel_answers() -> None:
    """Success, gone, and a real refusal."""
    gone = "Order was never placed, already canceled, or filled. asset=1"
    assert answers.read_canceled(answer("success")) is CancelAnswer.CANCELED
    assert answers.read_canceled(answer({"error": gone})) is CancelAnswer.GONE
    limited = answers.read_canceled(
        refusal("Too many cumulative requests sent (9 > 8) for cumulative volume traded $1.")
    )
    assert isinstance(limited, Refused)
    assert limited.reason is Reason.VOLUME_QUOTA_EXHAUSTED


def test_action_without_elements() -> None:
    """updateLeverage and the like answer with a bare ok."""
    done = parse_exchange_answer(b'{"status":"ok","response":{"type":"default"}}')
    assert answers.read_done(done) is None
    found = answers.read_done(refusal("Invalid leverage value"))
    assert isinstance(found, Refused)
    assert found.reason is Reason.LEVERAGE_OUT_OF_RANGE


@settings(max_examples=60)
@given(text=st.text(max_size=80))
def test_any_error_sentence_is_refused_or_unknown(text: str) -> None:
    """No sentence of the venue is taken for success or raises anything else."""
    try:
        found = answers.read_placed(answer({"error": text}), ticket())
    except OutcomeUnknown:
        return
    assert isinstance(found, Refused)
    assert found.text == text


# batches


GONE = "Order was never placed, already canceled, or filled. asset=1"


def test_batch_answers_each_order_in_its_place() -> None:
    """Resting, filled, refused, waiting and unreadable side by side; none takes another's place."""
    statuses = [
        {"resting": {"oid": 1}},
        {"filled": {"totalSz": "1.0", "avgPx": "1500.0", "oid": 2}},
        {"error": "Insufficient margin to place order. asset=1"},
        "waitingForFill",
        {"novel": {}},
        {"resting": {"oid": 6}},
    ]
    placed = answers.read_all_placed(answer(*statuses), [ticket()] * 6)
    assert placed[0] == Placed(venue_order_id="1")
    assert placed[1] == Placed(venue_order_id="2", filled_quantity=Decimal(1), ended=True)
    assert isinstance(placed[2], Refused)
    assert placed[2].reason is Reason.INSUFFICIENT_MARGIN
    assert placed[3] == Placed(venue_order_id="", trigger_state=order_pb2.TRIGGER_STATE_WAITING_FOR_PARENT)
    assert isinstance(placed[4], Unclear)
    assert placed[5] == Placed(venue_order_id="6")


def test_batch_refused_as_a_whole_refuses_each() -> None:
    """At top level, or by the one sentence a failed pre-validation answers for all of them."""
    for found in (refusal("Action already expired"), answer({"error": "Order has invalid size."})):
        placed = answers.read_all_placed(found, [ticket()] * 3)
        assert len(placed) == 3
        assert {type(one) for one in placed} == {Refused}
        assert len({one.text for one in placed if isinstance(one, Refused)}) == 1


@pytest.mark.parametrize(
    "found",
    [
        answer({"resting": {"oid": 1}}),
        answer({"resting": {"oid": 1}}, {"resting": {"oid": 2}}),
        answer(),
        refusal("Invalid nonce: duplicate nonce 7"),
    ],
)
def test_batch_whose_answers_belong_to_nobody_knows_which_order_is_unknown(found: ExchangeAnswer) -> None:
    """Three orders and another number of statuses, or a refusal that proves nothing."""
    with pytest.raises(OutcomeUnknown):
        answers.read_all_placed(found, [ticket()] * 3)
    with pytest.raises(OutcomeUnknown):
        answers.read_all_canceled(found, 3)


def test_batch_of_cancels_answers_each() -> None:
    """One that is gone, or that cannot be read, does not hide the others."""
    found = answers.read_all_canceled(answer("success", {"error": GONE}, {"novel": 1}, "success"), 4)
    assert found[:2] == [CancelAnswer.CANCELED, CancelAnswer.GONE]
    assert isinstance(found[2], Unclear)
    assert found[3] is CancelAnswer.CANCELED


@settings(max_examples=60)
@given(
    elements=st.lists(
        st.sampled_from(
            [{"resting": {"oid": 1}}, {"error": "Order has invalid price."}, "waitingForTrigger", {"odd": 1}, "success"]
        ),
        min_size=2,
        max_size=6,
    )
)
def test_an_element_reads_the_same_in_a_batch_as_alone(elements: list[object]) -> None:
    """Neighbours change nothing."""
    together = answers.read_all_placed(answer(*elements), [ticket()] * len(elements))
    for element, found in zip(elements, together, strict=True):
        try:
            assert found == answers.read_placed(answer(element), ticket())
        except OutcomeUnknown:
            assert isinstance(found, Unclear)
