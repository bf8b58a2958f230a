"""Order book of one instrument: price levels, each first come first served. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from simulator.engine.values import ZERO, Order, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """All resting quantity at one price."""

    price: Decimal
    quantity: Decimal
    orders: int


class OrderBook:
    """Resting orders by price, then by arrival. It matches nothing: the engine walks it."""

    def __init__(self) -> None:
        self._prices: dict[Side, list[Decimal]] = {Side.BUY: [], Side.SELL: []}
        self._levels: dict[Side, dict[Decimal, dict[int, Order]]] = {Side.BUY: {}, Side.SELL: {}}

    def add(self, order: Order) -> None:
        """Put `order` behind everything at its price."""
        levels = self._levels[order.side]
        level = levels.get(order.price)
        if level is None:
            level = levels[order.price] = {}
            insort(self._prices[order.side], order.price)
        level[order.order_id] = order

    def remove(self, order: Order) -> None:
        """Take `order` out.

        Raises:
            KeyError: it is not in the book.
        """
        levels = self._levels[order.side]
        level = levels[order.price]
        del level[order.order_id]
        if not level:
            del levels[order.price]
            prices = self._prices[order.side]
            del prices[bisect_left(prices, order.price)]

    def best_price(self, side: Side) -> Decimal | None:
        """Highest bid or lowest ask, None when the side is empty."""
        prices = self._prices[side]
        if not prices:
            return None
        return prices[-1] if side is Side.BUY else prices[0]

    def best_order(self, side: Side) -> Order | None:
        """First order to trade on `side`."""
        price = self.best_price(side)
        if price is None:
            return None
        return next(iter(self._levels[side][price].values()))

    def levels(self, side: Side) -> Iterator[Level]:
        """Levels of `side`, best first."""
        prices = self._prices[side]
        for price in reversed(prices) if side is Side.BUY else prices:
            level = self._levels[side][price]
            quantity = sum((order.remaining for order in level.values()), ZERO)
            yield Level(price=price, quantity=quantity, orders=len(level))

    def orders(self, side: Side) -> Iterator[Order]:
        """Orders of `side` in the order they would trade."""
        prices = self._prices[side]
        for price in reversed(prices) if side is Side.BUY else list(prices):
            yield from self._levels[side][price].values()

    def mid(self) -> Decimal | None:
        """Half way between best bid and best ask; None unless both exist."""
        bid, ask = self.best_price(Side.BUY), self.best_price(Side.SELL)
        return None if bid is None or ask is None else (bid + ask) / 2

    def crosses(self, side: Side, price: Decimal) -> bool:
        """Whether an order of `side` at `price` would match something now."""
        best = self.best_price(side.opposite)
        if best is None:
            return False
        return best <= price if side is Side.BUY else best >= price
