"""Words people choose from, and the enums of the contract they stand for. Light."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Side(StrEnum):
    """Which way."""

    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    """Order types of the contract."""

    MARKET = "market"
    LIMIT = "limit"
    STOP_MARKET = "stop-market"
    STOP_LIMIT = "stop-limit"
    TAKE_PROFIT_MARKET = "take-profit-market"
    TAKE_PROFIT_LIMIT = "take-profit-limit"
    TWAP = "twap"


class TimeInForce(StrEnum):
    """How long an order stays."""

    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    GTD = "gtd"


class TriggerPriceType(StrEnum):
    """Price a trigger watches."""

    MARK = "mark"
    LAST = "last"
    INDEX = "index"


class AckLevel(StrEnum):
    """How long a submit waits."""

    GATEWAY = "gateway"
    VENUE = "venue"
    TERMINAL = "terminal"


class OrderStatus(StrEnum):
    """Life cycle of an order."""

    PENDING_NEW = "pending-new"
    NEW = "new"
    PARTIALLY_FILLED = "partially-filled"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNCERTAIN = "uncertain"


class RoutingStrategy(StrEnum):
    """How the router chooses."""

    EXPLICIT = "explicit"
    BEST_PRICE = "best-price"
    LOWEST_FEES = "lowest-fees"
    HIGHEST_LIQUIDITY = "highest-liquidity"
    USER_PREFERENCE = "user-preference"
    ALL_IN_COST = "all-in-cost"


class SplitMode(StrEnum):
    """Whether an order may be split."""

    NEVER = "never"
    WHEN_CHEAPER = "when-cheaper"
    ALWAYS = "always"


class TradingState(StrEnum):
    """Whether orders are taken."""

    ACTIVE = "active"
    REDUCE_ONLY = "reduce-only"
    HALTED = "halted"


class AuditOutcome(StrEnum):
    """How a request to a venue ended."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    NOT_SENT = "not-sent"


class Resolution(StrEnum):
    """What an operator does with an uncertain order."""

    QUERY = "query"
    FORCE_CANCEL = "force-cancel"
    FORCE_RECONCILE = "force-reconcile"
    DECLARE_REJECTED = "declare-rejected"


class RiskLimitType(StrEnum):
    """What a limit bounds."""

    MAX_ORDER_QUANTITY = "max-order-quantity"
    MAX_ORDER_NOTIONAL = "max-order-notional"
    MAX_POSITION_QUANTITY = "max-position-quantity"
    MAX_POSITION_NOTIONAL = "max-position-notional"
    MAX_OPEN_ORDERS = "max-open-orders"
    PRICE_COLLAR_BPS = "price-collar-bps"
    MAX_GROSS_EXPOSURE = "max-gross-exposure"
    MAX_NET_EXPOSURE = "max-net-exposure"
    MIN_FREE_MARGIN = "min-free-margin"


def number_of(choice: StrEnum | None, enum: Any) -> Any:
    """The contract's number of a choice; 0 for none.

    Args:
        enum: the generated enum, such as `order_pb2.Side`; every choice is one of its values without the prefix.
    """
    if choice is None:
        return 0
    prefix = "".join(f"_{letter}" if letter.isupper() else letter for letter in type(choice).__name__)
    return enum.Value(f"{prefix.upper().lstrip('_')}_{choice.name}")
