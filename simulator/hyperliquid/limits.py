"""Request weight per client address and minute. Pure."""

from __future__ import annotations

from collections import deque

LIGHT = frozenset(
    {
        "l2Book",
        "allMids",
        "clearinghouseState",
        "orderStatus",
        "spotClearinghouseState",
        "exchangeStatus",
    }
)
ROWS_COUNT = frozenset(
    {
        "recentTrades",
        "historicalOrders",
        "userFills",
        "userFillsByTime",
        "fundingHistory",
        "userFunding",
        "userNonFundingLedgerUpdates",
        "twapHistory",
        "userTwapSliceFills",
        "userTwapSliceFillsByTime",
        "delegatorHistory",
        "delegatorRewards",
        "validatorStats",
    }
)
WINDOW_MS = 60_000


def action_weight(batch_length: int) -> int:
    """Weight of an `/exchange` action."""
    return 1 + batch_length // 40


def info_weight(kind: str, answer: object) -> int:
    """Weight of an `/info` answer, with what its rows add."""
    if kind == "userRole":
        return 60
    base = 2 if kind in LIGHT else 20
    rows = len(answer) if isinstance(answer, list) else 0
    if kind == "candleSnapshot":
        return base + rows // 60
    return base + rows // 20 if kind in ROWS_COUNT else base


class WeightLimit:
    """Weight spent by each address in the last minute; 0 means no limit."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._spent: dict[str, deque[tuple[int, int]]] = {}
        self._total: dict[str, int] = {}

    def exhausted(self, address: str, now_ms: int) -> bool:
        """Whether the address has nothing left."""
        if not self._limit:
            return False
        spent = self._spent.setdefault(address, deque())
        while spent and spent[0][0] <= now_ms - WINDOW_MS:
            self._total[address] -= spent.popleft()[1]
        return self._total.get(address, 0) >= self._limit

    def spend(self, address: str, weight: int, now_ms: int) -> None:
        """Count a request."""
        if self._limit:
            self._spent.setdefault(address, deque()).append((now_ms, weight))
            self._total[address] = self._total.get(address, 0) + weight
