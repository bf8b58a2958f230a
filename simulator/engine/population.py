"""Synthetic makers and takers around a seeded random walk, so that books and trades look alive. Pure.

Makers keep a ladder on a fixed grid around the reference price and re-quote only what moved; takers hit the
best price now and then. `step(now_ms)` does one round for every instrument. All chance comes from the
injected source, so a seed repeats a day exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from simulator.engine.chance import Chance
from simulator.engine.engine import Engine
from simulator.engine.market import HOUR_MS, MINUTE_MS, Candle, FundingRate, Market
from simulator.engine.upkeep import Upkeep
from simulator.engine.values import ZERO, Order, OrderRequest, Side, TimeInForce

MAKER = "house:maker"
TAKER = "house:taker"


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationSettings:
    """How lively the markets are.

    Args:
        levels: price levels a side; 0 for empty books.
        spacing_bps: distance of levels in basis points of the price.
        level_notional: mean quote value of a level.
        volatility_bps: largest step of the reference price a round; 0 for still prices.
        trade_percent: chance of a taker order per instrument and round.
        history_minutes: one-minute candles made up before the start.
    """

    levels: int = 25
    spacing_bps: Decimal = Decimal(1)
    level_notional: Decimal = Decimal(20_000)
    volatility_bps: int = 3
    trade_percent: int = 30
    history_minutes: int = 240


QUIET = PopulationSettings(levels=0, volatility_bps=0, trade_percent=0, history_minutes=0)


@dataclass(slots=True)
class _Ladder:
    """The maker's orders in one book, by side and price."""

    orders: dict[tuple[Side, Decimal], Order] = field(default_factory=dict)


class Population:
    """House accounts that quote and trade.

    Args:
        engine, upkeep: what they trade on.
        chance: source of all randomness.
        settings: liveliness; `QUIET` for empty, still markets.
        maker, taker: names of the house accounts.
        keys: instruments they care for; all that are listed now when None.
        follows: instrument -> instrument whose reference it copies, on its own price grid, instead of walking.
    """

    def __init__(
        self,
        engine: Engine,
        upkeep: Upkeep,
        chance: Chance,
        settings: PopulationSettings,
        *,
        maker: str = MAKER,
        taker: str = TAKER,
        keys: Iterable[str] | None = None,
        follows: Mapping[str, str] | None = None,
    ) -> None:
        self._engine = engine
        self._upkeep = upkeep
        self._chance = chance
        self.settings = settings
        self._maker, self._taker = maker, taker
        self._follows = dict(follows or {})
        self._ladders = {key: _Ladder() for key in (engine.markets if keys is None else keys)}
        self._anchor = {key: engine.markets[key].oracle for key in self._ladders}
        self.frozen: set[str] = set()  # instruments whose reference a test holds still
        for name in (maker, taker):
            engine.open_account(name, house=True)

    def warm_up(self, now_ms: int) -> None:
        """Make up candles and funding before `now_ms`, then fill the books."""
        self.follow(now_ms)
        for key in self._ladders:
            market = self._engine.markets[key]
            if market.instrument.open:
                self._make_history(market, now_ms)
        self.quote(self._ladders, now_ms)

    def step(self, now_ms: int) -> None:
        """One round: move references, re-quote, let takers trade."""
        self.follow(now_ms)
        for key in self._ladders:
            market = self._engine.markets[key]
            if not market.instrument.open:
                continue
            if self.settings.volatility_bps and key not in self.frozen and key not in self._follows:
                self._walk(key, market, now_ms)
            self._quote_one(key, market, now_ms)
            if self._chance.integer(1, 100) <= self.settings.trade_percent:
                self._take(key, market, now_ms)

    def follow(self, now_ms: int) -> list[str]:
        """Copy the references of followed instruments; which ones moved. Quotes stay until the next round."""
        moved: list[str] = []
        for key, source in self._follows.items():
            market, leader = self._engine.markets[key], self._engine.markets[source]
            rule = market.instrument.price_rule
            oracle, mark = rule.nearest(leader.oracle), rule.nearest(leader.mark)
            if key not in self.frozen and (market.oracle, market.mark) != (oracle, mark):
                self._upkeep.set_prices(key, oracle, mark, now_ms)
                moved.append(key)
        return moved

    def set_reference(self, key: str, price: Decimal, now_ms: int, *, mark: Decimal | None = None) -> None:
        """Hold the reference of an instrument at `price` and re-quote around it."""
        self.frozen.add(key)
        self._anchor[key] = price
        market = self._engine.markets[key]
        self._upkeep.set_prices(key, price, price if mark is None else mark, now_ms)
        self._quote_one(key, market, now_ms)

    def release_reference(self, key: str) -> None:
        """Let the reference walk again."""
        self.frozen.discard(key)

    def quote(self, keys: Iterable[str], now_ms: int) -> None:
        """Bring the ladders of these instruments up to date."""
        for key in keys:
            self._quote_one(key, self._engine.markets[key], now_ms)

    def withdraw_quotes(self, key: str, now_ms: int) -> None:
        """Cancel every maker order of an instrument."""
        for order in self._ladders[key].orders.values():
            self._engine.cancel(self._maker, order.order_id, now_ms)
        self._ladders[key].orders.clear()

    def _walk(self, key: str, market: Market, now_ms: int) -> None:
        """Random step with a weak pull to the anchor, so that a long run stays near its start."""
        reach = self.settings.volatility_bps * 100
        step = Decimal(self._chance.integer(-reach, reach) + self._chance.integer(-reach, reach)) / 2
        pull = (self._anchor[key] - market.oracle) / market.oracle / 200
        rule = market.instrument.price_rule
        moved = rule.nearest(market.oracle * (1 + step / 1_000_000 + pull))
        self._upkeep.set_prices(key, moved, moved, now_ms)

    def _targets(self, market: Market) -> set[tuple[Side, Decimal]]:
        """Where the maker wants to quote: a grid fixed in price, `levels` a side around the reference."""
        rule = market.instrument.price_rule
        reference = market.oracle
        tick = rule.tick(reference)
        spacing = max(tick, rule.floor(reference * self.settings.spacing_bps / 10_000))
        base = reference // spacing * spacing
        found: set[tuple[Side, Decimal]] = set()
        for step in range(self.settings.levels):
            bid = rule.floor(base - step * spacing)
            if bid > 0:
                found.add((Side.BUY, bid))
            found.add((Side.SELL, rule.ceiling(base + (step + 1) * spacing)))
        return found

    def _quote_one(self, key: str, market: Market, now_ms: int) -> None:
        if not self.settings.levels or not market.instrument.open:
            return
        ladder = self._ladders[key].orders
        targets = self._targets(market)
        for place, order in list(ladder.items()):
            if not order.state.live or order.remaining == 0:
                del ladder[place]
            elif place not in targets:
                self._engine.cancel(self._maker, order.order_id, now_ms)
                del ladder[place]
        for place in sorted(targets - ladder.keys(), key=lambda item: (item[0].value, item[1])):
            order_id = self._post(market, place[0], place[1], now_ms)
            kept = None if order_id is None else self._engine.order(order_id)
            if kept is not None:
                ladder[place] = kept

    def _post(self, market: Market, side: Side, price: Decimal, now_ms: int) -> int | None:
        instrument = market.instrument
        notional = self.settings.level_notional * self._chance.integer(20, 180) / 100
        quantity = max(instrument.lot, instrument.floor_quantity(notional / price))
        request = OrderRequest(instrument=instrument.key, side=side, quantity=quantity, price=price)
        outcome = self._engine.submit(self._maker, [request], now_ms)[0]
        return None if outcome.order is None else outcome.order.order_id

    def _take(self, key: str, market: Market, now_ms: int) -> None:
        side = Side.BUY if self._chance.integer(0, 1) else Side.SELL
        best = market.book.best_order(side.opposite)
        if best is None:
            return
        instrument = market.instrument
        share = Decimal(self._chance.integer(1, 40)) / 100
        quantity = max(instrument.lot, instrument.floor_quantity(best.remaining * share))
        request = OrderRequest(
            instrument=key,
            side=side,
            quantity=min(quantity, best.remaining),
            price=best.price,
            time_in_force=TimeInForce.IMMEDIATE_OR_CANCEL,
        )
        self._engine.submit(self._taker, [request], now_ms)

    def _make_history(self, market: Market, now_ms: int) -> None:
        """A seeded walk backwards from the start price, one candle a minute, and hourly resting funding."""
        minutes = self.settings.history_minutes
        close = market.oracle
        rule = market.instrument.price_rule
        made: list[Candle] = []
        start = now_ms - now_ms % MINUTE_MS
        for back in range(1, minutes + 1):
            open_ = rule.nearest(close * (1 + Decimal(self._chance.integer(-10, 10)) / 10_000))
            wick = rule.tick(close) * self._chance.integer(0, 5)
            volume = market.instrument.floor_quantity(
                self.settings.level_notional * self._chance.integer(1, 300) / 100 / close
            )
            made.append(
                Candle(
                    open_ms=start - back * MINUTE_MS,
                    open=open_,
                    high=max(open_, close) + wick,
                    low=max(rule.tick(close), min(open_, close) - wick),
                    close=close,
                    volume=volume,
                    notional=volume * close,
                    trades=self._chance.integer(1, 40),
                )
            )
            close = open_
        market.minutes.extend(reversed(made))
        if not market.instrument.perpetual:
            return
        rate = Decimal("0.0000125") * market.instrument.funding_multiplier
        for hours in range(minutes // 60, 0, -1):
            time_ms = now_ms - now_ms % HOUR_MS - (hours - 1) * HOUR_MS
            market.fundings.append(FundingRate(rate=rate, premium=ZERO, time_ms=time_ms))
