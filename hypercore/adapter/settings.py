"""Settings of a HyperCore gateway; each gateway adds its prefix, its name and its dex.

Accounts are sections named by account id (`GATEWAY_HYPERLIQUID_ACCOUNTS__MAIN__ADDRESS=0x..`), a JSON list in one
key, or `[[accounts]]` tables of the file. Keys are paths of secret files, never values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field, field_validator

from hypercore.signing import Network
from venuemesh.gateway.settings import Hosts, VenueGatewaySettings
from venuemesh.settings import Positive, Section
from venuemesh.transport.environment import Environment

HOSTS: Final = Hosts(
    urls={
        Environment.SIMULATOR: "http://127.0.0.1:3001",
        Environment.TESTNET: "https://api.hyperliquid-testnet.xyz",
        Environment.MAINNET: "https://api.hyperliquid.xyz",
    },
    testnet=frozenset({"api.hyperliquid-testnet.xyz"}),
    mainnet=frozenset({"api.hyperliquid.xyz"}),
)
MAX_ACCOUNTS: Final = 9
"""The venue takes 10 connections per IP address; one is for market data."""

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_ACCOUNT_ID = re.compile(r"[A-Za-z0-9_-]{1,36}", re.ASCII)


def _address(value: object) -> object:
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise ValueError("must be 0x and 40 hex digits")
    return value.lower()


Address = Annotated[str, BeforeValidator(_address)]
"""Lower case, as the venue answers and hashes it."""


class AccountSettings(Section):
    """One account of the gateway.

    `address` is the account itself, never its API wallet. With `vault` (a vault's or sub-account's address) trading
    and reading are the vault's, and `address` is the master that the API wallet belongs to.
    """

    account_id: str
    address: Address
    agent_key_file: Path
    vault: Address | None = None

    @field_validator("account_id")
    @classmethod
    def _plain_id(cls, value: str) -> str:
        if not _ACCOUNT_ID.fullmatch(value):
            raise ValueError('must be 1 to 36 of letters, digits, "-" and "_"')
        return value

    @property
    def user(self) -> str:
        """The address whose orders, positions and balances these are."""
        return self.vault or self.address


def _accounts(value: object) -> object:
    """A JSON text, or a mapping by account id, as a list."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except ValueError:
            raise ValueError("must be JSON: a list of accounts, or an object by account id") from None
    if isinstance(value, Mapping):
        return tuple({"account_id": name, **_section(entry)} for name, entry in value.items())
    return value


def _section(entry: object) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise ValueError("each account needs address and agent_key_file")  # noqa: TRY004 - pydantic's way
    return entry


class HyperCoreSettings(VenueGatewaySettings):
    """What this venue adds; durations in seconds.

    Attributes:
        dex: "" for Hyperliquid's own perps, else a builder dex.
        order_expiry_s: how long a sent order may still take effect at the venue (its `expiresAfter`).
        book_stale_after_s: silence after which a book is stale.
        fast_books: ask for 5 levels every half second instead of 20 every few seconds.
        account_poll_s: a state that no stream has told for so long is read.
        address_budget_s: between two readings of an account's budget of actions; between them it is counted here.
        ip_weight: request weight per minute this process may use of the address's 1200.
        spot: trade the venue's spot pairs besides the dex.
        transfer_dexes: builder dexes that collateral may be moved to and from, besides `dex`.
    """

    hosts: ClassVar[Hosts] = HOSTS

    dex: str
    accounts: Annotated[tuple[AccountSettings, ...], BeforeValidator(_accounts), Field(max_length=MAX_ACCOUNTS)] = ()
    book_stale_after_s: Positive = 15.0
    fast_books: bool = False
    account_poll_s: Positive = 30.0
    address_budget_s: Positive = 300.0
    ip_weight: Annotated[int, Field(ge=100, le=1_200)] = 1_200
    spot: bool = False
    transfer_dexes: tuple[str, ...] = ("xyz",)

    @field_validator("accounts")
    @classmethod
    def _distinct(cls, accounts: tuple[AccountSettings, ...]) -> tuple[AccountSettings, ...]:
        if len({account.account_id for account in accounts}) < len(accounts):
            raise ValueError("two accounts have one account_id")
        if len({account.user for account in accounts}) < len(accounts):
            raise ValueError("two accounts are the same account at the venue")
        return accounts

    @property
    def collateral_sections(self) -> tuple[str, ...]:
        """Where collateral can be: main perps, spot, and builder dexes."""
        return ("", "spot", *sorted({self.dex, *self.transfer_dexes} - {""}))

    @property
    def ws_url(self) -> str:
        """Address of the WebSocket."""
        return "ws" + self.url.removeprefix("http") + "/ws"

    @property
    def network(self) -> Network:
        """What signatures are made for; said by the environment, never guessed from the URL."""
        return Network.MAINNET if self.environment is Environment.MAINNET else Network.TESTNET
