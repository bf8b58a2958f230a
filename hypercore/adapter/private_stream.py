"""One account's private stream: its own connection, because orderUpdates and userEvents name no user.

What comes is translated and handed on, in order. The account is live once the venue has confirmed every essential
subscription of the present connection; what was missed before that is the frame's to fetch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, Final, assert_never

from msgspec import structs

from hypercore import account_messages as wire
from hypercore import frames
from hypercore.adapter.links import Links
from hypercore.adapter.settings import HyperCoreSettings
from hypercore.adapter.views import AccountView
from hypercore.frames import DataFrame, UnknownFrame
from hypercore.refusals import RefusalMeaning
from hypercore.session import (
    PostAnswered,
    SubscriptionAcknowledged,
    SubscriptionRefused,
    UnreadableFrame,
    VenueComplaint,
)
from hypercore.stream_events import HyperCoreEvent
from venuemesh.clock import Clock
from venuemesh.errors import MeshError, ProtocolViolation
from venuemesh.gateway.link_board import user_link
from venuemesh.gateway.venue import VenuePosition, VenueSink
from venuemesh.transport.session import StreamConnected, StreamDisconnected

log = logging.getLogger(__name__)

ESSENTIAL: Final = frozenset({"orderUpdates", "userFills", "userFundings", "userNonFundingLedgerUpdates"})
"""Without these the account is not live."""

_FLAT: Final = Decimal(0)

RETRY_S: Final = 5.0
"""Between tries to read an account's state after one failed."""


class PrivateStream:
    """Listens for one account.

    Args:
        view: translates for the account.
        links: builds the connection.
        sink: where everything goes; known from `run` on.
        sleep: waiting, injected for tests.
    """

    def __init__(
        self,
        view: AccountView,
        links: Links,
        settings: HyperCoreSettings,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._view = view
        self._rest = links.rest
        self._clock = clock
        self._dex = settings.dex
        self._interval_s = settings.account_interval_s
        self._poll_s = settings.account_poll_s
        self._sleep = sleep
        self._sink: VenueSink | None = None
        self._live = False
        self._perps: wire.ClearinghouseState | None = None
        self._spot: wire.SpotState | None = None
        self._news = False
        self._perps_at_s = self._spot_at_s = float("-inf")
        self._shown: set[str] = set()
        self.stream = links.stream(user_link(view.account_id), self._on_event)

    @property
    def _subscriptions(self) -> list[Mapping[str, Any]]:
        user = self._view.user
        kinds = ("orderUpdates", "userFills", "userFundings", "userNonFundingLedgerUpdates", "userEvents", "spotState")
        rows: list[Mapping[str, Any]] = [{"type": kind, "user": user} for kind in kinds]
        return [*rows, {"type": "clearinghouseState", "user": user, "dex": self._dex}]

    async def run(self, sink: VenueSink) -> None:
        """Stay subscribed until cancelled."""
        self._sink = sink
        async with asyncio.TaskGroup() as tasks:
            await self._subscribe()
            tasks.create_task(self.stream.run(), name=user_link(self._view.account_id))
            tasks.create_task(self._push_state(sink), name=f"state/{self._view.account_id}")

    async def _subscribe(self) -> None:
        """Want everything (again): a subscription the venue refused is tried anew."""
        for subscription in self._subscriptions:
            await self.stream.subscribe(subscription)

    # --- events --------------------------------------------------------------------------------------------

    async def _on_event(self, event: HyperCoreEvent) -> None:
        sink = self._sink
        assert sink is not None  # the stream runs only inside `run`
        if isinstance(event, StreamConnected):
            return
        if isinstance(event, StreamDisconnected):
            self._live = False
            sink.on_account_lost(self._view.account_id, f"{event.reason}: {event.detail}".removesuffix(": "))
            return
        found = event.event
        match found:
            case DataFrame():
                self._take(found, sink)
            case SubscriptionAcknowledged():
                self._check_live(sink)
            case SubscriptionRefused():
                self._refused(str(found.subscription.get("type")), found.meaning.text, sink)
                self._tell_unknown(found.meaning, sink)
            case UnreadableFrame():
                self._unreadable(found.violation, sink)
            case UnknownFrame():
                log.warning("frame_unknown", extra=self._extra(channel=found.channel))
            case VenueComplaint():
                log.warning("venue_complaint", extra=self._extra(text=found.meaning.text))
                self._tell_unknown(found.meaning, sink)
            case PostAnswered():
                # Whoever waited has given up; the order's state comes by stream and query.
                log.warning("answer_late", extra=self._extra(post_id=found.post_id))
            case _ as unreachable:
                assert_never(unreachable)

    def _check_live(self, sink: VenueSink) -> None:
        waiting = {str(row["type"]) for row in self.stream.session.unacknowledged()}
        wanted = {str(row["type"]) for row in self.stream.session.subscriptions}
        if not self._live and wanted >= ESSENTIAL and not waiting & ESSENTIAL:
            self._live = True
            sink.on_account_live(self._view.account_id)

    def _refused(self, kind: str, text: str, sink: VenueSink) -> None:
        log.error("subscription_refused", extra=self._extra(subscription=kind, text=text))
        if kind in ESSENTIAL:
            self._live = False
            sink.on_account_lost(self._view.account_id, f"the venue refused {kind}: {text}")

    def _tell_unknown(self, meaning: RefusalMeaning, sink: VenueSink) -> None:
        if not meaning.recognized:
            sink.on_unknown_words(self._view.account_id, meaning.text)

    def _unreadable(self, violation: ProtocolViolation, sink: VenueSink) -> None:
        """What a frame said is lost: a live account is to be compared with the venue again."""
        log.error("frame_unreadable", extra=self._extra(error=violation.message, **violation.metadata))
        what = violation.metadata.get("what", "")
        if self._live and not what.startswith(("clearinghouseState", "spotState", "user frame")):
            sink.on_account_live(self._view.account_id)

    def _take(self, frame: DataFrame, sink: VenueSink) -> None:
        try:
            self._deliver(frame.data, sink)
        except ProtocolViolation as violation:
            self._unreadable(violation, sink)

    def _deliver(self, data: Any, sink: VenueSink) -> None:
        account_id = self._view.account_id
        if getattr(data, "user", self._view.user).lower() != self._view.user:
            raise ProtocolViolation("a frame of another account", metadata={"what": type(data).__name__})
        match data:
            case tuple():  # orderUpdates; no other channel of this stream is an array
                for update in data:
                    if (order := self._view.reported_order(update)) is not None:
                        sink.on_order(account_id, order)
            case frames.UserFills():
                self._deliver_fills(data.fills, sink)
            case frames.UserFundings():
                for payment in data.fundings:
                    self._deliver_funding(payment, sink)
            case frames.UserLedger():
                for row in data.updates:
                    for entry in self._view.ledger_updates(row):
                        sink.on_ledger(account_id, entry)
            case frames.UserEvent():
                self._deliver_event(data, sink)
            case frames.DexClearinghouse() if data.dex == self._dex:
                self._take_perps(data.clearinghouse_state)
            case frames.UserSpotState():
                self._take_spot(data.spot_state)
            case _:
                log.warning("frame_not_asked_for", extra=self._extra(kind=type(data).__name__))

    def _deliver_fills(self, fills: tuple[wire.Fill, ...], sink: VenueSink) -> None:
        for row in fills:
            if (fill := self._view.fill(row)) is not None:
                sink.on_fill(self._view.account_id, fill)

    def _deliver_funding(self, payment: wire.FundingPayment, sink: VenueSink) -> None:
        if (entry := self._view.funding(payment)) is not None:
            sink.on_ledger(self._view.account_id, entry)

    def _deliver_event(self, event: frames.UserEvent, sink: VenueSink) -> None:
        """userEvents repeats fills and funding; ends of orders come by orderUpdates, those of TWAPs only here."""
        self._deliver_fills(event.fills or (), sink)
        slices = event.twap_slice_fills or ()
        self._deliver_fills(tuple(structs.replace(row.fill, twap_id=row.twap_id) for row in slices), sink)
        for row in event.twap_history or ():
            if (order := self._view.twap(row)) is not None:
                sink.on_order(self._view.account_id, order)
        if event.funding is not None:
            self._deliver_funding(event.funding, sink)
        if event.liquidation is not None:
            log.warning("account_liquidated", extra=self._extra(liquidation_id=event.liquidation.lid))

    # --- balances and marks --------------------------------------------------------------------------------

    async def _push_state(self, sink: VenueSink) -> None:
        """Tell the latest state at most once per interval; read it where no stream has told it for long."""
        while True:
            await self._sleep(self._interval_s)
            if not self.stream.connected:
                continue
            try:
                await self._subscribe()
                await self._read_state()
                self._tell_state(sink)
            except MeshError as error:
                log.warning("account_state_not_read", extra=self._extra(error=error.message))
                await self._sleep(RETRY_S)

    async def _read_state(self) -> None:
        view = self._view
        if view.mode is None:
            mode = await self._rest.fetch_abstraction(view.user)
            view.mode = view.mode or mode  # a comparison may have read a newer one meanwhile
        oldest_s = self._clock.monotonic_s() - self._poll_s
        if self._perps_at_s < oldest_s:
            self._take_perps(await self._rest.fetch_clearinghouse_state(view.user, self._dex))
        if self._spot_at_s < oldest_s:
            self._take_spot(await self._rest.fetch_spot_state(view.user))

    def _take_perps(self, state: wire.ClearinghouseState) -> None:
        self._perps, self._perps_at_s, self._news = state, self._clock.monotonic_s(), True

    def _take_spot(self, state: wire.SpotState) -> None:
        self._spot, self._spot_at_s, self._news = state, self._clock.monotonic_s(), True

    def _tell_state(self, sink: VenueSink) -> None:
        if not self._news or self._perps is None or self._spot is None:
            return
        self._news = False
        positions = self._view.positions(self._perps)
        balances, summary = self._view.money(self._perps, self._spot, received_ns=self._clock.now_ns())
        open_now = {position.symbol for position in positions}
        flat = [
            VenuePosition(symbol=symbol, quantity=_FLAT, entry_price=None) for symbol in sorted(self._shown - open_now)
        ]
        self._shown = open_now
        sink.on_positions(self._view.account_id, [*positions, *flat])
        sink.on_balances(self._view.account_id, balances, summary)

    def _extra(self, **fields: object) -> dict[str, object]:
        return {"account_id": self._view.account_id, **fields}
