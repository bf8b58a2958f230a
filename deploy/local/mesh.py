"""The table of services of the local mesh, and which environment keys carry their addresses. Pure.

Another venue is one more `VenueRow`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.security import LocalSecurity
from deploy.local.services import Facts, Known, Plan, Service, ready_line
from deploy.local.state import LighterAccount, StateFolder, TradingAccount

HOST = "127.0.0.1"
ACCOUNT_ID = "main"
START_USDC = "100000"
# Nothing balances load on one machine, so nothing has to notice NOT_SERVING before the streams end.
DRAIN_PAUSE_S = "0.1"
DRAIN_GRACE_S = "4"


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueRow:
    """A venue of the local mesh: its gateway, and how the simulator funds the gateway's account.

    Args:
        symbol: what the walk-through trades there.
        url: the fact of the simulator that says where the venue is.
        funding: the simulator's setting that gives accounts of this venue their USDC.
    """

    venue: str
    symbol: str
    grpc_port: int
    metrics_port: int
    funding: str
    url: str

    @property
    def gateway(self) -> str:
        """Name of the service, which is the package it is run as."""
        return f"gateway_{self.venue}"

    @property
    def prefix(self) -> str:
        """Of the gateway's environment keys."""
        return f"{self.gateway.upper()}_"


VENUES = (
    VenueRow(
        venue="hyperliquid",
        symbol="BTC/USDC:USDC",
        grpc_port=50051,
        metrics_port=9464,
        funding="SIMULATOR_ACCOUNTS",
        url="hyperliquid_url",
    ),
    VenueRow(
        venue="tradexyz",
        symbol="TSLA/USDC:USDC",
        grpc_port=50052,
        metrics_port=9467,
        funding="SIMULATOR_DEX_ACCOUNTS",
        url="hyperliquid_url",
    ),
    VenueRow(
        venue="lighter",
        symbol="BTC/USDC:USDC",
        grpc_port=50053,
        metrics_port=9468,
        funding="SIMULATOR_LIGHTER_ACCOUNTS",
        url="lighter_url",
    ),
)
VENUE = VENUES[0].venue
LIGHTER = "lighter"
# Standard accounts may send one transaction a second, too few to look around with.
LIGHTER_TIER = "premium"

Accounts = Mapping[str, TradingAccount | LighterAccount]
"""The account of each venue's gateway."""


def make_accounts(state: StateFolder) -> Accounts:
    """The account of every venue, made at the first call and kept in the folder."""
    return {
        row.venue: state.lighter_account(row.venue) if row.venue == LIGHTER else state.trading_account(row.venue)
        for row in VENUES
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where everything listens on the loopback interface; 0 lets the system choose."""

    nats: int = 14222
    simulator: int = 3001
    router: int = 50050
    aggregator: int = 50060
    router_metrics: int = 9465
    aggregator_metrics: int = 9466
    automatic: bool = False

    @classmethod
    def auto(cls) -> Ports:
        """Everything chosen by the system."""
        return cls(nats=0, simulator=0, router=0, aggregator=0, router_metrics=0, aggregator_metrics=0, automatic=True)

    def of(self, row: VenueRow) -> tuple[int, int]:
        """gRPC and metrics port of a venue's gateway."""
        return (0, 0) if self.automatic else (row.grpc_port, row.metrics_port)


def mesh_services(
    *, ports: Ports, nats_server: str, jetstream: Path, accounts: Accounts, security: LocalSecurity | None = None
) -> tuple[Service, ...]:
    """The rows, in starting order; they stop from the last to the first.

    Args:
        security: TLS between all of them and tokens for callers; plain text for everybody on loopback without it.
    """
    return (
        _nats(ports, nats_server, jetstream),
        _simulator(ports, accounts),
        *(_gateway(row, ports, accounts[row.venue], security) for row in VENUES),
        _aggregator(ports, security),
        _router(ports, security),
    )


def secured_services() -> tuple[str, ...]:
    """Names of the services that speak gRPC, each with a certificate of its own."""
    return (*(row.gateway for row in VENUES), "aggregator", "router")


def _nats(ports: Ports, nats_server: str, jetstream: Path) -> Service:
    def plan(known: Known) -> Plan:
        port = _kept_port(known.get("nats", {}).get("url"), ports.nats)
        # nats-server's word for "choose one" is -1.
        address = ("--addr", HOST, "--port", str(port or -1))
        return Plan(command=(nats_server, *address, "--jetstream", "--store_dir", str(jetstream)))

    return Service(name="nats", plan=plan, ready=nats_ready_line, ports=_fixed({"NATS": ports.nats}), health=())


def nats_ready_line(line: str) -> Facts | None:
    """`... [INF] Listening for client connections on 127.0.0.1:4222`: from then on clients connect."""
    found = re.search(r"\[INF\] Listening for client connections on (\S+:\d+)$", line)
    return {"url": f"nats://{found[1]}"} if found else None


def _simulator(ports: Ports, accounts: Accounts) -> Service:
    def plan(known: Known) -> Plan:
        port = _kept_port(known.get("simulator", {}).get("hyperliquid_url"), ports.simulator)
        tables: dict[str, dict[str, object]] = {}
        for row in VENUES:
            for key, entries in at_the_simulator(row, accounts[row.venue]).items():
                tables.setdefault(key, {}).update(entries)
        return Plan(
            command=(sys.executable, "-m", "simulator"),
            settings={
                "SIMULATOR_HOST": HOST,
                "SIMULATOR_HYPERLIQUID_PORT": str(port),
                **{key: json.dumps(entries) for key, entries in tables.items()},
            },
        )

    return Service(
        name="simulator",
        plan=plan,
        ready=ready_line,
        ports=_fixed({"venue REST and WebSocket": ports.simulator}),
        prefix="SIMULATOR_",
        health=(),
    )


def at_the_simulator(row: VenueRow, account: TradingAccount | LighterAccount) -> dict[str, dict[str, object]]:
    """What the simulator must know of an account, by setting: its money and who may trade it."""
    if isinstance(account, TradingAccount):
        return {
            row.funding: {account.address: START_USDC},
            "SIMULATOR_AGENTS": {account.agent_address: account.address},
        }
    keys = {str(account.key_index): account.public_key}
    entry = {"l1_address": account.owner, "keys": keys, "usdc": START_USDC, "tier": LIGHTER_TIER}
    return {row.funding: {str(account.account_index): entry}}


def at_the_gateway(account: TradingAccount | LighterAccount, key_file: str) -> dict[str, object]:
    """What the gateway must know of its account: names and where it finds the file of its key, never the key."""
    if isinstance(account, TradingAccount):
        return {
            "account_id": ACCOUNT_ID,
            "address": account.address,
            "agent_key_file": key_file,
        }
    return {
        "account_id": ACCOUNT_ID,
        "account_index": account.account_index,
        "l1_address": account.owner,
        "keys": [{"index": account.key_index, "file": key_file}],
    }


def key_file(account: TradingAccount | LighterAccount) -> Path:
    """Where the key of an account is on this machine."""
    return account.agent_key_file if isinstance(account, TradingAccount) else account.key_file


def _gateway(
    row: VenueRow, ports: Ports, account: TradingAccount | LighterAccount, security: LocalSecurity | None
) -> Service:
    name, prefix = row.gateway, row.prefix
    grpc, metrics = ports.of(row)

    def plan(known: Known) -> Plan:
        return Plan(
            command=(sys.executable, "-m", name),
            settings={
                **_common(prefix, known, name, grpc, metrics),
                **(security.server_settings(prefix, name, only_peers=True) if security else {}),
                f"{prefix}ENVIRONMENT": "simulator",
                f"{prefix}API_URL": known["simulator"][row.url],
                f"{prefix}ACCOUNTS": json.dumps([at_the_gateway(account, str(key_file(account)))]),
                **({f"{prefix}TIER": LIGHTER_TIER} if row.venue == LIGHTER else {}),
            },
        )

    return Service(
        name=name,
        plan=plan,
        ready=ready_line,
        needs=("nats", "simulator"),
        ports=_fixed({"gRPC": grpc, "metrics": metrics}),
        prefix=prefix,
    )


def _aggregator(ports: Ports, security: LocalSecurity | None) -> Service:
    name, prefix = "aggregator", "AGGREGATOR_"
    grpc, metrics = ports.aggregator, ports.aggregator_metrics

    def plan(known: Known) -> Plan:
        return Plan(
            command=(sys.executable, "-m", name),
            settings={
                **_common(prefix, known, name, grpc, metrics),
                f"{prefix}VENUES": _venues(known),
                **_secured(prefix, name, "OUTGOING__", security),
            },
        )

    return Service(
        name=name,
        plan=plan,
        ready=ready_line,
        needs=("nats", *(row.gateway for row in VENUES)),
        ports=_fixed({"gRPC": grpc, "metrics": metrics}),
        prefix=prefix,
    )


def _router(ports: Ports, security: LocalSecurity | None) -> Service:
    name, prefix = "router", "ROUTER_"
    grpc, metrics = ports.router, ports.router_metrics

    def plan(known: Known) -> Plan:
        return Plan(
            command=(sys.executable, "-m", name),
            settings={
                **_common(prefix, known, name, grpc, metrics),
                f"{prefix}VENUES": _venues(known),
                **_secured(prefix, name, "GATEWAY__", security),
            },
        )

    return Service(
        name=name,
        plan=plan,
        ready=ready_line,
        needs=("nats", *(row.gateway for row in VENUES)),
        ports=_fixed({"gRPC": grpc, "metrics": metrics}),
        prefix=prefix,
        # It serves without its venues too; an order needs them.
        health=("", *(f"venue/{row.venue}" for row in VENUES)),
    )


def _common(prefix: str, known: Known, name: str, grpc: int, metrics: int) -> dict[str, str]:
    """Settings every gRPC service of the mesh has (`venuemesh.settings.ServiceSettings`)."""
    former = known.get(name, {})
    return {
        f"{prefix}NATS__URLS": known["nats"]["url"],
        f"{prefix}GRPC__HOST": HOST,
        f"{prefix}GRPC__PORT": str(_kept_port(former.get("grpc_address"), grpc)),
        f"{prefix}GRPC__DRAIN_PAUSE_S": DRAIN_PAUSE_S,
        f"{prefix}GRPC__DRAIN_GRACE_S": DRAIN_GRACE_S,
        f"{prefix}METRICS__PORT": str(_kept_port(former.get("metrics_address"), metrics)),
    }


def _secured(prefix: str, name: str, section: str, security: LocalSecurity | None) -> Mapping[str, str]:
    """TLS and token settings of a service that clients call and that calls the gateways."""
    if security is None:
        return {}
    server = security.server_settings(prefix, name, only_peers=False)
    return {**server, **security.outgoing_settings(f"{prefix}{section}", name)}


def _venues(known: Known) -> str:
    """`hyperliquid=127.0.0.1:50051`, with a comma between venues."""
    return ",".join(f"{row.venue}={known[row.gateway]['grpc_address']}" for row in VENUES)


def _kept_port(address: str | None, configured: int) -> int:
    """Port of a former self, so that a restarted service is found where it was; else the configured one."""
    if configured or not address:
        return configured
    return int(address.rpartition(":")[2].rstrip("/"))


def _fixed(ports: Mapping[str, int]) -> dict[str, int]:
    return {use: port for use, port in ports.items() if port}
