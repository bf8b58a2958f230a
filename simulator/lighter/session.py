"""One WebSocket conversation: text in, frames out, subscriptions in between. Pure.

A frame is named after the kind of its channel; control frames belong to none. Transactions are handed back as
`Post` because they may be delayed or lost on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from simulator.frames import Frame
from simulator.lighter.batch import Batch
from simulator.lighter.channels import CHANNELS, Subscription, parse
from simulator.lighter.errors import TEXTS, Code, Refused, bad_param
from simulator.lighter.limits import CLIENT_MESSAGES, Window
from simulator.lighter.request import WRONG_ACCOUNT
from simulator.lighter.venue import LighterVenue

MAX_SUBSCRIPTIONS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Transactions over the socket: `types` and `infos` side by side, one unless `batch`."""

    id: Any
    batch: bool
    types: list[int]
    infos: list[Any]

    @property
    def type(self) -> str:
        """What the answer calls itself."""
        return "jsonapi/sendtxbatch" if self.batch else "jsonapi/sendtx"


def control(body: dict[str, Any]) -> Frame:
    """A frame outside any channel."""
    return Frame(channel="", text=msgspec.json.encode(body).decode())


def error_frame(refusal: Refused, post: Post | None = None) -> Frame:
    """An error, with the id of the post it answers if that had one."""
    body: dict[str, Any] = {"error": refusal.body}
    if post is not None and post.id is not None:
        body["id"] = post.id
    return control(body)


def reply_frame(post: Post, body: dict[str, Any]) -> Frame:
    """Answer to a post that was taken."""
    named = {} if post.id is None else {"id": post.id}
    return control({**body, **named, "type": post.type})


def _worded(code: Code, channel: str) -> Refused:
    return Refused(code, f"{TEXTS[code]} : {channel}")


class Session:
    """State of one connection."""

    def __init__(self, venue: LighterVenue, session_id: str) -> None:
        self._venue = venue
        self._id = session_id
        self._subscriptions: dict[str, Subscription] = {}
        self._pong_due = False
        self._messages = Window()

    @property
    def subscribed(self) -> set[str]:
        """Kinds of the live subscriptions."""
        return {sub.kind for sub in self._subscriptions.values()}

    def greeting(self) -> Frame:
        """The first frame."""
        return control({"session_id": self._id, "type": "connected"})

    def ping(self) -> Frame | None:
        """A ping to send; None when the last one was never answered."""
        if self._pong_due:
            return None
        self._pong_due = True
        return control({"type": "ping"})

    def too_chatty(self, now_ms: int) -> bool:
        """Whether a client message, counted now, is one too many in a minute."""
        return not self._messages.spend("", 1, CLIENT_MESSAGES, now_ms)

    def receive(self, text: str, now_ms: int) -> tuple[list[Frame], Post | None]:
        """Frames to answer a client's text with, and the post it holds, if any."""
        try:
            message = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return [error_frame(Refused(Code.INVALID_JSON))], None
        try:
            return self._answer(message, now_ms)
        except Refused as refusal:
            return [error_frame(refusal)], None

    def _answer(self, message: Any, now_ms: int) -> tuple[list[Frame], Post | None]:
        match message:
            case {"type": "ping"}:
                return [control({"type": "pong"})], None
            case {"type": "pong"}:
                self._pong_due = False
                return [], None
            case {"type": "subscribe", "channel": str(channel)}:
                return [self._subscribe(channel, str(message.get("auth") or ""), now_ms)], None
            case {"type": "unsubscribe", "channel": str(channel)}:
                return [self._unsubscribe(channel)], None
            case {"type": "jsonapi/sendtx" | "jsonapi/sendtxbatch" as kind, "data": dict(data)}:
                return [], _post(data, batch=kind.endswith("batch"))
            case _:
                raise Refused(Code.INVALID_TYPE)

    def _subscribe(self, text: str, token: str, now_ms: int) -> Frame:
        sub, channel = parse(self._venue, text)
        if sub.asked in self._subscriptions:
            raise _worded(Code.ALREADY_SUBSCRIBED, sub.asked)
        if channel.private and not (channel.pools_open and sub.account is not None and sub.account.pool):
            self._check(sub, token, now_ms)
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise Refused(Code.TOO_MANY_SUBSCRIPTIONS)
        self._subscriptions[sub.asked] = sub
        return _frame("subscribed", sub, channel.first(self._venue, sub, now_ms))

    def _check(self, sub: Subscription, token: str, now_ms: int) -> None:
        """Whether the token may read the channel's account."""
        if not token:
            raise bad_param(f"auth field is required: {sub.asked}")
        speaker = self._venue.accounts.get(self._venue.check_token(token, now_ms))
        if sub.account is not None and speaker.l1_address.lower() != sub.account.l1_address.lower():
            raise Refused(Code.INVALID_AUTH, WRONG_ACCOUNT)

    def _unsubscribe(self, text: str) -> Frame:
        sub, _ = parse(self._venue, text)
        if self._subscriptions.pop(sub.asked, None) is None:
            raise _worded(Code.NOT_SUBSCRIBED, sub.asked)
        # The only frame the venue writes with spaces.
        return Frame(channel="", text=f'{{"type": "unsubscribed", "channel": "{sub.channel}"}}')

    def publish(self, batch: Batch, now_ms: int) -> list[Frame]:
        """Frames this client gets for a batch."""
        found: list[Frame] = []
        for sub in self._subscriptions.values():
            body = CHANNELS[sub.kind].later(self._venue, sub, batch, now_ms)
            if body is not None:
                found.append(_frame("update", sub, body))
        return found


def _frame(verb: str, sub: Subscription, body: dict[str, Any]) -> Frame:
    text = msgspec.json.encode({"channel": sub.channel, **body, "type": f"{verb}/{sub.kind}"})
    return Frame(channel=sub.kind, text=text.decode())


def _post(data: dict[str, Any], *, batch: bool) -> Post:
    """Raises `Refused` 30007 when the data are not those of a transaction."""
    try:
        if batch:
            types = msgspec.json.decode(data["tx_types"], type=list[int])
            infos = msgspec.json.decode(data["tx_infos"], type=list[str])
            return Post(id=data.get("id"), batch=True, types=types, infos=list(infos))
        return Post(id=data.get("id"), batch=False, types=[int(data["tx_type"])], infos=[data["tx_info"]])
    except (KeyError, TypeError, ValueError, msgspec.DecodeError) as error:
        raise Refused(Code.INVALID_DATA) from error
