"""What each transaction does once its time has come. Pure.

An executor returns the `event_info` of its transaction; a `Refused` becomes the application error in it, as the
nonce is spent and the answer long given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from simulator.engine.slices import open_sliced
from simulator.engine.values import Grouping, Order, OrderRequest, Outcome, Reason, Side
from simulator.lighter import account_changes, admission
from simulator.lighter.accounts import LighterAccount, fee_share
from simulator.lighter.errors import Code, Refused
from simulator.lighter.order_rules import SELF_TRADES, TIMES, NewOrder, find_market, read_order
from simulator.lighter.orders import CONDITIONAL, Extra, OrderType
from simulator.lighter.transaction_log import Record
from simulator.lighter.transactions import Attribute, Transaction, TxType
from simulator.lighter.venue import Executor, LighterVenue

ANY_MARKET = 255
NO_TRADE = {"p": 0, "s": 0, "tf": 0, "mf": 0, "itf": 0, "itfci": 0, "imf": 0, "imfci": 0}
REFUSALS: Mapping[Reason, Code] = {
    Reason.UNKNOWN_INSTRUMENT: Code.INVALID_MARKET,
    Reason.INVALID_PRICE: Code.INVALID_PRICE,
    Reason.OFF_TICK: Code.INVALID_PRICE,
    Reason.INVALID_QUANTITY: Code.INVALID_BASE_AMOUNT,
    Reason.ZERO_QUANTITY: Code.INVALID_BASE_AMOUNT,
    Reason.NOTIONAL_TOO_LARGE: Code.INVALID_AMOUNTS,
    Reason.BELOW_MINIMUM: Code.INVALID_AMOUNTS,
    Reason.PRICE_TOO_FAR: Code.TOO_FAR_FROM_MARK,
    Reason.INSTRUMENT_CLOSED: Code.MARKET_STATUS,
    Reason.BAD_TRIGGER_PRICE: Code.INVALID_TRIGGER,
    Reason.TOO_MANY_ORDERS: Code.TOO_MANY_ORDERS,
}


def _request(venue: LighterVenue, account: LighterAccount, tx: Transaction, order: NewOrder) -> OrderRequest:
    """The engine's form; an amount of zero becomes the position it closes."""
    quantity = order.quantity
    if not quantity and order.type not in CONDITIONAL:
        owner = venue.engine.accounts[account.name]
        quantity = abs(owner.position(venue.market(order.spec).instrument))
        if not quantity:
            raise Refused(Code.REDUCE_ONLY_INCREASES)
    charged = bool(tx.attribute(Attribute.INTEGRATOR))
    return OrderRequest(
        instrument=order.spec.key,
        side=order.side,
        quantity=quantity,
        price=order.price,
        time_in_force=TIMES[order.time_in_force],
        reduce_only=order.reduce_only,
        client_id=str(order.client_index) if order.client_index else None,
        trigger=order.trigger,
        extra_fee=fee_share(tx.attribute(Attribute.INTEGRATOR_TAKER_FEE)) if charged else Decimal(0),
        maker_extra_fee=fee_share(tx.attribute(Attribute.INTEGRATOR_MAKER_FEE)) if charged else None,
        self_trade=SELF_TRADES[min(tx.attribute(Attribute.SELF_TRADE), len(SELF_TRADES) - 1)],
    )


def _check_client_index(venue: LighterVenue, account: LighterAccount, order: NewOrder) -> None:
    if not order.client_index:
        return
    known = venue.engine.find_client_id(account.name, str(order.client_index))
    if known is not None and known.state.live:
        raise Refused(Code.CLIENT_INDEX_EXISTS)


def _keep_extra(venue: LighterVenue, record: Record, order: NewOrder, outcome: Outcome) -> int | None:
    """Keep what the engine does not; the engine's id, None when there is no order."""
    if outcome.order is None:
        return None
    engine_id = outcome.order.order_id
    tx = record.tx
    book = venue.market(order.spec).book
    extra = Extra(
        type=order.type,
        time_in_force=order.time_in_force,
        client_index=order.client_index,
        expiry_ms=order.expiry_ms,
        trigger_price=order.trigger_price,
        tx_hash=record.hash,
        integrator=tx.attribute(Attribute.INTEGRATOR),
        integrator_taker=tx.attribute(Attribute.INTEGRATOR_TAKER_FEE),
        integrator_maker=tx.attribute(Attribute.INTEGRATOR_MAKER_FEE),
        starved=book.best_price(order.side.opposite) is None,
    )
    venue.orders.extras.put(engine_id, extra)
    if order.expiry_ms and outcome.order.state.live:
        venue.watch_expiry(engine_id, order.expiry_ms)
    return engine_id


def create_order(venue: LighterVenue, record: Record, now_ms: int) -> dict[str, Any]:
    """Type 14."""
    tx = record.tx
    account = venue.accounts.get(tx.account)
    order = read_order(venue.markets, tx.fields, record.queued_ms)
    _check_client_index(venue, account, order)
    account.orders_sent += 1
    request = _request(venue, account, tx, order)
    grouping = Grouping.POSITION if order.type in CONDITIONAL and not order.quantity else Grouping.NONE
    if order.type is OrderType.TWAP:
        outcome = open_sliced(venue.engine, account.name, request, now_ms)
    else:
        outcome = venue.engine.submit(account.name, [request], now_ms, grouping)[0]
    engine_id = _keep_extra(venue, record, order, outcome)
    if engine_id is None:
        raise Refused(_refusal(outcome.refusal))
    if order.type is OrderType.TWAP:
        venue.twaps.start(engine_id, now_ms)
    return _order_event(venue, record, engine_id, now_ms)


def create_group(venue: LighterVenue, record: Record, now_ms: int) -> dict[str, Any]:
    """Type 28: the legs of a parent take its quantity; a pair without one follows the position."""
    tx = record.tx
    account = venue.accounts.get(tx.account)
    orders = admission.read_group(venue, tx, record.queued_ms)
    for order in orders:
        _check_client_index(venue, account, order)
    pair = tx.fields["GroupingType"] == admission.ONE_CANCELS
    parent = _request(venue, account, tx, orders[0])
    requests = [parent]
    for order in orders[1:]:
        request = _request(venue, account, tx, order)
        requests.append(replace(request, quantity=request.quantity or parent.quantity))
    tied = Grouping.ONE_CANCELS_OTHER if parent.quantity else Grouping.POSITION
    grouping = tied if pair else Grouping.BRACKET
    outcomes = venue.engine.submit(account.name, requests, now_ms, grouping)
    ids = [_keep_extra(venue, record, order, outcome) for order, outcome in zip(orders, outcomes, strict=True)]
    if ids[0] is None:
        raise Refused(_refusal(outcomes[0].refusal))
    return _order_event(venue, record, ids[0], now_ms)


def _refusal(reason: Reason | None) -> Code:
    return REFUSALS.get(reason, Code.INVALID_ORDER_INFO) if reason else Code.INVALID_ORDER_INFO


def _order_event(venue: LighterVenue, record: Record, engine_id: int, now_ms: int) -> dict[str, Any]:
    """`event_info` of an order: itself, and its first match if there was one."""
    venue.collect(record.hash, now_ms)
    order = venue.engine.known_order(engine_id)
    spec = venue.orders.spec(order)
    own = venue.orders.event(order)
    found: dict[str, Any] = {"m": spec.market_id, "t": dict(NO_TRADE), "mo": dict.fromkeys(own, 0), "to": own}
    for item in venue.tape.of_account(order.account):
        if item.tx_hash != record.hash:
            continue
        row = venue.tape.row(item)
        selling = item.trade.side is Side.BUY  # the maker's side
        found["t"] |= {
            "p": spec.price_units(item.trade.price),
            "s": spec.size_units(item.trade.quantity),
            "tf": row.get("taker_fee", 0),
            "mf": row.get("maker_fee", 0),
        }
        side = item.trade.sell if selling else item.trade.buy
        maker = venue.engine.order(side.order_id)
        found["mo"] = venue.orders.event(maker) if maker is not None else found["mo"] | _maker(row, selling=selling)
        break
    return found


def _maker(row: Mapping[str, Any], *, selling: bool) -> dict[str, Any]:
    """What is still known of a maker order the engine has forgotten."""
    side = "ask" if selling else "bid"
    return {
        "i": row[f"{side}_id"],
        "u": row[f"{side}_client_id"],
        "a": row[f"{side}_account_id"],
        "ia": int(selling),
        "st": 3,
    }


def _find(venue: LighterVenue, record: Record) -> Order:
    """The live order a cancel or modify names.

    Raises:
        Refused: 21700 when the venue never saw it, 21709 when it is done.
    """
    tx = record.tx
    account = venue.accounts.get(tx.account)
    spec = find_market(venue.markets, tx.fields["MarketIndex"])
    found = venue.orders.find(account.name, spec, tx.fields["Index"])
    if found is None:
        raise Refused(Code.INVALID_ORDER_INDEX)
    if not found.state.live:
        raise Refused(Code.ORDER_INACTIVE)
    return found


def cancel_order(venue: LighterVenue, record: Record, now_ms: int) -> dict[str, Any]:
    """Type 15."""
    order = _find(venue, record)
    index, extra = venue.orders.index(order), venue.orders.extras.of(order.order_id)
    venue.engine.cancel(order.account, order.order_id, now_ms)
    return {"a": record.tx.account, "i": index, "u": extra.client_index if extra else 0}


def cancel_all(venue: LighterVenue, record: Record, now_ms: int) -> dict[str, Any]:
    """Type 16: now, at a time, or never mind."""
    tx = record.tx
    account = venue.accounts.get(tx.account)
    match tx.fields["TimeInForce"]:
        case admission.NOW:
            market = tx.attribute(Attribute.CANCEL_MARKET)
            for order in venue.engine.live_orders(account.name):
                if market in (ANY_MARKET, venue.orders.spec(order).market_id):
                    venue.engine.cancel(account.name, order.order_id, now_ms)
        case admission.SCHEDULED:
            account.cancel_all_ms = tx.fields["Time"]
        case admission.ABORT:
            account.cancel_all_ms = 0
    return {"a": tx.account}


def modify_order(venue: LighterVenue, record: Record, now_ms: int) -> dict[str, Any]:
    """Type 17: in place, the version counts up."""
    fields = record.tx.fields
    order = _find(venue, record)
    spec = venue.orders.spec(order)
    extra = venue.orders.extras.of(order.order_id) or Extra()
    version = record.tx.attribute(Attribute.ORDER_VERSION)
    if version and version != extra.version:
        raise Refused(Code.INVALID_ORDER_INFO)
    before = venue.orders.event(order)
    asked = spec.size(fields["BaseAmount"]) or order.request.quantity
    counts = venue.settings.modify_counts_filled
    quantity, remaining = (asked, asked - order.filled) if counts else (asked + order.filled, asked)
    if remaining <= 0:
        raise Refused(Code.INVALID_BASE_AMOUNT)
    if not order.request.reduce_only and asked < spec.min_base:
        raise Refused(Code.INVALID_AMOUNTS)
    trigger = order.request.trigger
    if trigger is not None and fields["TriggerPrice"]:
        trigger = replace(trigger, price=spec.price_of(fields["TriggerPrice"]))
        extra.trigger_price = trigger.price
    request = replace(order.request, price=spec.price_of(fields["Price"]), quantity=quantity, trigger=trigger)
    outcome = venue.engine.modify(order.account, order.order_id, request, remaining, now_ms)
    if outcome is None or outcome.order is None:
        raise Refused(_refusal(outcome.refusal if outcome else None))
    extra.version += 1
    return {"m": spec.market_id, "oo": before, "no": venue.orders.event(order)}


EXECUTORS: Mapping[TxType, Executor] = {
    TxType.CREATE_ORDER: create_order,
    TxType.CREATE_GROUPED_ORDERS: create_group,
    TxType.CANCEL_ORDER: cancel_order,
    TxType.CANCEL_ALL_ORDERS: cancel_all,
    TxType.MODIFY_ORDER: modify_order,
    TxType.UPDATE_LEVERAGE: account_changes.update_leverage,
    TxType.UPDATE_MARGIN: account_changes.update_margin,
    TxType.TRANSFER: account_changes.transfer,
    TxType.WITHDRAW: account_changes.withdraw,
    TxType.CHANGE_PUB_KEY: account_changes.change_key,
    TxType.CREATE_SUB_ACCOUNT: account_changes.create_sub_account,
    TxType.APPROVE_INTEGRATOR: account_changes.approve_integrator,
    TxType.UPDATE_ACCOUNT_CONFIG: account_changes.update_config,
    TxType.UPDATE_ACCOUNT_ASSET_CONFIG: account_changes.update_asset_config,
}
