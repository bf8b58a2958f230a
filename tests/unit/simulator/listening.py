"""A WebSocket session on a front, heard without a socket."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from simulator.hyperliquid.batch import Batch
from simulator.hyperliquid.session import Session
from tests.unit.simulator.front_world import Front


class Ear:
    """Subscribes, then hears by channel what happened since the last time."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._session = Session(front.venue)
        front.venue.engine.drain()

    def subscribe(self, kind: str, **fields: Any) -> list[Any]:
        """Data of the first frames after the confirmation."""
        wire = msgspec.json.encode({"method": "subscribe", "subscription": {"type": kind, **fields}}).decode()
        frames, _ = self._session.receive(wire, self._front.now_ms)
        bodies = [msgspec.json.decode(frame.text) for frame in frames]
        assert bodies[0]["channel"] == "subscriptionResponse", bodies[0]
        return [body["data"] for body in bodies[1:]]

    def hear(self, *, tick: bool = False) -> dict[str, list[Any]]:
        """Data of all frames since, by channel."""
        batch = Batch.of(self._front.venue.engine.drain(), tick=tick)
        heard: dict[str, list[Any]] = defaultdict(list)
        for frame in self._session.publish(batch, self._front.now_ms):
            heard[frame.channel].append(msgspec.json.decode(frame.text)["data"])
        return heard
