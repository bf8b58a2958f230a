"""Settings of the simulator, read from the environment with the prefix `SIMULATOR_`."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from simulator.engine.population import PopulationSettings
from simulator.lighter.accounts import LAST_ACCOUNT, MAX_API_KEY, TIERS

HYPERLIQUID_PORT = 3001
LIGHTER_PORT = 3002


class LighterAccountSettings(BaseModel):
    """One account of the Lighter front, by its account index in `SimulatorSettings.lighter_accounts`.

    Args:
        l1_address: owner; accounts of one owner may transfer to each other freely.
        keys: API key index -> public key, 80 hex digits.
        usdc: perpetual collateral it starts with.
        spot: asset symbol -> amount on the spot side.
        tier: "standard", "premium" or "plus".
        pool: whether it is a public pool, whose trades and positions anybody may read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    l1_address: str
    keys: dict[int, str] = Field(default_factory=dict)
    usdc: Decimal = Field(default=Decimal(0), ge=0)
    spot: dict[str, Decimal] = Field(default_factory=dict)
    tier: str = "standard"
    pool: bool = False

    @field_validator("l1_address")
    @classmethod
    def _owner(cls, value: str) -> str:
        _address(value)
        return value

    @field_validator("tier")
    @classmethod
    def _tier(cls, value: str) -> str:
        if value not in TIERS:
            raise ValueError(f"not a tier: {value!r}")
        return value

    @field_validator("keys")
    @classmethod
    def _keys(cls, value: dict[int, str]) -> dict[int, str]:
        for index, key in value.items():
            if not 0 <= index <= MAX_API_KEY:
                raise ValueError(f"not an API key index: {index}")
            if len(bytes.fromhex(key.removeprefix("0x"))) != 40:
                raise ValueError("a public key has 80 hex digits")
        return value


class SimulatorSettings(BaseSettings):
    """Everything that can be set; JSON for maps, such as `SIMULATOR_ACCOUNTS={"0xab..":"10000"}`.

    Args:
        accounts: account address -> USDC it starts with in the main perp pool.
        dex_accounts: the same for the `xyz` pool.
        spot_accounts: account address -> {token: amount}.
        agents: agent address -> account address it may sign for, approved without expiry.
        vaults: vault address -> account address that leads it; its money is an entry of `accounts`.
        auto_fund: USDC given to any unknown signer; 0 for none (its actions are refused). A signature does
            not tell its network, so with network "any" an unknown L1 signer is taken as one of testnet.
        network: whose signatures are accepted.
        clock: "manual" stops time until the admin interface steps it.
        admin: serve `/sim/...`: faults, prices, clock, ground truth.
        address_budget: lifetime requests an address starts with.
        ip_weight_per_minute: request weight per client address; 0 for no limit.
        idle_close_s: a socket on which nothing was sent for so long is closed.
        lighter_port: of the Lighter front; by default 3002 beside the default `hyperliquid_port`, else any free one.
        lighter_accounts: account index -> owner, API keys and money.
        lighter_chain_id: part of every signed hash; a client with a local address takes 304.
        lighter_verify: False skips signatures, for load tests only.
        lighter_delays: whether transactions wait as the account's tier has it (200 to 300 ms).
        lighter_rate_limits: whether the limits by tier hold.
        lighter_modify_counts_filled: whether the new size of a modify includes what is already filled.
        lighter_idle_close_s: a socket on which the client said nothing for so long is closed.
        lighter_ping_s: how often clients are sent {"type":"ping"}, closed with 1008 if they never answer; 0 for never.
        lighter_spacing_bps, lighter_level_notional: depth of its books, unlike the other venue's on purpose.
        lighter_spot: whether its spot market is listed.
        tick_ms: interval of the synthetic traders.
        schedule_cancel_volume: USD an account must have traded before scheduleCancel.
    """

    model_config = SettingsConfigDict(env_prefix="SIMULATOR_", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    hyperliquid_port: int = Field(default=HYPERLIQUID_PORT, ge=0, le=65535)
    lighter_port: int | None = Field(default=None, ge=0, le=65535)
    lighter_accounts: dict[int, LighterAccountSettings] = Field(default_factory=dict)
    lighter_chain_id: int = Field(default=304, ge=0)
    lighter_verify: bool = True
    lighter_delays: bool = True
    lighter_rate_limits: bool = True
    lighter_modify_counts_filled: bool = True
    lighter_idle_close_s: float = Field(default=120.0, gt=0)
    lighter_ping_s: float = Field(default=0.0, ge=0)
    lighter_spacing_bps: Decimal = Field(default=Decimal("1.4"), gt=0)
    lighter_level_notional: Decimal = Field(default=Decimal(12_000), gt=0)
    lighter_spot: bool = True
    seed: int = 7
    accounts: dict[str, Decimal] = Field(default_factory=dict)
    dex_accounts: dict[str, Decimal] = Field(default_factory=dict)
    spot_accounts: dict[str, dict[str, Decimal]] = Field(default_factory=dict)
    agents: dict[str, str] = Field(default_factory=dict)
    vaults: dict[str, str] = Field(default_factory=dict)
    auto_fund: Decimal = Field(default=Decimal(0), ge=0)
    network: Literal["any", "mainnet", "testnet"] = "any"
    clock: Literal["system", "manual"] = "system"
    admin: bool = False
    tick_ms: int = Field(default=500, ge=10)
    idle_close_s: float = Field(default=60.0, gt=0)
    address_budget: int = Field(default=10_000, ge=0)
    ip_weight_per_minute: int = Field(default=1200, ge=0)
    schedule_cancel_volume: Decimal = Field(default=Decimal(0), ge=0)
    levels: int = Field(default=25, ge=0, le=200)
    spacing_bps: Decimal = Field(default=Decimal(1), gt=0)
    level_notional: Decimal = Field(default=Decimal(20_000), gt=0)
    volatility_bps: int = Field(default=3, ge=0, le=100)
    trade_percent: int = Field(default=30, ge=0, le=100)
    history_minutes: int = Field(default=240, ge=0, le=5000)

    @field_validator("accounts", "dex_accounts", "spot_accounts", "agents", "vaults")
    @classmethod
    def _addresses(cls, value: dict[str, object]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, item in value.items():
            found[_address(key)] = _address(item) if isinstance(item, str) else item
        return found

    @field_validator("lighter_accounts")
    @classmethod
    def _indices(cls, value: dict[int, LighterAccountSettings]) -> dict[int, LighterAccountSettings]:
        for index in value:
            if not 0 < index <= LAST_ACCOUNT:
                raise ValueError(f"not an account index: {index}")
        return value

    @property
    def lighter_bind_port(self) -> int:
        """Where the Lighter front listens; 0 for any free port."""
        if self.lighter_port is not None:
            return self.lighter_port
        return LIGHTER_PORT if self.hyperliquid_port == HYPERLIQUID_PORT else 0

    def lighter_population(self) -> PopulationSettings:
        """The same liveliness with other spacing and depth, so that the better price changes sides."""
        return replace(
            self.population(), spacing_bps=self.lighter_spacing_bps, level_notional=self.lighter_level_notional
        )

    def population(self) -> PopulationSettings:
        """Liveliness of the synthetic markets."""
        return PopulationSettings(
            levels=self.levels,
            spacing_bps=self.spacing_bps,
            level_notional=self.level_notional,
            volatility_bps=self.volatility_bps,
            trade_percent=self.trade_percent,
            history_minutes=self.history_minutes,
        )


def _address(value: str) -> str:
    lowered = value.lower()
    if not lowered.startswith("0x") or len(lowered) != 42:
        raise ValueError(f"not an address: {value!r}")
    int(lowered, 16)
    return lowered
