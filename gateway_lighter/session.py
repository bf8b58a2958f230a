"""State of one Lighter socket: what is subscribed, what was sent, what each frame means. Pure.

The venue resumes nothing, and most of its errors name neither channel nor id. So subscriptions are asked for one after
another, private ones first: an error then belongs to the one that is being asked for. A book whose chain breaks is
unsubscribed and subscribed again, which alone brings a snapshot. Source: venue reference section 15.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import msgspec

from gateway_lighter.account_messages import SendAnswer, SendBatchAnswer
from gateway_lighter.codec_book import BookChanged, BookGap, BookState
from gateway_lighter.codec_frames import (
    DataFrame,
    ErrorFrame,
    Frame,
    Greeting,
    OrderBookBody,
    Pong,
    ServerPing,
    Shutdown,
    TransactionReply,
    UnknownFrame,
    UnreadableData,
    UnreadableReply,
    Unsubscribed,
    normalize_channel,
    parse_frame,
)
from gateway_lighter.limits import MAX_BATCH, MAX_IN_FLIGHT, MAX_SUBSCRIPTIONS
from gateway_lighter.messages import BookLevel
from gateway_lighter.refusals import ALREADY_SUBSCRIBED, NOT_SUBSCRIBED, RefusalMeaning
from gateway_lighter.signing import SignedTransaction
from venuemesh.errors import ErrorClass, InvalidRequest, ProtocolViolation, RateLimited, Reason
from venuemesh.transport.in_flight import CANCEL_RESERVE, InFlight

BOOK_DEPTH: Final = 100

_PING: Final = b'{"type":"ping"}'
_PONG: Final = b'{"type":"pong"}'
_BOOK: Final = "order_book:"


# --- events ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BookEvent:
    """A market's book changed, or has a gap and is stale until the next change; levels best first."""

    outcome: BookChanged | BookGap
    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionAcknowledged:
    """The venue serves the channel; its snapshot is the event that follows."""

    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRefused:
    """The venue does not serve a channel.

    `dropped` means that it is no longer wanted; otherwise the refusal may pass, and a reconnect asks again.
    """

    channel: str
    meaning: RefusalMeaning
    dropped: bool


TransactionOutcome: TypeAlias = SendAnswer | SendBatchAnswer | RefusalMeaning | ProtocolViolation


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionAnswered:
    """The reply to a transaction; `late` when its caller has given up, `tag` is what the caller attached."""

    id: str
    outcome: TransactionOutcome
    late: bool
    tag: object


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueComplaint:
    """An error frame that belongs to nothing we asked."""

    meaning: RefusalMeaning


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableFrame:
    """A frame that breaks the protocol: what it said is lost. `channel` is empty where not even that is legible."""

    channel: str
    violation: ProtocolViolation


SessionEvent: TypeAlias = (
    DataFrame
    | BookEvent
    | UnknownFrame
    | Shutdown
    | SubscriptionAcknowledged
    | SubscriptionRefused
    | TransactionAnswered
    | VenueComplaint
    | UnreadableFrame
)


@dataclass(slots=True)
class _Wanted:
    request: str  # as requests write it
    private: bool
    acknowledged: bool = False


@dataclass(slots=True, frozen=True)
class _Operation:
    verb: Literal["subscribe", "unsubscribe"]
    channel: str


_encode = msgspec.json.Encoder().encode


class LighterSession:
    """Everything one socket must remember; asked and told, never awaited.

    Satisfies `venuemesh.transport.session.SocketSession`. After every call ask `pending` for what to send.

    Args:
        token: gives the auth token for private channels; without it none can be wanted.
        max_in_flight: most transactions without a reply; the venue takes 50 per IP address.
        cancel_reserve: of these, how many only cancels may use.
        book_depth: most levels a side in a `BookEvent`.
    """

    def __init__(
        self,
        *,
        token: Callable[[], str] | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
        cancel_reserve: int = CANCEL_RESERVE,
        book_depth: int = BOOK_DEPTH,
    ) -> None:
        self._token = token
        self._book_depth = book_depth
        self._wanted: dict[str, _Wanted] = {}
        self._books: dict[str, BookState] = {}
        self._todo: deque[_Operation] = deque()
        self._asked: _Operation | None = None
        self._pongs = 0
        self._connected = False
        self.asks = 0
        """Subscribes and unsubscribes asked for so far: tells one ask from the next."""
        self.in_flight: InFlight[str] = InFlight("transactions", most=max_in_flight, cancel_reserve=cancel_reserve)
        """Messages that hold a place at the venue, by their ids."""
        self._next_id = 1

    # --- what to send --------------------------------------------------------------------------------------

    def frames_on_connect(self) -> Sequence[bytes]:
        """The first subscription, private ones before public ones; `pending` gives the others one by one."""
        self._connected = True
        self._asked = None
        ordered = sorted(self._wanted.items(), key=lambda item: not item[1].private)
        self._todo = deque(_Operation("subscribe", channel) for channel, _ in ordered)
        return self.pending()

    def heartbeat(self) -> bytes:
        """The venue's ping; it closes a connection on which it has heard nothing for two minutes."""
        return _PING

    def pending(self) -> list[bytes]:
        """Frames to send now: answers to the server's pings, and the next subscription when none is being asked for."""
        frames = [_PONG] * self._pongs
        self._pongs = 0
        if self._connected and self._asked is None and self._todo:
            self._asked = self._todo.popleft()
            self.asks += 1
            frames.append(self._operation_frame(self._asked))
        return frames

    def _operation_frame(self, operation: _Operation) -> bytes:
        wanted = self._wanted.get(operation.channel)
        request = wanted.request if wanted else operation.channel.replace(":", "/")
        frame: dict[str, str] = {"type": operation.verb, "channel": request}
        if wanted and wanted.private and operation.verb == "subscribe" and self._token is not None:
            frame["auth"] = self._token()
        return _encode(frame)

    # --- subscriptions -------------------------------------------------------------------------------------

    @property
    def channels(self) -> tuple[str, ...]:
        """All wanted channels, normalized."""
        return tuple(self._wanted)

    @property
    def asked(self) -> str | None:
        """The channel whose answer is awaited, for a time-out."""
        return None if self._asked is None else self._asked.channel

    def unacknowledged(self) -> tuple[str, ...]:
        """Wanted channels the venue does not serve on the present connection."""
        return tuple(channel for channel, wanted in self._wanted.items() if not wanted.acknowledged)

    def book(self, channel: str) -> BookState | None:
        """The book behind a wanted `order_book` channel."""
        return self._books.get(normalize_channel(channel))

    def subscribe(self, channel: str, *, private: bool = False) -> None:
        """Want a channel from now on, over every reconnect; a repeat changes nothing.

        Raises:
            InvalidRequest: a private channel without a token source, or a book channel without a market.
            RateLimited: more channels than the venue takes.
        """
        name = normalize_channel(channel)
        if name in self._wanted:
            return
        if private and self._token is None:
            raise InvalidRequest(f"{channel} needs an API key", field="channel")
        if len(self._wanted) >= MAX_SUBSCRIPTIONS:
            raise RateLimited(f"at most {MAX_SUBSCRIPTIONS} channels on a socket", reason=Reason.TOO_MANY_STREAMS)
        if name.startswith(_BOOK):
            market = name.removeprefix(_BOOK)
            if not (market.isascii() and market.isdigit()):
                raise InvalidRequest(f"{channel} names no market", field="channel")
            self._books[name] = BookState(int(market))
        self._wanted[name] = _Wanted(channel.replace(":", "/"), private)
        if self._connected:
            # An unsubscribe still to be sent goes first, so that the channel starts anew.
            self._todo.append(_Operation("subscribe", name))

    def unsubscribe(self, channel: str) -> None:
        """No longer want a channel; one that was not wanted changes nothing."""
        name = normalize_channel(channel)
        if self._wanted.pop(name, None) is None:
            return
        self._books.pop(name, None)
        waiting = _Operation("subscribe", name)
        if waiting in self._todo:
            self._todo.remove(waiting)
        elif self._connected:
            self._todo.append(_Operation("unsubscribe", name))

    def resubscribe(self, channel: str) -> None:
        """Ask for a fresh snapshot of a wanted channel; nothing when it is not served yet."""
        name = normalize_channel(channel)
        wanted = self._wanted.get(name)
        if wanted is None or not wanted.acknowledged:
            return
        wanted.acknowledged = False
        self._restart(name)

    def _restart(self, name: str) -> None:
        self._todo.extendleft([_Operation("subscribe", name), _Operation("unsubscribe", name)])

    # --- transactions --------------------------------------------------------------------------------------

    def open_transaction(
        self, signed: Sequence[SignedTransaction], *, now_s: float, is_cancel: bool = False, tag: object = None
    ) -> tuple[str, bytes]:
        """One transaction or a batch: its id and the frame to send; nothing is sent by this.

        Args:
            signed: one, or up to 15 of one account and key with ascending nonces.
            now_s, is_cancel, tag: as for `InFlight.open`.
        Raises:
            InvalidRequest: none, or too many for a batch.
            RateLimited: too many in flight.
        """
        if not 1 <= len(signed) <= MAX_BATCH:
            raise InvalidRequest(f"a message takes 1 to {MAX_BATCH} transactions, not {len(signed)}")
        sent_id = str(self._next_id)
        self.in_flight.open(sent_id, now_s=now_s, is_cancel=is_cancel, tag=tag)
        self._next_id += 1
        return sent_id, _encode(_send_frame(sent_id, signed))

    def disconnected(self, epoch: int) -> list[str]:
        """A connection ended: nothing is served any more, books are stale; returns the messages lost with it."""
        self._connected = False
        self._asked = None
        self._todo.clear()
        self._pongs = 0
        for wanted in self._wanted.values():
            wanted.acknowledged = False
        for book in self._books.values():
            book.invalidate()
        return self.in_flight.disconnected(epoch)

    # --- what came -----------------------------------------------------------------------------------------

    def receive(self, raw: bytes) -> list[SessionEvent]:
        """What a received frame means; empty for greeting, ping and pong. Never raises."""
        try:
            frame: Frame = parse_frame(raw)
        except ProtocolViolation as cause:
            return [UnreadableFrame(channel="", violation=cause)]
        match frame:
            case DataFrame():
                return self._data(frame)
            case UnreadableData():
                return self._unreadable(frame)
            case TransactionReply():
                return [self._answered(frame.id, frame.answer)]
            case UnreadableReply():
                return [self._answered(frame.id, frame.violation)]
            case ErrorFrame():
                return self._refused(frame)
            case Unsubscribed():
                self._finish("unsubscribe", frame.channel)
                return []
            case ServerPing():
                self._pongs = 1
                return []
            case Greeting() | Pong():
                return []
            case Shutdown() | UnknownFrame():
                return [frame]

    def _data(self, frame: DataFrame) -> list[SessionEvent]:
        if frame.is_snapshot:
            self._finish("subscribe", frame.channel)
        name = self._wanted_name(frame.channel)
        if name is None:
            return []  # what still comes after an unsubscribe
        told: list[SessionEvent] = []
        if frame.is_snapshot:
            self._wanted[name].acknowledged = True
            told.append(SubscriptionAcknowledged(channel=name))
        book = self._books.get(name)
        if book is None:
            return [*told, frame]
        return told + self._book(name, book, frame)

    def _book(self, name: str, book: BookState, frame: DataFrame) -> list[SessionEvent]:
        body: OrderBookBody = frame.body
        outcome = book.apply(body.order_book, is_snapshot=frame.is_snapshot)
        if isinstance(outcome, BookGap):
            self.resubscribe(name)
        if not isinstance(outcome, BookChanged | BookGap):
            return []
        return [BookEvent(outcome=outcome, bids=book.bids(self._book_depth), asks=book.asks(self._book_depth))]

    def _unreadable(self, frame: UnreadableData) -> list[SessionEvent]:
        """A snapshot that cannot be read is no service; behind an unreadable update a book's chain breaks by itself."""
        if frame.is_snapshot:
            self._finish("subscribe", frame.channel)
        name = self._wanted_name(frame.channel)
        return [UnreadableFrame(channel=name or frame.channel, violation=frame.violation)]

    def _wanted_name(self, channel: str) -> str | None:
        if channel in self._wanted:
            return channel
        return next((name for name in self._wanted if _means(channel, name)), None)

    def _finish(self, verb: str, channel: str) -> None:
        """The answer to what was asked has come."""
        if self._asked is not None and self._asked.verb == verb and _means(channel, self._asked.channel):
            self._asked = None

    def _answered(self, sent_id: str, outcome: TransactionOutcome) -> TransactionAnswered:
        late, tag = self.in_flight.answered(sent_id)
        return TransactionAnswered(id=sent_id, outcome=outcome, late=late, tag=tag)

    def _refused(self, frame: ErrorFrame) -> list[SessionEvent]:
        if frame.id is not None:
            return [self._answered(frame.id, frame.meaning)]
        operation = self._asked
        elsewhere = frame.channel is not None and operation is not None and frame.channel != operation.channel
        if operation is None or elsewhere:
            return [VenueComplaint(meaning=frame.meaning)]
        self._asked = None
        if operation.verb == "unsubscribe":
            known = frame.meaning.code == NOT_SUBSCRIBED  # then it is as we wanted it
            return [] if known else [VenueComplaint(meaning=frame.meaning)]
        if operation.channel not in self._wanted:
            return []
        if frame.meaning.code == ALREADY_SUBSCRIBED:
            self._restart(operation.channel)  # no snapshot follows, so begin again
            return []
        dropped = frame.meaning.definitive and frame.meaning.error_class not in _MAY_PASS
        if dropped:
            self._wanted.pop(operation.channel)
            self._books.pop(operation.channel, None)
        return [SubscriptionRefused(channel=operation.channel, meaning=frame.meaning, dropped=dropped)]


def _means(answered: str, asked: str) -> bool:
    """Whether an answer's channel is the one asked for; that of `account_orders` may leave the account out."""
    return answered == asked or (answered.startswith("account_orders:") and asked.startswith(answered + ":"))


_MAY_PASS: Final = frozenset({ErrorClass.RETRYABLE, ErrorClass.RATE_LIMITED})


def _send_frame(sent_id: str, signed: Sequence[SignedTransaction]) -> dict[str, Any]:
    if len(signed) == 1:
        only = signed[0]
        data = {"id": sent_id, "tx_type": only.tx_type, "tx_info": msgspec.Raw(only.tx_info.encode())}
        return {"type": "jsonapi/sendtx", "data": data}
    types = _encode([one.tx_type for one in signed]).decode()
    infos = _encode([one.tx_info for one in signed]).decode()
    return {"type": "jsonapi/sendtxbatch", "data": {"id": sent_id, "tx_types": types, "tx_infos": infos}}
