"""Words of the venue that no table has: the outcome stays right and somebody is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypercore.adapter import sender
from hypercore.exchange_codec import Accepted, Refused, Resting, UnknownStatus
from hypercore.refusals import classify_error
from simulator.faults import Fault, FaultKind
from tests.integration.hypercore.adapter.world import world
from venuemesh.errors import Reason
from venuemesh.gateway import venue as port


def test_unknown_words_of_an_answer_are_those_in_no_table() -> None:
    """Refusals of single elements, of the whole action, and forms of an element."""
    known, odd = classify_error("Order has zero size. asset=1"), classify_error("Something new. asset=1")
    answer = Accepted(
        kind="order",
        statuses=(Resting(oid=1), Refused(meaning=known), Refused(meaning=odd), UnknownStatus(raw='{"new":1}')),
    )
    assert sender.unknown_words(answer) == ["Something new. asset=1", '{"new":1}']
    assert sender.unknown_words(Refused(meaning=odd)) == ["Something new. asset=1"]
    assert sender.unknown_words(Refused(meaning=known)) == []


@pytest.mark.parametrize("text", ["The moon is in the wrong house", "Neue Regel: nein"])
async def test_order_refused_in_new_words_is_rejected_with_the_raw_text(tmp_path: Path, text: str) -> None:
    """VENUE_REJECTED, the whole text, and the sink is told."""
    async with world(tmp_path) as found:
        found.simulator.faults.add(Fault(kind=FaultKind.REFUSE, match="order", text=text))
        answer = await found.venue.place_order(found.ticket(), lambda: None)
        assert isinstance(answer, port.Refused)
        assert (answer.reason, answer.text) == (Reason.VENUE_REJECTED, text)
        assert found.sink.unknown_words == [("main", text)]
