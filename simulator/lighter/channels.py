"""Subscriptions: which exist, what a client may ask for, and what each sends first and later. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from simulator.engine.values import OrderSnapshot, Side
from simulator.lighter import account_rows, public
from simulator.lighter.accounts import LighterAccount
from simulator.lighter.batch import Batch
from simulator.lighter.errors import Code, Refused
from simulator.lighter.market_feed import BookDelta, book_body
from simulator.lighter.markets import MarketSpec, money
from simulator.lighter.orders import height
from simulator.lighter.trades import TradeRecord
from simulator.lighter.venue import LighterVenue

Body = dict[str, Any]
FIRST_TRADES = 50
ALL = "all"


@dataclass(slots=True, kw_only=True)
class Subscription:
    """One live subscription. `channel` is what answers carry, `asked` what tells two apart."""

    kind: str
    asked: str
    channel: str
    spec: MarketSpec | None = None
    account: LighterAccount | None = None
    resolution: str = ""
    last: Any = field(default=None)

    @property
    def market(self) -> MarketSpec:
        """Its market; channels that have one always do."""
        if self.spec is None:
            raise ValueError(f"{self.kind} has no market")
        return self.spec

    @property
    def owner(self) -> LighterAccount:
        """Its account; channels that have one always do."""
        if self.account is None:
            raise ValueError(f"{self.kind} has no account")
        return self.account


First = Callable[[LighterVenue, Subscription, int], Body]
Later = Callable[[LighterVenue, Subscription, Batch, int], Body | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """How a kind behaves: the parts of its name, whether it needs a token, its first frame and later ones.

    `pools_open`: a public pool is shown to everybody.
    """

    parts: Sequence[str]
    private: bool
    first: First
    later: Later
    pools_open: bool = False


def parse(venue: LighterVenue, text: str) -> tuple[Subscription, Channel]:
    """A subscription from its channel text, "order_book/0" or "order_book:0".

    Raises:
        Refused: 30005, 21100.
    """
    kind, *values = text.replace(":", "/").split("/")
    channel = CHANNELS.get(kind)
    if channel is None or len(values) != len(channel.parts):
        raise _invalid(text)
    joined = ":".join([kind, *values])
    shown = f"{kind}:{values[0]}" if kind == "account_orders" else joined
    found = Subscription(kind=kind, asked=joined, channel=shown)
    for part, value in zip(channel.parts, values, strict=True):
        _read_part(venue, found, part, value)
    return found, channel


def _invalid(text: str) -> Refused:
    return Refused(Code.INVALID_CHANNEL, f"Invalid Channel: {text}")


def _read_part(venue: LighterVenue, found: Subscription, part: str, value: str) -> None:
    match part:
        case "market" | "markets":
            if part == "markets" and value == ALL:
                return
            found.spec = venue.markets.by_id.get(int(value)) if value.isdigit() else None
            if found.spec is None:
                raise _invalid(" (marketId)")
        case "account":
            found.account = venue.accounts.find(int(value)) if value.isdigit() else None
            if found.account is None:
                raise _invalid(" (accountIndex)") if not value.isdigit() else Refused(Code.ACCOUNT_NOT_FOUND)
        case "resolution":
            if value not in public.RESOLUTIONS or value == "1w":
                raise _invalid(" (resolution)")
            found.resolution = value


# -- markets -----------------------------------------------------------------------------------------------------


def _book_frame(delta: BookDelta, now_ms: int) -> Body:
    return {
        "last_updated_at": delta.updated_us,
        "offset": delta.offset,
        "order_book": book_body(delta),
        "timestamp": now_ms,
    }


def _book(venue: LighterVenue, sub: Subscription, now_ms: int) -> Body:
    return _book_frame(venue.feeds.snapshot(sub.market), now_ms)


def _book_later(_venue: LighterVenue, sub: Subscription, batch: Batch, now_ms: int) -> Body | None:
    delta = batch.books.get(sub.market.market_id)
    return None if delta is None else _book_frame(delta, now_ms)


def _ticker(venue: LighterVenue, sub: Subscription, now_ms: int) -> Body:
    ticker = venue.feeds.ticker(sub.market)
    nonce = venue.feeds.last_nonce(sub.market.market_id)
    return {"nonce": nonce, "last_updated_at": ticker["last_updated_at"], "ticker": ticker, "timestamp": now_ms}


def _ticker_later(venue: LighterVenue, sub: Subscription, batch: Batch, now_ms: int) -> Body | None:
    return _ticker(venue, sub, now_ms) if sub.market.market_id in batch.books else None


def _trade_frame(venue: LighterVenue, sub: Subscription, records: Iterable[TradeRecord]) -> Body:
    rows = [(record.liquidation, venue.tape.row(record)) for record in records]
    return {
        "nonce": venue.feeds.last_nonce(sub.market.market_id),
        "trades": [row for liquidated, row in rows if not liquidated],
        "liquidation_trades": [row for liquidated, row in rows if liquidated],
    }


def _trades(venue: LighterVenue, sub: Subscription, _now_ms: int) -> Body:
    records = list(venue.tape.of_market(sub.market.market_id))
    prints = [record for record in records if not record.liquidation][-FIRST_TRADES:]
    forced = [record for record in records if record.liquidation][-FIRST_TRADES:]
    return _trade_frame(venue, sub, [*prints, *forced])


def _trades_later(venue: LighterVenue, sub: Subscription, batch: Batch, _now_ms: int) -> Body | None:
    records = batch.trades.get(sub.market.market_id)
    return _trade_frame(venue, sub, records) if records else None


def _stats(name: str, *, spot: bool) -> tuple[First, Later]:
    """`market_stats` and its spot sister: one object, or a map of all markets, later of those that changed."""

    def wanted(venue: LighterVenue, sub: Subscription) -> list[MarketSpec]:
        return [sub.spec] if sub.spec else [spec for spec in venue.markets.all if spec.spot == spot]

    def body(venue: LighterVenue, sub: Subscription, specs: Iterable[MarketSpec], now_ms: int) -> Body:
        rows = {str(spec.market_id): public.market_stats(venue, spec, now_ms) for spec in specs}
        return {name: rows if sub.spec is None else next(iter(rows.values())), "timestamp": now_ms}

    def first(venue: LighterVenue, sub: Subscription, now_ms: int) -> Body:
        return body(venue, sub, wanted(venue, sub), now_ms)

    def later(venue: LighterVenue, sub: Subscription, batch: Batch, now_ms: int) -> Body | None:
        moved = batch.prices | batch.trades.keys() | batch.books.keys()
        changed = [spec for spec in wanted(venue, sub) if spec.market_id in moved]
        return body(venue, sub, changed, now_ms) if changed else None

    return first, later


def _candles(venue: LighterVenue, sub: Subscription, now_ms: int) -> Body:
    rows = public.current_candles(venue, sub.market, sub.resolution, now_ms)
    rows = rows or public.current_candles(venue, sub.market, sub.resolution, _last_traded(venue, sub, now_ms))[-1:]
    sub.last = rows[-1]["t"] if rows else now_ms
    return {"candles": rows, "timestamp": now_ms}


def _last_traded(venue: LighterVenue, sub: Subscription, now_ms: int) -> int:
    minutes = venue.market(sub.market).minutes
    return minutes[-1].open_ms if minutes else now_ms


def _candles_later(venue: LighterVenue, sub: Subscription, batch: Batch, now_ms: int) -> Body | None:
    if sub.market.market_id not in batch.trades:
        return None
    rows = public.current_candles(venue, sub.market, sub.resolution, sub.last)
    if not rows:
        return None
    sub.last = rows[-1]["t"]
    return {"candles": rows[-2:], "timestamp": now_ms}


def _mark_candles(venue: LighterVenue, sub: Subscription, now_ms: int) -> Body:
    body = _candles(venue, sub, now_ms)
    return body | {"candles": [public.mark_candle(row) for row in body["candles"]]}


def _mark_candles_later(venue: LighterVenue, sub: Subscription, batch: Batch, now_ms: int) -> Body | None:
    body = _candles_later(venue, sub, batch, now_ms)
    return None if body is None else body | {"candles": [public.mark_candle(row) for row in body["candles"]]}


def _height(_venue: LighterVenue, sub: Subscription, now_ms: int) -> Body:
    sub.last = height(now_ms)
    return {"height": sub.last, "timestamp": now_ms}


def _height_later(venue: LighterVenue, sub: Subscription, _batch: Batch, now_ms: int) -> Body | None:
    return _height(venue, sub, now_ms) if sub.last != height(now_ms) else None


# -- accounts ----------------------------------------------------------------------------------------------------


def _changed_orders(venue: LighterVenue, sub: Subscription, batch: Batch) -> list[OrderSnapshot]:
    """Orders that changed, each once, in its last state."""
    last = {change.order.order_id: change.order for change in batch.orders.get(sub.owner.name, ())}
    return [order for order in last.values() if sub.spec is None or venue.orders.spec(order) is sub.spec]


def _live_orders(venue: LighterVenue, sub: Subscription) -> list[OrderSnapshot]:
    live = [order.snapshot() for order in venue.engine.live_orders(sub.owner.name)]
    return [order for order in live if sub.spec is None or venue.orders.spec(order) is sub.spec]


def _order_map(venue: LighterVenue, orders: Iterable[OrderSnapshot], *, update: bool) -> dict[str, list[Body]]:
    return account_rows.by_market((venue.orders.row(order, update=update) for order in orders), "market_index")


def _all_orders(venue: LighterVenue, sub: Subscription, _now_ms: int) -> Body:
    return {"orders": _order_map(venue, _live_orders(venue, sub), update=False)}


def _all_orders_later(venue: LighterVenue, sub: Subscription, batch: Batch, _now_ms: int) -> Body | None:
    orders = _changed_orders(venue, sub, batch)
    return {"orders": _order_map(venue, orders, update=True)} if orders else None


def _orders(venue: LighterVenue, sub: Subscription, now_ms: int) -> Body:
    return {"account": sub.owner.index, "nonce": venue.feeds.nonce, **_all_orders(venue, sub, now_ms)}


def _orders_later(venue: LighterVenue, sub: Subscription, batch: Batch, now_ms: int) -> Body | None:
    body = _all_orders_later(venue, sub, batch, now_ms)
    return None if body is None else {"account": sub.owner.index, "nonce": venue.feeds.nonce, **body}


def _own_trades(venue: LighterVenue, sub: Subscription, batch: Batch) -> list[Body]:
    name = sub.owner.name
    records = batch.own_trades.get(name, ())
    return [venue.tape.row(record, name) for record in records if sub.spec is None or record.spec is sub.spec]


def _all_trades(venue: LighterVenue, sub: Subscription, now_ms: int) -> Body:
    totals = account_rows.volumes(venue, sub.owner, now_ms)
    return {"trades": {}, **{key: value for key, value in totals.items() if key.endswith("_volume")}}


def _all_trades_later(venue: LighterVenue, sub: Subscription, batch: Batch, _now_ms: int) -> Body | None:
    rows = _own_trades(venue, sub, batch)
    return {"trades": account_rows.by_market(rows)} if rows else None


def _changed_positions(venue: LighterVenue, sub: Subscription, batch: Batch) -> dict[str, Body]:
    """Positions whose size, setting or orders changed."""
    name = sub.owner.name
    ids = set(batch.positions.get(name, ()))
    ids |= {venue.orders.spec(change.order).market_id for change in batch.orders.get(name, ())}
    specs = [venue.markets.by_id[market_id] for market_id in sorted(ids)]
    return {str(s.market_id): account_rows.position(venue, sub.owner, s) for s in specs if not s.spot}


def _all_positions(venue: LighterVenue, sub: Subscription, _now_ms: int) -> Body:
    specs = account_rows.known_markets(venue, sub.owner)
    return {
        "positions": {str(s.market_id): account_rows.position(venue, sub.owner, s) for s in specs},
        "shares": [],
    }


def _all_positions_later(venue: LighterVenue, sub: Subscription, batch: Batch, _now_ms: int) -> Body | None:
    found = _changed_positions(venue, sub, batch)
    return {"positions": found, "shares": []} if found else None


def _all_assets(venue: LighterVenue, sub: Subscription, now_ms: int) -> Body:
    sub.last = account_rows.assets(venue, sub.owner)
    return {"assets": sub.last, "timestamp": now_ms}


def _all_assets_later(venue: LighterVenue, sub: Subscription, batch: Batch, now_ms: int) -> Body | None:
    if sub.owner.name not in batch.touched or account_rows.assets(venue, sub.owner) == sub.last:
        return None
    return _all_assets(venue, sub, now_ms)


def _fundings(venue: LighterVenue, sub: Subscription, batch: Batch) -> list[Body]:
    rows = [account_rows.funding_row(venue, event) for event in batch.fundings.get(sub.owner.name, ())]
    return [row for row in rows if sub.spec is None or row["market_id"] == sub.spec.market_id]


def _account_all(venue: LighterVenue, sub: Subscription, now_ms: int) -> Body:
    sub.last = account_rows.assets(venue, sub.owner)
    return {
        "account": sub.owner.index,
        **_all_positions(venue, sub, now_ms),
        "assets": sub.last,
        "trades": {},
        "funding_histories": {},
        **account_rows.volumes(venue, sub.owner, now_ms),
    }


def _account_all_later(venue: LighterVenue, sub: Subscription, batch: Batch, _now_ms: int) -> Body | None:
    if sub.owner.name not in batch.touched:
        return None
    assets = account_rows.assets(venue, sub.owner)
    changed = assets != sub.last
    sub.last = assets
    return {
        "account": sub.owner.index,
        "positions": _changed_positions(venue, sub, batch),
        "assets": assets if changed else None,
        "trades": account_rows.by_market(_own_trades(venue, sub, batch)),
        "funding_histories": account_rows.by_market(_fundings(venue, sub, batch)),
        "shares": [],
    }


def _account_market(venue: LighterVenue, sub: Subscription, _now_ms: int) -> Body:
    orders = [venue.orders.row(order) for order in _live_orders(venue, sub)]
    spot = sub.market.spot
    return {
        "account": sub.owner.index,
        "orders": orders,
        "position": None if spot else account_rows.position(venue, sub.owner, sub.market),
        "trades": [],
        "assets": account_rows.assets(venue, sub.owner) if spot else None,
        "funding_history": None,
    }


def _account_market_later(venue: LighterVenue, sub: Subscription, batch: Batch, _now_ms: int) -> Body | None:
    orders = [venue.orders.row(order, update=True) for order in _changed_orders(venue, sub, batch)]
    trades, fundings = _own_trades(venue, sub, batch), _fundings(venue, sub, batch)
    positions = _changed_positions(venue, sub, batch)
    position = positions.get(str(sub.market.market_id))
    if not (orders or trades or fundings or position):
        return None
    return {
        "account": sub.owner.index,
        "orders": orders,
        "position": position,
        "trades": trades,
        "assets": account_rows.assets(venue, sub.owner) if sub.market.spot else None,
        "funding_history": fundings or None,
    }


def _user_stats(venue: LighterVenue, sub: Subscription, now_ms: int) -> Body:
    sub.last = account_rows.user_stats(venue, sub.owner)
    return {"stats": sub.last, "timestamp": now_ms}


def _user_stats_later(venue: LighterVenue, sub: Subscription, batch: Batch, now_ms: int) -> Body | None:
    if sub.owner.name not in batch.touched and not batch.prices:
        return None
    if account_rows.user_stats(venue, sub.owner) == sub.last:
        return None
    return _user_stats(venue, sub, now_ms)


def _spot_prices(venue: LighterVenue, sub: Subscription, now_ms: int) -> Body:
    owner = venue.engine.open_account(sub.owner.name)
    found = {}
    for asset in venue.markets.assets.values():
        balance = owner.spot.get(asset.symbol)
        if balance is None or not balance.total or not balance.cost:
            continue
        price = balance.cost / balance.total
        found[str(asset.asset_id)] = {
            "asset_id": asset.asset_id,
            "avg_entry_price": f"{price:.6f}",
            "asset_size": f"{balance.total:.{asset.decimals}f}",
            "last_trade_id": 0,
        }
    return {"avg_entry_prices": found, "timestamp": now_ms}


def _spot_prices_later(venue: LighterVenue, sub: Subscription, batch: Batch, now_ms: int) -> Body | None:
    return _spot_prices(venue, sub, now_ms) if batch.own_trades.get(sub.owner.name) else None


def _transactions(_venue: LighterVenue, _sub: Subscription, _now_ms: int) -> Body:
    return {}


def _transactions_later(_venue: LighterVenue, sub: Subscription, batch: Batch, _now_ms: int) -> Body | None:
    records = batch.records.get(sub.owner.index)
    return {"txs": [record.row() for record in records]} if records else None


def _liquidations(_venue: LighterVenue, sub: Subscription, batch: Batch, now_ms: int) -> Body | None:
    """One notification for each match that closed a liquidated position."""
    records = batch.liquidations.get(sub.owner.name)
    if not records:
        return None
    at = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
    return {
        "notifs": [
            {
                "id": f"liq-{record.trade.trade_id}",
                "created_at": at,
                "updated_at": at,
                "kind": "liquidation",
                "account_index": sub.owner.index,
                "content": {
                    "id": str(record.trade.trade_id),
                    "is_ask": record.trade.side is Side.SELL,
                    "usdc_amount": money(record.trade.quantity * record.trade.price),
                    "size": record.spec.size_text(record.trade.quantity),
                    "market_index": record.spec.market_id,
                    "price": record.spec.price_text(record.trade.price),
                    "timestamp": record.trade.time_ms // 1000,
                    "avg_price": record.spec.price_text(record.trade.price),
                },
                "ack": False,
                "acked_at": None,
            }
            for record in records
        ]
    }


def _fixed(name: str) -> First:
    """A first frame with an empty list."""

    def first(_venue: LighterVenue, _sub: Subscription, _now_ms: int) -> Body:
        return {name: []}

    return first


def _never(_venue: LighterVenue, _sub: Subscription, _batch: Batch, _now_ms: int) -> Body | None:
    return None


def _channel(parts: str, first: First, later: Later, *, private: bool = False, pools_open: bool = False) -> Channel:
    return Channel(parts=parts.split(), private=private, first=first, later=later, pools_open=pools_open)


CHANNELS: Mapping[str, Channel] = {
    "order_book": _channel("market", _book, _book_later),
    "ticker": _channel("market", _ticker, _ticker_later),
    "trade": _channel("market", _trades, _trades_later),
    "market_stats": _channel("markets", *_stats("market_stats", spot=False)),
    "spot_market_stats": _channel("markets", *_stats("spot_market_stats", spot=True)),
    "candle": _channel("market resolution", _candles, _candles_later),
    "mark_price_candle": _channel("market resolution", _mark_candles, _mark_candles_later),
    "height": _channel("", _height, _height_later),
    "account_all": _channel("account", _account_all, _account_all_later),
    "user_stats": _channel("account", _user_stats, _user_stats_later),
    "account_market": _channel("market account", _account_market, _account_market_later, private=True),
    "account_all_orders": _channel("account", _all_orders, _all_orders_later, private=True),
    "account_orders": _channel("market account", _orders, _orders_later, private=True),
    "account_all_trades": _channel("account", _all_trades, _all_trades_later, private=True, pools_open=True),
    "account_all_positions": _channel("account", _all_positions, _all_positions_later, private=True, pools_open=True),
    "account_all_assets": _channel("account", _all_assets, _all_assets_later, private=True),
    "account_spot_avg_entry_prices": _channel("account", _spot_prices, _spot_prices_later, private=True),
    "account_tx": _channel("account", _transactions, _transactions_later, private=True),
    "notification": _channel("account", _fixed("notifs"), _liquidations, private=True),
    "rfq": _channel("", _fixed("rfqs"), _never, private=True),
}
