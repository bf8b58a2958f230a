"""Received WebSocket frames, typed. Pure.

A frame is told by its `type`: `subscribed/<kind>` is the snapshot that acknowledges a subscription, `update/<kind>` is
what follows. Requests write channels with `/`, answers with `:`; `normalize_channel` makes them one.
Source: venue reference section 15.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from gateway_lighter import account_messages as accounts
from gateway_lighter import messages as market
from gateway_lighter.codec import SUCCESS, TypedDecoder, decoder_of, violation
from gateway_lighter.refusals import RefusalMeaning, classify_error
from venuemesh.errors import ProtocolViolation

# --- bodies ------------------------------------------------------------------------------------------------


class OrderBookBody(msgspec.Struct, frozen=True, kw_only=True):
    """`order_book`; `timestamp` ms."""

    order_book: market.BookFrame
    timestamp: int = 0


class TickerBody(msgspec.Struct, frozen=True, kw_only=True):
    """`ticker`; its nonce is no chain."""

    ticker: market.Ticker
    nonce: int = 0
    timestamp: int = 0


class TradeBody(msgspec.Struct, frozen=True, kw_only=True):
    """`trade`: prints and liquidations, disjoint, both oldest first."""

    trades: tuple[market.Trade, ...] | None = None
    liquidation_trades: tuple[market.Trade, ...] | None = None
    nonce: int = 0


class MarketStatsBody(msgspec.Struct, frozen=True, kw_only=True):
    """`market_stats` and `spot_market_stats`: one market, or those that changed of all."""

    markets: tuple[market.MarketStats, ...]
    timestamp: int = 0


class CandleBody(msgspec.Struct, frozen=True, kw_only=True):
    """`candle` and `mark_price_candle`; at a rollover the closed one comes first."""

    candles: tuple[market.Candle, ...] | None = None
    timestamp: int = 0


class HeightBody(msgspec.Struct, frozen=True, kw_only=True):
    """`height`."""

    height: int


class AccountAllBody(msgspec.Struct, frozen=True, kw_only=True):
    """`account_all`: everything, then what changed."""

    account: int
    positions: dict[str, accounts.Position] | None = None
    assets: dict[str, accounts.AccountAsset] | None = None
    trades: accounts.TradesByMarket | None = None
    funding_histories: dict[str, tuple[accounts.PositionFunding, ...]] | None = None


class AccountMarketBody(msgspec.Struct, frozen=True, kw_only=True):
    """`account_market`: one market of an account; `position` None when unchanged."""

    account: int
    orders: tuple[accounts.Order, ...] | None = None
    position: accounts.Position | None = None
    trades: tuple[market.Trade, ...] | None = None


class OrdersBody(msgspec.Struct, frozen=True, kw_only=True):
    """`account_all_orders` and `account_orders`: live orders, then each that changed, once more when it ends."""

    orders: accounts.OrdersByMarket | None = None

    @property
    def rows(self) -> tuple[accounts.Order, ...]:
        """All orders of all markets."""
        return tuple(order for rows in (self.orders or {}).values() for order in rows)


class TradesBody(msgspec.Struct, frozen=True, kw_only=True):
    """`account_all_trades`; the snapshot is always empty: fills are not replayed."""

    trades: accounts.TradesByMarket | None = None

    @property
    def rows(self) -> tuple[market.Trade, ...]:
        """All trades of all markets."""
        return tuple(trade for rows in (self.trades or {}).values() for trade in rows)


class PositionsBody(msgspec.Struct, frozen=True, kw_only=True):
    """`account_all_positions`."""

    positions: dict[str, accounts.Position] | None = None


class AssetsBody(msgspec.Struct, frozen=True, kw_only=True):
    """`account_all_assets`."""

    assets: dict[str, accounts.AccountAsset] | None = None
    timestamp: int = 0


class UserStatsBody(msgspec.Struct, frozen=True, kw_only=True):
    """`user_stats`."""

    stats: accounts.UserStats
    timestamp: int = 0


class TransactionsBody(msgspec.Struct, frozen=True, kw_only=True):
    """`account_tx`; no list in the snapshot."""

    txs: tuple[accounts.TransactionRow, ...] | None = None


# --- frames ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFrame:
    """A typed body of channel `kind`; `channel` is normalized."""

    kind: str
    channel: str
    is_snapshot: bool
    body: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableData:
    """A data frame whose channel is legible and whose body breaks its shape: the state behind it must be read again."""

    channel: str
    is_snapshot: bool
    violation: ProtocolViolation


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """The first frame of a connection."""

    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPing:
    """To be answered with a pong, or the server closes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """Answer to our ping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribed:
    """A subscription ended because we asked."""

    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFrame:
    """A refusal; mostly neither channel nor id, so that only the order of requests tells which is meant."""

    meaning: RefusalMeaning
    channel: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """The server will close after so many milliseconds."""

    close_in_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionReply:
    """A transaction (or a batch) is queued."""

    id: str
    answer: accounts.SendAnswer | accounts.SendBatchAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableReply:
    """A reply whose id is legible and whose content is not: that transaction's outcome is unknown."""

    id: str
    violation: ProtocolViolation


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownFrame:
    """A type that is not in the reference; the raw frame is kept."""

    type: str
    raw: bytes


Frame: TypeAlias = (
    DataFrame
    | UnreadableData
    | Greeting
    | ServerPing
    | Pong
    | Unsubscribed
    | ErrorFrame
    | Shutdown
    | TransactionReply
    | UnreadableReply
    | UnknownFrame
)


class _ErrorBody(msgspec.Struct, frozen=True):
    code: int
    message: str = ""


class _Envelope(msgspec.Struct, frozen=True):
    type: str = ""
    channel: str = ""
    id: str | int | None = None
    code: int | None = None
    message: str | None = None
    error: _ErrorBody | None = None
    session_id: str = ""
    close_in_ms: int = 0


class _StatsFrame(msgspec.Struct, frozen=True):
    market_stats: msgspec.Raw = msgspec.Raw()
    spot_market_stats: msgspec.Raw = msgspec.Raw()
    timestamp: int = 0


_BODIES: Final[dict[str, Any]] = {
    "order_book": OrderBookBody,
    "ticker": TickerBody,
    "trade": TradeBody,
    "candle": CandleBody,
    "mark_price_candle": CandleBody,
    "height": HeightBody,
    "account_all": AccountAllBody,
    "account_market": AccountMarketBody,
    "account_all_orders": OrdersBody,
    "account_orders": OrdersBody,
    "account_all_trades": TradesBody,
    "account_all_positions": PositionsBody,
    "account_all_assets": AssetsBody,
    "user_stats": UserStatsBody,
    "account_tx": TransactionsBody,
    # of interest to people only, so their parts are not typed here
    "notification": dict[str, Any],
    "account_spot_avg_entry_prices": dict[str, Any],
    "pool_data": dict[str, Any],
    "pool_info": dict[str, Any],
    "rfq": dict[str, Any],
}
_STATS: Final = frozenset({"market_stats", "spot_market_stats"})
_REPLIES: Final[dict[str, TypedDecoder]] = {
    "jsonapi/sendtx": decoder_of("sendtx reply", accounts.SendAnswer),
    "jsonapi/sendtxbatch": decoder_of("sendtxbatch reply", accounts.SendBatchAnswer),
}

KINDS: Final = frozenset(_BODIES) | _STATS
"""Channels this module types."""

_envelope = decoder_of("frame", _Envelope)
_bodies: Final[dict[str, TypedDecoder]] = {kind: decoder_of(f"{kind} frame", body) for kind, body in _BODIES.items()}
_stats_frame = decoder_of("market_stats frame", _StatsFrame)
_one_market = decoder_of("market_stats frame", market.MarketStats)
_many_markets = decoder_of("market_stats frame", dict[str, market.MarketStats])


def normalize_channel(channel: str) -> str:
    """The channel as answers write it."""
    return channel.replace("/", ":")


def parse_frame(raw: bytes) -> Frame:
    """One received text frame, typed.

    Raises:
        ProtocolViolation: not a JSON object, or an error without a code.
    """
    envelope: _Envelope = _envelope.decode(raw)
    verb, _, kind = envelope.type.partition("/")
    if envelope.error is not None or envelope.type == "error":
        return _parse_error(envelope, raw)
    if verb in ("subscribed", "update") and kind in KINDS:
        return _parse_data(kind, normalize_channel(envelope.channel), verb == "subscribed", raw)
    if envelope.type in _REPLIES:
        return _parse_reply(envelope, raw)
    match envelope.type:
        case "connected":
            return Greeting(session_id=envelope.session_id)
        case "ping":
            return ServerPing()
        case "pong":
            return Pong()
        case "unsubscribed":
            return Unsubscribed(channel=normalize_channel(envelope.channel))
        case "shutdown":
            return Shutdown(close_in_ms=envelope.close_in_ms)
        case _:
            return UnknownFrame(type=envelope.type, raw=raw)


def _parse_data(kind: str, channel: str, is_snapshot: bool, raw: bytes) -> Frame:
    try:
        body = _parse_stats(raw) if kind in _STATS else _bodies[kind].decode(raw)
    except ProtocolViolation as cause:
        return UnreadableData(channel=channel, is_snapshot=is_snapshot, violation=cause)
    return DataFrame(kind=kind, channel=channel, is_snapshot=is_snapshot, body=body)


def _parse_error(envelope: _Envelope, raw: bytes) -> ErrorFrame:
    code = envelope.error.code if envelope.error else envelope.code
    if code is None:
        raise violation("error frame", raw, "it has no code")
    message = envelope.error.message if envelope.error else envelope.message
    return ErrorFrame(
        meaning=classify_error(code, message or ""),
        channel=normalize_channel(envelope.channel) or None,
        id=None if envelope.id is None else str(envelope.id),
    )


def _parse_reply(envelope: _Envelope, raw: bytes) -> Frame:
    if envelope.id is None:
        raise violation("transaction reply", raw, "it has no id")
    reply_id = str(envelope.id)
    if envelope.code is not None and envelope.code != SUCCESS:
        return ErrorFrame(meaning=classify_error(envelope.code, envelope.message or ""), id=reply_id)
    try:
        if envelope.code is None:
            raise violation("transaction reply", raw, "it has no code")
        return TransactionReply(id=reply_id, answer=_REPLIES[envelope.type].decode(raw))
    except ProtocolViolation as cause:
        return UnreadableReply(id=reply_id, violation=cause)


def _parse_stats(raw: bytes) -> MarketStatsBody:
    frame: _StatsFrame = _stats_frame.decode(raw)
    inner = frame.market_stats if bytes(frame.market_stats) else frame.spot_market_stats
    if not bytes(inner):
        raise violation("market_stats frame", raw, "it has no statistics")
    try:
        many: dict[str, market.MarketStats] = _many_markets.decode(inner)
    except ProtocolViolation:
        return MarketStatsBody(markets=(_one_market.decode(inner),), timestamp=frame.timestamp)
    return MarketStatsBody(markets=tuple(many.values()), timestamp=frame.timestamp)
