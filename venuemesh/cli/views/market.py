"""Venues and prices. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from venuemesh.cli.grids import ABSENT, Facts, Grid, Part, instant, length, length_of, moment, word, words
from venuemesh.money import format_decimal
from venuemesh.v1 import order_pb2, stream_pb2

_PPM = 10_000


def venues(answer: Any) -> list[Part]:
    """All venues, a line each."""
    rows = [
        (
            venue.venue,
            word(venue, "environment"),
            word(venue.status, "state"),
            " ".join(venue.account_ids),
            _links(venue.status.links),
            moment(venue.status.since),
            venue.status.cause,
        )
        for venue in answer.venues
    ]
    return [Grid(columns=("venue", "environment", "state", "accounts", "links", "since", "cause"), rows=rows)]


def _links(links: Sequence[Any]) -> str:
    live = sum(link.state == stream_pb2.LINK_STATE_LIVE for link in links)
    return f"{live} of {len(links)} live"


def venue(answer: Any) -> list[Part]:
    """One venue: how it is and what it can do."""
    one, can = answer.venue, answer.venue.capabilities
    offered = [
        (name, word(can, field))
        for name, field in (
            ("amendments", "amend_mode"),
            ("cancel-all", "cancel_all"),
            ("dead-man's switch", "dead_mans_switch"),
            ("brackets", "brackets"),
            ("TWAP", "twap"),
        )
    ]
    head = Facts(
        rows=[
            ("venue", one.venue),
            ("environment", word(one, "environment")),
            ("accounts", " ".join(one.account_ids)),
            ("state", word(one.status, "state")),
            ("cause", one.status.cause),
            ("gateway version", one.gateway_version),
            *offered,
            ("absence is proof after", length(can.settle_delay)),
        ]
    )
    types = Grid(
        columns=("order type", "times in force", "instructions"),
        rows=[
            (
                word(support, "order_type"),
                words(order_pb2.TimeInForce.DESCRIPTOR, support.times_in_force),
                words(order_pb2.ExecutionInstruction.DESCRIPTOR, support.instructions),
            )
            for support in can.order_types
        ],
        title="orders it takes",
    )
    return [head, types, _link_rows(one.status.links)]


def _link_rows(links: Sequence[Any]) -> Grid:
    rows = [
        (
            link.link_id,
            word(link, "state"),
            f"{link.uptime_ppm / _PPM:.2f}%",
            f"{link.error_rate_ppm / _PPM:.2f}%",
            length_of(link, "latency_p50"),
            str(link.reconnections),
            moment(link.last_message_time) if link.HasField("last_message_time") else ABSENT,
            link.cause,
        )
        for link in links
    ]
    columns = ("link", "state", ">up", ">errors", ">median", ">reconnections", "last message", "cause")
    return Grid(columns=columns, rows=rows, title="links")


def book(answer: Any) -> list[Part]:
    """Asks above bids, best in the middle, with what lies up to each level."""
    found = answer.order_book
    consolidated = any(level.venue for level in (*found.bids, *found.asks))
    columns = ("side", ">price", ">quantity", ">up to here", *(("venue",) if consolidated else ()))
    asks = _levels("SELL", found.asks, consolidated)
    rows = [*reversed(asks), *_levels("BUY", found.bids, consolidated)]
    parts: list[Part] = [f"{found.symbol} {found.venue or 'over all venues'}"]
    if found.freshness == stream_pb2.FRESHNESS_STALE:
        parts.append(f"STALE, do not trade on it: {found.stale_cause}")
    parts.append(Grid(columns=columns, rows=rows, empty="no prices"))
    if found.bids and found.asks:
        gap = Decimal(found.asks[0].price) - Decimal(found.bids[0].price)
        parts.append(f"spread {format_decimal(gap)}, read {moment(found.received_time)}")
    if found.left_out:
        parts.append("left out: " + "; ".join(found.left_out))
    return parts


def _levels(side: str, levels: Sequence[Any], consolidated: bool) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    total = Decimal(0)
    for level in levels:
        total += Decimal(level.quantity)
        row = (side, level.price, level.quantity, format_decimal(total))
        rows.append((*row, level.venue) if consolidated else row)
    return rows


def trades(found: Sequence[Any]) -> list[Part]:
    """Public trades, a line each."""
    rows = [trade_row(trade) for trade in found]
    return [Grid(columns=("time", "venue", "taker", ">price", ">quantity", "trade id"), rows=rows, empty="no trades")]


def trade_row(trade: Any) -> tuple[str, ...]:
    """One trade."""
    at, taker = instant(trade.venue_unix_nanos), word(trade, "aggressor_side")
    return (at, trade.venue, taker, trade.price, trade.quantity, trade.trade_id)
