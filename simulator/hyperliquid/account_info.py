"""`/info` answers about one account. Pure."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import Any

from simulator.engine import risk
from simulator.engine.accounts import Account, Ledger
from simulator.engine.engine import SPOT_WALLET
from simulator.engine.events import Event, Fill, FundingPaid, Liquidated, TransferKind, Transferred
from simulator.engine.market import Market
from simulator.engine.values import ZERO, Order, Side
from simulator.hyperliquid.decimals import money, ratio, text
from simulator.hyperliquid.registry import Profile
from simulator.hyperliquid.rows import (
    ZERO_HASH,
    basic_order,
    fill_row,
    frontend_order,
    funding_delta,
    historical_order,
    status,
    transaction_hash,
)
from simulator.hyperliquid.universe import MAKER_FEE, SPOT_MAKER_FEE, SPOT_TAKER_FEE, TAKER_FEE, Dex
from simulator.hyperliquid.venue import Venue

MAX_ROWS = 2000
MAX_FUNDINGS = 500
TOKEN_STEP = Decimal("0.00000001")


def _summary(value: Decimal, notional: Decimal, raw: Decimal, used: Decimal) -> dict[str, str]:
    return {
        "accountValue": money(value),
        "totalNtlPos": money(notional),
        "totalRawUsd": money(raw),
        "totalMarginUsed": money(used),
    }


def clearinghouse_state(venue: Venue, user: str, dex: Dex, now_ms: int) -> dict[str, Any]:
    """`clearinghouseState` of one dex; empty for an unknown user.

    A unified account keeps its positions here, but its balances read zero: they are in spot.
    """
    account = venue.engine.account(user)
    unified = account is not None and bool(account.unified)
    ledger = account.ledger(dex.name) if account else Ledger()
    markets = venue.engine.markets
    resting = risk.exposures(venue.engine.resting_orders(user, dex.name))
    value = cross = risk.cross_value(ledger, markets)
    cross_notional = cross_used = notional = used = ZERO
    raw = ledger.cash
    rows = []
    for key, position in ledger.open_positions():
        if markets[key].instrument.pool != dex.name:
            continue  # a unified account has one ledger for all dexes
        size = abs(position.quantity) * markets[key].mark
        margin = risk.position_margin(ledger, key, markets[key])
        notional += size
        used += margin
        if position.isolated:
            value += margin
            raw += position.cash
        else:
            cross_notional += size
            cross_used += margin
        rows.append({"type": "oneWay", "position": _position(ledger, key, venue)})
    withdrawable, cash = risk.withdrawable(ledger, resting, markets), ledger.cash
    if unified:
        value = cross = raw = withdrawable = cash = ZERO
    return {
        "marginSummary": _summary(value, notional, raw, used),
        "crossMarginSummary": _summary(cross, cross_notional, cash, cross_used),
        "crossMaintenanceMarginUsed": money(risk.cross_maintenance(ledger, markets, dex.name)),
        "withdrawable": money(withdrawable),
        "assetPositions": rows,
        "time": now_ms,
    }


def entry_text(value: Decimal, market: Market) -> str:
    """An average entry price, cut to the instrument's price decimals as recorded states show it."""
    step = Decimal(1).scaleb(-market.instrument.price_rule.max_decimals)
    return text(value.quantize(step, ROUND_DOWN))


def _position(ledger: Ledger, key: str, venue: Venue) -> dict[str, Any]:
    market = venue.engine.markets[key]
    position = ledger.positions[key]
    setting = ledger.setting(market.instrument)
    liquidation = risk.liquidation_price(ledger, key, venue.engine.markets)
    unrealised = position.unrealised(market.mark)
    cost = abs(position.quantity) * position.entry_price / position.leverage
    leverage: dict[str, Any] = {"type": "cross", "value": setting.value}
    if position.isolated:
        leverage = {"type": "isolated", "value": position.leverage, "rawUsd": money(position.cash)}
    return {
        "coin": key,
        "szi": text(position.quantity),
        "leverage": leverage,
        "entryPx": entry_text(position.entry_price, market),
        "positionValue": text(abs(position.quantity) * market.mark),
        "unrealizedPnl": money(unrealised),
        "returnOnEquity": ratio(unrealised / cost) if cost else "0.0",
        "liquidationPx": None if liquidation is None else ratio(liquidation),
        "marginUsed": money(risk.position_margin(ledger, key, market)),
        "maxLeverage": market.instrument.max_leverage,
        "cumFunding": {
            "allTime": text(position.funding_all_time),
            "sinceOpen": text(position.funding_since_open),
            "sinceChange": text(position.funding_since_change),
        },
    }


def spot_state(venue: Venue, user: str) -> dict[str, Any]:
    """`spotClearinghouseState`: tokens ever held; of a unified account the balances of everything."""
    account = venue.engine.account(user)
    rows = []
    for name, balance in (account.spot if account else {}).items():
        total, hold = balance.total, balance.hold
        if account is not None and account.unified == name:
            total, hold = _unified_balance(venue, account)
        if not total and not hold:
            continue
        rows.append(
            {
                "coin": name,
                "token": venue.universe.tokens[name].index,
                "total": text(total),
                "hold": text(hold),
                "entryNtl": text(balance.cost),
            }
        )
    found: dict[str, Any] = {"balances": rows}
    if account is not None and account.unified:
        ledger, markets = account.own_ledgers()[0], venue.engine.markets
        after = risk.cross_value(ledger, markets) - risk.cross_maintenance(ledger, markets)
        token = venue.universe.tokens[account.unified].index
        found["tokenToAvailableAfterMaintenance"] = [[token, money(max(ZERO, after))]]
    return found


def _unified_balance(venue: Venue, account: Account) -> tuple[Decimal, Decimal]:
    """Total and hold of a unified account's collateral: cash at cost of the positions, and what they tie up."""
    ledger, markets = account.own_ledgers()[0], venue.engine.markets
    resting = risk.exposures(venue.engine.resting_orders(account.name, ""))
    total, hold = ledger.cash, ledger.purse.hold + risk.required_margin(ledger, resting, markets)
    for _, position in ledger.open_positions():
        total += position.quantity * position.entry_price
        if position.isolated:
            own = position.cash + position.quantity * position.entry_price
            total += position.cash
            hold += own
    return total.quantize(TOKEN_STEP), hold.quantize(TOKEN_STEP)


def _in_dex(venue: Venue, order: Order, dex: Dex) -> bool:
    instrument = venue.engine.markets[order.instrument].instrument
    return instrument.pool == dex.name if instrument.perpetual else not dex.name


def open_orders(venue: Venue, user: str, dex: Dex, *, frontend: bool) -> list[dict[str, Any]]:
    """`openOrders` or `frontendOpenOrders` of one dex, newest first; the main dex has the spot orders too."""
    orders = [o.snapshot() for o in venue.engine.live_orders(user) if _in_dex(venue, o, dex)]
    orders.reverse()
    if frontend:
        return [frontend_order(order, venue.engine) for order in orders]
    return [basic_order(order) for order in orders]


def order_status(venue: Venue, user: str, oid: int | str) -> dict[str, Any]:
    """`orderStatus` by order id or client id, within the user's own orders."""
    engine = venue.engine
    order = engine.find_client_id(user, oid.lower()) if isinstance(oid, str) else engine.order(oid)
    if order is None or order.account != user:
        return {"status": "unknownOid"}
    snapshot = order.snapshot()
    return {
        "status": "order",
        "order": {
            "order": frontend_order(snapshot, engine),
            "status": status(snapshot),
            "statusTimestamp": snapshot.updated_ms,
        },
    }


def historical_orders(venue: Venue, user: str) -> list[dict[str, Any]]:
    """`historicalOrders`, newest first."""
    return [historical_order(event, venue.engine) for event in reversed(venue.engine.history(user))][:MAX_ROWS]


def fill(venue: Venue, item: Fill) -> dict[str, Any]:
    """Row of one fill."""
    instrument = venue.engine.markets[item.instrument].instrument
    account = venue.engine.account(item.account)
    position = account.ledger(instrument.pool).positions.get(item.instrument) if account else None
    isolated = position is not None and position.isolated
    return fill_row(item, perpetual=instrument.perpetual, isolated=isolated)


def user_fills(venue: Venue, user: str) -> list[dict[str, Any]]:
    """`userFills`, newest first."""
    return [fill(venue, item) for item in reversed(list(venue.engine.fills(user))[-MAX_ROWS:])]


def fills_by_time(
    venue: Venue, user: str, start_ms: int, end_ms: int | None, *, newest_first: bool
) -> list[dict[str, Any]]:
    """`userFillsByTime`: both ends inclusive, at most 2000, oldest first unless reversed."""
    found = [
        item
        for item in venue.engine.fills(user)
        if item.time_ms >= start_ms and (end_ms is None or item.time_ms <= end_ms)
    ]
    if newest_first:
        found.reverse()
    return [fill(venue, item) for item in found[:MAX_ROWS]]


def funding_row(event: FundingPaid) -> dict[str, Any]:
    """Row of the funding channels."""
    return {"time": event.time_ms, **funding_delta(event)}


def user_funding(venue: Venue, user: str, start_ms: int, end_ms: int | None) -> list[dict[str, Any]]:
    """`userFunding`, oldest first."""
    return [
        {"time": event.time_ms, "hash": ZERO_HASH, "delta": {"type": "funding", **funding_delta(event)}}
        for event in venue.engine.money_events(user)
        if isinstance(event, FundingPaid) and _within(event.time_ms, start_ms, end_ms)
    ][:MAX_FUNDINGS]


def _within(time_ms: int, start_ms: int, end_ms: int | None) -> bool:
    return time_ms >= start_ms and (end_ms is None or time_ms <= end_ms)


def ledger_row(venue: Venue, event: Event) -> dict[str, Any] | None:
    """Row of the non-funding ledger, None for events that are not in it."""
    if isinstance(event, Transferred):
        return {
            "time": event.time_ms,
            "hash": transaction_hash("transfer", event.sequence),
            "delta": _transfer_delta(venue, event),
        }
    if isinstance(event, Liquidated):
        return {
            "time": event.time_ms,
            "hash": transaction_hash("liquidation", event.liquidation_id),
            "delta": {
                "type": "liquidation",
                "liquidatedNtlPos": money(event.notional),
                "accountValue": money(event.account_value),
                "leverageType": "Isolated" if event.isolated else "Cross",
                "liquidatedPositions": [
                    {"coin": key, "szi": text(quantity)}
                    for key, quantity in zip(event.instruments, event.quantities, strict=True)
                ],
            },
        }
    return None


def _transfer_delta(venue: Venue, event: Transferred) -> dict[str, Any]:
    amount, fee = text(event.amount), text(event.fee)
    people = {"user": event.account, "destination": event.counterparty}
    if event.kind is TransferKind.DEPOSIT and event.destination != SPOT_WALLET:
        return {"type": "deposit", "usdc": amount}
    if event.kind is TransferKind.WITHDRAWAL:
        return {"type": "withdraw", "usdc": amount, "nonce": event.time_ms, "fee": "1.0"}
    if event.label == "internalTransfer":
        return {"type": "internalTransfer", "usdc": amount, **people, "fee": fee}
    if event.label == "subAccountTransfer":
        return {"type": "subAccountTransfer", "usdc": amount, **people}
    same = event.account == event.counterparty
    if same and event.label != "send" and {event.source, event.destination} == {"", SPOT_WALLET}:
        to_perp = event.destination == ""
        return {"type": "accountClassTransfer", "usdc": amount, "toPerp": to_perp}
    moved = {"token": event.token, "amount": amount, "usdcValue": money(_usdc_value(venue, event))}
    costs = {"fee": fee, "nativeTokenFee": "0.0", "nonce": event.time_ms, "feeToken": "USDC" if event.fee else ""}
    if event.label == "spotTransfer":
        return {"type": "spotTransfer", **moved, **people, **costs}
    dexes = {"sourceDex": event.source, "destinationDex": event.destination}
    return {"type": "send", **people, **dexes, **moved, **costs}


def _usdc_value(venue: Venue, event: Transferred) -> Decimal:
    """What was moved, at the mark of its USDC pair."""
    for market in venue.engine.markets.values():
        instrument = market.instrument
        own = venue.own(instrument.key) and not instrument.perpetual
        if own and (instrument.base, instrument.quote) == (event.token, "USDC"):
            return event.amount * market.mark
    return event.amount


def ledger_updates(venue: Venue, user: str, start_ms: int, end_ms: int | None) -> list[dict[str, Any]]:
    """`userNonFundingLedgerUpdates`, oldest first."""
    rows = (ledger_row(venue, event) for event in venue.engine.money_events(user))
    return [row for row in rows if row is not None and _within(row["time"], start_ms, end_ms)][:MAX_ROWS]


def user_fees() -> dict[str, Any]:
    """`userFees` at the base tier."""
    cross, add = text(TAKER_FEE), text(MAKER_FEE)
    spot_cross, spot_add = text(SPOT_TAKER_FEE), text(SPOT_MAKER_FEE)
    rates = {"cross": cross, "add": add, "spotCross": spot_cross, "spotAdd": spot_add}
    return {
        "dailyUserVlm": [],
        "feeSchedule": {
            **rates,
            "tiers": {"vip": [{"ntlCutoff": "5000000.0", **rates}], "mm": []},
            "referralDiscount": "0.04",
            "stakingDiscountTiers": [{"bpsOfMaxSupply": "0.0", "discount": "0.0"}],
        },
        "userCrossRate": cross,
        "userAddRate": add,
        "userSpotCrossRate": spot_cross,
        "userSpotAddRate": spot_add,
        "activeReferralDiscount": "0.0",
        "trial": None,
        "feeTrialEscrow": "0.0",
        "nextTrialAvailableTimestamp": None,
        "stakingLink": None,
        "activeStakingDiscount": {"bpsOfMaxSupply": "0.0", "discount": "0.0"},
    }


def user_rate_limit(venue: Venue, user: str) -> dict[str, Any]:
    """`userRateLimit`."""
    volume = venue.volume(user)
    return {
        "cumVlm": money(volume),
        "nRequestsUsed": venue.registry.profiles.get(user, Profile()).requests,
        "nRequestsCap": venue.registry.cap(user, volume),
        "nRequestsSurplus": 0,
    }


def user_role(venue: Venue, user: str, now_ms: int) -> dict[str, Any]:
    """`userRole`."""
    agent = venue.registry.agent(user, now_ms)
    if agent is not None:
        return {"role": "agent", "data": {"user": agent.master}}
    profile = venue.registry.profiles.get(user)
    if profile is not None and profile.master is not None:
        return {"role": "subAccount", "data": {"master": profile.master}}
    if profile is not None and profile.leader is not None:
        return {"role": "vault"}
    return {"role": "user" if venue.engine.account(user) else "missing"}


def extra_agents(venue: Venue, user: str) -> list[dict[str, Any]]:
    """`extraAgents`: named agents only."""
    profile = venue.registry.profiles.get(user)
    return [
        {"name": agent.name, "address": agent.address, "validUntil": agent.valid_until_ms}
        for agent in (profile.agents.values() if profile else ())
        if agent.name
    ]


def active_asset_data(venue: Venue, user: str, market: Market) -> dict[str, Any]:
    """`activeAssetData`: leverage setting and what may be traded, buy then sell."""
    instrument = market.instrument
    account = venue.engine.account(user)
    ledger = account.ledger(instrument.pool) if account else Ledger()
    setting = ledger.setting(instrument)
    resting = risk.exposures(venue.engine.resting_orders(user, instrument.pool))
    free = max(ZERO, risk.free_margin(ledger, resting, venue.engine.markets))
    held = account.position(instrument) if account else ZERO
    sizes, amounts = [], []
    for side in Side:
        closing = max(ZERO, -held * side.sign) * 2
        size = instrument.floor_quantity(free * setting.value / market.mark) + closing
        sizes.append(text(size))
        amounts.append(money(size * market.mark / setting.value))
    return {
        "user": user,
        "coin": instrument.key,
        "leverage": {"type": "cross" if setting.cross else "isolated", "value": setting.value},
        "maxTradeSzs": sizes,
        "availableToTrade": amounts,
        "markPx": text(market.mark),
    }


def portfolio(venue: Venue, user: str, now_ms: int) -> list[Any]:
    """`portfolio`: one point, now, in every period; the simulator keeps no equity history."""
    total = ZERO
    account = venue.engine.account(user)
    for ledger in account.own_ledgers() if account else ():
        total += risk.cross_value(ledger, venue.engine.markets)
        for key, position in ledger.open_positions():
            if position.isolated:
                total += ledger.isolated_value(key, venue.engine.markets[key].mark)
    row = {
        "accountValueHistory": [[now_ms, money(total)]],
        "pnlHistory": [[now_ms, "0.0"]],
        "vlm": money(venue.volume(user)),
    }
    periods = ("day", "week", "month", "allTime", "perpDay", "perpWeek", "perpMonth", "perpAllTime")
    return [[period, row] for period in periods]


def sub_accounts(venue: Venue, user: str, now_ms: int) -> list[dict[str, Any]] | None:
    """`subAccounts`, null when there are none."""
    rows = [
        {
            "name": profile.sub_name,
            "subAccountUser": name,
            "master": user,
            "clearinghouseState": clearinghouse_state(venue, name, venue.universe.dexes[0], now_ms),
            "spotState": spot_state(venue, name),
        }
        for name, profile in venue.registry.sub_accounts(user)
    ]
    return rows or None


def referral(venue: Venue, user: str) -> dict[str, Any]:
    """`referral`."""
    profile = venue.registry.profiles.get(user)
    code = profile.referrer if profile else None
    referrer = None if code is None else {"referrer": "0x" + "0" * 40, "code": code}
    return {
        "referredBy": referrer,
        "cumVlm": money(venue.volume(user)),
        "unclaimedRewards": "0.0",
        "claimedRewards": "0.0",
        "builderRewards": "0.0",
        "referrerState": {"stage": "needToTrade", "data": {"required": "10000.0"}},
        "rewardHistory": [],
    }


def web_data(
    venue: Venue, user: str, dex: Dex, contexts: list[Any], spot: list[Any], twaps: list[Any], now_ms: int
) -> Any:
    """`webData2`: the user-interface bundle."""
    profile = venue.registry.profiles.get(user)
    agent = profile.agents.get("") if profile else None
    return {
        "clearinghouseState": clearinghouse_state(venue, user, dex, now_ms),
        "leadingVaults": [],
        "totalVaultEquity": "0.0",
        "openOrders": open_orders(venue, user, dex, frontend=True),
        "agentAddress": agent.address if agent else None,
        "agentValidUntil": agent.valid_until_ms if agent else None,
        "cumLedger": "0.0",
        "meta": venue.universe.meta(dex),
        "assetCtxs": contexts,
        "serverTime": now_ms,
        "isVault": False,
        "user": user,
        "twapStates": twaps,
        "spotState": spot_state(venue, user),
        "spotAssetCtxs": spot,
        "perpsAtOpenInterestCap": venue.at_open_interest_cap(dex.name),
    }
