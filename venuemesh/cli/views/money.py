"""Positions, balances and the portfolio. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from venuemesh.cli.grids import Grid, Part, given, moment, word


def positions(found: Sequence[Any]) -> list[Part]:
    """Positions, a line each."""
    columns = (
        "account",
        "venue",
        "symbol",
        ">quantity",
        ">entry",
        ">mark",
        ">unrealized",
        ">realized",
        ">fees",
        ">funding",
        "asset",
        ">liquidation",
        ">distance bps",
        "margin",
    )
    rows = [
        (
            one.account_id,
            one.venue,
            one.symbol,
            one.quantity,
            given(one, "entry_price"),
            given(one, "mark_price"),
            given(one, "unrealized_pnl"),
            one.realized_pnl,
            one.fees_paid,
            one.funding_received,
            one.settle_asset,
            given(one, "liquidation_price"),
            given(one, "liquidation_distance_bps"),
            " ".join(filter(None, (word(one, "margin_mode"), f"{one.leverage}x" if one.HasField("leverage") else ""))),
        )
        for one in found
    ]
    return [Grid(columns=columns, rows=rows, empty="no open positions")]


def balances(found: Sequence[Any]) -> list[Part]:
    """Balances, a line each."""
    rows = [
        (one.account_id, one.venue, one.venue_section, one.asset, one.total, one.available, moment(one.updated_time))
        for one in found
    ]
    columns = ("account", "venue", "section", "asset", ">total", ">available", "updated")
    return [Grid(columns=columns, rows=rows, empty="no balances")]


def portfolio(found: Any) -> list[Part]:
    """Totals, net positions, what is open, and what is not current."""
    parts: list[Part] = [_totals(found.totals), _net(found.net_positions)]
    working = [order for account in found.accounts for order in account.orders]
    if working:
        parts.append(f"{len(working)} order{'s' if len(working) > 1 else ''} working or uncertain")
    parts += [f"{total.asset} leaves out: {'; '.join(total.leaves_out)}" for total in found.totals if total.leaves_out]
    parts += [f"STALE {stale.part} since {moment(stale.since)}: {stale.cause}" for stale in found.stale_parts]
    parts.append(f"as of {moment(found.as_of_time)}, position {found.position.sequence}")
    return parts


def _totals(totals: Sequence[Any]) -> Grid:
    columns = (
        "asset",
        ">equity",
        ">balance",
        ">margin used",
        ">unrealized",
        ">realized",
        ">fees",
        ">funding",
        ">gross",
        ">net",
        ">leverage",
    )
    rows = [
        (
            one.asset,
            one.equity,
            one.balance,
            one.margin_used,
            one.unrealized_pnl,
            one.realized_pnl,
            one.fees_paid,
            one.funding_received,
            one.gross_exposure,
            one.net_exposure,
            given(one, "leverage"),
        )
        for one in totals
    ]
    return Grid(columns=columns, rows=rows, title="totals", empty="nothing yet")


def _net(net_positions: Sequence[Any]) -> Grid:
    rows = [
        (
            net.symbol,
            net.quantity,
            net.gross_quantity,
            given(net, "notional"),
            given(net, "unrealized_pnl"),
            " ".join(f"{part.venue}/{part.account_id}:{part.quantity}" for part in net.positions),
        )
        for net in net_positions
        if net.gross_quantity != "0"
    ]
    columns = ("symbol", ">net", ">gross", ">notional", ">unrealized", "where")
    return Grid(columns=columns, rows=rows, title="net positions", empty="flat")
