"""What operators set: scopes, the newest version of each record, the strictest state that covers an order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from venuemesh.errors import Reason
from venuemesh.risk_board import Record, RiskBoard
from venuemesh.risk_scope import Scope
from venuemesh.risk_store import key_of
from venuemesh.subjects import risk_key
from venuemesh.v1 import risk_pb2

ACTIVE = risk_pb2.TRADING_STATE_ACTIVE
REDUCE_ONLY = risk_pb2.TRADING_STATE_REDUCE_ONLY
HALTED = risk_pb2.TRADING_STATE_HALTED

PART = st.sampled_from(["", "a", "b"])
SCOPES = st.builds(Scope, PART, PART, PART)
STATES = st.sampled_from([ACTIVE, REDUCE_ONLY, HALTED])
ORDERS = st.tuples(*[st.sampled_from(["a", "b"])] * 3)


def state(scope: Scope, value: risk_pb2.TradingState.ValueType, version: int = 1) -> risk_pb2.ScopedTradingState:
    """A trading state."""
    return risk_pb2.ScopedTradingState(scope=scope.message(), state=value, version=version, set_by="o", reason="r")


def kill(scope: Scope, version: int = 1, *, engaged: bool = True) -> risk_pb2.KillSwitchState:
    """A kill switch."""
    return risk_pb2.KillSwitchState(scope=scope.message(), engaged=engaged, version=version, engaged_by="o", reason="r")


@given(st.dictionaries(SCOPES, STATES, max_size=6), ORDERS, st.booleans())
def test_strictest_state_that_covers_an_order_decides(
    states: dict[Scope, risk_pb2.TradingState.ValueType], order: tuple[str, str, str], reduces: bool
) -> None:
    """Against the rule said the slow way."""
    board = RiskBoard()
    for scope, value in states.items():
        board.apply(state(scope, value))
    covering = {
        value
        for scope, value in states.items()
        if all(part in ("", mine) for part, mine in zip(scope.parts, order, strict=True))
    }
    found = board.refusal(*order, reduce_only=reduces)
    if HALTED in covering:
        assert found is not None and found.reason is Reason.TRADING_HALTED
    elif REDUCE_ONLY in covering and not reduces:
        assert found is not None and found.reason is Reason.TRADING_REDUCE_ONLY
    else:
        assert found is None


@given(st.lists(st.tuples(SCOPES, STATES), max_size=12), st.data())
def test_board_is_the_same_whatever_the_order_and_the_repeats(
    changes: list[tuple[Scope, risk_pb2.TradingState.ValueType]], data: st.DataObject
) -> None:
    """Bucket and events tell the same records at different times."""
    records: list[Record] = []
    for scope, value in changes:
        version = sum(1 for record in records if Scope.of(record.scope) == scope) + 1
        records.append(state(scope, value, version))
    straight, shuffled = RiskBoard(), RiskBoard()
    for record in records:
        straight.apply(record)
    for record in data.draw(st.permutations(records + records)):
        shuffled.apply(record)
    assert straight.trading_states() == shuffled.trading_states()


def test_kill_switch_outranks_states_and_halts_reduce_only_orders_too() -> None:
    """KILL_SWITCH_ACTIVE until it is released."""
    board = RiskBoard()
    board.apply(state(Scope(), REDUCE_ONLY))
    board.apply(kill(Scope(venue="a")))
    found = board.refusal("a", "x", "y", reduce_only=True)
    assert found is not None and found.reason is Reason.KILL_SWITCH_ACTIVE
    board.apply(kill(Scope(venue="a"), 2, engaged=False))
    assert board.refusal("a", "x", "y", reduce_only=True) is None


def test_halt_held_in_memory_gives_way_to_the_stored_word_on_it() -> None:
    """A wider switch that was stored takes it over, so that its release releases everything."""
    board = RiskBoard()
    board.hold(kill(Scope(venue="a"), 0))
    assert board.refusal("a", "x", "y", reduce_only=False) is not None
    board.apply(kill(Scope()))
    board.apply(kill(Scope(), 2, engaged=False))
    assert board.refusal("a", "x", "y", reduce_only=False) is None


def test_state_of_a_newer_release_is_as_strict_as_can_be() -> None:
    """What is not known must not let orders pass."""
    board = RiskBoard()
    board.apply(risk_pb2.ScopedTradingState(scope=Scope().message(), state=9, version=1))  # type: ignore[arg-type]
    found = board.refusal("a", "x", "y", reduce_only=True)
    assert found is not None and found.reason is Reason.TRADING_HALTED


@given(SCOPES, SCOPES, ORDERS)
def test_scopes_that_cover_one_order_touch_and_wider_ones_include(
    one: Scope, two: Scope, order: tuple[str, str, str]
) -> None:
    """The three relations agree."""
    if one.covers(*order) and two.covers(*order):
        assert one.touches(two) and two.touches(one)
    if one.includes(two) and two.covers(*order):
        assert one.covers(*order)


@given(st.lists(st.text(max_size=8), min_size=1, max_size=3), st.lists(st.text(max_size=8), min_size=1, max_size=3))
def test_keys_of_the_bucket_are_unique_and_hold_only_what_keys_may(left: list[str], right: list[str]) -> None:
    """So that the broker's own tools read them."""
    assert (risk_key(*left) == risk_key(*right)) == (left == right)
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/=.")
    assert set(risk_key(*left).removeprefix("$KV.")) <= allowed


def test_key_of_a_limit_reads_as_documented() -> None:
    """The kind, the scope, the type."""
    record = risk_pb2.RiskLimit(
        scope=Scope(symbol="BTC/USDC:USDC").message(), limit_type=risk_pb2.RISK_LIMIT_TYPE_MAX_OPEN_ORDERS
    )
    expected = "$KV.VENUEMESH_RISK.limit.-.-.BTC/USDC=3AUSDC.RISK_LIMIT_TYPE_MAX_OPEN_ORDERS"
    assert key_of(record) == expected
