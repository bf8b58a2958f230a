"""What goes wrong, in an order that depends on the seed alone: deaths of processes and faults of the venue."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.soak.mesh import GATEWAYS, HYPERLIQUID, LIGHTER, VENUES, SoakMesh
from venuemesh.crashpoints import CrashPoint

POINTS = tuple(point for point in CrashPoint if point is not CrashPoint.NONE)
RARE = frozenset(
    {
        CrashPoint.JOURNAL_REPLAYED,
        CrashPoint.AMENDMENT_WRITTEN,
        CrashPoint.AMENDMENT_ANSWERED,
        CrashPoint.FILL_QUEUED,
    }
)
"""Points that little comes past: armed to strike at once, and more often, so that they are struck at all."""
ARMED = 0.75
"""Share of the lives of a gateway that end at a named point, if nothing else ends them before."""

RESTARTED = 0.7
"""Share of the comparisons that are made of a gateway that has just recovered; the others see one that lived on."""

REQUESTS: dict[str, tuple[str, ...]] = {
    HYPERLIQUID: (
        "order",
        "order",
        "cancelByCloid",
        "cancel",
        "batchModify",
        "info:orderStatus",
        "info:userFillsByTime",
        "info:frontendOpenOrders",
        "info:clearinghouseState",
    ),
    LIGHTER: (
        "create_order",
        "create_order",
        "batch",
        "cancel_order",
        "modify_order",
        "info:nextNonce",
        "info:accountActiveOrders",
        "info:accountInactiveOrders",
        "info:trades",
        "info:account",
    ),
}
FRAMES: dict[str, tuple[str, ...]] = {
    HYPERLIQUID: ("post", "post", "orderUpdates", "userFills", "userFundings"),
    LIGHTER: ("", "", "account_all_orders", "account_all_trades", "account_all_positions", "account_tx"),
}
REQUEST_KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("drop_reply", {}),
    ("drop_reply", {}),
    ("delay_reply", {"delay_s": 0.4}),
    ("delay_reply", {"delay_s": 1.4}),
    ("delay_before", {"delay_s": 0.5}),
    ("delay_before", {"delay_s": 1.6}),
    ("reset_before", {}),
    ("error_before", {"status": 502}),
    ("error_after", {"status": 502}),
    ("garble_reply", {}),
    ("rate_limit", {"retry_after_s": 1}),
)
FRAME_KINDS = ("drop_frame", "duplicate_frame", "duplicate_frame", "reorder_frame", "reorder_frame", "delay_frame")


@dataclass(slots=True)
class Tally:
    """What was done, by name."""

    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All kills and faults."""
        return self.kills.total() + self.faults.total()


class Chaos:
    """Hurts the mesh until told to stop; afterwards `calm` takes everything back.

    Args:
        mean_s: between two blows.
    """

    def __init__(self, mesh: SoakMesh, tally: Tally, random: Random, *, mean_s: float = 0.25) -> None:
        self._mesh = mesh
        self._tally = tally
        self._random = random
        self._mean_s = mean_s
        self._thaws: list[asyncio.Task[None]] = []
        self._silent_until_s = 0.0
        self._rules: Counter[tuple[str, str]] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """One blow after the other."""
        blows: tuple[tuple[int, Callable[[], Awaitable[None]]], ...] = (
            (12, self._kill_gateway),
            (2, self._drain_gateway),
            (3, self._kill_broker),
            (1, self._freeze_broker),
            (2, self._kill_router),
            (2, self._freeze_venue),
            (4, self._cut_sockets),
            (2, self._silence),
            (2, self._refuse_connections),
            (16, self._spoil_request),
            (12, self._spoil_frame),
        )
        weights = [weight for weight, _ in blows]
        while not stop.is_set():
            pause_s = min(self._random.expovariate(1 / self._mean_s), 4 * self._mean_s)
            try:
                async with asyncio.timeout(pause_s):
                    await stop.wait()
            except TimeoutError:
                await self._random.choices([blow for _, blow in blows], weights)[0]()

    # processes

    async def _kill_gateway(self) -> None:
        self._end_gateway(self._random.choice(GATEWAYS), signal.SIGKILL, "random moment")

    async def _drain_gateway(self) -> None:
        self._end_gateway(self._random.choice(GATEWAYS), signal.SIGTERM, "drained")

    def _end_gateway(self, gateway: str, how: signal.Signals, name: str) -> None:
        """The next life is armed whatever comes of it; a life that is armed may end by itself first."""
        point = self._random.choice(POINTS) if self._random.random() < ARMED else CrashPoint.NONE
        passes = 0 if point in RARE else self._random.randint(0, 5)
        patience_s = self._random.uniform(0.5, 3.0)
        lives, up_s = self._mesh.lives[gateway], self._mesh.up_for_s(gateway)
        lives.next_point, lives.next_passes = point, passes
        if lives.point is not CrashPoint.NONE:
            # It is to die at its point; one that little comes past is given up some time.
            patience_s += 12.0
        if up_s is not None and up_s > patience_s and self._mesh.signal(gateway, how):
            self._tally.kills[f"{gateway} {name}"] += 1

    async def _kill_broker(self) -> None:
        self._kill("nats", "broker")

    async def _kill_router(self) -> None:
        self._kill("router", "router")

    def _kill(self, service: str, name: str) -> None:
        up_s = self._mesh.up_for_s(service)
        if up_s is not None and up_s > 1.0 and self._mesh.signal(service, signal.SIGKILL):
            self._tally.kills[name] += 1

    async def _freeze_broker(self) -> None:
        self._freeze("nats", "broker frozen", self._random.uniform(0.2, 1.5))

    async def _freeze_venue(self) -> None:
        self._freeze("simulator", "venue frozen", self._random.uniform(0.2, 2.0))

    def _freeze(self, service: str, name: str, seconds: float) -> None:
        if not self._mesh.signal(service, signal.SIGSTOP):
            return
        self._tally.faults[name] += 1

        async def thaw() -> None:
            await asyncio.sleep(seconds)
            self._mesh.signal(service, signal.SIGCONT)

        self._thaws.append(asyncio.create_task(thaw(), name=f"thaw-{service}"))

    # the venue

    async def _cut_sockets(self) -> None:
        venue = self._random.choice(VENUES)
        await self._at_the_venue("/sim/sockets/cut", None, venue)
        self._tally.faults[f"{venue} sockets cut"] += 1

    async def _silence(self) -> None:
        venue, seconds = self._random.choice(VENUES), self._random.uniform(0.2, 1.5)
        await self._at_the_venue("/sim/silence", {"seconds": seconds}, venue)
        self._silent_until_s = max(self._silent_until_s, time.monotonic() + seconds)
        self._tally.faults[f"{venue} silent"] += 1

    async def _refuse_connections(self) -> None:
        venue = self._random.choice(VENUES)
        rule = {"kind": "refuse_connections", "count": self._random.randint(1, 4)}
        await self._at_the_venue("/sim/sockets/cut", None, venue)
        await self._add_rule(venue, rule)

    async def _spoil_request(self) -> None:
        venue = self._random.choice(VENUES)
        kind, more = self._random.choice(REQUEST_KINDS)
        match = self._random.choice(REQUESTS[venue])
        await self._add_rule(venue, {"kind": kind, "match": match, "skip": self._random.randint(0, 2), **more})

    async def _spoil_frame(self) -> None:
        venue = self._random.choice(VENUES)
        kind, match = self._random.choice(FRAME_KINDS), self._random.choice(FRAMES[venue])
        rule = {"kind": kind, "match": match, "skip": self._random.randint(0, 2)}
        if kind == "delay_frame":
            rule["delay_s"] = self._random.uniform(0.1, 1.2)
        await self._add_rule(venue, rule)

    async def _add_rule(self, venue: str, rule: dict[str, Any]) -> None:
        self._rules[venue, str(rule["kind"])] += 1
        await self._at_the_venue("/sim/faults", rule, venue)

    async def _at_the_venue(self, path: str, body: Any, venue: str) -> None:
        """Wait for a frozen venue to thaw first: what is asked of it then is late, and not lost."""
        await self._mesh.venue("POST", path, body, venue=venue)

    # the end

    async def calm(self) -> None:
        """Lift every fault, thaw what is frozen, and count the faults that struck."""
        await asyncio.gather(*self._thaws)
        self._thaws.clear()
        for venue in VENUES:
            left = Counter(str(rule["kind"]) for rule in await self._mesh.venue("GET", "/sim/faults", venue=venue))
            await self._mesh.venue("DELETE", "/sim/faults", venue=venue)
            for (where, kind), count in self._rules.items():
                if where == venue and (struck := count - left[kind]) > 0:
                    self._tally.faults[f"{venue} {kind}"] += struck
        self._rules.clear()
        await asyncio.sleep(max(0.0, self._silent_until_s - time.monotonic()))
        for gateway, lives in self._mesh.lives.items():
            lives.next_point = CrashPoint.NONE
            armed = lives.point is not CrashPoint.NONE
            if (armed or self._random.random() < RESTARTED) and self._mesh.signal(gateway, signal.SIGKILL):
                # One that is armed still would die while we compare.
                self._tally.kills[f"{gateway} random moment"] += 1

    def count_points(self) -> None:
        """Add the deaths at named points since the last count."""
        for gateway, lives in self._mesh.lives.items():
            self._tally.kills.update(f"{gateway} {point}" for point in lives.died_at)
            lives.died_at.clear()


__all__ = ["Chaos", "Tally"]
