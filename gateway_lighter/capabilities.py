"""What this gateway offers of Lighter today; the one record validation, routing and tests go by. Pure."""

from __future__ import annotations

from typing import Final

from gateway_lighter.limits import MAX_BATCH
from gateway_lighter.session import BOOK_DEPTH
from venuemesh.gateway.order_wire import duration
from venuemesh.v1 import order_pb2, venue_pb2

PRICED: Final = (
    order_pb2.ORDER_TYPE_LIMIT,
    order_pb2.ORDER_TYPE_STOP_LIMIT,
    order_pb2.ORDER_TYPE_TAKE_PROFIT_LIMIT,
)
TRIGGERED_MARKET: Final = (order_pb2.ORDER_TYPE_STOP_MARKET, order_pb2.ORDER_TYPE_TAKE_PROFIT_MARKET)
MIN_GOOD_TILL_S: Final = 330
"""The venue takes five minutes at least, when the order arrives."""
MAX_GOOD_TILL_S: Final = 30 * 86_400
MIN_TWAP_S: Final = 360
"""The same, in whole minutes."""
MAX_TWAP_S: Final = 86_400


def capabilities(*, settle_delay_s: float, book_stale_after_s: float) -> venue_pb2.VenueCapabilities:
    """The record; only what works is in it.

    Good-till-cancelled is the venue's good-till-time with a far end, good-till-date with the caller's, post-only a time
    in force of its own. Fill-or-kill does not exist there. A market order that waits for its trigger waits until its
    end and is immediate then. An amendment keeps the order's id. The scheduled cancel takes stops too.
    """
    gtc, gtd, ioc = order_pb2.TIME_IN_FORCE_GTC, order_pb2.TIME_IN_FORCE_GTD, order_pb2.TIME_IN_FORCE_IOC
    post_only, reduce_only = (
        order_pb2.EXECUTION_INSTRUCTION_POST_ONLY,
        order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY,
    )
    return venue_pb2.VenueCapabilities(
        order_types=[
            venue_pb2.OrderTypeSupport(
                order_type=order_pb2.ORDER_TYPE_MARKET, times_in_force=[ioc], instructions=[reduce_only]
            ),
            *(
                venue_pb2.OrderTypeSupport(
                    order_type=kind, times_in_force=[gtc, ioc, gtd], instructions=[post_only, reduce_only]
                )
                for kind in PRICED
            ),
            *(
                venue_pb2.OrderTypeSupport(order_type=kind, times_in_force=[gtc, gtd], instructions=[reduce_only])
                for kind in TRIGGERED_MARKET
            ),
            venue_pb2.OrderTypeSupport(
                order_type=order_pb2.ORDER_TYPE_TWAP, times_in_force=[gtc], instructions=[reduce_only]
            ),
        ],
        min_good_till=duration(MIN_GOOD_TILL_S),
        max_good_till=duration(MAX_GOOD_TILL_S),
        amend_mode=venue_pb2.AMEND_MODE_IN_PLACE,
        max_batch_orders=MAX_BATCH,
        max_batch_cancels=MAX_BATCH,
        cancel_all=venue_pb2.PROVISION_NATIVE,
        dead_mans_switch=venue_pb2.PROVISION_NATIVE,
        dead_mans_switch_cancels_stops=True,
        brackets=venue_pb2.PROVISION_NATIVE,
        bracket_quantity_is_entrys=True,
        twap=venue_pb2.PROVISION_NATIVE,
        twap_bounded=True,
        min_twap_duration=duration(MIN_TWAP_S),
        max_twap_duration=duration(MAX_TWAP_S),
        query_by_client_order_id=True,
        expires_after=True,
        settle_delay=duration(settle_delay_s),
        book=venue_pb2.BookSupport(
            max_depth=BOOK_DEPTH,
            sequenced=True,
            snapshots_only=False,
            stale_after=duration(book_stale_after_s),
        ),
        private_stream_replay=False,
        isolated_margin=True,
        spot=False,
        perpetuals=True,
    )
