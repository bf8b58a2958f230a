"""Rules a transaction must meet before it is queued: what the venue answers HTTP 400 for. Pure."""

from __future__ import annotations

from decimal import Decimal

from simulator.engine.checks import money_refusal
from simulator.engine.values import Order, OrderRequest, Reason
from simulator.lighter import l1, order_rules
from simulator.lighter.accounts import LighterAccount
from simulator.lighter.errors import Code, Refused
from simulator.lighter.markets import MARGIN_TICKS
from simulator.lighter.order_rules import NewOrder, find_market, read_order
from simulator.lighter.orders import CONDITIONAL, OrderType
from simulator.lighter.signing import curve
from simulator.lighter.transactions import Attribute, Transaction, TxType
from simulator.lighter.venue import LighterVenue

ONE_TRIGGERS, ONE_CANCELS, ONE_TRIGGERS_PAIR = 1, 2, 3
NOW, SCHEDULED, ABORT = 0, 1, 2
SOONEST_CANCEL_MS = 5 * 60_000
LATEST_CANCEL_MS = 15 * 86_400_000
UNSUPPORTED = frozenset(
    {
        TxType.CREATE_PUBLIC_POOL,
        TxType.UPDATE_PUBLIC_POOL,
        TxType.MINT_SHARES,
        TxType.BURN_SHARES,
        TxType.STAKE_ASSETS,
        TxType.UNSTAKE_ASSETS,
    }
)


def check(venue: LighterVenue, account: LighterAccount, tx: Transaction, now_ms: int) -> None:
    """Refuse what the venue would refuse at once.

    Raises:
        Refused: the first rule broken.
    """
    match tx.type:
        case TxType.CREATE_ORDER:
            order = read_order(venue.markets, tx.fields, now_ms)
            _check_integrator(account, tx, order, now_ms)
            _check_order(venue, account, order)
        case TxType.CREATE_GROUPED_ORDERS:
            _check_group(venue, tx, now_ms)
        case TxType.CANCEL_ORDER:
            find_market(venue.markets, tx.fields["MarketIndex"])
        case TxType.MODIFY_ORDER:
            _check_modify(venue, tx)
        case TxType.CANCEL_ALL_ORDERS:
            _check_cancel_all(tx, now_ms)
        case TxType.UPDATE_LEVERAGE:
            _check_leverage(venue, tx)
        case TxType.UPDATE_MARGIN:
            if tx.fields["Direction"] > 1:
                raise Refused(Code.MARGIN_DIRECTION)
            find_market(venue.markets, tx.fields["MarketIndex"])
        case TxType.TRANSFER:
            _check_transfer(venue, account, tx)
        case TxType.WITHDRAW:
            _check_asset(venue, tx, tx.fields["Amount"], Code.WITHDRAW_TOO_SMALL, "min_withdrawal")
        case TxType.CHANGE_PUB_KEY:
            if curve.decode(tx.public_key) in (None, curve.NEUTRAL):
                raise Refused(Code.INVALID_PUBLIC_KEY)
            _check_owner(venue, account, tx)
        case TxType.APPROVE_INTEGRATOR:
            _check_owner(venue, account, tx)
        case TxType.UPDATE_ACCOUNT_CONFIG:
            if tx.fields["AccountTradingMode"] > 1:
                raise Refused(Code.INVALID_TX_INFO)
            if tx.fields["AccountTradingMode"] == account.trading_mode:
                raise Refused(Code.SAME_TRADING_MODE)
        case kind if kind in UNSUPPORTED:
            raise Refused(Code.UNSUPPORTED_TX)


def _check_owner(venue: LighterVenue, account: LighterAccount, tx: Transaction) -> None:
    if venue.settings.verify and not l1.signed_by_owner(tx, venue.settings.chain_id, account.l1_address):
        raise Refused(Code.BAD_L1_SIGNATURE)


def _check_integrator(account: LighterAccount, tx: Transaction, order: NewOrder, now_ms: int) -> None:
    integrator = tx.attribute(Attribute.INTEGRATOR)
    if not integrator:
        return
    approval = account.approvals.get(integrator)
    if approval is None or approval.expiry_ms < now_ms:
        raise Refused(Code.NOT_APPROVED)
    spot = order.spec.spot
    taker_cap = approval.spot_taker if spot else approval.perps_taker
    maker_cap = approval.spot_maker if spot else approval.perps_maker
    if tx.attribute(Attribute.INTEGRATOR_TAKER_FEE) > taker_cap or (
        tx.attribute(Attribute.INTEGRATOR_MAKER_FEE) > maker_cap
    ):
        raise Refused(Code.NOT_APPROVED)


def _check_order(venue: LighterVenue, account: LighterAccount, order: NewOrder) -> None:
    """Trigger side, distance from the mark, and money; the slices of a TWAP are checked as they come."""
    market = venue.market(order.spec)
    trigger = order.trigger
    if trigger is not None and trigger.met(order.side, market.mark):
        raise Refused(Code.INVALID_TRIGGER)
    if abs(order.price / market.mark - 1) > venue.engine.rules.price_band:
        raise Refused(Code.TOO_FAR_FROM_MARK)
    if trigger is not None or order.reduce_only or order.type is OrderType.TWAP:
        return
    if len(venue.engine.live_orders(account.name)) >= venue.engine.rules.max_open_orders:
        raise Refused(Code.TOO_MANY_ORDERS)
    request = OrderRequest(instrument=order.spec.key, side=order.side, quantity=order.quantity, price=order.price)
    draft = Order(order_id=0, account=account.name, request=request, remaining=order.quantity, created_ms=0)
    refusal = money_refusal(venue.engine, draft, market)
    if refusal is Reason.INSUFFICIENT_BALANCE:
        raise Refused(Code.NOT_ENOUGH_BALANCE)
    if refusal is not None:
        raise Refused(Code.NOT_ENOUGH_MARGIN)


def _check_modify(venue: LighterVenue, tx: Transaction) -> None:
    find_market(venue.markets, tx.fields["MarketIndex"])
    if not 1 <= tx.fields["Price"] <= order_rules.MAX_PRICE:
        raise Refused(Code.INVALID_PRICE)


def _check_cancel_all(tx: Transaction, now_ms: int) -> None:
    time = tx.fields["Time"]
    match tx.fields["TimeInForce"]:
        case 0 | 2:
            if time:
                raise Refused(Code.CANCEL_ALL_TIME)
        case 1:
            grace = order_rules.EXPIRY_GRACE_MS
            if not now_ms + SOONEST_CANCEL_MS - grace <= time <= now_ms + LATEST_CANCEL_MS + grace:
                raise Refused(Code.CANCEL_ALL_TIME)
        case _:
            raise Refused(Code.CANCEL_ALL_TIF)


def _check_leverage(venue: LighterVenue, tx: Transaction) -> None:
    spec = find_market(venue.markets, tx.fields["MarketIndex"])
    if spec.spot:
        raise Refused(Code.INVALID_MARKET)
    if not spec.fractions[1] <= tx.fields["InitialMarginFraction"] <= MARGIN_TICKS:
        raise Refused(Code.INVALID_MARGIN_FRACTION)
    if tx.fields["MarginMode"] > 1:
        raise Refused(Code.INVALID_TX_INFO)


def _check_asset(venue: LighterVenue, tx: Transaction, amount: int, too_small: Code, minimum: str) -> None:
    asset = venue.markets.assets.get(tx.fields["AssetIndex"])
    if asset is None:
        raise Refused(Code.INVALID_ASSET)
    if Decimal(amount).scaleb(-asset.decimals) < Decimal(getattr(asset, minimum)):
        raise Refused(too_small)


def _check_transfer(venue: LighterVenue, account: LighterAccount, tx: Transaction) -> None:
    other = venue.accounts.find(tx.fields["ToAccountIndex"])
    if other is None:
        raise Refused(Code.INVALID_TO_ACCOUNT)
    if max(tx.fields["FromRouteType"], tx.fields["ToRouteType"]) > 1:
        raise Refused(Code.INVALID_ROUTE)
    _check_asset(venue, tx, tx.fields["Amount"], Code.TRANSFER_TOO_SMALL, "min_transfer")
    if other.l1_address.lower() != account.l1_address.lower():
        _check_owner(venue, account, tx)


def _check_group(venue: LighterVenue, tx: Transaction, now_ms: int) -> None:
    """Shape of a group; see `read_group`."""
    read_group(venue, tx, now_ms)


def read_group(venue: LighterVenue, tx: Transaction, now_ms: int) -> list[NewOrder]:
    """Orders of a group, parent first.

    Raises:
        Refused: 21741 unknown grouping, 21742 wrong number, 21743 legs that do not fit each other.
    """
    grouping = tx.fields["GroupingType"]
    expected = {ONE_TRIGGERS: 2, ONE_CANCELS: 2, ONE_TRIGGERS_PAIR: 3}.get(grouping)
    if expected is None:
        raise Refused(Code.GROUPING_TYPE)
    if len(tx.orders) != expected:
        raise Refused(Code.GROUP_SIZE)
    legs_from = 0 if grouping == ONE_CANCELS else 1
    orders = [
        read_order(venue.markets, fields, now_ms, child=place >= legs_from) for place, fields in enumerate(tx.orders)
    ]
    legs = orders[legs_from:]
    clients = [order.client_index for order in orders if order.client_index]
    fits = (
        len({order.spec.market_id for order in orders}) == 1
        and not orders[0].spec.spot
        and len(set(clients)) == len(clients)
        and all(leg.type in CONDITIONAL for leg in legs)
        and len({(leg.side, leg.quantity, leg.expiry_ms) for leg in legs}) == 1
    )
    if len(legs) == 2:
        stops = [leg.type in (OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT) for leg in legs]
        fits = fits and stops.count(True) == 1
    if legs_from:
        parent = orders[0]
        fits = fits and parent.type in (OrderType.LIMIT, OrderType.MARKET)
        fits = fits and all(leg.side is not parent.side and not leg.quantity for leg in legs)
    else:
        fits = fits and all(leg.reduce_only for leg in legs)
    if not fits:
        raise Refused(Code.INVALID_ORDER_INFO)
    return orders
