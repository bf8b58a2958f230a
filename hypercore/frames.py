"""WebSocket frames, typed by channel. A channel or event nobody knows is an `UnknownFrame`, never dropped.

Source: venue reference section 6.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

import msgspec

from hypercore import account_messages as account
from hypercore import messages as market
from hypercore.codec import Mids, TypedDecoder, decoder_of, parse_ledger_updates, violation
from hypercore.exchange_codec import ExchangeAnswer, parse_exchange_answer
from venuemesh.errors import ProtocolViolation

# --- data of the channels ----------------------------------------------------------------------------------


class MidsUpdate(market.Wire, frozen=True, kw_only=True):
    """allMids; `dex` only on builder-dex subscriptions."""

    mids: Mids
    dex: str | None = None


class CoinCtx(market.Wire, frozen=True, kw_only=True):
    """activeAssetCtx."""

    coin: str
    ctx: market.AssetCtx


class CoinSpotCtx(market.Wire, frozen=True, kw_only=True):
    """activeSpotAssetCtx."""

    coin: str
    ctx: market.SpotAssetCtx


class DexCtxs(market.PairWire, frozen=True):
    """`["xyz", [ctx...]]`; the main dex is ""."""

    dex: str
    ctxs: tuple[market.AssetCtx, ...]


class AllDexsCtxs(market.Wire, frozen=True, kw_only=True):
    """allDexsAssetCtxs, sorted by dex name."""

    ctxs: tuple[DexCtxs, ...]


class OneDexCtxs(market.Wire, frozen=True, kw_only=True):
    """assetCtxs of one dex."""

    ctxs: tuple[market.AssetCtx, ...]
    dex: str = ""


class FastCtx(market.Wire, frozen=True, kw_only=True):
    """Element of fastAssetCtxs; only what changed."""

    mark_px: Decimal | None = None
    mid_px: Decimal | None = None


class Notification(market.Wire, frozen=True, kw_only=True):
    """A sentence for people."""

    notification: str


class UserEvent(market.Wire, frozen=True, kw_only=True):
    """userEvents: exactly one of these is set; the frame names no user."""

    fills: tuple[account.Fill, ...] | None = None
    funding: account.FundingPayment | None = None
    liquidation: account.Liquidation | None = None
    non_user_cancel: tuple[account.NonUserCancel, ...] | None = None
    twap_history: tuple[account.TwapHistoryRow, ...] | None = None
    twap_slice_fills: tuple[account.TwapSliceFill, ...] | None = None


class UserFills(market.Wire, frozen=True, kw_only=True):
    """userFills; a snapshot is oldest first."""

    user: str
    fills: tuple[account.Fill, ...]
    is_snapshot: bool = False


class UserFundings(market.Wire, frozen=True, kw_only=True):
    """userFundings."""

    user: str
    fundings: tuple[account.FundingPayment, ...]
    is_snapshot: bool = False


class _RawLedger(market.Wire, frozen=True, kw_only=True):
    user: str
    non_funding_ledger_updates: msgspec.Raw
    is_snapshot: bool = False


class UserLedger(msgspec.Struct, frozen=True, kw_only=True):
    """userNonFundingLedgerUpdates."""

    user: str
    updates: tuple[account.LedgerUpdate, ...]
    is_snapshot: bool = False


class DexClearinghouse(market.Wire, frozen=True, kw_only=True):
    """clearinghouseState of one dex; full state on each change."""

    user: str
    clearinghouse_state: account.ClearinghouseState
    dex: str = ""


class DexState(market.PairWire, frozen=True):
    """`["xyz", {...}]`."""

    dex: str
    state: account.ClearinghouseState


class AllDexsClearinghouse(market.Wire, frozen=True, kw_only=True):
    """allDexsClearinghouseState."""

    user: str
    clearinghouse_states: tuple[DexState, ...]


class DexOpenOrders(market.Wire, frozen=True, kw_only=True):
    """openOrders of one dex; the full list each time."""

    user: str
    orders: tuple[account.FrontendOrder, ...]
    dex: str = ""


class DexTwapStates(market.Wire, frozen=True, kw_only=True):
    """twapStates of one dex."""

    user: str
    states: tuple[account.NumberedTwapState, ...]
    dex: str = ""


class UserSpotState(market.Wire, frozen=True, kw_only=True):
    """spotState."""

    user: str
    spot_state: account.SpotState


class UserHistoricalOrders(market.Wire, frozen=True, kw_only=True):
    """userHistoricalOrders."""

    user: str
    order_history: tuple[account.OrderWithStatus, ...]
    is_snapshot: bool = False


class UserTwapSliceFills(market.Wire, frozen=True, kw_only=True):
    """userTwapSliceFills."""

    user: str
    twap_slice_fills: tuple[account.TwapSliceFill, ...]
    is_snapshot: bool = False


class UserTwapHistory(market.Wire, frozen=True, kw_only=True):
    """userTwapHistory."""

    user: str
    history: tuple[account.TwapHistoryRow, ...]
    is_snapshot: bool = False


# --- frames ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFrame:
    """Data of one subscription channel; `data` has the type `_CHANNELS` gives for `channel`."""

    channel: str
    data: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionReply:
    """The venue's echo of a subscribe or unsubscribe; it may add keys and change their order."""

    method: str
    subscription: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """Answer to our ping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """The plain text some servers open with; the one frame that is not JSON."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFrame:
    """`{"channel":"error"}`: the socket stays open."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionReply:
    """Answer to a posted action."""

    id: int
    answer: ExchangeAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoReply:
    """Answer to a posted info request; `data` goes to `codec.parse_info(info_type, data)`."""

    id: int
    info_type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PostErrorReply:
    """The venue could not take the posted request at all; `text` opens with an HTTP-like status."""

    id: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadablePostReply:
    """A reply whose id is legible and whose content is not: that one request's outcome is unknown."""

    id: int
    violation: ProtocolViolation


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownFrame:
    """A channel (or a kind of user event) that is not in the reference; the raw data is kept."""

    channel: str
    raw: bytes


Frame: TypeAlias = (
    DataFrame
    | SubscriptionReply
    | Pong
    | Greeting
    | ErrorFrame
    | ActionReply
    | InfoReply
    | PostErrorReply
    | UnreadablePostReply
    | UnknownFrame
)


class _Envelope(msgspec.Struct, frozen=True):
    channel: str
    data: msgspec.Raw = msgspec.Raw()


class _Subscription(msgspec.Struct, frozen=True):
    method: str
    subscription: dict[str, Any]


class _PostResponse(msgspec.Struct, frozen=True):
    type: str
    payload: msgspec.Raw


class _Post(msgspec.Struct, frozen=True):
    id: int
    response: msgspec.Raw


class _InfoPayload(msgspec.Struct, frozen=True):
    type: str
    data: msgspec.Raw


GREETING: Final = b"Websocket connection established."

_CHANNELS: Final[dict[str, Any]] = {
    "allMids": MidsUpdate,
    "l2Book": market.L2Book,
    "bbo": market.Bbo,
    "trades": tuple[market.Trade, ...],
    "candle": market.Candle,
    "activeAssetCtx": CoinCtx,
    "activeSpotAssetCtx": CoinSpotCtx,
    "assetCtxs": OneDexCtxs,
    "spotAssetCtxs": tuple[market.SpotAssetCtx, ...],
    "allDexsAssetCtxs": AllDexsCtxs,
    "fastAssetCtxs": dict[str, FastCtx],
    "notification": Notification,
    "orderUpdates": tuple[account.OrderUpdate, ...],
    "user": UserEvent,
    "userFills": UserFills,
    "userFundings": UserFundings,
    "activeAssetData": account.ActiveAssetData,
    # UI bundles: of interest as a whole only, so their parts are not typed here
    "webData2": dict[str, Any],
    "webData3": dict[str, Any],
    "clearinghouseState": DexClearinghouse,
    "openOrders": DexOpenOrders,
    "twapStates": DexTwapStates,
    "allDexsClearinghouseState": AllDexsClearinghouse,
    "spotState": UserSpotState,
    "userHistoricalOrders": UserHistoricalOrders,
    "userTwapSliceFills": UserTwapSliceFills,
    "userTwapHistory": UserTwapHistory,
}

_LEDGER_CHANNEL: Final = "userNonFundingLedgerUpdates"

CHANNELS: Final = frozenset(_CHANNELS) | {_LEDGER_CHANNEL}
"""Data channels this module types."""

_envelope = decoder_of("frame", _Envelope)
_data: Final[dict[str, TypedDecoder]] = {name: decoder_of(f"{name} frame", kind) for name, kind in _CHANNELS.items()}
_ledger = decoder_of(f"{_LEDGER_CHANNEL} frame", _RawLedger)
_subscription = decoder_of("subscriptionResponse frame", _Subscription)
_error = decoder_of("error frame", str)
_post = decoder_of("post frame", _Post)
_post_response = decoder_of("post response", _PostResponse)
_info_payload = decoder_of("post info payload", _InfoPayload)
_post_error = decoder_of("post error payload", str)

_EMPTY_EVENT = UserEvent()


def parse_frame(raw: bytes) -> Frame:
    """One received text frame, typed.

    Raises:
        ProtocolViolation: not JSON, no channel, or data that breaks its channel's shape.
    """
    if raw.startswith(GREETING[:9]):
        return Greeting(text=raw[:200].decode("utf-8", errors="replace"))
    envelope: _Envelope = _envelope.decode(raw)
    channel, data = envelope.channel, envelope.data
    if decoder := _data.get(channel):
        value = decoder.decode(data)
        if channel == "user" and value == _EMPTY_EVENT:
            return UnknownFrame(channel=channel, raw=bytes(data))
        return DataFrame(channel=channel, data=value)
    if channel == "post":
        return _parse_post(data)
    if channel == "pong":
        return Pong()
    if channel == "subscriptionResponse":
        reply: _Subscription = _subscription.decode(data)
        return SubscriptionReply(method=reply.method, subscription=reply.subscription)
    if channel == "error":
        return ErrorFrame(text=_error.decode(data))
    if channel == _LEDGER_CHANNEL:
        ledger: _RawLedger = _ledger.decode(data)
        rows = parse_ledger_updates(ledger.non_funding_ledger_updates)
        return DataFrame(
            channel=channel, data=UserLedger(user=ledger.user, updates=rows, is_snapshot=ledger.is_snapshot)
        )
    return UnknownFrame(channel=channel, raw=bytes(data))


def _parse_post(data: msgspec.Raw) -> Frame:
    post: _Post = _post.decode(data)
    try:
        response: _PostResponse = _post_response.decode(post.response)
        if response.type == "action":
            return ActionReply(id=post.id, answer=parse_exchange_answer(response.payload))
        if response.type == "info":
            payload: _InfoPayload = _info_payload.decode(response.payload)
            return InfoReply(id=post.id, info_type=payload.type, data=bytes(payload.data))
        if response.type == "error":
            return PostErrorReply(id=post.id, text=_post_error.decode(response.payload))
    except ProtocolViolation as cause:
        return UnreadablePostReply(id=post.id, violation=cause)
    unknown = violation("post response", bytes(post.response), f"type {response.type!r}")
    return UnreadablePostReply(id=post.id, violation=unknown)
