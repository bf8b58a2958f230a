"""Pre-trade risk: whether an order may be sent, by every limit that covers it and every check of the operator's. Pure.

An order that makes nothing worse passes a limit that is already passed. Reduce-only orders are judged by what one order
may be (quantity, notional, collar) and by nothing that needs a view of the account. Where something must be known and
is not, the order is refused with RISK_VIEW_STALE: no check guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from router.risk_ledger import (
    CUMULATIVE,
    MAX_ORDER_NOTIONAL,
    MAX_ORDER_QUANTITY,
    MIN_FREE_MARGIN,
    PRICE_COLLAR_BPS,
    PRICED,
    ZERO,
    AccountKey,
    Claim,
    Ledger,
    Limit,
    OrderKey,
    Place,
)
from venuemesh.errors import MeshError, PreconditionFailed, Reason, RiskRefused
from venuemesh.money import EXACT, divide, format_decimal, to_wire
from venuemesh.v1 import order_pb2

BPS = Decimal(10_000)
_NEEDS_MARK = PRICED | {MAX_ORDER_NOTIONAL, PRICE_COLLAR_BPS, MIN_FREE_MARGIN}


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskOrder:
    """An order as the checks see it.

    Attributes:
        price: limit price; None where the order has none.
        leverage: highest that its margin can be divided by; None on spot, where the whole is needed.
        orders: 0 for what an amendment adds.
        claimed: what it adds to what may fill; None for all of it.
    """

    venue: str
    account_id: str
    symbol: str
    client_order_id: str
    is_buy: bool
    quantity: Decimal
    price: Decimal | None
    reduce_only: bool = False
    leverage: Decimal | None = None
    orders: int = 1
    claimed: Decimal | None = None

    @property
    def place(self) -> Place:
        """Where it trades."""
        return self.venue, self.account_id, self.symbol

    @property
    def key(self) -> OrderKey:
        """What makes it unique."""
        return self.venue, self.account_id, self.client_order_id

    @property
    def account(self) -> AccountKey:
        """Whose it is."""
        return self.venue, self.account_id


class RiskReader(Protocol):
    """What a check of the operator's may read."""

    def position(self, place: Place) -> Decimal:
        """Signed base units at a venue, account and symbol."""

    def free_after_claims(self, account: AccountKey) -> Decimal | None:
        """Free margin of a venue and account, orders on their way taken off; None when unknown."""

    @property
    def marks(self) -> dict[tuple[str, str], Decimal]:
        """Fresh marks by venue and symbol."""


class RiskCheck(Protocol):
    """A check of the operator's own: synchronous, without I/O, quick. It is called after the limits."""

    name: str
    """Stands in the refusal."""

    def check(self, order: order_pb2.NewOrder, view: RiskReader) -> str | None:
        """Why the order must not be sent; None when it may. Raising refuses it too."""


def needs_mark(ledger: Ledger, place: Place) -> bool:
    """Whether an order at this place is judged by a price."""
    return any(limit.limit_type in _NEEDS_MARK for limit in ledger.covering(place))


def needs_room(ledger: Ledger, place: Place) -> bool:
    """Whether an order at this place must keep room under a limit on what many orders make together."""
    return any(limit.limit_type in CUMULATIVE for limit in ledger.covering(place))


def claim_of(order: RiskOrder, mark: Decimal | None) -> Claim:
    """What the order may do until it is settled."""
    quantity = order.quantity if order.claimed is None else order.claimed
    margin = ZERO if order.reduce_only else margin_of(order.is_buy, quantity, order.price, order.leverage, mark)
    return Claim(
        place=order.place,
        is_buy=order.is_buy,
        quantity=quantity,
        margin=margin,
        reduce_only=order.reduce_only,
        orders=order.orders,
    )


def margin_of(
    is_buy: bool, quantity: Decimal, price: Decimal | None, leverage: Decimal | None, mark: Decimal | None
) -> Decimal:
    """Margin an order needs at its price, or at the mark; zero where there is neither, and for a spot sale, which takes
    no money: what it sells is the venue's to check."""
    price = price if price is not None else mark
    if price is None or (leverage is None and not is_buy):
        return ZERO
    notional = EXACT.multiply(quantity, price)
    return notional if leverage is None else divide(notional, leverage)


def check_order(ledger: Ledger, order: RiskOrder, accounts: Sequence[AccountKey] | None) -> Claim:
    """Judge an order by every limit; returns the claim that keeps its room.

    Args:
        accounts: every account of the mesh that limits over several may count; None when not all are known.
    Raises:
        RiskRefused: RISK_LIMIT_REACHED or INSUFFICIENT_MARGIN, naming limit, scope, use and bound.
        PreconditionFailed: RISK_VIEW_STALE: what a check needs is not known now.
    """
    mark = ledger.marks.get((order.venue, order.symbol))
    covering = ledger.covering(order.place)
    for limit in covering:
        if limit.limit_type == MAX_ORDER_QUANTITY:
            _bound(limit, used=ZERO, after=order.quantity, field="order.quantity")
        elif limit.limit_type == MAX_ORDER_NOTIONAL:
            _check_notional(limit, order, mark)
        elif limit.limit_type == PRICE_COLLAR_BPS and order.price is not None:
            _check_collar(limit, order, order.price, mark)
    claim = claim_of(order, mark)
    if order.reduce_only or not any(limit.limit_type in CUMULATIVE for limit in covering):
        return claim
    _require_view(ledger, order, covering, accounts)
    for projected in ledger.project(claim):
        if projected.after is None or projected.before is None:
            raise stale(order, f"{projected.limit.name} of {projected.limit.scope} counts something without a mark")
        if projected.after > projected.before:
            _bound(projected.limit, used=projected.before, after=projected.after)
    for limit in covering:
        if limit.limit_type == MIN_FREE_MARGIN:
            _check_margin(ledger, limit, order, claim, mark)
    return claim


def _require_view(
    ledger: Ledger, order: RiskOrder, covering: Sequence[Limit], accounts: Sequence[AccountKey] | None
) -> None:
    """The order's own account must be current. Of others what was last seen is enough, but it must have been seen:
    their working orders count as filled already, so nothing they do meanwhile takes more room."""
    if order.account not in ledger.rebuilt:
        raise stale(order, "its account has not been read yet")
    if (cause := ledger.stale.get(order.account)) is not None:
        raise stale(order, cause)
    wide = [
        limit
        for limit in covering
        if limit.limit_type in CUMULATIVE and not (limit.scope.venue and limit.scope.account_id)
    ]
    if not wide:
        return
    if accounts is None:
        raise stale(order, f"not every venue that {wide[0].name} of {wide[0].scope} covers has been reached yet")
    for account in accounts:
        if account not in ledger.rebuilt and any(
            limit.scope.venue in ("", account[0]) and limit.scope.account_id in ("", account[1]) for limit in wide
        ):
            raise stale(order, f"account {account[1]} at {account[0]} has not been read yet")


def stale(order: RiskOrder, cause: str) -> PreconditionFailed:
    """The refusal of an order that cannot be judged now."""
    return PreconditionFailed(
        f"risk of {order.symbol} at {order.venue} for {order.account_id} cannot be judged now: {cause}",
        reason=Reason.RISK_VIEW_STALE,
        retry_after_s=1.0,
        metadata={"scope": f"venue={order.venue} account={order.account_id}", "cause": cause},
    )


def _bound(limit: Limit, *, used: Decimal, after: Decimal, field: str | None = None) -> None:
    if after > limit.bound:
        raise refused(limit, used=used, after=after, field=field)


def refused(limit: Limit, *, used: Decimal, after: Decimal, unit: str = "", field: str | None = None) -> RiskRefused:
    """The refusal by a limit: names it, its scope, what is in use, what it would be, and the bound."""
    shown = {name: format_decimal(to_wire(value)) for name, value in (("used", used), ("after", after))}
    bound = format_decimal(limit.bound)
    return RiskRefused(
        f"{limit.name} of {limit.scope} is {bound}{unit}: {shown['used']} in use, {shown['after']} with this order",
        field=field,
        metadata={"limit_type": limit.name, "scope": str(limit.scope), "limit": bound, **shown},
    )


def _check_notional(limit: Limit, order: RiskOrder, mark: Decimal | None) -> None:
    price = order.price if order.price is not None else mark
    if price is None:
        if order.reduce_only:
            return
        raise stale(order, f"{limit.name} of {limit.scope} needs a mark")
    _bound(limit, used=ZERO, after=EXACT.multiply(order.quantity, price), field="order.quantity")


def _check_collar(limit: Limit, order: RiskOrder, price: Decimal, mark: Decimal | None) -> None:
    if mark is None:
        if order.reduce_only:
            return
        raise stale(order, f"{limit.name} of {limit.scope} needs a mark")
    away = EXACT.multiply(EXACT.subtract(price, mark).copy_abs(), BPS)
    # Compared without dividing, so exactly; the quotient is only shown.
    if away > EXACT.multiply(limit.bound, mark):
        raise refused(limit, used=ZERO, after=divide(away, mark), unit=" bps", field="order.price")


def _check_margin(ledger: Ledger, limit: Limit, order: RiskOrder, claim: Claim, mark: Decimal | None) -> None:
    free = ledger.free_after_claims(order.account)
    if free is None:
        raise stale(order, "the venue does not tell the free margin")
    if order.price is None and mark is None:
        raise stale(order, f"{limit.name} of {limit.scope} needs a mark")
    after = EXACT.subtract(free, claim.margin)
    if after < limit.bound and claim.margin > ZERO:
        shown = {name: format_decimal(to_wire(value)) for name, value in (("used", free), ("after", after))}
        raise RiskRefused(
            f"margin of {order.account_id} at {order.venue}: {shown['used']} free, {shown['after']} with this order, "
            f"{limit.name} of {limit.scope} is {format_decimal(limit.bound)}",
            reason=Reason.INSUFFICIENT_MARGIN,
            metadata={
                "limit_type": limit.name,
                "scope": str(limit.scope),
                "limit": format_decimal(limit.bound),
                **shown,
            },
        )


def run_checks(checks: Sequence[RiskCheck], order: order_pb2.NewOrder, view: RiskReader) -> MeshError | None:
    """The first refusal by a check of the operator's; a check that breaks refuses, with the fault as cause."""
    for one in checks:
        try:
            why = one.check(order, view)
        except Exception as error:
            failure = RiskRefused(
                f"risk check {one.name} broke: {type(error).__name__}: {error}",
                reason=Reason.RISK_CHECK_FAILED,
                metadata={"check": one.name},
            )
            failure.__cause__ = error
            return failure
        if why is not None:
            return RiskRefused(
                f"risk check {one.name}: {why}", reason=Reason.RISK_CHECK_FAILED, metadata={"check": one.name}
            )
    return None
