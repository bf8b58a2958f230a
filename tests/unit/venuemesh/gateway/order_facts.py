"""Orders, fills and facts for tests of the gateway frame."""

from __future__ import annotations

from decimal import Decimal

from venuemesh.gateway.facts import Accepted, Ended, Ending, Fact, Filled
from venuemesh.gateway.order_wire import new_order_state, order_id_of
from venuemesh.gateway.orders import Change, IllegalTransition, OrderState, apply
from venuemesh.gateway.venue import VenueFill
from venuemesh.v1 import order_pb2 as pb

SYMBOL = "BTC/USDC:USDC"
NOW_NS = 1_790_000_000_000_000_000


def terms(key: str = "key-1", *, quantity: str = "10", price: str = "100", **fields: object) -> pb.NewOrder:
    """A good limit order."""
    values: dict[str, object] = {
        "account_id": "main",
        "client_order_id": key,
        "venue": "fake",
        "symbol": SYMBOL,
        "side": pb.SIDE_BUY,
        "order_type": pb.ORDER_TYPE_LIMIT,
        "quantity": quantity,
        "price": price,
        "time_in_force": pb.TIME_IN_FORCE_GTC,
    }
    values.update(fields)
    return pb.NewOrder(**{name: value for name, value in values.items() if value is not None})  # type: ignore[arg-type]


def new_order(key: str = "key-1", *, quantity: str = "10", now_ns: int = NOW_NS) -> OrderState:
    """An order that has just been journalled."""
    order_id = order_id_of("fake", "main", key)
    return new_order_state(
        terms(key, quantity=quantity),
        order_id=order_id,
        venue_symbol="BTC",
        venue_client_order_id="0x" + order_id,
        now_ns=now_ns,
    )


def fill(
    execution_id: str,
    quantity: str | int | Decimal,
    *,
    venue_order_id: str = "1",
    price: str = "100",
    fee: str = "0.01",
    side: pb.Side.ValueType = pb.SIDE_BUY,
    client_id: str | None = None,
    symbol: str = SYMBOL,
    time_ns: int = NOW_NS,
) -> VenueFill:
    """A fill as the venue tells it."""
    return VenueFill(
        execution_id=execution_id,
        trade_id=f"t-{execution_id}",
        venue_order_id=venue_order_id,
        venue_client_order_id=client_id,
        symbol=symbol,
        side=side,
        quantity=Decimal(quantity),
        price=Decimal(price),
        fee=Decimal(fee),
        fee_asset="USDC",
        liquidity_role=pb.LIQUIDITY_ROLE_TAKER,
        venue_realized_pnl=None,
        venue_time_ns=time_ns,
    )


def ended(
    status: pb.OrderStatus.ValueType, filled: str | None = None, *, life: str | None = "1", text: str = "ended"
) -> Ended:
    """The venue says the order, or one of its lives, is done."""
    amount = None if filled is None else Decimal(filled)
    return Ended(ending=Ending(status=status, filled_quantity=amount, text=text, venue_order_id=life))


def check_invariants(state: OrderState) -> None:
    """What holds of every order at every time."""
    assert Decimal(0) <= state.filled <= state.quantity
    if state.terminal:
        assert state.leaves == 0
        assert not (state.pending_cancel or state.pending_replace or state.ending)
    else:
        assert state.filled + state.leaves == state.quantity
    assert (state.status == pb.ORDER_STATUS_FILLED) <= (state.filled == state.quantity)
    assert (state.status == pb.ORDER_STATUS_REJECTED) <= (state.reject is not None)
    ended_short = (pb.ORDER_STATUS_REJECTED, pb.ORDER_STATUS_CANCELED, pb.ORDER_STATUS_EXPIRED)
    assert (state.reject is not None) <= (state.status in ended_short)
    if state.filled and not state.terminal:
        assert state.trigger_state in (pb.TRIGGER_STATE_UNSPECIFIED, pb.TRIGGER_STATE_TRIGGERED)
    assert (state.status == pb.ORDER_STATUS_UNCERTAIN) == bool(state.uncertain_since_ns)
    assert sum([state.terminal, state.working, state.uncertain]) <= 1
    assert sum(state.filled_by_life.values(), Decimal(0)) == state.filled
    assert len(set(state.venue_order_ids)) == len(state.venue_order_ids)


def step(state: OrderState, fact: Fact, now_ns: int = NOW_NS) -> Change | None:
    """Apply a fact and check every invariant of the step; illegal facts count as no change."""
    try:
        change = apply(state, fact, now_ns)
    except IllegalTransition:
        return None
    if change is not None:
        check_invariants(change.state)
        assert change.state.version == state.version + 1
        assert change.state.filled >= state.filled
        assert change.state.execution_ids >= state.execution_ids
        assert change.state.fingerprint == state.fingerprint
        assert change.state.terms == state.terms
        assert change.state.trigger_state >= state.trigger_state
        if state.terminal and not change.state.terminal:
            shown = change.execution_type == pb.EXECUTION_TYPE_RESTATED and isinstance(fact, Accepted)
            assert change.execution_type == pb.EXECUTION_TYPE_TRADE or shown
            assert state.status == pb.ORDER_STATUS_REJECTED or isinstance(fact, Filled)
    return change


def run(state: OrderState, facts: list[Fact]) -> OrderState:
    """Apply facts in turn."""
    for fact in facts:
        change = step(state, fact)
        state = change.state if change else state
    return state
