"""The table of services of the local mesh, and which environment keys carry their addresses. Pure.

Another venue is one more row here and one more entry in the router's list of venues.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.services import Facts, Known, Plan, Service, ready_line
from deploy.local.state import TradingAccount

HOST = "127.0.0.1"
VENUE = "hyperliquid"
ACCOUNT_ID = "main"
START_USDC = "100000"
# Nothing balances load on one machine, so nothing has to notice NOT_SERVING before the streams end.
DRAIN_PAUSE_S = "0.1"
DRAIN_GRACE_S = "4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where everything listens on the loopback interface; 0 lets the system choose."""

    nats: int = 14222
    simulator: int = 3001
    router: int = 50050
    gateway_hyperliquid: int = 50051
    aggregator: int = 50060
    gateway_hyperliquid_metrics: int = 9464
    router_metrics: int = 9465
    aggregator_metrics: int = 9466

    @classmethod
    def auto(cls) -> Ports:
        """Everything chosen by the system."""
        return cls(
            nats=0,
            simulator=0,
            router=0,
            gateway_hyperliquid=0,
            aggregator=0,
            gateway_hyperliquid_metrics=0,
            router_metrics=0,
            aggregator_metrics=0,
        )


def mesh_services(*, ports: Ports, nats_server: str, jetstream: Path, account: TradingAccount) -> tuple[Service, ...]:
    """The rows, in starting order; they stop from the last to the first."""
    return (
        _nats(ports, nats_server, jetstream),
        _simulator(ports, account),
        _gateway_hyperliquid(ports, account),
        _aggregator(ports),
        _router(ports),
    )


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


def _simulator(ports: Ports, account: TradingAccount) -> Service:
    def plan(known: Known) -> Plan:
        port = _kept_port(known.get("simulator", {}).get("hyperliquid_url"), ports.simulator)
        return Plan(
            command=(sys.executable, "-m", "simulator"),
            settings={
                "SIMULATOR_HOST": HOST,
                "SIMULATOR_HYPERLIQUID_PORT": str(port),
                "SIMULATOR_ACCOUNTS": json.dumps({account.address: START_USDC}),
                "SIMULATOR_AGENTS": json.dumps({account.agent_address: account.address}),
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


def _gateway_hyperliquid(ports: Ports, account: TradingAccount) -> Service:
    name, prefix = "gateway_hyperliquid", "GATEWAY_HYPERLIQUID_"
    grpc, metrics = ports.gateway_hyperliquid, ports.gateway_hyperliquid_metrics

    def plan(known: Known) -> Plan:
        accounts = [
            {
                "account_id": ACCOUNT_ID,
                "address": account.address,
                "agent_key_file": str(account.agent_key_file),
            }
        ]
        return Plan(
            command=(sys.executable, "-m", name),
            settings={
                **_common(prefix, known, name, grpc, metrics),
                f"{prefix}ENVIRONMENT": "simulator",
                f"{prefix}API_URL": known["simulator"]["hyperliquid_url"],
                f"{prefix}ACCOUNTS": json.dumps(accounts),
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


def _aggregator(ports: Ports) -> Service:
    name, prefix = "aggregator", "AGGREGATOR_"
    grpc, metrics = ports.aggregator, ports.aggregator_metrics

    def plan(known: Known) -> Plan:
        return Plan(
            command=(sys.executable, "-m", name),
            settings={
                **_common(prefix, known, name, grpc, metrics),
                f"{prefix}VENUES": _venues(known),
            },
        )

    return Service(
        name=name,
        plan=plan,
        ready=ready_line,
        needs=("nats", "gateway_hyperliquid"),
        ports=_fixed({"gRPC": grpc, "metrics": metrics}),
        prefix=prefix,
    )


def _router(ports: Ports) -> Service:
    name, prefix = "router", "ROUTER_"
    grpc, metrics = ports.router, ports.router_metrics

    def plan(known: Known) -> Plan:
        return Plan(
            command=(sys.executable, "-m", name),
            settings={
                **_common(prefix, known, name, grpc, metrics),
                f"{prefix}VENUES": _venues(known),
            },
        )

    return Service(
        name=name,
        plan=plan,
        ready=ready_line,
        needs=("nats", "gateway_hyperliquid"),
        ports=_fixed({"gRPC": grpc, "metrics": metrics}),
        prefix=prefix,
        # It serves without its venues too; an order needs them.
        health=("", f"venue/{VENUE}"),
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


def _venues(known: Known) -> str:
    """`hyperliquid=127.0.0.1:50051`, with a comma between venues."""
    return f"{VENUE}={known['gateway_hyperliquid']['grpc_address']}"


def _kept_port(address: str | None, configured: int) -> int:
    """Port of a former self, so that a restarted service is found where it was; else the configured one."""
    if configured or not address:
        return configured
    return int(address.rpartition(":")[2].rstrip("/"))


def _fixed(ports: Mapping[str, int]) -> dict[str, int]:
    return {use: port for use, port in ports.items() if port}
