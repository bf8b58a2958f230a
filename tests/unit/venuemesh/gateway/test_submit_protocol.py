"""The submit protocol as a state machine, with crashes between any two steps: see docs/adr/0012-submit-protocol.md.

The pure core is real: account, order states, evidence, reconciliation plans, recovery. The journal, the event log of
which a crash keeps some prefix, and the venue with its delays are models.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fakes import ManualClock
from tests.unit.venuemesh.gateway.order_facts import NOW_NS, SYMBOL, check_invariants, fill, new_order
from tests.unit.venuemesh.gateway.test_account import MemoryLog
from venuemesh.errors import Reason
from venuemesh.gateway.account import Account
from venuemesh.gateway.account_fold import AccountFold
from venuemesh.gateway.evidence import facts_of, facts_of_placed, outcome_of, proves_absence
from venuemesh.gateway.facts import CancelRequested, OperatorActed, OutcomeLost, ProvedAbsent, refusal
from venuemesh.gateway.order_wire import from_order, to_order
from venuemesh.gateway.orders import UNANSWERED, OrderState, held_absent
from venuemesh.gateway.reconcile import plan_orders
from venuemesh.gateway.venue import Placed, Refused, VenueFill, VenueOrder, VenueOrderState, VenueSnapshot
from venuemesh.v1 import account_pb2, event_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

KEYS = ("a", "b", "c")
LIFETIME_NS = 15 * 10**9
SETTLE_NS = 10**9
QUANTITY = Decimal(10)
ZERO = Decimal(0)


class Log(MemoryLog):
    """Events and outcomes in one queue; a crash keeps the first of them."""

    def __init__(self, events: list[event_pb2.Event], outcomes: dict[str, event_pb2.OrderOutcome]) -> None:
        super().__init__(after=len(events))
        self.durable = events
        self.durable_outcomes = outcomes
        self._places: list[int] = []

    def append_outcome(self, account_id: str, client_order_id: str, outcome: event_pb2.OrderOutcome) -> None:
        super().append_outcome(account_id, client_order_id, outcome)
        self._places.append(len(self.rows))

    def keep(self, count: int) -> tuple[list[event_pb2.Event], dict[str, event_pb2.OrderOutcome]]:
        """What the broker has when the process dies after `count` of this process's events were stored."""
        kept = [one for one, place in zip(self.outcomes, self._places, strict=True) if place < count]
        return [*self.durable, *self.events[:count]], {**self.durable_outcomes, **dict(kept)}


@dataclass
class Request:
    """A submit on the wire."""

    order: OrderState
    expires_ns: int


@dataclass
class Attempt:
    """A submit in this process: where it stands."""

    order: OrderState
    stage: str = "journalled"


@dataclass
class VenueModel:
    """An exchange: what it holds, and since when it shows it."""

    orders: dict[str, VenueOrder] = field(default_factory=dict)
    history: dict[str, list[tuple[int, VenueOrder]]] = field(default_factory=dict)
    fills: list[VenueFill] = field(default_factory=list)
    wire: list[Request] = field(default_factory=list)

    def set(self, order: VenueOrder, now_ns: int) -> None:
        name = order.venue_client_order_id or ""
        self.orders[name] = order
        self.history.setdefault(name, []).append((now_ns, order))

    def shown(self, name: str, at_ns: int) -> VenueOrder | None:
        """The order as a replica that is current up to `at_ns` shows it."""
        seen = [order for since_ns, order in self.history.get(name, []) if since_ns <= at_ns]
        return seen[-1] if seen else None


class SubmitProtocol(RuleBasedStateMachine):
    """A gateway that lives and dies, a venue that does what it wants, and an operator."""

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock(NOW_NS)
        self.intents: dict[str, event_pb2.OrderIntent] = {}
        self.events: list[event_pb2.Event] = []
        self.outcomes: dict[str, event_pb2.OrderOutcome] = {}
        self.venue = VenueModel()
        self.sends = dict.fromkeys(KEYS, 0)
        self.declared: set[str] = set()
        self.answered: set[str] = set()
        self.numbers = 0
        self.live()

    # the process

    def live(self) -> None:
        """A process starts: replay, then the intents without an answer; what was under way is in doubt."""
        self.log = Log(self.events, self.outcomes)
        self.account = Account(
            venue="fake", account_id="main", log=self.log, clock=self.clock, settle_asset_of=lambda _: "USDC"
        )
        self.attempts: dict[str, Attempt] = {}
        self.answers: list[tuple[str, Placed | Refused]] = []
        self.pushes: list[VenueOrder | VenueFill] = []
        self.questions: list[tuple[str, int, VenueOrder | None]] = []
        self.alive = True
        self.answered.clear()
        fold = AccountFold()
        for event in self.events:
            fold.take(event)
        self.account.adopt(fold)
        self.account.catch_up_positions(fold)
        self.account.history_from_ns = self.account.fills.from_ns = NOW_NS
        for key, intent in self.intents.items():
            if self.account.order_by_key(key) is None and key not in self.outcomes:
                self.adopt(intent)
        for order in self.account.open_orders():
            if order.status == pb.ORDER_STATUS_PENDING_NEW:
                self.account.apply(order.order_id, OutcomeLost(cause="the gateway ended"))

    def adopt(self, intent: event_pb2.OrderIntent) -> None:
        state = from_order(intent.order, [])
        self.account.take(state)
        self.account.apply(state.order_id, OutcomeLost(cause="only the intent is known"))

    def uncertain(self) -> list[str]:
        return [key for key in KEYS if (order := self.order(key)) is not None and order.uncertain]

    def order(self, key: str) -> OrderState | None:
        return self.account.order_by_key(key)

    def row(self, key: str) -> VenueOrder | None:
        return self.venue.orders.get(new_order(key).venue_client_order_id)

    @rule(
        key=st.sampled_from(KEYS),
        steps=st.sampled_from([0, 1, 2, 2, 2]),
        fate=st.sampled_from(["on its way", "on its way", "rest", "fill", "refuse", "lose"]),
        heard=st.sampled_from(["later", "lost", "lost", "answer"]),
    )
    def submit(self, key: str, steps: int, fate: str, heard: str) -> None:
        """A caller submits, or repeats: one intent per key, ever."""
        known = self.order(key)
        if known is not None:
            # A repeat gets what is known, and nothing else happens.
            outcome_of(known, in_flight=key in self.attempts)
        elif key in self.attempts:
            return
        elif key in self.intents:
            self.adopt(self.intents[key])
        else:
            order = new_order(key, now_ns=self.clock.now_ns())
            expires_ns = self.clock.now_ns() + LIFETIME_NS
            self.intents[key] = event_pb2.OrderIntent(order=to_order(order), expires_unix_nanos=expires_ns)
            self.attempts[key] = Attempt(order)
            for _ in range(steps):
                self.go_on(key)
            if steps == 2 and fate != "on its way":
                self.reach(len(self.venue.wire) - 1, fate)
            if steps == 2 and heard == "lost":
                self.lose(key)
            elif steps == 2 and heard == "answer" and self.answers:
                self.hear_answer_at(len(self.answers) - 1)

    def unsent(self) -> list[str]:
        return [key for key in sorted(self.attempts) if self.attempts[key].stage != "sent"]

    @precondition(lambda self: self.unsent())
    @rule(data=st.data())
    def one_step(self, data: st.DataObject) -> None:
        """An attempt takes its next step; a crash may come before each of them."""
        self.go_on(data.draw(st.sampled_from(self.unsent())))

    def go_on(self, key: str) -> None:
        attempt = self.attempts[key]
        if attempt.stage == "journalled":
            self.account.take(attempt.order)
            attempt.stage = "queued"
        elif attempt.stage == "queued":
            self.sends[key] += 1
            self.venue.wire.append(Request(attempt.order, self.intents[key].expires_unix_nanos))
            attempt.stage = "sent"

    @precondition(lambda self: self.log.rows or self.attempts)
    @rule(data=st.data(), away_s=st.sampled_from([0.0, 1.0, 16.5]), moves=st.booleans())
    def crash(self, data: st.DataObject, away_s: float, moves: bool) -> None:
        """SIGKILL: what the broker has is some prefix; answers, pushes and questions under way are gone.

        While nobody listens requests still arrive, and markets move.
        """
        kept = data.draw(st.integers(0, len(self.log.rows)))
        self.events, self.outcomes = self.log.keep(kept)
        self.alive = False
        while moves and self.venue.wire:
            self.arrive(data, data.draw(st.sampled_from(["rest", "fill", "lose"])))
        self.clock.advance(away_s)
        self.live()

    @precondition(lambda self: self.venue.wire or self.questions or self.uncertain())
    @rule(seconds=st.sampled_from([0.5, 1.0, 15.0, 15.0, 16.5]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # the wire and the venue

    @precondition(lambda self: self.venue.wire)
    @rule(data=st.data(), how=st.sampled_from(["rest", "fill", "refuse", "lose"]))
    def arrive(self, data: st.DataObject, how: str) -> None:
        """A request reaches the venue, in any order, or never."""
        self.reach(data.draw(st.integers(0, len(self.venue.wire) - 1)), how)

    @precondition(lambda self: self.venue.wire)
    @rule(data=st.data())
    def arrive_at_the_last_moment(self, data: st.DataObject) -> None:
        """The venue takes it at the very end of its life."""
        place = data.draw(st.integers(0, len(self.venue.wire) - 1))
        self.clock.advance(max(0, self.venue.wire[place].expires_ns - self.clock.now_ns()) / 1e9)
        self.reach(place, "rest")

    def reach(self, place: int, how: str) -> None:
        request = self.venue.wire.pop(place)
        key, now_ns = request.order.terms.client_order_id, self.clock.now_ns()
        if how == "lose":
            return
        if now_ns > request.expires_ns or how == "refuse":
            self.answer(key, Refused(reason=Reason.VENUE_REJECTED, text="no"))
            return
        self.numbers += 1
        order = VenueOrder(
            venue_order_id=f"v{self.numbers}",
            venue_client_order_id=request.order.venue_client_order_id,
            symbol=SYMBOL,
            side=pb.SIDE_BUY,
            quantity=QUANTITY,
            filled_quantity=ZERO,
            price=Decimal(100),
            state=VenueOrderState.WORKING,
            reason=None,
            text="open",
            venue_time_ns=now_ns,
        )
        self.change(order)
        if how == "fill":
            self.trade(order, QUANTITY)
        row = self.venue.orders[request.order.venue_client_order_id]
        self.answer(
            key, Placed(venue_order_id=row.venue_order_id, filled_quantity=row.filled_quantity, ended=how == "fill")
        )

    def answer(self, key: str, answer: Placed | Refused) -> None:
        if self.alive and key in self.attempts:
            self.answers.append((key, answer))

    def change(self, order: VenueOrder) -> None:
        self.venue.set(order, self.clock.now_ns())
        if self.alive:
            self.pushes.append(order)

    def trade(self, order: VenueOrder, quantity: Decimal) -> None:
        self.numbers += 1
        done = (order.filled_quantity or ZERO) + quantity
        one = fill(
            f"x{self.numbers}",
            quantity,
            venue_order_id=order.venue_order_id,
            client_id=order.venue_client_order_id,
            time_ns=self.clock.now_ns(),
        )
        self.venue.fills.append(one)
        state = VenueOrderState.FILLED if done == QUANTITY else VenueOrderState.WORKING
        self.change(replace(order, filled_quantity=done, state=state))
        if self.alive:
            self.pushes.append(one)

    def open_rows(self) -> list[VenueOrder]:
        return [row for row in self.venue.orders.values() if row.state is VenueOrderState.WORKING]

    @precondition(lambda self: self.open_rows())
    @rule(data=st.data(), amount=st.sampled_from([1, 4, 10]), cancels=st.booleans())
    def trade_or_cancel(self, data: st.DataObject, amount: int, cancels: bool) -> None:
        """The market moves, or the venue cancels: perhaps while we are cancelling too."""
        order = data.draw(st.sampled_from(self.open_rows()))
        if cancels:
            self.change(replace(order, state=VenueOrderState.CANCELED, text="canceled"))
        else:
            self.trade(order, min(Decimal(amount), QUANTITY - (order.filled_quantity or ZERO)))

    # what the gateway hears

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def hear_answer(self, data: st.DataObject) -> None:
        self.hear_answer_at(data.draw(st.integers(0, len(self.answers) - 1)))

    def hear_answer_at(self, place: int) -> None:
        key, answer = self.answers.pop(place)
        if self.attempts.pop(key, None) is None:
            return
        order = self.order(key)
        assert order is not None
        facts = [refusal(answer)] if isinstance(answer, Refused) else facts_of_placed(answer, order)
        for fact in facts:
            self.account.apply(order.order_id, fact)

    @precondition(lambda self: any(one.stage == "sent" for one in self.attempts.values()))
    @rule(data=st.data())
    def lose_answer(self, data: st.DataObject) -> None:
        """A time-out, a reset, an unreadable reply: nobody can tell, and nothing is sent again."""
        self.lose(data.draw(st.sampled_from(sorted(key for key, one in self.attempts.items() if one.stage == "sent"))))

    def lose(self, key: str) -> None:
        del self.attempts[key]
        order = self.order(key)
        assert order is not None
        self.account.apply(order.order_id, OutcomeLost(cause="cut"))

    @precondition(lambda self: self.pushes)
    @rule(data=st.data(), keep=st.booleans(), tell=st.booleans())
    def hear_push(self, data: st.DataObject, keep: bool, tell: bool) -> None:
        """A push comes late, twice, out of order, or never."""
        place = data.draw(st.integers(0, len(self.pushes) - 1))
        push = self.pushes[place] if keep else self.pushes.pop(place)
        if tell:
            self.hear(push)

    def hear(self, push: VenueOrder | VenueFill) -> None:
        if isinstance(push, VenueFill):
            self.account.on_fill(push, self.clock.now_ns())
            return
        known = self.account.order_by_venue_client_id(push.venue_client_order_id or "")
        for fact in facts_of(push) if known is not None else ():
            self.account.apply(known.order_id, fact)  # type: ignore[union-attr]

    def askable(self) -> list[str]:
        open_keys = [order.terms.client_order_id for order in self.account.open_orders()]
        return [key for key in open_keys if key not in self.attempts]

    @precondition(lambda self: self.askable())
    @rule(data=st.data(), lag_ns=st.sampled_from([0, 5 * 10**8, SETTLE_NS - 1]), at_once=st.booleans())
    def ask(self, data: st.DataObject, lag_ns: int, at_once: bool) -> None:
        """A question by id leaves; what it will say is what a replica behind by `lag_ns` shows now."""
        key, now_ns = data.draw(st.sampled_from(self.askable())), self.clock.now_ns()
        order = self.order(key)
        assert order is not None
        view = self.venue.shown(order.venue_client_order_id, now_ns - lag_ns)
        if at_once:
            self.weigh(key, now_ns, view)
        else:
            self.questions.append((key, now_ns, view))

    @precondition(lambda self: self.questions)
    @rule(data=st.data(), tell=st.booleans())
    def hear_view(self, data: st.DataObject, tell: bool) -> None:
        """Its answer comes, perhaps much later than it was asked, or never."""
        key, asked_ns, view = self.questions.pop(data.draw(st.integers(0, len(self.questions) - 1)))
        if tell:
            self.weigh(key, asked_ns, view)

    def weigh(self, key: str, asked_ns: int, view: VenueOrder | None) -> None:
        order = self.order(key)
        assert order is not None
        if view is None:
            expires_ns = self.intents[key].expires_unix_nanos
            if proves_absence(order, asked_ns=asked_ns, last_arrival_ns=expires_ns, settle_ns=SETTLE_NS):
                self.account.apply(order.order_id, ProvedAbsent(evidence="unknown after its expiry"))
            return
        for fact in facts_of(view):
            order = self.account.apply(order.order_id, fact)
        if order.ending is not None or (view.filled_quantity or ZERO) > order.filled:
            self.fetch_fills()

    def fetch_fills(self) -> None:
        for one in self.venue.fills:
            self.account.on_fill(one, self.clock.now_ns())

    @precondition(lambda self: self.intents)
    @rule()
    def reconcile(self) -> None:
        """The open orders and fills, as after a reconnect."""
        now_ns = self.clock.now_ns()
        self.fetch_fills()
        snapshot = VenueSnapshot(
            taken_ns=now_ns,
            open_orders=self.open_rows(),
            positions=(),
            balances=(),
            summary=account_pb2.AccountSummary(),
        )
        plan = plan_orders(self.account.open_orders(), snapshot, settle_ns=SETTLE_NS)
        for order, view in plan.confirmed:
            for fact in facts_of(view, pb.ORIGIN_RECONCILIATION):
                self.account.apply(order.order_id, fact)
        for order in plan.to_query:
            key = order.terms.client_order_id
            if key not in self.attempts:
                self.weigh(key, now_ns, self.venue.shown(order.venue_client_order_id, now_ns))
        for view in plan.unexpected:
            known = self.account.order_by_venue_client_id(view.venue_client_order_id or "")
            if known is not None and held_absent(known):
                for fact in facts_of(view, pb.ORIGIN_RECONCILIATION):
                    self.account.apply(known.order_id, fact)

    # people

    @precondition(lambda self: self.uncertain())
    @rule(data=st.data())
    def declare_rejected(self, data: st.DataObject) -> None:
        """An operator says that it never got there. Operators can be wrong."""
        key = data.draw(st.sampled_from(self.uncertain()))
        order = self.order(key)
        assert order is not None
        self.declared.add(key)
        self.account.apply(order.order_id, OperatorActed(text="declare rejected by ops-1: sure"))
        self.account.apply(order.order_id, ProvedAbsent(evidence="ops-1", origin=pb.ORIGIN_OPERATOR))

    @precondition(lambda self: self.account.open_orders())
    @rule(data=st.data())
    def ask_to_cancel(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(self.account.open_orders()))
        self.account.apply(order.order_id, CancelRequested())

    # what holds at every moment

    @invariant()
    def never_sent_twice_and_never_without_an_intent(self) -> None:
        """Property 36."""
        for key in KEYS:
            assert self.sends[key] <= (1 if key in self.intents else 0)

    @invariant()
    def never_a_guess(self) -> None:
        """What is called rejected is not at the venue and can not get there; what is called acknowledged was there."""
        for key in KEYS:
            order = self.order(key)
            if order is None:
                continue
            check_invariants(order)
            outcome = outcome_of(order, in_flight=key in self.attempts)
            if outcome == wire.SUBMIT_OUTCOME_REJECTED and key not in self.declared:
                assert self.row(key) is None
                now_ns = self.clock.now_ns()
                arriving = [one for one in self.venue.wire if one.order.order_id == order.order_id]
                assert all(one.expires_ns < now_ns for one in arriving)
            if outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED:
                assert self.row(key) is not None

    @invariant()
    def what_was_known_is_not_unknown_again(self) -> None:
        """Only a crash forgets: an answer that gets lost after the stream told its contents makes nothing uncertain."""
        for key in self.answered:
            order = self.order(key)
            assert order is not None
            assert not order.uncertain
        known = [order for order in self.account.all_orders() if order.status not in UNANSWERED]
        self.answered.update(order.terms.client_order_id for order in known)

    @invariant()
    def fills_are_the_venues_and_versions_have_no_holes(self) -> None:
        """Filled quantity is made of fills that happened, and a log that a crash cut still counts on."""
        real = {one.execution_id for one in self.venue.fills}
        versions: dict[str, int] = {}
        for event in [*self.events, *self.log.events]:
            report = event.execution_report
            if report.HasField("order"):
                name = report.order.order_id
                assert report.order.order_version == versions.get(name, 0) + 1
                versions[name] = report.order.order_version
        assert all(order.execution_ids <= real for order in self.account.all_orders())

    def teardown(self) -> None:
        """In the end, with everything asked once more, the gateway knows what the venue knows."""
        if not hasattr(self, "venue"):
            return
        for key in list(self.attempts):
            order = self.order(key)
            if order is not None:
                self.account.apply(order.order_id, OutcomeLost(cause="stopped"))
        for key, attempt in self.attempts.items():
            if attempt.stage == "journalled":
                self.adopt(self.intents[key])
        self.attempts.clear()
        self.clock.advance(60)
        self.venue.wire.clear()
        self.reconcile()
        for key in KEYS:
            order, row = self.order(key), self.row(key)
            if order is not None and not order.terminal:
                self.weigh(key, self.clock.now_ns(), row)
        self.never_a_guess()
        for key in KEYS:
            self.check_truth(key, self.order(key), self.row(key))
        position = self.account.positions.get(SYMBOL)
        bought = sum((one.quantity for one in self.venue.fills), ZERO)
        assert (position.quantity if position else ZERO) == bought

    def check_truth(self, key: str, order: OrderState | None, row: VenueOrder | None) -> None:
        assert (order is not None) == (key in self.intents)
        if order is None:
            assert row is None
            return
        assert not order.uncertain
        assert order.ending is None
        filled = row.filled_quantity if row else ZERO
        assert order.filled == filled
        states: dict[Any, Any] = {
            None: pb.ORDER_STATUS_REJECTED,
            VenueOrderState.CANCELED: pb.ORDER_STATUS_CANCELED,
            VenueOrderState.FILLED: pb.ORDER_STATUS_FILLED,
            VenueOrderState.WORKING: pb.ORDER_STATUS_PARTIALLY_FILLED if filled else pb.ORDER_STATUS_NEW,
        }
        if key in self.declared and order.terminal and row is not None and row.state is VenueOrderState.CANCELED:
            # An operator's rejection of an order that came, filled nothing and went: as good as the truth.
            assert order.status in (pb.ORDER_STATUS_REJECTED, pb.ORDER_STATUS_CANCELED)
            return
        assert order.status == states[row.state if row else None]


SubmitProtocol.TestCase.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_submit_protocol = SubmitProtocol.TestCase
