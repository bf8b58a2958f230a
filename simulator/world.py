"""The simulated world: both venues with their fronts, and what moves them. It serves nothing by itself."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from simulator.clock import SteppedClock
from simulator.engine.chance import SplitMix
from simulator.engine.engine import SPOT_WALLET, Engine
from simulator.engine.values import OrderRequest, OrderSnapshot, Side
from simulator.faults import FaultPlan
from simulator.hyperliquid.app import HyperliquidApp
from simulator.hyperliquid.rows import frontend_order, status
from simulator.hyperliquid.venue import Venue, VenueSettings
from simulator.lighter.front import LighterFront
from simulator.lighter.venue import LighterSettings
from simulator.settings import SimulatorSettings
from venuemesh.clock import Clock, SystemClock

HOUSE = "0x00000000000000000000000000000000000000a3"
LIGHTER_SEED = 0x4C49


class World:
    """Simulated venues behind their fronts, on one engine and around one set of reference prices.

    Construct it inside a running event loop. The methods below the properties are what tests and the admin
    interface use to move the world; each publishes what it changed.

    Args:
        settings: everything configurable.
        clock: time; by default the machine's, or a `SteppedClock` when `settings.clock` is "manual".
    """

    def __init__(self, settings: SimulatorSettings, clock: Clock | None = None) -> None:
        self.settings = settings
        if clock is None:
            system = SystemClock()
            clock = SteppedClock(system.now_ns()) if settings.clock == "manual" else system
        self.clock = clock
        self.faults = FaultPlan()
        now_ms = clock.now_ns() // 1_000_000
        venue_settings = VenueSettings(
            network=settings.network,
            auto_fund=settings.auto_fund,
            address_budget=settings.address_budget,
            schedule_cancel_volume=settings.schedule_cancel_volume,
        )
        self.venue = Venue(venue_settings, settings.population(), SplitMix(settings.seed), now_ms)
        self.venue.engine.open_account(HOUSE, house=True)
        self.venue.fund_all(settings.accounts, settings.dex_accounts, settings.spot_accounts, settings.agents, now_ms)
        for vault, leader in settings.vaults.items():
            self.venue.register_vault(vault, leader)
        self.app = HyperliquidApp(
            self.venue,
            clock,
            self.faults,
            ip_weight_per_minute=settings.ip_weight_per_minute,
            idle_close_s=settings.idle_close_s,
        )
        self.app.publish()
        self.lighter = self._lighter(clock)

    def _lighter(self, clock: Clock) -> LighterFront:
        """The second front; its traders have a chance of their own, so that neither venue's run depends on both."""
        settings = self.settings
        front = LighterFront(
            self.venue.engine,
            self.venue.upkeep,
            LighterSettings(
                chain_id=settings.lighter_chain_id,
                verify=settings.lighter_verify,
                delays=settings.lighter_delays,
                modify_counts_filled=settings.lighter_modify_counts_filled,
            ),
            settings.lighter_population(),
            SplitMix(settings.seed ^ LIGHTER_SEED),
            clock,
            rate_limits=settings.lighter_rate_limits,
            idle_close_s=settings.lighter_idle_close_s,
            wakes=settings.clock == "system",
            spot=settings.lighter_spot,
            ping_s=settings.lighter_ping_s,
        )
        for index, account in settings.lighter_accounts.items():
            front.open_account(
                index,
                account.l1_address,
                account.keys,
                usdc=account.usdc,
                spot=account.spot,
                tier=account.tier,
                pool=account.pool,
            )
        return front

    @property
    def engine(self) -> Engine:
        """The engine, for reading the truth."""
        return self.venue.engine

    @property
    def sockets(self) -> int:
        """Open WebSockets."""
        return len(self.app.sockets)

    def now_ms(self) -> int:
        """Venue time."""
        return self.app.now_ms()

    def tick(self) -> None:
        """One round of time and synthetic traders, the venue others follow first."""
        self.app.tick()
        self.lighter.app.tick()

    def advance(self, milliseconds: int) -> None:
        """Step a manual clock, then tick.

        Raises:
            ValueError: the clock is not a `SteppedClock`, or time would go back.
        """
        if not isinstance(self.clock, SteppedClock):
            raise ValueError("the clock is not manual")  # noqa: TRY004 - a setting, not a type, is wrong
        self.clock.advance_ms(milliseconds)
        self.tick()

    def set_price(self, coin: str, oracle: str | Decimal, *, mark: str | Decimal | None = None) -> None:
        """Hold the reference price of `coin`; fires triggers, liquidates, re-quotes, on every venue that follows it.

        Raises:
            ValueError: unknown coin or no price.
        """
        self._known(coin)
        price, at = Decimal(oracle), self.now_ms()
        self.venue.population.set_reference(coin, price, at, mark=None if mark is None else Decimal(mark))
        self.app.publish()
        self.lighter.venue.follow(at)
        self.lighter.app.publish()

    def house_order(self, coin: str, side: Side, price: str | Decimal, size: str | Decimal) -> int:
        """Place a limit order of a house account, free of margin and fees; its order id.

        Raises:
            ValueError: the order is refused.
        """
        self._known(coin)
        request = OrderRequest(instrument=coin, side=side, quantity=Decimal(size), price=Decimal(price))
        outcome = self.engine.submit(HOUSE, [request], self.now_ms())[0]
        self.app.publish()
        if outcome.refusal is not None or outcome.order is None:
            raise ValueError(f"house order refused: {outcome.refusal}")
        return outcome.order.order_id

    def cancel_house_orders(self) -> int:
        """Cancel every order placed with `house_order`; how many."""
        orders = self.engine.live_orders(HOUSE)
        done = sum(self.engine.cancel(HOUSE, order.order_id, self.now_ms()) for order in orders)
        self.app.publish()
        return done

    def withdraw_quotes(self, coin: str) -> None:
        """Take the synthetic maker's orders in `coin` away until the next tick."""
        self._known(coin)
        self.venue.population.withdraw_quotes(coin, self.now_ms())
        self.app.publish()

    def fund(
        self,
        user: str,
        amount: str | Decimal,
        *,
        wallet: str = "",
        token: str = "USDC",  # noqa: S107 - a token name, no password
    ) -> None:
        """Deposit into "" (main perps), "xyz" or "spot".

        Raises:
            ValueError: unknown wallet or token.
        """
        if wallet != SPOT_WALLET and self.venue.universe.dex(wallet) is None:
            raise ValueError(f"unknown wallet {wallet!r}")
        if token not in self.venue.universe.tokens:
            raise ValueError(f"unknown token {token!r}")
        self.venue.fund(user.lower(), wallet, token, Decimal(amount), self.now_ms())
        self.app.publish()

    def approve_agent(self, agent: str, master: str, *, valid_until_ms: int | None = None) -> None:
        """Let `agent` sign for `master`, unnamed, until `valid_until_ms` or for ever."""
        self.venue.preapprove(agent.lower(), master.lower(), valid_until_ms)

    def orders(self, user: str) -> list[dict[str, Any]]:
        """Every retained order of a user with its status word, oldest first: the truth for tests."""
        found = self.engine.all_orders(user.lower())
        return [{"order": frontend_order(order, self.engine), "status": status(order)} for order in found]

    def find_order(self, user: str, cloid: str) -> OrderSnapshot | None:
        """The user's order with this client id, None when the venue never saw it."""
        found = self.engine.find_client_id(user.lower(), cloid.lower())
        return None if found is None else found.snapshot()

    def cut_sockets(self) -> int:
        """Cut every WebSocket without a goodbye; how many."""
        return self.app.cut_sockets()

    def fall_silent(self, seconds: float) -> None:
        """Send nothing on any WebSocket for `seconds`."""
        self.app.fall_silent(seconds)

    def _known(self, coin: str) -> None:
        if coin not in self.engine.markets:
            raise ValueError(f"unknown coin {coin!r}")
