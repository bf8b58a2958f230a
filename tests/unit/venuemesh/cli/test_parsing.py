"""What people write on a command line."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from venuemesh.cli.exits import Exit, UsageFault, worst
from venuemesh.cli.parsing import decimal_text, instant_ns, one_of, optional_decimal, span_ns, tags_of
from venuemesh.money import parse_decimal

NOW_NS = 1_800_000_000 * 10**9


@given(st.decimals(min_value=-(10**12), max_value=10**12, places=8))
@settings(max_examples=200, deadline=None)
def test_number_however_written_becomes_the_one_spelling_of_the_contract(value: Decimal) -> None:
    """The value stays, whether written plainly, with zeros behind, or with an exponent."""
    for text in (f"{value:f}", f"{value:f}00", f"{value:E}"):
        assert parse_decimal(decimal_text(text, "--price"), field="price") == value


@pytest.mark.parametrize("text", ["", "x", "1,5", "NaN", "Infinity", "1e99", "0.0000000000000000001", "1" * 60])
def test_number_when_it_is_none_names_option_and_value(text: str) -> None:
    """A typing error must never become a price."""
    with pytest.raises(UsageFault, match=r"^--price: "):
        decimal_text(text, "--price")


def test_number_when_absent_stays_absent() -> None:
    """Absent is not zero."""
    assert optional_decimal(None, "--price") is None


@pytest.mark.parametrize(
    ("text", "nanos"), [("500ms", 5 * 10**8), ("30s", 30 * 10**9), ("1.5m", 90 * 10**9), ("2h", 7_200 * 10**9)]
)
def test_duration_is_read_exactly(text: str, nanos: int) -> None:
    """To the nanosecond, without a float."""
    assert span_ns(text, "--for") == nanos


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "5w", "1e3s"])
def test_duration_when_it_is_none_is_refused(text: str) -> None:
    """A unit is required."""
    with pytest.raises(UsageFault, match="--for: must be a duration"):
        span_ns(text, "--for")


def test_instant_is_a_time_or_a_distance_from_now() -> None:
    """RFC 3339 with any offset; a distance goes back, or forward where that is meant."""
    assert instant_ns("2027-01-15T08:00:00Z", "--since", now_ns=0) == NOW_NS
    assert instant_ns("2027-01-15T10:00:00+02:00", "--since", now_ns=0) == NOW_NS
    assert instant_ns("2027-01-15T08:00:00.000001Z", "--since", now_ns=0) == NOW_NS + 1_000
    assert instant_ns("10m", "--since", now_ns=NOW_NS) == NOW_NS - 600 * 10**9
    assert instant_ns("10m", "--expire", now_ns=NOW_NS, future=True) == NOW_NS + 600 * 10**9


@pytest.mark.parametrize("text", ["yesterday", "2027-01-15", "2027-01-15T08:00:00", ""])
def test_instant_when_ambiguous_is_refused(text: str) -> None:
    """A time without an offset from UTC is nobody's."""
    with pytest.raises(UsageFault, match="--since"):
        instant_ns(text, "--since", now_ns=NOW_NS)


def test_tags_are_pairs() -> None:
    """The value may hold an equals sign and may be empty."""
    assert tags_of(["a=b", "c=d=e", "f="]) == {"a": "b", "c": "d=e", "f": ""}
    with pytest.raises(UsageFault):
        tags_of(["=x"])


def test_one_of_wants_exactly_one() -> None:
    """None and two are refused by name."""
    assert one_of(key="k", order_id=None) == "key"
    for given_ids in ({"key": None, "order_id": None}, {"key": "a", "order_id": "b"}):
        with pytest.raises(UsageFault, match="KEY, --order-id"):
            one_of(**given_ids)


def test_worst_of_several_ends_puts_doubt_before_absence_before_refusal() -> None:
    """A script must learn of doubt first."""
    assert worst([Exit.OK, Exit.REFUSED, Exit.UNAVAILABLE, Exit.UNKNOWN]) is Exit.UNKNOWN
    assert worst([Exit.REFUSED, Exit.UNAVAILABLE]) is Exit.UNAVAILABLE
    assert worst([Exit.OK, Exit.REFUSED]) is Exit.REFUSED
    assert worst([]) is Exit.OK
