"""Engine events sorted for publication: one batch per engine call. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from simulator.engine.events import (
    BalanceChanged,
    BookChanged,
    Event,
    Fill,
    FundingPaid,
    Liquidated,
    OrderChanged,
    PositionChanged,
    PriceChanged,
    Trade,
    Transferred,
    TwapChanged,
)


@dataclass(slots=True)
class Batch:
    """What happened, by who and what it concerns. `tick` marks a round of the synthetic traders."""

    tick: bool = False
    orders: dict[str, list[OrderChanged]] = field(default_factory=lambda: defaultdict(list))
    fills: dict[str, list[Fill]] = field(default_factory=lambda: defaultdict(list))
    fundings: dict[str, list[FundingPaid]] = field(default_factory=lambda: defaultdict(list))
    liquidations: dict[str, list[Liquidated]] = field(default_factory=lambda: defaultdict(list))
    ledger: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    twaps: dict[str, list[TwapChanged]] = field(default_factory=lambda: defaultdict(list))
    trades: dict[str, list[Trade]] = field(default_factory=lambda: defaultdict(list))
    books: set[str] = field(default_factory=set)
    prices: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, events: Iterable[Event], *, tick: bool) -> Batch:
        """Sort `events`."""
        batch = cls(tick=tick)
        for event in events:
            batch._add(event)
        return batch

    def _add(self, event: Event) -> None:
        match event:
            case OrderChanged():
                self.orders[event.order.account].append(event)
                self.touched.add(event.order.account)
            case Fill():
                self.fills[event.account].append(event)
                self.touched.add(event.account)
            case TwapChanged():
                self.twaps[event.twap.account].append(event)
            case Trade():
                self.trades[event.instrument].append(event)
            case BookChanged():
                self.books.add(event.instrument)
            case PriceChanged():
                self.prices.add(event.instrument)
            case FundingPaid():
                self.fundings[event.account].append(event)
                self.touched.add(event.account)
            case Liquidated():
                self.liquidations[event.account].append(event)
                self.ledger[event.account].append(event)
                self.touched.add(event.account)
            case Transferred():
                for account in {event.account, event.counterparty}:
                    self.ledger[account].append(event)
                    self.touched.add(account)
            case PositionChanged() | BalanceChanged():
                self.touched.add(event.account)
