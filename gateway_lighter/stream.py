"""Lighter over one WebSocket: channels that survive reconnects, transactions that are never guessed about.

Thin: `session` decides, `venuemesh.transport.websocket` moves bytes. Replies to transactions are handed to their
waiters at once; everything else waits for one callback, in order, in a bounded queue. When that queue is full the
connection is cut, so that what was missed is a visible gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gateway_lighter.account_messages import SendAnswer, SendBatchAnswer
from gateway_lighter.codec_verdicts import Queued, read_queued, require_certain
from gateway_lighter.limits import WS_CONNECTS, WS_MESSAGES, TierLimits
from gateway_lighter.refusals import RefusalMeaning
from gateway_lighter.session import (
    LighterSession,
    SessionEvent,
    SubscriptionAcknowledged,
    SubscriptionRefused,
    TransactionAnswered,
    TransactionOutcome,
)
from gateway_lighter.signing import SignedTransaction
from gateway_lighter.stream_events import LighterEvent
from venuemesh.clock import left_s
from venuemesh.errors import MeshError, OutcomeUnknown, RateLimited
from venuemesh.transport.exchanges import Exchanges, SocketRequest
from venuemesh.transport.limiter import Priority
from venuemesh.transport.narrator import Narrator
from venuemesh.transport.session import Connected, Disconnected, Frame, SocketConfig, SocketEvent
from venuemesh.transport.subscription_watch import SubscriptionWatch
from venuemesh.transport.websocket import ReconnectingSocket
from venuemesh.transport.wiring import LinkWiring

HEARTBEAT_S: Final = 30.0
SILENCE_S: Final = 75.0
"""The venue pongs every ping and closes what it has heard nothing from for two minutes."""

SUBSCRIBE_TIMEOUT_S: Final = 15.0
SEND_TIMEOUT_S: Final = 10.0

_CONTROL_WAIT_S = 60.0  # a window of the message budget: one that is spent now has room after it


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """Bounds of one stream.

    Args:
        socket: bounds and heartbeat of the connection.
        queue_events, queue_bytes: most that waits for the callback, counted in frames and frame bytes.
        subscribe_timeout_s: most time for the venue to answer a subscribe before the connection is given up.
        send_timeout_s: most time to wait for the reply to a transaction unless the caller says otherwise.
    """

    socket: SocketConfig = field(
        default_factory=lambda: SocketConfig(heartbeat_interval_s=HEARTBEAT_S, silence_timeout_s=SILENCE_S)
    )
    queue_events: int = 10_000
    queue_bytes: int = 32 * 1024 * 1024
    subscribe_timeout_s: float = SUBSCRIBE_TIMEOUT_S
    send_timeout_s: float = SEND_TIMEOUT_S


def limited_socket_config() -> SocketConfig:
    """The default socket bounds with connects charged; the stream charges its messages itself."""
    return SocketConfig(heartbeat_interval_s=HEARTBEAT_S, silence_timeout_s=SILENCE_S, connect_budget=WS_CONNECTS)


class LighterStream:
    """One socket to Lighter.

    Args:
        wiring: where it goes.
        on_event: gets every event in order, one at a time; an error it raises ends `run`. It may send transactions
            and subscribe: replies do not pass through it.
        session: state to use; give one with a token source for private channels.
        limits: costs of the account's tier, charged at `gate`.
        config: bounds.
    """

    def __init__(
        self,
        wiring: LinkWiring,
        *,
        on_event: Callable[[LighterEvent], Awaitable[None]],
        config: StreamConfig | None = None,
        session: LighterSession | None = None,
        limits: TierLimits | None = None,
    ) -> None:
        self._config = config or StreamConfig()
        self._clock = wiring.clock
        self._name = wiring.name
        self._gate = wiring.gate
        self._limits = limits or TierLimits()
        self.session = session or LighterSession()
        self._control_due = asyncio.Event()
        self.socket = ReconnectingSocket(
            wiring, session=self.session, on_event=self._on_socket_event, config=self._config.socket
        )
        self._exchanges: Exchanges[str, TransactionAnswered] = Exchanges(
            self.socket, self.session.in_flight, wiring, late_endpoint="sendtx.late", on_late=self._tell_late
        )
        self._narrator: Narrator[SessionEvent] = Narrator(
            self.socket, on_event, max_events=self._config.queue_events, max_bytes=self._config.queue_bytes
        )
        self._subscriptions = SubscriptionWatch(self.socket, self.session.unacknowledged, wiring)

    @property
    def connected(self) -> bool:
        """Whether transactions can be sent now."""
        return self.socket.connected

    async def run(self) -> None:
        """Stay connected until cancelled; then the last StreamDisconnected is delivered."""
        await self._narrator.run_during(
            self._run_socket, name=f"{self._name}-events", drain_timeout_s=self._config.socket.close_timeout_s
        )

    async def _run_socket(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            control = tasks.create_task(self._control(), name=f"{self._name}-control")
            try:
                await self.socket.run()
            finally:
                control.cancel()

    # --- channels ------------------------------------------------------------------------------------------

    def subscribe(self, channel: str, *, private: bool = False) -> None:
        """Want a channel (`order_book/1`) from now on, over every reconnect. A repeat changes nothing.

        Raises:
            InvalidRequest, RateLimited: see `LighterSession.subscribe`.
        """
        self.session.subscribe(channel, private=private)
        self._subscriptions.review()
        self._control_due.set()

    def unsubscribe(self, channel: str) -> None:
        """No longer want a channel."""
        self.session.unsubscribe(channel)
        self._subscriptions.review()
        self._control_due.set()

    def resubscribe(self, channel: str) -> None:
        """Ask for a fresh snapshot of a channel."""
        self.session.resubscribe(channel)
        self._subscriptions.review()
        self._control_due.set()

    async def wait_subscribed(self) -> None:
        """Wait until the venue serves every wanted channel on the present connection."""
        await self._subscriptions.wait_served()

    async def _control(self) -> None:
        """Send what the session wants to say: pongs and one subscribe at a time, each within a time-out."""
        overdue: asyncio.TimerHandle | None = None
        try:
            while True:
                await self._control_due.wait()
                self._control_due.clear()
                epoch = self.socket.epoch
                for frame in self.session.pending():
                    await self._send_control(frame, epoch)
                if overdue is not None:
                    overdue.cancel()
                    overdue = None
                self._note_asked()
                if self.session.asked is not None:
                    loop, after_s = asyncio.get_running_loop(), self._config.subscribe_timeout_s
                    overdue = loop.call_later(after_s, self._give_up_ask, self.session.asks)
        finally:
            if overdue is not None:
                overdue.cancel()

    async def _send_control(self, frame: bytes, epoch: int) -> None:
        try:
            if self._gate is not None:
                await self._gate.acquire(WS_MESSAGES, 1, Priority.ORDER, _CONTROL_WAIT_S)
            await self.socket.send(frame, epoch=epoch)
        except RateLimited as error:
            if self.socket.epoch == epoch:
                self.socket.reconnect(error.message)  # what was not said is said again on the next connection
        except MeshError:
            return  # the connection is over, and the next one starts anew

    def _give_up_ask(self, number: int) -> None:
        if self.session.asked is not None and self.session.asks == number:
            self.socket.reconnect(f"no answer to the subscription of {self.session.asked}")

    # --- transactions --------------------------------------------------------------------------------------

    async def send_transactions(
        self,
        signed: Sequence[SignedTransaction],
        *,
        timeout_s: float | None = None,
        on_written: Callable[[], None] | None = None,
        tag: object = None,
        correlation_id: str = "",
    ) -> Queued | RefusalMeaning:
        """Send one transaction or a batch, once; a refusal by the venue is an answer, not an error.

        Args:
            on_written: called once the message has left, or may have; never for one that certainly has not.
            tag: comes back in the `TransactionAnswered` of a reply that is too late.
        Raises:
            OutcomeUnknown: it may have reached the venue and has no readable answer.
            VenueUnavailable: nothing was sent.
            RateLimited: by our limiter or bounds (`sent=no`), or by the venue, which then did not look at it.
        """
        wait_s = self._config.send_timeout_s if timeout_s is None else timeout_s
        started_s, started_ns = self._clock.monotonic_s(), self._clock.now_ns()
        charge = self._limits.transaction_charge([one.transaction for one in signed])
        if self._gate is not None:
            # What the venue would refuse as expired by then is not held back to spend room on that.
            expires_ms = None if charge.priority is Priority.CANCEL else signed[0].expired_at_ms
            await self._gate.acquire_all(charge, min(wait_s, left_s(self._clock, expires_ms)))
        sent_id, frame = self.session.open_transaction(
            signed, now_s=started_s, is_cancel=charge.priority is Priority.CANCEL, tag=tag
        )
        request = SocketRequest(
            endpoint="sendtx" if len(signed) == 1 else "sendtxbatch",
            write=True,
            frame=frame,
            body=frame,
            priority=charge.priority,
            started_s=started_s,
            started_ns=started_ns,
            correlation_id=correlation_id,
        )
        answered = await self._exchanges.ask(sent_id, request, wait_s, on_written)
        return self._read_answer(answered.outcome, signed)

    def _read_answer(self, outcome: TransactionOutcome, signed: Sequence[SignedTransaction]) -> Queued | RefusalMeaning:
        if isinstance(outcome, SendAnswer | SendBatchAnswer):
            return read_queued(outcome, signed)
        if isinstance(outcome, RefusalMeaning):
            return require_certain(outcome, self._name)
        raise OutcomeUnknown(f"{self._name}: the reply cannot be read", metadata=outcome.metadata)

    def _tell_late(self, answered: TransactionAnswered, frame: Frame) -> None:
        self._narrator.tell_late(replace(answered, late=True), frame)

    # --- what comes ----------------------------------------------------------------------------------------

    async def _on_socket_event(self, event: SocketEvent) -> None:
        """Called by the transport in order; never waits, so that replies are never held up."""
        if isinstance(event, Frame):
            self._narrator.heard(event)
            for found in self.session.receive(event.data):
                self._take(found, event)
        elif isinstance(event, Connected):
            self._note_asked()
            self._narrator.connected(event)
            self._subscriptions.review()
        else:
            self._end(event)
        self._control_due.set()

    def _take(self, found: SessionEvent, frame: Frame) -> None:
        if isinstance(found, TransactionAnswered) and self._exchanges.answered(found.id, found, frame):
            return
        if isinstance(found, SubscriptionAcknowledged | SubscriptionRefused):
            refusal = found.meaning.text if isinstance(found, SubscriptionRefused) else ""
            self._subscriptions.answered(found.channel, refusal)
        self._narrator.tell(found, frame)
        if isinstance(found, SubscriptionRefused) and not found.dropped:
            self._narrator.give_up(f"{found.channel}: {found.meaning.text}")

    def _end(self, event: Disconnected) -> None:
        self._exchanges.lost(self.session.disconnected(event.epoch), event.reason)
        self._subscriptions.disconnected(event)
        self._narrator.disconnected(event)

    def _note_asked(self) -> None:
        """The one channel being asked for, unless it is asked to end."""
        channel = self.session.asked
        if channel is not None and channel in self.session.unacknowledged():
            self._subscriptions.asked(channel, kind=channel.partition(":")[0])
