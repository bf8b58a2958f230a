"""Answers of /exchange: every envelope and element of the reference, and elements never seen."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from hypercore.exchange_codec import (
    Accepted,
    Filled,
    Refused,
    Resting,
    Running,
    Status,
    Succeeded,
    UnknownStatus,
    Waiting,
    parse_exchange_answer,
    statuses_for,
)
from venuemesh.errors import ProtocolViolation, Reason

CLOID = "0x00000000000000000000000000000001"


def answer(kind: str, data: Any = None) -> Accepted:
    response = {"type": kind} if data is None else {"type": kind, "data": data}
    parsed = parse_exchange_answer(json.dumps({"status": "ok", "response": response}).encode())
    assert isinstance(parsed, Accepted)
    return parsed


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ({"resting": {"oid": 1}}, Resting(oid=1)),
        ({"resting": {"oid": 1, "cloid": CLOID}}, Resting(oid=1, cloid=CLOID)),
        (
            {"filled": {"totalSz": "0.02", "avgPx": "2686.6", "oid": 2}},
            Filled(oid=2, total_sz=Decimal("0.02"), avg_px=Decimal("2686.6")),
        ),
        (
            {"filled": {"totalSz": "0.02", "avgPx": "2686.6", "oid": 2, "cloid": CLOID}},
            Filled(oid=2, total_sz=Decimal("0.02"), avg_px=Decimal("2686.6"), cloid=CLOID),
        ),
        ("waitingForFill", Waiting(what="waitingForFill")),
        ("waitingForTrigger", Waiting(what="waitingForTrigger")),
        ("success", Succeeded()),
    ],
)
def test_parse_exchange_answer_reads_every_status(element: Any, expected: Status) -> None:
    """Objects and bare strings."""
    assert answer("order", {"statuses": [element]}).statuses == (expected,)


def test_parse_exchange_answer_of_a_refused_element_is_classified() -> None:
    """An error inside statuses is that element's alone."""
    ok, bad = answer("cancel", {"statuses": ["success", {"error": "Order has zero size."}]}).statuses
    assert ok == Succeeded()
    assert isinstance(bad, Refused)
    assert bad.meaning.reason is Reason.QUANTITY_NOT_POSITIVE


@pytest.mark.parametrize(
    "element", ["somethingNew", {"parked": {"oid": 1}}, {"resting": {"oid": "x"}}, {}, None, 5, {"error": 5}]
)
def test_parse_exchange_answer_of_a_status_never_seen_leaves_its_neighbours(element: Any) -> None:
    """One element of unknown shape is unknown; the others keep their answers."""
    first, second = answer("order", {"statuses": [element, {"resting": {"oid": 1}}]}).statuses
    assert isinstance(first, UnknownStatus)
    assert json.loads(first.raw) == element
    assert second == Resting(oid=1)


def test_parse_exchange_answer_of_twap_actions() -> None:
    """Running, success and error."""
    running = answer("twapOrder", {"status": {"running": {"twapId": 77738308}}})
    assert running.statuses == (Running(twap_id=77738308),)
    assert answer("twapCancel", {"status": "success"}).statuses == (Succeeded(),)
    (refused,) = answer(
        "twapCancel", {"status": {"error": "TWAP was never placed, already canceled, or filled."}}
    ).statuses
    assert isinstance(refused, Refused)
    assert refused.meaning.reason is Reason.ORDER_NOT_WORKING


def test_parse_exchange_answer_of_default_and_new_kinds() -> None:
    """No statuses; the data of a kind we do not read is kept."""
    assert answer("default") == Accepted(kind="default")
    assert answer("createSubAccount", "0xab").raw_data == b'"0xab"'


def test_parse_exchange_answer_of_a_refused_action_is_the_whole_actions_refusal() -> None:
    """`status: err` with text."""
    parsed = parse_exchange_answer(b'{"status":"err","response":"Action already expired"}')
    assert isinstance(parsed, Refused)
    assert parsed.meaning.reason is Reason.EXPIRED_BEFORE_PROCESSING


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b'"ok"',
        b'{"status":"ok"}',
        b'{"status":"maybe","response":"x"}',
        b'{"status":"err","response":{"a":1}}',
        b'{"status":"ok","response":"x"}',
        b'{"status":"ok","response":{"type":"order"}}',
        b'{"status":"ok","response":{"type":"order","data":{}}}',
        b'{"status":"ok","response":{"type":"order","data":{"statuses":"success"}}}',
        b"<html>504</html>",
    ],
)
def test_parse_exchange_answer_of_an_unreadable_body_is_a_protocol_violation(raw: bytes) -> None:
    """The caller turns this into an unknown outcome; it is never an answer."""
    with pytest.raises(ProtocolViolation):
        parse_exchange_answer(raw)


def test_statuses_for_gives_each_element_its_own() -> None:
    """As many statuses as elements: as they are."""
    accepted = answer("order", {"statuses": [{"resting": {"oid": 1}}, {"resting": {"oid": 2}}]})
    assert statuses_for(accepted, 2) == accepted.statuses


def test_statuses_for_a_batch_refused_before_validation_gives_the_error_to_all() -> None:
    """The venue may answer one error for a whole batch."""
    accepted = answer("order", {"statuses": [{"error": "Order has invalid price."}]})
    assert statuses_for(accepted, 3) == accepted.statuses * 3


@pytest.mark.parametrize("statuses", [[], [{"resting": {"oid": 1}}], ["success"] * 3])
def test_statuses_for_lengths_that_do_not_fit_is_a_protocol_violation(statuses: list[Any]) -> None:
    """A status may not be given to the wrong order, and one success is not two."""
    with pytest.raises(ProtocolViolation):
        statuses_for(answer("order", {"statuses": statuses}), 2)
