"""Routes, risk, stuck orders, audit and dead letters. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from venuemesh.cli.grids import ABSENT, Facts, Grid, Part, given, length_of, moment, scope, word
from venuemesh.cli.views.orders import reason_word, status, terms_in_words


def plan(answer: Any) -> list[Part]:
    """Where an order would go, at what price, and why the others lost."""
    found = answer.plan
    facts = Facts(
        rows=[
            ("strategy", word(found, "strategy")),
            ("expected price", given(found, "expected_price")),
            ("expected fee", given(found, "expected_fee")),
            ("slippage bps", given(found, "slippage_bps")),
            ("why", found.explanation),
        ]
    )
    legs = [(leg.venue, leg.quantity, given(leg, "expected_price")) for leg in found.legs]
    return [
        facts,
        Grid(columns=("venue", ">quantity", ">expected price"), rows=legs, title="goes to", empty="nowhere"),
        _candidates(found.candidates),
    ]


def _candidates(candidates: Sequence[Any]) -> Grid:
    rows = [
        (
            one.venue,
            "yes" if one.eligible else reason_word(one.reason) or "no",
            given(one, "expected_price"),
            given(one, "slippage_bps"),
            given(one, "fee_rate"),
            given(one, "expected_funding"),
            given(one, "available_quantity"),
            given(one, "score"),
            length_of(one, "book_age"),
            one.message,
        )
        for one in candidates
    ]
    columns = (
        "venue",
        "eligible",
        ">price",
        ">slippage bps",
        ">fee rate",
        ">funding",
        ">available",
        ">score",
        ">book age",
        "why",
    )
    return Grid(columns=columns, rows=rows, title="venues looked at")


def routing_outcomes(answer: Any) -> list[Part]:
    """Decisions with what they cost in the end."""
    rows = [
        (
            moment(one.route.created_time),
            one.route.order.client_order_id,
            one.route.order.symbol,
            word(one.route.order, "side"),
            one.route.order.quantity,
            word(one.route.plan, "strategy"),
            " ".join(f"{leg.venue}:{leg.quantity}" for leg in one.route.plan.legs),
            given(one.route.plan, "expected_price"),
            given(one.route, "average_price"),
            given(one, "price_error_bps"),
            given(one, "fees_paid"),
            word(one.route, "status"),
        )
        for one in answer.outcomes
    ]
    columns = (
        "decided",
        "client order id",
        "symbol",
        "side",
        ">quantity",
        "strategy",
        "went to",
        ">expected",
        ">paid",
        ">error bps",
        ">fees",
        "status",
    )
    return [Grid(columns=columns, rows=rows, empty="no routed orders")]


def risk(answer: Any) -> list[Part]:
    """Everything about risk now."""
    found = answer.risk_state
    states = [
        (scope(one.scope), word(one, "state"), one.set_by, one.reason, moment(one.set_time))
        for one in found.trading_states
    ]
    limits = [
        (scope(one.scope), word(one, "limit_type"), one.limit, one.used or ABSENT, str(one.version))
        for one in found.limits
    ]
    switches = [
        (one.switch_id, one.account_id, word(one, "state"), moment(one.deadline), _switch_venues(one.venues))
        for one in found.dead_mans_switches
    ]
    return [
        *kill_switches(found),
        Grid(columns=("scope", "trading", "by", "why", "since"), rows=states, title="trading", empty="ACTIVE"),
        Grid(columns=("scope", "limit", ">bound", ">used", ">version"), rows=limits, title="limits"),
        Grid(
            columns=("switch", "account", "state", "fires", "venues"),
            rows=switches,
            title="dead-man's switches",
        ),
    ]


def _switch_venues(venues: Sequence[Any]) -> str:
    return " ".join(f"{one.venue}:{word(one, 'provision').lower()}" for one in venues)


def kill_switches(state: Any) -> list[Part]:
    """Every kill switch that is engaged, widest scope first."""
    return [part for one in state.kill_switches or [state.kill_switch] for part in kill_switch(one)]


def kill_switch(found: Any) -> list[Part]:
    """Whether it is engaged, and what is left per venue."""
    facts = Facts(
        rows=[
            ("kill switch", "ENGAGED" if found.engaged else "released"),
            *(
                [
                    ("scope", scope(found.scope)),
                    ("by", found.engaged_by),
                    ("why", found.reason),
                    ("since", moment(found.engaged_time)),
                ]
                if found.engaged
                else []
            ),
        ]
    )
    rows = [
        (
            one.venue,
            "verified" if one.verified else "not verified",
            str(one.canceled_orders),
            str(one.remaining_orders),
            one.message,
        )
        for one in found.venues
    ]
    columns = ("venue", "no order left", ">cancelled", ">remaining", "why")
    return [facts, Grid(columns=columns, rows=rows, title="per venue")] if rows else [facts]


def trading_state(answer: Any) -> list[Part]:
    """A trading state in force."""
    one = answer.trading_state
    rows = [("scope", scope(one.scope)), ("trading", word(one, "state")), ("by", one.set_by), ("why", one.reason)]
    return [Facts(rows=rows)]


def limit(answer: Any) -> list[Part]:
    """A limit in force."""
    if not answer.HasField("limit"):
        return ["the limit is removed"]
    one = answer.limit
    rows = [("scope", scope(one.scope)), ("limit", word(one, "limit_type")), ("bound", one.limit), ("used", one.used)]
    return [Facts(rows=[*rows, ("version", str(one.version))])]


def stuck(answer: Any) -> list[Part]:
    """Uncertain orders with what is known about each."""
    parts: list[Part] = []
    for one in answer.uncertain_orders:
        order = one.order
        facts = [
            ("order id", order.order_id),
            ("venue", order.terms.venue),
            ("order", terms_in_words(order.terms)),
            ("status", status(order)),
            ("uncertain since", moment(order.uncertain_since)),
            ("absence is proof at", moment(one.settles_time) if one.HasField("settles_time") else ABSENT),
            *(("evidence", f"{moment(said.time)} {said.source}: {said.finding}") for said in one.evidence),
        ]
        parts.append(Facts(title=order.terms.client_order_id, rows=facts))
    return parts or ["no order is in doubt"]


def audit(answer: Any) -> list[Part]:
    """Requests to venues, a line each."""
    rows = [
        (
            moment(one.request_time),
            one.venue,
            one.account_id,
            one.endpoint,
            word(one, "outcome"),
            length_of(one, "latency"),
            str(one.http_status) if one.HasField("http_status") else ABSENT,
            one.order_id,
            one.detail,
        )
        for one in answer.audit_entries
    ]
    columns = ("time", "venue", "account", "endpoint", "outcome", ">latency", ">http", "order id", "detail")
    return [Grid(columns=columns, rows=rows, empty="no such request")]


def dead_letters(answer: Any) -> list[Part]:
    """Events that could not be handled, a line each."""
    rows = [
        (
            str(one.stream_sequence),
            moment(one.failed_time),
            one.handler,
            one.subject,
            one.error,
            moment(one.requeued_time) if one.HasField("requeued_time") else ABSENT,
            one.requeued_by,
        )
        for one in answer.dead_letters
    ]
    columns = (">number", "failed", "handler", "subject", "error", "put back", "by")
    return [Grid(columns=columns, rows=rows, empty="no dead letters")]
