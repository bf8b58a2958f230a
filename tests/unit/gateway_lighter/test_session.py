"""The state of one socket: serial subscriptions, gap repair, transactions in flight. Pure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway_lighter.account_messages import SendAnswer
from gateway_lighter.codec_book import BookChanged, BookGap
from gateway_lighter.codec_frames import DataFrame, Shutdown, UnknownFrame
from gateway_lighter.limits import MAX_BATCH, MAX_SUBSCRIPTIONS
from gateway_lighter.refusals import RefusalMeaning
from gateway_lighter.session import (
    BookEvent,
    LighterSession,
    SubscriptionAcknowledged,
    SubscriptionRefused,
    TransactionAnswered,
    UnreadableFrame,
    VenueComplaint,
)
from tests.unit.gateway_lighter.support import ORDER, SIGNER, encode
from venuemesh.errors import InvalidRequest, ProtocolViolation, RateLimited

SIGNED = SIGNER.sign(ORDER, nonce=1, expired_at_ms=1)
SECOND = SIGNER.sign(ORDER, nonce=2, expired_at_ms=1)


def said(frames: Any) -> list[dict[str, Any]]:
    """Frames as objects."""
    return [json.loads(frame) for frame in frames]


def subscribe(channel: str, **more: str) -> dict[str, str]:
    """A subscribe frame."""
    return {"type": "subscribe", "channel": channel, **more}


def snapshot(channel: str, nonce: int = 10) -> bytes:
    """The acknowledgement of a book."""
    book = {"asks": [{"price": "2", "size": "1"}], "bids": [{"price": "1", "size": "1"}], "nonce": nonce}
    return encode({"type": "subscribed/order_book", "channel": channel, "order_book": book})


def update(channel: str, begin: int, nonce: int) -> bytes:
    """A book update without levels."""
    book = {"asks": [], "bids": [], "nonce": nonce, "begin_nonce": begin}
    return encode({"type": "update/order_book", "channel": channel, "order_book": book})


def error(code: int, **more: Any) -> bytes:
    """An error frame."""
    return encode({"error": {"code": code, "message": "words"}, **more})


def connected(*channels: str) -> LighterSession:
    """A session with these book channels, all served."""
    session = LighterSession()
    for channel in channels:
        session.subscribe(channel)
    session.frames_on_connect()
    for channel in channels:
        session.receive(snapshot(channel.replace("/", ":")))
        session.pending()
    assert not session.unacknowledged()
    return session


def test_subscriptions_are_asked_for_one_by_one_private_first() -> None:
    """The next is asked for when the one before is answered; an error then has one meaning."""
    session = LighterSession(token=lambda: "tok")
    session.subscribe("order_book/1")
    session.subscribe("account_all_orders/7", private=True)
    session.subscribe("order_book/2")
    assert said(session.frames_on_connect()) == [subscribe("account_all_orders/7", auth="tok")]
    assert session.pending() == []
    orders = encode({"type": "subscribed/account_all_orders", "channel": "account_all_orders:7", "orders": {}})
    acknowledged, data = session.receive(orders)
    assert acknowledged == SubscriptionAcknowledged(channel="account_all_orders:7")
    assert isinstance(data, DataFrame)
    assert said(session.pending()) == [subscribe("order_book/1")]
    session.receive(snapshot("order_book:1"))
    assert said(session.pending()) == [subscribe("order_book/2")]
    assert session.unacknowledged() == ("order_book:2",)


def test_token_is_asked_for_anew_for_every_subscribe() -> None:
    """A reconnect after hours must not send an old one."""
    tokens = iter(["one", "two"])
    session = LighterSession(token=lambda: next(tokens))
    session.subscribe("account_tx/7", private=True)
    assert said(session.frames_on_connect()) == [subscribe("account_tx/7", auth="one")]
    session.disconnected(1)
    assert said(session.frames_on_connect()) == [subscribe("account_tx/7", auth="two")]


def test_private_channel_without_a_token_source_is_refused() -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidRequest):
        LighterSession().subscribe("account_tx/7", private=True)


def test_everything_is_asked_for_again_after_a_reconnect() -> None:
    """Nothing is served meanwhile and books are stale."""
    session = connected("order_book/1", "order_book/2")
    session.disconnected(1)
    assert session.pending() == []
    assert len(session.unacknowledged()) == 2
    book = session.book("order_book/1")
    assert book is not None and not book.is_fresh
    assert said(session.frames_on_connect()) == [subscribe("order_book/1")]


def test_subscribe_twice_in_either_spelling_changes_nothing() -> None:
    """`/` and `:` name one channel."""
    session = connected("order_book/1")
    session.subscribe("order_book:1")
    assert session.pending() == []
    assert session.channels == ("order_book:1",)


def test_unsubscribe_waits_for_its_acknowledgement() -> None:
    """And what still comes of the channel is dropped."""
    session = connected("order_book/1", "order_book/2")
    session.unsubscribe("order_book/1")
    assert said(session.pending()) == [{"type": "unsubscribe", "channel": "order_book/1"}]
    assert session.receive(update("order_book:1", 10, 11)) == []
    session.subscribe("order_book/3")
    assert session.pending() == []
    session.receive(encode({"type": "unsubscribed", "channel": "order_book:1"}))
    assert said(session.pending()) == [subscribe("order_book/3")]
    session.unsubscribe("order_book/9")
    session.receive(snapshot("order_book:3"))
    assert session.pending() == []


def test_unsubscribe_while_being_asked_for_ends_the_ask_and_then_the_service() -> None:
    """The snapshot of what nobody wants any more still answers the ask."""
    session = LighterSession()
    session.subscribe("order_book/1")
    session.frames_on_connect()
    session.unsubscribe("order_book/1")
    assert session.receive(snapshot("order_book:1")) == []
    assert said(session.pending()) == [{"type": "unsubscribe", "channel": "order_book/1"}]


def test_unsubscribe_before_being_asked_for_sends_nothing() -> None:
    """It only leaves the queue."""
    session = LighterSession()
    for market in (1, 2):
        session.subscribe(f"order_book/{market}")
    session.frames_on_connect()
    session.unsubscribe("order_book/2")
    session.receive(snapshot("order_book:1"))
    assert session.pending() == []


def test_book_gap_is_told_and_repaired_by_unsubscribe_and_subscribe() -> None:
    """A second subscribe alone would bring no snapshot."""
    session = connected("order_book/1")
    (gap,) = session.receive(update("order_book:1", 15, 20))
    assert isinstance(gap, BookEvent) and isinstance(gap.outcome, BookGap)
    assert session.unacknowledged() == ("order_book:1",)
    assert said(session.pending()) == [{"type": "unsubscribe", "channel": "order_book/1"}]
    assert session.receive(update("order_book:1", 20, 21)) == []
    session.receive(encode({"type": "unsubscribed", "channel": "order_book:1"}))
    assert said(session.pending()) == [subscribe("order_book/1")]
    acknowledged, changed = session.receive(snapshot("order_book:1", 30))
    assert isinstance(acknowledged, SubscriptionAcknowledged)
    assert isinstance(changed, BookEvent) and isinstance(changed.outcome, BookChanged)
    assert len(changed.bids) == len(changed.asks) == 1


def test_already_subscribed_is_repaired_the_same_way() -> None:
    """The venue sends no snapshot with that error."""
    session = LighterSession()
    session.subscribe("order_book/1")
    session.frames_on_connect()
    assert session.receive(error(30003)) == []
    assert said(session.pending()) == [{"type": "unsubscribe", "channel": "order_book/1"}]
    assert session.receive(error(30002)) == []  # not subscribed after all
    assert said(session.pending()) == [subscribe("order_book/1")]


def test_error_while_a_channel_is_asked_for_refuses_that_channel() -> None:
    """It is dropped, and the next is asked for."""
    session = LighterSession()
    session.subscribe("order_book/254")
    session.subscribe("order_book/1")
    session.frames_on_connect()
    (refused,) = session.receive(error(30005))
    assert isinstance(refused, SubscriptionRefused) and refused.dropped and refused.channel == "order_book:254"
    assert session.channels == ("order_book:1",)
    assert said(session.pending()) == [subscribe("order_book/1")]


def test_passing_refusal_keeps_the_channel_wanted() -> None:
    """A limit or a server fault: a reconnect asks again."""
    session = LighterSession()
    session.subscribe("order_book/1")
    session.frames_on_connect()
    (refused,) = session.receive(encode({"type": "error", "code": 30012, "channel": "order_book:1", "message": "x"}))
    assert isinstance(refused, SubscriptionRefused) and not refused.dropped
    assert session.unacknowledged() == ("order_book:1",)


def test_error_about_something_else_is_a_complaint() -> None:
    """Nothing is being asked for, or another channel is named."""
    session = connected("order_book/1")
    (complaint,) = session.receive(error(30009))
    assert isinstance(complaint, VenueComplaint) and complaint.meaning.code == 30009
    session.subscribe("order_book/2")
    session.pending()
    (complaint,) = session.receive(error(30012, channel="order_book:9"))
    assert isinstance(complaint, VenueComplaint)
    assert session.asked == "order_book:2"


def test_server_ping_is_answered_once() -> None:
    """Or the server closes with 1008."""
    session = connected()
    session.receive(encode({"type": "ping"}))
    assert said(session.pending()) == [{"type": "pong"}]
    assert session.pending() == []
    assert session.receive(encode({"type": "pong"})) == []
    assert json.loads(session.heartbeat()) == {"type": "ping"}


def test_account_orders_answers_without_the_account_in_its_channel() -> None:
    """An exception of the venue."""
    session = LighterSession(token=lambda: "tok")
    session.subscribe("account_orders/0/1234", private=True)
    session.frames_on_connect()
    body = {"type": "subscribed/account_orders", "channel": "account_orders:0", "account": 1234, "orders": {}}
    events = session.receive(encode(body))
    assert events[0] == SubscriptionAcknowledged(channel="account_orders:0:1234")
    assert session.asked is None


def test_shutdown_and_unknown_frames_are_passed_on() -> None:
    """A strategy may want to know."""
    session = connected()
    assert session.receive(encode({"type": "shutdown", "close_in_ms": 5})) == [Shutdown(close_in_ms=5)]
    (unknown,) = session.receive(encode({"type": "update/new"}))
    assert isinstance(unknown, UnknownFrame)


def test_unreadable_frames_are_told_and_an_unreadable_snapshot_does_not_block_the_queue() -> None:
    """The next channel is asked for."""
    session = LighterSession()
    for market in (1, 2):
        session.subscribe(f"order_book/{market}")
    session.frames_on_connect()
    (told,) = session.receive(encode({"type": "subscribed/order_book", "channel": "order_book:1", "order_book": 5}))
    assert isinstance(told, UnreadableFrame) and told.channel == "order_book:1"
    assert said(session.pending()) == [subscribe("order_book/2")]
    (nothing_legible,) = session.receive(b"<html>")
    assert isinstance(nothing_legible, UnreadableFrame) and nothing_legible.channel == ""


def test_unreadable_update_breaks_the_chain_and_is_repaired() -> None:
    """The update behind it does not follow."""
    session = connected("order_book/1")
    session.receive(encode({"type": "update/order_book", "channel": "order_book:1", "order_book": {"nonce": "x"}}))
    (event,) = session.receive(update("order_book:1", 11, 12))
    assert isinstance(event, BookEvent) and isinstance(event.outcome, BookGap)


@pytest.mark.parametrize("channel", ["order_book/", "order_book/all", "order_book/-1"])
def test_book_channel_without_a_market_is_refused(channel: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidRequest):
        LighterSession().subscribe(channel)


def test_more_channels_than_the_venue_takes_are_refused() -> None:
    """500 on one connection."""
    session = LighterSession()
    for market in range(MAX_SUBSCRIPTIONS):
        session.subscribe(f"ticker/{market}")
    with pytest.raises(RateLimited):
        session.subscribe("ticker/9999")


# --- transactions ------------------------------------------------------------------------------------------


def test_transaction_frame_is_as_the_venue_reads_it() -> None:
    """An object inside, not a string; a batch carries strings."""
    session = LighterSession()
    sent_id, frame = session.open_transaction([SIGNED], now_s=0.0)
    (message,) = said([frame])
    assert message["type"] == "jsonapi/sendtx"
    assert message["data"] == {"id": sent_id, "tx_type": 14, "tx_info": json.loads(SIGNED.tx_info)}
    _, frame = session.open_transaction([SIGNED, SECOND], now_s=0.0)
    (message,) = said([frame])
    assert message["type"] == "jsonapi/sendtxbatch"
    assert json.loads(message["data"]["tx_types"]) == [14, 14]
    assert json.loads(message["data"]["tx_infos"]) == [SIGNED.tx_info, SECOND.tx_info]


@pytest.mark.parametrize("count", [0, MAX_BATCH + 1])
def test_batch_the_venue_does_not_take_is_refused(count: int) -> None:
    """None, or more than fifteen."""
    with pytest.raises(InvalidRequest):
        LighterSession().open_transaction([SIGNED] * count, now_s=0.0)


def test_reply_is_matched_by_id_and_carries_the_tag() -> None:
    """Queued, refused, unreadable."""
    session = LighterSession()
    ids = [session.open_transaction([SIGNED], now_s=0.0, tag=n)[0] for n in range(3)]
    for sent_id in ids:
        assert session.in_flight.written(sent_id, 1)
    queued = encode({"type": "jsonapi/sendtx", "code": 200, "id": ids[0], "tx_hash": "ab"})
    (first,) = session.receive(queued)
    (second,) = session.receive(error(21104, id=ids[1]))
    (third,) = session.receive(encode({"type": "jsonapi/sendtx", "code": 200, "id": ids[2]}))
    answers = [event for event in (first, second, third) if isinstance(event, TransactionAnswered)]
    assert [(event.tag, event.late) for event in answers] == [(0, False), (1, False), (2, False)]
    kinds = [type(event.outcome) for event in answers]
    assert kinds == [SendAnswer, RefusalMeaning, ProtocolViolation]
    assert len(session.in_flight) == 0
    (stray,) = session.receive(queued)
    assert isinstance(stray, TransactionAnswered) and stray.late


def test_error_with_an_id_never_refuses_a_subscription() -> None:
    """It belongs to the transaction."""
    session = LighterSession()
    session.subscribe("order_book/1")
    session.frames_on_connect()
    sent_id, _ = session.open_transaction([SIGNED], now_s=0.0)
    (event,) = session.receive(error(21104, id=sent_id))
    assert isinstance(event, TransactionAnswered)
    assert session.asked == "order_book:1"


def test_disconnect_loses_what_the_connection_carried_and_nothing_else() -> None:
    """What is still being written is told by its writer."""
    session = LighterSession()
    carried, writing = (session.open_transaction([SIGNED], now_s=0.0)[0] for _ in range(2))
    session.in_flight.written(carried, 1)
    assert session.disconnected(1) == [carried]
    assert not session.in_flight.written(writing, 1)  # written into a connection that is over
    assert len(session.in_flight) == 0


def test_places_in_flight_are_bounded_and_cancels_have_their_own() -> None:
    """50 at the venue; orders stop at 40 here."""
    session = LighterSession()
    for _ in range(40):
        session.open_transaction([SIGNED], now_s=0.0)
    with pytest.raises(RateLimited):
        session.open_transaction([SIGNED], now_s=0.0)
    for _ in range(10):
        session.open_transaction([SIGNED], now_s=0.0, is_cancel=True)
    with pytest.raises(RateLimited):
        session.open_transaction([SIGNED], now_s=0.0, is_cancel=True)
