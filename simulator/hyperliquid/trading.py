"""Trading actions: orders, cancels, modifies, leverage and isolated margin. Pure."""

from __future__ import annotations

from decimal import ROUND_UP, Decimal
from typing import Any

from simulator.engine import risk
from simulator.engine.accounts import Ledger, Position
from simulator.engine.values import (
    ZERO,
    Grouping,
    Instrument,
    MarginMode,
    Order,
    OrderRequest,
    Outcome,
    Side,
    TimeInForce,
    Trigger,
    TriggerKind,
)
from simulator.hyperliquid import wire
from simulator.hyperliquid.decimals import parse
from simulator.hyperliquid.nonces import DAY_MS
from simulator.hyperliquid.replies import Refused, default
from simulator.hyperliquid.rows import outcome_row
from simulator.hyperliquid.venue import Venue

TIFS = {
    "Gtc": TimeInForce.GOOD_TIL_CANCELLED,
    "Ioc": TimeInForce.IMMEDIATE_OR_CANCEL,
    "FrontendMarket": TimeInForce.IMMEDIATE_OR_CANCEL,
    "Alo": TimeInForce.POST_ONLY,
}
GROUPINGS = {"na": Grouping.NONE, "normalTpsl": Grouping.BRACKET, "positionTpsl": Grouping.POSITION}
MICRO_USD = Decimal(1_000_000)
TENTH_OF_BPS = Decimal("0.00001")
CANCEL_AHEAD_MS = 5_000
CANCEL_TRIGGERS_A_DAY = 10
GONE = "Order was never placed, already canceled, or filled."


def _trigger(order: wire.OrderWire) -> Trigger | None:
    terms = order.t.trigger
    if terms is None:
        return None
    price = parse(terms.triggerPx)
    kind = TriggerKind.TAKE_PROFIT if terms.tpsl == "tp" else TriggerKind.STOP
    return Trigger(price=ZERO if price is None else price, kind=kind, market=terms.isMarket)


def _request(order: wire.OrderWire, coin: str, extra_fee: Decimal) -> OrderRequest:
    """Engine request of a wire order; unreadable numbers become ones the engine refuses by name."""
    label = order.t.limit.tif if order.t.limit else "Gtc"
    price, quantity = parse(order.p), parse(order.s)
    return OrderRequest(
        instrument=coin,
        side=Side.BUY if order.b else Side.SELL,
        quantity=Decimal(-1) if quantity is None else quantity,
        price=ZERO if price is None else price,
        time_in_force=TIFS[label],
        reduce_only=order.r,
        client_id=None if order.c is None else order.c.lower(),
        trigger=_trigger(order),
        extra_fee=extra_fee,
        label=label,
    )


def _coin(venue: Venue, asset: int) -> str:
    return venue.universe.coins.get(asset, f"asset:{asset}")


def _row(venue: Venue, outcome: Outcome, asset: int) -> Any:
    instrument = venue.instrument(asset)
    spot = instrument is not None and not instrument.perpetual
    return outcome_row(outcome, asset, spot_quote=instrument.quote if spot and instrument else None)


def place(venue: Venue, account: str, action: wire.Order, now_ms: int) -> dict[str, Any]:
    """`order`: one status per order, in order."""
    priority = isinstance(action.grouping, wire.Priority)
    grouping = Grouping.NONE if priority else GROUPINGS[str(action.grouping)]
    extra = _builder_fee(venue, account, action.builder)
    requests = [_request(order, _coin(venue, order.a), extra) for order in action.orders]
    outcomes = venue.engine.submit(account, requests, now_ms, grouping)
    pairs = zip(outcomes, action.orders, strict=True)
    return {"type": "order", "data": {"statuses": [_row(venue, item, order.a) for item, order in pairs]}}


def _builder_fee(venue: Venue, account: str, builder: wire.BuilderWire | None) -> Decimal:
    """Share of notional for the builder.

    Raises:
        Refused: the account has not approved so much.
    """
    if builder is None or builder.f == 0:
        return ZERO
    profile = venue.registry.profile(account)
    owner = venue.registry.profile(profile.master) if profile.master else profile
    if builder.f < 0 or builder.f > owner.builders.get(builder.b.lower(), 0):
        raise Refused("Builder fee has not been approved.")
    return builder.f * TENTH_OF_BPS


def _cancel_row(done: bool, asset: int) -> Any:
    return "success" if done else {"error": f"{GONE} asset={asset}"}


def _cancel_one(venue: Venue, account: str, asset: int, order: Order | None, now_ms: int) -> Any:
    fits = order is not None and order.instrument == _coin(venue, asset)
    done = fits and order is not None and venue.engine.cancel(account, order.order_id, now_ms)
    return _cancel_row(done, asset)


def cancel(venue: Venue, account: str, action: wire.Cancel, now_ms: int) -> dict[str, Any]:
    """`cancel`: one status per element."""
    statuses = [_cancel_one(venue, account, item.a, venue.engine.order(item.o), now_ms) for item in action.cancels]
    return {"type": "cancel", "data": {"statuses": statuses}}


def cancel_by_cloid(venue: Venue, account: str, action: wire.CancelByCloid, now_ms: int) -> dict[str, Any]:
    """`cancelByCloid`: one status per element."""
    statuses = [
        _cancel_one(
            venue,
            account,
            item.asset,
            venue.engine.find_client_id(account, item.cloid.lower()),
            now_ms,
        )
        for item in action.cancels
    ]
    return {"type": "cancel", "data": {"statuses": statuses}}


def _find(venue: Venue, account: str, oid: int | str) -> Order | None:
    if isinstance(oid, str):
        return venue.engine.find_client_id(account, oid.lower())
    return venue.engine.order(oid)


def _replace(venue: Venue, account: str, oid: int | str, order: wire.OrderWire, now_ms: int, *, always: bool) -> Any:
    """One modify; its status entry."""
    found = _find(venue, account, oid)
    request = _request(order, _coin(venue, order.a), ZERO if found is None else found.request.extra_fee)
    if found is None or found.account != account or not found.state.live:
        if not always:
            return {"error": "Cannot modify canceled or filled order"}
        return _row(venue, venue.engine.submit(account, [request], now_ms)[0], order.a)
    if found.instrument != request.instrument:
        return {"error": "Attempted to modify to invalid new order"}
    outcome = venue.engine.amend(account, found.order_id, request, now_ms)
    if outcome is None or (outcome.order is None and outcome.refusal is not None):
        return {"error": "Attempted to modify to invalid new order"}
    return _row(venue, outcome, order.a)


def modify(venue: Venue, account: str, action: wire.Modify, now_ms: int) -> dict[str, Any]:
    """`modify`: default response, an error becomes top level."""
    row = _replace(venue, account, action.oid, action.order, now_ms, always=False)
    if isinstance(row, dict) and "error" in row:
        raise Refused(str(row["error"]))
    return default()


def batch_modify(venue: Venue, account: str, action: wire.BatchModify, now_ms: int) -> dict[str, Any]:
    """`batchModify`: one order status per element."""
    statuses = [
        _replace(venue, account, item.oid, item.order, now_ms, always=bool(action.a)) for item in action.modifies
    ]
    return {"type": "order", "data": {"statuses": statuses}}


def schedule_cancel(venue: Venue, account: str, action: wire.ScheduleCancel, now_ms: int) -> dict[str, Any]:
    """`scheduleCancel`: at least five seconds ahead, ten triggers a day, enough volume first."""
    volume, needed = venue.volume(account), venue.settings.schedule_cancel_volume
    if volume < needed:
        raise Refused(
            "Cannot set scheduled cancel time until enough volume traded. "
            f"Required: ${needed}. Traded: ${volume.quantize(Decimal('0.01'))}."
        )
    if action.time is not None:
        if action.time < now_ms + CANCEL_AHEAD_MS:
            raise Refused("Scheduled cancel time must be at least 5 seconds from now.")
        today = now_ms - now_ms % DAY_MS
        fired = [at for at in venue.registry.profile(account).cancel_triggers if at >= today]
        venue.registry.profile(account).cancel_triggers[:] = fired
        if len(fired) >= CANCEL_TRIGGERS_A_DAY:
            raise Refused("Too many scheduled cancels triggered today. Max is 10.")
    venue.upkeep.schedule_cancel(account, action.time)
    return default()


def _perpetual(venue: Venue, asset: int) -> Instrument:
    instrument = venue.instrument(asset)
    if instrument is None or not instrument.perpetual:
        raise Refused(f"Invalid asset. asset={asset}")
    return instrument


def update_leverage(venue: Venue, account: str, action: wire.UpdateLeverage) -> dict[str, Any]:
    """`updateLeverage`: idempotent; never re-margins an open isolated position."""
    instrument = _perpetual(venue, action.asset)
    if not 1 <= action.leverage <= instrument.max_leverage:
        raise Refused("Invalid leverage value")
    if action.isCross and instrument.margin_mode is not MarginMode.ANY:
        raise Refused("Cross margin is not allowed for this asset.")
    engine = venue.engine
    ledger = engine.accounts[account].ledger(instrument.pool)
    setting = ledger.setting(instrument)
    position = ledger.positions.get(instrument.key)
    held = position is not None and bool(position.quantity)
    if held and setting.cross != action.isCross:
        raise Refused("Cannot switch leverage type with open position.")
    if held and position is not None:
        _check_new_leverage(venue, instrument, ledger, position, action.leverage)
    before = setting.value, setting.cross
    resting = risk.exposures(engine.resting_orders(account, instrument.pool))
    setting.value, setting.cross = action.leverage, action.isCross
    if action.leverage < before[0] and risk.free_margin(ledger, resting, engine.markets) < 0:
        setting.value, setting.cross = before
        raise Refused(
            "Cross position does not have sufficient margin available to decrease leverage. "
            "To decrease leverage, deposit more collateral."
        )
    if held and position is not None:
        position.leverage = action.leverage
    return default()


def _check_new_leverage(
    venue: Venue, instrument: Instrument, ledger: Ledger, position: Position, leverage: int
) -> None:
    """An open position must fit the tier of the new leverage and, when isolated, hold enough margin for it.

    Raises:
        Refused: it does not.
    """
    mark = venue.engine.markets[instrument.key].mark
    notional = abs(position.quantity) * mark
    if leverage > instrument.leverage_at(notional):
        raise Refused("Invalid leverage value")
    short = ledger.isolated_value(instrument.key, mark) < notional / leverage
    if position.isolated and leverage < position.leverage and short:
        raise Refused(
            "Isolated position does not have sufficient margin available to decrease leverage. "
            "To decrease leverage, add margin to the position."
        )


def top_up_isolated_margin(
    venue: Venue, account: str, action: wire.TopUpIsolatedOnlyMargin, now_ms: int
) -> dict[str, Any]:
    """`topUpIsolatedOnlyMargin`: add margin until notional over equity is the leverage asked for."""
    instrument = _perpetual(venue, action.asset)
    leverage = parse(action.leverage)
    if leverage is None or leverage <= 0:
        raise Refused("Invalid leverage value")
    ledger = venue.engine.accounts[account].ledger(instrument.pool)
    position = ledger.positions.get(instrument.key)
    if position is None or not position.quantity or not position.isolated:
        raise Refused("Position does not use isolated margin.")
    mark = venue.engine.markets[instrument.key].mark
    missing = abs(position.quantity) * mark / leverage - ledger.isolated_value(instrument.key, mark)
    if missing > 0:
        micro = int((missing * MICRO_USD).to_integral_value(ROUND_UP))
        more = wire.UpdateIsolatedMargin(asset=action.asset, isBuy=position.quantity > 0, ntli=micro)
        return update_isolated_margin(venue, account, more, now_ms)
    return default()


def update_isolated_margin(
    venue: Venue, account: str, action: wire.UpdateIsolatedMargin, now_ms: int
) -> dict[str, Any]:
    """`updateIsolatedMargin`: `ntli` micro-USD in, or out when negative."""
    instrument = _perpetual(venue, action.asset)
    engine = venue.engine
    ledger = engine.accounts[account].ledger(instrument.pool)
    position = ledger.positions.get(instrument.key)
    if position is None or not position.quantity or not position.isolated:
        raise Refused("Position does not use isolated margin.")
    amount = Decimal(action.ntli) / MICRO_USD
    market = engine.markets[instrument.key]
    if amount < 0:
        if instrument.margin_mode is MarginMode.ISOLATED_STRICT:
            raise Refused("Cannot remove margin from this asset.")
        needed = abs(position.quantity) * market.mark / position.leverage
        if ledger.isolated_value(instrument.key, market.mark) + amount < needed:
            raise Refused("Insufficient margin to remove from position.")
    else:
        resting = risk.exposures(engine.resting_orders(account, instrument.pool))
        if risk.withdrawable(ledger, resting, engine.markets) < amount:
            raise Refused("Insufficient margin to add to position.")
    ledger.cash -= amount
    position.cash += amount
    engine.emit_settled(account, instrument, now_ms)
    return default()
