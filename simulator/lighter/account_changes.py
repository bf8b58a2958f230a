"""Transactions about accounts: leverage, margin, money, keys, approvals. Pure; see `execution`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from simulator.engine.engine import SPOT_WALLET
from simulator.engine.values import ZERO
from simulator.lighter import funds
from simulator.lighter.accounts import ApiKey, Approval
from simulator.lighter.errors import Code, Refused
from simulator.lighter.markets import COLLATERAL, MARGIN_TICKS, POOL, QUOTE_DECIMALS
from simulator.lighter.order_rules import find_market
from simulator.lighter.transaction_log import Record
from simulator.lighter.venue import LighterVenue

REMOVE, ADD = 0, 1
PERP_ROUTE = 0


def update_leverage(venue: LighterVenue, record: Record, _now_ms: int) -> dict[str, Any]:
    """Type 20: mode changes only without position and orders; more margin must be there."""
    fields = record.tx.fields
    account = venue.accounts.get(record.tx.account)
    spec = find_market(venue.markets, fields["MarketIndex"])
    instrument = venue.market(spec).instrument
    ledger = funds.ledger_of(venue, account.name)
    setting = ledger.setting(instrument)
    position = ledger.positions.get(spec.key)
    held = position is not None and bool(position.quantity)
    busy = held or any(order.instrument == spec.key for order in venue.engine.live_orders(account.name))
    cross = fields["MarginMode"] == 0
    if busy and cross != setting.cross:
        raise Refused(Code.MARGIN_MODE_CHANGE)
    before = setting.cross, setting.value, setting.fraction
    ticks = fields["InitialMarginFraction"]
    setting.cross, setting.value, setting.fraction = cross, MARGIN_TICKS // ticks, Decimal(ticks) / MARGIN_TICKS
    if busy and funds.free_margin(venue, account.name) < 0:
        setting.cross, setting.value, setting.fraction = before
        raise Refused(Code.BELOW_INITIAL)
    if held and position is not None:
        position.leverage, position.fraction = setting.value, setting.fraction
    account.margin_set.add(spec.market_id)
    venue.touch(account.name, spec.market_id)
    return {"a": account.index, "m": spec.market_id, "imf": ticks, "mm": fields["MarginMode"]}


def update_margin(venue: LighterVenue, record: Record, now_ms: int) -> dict[str, Any]:
    """Type 29: into or out of an isolated position."""
    fields = record.tx.fields
    account = venue.accounts.get(record.tx.account)
    spec = find_market(venue.markets, fields["MarketIndex"])
    ledger = funds.ledger_of(venue, account.name)
    position = ledger.positions.get(spec.key)
    if position is None or not position.quantity or not position.isolated:
        raise Refused(Code.NO_POSITION)
    amount = Decimal(fields["USDCAmount"]).scaleb(-QUOTE_DECIMALS)
    market = venue.market(spec)
    if fields["Direction"] == ADD:
        if amount > funds.available(venue, account.name):
            raise Refused(Code.NOT_ENOUGH_COLLATERAL)
    else:
        needed = position.initial_margin(abs(position.quantity) * market.mark)
        if ledger.isolated_value(spec.key, market.mark) - amount < needed:
            raise Refused(Code.BELOW_INITIAL)
        amount = -amount
    ledger.cash -= amount
    position.cash += amount
    venue.engine.emit_settled(account.name, market.instrument, now_ms)
    return {"a": account.index, "m": spec.market_id}


def _free(venue: LighterVenue, name: str, route: int, symbol: str) -> Decimal:
    """What may leave one side of an account."""
    if route == PERP_ROUTE:
        return funds.available(venue, name) if symbol == COLLATERAL else ZERO
    return venue.engine.open_account(name).balance(symbol).available


def _wallet(route: int) -> str:
    return POOL if route == PERP_ROUTE else SPOT_WALLET


def transfer(venue: LighterVenue, record: Record, now_ms: int) -> dict[str, Any]:
    """Type 12: between accounts or between the sides of one."""
    fields = record.tx.fields
    account = venue.accounts.get(record.tx.account)
    other = venue.accounts.get(fields["ToAccountIndex"])
    asset = venue.markets.assets[fields["AssetIndex"]]
    amount = Decimal(fields["Amount"]).scaleb(-asset.decimals)
    source, destination = fields["FromRouteType"], fields["ToRouteType"]
    if amount > _free(venue, account.name, source, asset.symbol):
        raise Refused(Code.NOT_ENOUGH_COLLATERAL if source == PERP_ROUTE else Code.NOT_ENOUGH_BALANCE)
    if destination == PERP_ROUTE and asset.symbol != COLLATERAL:
        raise Refused(Code.INVALID_ROUTE)
    venue.engine.transfer(account.name, _wallet(source), other.name, _wallet(destination), asset.symbol, amount, now_ms)
    return {"fa": account.index, "ta": other.index, "aa": fields["Amount"]}


def withdraw(venue: LighterVenue, record: Record, now_ms: int) -> dict[str, Any]:
    """Type 13: leaves at once; the claim on the other chain is not simulated."""
    fields = record.tx.fields
    account = venue.accounts.get(record.tx.account)
    asset = venue.markets.assets[fields["AssetIndex"]]
    amount = Decimal(fields["Amount"]).scaleb(-asset.decimals)
    if amount > _free(venue, account.name, fields["RouteType"], asset.symbol):
        raise Refused(Code.NOT_ENOUGH_COLLATERAL)
    venue.engine.withdraw(account.name, _wallet(fields["RouteType"]), asset.symbol, amount, now_ms)
    return {"a": account.index, "aa": fields["Amount"]}


def change_key(venue: LighterVenue, record: Record, now_ms: int) -> dict[str, Any]:
    """Type 8: the key of an index is registered or replaced."""
    tx = record.tx
    account = venue.accounts.get(tx.account)
    account.keys[tx.api_key] = ApiKey(
        index=tx.api_key,
        public_key=tx.public_key,
        next_nonce=max(tx.nonce + 1, account.keys[tx.api_key].next_nonce if tx.api_key in account.keys else 0),
        changed_us=venue.micros(now_ms),
    )
    return {"a": account.index, "k": tx.api_key}


def create_sub_account(venue: LighterVenue, record: Record, now_ms: int) -> dict[str, Any]:
    """Type 9."""
    master = venue.accounts.get(record.tx.account)
    found = venue.accounts.add_sub(master, venue.micros(now_ms))
    venue.engine.open_account(found.name)
    venue.set_tier(found, found.tier.name, now_ms)
    return {"a": master.index, "sa": found.index}


def approve_integrator(venue: LighterVenue, record: Record, _now_ms: int) -> dict[str, Any]:
    """Type 45: caps of zero with an expiry of zero take the approval back."""
    fields = record.tx.fields
    account = venue.accounts.get(record.tx.account)
    integrator = fields["IntegratorAccountIndex"]
    account.approvals.pop(integrator, None)
    if fields["ApprovalExpiry"]:
        account.approvals[integrator] = Approval(
            integrator=integrator,
            perps_taker=fields["MaxPerpsTakerFee"],
            perps_maker=fields["MaxPerpsMakerFee"],
            spot_taker=fields["MaxSpotTakerFee"],
            spot_maker=fields["MaxSpotMakerFee"],
            expiry_ms=fields["ApprovalExpiry"],
        )
    return {"a": account.index, "ia": integrator}


def update_config(venue: LighterVenue, record: Record, _now_ms: int) -> dict[str, Any]:
    """Type 41: kept and shown; the two kinds of balance stay apart here all the same."""
    account = venue.accounts.get(record.tx.account)
    account.trading_mode = record.tx.fields["AccountTradingMode"]
    return {"a": account.index}


def update_asset_config(_venue: LighterVenue, record: Record, _now_ms: int) -> dict[str, Any]:
    """Type 42: accepted without effect; only USDC is collateral here."""
    return {"a": record.tx.account}
