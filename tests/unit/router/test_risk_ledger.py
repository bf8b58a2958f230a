"""Totals per limit against a slow model, and what many orders at once can take."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from router import risk_ledger as kinds
from router.risk import check_order
from router.risk_ledger import Claim, Ledger, OrderKey, Place
from router.risk_reservations import Reservations, reservation_of
from tests.unit.router.risk_facts import limit, order
from venuemesh.errors import MeshError
from venuemesh.v1 import risk_pb2, stream_pb2

VENUES, ACCOUNTS, SYMBOLS = ("one", "two"), ("main", "sub"), ("BTC/USDC:USDC", "ETH/USDC:USDC")
PLACES = [(venue, account, symbol) for venue in VENUES for account in ACCOUNTS for symbol in SYMBOLS]
NUMBER = st.decimals(min_value=0, max_value=10**6, places=6, allow_nan=False)
SIGNED = st.decimals(min_value=-(10**6), max_value=10**6, places=6, allow_nan=False)
PLACE = st.sampled_from(PLACES)
SCOPE = st.fixed_dictionaries(
    {},
    optional={
        "venue": st.sampled_from(VENUES),
        "account_id": st.sampled_from(ACCOUNTS),
        "symbol": st.sampled_from(SYMBOLS),
    },
)
LIMITS = st.lists(
    st.builds(lambda kind, scope: limit(kind, "1", **scope), st.sampled_from(sorted(kinds.TALLIED)), SCOPE),
    max_size=6,
    unique_by=lambda one: (one.scope, one.limit_type),
)
CLAIM = st.builds(
    lambda place, buy, quantity, reduces: Claim(place=place, is_buy=buy, quantity=quantity, reduce_only=reduces),
    PLACE,
    st.booleans(),
    NUMBER,
    st.booleans(),
)
STEP = st.one_of(
    st.tuples(st.just("position"), PLACE, SIGNED),
    st.tuples(st.just("claim"), st.integers(0, 7), st.none() | CLAIM),
    st.tuples(st.just("mark"), PLACE, st.none() | NUMBER),
    st.tuples(st.just("limits"), st.none(), LIMITS),
)


class Model:
    """The same by adding everything up, in fractions."""

    def __init__(self) -> None:
        self.positions: dict[Place, Decimal] = {}
        self.claims: dict[OrderKey, Claim] = {}
        self.marks: dict[tuple[str, str], Decimal] = {}

    def used(self, one: kinds.Limit) -> Fraction | None:
        """What a limit has in use."""
        groups: dict[str, list[Place]] = {}
        for place in PLACES:
            if one.scope.covers(*place):
                groups.setdefault(place[2] if one.limit_type in kinds.BY_SYMBOL else "", []).append(place)
        values = [self._group(one.limit_type, places) for places in groups.values()]
        known = [value for value in values if value is not None]
        return None if len(known) < len(values) else max(known, default=Fraction(0))

    def _group(self, kind: int, places: list[Place]) -> Fraction | None:
        orders, long, short, gross = 0, Fraction(0), Fraction(0), Fraction(0)
        for place in places:
            claims = [claim for claim in self.claims.values() if claim.place == place]
            orders += len(claims)
            live = [claim for claim in claims if not claim.reduce_only]
            here = Fraction(self.positions.get(place, Decimal(0)))
            up = here + sum((Fraction(claim.quantity) for claim in live if claim.is_buy), Fraction(0))
            down = here - sum((Fraction(claim.quantity) for claim in live if not claim.is_buy), Fraction(0))
            if kind in kinds.PRICED and (up or down):
                mark = self.marks.get((place[0], place[2]))
                if mark is None:
                    return None
                up, down = up * Fraction(mark), down * Fraction(mark)
            long, short, gross = long + up, short + down, gross + max(abs(up), abs(down))
        if kind == kinds.MAX_OPEN_ORDERS:
            return Fraction(orders)
        return gross if kind == kinds.MAX_GROSS_EXPOSURE else max(abs(long), abs(short))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=25), LIMITS)
def test_totals_kept_as_things_change_equal_totals_added_up(steps: list[Any], last: list[kinds.Limit]) -> None:
    """Property 26, for exposure: whatever the order of changes, and whenever limits are set."""
    ledger, model = Ledger(), Model()
    for what, where, value in steps:
        match what:
            case "position":
                ledger.set_position(where, value)
                model.positions[where] = value
            case "claim":
                key = ("one", "main", str(where))
                ledger.set_claim(key, value)
                model.claims.pop(key, None)
                if value is not None:
                    model.claims[key] = value
            case "mark":
                ledger.set_mark(where[0], where[2], value)
                model.marks.pop((where[0], where[2]), None)
                if value is not None:
                    model.marks[(where[0], where[2])] = value
            case _:
                ledger.set_limits(value)
    ledger.set_limits(last)
    for one in last:
        found = ledger.used(one)
        assert (None if found is None else Fraction(found)) == model.used(one)


# --- many routers ---


class Log:
    """The reservation log and the account's stream, as several routers read them at their own pace."""

    def __init__(self, routers: int, bound: str) -> None:
        self.batches: list[risk_pb2.RiskReservationBatch] = []
        self.events: list[tuple[OrderKey, Claim | None, str]] = []
        self.routers = [Replica(bound) for _ in range(routers)]


class Replica:
    """One router."""

    def __init__(self, bound: str) -> None:
        self.ledger = Ledger()
        self.ledger.set_limits([limit(kinds.MAX_POSITION_QUANTITY, bound), limit(kinds.MAX_OPEN_ORDERS, "4")])
        self.ledger.rebuilt.add(("one", "main"))
        self.book = Reservations(self.ledger)
        self.viewed = 0
        self.untold: dict[OrderKey, risk_pb2.RiskRelease] = {}
        """Releases that its next message carries."""


def read_log(log: Log, router: Replica) -> None:
    """Read everything that was appended."""
    for sequence, batch in enumerate(log.batches[router.book.seen :], start=router.book.seen + 1):
        router.book.apply(batch, sequence)


def read_event(log: Log, router: Replica) -> None:
    """Read one event of the account."""
    if router.viewed >= len(log.events):
        return
    key, claim, position = log.events[router.viewed]
    router.viewed += 1
    router.ledger.set_position(("one", "main", SYMBOLS[0]), Decimal(position))
    if router.book.show(key, claim):
        router.untold[key] = release_of(key, router.viewed)
    router.book.advance(("one", "main"), "e", router.viewed)


def release_of(key: OrderKey, sequence: int) -> risk_pb2.RiskRelease:
    """That the account's event of this number shows the order."""
    shown_at = stream_pb2.StreamPosition(epoch="e", sequence=sequence)
    return risk_pb2.RiskRelease(venue=key[0], account_id=key[1], client_order_id=key[2], shown_at=shown_at)


ACTION = st.tuples(
    st.sampled_from(["submit", "log", "event", "gateway", "fill", "release", "complete"]), st.integers(0, 9)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ACTION, max_size=60), st.integers(1, 3))
@example([("submit", 0), ("submit", 2), ("gateway", 0), ("event", 0), ("complete", 0), ("submit", 1)], 2)
def test_concurrent_orders_never_pass_a_limit_together(actions: list[tuple[str, int]], routers: int) -> None:
    """Routers append only what they judged on everything before; whatever is read late, sent late, filled or told
    late, the orders admitted never hold more than the limits."""
    log = Log(routers, "5")
    truth: dict[OrderKey, Decimal] = {}
    waiting: list[tuple[OrderKey, Claim]] = []
    live: list[tuple[OrderKey, Claim]] = []
    position = Decimal(0)
    for number, (what, pick) in enumerate(actions):
        router = log.routers[pick % routers]
        if what == "submit":
            wanted = order(f"k{number}", str(pick % 3 + 1), leverage=None, price=None, symbol=SYMBOLS[0])
            # The compare-and-set of the broker: nobody appends without having read all before.
            read_log(log, router)
            try:
                claim = check_order(router.ledger, wanted, [("one", "main")])
            except MeshError:
                continue
            batch = risk_pb2.RiskReservationBatch(reserved=[reservation_of(wanted.key, claim, 0)])
            log.batches.append(batch)
            router.book.apply(batch, len(log.batches))
            truth[wanted.key] = wanted.quantity
            waiting.append((wanted.key, claim))
        elif what == "log":
            read_log(log, router)
        elif what == "event":
            read_event(log, router)
        elif what == "gateway" and waiting:
            key, claim = waiting.pop(pick % len(waiting))
            live.append((key, claim))
            log.events.append((key, claim, str(position)))
        elif what == "fill" and live:
            key, claim = live.pop(pick % len(live))
            position += claim.quantity
            log.events.append((key, None, str(position)))
        elif what == "release" and log.events:
            # Whoever has seen an order tells the others, who may be behind.
            if not router.viewed:
                continue
            release = release_of(log.events[router.viewed - 1][0], router.viewed)
            read_log(log, router)
            log.batches.append(risk_pb2.RiskReservationBatch(released=[release]))
            router.book.apply(log.batches[-1], len(log.batches))
        elif what == "complete":
            read_log(log, router)
            # What it no longer holds because its own view has come so far is told with it: others may be behind.
            batch = risk_pb2.RiskReservationBatch(
                reserved=router.book.outstanding(), released=router.untold.values(), complete=True
            )
            router.untold.clear()
            log.batches.append(batch)
            router.book.apply(log.batches[-1], len(log.batches))
        assert position + sum(claim.quantity for _, claim in [*waiting, *live]) <= 5
        assert len(waiting) + len(live) <= 4
    # Whoever reserved tells when its own view shows the order; one that saw it end before it read of the reservation
    # waits for that. When all is told and read, nothing is counted twice and nothing is left behind.
    for number, (key, _, _) in enumerate(log.events, start=1):
        log.batches.append(risk_pb2.RiskReservationBatch(released=[release_of(key, number)]))
    for router in log.routers:
        read_log(log, router)
        while router.viewed < len(log.events):
            read_event(log, router)
        used = {one.limit_type: router.ledger.used(one) for one in router.ledger.limits}
        assert used[kinds.MAX_OPEN_ORDERS] == len(waiting) + len(live)
        assert used[kinds.MAX_POSITION_QUANTITY] == position + sum(claim.quantity for _, claim in [*waiting, *live])
    assert set(truth) >= {key for key, _ in [*waiting, *live]}
