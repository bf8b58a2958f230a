"""The table of the mesh: which addresses and keys reach which service."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.mesh import Ports, mesh_services, nats_ready_line
from deploy.local.services import Facts, Service, check_table, launch_of
from deploy.local.state import StateFolder, TradingAccount
from gateway_hyperliquid.settings import GatewaySettings
from router.settings import RouterSettings
from simulator.settings import SimulatorSettings
from venuemesh.transport.environment import Environment

FACTS: dict[str, Facts] = {
    "nats": {"url": "nats://127.0.0.1:14222"},
    "simulator": {"hyperliquid_url": "http://127.0.0.1:3001"},
    "gateway_hyperliquid": {"grpc_address": "127.0.0.1:50051", "metrics_address": "127.0.0.1:9464"},
}


@pytest.fixture
def account(tmp_path: Path) -> TradingAccount:
    return StateFolder(tmp_path).trading_account("hyperliquid")


def table(account: TradingAccount, ports: Ports) -> dict[str, Service]:
    rows = mesh_services(ports=ports, nats_server="nats-server", jetstream=Path("/data"), account=account)
    return {row.name: row for row in rows}


def settings_of(name: str, rows: dict[str, Service], known: dict[str, Facts]) -> dict[str, str]:
    """What the service reads: its environment without anything inherited."""
    launch = launch_of(rows[name], list(rows.values()), known, environ={}, folder=Path())
    return dict(launch.environment)


def test_table_is_in_starting_order(account: TradingAccount) -> None:
    """Reversed, it is the order of the drain: router, aggregator, gateway, simulator, broker."""
    rows = table(account, Ports())
    assert list(rows) == ["nats", "simulator", "gateway_hyperliquid", "aggregator", "router"]
    check_table(list(rows.values()))


def test_table_when_ports_are_fixed_has_no_port_twice(account: TradingAccount) -> None:
    """Every fixed port belongs to one use."""
    ports = [port for row in table(account, Ports()).values() for port in row.ports.values()]
    assert len(ports) == len(set(ports)) == 8


def test_table_when_ports_are_automatic_checks_none(account: TradingAccount) -> None:
    """What the system chooses is free."""
    assert not [row for row in table(account, Ports.auto()).values() if row.ports]


def test_settings_of_the_simulator_are_accepted_by_it(account: TradingAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is funded and the agent approved for it."""
    for key, value in settings_of("simulator", table(account, Ports()), {}).items():
        monkeypatch.setenv(key, value)
    settings = SimulatorSettings()
    assert settings.hyperliquid_port == 3001
    assert settings.agents == {account.agent_address: account.address}
    assert settings.accounts[account.address] > 0


def test_settings_of_the_router_are_accepted_by_it(account: TradingAccount) -> None:
    """It finds the gateway where the gateway said it is."""
    settings = RouterSettings.load(settings_of("router", table(account, Ports()), FACTS))
    assert settings.gateways == {"hyperliquid": "127.0.0.1:50051"}
    assert settings.grpc.port == 50050
    assert settings.metrics.port == 9465
    assert settings.nats.urls == ("nats://127.0.0.1:14222",)


def test_settings_of_the_gateway_name_the_key_file_and_not_the_key(account: TradingAccount) -> None:
    """The gateway accepts them; the key itself is in no environment, of no service."""
    rows = table(account, Ports())
    settings = GatewaySettings.load(settings_of("gateway_hyperliquid", rows, FACTS))
    assert settings.environment is Environment.SIMULATOR
    assert settings.url == "http://127.0.0.1:3001"
    assert [(entry.account_id, entry.address, entry.agent_key_file) for entry in settings.accounts] == [
        ("main", account.address, account.agent_key_file)
    ]
    key = account.agent_key_file.read_text()
    for name in rows:
        assert key not in str(settings_of(name, rows, FACTS))


@pytest.mark.parametrize("ports", [Ports(), Ports.auto()])
def test_settings_when_started_again_keep_the_ports_others_know(account: TradingAccount, ports: Ports) -> None:
    """With automatic ports a restarted gateway is found where it was."""
    again = settings_of("gateway_hyperliquid", table(account, ports), FACTS)
    assert again["GATEWAY_HYPERLIQUID_GRPC__PORT"] == "50051"
    assert again["GATEWAY_HYPERLIQUID_METRICS__PORT"] == "9464"
    simulator = settings_of("simulator", table(account, ports), FACTS)
    assert simulator["SIMULATOR_HYPERLIQUID_PORT"] == "3001"


def test_broker_when_its_port_is_automatic_asks_for_one(account: TradingAccount) -> None:
    """nats-server takes -1 for "choose one", and its former port at a restart."""
    rows = table(account, Ports.auto())
    assert rows["nats"].plan({}).command[3:5] == ("--port", "-1")
    assert rows["nats"].plan({"nats": FACTS["nats"]}).command[3:5] == ("--port", "14222")


def test_nats_ready_line_gives_the_url_clients_use() -> None:
    """Only the line about clients counts."""
    line = "[1] 2026/11/20 07:41:14.9 [INF] Listening for client connections on 127.0.0.1:33545"
    assert nats_ready_line(line) == {"url": "nats://127.0.0.1:33545"}
    assert nats_ready_line("[1] 2026/11/20 07:41:14.9 [INF] Server is ready") is None


def test_router_is_up_only_when_it_sees_its_venue(account: TradingAccount) -> None:
    """The router serves without venues; the mesh is not up without them."""
    rows = table(account, Ports())
    assert rows["router"].health == ("", "venue/hyperliquid")
    assert rows["nats"].health == rows["simulator"].health == ()
