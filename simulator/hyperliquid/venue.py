"""The venue behind the front: engine, registry and house accounts, wired and funded. Pure.

Beside what clients do, it offers what only a venue can: caps on open interest, a post-only period, halting an
asset, closing the market behind an oracle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from simulator.engine import caps, halting, unification
from simulator.engine.chance import Chance, SplitMix
from simulator.engine.engine import SPOT_WALLET, Engine, Rules
from simulator.engine.market import Market
from simulator.engine.population import Population, PopulationSettings
from simulator.engine.upkeep import Upkeep
from simulator.engine.values import Instrument
from simulator.hyperliquid.nonces import Nonces
from simulator.hyperliquid.registry import Agent, Registry
from simulator.hyperliquid.sessions import OracleSessions
from simulator.hyperliquid.universe import Universe

MAKER = "0x00000000000000000000000000000000000000a1"
TAKER = "0x00000000000000000000000000000000000000a2"
BACKSTOP = "0x4000000000000000000000000000000000000000"
COLLATERAL = "USDC"
UNIFIED_MODES = frozenset({"unifiedAccount", "portfolioMargin"})
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
    """Front behaviour; see `SimulatorSettings` for the meaning of the first four.

    Args:
        rules: order limits and how much of the past is kept.
        tell_ioc_remainder: whether `orderUpdates` has a row for the unmatched rest of a partly filled IOC. The
            venue drops it silently, so a listener alone never hears the end of such an order.
    """

    network: str = "any"
    auto_fund: Decimal = Decimal(0)
    address_budget: int = 10_000
    schedule_cancel_volume: Decimal = Decimal(0)
    rules: Rules = field(default_factory=Rules)
    tell_ioc_remainder: bool = False


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
            rules=settings.rules,
            first_order_id=now_ms * IDS_PER_MS,
            first_trade_id=now_ms * IDS_PER_MS,
        )
        self.upkeep = Upkeep(self.engine, now_ms, BACKSTOP, SplitMix(chance.integer(0, 1 << 62)))
        for coin, cap in self.universe.oi_caps.items():
            self.engine.markets[coin].open_interest_cap = cap
        self.population = Population(self.engine, self.upkeep, chance, population, maker=MAKER, taker=TAKER)
        self.registry = Registry(settings.address_budget)
        self.nonces = Nonces()
        self.tell_ioc_remainder = settings.tell_ioc_remainder
        self.sessions = OracleSessions(self.engine, self.upkeep, self.population)
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

    def register_vault(self, vault: str, leader: str) -> None:
        """Let `leader` and its agents trade for the address `vault`."""
        self.registry.profile(vault).leader = leader

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
        self.sessions.step(now_ms)

    # -- what only the venue can do --------------------------------------------------------------------------

    @property
    def post_only_until_ms(self) -> int:
        """Before this time only post-only orders are taken, as right after a network upgrade; 0 for never."""
        return self.engine.post_only_until.get("", 0)

    @post_only_until_ms.setter
    def post_only_until_ms(self, value: int) -> None:
        for dex in self.universe.dexes:
            self.engine.post_only_until[dex.name] = value

    def set_open_interest_cap(self, coin: str, notional: Decimal | None, now_ms: int) -> None:
        """Cap the open interest of a perpetual, in notional; 0 caps it at once, None lifts the cap.

        Resting orders more aggressive than the oracle are cancelled when the cap is reached.

        Raises:
            KeyError: unknown coin.
        """
        self.engine.markets[coin].open_interest_cap = notional
        if notional is None:
            self.universe.oi_caps.pop(coin, None)
        else:
            self.universe.oi_caps[coin] = notional
        self.upkeep.enforce_cap(coin, now_ms)

    def set_open_interest_step(self, coin: str, notional: Decimal | None) -> None:
        """Most notional one order may add to the open interest of a perpetual; None for no limit.

        Raises:
            KeyError: unknown coin.
        """
        self.engine.markets[coin].open_interest_step = notional

    def at_open_interest_cap(self, dex: str) -> list[str]:
        """Coins of a dex whose open interest has reached its cap."""
        return [
            key
            for key, market in self.engine.markets.items()
            if market.instrument.perpetual and market.instrument.pool == dex and caps.capped(self.engine, market)
        ]

    def halt(self, coin: str, now_ms: int) -> None:
        """End a perpetual: orders are cancelled, positions settled at the mark, the asset is delisted.

        Raises:
            KeyError: unknown coin.
        """
        self.upkeep.twaps.terminate(now_ms, instrument=coin)
        halting.halt(self.engine, coin, now_ms)
        self.universe.delist(coin)

    def set_abstraction(self, account: str, mode: str, now_ms: int) -> bool:
        """Set an account's mode and move its money accordingly; False when open positions or orders forbid it."""
        pools = [dex.name for dex in self.universe.dexes]
        if mode in UNIFIED_MODES:
            unification.unify(self.engine, account, COLLATERAL, pools, now_ms)
        elif not unification.separate(self.engine, account, now_ms):
            return False
        self.registry.profile(account).abstraction = mode
        return True

    def keep(self, *, orders: int, changes: int | None = None) -> None:
        """How many closed orders, and rows of order history, an account can still ask for; fills stay.

        Takes effect as further orders close. `changes` stays as it is when None.
        """
        rules = self.engine.rules
        kept = rules.kept_changes if changes is None else changes
        self.engine.rules = replace(rules, kept_closed_orders=orders, kept_changes=kept)

    def own(self, coin: str) -> bool:
        """Whether a market of the engine is one of this front; others may share the engine."""
        return coin in self.universe.asset_ids

    def market(self, coin: str) -> Market | None:
        """Market of a coin string, None when unknown."""
        return self.engine.markets.get(coin)

    def instrument(self, asset: int) -> Instrument | None:
        """Instrument of a wire asset id, None when unknown."""
        coin = self.universe.coins.get(asset)
        return None if coin is None else self.engine.markets[coin].instrument

    def volume(self, address: str) -> Decimal:
        """Lifetime notional an account has traded."""
        account = self.engine.account(address)
        return account.volume if account else Decimal(0)
