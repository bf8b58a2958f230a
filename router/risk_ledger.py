"""Positions, orders on their way and marks of every account, and what each limit has in use. Pure, exact.

Everything is counted at its worst: a position with all working buys filled, and with all working sells filled. So an
order that fills changes nothing that a limit looks at, and a view that is a moment old is still safe. Totals are kept
per limit as things change, so that a check costs the same with one account and with hundreds.

A working order and a reservation are the same thing here, a claim under the order's key: the reservation is made
before the order is sent and becomes the order's own claim when the account's stream shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter
from typing import Any, TypeAlias

from venuemesh.money import EXACT
from venuemesh.risk_scope import Scope
from venuemesh.v1 import risk_pb2

ZERO = Decimal(0)

Place: TypeAlias = tuple[str, str, str]
"""Venue, account and unified symbol."""
OrderKey: TypeAlias = tuple[str, str, str]
"""Venue, account and client order id."""
AccountKey: TypeAlias = tuple[str, str]
"""Venue and account."""

MAX_ORDER_QUANTITY = risk_pb2.RISK_LIMIT_TYPE_MAX_ORDER_QUANTITY
MAX_ORDER_NOTIONAL = risk_pb2.RISK_LIMIT_TYPE_MAX_ORDER_NOTIONAL
MAX_POSITION_QUANTITY = risk_pb2.RISK_LIMIT_TYPE_MAX_POSITION_QUANTITY
MAX_POSITION_NOTIONAL = risk_pb2.RISK_LIMIT_TYPE_MAX_POSITION_NOTIONAL
MAX_OPEN_ORDERS = risk_pb2.RISK_LIMIT_TYPE_MAX_OPEN_ORDERS
PRICE_COLLAR_BPS = risk_pb2.RISK_LIMIT_TYPE_PRICE_COLLAR_BPS
MAX_GROSS_EXPOSURE = risk_pb2.RISK_LIMIT_TYPE_MAX_GROSS_EXPOSURE
MAX_NET_EXPOSURE = risk_pb2.RISK_LIMIT_TYPE_MAX_NET_EXPOSURE
MIN_FREE_MARGIN = risk_pb2.RISK_LIMIT_TYPE_MIN_FREE_MARGIN

TALLIED = frozenset(
    {MAX_POSITION_QUANTITY, MAX_POSITION_NOTIONAL, MAX_OPEN_ORDERS, MAX_GROSS_EXPOSURE, MAX_NET_EXPOSURE}
)
"""Limits on what many orders make together."""
CUMULATIVE = TALLIED | {MIN_FREE_MARGIN}
"""Limits that an order must keep room under before it is sent."""
BY_SYMBOL = frozenset({MAX_POSITION_QUANTITY, MAX_POSITION_NOTIONAL})
"""Limits that hold for each symbol by itself, over the venues and accounts of their scope."""
PRICED = frozenset({MAX_POSITION_NOTIONAL, MAX_GROSS_EXPOSURE, MAX_NET_EXPOSURE})
"""Limits that need a mark of everything they count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit in force."""

    scope: Scope
    limit_type: int
    bound: Decimal
    version: int = 1

    @property
    def name(self) -> str:
        """Its type without the prefix, such as `MAX_OPEN_ORDERS`."""
        return risk_pb2.RiskLimitType.Name(self.limit_type).removeprefix("RISK_LIMIT_TYPE_")  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An order that may still fill, or is about to be sent.

    Attributes:
        quantity: what may still fill, base units.
        margin: what it needs at most, settlement asset.
        reduce_only: it can make no position larger, so only its number counts.
        orders: how many orders it is; 0 for what an amendment adds to one.
    """

    place: Place
    is_buy: bool
    quantity: Decimal
    margin: Decimal = ZERO
    reduce_only: bool = False
    orders: int = 1


@dataclass(frozen=True, slots=True)
class Weight:
    """What a place adds to the totals. `unpriced` is 1 where there is something and no mark for it."""

    orders: int = 0
    long: Decimal = ZERO
    short: Decimal = ZERO
    long_value: Decimal = ZERO
    short_value: Decimal = ZERO
    gross: Decimal = ZERO
    unpriced: int = 0

    def minus(self, other: Weight) -> Weight:
        """What has to be added to `other` to make it this."""
        subtract = EXACT.subtract
        return Weight(
            self.orders - other.orders,
            subtract(self.long, other.long),
            subtract(self.short, other.short),
            subtract(self.long_value, other.long_value),
            subtract(self.short_value, other.short_value),
            subtract(self.gross, other.gross),
            self.unpriced - other.unpriced,
        )


NOTHING = Weight()


@dataclass(slots=True)
class _Bucket:
    position: Decimal = ZERO
    buys: Decimal = ZERO
    sells: Decimal = ZERO
    orders: int = 0
    weight: Weight = NOTHING

    def weigh(self, mark: Decimal | None, claim: Claim | None = None) -> Weight:
        """Its weight, with one more claim or as it is."""
        buys, sells, orders = self.buys, self.sells, self.orders
        if claim is not None:
            orders += claim.orders
            if not claim.reduce_only:
                if claim.is_buy:
                    buys = EXACT.add(buys, claim.quantity)
                else:
                    sells = EXACT.add(sells, claim.quantity)
        long, short = EXACT.add(self.position, buys), EXACT.subtract(self.position, sells)
        if not long and not short:
            return Weight(orders) if orders else NOTHING
        if mark is None:
            return Weight(orders, long, short, unpriced=1)
        gross = EXACT.multiply(max(long.copy_abs(), short.copy_abs()), mark)
        return Weight(orders, long, short, EXACT.multiply(long, mark), EXACT.multiply(short, mark), gross)


_ORDERS = attrgetter("orders", "unpriced")
_GROSS = attrgetter("gross", "unpriced")
_QUANTITY = attrgetter("long", "short")
_VALUE = attrgetter("long_value", "short_value", "unpriced")


class _Tally:
    """Totals of one limit, by group: of a place's weight only what the limit looks at."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.by_symbol = limit.limit_type in BY_SYMBOL
        self._kind = limit.limit_type
        self._groups: dict[str, Any] = {}
        self._zero: Any
        self._parts: attrgetter[Any]
        match limit.limit_type:
            case risk_pb2.RISK_LIMIT_TYPE_MAX_OPEN_ORDERS:
                self._parts, self._zero = _ORDERS, (0, 0)
            case risk_pb2.RISK_LIMIT_TYPE_MAX_GROSS_EXPOSURE:
                self._parts, self._zero = _GROSS, (ZERO, 0)
            case risk_pb2.RISK_LIMIT_TYPE_MAX_POSITION_QUANTITY:
                self._parts, self._zero = _QUANTITY, (ZERO, ZERO)
            case _:
                self._parts, self._zero = _VALUE, (ZERO, ZERO, 0)

    def _after(self, place: Place, change: Weight) -> tuple[Any, Any]:
        before = self._groups.get(place[2] if self.by_symbol else "", self._zero)
        parts = self._parts(change)
        add = EXACT.add
        match self._kind:
            case risk_pb2.RISK_LIMIT_TYPE_MAX_OPEN_ORDERS:
                return before, (before[0] + parts[0], 0)
            case risk_pb2.RISK_LIMIT_TYPE_MAX_GROSS_EXPOSURE:
                return before, (add(before[0], parts[0]), before[1] + parts[1])
            case risk_pb2.RISK_LIMIT_TYPE_MAX_POSITION_QUANTITY:
                return before, (add(before[0], parts[0]), add(before[1], parts[1]))
        return before, (add(before[0], parts[0]), add(before[1], parts[1]), before[2] + parts[2])

    def change(self, place: Place, change: Weight) -> None:
        """A place's weight changed by this."""
        self._groups[place[2] if self.by_symbol else ""] = self._after(place, change)[1]

    def project(self, place: Place, change: Weight) -> Projection:
        """The use of the place's group as it is, and if its weight changed by this."""
        before, after = self._after(place, change)
        used = self._used(after)
        return Projection(self.limit, None if used is None else self._used(before) or ZERO, used)

    def used(self) -> Decimal | None:
        """The use of the fullest group; None where something has no mark."""
        found = [self._used(total) for total in self._groups.values()]
        known = [one for one in found if one is not None]
        return None if len(known) < len(found) else max(known, default=ZERO)

    def _used(self, total: Any) -> Decimal | None:
        used: Decimal
        match self._kind:
            case risk_pb2.RISK_LIMIT_TYPE_MAX_OPEN_ORDERS:
                return Decimal(total[0])
            case risk_pb2.RISK_LIMIT_TYPE_MAX_GROSS_EXPOSURE:
                used, unpriced = total
            case risk_pb2.RISK_LIMIT_TYPE_MAX_POSITION_QUANTITY:
                used, unpriced = max(total[0].copy_abs(), total[1].copy_abs()), 0
            case _:
                used, unpriced = max(total[0].copy_abs(), total[1].copy_abs()), total[2]
        return None if unpriced else used


@dataclass(frozen=True, slots=True)
class Projection:
    """A limit with its use now and after an order; None where a mark is missing."""

    limit: Limit
    before: Decimal | None
    after: Decimal | None


class Ledger:
    """Positions, claims, marks and limits; see the module."""

    def __init__(self) -> None:
        self.limits: tuple[Limit, ...] = ()
        self.claims: dict[OrderKey, Claim] = {}
        self.marks: dict[tuple[str, str], Decimal] = {}
        """By venue and symbol; only those that are fresh."""
        self.free_margin: dict[AccountKey, Decimal] = {}
        """As the venue last told, less what was filled since. Absent where it does not tell."""
        self.stale: dict[AccountKey, str] = {}
        """Accounts whose view is not current, and why; a current one is absent."""
        self.rebuilt: set[AccountKey] = set()
        """Accounts that were read at least once."""
        self._buckets: dict[Place, _Bucket] = {}
        self._by_account: dict[AccountKey, set[OrderKey]] = {}
        self._places: dict[tuple[str, str], set[Place]] = {}
        self._margin: dict[AccountKey, Decimal] = {}
        self._tallies: list[_Tally] = []
        self._covering: dict[Place, tuple[Limit, ...]] = {}
        self._tallying: dict[Place, tuple[_Tally, ...]] = {}

    # limits

    def set_limits(self, limits: Iterable[Limit]) -> None:
        """Take these limits instead of all before."""
        self.limits = tuple(sorted(limits, key=lambda one: (one.scope.rank, one.limit_type)))
        self._tallies = [_Tally(limit) for limit in self.limits if limit.limit_type in TALLIED]
        self._covering, self._tallying = {}, {}
        for place, bucket in self._buckets.items():
            for tally in self._tallies_of(place):
                tally.change(place, bucket.weight)

    def covering(self, place: Place) -> tuple[Limit, ...]:
        """Limits an order at this place must keep, widest scope first."""
        found = self._covering.get(place)
        if found is None:
            found = self._covering[place] = tuple(one for one in self.limits if one.scope.covers(*place))
        return found

    def _tallies_of(self, place: Place) -> tuple[_Tally, ...]:
        found = self._tallying.get(place)
        if found is None:
            found = tuple(one for one in self._tallies if one.limit.scope.covers(*place))
            self._tallying[place] = found
        return found

    def used(self, limit: Limit) -> Decimal | None:
        """What a limit has in use, of its groups the fullest; None where nobody can tell now."""
        if limit.limit_type == MIN_FREE_MARGIN:
            free = [
                self.free_after_claims(key) for key in self.free_margin if limit.scope.covers(*key, limit.scope.symbol)
            ]
            return min((one for one in free if one is not None), default=None)
        tally = next((one for one in self._tallies if one.limit == limit), None)
        return None if tally is None else tally.used()

    # what happens

    def set_position(self, place: Place, quantity: Decimal) -> None:
        """A position as it is now, signed base units."""
        bucket = self._bucket(place)
        bucket.position = quantity
        self._reweigh(place, bucket)

    def position(self, place: Place) -> Decimal:
        """Signed base units; zero where nothing is known."""
        bucket = self._buckets.get(place)
        return bucket.position if bucket is not None else ZERO

    def set_claim(self, key: OrderKey, claim: Claim | None) -> None:
        """Take, replace or give back what an order may still do."""
        old = self.claims.pop(key, None)
        if old is not None:
            self._count(key, old, -1)
        if claim is not None:
            self.claims[key] = claim
            self._count(key, claim, 1)

    def _count(self, key: OrderKey, claim: Claim, sign: int) -> None:
        account = key[:2]
        keys = self._by_account.setdefault(account, set())
        if sign > 0:
            keys.add(key)
        else:
            keys.discard(key)
        bucket = self._bucket(claim.place)
        bucket.orders += sign * claim.orders
        combine = EXACT.add if sign > 0 else EXACT.subtract
        self._margin[account] = combine(self._margin.get(account, ZERO), claim.margin)
        if not claim.reduce_only:
            if claim.is_buy:
                bucket.buys = combine(bucket.buys, claim.quantity)
            else:
                bucket.sells = combine(bucket.sells, claim.quantity)
        self._reweigh(claim.place, bucket)

    def claims_of(self, account: AccountKey) -> Mapping[OrderKey, Claim]:
        """Every claim of an account."""
        return {key: self.claims[key] for key in self._by_account.get(account, ())}

    def positions_of(self, account: AccountKey) -> list[Place]:
        """Places of an account with a position."""
        return [place for place, bucket in self._buckets.items() if place[:2] == account and bucket.position]

    def set_mark(self, venue: str, symbol: str, mark: Decimal | None) -> None:
        """The price positions are valued at; None when there is none to be trusted."""
        if self.marks.get((venue, symbol)) == mark:
            return
        if mark is None:
            del self.marks[(venue, symbol)]
        else:
            self.marks[(venue, symbol)] = mark
        for place in self._places.get((venue, symbol), ()):
            self._reweigh(place, self._buckets[place])

    def weighed_symbols(self) -> dict[str, set[str]]:
        """Symbols by venue that need a mark."""
        found: dict[str, set[str]] = {}
        for (venue, _, symbol), bucket in self._buckets.items():
            if bucket.position or bucket.buys or bucket.sells:
                found.setdefault(venue, set()).add(symbol)
        return found

    def free_after_claims(self, account: AccountKey) -> Decimal | None:
        """Margin free when every order on its way has taken its own; None where the venue does not tell."""
        free = self.free_margin.get(account)
        return None if free is None else EXACT.subtract(free, self._margin.get(account, ZERO))

    # looking ahead

    def project(self, claim: Claim) -> list[Projection]:
        """Every limit on totals that covers the claim, with what it would have in use."""
        place = claim.place
        bucket = self._buckets.get(place) or _Bucket()
        change = bucket.weigh(self.marks.get((place[0], place[2])), claim).minus(bucket.weight)
        return [tally.project(place, change) for tally in self._tallies_of(place)]

    def _bucket(self, place: Place) -> _Bucket:
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = _Bucket()
            self._places.setdefault((place[0], place[2]), set()).add(place)
        return bucket

    def _reweigh(self, place: Place, bucket: _Bucket) -> None:
        before = bucket.weight
        bucket.weight = bucket.weigh(self.marks.get((place[0], place[2])))
        tallies = self._tallies_of(place)
        if tallies and before != bucket.weight:
            change = bucket.weight.minus(before)
            for tally in tallies:
                tally.change(place, change)
