"""Markets, rows and tickets for tests of the adapter."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from gateway_lighter.account_messages import Order
from gateway_lighter.messages import PerpDetails, Trade
from gateway_lighter.normalizer import Market, read_market
from venuemesh.gateway.venue import OrderTarget, OrderTicket, Reservation
from venuemesh.v1 import instrument_pb2, order_pb2

ACCOUNT = 4242

DETAILS = PerpDetails(
    symbol="BTC",
    market_id=1,
    market_type="perp",
    status="active",
    min_base_amount=Decimal("0.0002"),
    min_quote_amount=Decimal(10),
    order_quote_limit=Decimal("281474976.710655"),
    supported_size_decimals=5,
    supported_price_decimals=1,
    size_decimals=5,
    price_decimals=1,
    default_initial_margin_fraction=500,
    min_initial_margin_fraction=200,
    maintenance_margin_fraction=120,
    closeout_margin_fraction=80,
)
MARKET: Market = read_market(DETAILS, collateral="USDC")
INSTRUMENT = instrument_pb2.Instrument(symbol=MARKET.symbol, venue_symbol="1")


def order(**changes: Any) -> Order:
    """A resting bid of 0.5 BTC."""
    values: dict[str, Any] = {
        "order_index": 844424912956320,
        "client_order_index": 77,
        "market_index": 1,
        "owner_account_index": ACCOUNT,
        "initial_base_amount": Decimal("0.50000"),
        "price": Decimal("60000.0"),
        "remaining_base_amount": Decimal("0.50000"),
        "is_ask": False,
        "filled_base_amount": Decimal("0.00000"),
        "filled_quote_amount": Decimal(0),
        "type": "limit",
        "time_in_force": "good-till-time",
        "status": "open",
        "timestamp": 1785542568,
        "updated_at": 1785542568,
        "transaction_time": 1785542568396486,
    }
    return Order(**(values | changes))


def trade(**changes: Any) -> Trade:
    """We sold 0.1 BTC as taker to somebody's bid."""
    values: dict[str, Any] = {
        "trade_id": 9,
        "type": "trade",
        "market_id": 1,
        "size": Decimal("0.10000"),
        "price": Decimal("60000.0"),
        "usd_amount": Decimal("6000.000000"),
        "ask_id": 11,
        "bid_id": 12,
        "ask_client_id": 77,
        "ask_account_id": ACCOUNT,
        "bid_account_id": 5,
        "is_maker_ask": False,
        "timestamp": 1785542568396,
        "taker_fee": 280,
        "maker_fee": 40,
    }
    return Trade(**(values | changes))


def ticket(**changes: Any) -> OrderTicket:
    """A limit order to buy 0.5 BTC."""
    values: dict[str, Any] = {
        "account_id": "main",
        "order_id": "0" * 32,
        "venue_client_order_id": "77",
        "instrument": INSTRUMENT,
        "side": order_pb2.SIDE_BUY,
        "order_type": order_pb2.ORDER_TYPE_LIMIT,
        "quantity": Decimal("0.5"),
        "price": Decimal(60_000),
        "trigger_price": None,
        "time_in_force": order_pb2.TIME_IN_FORCE_GTC,
        "post_only": False,
        "reduce_only": False,
        "reservation": Reservation(),
    }
    return OrderTicket(**(values | changes))


def target(venue_order_id: str | None = None) -> OrderTarget:
    """The order of `ticket`."""
    return OrderTarget(
        account_id="main", instrument=INSTRUMENT, venue_client_order_id="77", venue_order_id=venue_order_id
    )
