"""Recorded payloads through the adapter's translation: each becomes values of the contract or a typed error."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_lighter import market_normalizer, normalizer
from gateway_lighter import messages as market_wire
from gateway_lighter.account_messages import Accounts, Orders, PositionFundings
from gateway_lighter.codec import parse_answer, parse_refusal
from gateway_lighter.codec_book import BookChanged
from gateway_lighter.codec_frames import (
    AccountAllBody,
    CandleBody,
    DataFrame,
    MarketStatsBody,
    OrdersBody,
    PositionsBody,
    TickerBody,
    TradeBody,
    TradesBody,
    UserStatsBody,
    parse_frame,
)
from gateway_lighter.normalizer import Market
from gateway_lighter.session import BookEvent, LighterSession
from tests.unit.gateway_lighter.adapter.shapes import DETAILS
from tests.unit.gateway_lighter.support import encode, needs_recordings, recording, recording_names
from venuemesh.errors import ProtocolViolation
from venuemesh.gateway.books import book_fault
from venuemesh.gateway.readable import readable
from venuemesh.gateway.venue import VenueOrderState
from venuemesh.v1 import market_data_pb2

pytestmark = needs_recordings

NOW_NS = 1_790_000_000_000_000_000
RESTS = [name for name in recording_names("rest_") if name.split(".")[0] != "rest_sendTx"]


def market_of(market_id: int) -> Market:
    """A market with this id; the scale is of no account for reading."""
    row = market_wire.PerpDetails(
        **{name: getattr(DETAILS, name) for name in DETAILS.__struct_fields__} | {"market_id": market_id}
    )
    return normalizer.read_market(row, collateral="USDC")


def orders_read(rows: Any) -> int:
    """Translate order rows; how many."""
    for row in rows:
        found = normalizer.normalize_order(row, market_of(row.market_index))
        assert found.state is not VenueOrderState.UNRECOGNISED, row.status
        assert found.venue_time_ns > 0
    return len(rows)


def trades_read(rows: Any) -> int:
    """Translate trades, as prints and as both sides' fills; how many."""
    for row in rows:
        market = market_of(row.market_id)
        assert market_normalizer.normalize_trade(row, market, venue="lighter", received_ns=NOW_NS).price
        owners = {row.ask_account_id, row.bid_account_id}
        fills = [fill for owner in owners for fill in normalizer.normalize_fills(row, market, account_index=owner)]
        assert len(fills) == 2
        assert len({fill.execution_id for fill in fills}) == 2 or row.ask_id == row.bid_id
    return len(rows)


def account_read(answer: Accounts) -> None:
    """Translate positions and money."""
    for account in answer.accounts:
        for row in account.positions or ():
            assert normalizer.normalize_position(row, market_of(row.market_id)).quantity == row.signed_quantity
        sheet = normalizer.BalanceSheet(venue="lighter", account_id="main", collateral="USDC", received_ns=NOW_NS)
        assert sheet.purse(total=account.collateral, available=account.available_balance).total
        assert sheet.summary(account).equity
        sheet.spot(account.assets or ())


@pytest.mark.parametrize("name", RESTS)
def test_recorded_answer_is_translated(name: str) -> None:
    """Whatever the adapter reads of this kind becomes values without an error."""
    loaded = recording(name)
    raw = encode(loaded["body"] if isinstance(loaded, dict) and "http_status" in loaded else loaded)
    endpoint = name.removeprefix("rest_").split(".")[0]
    if parse_refusal(raw) is not None:
        return
    match parse_answer(endpoint if "_" not in endpoint else endpoint.replace("_", "/"), raw):
        case Orders(orders=rows):
            orders_read(rows or ())
        case market_wire.Trades(trades=rows):
            trades_read(rows or ())
        case Accounts() as answer:
            account_read(answer)
        case PositionFundings(position_fundings=rows):
            for row in rows or ():
                found = normalizer.normalize_funding(row, market_of(row.market_id), venue="lighter", account_id="main")
                assert found.amount
        case market_wire.OrderBookDetails(order_book_details=rows):
            for details in rows or ():
                market = normalizer.read_market(details, collateral="USDC")
                instrument = market_normalizer.normalize_instrument(market, venue="lighter", updated_ns=NOW_NS)
                assert instrument.max_leverage != "0"
                assert market_normalizer.normalize_details(market, venue="lighter", received_ns=NOW_NS).last_price
        case market_wire.OrderBookOrders() as answer:
            bids, asks = (market_normalizer.collect_levels(side or ()) for side in (answer.bids, answer.asks))
            assert book_fault(bids, asks) == ""
        case market_wire.Candles(c=rows):
            for bar in rows or ():
                minute = market_data_pb2.CANDLE_INTERVAL_1M
                candle = market_normalizer.normalize_candle(bar, market_of(0), minute, venue="lighter", now_ns=NOW_NS)
                assert candle.complete


def frames_of(name: str) -> list[DataFrame]:
    """The typed data frames of a recording."""
    loaded = recording(name)
    found = []
    for row in loaded if isinstance(loaded, list) else [loaded]:
        try:
            frame = parse_frame(encode(row))
        except ProtocolViolation:
            continue
        if isinstance(frame, DataFrame):
            found.append(frame)
    return found


def frame_read(frame: DataFrame) -> None:
    """Translate one frame."""
    match frame.body:
        case OrdersBody() as body:
            orders_read(body.rows)
        case TradesBody() as body:
            trades_read(body.rows)
        case TradeBody() as body:
            trades_read([*(body.trades or ()), *(body.liquidation_trades or ())])
        case PositionsBody() as body:
            for row in (body.positions or {}).values():
                normalizer.normalize_position(row, market_of(row.market_id))
        case AccountAllBody() as body:
            for rows in (body.funding_histories or {}).values():
                for payment in rows:
                    normalizer.normalize_funding(
                        payment, market_of(payment.market_id), venue="lighter", account_id="main"
                    )
        case UserStatsBody() as body:
            sheet = normalizer.BalanceSheet(venue="lighter", account_id="main", collateral="USDC", received_ns=NOW_NS)
            assert sheet.streamed_summary(body.stats).equity
        case MarketStatsBody() as body:
            for stats in body.markets:
                market_normalizer.normalize_statistics(
                    stats, market_of(stats.market_id), venue="lighter", received_ns=NOW_NS
                )
        case TickerBody() as body:
            for side in (body.ticker.a, body.ticker.b):
                assert side.level is None or market_normalizer.normalize_level(side.level).price > 0
        case CandleBody() as body:
            for bar in body.candles or ():
                minute = market_data_pb2.CANDLE_INTERVAL_1M
                market_normalizer.normalize_candle(bar, market_of(0), minute, venue="lighter", now_ns=NOW_NS)


@pytest.mark.parametrize("name", recording_names("ws_"))
def test_recorded_frames_are_translated(name: str) -> None:
    """Every frame of a channel the adapter listens to becomes values without an error."""
    for frame in frames_of(name):
        with readable(name):
            frame_read(frame)


def test_recorded_book_stays_sound_through_its_updates() -> None:
    """Snapshot and updates, one after another, as books of the contract."""
    session = LighterSession()
    session.subscribe("order_book/36")
    session.frames_on_connect()
    books = 0
    for row in recording("ws_order_book.crv.json"):
        for event in session.receive(encode(row)):
            if isinstance(event, BookEvent) and isinstance(event.outcome, BookChanged):
                book = market_normalizer.normalize_book(
                    event.bids, event.asks, market_of(36), venue_time_us=event.outcome.venue_time_us, received_ns=NOW_NS
                )
                assert book_fault(book.bids, book.asks) == ""
                books += 1
    assert books > 1
