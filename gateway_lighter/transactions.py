"""Every L2 transaction of the venue: its fields and its rules. Pure.

A transaction says what is wanted; an `Envelope` says for whom, with which nonce and until when. Amounts are the
venue's integers (see `scaling`). Source: venue reference sections 7 and 8.1; numbers in rules are the signer's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import ClassVar, Final

import msgspec

from gateway_lighter.poseidon2 import hash_elements
from venuemesh.errors import InvalidOrder, Reason

MAX_48: Final = 2**48 - 1
MAX_32: Final = 2**32 - 1
MAX_AMOUNT: Final = 2**60 - 1
"""Of collateral and assets, in their smallest unit."""
MAX_NONCE: Final = 2**47 - 2
MAX_MASTER_ACCOUNT: Final = 2**47 - 1
MAX_ACCOUNT: Final = 2**48 - 2
MAX_API_KEY: Final = 254
NIL_MARKET: Final = 255
MAX_GROUP: Final = 3
MAX_ATTRIBUTES: Final = 4
REDUCE_BOTH: Final = 3
"""The self-trade mode that shrinks both orders."""

_GROUP_WORDS: Final = 4


class OrderKind(IntEnum):
    """`Type` of an order."""

    LIMIT = 0
    MARKET = 1
    STOP_LOSS = 2
    STOP_LOSS_LIMIT = 3
    TAKE_PROFIT = 4
    TAKE_PROFIT_LIMIT = 5
    TWAP = 6


class TimeInForce(IntEnum):
    """`TimeInForce` of an order."""

    IMMEDIATE_OR_CANCEL = 0
    GOOD_TILL_TIME = 1
    POST_ONLY = 2


class CancelAllWhen(IntEnum):
    """`TimeInForce` of a cancel-all: at once, at `Time`, or no longer at the time set earlier."""

    NOW = 0
    SCHEDULED = 1
    ABORT = 2


class Grouping(IntEnum):
    """`GroupingType` of grouped orders."""

    ONE_TRIGGERS_OTHER = 1
    ONE_CANCELS_OTHER = 2
    ONE_TRIGGERS_ONE_CANCELS_OTHER = 3


class MarginMode(IntEnum):
    """Margin mode of a market."""

    CROSS = 0
    ISOLATED = 1


_STOPS: Final = frozenset({OrderKind.STOP_LOSS, OrderKind.STOP_LOSS_LIMIT})
_TAKES: Final = frozenset({OrderKind.TAKE_PROFIT, OrderKind.TAKE_PROFIT_LIMIT})
TRIGGERED: Final = _STOPS | _TAKES


def refuse(field: str, value: object, rule: str, reason: Reason = Reason.INVALID_ARGUMENT) -> InvalidOrder:
    """The error for one field, naming it and its value."""
    return InvalidOrder(f"{field} {value}: {rule}", reason=reason, field=field, metadata={"value": str(value)})


def require_within(field: str, value: int, low: int, high: int, reason: Reason = Reason.INVALID_ARGUMENT) -> None:
    """Raise InvalidOrder unless low <= value <= high."""
    if not low <= value <= high:
        raise refuse(field, value, f"must be {low}..{high}", reason)


def require_market(value: int) -> None:
    """Raise InvalidOrder unless it can be a market."""
    require_within("market_index", value, 0, MAX_48)
    if value == NIL_MARKET:
        raise refuse("market_index", value, "names no market", Reason.INSTRUMENT_NOT_FOUND)


def split_amount(amount: int) -> tuple[int, int]:
    """A 64-bit amount as two field elements, low half first."""
    return amount & MAX_32, amount >> 32


class Transaction(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Base of all kinds; the fields stand in the order in which they are hashed and written."""

    tx_type: ClassVar[int]
    account_key: ClassVar[str] = "AccountIndex"
    l1_signed: ClassVar[bool] = False

    @property
    def quota_units(self) -> int:
        """What it costs of the volume quota; single cancels are free."""
        return 0

    def elements(self) -> tuple[int, ...]:
        """Field elements of the kind's own fields."""
        return tuple(int(getattr(self, name)) for name in self.__struct_fields__)

    def check(self) -> None:
        """Refuse what the venue's signer would refuse.

        Raises:
            InvalidOrder: names the field and the value.
        """


class OrderFields(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The ten fields of an order; `price` is the worst acceptable one, times in Unix milliseconds."""

    market_index: int
    client_order_index: int = 0
    base_amount: int
    price: int
    is_ask: bool
    type: int = OrderKind.LIMIT
    time_in_force: int = TimeInForce.GOOD_TILL_TIME
    reduce_only: bool = False
    trigger_price: int = 0
    order_expiry: int = 0

    def elements(self) -> tuple[int, ...]:
        """The ten fields in order."""
        return tuple(int(getattr(self, name)) for name in OrderFields.__struct_fields__)

    def check(self, *, size_may_be_zero: bool = False) -> None:
        """Ranges, and which type goes with which time in force, expiry and trigger."""
        require_market(self.market_index)
        require_within("client_order_index", self.client_order_index, 0, MAX_48, Reason.INVALID_CLIENT_ORDER_ID)
        smallest = 0 if self.reduce_only or size_may_be_zero else 1
        require_within("base_amount", self.base_amount, smallest, MAX_48, Reason.QUANTITY_NOT_POSITIVE)
        require_within("price", self.price, 1, MAX_32, Reason.PRICE_NOT_POSITIVE)
        require_within("trigger_price", self.trigger_price, 0, MAX_32, Reason.INVALID_TRIGGER_PRICE)
        require_within("order_expiry", self.order_expiry, 0, MAX_48)
        require_within("type", self.type, OrderKind.LIMIT, OrderKind.TWAP, Reason.UNSUPPORTED_ORDER_TYPE)
        require_within("time_in_force", self.time_in_force, 0, TimeInForce.POST_ONLY, Reason.UNSUPPORTED_TIME_IN_FORCE)
        self._check_combination(OrderKind(self.type), TimeInForce(self.time_in_force))

    def _check_combination(self, kind: OrderKind, tif: TimeInForce) -> None:
        immediate = kind in (OrderKind.MARKET, OrderKind.STOP_LOSS, OrderKind.TAKE_PROFIT)
        if immediate and tif is not TimeInForce.IMMEDIATE_OR_CANCEL:
            raise refuse("time_in_force", tif.name, f"{kind.name} is immediate", Reason.UNSUPPORTED_TIME_IN_FORCE)
        if kind is OrderKind.TWAP and tif is not TimeInForce.GOOD_TILL_TIME:
            raise refuse("time_in_force", tif.name, "TWAP is good till time", Reason.UNSUPPORTED_TIME_IN_FORCE)
        lives = kind in TRIGGERED or kind is OrderKind.TWAP or tif is not TimeInForce.IMMEDIATE_OR_CANCEL
        if lives != bool(self.order_expiry):
            rule = "an order that stays needs one" if lives else "an immediate order has none"
            raise refuse("order_expiry", self.order_expiry, rule, Reason.CONTRADICTORY_FIELDS)
        if (kind in TRIGGERED) != bool(self.trigger_price):
            rule = f"{kind.name} needs one" if kind in TRIGGERED else f"{kind.name} has none"
            raise refuse("trigger_price", self.trigger_price, rule, Reason.INVALID_TRIGGER_PRICE)


class CreateOrder(OrderFields, Transaction, frozen=True, kw_only=True, rename="pascal"):
    """One order."""

    tx_type: ClassVar[int] = 14

    @property
    def quota_units(self) -> int:
        """One."""
        return 1

    def check(self, *, size_may_be_zero: bool = False) -> None:
        """The order's own rules."""
        OrderFields.check(self, size_may_be_zero=size_may_be_zero)


class CreateGroupedOrders(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Two or three orders of one perpetual market that trigger or cancel each other."""

    tx_type: ClassVar[int] = 28
    grouping_type: int
    orders: tuple[OrderFields, ...]

    @property
    def quota_units(self) -> int:
        """All of the group."""
        return len(self.orders)

    def elements(self) -> tuple[int, ...]:
        """The grouping, then four words that fold the orders one after another."""
        folded: tuple[int, ...] = ()
        for order in self.orders:
            own = hash_elements(order.elements(), _GROUP_WORDS)
            folded = hash_elements([*folded, *own], _GROUP_WORDS) if folded else own
        return (self.grouping_type, *folded)

    def check(self) -> None:
        """Each order's rules, then what the grouping asks of them together."""
        require_within("grouping_type", self.grouping_type, 1, 3)
        wanted = 3 if self.grouping_type == Grouping.ONE_TRIGGERS_ONE_CANCELS_OTHER else 2
        if len(self.orders) != wanted:
            raise refuse("orders", len(self.orders), f"this grouping takes {wanted}", Reason.CONTRADICTORY_FIELDS)
        parent = None if self.grouping_type == Grouping.ONE_CANCELS_OTHER else self.orders[0]
        children = self.orders if parent is None else self.orders[1:]
        if parent is not None:
            parent.check()
        for child in children:
            child.check(size_may_be_zero=parent is not None)
        if len({order.market_index for order in self.orders}) != 1:
            raise refuse("market_index", "differs", "a group has one market", Reason.CONTRADICTORY_FIELDS)
        named = [order.client_order_index for order in self.orders if order.client_order_index]
        if len(set(named)) != len(named):
            raise refuse("client_order_index", named, "repeats in the group", Reason.INVALID_CLIENT_ORDER_ID)
        self._check_children(parent, children)

    def _check_children(self, parent: OrderFields | None, children: tuple[OrderFields, ...]) -> None:
        if any(child.type not in TRIGGERED for child in children):
            raise refuse("type", [child.type for child in children], "a child is a stop or a take-profit")
        if len(children) == 2 and len({child.type in _STOPS for child in children}) != 2:
            raise refuse("type", [child.type for child in children], "one stop and one take-profit are needed")
        sides = {child.is_ask for child in children}
        if len(sides) != 1 or (parent is not None and parent.is_ask in sides):
            raise refuse("is_ask", sorted(sides), "the children close what the parent opens")
        expiries = {child.order_expiry for child in children}
        if parent is not None and parent.order_expiry:
            expiries.add(parent.order_expiry)
        if len(expiries) != 1:
            raise refuse("order_expiry", sorted(expiries), "the orders expire together")
        sizes = {child.base_amount for child in children}
        if parent is None and (len(sizes) != 1 or not all(child.reduce_only for child in children)):
            raise refuse("base_amount", sorted(sizes), "both are reduce-only and of one size")
        if parent is not None and (sizes != {0} or not all(child.reduce_only for child in children)):
            raise refuse("base_amount", sorted(sizes), "a child is reduce-only and of the parent's size: give 0")


class CancelOrder(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Cancel by client order index (below 2^48) or by the venue's order index."""

    tx_type: ClassVar[int] = 15
    market_index: int
    index: int

    def check(self) -> None:
        """Ranges."""
        require_market(self.market_index)
        require_within("index", self.index, 1, 2**60 - 1, Reason.ORDER_NOT_FOUND)


class CancelAllOrders(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Cancel everything; `time` in Unix milliseconds when scheduled. One market: attribute `cancel_all_market`."""

    tx_type: ClassVar[int] = 16
    time_in_force: int = CancelAllWhen.NOW
    time: int = 0

    @property
    def quota_units(self) -> int:
        """One."""
        return 1

    def check(self) -> None:
        """A time exactly when scheduled."""
        require_within("time_in_force", self.time_in_force, 0, CancelAllWhen.ABORT)
        require_within("time", self.time, 0, MAX_48)
        if (self.time_in_force == CancelAllWhen.SCHEDULED) != bool(self.time):
            raise refuse("time", self.time, "goes with a scheduled cancel-all, and only with one")


class ModifyOrder(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Change size, price and trigger of a working order."""

    tx_type: ClassVar[int] = 17
    market_index: int
    index: int
    base_amount: int
    price: int
    trigger_price: int = 0

    @property
    def quota_units(self) -> int:
        """One."""
        return 1

    def check(self) -> None:
        """Ranges."""
        require_market(self.market_index)
        require_within("index", self.index, 1, 2**60 - 1, Reason.ORDER_NOT_FOUND)
        require_within("base_amount", self.base_amount, 0, MAX_48, Reason.QUANTITY_NOT_POSITIVE)
        require_within("price", self.price, 1, MAX_32, Reason.PRICE_NOT_POSITIVE)
        require_within("trigger_price", self.trigger_price, 0, MAX_32, Reason.INVALID_TRIGGER_PRICE)


class UpdateLeverage(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Initial margin in ticks of 1/10000 (500 is 20 times) and margin mode of a market."""

    tx_type: ClassVar[int] = 20
    market_index: int
    initial_margin_fraction: int
    margin_mode: int = MarginMode.CROSS

    def check(self) -> None:
        """Ranges."""
        require_market(self.market_index)
        require_within("initial_margin_fraction", self.initial_margin_fraction, 1, 10_000, Reason.LEVERAGE_OUT_OF_RANGE)
        require_within("margin_mode", self.margin_mode, 0, MarginMode.ISOLATED)


class UpdateMargin(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Move collateral (1e-6 units) out of (`direction` 0) or into (1) an isolated position."""

    tx_type: ClassVar[int] = 29
    market_index: int
    usdc_amount: int = msgspec.field(name="USDCAmount")
    direction: int

    def elements(self) -> tuple[int, ...]:
        """The amount takes two elements."""
        return (self.market_index, *split_amount(self.usdc_amount), self.direction)

    def check(self) -> None:
        """Ranges."""
        require_market(self.market_index)
        require_within("usdc_amount", self.usdc_amount, 1, MAX_AMOUNT)
        require_within("direction", self.direction, 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """`L2TxAttributes`; a field at its default is not written and not hashed. The codes are 1 to 8 in this order.

    Args:
        integrator_account_index, integrator_taker_fee, integrator_maker_fee: only ever what the operator configured.
        skip_nonce: any nonce above the last one will do.
        cancel_all_market: cancel all orders of this market only.
        self_trade_mode: 0 expires the maker, 1 the taker, 2 both, 3 reduces both.
        self_trade_scope: 0 the same account, 1 all accounts of the master.
        order_version: the version a modify applies to.
    """

    integrator_account_index: int = 0
    integrator_taker_fee: int = 0
    integrator_maker_fee: int = 0
    skip_nonce: bool = False
    cancel_all_market: int = NIL_MARKET
    self_trade_mode: int = 0
    self_trade_scope: int = 0
    order_version: int = 0

    def check(self) -> None:
        """Ranges, and that reducing goes with one account only; raises InvalidOrder."""
        require_within("self_trade_mode", self.self_trade_mode, 0, REDUCE_BOTH)
        require_within("self_trade_scope", self.self_trade_scope, 0, 1)
        if self.self_trade_mode == REDUCE_BOTH and self.self_trade_scope:
            raise refuse("self_trade_mode", self.self_trade_mode, "reduces within one account only")

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(code, value) of what is set, by code.

        Raises:
            InvalidOrder: more than four are set.
        """
        found = tuple(
            (code, int(getattr(self, field.name)))
            for code, field in enumerate(fields(self), start=1)
            if getattr(self, field.name) != field.default
        )
        if len(found) > MAX_ATTRIBUTES:
            raise refuse("attributes", len(found), f"at most {MAX_ATTRIBUTES} can be set")
        return found


NO_ATTRIBUTES: Final = Attributes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """For whom a transaction is, with which nonce, and the Unix millisecond after which the venue refuses it."""

    chain_id: int
    account_index: int
    api_key_index: int
    nonce: int
    expired_at_ms: int
    attributes: Attributes = NO_ATTRIBUTES

    def check(self) -> None:
        """Ranges; raises InvalidOrder."""
        require_within("account_index", self.account_index, 1, MAX_ACCOUNT, Reason.ACCOUNT_NOT_FOUND)
        require_within("api_key_index", self.api_key_index, 0, MAX_API_KEY)
        require_within("nonce", self.nonce, 0, MAX_NONCE)
        require_within("expired_at_ms", self.expired_at_ms, 1, MAX_48)
        self.attributes.check()


def client_order_index(order_id: str) -> int:
    """The venue's client order index for our order id: 1..2^48-1, the same for ever.

    A digest: among a thousand live orders two agree with a chance of about 2e-9, and the venue then refuses the
    second, so that no order is ever mistaken for another.
    """
    digest = hashlib.blake2b(order_id.encode(), digest_size=6, person=b"lighter-coi").digest()
    return int.from_bytes(digest, "big") or 1
