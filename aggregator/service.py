"""PortfolioService and OperationsService over the fold."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from aggregator.aggregate import Aggregate
from aggregator.deltas import merge_deltas
from aggregator.feeds import EventFeed
from aggregator.messages import PortfolioItem
from aggregator.reading import Scope, is_fill
from venuemesh.configuration import Configuration
from venuemesh.dead_letter_service import DeadLetterDesk
from venuemesh.encoding import Once, encoding_responder
from venuemesh.errors import InvalidRequest, NotYetImplemented, Reason, ResumeExpired
from venuemesh.stream_options import EVENTS, EVENTS_WITH_MARKS, StreamTerms, parse_stream_options
from venuemesh.stream_queue import Entry
from venuemesh.streaming import StreamHub, StreamPlan, responder
from venuemesh.v1 import (
    event_pb2,
    operations_service_pb2,
    order_service_pb2,
    portfolio_pb2,
    portfolio_service_pb2,
    stream_pb2,
)

log = logging.getLogger(__name__)

Context = Any
PORTFOLIO_SERVICE = portfolio_service_pb2.DESCRIPTOR.services_by_name["PortfolioService"]
OPERATIONS_SERVICE = operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"]
MAX_FILTER_ENTRIES = 1_000
NS_PER_S = 1_000_000_000


def not_yet(descriptor: ServiceDescriptor) -> Callable[[type[Any]], type[Any]]:
    """Class decorator: methods of the service that the class lacks answer NOT_IMPLEMENTED."""

    def decorate(cls: type[Any]) -> type[Any]:
        for method in descriptor.methods:
            if method.name not in vars(cls):
                setattr(cls, method.name, _refusing(f"{descriptor.full_name}/{method.name}"))
        return cls

    return decorate


def _refusing(name: str) -> Any:
    async def handler(self: Any, request: Any, context: Context) -> Any:
        raise NotYetImplemented(f"{name} is not served by the aggregator yet")

    return handler


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A position event that tells the state at the start of a stream."""

    event: event_pb2.Event


PositionItem = event_pb2.Event | Snapshot | order_service_pb2.SnapshotEnd


def _portfolio_fields(item: portfolio_pb2.Portfolio | PortfolioItem) -> dict[str, Any]:
    return {"snapshot" if isinstance(item, portfolio_pb2.Portfolio) else "delta": item}


def _position_fields(item: PositionItem) -> dict[str, Any]:
    match item:
        case Snapshot(event):
            return {"snapshot": event}
        case order_service_pb2.SnapshotEnd():
            return {"snapshot_end": item}
    return {"event": item}


_respond_portfolio = encoding_responder(portfolio_service_pb2.StreamPortfolioResponse, _portfolio_fields)
_respond_execution = encoding_responder(portfolio_service_pb2.StreamExecutionsResponse, lambda event: {"event": event})
_respond_position = responder(portfolio_service_pb2.StreamPositionsResponse, _position_fields)
# Only overlays have a slot, and they are deltas without events. Readers that wait for the same two share the result.
_merge = Once(merge_deltas, capacity=64)


class PortfolioServicer:
    """Reads and streams of the portfolio.

    Args:
        mark_interval_s: least time between mark changes for a caller who states none.
    """

    def __init__(self, feed: EventFeed, hub: StreamHub, *, mark_interval_s: float) -> None:
        self._feed = feed
        self._hub = hub
        self._mark_interval_s = mark_interval_s

    async def GetPortfolio(  # noqa: N802 - named by the contract
        self, request: portfolio_service_pb2.GetPortfolioRequest, context: Context
    ) -> portfolio_service_pb2.GetPortfolioResponse:
        """The portfolio as it is folded now."""
        message = self._feed.current().message(_scope(request.filter))
        return portfolio_service_pb2.GetPortfolioResponse(portfolio=message)

    async def ListExposures(  # noqa: N802 - named by the contract
        self, request: portfolio_service_pb2.ListExposuresRequest, context: Context
    ) -> portfolio_service_pb2.ListExposuresResponse:
        """Exposure by base asset or venue; positions without a mark are left out."""
        if request.grouping not in portfolio_service_pb2.ExposureGrouping.values():
            raise InvalidRequest(f"grouping: {request.grouping} is no grouping", field="grouping")
        by_venue = request.grouping == portfolio_service_pb2.EXPOSURE_GROUPING_VENUE
        portfolio = self._feed.current().read(_scope(request.filter))
        return portfolio_service_pb2.ListExposuresResponse(exposures=portfolio.exposures(by_venue=by_venue))

    async def GetPerformance(  # noqa: N802 - named by the contract
        self, request: portfolio_service_pb2.GetPerformanceRequest, context: Context
    ) -> portfolio_service_pb2.GetPerformanceResponse:
        """Profit of a period, by asset."""
        aggregate = self._feed.current()
        scope, performance = _scope(request.filter), aggregate.performance
        if not request.HasField("from_time"):
            raise InvalidRequest("from_time: is required", reason=Reason.REQUIRED_FIELD_MISSING, field="from_time")
        from_s = _whole_seconds(request.from_time, "from_time")
        if request.HasField("to_time"):
            to_s = _whole_seconds(request.to_time, "to_time")
        else:
            to_s = performance.end_of(aggregate.clock.now_ns() // NS_PER_S)
        if to_s <= from_s:
            raise InvalidRequest(
                f"to_time: {request.to_time.ToJsonString()} is not after {request.from_time.ToJsonString()}",
                field="to_time",
            )
        lost = aggregate.portfolio.losses(scope)
        return portfolio_service_pb2.GetPerformanceResponse(
            performances=performance.period(scope, from_s, to_s, lost=lost)
        )

    async def StreamPortfolio(  # noqa: N802 - named by the contract
        self, request: portfolio_service_pb2.StreamPortfolioRequest, context: Context
    ) -> AsyncIterator[portfolio_service_pb2.StreamPortfolioResponse]:
        """Snapshot or backlog, then every event with what it changed, and marks at the rate asked for."""
        terms = parse_stream_options(request.options, EVENTS_WITH_MARKS)
        if terms.sample_interval_s is None:
            terms = replace(terms, sample_interval_s=self._mark_interval_s)
        aggregate = self._feed.current()
        scope = _scope(request.filter)
        view = aggregate.follow(scope)
        try:
            note = _why_not_resumed(aggregate, terms, from_memory=True)
            resumed = terms.resume_after is not None and not note
            plan = StreamPlan[Any](
                terms=terms,
                method=_full(PORTFOLIO_SERVICE, "StreamPortfolio"),
                peer=context.peer(),
                snapshot=None if resumed else lambda: [Entry(view.message(), view.portfolio.sequence)],
                history=partial(aggregate.portfolio_history, view) if resumed else None,
                resume_outcome=_outcome(terms, note),
                resume_note=note,
                merge=_merge,
                link_state=self._feed.link_state,
            )
            async with aclosing(self._hub.serve(view.topic, plan, _respond_portfolio)) as messages:
                async for message in messages:
                    yield message
        finally:
            aggregate.release(scope)

    async def StreamExecutions(  # noqa: N802 - named by the contract
        self, request: portfolio_service_pb2.StreamExecutionsRequest, context: Context
    ) -> AsyncIterator[portfolio_service_pb2.StreamExecutionsResponse]:
        """Executions from now on, or from a position that the log still has."""
        terms = parse_stream_options(request.options, EVENTS)
        aggregate = self._feed.current()
        scope, fills_only = _scope(request.filter), request.fills_only

        def wanted(event: event_pb2.Event) -> bool:
            if event.WhichOneof("payload") != "execution_report" or not scope.has(event):
                return False
            return is_fill(event) or not fills_only

        note = await self._why_not_stored(aggregate, terms)
        if note:
            # There is no snapshot of executions: going on from now would lose some in silence.
            raise ResumeExpired(f"options.resume_after: {note}", field="options.resume_after")
        plan = StreamPlan[event_pb2.Event](
            terms=terms,
            method=_full(PORTFOLIO_SERVICE, "StreamExecutions"),
            peer=context.peer(),
            accepts=wanted,
            history=None if terms.resume_after is None else partial(self._feed.event_history, aggregate),
            resume_outcome=_outcome(terms, note),
            link_state=self._feed.link_state,
        )
        async with aclosing(self._hub.serve(aggregate.events, plan, _respond_execution)) as messages:
            async for message in messages:
                yield message

    async def StreamPositions(  # noqa: N802 - named by the contract
        self, request: portfolio_service_pb2.StreamPositionsRequest, context: Context
    ) -> AsyncIterator[portfolio_service_pb2.StreamPositionsResponse]:
        """Every position as its gateway last told it, then the changes."""
        terms = parse_stream_options(request.options, EVENTS)
        aggregate = self._feed.current()
        scope = _scope(request.filter)

        def wanted(item: Any) -> bool:
            return item.WhichOneof("payload") == "position" and scope.has(item)

        def snapshot() -> list[Entry[PositionItem]]:
            events = [event for event in aggregate.portfolio.position_events() if scope.has(event)]
            sequence = aggregate.sequence
            entries = [Entry[PositionItem](Snapshot(event), sequence, partial=True) for event in events]
            return [*entries, Entry(order_service_pb2.SnapshotEnd(count=len(events)), sequence)]

        note = await self._why_not_stored(aggregate, terms)
        resumed = terms.resume_after is not None and not note
        plan = StreamPlan[Any](
            terms=terms,
            method=_full(PORTFOLIO_SERVICE, "StreamPositions"),
            peer=context.peer(),
            accepts=wanted,
            snapshot=None if resumed else snapshot,
            history=partial(self._feed.event_history, aggregate) if resumed else None,
            resume_outcome=_outcome(terms, note),
            resume_note=note,
            link_state=self._feed.link_state,
        )
        async with aclosing(self._hub.serve(aggregate.events, plan, _respond_position)) as messages:
            async for message in messages:
                yield message

    async def _why_not_stored(self, aggregate: Aggregate, terms: StreamTerms) -> str:
        note = _why_not_resumed(aggregate, terms, from_memory=False)
        after = terms.resume_after
        if note or after is None or aggregate.remembers(after):
            return note
        kept = aggregate.checkpoint(after) is not None and await self._feed.stored_from(after)
        return "" if kept else f"the log does not reach back to {after}"


def _why_not_resumed(aggregate: Aggregate, terms: StreamTerms, *, from_memory: bool) -> str:
    """Why a position cannot be continued; empty when it can or none was given."""
    after = terms.resume_after
    if after is None:
        return ""
    if terms.resume_epoch != aggregate.epoch:
        return f"epoch {terms.resume_epoch!r} is not in force, {aggregate.epoch!r} is"
    if after > aggregate.sequence:
        return f"{after} is ahead of this aggregator, which is at {aggregate.sequence}"
    if from_memory and not aggregate.remembers(after):
        return f"{after} is too far back to list every change since"
    return ""


def _outcome(terms: StreamTerms, note: str) -> stream_pb2.ResumeOutcome.ValueType:
    if terms.resume_after is None:
        return stream_pb2.RESUME_OUTCOME_UNSPECIFIED
    return stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD if note else stream_pb2.RESUME_OUTCOME_RESUMED


def _scope(wanted: portfolio_service_pb2.PortfolioFilter) -> Scope:
    for name in ("venues", "account_ids", "symbols"):
        if len(getattr(wanted, name)) > MAX_FILTER_ENTRIES:
            path = f"filter.{name}"
            raise InvalidRequest(f"{path}: more than {MAX_FILTER_ENTRIES} entries", field=path)
    return Scope.of(wanted)


def _whole_seconds(stamp: Timestamp, field: str) -> int:
    if stamp.nanos:
        raise InvalidRequest(f"{field}: {stamp.ToJsonString()} is no whole minute", field=field)
    return stamp.seconds


def _full(service: ServiceDescriptor, method: str) -> str:
    return f"/{service.full_name}/{method}"


@not_yet(OPERATIONS_SERVICE)
class OperationsServicer:
    """What operators ask of the aggregator."""

    def __init__(self, hub: StreamHub, dead_letters: DeadLetterDesk, configuration: Configuration[Any]) -> None:
        self._hub = hub
        self._dead_letters = dead_letters
        self._configuration = configuration

    async def ListSubscribers(  # noqa: N802 - named by the contract
        self, request: operations_service_pb2.ListSubscribersRequest, context: Context
    ) -> operations_service_pb2.ListSubscribersResponse:
        """Readers of this service's streams, oldest first."""
        return operations_service_pb2.ListSubscribersResponse(subscribers=self._hub.list_subscribers())

    async def ListDeadLetters(  # noqa: N802 - named by the contract
        self, request: operations_service_pb2.ListDeadLettersRequest, context: Context
    ) -> operations_service_pb2.ListDeadLettersResponse:
        """Events that could not be folded, oldest first."""
        return await self._dead_letters.list(request)

    async def RequeueDeadLetter(  # noqa: N802 - named by the contract
        self, request: operations_service_pb2.RequeueDeadLetterRequest, context: Context
    ) -> operations_service_pb2.RequeueDeadLetterResponse:
        """Put one of them back under its subject; a repeat changes nothing."""
        return await self._dead_letters.requeue(request)

    async def SetLogLevel(  # noqa: N802 - named by the contract
        self, request: operations_service_pb2.SetLogLevelRequest, context: Context
    ) -> operations_service_pb2.SetLogLevelResponse:
        """Change the level; a duration brings the former one back."""
        return self._configuration.level.set(request)

    async def ReloadConfiguration(  # noqa: N802 - named by the contract
        self, request: operations_service_pb2.ReloadConfigurationRequest, context: Context
    ) -> operations_service_pb2.ReloadConfigurationResponse:
        """Read settings again and take over what may change: log level, limits of callers."""
        return self._configuration.answer()
