"""What happened since the last publication, sorted by whom it concerns. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from simulator.engine.events import FundingPaid, OrderChanged
from simulator.lighter.market_feed import BookDelta
from simulator.lighter.trades import TradeRecord
from simulator.lighter.transaction_log import Record


@dataclass(slots=True)
class Batch:
    """Changes by market id or engine account name; `tick` marks a round of the synthetic traders."""

    tick: bool = False
    books: dict[int, BookDelta] = field(default_factory=dict)
    trades: dict[int, list[TradeRecord]] = field(default_factory=lambda: defaultdict(list))
    prices: set[int] = field(default_factory=set)
    orders: dict[str, list[OrderChanged]] = field(default_factory=lambda: defaultdict(list))
    own_trades: dict[str, list[TradeRecord]] = field(default_factory=lambda: defaultdict(list))
    fundings: dict[str, list[FundingPaid]] = field(default_factory=lambda: defaultdict(list))
    positions: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    touched: set[str] = field(default_factory=set)
    liquidations: dict[str, list[TradeRecord]] = field(default_factory=lambda: defaultdict(list))
    records: dict[int, list[Record]] = field(default_factory=lambda: defaultdict(list))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.tick or self.books or self.trades or self.prices or self.touched or self.records)
