"""The mesh under attack: broker, simulator, two gateways and a router; a process that dies is started again.

The venue's state lives in the simulator's memory, so that its process is never killed: it is frozen (SIGSTOP) instead,
its sockets are cut, and it refuses connections. For a gateway that is the same as a venue that went away.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx

from deploy.local.__main__ import nats_server
from deploy.local.health import wait_serving
from deploy.local.mesh import Ports, make_accounts, mesh_services
from deploy.local.services import Known, Plan, Service
from deploy.local.state import LIGHTER_ACCOUNT_INDEX, StateFolder
from deploy.local.supervisor import Policy, Supervisor
from tests.e2e.mesh import supervised, with_settings
from venuemesh.crashpoints import CrashPoint

HYPERLIQUID = "hyperliquid"
LIGHTER = "lighter"
VENUES = (HYPERLIQUID, LIGHTER)
ACCOUNTS = ("north", "south")
SYMBOLS = ("BTC/USDC:USDC", "ETH/USDC:USDC")
GATEWAYS = tuple(f"gateway_{venue}" for venue in VENUES)
USDC = "50000000"
RETAINED = 50_000
MAX_MESSAGES = 20_000
SNAPSHOT_EVENTS = "100"
"""Few, so that gateways that are killed have some to start from."""
LIGHTER_TIER = "plus"
READY_TIMEOUT_S = 90.0
GRACE_S = 4.0
_NOT_STARTED = {"gateway_tradexyz": {"grpc_address": "127.0.0.1:1"}}

_GATEWAY_SETTINGS = {
    "ORDER_EXPIRY_S": "2.0",
    "ACTION_TIMEOUT_S": "1.0",
    "SETTLE_DELAY_S": "0.4",
    "RECONCILE_PERIOD_S": "8",
}
# Fast to move away from a dead peer and back: the runs are short and the deaths many.
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 32 * 1024**2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakAccount:
    """An account as everybody calls it: the mesh, the simulator's admin interface, the venue."""

    venue: str
    account_id: str
    user: str


@dataclass(slots=True)
class Lives:
    """How the current life of a gateway is meant to end, and how the former ones did."""

    point: CrashPoint = CrashPoint.NONE
    passes: int = 0
    next_point: CrashPoint = CrashPoint.NONE
    next_passes: int = 0
    killed_by_us: bool = True
    """Whether the end of the current life is not its crash point's doing; true before the first."""
    died_at: list[CrashPoint] = field(default_factory=list)

    def begin(self) -> Mapping[str, str]:
        """A life begins: note how the one before ended; the new one's settings, without a prefix."""
        if self.point is not CrashPoint.NONE and not self.killed_by_us:
            self.died_at.append(self.point)
        self.point, self.passes = self.next_point, self.next_passes
        self.next_point, self.next_passes = CrashPoint.NONE, 0
        self.killed_by_us = False
        return {"CRASH_POINT": str(self.point), "CRASH_PASSES": str(self.passes)}


_ENDED = re.compile(r"(\w+) ended with (exit code|signal) (\w+); restart")
_UP = re.compile(r"(\w+) is up again")


class Watch:
    """Reads what the supervisor says: who is up since when, who ended how, and whether that was asked for."""

    def __init__(self) -> None:
        self.messages: deque[str] = deque(maxlen=MAX_MESSAGES)
        self.drained: list[str] = []
        self.failed_starts = 0
        self.unasked: list[str] = []
        self._up_since_s: dict[str, float] = {}
        self._told_to_stop: set[str] = set()

    def say(self, text: str) -> None:
        """Take one message of the supervisor."""
        self.note(text.partition("\n")[0])
        if found := _UP.match(text):
            self.up(found[1])
        elif found := _ENDED.match(text):
            self._ended(found[1], f"{found[2]} {found[3]}", text)

    def note(self, text: str) -> None:
        """Keep a line of what happened, with its time."""
        self.messages.append(f"{datetime.now(UTC):%H:%M:%S.%f} {text}")

    def up(self, service: str) -> None:
        """A service is SERVING."""
        self._up_since_s[service] = time.monotonic()

    def up_for_s(self, service: str) -> float | None:
        """How long a service is SERVING; None while it is not, or was told to end."""
        since_s = self._up_since_s.get(service)
        return None if since_s is None or service in self._told_to_stop else time.monotonic() - since_s

    def told_to_stop(self, service: str) -> None:
        """SIGTERM was sent."""
        self._told_to_stop.add(service)

    def _ended(self, service: str, how: str, text: str) -> None:
        was_up = self._up_since_s.pop(service, None) is not None
        told = service in self._told_to_stop
        self._told_to_stop.discard(service)
        if how == "signal SIGKILL":
            return
        if how == "exit code 0" and told:
            self.drained.append(service)
        elif not was_up and not told and how == "exit code 1":
            # It could not start, as while the broker was away: it says so and is started again.
            self.failed_starts += 1
        else:
            self.unasked.append(text)


@dataclass(slots=True)
class SoakMesh:
    """The running processes and the ways to hurt them."""

    known: Known
    supervisor: Supervisor
    accounts: tuple[SoakAccount, ...]
    lives: dict[str, Lives]
    watch: Watch
    folder: Path
    _channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)
    _client: httpx.AsyncClient | None = None

    def channel(self, service: str) -> grpc.aio.Channel:
        """A channel to a service; ports outlive restarts."""
        target = self.known[service]["grpc_address"]
        if target not in self._channels:
            self._channels[target] = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        return self._channels[target]

    @property
    def nats_url(self) -> str:
        """Of the broker."""
        return self.known["nats"]["url"]

    def signal(self, service: str, number: signal.Signals) -> bool:
        """Send a signal to a service's process group; False when it is just being started."""
        group = self.supervisor.process_groups.get(service)
        if group is None:
            return False
        if number in (signal.SIGKILL, signal.SIGTERM) and service in self.lives:
            self.lives[service].killed_by_us = True
        if number is signal.SIGTERM:
            self.watch.told_to_stop(service)
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return False
        self.watch.note(f"{number.name} to {service}")
        return True

    def up_for_s(self, service: str) -> float | None:
        """How long a service is SERVING; None while it is not."""
        return self.watch.up_for_s(service)

    def take_unasked_ends(self) -> list[str]:
        """How processes ended that nobody ended, since the last call."""
        taken, self.watch.unasked = self.watch.unasked, []
        return taken

    @property
    def drained(self) -> int:
        """Gateways that ended in order after SIGTERM."""
        return len(self.watch.drained)

    async def venue(self, method: str, path: str, body: Any = None, *, venue: str = HYPERLIQUID) -> Any:
        """A call to the simulator's admin interface."""
        if self._client is None:
            url = self.known["simulator"]["hyperliquid_url"]
            self._client = httpx.AsyncClient(base_url=url, timeout=30, verify=False)
        if method != "GET":
            self.watch.note(f"{venue} {method} {path} {body or ''}")
        path += f"{'&' if '?' in path else '?'}venue={venue}"
        answer = await self._client.request(method, path, content=json.dumps(body) if body is not None else None)
        answer.raise_for_status()
        return answer.json()

    async def wait_up(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until every service is SERVING.

        Raises:
            NotServing: one is not, within `timeout_s`.
        """
        for gateway in GATEWAYS:
            await wait_serving(self.known[gateway]["grpc_address"], timeout_s=timeout_s)
        for venue in VENUES:
            await wait_serving(self.known["router"]["grpc_address"], name=f"venue/{venue}", timeout_s=timeout_s)

    async def close(self) -> None:
        """Close what was opened."""
        for channel in self._channels.values():
            await channel.close()
        if self._client is not None:
            await self._client.aclose()


@asynccontextmanager
async def soak_mesh(folder: Path, *, gateways: Mapping[str, str] | None = None) -> AsyncIterator[SoakMesh]:
    """Everything up on free ports, and down again at the end.

    Args:
        gateways: more settings of every gateway, by key without its prefix.
    """
    state = StateFolder(folder)
    accounts, tables = _accounts(state)
    lives = {gateway: Lives() for gateway in GATEWAYS}
    watch = Watch()
    policy = Policy(
        ready_timeout_s=READY_TIMEOUT_S, grace_s=15.0, max_restarts=100_000, first_pause_s=0.02, longest_pause_s=0.02
    )
    rows = _rows(state, lives, tables, {**_GATEWAY_SETTINGS, **(gateways or {})})
    async with supervised(rows, logs=state.logs, policy=policy, say=watch.say) as (supervisor, known):
        for row in rows:
            watch.up(row.name)
        mesh = SoakMesh(known, supervisor, accounts, lives, watch, folder)
        try:
            await mesh.venue("POST", "/sim/hyperliquid/retention", {"orders": RETAINED})
            yield mesh
        finally:
            mesh.signal("simulator", signal.SIGCONT)
            mesh.signal("nats", signal.SIGCONT)
            await mesh.close()


def _accounts(state: StateFolder) -> tuple[tuple[SoakAccount, ...], dict[str, str]]:
    """The accounts, and the settings of the simulator and the gateways that make them known."""
    found: list[SoakAccount] = []
    funded, agents, lighter = {}, {}, {}
    at_hyperliquid, at_lighter = [], []
    for number, name in enumerate(ACCOUNTS):
        trading = state.trading_account(f"{HYPERLIQUID}_{name}")
        funded[trading.address], agents[trading.agent_address] = USDC, trading.address
        key_file = str(trading.agent_key_file)
        at_hyperliquid.append({"account_id": name, "address": trading.address, "agent_key_file": key_file})
        found.append(SoakAccount(venue=HYPERLIQUID, account_id=name, user=trading.address))
        other = replace(state.lighter_account(f"{LIGHTER}_{name}"), account_index=LIGHTER_ACCOUNT_INDEX + number)
        keys = {str(other.key_index): other.public_key}
        lighter[str(other.account_index)] = {
            "l1_address": other.owner,
            "keys": keys,
            "usdc": USDC,
            "tier": LIGHTER_TIER,
        }
        at_lighter.append(
            {
                "account_id": name,
                "account_index": other.account_index,
                "l1_address": other.owner,
                "keys": [{"index": other.key_index, "file": str(other.key_file)}],
            }
        )
        found.append(SoakAccount(venue=LIGHTER, account_id=name, user=str(other.account_index)))
    settings = {
        "SIMULATOR_ACCOUNTS": json.dumps(funded),
        "SIMULATOR_AGENTS": json.dumps(agents),
        "SIMULATOR_LIGHTER_ACCOUNTS": json.dumps(lighter),
        "GATEWAY_HYPERLIQUID_ACCOUNTS": json.dumps(at_hyperliquid),
        "GATEWAY_LIGHTER_ACCOUNTS": json.dumps(at_lighter),
    }
    return tuple(found), settings


def _rows(
    state: StateFolder, lives: Mapping[str, Lives], accounts: Mapping[str, str], settings: Mapping[str, str]
) -> list[Service]:
    table = mesh_services(
        ports=Ports.auto(), nats_server=nats_server(), jetstream=state.jetstream, accounts=make_accounts(state)
    )
    by_name = {row.name: row for row in table}
    # Still markets: what rests far away is never hit, so that what ought to be open at the end is known.
    simulator = {
        **accounts,
        "SIMULATOR_ADMIN": "true",
        "SIMULATOR_IP_WEIGHT_PER_MINUTE": "0",
        "SIMULATOR_ADDRESS_BUDGET": "100000000",
        "SIMULATOR_LIGHTER_RATE_LIMITS": "false",
        "SIMULATOR_LEVELS": "3",
        "SIMULATOR_LEVEL_NOTIONAL": "2000000",
        "SIMULATOR_VOLATILITY_BPS": "0",
        "SIMULATOR_TRADE_PERCENT": "0",
        "SIMULATOR_HISTORY_MINUTES": "0",
    }
    rows = [by_name["nats"], with_settings(by_name["simulator"], lambda: simulator)]
    for venue, gateway in zip(VENUES, GATEWAYS, strict=True):
        more = _gateway_settings(gateway, venue, lives[gateway], accounts, settings)
        rows.append(with_settings(by_name[gateway], more))
    return [*rows, _router(by_name["router"])]


def _gateway_settings(
    gateway: str, venue: str, lives: Lives, accounts: Mapping[str, str], settings: Mapping[str, str]
) -> Any:
    prefix = f"{gateway.upper()}_"

    def more() -> Mapping[str, str]:
        own = {"SNAPSHOT_EVENTS": SNAPSHOT_EVENTS, **settings}
        if venue == LIGHTER:
            own.update(VERDICT_POLL_S="0.5", TIER=LIGHTER_TIER)
        return {**accounts, **{f"{prefix}{key}": value for key, value in {**own, **lives.begin()}.items()}}

    return more


def _router(row: Service) -> Service:
    """The router over the venues that are there; the table's own row wants one more."""

    def plan(known: Known) -> Plan:
        planned = row.plan({**_NOT_STARTED, **known})
        venues = ",".join(f"{venue}={known[f'gateway_{venue}']['grpc_address']}" for venue in VENUES)
        return replace(planned, settings={**planned.settings, "ROUTER_VENUES": venues})

    health = ("", *(f"venue/{venue}" for venue in VENUES))
    return replace(row, plan=plan, needs=("nats", *GATEWAYS), health=health)


__all__ = ["ACCOUNTS", "GATEWAYS", "SYMBOLS", "VENUES", "SoakAccount", "SoakMesh", "soak_mesh"]
