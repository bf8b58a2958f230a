"""Accounts as the venue shows them: positions, balances, totals, funding, statistics. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from simulator.engine import risk
from simulator.engine.accounts import Position
from simulator.engine.events import FundingPaid
from simulator.engine.values import ZERO, OrderState
from simulator.lighter import funds
from simulator.lighter.accounts import LighterAccount
from simulator.lighter.markets import COLLATERAL_ASSET, POOL, MarketSpec, fixed, money
from simulator.lighter.venue import LighterVenue

MULTIPLIER = "1.000000000000000000"
DAY_MS = 86_400_000
_WAITING = frozenset({OrderState.WAITING_FOR_PARENT, OrderState.WAITING_FOR_TRIGGER})


def signed_zero(value: Decimal) -> str:
    """Six decimals; the venue writes a flat value as minus zero."""
    return "-0.000000" if not value else money(value)


def known_markets(venue: LighterVenue, account: LighterAccount) -> list[MarketSpec]:
    """Perpetual markets the account has touched."""
    ledger = funds.ledger_of(venue, account.name)
    live = {order.instrument for order in venue.engine.live_orders(account.name)}
    return [
        spec
        for spec in venue.markets.all
        if not spec.spot and (spec.key in ledger.positions or spec.key in live or spec.market_id in account.margin_set)
    ]


def position(venue: LighterVenue, account: LighterAccount, spec: MarketSpec) -> dict[str, Any]:
    """A position object; flat ones are shown too."""
    market = venue.market(spec)
    ledger = funds.ledger_of(venue, account.name)
    held = ledger.positions.get(spec.key, Position())
    setting = ledger.setting(market.instrument)
    live = [order for order in venue.engine.live_orders(account.name) if order.instrument == spec.key]
    liquidation = risk.liquidation_price(ledger, spec.key, venue.engine.markets) if held.quantity else None
    isolated = held.isolated if held.quantity else not setting.cross
    margin = held.cash + held.quantity * held.entry_price if held.quantity and isolated else ZERO
    row: dict[str, Any] = {
        "market_id": spec.market_id,
        "symbol": spec.symbol,
        "initial_margin_fraction": fixed(setting.initial_margin(Decimal(100)), 2),
        "open_order_count": len(live),
        "pending_order_count": sum(order.state in _WAITING for order in live),
        "position_tied_order_count": sum(order.follows_position for order in live),
        "sign": -1 if held.quantity < 0 else 1,
        "position": spec.size_text(abs(held.quantity)),
        "avg_entry_price": spec.price_text(round(held.entry_price, spec.price_decimals)),
        "position_value": signed_zero(abs(held.quantity) * market.mark),
        "unrealized_pnl": money(held.unrealised(market.mark)),
        "realized_pnl": money(realised(venue, account, spec)),
        "liquidation_price": "0" if liquidation is None else fixed(liquidation, 10).rstrip("0").rstrip("."),
        "margin_mode": int(isolated),
        "margin_set_flag": int(spec.market_id in account.margin_set),
        "allocated_margin": money(margin),
    }
    if held.funding_all_time:
        row["total_funding_paid_out"] = money(held.funding_all_time)
    return row


def realised(venue: LighterVenue, account: LighterAccount, spec: MarketSpec) -> Decimal:
    """Closed profit of a market, as far as fills are kept."""
    fills = venue.engine.fills(account.name)
    return sum((fill.closed_pnl for fill in fills if fill.instrument == spec.key), ZERO)


def assets(venue: LighterVenue, account: LighterAccount) -> dict[str, dict[str, Any]]:
    """Balances by asset id: USDC always, others once held."""
    owner = venue.engine.open_account(account.name)
    found: dict[str, dict[str, Any]] = {}
    for asset in venue.markets.assets.values():
        collateral = asset.asset_id == COLLATERAL_ASSET
        balance = owner.spot.get(asset.symbol)
        if balance is None and not collateral:
            continue
        total, hold = (balance.total, balance.hold) if balance else (ZERO, ZERO)
        margin = funds.collateral(venue, account.name) if collateral else ZERO
        found[str(asset.asset_id)] = {
            "symbol": asset.symbol,
            "asset_id": asset.asset_id,
            "balance": fixed(total, asset.decimals),
            "locked_balance": fixed(hold, asset.decimals),
            "margin_mode": "enabled" if collateral else "disabled",
            "margin_balance": fixed(margin, asset.decimals),
            "multiplier": MULTIPLIER,
        }
    return found


def summary(venue: LighterVenue, account: LighterAccount) -> dict[str, Any]:
    """A row of `accountsByL1Address`."""
    live = venue.engine.live_orders(account.name)
    return {
        "code": 0,
        "account_type": account.type,
        "index": account.index,
        "l1_address": account.l1_address,
        "cancel_all_time": account.cancel_all_ms,
        "total_order_count": len(live),
        "total_isolated_order_count": 0,
        "pending_order_count": sum(order.state in _WAITING for order in live),
        "available_balance": money(funds.available(venue, account.name)),
        "status": 1,
        "collateral": money(funds.collateral(venue, account.name)),
        "transaction_time": account.changed_us,
        "account_trading_mode": account.trading_mode,
    }


def detailed(venue: LighterVenue, account: LighterAccount, *, active_only: bool) -> dict[str, Any]:
    """A row of `account`."""
    ledger = funds.ledger_of(venue, account.name)
    markets = venue.engine.markets
    resting = risk.exposures(venue.engine.resting_orders(account.name, POOL))
    rows = [position(venue, account, spec) for spec in known_markets(venue, account)]
    if active_only:
        rows = [row for row in rows if Decimal(row["position"])]
    cross = funds.cross_value(venue, account.name)
    approvals = account.approvals.values()
    return summary(venue, account) | {
        "account_index": account.index,
        "name": "",
        "description": "",
        "can_invite": True,
        "referral_points_percentage": "",
        "can_rfq": False,
        "can_rfq_market_ids": [],
        "agent_enabled": False,
        "created_at": 0,
        "metadata": {"color": ""},
        "positions": rows,
        "assets": list(assets(venue, account).values()),
        "total_asset_value": money(cross + funds.isolated_value(venue, account.name)),
        "cross_asset_value": money(cross),
        "cross_initial_margin_requirement": money(risk.required_margin(ledger, resting, markets)),
        "cross_maintenance_margin_requirement": money(risk.cross_maintenance(ledger, markets)),
        "shares": [],
        "pending_unlocks": [],
        "approved_integrators": [
            {
                "account_index": item.integrator,
                "name": "",
                "max_perps_taker_fee": item.perps_taker,
                "max_perps_maker_fee": item.perps_maker,
                "max_spot_taker_fee": item.spot_taker,
                "max_spot_maker_fee": item.spot_maker,
                "approval_expiry": item.expiry_ms,
            }
            for item in approvals
        ],
    }


def user_stats(venue: LighterVenue, account: LighterAccount) -> dict[str, Any]:
    """`stats` of the channel `user_stats`."""
    ledger = funds.ledger_of(venue, account.name)
    markets = venue.engine.markets
    cross = funds.cross_value(venue, account.name)
    value = cross + funds.isolated_value(venue, account.name)
    notional = sum((abs(p.quantity) * markets[key].mark for key, p in ledger.open_positions()), ZERO)
    used = cross - funds.available(venue, account.name)
    free = funds.available(venue, account.name)
    stats = {
        "collateral": money(funds.collateral(venue, account.name) + funds.allocated(venue, account.name)),
        "portfolio_value": money(value),
        "leverage": fixed(notional / value, 2) if value > 0 else "0.00",
        "available_balance": money(free),
        "margin_usage": fixed(used / cross * 100, 2) if cross > 0 else "0.00",
        "buying_power": money(free * 20),
    }
    return {**stats, "account_trading_mode": account.trading_mode, "cross_stats": stats, "total_stats": stats}


def funding_row(venue: LighterVenue, event: FundingPaid) -> dict[str, Any]:
    """A payment of funding; `change` is negative when the account paid."""
    spec = venue.markets.by_key[event.instrument]
    return {
        "timestamp": event.time_ms // 1000,
        "market_id": spec.market_id,
        "funding_id": event.time_ms // 3_600_000 * 1000 + spec.market_id,
        "change": money(event.amount),
        "rate": fixed(event.rate * 100, 4),
        "position_size": spec.size_text(abs(event.quantity)),
        "position_side": "long" if event.quantity > 0 else "short",
        "discount": "0.000000",
    }


def fundings(venue: LighterVenue, account: LighterAccount) -> list[FundingPaid]:
    """Payments of an account, oldest first."""
    events = venue.engine.money_events(account.name)
    return [event for event in events if isinstance(event, FundingPaid)]


def volumes(venue: LighterVenue, account: LighterAccount, now_ms: int) -> dict[str, Any]:
    """Counts and volumes of `account_all`."""
    found: dict[str, Any] = {}
    trades = venue.tape.of_account(account.name)
    spans = {"daily": DAY_MS, "weekly": 7 * DAY_MS, "monthly": 30 * DAY_MS, "total": now_ms}
    for name, span in spans.items():
        kept = [item.trade for item in trades if item.trade.time_ms >= now_ms - span]
        found[f"{name}_trades_count"] = len(kept)
        found[f"{name}_volume"] = float(sum((item.quantity * item.price for item in kept), ZERO))
    return found


def by_market(rows: Iterable[dict[str, Any]], key: str = "market_id") -> dict[str, list[dict[str, Any]]]:
    """Rows in lists by market id as text."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(str(row[key]), []).append(row)
    return found
