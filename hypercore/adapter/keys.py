"""API wallets: loading their keys, and proving at start that each may sign for its account.

The venue answers reads about an agent's address with empty data instead of an error, so that a mixed-up address
would look like an account without money; it is refused here, loudly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hypercore.adapter.settings import AccountSettings, HyperCoreSettings
from hypercore.rest import HyperCoreRest
from hypercore.signing import NonceSource, SecretKey, Signer
from venuemesh.errors import AuthenticationFailed
from venuemesh.secrets import read_secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """The API wallet of one account and the one source of its nonces, whatever path a request takes."""

    account: AccountSettings
    signer: Signer
    nonces: NonceSource


def load_wallets(settings: HyperCoreSettings) -> Mapping[str, Wallet]:
    """Wallets by account id; accounts that share a key share its nonces.

    Raises:
        SecretError: a file cannot be read.
        AuthenticationFailed: a file holds no key.
    """
    sources: dict[str, NonceSource] = {}
    wallets = {}
    for account in settings.accounts:
        try:
            key = SecretKey(read_secret(account.agent_key_file).reveal())
        except AuthenticationFailed as error:
            raise AuthenticationFailed(
                f"account {account.account_id}: {account.agent_key_file}: {error.message}"
            ) from None
        signer = Signer(key, settings.network)
        nonces = sources.setdefault(signer.address, NonceSource())
        wallets[account.account_id] = Wallet(account=account, signer=signer, nonces=nonces)
    return wallets


async def verify_wallet(rest: HyperCoreRest, wallet: Wallet) -> None:
    """Ask the venue who account and API wallet are.

    Raises:
        AuthenticationFailed: they do not belong together; both addresses are named.
        MeshError: the venue could not be asked.
    """
    account, agent = wallet.account, wallet.signer.address
    if agent == account.address:
        raise _refused(wallet, "the key is the account's own: use an API wallet, which cannot withdraw")
    role = await rest.fetch_role(account.address)
    if role.role == "agent":
        owner = role.data.user if role.data else None
        raise _refused(wallet, f"the account address is itself an API wallet, of {owner}: configure the account")
    if role.role == "missing":
        raise _refused(wallet, "the venue does not know the account address")
    signer_role = await rest.fetch_role(agent)
    owner = signer_role.data.user if signer_role.role == "agent" and signer_role.data else None
    if owner is None:
        raise _refused(wallet, f"the key is no approved API wallet (the venue calls it {signer_role.role!r})")
    if owner.lower() != account.address:
        raise _refused(wallet, f"the key is the API wallet of another account, {owner}")
    if account.vault is not None:
        await _verify_vault(rest, wallet, account.vault)


async def _verify_vault(rest: HyperCoreRest, wallet: Wallet, vault: str) -> None:
    role = await rest.fetch_role(vault)
    master = role.data.master if role.data else None
    ours = role.role == "vault" or (role.role == "subAccount" and (master or "").lower() == wallet.account.address)
    if not ours:
        raise _refused(wallet, f"{vault} is no vault and no sub-account of it (the venue calls it {role.role!r})")


def _refused(wallet: Wallet, why: str) -> AuthenticationFailed:
    account, agent = wallet.account, wallet.signer.address
    return AuthenticationFailed(
        f"account {account.account_id}: address {account.address}, API wallet {agent}: {why}",
        metadata={"account_id": account.account_id, "address": account.address, "agent": agent},
    )
