"""Subscriptions as records: asked, answered once, lost with the connection (property 9)."""

from __future__ import annotations

from venuemesh.errors import Sent
from venuemesh.transport.observer import RequestOutcome
from venuemesh.transport.subscriptions import SubscriptionRecords


def test_an_answer_becomes_one_record_with_the_time_since_it_was_asked() -> None:
    """P9: a second answer, or one to nothing asked, is none."""
    records = SubscriptionRecords("user/main")
    records.asked("a", "kind", now_s=1.0, now_ns=7)
    records.asked("a", "kind", now_s=2.0, now_ns=8)
    record = records.answered("a", now_s=4.0)
    assert record is not None
    assert (record.link, record.endpoint, record.outcome) == ("user/main", "subscribe.kind", RequestOutcome.OK)
    assert (record.started_ns, record.latency_s, record.request_body, record.status) == (7, 3.0, b"a", 0)
    assert records.answered("a", now_s=5.0) is None
    assert records.answered("b", now_s=5.0) is None


def test_a_refusal_is_kept_in_the_venues_words() -> None:
    """P9: refused is not unanswered."""
    records = SubscriptionRecords("market")
    records.asked("a", "kind", now_s=1.0, now_ns=7)
    record = records.answered("a", now_s=1.5, refusal="unknown coin")
    assert record is not None
    assert (record.outcome, record.response_body) == (RequestOutcome.CLIENT_ERROR, b"unknown coin")


def test_what_was_not_answered_when_the_connection_ended_is_lost() -> None:
    """P9: never answered is in the trail too, once."""
    records = SubscriptionRecords("market")
    records.asked("a", "x", now_s=1.0, now_ns=7)
    records.asked("b", "y", now_s=1.0, now_ns=7)
    records.answered("a", now_s=1.5)
    (record,) = records.lost(now_s=9.0, detail="silent")
    assert (record.endpoint, record.outcome, record.sent) == ("subscribe.y", RequestOutcome.LOST, Sent.MAYBE)
    assert (record.detail, record.status) == ("silent", None)
    assert records.lost(now_s=9.0, detail="silent") == []
