"""The socket's memory: subscriptions over reconnects, posts that are answered, late or lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercore.frames import ActionReply, DataFrame, PostErrorReply, UnknownFrame, UnreadablePostReply
from hypercore.session import (
    HyperCoreSession,
    PostAnswered,
    PostKind,
    SubscriptionAcknowledged,
    SubscriptionRefused,
    UnreadableFrame,
    VenueComplaint,
)
from venuemesh.errors import InvalidRequest, RateLimited, Reason

USER = "0x" + "ab" * 20
BBO = {"type": "bbo", "coin": "SOL"}
MIDS = {"type": "allMids"}
XYZ_MIDS = {"type": "allMids", "dex": "xyz"}


def frame(channel: str, data: Any) -> bytes:
    return json.dumps({"channel": channel, "data": data}).encode()


def ack(subscription: dict[str, Any], method: str = "subscribe") -> bytes:
    return frame("subscriptionResponse", {"method": method, "subscription": subscription})


def reply(post_id: int, payload: Any = None) -> bytes:
    payload = payload or {"status": "ok", "response": {"type": "default"}}
    return frame("post", {"id": post_id, "response": {"type": "action", "payload": payload}})


def open_post(session: HyperCoreSession, *, now_s: float = 0.0, is_cancel: bool = False, tag: object = None) -> int:
    post_id, _ = session.open_post(PostKind.ACTION, b"{}", now_s=now_s, is_cancel=is_cancel, tag=tag)
    return post_id


def test_frames_on_connect_repeat_every_wanted_subscription_in_order() -> None:
    """After each reconnect everything is asked for again, and nothing counts as confirmed."""
    session = HyperCoreSession()
    for subscription in (BBO, MIDS):
        assert json.loads(session.subscribe(subscription) or b"") == {
            "method": "subscribe",
            "subscription": subscription,
        }
    session.receive(ack(BBO))
    assert session.unacknowledged() == (MIDS,)
    session.disconnected(1)
    again = [json.loads(sent)["subscription"] for sent in session.frames_on_connect()]
    assert again == [BBO, MIDS]
    assert session.unacknowledged() == (BBO, MIDS)


def test_subscribe_twice_sends_once_and_unsubscribe_ends_it() -> None:
    """Order of keys, unset options and letter case of addresses make no second subscription."""
    session = HyperCoreSession()
    mixed = {"user": USER.upper().replace("X", "x"), "type": "userFills", "aggregateByTime": None}
    first = session.subscribe(mixed)
    assert first is not None
    assert json.loads(first)["subscription"]["user"] == USER
    assert session.subscribe({"type": "userFills", "user": USER}) is None
    assert session.unsubscribe({"type": "userFills", "user": USER}) is not None
    assert session.unsubscribe({"type": "userFills", "user": USER}) is None
    assert session.frames_on_connect() == []


@pytest.mark.parametrize(
    ("wanted", "echoed"),
    [
        ({"type": "l2Book", "coin": "BTC"}, {"type": "l2Book", "coin": "BTC", "nSigFigs": None, "mantissa": None}),
        ({"type": "candle", "coin": "BTC", "interval": "1m"}, {"type": "candle", "interval": "1m", "coin": "BTC"}),
        ({"type": "userFills", "user": USER}, {"type": "userFills", "user": USER, "aggregateByTime": False}),
        (
            {"type": "userFills", "user": "0x" + "AB" * 20},
            {"type": "userFills", "user": USER, "reversed": "no"},
        ),
        ({"type": "openOrders", "user": USER, "dex": ""}, {"type": "openOrders", "user": USER}),
    ],
)
def test_acknowledgement_matches_what_the_venue_normalised(wanted: dict[str, Any], echoed: dict[str, Any]) -> None:
    """Added keys, other order, lower case: still the subscription we asked for."""
    session = HyperCoreSession()
    session.subscribe(wanted)
    (event,) = session.receive(ack(echoed))
    assert isinstance(event, SubscriptionAcknowledged)
    assert event.matched
    assert session.unacknowledged() == ()


def test_acknowledgement_of_a_wider_subscription_does_not_confirm_a_narrower_one() -> None:
    """allMids of a dex contains the keys of plain allMids; each is confirmed by its own echo."""
    session = HyperCoreSession()
    session.subscribe(MIDS)
    session.subscribe(XYZ_MIDS)
    session.receive(ack(XYZ_MIDS))
    assert session.unacknowledged() == (MIDS,)
    session.receive(ack(MIDS))
    assert session.unacknowledged() == ()


def test_duplicate_and_unasked_acknowledgements_change_nothing() -> None:
    """A repeated echo is harmless; one we never asked for says so."""
    session = HyperCoreSession()
    session.subscribe(BBO)
    for _ in range(2):
        (event,) = session.receive(ack(BBO))
        assert isinstance(event, SubscriptionAcknowledged)
        assert event.matched
    (stranger,) = session.receive(ack({"type": "trades", "coin": "ETH"}))
    assert isinstance(stranger, SubscriptionAcknowledged)
    assert not stranger.matched
    (ended,) = session.receive(ack(BBO, "unsubscribe"))
    assert isinstance(ended, SubscriptionAcknowledged)
    assert session.unacknowledged() == ()


def test_already_subscribed_counts_as_acknowledged() -> None:
    """The subscription runs, which is what was wanted."""
    session = HyperCoreSession()
    session.subscribe(BBO)
    (event,) = session.receive(frame("error", f"Already subscribed: {json.dumps(BBO)}"))
    assert isinstance(event, SubscriptionAcknowledged)
    assert session.unacknowledged() == ()


@pytest.mark.parametrize(
    "text",
    [
        f"Invalid subscription {json.dumps(BBO)}",
        "Error parsing JSON into valid websocket request: " + json.dumps({"method": "subscribe", "subscription": BBO}),
    ],
)
def test_refused_subscription_is_reported_and_not_repeated_on_reconnect(text: str) -> None:
    """Asking again would be refused again, for ever."""
    session = HyperCoreSession()
    session.subscribe(MIDS)
    session.subscribe(BBO)
    (event,) = session.receive(frame("error", text))
    assert isinstance(event, SubscriptionRefused)
    assert event.subscription == BBO
    assert [json.loads(sent)["subscription"] for sent in session.frames_on_connect()] == [MIDS]


@pytest.mark.parametrize(
    "text", ["Cannot track more than 10 total users.", "something { odd", "Already unsubscribed: {}"]
)
def test_complaint_about_nothing_of_ours_is_told(text: str) -> None:
    """An error text that names no subscription and no post is an event of its own."""
    session = HyperCoreSession()
    session.subscribe(BBO)
    (event,) = session.receive(frame("error", text))
    assert isinstance(event, VenueComplaint)
    assert event.meaning.text == text
    assert session.subscriptions == (BBO,)


def test_second_account_for_a_stream_without_user_is_refused() -> None:
    """orderUpdates and userEvents frames name no user: two accounts would be mixed up."""
    session = HyperCoreSession()
    session.subscribe({"type": "orderUpdates", "user": USER})
    session.subscribe({"type": "userEvents", "user": USER})
    with pytest.raises(InvalidRequest):
        session.subscribe({"type": "orderUpdates", "user": "0x" + "cd" * 20})
    session.subscribe({"type": "userFills", "user": "0x" + "cd" * 20})


def test_subscriptions_are_bounded_as_the_venue_bounds_them() -> None:
    """1000 subscriptions, 10 users."""
    session = HyperCoreSession()
    for n in range(10):
        session.subscribe({"type": "userFills", "user": f"0x{n:040x}"})
    with pytest.raises(RateLimited) as caught:
        session.subscribe({"type": "userFills", "user": f"0x{11:040x}"})
    assert caught.value.reason is Reason.TOO_MANY_STREAMS
    for n in range(990):
        session.subscribe({"type": "bbo", "coin": f"C{n}"})
    with pytest.raises(RateLimited):
        session.subscribe(BBO)


def test_post_frame_carries_the_payload_unchanged() -> None:
    """The signed bytes are embedded as they are: same keys, same order."""
    session = HyperCoreSession()
    post_id, sent = session.open_post(PostKind.ACTION, b'{"z":1,"a":[2]}', now_s=0.0)
    expected = f'{{"method":"post","id":{post_id},"request":{{"type":"action","payload":{{"z":1,"a":[2]}}}}}}'
    assert sent.decode() == expected


def test_replies_out_of_order_find_their_posts() -> None:
    """Ids, not order, connect reply and request."""
    session = HyperCoreSession()
    first, second = open_post(session, tag="one"), open_post(session, tag="two")
    for post_id in (first, second):
        assert session.in_flight.written(post_id, 1)
    (late,) = session.receive(reply(second))
    (early,) = session.receive(reply(first))
    assert isinstance(late, PostAnswered)
    assert isinstance(early, PostAnswered)
    assert (late.post_id, late.tag, late.late) == (second, "two", False)
    assert (early.post_id, early.tag) == (first, "one")
    assert len(session.in_flight) == 0


def test_duplicated_reply_is_late_and_answers_nobody() -> None:
    """The first reply counts; a copy is reported, without a tag."""
    session = HyperCoreSession()
    post_id = open_post(session, tag="one")
    session.receive(reply(post_id))
    (copy,) = session.receive(reply(post_id))
    assert isinstance(copy, PostAnswered)
    assert (copy.late, copy.tag) == (True, None)


def test_reply_after_its_caller_gave_up_is_late_with_its_tag() -> None:
    """The outcome was unknown and now is known: whoever settles orders must hear of it."""
    session = HyperCoreSession()
    post_id = open_post(session, tag="order-7")
    session.in_flight.written(post_id, 1)
    session.in_flight.abandon(post_id, 5.0)
    (event,) = session.receive(reply(post_id))
    assert isinstance(event, PostAnswered)
    assert (event.late, event.tag) == (True, "order-7")
    assert isinstance(event.reply, ActionReply)


def test_disconnect_loses_the_posts_it_carried() -> None:
    """Their ids, for those who wait."""
    session = HyperCoreSession()
    carried, writing = open_post(session), open_post(session)
    session.in_flight.written(carried, 1)
    assert session.disconnected(1) == [carried]
    session.in_flight.written(writing, 2)
    assert session.disconnected(2) == [writing]


def test_posts_in_flight_are_bounded_with_places_kept_for_cancels() -> None:
    """Orders stop at 90 of 100; cancels still pass, up to 100; a post not sent frees its place."""
    session = HyperCoreSession()
    ids = [open_post(session) for _ in range(90)]
    with pytest.raises(RateLimited) as caught:
        open_post(session)
    assert caught.value.reason is Reason.RATE_LIMIT_LOCAL
    for _ in range(10):
        open_post(session, is_cancel=True)
    with pytest.raises(RateLimited):
        open_post(session, is_cancel=True)
    session.in_flight.not_sent(ids[0])
    open_post(session, is_cancel=True)


def test_venue_refusing_a_post_in_the_error_channel_answers_that_post() -> None:
    """Too many pending posts, and an echo of an unreadable post, both name the id."""
    session = HyperCoreSession()
    first, second = open_post(session, tag="one"), open_post(session, tag="two")
    (event,) = session.receive(frame("error", f"too many pending post requests id={first}"))
    assert isinstance(event, PostAnswered)
    assert isinstance(event.reply, PostErrorReply)
    assert (event.post_id, event.tag) == (first, "one")
    echo = json.dumps({"method": "post", "id": second, "request": {}})
    (event,) = session.receive(frame("error", f"Error parsing JSON into valid websocket request: {echo}"))
    assert isinstance(event, PostAnswered)
    assert (event.post_id, event.tag) == (second, "two")


def test_unreadable_reply_belongs_to_its_post_and_unreadable_frames_are_told() -> None:
    """Nothing raises out of receive, nothing is dropped."""
    session = HyperCoreSession()
    post_id = open_post(session)
    (event,) = session.receive(reply(post_id, {"status": "perhaps"}))
    assert isinstance(event, PostAnswered)
    assert isinstance(event.reply, UnreadablePostReply)
    (broken,) = session.receive(frame("trades", "x"))
    assert isinstance(broken, UnreadableFrame)
    (unknown,) = session.receive(frame("comets", {}))
    assert isinstance(unknown, UnknownFrame)
    (data,) = session.receive(frame("allMids", {"mids": {}}))
    assert isinstance(data, DataFrame)
    assert session.receive(b'{"channel":"pong"}') == []
    assert session.receive(b"Websocket connection established.") == []


@given(raw=st.binary(max_size=80))
@settings(max_examples=150)
def test_receive_never_raises_on_arbitrary_bytes(raw: bytes) -> None:
    """Rubbish is an event."""
    assert all(isinstance(event, UnreadableFrame) for event in HyperCoreSession().receive(raw))
