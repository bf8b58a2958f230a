"""One account: what it writes rebuilds it, wherever the log is cut; fills in any order; bounded memory."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import ManualClock
from tests.unit.venuemesh.gateway.order_facts import NOW_NS, SYMBOL, check_invariants, ended, fill, new_order
from venuemesh.errors import Reason
from venuemesh.gateway.account import Account
from venuemesh.gateway.account_fold import AccountFold
from venuemesh.gateway.facts import (
    Accepted,
    CancelRequested,
    Fact,
    Filled,
    OutcomeLost,
    ProvedAbsent,
    RejectedByVenue,
    ReplaceConfirmed,
    ReplaceFailed,
    ReplaceRequested,
)
from venuemesh.gateway.order_wire import order_id_of, timestamp, to_order
from venuemesh.gateway.orders import IllegalTransition, apply
from venuemesh.gateway.positions import PositionState, apply_fill, apply_funding, reconcile
from venuemesh.gateway.venue import VenueFill, VenuePosition
from venuemesh.subjects import Kind
from venuemesh.v1 import account_pb2, event_pb2, stream_pb2
from venuemesh.v1 import order_pb2 as pb


class MemoryLog:
    """Numbers and keeps events, as the stored log would hold them."""

    def __init__(self, after: int = 0) -> None:
        self.rows: list[tuple[Kind, event_pb2.Event]] = []
        self.outcomes: list[tuple[str, event_pb2.OrderOutcome]] = []
        self._sequence = after

    def append(self, kind: Kind, event: event_pb2.Event, *key: str) -> event_pb2.Event:
        self._sequence += 1
        event.sequence = self._sequence
        event.venue = "fake"
        event.event_id = f"e{self._sequence}"
        self.rows.append((kind, event_pb2.Event.FromString(event.SerializeToString())))
        return event

    def append_outcome(self, account_id: str, client_order_id: str, outcome: event_pb2.OrderOutcome) -> None:
        assert account_id == "main"
        self.outcomes.append((client_order_id, outcome))

    @property
    def events(self) -> list[event_pb2.Event]:
        return [event for _, event in self.rows]

    def kinds(self) -> list[str]:
        return [kind.value for kind, _ in self.rows]


def make(log: MemoryLog | None = None, clock: ManualClock | None = None, **bounds: int) -> tuple[Account, MemoryLog]:
    log = log or MemoryLog()
    account = Account(
        venue="fake",
        account_id="main",
        log=log,
        clock=clock or ManualClock(NOW_NS),
        settle_asset_of=lambda symbol: "USDC",
        **bounds,
    )
    return account, log


def rebuild(events: list[event_pb2.Event], **bounds: int) -> tuple[Account, MemoryLog]:
    """An account out of stored events, as a new process does it."""
    account, log = make(MemoryLog(after=len(events)), ManualClock(NOW_NS + 10**12), **bounds)
    fold = AccountFold()
    for event in events:
        fold.take(event)
    account.adopt(fold)
    account.catch_up_positions(fold)
    return account, log


KEYS = ["a", "b", "c"]

steps = st.one_of(
    st.tuples(st.just("take"), st.sampled_from(KEYS)),
    st.tuples(st.just("accept"), st.sampled_from(KEYS)),
    st.tuples(st.just("lose"), st.sampled_from(KEYS)),
    st.tuples(st.just("cancel"), st.sampled_from(KEYS)),
    st.tuples(st.just("end"), st.sampled_from(KEYS)),
    st.tuples(st.just("absent"), st.sampled_from(KEYS)),
    st.tuples(st.just("fill"), st.sampled_from([*KEYS, "external"]), st.integers(1, 9), st.sampled_from("BS")),
    st.tuples(st.just("fill by client id"), st.sampled_from(KEYS), st.integers(10, 14), st.sampled_from("BS")),
    st.tuples(st.just("funding"), st.integers(1, 4)),
    st.tuples(st.just("balance"), st.integers(1, 3)),
    st.tuples(st.just("position"), st.integers(-2, 2)),
    st.tuples(st.just("fresh"), st.booleans()),
)


def play(account: Account, step: tuple[object, ...]) -> None:
    """One thing that can happen to an account."""
    kind, what = step[0], step[1]
    if kind == "take":
        if account.order_by_key(str(what)) is None:
            account.take(new_order(str(what)))
        return
    if kind in ("fill", "fill by client id"):
        number = int(str(step[2]))
        by_client = kind != "fill"
        account.on_fill(
            fill(
                f"x{number}-{what}",
                Decimal(number % 4 + 1),
                venue_order_id=f"v-{what}",
                price=str(100 + number),
                side=pb.SIDE_BUY if step[3] == "B" else pb.SIDE_SELL,
                client_id="0x" + order_id_of("fake", "main", str(what)) if by_client else None,
                time_ns=NOW_NS + number,
            ),
            NOW_NS,
        )
        return
    if kind == "funding":
        account.on_ledger(
            account_pb2.LedgerEntry(
                ledger_entry_id=f"f{what}",
                symbol=SYMBOL,
                ledger_entry_type=account_pb2.LEDGER_ENTRY_TYPE_FUNDING,
                amount=f"-0.{what}",
                venue_time=timestamp(NOW_NS + int(str(what))),
            ),
            NOW_NS,
        )
        return
    if kind == "balance":
        balance = account_pb2.Balance(asset="USDC", total=str(what), available=str(what))
        account.on_balances([balance], account_pb2.AccountSummary(equity=str(what)), NOW_NS)
        return
    if kind == "position":
        there = VenuePosition(symbol=SYMBOL, quantity=Decimal(str(what)), entry_price=Decimal(100))
        account.reconcile_position(there, NOW_NS)
        return
    if kind == "fresh":
        account.report_freshness(stream_pb2.FRESHNESS_FRESH if what else stream_pb2.FRESHNESS_STALE, "test")
        return
    order = account.order_by_key(str(what))
    if order is None:
        return
    facts: dict[str, Fact] = {
        "accept": Accepted(venue_order_id=f"v-{what}"),
        "lose": OutcomeLost(cause="cut"),
        "cancel": CancelRequested(),
        "end": ended(pb.ORDER_STATUS_CANCELED, None, life=f"v-{what}"),
        "absent": ProvedAbsent(evidence="asked"),
    }
    account.apply(order.order_id, facts[str(kind)])


def orders_of(account: Account) -> dict[str, pb.Order]:
    return {order.order_id: to_order(order) for order in account.all_orders()}


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=25))
def test_account_rebuilt_from_its_events_is_the_same(history: list[tuple[object, ...]]) -> None:
    """Property 40: orders, positions, balances and what is recognised as a repeat, to the last digit."""
    account, log = make()
    for step in history:
        play(account, step)
    again, more = rebuild(log.events)
    assert orders_of(again) == orders_of(account)
    assert {one.order_id for one in again.open_orders()} == {one.order_id for one in account.open_orders()}
    assert again.positions == account.positions
    assert again.balances == account.balances
    assert (again.summary or account_pb2.AccountSummary()) == (account.summary or account_pb2.AccountSummary())
    assert [kind for kind in more.kinds() if kind != Kind.FRESHNESS] == []
    executed = [event.execution_report.fill for event in log.events if event.execution_report.HasField("fill")]
    assert all(again.knows_execution(one.execution_id) for one in executed)
    for order in account.all_orders():
        assert again.order(order.order_id).execution_ids == order.execution_ids  # type: ignore[union-attr]
        for venue_order_id in order.venue_order_ids:
            found = again.order_by_venue_id(venue_order_id)
            assert found is not None
            assert found.order_id == order.order_id


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=15), st.data())
def test_account_rebuilt_from_a_log_cut_anywhere_has_positions_that_equal_its_fills(
    history: list[tuple[object, ...]], data: st.DataObject
) -> None:
    """A crash between a fill and its position event: the position is caught up once, with the fee, and stays so."""
    account, log = make()
    for step in history:
        play(account, step)
    cut = data.draw(st.integers(0, len(log.events)))
    stored = log.events[:cut]
    again, more = rebuild(stored)
    both = [*stored, *more.events]
    twice, nothing = rebuild(both)
    assert twice.positions == again.positions
    assert Kind.POSITION not in nothing.kinds()
    # What the events say, folded by hand: each fill and each funding once, from the last reconciliation on.
    assert again.positions == fold_by_hand(both)


def fold_by_hand(events: list[event_pb2.Event]) -> dict[str, PositionState]:
    """Positions of an account as the plain sum of its log."""
    position, found = PositionState(symbol=SYMBOL), False
    for event in events:
        payload = event.WhichOneof("payload")
        if payload == "execution_report" and event.execution_report.HasField("fill"):
            one = event.execution_report.fill
            position = apply_fill(
                position,
                side=one.side,
                quantity=Decimal(one.quantity),
                price=Decimal(one.price),
                fee=Decimal(one.fee),
            ).state
            found = True
        elif payload == "ledger_entry":
            position, found = apply_funding(position, Decimal(event.ledger_entry.amount)).state, True
        elif payload == "position" and event.position.change == account_pb2.POSITION_CHANGE_RECONCILE:
            entry = event.position.entry_price
            position = reconcile(
                position,
                quantity=Decimal(event.position.quantity),
                entry_price=Decimal(entry) if entry else None,
            ).state
            found = True
    return {SYMBOL: position} if found else {}


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, max_size=25))
def test_events_of_an_order_rise_in_version_without_holes(history: list[tuple[object, ...]]) -> None:
    """Every change is reported once, each report carries the full order, and a terminal one leaves an outcome."""
    account, log = make()
    for step in history:
        play(account, step)
    versions: dict[str, list[int]] = {}
    terminal = 0
    for kind, event in log.rows:
        if kind in (Kind.ORDER, Kind.FILL) and event.execution_report.HasField("order"):
            order = event.execution_report.order
            versions.setdefault(order.order_id, []).append(order.order_version)
            terminal += order.terminal
            assert event.symbol == order.terms.symbol
    for seen in versions.values():
        assert seen == list(range(1, len(seen) + 1))
    assert len(log.outcomes) == terminal


# fills that come before their order is known


def test_fill_before_the_venue_id_is_known_waits_and_is_matched() -> None:
    """A fill by the venue's id alone, quicker than the answer that tells the id."""
    account, log = make()
    order = new_order("a")
    account.take(order)
    account.on_fill(fill("x", 4, venue_order_id="7"), NOW_NS)
    assert log.kinds() == ["order"]
    account.apply(order.order_id, Accepted(venue_order_id="7"))
    assert log.kinds() == ["order", "order", "fill", "position"]
    now = account.order(order.order_id)
    assert now is not None
    assert now.filled == 4


def test_held_fill_of_nobody_becomes_external_when_no_order_is_unanswered() -> None:
    """It moves the position, and no order."""
    account, log = make()
    order = new_order("a")
    account.take(order)
    account.on_fill(fill("x", 4, venue_order_id="7"), NOW_NS)
    account.apply(order.order_id, Accepted(venue_order_id="8"))
    assert log.kinds() == ["order", "order", "fill", "position"]
    report = log.events[2].execution_report
    assert not report.HasField("order")
    assert report.fill.order_id == ""
    assert account.positions[SYMBOL].quantity == 4


def test_held_fills_are_bounded() -> None:
    """Beyond the bound the oldest is taken as external: nothing is lost and memory stays small."""
    account, log = make()
    account.take(new_order("a"))
    for number in range(Account.MAX_HELD_FILLS + 5):
        account.on_fill(fill(f"x{number}", 1, venue_order_id="7"), NOW_NS)
    assert log.kinds().count("fill") == 5
    assert len(account._held_fills) == Account.MAX_HELD_FILLS


def test_fill_of_somebody_elses_order_is_told_without_an_order() -> None:
    """Trades made outside the mesh count for the position at once when nothing is unanswered."""
    account, log = make()
    account.on_fill(fill("x", 4), NOW_NS)
    account.on_fill(fill("x", 4), NOW_NS)
    assert log.kinds() == ["fill", "position"]


def test_fill_from_before_the_account_was_ours_is_ignored() -> None:
    """Venues open a fill stream with the latest thousands of all time: they would ruin position and profit."""
    account, log = make()
    account.on_fill(fill("x", 4, time_ns=NOW_NS - 1), NOW_NS)
    assert log.kinds() == []


def test_old_fill_of_our_own_order_is_taken_all_the_same() -> None:
    """The venue's clock may be behind ours; our own order proves that it is ours."""
    account, log = make()
    order = new_order("a")
    account.take(order)
    account.on_fill(fill("x", 4, client_id=order.venue_client_order_id, time_ns=NOW_NS - 10**9), NOW_NS)
    assert log.kinds() == ["order", "fill", "position"]


def test_old_ledger_entry_is_ignored() -> None:
    """Funding paid before the account was ours is no profit of ours."""
    account, log = make()
    entry = account_pb2.LedgerEntry(
        ledger_entry_id="f",
        symbol=SYMBOL,
        ledger_entry_type=account_pb2.LEDGER_ENTRY_TYPE_FUNDING,
        amount="1",
        venue_time=timestamp(NOW_NS - 1),
    )
    account.on_ledger(entry, NOW_NS)
    assert log.kinds() == []


def test_position_names_the_fill_or_funding_that_changed_it() -> None:
    """Causation and correlation ids: from the caller's intention to the position it led to."""
    account, log = make()
    order = new_order()
    account.take(order)
    account.apply(order.order_id, Accepted(venue_order_id="1"))
    account.on_fill(fill("x", 4, venue_order_id="1"), NOW_NS)
    account.on_fill(fill("y", 4, venue_order_id="of somebody else"), NOW_NS)
    entry = account_pb2.LedgerEntry(
        ledger_entry_id="f1",
        symbol=SYMBOL,
        ledger_entry_type=account_pb2.LEDGER_ENTRY_TYPE_FUNDING,
        amount="-1",
        venue_time=timestamp(NOW_NS + 1),
    )
    account.on_ledger(entry, NOW_NS)
    causes = [before for before, event in pairwise(log.events) if event.HasField("position")]
    positions = [event for event in log.events if event.HasField("position")]
    assert [event.causation_id for event in positions] == [event.event_id for event in causes]
    assert [event.correlation_id for event in positions] == [event.correlation_id for event in causes]
    assert [event.WhichOneof("payload") for event in causes] == ["execution_report", "execution_report", "ledger_entry"]


def test_fee_in_another_asset_does_not_count_for_the_position() -> None:
    """Fees paid are in the settlement asset; others are seen on the order."""
    account, _ = make()
    account.on_fill(fill("x", 4, fee="0.5"), NOW_NS)
    other = fill("y", 4, fee="0.5")
    account.on_fill(VenueFill(**{**{name: getattr(other, name) for name in other.__slots__}, "fee_asset": "HYPE"}), 0)
    assert account.positions[SYMBOL].fees_paid == Decimal("0.5")


# bounds


def test_terminal_orders_are_forgotten_beyond_the_bound_with_all_their_names() -> None:
    """Only the newest stay in memory; open orders always do."""
    account, _ = make(retained=2)
    account.take(new_order("open"))
    for number in range(5):
        order = new_order(f"k{number}")
        account.take(order)
        account.apply(order.order_id, Accepted(venue_order_id=f"v{number}"))
        account.apply(order.order_id, ended(pb.ORDER_STATUS_CANCELED, life=f"v{number}"))
    assert [order.terms.client_order_id for order in account.all_orders()].count("open") == 1
    assert len(account.all_orders()) == 3
    for table in (account._orders, account._by_key, account._by_venue_client_id):
        assert len(table) == 3
    assert len(account._by_venue_id) == 2
    assert account.order_by_key("k0") is None
    assert account.order_by_venue_id("v0") is None


def test_repeats_of_forgotten_fills_are_not_news() -> None:
    """The memory of executions is bounded; what is older than it counts as seen."""
    account, log = make(remembered=3)
    for number in range(6):
        account.on_fill(fill(f"x{number}", 1, time_ns=NOW_NS + number), NOW_NS)
    before = len(log.rows)
    for number in range(6):
        account.on_fill(fill(f"x{number}", 1, time_ns=NOW_NS + number), NOW_NS)
    assert len(log.rows) == before
    assert account.positions[SYMBOL].quantity == 6


def test_recovery_forgets_old_terminal_orders() -> None:
    """A replay of a long log keeps a bounded number of orders, and every open one."""
    account, log = make()
    account.take(new_order("open"))
    for number in range(30):
        order = new_order(f"k{number}")
        account.take(order)
        account.on_fill(fill(f"x{number}", 1, client_id=order.venue_client_order_id), NOW_NS)
        account.apply(order.order_id, ended(pb.ORDER_STATUS_CANCELED, life="1"))
    fold = AccountFold(retained=3)
    for event in log.events:
        fold.take(event)
    kept = {order.terms.client_order_id for order, _ in fold.orders()}
    assert "open" in kept
    assert "k29" in kept
    assert kept == {"open", "k27", "k28", "k29"}
    assert len(fold._fills) == 3


# what is told


def test_illegal_fact_changes_nothing_and_is_counted() -> None:
    """A contradiction is a matter for reconciliation."""
    account, log = make()
    order = new_order("a")
    account.take(order)
    account.apply(order.order_id, Accepted(venue_order_id="1"))
    before = len(log.rows)
    after = account.apply(order.order_id, RejectedByVenue(reason=Reason.NO_LIQUIDITY, text="no"))
    assert after.status == pb.ORDER_STATUS_NEW
    assert (account.illegal_transitions, len(log.rows)) == (1, before)


def test_balances_make_events_only_when_they_change() -> None:
    """The same numbers again are silence."""
    account, log = make()
    for _ in range(3):
        play(account, ("balance", 1))
    assert log.kinds() == ["balance", "summary"]
    play(account, ("balance", 2))
    assert log.kinds() == ["balance", "summary"] * 2


def test_closed_position_shows_no_margin_and_no_liquidation_price() -> None:
    """What the venue last told of the open position is not true of a flat one."""
    account, _ = make()
    seen = VenuePosition(
        symbol=SYMBOL,
        quantity=Decimal(4),
        entry_price=Decimal(100),
        mark_price=Decimal(101),
        liquidation_price=Decimal(50),
        margin_used=Decimal(40),
    )
    account.on_positions([seen])
    account.on_fill(fill("x", 4), NOW_NS)
    shown = account.to_position(account.positions[SYMBOL])
    assert (shown.liquidation_price, shown.margin_used, shown.unrealized_pnl) == ("50", "40", "4")
    account.on_fill(fill("y", 4, side=pb.SIDE_SELL), NOW_NS)
    flat = account.to_position(account.positions[SYMBOL])
    assert flat.quantity == "0"
    assert not (flat.HasField("liquidation_price") or flat.HasField("margin_used") or flat.HasField("entry_price"))
    assert flat.unrealized_pnl == "0"


def test_restart_says_that_the_stream_is_stale() -> None:
    """Whoever follows the log must not believe the freshness of a process that is gone."""
    account, log = make()
    account.report_freshness(stream_pb2.FRESHNESS_FRESH, "reconciled")
    again, more = rebuild(log.events)
    assert [event.stream_status.freshness for event in more.events] == [stream_pb2.FRESHNESS_STALE]
    _, silence = rebuild([*log.events, *more.events])
    assert silence.events == []
    assert not again.fills.caught_up


@pytest.mark.parametrize("fresh", [True, False])
def test_fills_seen_while_stale_do_not_hide_missed_ones(fresh: bool) -> None:
    """What has to be fetched begins behind the last fill seen while caught up, also after a restart."""
    account, log = make()
    account.report_freshness(stream_pb2.FRESHNESS_FRESH, "reconciled")
    account.on_fill(fill("a", 1, time_ns=NOW_NS + 100), NOW_NS)
    if not fresh:
        account.report_freshness(stream_pb2.FRESHNESS_STALE, "cut")
    account.on_fill(fill("b", 1, time_ns=NOW_NS + 900), NOW_NS)
    expected = NOW_NS + (900 if fresh else 100)
    assert account.fills.complete_ns == expected
    assert rebuild(log.events)[0].fills.complete_ns == expected


contradicting = st.lists(
    st.sampled_from(
        [
            Accepted(venue_order_id="1"),
            Accepted(venue_order_id="2"),
            OutcomeLost(cause="cut"),
            CancelRequested(),
            RejectedByVenue(reason=Reason.NO_LIQUIDITY, text="no"),
            RejectedByVenue(reason=Reason.NO_LIQUIDITY, text="late", venue_order_id="2"),
            ProvedAbsent(evidence="asked"),
            ReplaceRequested(),
            ReplaceConfirmed(venue_order_id="2", quantity=Decimal(7)),
            ReplaceFailed(text="no"),
            Filled(fill=fill("a", 4)),
            Filled(fill=fill("b", 6)),
            Filled(fill=fill("c", 3, venue_order_id="2")),
            ended(pb.ORDER_STATUS_CANCELED, "4"),
            ended(pb.ORDER_STATUS_FILLED, None, life="2"),
        ]
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(contradicting)
def test_facts_in_any_order_change_are_no_news_or_are_recorded_as_contradictions(history: list[Fact]) -> None:
    """Fill before acknowledgement, cancel and amendment racing fills, late refusals: none is lost, all adds up."""
    account, log = make()
    told: list[str] = []
    revived: list[str] = []
    account.on_illegal = lambda state, error: told.append(state.order_id)
    account.on_revived = lambda state, _: revived.append(state.order_id)
    account.take(new_order("a"))
    illegal, back = 0, 0
    for fact in history:
        state = account.order_by_key("a")
        assert state is not None
        try:
            change = apply(state, fact, NOW_NS)
        except IllegalTransition:
            change, illegal = None, illegal + 1
        now = account.apply(state.order_id, fact)
        assert (now == state) == (change is None)
        check_invariants(now)
        back += state.status == pb.ORDER_STATUS_REJECTED != now.status
    assert len(told) == account.illegal_transitions == illegal
    assert len(revived) == back
    fills = [event.execution_report.fill for event in log.events if event.execution_report.HasField("fill")]
    order = account.order_by_key("a")
    assert order is not None
    assert order.filled == sum((Decimal(one.quantity) for one in fills), Decimal(0))
