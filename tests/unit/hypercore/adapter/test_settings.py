"""Settings: accounts in three spellings, environments that never mix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway_hyperliquid.settings import GatewaySettings
from hypercore.signing import Network
from venuemesh.settings import SettingsError
from venuemesh.transport.environment import Environment

ADDRESS = "0x" + "Aa" * 20
PREFIX = "GATEWAY_HYPERLIQUID_"


def load(**environ: str) -> GatewaySettings:
    return GatewaySettings.load({PREFIX + key: value for key, value in environ.items()})


def test_defaults_reach_the_simulator_on_this_machine() -> None:
    """Without a word, no real venue is reached and no account is served."""
    settings = load()
    assert settings.environment is Environment.SIMULATOR
    assert (settings.url, settings.ws_url) == ("http://127.0.0.1:3001", "ws://127.0.0.1:3001/ws")
    assert settings.network is Network.TESTNET
    assert settings.accounts == ()


def test_accounts_by_name_by_json_and_by_file_are_the_same(tmp_path: Path) -> None:
    """One account, three spellings; addresses become lower case."""
    named = load(ACCOUNTS__MAIN__ADDRESS=ADDRESS, ACCOUNTS__MAIN__AGENT_KEY_FILE="/run/key")
    row = {"account_id": "main", "address": ADDRESS, "agent_key_file": "/run/key"}
    listed = load(ACCOUNTS=json.dumps([row]))
    file = tmp_path / "gateway.toml"
    file.write_text(f'[[accounts]]\naccount_id = "main"\naddress = "{ADDRESS}"\nagent_key_file = "/run/key"\n')
    assert named.accounts == listed.accounts == GatewaySettings.load({}, file).accounts
    assert named.accounts[0].address == ADDRESS.lower()
    assert named.accounts[0].user == ADDRESS.lower()


def test_vault_is_the_account_that_is_read() -> None:
    """With a vault, its address is the account at the venue."""
    vault = "0x" + "cc" * 20
    row = {"account_id": "v", "address": ADDRESS, "agent_key_file": "/run/key", "vault": vault}
    assert load(ACCOUNTS=json.dumps([row])).accounts[0].user == vault


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        ({"ENVIRONMENT": "mainnet"}, "allow_mainnet"),
        ({"ENVIRONMENT": "testnet", "API_URL": "https://api.hyperliquid.xyz"}, "testnet"),
        ({"API_URL": "https://api.hyperliquid.xyz"}, "loopback"),
        ({"ENVIRONMENT": "mainnet", "ALLOW_MAINNET": "true", "API_URL": "http://127.0.0.1:3001"}, "mainnet"),
        ({"ENVIRONMENT": "testnet", "API_URL": "http://api.hyperliquid-testnet.xyz:443"}, "https"),
        ({"ACCOUNTS": "not json"}, "JSON"),
        ({"ACCOUNTS": '[{"account_id":"a","address":"0x12","agent_key_file":"/k"}]'}, "40 hex"),
        ({"ACCOUNTS": '{"a":{"address":"0x12"}}'}, "40 hex"),
        ({"ACCOUNTS": '{"a":7}'}, "agent_key_file"),
        ({"MAX_SLIPPAGE_BPS": "0"}, "greater"),
        ({"PRIVATE_KEY": "0x12"}, "no setting"),
    ],
)
def test_bad_settings_are_refused_by_name(environ: dict[str, str], word: str) -> None:
    """No start outside the environment, and none with a misspelt key."""
    with pytest.raises(SettingsError) as caught:
        load(**environ)
    assert word in str(caught.value)


def test_two_accounts_that_are_one_are_refused() -> None:
    """One account at the venue is one account here."""
    row = {"address": ADDRESS, "agent_key_file": "/run/key"}
    for twins in ([{"account_id": "a"}, {"account_id": "b"}], [{"account_id": "a"}, {"account_id": "a"}]):
        with pytest.raises(SettingsError):
            load(ACCOUNTS=json.dumps([row | twin for twin in twins]))


def test_mainnet_with_opt_in_signs_for_mainnet() -> None:
    """The explicit word opens the real venue, and signatures are for it."""
    settings = load(ENVIRONMENT="mainnet", ALLOW_MAINNET="true")
    assert settings.url == "https://api.hyperliquid.xyz"
    assert settings.network is Network.MAINNET
