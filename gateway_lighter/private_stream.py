"""One account's private stream: a connection of its own, on which its transactions travel too.

What comes is translated and handed on, in order. The account is live once the venue serves every essential channel of
the present connection; fills missed before that are never replayed and are the frame's to fetch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace as dataclass_replace
from typing import Any, Final, assert_never

from msgspec.structs import replace

from gateway_lighter import account_messages as wire
from gateway_lighter import codec_frames as frames
from gateway_lighter.codec_frames import DataFrame, Shutdown, UnknownFrame
from gateway_lighter.codec_verdicts import read_verdict
from gateway_lighter.keys import Wallet
from gateway_lighter.links import Links, leaving
from gateway_lighter.messages import ZERO
from gateway_lighter.order_ids import ClientIndices
from gateway_lighter.session import (
    BookEvent,
    SubscriptionAcknowledged,
    SubscriptionRefused,
    TransactionAnswered,
    UnreadableFrame,
    VenueComplaint,
)
from gateway_lighter.settings import GatewaySettings
from gateway_lighter.slices import Slices
from gateway_lighter.stream_events import LighterEvent
from gateway_lighter.verdicts import Verdicts
from gateway_lighter.views import AccountView
from venuemesh.clock import Clock
from venuemesh.errors import ProtocolViolation, Reason
from venuemesh.gateway.link_board import user_link
from venuemesh.gateway.venue import VenueFill, VenueOrder, VenueOrderState, VenueSink
from venuemesh.transport.session import StreamConnected, StreamDisconnected

log = logging.getLogger(__name__)

ESSENTIAL: Final = ("account_all_orders", "account_all_trades", "account_all")
"""Without these the account is not live; the last tells funding."""
CHANNELS: Final = (*ESSENTIAL, "account_tx", "account_all_positions", "account_all_assets", "user_stats")


class PrivateStream:
    """Listens for one account.

    Args:
        view: translates for the account.
        wallet: whose tokens open the private channels.
        links: builds the connection.
        indices: told which client order indices are live.
        sleep: waiting, injected for tests.
    """

    def __init__(
        self,
        view: AccountView,
        wallet: Wallet,
        links: Links,
        indices: ClientIndices,
        settings: GatewaySettings,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._view = view
        self._tokens = wallet.tokens
        self._board = links.shared.board
        self._indices = indices
        self._clock = clock
        self._interval_s = settings.account_interval_s
        self._sleep = sleep
        self._sink: VenueSink | None = None
        self._live = False
        self._positions: dict[int, wire.Position] = {}
        self._assets: dict[int, wire.AccountAsset] = {}
        self._stats: wire.UserStats | None = None
        self._news = asyncio.Event()
        self.verdicts = Verdicts()
        self.slices = Slices()
        self.stream = links.stream(user_link(view.account_id), self._on_event, wallet.tokens)

    async def run(self, sink: VenueSink) -> None:
        """Stay subscribed until cancelled."""
        self._sink = sink
        self._subscribe()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.stream.run(), name=user_link(self._view.account_id))
            tasks.create_task(self._push_state(sink), name=f"state/{self._view.account_id}")

    def _subscribe(self) -> None:
        """Want everything (again): a subscription the venue refused is tried anew."""
        for kind in CHANNELS:
            self.stream.subscribe(self._channel(kind), private=True)

    def _channel(self, kind: str) -> str:
        return f"{kind}/{self._view.index}"

    # --- events --------------------------------------------------------------------------------------------

    async def _on_event(self, event: LighterEvent) -> None:
        sink = self._sink
        assert sink is not None  # the stream runs only inside `run`
        if isinstance(event, StreamConnected):
            return
        if isinstance(event, StreamDisconnected):
            self._live = False
            self.slices.forget_held()
            sink.on_account_lost(self._view.account_id, f"{event.reason}: {event.detail}".removesuffix(": "))
            return
        found = event.event
        match found:
            case DataFrame():
                self._take(found, sink)
            case SubscriptionAcknowledged():
                self._check_live(sink)
            case SubscriptionRefused():
                self._refused(found, sink)
            case UnreadableFrame():
                self._unreadable(found.channel, found.violation, sink)
            case UnknownFrame():
                log.warning("frame_unknown", extra=self._extra(type=found.type))
                sink.on_unknown_words(self._view.account_id, f"frame {found.type[:200]}")
            case VenueComplaint():
                log.warning("venue_complaint", extra=self._extra(text=found.meaning.text))
                if not found.meaning.recognized:
                    sink.on_unknown_words(self._view.account_id, f"complaint {found.meaning.text}")
            case TransactionAnswered():
                # Whoever waited has given up; the order's state comes by stream and query.
                log.warning("answer_late", extra=self._extra(transaction_id=found.id))
            case Shutdown():
                log.warning("venue_restarts", extra=self._extra(close_in_ms=found.close_in_ms))
                self._board.on_leaving(user_link(self._view.account_id), leaving(found))
            case BookEvent():
                log.warning("frame_not_asked_for", extra=self._extra(kind="order_book"))
            case _ as unreachable:
                assert_never(unreachable)

    def _check_live(self, sink: VenueSink) -> None:
        waiting = {name.partition(":")[0] for name in self.stream.session.unacknowledged()}
        wanted = {name.partition(":")[0] for name in self.stream.session.channels}
        if not self._live and wanted.issuperset(ESSENTIAL) and not waiting.intersection(ESSENTIAL):
            self._live = True
            sink.on_account_live(self._view.account_id)

    def _refused(self, refusal: SubscriptionRefused, sink: VenueSink) -> None:
        log.error("subscription_refused", extra=self._extra(channel=refusal.channel, text=refusal.meaning.text))
        if refusal.meaning.reason is Reason.AUTHENTICATION_FAILED:
            self._tokens.forget()
        if refusal.channel.partition(":")[0] in ESSENTIAL:
            self._live = False
            sink.on_account_lost(self._view.account_id, f"the venue refused {refusal.channel}: {refusal.meaning.text}")

    def _unreadable(self, channel: str, violation: ProtocolViolation, sink: VenueSink) -> None:
        """What a frame said is lost: a live account is to be compared with the venue again."""
        log.error("frame_unreadable", extra=self._extra(channel=channel, error=violation.message, **violation.metadata))
        kind = channel.partition(":")[0]
        if self._live and (not kind or kind in ESSENTIAL):
            sink.on_account_live(self._view.account_id)

    def _take(self, frame: DataFrame, sink: VenueSink) -> None:
        try:
            self._deliver(frame, sink)
        except ProtocolViolation as violation:
            self._unreadable(frame.channel, violation, sink)

    def _deliver(self, frame: DataFrame, sink: VenueSink) -> None:
        body: Any = frame.body
        match body:
            case frames.OrdersBody():
                self._orders(body.rows, sink)
            case frames.TradesBody():
                for trade in body.rows:
                    for received in self._view.fills(trade):
                        self._tell_fills(self.slices.receive(received), sink)
            case frames.TransactionsBody():
                for row in body.txs or ():
                    self.verdicts.on_verdict(read_verdict(row))
            case frames.AccountAllBody():
                self._fundings(body, sink)
            case frames.PositionsBody():
                self._take_positions(body, is_snapshot=frame.is_snapshot)
            case frames.AssetsBody():
                self._assets |= {row.asset_id: row for row in (body.assets or {}).values()}
                self._news.set()
            case frames.UserStatsBody():
                self._stats = body.stats
                self._news.set()
            case _:
                log.warning("frame_not_asked_for", extra=self._extra(kind=frame.kind))

    def _tell_fills(self, fills: Sequence[VenueFill], sink: VenueSink) -> None:
        for fill in fills:
            sink.on_fill(self._view.account_id, fill)

    def _orders(self, rows: tuple[wire.Order, ...], sink: VenueSink) -> None:
        for row in rows:
            waited = self.slices.learn(row)
            self._order(row, sink)
            self._tell_fills(waited, sink)

    def _order(self, row: wire.Order, sink: VenueSink) -> None:
        view = self._view.order(row)
        if view is None:
            return
        if self.verdicts.is_first_sight(row.client_order_index) and _never_rested(view):
            view = dataclass_replace(view, state=VenueOrderState.REJECTED)
        if view.state is VenueOrderState.WORKING:
            self._indices.hold(row.client_order_index)
        elif view.state is not VenueOrderState.UNRECOGNISED:
            self._indices.release(row.client_order_index)
        sink.on_order(self._view.account_id, view)
        self.verdicts.on_order(row.client_order_index, view)

    def _take_positions(self, body: frames.PositionsBody, *, is_snapshot: bool) -> None:
        """Updates name what changed; what a snapshot does not name has been closed meanwhile."""
        rows = {row.market_id: row for row in (body.positions or {}).values()}
        if is_snapshot:
            closed = {key: replace(row, position=ZERO) for key, row in self._positions.items() if key not in rows}
            rows |= closed
        self._positions |= rows
        self._news.set()

    def _fundings(self, body: frames.AccountAllBody, sink: VenueSink) -> None:
        """Only funding: everything else this channel repeats has a channel of its own."""
        for rows in (body.funding_histories or {}).values():
            for row in rows:
                if (entry := self._view.funding(row)) is not None:
                    sink.on_ledger(self._view.account_id, entry)

    # --- balances and marks --------------------------------------------------------------------------------

    async def _push_state(self, sink: VenueSink) -> None:
        """Tell the latest state at most once per interval."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                self._tell_state(sink)
            except ProtocolViolation as violation:
                log.error("account_state_unreadable", extra=self._extra(error=violation.message))
            await self._sleep(self._interval_s)
            self._subscribe()

    def _tell_state(self, sink: VenueSink) -> None:
        account_id = self._view.account_id
        sink.on_positions(account_id, self._view.positions(self._positions.values()))
        self._positions = {key: row for key, row in self._positions.items() if row.position}  # flat is told once
        if self._stats is not None:
            balances, summary = self._view.streamed_money(
                self._stats, self._assets.values(), received_ns=self._clock.now_ns()
            )
            sink.on_balances(account_id, balances, summary)

    def _extra(self, **fields: object) -> dict[str, object]:
        return {"account_id": self._view.account_id, **fields}


def _never_rested(view: VenueOrder) -> bool:
    """Of an order seen for the first time: ended by the venue, for a reason of its own, without a fill."""
    return view.state is VenueOrderState.CANCELED and view.reason is not None and not view.filled_quantity
