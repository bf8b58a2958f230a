"""The list of instruments is replaced as a whole."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from venuemesh.errors import InstrumentNotFound, Reason, Sent, VenueUnavailable
from venuemesh.gateway.instruments import Instruments
from venuemesh.v1 import instrument_pb2


def row(symbol: str, **fields: object) -> instrument_pb2.Instrument:
    return instrument_pb2.Instrument(venue="fake", symbol=symbol, settle_asset="USDC", **fields)  # type: ignore[arg-type]


def test_replace_returns_what_is_new_or_changed() -> None:
    """The time of reading is not a change."""
    instruments = Instruments()
    assert len(instruments.replace([row("A"), row("B")])) == 2
    later = row("A", updated_time=Timestamp(seconds=5))
    changed = instruments.replace([later, row("B", venue_symbol="new"), row("C")])
    assert [one.symbol for one in changed] == ["B", "C"]
    assert [one.symbol for one in instruments.all()] == ["A", "B", "C"]


def test_replace_tells_listeners_and_returns_as_delisted_what_is_gone() -> None:
    """A reader learns of the end too, and of a new beginning."""
    instruments, told = Instruments(), list[instrument_pb2.Instrument]()
    instruments.listeners.append(told.append)
    instruments.replace([row("A"), row("B")])
    (gone,) = instruments.replace([row("B")])
    assert (gone.symbol, gone.state) == ("A", instrument_pb2.INSTRUMENT_STATE_DELISTED)
    assert instruments.replace([row("B")]) == []
    instruments.replace([row("A"), row("B")])
    assert [one.symbol for one in told] == ["A", "B", "A", "A"]
    assert instruments.last_known("A", "fake").state != instrument_pb2.INSTRUMENT_STATE_DELISTED


def test_get_of_an_unknown_symbol_names_the_field() -> None:
    """The caller learns which field of the request to mend."""
    instruments = Instruments()
    instruments.replace([row("A")])
    with pytest.raises(InstrumentNotFound) as caught:
        instruments.get("X", "fake", field="order.symbol")
    assert (caught.value.reason, caught.value.field) == (Reason.INSTRUMENT_NOT_FOUND, "order.symbol")


def test_get_before_the_first_reading_says_that_nobody_can_tell_yet() -> None:
    """A gateway that has just started must not claim that an instrument does not exist."""
    with pytest.raises(VenueUnavailable) as caught:
        Instruments().get("X", "fake", field="order.symbol")
    assert (caught.value.reason, caught.value.sent) == (Reason.VENUE_DISCONNECTED, Sent.NO)


def test_delisted_instrument_can_still_be_found_for_a_cancel() -> None:
    """No new order in it, but an open one must be reachable."""
    instruments = Instruments()
    instruments.replace([row("A")])
    instruments.replace([row("B")])
    with pytest.raises(InstrumentNotFound):
        instruments.get("A", "fake")
    assert instruments.last_known("A", "fake").symbol == "A"
    assert instruments.settle_asset_of("A") == "USDC"
    assert len(instruments) == 1
    with pytest.raises(InstrumentNotFound):
        instruments.last_known("C", "fake")
