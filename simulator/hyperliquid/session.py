"""One WebSocket conversation: text in, frames out, subscriptions in between. Pure.

Posts are handed back as `Post` because they may take effect, be delayed or be lost on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from simulator.frames import Frame
from simulator.hyperliquid.batch import Batch
from simulator.hyperliquid.channels import CHANNELS, Subscription, parse
from simulator.hyperliquid.venue import Answer, Venue

MAX_SUBSCRIPTIONS = 1000
MAX_USERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A request over the socket: `kind` is "action" or "info"."""

    id: int
    kind: str
    payload: Any


def frame(channel: str, data: Any = None) -> Frame:
    """Frame of a channel; without data for `pong`."""
    body = {"channel": channel} if data is None else {"channel": channel, "data": data}
    return Frame(channel=channel, text=msgspec.json.encode(body).decode())


def error_frame(message: str) -> Frame:
    """Error frame; the socket stays open."""
    return frame("error", message)


def post_frame(post: Post, answer: Answer) -> Frame:
    """Answer to a post: what HTTP would say, wrapped."""
    if answer.status != 200:
        response: dict[str, Any] = {"type": "error", "payload": f"{answer.status}: {answer.body}"}
    elif post.kind == "action":
        response = {"type": "action", "payload": answer.body}
    else:
        response = {"type": "info", "payload": {"type": post.payload.get("type"), "data": answer.body}}
    return frame("post", {"id": post.id, "response": response})


class Session:
    """State of one connection."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._subscriptions: dict[str, Subscription] = {}

    @property
    def subscribed(self) -> set[str]:
        """Types of the live subscriptions."""
        return {sub.type for sub in self._subscriptions.values()}

    def receive(self, text: str, now_ms: int) -> tuple[list[Frame], Post | None]:
        """Frames to answer a client's text with, and the post it holds, if any."""
        try:
            message = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return [self._unreadable(text)], None
        if not isinstance(message, dict):
            return [self._unreadable(text)], None
        match message:
            case {"method": "ping"}:
                return [frame("pong")], None
            case {"method": "subscribe", "subscription": dict(wire)}:
                return self._subscribe(wire, now_ms), None
            case {"method": "unsubscribe", "subscription": dict(wire)}:
                return [self._unsubscribe(wire)], None
            case {
                "method": "post",
                "id": int(number),
                "request": {"type": ("action" | "info") as kind, "payload": dict(payload)},
            }:
                return [], Post(id=number, kind=kind, payload=payload)
            case _:
                return [self._unreadable(text)], None

    def _unreadable(self, text: str) -> Frame:
        return error_frame(f"Error parsing JSON into valid websocket request: {text}")

    def _subscribe(self, wire: dict[str, Any], now_ms: int) -> list[Frame]:
        echo = msgspec.json.encode(wire).decode()
        found = parse(self._venue, wire)
        if found is None:
            return [error_frame(f"Invalid subscription {echo}")]
        if found.key in self._subscriptions:
            return [error_frame(f"Already subscribed: {echo}")]
        users = {sub.user for sub in self._subscriptions.values() if sub.user}
        if found.user and found.user not in users and len(users) >= MAX_USERS:
            return [error_frame(f"Cannot track more than {MAX_USERS} total users.")]
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            return [error_frame(f"Cannot subscribe to more than {MAX_SUBSCRIPTIONS} channels.")]
        self._subscriptions[found.key] = found
        first = CHANNELS[found.type].first(self._venue, found, now_ms)
        answer = frame("subscriptionResponse", {"method": "subscribe", "subscription": found.echo})
        return [answer, *(frame(channel, data) for channel, data in first)]

    def _unsubscribe(self, wire: dict[str, Any]) -> Frame:
        found = parse(self._venue, wire)
        if found is None or found.key not in self._subscriptions:
            return error_frame(f"Already unsubscribed: {msgspec.json.encode(wire).decode()}")
        del self._subscriptions[found.key]
        return frame("subscriptionResponse", {"method": "unsubscribe", "subscription": found.echo})

    def publish(self, batch: Batch, now_ms: int) -> list[Frame]:
        """Frames this client gets for a batch of events."""
        return [
            frame(channel, data)
            for sub in self._subscriptions.values()
            for channel, data in CHANNELS[sub.type].later(self._venue, sub, batch, now_ms)
        ]
