"""Settings of a HyperCore gateway; each gateway adds its prefix, its name and its dex.

Accounts are sections named by account id (`GATEWAY_HYPERLIQUID_ACCOUNTS__MAIN__ADDRESS=0x..`), a JSON list in one
key, or `[[accounts]]` tables of the file. Keys are paths of secret files, never values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from hypercore.signing import Network
from venuemesh.crashpoints import CrashPoint
from venuemesh.gateway.link_settings import LinkSettings
from venuemesh.settings import Positive, Section, ServiceSettings
from venuemesh.transport.environment import Environment, EnvironmentViolation, HostGuard

TESTNET_HOSTS: Final = frozenset({"api.hyperliquid-testnet.xyz"})
MAINNET_HOSTS: Final = frozenset({"api.hyperliquid.xyz"})

DEFAULT_URLS: Final = {
    Environment.SIMULATOR: "http://127.0.0.1:3001",
    Environment.TESTNET: "https://api.hyperliquid-testnet.xyz",
    Environment.MAINNET: "https://api.hyperliquid.xyz",
}
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


class HyperCoreSettings(ServiceSettings):
    """Everything that can be set; durations in seconds.

    Attributes:
        venue: name of the venue in the mesh.
        environment: which deployment this gateway may reach; nothing else is ever connected to.
        allow_mainnet: the explicit opt-in without which `mainnet` refuses to start.
        api_url: origin of the venue's HTTP interface; the environment's own when absent.
        dex: "" for Hyperliquid's own perps, else a builder dex.
        order_expiry_s: how long a sent order may still take effect at the venue (its `expiresAfter`).
        action_timeout_s: most time to wait for the answer to an action.
        settle_delay_s: after the last moment an order could arrive, its absence is proof this much later.
        max_slippage_bps: worst price of a market order that names no bound.
        book_stale_after_s: silence after which a book is stale.
        fast_books: ask for 5 levels every half second instead of 20 every few seconds.
        account_interval_s: least time between two pushes of balances and marks of one account.
        account_poll_s: a state that no stream has told for so long is read.
        address_budget_s: between two readings of an account's budget of actions; between them it is counted here.
        ip_weight: request weight per minute this process may use of the address's 1200.
        spot: trade the venue's spot pairs besides the dex.
        transfer_dexes: builder dexes that collateral may be moved to and from, besides `dex`.
        reconcile_period_s: between two comparisons of an account with the venue while its stream is live.
        links: when a link counts as degraded, and whether orders are paused then.
        crash_point: where a test wants the process to die; the simulator only.
        crash_passes: how often it comes past there unharmed first.
    """

    venue: str
    environment: Environment = Environment.SIMULATOR
    allow_mainnet: bool = False
    api_url: str | None = None
    dex: str
    accounts: Annotated[tuple[AccountSettings, ...], BeforeValidator(_accounts), Field(max_length=MAX_ACCOUNTS)] = ()
    order_expiry_s: Positive = 15.0
    action_timeout_s: Positive = 10.0
    settle_delay_s: Positive = 5.0
    max_slippage_bps: Annotated[int, Field(ge=1, le=5_000)] = 100
    book_stale_after_s: Positive = 15.0
    fast_books: bool = False
    account_interval_s: Positive = 1.0
    account_poll_s: Positive = 30.0
    address_budget_s: Positive = 300.0
    ip_weight: Annotated[int, Field(ge=100, le=1_200)] = 1_200
    spot: bool = False
    transfer_dexes: tuple[str, ...] = ("xyz",)
    reconcile_period_s: Positive = 60.0
    links: LinkSettings = Field(default_factory=LinkSettings)
    crash_point: CrashPoint = CrashPoint.NONE
    crash_passes: Annotated[int, Field(ge=0)] = 0

    @field_validator("accounts")
    @classmethod
    def _distinct(cls, accounts: tuple[AccountSettings, ...]) -> tuple[AccountSettings, ...]:
        if len({account.account_id for account in accounts}) < len(accounts):
            raise ValueError("two accounts have one account_id")
        if len({account.user for account in accounts}) < len(accounts):
            raise ValueError("two accounts are the same account at the venue")
        return accounts

    @model_validator(mode="after")
    def _inside_environment(self) -> Self:
        try:
            self.guard.check(self.url)
        except EnvironmentViolation as error:
            raise ValueError(error.message) from None
        return self

    @property
    def collateral_sections(self) -> tuple[str, ...]:
        """Where collateral can be: main perps, spot, and builder dexes."""
        return ("", "spot", *sorted({self.dex, *self.transfer_dexes} - {""}))

    @property
    def url(self) -> str:
        """Origin of the HTTP interface, without a trailing slash."""
        return (self.api_url or DEFAULT_URLS[self.environment]).rstrip("/")

    @property
    def ws_url(self) -> str:
        """Address of the WebSocket."""
        return "ws" + self.url.removeprefix("http") + "/ws"

    @property
    def guard(self) -> HostGuard:
        """Refuses every host outside the environment."""
        return HostGuard(
            environment=self.environment,
            testnet_hosts=TESTNET_HOSTS,
            mainnet_hosts=MAINNET_HOSTS,
            allow_mainnet=self.allow_mainnet,
        )

    @property
    def network(self) -> Network:
        """What signatures are made for; said by the environment, never guessed from the URL."""
        return Network.MAINNET if self.environment is Environment.MAINNET else Network.TESTNET
