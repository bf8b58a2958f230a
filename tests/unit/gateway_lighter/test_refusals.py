"""Codes and statuses: every published one has a meaning, an unknown one proves nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_lighter.refusals import (
    STATUS_WORDS,
    classify_error,
    classify_order_status,
    status_word,
)
from tests.unit.gateway_lighter.support import needs_recordings, recording
from venuemesh.errors import ErrorClass, ProtocolViolation, Reason

UNLISTED = (20001, 20009, 20013, 21142, 21146, 21149, 21158, 23201, 23202)


@needs_recordings
def test_every_published_code_is_recognized() -> None:
    """All 239 of the official list."""
    published = recording("error_codes.json")
    assert len(published) == 239
    assert [row["code"] for row in published if not classify_error(row["code"]).recognized] == []


@pytest.mark.parametrize("code", UNLISTED)
def test_code_seen_live_but_not_published_is_recognized(code: int) -> None:
    """Section 12 names them."""
    assert classify_error(code).definitive


@pytest.mark.parametrize(
    ("code", "reason", "error_class"),
    [
        (21104, Reason.NONCE_REJECTED, ErrorClass.RETRYABLE),
        (21120, Reason.AUTHENTICATION_FAILED, ErrorClass.FATAL),
        (21109, Reason.AUTHENTICATION_FAILED, ErrorClass.FATAL),
        (20013, Reason.AUTHENTICATION_FAILED, ErrorClass.FATAL),
        (21602, Reason.INSTRUMENT_NOT_FOUND, ErrorClass.INVALID_REQUEST),
        (21605, Reason.INSTRUMENT_NOT_TRADING, ErrorClass.EXCHANGE_ERROR),
        (21706, Reason.BELOW_MIN_NOTIONAL, ErrorClass.INVALID_REQUEST),
        (21701, Reason.BELOW_MIN_QUANTITY, ErrorClass.INVALID_REQUEST),
        (21715, Reason.ORDER_NOT_WORKING, ErrorClass.INVALID_REQUEST),
        (21717, Reason.TOO_MANY_OPEN_ORDERS, ErrorClass.EXCHANGE_ERROR),
        (21728, Reason.INVALID_CLIENT_ORDER_ID, ErrorClass.INVALID_REQUEST),
        (21732, Reason.REDUCE_ONLY_WOULD_INCREASE, ErrorClass.INVALID_REQUEST),
        (21733, Reason.PRICE_OUT_OF_BAND, ErrorClass.INVALID_REQUEST),
        (21739, Reason.INSUFFICIENT_MARGIN, ErrorClass.INVALID_REQUEST),
        (21113, Reason.LEVERAGE_OUT_OF_RANGE, ErrorClass.INVALID_REQUEST),
        (23000, Reason.RATE_LIMIT_VENUE, ErrorClass.RATE_LIMITED),
        (23003, Reason.TOO_MANY_STREAMS, ErrorClass.RATE_LIMITED),
        (30009, Reason.RATE_LIMIT_VENUE, ErrorClass.RATE_LIMITED),
    ],
)
def test_code_a_trader_meets_has_its_own_reason(code: int, reason: Reason, error_class: ErrorClass) -> None:
    """And each of these proves that nothing happened."""
    meaning = classify_error(code, "words")
    assert (meaning.reason, meaning.error_class, meaning.definitive) == (reason, error_class, True)
    assert meaning.text == f"{code} words"
    assert (meaning.retry_after_s is not None) == (error_class is ErrorClass.RATE_LIMITED)


@pytest.mark.parametrize("code", [29500, 29501, 99999, 0, -1])
def test_code_that_proves_nothing_is_not_definitive(code: int) -> None:
    """A server fault, a time-out there, a number nobody has seen."""
    assert not classify_error(code, "internal server error").definitive


@given(code=st.integers(), text=st.text(max_size=50))
def test_classification_never_raises(code: int, text: str) -> None:
    """Whatever the venue invents; its words are kept."""
    assert text.rstrip() in classify_error(code, text).text


@pytest.mark.parametrize(
    ("word", "filled", "waited", "status", "reason"),
    [
        ("open", False, False, "NEW", None),
        ("open", True, False, "PARTIALLY_FILLED", None),
        ("in-progress", False, False, "NEW", None),
        ("pending", False, True, "NEW", None),
        ("filled", True, False, "FILLED", None),
        ("canceled", False, False, "CANCELED", None),
        ("canceled", True, False, "CANCELED", None),
        ("canceled-expired", False, False, "EXPIRED", None),
        ("canceled-post-only", False, False, "REJECTED", Reason.POST_ONLY_WOULD_CROSS),
        ("canceled-post-only", False, True, "CANCELED", Reason.POST_ONLY_WOULD_CROSS),
        ("canceled-not-enough-liquidity", False, False, "REJECTED", Reason.NO_LIQUIDITY),
        ("canceled-not-enough-liquidity", True, False, "CANCELED", Reason.NO_LIQUIDITY),
        ("canceled-too-much-slippage", False, False, "REJECTED", Reason.NO_LIQUIDITY),
        ("canceled-self-trade", False, False, "CANCELED", Reason.SELF_TRADE),
        ("canceled-margin-not-allowed", False, False, "CANCELED", Reason.INSUFFICIENT_MARGIN),
        ("canceled-oco", False, True, "CANCELED", None),
        ("canceled-liquidation", False, False, "CANCELED", Reason.INSUFFICIENT_MARGIN),
    ],
)
def test_status_word_becomes_a_contract_status(
    word: str, filled: bool, waited: bool, status: str, reason: Reason | None
) -> None:
    """An order that never met the book was rejected; one that waited or filled was cancelled."""
    meaning = classify_order_status(word, filled=filled, waited_for_trigger=waited)
    assert (meaning.status, meaning.reason, meaning.recognized) == (status, reason, True)


def test_new_cancel_word_is_a_cancel_but_not_recognized() -> None:
    """Its beginning says that the order is gone; why, nobody knows."""
    meaning = classify_order_status("canceled-by-moonlight")
    assert (meaning.status, meaning.reason, meaning.recognized) == ("CANCELED", Reason.VENUE_REJECTED, False)


@pytest.mark.parametrize("word", ["", "OPEN", "triggered", "cancelled"])
def test_unknown_status_word_is_never_guessed(word: str) -> None:
    """Order state is parsed strictly."""
    with pytest.raises(ProtocolViolation):
        classify_order_status(word)


def test_status_numbers_follow_the_reference() -> None:
    """0 in progress to 16 invalid balance."""
    assert [status_word(n) for n in (0, 1, 2, 3, 4, 5, 12, 16)] == [
        "in-progress",
        "pending",
        "open",
        "filled",
        "canceled",
        "canceled-post-only",
        "canceled-expired",
        "canceled-invalid-balance",
    ]
    assert len(STATUS_WORDS) == 17
    for number in (-1, 17):
        with pytest.raises(ProtocolViolation):
            status_word(number)
