"""State of one HyperCore socket: what is subscribed, what was posted, what each frame means. Pure.

The venue numbers nothing and resumes nothing, so a reconnect starts over: all subscriptions are sent again and
a post without a reply is lost. Source: venue reference section 6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

import msgspec

from hypercore.frames import (
    ActionReply,
    DataFrame,
    ErrorFrame,
    Greeting,
    InfoReply,
    Pong,
    PostErrorReply,
    SubscriptionReply,
    UnknownFrame,
    UnreadablePostReply,
    parse_frame,
)
from hypercore.limits import MAX_POSTS_IN_FLIGHT, MAX_SUBSCRIPTIONS, MAX_TRACKED_USERS
from hypercore.refusals import RefusalMeaning, classify_error
from venuemesh.errors import InvalidRequest, ProtocolViolation, RateLimited, Reason
from venuemesh.transport.in_flight import CANCEL_RESERVE, InFlight

PostReply: TypeAlias = ActionReply | InfoReply | PostErrorReply | UnreadablePostReply
Subscription: TypeAlias = Mapping[str, Any]

_PING: Final = b'{"method":"ping"}'
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")
_ONE_USER: Final = frozenset({"orderUpdates", "userEvents"})
_PENDING_LIMIT = re.compile(r"too many pending post requests id=(\d+)", re.IGNORECASE)


class PostKind(StrEnum):
    """What a post asks for."""

    ACTION = "action"
    INFO = "info"


# --- events ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionAcknowledged:
    """The venue confirmed a subscribe or unsubscribe; `matched` is False when we had not asked for it."""

    method: str
    subscription: Subscription
    matched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRefused:
    """The venue will not serve a subscription; it is no longer wanted, so a reconnect does not repeat it."""

    subscription: Subscription
    meaning: RefusalMeaning


@dataclass(frozen=True, slots=True, kw_only=True)
class PostAnswered:
    """The reply to a post; `late` when its caller has given up, `tag` is what the caller attached."""

    post_id: int
    reply: PostReply
    late: bool
    tag: object


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueComplaint:
    """An error frame that names neither a subscription nor a post of ours."""

    meaning: RefusalMeaning


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableFrame:
    """A frame that breaks the protocol: what it said is lost, so the state behind it must be read again."""

    violation: ProtocolViolation


SessionEvent: TypeAlias = (
    DataFrame
    | UnknownFrame
    | SubscriptionAcknowledged
    | SubscriptionRefused
    | PostAnswered
    | VenueComplaint
    | UnreadableFrame
)


@dataclass(slots=True)
class _Wanted:
    subscription: Subscription
    acknowledged: bool = False


class _SubscribeFrame(msgspec.Struct, frozen=True):
    method: str
    subscription: Subscription


class _PostRequest(msgspec.Struct, frozen=True):
    type: str
    payload: msgspec.Raw


class _PostFrame(msgspec.Struct, frozen=True):
    method: str
    id: int
    request: _PostRequest


_encode = msgspec.json.Encoder().encode


class HyperCoreSession:
    """Everything one socket must remember; asked and told, never awaited.

    Satisfies `venuemesh.transport.session.SocketSession`.

    Args:
        max_posts: most posts in flight; the venue takes 100 per IP address, so share it between sockets.
        cancel_reserve: of these, how many only cancels may use.
    """

    def __init__(self, *, max_posts: int = MAX_POSTS_IN_FLIGHT, cancel_reserve: int = CANCEL_RESERVE) -> None:
        self._wanted: dict[tuple[tuple[str, str], ...], _Wanted] = {}
        self.in_flight: InFlight[int] = InFlight("posts", most=max_posts, cancel_reserve=cancel_reserve)
        """Posts that hold a place at the venue, by their ids."""
        self._next_id = 1

    # --- what to send --------------------------------------------------------------------------------------

    def frames_on_connect(self) -> Sequence[bytes]:
        """All wanted subscriptions, in the order asked for; none has been confirmed since `disconnected`."""
        return [_subscribe_frame("subscribe", wanted.subscription) for wanted in self._wanted.values()]

    def heartbeat(self) -> bytes:
        """The venue's ping; it closes a connection on which it has sent nothing for 60 s."""
        return _PING

    # --- subscriptions -------------------------------------------------------------------------------------

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """All wanted subscriptions."""
        return tuple(wanted.subscription for wanted in self._wanted.values())

    def unacknowledged(self) -> tuple[Subscription, ...]:
        """Wanted subscriptions the venue has not confirmed on the present connection."""
        return tuple(wanted.subscription for wanted in self._wanted.values() if not wanted.acknowledged)

    def subscribe(self, subscription: Subscription) -> bytes | None:
        """Want a subscription from now on; returns the frame to send, None when it was wanted already.

        Raises:
            InvalidRequest: a second user for orderUpdates or userEvents, whose frames name no user.
            RateLimited: more subscriptions or users than the venue takes.
        """
        key = _key(subscription)
        if key in self._wanted:
            return None
        self._check_room(subscription)
        kept = {name: _lower_address(value) for name, value in subscription.items()}
        self._wanted[key] = _Wanted(kept)
        return _subscribe_frame("subscribe", kept)

    def unsubscribe(self, subscription: Subscription) -> bytes | None:
        """No longer want a subscription; returns the frame to send, None when it was not wanted."""
        wanted = self._wanted.pop(_key(subscription), None)
        return None if wanted is None else _subscribe_frame("unsubscribe", wanted.subscription)

    def _check_room(self, subscription: Subscription) -> None:
        if len(self._wanted) >= MAX_SUBSCRIPTIONS:
            raise RateLimited(f"at most {MAX_SUBSCRIPTIONS} subscriptions on a socket", reason=Reason.TOO_MANY_STREAMS)
        user = subscription.get("user")
        if user is None:
            return
        users = {str(w.subscription["user"]).lower() for w in self._wanted.values() if "user" in w.subscription}
        if len(users | {str(user).lower()}) > MAX_TRACKED_USERS:
            raise RateLimited(f"at most {MAX_TRACKED_USERS} users on a socket", reason=Reason.TOO_MANY_STREAMS)
        kind = subscription.get("type")
        if kind in _ONE_USER and any(w.subscription.get("type") == kind for w in self._wanted.values()):
            raise InvalidRequest(f"{kind} frames name no user: one account per connection", field="user")

    # --- posts ---------------------------------------------------------------------------------------------

    def open_post(
        self, kind: PostKind, payload: bytes, *, now_s: float, is_cancel: bool = False, tag: object = None
    ) -> tuple[int, bytes]:
        """A new post: its id and the frame to send; nothing is sent by this.

        Args:
            payload: JSON of the /exchange envelope or the /info body.
            now_s, is_cancel, tag: as for `InFlight.open`.
        Raises:
            RateLimited: too many posts in flight.
        """
        post_id = self._next_id
        self.in_flight.open(post_id, now_s=now_s, is_cancel=is_cancel, tag=tag)
        self._next_id += 1
        request = _PostRequest(kind.value, msgspec.Raw(payload))
        return post_id, _encode(_PostFrame("post", post_id, request))

    def disconnected(self, epoch: int) -> list[int]:
        """A connection ended: nothing is acknowledged any more; returns the posts that were lost with it."""
        for wanted in self._wanted.values():
            wanted.acknowledged = False
        return self.in_flight.disconnected(epoch)

    # --- what came -----------------------------------------------------------------------------------------

    def receive(self, raw: bytes) -> list[SessionEvent]:
        """What a received frame means; empty for pong and greeting. Never raises."""
        try:
            frame = parse_frame(raw)
        except ProtocolViolation as cause:
            return [UnreadableFrame(violation=cause)]
        match frame:
            case DataFrame() | UnknownFrame():
                return [frame]
            case ActionReply() | InfoReply() | PostErrorReply() | UnreadablePostReply():
                return [self._answered(frame.id, frame)]
            case SubscriptionReply():
                return [self._acknowledged(frame.method, frame.subscription)]
            case ErrorFrame():
                return [self._complained(frame.text)]
            case Pong() | Greeting():
                return []

    def _answered(self, post_id: int, reply: PostReply) -> PostAnswered:
        late, tag = self.in_flight.answered(post_id)
        return PostAnswered(post_id=post_id, reply=reply, late=late, tag=tag)

    def _acknowledged(self, method: str, echoed: Subscription) -> SubscriptionAcknowledged:
        if method != "subscribe":
            return SubscriptionAcknowledged(method=method, subscription=echoed, matched=True)
        wanted = self._match(echoed)
        if wanted is None:
            return SubscriptionAcknowledged(method=method, subscription=echoed, matched=False)
        wanted.acknowledged = True
        return SubscriptionAcknowledged(method=method, subscription=wanted.subscription, matched=True)

    def _match(self, echoed: Subscription) -> _Wanted | None:
        """The echo may carry keys we did not send: an equal subscription, else the fullest contained one."""
        key = _key(echoed)
        if key in self._wanted:
            return self._wanted[key]
        pairs = set(key)
        contained = [known for known in self._wanted if pairs.issuperset(known)]
        contained.sort(key=lambda known: (self._wanted[known].acknowledged, -len(known)))
        return self._wanted[contained[0]] if contained else None

    def _complained(self, text: str) -> SessionEvent:
        if limit := _PENDING_LIMIT.search(text):
            return self._answered(int(limit[1]), PostErrorReply(id=int(limit[1]), text=text))
        echo = _echo(text)
        subscription = echo.get("subscription", echo)
        if text.startswith("Already subscribed") and isinstance(subscription, dict):
            return self._acknowledged("subscribe", subscription)
        if echo.get("method") == "post" and isinstance(echo.get("id"), int):
            return self._answered(echo["id"], PostErrorReply(id=echo["id"], text=text))
        wanted = self._match(subscription) if isinstance(subscription, dict) and subscription else None
        if wanted is not None and not text.startswith("Already unsubscribed"):
            del self._wanted[_key(wanted.subscription)]
            return SubscriptionRefused(subscription=wanted.subscription, meaning=classify_error(text))
        return VenueComplaint(meaning=classify_error(text))


def _subscribe_frame(method: str, subscription: Subscription) -> bytes:
    return _encode(_SubscribeFrame(method, subscription))


def _lower_address(value: Any) -> Any:
    return value.lower() if isinstance(value, str) and _ADDRESS.match(value) else value


def _key(subscription: Subscription) -> tuple[tuple[str, str], ...]:
    """A subscription without order, unset options and letter case of addresses."""
    return tuple(
        sorted(
            (name, str(_lower_address(value)))
            for name, value in subscription.items()
            if value is not None and value is not False and value != ""
        )
    )


def _echo(text: str) -> dict[str, Any]:
    """The JSON object an error text repeats; empty when there is none."""
    start = text.find("{")
    if start < 0:
        return {}
    try:
        found = msgspec.json.decode(text[start:])
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
