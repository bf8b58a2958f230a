"""Sections of a venue: counts, freshness of reference prices, and what of them is told."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import ManualClock
from venuemesh.gateway.sections import Sections, mark_distance_bps, told_facts
from venuemesh.gateway.venue import ReferencePrice
from venuemesh.v1 import instrument_pb2, stream_pb2, venue_pb2

TRADING, HALTED, DELISTED = (
    instrument_pb2.INSTRUMENT_STATE_TRADING,
    instrument_pb2.INSTRUMENT_STATE_HALTED,
    instrument_pb2.INSTRUMENT_STATE_DELISTED,
)
EXTERNAL, INTERNAL = instrument_pb2.ORACLE_SESSION_EXTERNAL, instrument_pb2.ORACLE_SESSION_INTERNAL
RECEIVED_NS = 1_790_000_000_000_000_000


def price(symbol: str, oracle: str = "100", mark: str = "100", *, mid: bool = True) -> ReferencePrice:
    """Reference prices of one instrument."""
    return ReferencePrice(
        symbol=symbol,
        oracle_price=Decimal(oracle),
        mark_price=Decimal(mark),
        mid_price=Decimal(mark) if mid else None,
    )


def listed(states: Mapping[str, int], section: str = "xyz", **more: object) -> list[instrument_pb2.Instrument]:
    """Instruments of one section by state."""
    return [
        instrument_pb2.Instrument(symbol=symbol, state=state, venue_section=section, **more)  # type: ignore[arg-type]
        for symbol, state in states.items()
    ]


def test_counts_are_of_the_listing_and_sections_stand_apart() -> None:
    """What trades, is halted, is gone and is at its cap, per section; without prices nothing is said of an oracle."""
    rows = [
        *listed({"A": TRADING, "B": HALTED, "C": DELISTED, "D": TRADING}, at_open_interest_cap=True),
        *listed({"E": TRADING}, section=""),
    ]
    main, xyz = Sections(ManualClock()).statuses(rows)
    assert (main.venue_section, main.instruments_trading, main.instruments_at_open_interest_cap) == ("", 1, 0)
    assert (xyz.venue_section, xyz.instruments_trading, xyz.instruments_at_open_interest_cap) == ("xyz", 2, 2)
    assert (xyz.instruments_halted, xyz.instruments_delisted) == (1, 1)
    assert xyz.oracle_freshness == stream_pb2.FRESHNESS_UNSPECIFIED
    assert not xyz.HasField("oracle_time")
    assert not xyz.HasField("oracle_still_after")


def test_session_is_stated_only_where_all_that_trades_has_the_same() -> None:
    """A mixture, and a venue that tells nothing, stay unspecified; what is delisted does not count."""
    sections = Sections(ManualClock())
    stated = listed({"A": TRADING, "B": TRADING}, oracle_session=EXTERNAL)
    mixed = [*stated, *listed({"C": TRADING}, oracle_session=INTERNAL)]
    silent = listed({"A": TRADING})
    gone = [*stated, *listed({"C": DELISTED}, oracle_session=INTERNAL)]
    found = [sections.statuses(rows)[0].oracle_session for rows in (stated, mixed, silent, gone)]
    unstated = instrument_pb2.ORACLE_SESSION_UNSPECIFIED
    assert found == [EXTERNAL, unstated, unstated, EXTERNAL]


def test_reference_prices_are_stale_when_silent_or_lost_and_fresh_when_they_come() -> None:
    """Silence is noticed by the clock alone; a cause that is known is told."""
    clock = ManualClock()
    sections, rows = Sections(clock, stale_after_s=15.0), listed({"A": TRADING})

    def state() -> tuple[int, str]:
        (status,) = sections.statuses(rows)
        return status.oracle_freshness, status.oracle_cause

    sections.on_lost("xyz", "the market data link is down")
    assert state() == (stream_pb2.FRESHNESS_STALE, "the market data link is down")
    sections.on_reference_prices("xyz", [price("A")], RECEIVED_NS)
    clock.advance(15.0)
    assert state() == (stream_pb2.FRESHNESS_FRESH, "")
    clock.advance(0.1)
    assert state() == (stream_pb2.FRESHNESS_STALE, "no reference prices for 15s")
    sections.on_reference_prices("xyz", [price("A")], RECEIVED_NS)
    assert state() == (stream_pb2.FRESHNESS_FRESH, "")
    assert sections.statuses(rows)[0].oracle_time.ToNanoseconds() == RECEIVED_NS


def test_oracle_prices_that_stand_are_counted_until_they_move() -> None:
    """Only of what trades; the mark may move meanwhile."""
    clock = ManualClock()
    sections, rows = Sections(clock, still_after_s=60.0), listed({"A": TRADING, "B": TRADING, "C": DELISTED})
    for second in range(61):
        moving = str(100 + second)
        sections.on_reference_prices("xyz", [price("A", moving), price("B", mark=moving), price("C")], RECEIVED_NS)
        assert sections.statuses(rows)[0].instruments_oracle_still == (1 if second == 60 else 0)
        clock.advance(1.0)
    sections.on_reference_prices("xyz", [price("A", "7"), price("B", "7"), price("C")], RECEIVED_NS)
    assert sections.statuses(rows)[0].instruments_oracle_still == 0


def test_distance_of_marks_and_books_without_a_middle_are_of_what_trades() -> None:
    """The largest distance names its symbol; what is gone does not count."""
    sections, rows = Sections(ManualClock()), listed({"A": TRADING, "B": TRADING, "C": DELISTED})
    prices = [price("A", mark="100.1"), price("B", mark="99.7", mid=False), price("C", mark="1", mid=False)]
    sections.on_reference_prices("xyz", prices, RECEIVED_NS)
    (status,) = sections.statuses(rows)
    assert (status.max_mark_distance_bps, status.max_mark_distance_symbol) == ("30", "B")
    assert status.instruments_without_mid == 1


def test_price_of_zero_has_no_distance() -> None:
    """An oracle that was never set."""
    sections = Sections(ManualClock())
    sections.on_reference_prices("xyz", [price("A", oracle="0")], RECEIVED_NS)
    assert not sections.statuses(listed({"A": TRADING}))[0].HasField("max_mark_distance_bps")


@given(
    oracle=st.decimals(min_value="0.0001", max_value="200000", places=4),
    mark=st.decimals(min_value="0.0001", max_value="200000", places=4),
)
@settings(max_examples=100, deadline=None)
def test_distance_has_no_sign_and_is_zero_only_where_prices_are_close(oracle: Decimal, mark: Decimal) -> None:
    """Within half a hundredth of a basis point of the exact value."""
    row = ReferencePrice(symbol="A", oracle_price=oracle, mark_price=mark, mid_price=None)
    exact = abs(mark - oracle) / oracle * 10_000
    assert abs(mark_distance_bps(row) - exact) <= Decimal("0.00501")


def test_facts_told_leave_out_what_moves_all_the_time() -> None:
    """Times and distances alone are no change; counts and freshness are."""
    base = venue_pb2.SectionStatus(venue_section="xyz", instruments_trading=3)
    moved = venue_pb2.SectionStatus(venue_section="xyz", instruments_trading=3, max_mark_distance_bps="5")
    moved.oracle_time.GetCurrentTime()
    assert told_facts([base]) == told_facts([moved])
    moved.instruments_trading = 2
    assert told_facts([base]) != told_facts([moved])
