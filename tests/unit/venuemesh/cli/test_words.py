"""Words of the contract as people read and write them."""

from __future__ import annotations

from enum import StrEnum

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from venuemesh.cli import choices
from venuemesh.cli.advice import ADVICE, advice
from venuemesh.cli.grids import enum_word, instant, length, moment, printable, word
from venuemesh.cli.link import method_of
from venuemesh.errors import Reason
from venuemesh.v1 import (
    error_pb2,
    operations_pb2,
    operations_service_pb2,
    order_pb2,
    order_service_pb2,
    portfolio_service_pb2,
    reconciliation_service_pb2,
    risk_pb2,
    risk_service_pb2,
    routing_pb2,
    routing_service_pb2,
)

SERVICES = (
    operations_service_pb2,
    order_service_pb2,
    portfolio_service_pb2,
    reconciliation_service_pb2,
    risk_service_pb2,
    routing_service_pb2,
)

ENUMS = {
    choices.Side: order_pb2.Side,
    choices.OrderType: order_pb2.OrderType,
    choices.TimeInForce: order_pb2.TimeInForce,
    choices.TriggerPriceType: order_pb2.TriggerPriceType,
    choices.AckLevel: order_service_pb2.AckLevel,
    choices.OrderStatus: order_pb2.OrderStatus,
    choices.RoutingStrategy: routing_pb2.RoutingStrategy,
    choices.SplitMode: routing_pb2.SplitMode,
    choices.TradingState: risk_pb2.TradingState,
    choices.AuditOutcome: operations_pb2.AuditOutcome,
    choices.Resolution: reconciliation_service_pb2.Resolution,
    choices.RiskLimitType: risk_pb2.RiskLimitType,
}


def test_every_reason_of_the_contract_has_advice_of_its_own() -> None:
    """Who sees a reason is told what to do; a new reason needs a sentence in `venuemesh/cli/advice.py`."""
    contract = {name.removeprefix("REASON_") for name in error_pb2.Reason.DESCRIPTOR.values_by_name} - {"UNSPECIFIED"}
    assert set(ADVICE) == contract | {reason.value for reason in Reason}
    assert all(text.endswith(".") and text[0].isupper() for text in ADVICE.values())
    assert advice("FROM_A_NEWER_RELEASE") == ""


def test_every_list_of_choices_is_tested_below() -> None:
    """A new one must be put into the table."""
    found = {one for one in vars(choices).values() if isinstance(one, type) and issubclass(one, StrEnum)}
    assert found - {StrEnum} == set(ENUMS)


@pytest.mark.parametrize("choice", ENUMS, ids=lambda one: one.__name__)
def test_choices_are_exactly_the_values_of_the_contract(choice: type[StrEnum]) -> None:
    """None is missing, none invented; and the word shown is the word typed."""
    enum = ENUMS[choice]
    numbers = {choices.number_of(one, enum) for one in choice}
    assert numbers | {0} == set(enum.values())
    for one in choice:
        shown = enum_word(enum.DESCRIPTOR, choices.number_of(one, enum))
        assert shown.lower().replace("_", "-") == one.value
    assert choices.number_of(None, enum) == 0


def test_enum_when_newer_than_this_release_shows_its_number() -> None:
    """An unknown value is passed on, not hidden."""
    assert word(order_pb2.Order(status=99), "status") == "99"  # type: ignore[arg-type]
    assert word(order_pb2.Order(), "status") == ""


def test_request_names_its_method() -> None:
    """Every request of the contract belongs to one method, which is how a call is addressed."""
    method = method_of(order_service_pb2.SubmitOrderRequest())
    assert (method.containing_service.full_name, method.name) == ("venuemesh.v1.OrderService", "SubmitOrder")
    with pytest.raises(TypeError, match="is the request of no method"):
        method_of(order_pb2.Order())
    for module in SERVICES:
        requests = [
            method.input_type.full_name
            for service in module.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        ]
        assert requests and len(requests) == len(set(requests))


def test_instants_and_durations_read_well() -> None:
    """UTC to the millisecond; three digits of a duration."""
    assert moment(Timestamp(seconds=1_800_000_000, nanos=7_000_000)) == "2027-01-15 08:00:00.007Z"
    assert moment(Timestamp()) == "-" == instant(0)
    assert instant(2**63 - 1).startswith("2262-04-11")
    spans = {10**6: "1 ms", 1_500 * 10**6: "1.5 s", 600 * 10**9: "10 min", 7_200 * 10**9: "2 h", 259_200 * 10**9: "3 d"}
    for nanos, text in spans.items():
        duration = Duration()
        duration.FromNanoseconds(nanos)
        assert length(duration) == text


def test_text_from_elsewhere_cannot_move_the_cursor() -> None:
    """Escape sequences, carriage returns and direction marks are shown, not obeyed."""
    assert printable("a\x1b[2Jb\rc\u202ed\ne") == "a?[2Jb?c?d\ne"
