"""An order and everything known of it. Pure; `venuemesh.gateway.orders` says what changes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from venuemesh.gateway.facts import Ending
from venuemesh.money import EXACT, divide
from venuemesh.v1 import order_pb2 as pb

ZERO = Decimal(0)
TERMINAL = frozenset(
    (pb.ORDER_STATUS_FILLED, pb.ORDER_STATUS_CANCELED, pb.ORDER_STATUS_REJECTED, pb.ORDER_STATUS_EXPIRED)
)
UNANSWERED = frozenset((pb.ORDER_STATUS_PENDING_NEW, pb.ORDER_STATUS_UNCERTAIN))
LIVE = frozenset((pb.ORDER_STATUS_NEW, pb.ORDER_STATUS_PARTIALLY_FILLED))


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderState:
    """An order and everything known of it. `terms` is never changed in place."""

    order_id: str
    terms: pb.NewOrder
    venue_symbol: str
    venue_client_order_id: str
    quantity: Decimal
    price: Decimal | None
    trigger_price: Decimal | None
    created_ns: int
    updated_ns: int
    status: pb.OrderStatus.ValueType = pb.ORDER_STATUS_PENDING_NEW
    filled: Decimal = ZERO
    notional: Decimal = ZERO
    fees: dict[str, Decimal] = field(default_factory=dict)
    execution_ids: frozenset[str] = frozenset()
    venue_order_ids: tuple[str, ...] = ()
    filled_by_life: dict[str, Decimal] = field(default_factory=dict)
    """Filled under each of the venue's ids: where an amendment gives a new id, the venue counts from 0 again."""
    pending_cancel: bool = False
    pending_replace: bool = False
    reject: pb.Reject | None = None
    trigger_state: pb.TriggerState.ValueType = pb.TRIGGER_STATE_UNSPECIFIED
    venue_status_text: str = ""
    version: int = 1
    venue_time_ns: int = 0
    uncertain_since_ns: int = 0
    ending: Ending | None = None
    order_list_id: str = ""
    fingerprint: bytes = b""
    session_id: str = ""
    cancel_on_disconnect: bool = False
    """Whether it is cancelled once its session is gone."""

    @property
    def terminal(self) -> bool:
        """Whether it can never change again, short of proof to the contrary."""
        return self.status in TERMINAL

    @property
    def working(self) -> bool:
        """Whether it is live at the venue."""
        return self.status in LIVE

    @property
    def uncertain(self) -> bool:
        """Whether nobody can tell if it is live."""
        return self.status == pb.ORDER_STATUS_UNCERTAIN

    @property
    def leaves(self) -> Decimal:
        """What can still fill."""
        return ZERO if self.terminal else EXACT.subtract(self.quantity, self.filled)

    def filled_in(self, venue_order_id: str | None) -> Decimal:
        """What one of its lives filled; everything while it has had no more than one."""
        if venue_order_id is None or len(self.venue_order_ids) < 2:
            return self.filled
        return self.filled_by_life.get(venue_order_id, ZERO)

    def quantity_in(self, venue_order_id: str | None) -> Decimal:
        """Quantity the venue shows for one of its lives: the order's, less what other lives filled."""
        return EXACT.subtract(self.quantity, EXACT.subtract(self.filled, self.filled_in(venue_order_id)))

    @property
    def average_price(self) -> Decimal | None:
        """Average price of fills; None before the first."""
        return divide(self.notional, self.filled) if self.filled else None

    @property
    def venue_order_id(self) -> str | None:
        """The venue's current id."""
        return self.venue_order_ids[-1] if self.venue_order_ids else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An order after a fact, and how to report it."""

    state: OrderState
    execution_type: pb.ExecutionType.ValueType
    origin: pb.Origin.ValueType
    text: str = ""
