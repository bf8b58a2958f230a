"""Settings of the simulator, read from the environment with the prefix `SIMULATOR_`."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from simulator.engine.population import PopulationSettings


class SimulatorSettings(BaseSettings):
    """Everything that can be set; JSON for maps, such as `SIMULATOR_ACCOUNTS={"0xab..":"10000"}`.

    Args:
        accounts: account address -> USDC it starts with in the main perp pool.
        dex_accounts: the same for the `xyz` pool.
        spot_accounts: account address -> {token: amount}.
        agents: agent address -> account address it may sign for, approved without expiry.
        auto_fund: USDC given to any unknown signer; 0 for none (its actions are refused). A signature does
            not tell its network, so with network "any" an unknown L1 signer is taken as one of testnet.
        network: whose signatures are accepted.
        clock: "manual" stops time until the admin interface steps it.
        admin: serve `/sim/...`: faults, prices, clock, ground truth.
        address_budget: lifetime requests an address starts with.
        ip_weight_per_minute: request weight per client address; 0 for no limit.
        idle_close_s: a socket on which nothing was sent for so long is closed.
        tick_ms: interval of the synthetic traders.
        schedule_cancel_volume: USD an account must have traded before scheduleCancel.
    """

    model_config = SettingsConfigDict(env_prefix="SIMULATOR_", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    hyperliquid_port: int = Field(default=3001, ge=0, le=65535)
    seed: int = 7
    accounts: dict[str, Decimal] = Field(default_factory=dict)
    dex_accounts: dict[str, Decimal] = Field(default_factory=dict)
    spot_accounts: dict[str, dict[str, Decimal]] = Field(default_factory=dict)
    agents: dict[str, str] = Field(default_factory=dict)
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

    @field_validator("accounts", "dex_accounts", "spot_accounts", "agents")
    @classmethod
    def _addresses(cls, value: dict[str, object]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, item in value.items():
            found[_address(key)] = _address(item) if isinstance(item, str) else item
        return found

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
