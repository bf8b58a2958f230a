"""The venue behind the front: engine, registry and house accounts, wired and funded. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from simulator.engine.chance import Chance
from simulator.engine.engine import SPOT_WALLET, Engine, Rules
from simulator.engine.market import Market
from simulator.engine.population import Population, PopulationSettings
from simulator.engine.upkeep import Upkeep
from simulator.engine.values import Instrument
from simulator.hyperliquid.nonces import Nonces
from simulator.hyperliquid.registry import Agent, Registry
from simulator.hyperliquid.universe import Universe

MAKER = "0x00000000000000000000000000000000000000a1"
TAKER = "0x00000000000000000000000000000000000000a2"
BACKSTOP = "0x4000000000000000000000000000000000000000"
IDS_PER_MS = 100
"""More than the synthetic traders use, so that a simulator started later never gives an id a second time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer: JSON-able `body`, or text when `plain`."""

    status: int = 200
    body: Any = None
    plain: bool = False


def unprocessable(detail: str) -> Answer:
    """What the venue says to a body it cannot read as a known request."""
    body = f"Failed to deserialize the JSON body into the target type: {detail}"
    return Answer(status=422, body=body, plain=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueSettings:
    """Front behaviour; see `SimulatorSettings` for the meaning of each."""

    network: str = "any"
    auto_fund: Decimal = Decimal(0)
    address_budget: int = 10_000
    schedule_cancel_volume: Decimal = Decimal(0)


class Venue:
    """Everything one simulated Hyperliquid is made of.

    Args:
        settings: front behaviour.
        population: liveliness of the markets.
        chance: source of the synthetic traders' randomness.
        now_ms: when it opens.
    """

    def __init__(self, settings: VenueSettings, population: PopulationSettings, chance: Chance, now_ms: int) -> None:
        self.settings = settings
        self.universe = Universe()
        self.engine = Engine(
            self.universe.instruments,
            rules=Rules(),
            first_order_id=now_ms * IDS_PER_MS,
            first_trade_id=now_ms * IDS_PER_MS,
        )
        self.upkeep = Upkeep(self.engine, now_ms, BACKSTOP)
        self.population = Population(self.engine, self.upkeep, chance, population, maker=MAKER, taker=TAKER)
        self.registry = Registry(settings.address_budget)
        self.nonces = Nonces()
        self.population.warm_up(now_ms)

    def fund(self, address: str, wallet: str, token: str, amount: Decimal, now_ms: int) -> None:
        """Deposit into a perp dex ("" or "xyz") or `SPOT_WALLET`."""
        self.registry.profile(address)
        self.engine.deposit(address, wallet, token, amount, now_ms)

    def fund_all(
        self,
        accounts: Mapping[str, Decimal],
        dex_accounts: Mapping[str, Decimal],
        spot_accounts: Mapping[str, Mapping[str, Decimal]],
        agents: Mapping[str, str],
        now_ms: int,
    ) -> None:
        """Give the configured accounts their money and their agents."""
        for address, amount in accounts.items():
            self.fund(address, "", "USDC", amount, now_ms)
        for address, amount in dex_accounts.items():
            self.fund(address, "xyz", "USDC", amount, now_ms)
        for address, tokens in spot_accounts.items():
            for token, amount in tokens.items():
                self.fund(address, SPOT_WALLET, token, amount, now_ms)
        for address, master in agents.items():
            self.preapprove(address, master)

    def preapprove(self, agent: str, master: str, valid_until_ms: int | None = None) -> None:
        """Let `agent` sign for `master`, unnamed, until `valid_until_ms` or for ever."""
        found = Agent(address=agent, master=master, name="", valid_until_ms=valid_until_ms)
        self.registry.agents[agent] = found
        self.registry.profile(master).agents[""] = found

    def step(self, now_ms: int) -> None:
        """Let time pass: scheduled cancels and funding, then a round of the synthetic traders."""
        for account in self.upkeep.advance(now_ms):
            self.registry.profile(account).cancel_triggers.append(now_ms)
        self.population.step(now_ms)

    def market(self, coin: str) -> Market | None:
        """Market of a coin string, None when unknown."""
        return self.engine.markets.get(coin)

    def instrument(self, asset: int) -> Instrument | None:
        """Instrument of a wire asset id, None when unknown."""
        coin = self.universe.coins.get(asset)
        return None if coin is None else self.universe.by_coin[coin]

    def volume(self, address: str) -> Decimal:
        """Lifetime notional an account has traded."""
        account = self.engine.account(address)
        return account.volume if account else Decimal(0)
