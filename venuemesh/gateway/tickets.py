"""From what a caller asks to what is sent: checks an order and makes its ticket. Nothing here is journalled or sent.

`draft` is everything that can refuse an order before its key is used up; `issue` cannot fail any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from venuemesh import deadlines
from venuemesh.clock import Clock
from venuemesh.gateway import rules
from venuemesh.gateway.account import Account
from venuemesh.gateway.books import Books
from venuemesh.gateway.instruments import Instruments
from venuemesh.gateway.order_wire import nanoseconds, new_order_state, order_id_of
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.rules import CheckedOrder
from venuemesh.gateway.venue import OrderTicket, Reservation, TwapTarget, TwapTerms, Venue
from venuemesh.money import EXACT, Rounding
from venuemesh.security.grants import require_notional
from venuemesh.v1 import instrument_pb2
from venuemesh.v1 import order_pb2 as pb

BPS = Decimal(10_000)
ZERO = Decimal(0)
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskSettings:
    """Bounds of the desk, in seconds unless said otherwise.

    Attributes:
        reserve_s: kept of a caller's deadline to send the answer.
        default_wait_s: how long a call without a deadline waits.
        order_lifetime_s: longest time in which a sent order may still reach the venue.
        max_slippage_bps: worst price of a market order that names none.
        max_trigger_slippage_bps: the same, from the trigger price, of one that waits for a trigger: when it fires the
            market is on the move, and a protective stop must not be left behind.
    """

    reserve_s: float = 0.1
    default_wait_s: float = 2.0
    order_lifetime_s: float = 15.0
    max_slippage_bps: int = 100
    max_trigger_slippage_bps: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An order that may be sent: complete terms, parsed numbers, and the worst price it accepts; a TWAP has none."""

    terms: pb.NewOrder
    checked: CheckedOrder
    instrument: instrument_pb2.Instrument
    worst: Decimal | None


class Tickets:
    """Makes the tickets of one venue."""

    def __init__(
        self, *, venue: Venue, instruments: Instruments, books: Books, clock: Clock, settings: DeskSettings
    ) -> None:
        self._venue = venue
        self._instruments = instruments
        self._books = books
        self._clock = clock
        self._settings = settings

    def complete(self, order: pb.NewOrder, *, reduce_only: bool = False) -> pb.NewOrder:
        """The order with everything spelled out that the caller may leave to us."""
        terms = pb.NewOrder()
        terms.CopyFrom(order)
        terms.venue = self._venue.name
        if terms.order_type == pb.ORDER_TYPE_MARKET and terms.time_in_force == pb.TIME_IN_FORCE_UNSPECIFIED:
            terms.time_in_force = pb.TIME_IN_FORCE_IOC
        if reduce_only and pb.EXECUTION_INSTRUCTION_REDUCE_ONLY not in terms.instructions:
            terms.instructions.append(pb.EXECUTION_INSTRUCTION_REDUCE_ONLY)
        if not terms.correlation_id:
            terms.correlation_id = deadlines.request_id() or terms.client_order_id
        return terms

    async def draft(self, terms: pb.NewOrder, require_ready: Callable[[], None]) -> Draft:
        """Check complete terms against every rule there is.

        Args:
            require_ready: raises while the account takes no orders.
        Raises:
            InvalidRequest, NotFound, PreconditionFailed, Unavailable, DeadlineTooShort: naming the field at fault.
        """
        checked = rules.check_fields(terms)
        rules.check_capabilities(terms, self._venue.capabilities)
        rules.check_expiry(terms, self._venue.capabilities, self._clock.now_ns())
        instrument = self._instruments.get(terms.symbol, self._venue.name, field="order.symbol")
        require_ready()
        worst = await self.worst_price(terms, checked, instrument)
        reduce_only = pb.EXECUTION_INSTRUCTION_REDUCE_ONLY in terms.instructions
        rules.check_instrument(checked, instrument, reduce_only=reduce_only, reference_price=worst)
        if not reduce_only:
            require_notional(lambda: None if worst is None else checked.quantity * worst, field="order.quantity")
        deadlines.require_remaining(self._settings.reserve_s)
        return Draft(terms=terms, checked=checked, instrument=instrument, worst=worst)

    async def worst_price(
        self, terms: pb.NewOrder, checked: CheckedOrder, instrument: instrument_pb2.Instrument
    ) -> Decimal | None:
        """The worst price an order accepts: its limit, or a bound away from its trigger or the best opposite price.

        None of a TWAP whose slices trade at prices of the venue's choice.
        """
        is_twap = terms.order_type == pb.ORDER_TYPE_TWAP
        if is_twap and not self._venue.capabilities.twap_bounded:
            return None
        known = self.bounded_price(terms, checked, instrument)
        if known is not None:
            return known
        best = await self._books.best_opposite(terms.symbol, buy=terms.side == pb.SIDE_BUY)
        # The market moves while a TWAP runs.
        bound = self._settings.max_trigger_slippage_bps if is_twap else self._settings.max_slippage_bps
        return _away_from(best, terms, bound, instrument.price_rule)

    def bounded_price(
        self, terms: pb.NewOrder, checked: CheckedOrder, instrument: instrument_pb2.Instrument
    ) -> Decimal | None:
        """The same for an order that names a limit or a trigger; None for others, which need the book."""
        if checked.price is not None or checked.trigger_price is None:
            return checked.price
        bound = self._settings.max_trigger_slippage_bps
        return _away_from(checked.trigger_price, terms, bound, instrument.price_rule)

    def reserve(self, account_id: str) -> Reservation:
        """What one action of the account needs: nonce and expiry.

        Raises:
            Unavailable: the link is down; nothing was used up.
        """
        not_after_ns = self._clock.now_ns() + int(self._settings.order_lifetime_s * NS_PER_S)
        if (left_s := deadlines.remaining_s()) is not None:
            # A caller that gave up must not meet a late order.
            not_after_ns = min(not_after_ns, self._clock.now_ns() + int(left_s * NS_PER_S))
        return self._venue.reserve(account_id, not_after_ns=not_after_ns)

    def issue(
        self,
        draft: Draft,
        reservation: Reservation,
        *,
        order_list_id: str = "",
        trigger_state: pb.TriggerState.ValueType = pb.TRIGGER_STATE_UNSPECIFIED,
        session_id: str = "",
        cancel_on_disconnect: bool = False,
    ) -> tuple[OrderTicket, OrderState]:
        """The ticket of a draft, and the order's first state."""
        terms = draft.terms
        order_id = order_id_of(self._venue.name, terms.account_id, terms.client_order_id)
        state = new_order_state(
            terms,
            order_id=order_id,
            venue_symbol=draft.instrument.venue_symbol,
            venue_client_order_id=self._venue.venue_client_order_id(order_id),
            now_ns=self._clock.now_ns(),
            order_list_id=order_list_id,
            trigger_state=trigger_state,
            session_id=session_id,
            cancel_on_disconnect=cancel_on_disconnect,
        )
        ticket = OrderTicket(
            account_id=terms.account_id,
            order_id=order_id,
            venue_client_order_id=state.venue_client_order_id,
            instrument=draft.instrument,
            side=terms.side,
            order_type=terms.order_type,
            quantity=draft.checked.quantity,
            price=ZERO if draft.worst is None else draft.worst,
            trigger_price=draft.checked.trigger_price,
            time_in_force=rules.time_in_force_of(terms),
            post_only=pb.EXECUTION_INSTRUCTION_POST_ONLY in terms.instructions,
            reduce_only=pb.EXECUTION_INSTRUCTION_REDUCE_ONLY in terms.instructions,
            reservation=reservation,
            twap=twap_terms(terms),
            expire_ns=nanoseconds(terms.expire_time) if terms.HasField("expire_time") else 0,
        )
        return ticket, state


def _away_from(start: Decimal, terms: pb.NewOrder, bound: int, rule: instrument_pb2.PriceRule) -> Decimal:
    """A bound away from `start`, to the worse side and on tick; the caller's own bound goes before ours."""
    buy = terms.side == pb.SIDE_BUY
    if terms.HasField("max_slippage_bps"):
        bound = terms.max_slippage_bps
    factor = (BPS + bound if buy else BPS - bound) / BPS
    rounding = Rounding.FLOOR if buy else Rounding.CEILING
    return rules.nearest_price(EXACT.multiply(start, factor), rule, rounding)


def twap_target(
    account: Account, order: OrderState, reservation: Reservation | None, lifetime_s: float
) -> TwapTarget | None:
    """What the venue can find a TWAP by while it has not told us an id; None of any other order."""
    schedule = twap_terms(order.terms)
    if schedule is None:
        return None
    expires_ns = reservation.expires_ns if reservation is not None else 0
    others = [
        other
        for other in account.all_orders()
        if other.terms.order_type == pb.ORDER_TYPE_TWAP and other.order_id != order.order_id
    ]
    return TwapTarget(
        side=order.terms.side,
        quantity=order.quantity,
        reduce_only=pb.EXECUTION_INSTRUCTION_REDUCE_ONLY in order.terms.instructions,
        terms=schedule,
        not_before_ns=order.created_ns,
        not_after_ns=expires_ns or order.created_ns + int(lifetime_s * NS_PER_S),
        others=frozenset(name for other in others for name in other.venue_order_ids),
        rivals=any(_looks_like(order, other) for other in others),
    )


def _looks_like(order: OrderState, other: OrderState) -> bool:
    """Whether two TWAPs without an id cannot be told apart at the venue."""
    mine, others = order.terms, other.terms
    return (
        not other.terminal
        and not other.venue_order_ids
        and (mine.symbol, mine.side, mine.instructions, mine.twap)
        == (others.symbol, others.side, others.instructions, others.twap)
        and order.quantity == other.quantity
    )


def twap_terms(terms: pb.NewOrder) -> TwapTerms | None:
    """Schedule of a TWAP order that was checked; None of any other."""
    if terms.order_type != pb.ORDER_TYPE_TWAP:
        return None
    return TwapTerms(minutes=terms.twap.duration.seconds // 60, randomize=terms.twap.randomize)
