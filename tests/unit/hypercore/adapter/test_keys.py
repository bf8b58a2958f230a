"""Loading API wallets and proving whose they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway_hyperliquid.settings import GatewaySettings
from hypercore import account_messages as wire
from hypercore.adapter.keys import load_wallets, verify_wallet
from hypercore.signing import SecretKey
from tests.unit.hypercore.adapter.support import OTHER, USER, info
from venuemesh.errors import AuthenticationFailed
from venuemesh.secrets import SecretError

KEY = "0x" + "11" * 32
AGENT = SecretKey(KEY).address
VAULT = "0x" + "dd" * 20


class Roles:
    """Answers userRole from a table; satisfies what `verify_wallet` needs of `HyperCoreRest`."""

    def __init__(self, **roles: Any) -> None:
        self._roles = roles

    async def fetch_role(self, user: str) -> wire.UserRole:
        found: wire.UserRole = info("userRole", self._roles[user])
        return found


def settings(folder: Path, *accounts: dict[str, Any], key: str = KEY) -> GatewaySettings:
    """Accounts that share one key file."""
    file = folder / "key"
    file.write_text(key)
    file.chmod(0o600)
    rows = [{"address": USER, "agent_key_file": str(file)} | account for account in accounts]
    return GatewaySettings.model_validate({"accounts": rows})


def test_accounts_with_one_key_share_one_source_of_nonces(tmp_path: Path) -> None:
    """Nonces belong to the signer: two accounts of one wallet must never draw the same one."""
    wallets = load_wallets(settings(tmp_path, {"account_id": "a"}, {"account_id": "b", "vault": VAULT}))
    assert wallets["a"].nonces is wallets["b"].nonces
    assert wallets["a"].nonces.reserve(5) != wallets["b"].nonces.reserve(5)


@pytest.mark.parametrize("key", ["not a key", "0x12", "0x" + "00" * 32])
def test_bad_key_file_is_refused_without_showing_it(tmp_path: Path, key: str) -> None:
    """The file is named, its content is not."""
    with pytest.raises(AuthenticationFailed) as caught:
        load_wallets(settings(tmp_path, {"account_id": "a"}, key=key))
    assert str(tmp_path / "key") in str(caught.value)
    assert key not in str(caught.value)


def test_missing_key_file_is_refused(tmp_path: Path) -> None:
    """No key, no start."""
    loaded = settings(tmp_path, {"account_id": "a", "agent_key_file": str(tmp_path / "absent")})
    with pytest.raises(SecretError):
        load_wallets(loaded)


USER_ROLE = {"role": "user"}
OURS = {"role": "agent", "data": {"user": USER.upper().replace("X", "x", 1)}}


@pytest.mark.parametrize(
    ("vault_role", "accepted"),
    [
        ({"role": "vault"}, True),
        ({"role": "subAccount", "data": {"master": USER}}, True),
        ({"role": "subAccount", "data": {"master": OTHER}}, False),
        ({"role": "user"}, False),
        ({"role": "missing"}, False),
    ],
)
async def test_vault_must_be_one_or_a_sub_account_of_the_master(
    tmp_path: Path, vault_role: dict[str, Any], accepted: bool
) -> None:
    """Trading for somebody else's sub-account is a mistake found at the start."""
    wallet = load_wallets(settings(tmp_path, {"account_id": "a", "vault": VAULT}))["a"]
    rest: Any = Roles(**{USER: USER_ROLE, AGENT: OURS, VAULT: vault_role})
    if accepted:
        await verify_wallet(rest, wallet)
        return
    with pytest.raises(AuthenticationFailed) as caught:
        await verify_wallet(rest, wallet)
    assert VAULT in caught.value.message
    assert AGENT in caught.value.message


@pytest.mark.parametrize(
    ("account_role", "agent_role"),
    [
        ({"role": "agent", "data": {"user": OTHER}}, OURS),
        ({"role": "missing"}, OURS),
        (USER_ROLE, {"role": "missing"}),
        (USER_ROLE, {"role": "user"}),
        (USER_ROLE, {"role": "agent", "data": {"user": OTHER}}),
        (USER_ROLE, {"role": "agent"}),
    ],
)
async def test_mixed_up_addresses_are_refused_naming_both(
    tmp_path: Path, account_role: dict[str, Any], agent_role: dict[str, Any]
) -> None:
    """Whatever is wrong, both addresses are in the message and the key is not."""
    wallet = load_wallets(settings(tmp_path, {"account_id": "a"}))["a"]
    rest: Any = Roles(**{USER: account_role, AGENT: agent_role})
    with pytest.raises(AuthenticationFailed) as caught:
        await verify_wallet(rest, wallet)
    assert USER in caught.value.message
    assert AGENT in caught.value.message
    assert KEY.removeprefix("0x") not in caught.value.message
