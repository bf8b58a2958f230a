"""What each request costs at the venue, and its budgets. Pure.

Source: venue reference section 5; official documentation "Rate limits and user limits".
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, Final

from hypercore.action_types import CANCEL_ACTIONS
from venuemesh.transport.limiter import BudgetSpec, Priority

IP_WEIGHT: Final = "hypercore_ip_weight"
"""REST weight of one IP address, shared by /info and /exchange and by every process behind that address."""

WS_MESSAGES: Final = "hypercore_ws_messages"
WS_CONNECTS: Final = "hypercore_ws_connects"

MAX_POSTS_IN_FLIGHT: Final = 100
MAX_SUBSCRIPTIONS: Final = 1_000
MAX_TRACKED_USERS: Final = 10

_LIGHT: Final = frozenset(
    {"l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState", "exchangeStatus"}
)
_LIGHT_WEIGHT: Final = 2
_ROLE_WEIGHT: Final = 60
_DEFAULT_WEIGHT: Final = 20

_ROWS_PER_WEIGHT: Final = 20
_CANDLES_PER_WEIGHT: Final = 60
_BY_ROWS: Final = frozenset(
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
    }
)
_ENTRIES_PER_ACTION_WEIGHT: Final = 40


def budget_specs(*, ip_weight: int = 1_200) -> tuple[BudgetSpec, ...]:
    """The venue's limits per minute, with capacity kept for orders and, above that, for cancels.

    Give a smaller `ip_weight` when other processes share the address.
    """
    return (
        BudgetSpec(name=IP_WEIGHT, limit=ip_weight, cancel_reserve=ip_weight // 10, order_reserve=ip_weight // 5),
        BudgetSpec(name=WS_MESSAGES, limit=2_000, cancel_reserve=200, order_reserve=200),
        BudgetSpec(name=WS_CONNECTS, limit=30),
    )


def info_weight(info_type: str) -> int:
    """Weight of an /info request before its rows are known."""
    if info_type in _LIGHT:
        return _LIGHT_WEIGHT
    return _ROLE_WEIGHT if info_type == "userRole" else _DEFAULT_WEIGHT


def rows_weight(info_type: str, answer: object) -> int:
    """Extra weight of an answer by its rows, rounded up: the documents do not say which way."""
    if not isinstance(answer, Sized):
        return 0
    if info_type == "candleSnapshot":
        return -(-len(answer) // _CANDLES_PER_WEIGHT)
    return -(-len(answer) // _ROWS_PER_WEIGHT) if info_type in _BY_ROWS else 0


def action_weight(entries: int) -> int:
    """Weight of an /exchange action with so many entries."""
    return 1 + entries // _ENTRIES_PER_ACTION_WEIGHT


def action_priority(action: Any) -> Priority:
    """Cancels go first and have a reserve of their own."""
    return Priority.CANCEL if isinstance(action, CANCEL_ACTIONS) else Priority.ORDER
