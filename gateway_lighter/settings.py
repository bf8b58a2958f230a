"""Settings of the Lighter gateway, from the environment with the prefix `GATEWAY_LIGHTER_`.

Accounts are sections named by account id (`GATEWAY_LIGHTER_ACCOUNTS__MAIN__ACCOUNT_INDEX=4242`), a JSON list in one
key, or `[[accounts]]` tables of the file. Keys are paths of secret files, never values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field, field_validator

from gateway_lighter.limits import Tier
from gateway_lighter.signing import CHAIN_IDS
from gateway_lighter.transactions import MAX_ACCOUNT, MAX_API_KEY
from venuemesh.gateway.settings import Hosts, VenueGatewaySettings
from venuemesh.settings import Positive, Section
from venuemesh.transport.environment import Environment

HOSTS: Final = Hosts(
    urls={
        Environment.SIMULATOR: "http://127.0.0.1:3002",
        Environment.TESTNET: "https://testnet.zklighter.elliot.ai",
        Environment.MAINNET: "https://mainnet.zklighter.elliot.ai",
    },
    testnet=frozenset({"testnet.zklighter.elliot.ai"}),
    mainnet=frozenset({"mainnet.zklighter.elliot.ai"}),
)
MAX_ACCOUNTS: Final = 50
"""The venue takes 255 connections per IP address, 80 new ones a minute; one is for market data."""
FIRST_USER_KEY: Final = 2
"""Lower API key indices are the venue's own web and mobile applications'."""

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_ACCOUNT_ID = re.compile(r"[A-Za-z0-9_-]{1,36}", re.ASCII)


def _list(value: object, id_name: str) -> object:
    """A JSON text, or a mapping by id, as a list of sections."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except ValueError:
            raise ValueError(f"must be JSON: a list, or an object by {id_name}") from None
    if isinstance(value, Mapping):
        return tuple({id_name: name, **_section(entry, id_name)} for name, entry in value.items())
    return value


def _section(entry: object, id_name: str) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise ValueError(f"each {id_name} needs a section")  # noqa: TRY004 - pydantic's way
    return entry


class ApiKeySettings(Section):
    """One API key: its index at the venue, and the file with its 80 hex digits."""

    index: Annotated[int, Field(ge=FIRST_USER_KEY, le=MAX_API_KEY)]
    file: Path


class AccountSettings(Section):
    """One account of the gateway.

    Args:
        account_id: the mesh's name of it.
        account_index: the venue's; a sub-account has its own.
        l1_address: the owner's Ethereum address, compared with the venue's at start.
        keys: API keys used side by side, each by this gateway alone.
    """

    account_id: str
    account_index: Annotated[int, Field(ge=1, le=MAX_ACCOUNT)]
    l1_address: str
    keys: Annotated[
        tuple[ApiKeySettings, ...],
        BeforeValidator(lambda value: _list(value, "index")),
        Field(min_length=1, max_length=MAX_API_KEY),
    ]

    @field_validator("account_id")
    @classmethod
    def _plain_id(cls, value: str) -> str:
        if not _ACCOUNT_ID.fullmatch(value):
            raise ValueError('must be 1 to 36 of letters, digits, "-" and "_"')
        return value

    @field_validator("l1_address")
    @classmethod
    def _address(cls, value: str) -> str:
        if not _ADDRESS.fullmatch(value):
            raise ValueError("must be 0x and 40 hex digits")
        return value.lower()

    @field_validator("keys")
    @classmethod
    def _distinct(cls, keys: tuple[ApiKeySettings, ...]) -> tuple[ApiKeySettings, ...]:
        if len({key.index for key in keys}) < len(keys):
            raise ValueError("two keys have one index")
        return keys


class GatewaySettings(VenueGatewaySettings):
    """What this venue adds; durations in seconds.

    Attributes:
        tier: of the accounts' owner at the venue; it decides the limits. Checked at start.
        native_signer: sign with the library of the venue's SDK where it is installed and passes its checks. It sets
            an expiry of ten minutes, so that a lost answer is settled only then.
        order_expiry_s: how long a sent transaction may still be taken by the venue (its `ExpiredAt`).
        resting_days: how long a good-till-cancelled order lives; the venue takes at most 30 days.
        action_timeout_s: most time to wait for the answer to a transaction, and then for its verdict.
        verdict_poll_s: when the stream has said nothing for so long, the venue is asked about a transaction.
        book_stale_after_s: silence after which a book is stale. The venue sends nothing while nothing changes.
    """

    env_prefix: ClassVar[str] = "GATEWAY_LIGHTER_"
    hosts: ClassVar[Hosts] = HOSTS

    venue: str = "lighter"
    accounts: Annotated[
        tuple[AccountSettings, ...],
        BeforeValidator(lambda value: _list(value, "account_id")),
        Field(max_length=MAX_ACCOUNTS),
    ] = ()
    tier: Tier = Tier.STANDARD
    native_signer: bool = False
    resting_days: Annotated[int, Field(ge=1, le=29)] = 28
    verdict_poll_s: Positive = 2.0
    book_stale_after_s: Positive = 60.0

    @field_validator("accounts")
    @classmethod
    def _distinct(cls, accounts: tuple[AccountSettings, ...]) -> tuple[AccountSettings, ...]:
        if len({account.account_id for account in accounts}) < len(accounts):
            raise ValueError("two accounts have one account_id")
        if len({account.account_index for account in accounts}) < len(accounts):
            raise ValueError("two accounts are the same account at the venue")
        return accounts

    @property
    def ws_url(self) -> str:
        """Address of the WebSocket."""
        return "ws" + self.url.removeprefix("http") + "/stream"

    @property
    def chain_id(self) -> int:
        """What signatures are bound to; said by the environment, never guessed from the URL."""
        return CHAIN_IDS[self.environment]
