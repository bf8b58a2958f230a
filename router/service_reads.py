"""Venues, instruments and accounts of all gateways behind one address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from google.protobuf.duration_pb2 import Duration

from router.calls import Context, read
from router.facade import Facade, Listing, at_venue, fill_in, joined, paged, stream_at_venue
from router.fanout import ask_all, tell_unreached
from router.venues import VenueLink
from venuemesh.draining import Drain
from venuemesh.stream_options import PRICES, StreamTerms, parse_stream_options
from venuemesh.v1 import (
    account_pb2,
    account_service_pb2,
    instrument_pb2,
    instrument_service_pb2,
    order_pb2,
    stream_pb2,
    venue_pb2,
    venue_service_pb2,
)


@fill_in(venue_service_pb2.DESCRIPTOR.services_by_name["VenueService"])
class VenueServicer:
    """Every venue of the configuration; one that is away is listed as DOWN with the cause."""

    def __init__(self, facade: Facade, drain: Drain) -> None:
        self.facade = facade
        self._drain = drain

    async def ListVenues(  # noqa: N802 - named by the contract
        self, request: venue_service_pb2.ListVenuesRequest, context: Context
    ) -> venue_service_pb2.ListVenuesResponse:
        answers = await ask_all(self.facade.venues.all(), _get_venue)
        tell_unreached(context, answers.unreached)
        venues = [
            answers.given[link.name] if link.name in answers.given else link.describe()
            for link in self.facade.venues.all()
        ]
        return venue_service_pb2.ListVenuesResponse(venues=venues)

    GetVenue = at_venue("venues", "GetVenue")
    GetCapabilities = at_venue("venues", "GetCapabilities")

    async def StreamVenueStatus(  # noqa: N802 - named by the contract
        self, request: venue_service_pb2.StreamVenueStatusRequest, context: Context
    ) -> AsyncIterator[venue_service_pb2.StreamVenueStatusResponse]:
        """The router's own stream: each venue's state and each change, the latest only for a slow reader."""
        terms = parse_stream_options(request.options, PRICES)
        links = [self.facade.venues.get(name, field="venues") for name in request.venues]
        stream = _StatusStream(links or self.facade.venues.all(), self.facade, terms)
        async for message in self._drain.until_draining(stream.messages()):
            yield message
        yield stream.closing()


async def _get_venue(link: VenueLink) -> venue_pb2.Venue:
    answer = await read(link, link.venues.GetVenue, venue_service_pb2.GetVenueRequest(venue=link.name))
    venue: venue_pb2.Venue = answer.venue
    return venue


class _StatusStream:
    """One reader of venue states."""

    def __init__(self, links: list[VenueLink], facade: Facade, terms: StreamTerms) -> None:
        self._links = links
        self._facade = facade
        self._terms = terms
        self._epoch = f"router-{facade.clock.now_ns():x}"
        self._sequence = 0
        self._shown: dict[str, bytes] = {}

    async def messages(self) -> AsyncGenerator[venue_service_pb2.StreamVenueStatusResponse, None]:
        with self._facade.venues.listening() as changed:
            yield self._acknowledgement()
            while True:
                changed.clear()
                for link in self._links:
                    status = link.status()
                    content = status.SerializeToString(deterministic=True)
                    if self._shown.get(link.name) != content:
                        self._shown[link.name] = content
                        previous, self._sequence = self._sequence, self._sequence + 1
                        yield venue_service_pb2.StreamVenueStatusResponse(
                            header=self._header(previous), venue_status=status
                        )
                try:
                    async with asyncio.timeout(self._terms.heartbeat_s):
                        await changed.wait()
                except TimeoutError:
                    yield self._heartbeat()

    def _header(self, previous: int) -> stream_pb2.StreamHeader:
        return stream_pb2.StreamHeader(
            epoch=self._epoch,
            sequence=self._sequence,
            previous_sequence=previous,
            published_unix_nanos=self._facade.clock.now_ns(),
        )

    def _acknowledgement(self) -> venue_service_pb2.StreamVenueStatusResponse:
        results = [stream_pb2.SubscriptionResult(subscription=link.name, accepted=True) for link in self._links]
        acknowledgement = stream_pb2.StreamAcknowledgement(
            stream_id=f"venue-status/{self._epoch}",
            results=results,
            heartbeat_interval_ms=round(self._terms.heartbeat_s * 1_000),
        )
        if self._terms.resume_after is not None:
            acknowledgement.resume_outcome = stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD
            acknowledgement.resume_note = "venue states are not kept"
        return venue_service_pb2.StreamVenueStatusResponse(header=self._header(0), acknowledgement=acknowledgement)

    def _heartbeat(self) -> venue_service_pb2.StreamVenueStatusResponse:
        live = all(link.serving for link in self._links)
        beat = stream_pb2.StreamHeartbeat(
            server_unix_nanos=self._facade.clock.now_ns(),
            link_state=stream_pb2.LINK_STATE_LIVE if live else stream_pb2.LINK_STATE_DOWN,
        )
        return venue_service_pb2.StreamVenueStatusResponse(header=self._header(self._sequence), heartbeat=beat)

    def closing(self) -> venue_service_pb2.StreamVenueStatusResponse:
        """The notice at the end of the process."""
        notice = stream_pb2.StreamClosing(
            reason=stream_pb2.CLOSING_REASON_DRAINING, reconnect_after=Duration(seconds=1)
        )
        return venue_service_pb2.StreamVenueStatusResponse(header=self._header(self._sequence), closing=notice)


def _by_venue(_: instrument_pb2.Instrument) -> int:
    return 0


@fill_in(instrument_service_pb2.DESCRIPTOR.services_by_name["InstrumentService"])
class InstrumentServicer:
    """Instruments of the venue named, or of all by venue."""

    def __init__(self, facade: Facade) -> None:
        self.facade = facade

    ListInstruments = paged(
        Listing(
            stub="instruments",
            method="ListInstruments",
            response=instrument_service_pb2.ListInstrumentsResponse,
            rows="instruments",
            time_ns=_by_venue,
            newest_first=False,
        )
    )
    GetInstrument = at_venue("instruments", "GetInstrument")
    StreamInstrumentUpdates = stream_at_venue(
        "instruments", "StreamInstrumentUpdates", instrument_service_pb2.StreamInstrumentUpdatesResponse
    )


def _position_time(row: account_pb2.Position) -> int:
    return row.updated_time.ToNanoseconds()


def _fill_time(fill: order_pb2.Fill) -> int:
    return fill.venue_time.ToNanoseconds()


def _ledger_time(entry: account_pb2.LedgerEntry) -> int:
    return entry.venue_time.ToNanoseconds()


@fill_in(account_service_pb2.DESCRIPTOR.services_by_name["AccountService"])
class AccountServicer:
    """Accounts, money and positions of the venue named, or of all."""

    def __init__(self, facade: Facade) -> None:
        self.facade = facade

    ListAccounts = joined("accounts", "ListAccounts", "accounts", account_service_pb2.ListAccountsResponse)
    GetAccount = at_venue("accounts", "GetAccount")
    GetFeeRates = at_venue("accounts", "GetFeeRates")
    ListBalances = joined("accounts", "ListBalances", "balances", account_service_pb2.ListBalancesResponse)
    ListPositions = joined("accounts", "ListPositions", "positions", account_service_pb2.ListPositionsResponse)
    ListFills = paged(
        Listing(
            stub="accounts",
            method="ListFills",
            response=account_service_pb2.ListFillsResponse,
            rows="fills",
            time_ns=_fill_time,
        )
    )
    ListPositionHistory = paged(
        Listing(
            stub="accounts",
            method="ListPositionHistory",
            response=account_service_pb2.ListPositionHistoryResponse,
            rows="positions",
            time_ns=_position_time,
        )
    )
    ListLedgerEntries = paged(
        Listing(
            stub="accounts",
            method="ListLedgerEntries",
            response=account_service_pb2.ListLedgerEntriesResponse,
            rows="ledger_entries",
            time_ns=_ledger_time,
            newest_first=False,
        )
    )
    SetLeverage = at_venue("accounts", "SetLeverage", write=True)
    SetMarginMode = at_venue("accounts", "SetMarginMode", write=True)
    AdjustIsolatedMargin = at_venue("accounts", "AdjustIsolatedMargin", write=True)
    TransferCollateral = at_venue("accounts", "TransferCollateral", write=True)
    StreamAccountEvents = stream_at_venue(
        "accounts", "StreamAccountEvents", account_service_pb2.StreamAccountEventsResponse, resumable=True
    )
