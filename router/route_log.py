"""States of routes on JetStream: every router follows the children of all open routes and publishes what they lead to.

One subject per route, each state appended behind the one before it, so that several routers that see the same write it
once and in one order. Its last message is the route as it stands, and once the route is over, what it cost. A router
that starts reads the last state of each route, catches up from the children's own events, and goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

from google.protobuf.message import DecodeError

from router.journal import RouteJournal
from router.parents import child_order, unsent_order, with_children
from router.route_states import ChildKey, is_over, key_of, merged, same_state, with_child
from venuemesh.bus import Bus, SubjectTaken
from venuemesh.cancellation import end_if_cancelled
from venuemesh.clock import Clock
from venuemesh.errors import JournalUnavailable, MeshError
from venuemesh.follower import StoredMessage
from venuemesh.journal import epoch_of
from venuemesh.streaming import Entry, Topic
from venuemesh.subjects import EVENT_STREAM, MESH_STREAM, ROOT, Kind, subject, token
from venuemesh.v1 import event_pb2, order_pb2, routing_pb2

log = logging.getLogger(__name__)

RETRY_WAIT_S = 0.25
UNSENT_KEPT_NS = 3_600 * 10**9
ROUTES = f"{ROOT}.{Kind.ROUTE}.>"
_CHILD_EVENTS = (f"{ROOT}.{Kind.ORDER}.>", f"{ROOT}.{Kind.FILL}.>")


class _Open:
    """One route that is not over."""

    def __init__(self, route: routing_pb2.Route) -> None:
        self.route = route
        self.stored: routing_pb2.Route | None = None
        self.sequence = 0
        """Of the last state that JetStream has."""


class RouteLog:
    """Follows open routes; `topic` gives every durable state under the number JetStream gave it.

    Args:
        max_open: routes followed at once; of more, nothing is published until they are read.
    """

    def __init__(self, bus: Bus, journal: RouteJournal, clock: Clock, *, max_open: int) -> None:
        self._bus = bus
        self._journal = journal
        self._clock = clock
        self._max_open = max_open
        self._open: dict[str, _Open] = {}
        self._of_child: dict[str, str] = {}
        self._dirty: dict[str, None] = {}
        self._unread: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self.topic: Topic[routing_pb2.Route] = Topic(clock)

    # --- what is known ---

    def __len__(self) -> int:
        return len(self._open)

    def snapshot(self, account_id: str) -> list[Entry[routing_pb2.Route]]:
        """The open routes of an account as JetStream has them, oldest change first."""
        mine = [one for one in self._open.values() if one.route.order.account_id == account_id and one.stored]
        return [
            Entry(one.stored, one.sequence, self._clock.now_ns(), account_id)
            for one in sorted(mine, key=lambda one: one.sequence)
            if one.stored is not None
        ]

    async def require_ready(self, timeout_s: float) -> None:
        """Return once the stored states were read.

        Raises:
            JournalUnavailable: they were not within `timeout_s`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            raise JournalUnavailable("the routes are not read yet", retry_after_s=1.0) from None

    async def last(self, route: routing_pb2.Route) -> routing_pb2.Route | None:
        """The last stored state of a route; None when there is none."""
        stored = await self._bus.last(MESH_STREAM, subject_of(route))
        return None if stored is None else _route(stored)

    async def history(self, account_id: str, after: int) -> AsyncIterator[Entry[routing_pb2.Route]]:
        """Stored states of an account's routes behind a number, in order."""
        filters = [f"{ROOT}.{Kind.ROUTE}.*.{token(account_id)}.>"]
        async with aclosing(self._bus.replay(MESH_STREAM, filters, after=after)) as stored:
            async for message in stored:
                if (route := _route(message)) is not None:
                    yield Entry(route, message.sequence, self._clock.now_ns(), account_id)

    async def first_sequence(self) -> int:
        """Number of the oldest message still kept in the stream that routes share; 0 when there is none."""
        stored = await self._bus.next_at(MESH_STREAM, f"{ROOT}.>", 1)
        return 0 if stored is None else stored.sequence

    # --- learning ---

    def announce(self, route: routing_pb2.Route) -> None:
        """Take over a new route, or what its children just answered; publishes soon, waits for nothing."""
        if not route.children:
            legs = [unsent_order(route, leg) for leg in route.plan.legs]
            route = with_children(route, legs, self._clock.now_ns())
        self._take(route)

    def _take(self, route: routing_pb2.Route) -> _Open | None:
        known = self._open.get(route.route_id)
        if known is None:
            if len(self._open) >= self._max_open and not self._drop_unsent():
                log.warning("too_many_open_routes", extra={"route_id": route.route_id, "bound": self._max_open})
                return None
            known = self._open[route.route_id] = _Open(route)
        else:
            known.route = merged(known.route, route, self._clock.now_ns())
        for leg in known.route.plan.legs:
            self._of_child[_child_name(known.route, key_of(leg))] = route.route_id
        if known.stored is None or not same_state(known.route, known.stored):
            self._mark(route.route_id)
        return known

    def _drop_unsent(self) -> bool:
        """Make room: routes of which nothing was sent for long are taken up again when their key is repeated."""
        before_ns = self._clock.now_ns() - UNSENT_KEPT_NS
        unsent = [
            one
            for one in self._open.values()
            if one.route.created_time.ToNanoseconds() < before_ns
            and all(child.status == order_pb2.ORDER_STATUS_PENDING_NEW for child in one.route.children)
        ]
        for one in unsent:
            self._forget(one)
        return bool(unsent)

    def _mark(self, route_id: str) -> None:
        self._dirty[route_id] = None
        self._wake.set()

    def _heard(self, route: routing_pb2.Route, sequence: int) -> None:
        """JetStream has this state."""
        is_new = route.route_id not in self._open
        if is_new and is_over(route):
            return
        known = self._take(route)
        if known is None:
            return
        if sequence > known.sequence:
            known.stored, known.sequence = route, sequence
        if same_state(known.route, known.stored or route):
            self._dirty.pop(route.route_id, None)
            if is_over(known.route):
                self._forget(known)
                return
        if is_new:
            # Its children may have moved before anybody here listened.
            self._unread[route.route_id] = None
            self._wake.set()

    def _forget(self, known: _Open) -> None:
        del self._open[known.route.route_id]
        for leg in known.route.plan.legs:
            self._of_child.pop(_child_name(known.route, key_of(leg)), None)

    # --- running ---

    async def run(self) -> None:
        """Follow and publish until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for work in (self._follow_children, self._follow_routes, self._publish):
                tasks.create_task(work(), name=f"routes/{work.__name__.strip('_')}")

    async def _follow_children(self) -> None:
        after = 0
        while True:
            try:
                if not after:
                    newest = await self._bus.last(EVENT_STREAM, f"{ROOT}.>")
                    after = newest.sequence if newest is not None else 0
                async with self._bus.follow(EVENT_STREAM, _CHILD_EVENTS, after=after) as follower:
                    self._wake.set()
                    async for message in follower:
                        self._child_event(message)
                        after = message.sequence
            except JournalUnavailable as error:
                await _pause("route_children_away", error)

    def _child_event(self, message: StoredMessage) -> None:
        route_id = self._of_child.get(_without_kind(message.subject))
        known = self._open.get(route_id) if route_id is not None else None
        if known is None:
            return
        try:
            report = event_pb2.Event.FromString(message.payload).execution_report
        except DecodeError:
            log.error("event_not_readable", extra={"subject": message.subject})
            return
        if report.HasField("order"):
            self._child_moved(known, report.order)

    def _child_moved(self, known: _Open, child: order_pb2.Order) -> None:
        moved = with_child(known.route, child, self._clock.now_ns())
        if not same_state(moved, known.route):
            known.route = moved
            self._mark(moved.route_id)

    async def _follow_routes(self) -> None:
        after = 0
        while True:
            try:
                self.topic.epoch = epoch_of(await self._bus.stream_created(MESH_STREAM))
                # A reader that falls out goes on behind what it saw; only the first one begins with the last states.
                first = after == 0
                async with self._bus.follow(MESH_STREAM, [ROUTES], after=after, last_per_subject=first) as follower:
                    if not follower.backlog:
                        self._ready.set()
                    async for message in follower:
                        after = message.sequence
                        if (route := _route(message)) is not None:
                            self._heard(route, message.sequence)
                            self.topic.publish(route, sequence=message.sequence, key=route.order.account_id)
                        if not message.pending:
                            self._ready.set()
            except JournalUnavailable as error:
                await _pause("routes_away", error)

    async def _publish(self) -> None:
        while True:
            self._wake.clear()
            try:
                while self._unread:
                    route_id = next(iter(self._unread))
                    await self._catch_up(route_id)
                    self._unread.pop(route_id, None)
                while self._dirty:
                    route_id = next(iter(self._dirty))
                    self._dirty.pop(route_id)
                    await self._store(route_id)
                    end_if_cancelled()
            except JournalUnavailable as error:
                await _pause("route_states_wait", error)
                continue
            # A call of the broker's client can swallow a cancellation.
            end_if_cancelled()
            await self._wake.wait()

    async def _catch_up(self, route_id: str) -> None:
        known = self._open.get(route_id)
        if known is None:
            return
        for leg in known.route.plan.legs:
            try:
                child = await self._journal.evidence(child_order(known.route, leg))
            except JournalUnavailable:
                raise
            except MeshError as error:
                log.error("child_not_readable", extra={"route_id": route_id, "cause": error.message})
                continue
            if child is not None:
                self._child_moved(known, child)

    async def _store(self, route_id: str) -> None:
        known = self._open.get(route_id)
        if known is None or (known.stored is not None and same_state(known.route, known.stored)):
            return
        route = known.route
        try:
            sequence = await self._bus.append_after(subject_of(route), self._event(route), known.sequence)
        except SubjectTaken:
            # Another router was first: what it wrote is read and what it lacks is written behind it.
            await self._read_again(known)
            return
        except JournalUnavailable:
            self._dirty[route_id] = None
            raise
        known.stored, known.sequence = route, max(sequence, known.sequence)
        if not same_state(known.route, route):
            self._mark(route_id)
        elif is_over(route) and self._open.get(route_id) is known:
            self._forget(known)

    async def _read_again(self, known: _Open) -> None:
        stored = await self._bus.last(MESH_STREAM, subject_of(known.route))
        route = None if stored is None else _route(stored)
        if stored is not None and route is not None:
            self._heard(route, stored.sequence)

    def _event(self, route: routing_pb2.Route) -> bytes:
        versions = "-".join(str(child.order_version) for child in route.children)
        event = event_pb2.Event(
            event_id=f"route/{route.route_id}/{route.revision}/{versions}/{route.status}",
            venue=route.plan.legs[0].venue if len(route.plan.legs) == 1 else "",
            account_id=route.order.account_id,
            symbol=route.order.symbol,
            received_time=route.updated_time,
            correlation_id=route.order.correlation_id,
            route=route,
        )
        event.published_time.FromNanoseconds(self._clock.now_ns())
        return event.SerializeToString()


def subject_of(route: routing_pb2.Route) -> str:
    """One subject per route. Its venues can change, so none of them is in it."""
    order = route.order
    return subject(Kind.ROUTE, "", order.account_id, order.symbol, order.client_order_id)


def _child_name(route: routing_pb2.Route, key: ChildKey) -> str:
    """The subject of the child's events behind their kind."""
    venue, client_order_id = key
    names = (venue, route.order.account_id, route.order.symbol, client_order_id)
    return ".".join(token(name) for name in names)


def _without_kind(name: str) -> str:
    return name.removeprefix(f"{ROOT}.").partition(".")[2]


def _route(message: StoredMessage) -> routing_pb2.Route | None:
    try:
        event = event_pb2.Event.FromString(message.payload)
    except DecodeError:
        log.error("event_not_readable", extra={"subject": message.subject})
        return None
    return event.route if event.route.plan.legs else None


async def _pause(what: str, error: JournalUnavailable) -> None:
    end_if_cancelled()
    log.info(what, extra={"error": error.message})
    await asyncio.sleep(RETRY_WAIT_S)
