"""What a link's socket is made of, whatever is spoken over it."""

from __future__ import annotations

import asyncio
import random as _random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from venuemesh.clock import Clock
from venuemesh.transport.environment import HostGuard
from venuemesh.transport.gate import LimiterGate
from venuemesh.transport.link import LinkStats
from venuemesh.transport.observer import NullObserver, Observer, SafeObserver


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkWiring:
    """Where a link goes and who watches it.

    Args:
        url: ws or wss, checked by `guard` before any socket is opened.
        name: the link in logs, records and names of tasks.
        gate: rate limiter; None charges nothing.
        stats: fed with what is measured; the socket's own when absent.
        observer: hears of every request and state.
        random, sleep: chance and waiting, injected for tests.
    """

    url: str
    guard: HostGuard
    clock: Clock
    name: str
    gate: LimiterGate | None = None
    stats: LinkStats | None = None
    observer: Observer = field(default_factory=NullObserver)
    random: Callable[[], float] = _random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    @property
    def watcher(self) -> Observer:
        """The observer, whose faults never change an order's outcome."""
        return SafeObserver(self.observer)
