"""Requests a caller may make in a rolling minute, by tier. Pure."""

from __future__ import annotations

from collections import deque

WINDOW_MS = 60_000
KEPT_CALLERS = 10_000
STANDARD_REQUESTS = 60
TIER_WEIGHTS = {"premium": 24_000, "plus": 120_000}
TIER_TRANSACTIONS = {"premium": 4_000, "plus": 8_000}
CLIENT_MESSAGES = 200
DEFAULT_WEIGHT = 300
WEIGHTS = {
    "nextNonce": 6,
    "publicPools": 50,
    "txFromL1TxHash": 50,
    "accountInactiveOrders": 100,
    "deposit/latest": 100,
    "apikeys": 150,
    "transferFeeInfo": 500,
    "trades": 600,
    "recentTrades": 600,
    "changeAccountTier": 3000,
}


class Window:
    """What was spent in the last minute, by caller."""

    def __init__(self) -> None:
        self._spent: dict[str, deque[tuple[int, int]]] = {}

    def spend(self, caller: str, weight: int, limit: int, now_ms: int) -> bool:
        """Spend `weight` of `limit`; False, with nothing spent, when it does not fit."""
        if caller not in self._spent and len(self._spent) >= KEPT_CALLERS:
            self._spent.pop(next(iter(self._spent)))
        spent = self._spent.setdefault(caller, deque())
        while spent and spent[0][0] <= now_ms - WINDOW_MS:
            spent.popleft()
        if sum(item[1] for item in spent) + weight > limit:
            return False
        spent.append((now_ms, weight))
        return True


class RateLimits:
    """Limits of every caller.

    Args:
        enabled: False lets everything through.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._reads, self._transactions = Window(), Window()

    def read(self, caller: str, tier: str, name: str, now_ms: int) -> bool:
        """Whether a read may be answered."""
        if not self._enabled:
            return True
        if tier not in TIER_WEIGHTS:
            return self._reads.spend(caller, 1, STANDARD_REQUESTS, now_ms)
        return self._reads.spend(caller, WEIGHTS.get(name, DEFAULT_WEIGHT), TIER_WEIGHTS[tier], now_ms)

    def transact(self, caller: str, tier: str, count: int, now_ms: int) -> bool:
        """Whether `count` transactions may be taken; a standard account spends its reads on them."""
        if not self._enabled:
            return True
        if tier not in TIER_TRANSACTIONS:
            return self._reads.spend(caller, 1, STANDARD_REQUESTS, now_ms)
        return self._transactions.spend(caller, count, TIER_TRANSACTIONS[tier], now_ms)
