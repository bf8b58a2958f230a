"""The fold in service: log messages in, portfolios up to date, streams fed.

    log message -> Sequencer -> Portfolio of everything, and of each filter that somebody follows -> Topics

All of it is synchronous: between two messages every portfolio, topic and history agree on the same log sequence, which
is also the sequence of the streams. What was folded lately stays in memory for readers that resume.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from aggregator.deltas import bare_delta
from aggregator.messages import Batch, PortfolioItem, Record, Refusal, decode, fingerprint
from aggregator.performance import Performance
from aggregator.portfolio import Change, Portfolio
from aggregator.reading import BadEvent, Scope
from aggregator.recent import Counts, Recent
from aggregator.sequencing import AccountKey, Gap, Sequencer
from aggregator.valuation import Instrument, Mark
from venuemesh.clock import Clock
from venuemesh.errors import RateLimited, Reason, ResumeExpired
from venuemesh.follower import StoredMessage
from venuemesh.stream_queue import Entry
from venuemesh.streaming import Topic
from venuemesh.subjects import account_filter
from venuemesh.v1 import event_pb2, portfolio_pb2, portfolio_service_pb2, portfolio_state_pb2

OVERLAY = "overlay"
"""Slot of marks and log health: they conflate with each other, never with events."""
CHECKPOINT_EVERY = 4_096
MAX_CHECKPOINTS = 128


class View:
    """A portfolio that is followed, with the topic of its deltas."""

    def __init__(self, portfolio: Portfolio, clock: Clock) -> None:
        self.portfolio = portfolio
        self.topic = Topic[PortfolioItem](clock, epoch=portfolio.epoch, sequence=portfolio.sequence)
        self.users = 0
        self._message: portfolio_pb2.Portfolio | None = None

    def message(self) -> portfolio_pb2.Portfolio:
        """The portfolio as it is now, made once however many ask; not to be changed."""
        if self._message is None:
            self._message = self.portfolio.message()
        return self._message

    def changed(self) -> None:
        """Forget it: the portfolio is another one now."""
        self._message = None


class Aggregate:
    """State of one reading of the log. `epoch` names its numbering.

    Args:
        resume_window: log messages with events kept for readers that resume.
        max_views: different filters followed at once.
    """

    def __init__(self, clock: Clock, epoch: str, *, resume_window: int = 20_000, max_views: int = 256) -> None:
        self.epoch = epoch
        self.clock = clock
        self.events = Topic[event_pb2.Event](clock, epoch=epoch)
        self._max_views = max_views
        self.performance = Performance()
        self._sequencer = Sequencer()
        self._whole = View(Portfolio(epoch), clock)
        self._views: dict[Scope, View] = {Scope(): self._whole}
        self._recent = Recent(resume_window)
        self._checkpoints: list[tuple[int, Sequencer]] = []
        self._count = 0
        self._checkpointed = 0
        self._last_payload: bytes | None = None
        self._loaded_fingerprint = b""

    @property
    def sequence(self) -> int:
        """Log sequence of the last message folded."""
        return self._whole.portfolio.sequence

    @property
    def portfolio(self) -> Portfolio:
        """Everything."""
        return self._whole.portfolio

    def read(self, scope: Scope) -> Portfolio:
        """The portfolio of `scope`, as its stream shows it at the same sequence."""
        view = self._views.get(scope)
        return self.portfolio.narrowed(scope) if view is None else view.portfolio

    def message(self, scope: Scope) -> portfolio_pb2.Portfolio:
        """The same as a message, not to be changed."""
        view = self._views.get(scope)
        return self.read(scope).message() if view is None else view.message()

    def follow(self, scope: Scope) -> View:
        """The view of `scope` for one more stream; give it back with `release`.

        Raises:
            RateLimited: too many different filters are followed.
        """
        view = self._views.get(scope)
        if view is None:
            if len(self._views) >= self._max_views:
                raise RateLimited(
                    f"streams with {self._max_views} different filters are open; use one of them or none",
                    reason=Reason.TOO_MANY_STREAMS,
                    metadata={"limit": "max_views", "value": str(self._max_views)},
                )
            view = self._views[scope] = View(self.portfolio.narrowed(scope), self.clock)
        view.users += 1
        return view

    def release(self, scope: Scope) -> None:
        """One stream less; a view that nobody follows is dropped, the whole portfolio never."""
        view = self._views[scope]
        view.users -= 1
        if not view.users and view is not self._whole:
            del self._views[scope]

    # --- the log ---

    def overdue(self, message: StoredMessage) -> list[Gap]:
        """Gaps that `take(message)` will give up unless it is given what is missing."""
        return self._sequencer.overdue(message.time_ns) if self._sequencer.waits else []

    def take(self, message: StoredMessage, found: Sequence[event_pb2.Event] = ()) -> list[Refusal]:
        """Fold the next message of the log; returns what it refused. Never raises for what a message holds.

        Args:
            found: events that were missing and have been found by reading the log again.
        """
        if not self._count:
            self._begin(message)
        batch = Batch(message.sequence, message.time_ns)
        for event in found:
            self._offer(event, batch, None)
        for gap in self._sequencer.overdue(batch.time_ns):
            self._give_up(gap, batch)
        try:
            event = decode(message)
        except BadEvent as bad:
            batch.refuse(message, str(bad))
        else:
            self._offer(event, batch, message)
        if self._sequencer.waits or self.portfolio.waits:
            batch.gaps = [(key, self._sequencer.gap(key)) for key in sorted(batch.keys)]
        self._fold(batch)
        self._last_payload = message.payload
        self._remember(batch)
        return batch.refusals

    def _begin(self, message: StoredMessage) -> None:
        # Earlier messages have been deleted: accounts begin where the log does.
        self._sequencer.begin_anywhere = self.performance.begins_late = message.sequence > 1
        self._recent.begin = message.sequence - 1
        self._checkpoints.append((message.sequence - 1, self._sequencer.checkpoint()))

    def _offer(self, event: event_pb2.Event, batch: Batch, message: StoredMessage | None) -> None:
        outcome = self._sequencer.offer(event, log_sequence=batch.sequence, time_ns=batch.time_ns)
        batch.ready += outcome.ready
        batch.keys.add((event.venue, event.account_id))
        if outcome.refused and message is not None:
            batch.refuse(message, outcome.refused)
            batch.losses.append(((event.venue, event.account_id), outcome.refused))

    def _give_up(self, gap: Gap, batch: Batch) -> None:
        outcome = self._sequencer.give_up(gap, log_sequence=batch.sequence, time_ns=batch.time_ns)
        batch.ready += outcome.ready
        batch.keys.add(gap.key)
        error = f"{gap} of epoch {gap.epoch} never came"
        batch.losses.append((gap.key, error))
        batch.refusals.append(
            Refusal(
                name=f"gap-{gap.key[0]}-{gap.key[1]}-{gap.first}",
                subject=account_filter(*gap.key),
                payload=b"",
                error=error,
                sequence=batch.sequence,
            )
        )

    def _fold(self, batch: Batch) -> None:
        applied = []
        for event in batch.ready:
            error = self._apply(self._whole, event, batch, self.performance)
            if error is None:
                applied.append(event)
                continue
            batch.losses.append(((event.venue, event.account_id), f"event {event.sequence}: {error}"))
            batch.refusals.append(
                Refusal(
                    name=f"event-{event.venue}-{event.account_id}-{event.sequence}",
                    subject=account_filter(event.venue, event.account_id),
                    payload=event.SerializeToString(),
                    error=error,
                    sequence=batch.sequence,
                )
            )
        batch.ready = applied
        self._finish(self._whole, batch)
        for view in self._views.values():
            if view is not self._whole:
                batch.deltas = []
                for event in applied:
                    self._apply(view, event, batch)
                self._finish(view, batch)
        if len(self.events):
            for index, event in enumerate(applied):
                self.events.publish(event, sequence=batch.sequence, partial=index < len(applied) - 1)
        self.events.advance(batch.sequence)

    @staticmethod
    def _apply(view: View, event: event_pb2.Event, batch: Batch, performance: Performance | None = None) -> str | None:
        """Fold one event into one view; returns why not."""
        if not view.portfolio.scope.has(event):
            return None
        try:
            change = view.portfolio.apply(event)
        except BadEvent as bad:
            return str(bad)
        if performance is not None:
            performance.take(event, trade=change.trade, holding=change.holding, movements=change.movements)
        if len(view.topic):
            if event.WhichOneof("payload") == "stream_status":
                batch.deltas.append(event.stream_status)
            batch.deltas.append(view.portfolio.delta(change, event))
        return None

    @staticmethod
    def _finish(view: View, batch: Batch) -> None:
        """Bring staleness and position up to the batch and publish what it changed, the last message as its end."""
        view.changed()
        portfolio = view.portfolio
        stale = False
        for key, gap in batch.gaps:
            stale |= portfolio.set_gap(key, gap).stale
        for key, cause in batch.losses:
            stale |= portfolio.add_loss(key, batch.time_ns, cause).stale
        portfolio.advance(batch.sequence, batch.time_ns)
        if not len(view.topic):
            view.topic.advance(batch.sequence)
            return
        if stale:
            _add_stale_parts(portfolio, batch.deltas)
        for index, item in enumerate(batch.deltas):
            view.topic.publish(item, sequence=batch.sequence, partial=index < len(batch.deltas) - 1)
        view.topic.advance(batch.sequence)

    def _remember(self, batch: Batch) -> None:
        if batch.ready:
            self._recent.add(Record(batch.sequence, tuple(batch.ready)))
        self._count += 1
        if self._count - self._checkpointed >= CHECKPOINT_EVERY and not self._sequencer.waits:
            self._checkpointed = self._count
            self._checkpoints.append((batch.sequence, self._sequencer.checkpoint()))
            if len(self._checkpoints) > MAX_CHECKPOINTS:
                # Every second one goes, the first stays: a resume reads at most twice as far.
                del self._checkpoints[1::2]

    # --- snapshots ---

    def save(self) -> portfolio_state_pb2.PortfolioState:
        """The state of the fold at `sequence`: with the log behind it, all that a restart needs."""
        accounts = self.portfolio.save()
        for key, ordering in self._sequencer.save().items():
            accounts.setdefault(key, portfolio_state_pb2.AccountState()).ordering.CopyFrom(ordering)
        state = portfolio_state_pb2.PortfolioState(
            epoch=self.epoch,
            sequence=self.sequence,
            time_unix_nanos=self.portfolio.time_ns,
            last_payload_sha256=(
                self._loaded_fingerprint if self._last_payload is None else fingerprint(self._last_payload)
            ),
            begins_late=self._sequencer.begin_anywhere,
            message_count=self._count,
            accounts=_named(accounts),
            performance=self.performance.save(),
        )
        for sequence, sequencer in self._checkpoints:
            orderings = {
                key: portfolio_state_pb2.AccountState(ordering=ordering) for key, ordering in sequencer.save().items()
            }
            state.checkpoints.add(sequence=sequence, accounts=_named(orderings))
        return state

    def load(self, state: portfolio_state_pb2.PortfolioState) -> None:
        """Take a state that was saved; only before anything else. What was folded lately is not in it: see `recall`.

        Raises:
            BadEvent: what was saved is not what a fold takes.
        """
        late = state.begins_late
        self._sequencer = _loaded_sequencer(state.accounts, late)
        self.portfolio.load({(account.venue, account.account_id): account for account in state.accounts})
        self.portfolio.advance(state.sequence, state.time_unix_nanos)
        self.performance.load(state.performance, self.portfolio.holdings(), begins_late=late)
        self._count = self._checkpointed = state.message_count
        self._checkpoints = [(one.sequence, _loaded_sequencer(one.accounts, late)) for one in state.checkpoints]
        self._recent.begin = state.sequence
        self._loaded_fingerprint = state.last_payload_sha256
        self._whole.topic.advance(state.sequence)
        self.events.advance(state.sequence)

    def recall(self, begin: int, records: Sequence[Record]) -> None:
        """Remember what had been folded behind `begin` up to the state loaded, for readers that resume."""
        self._recent.fill(begin, records)

    @property
    def window(self) -> int:
        """Log messages with events kept for readers that resume."""
        return self._recent.window

    # --- what lies over the log ---

    def set_marks(self, marks: Mapping[Instrument, Mark | None]) -> None:
        """Take live marks and publish what they change."""
        for view in self._views.values():
            self._publish_overlay(view, view.portfolio.set_marks(marks))

    def set_log_away(self, since_ns: int | None, cause: str = "") -> None:
        """Say whether the log cannot be followed now."""
        for view in self._views.values():
            self._publish_overlay(view, view.portfolio.set_log_away(since_ns, cause))

    @staticmethod
    def _publish_overlay(view: View, change: Change) -> None:
        view.changed()
        if change and len(view.topic):
            view.topic.publish(view.portfolio.delta(change), sequence=view.portfolio.sequence, slot=OVERLAY)

    def end_streams(self) -> None:
        """Close every stream: this reading of the log is over."""
        self.events.end()
        for view in self._views.values():
            view.topic.end()

    # --- resume ---

    def remembers(self, after: int) -> bool:
        """Whether everything folded behind `after` is in memory."""
        return self._recent.begin <= after <= self.sequence

    def _records_after(self, position: int) -> list[Record]:
        if not self.remembers(position):
            raise ResumeExpired(f"{position} is not in memory; begin with a snapshot")
        return self._recent.after(position)

    async def event_history(self, after: int, up_to: int) -> AsyncIterator[Entry[event_pb2.Event]]:
        """Events behind `after`, from memory; see `venuemesh.streaming.StreamPlan.history`."""
        while records := self._records_after(after):
            for record in records:
                for index, event in enumerate(record.events):
                    yield Entry(event, record.sequence, partial=index < len(record.events) - 1)
                after = record.sequence

    async def portfolio_history(self, view: View, after: int, up_to: int) -> AsyncIterator[Entry[PortfolioItem]]:
        """What events behind `after` say by themselves, then all marks, totals and stale parts as they are now."""
        scope = view.portfolio.scope
        records = self._records_after(after)
        counts = Counts(view.portfolio)
        for event in (event for record in records for event in record.events if scope.has(event)):
            counts.go_back(event)
        while records:
            for record in records:
                events = [event for event in record.events if scope.has(event)]
                for index, event in enumerate(events):
                    delta = bare_delta(event, *counts.go_on(event))
                    yield Entry(delta, record.sequence, partial=index < len(events) - 1)
                after = record.sequence
            records = self._records_after(after)
        yield Entry(view.portfolio.refresh(), view.portfolio.sequence, slot=OVERLAY)

    def checkpoint(self, after: int) -> tuple[int, Sequencer] | None:
        """The latest state of the sequencer at or before `after`, to read the log from there; None when gone."""
        before = [entry for entry in self._checkpoints if entry[0] <= after]
        return (before[-1][0], before[-1][1].copy()) if before else None


def _named(
    states: Mapping[AccountKey, portfolio_state_pb2.AccountState],
) -> list[portfolio_state_pb2.AccountState]:
    for (venue, account_id), state in states.items():
        state.venue, state.account_id = venue, account_id
    return [states[key] for key in sorted(states)]


def _loaded_sequencer(states: Iterable[portfolio_state_pb2.AccountState], begins_late: bool) -> Sequencer:
    orderings = [((state.venue, state.account_id), state.ordering) for state in states if state.HasField("ordering")]
    return Sequencer.load(orderings, begin_anywhere=begins_late)


def _add_stale_parts(portfolio: Portfolio, deltas: list[PortfolioItem]) -> None:
    last = deltas[-1] if deltas else None
    if not isinstance(last, portfolio_service_pb2.PortfolioDelta):
        last = portfolio_service_pb2.PortfolioDelta()
        deltas.append(last)
    del last.stale_parts[:]
    last.stale_parts_changed = True
    last.stale_parts.extend(portfolio.stale_parts())
