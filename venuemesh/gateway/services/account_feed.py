"""The durable events of each account, fanned out: snapshot or backlog first, then live, nothing lost or doubled.

A reader that resumes gets the stored events behind its position and then the live ones; the topic drops what both
have. A position of another numbering, ahead of the newest event or older than what is kept gets a snapshot instead,
and is told why. A reader without a position gets the snapshot of `AccountView`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from typing import Any

from venuemesh.clock import Clock
from venuemesh.errors import JournalUnavailable, ResumeExpired
from venuemesh.gateway.account import Account
from venuemesh.gateway.desk import Gate
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.services.account_view import AccountView
from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.journal import AccountHistory, EventLog
from venuemesh.stream_options import StreamTerms
from venuemesh.streaming import Entry, StreamPlan, Topic
from venuemesh.v1 import event_pb2, stream_pb2

READY_TIMEOUT_S = 5.0

Snapshot = Callable[[AccountView], Iterable[Any]]
"""Makes the messages of a snapshot; called once, at the moment the reader is attached."""


class AccountFeed:
    """Events of one account. Build it after the account is restored; before `open` returns nothing is served.

    Events that were appended while restoring become durable later; until then there is no state to show.
    """

    def __init__(self, account: Account, gate: Gate, log: EventLog, history: AccountHistory, clock: Clock) -> None:
        self.account = account
        self._log = log
        self._history = history
        self._clock = clock
        newest = log.sequence(account.account_id)
        stale = None if gate.ready else _stale(account, gate.cause, clock)
        self.view = AccountView.of(account, sequence=newest, status=stale)
        all_durable = log.backlog == 0
        self.topic = Topic[Any](clock, epoch=log.epoch, sequence=newest if all_durable else 0)
        self._restored = newest
        self._ready = asyncio.Event()
        if all_durable:
            self._ready.set()

    @property
    def newest(self) -> int:
        """Number of the newest event that may be shown."""
        return self.topic.sequence or self._restored

    def on_durable(self, event: event_pb2.Event) -> None:
        """The broker has this event, and all before it."""
        self.view.fold(event)
        self.topic.publish(event, sequence=event.sequence, key=event.symbol or None)
        if event.sequence >= self._restored:
            self._ready.set()

    async def plan(
        self,
        terms: StreamTerms,
        snapshot: Snapshot,
        *,
        method: str,
        context: Context,
        symbols: Collection[str] | None = None,
        accepts: Callable[[Any], bool] | None = None,
        results: Sequence[stream_pb2.SubscriptionResult] = (),
        link_state: Callable[[], stream_pb2.LinkState.ValueType],
    ) -> StreamPlan[Any]:
        """How to serve a reader with these wishes.

        Args:
            symbols: only events of these, and those of no symbol; None for all.
        Raises:
            JournalUnavailable: what was restored is not durable yet, or the broker does not answer.
        """
        await self._open()
        note = await self._refusal(terms) if terms.resume_after is not None else ""
        resumed = terms.resume_after is not None and not note
        outcome = stream_pb2.RESUME_OUTCOME_UNSPECIFIED
        if terms.resume_after is not None:
            outcome = stream_pb2.RESUME_OUTCOME_RESUMED if resumed else stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD
        return StreamPlan(
            terms=terms,
            method=method,
            peer=context.peer(),
            keys=symbols,
            accepts=accepts,
            results=results,
            snapshot=None if resumed else lambda: self._snapshot(snapshot),
            history=self._backlog if resumed else None,
            resume_outcome=outcome,
            resume_note=note,
            link_state=link_state,
        )

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._ready.wait()
        except TimeoutError:
            raise JournalUnavailable(
                f"{self._log.backlog} events of the restart are not durable yet", retry_after_s=1.0
            ) from None

    async def _refusal(self, terms: StreamTerms) -> str:
        """Why the reader cannot go on behind its position; empty when it can."""
        after = terms.resume_after or 0
        if terms.resume_epoch != self._log.epoch:
            return f"epoch {terms.resume_epoch!r} is over, the numbering in force is {self._log.epoch!r}"
        newest = self.topic.sequence
        if after > newest:
            return f"position {after} is ahead of the newest event, {newest}"
        if after == newest:
            return ""
        first = await self._history.first_sequence()
        if not first or after + 1 < first:
            return f"events behind {after} are not kept any more, the oldest is {first}"
        return ""

    def _snapshot(self, snapshot: Snapshot) -> list[Entry[Any]]:
        messages = [*snapshot(self.view), *([self.view.stale] if self.view.stale else [])]
        now_ns, sequence = self._clock.now_ns(), self.view.sequence
        return [Entry(message, sequence, now_ns) for message in messages]

    async def _backlog(self, after: int, up_to: int) -> AsyncIterator[Entry[Any]]:
        """Stored events behind `after`, each once and none missing.

        Raises:
            ResumeExpired: some are gone. JournalUnavailable: the broker gave fewer than it had confirmed.
        """
        last = after
        if up_to > after:
            async with aclosing(self._history.replay(after)) as events:
                async for event in events:
                    if event.sequence > self.topic.sequence:
                        # Stored and not confirmed: after a broker fault what comes before it may still be missing.
                        # Once confirmed it comes live.
                        break
                    if event.sequence != last + 1:
                        raise ResumeExpired(f"events {last + 1} to {event.sequence - 1} are not kept any more")
                    last = event.sequence
                    yield Entry(event, last, self._clock.now_ns(), event.symbol or None)
        if last < up_to:
            raise JournalUnavailable(f"the event log ended at {last}, before {up_to}", retry_after_s=1.0)


class AccountFeeds:
    """The feeds of all accounts of a gateway."""

    def __init__(self, parts: GatewayParts) -> None:
        self._desk = parts.desk
        self._feeds = {
            name: AccountFeed(account, parts.desk.gates[name], parts.log, parts.history(name), parts.clock)
            for name, account in parts.desk.accounts.items()
        }
        parts.log.on_durable(self._on_durable)

    def get(self, account_id: str) -> AccountFeed:
        """The feed of one account.

        Raises:
            AccountNotFound: naming the field.
        """
        return self._feeds[self._desk.account(account_id).account_id]

    def _on_durable(self, event: event_pb2.Event) -> None:
        self._feeds[event.account_id].on_durable(event)


def _stale(account: Account, cause: str, clock: Clock) -> stream_pb2.StreamStatus:
    return stream_pb2.StreamStatus(
        subscription=f"{account.venue}/{account.account_id}",
        freshness=stream_pb2.FRESHNESS_STALE,
        since=timestamp(clock.now_ns()),
        cause=cause,
    )
