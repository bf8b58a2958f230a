"""The table of the mesh: which addresses and keys reach which service."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.mesh import Accounts, Ports, make_accounts, mesh_services, nats_ready_line
from deploy.local.services import Facts, Service, check_table, launch_of
from deploy.local.state import LighterAccount, StateFolder, TradingAccount
from gateway_hyperliquid.settings import GatewaySettings as HyperliquidSettings
from gateway_lighter.settings import GatewaySettings as LighterSettings
from gateway_tradexyz.settings import GatewaySettings as TradeXyzSettings
from hypercore.adapter.settings import HyperCoreSettings
from router.settings import RouterSettings
from simulator.settings import SimulatorSettings
from venuemesh.transport.environment import Environment

FACTS: dict[str, Facts] = {
    "nats": {"url": "nats://127.0.0.1:14222"},
    "simulator": {"hyperliquid_url": "http://127.0.0.1:3001", "lighter_url": "http://127.0.0.1:3002"},
    "gateway_hyperliquid": {"grpc_address": "127.0.0.1:50051", "metrics_address": "127.0.0.1:9464"},
    "gateway_tradexyz": {"grpc_address": "127.0.0.1:50052", "metrics_address": "127.0.0.1:9467"},
    "gateway_lighter": {"grpc_address": "127.0.0.1:50053", "metrics_address": "127.0.0.1:9468"},
}


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return make_accounts(StateFolder(tmp_path))


def table(accounts: Accounts, ports: Ports) -> dict[str, Service]:
    rows = mesh_services(ports=ports, nats_server="nats-server", jetstream=Path("/data"), accounts=accounts)
    return {row.name: row for row in rows}


def settings_of(name: str, rows: dict[str, Service], known: dict[str, Facts]) -> dict[str, str]:
    """What the service reads: its environment without anything inherited."""
    launch = launch_of(rows[name], list(rows.values()), known, environ={}, folder=Path())
    return dict(launch.environment)


def test_table_is_in_starting_order(accounts: Accounts) -> None:
    """Reversed, it is the order of the drain: router, aggregator, gateway, simulator, broker."""
    rows = table(accounts, Ports())
    assert list(rows) == [
        "nats",
        "simulator",
        "gateway_hyperliquid",
        "gateway_tradexyz",
        "gateway_lighter",
        "aggregator",
        "router",
    ]
    check_table(list(rows.values()))


def test_table_when_ports_are_fixed_has_no_port_twice(accounts: Accounts) -> None:
    """Every fixed port belongs to one use."""
    ports = [port for row in table(accounts, Ports()).values() for port in row.ports.values()]
    assert len(ports) == len(set(ports)) == 12


def test_table_when_ports_are_automatic_checks_none(accounts: Accounts) -> None:
    """What the system chooses is free."""
    assert not [row for row in table(accounts, Ports.auto()).values() if row.ports]


def test_settings_of_the_simulator_are_accepted_by_it(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is funded and the agent approved for it."""
    for key, value in settings_of("simulator", table(accounts, Ports()), {}).items():
        monkeypatch.setenv(key, value)
    settings = SimulatorSettings()
    assert settings.hyperliquid_port == 3001
    agents = [account for account in accounts.values() if isinstance(account, TradingAccount)]
    assert settings.agents == {account.agent_address: account.address for account in agents}
    assert settings.accounts[accounts["hyperliquid"].address] > 0
    assert settings.dex_accounts[accounts["tradexyz"].address] > 0
    lighter = accounts["lighter"]
    assert isinstance(lighter, LighterAccount)
    assert settings.lighter_accounts[lighter.account_index].keys == {lighter.key_index: lighter.public_key}


def test_settings_of_the_router_are_accepted_by_it(accounts: Accounts) -> None:
    """It finds the gateway where the gateway said it is."""
    settings = RouterSettings.load(settings_of("router", table(accounts, Ports()), FACTS))
    assert settings.gateways == {
        "hyperliquid": "127.0.0.1:50051",
        "tradexyz": "127.0.0.1:50052",
        "lighter": "127.0.0.1:50053",
    }
    assert settings.grpc.port == 50050
    assert settings.metrics.port == 9465
    assert settings.nats.urls == ("nats://127.0.0.1:14222",)


@pytest.mark.parametrize(
    ("venue", "settings_type", "dex"), [("hyperliquid", HyperliquidSettings, ""), ("tradexyz", TradeXyzSettings, "xyz")]
)
def test_settings_of_a_gateway_name_the_key_file_and_not_the_key(
    accounts: Accounts, venue: str, settings_type: type[HyperCoreSettings], dex: str
) -> None:
    """The gateway accepts them; the key itself is in no environment, of no service."""
    rows, account = table(accounts, Ports()), accounts[venue]
    settings = settings_type.load(settings_of(f"gateway_{venue}", rows, FACTS))
    assert settings.environment is Environment.SIMULATOR
    assert (settings.url, settings.dex) == ("http://127.0.0.1:3001", dex)
    assert [(entry.account_id, entry.address, entry.agent_key_file) for entry in settings.accounts] == [
        ("main", account.address, account.agent_key_file)
    ]
    key = account.agent_key_file.read_text()
    for name in rows:
        assert key not in str(settings_of(name, rows, FACTS))


@pytest.mark.parametrize("ports", [Ports(), Ports.auto()])
def test_settings_when_started_again_keep_the_ports_others_know(accounts: Accounts, ports: Ports) -> None:
    """With automatic ports a restarted gateway is found where it was."""
    again = settings_of("gateway_hyperliquid", table(accounts, ports), FACTS)
    assert again["GATEWAY_HYPERLIQUID_GRPC__PORT"] == "50051"
    assert again["GATEWAY_HYPERLIQUID_METRICS__PORT"] == "9464"
    simulator = settings_of("simulator", table(accounts, ports), FACTS)
    assert simulator["SIMULATOR_HYPERLIQUID_PORT"] == "3001"


def test_broker_when_its_port_is_automatic_asks_for_one(accounts: Accounts) -> None:
    """nats-server takes -1 for "choose one", and its former port at a restart."""
    rows = table(accounts, Ports.auto())
    assert rows["nats"].plan({}).command[3:5] == ("--port", "-1")
    assert rows["nats"].plan({"nats": FACTS["nats"]}).command[3:5] == ("--port", "14222")


def test_nats_ready_line_gives_the_url_clients_use() -> None:
    """Only the line about clients counts."""
    line = "[1] 2026/11/20 07:41:14.9 [INF] Listening for client connections on 127.0.0.1:33545"
    assert nats_ready_line(line) == {"url": "nats://127.0.0.1:33545"}
    assert nats_ready_line("[1] 2026/11/20 07:41:14.9 [INF] Server is ready") is None


def test_router_is_up_only_when_it_sees_its_venue(accounts: Accounts) -> None:
    """The router serves without venues; the mesh is not up without them."""
    rows = table(accounts, Ports())
    assert rows["router"].health == ("", "venue/hyperliquid", "venue/tradexyz", "venue/lighter")
    assert rows["nats"].health == rows["simulator"].health == ()


def test_settings_of_the_lighter_gateway_name_the_key_file_and_not_the_key(accounts: Accounts) -> None:
    """The same promise for an API key."""
    rows, account = table(accounts, Ports()), accounts["lighter"]
    assert isinstance(account, LighterAccount)
    settings = LighterSettings.load(settings_of("gateway_lighter", rows, FACTS))
    assert settings.url == "http://127.0.0.1:3002"
    assert [(entry.account_index, entry.l1_address) for entry in settings.accounts] == [
        (account.account_index, account.owner)
    ]
    key = account.key_file.read_text()
    for name in rows:
        assert key not in str(settings_of(name, rows, FACTS))
