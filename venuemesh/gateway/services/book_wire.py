"""Books and tops as contract messages, also as changes and in scaled integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from venuemesh.gateway.books import BookState, TopState, diff_levels
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.venue import Level
from venuemesh.money import EXACT, format_decimal
from venuemesh.v1 import instrument_pb2, market_data_pb2, stream_pb2
from venuemesh.v1 import market_data_service_pb2 as wire

LARGEST_MANTISSA = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Scales:
    """Digits after the point of prices and quantities."""

    price: int
    quantity: int


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides of a book as a client holds it, best first."""

    bids: Sequence[Level]
    asks: Sequence[Level]


def cut(state: BookState, depth: int) -> Sides:
    """The first `depth` levels of each side."""
    return Sides(state.book.bids[:depth], state.book.asks[:depth])


def change(before: Sides, after: Sides) -> Sides:
    """What a client that holds `before` needs to hold `after`."""
    return Sides(diff_levels(before.bids, after.bids), diff_levels(before.asks, after.asks))


def freshness_of(stale_cause: str) -> stream_pb2.Freshness.ValueType:
    """FRESH without a cause, STALE with one."""
    return stream_pb2.FRESHNESS_STALE if stale_cause else stream_pb2.FRESHNESS_FRESH


def to_order_book(state: BookState, sides: Sides, *, venue: str, epoch: str) -> market_data_pb2.OrderBook:
    """The message of a book, or of a change of it, with the levels of `sides`."""
    message = market_data_pb2.OrderBook(
        venue=venue,
        symbol=state.book.symbol,
        bids=[to_level(level) for level in sides.bids],
        asks=[to_level(level) for level in sides.asks],
        received_time=timestamp(state.book.received_ns),
        freshness=freshness_of(state.stale_cause),
        stale_cause=state.stale_cause,
        sequence=state.sequence,
        epoch=epoch,
    )
    if state.book.venue_time_ns:
        message.venue_time.CopyFrom(timestamp(state.book.venue_time_ns))
    return message


def to_level(level: Level) -> market_data_pb2.PriceLevel:
    """The message of one level."""
    return market_data_pb2.PriceLevel(
        price=format_decimal(level.price), quantity=format_decimal(level.quantity), order_count=level.order_count
    )


def to_top(state: TopState, *, venue: str) -> market_data_pb2.TopOfBook:
    """The message of a best bid and offer."""
    top = state.top
    return market_data_pb2.TopOfBook(
        venue=venue,
        symbol=top.symbol,
        bid=to_level(top.bid) if top.bid else None,
        ask=to_level(top.ask) if top.ask else None,
        venue_unix_nanos=top.venue_time_ns,
        received_unix_nanos=top.received_ns,
        freshness=freshness_of(state.stale_cause),
    )


def scales_of(instrument: instrument_pb2.Instrument) -> Scales:
    """Digits that every valid price and quantity of the instrument fits in."""
    rule = instrument.price_rule
    price = _digits(rule.tick_size) if rule.HasField("tick_size") else rule.max_decimals
    return Scales(price=price, quantity=_digits(instrument.quantity_rule.step_size))


def _digits(step: str) -> int:
    return len(step.partition(".")[2])


def to_scaled(
    state: BookState, sides: Sides, scales: Scales, *, venue: str, snapshot: bool
) -> wire.ScaledBookUpdate | None:
    """The update in scaled integers; None when a number does not fit, so that strings must be used."""
    bids, asks = _scaled(sides.bids, scales), _scaled(sides.asks, scales)
    if bids is None or asks is None:
        return None
    return wire.ScaledBookUpdate(
        venue=venue,
        symbol=state.book.symbol,
        snapshot=snapshot,
        book=market_data_pb2.ScaledOrderBook(
            price_scale=scales.price,
            quantity_scale=scales.quantity,
            bids=bids,
            asks=asks,
            venue_unix_nanos=state.book.venue_time_ns,
            received_unix_nanos=state.book.received_ns,
        ),
    )


def _scaled(levels: Sequence[Level], scales: Scales) -> market_data_pb2.ScaledLevels | None:
    prices = [mantissa(level.price, scales.price) for level in levels]
    quantities = [mantissa(level.quantity, scales.quantity) for level in levels]
    if None in prices or None in quantities:
        return None
    return market_data_pb2.ScaledLevels(
        price_mantissas=[value for value in prices if value is not None],
        quantity_mantissas=[value for value in quantities if value is not None],
    )


def mantissa(value: Decimal, scale: int) -> int | None:
    """`value` times 10^`scale`; None when that is no whole number of 64 bits."""
    scaled = EXACT.scaleb(value, scale)
    if scaled != scaled.to_integral_value():
        return None
    whole = int(scaled)
    return whole if abs(whole) <= LARGEST_MANTISSA else None
