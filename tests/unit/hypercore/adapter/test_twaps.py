"""Native TWAPs: actions, states, and knowing one's own by its terms and time."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercore import account_messages as wire
from hypercore.adapter import answers, twaps
from hypercore.exchange_codec import parse_exchange_answer
from tests.unit.hypercore.adapter.support import CLOID, OTHER, info, ticket, universe
from venuemesh.errors import InvalidOrder, OutcomeUnknown, ProtocolViolation, Reason
from venuemesh.gateway.venue import CancelAnswer, OrderTarget, Placed, Refused, TwapTarget, TwapTerms, VenueOrderState
from venuemesh.v1 import instrument_pb2, order_pb2

STARTED_MS = 1_790_000_000_000
NS = 1_000_000
UNIVERSE = universe()
THIRTY = TwapTerms(minutes=30, randomize=False)
ETH = instrument_pb2.Instrument(symbol="ETH/USDC:USDC", venue_symbol="ETH")


def row(
    word: str = "activated", *, twap_id: int | None = 5, seconds: int = 0, description: str | None = None, **state: Any
) -> wire.TwapHistoryRow:
    """One row of twapHistory."""
    terms = {
        "coin": "ETH",
        "user": OTHER,
        "side": "B",
        "sz": "2.0",
        "executedSz": "0.0",
        "executedNtl": "0.0",
        "minutes": 30,
        "reduceOnly": False,
        "randomize": False,
        "timestamp": STARTED_MS,
        "trigger": None,
        "stopPx": None,
    }
    status = {"status": word} | ({} if description is None else {"description": description})
    plain = {"time": STARTED_MS // 1000 + seconds, "state": terms | state, "status": status, "twapId": twap_id}
    (found,) = info("twapHistory", [plain])
    assert isinstance(found, wire.TwapHistoryRow)
    return found


def target(venue_order_id: str | None = None, **changes: Any) -> OrderTarget:
    """The TWAP of `row()`, sent at its time."""
    values: dict[str, Any] = {
        "side": order_pb2.SIDE_BUY,
        "quantity": Decimal(2),
        "reduce_only": False,
        "terms": THIRTY,
        "not_before_ns": STARTED_MS * NS,
        "not_after_ns": (STARTED_MS + 15_000) * NS,
        "others": frozenset(),
        "rivals": False,
    }
    return OrderTarget(
        account_id="main",
        instrument=ETH,
        venue_client_order_id=CLOID,
        venue_order_id=venue_order_id,
        twap=TwapTarget(**(values | changes)),
    )


def test_start_and_stop_name_what_the_venue_needs() -> None:
    """Keys in the order that is signed."""
    order = ticket(order_type=order_pb2.ORDER_TYPE_TWAP, quantity="2.50", twap=THIRTY, reduce_only=True)
    assert list(msgspec.to_builtins(twaps.build_start(order, 7))["twap"].items()) == [
        ("a", 7),
        ("b", True),
        ("s", "2.5"),
        ("r", True),
        ("m", 30),
        ("t", False),
    ]
    assert msgspec.to_builtins(twaps.build_stop("twap:5", 7)) == {"type": "twapCancel", "a": 7, "t": 5}


@pytest.mark.parametrize("name", ["5", "twap:", "twap:x", "twap:-1", ""])
def test_id_that_names_no_twap_is_refused(name: str) -> None:
    """An order's id must never stop a TWAP, nor the other way round."""
    with pytest.raises(InvalidOrder):
        twaps.build_stop(name, 7)


@given(st.integers(0, 2**63))
def test_ids_survive_the_way_there_and_back(number: int) -> None:
    """What is stored is what is sent."""
    assert twaps.twap_id(twaps.order_id(number)) == number


@pytest.mark.parametrize(
    ("word", "executed", "state"),
    [
        ("activated", "0.0", VenueOrderState.WORKING),
        ("waitingForTrigger", "0.0", VenueOrderState.WORKING),
        ("finished", "2.0", VenueOrderState.FILLED),
        ("finished", "1.5", VenueOrderState.EXPIRED),
        ("terminated", "0.5", VenueOrderState.CANCELED),
        ("stopped", "0.5", VenueOrderState.CANCELED),
        ("marmalade", "0.5", VenueOrderState.UNRECOGNISED),
    ],
)
def test_states(word: str, executed: str, state: VenueOrderState) -> None:
    """Finished with a rest is the end of its time, not of its size; a new word proves nothing."""
    view = twaps.normalize_twap(row(word, executedSz=executed), UNIVERSE)
    assert view is not None
    assert (view.state, view.filled_quantity, view.quantity) == (state, Decimal(executed), Decimal(2))
    assert (view.venue_order_id, view.text, view.reason) == ("twap:5", word, None)
    assert view.venue_time_ns == STARTED_MS * NS


def test_error_ends_it_with_the_venues_sentence_and_its_reason() -> None:
    """The description is a sentence of the venue like any other."""
    view = twaps.normalize_twap(row("error", description="Insufficient margin to place order."), UNIVERSE)
    assert view is not None
    assert (view.state, view.reason) == (VenueOrderState.CANCELED, Reason.INSUFFICIENT_MARGIN)
    assert view.text == "Insufficient margin to place order."


def test_rows_of_other_products_or_without_an_id_are_left_out_and_odd_sides_refused() -> None:
    """Nothing is guessed."""
    assert twaps.normalize_twap(row(coin="@107"), UNIVERSE) is None
    assert twaps.normalize_twap(row(twap_id=None), UNIVERSE) is None
    with pytest.raises(ProtocolViolation):
        twaps.normalize_twap(row(side="C"), UNIVERSE)


def test_known_id_finds_the_last_word_on_it_whatever_the_order_of_rows() -> None:
    """Beginning and end may carry the same second."""
    rows = [row(), row("terminated", executedSz="0.5"), row(twap_id=6)]
    for told in (rows, rows[::-1]):
        view = twaps.find_twap(told, target("twap:5"), UNIVERSE)
        assert view is not None
        assert view.state is VenueOrderState.CANCELED
    assert twaps.find_twap(rows, target("twap:9"), UNIVERSE) is None


def test_without_an_id_equal_terms_at_its_time_are_evidence() -> None:
    """One of them alone, and no other order of ours it could be."""
    view = twaps.find_twap([row(twap_id=4, minutes=60), row()], target(), UNIVERSE)
    assert view is not None
    assert view.venue_order_id == "twap:5"


DIFFERENT: list[dict[str, Any]] = [
    {"coin": "BTC"},
    {"side": "A"},
    {"sz": "2.1"},
    {"minutes": 31},
    {"randomize": True},
    {"reduceOnly": True},
    {"timestamp": STARTED_MS - 5_001},
    {"timestamp": STARTED_MS + 20_001},
]


@pytest.mark.parametrize("change", DIFFERENT, ids=str)
def test_another_term_or_time_is_another_twap(change: dict[str, Any]) -> None:
    """Absence is what the resolver may judge."""
    assert twaps.find_twap([row(**change)], target(), UNIVERSE) is None


def test_ids_of_other_orders_are_not_ours() -> None:
    """Two equal TWAPs one after the other: the first has its id already."""
    view = twaps.find_twap([row(), row(twap_id=6)], target(others=frozenset({"twap:5"})), UNIVERSE)
    assert view is not None
    assert view.venue_order_id == "twap:6"


def test_what_cannot_be_told_apart_is_not_guessed() -> None:
    """Two that fit, or one that may be another order's: it stays uncertain, for a person to resolve."""
    with pytest.raises(OutcomeUnknown):
        twaps.find_twap([row(), row(twap_id=6)], target(), UNIVERSE)
    with pytest.raises(OutcomeUnknown):
        twaps.find_twap([row()], target(rivals=True), UNIVERSE)
    assert twaps.find_twap([], target(rivals=True), UNIVERSE) is None


@settings(max_examples=60)
@given(st.lists(st.sampled_from(range(3)), max_size=6), st.booleans())
def test_a_found_twap_always_fits_alone(ids: list[int], rivals: bool) -> None:
    """Law: an answer is given only where exactly one id has the terms and nobody else claims it."""
    rows = [row(twap_id=number) for number in ids]
    try:
        view = twaps.find_twap(rows, target(rivals=rivals), UNIVERSE)
    except OutcomeUnknown:
        assert len(set(ids)) > 1 or rivals
    else:
        assert (view is None) == (not ids)
        assert not (ids and rivals)


def test_answers_to_start_and_stop() -> None:
    """Running has the id; a refusal has its reason; gone is gone."""

    def told(kind: str, status: Any) -> Any:
        body = {"status": "ok", "response": {"type": kind, "data": {"status": status}}}
        return parse_exchange_answer(msgspec.json.encode(body))

    running = told("twapOrder", {"running": {"twapId": 77738308}})
    assert answers.read_twap_started(running) == Placed(venue_order_id="twap:77738308")
    small = answers.read_twap_started(
        told("twapOrder", {"error": "TWAP order value too small. Min is $1200, which is $10 per minute."})
    )
    assert isinstance(small, Refused)
    assert small.reason is Reason.BELOW_MIN_NOTIONAL
    with pytest.raises(OutcomeUnknown):
        answers.read_twap_started(told("twapOrder", "success"))
    gone = told("twapCancel", {"error": "TWAP was never placed, already canceled, or filled."})
    assert answers.read_canceled(gone) is CancelAnswer.GONE
    assert answers.read_canceled(told("twapCancel", "success")) is CancelAnswer.CANCELED


def test_target_of_a_plain_order_finds_no_twap() -> None:
    """Without terms there is nothing to know it by."""
    assert twaps.find_twap([row()], replace(target(), twap=None), UNIVERSE) is None
