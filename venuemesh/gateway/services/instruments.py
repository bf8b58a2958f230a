"""InstrumentService of a gateway: what trades, and by which rules."""
# ruff: noqa: N802 - methods are named by the contract

from __future__ import annotations

from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.services.requests import check_enum, check_symbols, not_yet, required
from venuemesh.paging import Pager
from venuemesh.v1 import instrument_pb2, instrument_service_pb2_grpc
from venuemesh.v1 import instrument_service_pb2 as wire


class InstrumentServicer(instrument_service_pb2_grpc.InstrumentServiceServicer):
    """Instruments of the venue, by symbol."""

    def __init__(self, parts: GatewayParts, pager: Pager) -> None:
        self._parts = parts
        self._pager = pager

    async def ListInstruments(
        self, request: wire.ListInstrumentsRequest, context: Context
    ) -> wire.ListInstrumentsResponse:
        """Instruments by symbol, a page at a time; symbols the venue does not have are left out."""
        self._parts.desk.check_venue(request.venue)
        check_enum(request.instrument_type, instrument_pb2.InstrumentType, "instrument_type", optional=True)
        symbols = set(check_symbols(request.symbols))
        now_ns = self._parts.clock.now_ns()
        page = self._pager.read(request, now_ns=now_ns)
        rows = [
            row
            for row in self._parts.instruments.all()
            if row.symbol > page.cursor
            and (not symbols or row.symbol in symbols)
            and request.instrument_type in (instrument_pb2.INSTRUMENT_TYPE_UNSPECIFIED, row.instrument_type)
        ]
        response = wire.ListInstrumentsResponse(instruments=rows[: page.size])
        if len(rows) > page.size:
            response.next_page_token = self._pager.token(request, rows[page.size - 1].symbol, now_ns=now_ns)
        return response

    async def GetInstrument(self, request: wire.GetInstrumentRequest, context: Context) -> wire.GetInstrumentResponse:
        """One instrument."""
        self._parts.desk.check_venue(request.venue)
        symbol = required(request.symbol, "symbol")
        return wire.GetInstrumentResponse(instrument=self._parts.instruments.get(symbol, self._parts.venue.name))

    async def StreamInstrumentUpdates(self, request: wire.StreamInstrumentUpdatesRequest, context: Context) -> None:  # type: ignore[override]
        """Not served yet."""
        raise not_yet("StreamInstrumentUpdates")
