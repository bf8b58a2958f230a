"""Checks of the caller's wishes for a stream."""

from __future__ import annotations

import pytest

from venuemesh.errors import InvalidRequest, Reason
from venuemesh.stream_options import EVENTS, EVENTS_WITH_MARKS, PRICES, Policy, StreamRules, parse_stream_options
from venuemesh.v1 import stream_pb2


def test_defaults_are_five_seconds_and_the_methods_own_policy() -> None:
    """Empty options are good options."""
    assert parse_stream_options(stream_pb2.StreamOptions(), EVENTS).policy is Policy.EVERY_EVENT
    terms = parse_stream_options(stream_pb2.StreamOptions(), PRICES)
    assert (terms.policy, terms.heartbeat_s, terms.resume_after) == (Policy.CONFLATE_LATEST, 5.0, None)
    assert terms.queue_interval_s == 0.0


@pytest.mark.parametrize("value", [1_000, 30_000])
def test_heartbeat_within_bounds_is_taken(value: int) -> None:
    """Both ends are included."""
    terms = parse_stream_options(stream_pb2.StreamOptions(heartbeat_interval_ms=value), EVENTS)
    assert terms.heartbeat_s == value / 1_000


@pytest.mark.parametrize(
    ("options", "rules", "field", "reason"),
    [
        ({"heartbeat_interval_ms": 0}, EVENTS, "heartbeat_interval_ms", Reason.INVALID_ARGUMENT),
        ({"heartbeat_interval_ms": 999}, EVENTS, "heartbeat_interval_ms", Reason.INVALID_ARGUMENT),
        ({"heartbeat_interval_ms": 30_001}, EVENTS, "heartbeat_interval_ms", Reason.INVALID_ARGUMENT),
        ({"slow_reader_policy": 2}, EVENTS, "slow_reader_policy", Reason.INVALID_ARGUMENT),
        ({"slow_reader_policy": 3, "sample_interval_ms": 9}, EVENTS, "slow_reader_policy", Reason.INVALID_ARGUMENT),
        ({"slow_reader_policy": 99}, PRICES, "slow_reader_policy", Reason.INVALID_ARGUMENT),
        ({"slow_reader_policy": 3}, PRICES, "sample_interval_ms", Reason.REQUIRED_FIELD_MISSING),
        ({"slow_reader_policy": 3, "sample_interval_ms": 0}, PRICES, "sample_interval_ms", Reason.INVALID_ARGUMENT),
        (
            {"slow_reader_policy": 3, "sample_interval_ms": 60_001},
            PRICES,
            "sample_interval_ms",
            Reason.INVALID_ARGUMENT,
        ),
        ({"sample_interval_ms": 100}, PRICES, "sample_interval_ms", Reason.CONTRADICTORY_FIELDS),
        ({"sample_interval_ms": 100}, EVENTS, "sample_interval_ms", Reason.CONTRADICTORY_FIELDS),
        (
            {"slow_reader_policy": 1, "sample_interval_ms": 100},
            PRICES,
            "sample_interval_ms",
            Reason.CONTRADICTORY_FIELDS,
        ),
    ],
)
def test_bad_wish_is_refused_by_name(options: dict[str, int], rules: StreamRules, field: str, reason: Reason) -> None:
    """The refusal names the field at fault below the path of the options."""
    with pytest.raises(InvalidRequest) as refusal:
        parse_stream_options(stream_pb2.StreamOptions(**options), rules, field="options")  # type: ignore[arg-type]
    assert (refusal.value.field, refusal.value.reason) == (f"options.{field}", reason)


def test_sample_interval_is_taken_where_marks_ride_beside_events() -> None:
    """A portfolio keeps every event and samples marks."""
    terms = parse_stream_options(stream_pb2.StreamOptions(sample_interval_ms=250), EVENTS_WITH_MARKS)
    assert (terms.policy, terms.queue_interval_s) == (Policy.EVERY_EVENT, 0.25)


def test_resume_position_zero_is_not_no_position() -> None:
    """Behind number 0 means from the first event; absent means a snapshot."""
    resume = stream_pb2.StreamPosition(epoch="e", sequence=0)
    terms = parse_stream_options(stream_pb2.StreamOptions(resume_after=resume), EVENTS)
    assert (terms.resume_epoch, terms.resume_after) == ("e", 0)
