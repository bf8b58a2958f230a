"""InstrumentService of a gateway: what trades, and by which rules."""
# ruff: noqa: N802 - methods are named by the contract

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.services.requests import check_enum, check_symbols, required
from venuemesh.gateway.services.streams import accepted, snapshot_plan
from venuemesh.paging import Pager
from venuemesh.stream_options import PRICES, parse_stream_options
from venuemesh.streaming import Entry, StreamHub, Topic, responder
from venuemesh.v1 import instrument_pb2, instrument_service_pb2_grpc
from venuemesh.v1 import instrument_service_pb2 as wire


class InstrumentServicer(instrument_service_pb2_grpc.InstrumentServiceServicer):
    """Instruments of the venue, by symbol."""

    def __init__(self, parts: GatewayParts, hub: StreamHub, pager: Pager) -> None:
        self._parts = parts
        self._hub = hub
        self._pager = pager
        self._topic: Topic[instrument_pb2.Instrument] = Topic(parts.clock)
        self._respond = responder(wire.StreamInstrumentUpdatesResponse, lambda row: {"instrument": row})
        parts.instruments.listeners.append(self._on_change)

    def _on_change(self, row: instrument_pb2.Instrument) -> None:
        self._topic.publish(row, slot=row.symbol)

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

    async def StreamInstrumentUpdates(
        self, request: wire.StreamInstrumentUpdatesRequest, context: Context
    ) -> AsyncGenerator[wire.StreamInstrumentUpdatesResponse, None]:
        """Every instrument, then each that is listed, changed or, as DELISTED, gone; a slow reader gets the latest."""
        self._parts.desk.check_venue(request.venue)
        plan = snapshot_plan(
            parse_stream_options(request.options, PRICES),
            method="/venuemesh.v1.InstrumentService/StreamInstrumentUpdates",
            peer=context.peer(),
            snapshot=self._snapshot,
            results=[accepted(self._parts.venue.name)],
            link_state=self._parts.market.link_state,
        )
        async with aclosing(self._hub.serve(self._topic, plan, self._respond)) as messages:
            async for message in messages:
                yield message

    def _snapshot(self) -> list[Entry[instrument_pb2.Instrument]]:
        now_ns = self._parts.clock.now_ns()
        return [Entry(row, published_ns=now_ns) for row in self._parts.instruments.all()]
