"""What each request costs by account tier, and the budgets. Pure.

A standard account has 60 requests a minute for everything, unweighted. Premium and plus accounts pay weights for reads
and have a budget of their own for transactions. Source: venue reference sections 13 and 14; figures of 2026.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway_lighter.transactions import (
    CancelAllOrders,
    CancelOrder,
    Transaction,
    UpdateLeverage,
    UpdateMargin,
)
from venuemesh.transport.gate import Charge
from venuemesh.transport.limiter import BudgetSpec, Priority

REST: Final = "lighter_rest"
"""Standard: all requests. Premium and plus: the weight of reads."""
TRANSACTIONS: Final = "lighter_transactions"
SETTINGS: Final = "lighter_settings"
"""Leverage and margin changes: 40 a minute for every tier."""
WS_MESSAGES: Final = "lighter_ws_messages"
WS_CONNECTS: Final = "lighter_ws_connects"

MAX_SUBSCRIPTIONS: Final = 500
MAX_IN_FLIGHT: Final = 50
MAX_BATCH: Final = 15
SETTINGS_PER_MINUTE: Final = 40
FREE_TRANSACTION_EVERY_S: Final = 15.0
"""Without volume quota one transaction passes in this time."""

DEFAULT_WEIGHT: Final = 300
_WEIGHTS: Final[Mapping[str, int]] = {
    "sendTx": 6,
    "sendTxBatch": 6,
    "nextNonce": 6,
    "publicPools": 50,
    "txFromL1TxHash": 50,
    "accountInactiveOrders": 100,
    "deposit/latest": 100,
    "apikeys": 150,
    "transferFeeInfo": 500,
    "trades": 600,
    "recentTrades": 600,
    "changeAccountTier": 3_000,
    "tokens": 3_000,
    "tokens/revoke": 3_000,
    "setAccountMetadata": 3_000,
    "notification/ack": 3_000,
    "createIntentAddress": 3_000,
    "fastwithdraw": 3_000,
    "tokens/create": 23_000,
}


class Tier(StrEnum):
    """`user_tier` of `GET accountLimits`."""

    STANDARD = "standard"
    PREMIUM = "premium"
    PLUS = "plus"


@dataclass(frozen=True, slots=True)
class _Budget:
    reads: int
    transactions: int | None


_BUDGETS: Final[Mapping[Tier, _Budget]] = {
    Tier.STANDARD: _Budget(60, None),
    Tier.PREMIUM: _Budget(24_000, 4_000),
    Tier.PLUS: _Budget(120_000, 8_000),
}


def endpoint_weight(endpoint: str) -> int:
    """Weight of a request to `/api/v1/<endpoint>` where weights count."""
    return _WEIGHTS.get(endpoint, 3_000 if endpoint.startswith("referral/") else DEFAULT_WEIGHT)


def transaction_priority(transaction: Transaction) -> Priority:
    """Cancels go first and have a reserve of their own."""
    return Priority.CANCEL if isinstance(transaction, CancelOrder | CancelAllOrders) else Priority.ORDER


@dataclass(frozen=True, slots=True, kw_only=True)
class TierLimits:
    """Costs and budgets of one tier.

    Args:
        tier: the account's, from `GET accountLimits`; STANDARD is safe before it is known.
        transactions: transactions a minute where staking raises them; the tier's own when absent.
    """

    tier: Tier = Tier.STANDARD
    transactions: int | None = None

    def budget_specs(self) -> tuple[BudgetSpec, ...]:
        """The venue's limits per minute, with capacity kept for orders and, above that, for cancels."""
        budget = _BUDGETS[self.tier]
        reads = budget.reads
        specs = [
            BudgetSpec(name=REST, limit=reads, cancel_reserve=reads // 6, order_reserve=reads // 4)
            if budget.transactions is None
            else BudgetSpec(name=REST, limit=reads, cancel_reserve=reads // 20, order_reserve=reads // 20),
            BudgetSpec(name=SETTINGS, limit=SETTINGS_PER_MINUTE),
            BudgetSpec(name=WS_MESSAGES, limit=200, cancel_reserve=20, order_reserve=20),
            BudgetSpec(name=WS_CONNECTS, limit=80),
        ]
        if budget.transactions is not None:
            limit = self.transactions or budget.transactions
            specs.append(BudgetSpec(name=TRANSACTIONS, limit=limit, cancel_reserve=limit // 10))
        return tuple(specs)

    def read_charge(self, endpoint: str, priority: Priority = Priority.QUERY) -> Charge:
        """What a read costs."""
        weight = 1 if self.tier is Tier.STANDARD else endpoint_weight(endpoint)
        return Charge(costs={REST: weight}, priority=priority)

    def transaction_charge(self, transactions: Sequence[Transaction]) -> Charge:
        """What one sendTx or one batch costs, over HTTP or WebSocket alike.

        To a standard account it is one request. Where transactions have a budget each of a batch is taken to count: no
        source says, and a limit must not be met by surprise.
        """
        if not transactions:
            raise ValueError("no transaction, no charge")
        costs = {REST: 1} if self.tier is Tier.STANDARD else {TRANSACTIONS: len(transactions)}
        settings = sum(isinstance(transaction, UpdateLeverage | UpdateMargin) for transaction in transactions)
        if settings:
            costs[SETTINGS] = settings
        return Charge(costs=costs, priority=max(transaction_priority(transaction) for transaction in transactions))


class VolumeQuota:
    """The premium account's quota as the venue last told it, less what was sent since."""

    def __init__(self) -> None:
        self._remaining: int | None = None

    @property
    def remaining(self) -> int | None:
        """Units left; None while the venue has told nothing (standard accounts have no quota)."""
        return self._remaining

    @property
    def exhausted(self) -> bool:
        """Whether the next order will wait up to `FREE_TRANSACTION_EVERY_S`; cancels are free."""
        return self._remaining == 0

    def told(self, remaining: int | None) -> None:
        """What an answer said; None says nothing."""
        if remaining is not None:
            self._remaining = max(0, remaining)

    def spent(self, units: int) -> None:
        """Transactions sent whose answers name no quota."""
        if self._remaining is not None:
            self._remaining = max(0, self._remaining - units)
