"""Market data in the contract's words."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway_lighter import market_normalizer as normalizer
from gateway_lighter.messages import BookLevel, Candle, MarketStats, RestingOrder
from tests.unit.gateway_lighter.adapter.shapes import MARKET, trade
from venuemesh.gateway.venue import Level
from venuemesh.v1 import instrument_pb2, market_data_pb2, order_pb2

NOW_NS = 1_790_000_000_000_000_000


def level(price: str, quantity: str = "1") -> Level:
    """A price level."""
    return Level(price=Decimal(price), quantity=Decimal(quantity))


def test_instrument_states_the_rules_of_the_market() -> None:
    """Tick, lot and least amounts, exactly as published."""
    row = normalizer.normalize_instrument(MARKET, venue="lighter", updated_ns=NOW_NS)
    assert (row.symbol, row.venue_symbol, row.max_leverage) == ("BTC/USDC:USDC", "1", "50")
    assert (row.price_rule.tick_size, row.quantity_rule.step_size) == ("0.1", "0.00001")
    assert (row.quantity_rule.min_quantity, row.quantity_rule.min_notional) == ("0.0002", "10")
    assert row.state == instrument_pb2.INSTRUMENT_STATE_TRADING


def test_resting_orders_add_up_to_levels_best_first() -> None:
    """The query shows orders; equal prices become one level with a count."""
    rows = [
        RestingOrder(
            order_index=number,
            owner_account_index=1,
            initial_base_amount=Decimal(9),
            remaining_base_amount=Decimal(size),
            price=Decimal(price),
        )
        for number, (price, size) in enumerate([("10", "1"), ("10", "0.5"), ("11", "2")])
    ]
    first, second = normalizer.collect_levels(rows)
    assert (first.price, first.quantity, first.order_count) == (Decimal(10), Decimal("1.5"), 2)
    assert (second.price, second.order_count) == (Decimal(11), 1)


def test_book_carries_the_venues_time_in_nanoseconds() -> None:
    """The venue counts microseconds."""
    side = [BookLevel(price=Decimal(9), size=Decimal(1))]
    book = normalizer.normalize_book(side, [], MARKET, venue_time_us=5, received_ns=NOW_NS)
    assert (book.venue_time_ns, book.bids, book.asks) == (5_000, [level("9")], [])


@pytest.mark.parametrize(("is_maker_ask", "side"), [(True, order_pb2.SIDE_BUY), (False, order_pb2.SIDE_SELL)])
def test_aggressor_is_opposite_to_the_makers_order(is_maker_ask: bool, side: order_pb2.Side.ValueType) -> None:
    """Where the maker asked, the taker bought."""
    row = normalizer.normalize_trade(trade(is_maker_ask=is_maker_ask), MARKET, venue="lighter", received_ns=NOW_NS)
    assert (row.aggressor_side, row.trade_id, row.venue_unix_nanos) == (side, "9", 1785542568396_000_000)


def test_candle_is_complete_exactly_when_its_interval_is_over() -> None:
    """Zeros the venue leaves out are zeros."""
    candle, minute = Candle(t=1_000_000_000_000), market_data_pb2.CANDLE_INTERVAL_1M
    end_ns = 1_000_000_060_000 * 1_000_000
    for now_ns, complete in ((end_ns - 1, False), (end_ns, True)):
        row = normalizer.normalize_candle(candle, MARKET, minute, venue="lighter", now_ns=now_ns)
        assert (row.complete, row.volume) == (complete, "0")


def test_statistics_turn_percent_into_a_fraction_and_quote_units_into_base_units() -> None:
    """The venue's stream counts otherwise than the contract."""
    stats = MarketStats(market_id=1, mark_price="50000", current_funding_rate="0.0012", open_interest="1000000")
    row = normalizer.normalize_statistics(stats, MARKET, venue="lighter", received_ns=NOW_NS)
    assert (row.funding_rate, row.open_interest) == ("0.000012", "20")
    assert not row.HasField("index_price")
    assert row.next_funding_time.ToNanoseconds() % 3_600_000_000_000 == 0
    assert 0 < row.next_funding_time.ToNanoseconds() - NOW_NS <= 3_600_000_000_000
