"""The Lighter front, wired: its venue on the shared engine, its application, and what tests do to it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from simulator.engine.chance import Chance
from simulator.engine.engine import Engine
from simulator.engine.population import PopulationSettings
from simulator.engine.upkeep import Upkeep
from simulator.engine.values import OrderRequest, Side
from simulator.faults import FaultPlan
from simulator.lighter import admission
from simulator.lighter.accounts import account_name
from simulator.lighter.app import LighterApp
from simulator.lighter.execution import EXECUTORS
from simulator.lighter.venue import HOUSE, LighterSettings, LighterVenue
from venuemesh.clock import Clock


class LighterFront:
    """One simulated Lighter.

    Args:
        engine, upkeep: shared with the other fronts.
        settings: front behaviour.
        population: liveliness of its markets.
        chance: source of its synthetic traders' randomness.
        clock: venue time.
        rate_limits, idle_close_s, wakes, ping_s: see `LighterApp`.
        spot: whether the spot market is listed.
    """

    def __init__(
        self,
        engine: Engine,
        upkeep: Upkeep,
        settings: LighterSettings,
        population: PopulationSettings,
        chance: Chance,
        clock: Clock,
        *,
        rate_limits: bool,
        idle_close_s: float,
        wakes: bool,
        spot: bool,
        ping_s: float = 0.0,
    ) -> None:
        self.faults = FaultPlan()
        self.venue = LighterVenue(
            engine,
            upkeep,
            settings,
            population,
            chance,
            clock.now_ns() // 1_000_000,
            check=admission.check,
            executors=EXECUTORS,
            spot=spot,
        )
        self.app = LighterApp(
            self.venue,
            clock,
            self.faults,
            rate_limits=rate_limits,
            idle_close_s=idle_close_s,
            wakes=wakes,
            ping_s=ping_s,
        )
        self.port = 0
        self.host = ""

    @property
    def url(self) -> str:
        """Base address, without a trailing slash; valid once served."""
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        """Address of the WebSocket."""
        return f"ws://{self.host}:{self.port}/stream"

    def open_account(
        self,
        index: int,
        l1_address: str,
        keys: Mapping[int, str],
        *,
        usdc: str | Decimal = "0",
        spot: Mapping[str, Decimal] | None = None,
        tier: str = "standard",
        pool: bool = False,
    ) -> None:
        """An account with its API keys (hex of the public keys) and money."""
        now_ms = self.app.now_ms()
        registered = {number: bytes.fromhex(text.removeprefix("0x")) for number, text in keys.items()}
        account = self.venue.open_account(index, l1_address, registered, now_ms, usdc=Decimal(usdc), spot=spot)
        account.pool = pool
        self.venue.set_tier(account, tier, now_ms)
        self.app.publish()

    def house_order(self, symbol: str, side: Side, price: str | Decimal, size: str | Decimal) -> int:
        """Place a limit order of a house account, free of margin and fees; its order index.

        Raises:
            ValueError: unknown market, or the order is refused.
        """
        spec = self.venue.markets.by_name(symbol)
        if spec is None:
            raise ValueError(f"unknown market {symbol!r}")
        request = OrderRequest(instrument=spec.key, side=side, quantity=Decimal(size), price=Decimal(price))
        outcome = self.venue.engine.submit(HOUSE, [request], self.app.now_ms())[0]
        self.app.publish()
        if outcome.refusal is not None or outcome.order is None:
            raise ValueError(f"house order refused: {outcome.refusal}")
        return self.venue.orders.index(outcome.order)

    def cancel_house_orders(self) -> int:
        """Cancel every order placed with `house_order`; how many."""
        engine, now_ms = self.venue.engine, self.app.now_ms()
        done = sum(engine.cancel(HOUSE, order.order_id, now_ms) for order in engine.live_orders(HOUSE))
        self.app.publish()
        return done

    def withdraw_quotes(self, symbol: str) -> None:
        """Take the synthetic maker's orders of a market away until the next tick."""
        spec = self.venue.markets.by_name(symbol)
        if spec is None:
            raise ValueError(f"unknown market {symbol!r}")
        self.venue.population.withdraw_quotes(spec.key, self.app.now_ms())
        self.app.publish()

    def fund(self, index: int, usdc: str | Decimal) -> None:
        """Deposit perpetual collateral."""
        self.venue.deposit(index, Decimal(usdc), self.app.now_ms())
        self.app.publish()

    def orders(self, index: int) -> list[dict[str, Any]]:
        """Every retained order of an account, oldest first: the truth for tests."""
        found = self.venue.engine.all_orders(account_name(index))
        return [self.venue.orders.row(order) for order in found]

    def find_order(self, index: int, client_order_index: int) -> dict[str, Any] | None:
        """The account's latest order with this client index, None when the venue never saw it."""
        found = self.venue.engine.find_client_id(account_name(index), str(client_order_index))
        return None if found is None else self.venue.orders.row(found)

    def trades(self, index: int) -> list[dict[str, Any]]:
        """Trades of an account, oldest first."""
        name = account_name(index)
        return [self.venue.tape.row(record, name) for record in self.venue.tape.of_account(name)]

    def next_nonce(self, index: int, api_key: int) -> int:
        """What the venue expects next of a key."""
        return self.venue.accounts.get(index).keys[api_key].next_nonce
