"""Order sessions of the router: each has a session of its own at every gateway it sends orders to.

Orders are routed as those of SubmitOrder are: choice of venue, split, risk, breakers. Only the calls to the gateways
name the session there, so that its gateway alone watches over each order, durably. When the router dies these sessions
break, and the gateways cancel what was left; the router itself cancels nothing and remembers nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from router.venues import VenueLink, Venues
from venuemesh.clock import Clock
from venuemesh.deadlines import remaining_s
from venuemesh.errors import AccountNotFound, DeadlineTooShort, GatewayUnavailable, MeshError, SessionGone
from venuemesh.order_session import SessionTerms
from venuemesh.session_stream import Opened
from venuemesh.status import error_from_rpc
from venuemesh.stream_options import StreamTerms
from venuemesh.streaming import StreamPlan, Topic, wait_at_most
from venuemesh.v1 import event_pb2, stream_pb2
from venuemesh.v1 import order_service_pb2 as wire

log = logging.getLogger(__name__)

OPEN_WAIT_S = 2.0
"""How long an order waits for its session at a gateway, where nothing else bounds it."""


class RouterSessions:
    """The open sessions of a router by id; as many as streams may be open."""

    def __init__(self, venues: Venues, clock: Clock) -> None:
        self._venues = venues
        self._clock = clock
        self._open: dict[str, RouterSession] = {}

    async def open(self, terms: SessionTerms, context: Any) -> RouterSession:
        """A session with these terms.

        Raises:
            VenueNotFound, AccountNotFound: no such venue, or no gateway that serves the account.
            GatewayUnavailable: none that is known does, and some gateways were never reached.
        """
        links = [self._venues.get(terms.venue, field="logon.venue")] if terms.venue else self._venues.all()
        serving = [link for link in links if terms.account_id in link.account_ids]
        if not serving:
            unknown = [link.name for link in links if not link.known]
            if unknown:
                raise GatewayUnavailable(
                    f"logon.account_id: whether {', '.join(unknown)} serves {terms.account_id[:64]!r} is not known yet",
                    field="logon.account_id",
                    retry_after_s=1.0,
                )
            raise AccountNotFound(
                f"logon.account_id: no gateway serves an account {terms.account_id[:64]!r}",
                field="logon.account_id",
                metadata={"account_id": terms.account_id[:64]},
            )
        return RouterSession(self._open, terms, serving, self._clock, context.peer())

    async def bind(self, link: VenueLink, request: wire.SubmitOrderRequest) -> wire.SubmitOrderRequest:
        """The request with the session at the venue's gateway in place of the router's; itself where it names none.

        Raises:
            SessionGone: no such session of the account is open here.
            MeshError: its gateway opens none; nothing was sent.
        """
        if not request.session_id:
            return request
        session = self._open.get(request.session_id)
        if session is None or session.terms.account_id != request.order.account_id:
            raise SessionGone(
                f"session_id: no order session {request.session_id[:64]!r} of account "
                f"{request.order.account_id[:64]!r} is open; nothing was sent",
                field="session_id",
                metadata={"session_id": request.session_id[:64]},
            )
        bound = wire.SubmitOrderRequest()
        bound.CopyFrom(request)
        bound.session_id = await session.leg(link)
        return bound


class RouterSession:
    """One session over all gateways; a `venuemesh.session_stream.SessionPort`."""

    def __init__(
        self, book: dict[str, RouterSession], terms: SessionTerms, links: list[VenueLink], clock: Clock, peer: str
    ) -> None:
        self.terms = terms
        self.settled = asyncio.Event()
        self.topic = Topic[Any](clock)
        self.plan = StreamPlan[Any](
            terms=StreamTerms(heartbeat_s=terms.heartbeat_s),
            peer=peer,
            resumable=False,
            link_state=lambda: _worst(links),
        )
        self._book = book
        self._opened: Opened | None = None
        self._legs: dict[str, _Leg] = {}

    def attached(self, opened: Opened) -> None:
        """Orders may join it from here on."""
        self._opened = opened
        self._book[opened.session_id] = self

    def over(self) -> None:
        """It is gone: its sessions at the gateways are ended, which cancels their orders."""
        if self._opened is not None:
            self._book.pop(self._opened.session_id, None)
        for leg in self._legs.values():
            leg.leaving.set()
        if not self._legs:
            self.settled.set()

    async def leg(self, link: VenueLink) -> str:
        """Id of this session at a gateway, opened there when the first order needs it.

        Raises:
            SessionGone: this session is over. MeshError: the gateway opens none. Nothing was sent.
        """
        await link.require_ready()
        leg = self._legs.get(link.name)
        if leg is None:
            leg = self._start(link)
        left_s = remaining_s()
        limit_s = OPEN_WAIT_S if left_s is None else min(left_s - link.settings.reserve_s, OPEN_WAIT_S)
        try:
            async with asyncio.timeout(max(limit_s, 0)):
                session_id = await asyncio.shield(leg.session_id)
        except TimeoutError:
            raise DeadlineTooShort(f"the gateway of {link.name} has not opened its order session in time") from None
        if leg.leaving.is_set():
            raise _over()
        return session_id

    def _start(self, link: VenueLink) -> _Leg:
        opened = self._opened
        if opened is None or opened.session_id not in self._book:
            raise _over()
        leg = self._legs[link.name] = _Leg(link, self.terms, self.topic.publish)
        opened.start(self._follow(leg, opened), f"session/{link.name}")
        return leg

    async def _follow(self, leg: _Leg, opened: Opened) -> None:
        """A leg to its end; without it, orders there are cancelled and their events are lost, so the session is too."""
        try:
            await leg.run()
        finally:
            self._legs.pop(leg.link.name, None)
            if leg.was_open and not leg.leaving.is_set():
                log.warning(
                    "order_session_leg_lost",
                    extra={"session_id": opened.session_id, "venue": leg.link.name, "cause": leg.cause},
                )
                opened.lose()
            if not self._legs and opened.session_id not in self._book:
                self.settled.set()


class _Leg:
    """A session at one gateway, kept alive for as long as the router's own.

    Attributes:
        session_id: its id there, or why there is none.
        leaving: set when it shall end.
        cause: why it has ended.
    """

    def __init__(self, link: VenueLink, terms: SessionTerms, on_event: Callable[[event_pb2.Event], object]) -> None:
        self.link = link
        self.session_id: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.leaving = asyncio.Event()
        self.cause = ""
        self._terms = terms
        self._on_event = on_event

    @property
    def was_open(self) -> bool:
        """Whether the gateway had opened it."""
        return self.session_id.done() and not self.session_id.cancelled() and self.session_id.exception() is None

    async def run(self) -> None:
        """Log on, pass events on, and keep the lease, until it ends or shall end."""
        error: MeshError = GatewayUnavailable(f"the gateway of {self.link.name} ended the order session at its logon")
        async with asyncio.TaskGroup() as tasks:
            call: Any = None
            beating: asyncio.Task[None] | None = None
            try:
                call = self.link.orders.OpenOrderSession()
                beating = tasks.create_task(self._beat(call), name=f"session/beat/{self.link.name}")
                await call.write(wire.OpenOrderSessionRequest(logon=self._logon()))
                await self._read(call)
            except grpc.aio.AioRpcError as refused:
                error = error_from_rpc(refused, is_write=False)
                self.cause = self.cause or error.message
            except MeshError as refused_here:
                error, self.cause = refused_here, refused_here.message
            except (TimeoutError, asyncio.InvalidStateError) as lost:
                self.cause = self.cause or f"not heard any more: {type(lost).__name__}"
            finally:
                if beating is not None:
                    beating.cancel()
                if call is not None:
                    call.cancel()
                if not self.session_id.done():
                    self.session_id.set_exception(error)
                    # Nobody may be waiting any more, and an error nobody reads is reported as ours.
                    self.session_id.exception()

    def _logon(self) -> wire.SessionLogon:
        lease = Duration()
        lease.FromNanoseconds(int(self._terms.lease_s * 1e9))
        return wire.SessionLogon(
            account_id=self._terms.account_id,
            cancel_on_disconnect=self._terms.cancel_on_disconnect,
            lease=lease,
            venue=self.link.name,
        )

    async def _read(self, call: Any) -> None:
        while True:
            # A gateway says that it lives several times in a lease.
            async with asyncio.timeout(max(self._terms.lease_s, OPEN_WAIT_S)):
                message = await call.read()
            if message is grpc.aio.EOF:
                self.cause = self.cause or "ended"
                return
            match message.WhichOneof("body"):
                case "acknowledgement":
                    self.session_id.set_result(message.acknowledgement.stream_id)
                case "event":
                    self._on_event(message.event)
                case "closing":
                    self.cause = stream_pb2.ClosingReason.Name(message.closing.reason)

    async def _beat(self, call: Any) -> None:
        """Signs of life until it shall end; then no more is written, which ends it at the gateway."""
        beat = wire.OpenOrderSessionRequest(heartbeat=wire.SessionHeartbeat())
        try:
            while True:
                await wait_at_most(self.leaving, self._terms.heartbeat_s)
                if self.leaving.is_set():
                    await call.done_writing()
                    return
                if self.was_open:
                    await call.write(beat)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The call has ended; whoever reads it knows why.
            return


def _over() -> SessionGone:
    return SessionGone("session_id: the order session is over; nothing was sent", field="session_id")


def _worst(links: list[VenueLink]) -> stream_pb2.LinkState.ValueType:
    live = all(link.serving for link in links)
    return stream_pb2.LINK_STATE_LIVE if live else stream_pb2.LINK_STATE_DOWN
