"""What the router's servicers share: finding the venue a request names, passing it on, asking all venues.

`at_venue`, `stream_at_venue` and `everywhere` make the methods that are the same but for their names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from router.calls import Context, StreamProxy, read, submit
from router.fanout import Answers, ask_all, tell_unreached
from router.pages import UNREACHED, Cursor, VenuePage, merge, read_cursors, write_cursors
from router.venues import VenueLink, Venues
from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest, NotYetImplemented, Reason
from venuemesh.paging import MAX_PAGE, Pager

Handler = Callable[[Any, Any, Context], Awaitable[Any]]
StreamHandler = Callable[[Any, Any, Context], AsyncIterator[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facade:
    """The parts every servicer of the router needs."""

    venues: Venues
    proxy: StreamProxy
    pager: Pager
    clock: Clock

    def link(self, venue: str, *, field: str = "venue") -> VenueLink:
        """The venue a request names.

        Raises:
            InvalidRequest: it names none.
            VenueNotFound: no such venue.
        """
        if not venue:
            raise InvalidRequest(
                f"{field}: the router needs the venue here", reason=Reason.REQUIRED_FIELD_MISSING, field=field
            )
        return self.venues.get(venue, field=field)

    async def everywhere(self, ask: Callable[[VenueLink], Awaitable[Any]], context: Context) -> Answers[Any]:
        """Ask every venue; what could not be reached goes into the trailing metadata.

        Raises:
            MeshError: no venue answered.
        """
        answers = await ask_all(self.venues.all(), ask)
        answers.require_any()
        tell_unreached(context, answers.unreached)
        return answers

    async def merged_page(self, listing: Listing, request: Any, context: Context) -> Any:
        """One page over all venues, in order of time or of venue."""
        page = self.pager.read(request, now_ns=self.clock.now_ns())
        size = page.size
        cursors = read_cursors(page.cursor) if page.cursor else {link.name: Cursor() for link in self.venues.all()}

        async def ask(link: VenueLink) -> VenuePage[Any]:
            cursor = cursors[link.name]
            asked = _page_request(request, link.name, cursor, size)
            answer = await read(link, getattr(getattr(link, listing.stub), listing.method), asked)
            return VenuePage(cursor=cursor, rows=getattr(answer, listing.rows), next_token=answer.next_page_token)

        links = [link for link in self.venues.all() if link.name in cursors and cursors[link.name].open]
        answers = await ask_all(links, ask)
        answers.require_any()
        lost = [venue for venue, cursor in cursors.items() if cursor == UNREACHED]
        tell_unreached(context, [*answers.unreached, *(f"{venue}: away on an earlier page" for venue in lost)])
        rows, after = merge(answers.given, size=size, time_ns=listing.time_ns, newest_first=listing.newest_first)
        gone = {entry.partition(":")[0]: UNREACHED for entry in answers.unreached}
        kept = dict.fromkeys(lost, UNREACHED)
        cursor = write_cursors({**after, **gone, **kept})
        token = self.pager.token(request, cursor, now_ns=self.clock.now_ns()) if cursor else ""
        response = listing.response(next_page_token=token)
        getattr(response, listing.rows).extend(rows)
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A paged list that every gateway serves.

    Args:
        stub: attribute of the link that holds the service's stub.
        rows: name of the repeated field.
        time_ns: what rows of several venues are ordered by; a constant orders them by venue.
    """

    stub: str
    method: str
    response: type[Any]
    rows: str
    time_ns: Callable[[Any], int]
    newest_first: bool = True


def _page_request(request: Any, venue: str, cursor: Cursor, size: int) -> Any:
    asked = type(request)()
    asked.CopyFrom(request)
    asked.venue = venue
    asked.page_size = min(MAX_PAGE, cursor.offset + size)
    asked.page_token = cursor.token
    if cursor.until_ns:
        asked.to_time.FromNanoseconds(cursor.until_ns)
    return asked


def at_venue(stub: str, method: str, *, write: bool = False) -> Handler:
    """A unary method passed to the venue that `request.venue` names; a write is never repeated."""

    async def handler(self: Any, request: Any, context: Context) -> Any:
        link = self.facade.link(request.venue)
        call = getattr(getattr(link, stub), method)
        return await (submit if write else read)(link, call, request, context)

    handler.__name__ = method
    return handler


def stream_at_venue(stub: str, method: str, response: type[Any], *, resumable: bool = False) -> StreamHandler:
    """A server stream passed on from the venue that `request.venue` names."""

    async def handler(self: Any, request: Any, context: Context) -> AsyncIterator[Any]:
        link = self.facade.link(request.venue)
        call = getattr(getattr(link, stub), method)
        async for message in self.facade.proxy.follow(link, call, request, response, resumable=resumable):
            yield message

    handler.__name__ = method
    return handler


def joined(stub: str, method: str, rows: str, response: type[Any]) -> Handler:
    """A unary list without pages: of the venue named, else of all venues by name."""

    async def handler(self: Any, request: Any, context: Context) -> Any:
        if request.venue:
            link = self.facade.link(request.venue)
            return await read(link, getattr(getattr(link, stub), method), request, context)

        async def ask(link: VenueLink) -> Any:
            asked = type(request)()
            asked.CopyFrom(request)
            asked.venue = link.name
            return await read(link, getattr(getattr(link, stub), method), asked)

        answers = await self.facade.everywhere(ask, context)
        whole = response()
        for answer in answers.given.values():
            getattr(whole, rows).extend(getattr(answer, rows))
        return whole

    handler.__name__ = method
    return handler


def paged(listing: Listing) -> Handler:
    """A unary list with pages: of the venue named, else of all venues together."""

    async def handler(self: Any, request: Any, context: Context) -> Any:
        if request.venue:
            link = self.facade.link(request.venue)
            return await read(link, getattr(getattr(link, listing.stub), listing.method), request, context)
        return await self.facade.merged_page(listing, request, context)

    handler.__name__ = listing.method
    return handler


def fill_in(descriptor: ServiceDescriptor) -> Callable[[type[Any]], type[Any]]:
    """Class decorator: methods of the service that the class lacks answer NOT_IMPLEMENTED.

    A method the contract does not have is a mistake, so it is refused when the class is made.
    """

    def decorate(cls: type[Any]) -> type[Any]:
        names = {method.name for method in descriptor.methods}
        own = {name for name in vars(cls) if name[0].isupper()}
        if own - names:
            raise TypeError(f"{descriptor.full_name} has no {', '.join(sorted(own - names))}")
        for name in names - own:
            setattr(cls, name, _not_implemented(descriptor.full_name, name))
        return cls

    return decorate


def _not_implemented(service: str, name: str) -> Handler:
    async def handler(self: Any, request: Any, context: Context) -> Any:
        raise NotYetImplemented(f"{service}/{name} is not served by the router yet")

    handler.__name__ = name
    return handler
