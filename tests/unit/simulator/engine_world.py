"""A small engine for engine tests: one perpetual, one spot pair, two funded traders."""

from __future__ import annotations

from decimal import Decimal

from simulator.engine.engine import SPOT_WALLET, Engine, Rules
from simulator.engine.upkeep import Upkeep
from simulator.engine.values import (
    Grouping,
    Instrument,
    InstrumentKind,
    MarginMode,
    OrderRequest,
    Outcome,
    PriceRule,
    Side,
    TimeInForce,
    Trigger,
)

START_MS = 1_790_000_000_000
PERP, SPOT, ISOLATED = "COIN-PERP", "COIN/USD", "STOCK-PERP"
ALICE, BOB, HOUSE, BACKSTOP = "ops-1", "bob", "house", "backstop"

BUY, SELL = Side.BUY, Side.SELL
GTC, IOC, ALO = TimeInForce.GOOD_TIL_CANCELLED, TimeInForce.IMMEDIATE_OR_CANCEL, TimeInForce.POST_ONLY


def perpetual(key: str = PERP, **changes: object) -> Instrument:
    """A perpetual at 100 with ticks of 0.01 and lots of 0.001."""
    fields: dict[str, object] = {
        "key": key,
        "kind": InstrumentKind.PERPETUAL,
        "base": "COIN",
        "quote": "USD",
        "pool": "main",
        "quantity_decimals": 3,
        "price_rule": PriceRule(max_decimals=3, max_figures=5),
        "max_leverage": 20,
        "maker_fee": Decimal("0.00015"),
        "taker_fee": Decimal("0.00045"),
        "start_price": Decimal(100),
    }
    return Instrument(**(fields | changes))  # type: ignore[arg-type]


def spot(**changes: object) -> Instrument:
    """A spot pair at 100."""
    return perpetual(SPOT, kind=InstrumentKind.SPOT, max_leverage=1, **changes)


class World:
    """Engine, upkeep and shorthands; time stands still unless a test moves it."""

    def __init__(self, *, cash: str = "10000", rules: Rules | None = None) -> None:
        self.engine = Engine(
            [perpetual(), spot(), perpetual(ISOLATED, margin_mode=MarginMode.ISOLATED_REMOVABLE)], rules=rules
        )
        self.upkeep = Upkeep(self.engine, START_MS, BACKSTOP)
        self.now_ms = START_MS
        self.engine.open_account(HOUSE, house=True)
        for name in (ALICE, BOB):
            self.engine.deposit(name, "main", "USD", Decimal(cash), self.now_ms)
            self.engine.deposit(name, SPOT_WALLET, "USD", Decimal(cash), self.now_ms)
            self.engine.deposit(name, SPOT_WALLET, "COIN", Decimal(50), self.now_ms)
        self.engine.drain()

    def request(
        self,
        side: Side,
        quantity: str,
        price: str,
        tif: TimeInForce = GTC,
        *,
        key: str = PERP,
        reduce_only: bool = False,
        client_id: str | None = None,
        trigger: Trigger | None = None,
    ) -> OrderRequest:
        """An order request from texts."""
        return OrderRequest(
            instrument=key,
            side=side,
            quantity=Decimal(quantity),
            price=Decimal(price),
            time_in_force=tif,
            reduce_only=reduce_only,
            client_id=client_id,
            trigger=trigger,
        )

    def place(self, account: str, side: Side, quantity: str, price: str, *args: object, **more: object) -> Outcome:
        """Place one order; its outcome."""
        request = self.request(side, quantity, price, *args, **more)  # type: ignore[arg-type]
        return self.engine.submit(account, [request], self.now_ms)[0]

    def group(self, account: str, grouping: Grouping, *requests: OrderRequest) -> list[Outcome]:
        """Place orders that belong together."""
        return self.engine.submit(account, list(requests), self.now_ms, grouping)

    def mark(self, price: str, key: str = PERP) -> None:
        """Move oracle and mark."""
        self.upkeep.set_prices(key, Decimal(price), Decimal(price), self.now_ms)

    def position(self, account: str, key: str = PERP) -> Decimal:
        """Signed position."""
        return self.engine.accounts[account].position(self.engine.markets[key].instrument)

    def id_of(self, outcome: Outcome) -> int:
        """Order id of an outcome that made an order."""
        assert outcome.order is not None
        return outcome.order.order_id

    def cash_total(self) -> Decimal:
        """Perpetual cash of everybody, isolated legs, collected fees and rounding of funding."""
        total = Decimal(0)
        for account in self.engine.accounts.values():
            for ledger in account.ledgers.values():
                total += ledger.cash + sum((p.cash for p in ledger.positions.values()), Decimal(0))
        return total

    def quantity_total(self, key: str = PERP) -> Decimal:
        """Sum of all signed positions: always 0."""
        return sum((self.position(name, key) for name in self.engine.accounts), Decimal(0))

    def token_total(self, token: str) -> Decimal:
        """Spot holdings of everybody."""
        return sum((account.balance(token).total for account in self.engine.accounts.values()), Decimal(0))
