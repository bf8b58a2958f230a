"""Values of the engine: instruments, price rules, orders as asked for and as kept. Pure.

Prices are quote per base, quantities base units, both `Decimal`; instants are integer milliseconds since the
epoch. No name here belongs to one venue: a front translates its protocol into these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from enum import StrEnum

ZERO = Decimal(0)
ONE = Decimal(1)


class Side(StrEnum):
    """Direction of an order or a trade."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


class TimeInForce(StrEnum):
    """What happens to the part of an order that does not match at once."""

    GOOD_TIL_CANCELLED = "gtc"
    IMMEDIATE_OR_CANCEL = "ioc"
    POST_ONLY = "post_only"


class InstrumentKind(StrEnum):
    """Perpetuals settle into a margin ledger, spot pairs exchange tokens."""

    PERPETUAL = "perpetual"
    SPOT = "spot"


class MarginMode(StrEnum):
    """Which margin modes an instrument allows."""

    ANY = "any"
    ISOLATED_REMOVABLE = "isolated_removable"
    ISOLATED_STRICT = "isolated_strict"


class TriggerKind(StrEnum):
    """A stop fires when the mark moves against the closing side, a take-profit when it moves with it."""

    STOP = "stop"
    TAKE_PROFIT = "take_profit"


class Grouping(StrEnum):
    """How the orders of one submit belong together."""

    NONE = "none"
    BRACKET = "bracket"  # first order is the parent, the rest wait for its fill
    POSITION = "position"  # triggers whose size follows the position
    ONE_CANCELS_OTHER = "one_cancels_other"  # the first to act cancels the others


class SelfTrade(StrEnum):
    """What happens when an order meets one of the same account."""

    CANCEL_RESTING = "cancel_resting"
    CANCEL_INCOMING = "cancel_incoming"
    CANCEL_BOTH = "cancel_both"
    REDUCE_BOTH = "reduce_both"  # both shrink by the smaller quantity, no trade


class OrderState(StrEnum):
    """Where an order is in its life."""

    WAITING_FOR_PARENT = "waiting_for_parent"
    WAITING_FOR_TRIGGER = "waiting_for_trigger"
    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"

    @property
    def live(self) -> bool:
        """True while the order can still trade."""
        return self in _LIVE


_LIVE = frozenset({OrderState.WAITING_FOR_PARENT, OrderState.WAITING_FOR_TRIGGER, OrderState.OPEN})


class Reason(StrEnum):
    """Why an order was refused or cancelled. The first block leaves no trace in the order history."""

    UNKNOWN_INSTRUMENT = "unknown_instrument"
    INVALID_PRICE = "invalid_price"
    INVALID_QUANTITY = "invalid_quantity"
    ZERO_QUANTITY = "zero_quantity"
    NOTIONAL_TOO_LARGE = "notional_too_large"
    PRICE_TOO_FAR = "price_too_far"
    CLIENT_ID_IN_USE = "client_id_in_use"
    POST_ONLY_PERIOD = "post_only_period"

    OFF_TICK = "off_tick"
    BELOW_MINIMUM = "below_minimum"
    INSUFFICIENT_MARGIN = "insufficient_margin"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    REDUCE_ONLY_WOULD_INCREASE = "reduce_only_would_increase"
    POST_ONLY_WOULD_MATCH = "post_only_would_match"
    NO_MATCH = "no_match"
    NO_LIQUIDITY = "no_liquidity"
    BAD_TRIGGER_PRICE = "bad_trigger_price"
    TOO_MANY_ORDERS = "too_many_orders"
    INSTRUMENT_CLOSED = "instrument_closed"
    POSITION_TIER_LIMIT = "position_tier_limit"
    CAP_INCREASE = "cap_increase"
    CAP_FLIP = "cap_flip"
    CAP_AGGRESSIVE = "cap_aggressive"
    CAP_TOO_QUICK = "cap_too_quick"

    REQUESTED = "requested"
    SELF_TRADE = "self_trade"
    REDUCE_ONLY = "reduce_only"
    SIBLING_FILLED = "sibling_filled"
    PARENT_CANCELLED = "parent_cancelled"
    LIQUIDATION = "liquidation"
    SCHEDULED = "scheduled"
    REMAINDER = "remainder"
    MARGIN = "margin"
    OPEN_INTEREST_CAP = "open_interest_cap"
    DELISTED = "delisted"

    TWAP_DURATION = "twap_duration"
    TWAP_TOO_SMALL = "twap_too_small"
    EXPIRED = "expired"


UNTRACED = frozenset(
    {
        Reason.UNKNOWN_INSTRUMENT,
        Reason.INVALID_PRICE,
        Reason.INVALID_QUANTITY,
        Reason.ZERO_QUANTITY,
        Reason.NOTIONAL_TOO_LARGE,
        Reason.PRICE_TOO_FAR,
        Reason.CLIENT_ID_IN_USE,
        Reason.POST_ONLY_PERIOD,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Limits every order is held to, and how much of the past is kept.

    Args:
        min_notional: least order value, in quote; an order that closes the whole position is exempt.
        max_notional: most order value, in quote.
        price_band: how far, as a share, a limit price may be from the reference price.
        trigger_slippage: bound of a triggered market order, as a share of the mark.
        max_open_orders: per account.
        kept_closed_orders: closed orders an account can still ask for, by id or client id; older ones are
            forgotten while their fills stay.
        kept_changes: rows of an account's order history.
    """

    min_notional: Decimal = Decimal(10)
    max_notional: Decimal = Decimal(5_000_000)
    price_band: Decimal = Decimal("0.95")
    trigger_slippage: Decimal = Decimal("0.1")
    max_open_orders: int = 1000
    kept_closed_orders: int = 2000
    kept_changes: int = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginTier:
    """From `lower_bound` of notional on, leverage is at most `max_leverage`."""

    lower_bound: Decimal
    max_leverage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRule:
    """Which prices an instrument accepts.

    Args:
        max_decimals: most decimals a price may have.
        max_figures: most significant figures, None for no such rule.
        integers_free: integers are accepted whatever their number of figures.
    """

    max_decimals: int
    max_figures: int | None = None
    integers_free: bool = True

    def tick(self, price: Decimal) -> Decimal:
        """Smallest step at the magnitude of `price`."""
        finest = Decimal(1).scaleb(-self.max_decimals)
        if self.max_figures is None or price <= 0:
            return finest
        by_figures = Decimal(1).scaleb(price.adjusted() - self.max_figures + 1)
        if self.integers_free and by_figures > ONE:
            by_figures = ONE
        return max(finest, by_figures)

    def accepts(self, price: Decimal) -> bool:
        """Whether `price` is positive and on the grid."""
        return price > 0 and price % self.tick(price) == 0

    def floor(self, price: Decimal) -> Decimal:
        """Largest acceptable price not above `price`."""
        tick = self.tick(price)
        return (price / tick).to_integral_value(ROUND_FLOOR) * tick

    def nearest(self, price: Decimal) -> Decimal:
        """Acceptable price closest to `price`, never below one tick."""
        tick = self.tick(price)
        return max(tick, (price / tick).to_integral_value(ROUND_HALF_EVEN) * tick)

    def ceiling(self, price: Decimal) -> Decimal:
        """Smallest acceptable price not below `price`."""
        tick = self.tick(price)
        return (price / tick).to_integral_value(ROUND_CEILING) * tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One tradable product.

    Args:
        key: name in the engine; a front chooses it.
        pool: margin ledger the instrument settles in (perpetuals only); separate pools share no collateral.
        base, quote: token names; a perpetual's quote is its collateral.
        quantity_decimals: the lot is 10 ** -quantity_decimals.
        maker_fee, taker_fee: shares of notional, 0.0001 being one basis point.
        funding_multiplier: scales the hourly rate of this instrument.
        open: False refuses new orders.
        margin_tiers: ascending, the first from 0; empty for `max_leverage` at any size.
        maintenance_fraction: maintenance margin as a share of notional; None for half the least initial margin.
        min_notional: least order value here, instead of the engine's rule.
        liquidation_fee: share of notional a liquidated account pays on top of its own fee.
    """

    key: str
    kind: InstrumentKind
    base: str
    quote: str
    pool: str
    quantity_decimals: int
    price_rule: PriceRule
    max_leverage: int
    maker_fee: Decimal
    taker_fee: Decimal
    start_price: Decimal
    margin_mode: MarginMode = MarginMode.ANY
    funding_multiplier: Decimal = ONE
    open: bool = True
    margin_tiers: tuple[MarginTier, ...] = ()
    maintenance_fraction: Decimal | None = None
    min_notional: Decimal | None = None
    liquidation_fee: Decimal = ZERO

    @property
    def lot(self) -> Decimal:
        """Smallest quantity step."""
        return Decimal(1).scaleb(-self.quantity_decimals)

    @property
    def perpetual(self) -> bool:
        """True for a perpetual, False for a spot pair."""
        return self.kind is InstrumentKind.PERPETUAL

    def leverage_at(self, notional: Decimal) -> int:
        """Largest leverage allowed for a position of `notional`."""
        fitting = [tier.max_leverage for tier in self.margin_tiers if tier.lower_bound <= notional]
        return fitting[-1] if fitting else self.max_leverage

    def floor_quantity(self, quantity: Decimal) -> Decimal:
        """Largest whole number of lots not above `quantity`."""
        return (quantity / self.lot).to_integral_value(ROUND_FLOOR) * self.lot


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """Condition that turns a waiting order into a working one: mark price against `price`."""

    price: Decimal
    kind: TriggerKind
    market: bool

    def fires_above(self, side: Side) -> bool:
        """Whether it fires at marks at or above `price` (else at or below) for an order of `side`."""
        return (side is Side.SELL) == (self.kind is TriggerKind.TAKE_PROFIT)

    def met(self, side: Side, mark: Decimal) -> bool:
        """Whether the condition holds at `mark`."""
        return mark >= self.price if self.fires_above(side) else mark <= self.price


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """One order as asked for.

    Args:
        extra_fee: a share of notional on top of the instrument's fee.
        maker_extra_fee: the same for fills as maker; None for `extra_fee` there too.
        label: the front's own name for the time in force, kept for its answers.
        self_trade: what happens when it meets an order of its own account.
        twap_id: set on the slices of a time-weighted order.
    """

    instrument: str
    side: Side
    quantity: Decimal
    price: Decimal
    time_in_force: TimeInForce = TimeInForce.GOOD_TIL_CANCELLED
    reduce_only: bool = False
    client_id: str | None = None
    trigger: Trigger | None = None
    extra_fee: Decimal = ZERO
    label: str = ""
    maker_extra_fee: Decimal | None = None
    self_trade: SelfTrade = SelfTrade.CANCEL_RESTING
    twap_id: int | None = None


@dataclass(slots=True, kw_only=True)
class Order:
    """One order as the engine keeps it; only the engine changes it."""

    order_id: int
    account: str
    request: OrderRequest
    remaining: Decimal
    created_ms: int
    state: OrderState = OrderState.OPEN
    reason: Reason | None = None
    updated_ms: int = 0
    filled: Decimal = ZERO
    filled_notional: Decimal = ZERO
    triggered: bool = False
    follows_position: bool = False
    parent_id: int | None = None
    children: list[int] = field(default_factory=list)
    siblings: tuple[int, ...] = ()

    @property
    def instrument(self) -> str:
        """Key of the instrument."""
        return self.request.instrument

    @property
    def side(self) -> Side:
        """Side of the order."""
        return self.request.side

    @property
    def price(self) -> Decimal:
        """Limit price."""
        return self.request.price

    @property
    def average_price(self) -> Decimal:
        """Quantity-weighted price of the fills so far, 0 before the first."""
        return self.filled_notional / self.filled if self.filled else ZERO

    def snapshot(self) -> OrderSnapshot:
        """The order as it is now, frozen."""
        return OrderSnapshot(
            order_id=self.order_id,
            account=self.account,
            request=self.request,
            remaining=self.remaining,
            filled=self.filled,
            filled_notional=self.filled_notional,
            average_price=self.average_price,
            created_ms=self.created_ms,
            updated_ms=self.updated_ms,
            state=self.state,
            reason=self.reason,
            triggered=self.triggered,
            follows_position=self.follows_position,
            parent_id=self.parent_id,
            children=tuple(self.children),
            siblings=self.siblings,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSnapshot:
    """An order at one moment."""

    order_id: int
    account: str
    request: OrderRequest
    remaining: Decimal
    filled: Decimal
    filled_notional: Decimal
    average_price: Decimal
    created_ms: int
    updated_ms: int
    state: OrderState
    reason: Reason | None
    triggered: bool
    follows_position: bool
    parent_id: int | None
    children: tuple[int, ...]
    siblings: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Answer to one order of a submit.

    Either `refusal` says why nothing happened, or `order` is what came of it. `best_bid` and `best_ask` come
    with a refused post-only order.
    """

    order: OrderSnapshot | None = None
    refusal: Reason | None = None
    best_bid: Decimal | None = None
    best_ask: Decimal | None = None
